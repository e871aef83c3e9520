"""Cards held against nfcpy's simulated reader: nfcpy's UDP framing on one side, a chip on the other.

A datagram is ``<bit rate and technology> <frame in hexadecimal>``, or ``RFOFF`` when the reader drops its field. Where
no card speaks the technology asked for, ``RFOFF`` is said at once, so that the reader need not wait out its second.

Several cards in one field answer at the same time, and nobody keeps their answers apart: what arrives is `superposed`.
"""

import asyncio
import itertools
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from hardware.isodep import CRC_BYTES, DEFAULT_FWI, FRAME_SIZES, Atqb, Ats, frame_bytes, frame_waiting_time_s
from hardware.medium import Technology
from hardware.virtual.anticollision import Anticollision, TypeA, TypeB, is_poll
from hardware.virtual.chip import Chip
from hardware.virtual.isodep_target import WORK_SHARE, IsoDepTarget, Reply, no_air
from hardware.virtual.type2_target import Acknowledgement, TagChip, Type2Target

#: One byte and its parity bit at 106 kbit/s: nine elementary time units of 128 carrier cycles.
BYTE_AIR_S = 9 * 128 / 13.56e6
#: Four bits without parity, as a part of a byte.
_ACKNOWLEDGEMENT_SHARE = 4 / 9
UID_SIZES = (4, 7, 10)
RANDOM_UID_PREFIX = b"\x08"
TECHNOLOGIES = frozenset({Technology.TYPE_A.value, Technology.TYPE_B.value})

_RFOFF = b"RFOFF"
#: epoll rounds a wait up to whole milliseconds and sleep overshoots a little: wake early, sleep less, spin the rest.
_WAKE_EARLY_S = 0.0012
_SPIN_S = 0.0002
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class AirTiming:
    """How long frames spend on the air.

    Attributes:
        byte_s: Seconds a byte; the default is 106 kbit/s.
    """

    byte_s: float = BYTE_AIR_S

    def frame_s(self, frame: bytes, *, crc: bool = True) -> float:
        """Return the seconds that a frame (given without CRC) takes."""
        return (len(frame) + (CRC_BYTES if crc else 0)) * self.byte_s

    def answer_s(self, reply: Reply) -> float:
        """Return the seconds that an answer takes."""
        if isinstance(reply, Acknowledgement):
            return self.byte_s * _ACKNOWLEDGEMENT_SHARE
        return self.frame_s(reply.frame, crc=reply.crc)


class AirCard:
    """A chip, or a type 2 tag's, with an antenna.

    Attributes:
        technology: Type A or type B.
        timing: The timing model, or None for answers at once.
        torn: Whether the card has left the field by itself; it is silent from then on.
        frames: Frames answered since it was placed.
        bytes_in: Bytes of those frames that the reader sent, without CRC.
        bytes_out: Bytes of the answers, without CRC.
        floor_s: Modelled seconds of air and compute since it was placed; no reader can be faster. 0 without a model.
    """

    def __init__(
        self,
        chip: Chip | TagChip,
        technology: Technology,
        *,
        uid: bytes | None = None,
        fsci: int = 8,
        fwi: int = 8,
        timing: AirTiming | None = None,
        tear_after: int | None = None,
        wtx_every: int | None = None,
        ats_interface_bytes: bool = True,
    ) -> None:
        """Describe the card; `Field.place` brings it into the field.

        Args:
            chip: What answers APDUs. Its historical bytes travel in the ATS, the first four also in the ATQB. A tag's
                chip answers frames; it knows its own UID and SAK, and waiting times and frame sizes mean nothing to it.
            technology: Type A or type B; a tag is type A.
            uid: UID of 4, 7 or 10 bytes (A) or PUPI of 4 (B); None draws a fresh one at each power-up, as phones do.
            fsci: Frame size index, 0 to 8.
            fwi: Frame waiting time index, 0 to 14; 4 if the ATS goes without its interface bytes.
            timing: Timing model; None answers at once and ignores compute times, but for S(WTX).
            tear_after: The card leaves once it has answered this many APDUs (a tag: frames); 0 is right after
                activation.
            wtx_every: Ask for more time before every nth block, needed or not.
            ats_interface_bytes: Whether the ATS has TA, TB and TC.

        Raises:
            ValueError: Values that no card could have, or a waiting time that the modelled air alone would exceed.
        """
        sizes = UID_SIZES if technology is Technology.TYPE_A else UID_SIZES[:1]
        if technology is Technology.CONTACT:
            raise ValueError("a contact card has no antenna: use type A or type B")
        if uid is not None and len(uid) not in sizes:
            raise ValueError(f"a type {technology.value} card has an identifier of {sizes} bytes, not {len(uid)}")
        self._fwi = fwi if ats_interface_bytes or technology is Technology.TYPE_B else DEFAULT_FWI
        self._fwt_s = frame_waiting_time_s(self._fwi)
        whole_s = timing.frame_s(bytes(frame_bytes(fsci) + FRAME_SIZES[-1])) if timing else 0.0
        if isinstance(chip, TagChip):
            if technology is not Technology.TYPE_A or uid is not None:
                raise ValueError("a type 2 tag is type A and shows the UID of its own memory: leave the UID out")
        elif whole_s > WORK_SHARE * self._fwt_s:
            raise ValueError(f"FWI {self._fwi} is shorter than two whole frames on the modelled air: use 8 or more")
        self.technology = technology
        self.timing = timing
        self._chip = chip
        self._uid = uid
        self._fsci = fsci
        self._tear_after = tear_after
        self._wtx_every = wtx_every
        self._interface_bytes = ats_interface_bytes
        self._target: IsoDepTarget | Type2Target | None = None
        self._answered = 0
        self._activation = self._new_activation()
        self.placed()

    def placed(self) -> None:
        """Enter a field anew: whole, unpowered, counters at nothing."""
        self.power_off()
        self.torn = False
        self.frames = self.bytes_in = self.bytes_out = 0
        self.floor_s = 0.0
        self._answered = 0

    def power_off(self) -> None:
        """Lose the field's power: back to IDLE with a chip that forgot everything not stored."""
        self._chip.reset()
        self._retire()
        self._activation = self._new_activation()

    def receive(self, frame: bytes) -> Reply | None:
        """Answer one frame of the reader, or None for silence."""
        if self.torn:
            return None
        reply = self._target.receive(frame) if self._target else self._activate(frame)
        if self._target is not None:
            self._wear(self._target)
        if reply is not None:
            self.frames += 1
            self.bytes_in += len(frame)
            self.bytes_out += len(reply.frame)
            self.floor_s += self.delay_s(frame, reply)
        return reply

    def delay_s(self, frame: bytes, reply: Reply) -> float:
        """Return the modelled seconds from a frame's first bit to the last bit of its answer."""
        if self.timing is None:
            return 0.0
        return self.timing.frame_s(frame, crc=reply.crc) + self.timing.answer_s(reply) + reply.compute_s

    def _new_activation(self) -> Anticollision:
        random = RANDOM_UID_PREFIX + secrets.token_bytes(3)
        if isinstance(self._chip, TagChip):
            return TypeA(self._chip.shown_uid or random, None, self._chip.sak)
        identifier = self._uid or random
        if self.technology is Technology.TYPE_A:
            ats = Ats(self._fsci, self._fwi, 0, self._chip.historical, interface_bytes=self._interface_bytes)
            return TypeA(identifier, bytes(ats))
        application = self._chip.historical[:4].ljust(4, b"\x00")
        return TypeB(Atqb(identifier, application, self._fsci, self._fwi))

    def _activate(self, frame: bytes) -> Reply | None:
        reply = self._activation.receive(frame)
        if isinstance(self._chip, TagChip):
            self._target = Type2Target(self._chip) if self._activation.selected else None
        elif self._activation.fsdi is not None:
            self._target = IsoDepTarget(
                self._chip,
                card_frame=frame_bytes(self._fsci),
                reader_frame=frame_bytes(self._activation.fsdi),
                fwt_s=self._fwt_s,
                wtx_every=self._wtx_every,
                air_s=self.timing.frame_s if self.timing else no_air,
            )
        return reply

    def _wear(self, target: IsoDepTarget | Type2Target) -> None:
        """Follow the target out of its state: deselected, fallen back, or torn away."""
        answered = self._answered + target.answered
        self.torn = target.torn or (self._tear_after is not None and answered >= self._tear_after)
        if target.halted:
            self._activation.halt()
            self._retire()
        elif isinstance(target, Type2Target) and target.dropped:
            self._activation.drop()
            self._retire()
            self._chip.reset()

    def _retire(self) -> None:
        """Drop the target and keep its count: the card's own count runs since it was placed."""
        if self._target is not None:
            self._answered += self._target.answered
        self._target = None


def superposed(replies: Sequence[Reply]) -> bytes:
    """Return what arrives where several cards answer at once, to a reader that cannot keep them apart.

    Type A answers in step, so that equal frames are one. Where frames carry no CRC, collided bits read as set, as both
    halves of the bit are modulated (ISO/IEC 14443-2 §8.2.5); with one, what arrives breaks off where they differ.
    """
    frames = [reply.frame for reply in replies]
    if any(reply.crc for reply in replies):
        return bytes(
            octets[0] for octets in itertools.takewhile(lambda each: len(set(each)) == 1, zip(*frames, strict=False))
        )
    size = max(map(len, frames))
    return reduce(int.__or__, (int.from_bytes(frame.ljust(size, b"\0")) for frame in frames)).to_bytes(size)


def _has_a_name(port: int) -> bool:
    """Whether the services database names a port: nfcpy resolves it to that name, and fails to read it as a number."""
    try:
        return bool(socket.getservbyport(port, "tcp"))
    except OSError:
        return False


class Field:
    """The field of one simulated reader, with the cards in it."""

    @classmethod
    async def open(cls, host: str = "127.0.0.1", port: int = 0) -> "Field":
        """Bind the UDP port that the reader's path names; port 0 takes a free one that nfcpy can open.

        Raises:
            OSError: The port is taken or not permitted.
        """
        field = cls()
        loop = asyncio.get_running_loop()
        refused: list[asyncio.DatagramTransport] = []
        while True:
            field._transport, _ = await loop.create_datagram_endpoint(lambda: _Endpoint(field), local_addr=(host, port))
            if port or not _has_a_name(field.address[1]):
                break
            refused.append(field._transport)  # held until another is found, or the same would be given again
        for transport in refused:
            transport.close()
        return field

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.DatagramTransport | None = None
        self._closed = self._loop.create_future()
        self._cards: list[AirCard] = []
        self._reader: Address | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._empty_polls: set[str] = set()
        self._noticed = asyncio.Event()

    @property
    def address(self) -> Address:
        """Host and port that the field is bound to."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    @property
    def path(self) -> str:
        """The path by which nfcpy opens this field."""
        host, port = self.address
        return f"udp:{host}:{port}"

    def place(self, card: AirCard) -> None:
        """Hold a card against the reader, in place of any other; the next poll finds it."""
        self.remove()
        self.add(card)

    def add(self, card: AirCard) -> None:
        """Hold one more card against the reader."""
        card.placed()
        self._cards.append(card)
        self._overlook()

    def remove(self, card: AirCard | None = None) -> None:
        """Take a card away, or all of them; an answer that has not left by now never will."""
        leaving = [each for each in self._cards if card in (None, each)]
        for each in leaving:
            each.power_off()
        self._cards = [each for each in self._cards if each not in leaving]
        self._forget_answer()
        if leaving:
            self._overlook()

    async def polled(self) -> None:
        """Return once the reader has looked for both technologies since the last card left: it noticed the absence."""
        await self._noticed.wait()

    async def close(self) -> None:
        """Give the port back; harmless when closed already."""
        self.remove()
        if self._transport is not None:
            self._transport.close()
            await asyncio.shield(self._closed)

    def _disconnected(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def _received(self, datagram: bytes, reader: Address) -> None:
        arrival = self._loop.time()
        if datagram.startswith(_RFOFF):
            if reader == self._reader:
                self._power_off(None)
            return
        try:
            rate, digits = datagram.decode("ascii").split()
            frame = bytes.fromhex(digits)
        except ValueError:
            return
        if reader != self._reader:
            self._power_off(reader)
        if self._pending is None:
            self._answer(rate[-1:], frame, reader, arrival)

    def _answer(self, technology: str, frame: bytes, reader: Address, arrival: float) -> None:
        asked = [card for card in self._cards if card.technology.value == technology]
        replies = [(card, reply) for card in asked if (reply := card.receive(frame)) is not None]
        if not replies:
            if is_poll(technology, frame):
                self._send(_RFOFF, reader)
                self._note_poll(technology)
            return
        said = superposed([reply for _, reply in replies])
        datagram = f"106{technology} {said.hex()}".encode("ascii")
        if all(card.timing is None for card, _ in replies):
            self._send(datagram, reader)
            return
        due = arrival + max(card.delay_s(frame, reply) for card, reply in replies)
        self._pending = self._loop.call_at(due - _WAKE_EARLY_S, self._leave, due, datagram, reader)

    def _leave(self, due: float, datagram: bytes, reader: Address) -> None:
        """Send an answer when it is due: the loop wakes a little early, the rest is waited for here."""
        while (left_s := due - self._loop.time()) > 0:
            if left_s > _SPIN_S:
                time.sleep(left_s - _SPIN_S)
        self._pending = None
        self._send(datagram, reader)

    def _overlook(self) -> None:
        """Forget which looks found nobody."""
        self._empty_polls.clear()
        self._noticed.clear()

    def _note_poll(self, technology: str) -> None:
        if all(card.torn for card in self._cards):
            self._empty_polls.add(technology)
            if self._empty_polls >= TECHNOLOGIES:
                self._noticed.set()

    def _power_off(self, reader: Address | None) -> None:
        self._reader = reader
        self._forget_answer()
        for card in self._cards:
            card.power_off()

    def _forget_answer(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _send(self, datagram: bytes, reader: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(datagram, reader)


class _Endpoint(asyncio.DatagramProtocol):
    """The socket under a field."""

    def __init__(self, field: Field) -> None:
        self._field = field

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        self._field._disconnected()  # noqa: SLF001 - the field's own other half

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._field._received(data, addr)  # noqa: SLF001 - the field's own other half

    def error_received(self, exc: Exception) -> None:
        """Do nothing: the reader closed its socket before an answer reached it, as readers do at every new poll."""
