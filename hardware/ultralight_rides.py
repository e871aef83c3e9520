"""How a multi-ride card counts: a one-way counter says what was taken, two marks say what was given for it.

A ride is taken by counting, and given by writing a mark: which order it was, and how far the counter stood when all
before it was given. Counter and mark are two writes, and a card can be torn away between them. What was taken and not
given is not lost: the next order is given it before anything more is taken. As many rides are left as were not given.

The marks take turns, so that a torn one leaves the other whole. A card whose marks are both unreadable, or further
behind than one order can be, has given all that it took: the counter is the truth, and nobody rides on an old mark.

    page 08h, 0Ah   order, 4 bytes that the gate drew
    page 09h, 0Bh   lower 16 bits of the counter as given; CRC-16 over order and counter (both little-endian)
    page 0Ch        the counter's last value, 24 bits, and a byte of CRC; locked when the card is issued
"""

import binascii
from dataclasses import dataclass

from hardware.ultralight_aes import COUNTER_BYTES, COUNTER_MAX, PAGE_BYTES

COUNTER = 2
"""The one of the three that can be kept behind the key; the others anybody may count up."""
MARK_PAGES = (0x08, 0x0A)
LIMIT_PAGE = 0x0C
FIRST_PAGE, LAST_PAGE = MARK_PAGES[0], LIMIT_PAGE

ORDER_BYTES = 4
MAX_RIDES = 15
"""Rides of one order, at most; so the newest mark is never further behind."""

_CRC_START = 0xFFFF
_LOW = 1 << 16
_MARK_BYTES = 2 * PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark.

    Attributes:
        order: Four bytes that name the order.
        given: What the counter stands at when nothing is taken that was not given.
    """

    order: bytes
    given: int

    def __bytes__(self) -> bytes:
        low = (self.given % _LOW).to_bytes(2, "little")
        return self.order + low + self._check().to_bytes(2, "little")

    @classmethod
    def read(cls, octets: bytes, counter: int) -> "Mark | None":
        """Decode two pages; None if they are torn, or speak of more than was ever taken."""
        order, low = octets[:ORDER_BYTES], int.from_bytes(octets[ORDER_BYTES : ORDER_BYTES + 2], "little")
        given = counter - (counter - low) % _LOW
        if given < 0:
            return None
        mark = cls(order, given)
        return mark if bytes(mark) == octets else None

    def _check(self) -> int:
        return binascii.crc_hqx(self.order + self.given.to_bytes(COUNTER_BYTES, "little"), _CRC_START)


@dataclass(frozen=True, slots=True)
class Rides:
    """What a card holds.

    Attributes:
        counter: The one-way counter: taken.
        limit: Its last value.
        marks: Both marks; None for one that cannot be read.
    """

    counter: int
    limit: int
    marks: tuple[Mark | None, Mark | None]

    @classmethod
    def read(cls, pages: bytes, counter: int) -> "Rides | None":
        """Decode the five pages from `FIRST_PAGE` on; None if the limit cannot be read."""
        limit_page = pages[-PAGE_BYTES:]
        limit = int.from_bytes(limit_page[:COUNTER_BYTES], "little")
        if limit_page != _limit_page(limit):
            return None
        first, second = pages[:_MARK_BYTES], pages[_MARK_BYTES:-PAGE_BYTES]
        return cls(counter, limit, (Mark.read(first, counter), Mark.read(second, counter)))

    @property
    def given(self) -> int:
        """What was given, as a value of the counter: as the newest mark says, if one order leads from it to here."""
        newest = max((mark.given for mark in self.marks if mark), default=self.counter)
        return newest if self.counter - newest <= MAX_RIDES else self.counter

    @property
    def left(self) -> int:
        """Rides that can still be given."""
        return max(0, self.limit - self.given)

    @property
    def next_mark_page(self) -> int:
        """First page of the mark that is to be written next: never the newest."""
        first, second = self.marks
        return MARK_PAGES[first is not None and (second is None or second.given <= first.given)]


def issued_pages(rides: int, counter: int = 0) -> bytes:
    """Return the five pages from `FIRST_PAGE` on of a card that was never used.

    Args:
        rides: Rides that it holds.
        counter: What its counter stands at.

    Raises:
        ValueError: The counter has no room for so many.
    """
    if rides < 0 or not 0 <= counter <= COUNTER_MAX - rides:
        raise ValueError(f"{rides} rides do not fit a counter that stands at {counter}")
    return bytes(Mark(bytes(ORDER_BYTES), counter)) + bytes(_MARK_BYTES) + _limit_page(counter + rides)


def _limit_page(limit: int) -> bytes:
    octets = limit.to_bytes(COUNTER_BYTES, "little")
    return octets + bytes([binascii.crc_hqx(octets, _CRC_START) & 0xFF])
