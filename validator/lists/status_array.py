"""The national status list: what a card of another region may do, two bits for each card, by its index.

It is a file of checked pages (`validator.lists.checked_pages`) with an array for each issuer whose cards have an index,
in ascending order of the issuers. There are 4 cards to the byte, the card with the lowest index in the lowest bits, and
zeros after the last; an array begins on a page of its own. The head is the number of arrays, 4 bytes, and the file ends
with a table of them: the issuer's id, 16 bytes, and the number of cards, 8 bytes. A hundred million cards are 25 MB on
the disk and 0.1 MB of memory.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

from validator.list_facts import CardStatus
from validator.lists.checked_pages import DIGEST_BYTES, HEAD_BYTES, MAGIC_BYTES, PAGE_BYTES, CheckedFile, write_checked
from validator.lists.errors import ListError

STATE_HASH_BYTES: Final = 32
ISSUER_BYTES: Final = 16
CARDS_PER_PAGE: Final = 4 * PAGE_BYTES
MAX_CARDS: Final = 2**32
"""An index has 32 bits."""
MAX_ISSUERS: Final = 1024

_MAGIC: Final = b"pilet-status/1".ljust(MAGIC_BYTES, b"\0")
_HEAD: Final = struct.Struct(">I")
_ROW: Final = struct.Struct(f">{ISSUER_BYTES}sQ")
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
    return blake2b(_ROW.pack(issuer, count) + digests, digest_size=STATE_HASH_BYTES, person=b"pilet-status").digest()


class StatusArray:
    """The cards of one issuer in an open file.

    Attributes:
        issuer: The id of the issuer's key, 16 bytes.
        count: Cards 0 to count - 1 are in it; nothing is known of others.
        digests: The digests of its pages, 16 bytes each.
        state_hash: Names its state, 32 bytes.
    """

    def __init__(self, file: CheckedFile, first: int, issuer: bytes, count: int) -> None:
        """Begin at a page of a file that has pages for all of the cards."""
        self._file, self._first = file, first
        self.issuer, self.count = issuer, count
        self.digests = file.digests[DIGEST_BYTES * first : DIGEST_BYTES * (first + _pages_of(count))]
        self.state_hash = state_hash(issuer, count, self.digests)

    @property
    def where(self) -> Path:
        """The file."""
        return self._file.path

    def status(self, index: int) -> CardStatus:
        """Return the status of a card; `UNKNOWN` for one that was issued after the array was made.

        Raises:
            ListError: The page that the card is on cannot be read, or is damaged.
        """
        if not 0 <= index < self.count:
            return CardStatus.UNKNOWN
        return status_at(self.page(index // CARDS_PER_PAGE), index)

    def page(self, number: int) -> bytes:
        """Return a page, 4096 bytes.

        Raises:
            ListError: It cannot be read, or is damaged.
        """
        return self._file.page(self._first + number)

    def check(self) -> None:
        """Read every page once.

        Raises:
            ListError: A page is damaged, or says something of a card that does not exist.
        """
        pages = _pages_of(self.count)
        for number in range(pages - 1):
            self.page(number)
        if pages:
            cards = self.count - CARDS_PER_PAGE * (pages - 1)
            if int.from_bytes(self.page(pages - 1), "little") >> (2 * cards):
                raise ListError(self.where, f"says something of cards after the last, {self.count - 1}")


class StatusFile:
    """An open status list.

    Attributes:
        arrays: By the id of the issuer's key, 16 bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open a file; its pages are verified when they are read.

        Raises:
            ListError: It is not a status list of this format, or is damaged elsewhere than in its pages.
        """
        self._file = CheckedFile(path, _MAGIC)
        try:
            self.arrays: Mapping[bytes, StatusArray] = dict(self._read_table())
        except ListError:
            self.close()
            raise

    def _read_table(self) -> Iterator[tuple[bytes, StatusArray]]:
        file, count = self._file, _HEAD.unpack_from(self._file.head)[0]
        if file.head != _HEAD.pack(count).ljust(HEAD_BYTES, b"\0") or count > MAX_ISSUERS:
            raise ListError(file.path, "its head is not that of a status list")
        table = file.take_rest()
        if len(table) != _ROW.size * count:
            raise ListError(file.path, f"has no table of its {count} issuers")
        rows: list[tuple[bytes, int]] = list(_ROW.iter_unpack(table))
        if any(one[0] >= other[0] for one, other in pairwise(rows)):
            raise ListError(file.path, "its issuers are not in order, or one is there twice")
        first = 0
        for issuer, cards in rows:
            end = first + _pages_of(cards)
            if cards > MAX_CARDS or end > file.pages:
                raise ListError(file.path, f"{cards} cards are not what its {file.pages} pages hold")
            yield issuer, StatusArray(file, first, issuer, cards)
            first = end
        if first != file.pages:
            raise ListError(file.path, f"has {file.pages} pages, and {first} of them are its issuers'")

    @property
    def root(self) -> bytes:
        """32 bytes that stand for every byte of the file; known without reading its pages."""
        return self._file.root

    def check(self) -> None:
        """Read every page once; done when a file is installed, not at each start.

        Raises:
            ListError: A page is damaged, or says something of a card that does not exist.
        """
        for each in self.arrays.values():
            each.check()

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        self._file.close()


def _pages_of(cards: int) -> int:
    return -(-cards // CARDS_PER_PAGE)


def write_status_file(path: Path, arrays: Iterable[tuple[bytes, int, Iterable[bytes]]]) -> int:
    """Write a status list. It is not synchronised to the disk: whoever installs it does that.

    Args:
        path: A file that does not exist yet.
        arrays: For each issuer, in ascending order of their ids: the id of its key, 16 bytes; how many cards, at most
            2 ** 32; and their statuses as `pack` gives them, in pieces of any length. Memory does not grow with them.

    Returns:
        The number of cards.

    Raises:
        ListError: Issuers are not in order, the pieces do not hold as many cards as they should, or say something of
            cards after the last; or the file exists or cannot be written. Nothing is left behind.
    """
    rows: list[tuple[bytes, int]] = []

    def pages() -> Iterator[bytes]:
        for issuer, count, packed in arrays:
            if len(issuer) != ISSUER_BYTES or not 0 <= count <= MAX_CARDS:
                raise ListError(path, f"{count} cards of an issuer with an id of {len(issuer)} bytes cannot be written")
            if len(rows) == MAX_ISSUERS or (rows and issuer <= rows[-1][0]):
                raise ListError(path, f"issuer {issuer.hex()} is not after the one before it, or one too many")
            rows.append((issuer, count))
            yield from _pages(path, count, packed)

    write_checked(path, _MAGIC, pages(), lambda: (_HEAD.pack(len(rows)), b"".join([_ROW.pack(*row) for row in rows])))
    return sum(count for _, count in rows)


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
