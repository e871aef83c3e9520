"""The national status array: what a card of another region may do, two bits for each card, by its index.

It is a file of checked pages (`validator.lists.checked_pages`), one for each issuer whose cards have an index. There
are 4 cards to the byte, the card with the lowest index in the lowest bits, and zeros after the last. The head is the
issuer's id, 16 bytes, and the number of cards, 8 bytes. A hundred million cards are 25 MB on the disk and 0.1 MB of
memory.
"""

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum, unique
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

from validator.lists.checked_pages import HEAD_BYTES, MAGIC_BYTES, PAGE_BYTES, CheckedFile, write_checked
from validator.lists.errors import ListError

STATE_HASH_BYTES: Final = 32
ISSUER_BYTES: Final = 16
CARDS_PER_PAGE: Final = 4 * PAGE_BYTES
MAX_CARDS: Final = 2**32
"""An index has 32 bits."""

_MAGIC: Final = b"pilet-status/1".ljust(MAGIC_BYTES, b"\0")
_HEAD: Final = struct.Struct(f">{ISSUER_BYTES}sQ")


@unique
class CardStatus(IntEnum):
    """What a gate outside a card's own region knows of it. The numbers are the two bits."""

    UNKNOWN = 0  # nothing is known of it, or it was issued later
    OK = 1
    LOW = 2  # its balance or its credit is nearly used up
    BLOCKED = 3


_STATUSES: Final = tuple(CardStatus)


def status_at(page: bytes | bytearray, index: int) -> CardStatus:
    """Return the status of a card, given the page that it is on."""
    return _STATUSES[page[(index % CARDS_PER_PAGE) >> 2] >> ((index & 3) << 1) & 3]


def state_hash(issuer: bytes, count: int, digests: bytes | bytearray) -> bytes:
    """Return what names a state of an array, 32 bytes: whoever changed a page needs to digest only that one again.

    Args:
        issuer: Whose cards.
        count: How many.
        digests: Of all pages.
    """
    return blake2b(_HEAD.pack(issuer, count) + digests, digest_size=STATE_HASH_BYTES, person=b"pilet-status").digest()


class StatusArray:
    """An open status array. One for each issuer of cards with an index.

    Attributes:
        issuer: The id of the issuer's key, 16 bytes.
        count: Cards 0 to count - 1 are in it; nothing is known of others.
        state_hash: Names its state, 32 bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ListError: It is not a status array of this format, or is damaged elsewhere than in its pages.
        """
        self._file = CheckedFile(path, _MAGIC)
        self.issuer, self.count = _HEAD.unpack_from(self._file.head)
        wanted = -(-self.count // CARDS_PER_PAGE)
        padded = _HEAD.pack(self.issuer, self.count).ljust(HEAD_BYTES, b"\0")
        if self.count > MAX_CARDS or self._file.pages != wanted or self._file.rest or self._file.head != padded:
            self.close()
            raise ListError(path, f"{self.count} cards are not what its {self._file.pages} pages hold")
        self.state_hash = state_hash(self.issuer, self.count, self._file.digests)

    @property
    def where(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def digests(self) -> bytes:
        """The digests of its pages, 16 bytes each."""
        return self._file.digests

    def status(self, index: int) -> CardStatus:
        """Return the status of a card; `UNKNOWN` for one that was issued after the array was made.

        Raises:
            ListError: The page that the card is on cannot be read, or is damaged.
        """
        if not 0 <= index < self.count:
            return CardStatus.UNKNOWN
        return status_at(self._file.page(index // CARDS_PER_PAGE), index)

    def page(self, number: int) -> bytes:
        """Return a page, 4096 bytes.

        Raises:
            ListError: It cannot be read, or is damaged.
        """
        return self._file.page(number)

    def check(self) -> None:
        """Read every page once; done when a file is installed, not at each start.

        Raises:
            ListError: A page is damaged, or says something of a card that does not exist.
        """
        for number in range(self._file.pages - 1):
            self._file.page(number)
        if self._file.pages:
            cards = self.count - CARDS_PER_PAGE * (self._file.pages - 1)
            if int.from_bytes(self._file.page(self._file.pages - 1), "little") >> (2 * cards):
                raise ListError(self._file.path, f"says something of cards after the last, {self.count - 1}")

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        self._file.close()


def write_status_file(path: Path, issuer: bytes, count: int, packed: Iterable[bytes]) -> None:
    """Write a status array. It is not synchronised to the disk: whoever installs it does that.

    Args:
        path: A file that does not exist yet.
        issuer: The id of the issuer's key, 16 bytes.
        count: How many cards, at most 2 ** 32.
        packed: The statuses as `pack` gives them, in pieces of any length; memory does not grow with their number.

    Raises:
        ListError: The pieces do not hold as many cards as they should, or say something of cards after the last; or the
            file exists or cannot be written. Nothing is left behind.
    """
    if len(issuer) != ISSUER_BYTES or not 0 <= count <= MAX_CARDS:
        raise ListError(path, f"{count} cards of an issuer with an id of {len(issuer)} bytes cannot be written")
    write_checked(path, _MAGIC, _pages(path, count, packed), lambda: (_HEAD.pack(issuer, count), b""))


def pack(statuses: Iterable[CardStatus]) -> Iterator[bytes]:
    """Pack statuses, four to the byte, a page at a time."""
    rest = iter(statuses)
    while chunk := list(islice(rest, CARDS_PER_PAGE)):
        chunk += [CardStatus.UNKNOWN] * (-len(chunk) % 4)
        quarters = (chunk[0::4], chunk[1::4], chunk[2::4], chunk[3::4])
        yield bytes([a | b << 2 | c << 4 | d << 6 for a, b, c, d in zip(*quarters, strict=True)])


def _pages(path: Path, count: int, packed: Iterable[bytes]) -> Iterator[bytes]:
    length, waiting, last = 0, bytearray(), 0
    for piece in packed:
        length += len(piece)
        last = piece[-1] if piece else last
        waiting += piece
        whole = len(waiting) - len(waiting) % PAGE_BYTES
        for start in range(0, whole, PAGE_BYTES):
            yield bytes(waiting[start : start + PAGE_BYTES])
        del waiting[:whole]
    if waiting:
        yield bytes(waiting)
    if length != -(-count // 4):
        raise ListError(path, f"{length} bytes of statuses are there, {-(-count // 4)} are wanted for {count} cards")
    if count % 4 and last >> (2 * (count % 4)):
        raise ListError(path, f"says something of cards after the last, {count - 1}")
