"""The files of a feed, in a folder or a zip, as they are in the wild.

Byte order marks, spaces around headings and values, columns of other makers, blank lines and files that are not there
are
common, and none is an error. A zip that holds one folder is taken for that folder.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from backend_sync.gtfs.problems import FeedMissing, Problems

MAX_FILE_BYTES: Final = 256 * 2**20
MAX_ID: Final = 256
_SPACES: Final = " \t\r\n\u00a0"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. Its readers note a problem and return None where a value cannot be used.

    Attributes:
        file: The file's name.
        line: Where it begins, from 1 for the heading.
        cells: Values by column, without the spaces around them.
        problems: Where problems are noted.
    """

    file: str
    line: int
    cells: Mapping[str, str]
    problems: Problems

    def wrong(self, field: str, meaning: str, remedy: str) -> None:
        """Note a problem."""
        self.problems.add(self.file, self.line, field, meaning, remedy)

    def text(self, field: str) -> str:
        """Return a value, empty where there is none."""
        return self.cells.get(field, "")

    def required(self, field: str) -> str:
        """Return a value that has to be there."""
        value = self.text(field)
        if not value:
            self.wrong(field, "is empty", "give it a value, or take the line out")
        return value

    def integer(self, field: str, least: int, most: int) -> int | None:
        """Return a whole number, None where the field is empty."""
        value = self.text(field)
        if not value:
            return None
        sign = value.removeprefix("-")
        number = int(value) if sign.isascii() and sign.isdecimal() and len(sign) < 12 else None
        if number is None or not least <= number <= most:
            self.wrong(field, f"{value!r} is not a whole number from {least} to {most}", "correct it")
            return None
        return number

    def known(self, field: str, ids: Mapping[str, int], table: str) -> int | None:
        """Return the number of an id of another table, None where the field is empty."""
        value = self.text(field)
        if value and value not in ids:
            self.wrong(field, f"{value!r} is not in {table}", f"add it to {table}, or correct it here")
        return ids.get(value)


@dataclass(frozen=True, slots=True)
class Table:
    """A file that is there.

    Attributes:
        file: Its name.
        columns: Its heading.
        rows: Its lines.
    """

    file: str
    columns: frozenset[str]
    rows: tuple[Row, ...]


class FeedFiles:
    """The files of one feed.

    Attributes:
        problems: Where problems are noted.
    """

    def __init__(self, paths: Mapping[str, Path | zipfile.Path], problems: Problems) -> None:
        self._paths = paths
        self.problems = problems

    @classmethod
    @contextmanager
    def open(cls, feed: Path, problems: Problems) -> "Iterator[FeedFiles]":
        """Open a folder or a zip.

        Raises:
            FeedMissing: It is neither.
        """
        try:
            if feed.is_dir():
                yield cls({each.name: each for each in feed.iterdir()}, problems)
                return
            with zipfile.ZipFile(feed) as archive:
                yield cls(_members(archive), problems)
        except (OSError, zipfile.BadZipFile) as error:
            raise FeedMissing(f"{feed}: {error}; name the folder or the zip of a GTFS feed") from None

    def has(self, file: str) -> bool:
        """Whether a file is there."""
        return file in self._paths

    def table(self, file: str, required: tuple[str, ...]) -> Table:
        """Read a file; one that is not there is a table without columns and rows.

        Args:
            file: Its name.
            required: Columns that it needs if it is there.
        """
        path = self._paths.get(file)
        if path is None:
            return Table(file, frozenset(), ())
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            self.problems.add(file, 0, "", f"has more than {MAX_FILE_BYTES} bytes", "split the feed")
            return Table(file, frozenset(), ())
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            self.problems.add(file, line, "", "is not UTF-8", "save the file as UTF-8")
            return Table(file, frozenset(), ())
        return self._parse(file, io.StringIO(text, newline=""), required)

    def _parse(self, file: str, text: IO[str], required: tuple[str, ...]) -> Table:
        reader = csv.reader(text, strict=True)
        rows: list[Row] = []
        columns: list[str] = []
        begun = 1
        try:
            for cells in reader:
                line, begun = begun, reader.line_num + 1
                values = [cell.strip(_SPACES) for cell in cells]
                if not any(values):
                    continue
                if not columns:
                    columns = self._heading(file, line, values, required)
                elif len(values) > len(columns):
                    many = f"has {len(values)} values for {len(columns)} columns"
                    self.problems.add(file, line, "", many, "quote values with commas")
                else:
                    long = next(
                        (c for c, v in zip(columns, values, strict=False) if c.endswith("_id") and len(v) > MAX_ID), ""
                    )
                    if long:
                        many = f"has more than {MAX_ID} characters"
                        self.problems.add(file, line, long, many, "shorten the id")
                    rows.append(Row(file, line, dict(zip(columns, values, strict=False)), self.problems))
        except csv.Error as error:
            self.problems.add(file, reader.line_num, "", f"is not CSV: {error}", "close its quotes")
        if not columns:
            self.problems.add(file, 0, "", "has no heading", "give it one, or take the file out")
        return Table(file, frozenset(columns), tuple(rows))

    def _heading(self, file: str, line: int, columns: list[str], required: tuple[str, ...]) -> list[str]:
        for column in sorted({each for each in columns if each and columns.count(each) > 1}):
            self.problems.add(file, line, column, "is there twice in the heading", "take one out")
        for column in required:
            if column not in columns:
                self.problems.add(file, line, column, "is not in the heading", "add the column")
        return columns


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.Path]:
    root = zipfile.Path(archive)
    inside = [each for each in root.iterdir() if not each.name.startswith(("__MACOSX", "."))]
    if len(inside) == 1 and inside[0].is_dir():
        inside = list(inside[0].iterdir())
    return {each.name: each for each in inside if each.is_file()}


def numbered(ids: set[str]) -> dict[str, int]:
    """Number ids in ascending order, as the tables of a tariff are."""
    return {each: number for number, each in enumerate(sorted(ids - {""}))}


def once(row: Row, key: tuple[object, ...], seen: dict[tuple[object, ...], int], fields: str) -> bool:
    """Note a line that says again what an earlier one said."""
    first = seen.setdefault(key, row.line)
    if first != row.line:
        row.wrong("", f"has the {fields} of line {first} again", "take one of the two out")
    return first == row.line
