"""``publish announce``: what was published stands at the broker, gates hear who was revoked, and what was sold.

What to tell them is decided by `backend_sync.announcement`, what there is to tell by `backend_sync.ledger_news`, how a
list spreads by `backend_sync.wave_rule`, what has to come and go at the broker by `backend_sync.shelf`. Here are the
ledger's thread, the catalogue's, and the connection. A change is on the disk before it is sent, so that a process that
dies in between goes on where it was; changes wait neither for a list that is being brought nor for one that is being
signed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import structlog

from backend_sync import shelf, wire
from backend_sync.announced_lists import AnnouncedLists, AnyLists
from backend_sync.announcement import Rhythm, standing
from backend_sync.catalogue.fetching import OBJECTS
from backend_sync.catalogue.repository import METADATA
from backend_sync.catalogue.roles import HOUR_S, TIMESTAMP
from backend_sync.cataloguing import InForce, ListCatalogue
from backend_sync.ledger import Ledger, LedgerMissing, LedgerUnavailable
from backend_sync.ledger_news import Revoked, Sold
from backend_sync.mqtt import Broker, Link, LinkLost, Message, connect, full_jitter
from backend_sync.publish_errors import PublishError
from backend_sync.retained import NotThere, RetainedReader
from backend_sync.shelf import Register
from backend_sync.throttle import Complaints, first_cause
from backend_sync.wave_rule import Verdict, Wave, WaveRule, count_votes, judge
from backend_sync.wire import ListState, Reported, WireError
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind

SALES: Final = Rhythm(fresh_s=None, burst=1, refill_s=60)
"""Sales are gathered for a minute. A ticket list stays as old as its horizons are, whatever is told since."""
CHANGES: Final = "changes"
CARRYING: Final = "carrying"

_TIMESTAMP: Final = f"{TIMESTAMP}.json"
_TICK_S: Final = 1.0
_STAMP_AGAIN_S: Final = 60.0
_LOG = structlog.get_logger("announce")


@dataclass(frozen=True, kw_only=True)
class AnnounceOptions:
    """How one announcing process runs. Times are seconds.

    Attributes:
        broker: The broker.
        identifier: Client id.
        catalogue: The catalogue.
        lists: Directory of the published lists; changes are kept in it.
        ledger: URL of the ledger.
        devices: Whose reports count.
        now_s: Wall clock, whole seconds since 1970 UTC.
        rhythm: When changes of the deny list are made.
        sales: When changes of the ticket list are made.
        rule: How fast lists spread.
        poll: How often to look whether anybody was revoked, or anything sold.
        stamp_every: How often to sign a timestamp.
        bytes_per_s: How fast to bring the catalogue's files to the broker at most.
        register: How long to wait for the register at the broker.
        reconnect: Bound of the first wait before connecting again.
        reconnect_max: Bound of any such wait.
        progress: Called with `CHANGES` whenever the ledger was looked at, with `CARRYING` whenever the broker's side
            moved: the watchdog's food.
        brought: Called with how many files of how many are brought, for those who show it.
        rng: Source of jitter.
    """

    broker: Broker
    identifier: str
    catalogue: ListCatalogue
    lists: Path
    ledger: str
    devices: frozenset[str]
    now_s: Callable[[], int]
    rhythm: Rhythm = field(default_factory=Rhythm)
    sales: Rhythm = SALES
    rule: WaveRule = field(default_factory=WaveRule)
    poll: float = 0.5
    stamp_every: float = HOUR_S
    bytes_per_s: float = 8 * 1024 * 1024
    register: float = 3.0
    reconnect: float = 1.0
    reconnect_max: float = 30.0
    progress: Callable[[str], None] = lambda _: None
    brought: Callable[[int, int], None] = lambda _done, _of: None
    rng: Random = field(default_factory=Random)


async def run(options: AnnounceOptions) -> None:
    """Announce until cancelled.

    Raises:
        LedgerError: The ledger's file is no ledger.
        SchemaTooNew: A later version of this program wrote the ledger.
        InputMissing: A key that signs changes, of the deny list or of tickets, is not here.
    """
    with (
        ThreadPoolExecutor(1, thread_name_prefix="ledger") as ledger,
        ThreadPoolExecutor(1, thread_name_prefix="catalogue") as catalogue,
    ):
        announcer = _Announcer(options, ledger, catalogue)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(announcer.watch_ledger())
                tasks.create_task(announcer.keep_catalogue())
                tasks.create_task(announcer.carry())
        finally:
            ledger.submit(announcer.close).result()


@dataclass(frozen=True, slots=True)
class _Files:
    """The catalogue's files as they are now."""

    timestamp: bytes = b""
    names: frozenset[str] = frozenset()


class _Announcer:
    def __init__(self, options: AnnounceOptions, ledger: ThreadPoolExecutor, catalogue: ThreadPoolExecutor) -> None:
        self._options = options
        self._ledger_thread, self._catalogue_thread = ledger, catalogue
        self._ledger: Ledger | None = None
        self._told: tuple[AnyLists, ...] = (
            AnnouncedLists(Revoked(), options.lists, self._opened, options.catalogue, options.rhythm),
            AnnouncedLists(Sold(), options.lists, self._opened, options.catalogue, options.sales),
        )
        self._files = _Files()
        self._in_force = InForce(options.catalogue)
        self._stamp_at = 0.0
        self._reports: dict[str, Mapping[str, ListState]] = {}
        self._waves: dict[ListKind, Wave] = {}
        self._refused: dict[ListKind, frozenset[str]] = {}
        self._fresh: list[tuple[ListKind, bytes]] = []
        self._changed, self._filed = asyncio.Event(), asyncio.Event()
        self._complain = Complaints(_LOG).warn

    async def watch_ledger(self) -> None:
        """Make changes as they are due."""
        while True:
            for told in self._told:
                await self._look_at(told)
            self._options.progress(CHANGES)
            await asyncio.sleep(self._options.poll)

    async def _look_at(self, told: AnyLists) -> None:
        """Make the changes of one kind of list; whatever is wrong with one kind holds up no other."""
        loop, kind = asyncio.get_running_loop(), told.kind
        try:
            made = await loop.run_in_executor(self._ledger_thread, told.look, self._options.now_s())
        except (LedgerMissing, LedgerUnavailable, PublishError, ListError) as error:
            self._complain(f"ledger-{kind}", "no change of a list is made", list=kind.value, why=str(error))
            return
        if made.changes:
            self._fresh += [(kind, each) for each in made.changes]
            _LOG.info("announced", list=kind.value, changes=len(made.changes), cards=made.moved)
        if made.changes or made.other_lists:
            self._changed.set()

    def close(self) -> None:
        """Close the ledger, in its thread."""
        if self._ledger is not None:
            self._ledger.close()

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.open(self._options.ledger)
        return self._ledger

    async def keep_catalogue(self) -> None:
        """See what was published, sign the timestamp in time, and let lists spread."""
        loop, options = asyncio.get_running_loop(), self._options
        while True:
            try:
                files = await loop.run_in_executor(self._catalogue_thread, self._look)
                if files != self._files:
                    self._files = files
                    self._filed.set()
                if files.timestamp:
                    await self._stamp()
                    await self._spread()
            except (PublishError, OSError) as error:
                self._complain("catalogue", "the catalogue is not kept up", why=str(error))
            await asyncio.sleep(options.poll)

    def _look(self) -> _Files:
        """Return the catalogue's files: what a timestamp names is there before it."""
        folder = self._options.catalogue.folder
        try:
            timestamp = (folder / METADATA / _TIMESTAMP).read_bytes()
        except FileNotFoundError:
            return _Files()
        if timestamp == self._files.timestamp:
            return self._files
        metadata = (path.name for path in (folder / METADATA).glob("[0-9]*.json"))
        objects = (f"{OBJECTS}/{path.name}" for path in (folder / OBJECTS).glob("[0-9a-f]*"))
        return _Files(timestamp, frozenset((*metadata, *objects)))

    async def _stamp(self) -> None:
        """Sign a timestamp when the last one is an hour old; after a start at once, since its age is not known."""
        options, now = self._options, self._now()
        if now < self._stamp_at:
            return
        self._stamp_at = now + _STAMP_AGAIN_S
        stamp = options.catalogue.stamp
        await asyncio.get_running_loop().run_in_executor(self._catalogue_thread, stamp, options.now_s())
        self._stamp_at = now + options.stamp_every

    async def _spread(self) -> None:
        loop, options = asyncio.get_running_loop(), self._options
        in_force = await loop.run_in_executor(self._catalogue_thread, self._in_force.look)
        for kind, listed in in_force.items():
            states = {device: lists[kind] for device, lists in self._reports.items() if kind in lists}
            votes = count_votes(listed.version, states)
            wave, refused = self._waves.get(kind), frozenset(votes.refused)
            stands = wave is not None and (wave.version, wave.percent) == (listed.version, listed.percent)
            if wave is None or not stands or refused - self._refused[kind]:
                wave = Wave(kind, listed.version, listed.percent, self._now())
            self._waves[kind], self._refused[kind] = wave, refused
            verdict, percent = judge(wave, votes, options.devices, options.rule, self._now())
            if verdict is Verdict.WAIT:
                continue
            set_wave = options.catalogue.set_wave
            await loop.run_in_executor(self._catalogue_thread, set_wave, kind, percent, options.now_s(), listed.version)
            facts = {"list": kind.value, "version": listed.version, "on": len(votes.on), "refused": len(refused)}
            if verdict is Verdict.STOP:
                why = next(iter(votes.refused.values()))
                _LOG.error("a wave was stopped: devices refuse the list; see `publish status`", why=why, **facts)
            else:
                _LOG.info("a wave goes on", percent=percent, **facts)

    async def carry(self) -> None:
        """Keep a connection, and what belongs there at the broker."""
        options, attempt = self._options, 0
        while True:
            began = self._now()
            try:
                await self._session()
            except* LinkLost as lost:
                self._complain("link", "the broker is out of reach", why=first_cause(lost))
            attempt = 0 if self._now() - began > options.reconnect_max else attempt + 1
            until = self._now() + full_jitter(options.rng, attempt, options.reconnect, options.reconnect_max)
            while (left := until - self._now()) > 0:
                options.progress(CARRYING)
                await asyncio.sleep(min(left, _TICK_S))

    async def _session(self) -> None:
        options = self._options
        async with connect(options.broker, options.identifier, clean_session=True) as link:
            reader = RetainedReader(link, options.register)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive(link, reader))
                tasks.create_task(self._send_changes(link))
                tasks.create_task(self._keep_shelf(link, reader))

    async def _receive(self, link: Link, reader: RetainedReader) -> None:
        await link.subscribe(wire.REPORTED_FILTER)
        while True:
            message = await link.receive()
            if not reader.take(message):
                self._hear(message)

    def _hear(self, message: Message) -> None:
        """Take a device's last word, if it is that device's and one of ours."""
        try:
            device = wire.device_of_reported(message.topic)
            reported = wire.decode(Reported, message.payload)
        except WireError as error:
            self._complain("report", "a report that cannot be read is ignored", why=str(error))
            return
        if device == reported.device and device in self._options.devices:
            self._reports[device] = reported.lists

    async def _send_changes(self, link: Link) -> None:
        """Tell what is new, and leave what is needed by those who join; on a new connection all of that."""
        left: dict[tuple[ListKind, str], bytes] = {}
        self._fresh = [(told.kind, each) for told in self._told for each in told.last_changes()]
        while True:
            self._changed.clear()
            fresh, self._fresh = self._fresh, []
            region = self._options.catalogue.region
            for told in self._told:
                for which, payload in (standing(told.chains) if told.chains else {}).items():
                    if left.get((told.kind, which)) != payload:
                        await link.publish(wire.list_change(region, told.kind, which), payload, retain=True)
                        left[told.kind, which] = payload
            for kind, sealed in fresh:  # whoever finds a gap by one of these finds it filled above
                await link.publish(wire.list_change(region, kind, "next"), sealed)
            await self._changed.wait()

    async def _keep_shelf(self, link: Link, reader: RetainedReader) -> None:
        """Have the catalogue's files at the broker: objects, metadata, and the timestamp after what it names."""
        region, stamped = self._options.catalogue.region, b""
        topic = shelf.topic_of(region, shelf.REGISTER)
        try:
            register = shelf.decode_register(await reader.read(topic))
        except NotThere:
            register = Register()
        while True:
            self._filed.clear()
            files = self._files
            missing = register.missing(files.names)
            if files.timestamp and (missing or stamped != files.timestamp):
                moving = register.before_moving(files.names)
                if moving != register:
                    register = moving
                    await link.publish(topic, register.encode(), retain=True)
                if not await self._bring(link, missing):
                    continue  # as a rule, it was removed because a newer catalogue is in force
                await link.publish(shelf.topic_of(region, _TIMESTAMP), files.timestamp, retain=True)
                stamped = files.timestamp
                for name in register.surplus(files.names):
                    await link.publish(shelf.topic_of(region, name), b"", retain=True)
                    self._options.progress(CARRYING)
                if register != Register(files.names):
                    register = Register(files.names)
                    await link.publish(topic, register.encode(), retain=True)
            self._options.progress(CARRYING)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._filed.wait()

    async def _bring(self, link: Link, names: list[str]) -> bool:
        """Bring files; whether all of them were still there."""
        options = self._options
        for done, name in enumerate(names, 1):
            home = options.catalogue.folder
            path = home / name if name.startswith(f"{OBJECTS}/") else home / METADATA / name
            try:
                payload = path.read_bytes()
            except FileNotFoundError:
                self._complain("files", "a file of the catalogue is not there", path=str(path))
                await asyncio.sleep(_TICK_S)
                return False
            await link.publish(shelf.topic_of(options.catalogue.region, name), payload, retain=True)
            options.progress(CARRYING)
            options.brought(done, len(names))
            await asyncio.sleep(len(payload) / options.bytes_per_s)
        return True

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
