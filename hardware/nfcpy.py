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
from typing import TypeVar

import nfc.clf

from hardware import isodep
from hardware.isodep_initiator import Initiator
from hardware.medium import Medium, MediumLost, MediumTimeout, ReaderGone, Target, Technology, Transceive
from hardware.nfcpy_radio import Radio
from hardware.worker import Worker

#: From one look for both technologies to the next, when nobody is there and the reader answered at once.
POLL_PERIOD_S = 0.006
PRESENCE_PERIOD_S = 0.025
PRESENCE_TRIES = 2
#: A target that cannot be activated so often in a row is handed over as a medium that is lost.
MAX_FAILED_ACTIVATIONS = 5
CLASS_NOT_SUPPORTED = b"\x6e\x00"
RANDOM_UID_PREFIX = 0x08

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

    def _find(self, stop: threading.Event) -> "_Medium | None":
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

    def _look(self, technology: Technology, stop: threading.Event) -> "_Medium | None":
        started_s, before_s = time.perf_counter(), self._radio.waited_s
        found = self._radio.sense(technology)
        if found is None:
            self._failures[technology] = 0
            return None
        seen = _describe(technology, found)
        medium: _Medium
        try:
            if _speaks_iso_dep(technology, found):
                link = self._radio.activate(technology, found)
                self._radio.rest(link.guard_s, stop)
                target = Target(technology, seen.uid, link.historical)
                medium = _IsoDepMedium(self, self._radio, target, Initiator(link, self._radio.max_frame))
            else:
                medium = _ForeignMedium(self, self._radio, seen, CLASS_NOT_SUPPORTED)
        except (isodep.IsoDepError, MediumLost) as error:
            self._failures[technology] += 1
            if self._failures[technology] < MAX_FAILED_ACTIVATIONS:
                _log.debug("%s: not activated: %s", self._name, error)
                return None
            medium = _ForeignMedium(self, self._radio, seen, None)
        self._failures[technology] = 0
        medium.found_s = started_s
        medium.card_s = self._radio.waited_s - before_s
        return medium


class _Medium:
    """What every medium of this driver has: a target, and its presence found out by looking again."""

    def __init__(self, reader: NfcpyReader, radio: Radio, target: Target) -> None:
        self._reader = reader
        self._radio = radio
        self._target = target
        self.found_s = 0.0
        self.card_s = 0.0

    @property
    def target(self) -> Target:
        """What anticollision found."""
        return self._target

    async def converse(self, dialogue: Callable[[Transceive], _T]) -> _T:
        """Run a whole dialogue in the reader's own thread, and return or raise what it does."""
        return await self._reader.call(lambda stop: dialogue(lambda apdu: self._transceive(bytes(apdu), stop)))

    async def present(self) -> bool:
        """Whether the same medium is still there."""
        return await self._reader.call(lambda _stop: self._probe())

    async def removed(self) -> None:
        """Return when the medium has left, or another has taken its place."""
        await self._reader.call(self._watch)

    def _transceive(self, apdu: bytes, stop: threading.Event) -> bytes:
        raise NotImplementedError

    def _watch(self, stop: threading.Event) -> None:
        while not stop.is_set() and self._lingers():
            stop.wait(PRESENCE_PERIOD_S)

    def _lingers(self) -> bool:
        return self._probe()

    def _probe(self) -> bool:
        found = self._radio.sense(self._target.technology)
        if found is None:
            return False
        return _alike(self._target, _describe(self._target.technology, found))


class _ForeignMedium(_Medium):
    """A medium without APDUs, which refuses them all; or one that never got as far, which is lost from the start."""

    def __init__(self, reader: NfcpyReader, radio: Radio, target: Target, answer: bytes | None) -> None:
        super().__init__(reader, radio, target)
        self._answer = answer

    def _transceive(self, apdu: bytes, stop: threading.Event) -> bytes:  # noqa: ARG002 - it says no to everything
        if self._answer is None:
            raise MediumLost(self._reader.name, "the medium answers the poll and cannot be activated")
        return self._answer


class _IsoDepMedium(_Medium):
    """An activated medium."""

    def __init__(self, reader: NfcpyReader, radio: Radio, target: Target, initiator: Initiator) -> None:
        super().__init__(reader, radio, target)
        self._initiator = initiator
        self._activation = radio.activations
        self._lost = False

    def _transceive(self, apdu: bytes, stop: threading.Event) -> bytes:
        if self._lost or self._activation != self._radio.activations:
            raise MediumLost(self._reader.name, "the medium was lost before this command")
        self._lost = True
        before_s = self._radio.waited_s
        try:
            response = self._radio.talk(self._initiator.exchange(apdu), stop)
        finally:
            self.card_s += self._radio.waited_s - before_s
        if len(response) < 2:  # a status word
            raise MediumLost(self._reader.name, f"a response of {len(response)} bytes has no status word")
        self._lost = False
        return response

    def _probe(self) -> bool:
        """R(NAK) while the activation lasts (ISO/IEC 14443-4 §7.5.6.2), a fresh look after an error ended it."""
        if self._lost:
            return super()._probe()
        if self._activation != self._radio.activations:
            return False
        self._lost = not self._answers(PRESENCE_TRIES, patient=True)
        return not self._lost

    def _lingers(self) -> bool:
        """One hasty R(NAK), and a fresh look to be sure: nobody needs the activation after this."""
        if not self._lost and self._activation == self._radio.activations:
            self._lost = not self._answers(1, patient=False)
            if not self._lost:
                return True
        return self._probe()

    def _answers(self, tries: int, *, patient: bool) -> bool:
        self._radio.polls += 1
        try:
            return self._radio.talk(self._initiator.presence(tries), threading.Event(), patient=patient)
        except (MediumLost, MediumTimeout):
            return False


def _speaks_iso_dep(technology: Technology, found: nfc.clf.RemoteTarget) -> bool:
    """Whether SAK bit 6 (type A) or the protocol type (type B) promises ISO/IEC 14443-4."""
    if technology is Technology.TYPE_A:
        return bool(found.sel_res and found.sel_res[0] & isodep.ISO_DEP_SAK_BIT)
    return isodep.Atqb.from_bytes(bytes(found.sensb_res or b"")).iso_dep


def _describe(technology: Technology, found: nfc.clf.RemoteTarget) -> Target:
    """Say what anticollision found; a type 1 tag has its UID in the answer to RID."""
    if technology is Technology.TYPE_A:
        return Target(technology, bytes(found.sdd_res or (found.rid_res or b"")[2:6]), b"")
    atqb = bytes(found.sensb_res or b"")
    return Target(technology, atqb[1:5], atqb[5:9])


def _alike(one: Target, other: Target) -> bool:
    """Whether two looks saw the same medium, although a random identifier changes whenever the field drops."""
    if one.technology is Technology.TYPE_B:
        return one.historical == other.historical
    both_random = all(len(uid) == 4 and uid[0] == RANDOM_UID_PREFIX for uid in (one.uid, other.uid))
    return both_random or one.uid == other.uid
