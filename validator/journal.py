"""The journal: append-only taps, committed before the gate opens.

One thread owns the database and does one job after the other; the event loop hands it jobs and awaits their results.
Decision and consumption happen in one transaction, in that thread, so that two cards of one account on one gate cannot
both spend the last ride. The log is copied into the database between taps, never in front of one.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hardware.worker import Worker
from validator.journal_file import Decide, JournalError, JournalFile, Synchronous
from validator.model import Tap

CHECKPOINT_PAGES = 500
"""Pages of 4 KiB in the log from which `Journal.idle` copies them into the database."""
OVERDUE = 4
"""How many times that many may gather at a gate that is never idle; then they are copied right after a tap."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A tap that is on the disk.

    Attributes:
        seq: Its sequence number within the epoch.
        tap: What was recorded.
    """

    seq: int
    tap: Tap


class Journal:
    """An open journal. Made by `Journal.open`."""

    def __init__(self, path: Path, file: JournalFile, worker: Worker, checkpoint_pages: int) -> None:
        self._path, self._file, self._worker, self._checkpoint_pages = path, file, worker, checkpoint_pages
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        device: str,
        key: Ed25519PrivateKey,
        *,
        vfs: str | None = None,
        synchronous: Synchronous = "FULL",
        checkpoint_pages: int = CHECKPOINT_PAGES,
        born_s: int = 0,
    ) -> "Journal":
        """Open a journal, or create it with a new epoch.

        Args:
            path: The database; its folder exists and belongs to the validator.
            device: Id of this device, 1 to 64 characters.
            key: The key that signs its entries.
            vfs: A registered SQLite VFS, or None for the operating system's.
            synchronous: ``FULL`` at a gate. ``NORMAL`` loses the last taps in a power cut.
            checkpoint_pages: Pages in the log from which `idle` copies them into the database.
            born_s: Now, seconds since 1970 UTC: orders the epochs of a device whose journal is made anew.

        Raises:
            JournalError: It is damaged, another device's, another program's, or cannot be opened.
        """
        worker = Worker("journal")
        try:
            file = await worker.run(
                lambda: JournalFile(path, device, key, vfs=vfs, synchronous=synchronous, born_s=born_s)
            )
        except BaseException:
            worker.join()
            raise
        return cls(path, file, worker, checkpoint_pages)

    @property
    def device(self) -> str:
        """Id of the device that this journal belongs to."""
        return self._file.life.device

    @property
    def epoch(self) -> int:
        """Names this life of the journal."""
        return self._file.life.epoch

    @property
    def head(self) -> int:
        """Sequence number of the last entry, 0 before the first."""
        return self._file.head

    @property
    def floor_ms(self) -> int:
        """A time that has certainly passed by the last entry, milliseconds since 1970 UTC; 0 where none is known."""
        return self._file.floor_ms

    async def settle(self, credential_id: bytes | None, decide: Decide) -> Recorded:
        """Let a tap be decided, and record it with what it takes, in one transaction; returns after the commit.

        A caller that is cancelled meanwhile must not open the gate: the tap may be on the disk, unratified, and the
        passenger recovers it by presenting the card again.

        Args:
            credential_id: Whose uses `decide` must know; None where no credential was seen.
            decide: Makes the tap from all uses of this credential that are kept, in the order of their sequence
                numbers. It runs in the journal's thread. What it raises is raised here, and nothing is recorded.

        Raises:
            JournalError: The tap is not recorded; the gate stays shut. The journal may be used again.
            ValueError: `decide` spent a product of another credential, or made a tap that is not an entry.
        """
        seq, tap = await self._do(lambda: self._file.settle(credential_id, decide))
        if self._file.wal_pages >= self._checkpoint_pages * OVERDUE:
            self._worker.later(self._copy_overdue_log)
        return Recorded(seq, tap)

    async def ratify(self, seq: int) -> None:
        """Note that the card was still there when the gate had signalled, so that the passenger saw the grant.

        Off the tap's path, and not synced by itself: the next tap's commit carries it to the disk. A power cut in
        between forgets it, in the passenger's favour: that one ride may be repeated for nothing.

        Raises:
            JournalError: It is not noted.
        """
        await self._do(lambda: self._file.ratify(seq))

    async def idle(self) -> None:
        """Use a moment without a card: copy the log into the database if there is enough of it.

        Raises:
            JournalError: The disk is full or fails; the log keeps everything.
        """
        if self._file.wal_pages >= self._checkpoint_pages:
            await self._do(self._file.checkpoint)

    async def prune(self, before_seq: int, before_ms: int, horizon_seq: int) -> int:
        """Drop what nobody needs any more, in batches between which taps are served.

        The entries that remain have no gap, and the last one always remains, so that the next can link to it.

        Args:
            before_seq: Entries below this one are acknowledged by the back office; the others stay.
            before_ms: Entries and uses from this wall time on stay, in milliseconds (retention; longer than any
                pass-back window).
            horizon_seq: Uses above this one are not yet in the ticket list's figures; they stay.

        Returns:
            How many rows were dropped.

        Raises:
            JournalError: The rest was not dropped.
        """
        dropped = 0
        while batch := await self._do(lambda: self._file.prune(before_seq, before_ms, horizon_seq)):
            dropped += batch
        return dropped

    async def close(self) -> None:
        """Finish the jobs that wait and close the database; harmless when closed already."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._worker.run(self._file.close)
        finally:
            self._worker.join()

    async def _do(self, job: Callable[[], _T]) -> _T:
        if self._closed:
            raise JournalError(self._path, "it is closed", "open it again")
        return await self._worker.run(job)

    def _copy_overdue_log(self) -> None:
        # A disk that is full or fails shows at the next tap, which says so; until then the log keeps everything.
        with suppress(JournalError):
            self._file.checkpoint()
