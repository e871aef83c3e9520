"""A Japanese MyNumber card in software: its JPKI, surface and text applications, and the data objects of its manager.

It answers what OpenSC, jpki/myna and soltia48/myna-card send and expect; the last one measured on cards what no
specification tells: status words, which secret opens which file, that the manager's objects are told while no
application is selected. Certificates and records need not belong to the keys: a card like that is a clone, and a gate
must say so.

The individual number is there as a tripwire: every command that touches a file or a secret from which it could be had
is remembered, whatever it was answered. No program of this project may ever trip it.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, CommandApdu
from hardware.virtual.chip import Answer
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import ChipTiming, KeyType

JPKI = bytes.fromhex("D392F000260100000001")
SURFACE = bytes.fromhex("D3921000310001010402")
TEXT = bytes.fromhex("D3921000310001010408")
CARD_MANAGER = bytes.fromhex("A0000001510000")

#: The answer to reset through contacts. It has no historical bytes; nor are any known of the ATQB's application data.
CONTACT_ATR = bytes.fromhex("3BE000FF8131FE4514")

KEY_ID_BYTES = 16
CARD_IDENTIFICATION, MUNICIPALITY, EXPIRY, CONTACT_ATR_OBJECT = 0x0045, 0x00F0, 0x00F2, 0x5F51

#: Where the individual number could be had: the number, a digest that ten digits of guessing reverse, its picture, and
#: reference number A, which is the number itself.
GUARDED = frozenset({(TEXT, 0x0001), (TEXT, 0x0003), (TEXT, 0x0014), (SURFACE, 0x0005), (SURFACE, 0x0013)})

_SW_VERIFY_FAILED = 0x63C0  # and the tries that are left
_SW_INCOMPATIBLE_FILE = 0x6981
_SW_BLOCKED = 0x6984
_SW_NO_FILE_SELECTED = 0x6986
_SW_OFFSET_OUTSIDE = 0x6B00

_CURRENT, _SHORT, _SHORT_MASK = 0x80, 0x80, 0x1F
_DIGEST_INFO_SHA256 = bytes.fromhex("3031300D060960864801650304020105000420")
_MAX_VERBATIM = 245
_FILLER = b"\xff\xff"


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


@dataclass(frozen=True, slots=True)
class _File:
    """A transparent file, and the secrets of which one opens it; none is needed where there are none."""

    content: bytes
    opened_by: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Secret:
    value: bytes
    most: int
    left: int


@dataclass(frozen=True, slots=True)
class _Key:
    key: rsa.RSAPrivateKey
    opened_by: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Application:
    files: Mapping[int, _File]
    secrets: Mapping[int, _Secret]
    keys: Mapping[int, _Key]
    default_key: int | None = None
    verified: set[int] = field(default_factory=set)

    def holds(self, identifier: int) -> bool:
        return identifier in self.files or identifier in self.secrets or identifier in self.keys


@dataclass(frozen=True, slots=True)
class Personalised:
    """What a card was personalised with.

    Attributes:
        authentication_key: The user authentication key, RSA-2048.
        authentication_certificate: EF 000A, DER; None where its holder wants none.
        authority_certificate: EF 000B, and 0002 of the other authority alike.
        surface_key: The key that signs without a PIN, RSA-2048.
        record: EF 0001 of the surface application: `age_record`.
        certificate: EF 0004 of the surface application: `card_verifiable_certificate`.
        identification: The card identification number.
        birth_digits: Birth date, year of the era, month, day: six digits.
        individual_number: Twelve digits.
        pin: The user authentication PIN, four digits.
    """

    authentication_key: PrivateKeyTypes
    authentication_certificate: bytes | None
    authority_certificate: bytes
    surface_key: PrivateKeyTypes
    record: bytes
    certificate: bytes
    identification: bytes
    birth_digits: str
    individual_number: str
    pin: str = "1234"


class MynumberChip:
    """A MyNumber card, a `hardware.virtual.chip.Chip`.

    Attributes:
        tripped: Commands that touched what the individual number could be had from.

    Args:
        card: What it was personalised with.
        piece: Greatest number of bytes that READ BINARY gives at once.
        timing: The silicon whose compute time the answers carry; None carries none.

    Raises:
        CardFileError: A key is not RSA-2048.
        NoFigure: The timing's card model was never measured with RSA-2048.
    """

    def __init__(self, card: Personalised, *, piece: int = SHORT_LE_MAX, timing: ChipTiming | None = None) -> None:
        self.tripped: list[bytes] = []
        self._piece = piece
        self._compute_s = timing.seconds(KeyType.RSA_2048) if timing else 0.0
        self._applications = {JPKI: _jpki(card), SURFACE: _surface(card), TEXT: _text(card)}
        self._objects = {CARD_IDENTIFICATION: card.identification, MUNICIPALITY: b"13221", EXPIRY: b"20350217"}
        self._commands: dict[tuple[int, int], Callable[[CommandApdu], bytes]] = {
            (0x00, 0xA4): self._select,
            (0x00, 0xB0): self._read_binary,
            (0x00, 0x20): self._verify,
            (0x00, 0xCA): self._get_data,
            (0x80, 0x2A): self._compute_signature,
        }
        self._name: bytes | None = None
        self._current: int | None = None

    @property
    def historical(self) -> bytes:
        """No historical bytes: the contact ATR declares none, and of the ATQB nothing is known."""
        return b""

    def reset(self) -> None:
        """Power was removed: nothing is selected or verified. Tries stay spent."""
        self._leave()
        self._name = None

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return _status(SW.WRONG_LENGTH)
        answer = self._commands.get((apdu.cla, apdu.ins))
        if answer is None:
            known = any(apdu.cla == cla for cla, _ in self._commands)
            return _status(SW.INSTRUCTION_NOT_SUPPORTED if known else SW.CLASS_NOT_SUPPORTED)
        try:
            data = answer(apdu)
        except _Refused as refused:
            return _status(refused.sw)
        return Answer(data + SW.OK.to_bytes(2), self._compute_s if apdu.ins == 0x2A else 0.0)

    def _select(self, apdu: CommandApdu) -> bytes:
        if apdu.p2 not in (0x00, 0x0C):
            raise _Refused(SW.INCORRECT_P1_P2)
        if apdu.p1 == 0x04:
            self._select_application(apdu.data)
        elif apdu.p1 == 0x02:
            if len(apdu.data) != 2:
                raise _Refused(SW.WRONG_LENGTH)
            self._make_current(int.from_bytes(apdu.data), apdu)
        elif apdu.p1 != 0x00 or self._name is None:
            raise _Refused(SW.INCORRECT_P1_P2)
        elif apdu.data:
            raise _Refused(SW.FILE_NOT_FOUND)
        # What is left is SELECT MF inside an application: answered with 9000, and without effect, as on cards.
        return b""

    def _select_application(self, name: bytes) -> None:
        """JICSAP 1.1 §4.2: the beginning of a name selects too. A name that is not there changes nothing."""
        known = (*self._applications, CARD_MANAGER)
        found = next((each for each in known if name and each.startswith(name)), None)
        if found is None:
            raise _Refused(SW.FILE_NOT_FOUND)
        self._leave()
        self._name = None if found == CARD_MANAGER else found

    def _leave(self) -> None:
        if self._name is not None:
            self._applications[self._name].verified.clear()
        self._current = None

    def _application(self) -> _Application:
        if self._name is None:
            raise _Refused(SW.FILE_NOT_FOUND)
        return self._applications[self._name]

    def _make_current(self, identifier: int, apdu: CommandApdu) -> None:
        application = self._application()
        if (self._name, identifier) in GUARDED:
            self.tripped.append(bytes(apdu))
        if not application.holds(identifier):
            raise _Refused(SW.FILE_NOT_FOUND)
        self._current = identifier

    def _referenced(self, apdu: CommandApdu) -> int:
        """The file that P2 means: the current one, or one by its short identifier, which becomes current."""
        self._application()
        if apdu.p2 & ~_SHORT_MASK != _SHORT:
            raise _Refused(SW.INCORRECT_P1_P2)
        if apdu.p2 != _CURRENT:
            self._make_current(apdu.p2 & _SHORT_MASK, apdu)
        if self._current is None:
            raise _Refused(_SW_NO_FILE_SELECTED)
        return self._current

    def _read_binary(self, apdu: CommandApdu) -> bytes:
        application = self._application()
        offset = apdu.p1 << 8 | apdu.p2
        if apdu.p1 & _SHORT:
            self._make_current(apdu.p1 & _SHORT_MASK, apdu)
            offset = apdu.p2
        if self._current is None:
            raise _Refused(_SW_NO_FILE_SELECTED)
        if apdu.le is None or apdu.data:
            raise _Refused(SW.WRONG_LENGTH)
        if self._current not in application.files:
            raise _Refused(_SW_INCOMPATIBLE_FILE)
        file = application.files[self._current]
        _open(file.opened_by, application)
        if offset >= len(file.content):
            raise _Refused(_SW_OFFSET_OUTSIDE)
        return file.content[offset : offset + min(apdu.le, self._piece)]

    def _verify(self, apdu: CommandApdu) -> bytes:
        """JICSAP 1.1 §6.4.9; without data it tells the tries that are left, even after a right one."""
        if apdu.p1:
            raise _Refused(SW.INCORRECT_P1_P2)
        reference = self._referenced(apdu)
        application = self._application()
        secret = application.secrets.get(reference)
        if secret is None:
            raise _Refused(_SW_INCOMPATIBLE_FILE)
        if not apdu.data:
            raise _Refused(_SW_VERIFY_FAILED | secret.left)
        if not secret.left:
            raise _Refused(_SW_BLOCKED)
        secret.left -= 1  # spent before the comparison, as a card does: tearing it away buys no free guess
        application.verified.discard(reference)
        if not hmac.compare_digest(apdu.data, secret.value):
            raise _Refused(_SW_VERIFY_FAILED | secret.left)
        secret.left = secret.most
        application.verified.add(reference)
        return b""

    def _get_data(self, apdu: CommandApdu) -> bytes:
        """The manager's objects, while no application is selected; the contact ATR without its TS always."""
        tag = apdu.p1 << 8 | apdu.p2
        if tag == CONTACT_ATR_OBJECT:
            return CONTACT_ATR[1:]
        if self._name is not None or tag not in self._objects:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        return self._objects[tag]

    def _compute_signature(self, apdu: CommandApdu) -> bytes:
        """P1 says what is done with the data before it is padded as type 1 of PKCS #1; PSS (04, 05) is left out."""
        application = self._application()
        default = application.default_key if apdu.p2 == 0x00 else None
        reference = default if default is not None else self._referenced(apdu)
        if reference not in application.keys:
            raise _Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        key = application.keys[reference]
        _open(key.opened_by, application)
        return key.key.sign(_payload(apdu), padding.PKCS1v15(), utils.NoDigestInfo())


def card_verifiable_certificate(
    issuer: bytes, subject: bytes, key: rsa.RSAPublicKey, signer: rsa.RSAPrivateKey
) -> bytes:
    """Issue a certificate of a municipality's key as J-LIS does.

    Args:
        issuer: Identifier of the signer's key, 16 bytes.
        subject: Identifier of the certified key, 16 bytes.
        key: The certified key, RSA-2048.
        signer: Who signs.
    """
    if len(issuer) != KEY_ID_BYTES or len(subject) != KEY_ID_BYTES:
        raise ValueError(f"identifiers of keys have {KEY_ID_BYTES} bytes")
    body = issuer + subject + public_key_objects(key)
    signature = signer.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return tlv.encode(0x7F21, tlv.encode(0x5F4E, body) + tlv.encode(0x5F37, signature))


def age_record(birth_date: str, key: rsa.RSAPublicKey, signer: rsa.RSAPrivateKey) -> bytes:
    """Issue the record of a birth date (YYYYMMDD) and the card's public key as a municipality does."""
    signed = tlv.encode(0xDF11, birth_date.encode("ascii")) + tlv.encode(0xDF12, public_key_objects(key))
    signature = signer.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return tlv.encode(0xFF10, signed + tlv.encode(0xDF13, signature))


def public_key_objects(key: rsa.RSAPublicKey) -> bytes:
    """Encode a public key as this card does: exponent (90), modulus (91)."""
    numbers = key.public_numbers()
    exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8)
    return tlv.encode(0x90, exponent) + tlv.encode(0x91, numbers.n.to_bytes(key.key_size // 8))


def _status(sw: int) -> Answer:
    return Answer(sw.to_bytes(2))


def _open(opened_by: Collection[int], application: _Application) -> None:
    if opened_by and application.verified.isdisjoint(opened_by):
        raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)


def _payload(apdu: CommandApdu) -> bytes:
    data = apdu.data
    match apdu.p1:
        case 0x00 if 1 <= len(data) <= _MAX_VERBATIM:
            return data
        case 0x01 if data:
            return hashlib.sha256(data).digest()
        case 0x02 if len(data) == hashlib.sha256().digest_size:
            return _DIGEST_INFO_SHA256 + data
        case 0x03 if data:
            return _DIGEST_INFO_SHA256 + hashlib.sha256(data).digest()
        case 0x00 | 0x01 | 0x02 | 0x03:
            raise _Refused(SW.WRONG_LENGTH)
    raise _Refused(SW.INCORRECT_P1_P2)


def _secret(value: str, tries: int) -> _Secret:
    return _Secret(value.encode("ascii"), tries, tries)


def _rsa(key: PrivateKeyTypes) -> rsa.RSAPrivateKey:
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 2048:
        raise CardFileError("a MyNumber card holds RSA-2048 keys and no others")
    return key


def _jpki(card: Personalised) -> _Application:
    authentication, signature = frozenset({0x0018}), frozenset({0x001B})
    # The signature certificate is empty here: its holder has none, as those who are younger than fifteen.
    files = {
        0x0001: _File(_FILLER, signature),
        0x0002: _File(card.authority_certificate),
        0x0006: _File(b"JPKIAPICCTOKEN2".ljust(32)),
        0x000B: _File(card.authority_certificate),
    }
    if card.authentication_certificate is not None:
        files[0x000A] = _File(card.authentication_certificate)
    secrets = {0x0018: _secret(card.pin, 3), 0x001B: _secret("UNUSED1", 5)}
    return _Application(files, secrets, {0x0017: _Key(_rsa(card.authentication_key), authentication)})


def _surface(card: Personalised) -> _Application:
    birth, number = frozenset({0x0011}), frozenset({0x0013})
    files = {
        0x0001: _File(card.record + _FILLER, birth),
        0x0004: _File(card.certificate),
        0x0005: _File(_FILLER, number),
    }
    # How many tries the codes that are printed on a card have is not published; ten here.
    secrets = {0x0011: _secret(card.birth_digits, 10), 0x0013: _secret(card.individual_number, 10)}
    return _Application(files, secrets, {0x001A: _Key(_rsa(card.surface_key))}, default_key=0x001A)


def _text(card: Personalised) -> _Application:
    pin, number = 0x0011, 0x0014
    content = tlv.encode(0xFF10, card.individual_number.encode("ascii")) + _FILLER
    files = {0x0001: _File(content, frozenset({pin, number}))}
    return _Application(files, {pin: _secret(card.pin, 3), number: _secret(card.individual_number, 10)}, {})
