"""From what is due and what was posted to new entries: nothing that was posted is ever changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from backend_sync import postings
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import DayKey
from backend_sync.postings import Posting


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
