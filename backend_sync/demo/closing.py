"""How the city's books are closed: what is due, a ride that the desk completes, a refund, and nothing left to post."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from backend_sync import money, settlement
from backend_sync.demo.city import Passenger
from backend_sync.demo.errors import Surprise
from backend_sync.ledger import Ledger

CURRENCY: Final = "EUR"
LATER_S: Final = 4 * 3600
"""The books close when nobody can be under way any more."""
GOODWILL: Final = 50


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing found, in cents.

    Attributes:
        charged: Posted beyond what gates took.
        given_back: What gates took beyond the day's best price.
        without_end: Rides at a maximum fare, and what they cost.
        completed: What was given back once the desk had said where they ended.
        goodwill: Given back by a person.
        posted_again: Entries of one more settlement.
        pending: Rides without a price.
    """

    charged: int
    given_back: int
    without_end: tuple[int, int]
    completed: int
    goodwill: int
    posted_again: int
    pending: int

    def to_dict(self) -> dict[str, Any]:
        """Say it for people and scripts."""
        rides, amount = self.without_end
        return {
            "charged": self.charged,
            "given_back": self.given_back,
            "rides_without_end": rides,
            "at_maximum_fare": amount,
            "given_back_when_completed": self.completed,
            "goodwill": self.goodwill,
            "posted_by_one_more_run": self.posted_again,
            "pending": self.pending,
        }


def close_city(ledger: Ledger, people: Sequence[Passenger], now_s: int) -> Closed:
    """Settle a day hours after its last tap.

    Raises:
        Surprise: Somebody owes another amount than the table of travellers says.
    """
    closes_s, now_ms = now_s + LATER_S, now_s * 1000
    first = settlement.settle(ledger, CURRENCY, closes_s, made_ms=now_ms)
    _compare(ledger, {person.product.product_id: (person, person.traveller.due) for person in people})
    for suggestion in first.suggestions:
        settlement.complete(ledger, suggestion, made_ms=now_ms)
    mended = settlement.settle(ledger, CURRENCY, closes_s, made_ms=now_ms)
    due = {}
    for person in people:
        said = person.traveller
        due[person.product.product_id] = (person, said.due if said.mended is None else said.mended)
    _compare(ledger, due)
    owing = next(entry for entry in first.entries if entry.amount > GOODWILL)
    _, product_id, day, _ = owing.key
    back = settlement.refund(ledger, CURRENCY, product_id, day, GOODWILL, why="the train was late", made_ms=now_ms)
    again = settlement.settle(ledger, CURRENCY, closes_s, made_ms=now_ms)
    return Closed(
        first.charged,
        first.refunded,
        (first.maxima, first.maximum),
        mended.refunded - mended.charged,
        -back.amount,
        len(again.entries),
        sum(again.pending.values()),
    )


def _compare(ledger: Ledger, due: dict[int, tuple[Passenger, int]]) -> None:
    with ledger.reading() as connection:
        paid = money.paid(connection, due)
    for product_id, (person, amount) in due.items():
        if paid[product_id] != amount:
            raise Surprise(f"{person.traveller.persona}: paid {paid[product_id]} cents, not {amount}")
