"""A PIV card in software (SP 800-73-5): the card authentication key 9E, its certificate, CHUID and discovery object.

It may hold a secure messaging key as well (04). It does what a card does over the contactless interface without a PIN,
and refuses the rest with the status words of part 2. A certificate need not belong to its key: a card like that is a
clone, and a gate must say so.
"""

import hashlib
import hmac
import uuid
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from hardware import tlv
from hardware.apdu import CHAINING, INS_GET_RESPONSE, SHORT_LE_MAX, SW, ApduError, CommandApdu
from hardware.opacity import KEY_REFERENCE as KEY_SECURE_MESSAGING
from hardware.virtual import piv_objects
from hardware.virtual.chip import Answer
from hardware.virtual.piv_key import CardKey, ChallengeRefused, read_certificate, read_key, read_pkcs12
from hardware.virtual.piv_sm import SIGNER_CERTIFICATE, AgreementRefused, SmKey
from hardware.virtual.timing import ChipTiming, KeyType

INS_VERIFY = 0x20
INS_GENERAL_AUTHENTICATE = 0x87
INS_SELECT = 0xA4
INS_GET_DATA = 0xCB
INS_GET_VERSION = 0xFD  # Yubico's, and what its tools ask first

_WITH_TEMPLATE, _WITHOUT_TEMPLATE = 0x00, 0x0C  # P2 of SELECT

KEY_CARD_AUTHENTICATION = 0x9E
_KEYS_BEHIND_THE_PIN = frozenset({0x9A, 0x9C, 0x9D})
_PIV_PIN = 0x80
_PIN_BYTES = 8
_PIN_TRIES = 3

_SW_WRONG_PIN = 0x63C0  # and the tries that are left
_SW_PIN_BLOCKED = 0x6983
_SW_CHAINING_NOT_SUPPORTED = 0x6884

_CHAIN_MAX = 4096

#: ISO/IEC 7816-4 §8.1.1: selection by full and partial name; chaining and extended lengths; the issuer's data "Pilet".
_HISTORICAL = bytes.fromhex("80 73C021C0 55") + b"Pilet"


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class PivChip:
    """A PIV card application, a `hardware.virtual.chip.Chip`.

    Args:
        key: The card authentication key: P-256, P-384, RSA-2048 or RSA-3072.
        certificate: What object 5FC101 holds, DER; it is not checked against the key. None leaves the object out.
        guid: The card's GUID in the CHUID; by default one that follows from the certificate.
        compress: Whether the certificate is stored with gzip.
        piece: Greatest number of data bytes per response: cards send 254, 255 or 256.
        timing: The silicon whose compute time the answers carry; None carries none.
        pin: The PIV PIN, 6 to 8 digits. Key 9E never asks for it, but some software logs in before it uses any key.
            None is a card whose PIN was never set: it stands blocked.
        version: What the version instruction of Yubico's tools is told; None leaves that instruction out.
        secure_messaging: The secure messaging key; None is a card without one.

    Raises:
        CardFileError: PIV has no such key type.
        NoFigure: The timing's card model was never measured with a key type of this card.
        ValueError: `piece` is out of range, or the PIN is no PIV PIN.
    """

    def __init__(
        self,
        key: PrivateKeyTypes,
        certificate: bytes | None,
        *,
        guid: uuid.UUID | None = None,
        compress: bool = False,
        piece: int = SHORT_LE_MAX,
        timing: ChipTiming | None = None,
        pin: str | None = None,
        version: tuple[int, int, int] | None = (5, 4, 3),
        secure_messaging: SmKey | None = None,
    ) -> None:
        if not 1 <= piece <= SHORT_LE_MAX:
            raise ValueError(f"a response of {piece} bytes: a short APDU carries 1 to {SHORT_LE_MAX}")
        self._key = CardKey.of(key)
        self._secure_messaging = secure_messaging
        self._answers: dict[tuple[int, int], Callable[[bytes], bytes]] = {
            (self._key.algorithm, KEY_CARD_AUTHENTICATION): self._key.sign
        }
        kinds = {KEY_CARD_AUTHENTICATION: self._key.kind}
        if secure_messaging is not None:
            self._answers[secure_messaging.suite.identifier, KEY_SECURE_MESSAGING] = secure_messaging.agree
            kinds[KEY_SECURE_MESSAGING] = secure_messaging.kind
        self._compute_s = {reference: timing.seconds(kind) for reference, kind in kinds.items()} if timing else {}
        self._piece = piece
        self._version = bytes(version) if version else None
        self._pin = _padded_pin(pin) if pin is not None else None
        self._tries = 0 if pin is None else _PIN_TRIES
        self._verified = False
        if guid is None:
            guid = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(certificate or b"").hexdigest())
        self._objects = {
            piv_objects.CHUID: piv_objects.chuid_object(guid),
            piv_objects.DISCOVERY: piv_objects.discovery_object(),
        }
        if certificate is not None:
            container = piv_objects.certificate_object(certificate, compress=compress)
            self._objects[piv_objects.CARD_AUTHENTICATION_CERTIFICATE] = container
        if secure_messaging is not None and secure_messaging.signer is not None:
            self._objects[SIGNER_CERTIFICATE] = piv_objects.certificate_object(secure_messaging.signer, compress=False)
        self._commands: dict[int, Callable[[CommandApdu, bytes], bytes]] = {
            INS_SELECT: self._select,
            INS_GET_DATA: self._get_data,
            INS_GENERAL_AUTHENTICATE: self._general_authenticate,
            INS_VERIFY: self._verify,
            INS_GET_VERSION: self._get_version,
        }
        self._selected = False
        self._chain: tuple[tuple[int, int, int], bytes] | None = None
        self._outgoing = b""

    @classmethod
    def from_pkcs12(
        cls,
        path: Path,
        password: bytes | None = None,
        *,
        compress: bool = False,
        timing: ChipTiming | None = None,
        pin: str | None = None,
        secure_messaging: SmKey | None = None,
    ) -> "PivChip":
        """Make a card of a PKCS#12 file.

        Raises:
            CardFileError: The file cannot be read or used; the message names it.
            NoFigure: The timing's card model was never measured with a key type of this card.
        """
        key, certificate = read_pkcs12(path, password)
        return cls(key, certificate, compress=compress, timing=timing, pin=pin, secure_messaging=secure_messaging)

    @classmethod
    def from_pem(
        cls,
        key_path: Path,
        certificate_path: Path,
        password: bytes | None = None,
        *,
        compress: bool = False,
        timing: ChipTiming | None = None,
        pin: str | None = None,
        secure_messaging: SmKey | None = None,
    ) -> "PivChip":
        """Make a card of a key file and a certificate file, PEM or DER.

        Raises:
            CardFileError: A file cannot be read or used; the message names it.
            NoFigure: The timing's card model was never measured with a key type of this card.
        """
        key, certificate = read_key(key_path, password), read_certificate(certificate_path)
        return cls(key, certificate, compress=compress, timing=timing, pin=pin, secure_messaging=secure_messaging)

    @property
    def key_type(self) -> KeyType:
        """The type of the card authentication key."""
        return self._key.kind

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATS and the ATR."""
        return _HISTORICAL

    def reset(self) -> None:
        """Power was removed: nothing is selected or verified, no chain or response is pending; PIN tries stay spent."""
        self._selected = False
        self._verified = False
        self._chain = None
        self._outgoing = b""

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        pending, self._outgoing = self._outgoing, b""
        chain, self._chain = self._chain, None
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return _status(SW.WRONG_LENGTH)
        le = apdu.le or SHORT_LE_MAX
        try:
            self._admit(apdu)
            if apdu.ins == INS_GET_RESPONSE:
                return self._answer(_continued(apdu, pending), le)
            data = self._assemble(apdu, chain)
            if data is None:
                return _status(SW.OK)
            response = self._commands[apdu.ins](apdu, data)
        except _Refused as refused:
            return _status(refused.sw)
        compute_s = self._compute_s.get(apdu.p2, 0.0) if apdu.ins == INS_GENERAL_AUTHENTICATE else 0.0
        return self._answer(response, le, compute_s)

    def _admit(self, apdu: CommandApdu) -> None:
        if apdu.cla & ~CHAINING:
            raise _Refused(SW.CLASS_NOT_SUPPORTED)
        if apdu.ins not in self._commands and apdu.ins != INS_GET_RESPONSE:
            raise _Refused(SW.INSTRUCTION_NOT_SUPPORTED)
        if not self._selected and apdu.ins != INS_SELECT:
            raise _Refused(SW.INSTRUCTION_NOT_SUPPORTED)

    def _assemble(self, apdu: CommandApdu, chain: tuple[tuple[int, int, int], bytes] | None) -> bytes | None:
        """Join the links of a chain (ISO/IEC 7816-4 §5.4.1); None while more are to come.

        A command with another header rolls the chain back and stands for itself.
        """
        header = (apdu.ins, apdu.p1, apdu.p2)
        data = chain[1] + apdu.data if chain is not None and chain[0] == header else apdu.data
        if len(data) > _CHAIN_MAX:
            raise _Refused(SW.WRONG_LENGTH)
        if not apdu.cla & CHAINING:
            return data
        if apdu.ins != INS_GENERAL_AUTHENTICATE:
            raise _Refused(_SW_CHAINING_NOT_SUPPORTED)
        self._chain = (header, data)
        return None

    def _answer(self, data: bytes, le: int, compute_s: float = 0.0) -> Answer:
        size = min(le, self._piece)
        self._outgoing = data[size:]
        waiting = min(len(self._outgoing), self._piece)
        sw = 0x6100 | (waiting & 0xFF) if waiting else SW.OK
        return Answer(data[:size] + sw.to_bytes(2), compute_s)

    def _select(self, apdu: CommandApdu, name: bytes) -> bytes:
        """Part 2 §3.1.1. A name that is not ours changes nothing, ours again changes nothing either."""
        if apdu.p1 != 0x04 or apdu.p2 not in (_WITH_TEMPLATE, _WITHOUT_TEMPLATE):
            raise _Refused(SW.INCORRECT_P1_P2)
        if len(name) < piv_objects.AID_MIN or not piv_objects.AID.startswith(name):
            raise _Refused(SW.FILE_NOT_FOUND)
        self._selected = True
        return self._template() if apdu.p2 == _WITH_TEMPLATE else b""

    def _template(self) -> bytes:
        template = piv_objects.application_property_template()
        return template if self._secure_messaging is None else self._secure_messaging.announced(template)

    def _get_data(self, apdu: CommandApdu, data: bytes) -> bytes:
        """Part 2 §3.1.2."""
        if (apdu.p1, apdu.p2) != (0x3F, 0xFF):
            raise _Refused(SW.INCORRECT_P1_P2)
        try:
            tag = int.from_bytes(tlv.parse_one(data, 0x5C))
        except tlv.TlvError:
            raise _Refused(SW.INCORRECT_DATA) from None
        if tag not in self._objects:
            raise _Refused(SW.FILE_NOT_FOUND)
        return self._objects[tag]

    def _general_authenticate(self, apdu: CommandApdu, data: bytes) -> bytes:
        """Part 2 §3.2.4: internal authentication, or with the secure messaging key the key establishment of §4.1.8."""
        if apdu.p2 in _KEYS_BEHIND_THE_PIN:
            # There is no such key; a reader without the PIN need not learn that.
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND if self._verified else SW.SECURITY_STATUS_NOT_SATISFIED)
        answer = self._answers.get((apdu.p1, apdu.p2))
        if answer is None:
            raise _Refused(SW.INCORRECT_P1_P2)
        try:
            return tlv.encode(0x7C, tlv.encode(0x82, answer(_challenge(data))))
        except (tlv.TlvError, ChallengeRefused, AgreementRefused):
            raise _Refused(SW.INCORRECT_DATA) from None

    def _verify(self, apdu: CommandApdu, data: bytes) -> bytes:
        """Part 2 §3.2.1; without data it asks for the state, with P1 FF it forgets that the PIN was verified."""
        if apdu.p2 != _PIV_PIN:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        if apdu.p1 == 0xFF and not data:
            self._verified = False
            return b""
        if apdu.p1 != 0:
            raise _Refused(SW.INCORRECT_P1_P2)
        if self._pin is None or not self._tries:
            raise _Refused(_SW_PIN_BLOCKED)
        if data:
            self._try_pin(data, self._pin)
        if not self._verified:
            raise _Refused(_SW_WRONG_PIN | self._tries)
        return b""

    def _try_pin(self, data: bytes, pin: bytes) -> None:
        if len(data) != _PIN_BYTES:
            raise _Refused(SW.INCORRECT_DATA)
        self._tries -= 1  # spent before the comparison, as a card does: tearing it away buys no free guess
        self._verified = hmac.compare_digest(data, pin)
        if self._verified:
            self._tries = _PIN_TRIES

    def _get_version(self, apdu: CommandApdu, data: bytes) -> bytes:  # noqa: ARG002 - it has no parameters
        if self._version is None:
            raise _Refused(SW.INSTRUCTION_NOT_SUPPORTED)
        return self._version


def _status(sw: int) -> Answer:
    return Answer(sw.to_bytes(2))


def _challenge(data: bytes) -> bytes:
    """Take the challenge out of 7C {82 empty, 81 challenge}, in either order."""
    template = tlv.parse(tlv.parse_one(data, 0x7C))
    fields = {item.tag: item.value for item in template}
    if len(template) != len(fields) or fields.keys() != {0x81, 0x82} or fields[0x82]:
        raise _Refused(SW.INCORRECT_DATA)
    return fields[0x81]


def _padded_pin(pin: str) -> bytes:
    """Part 2 §2.4.3: 6 to 8 digits, padded with FF."""
    if not 6 <= len(pin) <= _PIN_BYTES or not (pin.isascii() and pin.isdecimal()):
        raise ValueError("a PIV PIN is 6 to 8 decimal digits")
    return pin.encode().ljust(_PIN_BYTES, b"\xff")


def _continued(apdu: CommandApdu, pending: bytes) -> bytes:
    if (apdu.p1, apdu.p2) != (0, 0):
        raise _Refused(SW.INCORRECT_P1_P2)
    if not pending:
        raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
    return pending
