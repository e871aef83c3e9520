"""An EstEID 3.5 card in software: the Estonian identity card of 2014 to 2018, for contacts.

It holds what a terminal reads (the personal data file, the certificates, the tries of its PINs) and signs with the
authentication key once PIN1 was verified. A certificate need not belong to the key: a card like that is a clone, and a
desk must say so.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardware import tlv
from hardware.apdu import INS_GET_RESPONSE, SHORT_LE_MAX, SW, ApduError, CommandApdu
from hardware.virtual.chip import Answer
from hardware.virtual.piv_key import CardFileError, CardKey, ChallengeRefused
from hardware.virtual.timing import ChipTiming, KeyType

ATR = bytes.fromhex("3BFA1800008031FE45FE654944202F20504B4903")
"""Cold answer to reset of version 3.5."""

RECORDS = 16
"""Records of the personal data file."""

INS_VERIFY = 0x20
INS_MANAGE_SECURITY_ENVIRONMENT = 0x22
INS_INTERNAL_AUTHENTICATE = 0x88
INS_SELECT = 0xA4
INS_READ_BINARY = 0xB0
INS_READ_RECORD = 0xB2

_HISTORICAL = ATR[9:19]
_AID = bytes.fromhex("D23300000045737445494420763335")
_ROOT, _DIRECTORY = 0x3F00, 0xEEEE
_PIN_TRIES, _PERSONAL_DATA, _CERTIFICATE, _SIGNING_CERTIFICATE = 0x0016, 0x5044, 0xAACE, 0xDDCE
_CERTIFICATE_FILE_BYTES = 0x600
_RECORD_BYTES = 50
_PIN_TRY_RECORD_BYTES = 12
_ALIVE = bytes.fromhex("8A0105")  # life cycle: operational and activated

_MOST_TRIES = 3
_PIN_DIGITS = range(4, 13)
_PIN1 = 0x01
_SE_AUTHENTICATION, _SE_DECIPHER = 1, 6
_KEY_REFERENCES = frozenset({bytes.fromhex("8303801100"), bytes.fromhex("8300")})
_TEMPLATES = frozenset({0xA4, 0xB8})

_RSA_BYTES, _P384_BYTES = 256, 48
_RSA_DATA_MOST = 0xF5  # leaves the eleven bytes of PKCS #1 v1.5 padding

_SW_END_OF_FILE = 0x6282
_SW_WRONG_PIN = 0x63C0  # and the tries that are left
_SW_NOT_THIS_STRUCTURE = 0x6981
_SW_PIN_BLOCKED = 0x6983
_SW_NO_CURRENT_FILE = 0x6986
_SW_RECORD_NOT_FOUND = 0x6A83
_SW_OFFSET_OUTSIDE = 0x6B00


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class EstEid3Chip:
    """An EstEID card, a `hardware.virtual.chip.Chip`.

    Args:
        key: The authentication key: RSA-2048, or P-384 as after a renewal.
        certificate: What EF AACE holds before its padding, DER; it is not checked against the key.
        personal_data: The sixteen records of EF 5044, text of code page 1252; an empty one is stored as a space.
        signing_certificate: What EF DDCE holds; None leaves the file out.
        pin: PIN1, 4 to 12 digits.
        tries: How many tries PIN1 has left; 0 is a blocked one.
        piece: Greatest number of data bytes per response.
        timing: The silicon whose compute time the answers carry; None carries none.

    Raises:
        CardFileError: The card has no such key, or a certificate does not fit its file.
        NoFigure: The timing's card model was never measured with the key's type.
        ValueError: Another value is out of range.
    """

    def __init__(
        self,
        key: PrivateKeyTypes,
        certificate: bytes,
        personal_data: Sequence[str],
        *,
        signing_certificate: bytes | None = None,
        pin: str = "1234",
        tries: int = _MOST_TRIES,
        piece: int = SHORT_LE_MAX,
        timing: ChipTiming | None = None,
    ) -> None:
        self._key = CardKey.of(key)
        if self._key.kind not in (KeyType.RSA_2048, KeyType.P_384):
            raise CardFileError(f"an EstEID card cannot hold a key of kind {self._key.kind}: make RSA-2048 or P-384")
        if len(pin) not in _PIN_DIGITS or not (pin.isascii() and pin.isdecimal()):
            raise ValueError("PIN1 is 4 to 12 decimal digits")
        if not 0 <= tries <= _MOST_TRIES:
            raise ValueError(f"a PIN has 0 to {_MOST_TRIES} tries left")
        if not 1 <= piece <= SHORT_LE_MAX:
            raise ValueError(f"a response of {piece} bytes: a short APDU carries 1 to {SHORT_LE_MAX}")
        self._compute_s = timing.seconds(self._key.kind) if timing else 0.0
        self._pin = pin.encode()
        self._tries = tries
        self._piece = piece
        self._records = _records(personal_data)
        files = {_CERTIFICATE: _padded(certificate)}
        if signing_certificate is not None:
            files[_SIGNING_CERTIFICATE] = _padded(signing_certificate)
        self._binaries: Mapping[int, bytes] = MappingProxyType(files)
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {
            INS_VERIFY: self._verify,
            INS_MANAGE_SECURITY_ENVIRONMENT: self._manage_security_environment,
            INS_INTERNAL_AUTHENTICATE: self._internal_authenticate,
            INS_SELECT: self._select,
            INS_READ_BINARY: self._read_binary,
            INS_READ_RECORD: self._read_record,
        }
        self.reset()

    @property
    def historical(self) -> bytes:
        """Historical bytes of the ATR."""
        return _HISTORICAL

    @property
    def tries_left(self) -> int:
        """Tries that PIN1 has left."""
        return self._tries

    def reset(self) -> None:
        """Power was removed: the master file is selected, nothing is verified, no response is pending; tries stay."""
        self._directory = _ROOT
        self._file: int | None = None
        self._verified = False
        self._environment = _SE_AUTHENTICATION
        self._outgoing = b""
        self._at_end = False

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        pending, self._outgoing = self._outgoing, b""
        self._at_end = False
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return _status(SW.WRONG_LENGTH)
        if apdu.cla:
            return _status(SW.CLASS_NOT_SUPPORTED)
        command_of = self._commands.get(apdu.ins)
        try:
            if apdu.ins == INS_GET_RESPONSE:
                return self._answer(_continued(apdu, pending), apdu.le or SHORT_LE_MAX)
            if command_of is None:
                return _status(SW.INSTRUCTION_NOT_SUPPORTED)
            data = command_of(apdu)
        except _Refused as refused:
            return _status(refused.sw)
        return self._answer(data, apdu.le or 0, self._compute_s if apdu.ins == INS_INTERNAL_AUTHENTICATE else 0.0)

    def _answer(self, data: bytes, le: int, compute_s: float = 0.0) -> Answer:
        """Give as much as was asked for, and announce the rest: without Le (T=0, ISO/IEC 7816-3 §12.2.5) all of it."""
        size = min(le, self._piece)
        self._outgoing = data[size:]
        waiting = min(len(self._outgoing), self._piece)
        sw = 0x6100 | (waiting & 0xFF) if waiting else _SW_END_OF_FILE if self._at_end else SW.OK
        return Answer(data[:size] + sw.to_bytes(2), compute_s)

    def _select(self, apdu: CommandApdu) -> bytes:
        """The master file, a directory below it, a file of the current directory, or the application by its name."""
        if apdu.p2 not in (0x00, 0x04, 0x0C):
            raise _Refused(SW.INCORRECT_P1_P2)
        identifier = int.from_bytes(apdu.data)
        match apdu.p1:
            case 0x00 if not apdu.data or identifier == _ROOT:
                self._directory, self._file = _ROOT, None
            case 0x01 if identifier == _DIRECTORY:
                self._directory, self._file = _DIRECTORY, None
            case 0x02 if identifier in self._files():
                self._file = identifier
            case 0x04 if apdu.data == _AID:
                self._directory, self._file = _ROOT, None
            case 0x00 | 0x01 | 0x02 | 0x04:
                raise _Refused(SW.FILE_NOT_FOUND)
            case _:
                raise _Refused(SW.INCORRECT_P1_P2)
        return b"" if apdu.p2 == 0x0C else self._template()

    def _files(self) -> frozenset[int]:
        if self._directory == _ROOT:
            return frozenset({_PIN_TRIES})
        return frozenset({_PERSONAL_DATA, *self._binaries})

    def _template(self) -> bytes:
        """What SELECT tells of a directory (6F) or file (62): descriptor 82, identifier 83, size 85, life cycle 8A."""
        file = self._file
        if file is None:
            return tlv.encode(0x6F, bytes.fromhex("820138") + tlv.encode(0x83, self._directory.to_bytes(2)) + _ALIVE)
        if file in self._binaries:
            descriptor, size = bytes.fromhex("820101"), len(self._binaries[file])
        else:
            records = self._linear(file)
            widest = _PIN_TRY_RECORD_BYTES if file == _PIN_TRIES else _RECORD_BYTES
            descriptor = tlv.encode(0x82, bytes([0x04, 0x41, 0x00, widest, len(records)]))
            size = sum(map(len, records))
        return tlv.encode(
            0x62, descriptor + tlv.encode(0x83, file.to_bytes(2)) + tlv.encode(0x85, size.to_bytes(2)) + _ALIVE
        )

    def _linear(self, file: int) -> Sequence[bytes]:
        if file == _PERSONAL_DATA:
            return self._records
        return [_pin_tries(left) for left in (self._tries, _MOST_TRIES, _MOST_TRIES)]

    def _read_binary(self, apdu: CommandApdu) -> bytes:
        if self._file is None:
            raise _Refused(_SW_NO_CURRENT_FILE)
        if self._file not in self._binaries:
            raise _Refused(_SW_NOT_THIS_STRUCTURE)
        if apdu.data or apdu.le is None:
            raise _Refused(SW.WRONG_LENGTH)
        content, offset = self._binaries[self._file], apdu.p1 << 8 | apdu.p2
        if offset >= len(content):
            raise _Refused(_SW_OFFSET_OUTSIDE)
        data = content[offset : offset + apdu.le]
        self._at_end = len(data) < apdu.le < SHORT_LE_MAX
        return data

    def _read_record(self, apdu: CommandApdu) -> bytes:
        if self._file is None:
            raise _Refused(_SW_NO_CURRENT_FILE)
        if self._file in self._binaries:
            raise _Refused(_SW_NOT_THIS_STRUCTURE)
        if apdu.p2 != 0x04:
            raise _Refused(SW.INCORRECT_P1_P2)
        records = self._linear(self._file)
        if not 1 <= apdu.p1 <= len(records):
            raise _Refused(_SW_RECORD_NOT_FOUND)
        return records[apdu.p1 - 1]

    def _verify(self, apdu: CommandApdu) -> bytes:
        if apdu.p1 or apdu.p2 != _PIN1:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        if not apdu.data:
            raise _Refused(SW.WRONG_LENGTH)
        if not self._tries:
            raise _Refused(_SW_PIN_BLOCKED)
        self._tries -= 1  # spent before the comparison, as a card does: tearing it away buys no free guess
        self._verified = hmac.compare_digest(apdu.data, self._pin)
        if not self._verified:
            raise _Refused(_SW_WRONG_PIN | self._tries)
        self._tries = _MOST_TRIES
        return b""

    def _manage_security_environment(self, apdu: CommandApdu) -> bytes:
        """Restore an environment (F3), or set the key of a template (41); there is one key to set."""
        if apdu.p1 == 0xF3 and apdu.p2 in (_SE_AUTHENTICATION, _SE_DECIPHER):
            self._environment = apdu.p2
        elif apdu.p1 != 0x41 or apdu.p2 not in _TEMPLATES:
            raise _Refused(SW.INCORRECT_P1_P2)
        elif apdu.data not in _KEY_REFERENCES:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        return b""

    def _internal_authenticate(self, apdu: CommandApdu) -> bytes:
        if apdu.p1 or apdu.p2:
            raise _Refused(SW.INCORRECT_P1_P2)
        if not self._verified:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        if self._environment != _SE_AUTHENTICATION:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        if not 1 <= len(apdu.data) <= _RSA_DATA_MOST:
            raise _Refused(SW.WRONG_LENGTH)
        if self._key.kind is KeyType.RSA_2048:
            padding = b"\x00\x01" + b"\xff" * (_RSA_BYTES - 3 - len(apdu.data)) + b"\x00"
            return self._key.sign(padding + apdu.data)
        try:
            pair = decode_dss_signature(self._key.sign(apdu.data))
        except ChallengeRefused:
            raise _Refused(SW.WRONG_LENGTH) from None
        return b"".join(number.to_bytes(_P384_BYTES) for number in pair)


def _status(sw: int) -> Answer:
    return Answer(sw.to_bytes(2))


def _continued(apdu: CommandApdu, pending: bytes) -> bytes:
    if apdu.p1 or apdu.p2:
        raise _Refused(SW.INCORRECT_P1_P2)
    if not pending:
        raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
    return pending


def _pin_tries(left: int) -> bytes:
    return bytes([0x80, 1, _MOST_TRIES, 0x90, 1, left]) + bytes.fromhex("83020000")


def _padded(certificate: bytes) -> bytes:
    if len(certificate) > _CERTIFICATE_FILE_BYTES:
        raise CardFileError(f"a certificate of {len(certificate)} bytes in a file of {_CERTIFICATE_FILE_BYTES}")
    return certificate.ljust(_CERTIFICATE_FILE_BYTES, b"\x00")


def _records(personal_data: Sequence[str]) -> Sequence[bytes]:
    if len(personal_data) != RECORDS:
        raise ValueError(f"the personal data file has {RECORDS} records, not {len(personal_data)}")
    records = [text.encode("cp1252") or b" " for text in personal_data]
    if any(len(record) > _RECORD_BYTES for record in records):
        raise ValueError(f"a record holds {_RECORD_BYTES} bytes at most")
    return records
