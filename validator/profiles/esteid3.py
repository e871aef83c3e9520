"""Estonian identity cards of 2011 to 2018 (EstEID 3.0 to 3.5): contacts only, no secure messaging.

Whoever holds the card may read its certificates and the personal data file, without CAN and without PIN. So a card that
was only read is a claim: the same octets can be got from a public directory and put on any chip. With PIN1 the
authentication key signs our challenge: RSA-2048, or P-384 where the certificates were renewed in place. A copy is made
of nothing but the certificate; the personal data file is read by `personal_data`, for whoever has to see it.

The tries of PIN1 are read before it is sent (record 1 of EF 0016), and it is sent once.
"""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, ApduError, CommandApdu, ResponseApdu, exchange
from hardware.tlv import TlvError
from validator.certificates import (
    CertificateError,
    KeyUnsupportedError,
    certificate_key,
    key_algorithm,
    load_certificate,
)
from validator.model import Assurance, KeyAlgorithm, Scheme
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import (
    CardMalformed,
    CardRefused,
    KeyUnsupported,
    PinAtRisk,
    PinBlocked,
    WrongFamily,
    WrongPin,
)
from validator.proof import CardProof, IdCertificate, Signed, Unproved

NAME = "esteid3"

AID = b""
"""The application stands selected after reset, and most cards do not know it by a name."""

MAX_CERTIFICATE_BYTES = 0x600
"""Size of the file; the certificate ends earlier and padding follows."""

MAX_READS = 24
"""READ BINARY commands for one certificate; a card that gives 250 bytes at a time takes seven."""

MAX_RECORD_BYTES = 50
RECORDS = 16
PIN_DIGITS = range(4, 13)

_V35_AID = bytes.fromhex("D23300000045737445494420763335")
_SELECT_MF = CommandApdu(0x00, 0xA4, 0x00, 0x0C)
_SELECT_DIRECTORY = CommandApdu(0x00, 0xA4, 0x01, 0x0C, bytes.fromhex("EEEE"))
_CERTIFICATE, _PERSONAL_DATA, _PIN_TRIES = bytes.fromhex("AACE"), bytes.fromhex("5044"), bytes.fromhex("0016")
_PIN1 = 0x01
_PIN1_RECORD = 1

_PIECE = 250
_END_OF_FILE = 0x6282  # the file ended before Le bytes: what came before it counts
_PIN_BLOCKED = 0x6983
_WRONG_PIN, _WRONG_PIN_MASK = 0x63C0, 0xFFF0

_DIGEST_INFO_SHA256 = bytes.fromhex("3031300D060960864801650304020105000420")  # RFC 8017 §9.2, note 1
_RSA_BYTES, _P384_BYTES = 256, 48

_Steps = Generator[CommandApdu, ResponseApdu, None]


@dataclass(frozen=True, slots=True, repr=False)
class PersonalData:
    """The personal data file, EF 5044, as the card holds it. Copyable, unsigned, and nobody's business but the asker's.

    A field is empty where its record is. Dates are ``dd.mm.yyyy``. A Digi-ID holds little but its document number.

    Attributes:
        surname: At most 28 characters.
        given_names: Both records, with a space between.
        sex: ``M`` or ``N`` (naine, a woman).
        citizenship: Three letters.
        born: Date of birth.
        personal_code: Eleven digits, not checked.
        document_number: At most 9 characters.
        expires: The card's last day.
        place_of_birth: As registered.
        issued: The card's first day.
        permit: Kind of residence permit.
        remarks: Four records.
    """

    surname: str
    given_names: str
    sex: str
    citizenship: str
    born: str
    personal_code: str
    document_number: str
    expires: str
    place_of_birth: str
    issued: str
    permit: str
    remarks: tuple[str, ...]


def authenticate(
    attempt: Attempt,
    selected: ResponseApdu,  # noqa: ARG001 - the family selects for itself
) -> Generator[CommandApdu, ResponseApdu, CardProof]:
    """Read a card's authentication certificate, and with PIN1 have its key sign our challenge.

    Args:
        attempt: What this attempt may use.
        selected: Nothing was selected.

    Returns:
        What the card showed. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    if attempt.contactless:
        raise WrongFamily("EstEID 3 has contacts only")
    try:
        return (yield from _collect(attempt))
    except (ApduError, TlvError) as error:
        raise CardMalformed(str(error)) from None


def personal_data() -> Generator[CommandApdu, ResponseApdu, PersonalData]:
    """Read the personal data file of a card in the contacts.

    Raises:
        ProfileError: As `authenticate` does.
    """
    try:
        yield from _recognise()
        yield from _select_file(_PERSONAL_DATA)
        records = list[str]()
        for number in range(1, RECORDS + 1):
            records.append(_text((yield from _read_record(number))))
    except ApduError as error:
        raise CardMalformed(str(error)) from None
    sex, citizenship, born, code, document, expires, place, issued, permit = records[3:12]
    return PersonalData(
        surname=records[0],
        given_names=" ".join(name for name in records[1:3] if name),
        sex=sex,
        citizenship=citizenship,
        born=born,
        personal_code=code,
        document_number=document,
        expires=expires,
        place_of_birth=place,
        issued=issued,
        permit=permit,
        remarks=tuple(records[12:]),
    )


def _collect(attempt: Attempt) -> Generator[CommandApdu, ResponseApdu, CardProof]:
    yield from _recognise()
    certificate = IdCertificate(Scheme.ESTONIA, (yield from _read_certificate()))
    attempt.begin(certificate)
    pin = attempt.secrets.pin
    if pin is None:
        return CardProof(NAME, Assurance.CLAIMED, certificate, Unproved())
    algorithm = _algorithm_of(certificate.der)
    yield from _check_tries(pin)
    yield from _done("SELECT MF", _SELECT_MF)
    yield from _done("SELECT EEEE", _SELECT_DIRECTORY)
    yield from _done("MSE RESTORE 1", CommandApdu(0x00, 0x22, 0xF3, 0x01, le=SHORT_LE_MAX))
    yield from _verify(pin)
    challenge = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    signature = yield from _sign(challenge, algorithm)
    return CardProof(NAME, Assurance.HOLDER, certificate, Signed(challenge, signature, algorithm))


def _recognise() -> _Steps:
    """Select DF EEEE: a card that has it is one of these. On a chip with other applications ours has a name (v3.5)."""
    at_root = yield from exchange(_SELECT_MF)
    if not at_root.ok:
        named = yield from exchange(CommandApdu(0x00, 0xA4, 0x04, 0x00, _V35_AID, le=SHORT_LE_MAX))
        if not named.ok:
            raise WrongFamily(f"no master file, and no EstEID application: {named.sw:04X}")
    directory = yield from exchange(_SELECT_DIRECTORY)
    if not directory.ok:
        raise WrongFamily(f"no directory EEEE: {directory.sw:04X}")


def _select_file(identifier: bytes) -> _Steps:
    """Select an EF of the current directory. What its template says is not needed: the content tells its own length."""
    command = CommandApdu(0x00, 0xA4, 0x02, 0x04, identifier, le=SHORT_LE_MAX)
    yield from _done(f"SELECT {identifier.hex().upper()}", command)


def _read_certificate() -> Generator[CommandApdu, ResponseApdu, bytes]:
    yield from _select_file(_CERTIFICATE)
    content = yield from _read_binary(0, _PIECE)
    size, reads = _length_of(content), 1
    while len(content) < size:
        if reads == MAX_READS:
            raise CardMalformed(f"a certificate in more than {MAX_READS} pieces")
        content += yield from _read_binary(len(content), min(_PIECE, size - len(content)))
        reads += 1
    return content[:size]


def _length_of(content: bytes) -> int:
    """Return how long the DER object at the beginning says it is, in two length bytes (X.690 §8.1.3)."""
    if len(content) < 4 or content[:2] != bytes.fromhex("3082"):
        raise CardMalformed("the certificate file does not begin with a certificate")
    size = 4 + int.from_bytes(content[2:4])
    if size > MAX_CERTIFICATE_BYTES:
        raise CardMalformed(f"a certificate of {size} bytes in a file of {MAX_CERTIFICATE_BYTES}")
    return size


def _read_binary(offset: int, count: int) -> Generator[CommandApdu, ResponseApdu, bytes]:
    response = yield from exchange(CommandApdu(0x00, 0xB0, offset >> 8, offset & 0xFF, le=count))
    if not response.ok and response.sw != _END_OF_FILE:
        raise CardRefused("READ BINARY", response.sw)
    if not 1 <= len(response.data) <= count:
        raise CardMalformed(f"{len(response.data)} bytes where up to {count} were asked for")
    return response.data


def _read_record(number: int) -> Generator[CommandApdu, ResponseApdu, bytes]:
    response = yield from exchange(CommandApdu(0x00, 0xB2, number, 0x04, le=SHORT_LE_MAX))
    if not response.ok:
        raise CardRefused(f"READ RECORD {number}", response.sw)
    if len(response.data) > MAX_RECORD_BYTES:
        raise CardMalformed(f"a record of {len(response.data)} bytes")
    return response.data


def _text(record: bytes) -> str:
    try:
        return record.decode("cp1252").strip(" \0")
    except UnicodeDecodeError:
        raise CardMalformed("a record that is not text in code page 1252") from None


def _algorithm_of(certificate: bytes) -> KeyAlgorithm:
    try:
        algorithm = key_algorithm(certificate_key(load_certificate(certificate)))
    except KeyUnsupportedError as error:
        raise KeyUnsupported(str(error)) from None
    except CertificateError as error:
        raise CardMalformed(str(error)) from None
    if algorithm not in (KeyAlgorithm.RSA2048, KeyAlgorithm.P384):
        raise KeyUnsupported(f"an EstEID card with a key of kind {algorithm}")
    return algorithm


def _check_tries(pin: bytearray) -> _Steps:
    """Read how many tries PIN1 has left: ``80 01 most 90 01 left ..``, and end here where one is too many."""
    yield from _done("SELECT MF", _SELECT_MF)
    yield from _select_file(_PIN_TRIES)
    record = yield from _read_record(_PIN1_RECORD)
    left = tlv.find(record, 0x90)
    if left is None or len(left) != 1:
        raise CardMalformed("a record of PIN tries without the tries that are left")
    if left[0] == 0:
        raise PinBlocked("PIN1 has no tries left")
    if left[0] == 1:
        raise PinAtRisk("PIN1 has one try left")
    if len(pin) not in PIN_DIGITS or not pin.isdigit():
        raise WrongPin(left[0])  # no card has such a PIN, so that no try is spent on it


def _verify(pin: bytearray) -> _Steps:
    """VERIFY PIN1, once: not through `exchange`, which repeats a command when the card asks for another Le."""
    response = yield CommandApdu(0x00, 0x20, 0x00, _PIN1, bytes(pin))
    if response.ok:
        return
    if response.sw in (_PIN_BLOCKED, _WRONG_PIN):
        raise PinBlocked("PIN1 has no tries left")
    if response.sw & _WRONG_PIN_MASK == _WRONG_PIN:
        raise WrongPin(response.sw & ~_WRONG_PIN_MASK)
    raise CardRefused("VERIFY PIN1", response.sw)


def _sign(challenge: bytes, algorithm: KeyAlgorithm) -> Generator[CommandApdu, ResponseApdu, bytes]:
    """INTERNAL AUTHENTICATE: an RSA card pads what it is given (PKCS #1 v1.5), a P-384 card signs it as a digest."""
    rsa = algorithm is KeyAlgorithm.RSA2048
    digest = _DIGEST_INFO_SHA256 + hashlib.sha256(challenge).digest() if rsa else hashlib.sha384(challenge).digest()
    response = yield from exchange(CommandApdu(0x00, 0x88, 0x00, 0x00, digest, le=SHORT_LE_MAX))
    if not response.ok:
        raise CardRefused(f"INTERNAL AUTHENTICATE {algorithm}", response.sw)
    if len(response.data) != (_RSA_BYTES if rsa else 2 * _P384_BYTES):
        raise CardMalformed(f"a signature of {len(response.data)} bytes by an {algorithm} key")
    if rsa:
        return response.data
    pair = int.from_bytes(response.data[:_P384_BYTES]), int.from_bytes(response.data[_P384_BYTES:])
    if 0 in pair:
        raise CardMalformed("a number in the signature is zero")
    return encode_dss_signature(*pair)


def _done(step: str, command: CommandApdu) -> _Steps:
    response = yield from exchange(command)
    if not response.ok:
        raise CardRefused(step, response.sw)
