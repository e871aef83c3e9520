"""What the nfcpy driver finds: cards that speak ISO-DEP, type 2 tags, strangers, and several of them at once."""

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

from hardware.isodep_initiator import Fault, Initiator
from hardware.medium import MediumLost, MediumTimeout, SeveralMedia, Target, Technology, Transceive
from hardware.nfcpy_radio import Radio, describe
from hardware.type2 import TagAnswer

PRESENCE_PERIOD_S = 0.025
PRESENCE_TRIES = 2
CLASS_NOT_SUPPORTED = b"\x6e\x00"

ONE_AT_A_TIME = "more than one medium in the field: one card at a time"
_OTHER = {Technology.TYPE_A: Technology.TYPE_B, Technology.TYPE_B: Technology.TYPE_A}

_T = TypeVar("_T")


class Owner(Protocol):
    """The reader that a medium was found by."""

    @property
    def name(self) -> str:
        """Its name as configured."""
        ...

    async def call(self, work: Callable[[threading.Event], _T]) -> _T:
        """Run `work` in the reader's thread; it is handed a flag that is set when nobody wants its result any more."""
        ...


class FoundMedium:
    """What every medium of this driver has: a target, and its presence found out by looking again."""

    def __init__(self, reader: Owner, radio: Radio, target: Target) -> None:
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
        return await self._reader.call(lambda stop: self.hold(dialogue, stop))

    async def present(self) -> bool:
        """Whether the same medium is still there."""
        return await self._reader.call(lambda _stop: self._probe())

    async def removed(self) -> None:
        """Return when the medium has left, or another has taken its place."""
        await self._reader.call(self._watch)

    def hold(self, dialogue: Callable[[Transceive], _T], stop: threading.Event) -> _T:
        """Run a dialogue, in the reader's thread; where it fails, somebody else in the field may be why."""
        failed = True
        try:
            outcome = dialogue(lambda apdu: self._transceive(bytes(apdu), stop))
            failed = False
        finally:
            if failed and not stop.is_set():
                self._look_around()
        return outcome

    def _look_around(self) -> None:
        """Look for company. It ends the activation, so that it is for a tap that has failed anyway.

        Raises:
            SeveralMedia: There is somebody else.
            ReaderGone: The reader failed.
        """
        own = self._target.technology
        self._abandon()
        company = self._radio.pair(own)
        if not company and self._there(_OTHER[own]):
            company = self._there(own)
        if company:
            raise SeveralMedia(self._reader.name, ONE_AT_A_TIME)

    def _there(self, technology: Technology) -> bool:
        return self._radio.sense(technology) is not None or self._radio.clashed

    def _abandon(self) -> None:
        """Take note that the activation is over."""

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
        return _alike(self._target, describe(self._target.technology, found))


class ForeignMedium(FoundMedium):
    """A medium without APDUs that is no type 2 tag either: it refuses everything, so that the passenger is told."""

    def _transceive(self, apdu: bytes, stop: threading.Event) -> bytes:  # noqa: ARG002 - it says no to everything
        return CLASS_NOT_SUPPORTED


class MuteMedium(FoundMedium):
    """A medium that answers the poll and never got as far as a dialogue: lost from the start."""

    def _transceive(self, apdu: bytes, stop: threading.Event) -> bytes:  # noqa: ARG002 - nothing can be sent
        raise MediumLost(self._reader.name, "the medium answers the poll and cannot be activated")


class Crowd(FoundMedium):
    """More than one medium, of which none can be spoken to alone."""

    def hold(self, dialogue: Callable[[Transceive], _T], stop: threading.Event) -> _T:  # noqa: ARG002 - nobody to talk to
        """Talk to nobody.

        Raises:
            SeveralMedia: Always.
        """
        raise SeveralMedia(self._reader.name, ONE_AT_A_TIME)

    def _probe(self) -> bool:
        """Whether they still get into each other's way."""
        return self._radio.sense(self._target.technology) is None and self._radio.clashed


class TagMedium(FoundMedium):
    """A type 2 tag. Every refusal and every silence leaves it unselected: it is selected anew before the next frame."""

    def __init__(self, reader: Owner, radio: Radio, target: Target) -> None:
        super().__init__(reader, radio, target)
        self._activation = radio.activations
        self._fresh = True
        self._dropped = False

    def _transceive(self, apdu: bytes, stop: threading.Event) -> bytes:
        if stop.is_set() or self._activation != self._radio.activations:
            raise MediumLost(self._reader.name, "the tag was lost before this command")
        before_s = self._radio.waited_s
        try:
            return self._carry(apdu)
        finally:
            self.card_s += self._radio.waited_s - before_s

    def _carry(self, frame: bytes) -> bytes:
        if self._dropped and not self._probe():
            raise MediumLost(self._reader.name, "the tag left after it had refused a command")
        fresh, self._fresh = self._fresh, False
        heard = self._radio.carry(frame)
        if not isinstance(heard, Fault):
            self._dropped = TagAnswer.from_bytes(heard).refused
            return heard
        self._dropped = True
        # What was just selected and says nothing may not know the command. Later on, a frame was lost on the way.
        if fresh and self._probe():
            return b""
        raise MediumLost(self._reader.name, f"{heard.value} where a tag should answer")

    def _probe(self) -> bool:
        """A fresh look, which leaves the tag selected and its session over."""
        found = super()._probe()
        self._activation = self._radio.activations
        self._fresh, self._dropped = found, not found
        return found


class IsoDepMedium(FoundMedium):
    """An activated medium."""

    def __init__(self, reader: Owner, radio: Radio, target: Target, initiator: Initiator) -> None:
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

    def _abandon(self) -> None:
        self._lost = True

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


def _alike(one: Target, other: Target) -> bool:
    """Whether two looks saw the same medium, although a random identifier changes whenever the field drops."""
    if one.technology is Technology.TYPE_B:
        return one.historical == other.historical
    return (one.uid_is_random and other.uid_is_random) or one.uid == other.uid
