"""Certificates that were judged before: in memory for the tap, in a small file for the next start.

The file is a cache. Losing its last entries to a power cut costs one longer tap for each, so WAL with
``synchronous=NORMAL`` is right here: never corrupt, never a wait for the disk. Writing is behind a queue and a thread
of its own. Each row carries a digest, because SQLite has no checksums and a rotten bit in a key would turn away a good
card; what does not add up is thrown away whole, and the cards are judged again.

Only a file that says it is ours is ever thrown away. Its first page carries the application id from the beginning, so
that damage elsewhere does not hide whose it is.
"""

import hashlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Self

import apsw
import msgspec
import structlog

from validator.certificates import credential_id
from validator.model import Identity, KeyAlgorithm, KnownCard, Reason, Refusal
from validator.proof import CardProof

log = structlog.get_logger()

DEFAULT_LIMIT = 50_000
"""Entries kept. One takes some 0.4 kB of memory, so that a full cache is 20 MB."""

APPLICATION_ID = 0x50494C43  # "PILC"
FORMAT = 2
BUSY_MS = 1000
_DIGEST_BYTES = 16
_APPLICATION_ID_AT = 68
"""Where SQLite keeps it (https://sqlite.org/fileformat.html#application_id), big-endian."""

_SCHEMA = """CREATE TABLE known_cards (
    entry INTEGER PRIMARY KEY,
    block_id BLOB NOT NULL UNIQUE,
    trust_version INTEGER NOT NULL,
    record BLOB NOT NULL,
    digest BLOB NOT NULL
) STRICT"""

_NOT_DAMAGED = (apsw.BusyError, apsw.FullError)
"""Somebody else is using the file, or a fresh one in the same place would suffer as well."""

_Job = Callable[[apsw.Connection], None]


class _Record(msgspec.Struct, array_like=True, frozen=True):
    algorithm: KeyAlgorithm
    spki: bytes
    not_before: int
    not_after: int
    issuer_id: bytes
    issued_s: int
    index: int | None


_RECORD = msgspec.msgpack.Decoder(_Record)


class KnownCardsError(Exception):
    """The file cannot be used and cannot be replaced; the message says why."""


class KnownCardStore:
    """Known cards by the SHA-256 of the first block of their certificate object.

    The reader's thread asks, the event loop remembers and adopts, a thread of its own writes.

    The least recently seen go first when the limit is reached; across a restart the order is that of first sight.
    """

    def __init__(self, connection: apsw.Connection, trust_version: int, limit: int) -> None:
        """Take an open file; use `open` instead."""
        # A verdict and the trust list that it was judged under are one thing: nobody may see half of `adopt`.
        self._together = threading.Lock()
        self._trust_version = trust_version
        self._limit = limit
        self._records: OrderedDict[bytes, bytes] = OrderedDict()  # packed: half the memory of objects, and no start-up
        self._read(connection)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(
            target=_write_behind, args=(connection, self._jobs), name="known-cards", daemon=True
        )
        self._writer.start()

    @classmethod
    def open(cls, path: Path, trust_version: int, limit: int = DEFAULT_LIMIT) -> Self:
        """Open the cache; a file of ours that is damaged or of another format is replaced by an empty one.

        Args:
            path: The file; made if it is not there, with the directory that it is in.
            trust_version: Version of the trust list in force; entries judged under another are dropped.
            limit: Greatest number of entries.

        Raises:
            KnownCardsError: The file can be neither opened nor replaced, or it is not ours to replace.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return cls._try(path, trust_version, limit)
            except (apsw.Error, ValueError, TypeError, OverflowError) as error:
                if isinstance(error, _NOT_DAMAGED) or not _is_ours(path):
                    what = f"cannot be opened as a cache of known cards ({error}); give another path, or remove it"
                    raise KnownCardsError(f"{path}: {what}") from error
                log.warning("known_cards.recreated", path=str(path), why=str(error))
            for name in (path, *(path.with_name(path.name + tail) for tail in ("-wal", "-shm", "-journal"))):
                name.unlink(missing_ok=True)
            return cls._try(path, trust_version, limit)
        except OSError as error:
            raise KnownCardsError(f"{path}: {error.strerror or error}; give another path") from error
        except apsw.Error as error:
            raise KnownCardsError(f"{path}: cannot be replaced: {error}") from error

    @classmethod
    def in_memory(cls, trust_version: int, limit: int = DEFAULT_LIMIT) -> Self:
        """Open a cache that is forgotten when it is closed."""
        return cls._try(Path(":memory:"), trust_version, limit)

    @classmethod
    def _try(cls, path: Path, trust_version: int, limit: int) -> Self:
        connection = apsw.Connection(str(path))
        try:
            _prepare(connection)
            return cls(connection, trust_version, limit)
        except BaseException:
            connection.close(True)
            raise

    def find(self, block_id: bytes) -> KnownCard | None:
        """Return the verdict on a card, from memory; None where it was never seen under this trust list."""
        with self._together:
            record = self._records.get(block_id)
            if record is None:
                return None
            self._records.move_to_end(block_id)
            version = self._trust_version
        return _unpack(record, version)

    def remember(self, block_id: bytes, known: KnownCard) -> None:
        """Keep a verdict; returns at once, the file follows. A verdict under another trust list is not kept."""
        record, version = _pack(known), known.trust_version
        with self._together:
            if version != self._trust_version:
                return
            self._records[block_id] = record
            self._records.move_to_end(block_id)
            evicted = self._records.popitem(last=False)[0] if len(self._records) > self._limit else None
        self._jobs.put(lambda connection: _store(connection, block_id, version, record, evicted))

    def forget(self, block_id: bytes) -> None:
        """Drop a verdict that did not fit the card that showed the block; its next tap reads it whole."""
        with self._together:
            if self._records.pop(block_id, None) is None:
                return
        self._jobs.put(lambda connection: _drop(connection, block_id))

    def learn(self, proof: CardProof, verdict: Identity | Refusal) -> None:
        """Keep the verdict on a new card; drop one that the card could not sign for: its next tap reads it whole."""
        if proof.cache_key is None:
            return
        if isinstance(verdict, Identity):
            if not proof.cached and verdict.known is not None:
                self.remember(proof.cache_key, verdict.known)
        elif proof.cached and verdict.reason is Reason.WRONG_SIGNATURE:
            self.forget(proof.cache_key)

    def adopt(self, trust_version: int) -> None:
        """A trust list was installed: drop what was judged under another."""
        with self._together:
            if trust_version == self._trust_version:
                return
            self._trust_version = trust_version
            self._records.clear()
        self._jobs.put(lambda connection: _drop_others(connection, trust_version))

    def close(self) -> None:
        """Write what is queued and close the file; harmless when closed already."""
        self._jobs.put(None)
        self._writer.join()

    def __len__(self) -> int:
        return len(self._records)

    def _read(self, connection: apsw.Connection) -> None:
        _drop_others(connection, self._trust_version)
        connection.execute(
            "DELETE FROM known_cards WHERE entry NOT IN (SELECT entry FROM known_cards ORDER BY entry DESC LIMIT ?)",
            (self._limit,),
        )
        rows = connection.execute("SELECT block_id, record, digest FROM known_cards ORDER BY entry")
        for block_id, record, digest in rows:
            if not isinstance(block_id, bytes) or not isinstance(record, bytes):
                raise TypeError("a row of another type")
            if digest != _digest(block_id, self._trust_version, record):
                raise ValueError("a row does not have its digest")
            self._records[block_id] = record


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_MS)
    # Somebody else's database is left as it lies, its log included.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    found = (connection.pragma("application_id"), connection.pragma("user_version"))
    if found == (0, 0) and not connection.execute("SELECT 1 FROM sqlite_schema").fetchall():
        with connection:  # before there is a log: the id is in the file itself from the first commit on
            connection.execute(_SCHEMA)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", FORMAT)
    elif found != (APPLICATION_ID, FORMAT):
        raise ValueError("not a file of known cards of this format")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 1)


def _is_ours(path: Path) -> bool:
    """Whether a file says that it is a cache of known cards, or says nothing at all."""
    try:
        with path.open("rb") as file:
            head = file.read(_APPLICATION_ID_AT + 4)
    except OSError:
        return False
    return not head or head[_APPLICATION_ID_AT:] == APPLICATION_ID.to_bytes(4)


def _write_behind(connection: apsw.Connection, jobs: "queue.SimpleQueue[_Job | None]") -> None:
    """Apply jobs in order until told to stop; a disk that fails is reported once and then left alone."""
    failed = False
    while (job := jobs.get()) is not None:
        if failed:
            continue
        try:
            job(connection)
        except apsw.Error:
            failed = True
            log.exception("known_cards.not_written", consequence="kept in memory only")
    try:
        connection.close()
    except apsw.Error:
        log.exception("known_cards.not_closed")


def _store(
    connection: apsw.Connection, block_id: bytes, trust_version: int, record: bytes, evicted: bytes | None
) -> None:
    with connection:
        connection.execute(
            "INSERT OR REPLACE INTO known_cards (block_id, trust_version, record, digest) VALUES (?,?,?,?)",
            (block_id, trust_version, record, _digest(block_id, trust_version, record)),
        )
        if evicted is not None:
            _drop(connection, evicted)


def _drop(connection: apsw.Connection, block_id: bytes) -> None:
    connection.execute("DELETE FROM known_cards WHERE block_id = ?", (block_id,))


def _drop_others(connection: apsw.Connection, trust_version: int) -> None:
    connection.execute("DELETE FROM known_cards WHERE trust_version <> ?", (trust_version,))


def _pack(known: KnownCard) -> bytes:
    return msgspec.msgpack.encode(
        _Record(
            algorithm=known.algorithm,
            spki=known.spki,
            not_before=known.not_before,
            not_after=known.not_after,
            issuer_id=known.issuer_id,
            issued_s=known.issued_s,
            index=known.index,
        ),
    )


def _unpack(record: bytes, trust_version: int) -> KnownCard:
    wire = _RECORD.decode(record)
    return KnownCard(
        credential_id=credential_id(wire.spki),
        algorithm=wire.algorithm,
        spki=wire.spki,
        not_before=wire.not_before,
        not_after=wire.not_after,
        issuer_id=wire.issuer_id,
        trust_version=trust_version,
        issued_s=wire.issued_s,
        index=wire.index,
    )


def _digest(block_id: bytes, trust_version: int, record: bytes) -> bytes:
    return hashlib.sha256(block_id + trust_version.to_bytes(8) + record).digest()[:_DIGEST_BYTES]
