"""The journal's database: its schema, the one transaction of a tap, and what is checked when it is opened again.

Everything here blocks and belongs to one thread; `validator.journal` owns that thread. The head of the chain is read
inside each transaction, so that what the file says is the only truth about it.

WAL with ``synchronous=FULL`` syncs the log at each commit (https://sqlite.org/pragma.html#pragma_synchronous). The log
and its index stay on disk when the journal is closed, so that a reader without the right to write can always open it.
"""

import ctypes
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator import entry
from validator.envelope import EnvelopeError, Purpose, open_envelope, seal
from validator.journal_uses import SCHEMA as USES
from validator.journal_uses import TELL_WAYS_OUT, add_use, drop_uses, ratify_use, uses_of
from validator.model import ClockConfidence, Outcome, Tap
from validator.rights import Use

APPLICATION_ID = 0x50494C54
"""``PILT``: tells a journal from any other SQLite file."""
SCHEMA_VERSION = 3
OLDEST_SCHEMA = 2
"""Of this one entries are the same; a journal of it is brought up to date by the validator, and read as it is."""
EPOCH_RANDOM_BITS = 16
"""Low bits of an epoch; above them is the second in which the journal was born."""
PRUNE_BATCH = 500
"""Entries dropped in one transaction, so that a tap never waits for a long one."""

OLDEST_SQLITE = 3_051_003
"""Older ones may corrupt a write-ahead log that two connections reset (https://sqlite.org/wal.html#walresetbug)."""

_BUSY_MS = 2000
_TAIL = 100

Synchronous = Literal["FULL", "NORMAL"]
Decide = Callable[[Sequence[Use]], Tap]

# The tables are STRICT, so that the database vouches for the types of its rows.
_EntryRow = tuple[int, bytes, bytes]

_SCHEMA = """
CREATE TABLE life (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    device TEXT NOT NULL,
    public_key BLOB NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY,
    wall_ms INTEGER NOT NULL,
    digest BLOB NOT NULL,
    envelope BLOB NOT NULL
) STRICT;
"""


class JournalError(Exception):
    """The journal cannot do what was asked; says which file, why, and what to do. Nothing was half done."""

    def __init__(self, path: Path, what: str, advice: str) -> None:
        super().__init__(f"journal {path}: {what}; {advice}")
        self.path = path


_NEW_EPOCH = "stop the validator, keep this file for the back office, and move it away: a new one begins a new epoch"
_EXPLAINED: tuple[tuple[type[apsw.Error], str, str], ...] = (
    (apsw.FullError, "the disk is full", "free space on its partition; the tap was not recorded"),
    (apsw.ReadOnlyError, "it cannot be written", "check the owner of the file, and whether its disk went read-only"),
    (apsw.NotADBError, "this is no SQLite database", _NEW_EPOCH),
    (apsw.CorruptError, "the file is damaged", _NEW_EPOCH),
    (apsw.IOError, "the disk failed", "look for its errors in the kernel log and replace it"),
    (apsw.BusyError, "another process holds it", "run one validator on one journal"),
    (apsw.CantOpenError, "it cannot be opened", "check that its folder and its -shm file exist, and who may use them"),
    (apsw.PermissionsError, "access is refused", "check the owner of the file and of its folder"),
)


@contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a `JournalError` that says what to do."""
    try:
        yield
    except apsw.Error as error:
        for kind, what, advice in _EXPLAINED:
            if isinstance(error, kind):
                raise JournalError(path, f"{what} ({error})", advice) from error
        raise JournalError(path, f"SQLite says {error}", "check that file and program belong together") from error


@dataclass(frozen=True, slots=True)
class Life:
    """Whose journal this is.

    Attributes:
        device: Id of the device.
        public_key: Ed25519 public key of the device, 32 bytes.
        epoch: Made with the database; a later one of the same device is greater, as far as its clock was right.
    """

    device: str
    public_key: bytes
    epoch: int


def read_life(path: Path, db: apsw.Connection) -> Life:
    """Read whose journal an open database is.

    Raises:
        JournalError: It is another program's database, or of a version that this program does not know.
    """
    application, version = db.pragma("application_id"), db.pragma("user_version")
    if application != APPLICATION_ID:
        raise JournalError(path, "this SQLite database is not a journal", "check the path in the configuration")
    if not OLDEST_SCHEMA <= version <= SCHEMA_VERSION:
        raise JournalError(
            path,
            f"its layout is version {version}, this program knows {OLDEST_SCHEMA} to {SCHEMA_VERSION}",
            "run the program that wrote it",
        )
    row = db.execute("SELECT device, public_key, epoch FROM life").fetchone()
    if row is None:
        raise JournalError(path, "it does not say whose it is", _NEW_EPOCH)
    return Life(*row)


class JournalFile:
    """An open journal, for the one thread that writes it.

    Attributes:
        life: Device, key and epoch.
        head: Sequence number of the last entry, 0 before the first.
        floor_ms: A time that has certainly passed by the last entry, milliseconds since 1970 UTC; 0 if none is known.
        wal_pages: Pages in the write-ahead log after the last commit.
    """

    def __init__(
        self,
        path: Path,
        device: str,
        key: Ed25519PrivateKey,
        *,
        vfs: str | None,
        synchronous: Synchronous,
        born_s: int = 0,
    ) -> None:
        """Open or create a journal and check its tail.

        Args:
            path: The database; its folder exists.
            device: Id of this device, 1 to 64 characters.
            key: The key that signs its entries.
            vfs: A registered SQLite VFS, or None for the operating system's.
            synchronous: ``FULL`` at a gate. ``NORMAL`` loses the last taps in a power cut.
            born_s: Now, seconds since 1970 UTC: orders the epochs of a device whose journal is made anew.

        Raises:
            JournalError: It is damaged, another device's, another program's, or cannot be opened.
        """
        self._born_s = born_s
        self._path, self._device, self._key = path, device, key
        self._synchronous = synchronous
        self.head = 0
        self.floor_ms = 0
        self.wal_pages = 0
        if apsw.SQLITE_VERSION_NUMBER < OLDEST_SQLITE:
            raise JournalError(path, f"SQLite {apsw.sqlitelibversion()} is too old", "install apsw 3.51.3 or newer")
        with explaining(path):
            self._db = apsw.Connection(str(path), vfs=vfs)
        try:
            with explaining(path):
                self._set_up()
                self.life = self._own_life()
                self._bring_up()
                self._check_tail()
        except BaseException:
            self._db.close(force=True)
            raise

    def settle(self, credential_id: bytes | None, decide: Decide) -> tuple[int, Tap]:
        """Let a tap be decided, and record it with what it takes, in one transaction; returns after the commit.

        Args:
            credential_id: Whose uses `decide` must know; None where no credential was seen.
            decide: Makes the tap from this credential's uses, in the order of their sequence numbers.

        Returns:
            The tap's sequence number and the tap.

        Raises:
            JournalError: The tap is not recorded.
            ValueError: `decide` spent a product of another credential, or made a tap that is not an entry.
        """
        with self._transaction():
            with explaining(self._path):
                uses = uses_of(self._db, credential_id)
            tap = decide(uses)
            uses_something = tap.product_id is not None or tap.outcome is Outcome.GRANT
            if uses_something and tap.credential_id != credential_id:
                raise ValueError("a tap may only let in the credential whose uses were counted, and spend its products")
            with explaining(self._path):
                seq = self._append(tap)
        self.head, self.floor_ms = seq, _certain_ms(tap)
        return seq, tap

    def ratify(self, seq: int) -> None:
        """Note that the passenger saw the grant.

        Not synced by itself: the next tap's commit carries it to the disk. A power cut in between forgets it, and then
        the passenger may repeat that one ride for nothing.

        Raises:
            JournalError: It is not noted.
        """
        with explaining(self._path):
            self._db.pragma("synchronous", "NORMAL")
            try:
                ratify_use(self._db, seq)
            finally:
                self._db.pragma("synchronous", self._synchronous)

    def prune(self, before_seq: int, before_ms: int, horizon_seq: int) -> int:
        """Drop one batch of what nobody needs any more, oldest first; see `validator.journal.Journal.prune`.

        Returns:
            How many rows were dropped; 0 when there is nothing left to drop.

        Raises:
            JournalError: This batch was not dropped.
        """
        with self._transaction(), explaining(self._path):
            # Only a prefix may go: where the clock stepped, an old date can follow a young one.
            first, end = self._db.execute(
                "SELECT min(seq), min(?, coalesce("
                "(SELECT seq FROM entry WHERE wall_ms >= ? ORDER BY seq LIMIT 1), max(seq))) FROM entry",
                (before_seq, before_ms),
            ).get
            before = self._db.total_changes()
            if first is not None:
                self._db.execute("DELETE FROM entry WHERE seq < ?", (min(end, first + PRUNE_BATCH),))
            drop_uses(self._db, horizon_seq, before_ms, PRUNE_BATCH)
            return self._db.total_changes() - before

    def checkpoint(self) -> None:
        """Copy what the log holds into the database, as far as no reader still needs it, without waiting.

        Raises:
            JournalError: The disk is full or fails; the log keeps everything.
        """
        with explaining(self._path):
            in_log, copied = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self.wal_pages = in_log - copied

    def close(self) -> None:
        """Close the database; harmless when closed already."""
        with explaining(self._path):
            self._db.close()

    def _set_up(self) -> None:
        db = self._db
        db.set_busy_timeout(_BUSY_MS)
        db.pragma("mmap_size", 0)
        db.pragma("trusted_schema", 0)
        db.pragma("synchronous", self._synchronous)
        fresh = not db.pragma("application_id") and not db.execute("SELECT count(*) FROM sqlite_schema").get
        if not fresh:
            read_life(self._path, db)
        if db.pragma("journal_mode", "wal") != "wal":
            raise JournalError(self._path, "its disk cannot share memory for a log", "put it on a local file system")
        keep = ctypes.c_int(1)
        db.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(keep))
        db.set_wal_hook(self._note_wal_pages)
        if fresh:
            self._create()

    def _bring_up(self) -> None:
        """Bring a journal of an older layout to the present one; its entries and its epoch stay what they are."""
        if self._db.pragma("user_version") < SCHEMA_VERSION:
            with self._transaction():
                self._db.execute(TELL_WAYS_OUT)
                self._db.pragma("user_version", SCHEMA_VERSION)

    def _create(self) -> None:
        with self._transaction():
            self._db.execute(_SCHEMA + USES)
            self._db.execute(
                "INSERT INTO life VALUES (1, ?, ?, ?)",
                (
                    self._device,
                    self._key.public_key().public_bytes_raw(),
                    self._born_s << EPOCH_RANDOM_BITS | secrets.randbits(EPOCH_RANDOM_BITS),
                ),
            )
            self._db.pragma("application_id", APPLICATION_ID)
            self._db.pragma("user_version", SCHEMA_VERSION)

    def _own_life(self) -> Life:
        life = read_life(self._path, self._db)
        if life.device != self._device:
            raise JournalError(
                self._path, f"it belongs to device {life.device!r}, this one is {self._device!r}", _NEW_EPOCH
            )
        if life.public_key != self._key.public_key().public_bytes_raw():
            raise JournalError(self._path, f"device {self._device!r} now has another key", _NEW_EPOCH)
        return life

    def _check_tail(self) -> None:
        """Check the last entry whole, and the numbers and links of those before it as far as one look reaches."""
        rows = self._db.execute("SELECT seq, digest, envelope FROM entry ORDER BY seq DESC LIMIT ?", (_TAIL,))
        tail = cast("list[_EntryRow]", rows.fetchall())
        if not tail:
            return
        keys = {self._device: Ed25519PublicKey.from_public_bytes(self.life.public_key)}
        seq, digest, sealed = tail[0]
        try:
            payload = open_envelope(sealed, Purpose.TAP, keys).payload
            last = entry.decode(payload)
        except (EnvelopeError, entry.EntryError) as error:
            raise JournalError(self._path, f"entry {seq} is damaged ({error})", _NEW_EPOCH) from error
        if (last.epoch, last.seq, entry.digest(payload)) != (self.life.epoch, seq, digest):
            raise JournalError(self._path, f"entry {seq} is not the one that was written there", _NEW_EPOCH)
        if len(tail) > 1 and last.previous != tail[1][1]:
            raise JournalError(self._path, f"entry {seq} does not follow entry {tail[1][0]}", _NEW_EPOCH)
        if seq - tail[-1][0] != len(tail) - 1:
            raise JournalError(self._path, f"an entry is missing among the last {len(tail)}", _NEW_EPOCH)
        self.head, self.floor_ms = seq, _certain_ms(last.tap)

    def _append(self, tap: Tap) -> int:
        head = self._db.execute("SELECT seq, digest FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        seq, previous = (1, entry.GENESIS) if head is None else (head[0] + 1, head[1])
        payload = entry.encode(entry.Entry(self._device, self.life.epoch, seq, previous, tap))
        # What the back office could not read must not get in: nothing after it could be acknowledged.
        entry.decode(payload)
        self._db.execute(
            "INSERT INTO entry VALUES (?, ?, ?, ?)",
            (seq, tap.at.wall_ms, entry.digest(payload), seal(self._key, self._device, Purpose.TAP, payload)),
        )
        if tap.outcome is Outcome.GRANT and (tap.product_id, tap.credential_id) != (None, None):
            add_use(self._db, seq, tap)
        return seq

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit what is done inside, or undo all of it."""
        try:
            with explaining(self._path):
                self._db.execute("BEGIN IMMEDIATE")
            yield
            with explaining(self._path):
                self._db.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back by itself after some failures of the disk.
            if self._db.in_transaction:
                with explaining(self._path):
                    self._db.execute("ROLLBACK")
            raise

    def _note_wal_pages(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK


def _certain_ms(tap: Tap) -> int:
    """Return a tap's wall time if a synchronised clock showed it: one that nobody checked may have been ahead."""
    return tap.at.wall_ms if tap.at.confidence is ClockConfidence.NTP else 0
