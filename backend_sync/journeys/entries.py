"""From what is due and what was posted to new entries: nothing that was posted is ever changed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from backend_sync import postings
from backend_sync.journeys.pairing import Ride, State
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import DayKey, Pending
from backend_sync.postings import Posting

_WAITS = frozenset({State.PENDING, State.OPEN})


@dataclass(frozen=True, slots=True)
class Entry:
    """What is posted for one card, product, service day and currency.

    Attributes:
        key: Which.
        amount: Minor units; negative gives back.
        rule: Why.
    """

    key: DayKey
    amount: int
    rule: JourneyRule

    @property
    def postings(self) -> tuple[Posting, ...]:
        """Both sides of it."""
        return postings.of_fare(self.key[1], self.amount)


def entries(posted: Mapping[DayKey, int], due: Mapping[DayKey, int]) -> Iterator[Entry]:
    """Yield what has to be posted so that what is due was posted, in order; nothing where it was.

    Args:
        posted: Sums of all that was posted so far, what gates took at once among it.
        due: What is due by the taps, as `settle` says. What is in `posted` alone is due no more.
    """
    for key in sorted(posted.keys() | due.keys()):
        amount = due.get(key, 0) - posted.get(key, 0)
        if amount:
            yield Entry(key, amount, JourneyRule.ENTRY_CHARGE if amount > 0 else JourneyRule.ENTRY_REFUND)


def taken(rides: Iterable[Ride], pending: Iterable[Pending], currency: str) -> Counter[DayKey]:
    """Return what gates took at once for rides that have a price, by the day of the ride (`ENTRY-TAKEN-1`).

    What they took for a ride that waits stays as it is until the ride's price is known; what they took on passes and
    carnets is all that those cost.

    Args:
        rides: One card's.
        pending: Of the same rides, those that `settle_rides` could not price.
        currency: The one that gates take.
    """
    rides = list(rides)
    waiting = {tap.key for each in pending for tap in each.ride.taps}
    waiting |= {tap.key for ride in rides if ride.state in _WAITS for tap in ride.taps}
    sums = Counter[DayKey]()
    for ride in rides:
        if ride.leg is None or ride.edition is None or ride.terms is None or ride.terms.prepaid:
            continue
        day = ride.edition.prices.day(ride.leg)
        for tap in ride.taps:
            # Who rides with others is in the same taps: each counts once.
            if tap.amount and tap.product_id is not None and day is not None and tap.key not in waiting:
                waiting.add(tap.key)
                sums[tap.card, tap.product_id, day, currency] += tap.amount
    return sums
