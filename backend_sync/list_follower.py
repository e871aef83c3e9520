"""A device's lists, followed over MQTT: the catalogue's timestamp and the changes of lists, as they come.

What is sent is small; what it names is read by name (`backend_sync.retained`). The work is done in a thread of its own,
so that neither a long download nor a large list holds up the journal. Losing the link in the middle loses nothing that
was brought already.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

import msgpack
import msgspec
import structlog

from backend_sync import wire
from backend_sync.catalogue.errors import Refusal
from backend_sync.catalogue.fetching import OBJECTS
from backend_sync.catalogue.roles import TIMESTAMP
from backend_sync.change_follower import AnyFollower, Step
from backend_sync.list_installer import CATALOGUE, ListInstaller
from backend_sync.mqtt import LinkLost, Message
from backend_sync.retained import NotThere, RetainedReader, Subscriptions
from backend_sync.wire import ChangeTopic, ListState
from validator.lists.changes_file import MAX_CHANGES
from validator.lists.directory import version_in_force
from validator.lists.manifest import ListKind

log = structlog.get_logger("uplink")

_TIMESTAMP_FILE: Final = f"{TIMESTAMP}.json"
_REASON_CHARS: Final = 200
_WAITING_BYTES: Final = 8 * 1024 * 1024
"""Of changes that came and were not looked at yet; whoever is behind by more catches up instead."""

_Sealed = Annotated[list[bytes], msgspec.Meta(max_length=4 * MAX_CHANGES)]
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class ListFollower:
    """Follows one device's lists, session after session.

    Attributes:
        installer: Brings lists.
        changes: Lays changes over lists, by kind.
        now_s: Tells the time, seconds since 1970 UTC.
        answer_s: Seconds to wait for what a broker keeps, before it is said that there is nothing.
        object_s: The same for pieces of lists, which are there, and may come over a slow line.
        retry_s: Seconds after which what could not be had is tried again.
        progress: Called whenever something moved.
        told: Set when there is news for the back office.
    """

    installer: ListInstaller
    changes: Mapping[ListKind, AnyFollower]
    now_s: Callable[[], int]
    answer_s: float = 3.0
    object_s: float = 60.0
    retry_s: float = 60.0
    progress: Callable[[], None] = lambda: None
    told: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: RetainedReader | None = None
    _timestamp: bytes | None = None
    _stamped: bool = False
    _waiting: deque[tuple[ListKind, bytes]] = field(default_factory=deque)
    _behind: set[ListKind] = field(default_factory=set)
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)
    _pending: "Future[bytes] | None" = None
    _loop: asyncio.AbstractEventLoop | None = None
    _gone: bool = True

    async def run(self, link: Subscriptions) -> None:
        """Follow over one connection until it is lost, or this is cancelled.

        Raises:
            LinkLost: The broker went away.
        """
        region = self.installer.home.region
        self._reader, self._gone = RetainedReader(link, self.answer_s), False
        self._loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="lists")
        try:
            for kind, follower in self.changes.items():
                await self._in(thread, follower.follow)
                await link.subscribe(wire.list_change(region, kind, "next"))
            await link.subscribe(wire.list_metadata(region, _TIMESTAMP_FILE))
            for kind in self.changes:
                await self._catch_up(thread, kind)
            while True:
                await self._work(thread)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.retry_s if self.installer.unfinished else None):
                        await self._stirred.wait()
                self._stamped |= not self._stirred.is_set()
                self._stirred.clear()
        finally:
            self._gone = True
            if self._pending is not None:
                self._pending.cancel()
            await asyncio.to_thread(thread.shutdown)

    def take(self, message: Message) -> bool:
        """Take a message that was received; whether it was about lists."""
        region = self.installer.home.region
        kind = next((each for each in self.changes if message.topic == wire.list_change(region, each, "next")), None)
        if kind is not None:
            self._waiting.append((kind, message.payload))
            waiting = list(self._waiting)  # the lists' thread takes some away meanwhile
            if sum(len(sealed) for _, sealed in waiting) > _WAITING_BYTES:
                self._behind.update(each for each, _ in waiting)
                self._waiting.clear()
        elif message.topic == wire.list_metadata(region, _TIMESTAMP_FILE):
            self._timestamp, self._stamped = message.payload, bool(message.payload)
        else:
            return self._reader is not None and self._reader.take(message)
        self._stirred.set()
        return True

    def states(self) -> dict[str, ListState]:
        """Return what the back office is told of each list, and of the catalogue itself."""
        states: dict[str, ListState] = {}
        for kind in ListKind:
            version = version_in_force(self.installer.home.lists, kind) or 0
            refused = self.installer.refused.get(kind)
            follower = self.changes.get(kind)
            why = "" if follower is None else follower.refused
            if version or refused is not None:
                states[kind.value] = ListState(
                    version=version,
                    change=0 if follower is None else follower.number,
                    # What only could not be had is no vote against a list.
                    refused_version=0 if refused is None or refused.transient else refused.version,
                    reason=(why if refused is None else refused.reason)[:_REASON_CHARS],
                )
        of_itself = self.installer.refused.get(CATALOGUE)
        catalogue = self.installer.catalogue
        if of_itself is not None or catalogue is not None:
            states[CATALOGUE] = ListState(
                version=0 if catalogue is None else catalogue.versions[TIMESTAMP],
                change=0,
                reason="" if of_itself is None else of_itself.reason[:_REASON_CHARS],
            )
        return states

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        """Take what came: changes first, since they are urgent and small."""
        before = [each.refused for each in self.changes.values()]
        await self._in(thread, self._take_changes)
        if self._stamped:
            self._stamped = False
            refused_before = dict(self.installer.refused)
            installed = await self._in(thread, self._refresh)
            for kind in self.changes.keys() & installed:
                await self._in(thread, self.changes[kind].follow)
                self._behind.add(kind)
            if installed or self.installer.refused != refused_before:
                self.told.set()
        while self._behind:
            await self._catch_up(thread, self._behind.pop())
        self.progress()
        if [each.refused for each in self.changes.values()] != before:
            self.told.set()

    def _take_changes(self) -> None:
        """Lay over what came, in the lists' thread; between two pieces of a download as well."""
        while self._waiting:
            kind, sealed = self._waiting.popleft()
            if self.changes[kind].take(sealed) is Step.GAP:
                self._behind.add(kind)

    async def _catch_up(self, thread: ThreadPoolExecutor, kind: ListKind) -> None:
        """Read what was left for those who missed something, if there is a list that it belongs to."""
        follower = self.changes[kind]
        if not follower.version:
            return
        cumulative, since, before = await asyncio.gather(
            self._kept(kind, "cumulative"), self._kept(kind, "since"), self._kept(kind, "before")
        )
        try:
            kept = [*_several(before), *([] if cumulative is None else [cumulative]), *_several(since)]
        except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
            log.warning("changes.unreadable", list=kind.value, why=str(error))
            return
        if kept:
            await self._in(thread, lambda: follower.catch_up(kept))

    async def _kept(self, kind: ListKind, which: ChangeTopic) -> bytes | None:
        assert self._reader is not None
        try:
            return await self._reader.read(wire.list_change(self.installer.home.region, kind, which))
        except NotThere:
            return None

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)

    def _refresh(self) -> list[ListKind]:
        return self.installer.refresh(self._fetch, self.now_s())

    def _fetch(self, name: str, max_bytes: int) -> Iterable[bytes]:
        """Ask the broker, from the thread; the timestamp was sent already."""
        if name == _TIMESTAMP_FILE:
            if not self._timestamp:
                raise FileNotFoundError(name)
            return [self._timestamp[: max_bytes + 1]]
        region = self.installer.home.region
        kind, _, rest = name.partition("/")
        self.progress()
        self._take_changes()
        if kind == OBJECTS:
            return [self._read(wire.list_object(region, bytes.fromhex(rest)), self.object_s)]
        return [self._read(wire.list_metadata(region, name), self.answer_s)]

    def _read(self, topic: str, answer_s: float) -> bytes:
        if self._gone or self._reader is None:
            raise ConnectionError(f"{topic}: {Refusal.NOT_REACHED}: the link was lost")
        assert self._loop is not None
        self._pending = asyncio.run_coroutine_threadsafe(self._reader.read(topic, answer_s), self._loop)
        try:
            return self._pending.result()
        except NotThere as error:
            raise FileNotFoundError(str(error)) from None
        except (LinkLost, CancelledError) as error:
            raise ConnectionError(f"{topic}: the link was lost") from error


def _several(payload: bytes | None) -> list[bytes]:
    return [] if payload is None else msgspec.convert(msgpack.unpackb(payload), _Sealed, builtin_types=(bytes,))
