"""Tickets of millions of accounts, in a file that a gate asks in microseconds and holds in a few megabytes of memory.

It is a file of checked pages (`validator.lists.checked_pages`) with products in ascending order of credential and
product id:

    page, 2 KiB = products on it, 2 bytes | credential id of each, 16 bytes | row of each, 22 bytes | zeros
    row  = number of its shape, 2 bytes | product (`validator.lists.product_rows`), 20 bytes

A credential whose products have no room on the rest of a page begins on the next one, so that a look-up reads a single
page, and more only for a credential with more products than a page has room for. The file ends with the first
credential id of each page and the table of shapes. The head is the number of products, 8 bytes, and the length of that
table, 4 bytes. The same products make the same file, whatever order they come in. They are sorted in runs, which are
merged: memory does not grow with their number.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from validator.entry import MAX_INTEGER
from validator.lists.checked_pages import HEAD_BYTES, MAGIC_BYTES, CheckedFile, write_checked
from validator.lists.errors import ListError
from validator.lists.product_rows import (
    MAX_SHAPES,
    MAX_TABLE_BYTES,
    NUMBERS,
    SHAPE_NUMBER,
    Shape,
    encode_shapes,
    keeps_rules,
    numbers_of,
    parse_shapes,
    position,
    product_of,
    shape_of,
)
from validator.lists.product_rules import MAX_AMOUNT, breach
from validator.model import CREDENTIAL_ID_BYTES
from validator.rights import Product

PAGE_BYTES: Final = 2048
"""Half of what the kernel reads at a time: most of a look-up is the page's digest."""
ROW_BYTES: Final = SHAPE_NUMBER.size + NUMBERS.size
PER_PAGE: Final = (PAGE_BYTES - 2) // (CREDENTIAL_ID_BYTES + ROW_BYTES)
PROGRESS_EVERY: Final = 10_000
RUN: Final = 20 * PROGRESS_EVERY
"""Products that are sorted at a time, in 40 MB of memory."""

_MAGIC: Final = b"pilet-tickets/1".ljust(MAGIC_BYTES, b"\0")
_HEAD: Final = struct.Struct(">QI")
_ID: Final = struct.Struct(">QQ")
_COUNT: Final = struct.Struct(">H")
_ROW: Final = struct.Struct(">H5I")
_SORTED: Final = struct.Struct(">16sQ")
_SORTED_BYTES: Final = _SORTED.size + ROW_BYTES
_BLOCK_ROWS: Final = 2048


class TicketStore:
    """An open ticket file. Any thread may ask it.

    Attributes:
        count: How many products are in it.
    """

    def __init__(self, path: Path) -> None:
        """Open a file; its pages are verified when they are read.

        Raises:
            ListError: It is not a ticket file of this format, or is damaged elsewhere than in its pages.
        """
        self._file = CheckedFile(path, _MAGIC, PAGE_BYTES)
        try:
            self.count, halves, self._shapes = self._outline()
        except ListError:
            self.close()
            raise
        self._uppers, self._lowers = halves[0::2], halves[1::2]

    def _outline(self) -> "tuple[int, array[int], list[Shape]]":
        """Return the number of products, the halves of each page's first credential id, and the table of shapes."""
        count, table_bytes = _HEAD.unpack_from(self._file.head)
        firsts_bytes, rest = CREDENTIAL_ID_BYTES * self._file.pages, self._file.take_rest()
        if self._file.head != _HEAD.pack(count, table_bytes).ljust(HEAD_BYTES, b"\0"):
            raise ListError(self._file.path, "its head is not that of a ticket file")
        if table_bytes > MAX_TABLE_BYTES or len(rest) != firsts_bytes + table_bytes:
            raise ListError(self._file.path, f"has no index of its {self._file.pages} pages")
        halves = array("Q")
        halves.frombytes(memoryview(rest)[:firsts_bytes])
        if sys.byteorder == "little":
            halves.byteswap()
        return count, halves, parse_shapes(rest[firsts_bytes:], self._file.path)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The table of shapes: a delta names them by number (`validator.lists.ticket_delta`)."""
        return tuple(self._shapes)

    @property
    def root(self) -> bytes:
        """32 bytes that stand for every byte of the file; known without reading its pages."""
        return self._file.root

    def products(self, credential_id: bytes) -> list[Product]:
        """Return what a credential holds, in order of product id.

        Raises:
            ListError: A page cannot be read, or is damaged.
        """
        if len(credential_id) != CREDENTIAL_ID_BYTES:
            return []
        upper, lower = _ID.unpack(credential_id)
        last = bisect_right(self._uppers, upper)
        first = last - 1
        if last and self._uppers[first] == upper:
            first = bisect_left(self._uppers, upper)
            first, last = bisect_left(self._lowers, lower, first, last), bisect_right(self._lowers, lower, first, last)
            first = min(first, last - 1)
        found: list[Product] = []
        try:
            for number in range(max(0, first), last):
                page = self._file.page(number)
                count = _COUNT.unpack_from(page)[0]
                rows_at = _COUNT.size + CREDENTIAL_ID_BYTES * count
                place = position(page, credential_id, _COUNT.size, rows_at)
                while place is not None:
                    at = rows_at + ROW_BYTES * place
                    shape = self._shapes[SHAPE_NUMBER.unpack_from(page, at)[0]]
                    found.append(product_of(shape, page, at + SHAPE_NUMBER.size))
                    place += 1
                    if not page.startswith(credential_id, _COUNT.size + CREDENTIAL_ID_BYTES * place, rows_at):
                        break
        except (struct.error, IndexError) as error:
            raise ListError(self._file.path, f"holds a page that is none: {error}") from None
        return found

    def check(self) -> None:
        """Read every page and product once; done when a file is installed, not at each start.

        Raises:
            ListError: A page is damaged, or holds what `write_ticket_store` never writes.
        """
        count, before, began = 0, (b"", 0), b""
        for number in range(self._file.pages):
            page = self._file.page(number)
            here = _COUNT.unpack_from(page)[0]
            end = _COUNT.size + (CREDENTIAL_ID_BYTES + ROW_BYTES) * here
            if not 0 < here <= PER_PAGE or page.count(0, end) != PAGE_BYTES - end:
                raise ListError(self._file.path, f"page {number} is not filled as it should be")
            first = _id_at(page, 0)
            if first != _ID.pack(self._uppers[number], self._lowers[number]):
                raise ListError(self._file.path, f"page {number} begins with another credential than the index says")
            if first == before[0] != began:
                raise ListError(self._file.path, f"page {number} goes on with a credential that began inside another")
            before, began = self._check_products(page, here, before), first
            count += here
        if count != self.count:
            raise ListError(self._file.path, f"counts {self.count} products and has {count}")

    def _check_products(self, page: bytes, here: int, before: tuple[bytes, int]) -> tuple[bytes, int]:
        """See that the products of a page ascend and keep to the rules; `parse_shapes` saw to the rest of these."""
        rows_at = _COUNT.size + CREDENTIAL_ID_BYTES * here
        rows = _ROW.iter_unpack(page[rows_at : rows_at + ROW_BYTES * here])
        for place, (number, lower_id, lower_from, lower_until, _, amount) in enumerate(rows):
            if number >= len(self._shapes):
                raise ListError(self._file.path, f"a product has shape {number}, {len(self._shapes)} are there")
            shape = self._shapes[number]
            product_id = shape.upper_id | lower_id
            if not keeps_rules(shape, lower_id, lower_from, lower_until, amount):
                raise ListError(self._file.path, f"product {product_id} breaks a rule of products")
            key = (_id_at(page, place), product_id)
            if key <= before:
                raise ListError(self._file.path, f"product {product_id} is not greater than the one before it")
            before = key
        return before

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        self._file.close()


def _id_at(page: bytes, place: int) -> bytes:
    start = _COUNT.size + CREDENTIAL_ID_BYTES * place
    return page[start : start + CREDENTIAL_ID_BYTES]


def write_ticket_store(
    path: Path, entries: Iterable[tuple[bytes, Product]], progress: Callable[[int], None] = lambda _count: None
) -> int:
    """Write a ticket file. It is not synchronised to the disk: whoever installs it does that.

    Beside it, files without a name take 54 bytes for each product meanwhile.

    Args:
        path: A file that does not exist yet.
        entries: Credential id and product, in any order; memory does not grow with their number.
        progress: Told the count of products read so far, every ten thousand and at the end.

    Returns:
        The number of products.

    Raises:
        ListError: An entry breaks a rule (`product_rules`), two share a product id, they have more shapes than are
            allowed, or the file exists or cannot be written; nothing is left behind.
    """
    try:
        with TemporaryFile(dir=path.parent) as by_credential, TemporaryFile(dir=path.parent) as by_id:
            rows, ids = _Runs(by_credential, _SORTED_BYTES), _Runs(by_id, 8)
            shapes = _sort(path, entries, progress, rows, ids)
            _refuse_twice(path, ids)
            table, order = encode_shapes(shapes)
            place = {shape: number for number, shape in enumerate(order)}
            numbers, firsts = [SHAPE_NUMBER.pack(place[shape]) for shape in shapes], bytearray()
            write_checked(
                path,
                _MAGIC,
                _pages(rows, numbers, firsts),
                lambda: (_HEAD.pack(rows.count, len(table)), bytes(firsts) + table),
                PAGE_BYTES,
            )
            return rows.count
    except OSError as error:
        raise ListError(path, f"cannot be written: {error.strerror or error}") from error


class _Runs:
    """Octet strings of one length in a file, in runs that ascend."""

    def __init__(self, file: IO[bytes], width: int) -> None:
        self.count = 0
        self._file, self._width = file, width
        self._ends = [0]

    def add(self, rows: list[bytes]) -> None:
        rows.sort()
        self._file.write(b"".join(rows))
        self.count += len(rows)
        self._ends.append(self.count)

    def merged(self) -> Iterator[list[bytes]]:
        """Merge the runs, a block of each at a time; what is in memory and not after any block's end is all there."""
        places = [list(pair) for pair in pairwise(self._ends)]
        blocks: list[list[bytes]] = [[] for _ in places]
        while True:
            for number, place in enumerate(places):
                if not blocks[number]:
                    blocks[number] = self._read(place)
            if not any(blocks):
                return
            bound, part = min(block[-1] for block in blocks if block), list[bytes]()
            for block in blocks:
                cut = bisect_right(block, bound)
                part += block[:cut]
                del block[:cut]
            part.sort()
            yield part

    def _read(self, place: list[int]) -> list[bytes]:
        count = min(_BLOCK_ROWS, place[1] - place[0])
        self._file.seek(self._width * place[0])
        octets = self._file.read(self._width * count)
        place[0] += count
        return [octets[at : at + self._width] for at in range(0, len(octets), self._width)]


def _sort(
    path: Path, entries: Iterable[tuple[bytes, Product]], progress: Callable[[int], None], rows: _Runs, ids: _Runs
) -> list[Shape]:
    """Check entries and write them in runs; return the shapes, in the order of the numbers that the rows have."""
    shapes: dict[Shape, int] = {}
    run: list[bytes] = []
    for credential_id, product in entries:
        if len(credential_id) != CREDENTIAL_ID_BYTES:
            raise ListError(path, f"product {product.product_id}: a credential id of {len(credential_id)} bytes")
        found = shape_of(product)
        shape = shapes.get(found)
        if shape is None or not _numbers_keep_rules(product):
            why = breach(product)
            if why is not None:
                raise ListError(path, f"product {product.product_id}: {why}")
            shape = shapes.setdefault(found, len(shapes))
        if shape >= MAX_SHAPES:
            raise ListError(path, f"product {product.product_id} has a new shape, and {MAX_SHAPES} are there already")
        key = _SORTED.pack(credential_id, product.product_id)
        run.append(key + SHAPE_NUMBER.pack(shape) + numbers_of(product))
        if len(run) % PROGRESS_EVERY == 0:
            progress(rows.count + len(run))
        if len(run) == RUN:
            ids.add([row[16:24] for row in run])
            rows.add(run)
            run = []
    ids.add([row[16:24] for row in run])
    rows.add(run)
    progress(rows.count)
    return list(shapes)


def _numbers_keep_rules(product: Product) -> bool:
    """What `breach` says of the numbers, sooner: it is asked once for each shape, whose many places take their time."""
    return (
        0 < product.product_id <= MAX_INTEGER
        and 0 <= product.valid_from < product.valid_until <= MAX_INTEGER
        and 0 <= product.active_from <= MAX_INTEGER
        and 0 <= product.rides <= MAX_AMOUNT
        and 0 <= product.balance + product.conditions.floor <= MAX_AMOUNT
    )


def _refuse_twice(path: Path, ids: _Runs) -> None:
    before = b""
    for part in ids.merged():
        for one, other in pairwise([before, *part]):
            if one == other:
                raise ListError(path, f"two entries share product id {int.from_bytes(one)}")
        before = part[-1]


def _pages(rows: _Runs, numbers: list[bytes], firsts: bytearray) -> Iterator[bytes]:
    """Make pages of the sorted products, which now get the final numbers of their shapes, and note how each begins."""
    waiting: list[bytes] = []
    for part in rows.merged():
        waiting += part
        start = 0
        while len(waiting) - start > PER_PAGE:
            end = start + PER_PAGE
            while end > start and waiting[end - 1][:CREDENTIAL_ID_BYTES] == waiting[end][:CREDENTIAL_ID_BYTES]:
                end -= 1
            end = end if end > start else start + PER_PAGE
            yield _page(waiting[start:end], numbers, firsts)
            start = end
        del waiting[:start]
    if waiting:
        yield _page(waiting, numbers, firsts)


def _page(rows: list[bytes], numbers: list[bytes], firsts: bytearray) -> bytes:
    firsts += rows[0][:CREDENTIAL_ID_BYTES]
    parts = [_COUNT.pack(len(rows)), *(row[:CREDENTIAL_ID_BYTES] for row in rows)]
    for row in rows:
        parts += (numbers[row[24] << 8 | row[25]], row[26:])
    return b"".join(parts)
