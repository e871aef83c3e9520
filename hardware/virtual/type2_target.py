"""The card's side of a type 2 tag once it is selected, without I/O: which frames reach the chip, what ends the state.

A tag leaves the selected state with every refusal and every silence, and forgets its session: a reader selects it anew.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hardware.type2 import TagAnswer
from hardware.virtual.chip import Answer
from hardware.virtual.isodep_target import Reply

REQA, WUPA, HLTA = b"\x26", b"\x52", b"\x50\x00"


@runtime_checkable
class TagChip(Protocol):
    """A type 2 tag's memory and commands in software. It sees whole frames without CRC."""

    @property
    def shown_uid(self) -> bytes | None:
        """UID for anticollision, 7 bytes; None if a fresh one is drawn at each power-up."""
        ...

    @property
    def sak(self) -> int:
        """SAK of the last cascade level, without the ISO-DEP bit."""
        ...

    def reset(self) -> None:
        """Power was removed, or the selected state was left: forget everything not stored."""
        ...

    def process(self, frame: bytes) -> Answer:
        """Answer one frame: a data frame, one byte below 0x10 for ACK or NAK, or None for silence; nothing raises."""
        ...


@dataclass(frozen=True, slots=True)
class Acknowledgement(Reply):
    """Four bits, which travel without parity and CRC."""


class Type2Target:
    """One tag in the selected state.

    Attributes:
        answered: Frames answered.
        halted: Whether it was sent to HALT.
        dropped: Whether it fell back to IDLE.
        torn: Never by itself; a tag that leaves is the antenna's business.
    """

    torn = False

    def __init__(self, chip: TagChip) -> None:
        """Begin with a tag that was just selected."""
        self._chip = chip
        self.answered = 0
        self.halted = False
        self.dropped = False

    def receive(self, frame: bytes) -> Reply | None:
        """Answer one frame, or None for silence."""
        if frame == HLTA:
            self.halted = True
            return None
        if frame in (REQA, WUPA):
            self.dropped = True
            return None
        answer = self._chip.process(frame)
        if answer.response is None:
            self.dropped = True
            return None
        self.answered += 1
        said = TagAnswer.from_bytes(answer.response)
        self.dropped = said.refused
        kind = Reply if said.acknowledgement is None else Acknowledgement
        return kind(answer.response, answer.compute_s)
