"""Tables from outside, as CSV in UTF-8 with a heading: read as a stream, and all that is wrong told at once."""

import csv
import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from backend_sync.enrolment_errors import EnrolmentError, EnrolmentInputMissing

TOLD = 20
"""So many wrong lines are told at once."""

_LINE_BYTES = 1024
_SHARES = 256
_NO_ROW = "\0"


class TableFile:
    """An open CSV file, read as often as needed.

    Args:
        path: For messages.
        file: The open file.
        columns: Names of the columns that may be there.
        optional: Those of them that may be missing.

    Attributes:
        digest: SHA-256 of the octets up to the row that was yielded last, and of all of them at the end.
    """

    def __init__(self, path: Path, file: IO[bytes], columns: Sequence[str], optional: Sequence[str] = ()) -> None:
        self.path = path
        self.digest = hashlib.sha256()
        self._file = file
        self._columns = columns
        self._needed = set(columns) - set(optional)

    @classmethod
    @contextmanager
    def open(cls, path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> "Iterator[TableFile]":
        """Open a file.

        Raises:
            EnrolmentInputMissing: It cannot be read.
            EnrolmentError: It can be read only once.
        """
        try:
            file = path.open("rb")
        except OSError as error:
            raise EnrolmentInputMissing(f"{path}: {error.strerror or error}") from None
        with file:
            if not file.seekable():
                raise EnrolmentError(f"{path}: is no file but a pipe, and it is read twice: write it to a file first")
            yield cls(path, file, columns, optional)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows from the start: the line, from 1 for the heading, and the cells in the order of the columns.

        What is optional and missing is empty. A row that is none, or longer than 1 kB, has no cells.

        Raises:
            EnrolmentError: The heading is wrong.
        """
        self._file.seek(0)
        self.digest = hashlib.sha256()
        lines = self._lines()
        heading = self._heading(next(lines, ""))
        places = [heading.index(name) if name in heading else None for name in self._columns]
        for line, text in enumerate(lines, 2):
            if not text.strip():
                continue
            cells = _cells(text)
            if len(cells) != len(heading):
                yield line, []
            else:
                yield line, ["" if place is None else cells[place] for place in places]

    def _lines(self) -> Iterator[str]:
        """A row is a line: no cell that means anything here holds a line break."""
        encoding = "utf-8-sig"  # spreadsheets put a mark before the first line
        while octets := self._file.readline(_LINE_BYTES):
            self.digest.update(octets)
            rest = octets
            while not rest.endswith(b"\n") and (rest := self._file.readline(_LINE_BYTES)):
                self.digest.update(rest)
                octets = b""
            try:
                yield octets.decode(encoding).rstrip("\r\n") if octets else _NO_ROW
            except UnicodeDecodeError:
                yield _NO_ROW
            encoding = "utf-8"

    def _heading(self, text: str) -> list[str]:
        heading = _cells(text)
        named, wanted = set(heading), ", ".join(self._columns)
        if len(named) != len(heading) or not self._needed <= named:
            raise EnrolmentError(f"{self.path}, line 1: the heading has to name its columns, each once: {wanted}")
        if not named <= set(self._columns):
            raise EnrolmentError(
                f"{self.path}, line 1: a column that has no place here: take out all but {wanted}, and names and "
                "addresses before all"
            )
        return heading


class WrongLines:
    """Collects what is wrong with a file, to tell it at once.

    Args:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._more = False
        self._told: list[tuple[int, str]] = []

    def add(self, wrong: Iterable[tuple[int, str]]) -> None:
        """Add lines and what is wrong with them. Once there are enough, no more is asked for."""
        for one in wrong:
            if len(self._told) == TOLD:
                self._more = True
                return
            self._told.append(one)

    def tell(self) -> None:
        """Raise what was collected.

        Raises:
            ExceptionGroup: Of `EnrolmentError`, one for each line; nothing if nothing is wrong.
        """
        if not self._told:
            return
        errors = [EnrolmentError(f"{self._path}, line {line}: {what}") for line, what in sorted(self._told)]
        if self._more:
            errors.append(EnrolmentError(f"{self._path}: these are the first {TOLD} wrong lines"))
        raise ExceptionGroup("wrong lines", errors)


def twice(numbers: Sequence[int]) -> set[int]:
    """Return the numbers that are there more than once; one share after the other is sorted, which takes little memory.

    Args:
        numbers: Any that fit into 64 bits with a sign.
    """
    shares = [array("q") for _ in range(_SHARES)]
    for number in numbers:
        shares[number % _SHARES].append(number)
    found: set[int] = set()
    while shares:
        before = None
        for number in sorted(shares.pop()):
            if number == before:
                found.add(number)
            before = number
    return found


def _cells(text: str) -> list[str]:
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        return []
