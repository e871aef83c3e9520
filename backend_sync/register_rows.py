"""Rows of a nation's register, read from CSV text without an object for any of them.

The heading names four columns in any order: ``credential`` and ``issuer`` (32 hexadecimal digits), ``issued`` (seconds
since 1970 UTC) and ``revoked`` (0 or 1). No cell needs quotes, so that a comma is always the end of a cell. Blank lines
are passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backend_sync.ribbon_builder import Ids
from validator.model import CREDENTIAL_ID_BYTES

COLUMNS: Final = ("credential", "issuer", "issued", "revoked")
MAX_LINE_BYTES: Final = 256

_NO_DIGIT: Final = 0xFF
_ID_DIGITS: Final = 2 * CREDENTIAL_ID_BYTES
_TIME_DIGITS: Final = 12
_LAST_S: Final = 253402300799
"""The end of the year 9999, which a gate can name a block by."""
_WRONG: Final = {
    "credential": f"a credential has {_ID_DIGITS} hexadecimal digits",
    "issuer": f"an issuer has {_ID_DIGITS} hexadecimal digits",
    "issued": "a time of issue is seconds since 1970 UTC, up to the year 9999",
    "revoked": "revoked is 0 or 1",
}

_Places: TypeAlias = NDArray[np.intp]
_Octets: TypeAlias = NDArray[np.uint8]
_Flags: TypeAlias = NDArray[np.bool_]


def _digit_values() -> _Octets:
    values = np.full(256, _NO_DIGIT, np.uint8)
    for digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
        values[np.frombuffer(digits, np.uint8)] = np.arange(16)
    return values


_DIGITS: Final = _digit_values()


class WrongRowError(Exception):
    """A line is no row.

    Attributes:
        line: Which, from 0 for the first of the text.
        why: What is wrong with it.
    """

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Rows:
    """Cards.

    Attributes:
        ids: Their credential ids.
        issuers: The ids of their issuers' keys, in the same form.
        issued_s: When each was issued, seconds since 1970 UTC.
        revoked: Whether each is revoked.
    """

    ids: Ids
    issuers: Ids
    issued_s: NDArray[np.int64]
    revoked: _Flags


def heading_of(line: bytes) -> tuple[str, ...]:
    """Return the names of the columns in their order.

    Raises:
        WrongRowError: They are not the four of a register.
    """
    named = tuple(line.strip().decode("utf-8-sig", "replace").split(","))  # spreadsheets put a mark before it
    if sorted(named) != sorted(COLUMNS):
        raise WrongRowError(0, f"the heading has to name these columns and no others: {','.join(COLUMNS)}")
    return named


def rows_of(text: bytes, columns: Sequence[str]) -> Rows:
    """Read whole lines, each of which ends in a line feed.

    Args:
        text: The lines.
        columns: As `heading_of` returned them.

    Raises:
        WrongRowError: The first line that is no row.
    """
    octets = np.frombuffer(text + bytes(_ID_DIGITS), np.uint8)  # so that every cell can be looked at in full width
    lines = _lines(octets)
    cells = _cells(octets, lines, columns)
    ids, id_there = _ids(octets, *cells["credential"])
    issuers, issuer_there = _ids(octets, *cells["issuer"])
    issued_s, time_there = _times(octets, *cells["issued"])
    begin, end = cells["revoked"]
    revoked = octets[begin] == ord("1")
    flag_there = (end - begin == 1) & (revoked | (octets[begin] == ord("0")))
    there = {"credential": id_there, "issuer": issuer_there, "issued": time_there, "revoked": flag_there}
    wrong = ((lines.numbers[~each][0], name) for name, each in there.items() if not each.all())
    for line, name in sorted(wrong)[:1]:
        raise WrongRowError(int(line), _WRONG[name])
    return Rows(ids, issuers, issued_s, revoked)


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines that are not blank: where each begins and ends, and which of the text's lines it is."""

    begin: _Places
    end: _Places
    numbers: _Places


def _lines(octets: _Octets) -> _Lines:
    end = np.flatnonzero(octets == ord("\n"))
    begin = np.concatenate([np.zeros(1, np.intp), end + 1])[:-1]
    end = end - ((end > begin) & (octets[end - 1] == ord("\r")))
    numbers = np.flatnonzero(end > begin)
    return _Lines(begin[numbers], end[numbers], numbers)


def _cells(octets: _Octets, lines: _Lines, columns: Sequence[str]) -> dict[str, tuple[_Places, _Places]]:
    commas = np.flatnonzero(octets == ord(","))
    count = np.searchsorted(commas, lines.end) - np.searchsorted(commas, lines.begin) + 1
    for number in np.flatnonzero(count != len(columns))[:1]:
        why = f"has {count[number]} cells, {len(columns)} are wanted"
        raise WrongRowError(int(lines.numbers[number]), why)
    between = commas.reshape(-1, len(columns) - 1)
    begins = np.column_stack([lines.begin, between + 1])
    ends = np.column_stack([between, lines.end])
    return {name: (begins[:, place], ends[:, place]) for place, name in enumerate(columns)}


def _ids(octets: _Octets, begin: _Places, end: _Places) -> tuple[Ids, _Flags]:
    """Read ids, and say where there is one."""
    cells = np.lib.stride_tricks.sliding_window_view(octets, _ID_DIGITS)[begin]
    digits = _DIGITS[cells]
    there = (end - begin == _ID_DIGITS) & (digits != _NO_DIGIT).all(axis=1)
    halves = np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2] & 0x0F).view(">u8")
    return halves.astype(np.uint64), there


def _times(octets: _Octets, begin: _Places, end: _Places) -> tuple[NDArray[np.int64], _Flags]:
    """Read times, and say where there is one."""
    width = end - begin
    there = (width >= 1) & (width <= _TIME_DIGITS)
    value = np.zeros(len(begin), np.int64)
    for place in range(_TIME_DIGITS):
        digit = octets[begin + place].astype(np.int64) - ord("0")
        here = place < width
        there &= ~here | ((digit >= 0) & (digit <= 9))
        value = np.where(here, value * 10 + digit, value)
    return value, there & (value <= _LAST_S)
