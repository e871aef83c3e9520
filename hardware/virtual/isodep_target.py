"""The card's side of ISO-DEP (ISO/IEC 14443-4:2018 §7.5) without I/O: it is handed frames and says what to answer.

A frame that a real card could not make sense of gets silence, as on the air. The chip sees every APDU exactly once,
however often a block is lost and asked for again.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from hardware.isodep import (
    MAX_FWT_S,
    MAX_WTXM,
    DeselectBlock,
    InformationBlock,
    IsoDepError,
    ReadyBlock,
    WaitBlock,
    parse_block,
)
from hardware.virtual.chip import Chip

MAX_COMMAND = 65544
#: How much of the waiting time a card uses up before it would rather ask for more.
WORK_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Reply:
    """What a card answers to a frame.

    Attributes:
        frame: The frame, without CRC.
        compute_s: Modelled compute time before it, in seconds.
        crc: Whether both frames of this pair carry a CRC on the air; the first ones of anticollision do not.
    """

    frame: bytes
    compute_s: float = 0.0
    crc: bool = True


def no_air(_frame: bytes) -> float:
    """Air that takes no time."""
    return 0.0


class IsoDepTarget:
    """One card in the protocol state."""

    def __init__(
        self,
        chip: Chip,
        *,
        card_frame: int,
        reader_frame: int,
        fwt_s: float,
        wtx_every: int | None = None,
        air_s: Callable[[bytes], float] = no_air,
    ) -> None:
        """Start with block number 1 (rule C).

        Args:
            chip: What answers whole APDUs.
            card_frame: Greatest frame the card takes, in bytes without CRC.
            reader_frame: Greatest frame the reader takes, in bytes without CRC.
            fwt_s: The card's frame waiting time in seconds.
            wtx_every: Ask for more time before every nth block that carries the exchange on, needed or not.
            air_s: Seconds that a frame spends on the air, which count against the waiting time.
        """
        self._chip = chip
        self._card_frame = card_frame
        self._reader_chunk = reader_frame - 1
        self._fwt_s = fwt_s
        self._wtx_every = wtx_every
        self._air_s = air_s
        self._number = 1
        self._command = b""
        self._response = b""
        self._chaining = False
        self._completes = False
        self._last: bytes | None = None
        self._held: tuple[bytes, float] | None = None
        self._granted = 0
        self._carried = 0
        self.answered = 0
        self.halted = False
        self.torn = False

    def receive(self, frame: bytes) -> Reply | None:
        """Answer one frame of the reader, or None for silence."""
        if self.torn or self.halted or len(frame) > self._card_frame:
            return None
        try:
            block = parse_block(frame)
        except IsoDepError:
            return None
        reply = None
        match block:
            case InformationBlock():
                reply = self._take(block, frame)
            case ReadyBlock():
                reply = self._follow(block, frame)
            case DeselectBlock():
                self.halted = True
                reply = Reply(bytes(block))
            case WaitBlock() if self._held is not None:
                reply = self._continue(frame)
        return reply

    def _follow(self, block: ReadyBlock, frame: bytes) -> Reply | None:
        """Answer an R-block: repeat the last block, confirm presence, or go on with the chain (rules 11 to 13, E)."""
        if block.number == self._number:
            return Reply(self._last) if self._last is not None else None
        if block.nak:
            return Reply(bytes(ReadyBlock(self._number)))
        if not self._chaining:
            return None
        self._number ^= 1
        return self._offer(self._next_link(), 0.0, frame)

    def _take(self, block: InformationBlock, frame: bytes) -> Reply | None:
        self._number ^= 1
        self._held, self._chaining, self._completes = None, False, False
        self._command += block.inf
        if len(self._command) > MAX_COMMAND:
            self._command = b""
            return None
        if block.more:
            return self._offer(bytes(ReadyBlock(self._number)), 0.0, frame)
        command, self._command = self._command, b""
        answer = self._chip.process(command)
        if answer.response is None:
            self.torn = True
            return None
        self._response = answer.response
        return self._offer(self._next_link(), answer.compute_s, frame)

    def _next_link(self) -> bytes:
        inf, self._response = self._response[: self._reader_chunk], self._response[self._reader_chunk :]
        self._chaining = bool(self._response)
        self._completes = not self._chaining
        return bytes(InformationBlock(self._number, inf, more=self._chaining))

    def _offer(self, block: bytes, compute_s: float, heard: bytes) -> Reply:
        """Answer with a block that carries the exchange on, after S(WTX) if it takes long or if a test wants one."""
        self._carried += 1
        forced = self._wtx_every is not None and self._carried % self._wtx_every == 0
        if forced or compute_s > self._budget_s(1, heard, block):
            self._held = (block, compute_s)
            return self._ask_for_time(0.0)
        return self._carry_on(block, compute_s)

    def _continue(self, heard: bytes) -> Reply:
        """Work for as long as S(WTX) granted, then answer or ask again."""
        assert self._held is not None
        block, left_s = self._held
        budget_s = self._budget_s(self._granted, heard, block)
        if left_s > budget_s:
            self._held = (block, left_s - budget_s)
            return self._ask_for_time(budget_s)
        self._held = None
        return self._carry_on(block, left_s)

    def _carry_on(self, block: bytes, compute_s: float) -> Reply:
        self._last = block
        self.answered += self._completes
        self._completes = False
        return Reply(block, compute_s)

    def _ask_for_time(self, worked_s: float) -> Reply:
        assert self._held is not None
        block, left_s = self._held
        most = max(1, min(MAX_WTXM, int(MAX_FWT_S / self._fwt_s)))
        spent_on_air_s = self._air_s(bytes(2)) + self._air_s(block)
        self._granted = min(most, max(1, math.ceil((left_s + spent_on_air_s) / (WORK_SHARE * self._fwt_s))))
        self._last = bytes(WaitBlock(self._granted))
        return Reply(self._last, worked_s)

    def _budget_s(self, multiplier: int, heard: bytes, said: bytes) -> float:
        return multiplier * WORK_SHARE * self._fwt_s - self._air_s(heard) - self._air_s(said)
