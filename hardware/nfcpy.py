"""Driver for readers that nfcpy knows: PN532 on a serial line, ACR122U, RC-S380, and nfcpy's simulated reader over UDP.

nfcpy does the radio: looking for a card and carrying one frame there and back. The blocks are ours, and so are the poll
loop and the errors; `README.md` beside this file lists why. nfcpy blocks, so one thread per reader owns it. A thread
cannot be cancelled: it looks at a flag between short slices.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from hardware import isodep
from hardware.isodep_initiator import Initiator
from hardware.medium import Greeting, Medium, MediumLost, Met, ReaderGone, Target, Technology
from hardware.nfcpy_media import Crowd, ForeignMedium, FoundMedium, IsoDepMedium, MuteMedium, TagMedium
from hardware.nfcpy_radio import Radio, describe, speaks_iso_dep
from hardware.worker import Worker

#: From one look for both technologies to the next, when nobody is there and the reader answered at once.
POLL_PERIOD_S = 0.006
#: A target that cannot be activated so often in a row is handed over as a medium that is lost.
MAX_FAILED_ACTIVATIONS = 5
#: So many looks in a row that heard somebody and singled out nobody are two cards, and not one that was just coming.
MAX_CLASHES = 3

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class NfcpyReader:
    """One reader that nfcpy drives."""

    def __init__(self, name: str, path: str) -> None:
        """Describe the reader; `open` opens it.

        Args:
            name: The name as configured, for example ``nfcpy:usb``.
            path: nfcpy's own path: ``usb``, ``tty:AMA0:pn532``, ``udp:127.0.0.1:54321``.
        """
        self._name = name
        self._path = path
        self._radio = Radio(name, path)
        self._worker: Worker | None = None
        self._running: set[threading.Event] = set()
        self._order = [Technology.TYPE_A, Technology.TYPE_B]
        self._failures = dict.fromkeys(self._order, 0)
        self._clashes = dict.fromkeys(self._order, 0)

    @property
    def name(self) -> str:
        """The reader's name as configured."""
        return self._name

    @property
    def polls(self) -> int:
        """How often the field was looked at, presence checks included."""
        return self._radio.polls

    async def open(self) -> None:
        """Open the device, anew if it is open.

        Raises:
            ReaderGone: It is not there, busy, not permitted, or the path means nothing to nfcpy.
        """
        await self.close()
        self._worker = Worker(self._name)
        try:
            await self.call(lambda _stop: self._radio.open())
        except BaseException:
            await self.close()
            raise

    async def wait(self) -> Medium:
        """Return the next activated medium.

        Raises:
            ReaderGone: The reader failed, or was closed meanwhile.
        """
        medium = await self.call(self._find)
        if medium is None:
            raise ReaderGone(self._name, "closed while waiting for a medium")
        return medium

    async def meet(self, greeting: Greeting[_T]) -> Met[_T]:
        """Return the next activated medium, to which `greeting` is speaking already.

        Raises:
            ReaderGone: The reader failed, or was closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[FoundMedium] = loop.create_future()

        def serve(stop: threading.Event) -> _T:
            medium = self._find(stop)
            if medium is None:
                raise ReaderGone(self._name, "closed while waiting for a medium")
            loop.call_soon_threadsafe(_tell, found, medium)
            return medium.hold(partial(greeting, medium), stop)

        outcome = asyncio.create_task(self.call(serve))
        try:
            await asyncio.wait((found, outcome), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            outcome.cancel()
            raise
        if not found.done():
            await outcome
        return Met(found.result(), outcome)

    async def close(self) -> None:
        """Release the device and its thread; harmless when closed already."""
        if self._worker is None:
            return
        for stop in self._running:
            stop.set()
        try:
            await self.call(lambda _stop: self._radio.close())
        finally:
            self._worker.join()
            self._worker = None

    async def call(self, work: Callable[[threading.Event], _T]) -> _T:
        """Run `work` in the reader's thread; it is handed a flag that is set when nobody wants its result any more.

        Raises:
            ReaderGone: The reader is not open.
        """
        if self._worker is None:
            raise ReaderGone(self._name, "not open")
        stop = threading.Event()
        self._running.add(stop)
        try:
            return await self._worker.run(lambda: work(stop))
        except asyncio.CancelledError:
            stop.set()
            raise
        finally:
            self._running.discard(stop)

    def _find(self, stop: threading.Event) -> FoundMedium | None:
        """Look for both technologies in turn, the first one changing, until one is found."""
        while True:
            started = time.perf_counter()
            for technology in self._order:
                if stop.is_set():
                    return None
                medium = self._look(technology, stop)
                if medium is not None:
                    return medium
            self._order.reverse()
            stop.wait(max(0.0, started + POLL_PERIOD_S - time.perf_counter()))

    def _look(self, technology: Technology, stop: threading.Event) -> FoundMedium | None:
        started_s, before_s = time.perf_counter(), self._radio.waited_s
        found = self._radio.sense(technology)
        if found is None:
            self._failures[technology] = 0
            self._clashes[technology] = self._clashes[technology] + 1 if self._radio.clashed else 0
            if self._clashes[technology] < MAX_CLASHES:
                return None
            self._clashes[technology] = 0
            crowd = Crowd(self, self._radio, Target(technology, b"", b""))
            crowd.found_s = started_s
            return crowd
        self._clashes[technology] = 0
        seen = describe(technology, found)
        medium: FoundMedium
        try:
            if speaks_iso_dep(technology, found):
                link = self._radio.activate(technology, found)
                self._radio.rest(link.guard_s, stop)
                target = Target(technology, seen.uid, link.historical, seen.sak)
                medium = IsoDepMedium(self, self._radio, target, Initiator(link, self._radio.max_frame))
            elif seen.apdus:
                medium = ForeignMedium(self, self._radio, seen)
            else:
                medium = TagMedium(self, self._radio, seen)
        except (isodep.IsoDepError, MediumLost) as error:
            self._failures[technology] += 1
            if self._failures[technology] < MAX_FAILED_ACTIVATIONS:
                _log.debug("%s: not activated: %s", self._name, error)
                return None
            medium = MuteMedium(self, self._radio, replace(seen, apdus=True))
        self._failures[technology] = 0
        medium.found_s = started_s
        medium.card_s = self._radio.waited_s - before_s
        return medium


def _tell(found: "asyncio.Future[FoundMedium]", medium: FoundMedium) -> None:
    if not found.done():  # whoever waited may have been cancelled meanwhile
        found.set_result(medium)
