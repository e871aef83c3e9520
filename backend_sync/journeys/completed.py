"""What the desk said of incomplete rides, and whether it still holds.

What a person said is forgotten nowhere, but a tap that arrives late knows better: then the ride has an end of its own,
and the desk's word makes none (`COMPLETE-DESK-1`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from backend_sync.journeys.editions import Rulebook
from backend_sync.journeys.pairing import Ride, State, pair
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.taps import JourneyTap

DESK: Final = "@desk"
"""Whose taps they are; no device is called that, since its name must begin with a letter or a digit."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Where a ride ended, as a person said.

    Attributes:
        number: Its own; nothing else has it.
        first: Device, epoch and number of the ride's tap.
        place: Where it ended, as gates are configured.
        arrived_s: When, seconds since 1970 UTC.
    """

    number: int
    first: tuple[str, int, int]
    place: str
    arrived_s: int


def pair_completed(
    rulebook: Rulebook, taps: Sequence[JourneyTap], completions: Iterable[Completion], closes_s: int
) -> list[Ride]:
    """Make rides of one card's taps, and of what the desk said of those that would be incomplete.

    Args:
        rulebook: As `pair` takes it.
        taps: As `pair` takes them.
        completions: Of this card.
        closes_s: When the books close, seconds since 1970 UTC.
    """
    rides = pair(rulebook, taps, closes_s)
    said = list(completions)
    if not said:
        return rides
    endless = {ride.taps[0].key: ride.taps[0] for ride in rides if ride.state is State.INCOMPLETE and not ride.head}
    ends = [
        JourneyTap(first.card, each.arrived_s, DESK, 0, each.number, each.place, first.product_id, granted=True)
        for each in said
        if (first := endless.get(each.first)) is not None and each.arrived_s <= closes_s
    ]
    return [_told(ride) for ride in pair(rulebook, [*taps, *ends], closes_s)] if ends else rides


def _told(ride: Ride) -> Ride:
    if ride.taps[-1].device != DESK:
        return ride
    return msgspec.structs.replace(ride, rules=(*ride.rules, JourneyRule.COMPLETE_DESK))
