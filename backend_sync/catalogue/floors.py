"""The highest versions that a device has seen, where a restored or deleted folder of metadata cannot lower them.

A floor belongs to a role and a key that signed for it, and only ever rises. It holds as long as that key may sign for
the role. So a key that is taken away takes its floors with it: that is how TUF recovers from a fast-forward attack, in
which a thief of online keys pushes versions to the maximum, and it needs no order to lower anything.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, cast

import apsw

APPLICATION_ID: Final = 0x50494C46
"""``PILF``: tells floors from any other SQLite file."""
FORMAT: Final = 1
_BUSY_MS = 2000
_SCHEMA = "CREATE TABLE floor (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID"
_RAISE = (
    "INSERT INTO floor VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET version = excluded.version "
    "WHERE excluded.version > version"
)

MAX_VERSION: Final = 2**63 - 1


class FloorsError(Exception):
    """Floors cannot be read or raised. The message names the file and why."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"floors {path}: {why}")
        self.path = path
        self.why = why


class Floors(Protocol):
    """Where floors are kept. Names are opaque; versions are 1 to `MAX_VERSION`."""

    def read(self) -> dict[str, int]:
        """Return all floors by name.

        Raises:
            FloorsError: They cannot be read.
        """

    def raise_to(self, versions: Mapping[str, int], /) -> None:
        """Raise floors, all or none, and bring them to the disk; a version below its floor changes nothing.

        Raises:
            FloorsError: They are not raised.
        """


class FloorsFile:
    """Floors in an SQLite file: WAL with ``synchronous=FULL``, on the disk when `raise_to` returns. One thread."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        """Open or create the file.

        Args:
            path: The file; its folder exists.
            vfs: A registered SQLite VFS, or None for the operating system's.

        Raises:
            FloorsError: It cannot be opened, or is something else. Nobody replaces it by an empty one: that would
                allow what it forbids.
        """
        self._path = path
        try:
            self._db = apsw.Connection(str(path), vfs=vfs)
            try:
                self._set_up()
            except BaseException:
                self._db.close(True)
                raise
        except apsw.Error as error:
            raise FloorsError(path, f"cannot be opened: {error}") from error

    def read(self) -> dict[str, int]:
        """See `Floors.read`."""
        try:
            rows = self._db.execute("SELECT name, version FROM floor").fetchall()
        except apsw.Error as error:
            raise FloorsError(self._path, f"cannot be read: {error}") from error
        return dict(cast("list[tuple[str, int]]", rows))  # the table is STRICT

    def raise_to(self, versions: Mapping[str, int], /) -> None:
        """See `Floors.raise_to`."""
        try:
            with self._db:
                self._db.executemany(_RAISE, list(versions.items()))
        except (apsw.Error, OverflowError) as error:
            raise FloorsError(self._path, f"cannot be raised: {error}") from error

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        try:
            self._db.close()
        except apsw.Error as error:
            raise FloorsError(self._path, f"cannot be closed: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _set_up(self) -> None:
        db = self._db
        db.set_busy_timeout(_BUSY_MS)
        db.pragma("trusted_schema", 0)
        db.pragma("synchronous", "FULL")
        found = (db.pragma("application_id"), db.pragma("user_version"))
        if found == (0, 0) and not db.execute("SELECT 1 FROM sqlite_schema").fetchall():
            with db:
                db.execute(_SCHEMA)
                db.pragma("application_id", APPLICATION_ID)
                db.pragma("user_version", FORMAT)
        elif found != (APPLICATION_ID, FORMAT):
            raise FloorsError(self._path, "is not a file of floors of this format")
        if db.pragma("journal_mode", "wal") != "wal":
            raise FloorsError(self._path, "its disk cannot share memory for a log; put it on a local file system")
