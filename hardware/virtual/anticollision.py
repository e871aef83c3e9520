"""From power-up to the protocol state (ISO/IEC 14443-3:2018), card's side, without I/O: how one card behaves.

Each machine takes frames without CRC. What does not fit its state drops it to IDLE in silence, as in the standard.
"""

from enum import Enum, auto, unique
from functools import reduce
from operator import xor
from typing import Protocol

from hardware.isodep import ISO_DEP_SAK_BIT, Atqb, attrib
from hardware.virtual.isodep_target import Reply
from hardware.virtual.type2_target import HLTA, REQA, WUPA

_CASCADE_TAG = b"\x88"
_CASCADE_SAK = 0x04
_SELECT = (0x93, 0x95, 0x97)
_SELECTS = frozenset(bytes([code]) for code in _SELECT)
_WAKE_UP_B_BIT = 0x08


@unique
class _State(Enum):
    IDLE = auto()
    READY = auto()
    ACTIVE = auto()
    HALT = auto()


class Anticollision(Protocol):
    """One card on its way to the protocol state.

    Attributes:
        fsdi: Frame size index of the reader, once the card is in the protocol state, else None.
    """

    fsdi: int | None

    @property
    def selected(self) -> bool:
        """Whether a card without ISO-DEP was selected, and takes commands."""
        ...

    def receive(self, frame: bytes) -> Reply | None:
        """Answer one frame, or None for silence."""
        ...

    def halt(self) -> None:
        """Leave the protocol state for HALT, as S(DESELECT) does."""
        ...

    def drop(self) -> None:
        """Fall back to IDLE."""
        ...


def is_poll(technology: str, frame: bytes) -> bool:
    """Whether a frame looks for cards: REQA, WUPA, a cascade level's, REQB, WUPB, or any of another technology.

    A reader's chip knows within a tenth of a millisecond that nobody answers one of these.
    """
    if technology == "A":
        return frame in (REQA, WUPA) or frame[:1] in _SELECTS
    if technology == "B":
        return len(frame) == 3 and frame[0] == 0x05
    return True


class TypeA:
    """Anticollision and RATS of a type A card with a UID of 4, 7 or 10 bytes (§6)."""

    def __init__(self, uid: bytes, ats: bytes | None, sak: int = ISO_DEP_SAK_BIT) -> None:
        """Prepare the cascade levels of `uid`; `ats` answers RATS, None is a card that knows no RATS."""
        tagged = uid if len(uid) == 4 else _CASCADE_TAG + uid
        if len(tagged) > 8:
            tagged = tagged[:4] + _CASCADE_TAG + tagged[4:]
        parts = [tagged[start : start + 4] for start in range(0, len(tagged), 4)]
        self._levels = [part + bytes([reduce(xor, part)]) for part in parts]
        self._atqa = bytes([0x04 | (len(parts) - 1) << 6, 0x00])
        self._ats = ats
        self._sak = sak
        self._state = _State.IDLE
        self._level = 0
        self.fsdi: int | None = None

    @property
    def selected(self) -> bool:
        """Whether a card without ISO-DEP was selected."""
        return self._ats is None and self._state is _State.ACTIVE

    def receive(self, frame: bytes) -> Reply | None:
        """Answer one frame, or None for silence."""
        if frame == WUPA or (frame == REQA and self._state is not _State.HALT):
            self._state, self._level = _State.READY, 0
            return Reply(self._atqa, crc=False)
        if self._state is _State.READY and frame[:1] == bytes([_SELECT[self._level]]):
            return self._select(frame)
        rats = len(frame) == 2 and frame[0] == 0xE0 and not frame[1] & 0x0F
        if self._state is _State.ACTIVE and self._ats is not None and rats:
            self.fsdi = frame[1] >> 4
            return Reply(self._ats)
        if self._state is not _State.HALT:
            self._state = _State.HALT if frame == HLTA else _State.IDLE
        return None

    def halt(self) -> None:
        """Leave the protocol state for HALT."""
        self._state, self.fsdi = _State.HALT, None

    def drop(self) -> None:
        """Fall back to IDLE."""
        self._state, self.fsdi = _State.IDLE, None

    def _select(self, frame: bytes) -> Reply | None:
        level = self._levels[self._level]
        if frame[1:] == b"\x20":
            return Reply(level, crc=False)
        if frame[1:] != b"\x70" + level:
            self._state = _State.IDLE
            return None
        if self._level + 1 < len(self._levels):
            self._level += 1
            return Reply(bytes([_CASCADE_SAK]))
        self._state = _State.ACTIVE
        return Reply(bytes([self._sak]))


class TypeB:
    """Request and ATTRIB of a type B card of any application family, in the first slot (§7).

    Attributes:
        selected: Never; a type B card without ISO-DEP takes no commands that anybody here knows.
    """

    selected = False

    def __init__(self, atqb: Atqb) -> None:
        """Answer requests with `atqb`."""
        self._atqb = atqb
        self._state = _State.IDLE
        self.fsdi: int | None = None

    def receive(self, frame: bytes) -> Reply | None:
        """Answer one frame, or None for silence."""
        if is_poll("B", frame):
            wakes = bool(frame[2] & _WAKE_UP_B_BIT) or self._state is not _State.HALT
            if frame[1] != 0 or not wakes:
                return None
            self._state = _State.READY
            return Reply(bytes(self._atqb))
        if self._state is _State.READY and frame == b"\x50" + self._atqb.pupi:
            self._state = _State.HALT
            return Reply(b"\x00")
        if self._state is _State.READY and len(frame) >= len(attrib(self._atqb, 0)):
            return self._attrib(frame)
        return None

    def halt(self) -> None:
        """Leave the protocol state for HALT."""
        self._state, self.fsdi = _State.HALT, None

    def drop(self) -> None:
        """Fall back to IDLE."""
        self._state, self.fsdi = _State.IDLE, None

    def _attrib(self, frame: bytes) -> Reply | None:
        command, pupi, (_, size, protocol, cid) = frame[0], frame[1:5], frame[5:9]
        if command != 0x1D or pupi != self._atqb.pupi or not protocol & 1 or cid & 0x0F:
            return None
        self.fsdi = size & 0x0F
        return Reply(b"\x00")
