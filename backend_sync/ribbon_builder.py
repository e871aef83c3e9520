"""Builds ribbons: finds the bits whose parities come out, for millions of equations (see `validator.lists.ribbon`).

Gaussian elimination in a band (Dillinger and Walzer, "Ribbon filter", 2021), in integers of `WIDTH` bits. The
equations come in order of their windows, so that a row is final as soon as the windows have passed it, and can be put
away in 40 bytes. What is asked of a hundred million cards is asked with numpy.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import shake_128

import numpy as np
from numpy.typing import NDArray

from validator.lists.ribbon import WIDTH, Equations, column_bytes

Ids = NDArray[np.uint64]
"""Shape (n, 2): the first and the last 8 bytes of each id, as big-endian numbers."""
Words = NDArray[np.uint64]

ROW_BYTES = WIDTH // 8
BATCH = 1 << 15
"""So many at a time: small enough for a processor's cache, large enough that numpy's own work does not count."""
_WORDS = WIDTH // 64
_MASK_32 = np.uint64(0xFFFFFFFF)
_6, _32, _63, _64 = (np.uint64(number) for number in (6, 32, 63, 64))


@dataclass(frozen=True, slots=True)
class Columns:
    """A ribbon, as it is written.

    Attributes:
        rows: How many bits each column has.
        columns: Each of `column_bytes(rows)` bytes; the lowest bit of the first byte is row 0.
    """

    rows: int
    columns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What `validator.lists.ribbon.Equations` returns, for many ids.

    Attributes:
        first: Shape (n,): the place in a ribbon of the first level.
        second: Shape (n,): the place in a ribbon of the second.
        coefficients: Shape (5, n): 64 bits each, the lowest first.
    """

    first: Words
    second: Words
    coefficients: Words


@dataclass(frozen=True, slots=True)
class Triangle:
    """Equations in triangular form.

    Attributes:
        rows: How many rows the ribbon has.
        table: `ROW_BYTES` a row: the coefficients from it on; zeros where no equation begins, so that it is free.
        odd: One byte a row: the parity that is wanted.
        failed: Which of the equations contradict those before them, ascending.
    """

    rows: int
    table: bytes
    odd: bytes
    failed: list[int]


class TooManyFailedError(Exception):
    """So many equations contradict each other that it is not worth going on."""


def equations(ids: Ids, by: Equations) -> Batch:
    """Turn ids into their equations, as `validator.lists.ribbon.Equations` does one by one."""
    upper, lower = _parts(by.mixer, 2)
    high, low = ids[:, 0], ids[:, 1]
    mixed_low = low * lower
    mixed_high = _upper_half(low, lower) + low * upper + high * lower
    coefficients = np.empty((_WORDS, len(ids)), np.uint64)
    lowest, *others = reversed(_parts(by.spreader, _WORDS))
    carried = _upper_half(mixed_high, lowest)
    for number, part in enumerate(others):
        word = mixed_high * part + carried
        coefficients[number] = word
        carried = _upper_half(mixed_high, part) + (word < carried)
    coefficients[-1] = carried
    return Batch(mixed_low >> _32, mixed_low & _MASK_32, coefficients)


def _parts(number: int, count: int) -> list[np.uint64]:
    """Cut a number into so many of 64 bits, the highest first."""
    return [np.uint64(number >> 64 * place & (1 << 64) - 1) for place in reversed(range(count))]


def _upper_half(numbers: Words, factor: np.uint64) -> Words:
    """Multiply numbers of 64 bits, and return the upper 64 bits of the products."""
    factor_high, factor_low = factor >> _32, factor & _MASK_32
    high, low = numbers >> _32, numbers & _MASK_32
    crossed = high * factor_low
    middle = (low * factor_low >> _32) + (crossed & _MASK_32) + low * factor_high
    upper: Words = high * factor_high + (crossed >> _32) + (middle >> _32)
    return upper


def starts(places: Words, rows: int) -> Words:
    """Return where each window starts, in a ribbon of so many rows."""
    begun: Words = places * np.uint64(rows - WIDTH + 1) >> _32
    return begun


class Asking:
    """Asks a ribbon about many equations at once."""

    def __init__(self, ribbon: Columns) -> None:
        self._rows = ribbon.rows
        # Windows are read in whole words, of which the last may lie past the column's end.
        length = (column_bytes(ribbon.rows) // 8 + _WORDS + 2) * 8
        self._columns = [np.frombuffer(column.ljust(length, b"\0"), "<u8") for column in ribbon.columns]

    def vanishing(self, places: Words, coefficients: Words) -> NDArray[np.intp]:
        """Return which equations give zero in every column, ascending."""
        start = starts(places, self._rows)
        shift = start & _63
        # A shift by 64 gives zero in numpy, where C does not say.
        lifted = coefficients << shift
        carried = coefficients >> (_64 - shift)
        lifted[1:] |= carried[:-1]
        words = (*lifted, carried[-1])
        first = (start >> _6).astype(np.intp)
        left: NDArray[np.intp] = np.arange(len(first))
        for column in self._columns:
            parity = words[0] & column[first]
            for number, word in enumerate(words[1:], 1):
                parity ^= word & column[first + number]
            passed = np.flatnonzero(np.bitwise_count(parity) & 1 == 0)
            left, first, words = left[passed], first[passed], tuple(word[passed] for word in words)
        return left


def rows_for(count: int, excess: float) -> int:
    """Return how many rows a ribbon for `count` equations has: so much more than one each, and a last window's end."""
    return int(count * (1 + excess)) + WIDTH


def triangulate(
    batches: Iterable[tuple[Words, Words, bytes]],
    rows: int,
    most_failed: int = 0,
    progress: Callable[[int], None] = lambda _count: None,
) -> Triangle:
    """Bring equations into triangular form.

    Args:
        batches: Window starts (n,), coefficients (5, n), and the parity wanted of each, one byte; by ascending start.
        rows: How many rows the ribbon has.
        most_failed: How many may contradict others.
        progress: Told the count of equations so far.

    Raises:
        TooManyFailedError: More contradict others.
    """
    table, odd = bytearray(rows * ROW_BYTES), bytearray(rows)
    pivots = [0] * rows
    failed: list[int] = []
    final, count = 0, 0
    for start, coefficients, wanted in batches:
        begin = int(start[0])
        table[final * ROW_BYTES : begin * ROW_BYTES] = _put_away(pivots, final, begin)
        final = begin
        packed = np.ascontiguousarray(coefficients.T).astype("<u8", copy=False).tobytes()
        for number, (at, parity) in enumerate(zip(start.tolist(), wanted, strict=True)):
            left = int.from_bytes(packed[number * ROW_BYTES : (number + 1) * ROW_BYTES], "little")
            while left:
                skip = (left & -left).bit_length() - 1
                at += skip  # noqa: PLW2901 - where its first coefficient is
                left >>= skip
                pivot = pivots[at]
                if not pivot:
                    pivots[at], odd[at] = left, parity
                    break
                left ^= pivot
                parity ^= odd[at]  # noqa: PLW2901 - of what is left of it
            else:
                if parity:
                    failed.append(count + number)
        if len(failed) > most_failed:
            raise TooManyFailedError(f"{len(failed)} of the first {count + len(start)} equations contradict others")
        count += len(start)
        progress(count)
    table[final * ROW_BYTES :] = _put_away(pivots, final, rows)
    return Triangle(rows, bytes(table), bytes(odd), failed)


def _put_away(pivots: list[int], begin: int, end: int) -> bytes:
    """Take rows that no later equation can change out of the list, as bytes."""
    taken = b"".join(pivot.to_bytes(ROW_BYTES, "little") for pivot in pivots[begin:end])
    pivots[begin:end] = [0] * (end - begin)
    return taken


def solve(triangle: Triangle, free: Sequence[bytes]) -> Columns:
    """Find the bits of a ribbon's columns, from the last row to the first.

    Args:
        triangle: The equations.
        free: For each column, the bits of rows that no equation decides: `column_bytes(rows)` bytes.
    """
    rows, table, odd = triangle.rows, triangle.table, triangle.odd
    columns = [bytearray(column_bytes(rows)) for _ in free]
    windows = [0] * len(free)
    numbers = range(len(free))
    mask = (1 << WIDTH) - 1
    for row in range(rows - 1, -1, -1):
        pivot = int.from_bytes(table[row * ROW_BYTES : (row + 1) * ROW_BYTES], "little")
        for number in numbers:
            window = windows[number] << 1
            if pivot:
                window |= (window & pivot).bit_count() & 1 ^ odd[row]
            else:
                window |= free[number][row >> 3] >> (row & 7) & 1
            if not row & 7:
                window &= mask
                columns[number][row >> 3] = window & 0xFF
            windows[number] = window
    return Columns(rows, tuple(bytes(column) for column in columns))


def no_bits(rows: int) -> bytes:
    """Return zeros for the free rows of a column."""
    return bytes(column_bytes(rows))


def noise(rows: int, seed: bytes) -> bytes:
    """Return bits for the free rows of a column that look random and are the same each time.

    Only so does a column that was made to give zero for some equations give one for half of all others.
    """
    return shake_128(seed).digest(column_bytes(rows))


class Ordered:
    """Ids in the order in which their equations are brought into triangular form.

    It depends on nothing but the equations, so that the same universe gives the same bytes in whatever order it came.
    """

    def __init__(self, ids: Ids, by: Equations, rows: int, *, second: bool) -> None:
        """Put ids in order.

        Args:
            ids: The ids.
            by: Those of the build.
            rows: How many rows the ribbon has.
            second: Whether it is a ribbon of the second level.
        """
        self._ids, self._by, self._rows, self._second = ids, by, rows, second
        begun = np.empty(len(ids), np.uint64)
        for begin in range(0, len(ids), BATCH):
            begun[begin : begin + BATCH] = self._start(equations(ids[begin : begin + BATCH], by))
        self.order: NDArray[np.intp] = np.lexsort((ids[:, 1], ids[:, 0], begun))
        """The index of each in the array that they came in."""

    def _start(self, found: Batch) -> Words:
        return starts(found.second if self._second else found.first, self._rows)

    def batches(self, wanted: NDArray[np.uint8]) -> Iterator[tuple[Words, Words, bytes]]:
        """Yield what `triangulate` takes; `wanted` is by the order that the ids came in."""
        for begin in range(0, len(self.order), BATCH):
            chosen = self.order[begin : begin + BATCH]
            found = equations(self._ids[chosen], self._by)
            yield self._start(found), found.coefficients, wanted[chosen].tobytes()
