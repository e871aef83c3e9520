"""Ribbons: columns of bits in which each credential id has a window of its own, and a linear equation over it.

An id chooses where its window of `WIDTH` rows starts and which of its rows count; a column answers with the parity of
these. Whoever builds a ribbon chooses the bits so that the parities come out (Dillinger and Walzer, "Ribbon filter",
2021; `backend_sync.ribbon_builder` is that side).

The window is wide, because the wider it is, the fewer rows are wasted, and Python's integers of any length make a wide
one nearly as cheap as a narrow one.
"""

from collections.abc import Iterable
from hashlib import shake_128

WIDTH = 320
SALT_BYTES = 16
MAX_ROWS = 1 << 30
"""Fewer than this: a place has 32 bits, and most of them have to choose."""

_number = int.from_bytes  # looked up once: it is a tenth of a look-up's time
_MASK_32 = (1 << 32) - 1
_MASK_128 = (1 << 128) - 1
_STEP = 512
"""Columns are held as whole numbers, one for so many rows and the window that starts in the last of them. A smaller
step takes more memory (a bit more than twice the columns' own length with this one), a greater one more time."""
_STEP_BYTES = _STEP // 8
_HELD_BYTES = (_STEP + WIDTH) // 8


class Equations:
    """Turns ids into equations, each build in another way, so that nobody can prepare keys whose windows pile up.

    Ids are prefixes of SHA-256, so that two multiplications mix them well enough.

    Attributes:
        mixer: Odd, 128 bits.
        spreader: Odd, `WIDTH` bits, the highest set.
    """

    __slots__ = ("mixer", "spreader")

    def __init__(self, salt: bytes) -> None:
        """Take the salt of a build, `SALT_BYTES`."""
        drawn = shake_128(b"pilet-ribbon/1" + salt).digest(16 + WIDTH // 8)
        self.mixer = int.from_bytes(drawn[:16]) | 1
        self.spreader = int.from_bytes(drawn[16:]) | 1 << WIDTH - 1 | 1

    def of(self, credential_id: bytes) -> tuple[int, int, int]:
        """Turn an id of 16 bytes into its equation.

        Returns:
            Two places, numbers below 2**32 that choose the window in a ribbon of the first and of the second level; and
            the coefficients, `WIDTH` bits, the lowest for the window's first row.
        """
        mixed = _number(credential_id) * self.mixer & _MASK_128
        return mixed >> 32 & _MASK_32, mixed & _MASK_32, (mixed >> 64) * self.spreader >> 64


class Ribbon:
    """Columns of bits.

    Attributes:
        rows: How many bits each column has.
    """

    __slots__ = ("_held", "_spread", "rows")

    def __init__(self, rows: int, columns: Iterable[bytes]) -> None:
        """Take columns apart into the numbers that are looked at.

        Args:
            rows: At least `WIDTH` and below `MAX_ROWS`.
            columns: Each of `column_bytes(rows)` bytes; the lowest bit of the first byte is row 0.
        """
        self.rows = rows
        self._spread = rows - WIDTH + 1
        parts = list(columns)
        # Step by step, so that the numbers that are asked together lie together in memory.
        self._held = [
            tuple(int.from_bytes(column[at : at + _HELD_BYTES], "little") for column in parts)
            for at in range(0, column_bytes(rows), _STEP_BYTES)
        ]

    def vanishes(self, place: int, coefficients: int) -> bool:
        """Whether an equation gives zero in every column.

        Args:
            place: Chooses the window, below 2**32.
            coefficients: The rows of the window that count, `WIDTH` bits.
        """
        start = place * self._spread >> 32
        lifted = coefficients << start % _STEP
        for held in self._held[start // _STEP]:  # noqa: SIM110 - a generator costs more than it asks
            if (held & lifted).bit_count() & 1:
                return False
        return True

    def columns(self) -> list[bytes]:
        """Return the columns again as bytes."""
        mask, length = (1 << _STEP) - 1, column_bytes(self.rows)
        return [
            b"".join((held & mask).to_bytes(_STEP_BYTES, "little") for held in column)[:length]
            for column in zip(*self._held, strict=True)
        ]


def column_bytes(rows: int) -> int:
    """Return how many bytes a column of so many rows has."""
    return (rows + 7) // 8
