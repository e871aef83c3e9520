"""The device's way to the back office: its journal past a cursor, over MQTT, for as long as it takes; and its lists.

Losing the link slows nothing at the gate: this process only reads the journal. What to send and when is decided by
`backend_sync.outbox`; here are the connection, the journal's thread and the cursor's file. The cursor moves on the back
office's signed acknowledgement and on nothing else: a broker acknowledges what it has not stored, and even what it
refused.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol, TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backend_sync import wire
from backend_sync.list_follower import ListFollower
from backend_sync.mqtt import Broker, Link, LinkLost, Will, connect, full_jitter
from backend_sync.outbox import AckEffect, Outbox, Pace
from backend_sync.throttle import Complaints, first_cause
from backend_sync.vehicle_position import PositionRelay
from backend_sync.wire import Presence, PresenceState, Reported, TapBatch
from validator.cursor import CursorFile
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader

_GOODBYE_S = 1.0
_LOOK_AGAIN_S = 2.0
_LOG = structlog.get_logger("uplink")

_T = TypeVar("_T")


class Journal(Protocol):
    """What the uplink needs of a journal; `JournalReader` is one. Blocks; used in one thread."""

    @property
    def epoch(self) -> int:
        """Names this life of the journal."""
        ...

    def head(self) -> int:
        """Return the latest sequence number, 0 where there is none."""
        ...

    def entries_after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the next entries as ``(seq, envelope)``, in order."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, kw_only=True)
class UplinkOptions:
    """How one device's uplink runs. Times are seconds.

    Attributes:
        broker: The broker.
        device: Device id; the client id, too.
        journal: The journal's database.
        cursor: The cursor's file; this process is its only writer.
        back_office: Keys that may acknowledge, by signer name.
        pace: How eagerly to send.
        poll: How often to look for new entries.
        report: How often to report state.
        cursor_every: How often at most to write the cursor (a lost one costs a resend, a write costs flash).
        reconnect: Bound of the first wait before connecting again.
        reconnect_max: Bound of any such wait.
        versions: Versions to report, by name.
        lists: Follows the device's lists; None where they are brought by hand.
        position: Writes where the vehicle is; None where the gate does not move.
        progress: Called whenever something moved or the journal was looked after: the watchdog's food.
        open_journal: Opens the journal, in the thread that will use it.
        rng: Source of jitter.
    """

    broker: Broker
    device: str
    journal: Path
    cursor: Path
    back_office: Mapping[str, Ed25519PublicKey]
    pace: Pace = field(default_factory=Pace)
    poll: float = 0.25
    report: float = 60.0
    cursor_every: float = 1.0
    reconnect: float = 1.0
    reconnect_max: float = 300.0
    versions: Callable[[], Mapping[str, int]] = dict
    lists: ListFollower | None = None
    position: PositionRelay | None = None
    progress: Callable[[], None] = lambda: None
    open_journal: Callable[[Path], Journal] = JournalReader
    rng: Random = field(default_factory=Random)


async def run(options: UplinkOptions) -> None:
    """Send the journal until cancelled.

    Raises:
        WireError: The device id is not fit to be a topic level.
    """
    wire.check_device(options.device)
    with ThreadPoolExecutor(1, thread_name_prefix="journal") as thread:
        uplink = _Uplink(options, thread)
        try:
            await uplink.run()
        finally:
            thread.submit(uplink.close).result()


class _Uplink:
    def __init__(self, options: UplinkOptions, thread: ThreadPoolExecutor) -> None:
        self._options = options
        self._thread = thread
        self._journal: Journal | None = None
        self._cursor = CursorFile(options.cursor, options.device)
        self._outbox = Outbox(options.pace, options.rng)
        self._followed = False
        self._stored = (0, 0)
        self._stored_at = 0.0
        self._kick = asyncio.Event()
        self._complain = Complaints(_LOG).warn
        self._acknowledged = False

    async def run(self) -> None:
        attempt = 0
        while True:
            self._acknowledged = False
            try:
                await self._until_readable()
                await self._session()
            except* LinkLost as lost:
                self._complain("link", "the broker is out of reach; taps wait in the journal", why=first_cause(lost))
            except* JournalError as unreadable:
                self._complain("journal", "the journal cannot be read", why=first_cause(unreadable))
            self._outbox.link_lost()
            attempt = 0 if self._acknowledged else attempt + 1
            options = self._options
            await self._wait(full_jitter(options.rng, attempt, options.reconnect, options.reconnect_max))

    def close(self) -> None:
        """Keep the cursor and close the journal, in the journal's thread."""
        if self._followed:
            with contextlib.suppress(OSError):
                self._store()
        if self._journal is not None:
            self._journal.close()

    async def _until_readable(self) -> None:
        """Wait for a journal that is not there yet: that it was looked for is progress."""
        while True:
            try:
                await self._look()
            except JournalError as unreadable:
                self._complain("journal", "the journal cannot be read", why=str(unreadable))
            else:
                return
            self._options.progress()
            await asyncio.sleep(min(self._options.reconnect_max, _LOOK_AGAIN_S))

    async def _wait(self, seconds: float) -> None:
        """Wait before connecting again, still following the journal: that is progress, too."""
        until = self._now() + seconds
        while (left := until - self._now()) > 0:
            await asyncio.sleep(min(left, 1.0))
            with contextlib.suppress(JournalError):
                await self._look()
            self._options.progress()

    async def _session(self) -> None:
        device, session = self._options.device, self._options.rng.getrandbits(63)
        topic = wire.presence(device)

        def presence(state: PresenceState) -> bytes:
            return wire.encode(Presence(device=device, state=state, session=session))

        will = Will(topic, presence(PresenceState.LOST))
        async with connect(self._options.broker, device, clean_session=True, will=will) as link:
            await link.subscribe(wire.ack(device))
            if self._options.position is not None:
                await link.subscribe(self._options.position.topic)
            await link.publish(topic, presence(PresenceState.READY), retain=True)
            self._kick.set()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._receive(link))
                    tasks.create_task(self._send(link))
                    tasks.create_task(self._report(link))
                    if self._options.lists is not None:
                        tasks.create_task(self._options.lists.run(link))
            except asyncio.CancelledError:
                with contextlib.suppress(LinkLost, TimeoutError):
                    async with asyncio.timeout(_GOODBYE_S):
                        await link.publish(topic, presence(PresenceState.SLEEPING), retain=True)
                raise

    async def _receive(self, link: Link) -> None:
        lists, position = self._options.lists, self._options.position
        while True:
            message = await link.receive()
            if position is not None and message.topic == position.topic:
                await position.take(message.payload)
                continue
            if lists is not None and lists.take(message):
                continue
            try:
                ack = wire.open_ack(message.payload, self._options.back_office)
            except wire.WireError as error:
                self._complain("ack", "an acknowledgement that cannot be believed is ignored", why=str(error))
                continue
            if (ack.device, ack.epoch) != (self._options.device, self._outbox.epoch):
                self._complain("ack-epoch", "an acknowledgement of another journal is ignored", epoch=ack.epoch)
                continue
            effect = self._outbox.acknowledged(ack.contiguous_up_to, ack.send_rate)
            if effect is AckEffect.BEYOND:
                self._complain(
                    "ack-beyond",
                    "acknowledged entries are not in this journal; was it restored from a copy?",
                    acknowledged=ack.contiguous_up_to,
                    head=self._outbox.head,
                )
            elif effect is AckEffect.MOVED:
                self._acknowledged = True
                self._options.progress()
                self._kick.set()

    async def _send(self, link: Link) -> None:
        while True:
            self._kick.clear()
            await self._look()
            while (due := self._outbox.next(self._now())) is not None:
                if not await self._send_batch(link, *due):
                    break
            await self._keep_cursor()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.poll):
                    await self._kick.wait()

    async def _send_batch(self, link: Link, after: int, count: int) -> bool:
        epoch, entries = await self._of_one_life(lambda journal: journal.entries_after(after, count))
        if not entries or epoch != self._outbox.epoch:
            return False
        last, envelopes = entries[-1][0], self._sendable(entries)
        if not envelopes:
            self._outbox.passed_over(last)
            return True
        batch = TapBatch(device=self._options.device, epoch=epoch, head=max(self._outbox.head, last), entries=envelopes)
        self._outbox.sent(last, len(envelopes), self._now())
        await link.publish(wire.tap_up(self._options.device), wire.encode(batch))
        self._options.progress()
        return True

    def _sendable(self, entries: list[tuple[int, bytes]]) -> list[bytes]:
        """Leave out what was damaged on disk so that no message can carry it: it stays in the journal."""
        damaged = [seq for seq, envelope in entries if not 0 < len(envelope) <= wire.MAX_ENVELOPE_BYTES]
        if damaged:
            self._complain("damaged", "entries of the journal are damaged and cannot be sent", seqs=damaged)
        return [envelope for seq, envelope in entries if seq not in damaged]

    async def _report(self, link: Link) -> None:
        """Report state now and then, and at once when there is news of a list."""
        lists = self._options.lists
        told = asyncio.Event() if lists is None else lists.told
        while True:
            told.clear()
            reported = Reported(
                device=self._options.device,
                epoch=self._outbox.epoch,
                head=self._outbox.head,
                queue=self._outbox.queue,
                versions={
                    name: version
                    for name, version in self._options.versions().items()
                    if 0 <= version <= wire.MAX_INTEGER  # nothing else is a version, whatever a file says
                },
                lists={} if lists is None else lists.states(),
            )
            await link.publish(wire.reported(self._options.device), wire.encode(reported), retain=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.report):
                    await told.wait()

    async def _look(self) -> None:
        """Take note of how far the journal is, and of a new life of it."""
        epoch, head = await self._of_one_life(lambda journal: journal.head())
        if not self._followed or epoch != self._outbox.epoch:
            cursor = await self._in_thread(lambda _: self._load_cursor(epoch))
            if cursor > head:
                _LOG.error("the cursor is ahead of the journal; sending it from the start", cursor=cursor, head=head)
                cursor = 0
            self._outbox.follow(epoch, cursor)
            self._stored = (epoch, cursor)
            self._followed = True
        self._outbox.seen(head, self._now())
        self._options.progress()

    async def _keep_cursor(self) -> None:
        if (self._outbox.epoch, self._outbox.cursor) == self._stored:
            return
        if self._now() < self._stored_at + self._options.cursor_every:
            return
        self._stored_at = self._now()
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store)
        except OSError as error:
            self._complain("cursor", "the cursor cannot be written; a restart will send again", why=error.strerror)

    def _store(self) -> None:
        position = (self._outbox.epoch, self._outbox.cursor)
        if position != self._stored:
            self._cursor.store(*position)
            self._stored = position

    def _load_cursor(self, epoch: int) -> int:
        try:
            return self._cursor.load(epoch)
        except OSError as error:
            _LOG.error("the cursor cannot be read; sending the journal from the start", why=error.strerror)
            return 0

    async def _of_one_life(self, read: Callable[[Journal], _T]) -> tuple[int, _T]:
        """Read from the journal, and say of which epoch: another file may take its place meanwhile."""

        def call(journal: Journal) -> tuple[int, _T]:
            while True:
                epoch, found = journal.epoch, read(journal)
                if journal.epoch == epoch:
                    return epoch, found

        return await self._in_thread(call)

    async def _in_thread(self, work: Callable[[Journal], _T]) -> _T:
        def call() -> _T:
            if self._journal is None:
                self._journal = self._options.open_journal(self._options.journal)
            return work(self._journal)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
