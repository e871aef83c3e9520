"""What a ride that begins with a tap costs, as far as that one tap can tell it.

Stored value is charged at once. Where one tap is one ride and the tariff names its fare, that is what the gate takes;
the back office counts it as posted when it prices the day, with transfers and caps. Where one taps out as well, nobody
knows the fare at the entry, and the product's own fare is taken meanwhile.
"""

from dataclasses import dataclass
from typing import Final

from validator.fares.editions import Edition
from validator.fares.journey import Leg


@dataclass(frozen=True, slots=True)
class RideHere:
    """Where and when a ride begins, and the tariff in force.

    Attributes:
        edition: The tariff; None where the gate has none.
        place: The place, as the gate is configured.
        at_s: When, seconds since 1970 UTC.
        stop: Where the vehicle is; empty where the place says it.
        route: What the vehicle runs as; empty where the place says it.
    """

    edition: Edition | None
    place: str
    at_s: int
    stop: str = ""
    route: str = ""

    def fare(self, rider: str, medium: str, riders: int) -> int | None:
        """Return minor units, or None where this tap alone does not tell the fare.

        `TARIFF-1`: by the edition in force, for the product's rider and medium, for each who travels on the tap.
        `TARIFF-2`: not at gates that one taps out of, nor where the edition has no one fare for place, stop and time.

        Args:
            rider: The rider category that the product was sold for; empty for the feed's default.
            medium: The fare medium that it is on; empty where it does not matter.
            riders: How many travel on the tap.
        """
        here = None if self.edition is None else self.edition.places.get(self.place)
        if self.edition is None or here is None or here.gated:
            return None
        leg = Leg(
            self.at_s,
            None,
            here.feed,
            self.stop or here.stop,
            None,
            self.route or here.route,
            here.network,
            rider,
            medium,
        )
        totals, known = self.edition.prices.totals([leg])
        amounts = list(totals.values())
        return amounts[0] * riders if known and len(amounts) == 1 else None


NO_TARIFF: Final = RideHere(None, "", 0)
"""A gate without a tariff."""
