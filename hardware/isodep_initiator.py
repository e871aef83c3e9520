"""The reader's side of ISO-DEP (ISO/IEC 14443-4:2018 §7.5) without I/O: it says what to send and is told what came.

Each verb is a generator of `Send`, which is sent the card's frame or the `Fault` that came instead. The driver owns the
air and the clock; the blocks, their numbers, the retransmissions and the bounds are decided here.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, unique

from hardware.isodep import (
    DELTA_FWT_S,
    MAX_FWT_S,
    Block,
    InformationBlock,
    IsoDepError,
    Link,
    ReadyBlock,
    WaitBlock,
    parse_block,
)

#: A card that says nothing twice more has left. The standard leaves the number to the reader.
SILENCE_RETRIES = 2
#: A garbled frame costs milliseconds, not a waiting time: the edge of a field deserves more patience.
GARBLED_RETRIES = 5
#: The card answers R(NAK) out of its buffer, so the retry waits for the shorter of FWT and this (FWI 8).
RETRY_WAIT_S = 4096 * 2**8 / 13.56e6
#: R(ACK) to R(NAK) comes within a millisecond or two of air.
PRESENCE_WAIT_S = 0.02

MAX_RESPONSE = 65538
MAX_BLOCKS = 8192


@unique
class Fault(Enum):
    """What the driver heard instead of a frame."""

    SILENCE = "silence"
    GARBLED = "garbled"


@dataclass(frozen=True, slots=True)
class Send:
    """Send `frame` (without CRC) and listen for at most `wait_s` seconds."""

    frame: bytes
    wait_s: float


class CardSilent(IsoDepError):  # noqa: N818 - names the event, as the errors of `hardware.medium` do
    """The card did not answer, nor any of the retries: it left the field."""


class CardBroken(IsoDepError):  # noqa: N818 - another such event
    """The card answers, but not what the protocol allows, or without end."""


Heard = bytes | Fault
Dialogue = Generator[Send, Heard, Block]


class Initiator:
    """One activated card, seen from the reader. After an error it is spent: reset the field and activate anew."""

    def __init__(self, link: Link, max_frame: int) -> None:
        """Start with block number 0.

        Args:
            link: What the card said at activation.
            max_frame: Greatest frame that the reader can send, in bytes without CRC.
        """
        self._chunk = min(link.frame, max_frame) - 1
        self._fwt_s = link.fwt_s
        self._wait_s = link.fwt_s + DELTA_FWT_S
        self._number = 0
        self._blocks = 0

    def exchange(self, apdu: bytes) -> Generator[Send, Heard, bytes]:
        """Send one command APDU whole and collect its response whole.

        Raises:
            CardSilent: Nobody answers any more.
            CardBroken: A transmission could not be repaired, or a bound was passed.
        """
        self._blocks = 0
        block: Block | None = None
        for start in range(0, max(1, len(apdu)), self._chunk):
            more = start + self._chunk < len(apdu)
            block = yield from self._deliver(InformationBlock(self._number, apdu[start : start + self._chunk], more))
        response = b""
        while isinstance(block, InformationBlock):
            response += block.inf
            if len(response) > MAX_RESPONSE:
                raise CardBroken(f"a response of more than {MAX_RESPONSE} bytes")
            if not block.more:
                return response
            block = yield from self._fetch()
        raise CardBroken("no response to a whole command")

    def presence(self, tries: int) -> Generator[Send, Heard, bool]:
        """Ask with R(NAK) whether the card is still there; it answers R(ACK) and keeps its state (§7.5.6.2)."""
        probe = Send(bytes(ReadyBlock(self._number, nak=True)), min(self._wait_s, PRESENCE_WAIT_S))
        for _ in range(tries):
            heard = yield probe
            if heard is not Fault.SILENCE:
                return True
        return False

    def _deliver(self, block: InformationBlock) -> Dialogue:
        """Send one I-block until R(ACK) answers a link of a chain, or an I-block the last one (rules 4, 6, 7)."""
        frame = bytes(block)
        nak = bytes(ReadyBlock(block.number, nak=True))
        patience = _Patience()
        heard = yield from self._ask(frame, self._wait_s)
        while True:
            match heard:
                case InformationBlock(number=number) if number == block.number and not block.more:
                    self._number ^= 1
                    return heard
                case ReadyBlock(number=number, nak=False) if number == block.number and block.more:
                    self._number ^= 1
                    return heard
                case ReadyBlock(number=number, nak=False) if number != block.number:
                    patience.spend(Fault.GARBLED)
                    heard = yield from self._ask(frame, self._wait_s)
                case _:
                    fault = heard if isinstance(heard, Fault) else Fault.GARBLED
                    patience.spend(fault)
                    heard = yield from self._ask(nak, self._retry_wait_s)

    def _fetch(self) -> Dialogue:
        """Acknowledge a link of the response and get the next one; R(ACK) is repeated, never R(NAK) (rules 2, 5)."""
        frame = bytes(ReadyBlock(self._number))
        patience = _Patience()
        heard = yield from self._ask(frame, self._wait_s)
        while True:
            if isinstance(heard, InformationBlock) and heard.number == self._number:
                self._number ^= 1
                return heard
            patience.spend(heard if isinstance(heard, Fault) else Fault.GARBLED)
            heard = yield from self._ask(frame, self._retry_wait_s)

    def _ask(self, frame: bytes, wait_s: float) -> Generator[Send, Heard, Block | Fault]:
        """Send a frame and grant every waiting time extension, wherever in the exchange the card asks (rules 3, 9)."""
        while True:
            self._blocks += 1
            if self._blocks > MAX_BLOCKS:
                raise CardBroken(f"more than {MAX_BLOCKS} blocks for one command")
            heard = yield Send(frame, wait_s)
            if isinstance(heard, Fault):
                return heard
            try:
                block = parse_block(heard)
            except IsoDepError:
                return Fault.GARBLED
            if not isinstance(block, WaitBlock):
                return block
            frame = bytes(block)
            wait_s = min(block.multiplier * self._fwt_s, MAX_FWT_S) + DELTA_FWT_S

    @property
    def _retry_wait_s(self) -> float:
        return min(self._wait_s, RETRY_WAIT_S + DELTA_FWT_S)


class _Patience:
    """How many more faults one block may meet."""

    def __init__(self) -> None:
        self._left = {Fault.SILENCE: SILENCE_RETRIES, Fault.GARBLED: GARBLED_RETRIES}

    def spend(self, fault: Fault) -> None:
        if self._left[fault] == 0:
            if fault is Fault.SILENCE:
                raise CardSilent("the card stopped answering")
            raise CardBroken("a block could not be repaired")
        self._left[fault] -= 1
