"""Takes rides from a multi-ride card that is offline everywhere: count first, read back, then say what it was for.

Whoever wants a ride draws up an order, keeps it, and then lets the card count. A card that is torn away at any point is
presented again, and the same order is carried on: what the card holds says whether it was taken. So no order takes
twice, and what was taken for an order that nobody saw through is there for the next (`hardware.ultralight_rides`).

One thing stays open, as between any two parties: where the card was torn away after the last write, only the gate that
holds the order can tell that it was given, and only until the second order after it is being written. Elsewhere that
ride counts as used. The gate's journal is the ledger.
"""

import hmac
from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, unique

from hardware import ultralight_aes as aes
from hardware import ultralight_rides as card
from hardware.type2 import TagAnswer, TagCommand
from validator.profiles.errors import CardMalformed, CardRefused, ProfileError

_MARKS_BYTES = (card.LAST_PAGE - card.FIRST_PAGE + 1) * aes.PAGE_BYTES


@unique
class Spent(Enum):
    """What became of an order."""

    TAKEN = "taken"  # and given: this order may open the gate, once
    NOT_TAKEN = (
        "not taken"  # for all that the card knows, and it never will be: too few rides, or it rode elsewhere since
    )
    ASK_AGAIN = "ask again"  # present the card again, with the same order


@dataclass(frozen=True, slots=True)
class Order:
    """What one passenger asks of one card at one gate; kept until it is known what became of it.

    Attributes:
        number: Four random bytes that name it.
        before: What had been given when it was drawn up, as a value of the counter.
        rides: 1 to 15.
    """

    number: bytes
    before: int
    rides: int

    def __post_init__(self) -> None:
        if len(self.number) != card.ORDER_BYTES or not 1 <= self.rides <= card.MAX_RIDES:
            raise ValueError(f"an order has {card.ORDER_BYTES} bytes of number and 1 to {card.MAX_RIDES} rides")

    @property
    def mark(self) -> card.Mark:
        """The mark that it leaves."""
        return card.Mark(self.number, self.before + self.rides)


def look(session: aes.Session) -> Generator[TagCommand, TagAnswer, card.Rides]:
    """Read what the card holds.

    Raises:
        CardRefused: The card says no.
        CardMalformed: An answer has a wrong code or a wrong length, or this is no multi-ride card.
    """
    counter = yield from _counter(session)
    frame = bytes([aes.FAST_READ, card.FIRST_PAGE, card.LAST_PAGE])
    pages = yield from _ask(session, "FAST_READ", frame, _MARKS_BYTES)
    rides = card.Rides.read(pages, counter)
    if rides is None:
        raise CardMalformed("no multi-ride card")
    return rides


def spend(session: aes.Session, order: Order) -> Generator[TagCommand, TagAnswer, Spent]:
    """Carry out an order, or find out what became of it.

    Args:
        session: Fresh and authenticated with the card's data key.
        order: New, or one whose outcome was not heard.

    Returns:
        What became of it. If the card is torn away this never returns: ask again.
    """
    try:
        return (yield from _spend(session, order))
    except ProfileError:
        return Spent.ASK_AGAIN


def _spend(session: aes.Session, order: Order) -> Generator[TagCommand, TagAnswer, Spent]:
    rides = yield from look(session)
    if order.mark in rides.marks:
        return Spent.TAKEN
    if rides.given != order.before or rides.left < order.rides:
        return Spent.NOT_TAKEN
    missing = order.mark.given - rides.counter
    if missing > 0:
        steps = missing.to_bytes(aes.COUNTER_BYTES, "little") + b"\x00"
        yield from _ask(session, "INCR_CNT", bytes([aes.INCR_CNT, card.COUNTER]) + steps, 0)
        counted = yield from _counter(session)
        if counted != order.mark.given:
            raise CardMalformed("the counter did not count what it was told")
    octets, page = bytes(order.mark), rides.next_mark_page
    yield from _ask(session, "WRITE", bytes([aes.WRITE, page]) + octets[: aes.PAGE_BYTES], 0)
    yield from _ask(session, "WRITE", bytes([aes.WRITE, page + 1]) + octets[aes.PAGE_BYTES :], 0)
    rides = yield from look(session)
    return Spent.TAKEN if order.mark in rides.marks else Spent.ASK_AGAIN


def _counter(session: aes.Session) -> Generator[TagCommand, TagAnswer, int]:
    octets = yield from _ask(session, "READ_CNT", bytes([aes.READ_CNT, card.COUNTER]), aes.COUNTER_BYTES)
    return int.from_bytes(octets, "little")


def _ask(session: aes.Session, step: str, frame: bytes, size: int) -> Generator[TagCommand, TagAnswer, bytes]:
    answer = yield TagCommand(session.sealed(frame))
    if answer.acknowledgement is not None:
        raise CardRefused(step, answer.acknowledgement)
    body, code = answer.data[:size], answer.data[size:]
    if not hmac.compare_digest(code, session.next_mac(body)):
        raise CardMalformed(f"the code on the answer to {step} is wrong")
    return body
