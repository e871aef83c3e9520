"""A card of directories, files and PINs in software (ISO/IEC 7816-4), whoever's application it is.

`FileTree` knows what is where and what is selected, `Pin` counts tries, `Transport` stands between a chip's brain and
the bytes that come: it decodes them, leads them through PACE where the card speaks over the air, and cuts long answers.
"""

import hmac
from collections.abc import Callable, Collection, Mapping

from hardware import tlv
from hardware.apdu import INS_GET_RESPONSE, SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu
from hardware.virtual.chip import Answer
from hardware.virtual.pace_card import PaceCard

MOST_TRIES = 3
PIN_BLOCK_BYTES = 12

ROOT = b""
"""The master file's path. Others are as long as they have steps, two bytes for each."""

WITHOUT_TEMPLATE = 0x0C
"""P2 of a SELECT that wants nothing told."""

_MASTER_FILE = bytes.fromhex("3F00")
_TEMPLATES_WANTED = (0x00, 0x04)
_STEP = 2

_SW_WRONG_PIN = 0x63C0  # and the tries that are left
_SW_PIN_BLOCKED = 0x6983
_SW_NO_CURRENT_FILE = 0x6986
_SW_OFFSET_OUTSIDE = 0x6B00


class Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside a chip
    """A command that the card answers with a status word alone.

    Attributes:
        sw: The status word.
    """

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class FileTree:
    """Transparent files by their paths, and which of them is selected.

    Args:
        files: Content by path from the master file. Directories are what the paths lead through.
        template: What SELECT tells of a file, from its identifier and its size.
        empty: Paths of directories that no file is in.

    Attributes:
        directory: Path of the current directory; None while nothing is selected.
    """

    def __init__(
        self,
        files: Mapping[bytes, bytes],
        template: Callable[[bytes, int], bytes],
        empty: Collection[bytes] = (),
    ) -> None:
        self._files = dict(files)
        self._directories = {path[:end] for path in files for end in range(0, len(path), _STEP)} | {*empty}
        self._template = template
        self.directory: bytes | None = None
        self._file: bytes | None = None

    def enter(self, directory: bytes | None) -> None:
        """Make a directory the current one; None selects nothing."""
        self.directory, self._file = directory, None

    def select(self, command: CommandApdu) -> bytes:
        """Answer a SELECT by identifier or path (§11.2.2): P1 00, 01, 02, 08 or 09.

        Raises:
            Refused: Nothing of that name is there, or the command is of another form.
        """
        if command.p2 not in (*_TEMPLATES_WANTED, WITHOUT_TEMPLATE):
            raise Refused(SW.INCORRECT_P1_P2)
        if self.directory is None or len(command.data) % _STEP:
            raise Refused(SW.FILE_NOT_FOUND)
        here, name = self.directory, command.data
        match command.p1:
            case 0x00 if name in (b"", _MASTER_FILE):
                self.enter(ROOT)
            case 0x01 if len(name) == _STEP and here + name in self._directories:
                self.enter(here + name)
            case 0x02 if len(name) == _STEP and here + name in self._files:
                self._file = here + name
            case 0x08 if name:
                self._go(name)
            case 0x09 if name:
                self._go(here + name)
            case 0x00 | 0x01 | 0x02 | 0x08 | 0x09:
                raise Refused(SW.FILE_NOT_FOUND)
            case _:
                raise Refused(SW.INCORRECT_P1_P2)
        return b"" if command.p2 == WITHOUT_TEMPLATE else self._told()

    def read(self, command: CommandApdu, most: int) -> bytes:
        """Answer a READ BINARY of the selected file (§11.3.3), up to `most` bytes, and whatever is left near its end.

        Raises:
            Refused: There is no such file, or it ends before the offset.
        """
        if self._file is None:
            raise Refused(_SW_NO_CURRENT_FILE)
        if command.data or command.le is None:
            raise Refused(SW.WRONG_LENGTH)
        if command.p1 & 0x80:
            raise Refused(SW.INCORRECT_P1_P2)
        content, offset = self._files[self._file], command.p1 << 8 | command.p2
        if offset >= len(content):
            raise Refused(_SW_OFFSET_OUTSIDE)
        return content[offset : offset + min(command.le, most)]

    @property
    def file(self) -> bytes | None:
        """Path of the selected file, or None."""
        return self._file

    def _go(self, path: bytes) -> None:
        if path in self._files:
            self.directory, self._file = path[:-_STEP], path
        elif path in self._directories:
            self.enter(path)
        else:
            raise Refused(SW.FILE_NOT_FOUND)

    def _told(self) -> bytes:
        if self._file is not None:
            return self._template(self._file[-_STEP:], len(self._files[self._file]))
        assert self.directory is not None
        return tlv.encode(0x6F, tlv.encode(0x83, self.directory[-_STEP:] or _MASTER_FILE))


class Pin:
    """One PIN and its tries.

    Args:
        digits: The PIN.
        padding: What fills its block.
        tries: How many are left; 0 is a blocked PIN.
        transport: Whether it is still the one that the card was sent with: it opens nothing.

    Attributes:
        verified: Whether it was given since the card was put in.

    Raises:
        ValueError: The PIN is none, or the tries are out of range.
    """

    def __init__(self, digits: str, padding: int, *, tries: int = MOST_TRIES, transport: bool = False) -> None:
        if not 4 <= len(digits) <= PIN_BLOCK_BYTES or not (digits.isascii() and digits.isdecimal()):
            raise ValueError(f"a PIN is 4 to {PIN_BLOCK_BYTES} decimal digits")
        if not 0 <= tries <= MOST_TRIES:
            raise ValueError(f"a PIN has 0 to {MOST_TRIES} tries left")
        self._block = digits.encode().ljust(PIN_BLOCK_BYTES, bytes([padding]))
        self._tries = tries
        self.transport = transport
        self.verified = False

    @property
    def tries(self) -> int:
        """Tries left."""
        return self._tries

    def verify(self, block: bytes) -> None:
        """Answer VERIFY (§11.6.6); without data it asks for the state.

        Raises:
            Refused: The PIN is not verified: wrong, blocked, or not to be used.
        """
        if not self._tries:
            raise Refused(_SW_PIN_BLOCKED)
        if self.transport:
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        if block:
            self._try(block)
        if not self.verified:
            raise Refused(_SW_WRONG_PIN | self._tries)

    def _try(self, block: bytes) -> None:
        if len(block) != PIN_BLOCK_BYTES:
            raise Refused(SW.WRONG_LENGTH)
        self._tries -= 1  # spent before the comparison, as a card does: tearing it away buys no free guess
        self.verified = hmac.compare_digest(block, self._block)
        if self.verified:
            self._tries = MOST_TRIES


class Transport:
    """The transport between bytes and a card's application.

    Args:
        application: Answers plain commands with data, or raises `Refused`.
        pace: What the card speaks over the air; None for a card at its contacts.
        opened: Is told that a session began.
    """

    def __init__(
        self,
        application: Callable[[CommandApdu], bytes],
        pace: PaceCard | None,
        opened: Callable[[], None],
    ) -> None:
        self._application, self._pace, self._opened = application, pace, opened
        self._outgoing = b""
        self._last_sw = int(SW.OK)

    @property
    def readable(self) -> bool:
        """Whether who asks may read: at the contacts everybody, over the air who knows the CAN."""
        return self._pace is None or self._pace.established

    def most(self, in_session: int) -> int:
        """Return how many bytes one answer carries: `in_session` inside a session, as many as it holds without."""
        return in_session if self._pace is not None and self._pace.established else SHORT_LE_MAX

    def reset(self) -> None:
        """Power was removed."""
        self._outgoing = b""
        if self._pace is not None:
            self._pace.reset()

    def process(self, command: bytes) -> bytes:
        """Answer one command APDU; any bytes get a status word."""
        pending, self._outgoing = self._outgoing, b""
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return SW.WRONG_LENGTH.to_bytes(2)
        if (apdu.cla, apdu.ins) == (0x00, INS_GET_RESPONSE):
            return self._cut(pending, self._last_sw) if pending else SW.CONDITIONS_OF_USE_NOT_SATISFIED.to_bytes(2)
        response = self._answer(apdu)
        return self._cut(response.data, response.sw)

    def _answer(self, apdu: CommandApdu) -> ResponseApdu:
        if self._pace is None:
            return self._plain(apdu)
        before = self._pace.established
        response = self._pace.process(apdu, self._plain)
        if self._pace.established and not before:
            self._opened()
        return response

    def _plain(self, apdu: CommandApdu) -> ResponseApdu:
        if apdu.cla:
            return ResponseApdu(b"", SW.CLASS_NOT_SUPPORTED)
        try:
            return ResponseApdu(self._application(apdu), SW.OK)
        except Refused as refused:
            return ResponseApdu(b"", refused.sw)

    def _cut(self, data: bytes, sw: int) -> bytes:
        """Give what a short answer holds, and announce the rest: a sealed answer may be longer than its content was."""
        self._outgoing, self._last_sw = data[SHORT_LE_MAX:], sw
        if self._outgoing:
            sw = 0x6100 | (min(len(self._outgoing), SHORT_LE_MAX) & 0xFF)
        return data[:SHORT_LE_MAX] + sw.to_bytes(2)


def answered(octets: bytes, compute_s: float = 0.0) -> Answer:
    """Say it, after the time that real silicon would have taken where the answer is a good one."""
    return Answer(octets, compute_s if octets[-2:] == SW.OK.to_bytes(2) else 0.0)
