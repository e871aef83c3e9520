"""A travel document in software (ICAO Doc 9303-10 and -11): LDS1 behind PACE, and a chip that can prove itself.

It speaks PACE with generic and chip authentication mapping, Chip Authentication and Active Authentication, as far as it
was given keys for them. A key need not belong to the files: a document like that is a clone, and must be told apart.
Files are handed in as octets, the issuer's signatures among them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardware import chip_authentication, iso9796, lds
from hardware.apdu import CHAINING, INS_GET_RESPONSE, SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu
from hardware.chip_authentication import DYNAMIC_AUTHENTICATION, ChipAuthenticationError
from hardware.domain_parameters import DomainParameters
from hardware.pace import PaceInfo
from hardware.secure_messaging import SecureChannel, SecureMessagingError
from hardware.virtual.chip import Answer
from hardware.virtual.pace_card import PaceCard

INS_MANAGE_SECURITY_ENVIRONMENT = 0x22
INS_GENERAL_AUTHENTICATE = 0x86
INS_INTERNAL_AUTHENTICATE = 0x88
INS_SELECT = 0xA4
INS_READ_BINARY = 0xB0

MASTER_FILE = 0x3F00

_CHALLENGE_BYTES = 8
_SECURED = 0x0C
_SW_END_OF_FILE = 0x6B00
_SW_OBJECTS_WRONG = 0x6988
_PAIRS = {"secp256r1": (hashes.SHA256(), 32), "secp384r1": (hashes.SHA384(), 48)}

#: ISO/IEC 7816-4 §8.1.1: a full application name is asked for, files by identifier; chaining is understood.
_HISTORICAL = bytes.fromhex("8073C021C0")


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


@dataclass(frozen=True, slots=True)
class AgreementKey:
    """A key for Chip Authentication.

    Attributes:
        oid: The suite, one of `hardware.chip_authentication.KEY_BYTES`.
        parameters: The curve.
        private: The private number.
        key_id: The key's number, where the files give it one.
    """

    oid: bytes
    parameters: DomainParameters
    private: int
    key_id: int | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """What a chip can prove itself by.

    Attributes:
        agreement: For Chip Authentication.
        mapping: Private number for PACE with chip authentication mapping, on the curve of that suite.
        active: For Active Authentication: RSA, P-256 or P-384.
    """

    agreement: AgreementKey | None = None
    mapping: int | None = None
    active: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None


class TravelDocumentChip:
    """A travel document, a `hardware.virtual.chip.Chip`.

    Args:
        infos: Suites of PACE that it speaks.
        files: Files of its application, by their identifiers.
        keys: What it can prove itself by.
        can: Its card access number; None is a document without one.
        mrz: What PACE makes its key of, from the machine-readable zone; None is a document that does not take it.
        card_security: EF.CardSecurity, or None.
        random: Returns that many random bytes.
    """

    def __init__(
        self,
        infos: Sequence[PaceInfo],
        files: Mapping[int, bytes],
        keys: Keys,
        *,
        can: bytes | None = None,
        mrz: bytes | None = None,
        card_security: bytes | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._pace = PaceCard(infos, can=can, mrz=mrz, random=random, chip_key=keys.mapping)
        self._keys, self._random = keys, random
        self._application_files = dict(files)
        self._master_files = {lds.EF_CARD_ACCESS: self._pace.card_access}
        if card_security is not None:
            self._master_files[lds.EF_CARD_SECURITY] = card_security
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {
            INS_SELECT: self._select,
            INS_READ_BINARY: self._read_binary,
            INS_MANAGE_SECURITY_ENVIRONMENT: self._set_template,
            INS_GENERAL_AUTHENTICATE: self._agree,
            INS_INTERNAL_AUTHENTICATE: self._sign,
        }
        self._session: SecureChannel | None = None
        self._opened: SecureChannel | None = None
        self._template_set = False
        self._in_application = False
        self._selected: int | None = None
        self._outgoing = b""

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATS and the ATR."""
        return _HISTORICAL

    def reset(self) -> None:
        """Power was removed."""
        self._pace.reset()
        self._end_session()
        self._leave()
        self._outgoing = b""

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        pending, self._outgoing = self._outgoing, b""
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return Answer(SW.WRONG_LENGTH.to_bytes(2))
        if apdu.ins == INS_GET_RESPONSE and not apdu.cla & ~CHAINING:
            if not pending:
                return Answer(SW.CONDITIONS_OF_USE_NOT_SATISFIED.to_bytes(2))
            return self._answer(ResponseApdu(pending, SW.OK), apdu.le or SHORT_LE_MAX)
        return self._answer(self._respond(apdu), apdu.le or SHORT_LE_MAX)

    def _answer(self, response: ResponseApdu, le: int) -> Answer:
        size = min(le, SHORT_LE_MAX)
        data, self._outgoing = response.data[:size], response.data[size:]
        if self._outgoing:
            return Answer(data + bytes([0x61, min(len(self._outgoing), SHORT_LE_MAX) & 0xFF]))
        return Answer(data + response.sw.to_bytes(2))

    def _respond(self, apdu: CommandApdu) -> ResponseApdu:
        if self._session is None:
            response = self._pace.process(apdu, self._application)
            if self._opened is not None:  # its answer went out under the old keys, the next command comes under the new
                self._pace.reset()
                self._session, self._opened = self._opened, None
            return response
        if apdu.cla & _SECURED != _SECURED:
            self._end_session()
            return self._pace.process(apdu, self._application)
        try:
            plain = self._session.open_command(apdu)
        except SecureMessagingError:
            self._end_session()
            return ResponseApdu(b"", _SW_OBJECTS_WRONG)
        return self._session.seal_response(self._application(plain))

    def _application(self, command: CommandApdu) -> ResponseApdu:
        handler = self._commands.get(command.ins)
        if handler is None:
            return ResponseApdu(b"", SW.INSTRUCTION_NOT_SUPPORTED)
        try:
            return ResponseApdu(handler(command), SW.OK)
        except _Refused as refused:
            return ResponseApdu(b"", refused.sw)

    @property
    def _open(self) -> bool:
        return self._session is not None or self._pace.established

    def _select(self, command: CommandApdu) -> bytes:
        if command.p2 != 0x0C:
            raise _Refused(SW.INCORRECT_P1_P2)
        match command.p1:
            case 0x00 if command.data in (b"", MASTER_FILE.to_bytes(2)):
                self._leave()
            case 0x02:
                self._select_file(int.from_bytes(command.data))
            case 0x04:
                self._enter(command.data)
            case _:
                raise _Refused(SW.INCORRECT_P1_P2)
        return b""

    def _enter(self, name: bytes) -> None:
        if name != lds.APPLICATION:
            raise _Refused(SW.FILE_NOT_FOUND)
        if not self._open:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        self._in_application, self._selected = True, None

    def _select_file(self, identifier: int) -> None:
        if identifier not in self._files:
            raise _Refused(SW.FILE_NOT_FOUND)
        if not self._open and (self._in_application or identifier != lds.EF_CARD_ACCESS):
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        self._selected = identifier

    @property
    def _files(self) -> dict[int, bytes]:
        return self._application_files if self._in_application else self._master_files

    def _read_binary(self, command: CommandApdu) -> bytes:
        if command.p1 & 0x80:
            raise _Refused(SW.INCORRECT_P1_P2)
        if self._selected is None:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        if not self._open and self._selected != lds.EF_CARD_ACCESS:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        content, offset = self._files[self._selected], command.p1 << 8 | command.p2
        if offset >= len(content):
            raise _Refused(_SW_END_OF_FILE)
        return content[offset : offset + (command.le or SHORT_LE_MAX)]

    def _set_template(self, command: CommandApdu) -> bytes:
        key = self._keys.agreement
        if (command.p1, command.p2) != chip_authentication.SET_TEMPLATE:
            raise _Refused(SW.INCORRECT_P1_P2)
        self._require_application()
        try:
            oid, key_id = chip_authentication.read_template(command)
        except ChipAuthenticationError:
            raise _Refused(SW.INCORRECT_DATA) from None
        if key is None or oid != key.oid or key_id != key.key_id:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        self._template_set = True
        return b""

    def _agree(self, command: CommandApdu) -> bytes:
        """GENERAL AUTHENTICATE of Chip Authentication (TR-03110-3 §B.2)."""
        key, ready = self._keys.agreement, self._template_set
        self._template_set = False
        self._require_application()
        if key is None or not ready:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        try:
            peer = chip_authentication.read_ephemeral(command)
            keys = chip_authentication.session_keys(key.oid, key.parameters, key.private, peer)
        except ChipAuthenticationError:
            raise _Refused(SW.INCORRECT_DATA) from None
        self._opened = keys.channel()
        keys.wipe()
        return bytes([DYNAMIC_AUTHENTICATION, 0])

    def _sign(self, command: CommandApdu) -> bytes:
        """INTERNAL AUTHENTICATE of Active Authentication (Doc 9303-11 §6.1)."""
        self._require_application()
        key = self._keys.active
        if key is None:
            raise _Refused(SW.INSTRUCTION_NOT_SUPPORTED)
        if len(command.data) != _CHALLENGE_BYTES:
            raise _Refused(SW.WRONG_LENGTH)
        if isinstance(key, rsa.RSAPrivateKey):
            numbers = key.private_numbers()
            trailer = next(each for each in iso9796.NAMED if each.digest == "sha256")
            own = self._random(iso9796.capacity(key.key_size // 8, trailer))
            return iso9796.sign(numbers.public_numbers.n, numbers.d, own + command.data, trailer=trailer)
        digest, size = _PAIRS[key.curve.name]
        r, s = decode_dss_signature(key.sign(command.data, ec.ECDSA(digest)))
        return r.to_bytes(size) + s.to_bytes(size)

    def _require_application(self) -> None:
        if not self._open or not self._in_application:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)

    def _end_session(self) -> None:
        for channel in (self._session, self._opened):
            if channel is not None:
                channel.wipe()
        self._session = self._opened = None
        self._template_set = False

    def _leave(self) -> None:
        self._in_application, self._selected = False, None
