"""SQLite files that are written once and only read afterwards: what a ticket list and a list of enrolled keys share.

They are opened ``immutable``: no locks, no journal, no write, and pages are read as they are needed, so that a million
rows cost no memory.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import apsw

from validator.lists.errors import ListError

CACHE_KIB = 512
PROGRESS_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class FileFormat:
    """What tells one kind of file from another.

    Attributes:
        name: What to call it in an error.
        application_id: SQLite's application id, 32 bits.
        number: Of the format; another layout has another number.
        schema: The one statement that its schema consists of.
    """

    name: str
    application_id: int
    number: int
    schema: str


def open_immutable(path: Path, wanted: FileFormat) -> apsw.Connection:
    """Open a file that was verified before.

    Raises:
        ListError: It is not of this format.
    """
    # mode=ro beside immutable=1: some versions of SQLite open an immutable file for writing unless they are told.
    name = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    try:
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        connection.pragma("cache_size", -CACHE_KIB)
        found = (connection.pragma("application_id"), connection.pragma("user_version"))
    except apsw.Error as error:
        raise ListError(path, f"not a {wanted.name}: {error}") from None
    if found != (wanted.application_id, wanted.number):
        connection.close()
        raise ListError(path, f"not a {wanted.name} of this format")
    return connection


def check_whole(connection: apsw.Connection, path: Path, wanted: FileFormat) -> None:
    """Read every page once, and see that nothing is missing, damaged or there besides.

    Raises:
        ListError: The file is damaged, or holds another schema than this version writes.
    """
    try:
        schema = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchall()
        pages = connection.pragma("page_count") * connection.pragma("page_size")
        length = path.stat().st_size
    except (apsw.Error, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
        raise ListError(path, f"damaged: {error}") from None
    if length != pages:  # SQLite reads what is missing from the last page as zeros
        raise ListError(path, f"damaged: {length} bytes, {pages} are wanted")
    if schema != [(wanted.schema,)]:
        raise ListError(path, f"another schema than that of a {wanted.name}")
    if verdict != [("ok",)]:
        raise ListError(path, f"damaged: {verdict[0][0]}")


def write_new(path: Path, wanted: FileFormat, fill: Callable[[apsw.Connection], int]) -> int:
    """Write a file in one transaction. It is not synchronised to the disk: whoever installs it does that.

    Args:
        path: A file that does not exist yet.
        wanted: Its format.
        fill: Fills the file and returns how many rows it has.

    Returns:
        What `fill` returned.

    Raises:
        ListError: The file exists, or cannot be written; what `fill` raises goes through. Nothing is left behind.
    """
    if path.exists():
        raise ListError(path, "exists already")
    try:
        connection = apsw.Connection(str(path))
        try:
            connection.pragma("journal_mode", "off")
            connection.pragma("synchronous", 0)
            connection.pragma("temp_store", 1)
            connection.pragma("application_id", wanted.application_id)
            connection.pragma("user_version", wanted.number)
            connection.execute("BEGIN")
            count = fill(connection)
            connection.execute("COMMIT")
            return count
        finally:
            connection.close()
    except apsw.Error as error:
        path.unlink(missing_ok=True)
        raise ListError(path, f"cannot be written: {error}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def stage(
    connection: apsw.Connection,
    statement: str,
    rows: Iterator[Sequence[bytes | int | str]],
    progress: Callable[[int], None],
) -> int:
    """Insert rows, a chunk at a time, so that memory does not grow with their number; return how many there were."""
    count = 0
    while chunk := list(itertools.islice(rows, PROGRESS_EVERY)):
        connection.executemany(statement, chunk)
        count += len(chunk)
        progress(count)
    return count
