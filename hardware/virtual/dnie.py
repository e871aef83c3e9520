"""A Spanish DNIe in software: its files, PACE over the air, and the internal authentication of CWA 14890-1.

It does what a card does without its PIN. Through contacts its public files are free; over the air there has to be a
session of PACE first. Terminals show it their card-verifiable certificates, which it verifies with the component root's
key; then its chip answers, encrypted to the terminal. A certificate need not belong to its key: a card like that is a
clone.

Files are addressed as the card has it: the master file by its name, everything else by its identifier, one directory
at a time. Control information tells a file's length in a proprietary object (85).
"""

import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicNumbers

from hardware import cwa14890, pace, tlv
from hardware.apdu import CHAINING, INS_GET_RESPONSE, SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu
from hardware.cwa14890 import Cwa14890Error, TerminalCertificate
from hardware.iso9796 import Iso9796Error
from hardware.tlv import TlvError
from hardware.virtual.chip import Answer
from hardware.virtual.pace_card import PaceCard

MASTER_FILE = b"Master.File"
SUITE = pace.PaceInfo.of(pace.Mapping.GM, 16, 13)
"""AES-128 over brainpoolP256r1, generic mapping."""

SUPPORT_NUMBER, VERSION = bytes.fromhex("0006"), bytes.fromhex("2F03")
COMPONENT, COMPONENT_ISSUER = bytes.fromhex("601F"), bytes.fromhex("6020")
DIRECTORY, CERTIFICATES = bytes.fromhex("5015"), bytes.fromhex("6004")

HISTORICAL_AIR = bytes.fromhex("E1F35E117781A100")
HISTORICAL_CONTACT = bytes.fromhex("006A444E4965100000000400039000")
"""``DNIe`` and, as the twelfth byte, version 4 of the card's system; operative."""

_INS_SELECT, _INS_READ_BINARY, _INS_MSE, _INS_PSO = 0xA4, 0xB0, 0x22, 0x2A
_INS_INTERNAL_AUTHENTICATE, _INS_CHIP_INFO = 0x88, 0xB8
_CLASS_OWN = 0x90
_SERIAL_BYTES = 7
_ROOT_REFERENCE, _CHIP_KEY_REFERENCE = bytes.fromhex("020F"), bytes.fromhex("021F")
_FILE, _PACKED_FILE, _DIRECTORY_FILE = 0x01, 0x24, 0x38
_MASTER_IDENTIFIER = bytes.fromhex("3F00")
_FREE_OVER_THE_AIR = frozenset({pace.EF_CARD_ACCESS})
_SW_OFFSET_OUTSIDE = 0x6B00
_SW_CHAINING_NOT_SUPPORTED = 0x6884
_SECURED = 0x0C


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


@dataclass(frozen=True, slots=True)
class Component:
    """The chip's own key and what certifies it.

    Attributes:
        key: RSA of 1024 bits, as on the card; of 2048 where one wants to try.
        certificate: File 601F: X.509, DER.
        issuer: File 6020: who signed it.
        root: Public key of the component root: signs the certificates of terminals as well.
    """

    key: RSAPrivateKey
    certificate: bytes
    issuer: bytes
    root: RSAPublicNumbers


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate of the holder's, and where it lies.

    Attributes:
        label: Its name in the directory.
        path: Identifiers of directories and file below the master file.
        certificate: DER.
        subject: Name of the holder, DER, as the directory repeats it; empty leaves it out.
        packed: Whether the file holds it packed with zlib, as cards do.
        protected: Whether only the holder may read it, after the PIN.
    """

    label: str
    path: tuple[bytes, ...]
    certificate: bytes
    subject: bytes = b""
    packed: bool = True
    protected: bool = False

    @property
    def content(self) -> bytes:
        """Content of the file."""
        if not self.packed:
            return self.certificate
        packed = zlib.compress(self.certificate, 9)
        return len(self.certificate).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed

    @property
    def described(self) -> bytes:
        """The entry of the directory (PKCS #15 §6.6): label, identifier, path and subject."""
        common = tlv.encode(0x30, tlv.encode(0x0C, self.label.encode()))
        identifier = tlv.encode(0x30, tlv.encode(0x04, self.label.encode()[::-1]))
        path = tlv.encode(0x30, tlv.encode(0x04, _MASTER_IDENTIFIER + b"".join(self.path)))
        attributes = tlv.encode(0xA1, tlv.encode(0x30, path + self.subject))
        return tlv.encode(0x30, common + identifier + attributes)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a card holds.

    Attributes:
        component: The chip's key; None is a card that has none to offer.
        entries: The holder's certificates.
        support_number: IDESP, nine characters.
        version: Of the card's system.
        serial: Of the chip, 7 bytes.
        directory: Content of the certificate directory where it is not made from `entries`.
    """

    component: Component | None
    entries: tuple[Entry, ...]
    support_number: str = "BMP100001"
    version: str = "DNIe 4.00"
    serial: bytes = bytes(_SERIAL_BYTES)
    directory: bytes | None = None

    def files(self) -> dict[tuple[bytes, ...], bytes]:
        """Return every file by its path below the master file."""
        described = b"".join(entry.described for entry in self.entries) + bytes(32)
        found = {
            (SUPPORT_NUMBER,): self.support_number.encode(),
            (VERSION,): self.version.encode(),
            (DIRECTORY, CERTIFICATES): described if self.directory is None else self.directory,
        }
        if self.component is not None:
            found[COMPONENT,] = self.component.certificate
            found[COMPONENT_ISSUER,] = self.component.issuer
        return found | {entry.path: entry.content for entry in self.entries}


@dataclass(slots=True)
class _State:
    """What power keeps."""

    selected: bool = False
    directory: tuple[bytes, ...] = ()
    file: tuple[bytes, ...] | None = None
    verifying: RSAPublicNumbers | None = None
    authority: TerminalCertificate | None = None
    terminal: TerminalCertificate | None = None
    outgoing: bytes = b""
    authenticating: bool = False
    sealed: bool = False


class DnieChip:
    """A DNIe, a `hardware.virtual.chip.Chip`.

    Args:
        contents: Its files and its chip's key.
        can: Card access number, six digits in ASCII; None is a card that is only spoken to through contacts.
        mrz: What PACE makes its key of, from its machine-readable zone.
        contactless: Whether it lies on a field: then nothing but EF.CardAccess is free.
        named_over_the_air: What a plain SELECT of the master file gets there: 9000, or an error.
        card_access: Whether it has EF.CardAccess.
        infos: The suites of PACE.
        random: Returns that many random bytes.

    Raises:
        ValueError: The chip's serial number has another length.
    """

    def __init__(
        self,
        contents: Contents,
        *,
        can: bytes | None = None,
        mrz: bytes | None = None,
        contactless: bool = False,
        named_over_the_air: int = SW.SECURITY_STATUS_NOT_SATISFIED,
        card_access: bool = True,
        infos: Iterable[pace.PaceInfo] = (SUITE,),
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if len(contents.serial) != _SERIAL_BYTES:
            raise ValueError(f"a chip's serial number of {len(contents.serial)} bytes: it has {_SERIAL_BYTES}")
        self._contents = contents
        self._files: Mapping[tuple[bytes, ...], bytes] = contents.files()
        self._pace = PaceCard(tuple(infos), can=can, mrz=mrz, random=random)
        if card_access:
            self._files = {**self._files, (pace.EF_CARD_ACCESS,): self._pace.card_access}
        self._protected = {entry.path for entry in contents.entries if entry.protected}
        self._packed = {entry.path for entry in contents.entries if entry.packed}
        self._directories = {path[:depth] for path in self._files for depth in range(1, len(path))}
        self._contactless = contactless
        self._named_over_the_air = named_over_the_air
        self._random = random
        self._state = _State()
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {
            _INS_SELECT: self._select,
            _INS_READ_BINARY: self._read_binary,
            _INS_MSE: self._set_environment,
            _INS_PSO: self._verify_certificate,
            _INS_INTERNAL_AUTHENTICATE: self._internal_authenticate,
            _INS_CHIP_INFO: self._chip_info,
        }

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATS and the ATR."""
        return HISTORICAL_AIR if self._contactless else HISTORICAL_CONTACT

    def reset(self) -> None:
        """Power was removed: nothing is selected, no session is open, no terminal is known."""
        self._pace.reset()
        self._state = _State()

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        pending, self._state.outgoing = self._state.outgoing, b""
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return Answer(SW.WRONG_LENGTH.to_bytes(2))
        if apdu.ins == INS_GET_RESPONSE and not apdu.cla:
            return self._continued(pending, apdu.le or SHORT_LE_MAX)
        self._state.sealed = apdu.cla & _SECURED == _SECURED
        response = self._pace.process(apdu, self._application)
        le = SHORT_LE_MAX if self._state.sealed or not apdu.le else apdu.le
        if response.data and apdu.le is None:  # case 3: what there is to say waits for GET RESPONSE
            self._state.outgoing = response.data
            return Answer(bytes([0x61, len(response.data) & 0xFF]))
        if len(response.data) <= le:
            return Answer(bytes(response))
        self._state.outgoing = response.data[le:]
        return Answer(response.data[:le] + bytes([0x61, len(self._state.outgoing) & 0xFF]))

    def _continued(self, pending: bytes, le: int) -> Answer:
        if not pending:
            return Answer(SW.CONDITIONS_OF_USE_NOT_SATISFIED.to_bytes(2))
        self._state.outgoing = pending[le:]
        status = bytes([0x61, len(pending) - le & 0xFF]) if len(pending) > le else SW.OK.to_bytes(2)
        return Answer(pending[:le] + status)

    def _application(self, command: CommandApdu) -> ResponseApdu:
        try:
            _admit(command)
            return ResponseApdu(self._commands.get(command.ins, _unknown)(command), SW.OK)
        except _Refused as refused:
            return ResponseApdu(b"", refused.sw)
        except (TlvError, Cwa14890Error, Iso9796Error):
            return ResponseApdu(b"", SW.INCORRECT_DATA)

    @property
    def _open(self) -> bool:
        """Whether files may be read: through contacts, or inside a session."""
        return not self._contactless or self._state.sealed

    def _require_open(self) -> None:
        if not self._open:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)

    def _select(self, command: CommandApdu) -> bytes:
        if command.p1 == 0x04:
            return self._select_master(command.data)
        if command.p1 not in (0x00, 0x02) or command.p2 not in (0x00, 0x0C):
            raise _Refused(SW.INCORRECT_P1_P2)
        path = (*self._state.directory, command.data)
        if path in self._directories:
            self._require_open()
            self._state.directory, self._state.file = path, None
            return _control(_DIRECTORY_FILE, command.data, 0)
        if path not in self._files:
            raise _Refused(SW.FILE_NOT_FOUND if self._open else SW.SECURITY_STATUS_NOT_SATISFIED)
        if command.data not in _FREE_OVER_THE_AIR:
            self._require_open()
        self._state.file = path
        kind = _PACKED_FILE if path in self._packed else _FILE
        return b"" if command.p2 == 0x0C else _control(kind, command.data, len(self._files[path]))

    def _select_master(self, name: bytes) -> bytes:
        if name != MASTER_FILE:
            raise _Refused(SW.FILE_NOT_FOUND)
        if not self._open and self._named_over_the_air != SW.OK:
            raise _Refused(self._named_over_the_air)
        self._state.directory, self._state.file = (), None
        return _control(_DIRECTORY_FILE, _MASTER_IDENTIFIER, 0, tlv.encode(0x84, MASTER_FILE))

    def _read_binary(self, command: CommandApdu) -> bytes:
        path = self._state.file
        if path is None:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        if path[-1] not in _FREE_OVER_THE_AIR:
            self._require_open()
        if path in self._protected:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        at = command.p1 << 8 | command.p2
        content = self._files[path]
        if at >= len(content):
            raise _Refused(_SW_OFFSET_OUTSIDE)
        return content[at : at + (command.le or SHORT_LE_MAX)]

    def _set_environment(self, command: CommandApdu) -> bytes:
        """MSE: the key that verifies the next certificate, or the two keys of the authentication."""
        self._require_open()
        fields = {item.tag: item.value for item in tlv.parse(command.data)}
        component, state = self._component(), self._state
        if (command.p1, command.p2) == (0x81, 0xB6):
            authority = state.authority
            if fields == {0x83: _ROOT_REFERENCE}:
                state.verifying = component.root
            elif authority is not None and fields == {0x83: authority.holder[-8:]}:
                state.verifying = authority.key
            else:
                raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
            return b""
        if (command.p1, command.p2) != (0xC1, 0xA4):
            raise _Refused(SW.INCORRECT_P1_P2)
        terminal = state.terminal
        if terminal is None or fields != {0x83: terminal.holder, 0x84: _CHIP_KEY_REFERENCE}:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        state.authenticating = True
        return b""

    def _verify_certificate(self, command: CommandApdu) -> bytes:
        self._require_open()
        state = self._state
        issuer, state.verifying = state.verifying, None
        if (command.p1, command.p2) != (0x00, 0xAE):
            raise _Refused(SW.INCORRECT_P1_P2)
        if issuer is None:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        certificate = TerminalCertificate.open(command.data, issuer)
        if issuer == self._component().root:
            state.authority = certificate
        else:
            state.terminal = certificate
        return b""

    def _internal_authenticate(self, command: CommandApdu) -> bytes:
        self._require_open()
        state, component = self._state, self._component()
        if (command.p1, command.p2) != (0, 0):
            raise _Refused(SW.INCORRECT_P1_P2)
        if state.terminal is None or not state.authenticating:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        state.authenticating = False
        if command.data[cwa14890.CHALLENGE_BYTES :] != state.terminal.holder[-cwa14890.SERIAL_BYTES :]:
            raise _Refused(SW.INCORRECT_DATA)
        numbers = component.key.private_numbers()
        return cwa14890.answer(
            (numbers.public_numbers.n, numbers.d),
            state.terminal.key,
            command.data,
            self._random(cwa14890.KEY_BYTES),
            self._random,
        )

    def _chip_info(self, command: CommandApdu) -> bytes:
        self._require_open()
        return self._contents.serial[: command.le or _SERIAL_BYTES]

    def _component(self) -> Component:
        if self._contents.component is None:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        return self._contents.component


def _admit(command: CommandApdu) -> None:
    if command.cla != (_CLASS_OWN if command.ins == _INS_CHIP_INFO else 0):
        raise _Refused(_SW_CHAINING_NOT_SUPPORTED if command.cla & CHAINING else SW.CLASS_NOT_SUPPORTED)


def _unknown(_command: CommandApdu) -> bytes:
    raise _Refused(SW.INSTRUCTION_NOT_SUPPORTED)


def _control(kind: int, identifier: bytes, size: int, name: bytes = b"") -> bytes:
    """Control information: name, then kind, identifier, length and five bytes of access conditions."""
    return tlv.encode(0x6F, name + tlv.encode(0x85, bytes([kind]) + identifier + size.to_bytes(2) + bytes(5)))
