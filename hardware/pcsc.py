"""The driver for PC/SC readers, through pyscard's low-level calls. What it works around stands in hardware/README.md.

PC/SC calls block, so one thread of the reader's own makes them all, in short slices: a task can be cancelled, a thread
cannot. A card is held exclusively and in a transaction from its activation to its removal, since every other program
that probes it changes its state.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from hardware.medium import Greeting, MediumLost, MediumTimeout, Met, ReaderGone, Target, Transceive
from hardware.worker import Worker

if TYPE_CHECKING:
    from hardware.pcsc_slot import Connection, Slot

PREFIX = "pcsc:"

_SLICE_MS = 100
_BUSY_TRIES, _BUSY_PAUSE_S = 40, 0.05
_MUTE_PAUSE_S = 0.25
#: Longer than any waiting time that a reader grants a card (FWI 14 is 4.95 s): past it the driver itself hangs.
_HUNG_S = 10.0
#: A dialogue is many such waits; a station gives up on it much earlier.
_DIALOGUE_S = 60.0

T = TypeVar("T")


class PcscReader:
    """A PC/SC reader, a `hardware.medium.Reader`.

    Args:
        name: ``pcsc:READER NAME``, where READER NAME is a reader's whole name or a beginning that only one has.
    """

    def __init__(self, name: str) -> None:
        self._wanted = name.removeprefix(PREFIX)
        self._name = PREFIX + self._wanted
        self._polls = 0
        self._slot: Slot | None = None
        self._worker: Worker | None = None

    @property
    def name(self) -> str:
        """The reader's name as configured."""
        return self._name

    @property
    def polls(self) -> int:
        """How often the reader was asked for its state."""
        return self._polls

    async def open(self) -> None:
        """Find the reader; after a failure, find it again.

        Raises:
            ReaderGone: pyscard or the PC/SC service is missing, or no reader, or more than one, has that name.
        """
        await self.close()
        try:
            from hardware.pcsc_slot import Slot  # noqa: PLC0415 - pyscard is an extra that only this reader needs
        except ImportError as error:
            what = f"pyscard cannot be imported ({error}): install pilet with its extra `pcsc`, and libpcsclite1"
            raise ReaderGone(self._name, what) from error
        self._worker = Worker(self._name)
        self._slot = slot = Slot(self._name)
        try:
            await self.run(lambda: slot.open(self._wanted))
        except ReaderGone:
            await self.close()
            raise

    async def wait(self) -> "PcscMedium":
        """Return the next activated medium; one that is still there after an earlier tap counts.

        Raises:
            ReaderGone: The reader or the service failed, or another program keeps the card for itself.
        """
        slot = self._opened()
        await self.run(slot.release)
        busy = 0
        while True:
            self._polls += 1
            if not await self.run(slot.look):
                busy = 0
                continue
            found_s = time.perf_counter()
            try:
                card = await self.run(slot.connect)
            except (MediumLost, MediumTimeout):
                # Held badly, or gone already. It may be read at the next try, so look again, but not in a tight loop.
                await asyncio.sleep(_MUTE_PAUSE_S)
                continue
            if card is not None:
                return PcscMedium(self, slot, card, found_s)
            busy += 1
            if busy >= _BUSY_TRIES:
                what = "another program keeps the card: stop it, or keep it from this reader"
                raise ReaderGone(self._name, what)
            await asyncio.sleep(_BUSY_PAUSE_S)

    async def meet(self, greeting: Greeting[T]) -> Met[T]:
        """Return the next activated medium, to which `greeting` is about to speak: here it takes a hop.

        Raises:
            ReaderGone: The reader or the service failed, or another program keeps the card for itself.
        """
        medium = await self.wait()
        return Met(medium, asyncio.create_task(medium.converse(partial(greeting, medium))))

    async def close(self) -> None:
        """Let the card, the service and the thread go; harmless when closed already."""
        slot, self._slot = self._slot, None
        worker, self._worker = self._worker, None
        if worker is None or slot is None:
            return
        # A thread that hangs is left behind, and ends when it comes back.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HUNG_S):
                await worker.run(slot.close)
        worker.end()

    async def run(self, job: Callable[[], T], limit_s: float = _HUNG_S) -> T:
        """Run a blocking call of this reader in its thread; past its limit it hangs.

        Raises:
            ReaderGone: The reader is closed, or the call hangs; then the thread is left behind for good.
        """
        worker = self._worker
        if worker is None:
            raise ReaderGone(self._name, "is closed: open it first")
        try:
            # Not wait_for: on Python 3.11 it loses a cancellation that arrives together with the result.
            async with asyncio.timeout(limit_s):
                return await worker.run(job)
        except TimeoutError as error:
            if self._worker is worker and self._slot is not None:
                worker.later(self._slot.close)
                worker.end()
                self._worker = self._slot = None
            raise ReaderGone(self._name, f"did not answer for {limit_s:.0f} s: re-plug it") from error

    def polled(self) -> None:
        """Count one look at the field that a medium took."""
        self._polls += 1

    def _opened(self) -> "Slot":
        if self._slot is None:
            raise ReaderGone(self._name, "is closed: open it first")
        return self._slot


class PcscMedium:
    """A card in a PC/SC reader, a `hardware.medium.Medium`."""

    def __init__(self, reader: PcscReader, slot: "Slot", card: "Connection", found_s: float) -> None:
        self._reader = reader
        self._slot = slot
        self._card = card
        self._found_s = found_s
        self._card_s = card.activation_s

    @property
    def target(self) -> Target:
        """What the ATR says, and the UID that the reader told of a contactless card. PC/SC tells no SAK."""
        return self._card.target

    @property
    def found_s(self) -> float:
        """When connecting began, `time.perf_counter()` seconds."""
        return self._found_s

    @property
    def card_s(self) -> float:
        """Seconds spent in connecting and transmitting."""
        return self._card_s

    async def converse(self, dialogue: Callable[[Transceive], T]) -> T:
        """Run a whole dialogue in the reader's own thread, and return or raise what it does.

        Raises:
            MediumLost: It left, was reset by the reader, or answered fewer than two bytes.
            MediumTimeout: It did not answer in time.
            ReaderGone: The reader or the service failed.
        """
        stop = threading.Event()

        def transceive(apdu: bytes) -> bytes:
            if stop.is_set():
                raise MediumLost(self._reader.name, "the dialogue was given up")
            response, took_s = self._slot.transmit(self._card, apdu)
            self._card_s += took_s
            return response

        try:
            return await self._reader.run(lambda: dialogue(transceive), _DIALOGUE_S)
        finally:
            stop.set()

    async def present(self) -> bool:
        """Whether the same card is still there.

        Raises:
            ReaderGone: The reader or the service failed.
        """
        self._reader.polled()
        return await self._reader.run(lambda: self._slot.holds(self._card, 0))

    async def removed(self) -> None:
        """Return when the card has left, or another has taken its place.

        Raises:
            ReaderGone: The reader or the service failed.
        """
        while await self._reader.run(lambda: self._slot.holds(self._card, _SLICE_MS)):
            self._reader.polled()
