"""The journal as another process reads it: entries past a cursor, and a proof that they are whole.

The reader never writes, not even the log's index (``readonly_shm``), so that it needs no right to. A journal without
its log beside it was put away: nobody writes it, and it is read as it lies (``immutable``). Blocks; for one thread at a
time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator import entry
from validator.envelope import EnvelopeError, Purpose, open_envelope
from validator.journal_file import JournalError, explaining, read_life
from validator.journal_uses import uses_of
from validator.rights import Use

_BUSY_MS = 2000
_VERIFY_BATCH = 1000


class JournalReader:
    """A journal opened for reading, while the validator writes it or not.

    Each question first looks whether the path still names the same file, and opens the new one where it does not: a
    journal that was moved away and begun anew has another epoch.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal for reading.

        Args:
            path: The database.

        Raises:
            JournalError: There is none yet, it is no journal, or it may not be read.
        """
        self._path = path
        self._open()

    @property
    def device(self) -> str:
        """Id of the device that this journal belongs to."""
        self._follow()
        return self._life.device

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The device's key as the journal itself names it: whoever doubts that compares it with the office's."""
        self._follow()
        return Ed25519PublicKey.from_public_bytes(self._life.public_key)

    @property
    def epoch(self) -> int:
        """Names this life of the journal."""
        self._follow()
        return self._life.epoch

    def head(self) -> int:
        """Return the sequence number of the last entry, 0 before the first.

        Raises:
            JournalError: It cannot be read.
        """
        self._follow()
        with explaining(self._path):
            return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM entry").get)

    def uses_of(self, credential_id: bytes) -> list[Use]:
        """Return what a credential took here, as far as it is kept, in the order of the sequence numbers.

        Raises:
            JournalError: It cannot be read.
        """
        self._follow()
        with explaining(self._path):
            return uses_of(self._db, credential_id)

    def entries_after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the next entries in order, as the device sealed them.

        Args:
            seq: The last one that is known; 0 for none.
            limit: The most to return.

        Returns:
            Pairs of sequence number and envelope bytes; empty at the head.

        Raises:
            JournalError: They cannot be read.
        """
        self._follow()
        return self._after(seq, limit)

    def verified(self, key: Ed25519PublicKey) -> Iterator[entry.Entry]:
        """Return every entry that is kept, each after a check: signature, device, epoch, number and link.

        Args:
            key: The device's public key.

        Raises:
            JournalError: Names the first that is not what it should be, when its turn comes.
        """
        self._follow()
        last, previous = 0, entry.GENESIS
        while rows := self._after(last, _VERIFY_BATCH):
            for seq, sealed in rows:
                link, digest = self._verified(seq, sealed, key)
                # Older entries may have been dropped: the first that is kept links to one that nobody can show.
                if last and (seq != last + 1 or link.previous != previous):
                    raise self._broken(seq, f"does not follow entry {last}")
                if seq == 1 and link.previous != entry.GENESIS:
                    raise self._broken(seq, "is the first and yet follows another")
                last, previous = seq, digest
                yield link

    def verify(self, key: Ed25519PublicKey) -> int:
        """Check every entry that is kept, as `verified` does, and return how many there are.

        Raises:
            JournalError: Names the first that is not what it should be.
        """
        return sum(1 for _ in self.verified(key))

    def close(self) -> None:
        """Close the database; harmless when closed already."""
        self._db.close()

    def _after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        with explaining(self._path):
            rows = self._db.execute("SELECT seq, envelope FROM entry WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
            return cast("list[tuple[int, bytes]]", rows.fetchall())

    def _verified(self, seq: int, sealed: bytes, key: Ed25519PublicKey) -> tuple[entry.Entry, bytes]:
        try:
            payload = open_envelope(sealed, Purpose.TAP, {self._life.device: key}).payload
            link = entry.decode(payload)
        except (EnvelopeError, entry.EntryError) as error:
            raise self._broken(seq, f"cannot be believed ({error})") from error
        if (link.device, link.epoch, link.seq) != (self._life.device, self._life.epoch, seq):
            raise self._broken(seq, f"says it is {link.device!r} {link.epoch} {link.seq}")
        return link, entry.digest(payload)

    def _broken(self, seq: int, what: str) -> JournalError:
        return JournalError(self._path, f"entry {seq} {what}", "keep this file for the back office")

    def _open(self) -> None:
        try:
            state = self._identity()
        except FileNotFoundError:
            raise JournalError(self._path, "it is not there yet", "start the validator, which makes it") from None
        how = "readonly_shm=1" if state.has_log else "immutable=1"
        uri = f"file:{quote(str(self._path))}?mode=ro&{how}"
        with explaining(self._path):
            db = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            with explaining(self._path):
                db.set_busy_timeout(_BUSY_MS)
                life = read_life(self._path, db)
        except BaseException:
            db.close(force=True)
            raise
        self._db, self._life, self._state = db, life, state

    def _identity(self) -> "_Identity":
        state = self._path.stat()
        return _Identity(state.st_dev, state.st_ino, self._path.with_name(self._path.name + "-wal").exists())

    def _follow(self) -> None:
        try:
            if self._identity() == self._state:
                return
        except FileNotFoundError:
            return  # moved away, and none begun yet: what is open stays good until then
        old = self._db
        self._open()
        old.close()


@dataclass(frozen=True, slots=True)
class _Identity:
    """Which file a path names, and how it must be opened."""

    st_dev: int
    st_ino: int
    has_log: bool
