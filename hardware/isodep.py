"""ISO-DEP as bytes (ISO/IEC 14443-4:2018): activation parameters, answers to select, and blocks.

Lengths here leave out the two CRC bytes, which the reader's chip adds and removes. Neither side uses a card identifier
(CID) or a node address (NAD), so that a block which carries one is not for us.
"""

from dataclasses import dataclass, field
from enum import IntEnum, unique

CARRIER_HZ = 13.56e6
CRC_BYTES = 2
MIN_FWT_S = 4096 / CARRIER_HZ
#: What a reader adds to the frame waiting time before it calls a card silent (§7.2).
DELTA_FWT_S = 49152 / CARRIER_HZ
#: No extension of the waiting time goes past the frame waiting time of FWI 14 (§7.3).
MAX_FWT_S = MIN_FWT_S * 2**14
MAX_WTXM = 59

FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
DEFAULT_FSCI = 2
DEFAULT_FWI = 4
MAX_FWI = 14
ISO_DEP_SAK_BIT = 0x20

_ATQB_BYTES = (12, 13)
_CID_BIT, _NAD_BIT = 0x08, 0x04
_MORE_BIT = _NAK_BIT = 0x10


class IsoDepError(ValueError):
    """The bytes are not ISO-DEP, or not ISO-DEP as this reader speaks it."""


@unique
class PcbClass(IntEnum):
    """The fixed bits of the protocol control byte of each kind of block (§7.1.1.1)."""

    I = 0x02  # noqa: E741 - the standard's name of the block
    R = 0xA2
    DESELECT = 0xC2
    WTX = 0xF2


@dataclass(frozen=True, slots=True)
class InformationBlock:
    """I-block: a piece of an APDU.

    Attributes:
        number: Block number, 0 or 1.
        inf: The piece, possibly empty.
        more: Whether another piece follows (the chaining bit).
    """

    number: int
    inf: bytes
    more: bool = False

    def __bytes__(self) -> bytes:
        return bytes([PcbClass.I | self.number | (_MORE_BIT if self.more else 0)]) + self.inf


@dataclass(frozen=True, slots=True)
class ReadyBlock:
    """R-block: R(ACK), or R(NAK) if `nak`, with its block number."""

    number: int
    nak: bool = False

    def __bytes__(self) -> bytes:
        return bytes([PcbClass.R | self.number | (_NAK_BIT if self.nak else 0)])


@dataclass(frozen=True, slots=True)
class DeselectBlock:
    """S(DESELECT), request and response alike."""

    def __bytes__(self) -> bytes:
        return bytes([PcbClass.DESELECT])


@dataclass(frozen=True, slots=True)
class WaitBlock:
    """S(WTX), request and response alike: the card wants `multiplier` times its frame waiting time, 1 to 59."""

    multiplier: int

    def __bytes__(self) -> bytes:
        return bytes([PcbClass.WTX, self.multiplier])


Block = InformationBlock | ReadyBlock | DeselectBlock | WaitBlock


def parse_block(frame: bytes) -> Block:
    """Parse one frame of the block protocol.

    Raises:
        IsoDepError: It is empty, has reserved bits, a CID, a NAD, or a field that its kind does not have.
    """
    if not frame:
        raise IsoDepError("an empty frame")
    pcb, inf = frame[0], bytes(frame[1:])
    number = pcb & 1
    if pcb & 0b1110_1110 == PcbClass.I:
        return InformationBlock(number, inf, more=bool(pcb & _MORE_BIT))
    if pcb & 0b1110_1110 == PcbClass.R and not inf:
        return ReadyBlock(number, nak=bool(pcb & _NAK_BIT))
    if pcb == PcbClass.DESELECT and not inf:
        return DeselectBlock()
    if pcb == PcbClass.WTX and len(inf) == 1:
        return WaitBlock(_waiting_multiplier(inf[0]))
    raise IsoDepError(f"no block that this reader speaks: PCB {pcb:02X} with {len(inf)} bytes")


def frame_bytes(size_index: int) -> int:
    """Return what FSCI or FSDI stand for, less the CRC: 14 to 254 bytes. Reserved values mean 256 (§5.1, §5.2.3)."""
    return FRAME_SIZES[min(size_index, len(FRAME_SIZES) - 1)] - CRC_BYTES


def size_index(frame: int) -> int:
    """Return the greatest FSDI whose frames fit `frame` bytes without CRC; 0 when not even 16 bytes would."""
    return max((i for i, size in enumerate(FRAME_SIZES) if size - CRC_BYTES <= frame), default=0)


def frame_waiting_time_s(fwi: int) -> float:
    """Return the seconds that FWI stands for; the reserved 15 is read as 4 (§5.2.5)."""
    return MIN_FWT_S * (1 << (fwi if fwi <= MAX_FWI else DEFAULT_FWI))


def guard_time_s(sfgi: int) -> float:
    """Return the start-up guard time in seconds; 0 and the reserved 15 ask for none (§5.2.5)."""
    return MIN_FWT_S * (1 << sfgi) if 0 < sfgi <= MAX_FWI else 0.0


@dataclass(frozen=True, slots=True)
class Link:
    """What activation settled.

    Attributes:
        frame: Greatest frame the card takes, in bytes without CRC.
        fwt_s: Frame waiting time in seconds.
        guard_s: Seconds to leave the card alone before the first block.
        historical: Historical bytes (type A) or application data (type B).
    """

    frame: int
    fwt_s: float
    guard_s: float = 0.0
    historical: bytes = b""


@dataclass(frozen=True, slots=True)
class Ats:
    """Answer to select (§5.2). Everything after TL is optional, TA, TB and TC each by a bit of T0.

    Attributes:
        fsci: Frame size index of the card.
        fwi: Frame waiting time index.
        sfgi: Start-up guard time index.
        historical: At most 15 bytes that say something of the card.
        interface_bytes: Whether TA, TB and TC are sent; without TB, FWI and SFGI have their default values.
    """

    fsci: int = DEFAULT_FSCI
    fwi: int = DEFAULT_FWI
    sfgi: int = 0
    historical: bytes = b""
    interface_bytes: bool = field(default=True, compare=False)

    def __bytes__(self) -> bytes:
        """Encode, 106 kbit/s only and without CID and NAD.

        Raises:
            IsoDepError: Values other than the default cannot be said without TB.
        """
        if self.interface_bytes:
            body = bytes([0x70 | self.fsci, 0x80, self.fwi << 4 | self.sfgi, 0x00])
        elif (self.fwi, self.sfgi) == (DEFAULT_FWI, 0):
            body = bytes([self.fsci])
        else:
            raise IsoDepError(f"FWI {self.fwi} and SFGI {self.sfgi} cannot be said without TB")
        body += self.historical
        return bytes([len(body) + 1]) + body

    @classmethod
    def from_bytes(cls, ats: bytes) -> "Ats":
        """Parse.

        Raises:
            IsoDepError: TL is not the length, or an announced interface byte is missing.
        """
        if not ats or ats[0] != len(ats):
            raise IsoDepError(f"an answer to select whose length byte is not {len(ats)}")
        if len(ats) == 1:
            return cls(interface_bytes=False)
        t0, rest = ats[1], bytes(ats[2:])
        present = [bool(t0 & bit) for bit in (0x10, 0x20, 0x40)]
        if len(rest) < sum(present):
            raise IsoDepError("an answer to select that ends before its interface bytes")
        fwi, sfgi = DEFAULT_FWI, 0
        if present[1]:
            tb = rest[present[0]]
            fwi, sfgi = tb >> 4, tb & 0x0F
        return cls(t0 & 0x0F, fwi, sfgi, rest[sum(present) :], interface_bytes=any(present))

    @property
    def link(self) -> Link:
        """What the reader has to keep to."""
        return Link(frame_bytes(self.fsci), frame_waiting_time_s(self.fwi), guard_time_s(self.sfgi), self.historical)


@dataclass(frozen=True, slots=True)
class Atqb:
    """Answer to request, type B (ISO/IEC 14443-3:2018 §7.9).

    Attributes:
        pupi: Pseudo-unique identifier, 4 bytes, possibly random.
        application: Application data, 4 bytes.
        fsci: Frame size index of the card.
        fwi: Frame waiting time index.
        sfgi: Start-up guard time index, said only by the extended form.
        iso_dep: Whether the card speaks ISO/IEC 14443-4.
    """

    pupi: bytes
    application: bytes
    fsci: int
    fwi: int
    sfgi: int = 0
    iso_dep: bool = True

    def __bytes__(self) -> bytes:
        protocol = bytes([0x00, self.fsci << 4 | self.iso_dep, self.fwi << 4])
        return b"\x50" + self.pupi + self.application + protocol + (bytes([self.sfgi << 4]) if self.sfgi else b"")

    @classmethod
    def from_bytes(cls, atqb: bytes) -> "Atqb":
        """Parse the basic or extended form.

        Raises:
            IsoDepError: It is neither.
        """
        if len(atqb) not in _ATQB_BYTES or atqb[0] != 0x50:
            raise IsoDepError(f"{len(atqb)} bytes that are not an answer to request B")
        return cls(
            pupi=bytes(atqb[1:5]),
            application=bytes(atqb[5:9]),
            fsci=atqb[10] >> 4,
            fwi=atqb[11] >> 4,
            sfgi=atqb[12] >> 4 if len(atqb) == max(_ATQB_BYTES) else 0,
            iso_dep=bool(atqb[10] & 1),
        )

    @property
    def link(self) -> Link:
        """What the reader has to keep to."""
        return Link(frame_bytes(self.fsci), frame_waiting_time_s(self.fwi), guard_time_s(self.sfgi), self.application)


def rats(fsdi: int) -> bytes:
    """Return the request for answer to select, with CID 0 (§5.1)."""
    return bytes([0xE0, fsdi << 4])


def attrib(atqb: Atqb, fsdi: int) -> bytes:
    """Return ATTRIB: default timing, 106 kbit/s, ISO/IEC 14443-4, CID 0, no higher layer (ISO/IEC 14443-3 §7.10)."""
    return b"\x1d" + atqb.pupi + bytes([0x00, fsdi, 0x01, 0x00])


def check_attrib_answer(answer: bytes) -> None:
    """Check the answer to `attrib` (ISO/IEC 14443-3 §7.11).

    Raises:
        IsoDepError: It is empty or belongs to another CID.
    """
    if not answer or answer[0] & 0x0F:
        raise IsoDepError("an answer to ATTRIB that is empty or not for CID 0")


def _waiting_multiplier(inf: int) -> int:
    """Read WTXM: 0 is an error, the reserved 60 to 63 mean 59; the power bits above it are not ours (§7.3)."""
    multiplier = inf & 0x3F
    if multiplier == 0:
        raise IsoDepError("a waiting time extension of nothing")
    return min(multiplier, MAX_WTXM)
