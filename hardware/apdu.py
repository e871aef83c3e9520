"""Command and response APDUs (ISO/IEC 7816-4:2020 §5), and the exchanges that every card family needs.

Nothing here does I/O. The exchanges are generators of `CommandApdu` that are sent `ResponseApdu`s, so that a profile
uses them with ``yield from`` and a recorded script replays through ``send()``.
"""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from enum import IntEnum, unique

SHORT_LE_MAX = 256
SHORT_LC_MAX = 255
CHAINING = 0x10
INS_GET_RESPONSE = 0xC0

MAX_RESPONSE_BYTES = 8 * 1024
MAX_RESPONSE_APDUS = 64


@unique
class SW(IntEnum):
    """Status words by their names in ISO/IEC 7816-4 §5.6. A card may answer others; they travel as plain numbers."""

    OK = 0x9000
    WRONG_LENGTH = 0x6700
    SECURITY_STATUS_NOT_SATISFIED = 0x6982
    CONDITIONS_OF_USE_NOT_SATISFIED = 0x6985
    INCORRECT_DATA = 0x6A80
    FUNCTION_NOT_SUPPORTED = 0x6A81
    FILE_NOT_FOUND = 0x6A82
    INCORRECT_P1_P2 = 0x6A86
    REFERENCED_DATA_NOT_FOUND = 0x6A88
    INSTRUCTION_NOT_SUPPORTED = 0x6D00
    CLASS_NOT_SUPPORTED = 0x6E00
    UNKNOWN_ERROR = 0x6F00


class ApduError(ValueError):
    """The bytes are not an APDU, or an exchange left its bounds."""


@dataclass(frozen=True, slots=True)
class CommandApdu:
    """One command.

    Attributes:
        cla: Class byte.
        ins: Instruction byte.
        p1: First parameter.
        p2: Second parameter.
        data: Command data; more than 255 bytes are sent by `exchange` as a chain.
        le: Greatest number of response bytes wanted, 1 to 256 (short) or 65536 (extended); None sends no Le field.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = field(default=b"", repr=False)  # it may hold somebody's PIN
    le: int | None = None

    def __bytes__(self) -> bytes:
        """Encode in the short form (ISO/IEC 7816-4 §5.2, cases 1 to 4).

        Raises:
            ApduError: The data or Le does not fit the short form.
        """
        if len(self.data) > SHORT_LC_MAX:
            raise ApduError(f"{len(self.data)} bytes of data do not fit a short APDU: chain them")
        if self.le is not None and not 1 <= self.le <= SHORT_LE_MAX:
            raise ApduError(f"Le {self.le} does not fit a short APDU")
        out = bytes([self.cla, self.ins, self.p1, self.p2])
        if self.data:
            out += bytes([len(self.data)]) + self.data
        if self.le is not None:
            out += bytes([self.le & 0xFF])
        return out

    @classmethod
    def from_bytes(cls, apdu: bytes) -> "CommandApdu":
        """Decode a short or extended command, as a card receives it.

        Raises:
            ApduError: The length fields do not add up.
        """
        if len(apdu) < 4:  # CLA INS P1 P2
            raise ApduError(f"{len(apdu)} bytes are too few for a command")
        data, le = _split_body(bytes(apdu[4:]))
        return cls(apdu[0], apdu[1], apdu[2], apdu[3], data, le)


@dataclass(frozen=True, slots=True)
class ResponseApdu:
    """One response: its data field and its status word."""

    data: bytes
    sw: int

    def __bytes__(self) -> bytes:
        return self.data + self.sw.to_bytes(2)

    @classmethod
    def from_bytes(cls, apdu: bytes) -> "ResponseApdu":
        """Decode a response.

        Raises:
            ApduError: There is no room for a status word.
        """
        if len(apdu) < 2:  # SW1 SW2
            raise ApduError(f"{len(apdu)} bytes are too few for a response")
        return cls(bytes(apdu[:-2]), int.from_bytes(apdu[-2:]))

    @property
    def ok(self) -> bool:
        """Whether the status word is 9000."""
        return self.sw == SW.OK

    @property
    def more(self) -> int | None:
        """How many bytes the card still holds (256 for ``6100``, which means "256 or more"), or None."""
        if self.sw >> 8 != 0x61:  # SW1 of "bytes remain"
            return None
        return self.sw & 0xFF or SHORT_LE_MAX

    @property
    def wanted_le(self) -> int | None:
        """The Le that the card asks for with ``6Cxx``, or None."""
        if self.sw >> 8 != 0x6C:  # SW1 of "wrong Le"
            return None
        return self.sw & 0xFF or SHORT_LE_MAX


ApduExchange = Generator[CommandApdu, ResponseApdu, ResponseApdu]


def exchange(command: CommandApdu, *, chunk: int = SHORT_LC_MAX) -> ApduExchange:
    """Send one command whole and collect its response whole: `send` followed by `drain`.

    Args:
        command: The command; its data may be longer than one APDU holds.
        chunk: Data bytes per link of a command chain; readers that insert a CID want 240.

    Returns:
        The response with all its data and its last status word, whatever that is.

    Raises:
        ApduError: The card gave more bytes or more APDUs than the bounds allow.
    """
    first = yield from send(command, chunk=chunk)
    return (yield from drain(command.cla, first))


def send(command: CommandApdu, *, chunk: int = SHORT_LC_MAX) -> ApduExchange:
    """Send one command, chained if it is long (§5.4.1), and return the first response without fetching the rest.

    A link of a chain that is refused ends it: its response is returned. ``6Cxx`` is answered by repeating the command
    with the Le that the card asked for, once.
    """
    data = command.data
    while len(data) > chunk:
        link = replace(command, cla=command.cla | CHAINING, data=data[:chunk], le=None)
        response = yield link
        if not response.ok:
            return response
        data = data[chunk:]
    last = replace(command, data=data)
    response = yield last
    if response.wanted_le is not None:
        response = yield replace(last, le=response.wanted_le)
    return response


def drain(cla: int, first: ResponseApdu) -> ApduExchange:
    """Fetch what is left of a response with GET RESPONSE until the card stops saying ``61xx`` (§5.3.4).

    Raises:
        ApduError: More than 8 KiB, more than 64 APDUs, or a link that brings nothing and still promises more.
    """
    data, response = first.data, first
    for _ in range(MAX_RESPONSE_APDUS):
        if response.more is None:
            return ResponseApdu(data, response.sw)
        response = yield CommandApdu(cla & ~CHAINING, INS_GET_RESPONSE, 0, 0, le=response.more)
        if response.wanted_le is not None:
            response = yield CommandApdu(cla & ~CHAINING, INS_GET_RESPONSE, 0, 0, le=response.wanted_le)
        if response.more is not None and not response.data:
            raise ApduError("the card promises more bytes and brings none")
        data += response.data
        if len(data) > MAX_RESPONSE_BYTES:
            raise ApduError(f"a response of more than {MAX_RESPONSE_BYTES} bytes")
    raise ApduError(f"a response of more than {MAX_RESPONSE_APDUS} APDUs")


def _split_body(body: bytes) -> tuple[bytes, int | None]:
    """Split what follows the header into data and Le (§5.2, table 1)."""
    if not body:
        return b"", None
    if len(body) == 1:
        return b"", body[0] or SHORT_LE_MAX
    if body[0] != 0:
        return _split_counted(body[1:], body[0], le_bytes=1)
    if len(body) == 3:  # case 2 extended: 00 Le Le
        return b"", int.from_bytes(body[1:3]) or 65536
    if len(body) < 3:
        raise ApduError("a zero length byte that nothing follows")
    return _split_counted(body[3:], int.from_bytes(body[1:3]), le_bytes=2)


def _split_counted(rest: bytes, lc: int, *, le_bytes: int) -> tuple[bytes, int | None]:
    data, tail = rest[:lc], rest[lc:]
    if lc == 0 or len(data) != lc or len(tail) not in (0, le_bytes):
        raise ApduError(f"Lc {lc} does not match {len(rest)} bytes that follow")
    return data, (int.from_bytes(tail) or 256**le_bytes) if tail else None
