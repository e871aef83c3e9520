"""A desk takes the public key of a MyNumber card's surface application, once, so that a gate can know the card by it.

The holder tells the birth date. With it the card opens one record (EF 0001), which its issuer signed: the birth date,
the card's public key, the signature. The signature is made by the key of the municipality, which a card-verifiable
certificate (EF 0004) certifies, which a key of the national agency J-LIS signed. That last key is not on the card and
is given to us; J-LIS publishes none, and those in circulation were recovered from cards (soltia48/myna-card,
``src/ca.rs``), so that an operator has to get them confirmed before a desk believes them. In the end the card
signs a challenge, so that nobody enrols a record that was copied off another card.

Of all that, two things are kept: what the key is enrolled under, and the key. Neither the record nor the birth date
is written or told to anybody. The name, the address and the photo are in another record (EF 0002), which is never
read; reference number B would open that one and not ours, so that only the birth date in its first six digits is shown
to the card.

What nobody signs is the identification number that the key is enrolled under: an apparatus in a stolen shell could
answer with a victim's. It gains nothing at a gate, where its own key still has to answer, but it takes the victim's
place. So one number must never be enrolled for two keys; whoever comes second has the matter looked at.

Layouts are those that soltia48/myna-card read off test cards and verified. Not verified: cards of other generations;
whether municipalities' keys are ever replaced or withdrawn, which these certificates, having no dates, could not tell.
"""

import datetime as dt
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from hardware import tlv
from hardware.apdu import ApduError, CommandApdu, ResponseApdu
from hardware.tlv import TlvError
from validator.certificates import HOSTILE, spki_of
from validator.model import Reason
from validator.profiles import mynumber_files, mynumber_surface
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, WrongPin

RECORD, CERTIFICATE, BIRTH_DATE = 0x0001, 0x0004, 0x0011
BIRTH_DIGITS, DATE_DIGITS, REFERENCE_B_DIGITS = 6, 8, 14

KEY_ID_BYTES = 16
"""A key of J-LIS or of a municipality: seven digits, 08 05, three digits, four bytes; compared whole."""

_MODULUS_BYTES = 256
_EXPONENT = 65537

#: First day of each era, newest first: years are counted from 1 on the eve of the first day's year.
_ERAS = (dt.date(2019, 5, 1), dt.date(1989, 1, 8), dt.date(1926, 12, 25), dt.date(1912, 7, 30), dt.date(1868, 1, 25))


class WrongBirthDate(WrongPin):
    """The card did not accept the birth date."""

    def __init__(self, tries_left: int | None) -> None:
        super().__init__(tries_left)
        count = "one try is" if tries_left == 1 else f"{tries_left} tries are"
        told = "" if tries_left is None else f"; {count} left"
        self.args = (f"the card did not accept the birth date{told}",)


class EnrolmentRefusedError(Exception):
    """What a card gave is not worth an enrolment; nothing that it gave is repeated in the message.

    Attributes:
        reason: Why not, as a tap would be recorded.
    """

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SurfaceFiles:
    """What a card gave at the desk, not yet judged. It holds a birth date: judge it and let it go.

    Attributes:
        identifier: The card identification number.
        certificate: EF 0004, the ``7F21`` object.
        record: EF 0001, the ``FF10`` object.
        challenge: What the card was asked to sign.
        signature: What it answered.
    """

    identifier: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    record: bytes = field(repr=False)
    challenge: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SurfaceEnrolment:
    """What is kept of a card.

    Attributes:
        identifier: What its key is enrolled under, for `EnrolledUnder` of the family ``mynumber-surface``.
        spki: The key, SubjectPublicKeyInfo in DER.
    """

    identifier: bytes = field(repr=False)
    spki: bytes


@dataclass(frozen=True, slots=True)
class MunicipalCertificate:
    """A card-verifiable certificate of J-LIS: ``7F21 { 5F4E issuer || subject || key, 5F37 signature }``.

    Attributes:
        issuer: Identifier of the key that signed it, 16 bytes.
        subject: Identifier of the key that is certified, 16 bytes.
        key: The certified key, RSA-2048.
        body: What is signed.
        signature: RSASSA-PKCS1-v1_5 with SHA-256 over `body`, 256 bytes.
    """

    issuer: bytes
    subject: bytes
    key: rsa.RSAPublicKey
    body: bytes
    signature: bytes

    @classmethod
    def parse(cls, octets: bytes) -> "MunicipalCertificate":
        """Parse the object; nothing may be missing, follow or come in another order.

        Raises:
            EnrolmentRefusedError: It is not such an object (`MALFORMED_ANSWER`), or certifies a key that is not
                RSA-2048 with the exponent 65537 (`UNSUPPORTED_KEY`).
        """
        body, signature = _fields(octets, 0x7F21, (0x5F4E, 0x5F37))
        if len(body) <= 2 * KEY_ID_BYTES:
            raise EnrolmentRefusedError(Reason.MALFORMED_ANSWER, "a certificate without a key")
        issuer, subject, key = body[:KEY_ID_BYTES], body[KEY_ID_BYTES : 2 * KEY_ID_BYTES], body[2 * KEY_ID_BYTES :]
        return cls(issuer, subject, _key(key), body, signature)


def opening_digits(told: str) -> bytearray:
    """Turn what the holder told into the six digits that open the record: the year of the Japanese era, month, day.

    Args:
        told: The six digits themselves, a birth date as YYYYMMDD, or reference number B, which begins with the six.

    Raises:
        ValueError: It is none of these. The message does not repeat it.
    """
    if not (told.isascii() and told.isdecimal()):
        raise ValueError("a birth date is told in digits")
    if len(told) in (BIRTH_DIGITS, REFERENCE_B_DIGITS):
        return bytearray(told[:BIRTH_DIGITS].encode())
    if len(told) != DATE_DIGITS:
        raise ValueError("a birth date is told in 6 digits, in 8, or as the 14 of reference number B")
    try:
        day = dt.date(int(told[:4]), int(told[4:6]), int(told[6:]))
    except ValueError:
        raise ValueError("there is no such day") from None
    era = next((first for first in _ERAS if first <= day), None)
    if era is None:
        raise ValueError("nobody alive was born before 1868")
    return bytearray(f"{day.year - era.year + 1:02}{day.month:02}{day.day:02}".encode())


def collect(attempt: Attempt, birth_date: bytearray) -> Generator[CommandApdu, ResponseApdu, SurfaceFiles]:
    """Read what an enrolment needs, showing the card the birth date once.

    Args:
        attempt: What this attempt may use.
        birth_date: Six digits in ASCII, from `opening_digits`; the caller wipes them.

    Returns:
        What the card gave. Nothing in it is verified here.

    Raises:
        WrongBirthDate: The card did not accept it.
        ProfileError: Whatever else the card says.
    """
    try:
        return (yield from _collect(attempt, birth_date))
    except WrongPin as error:
        raise WrongBirthDate(error.tries_left) from None
    except ApduError as error:
        raise CardMalformed(str(error)) from None


def judge(files: SurfaceFiles, roots: Mapping[bytes, rsa.RSAPublicKey]) -> SurfaceEnrolment:
    """Say whether the key in the record is this card's, by the word of its issuer.

    Args:
        files: What the card gave.
        roots: Keys of J-LIS by their identifiers of 16 bytes.

    Raises:
        EnrolmentRefusedError: What was given breaks its format (`MALFORMED_ANSWER`), a key is of another kind
            (`UNSUPPORTED_KEY`), no given key signed the certificate (`UNTRUSTED_ISSUER`), the certified key did not
            sign the record (`DATA_TAMPERED`), or the card does not hold the key in it (`WRONG_SIGNATURE`).
    """
    certificate = MunicipalCertificate.parse(files.certificate)
    birth_date, key_fields, signature = _fields(files.record, 0xFF10, (0xDF11, 0xDF12, 0xDF13))
    key = _key(key_fields)
    root = roots.get(certificate.issuer)
    if root is None or not _signed(root, certificate.body, certificate.signature):
        raise EnrolmentRefusedError(
            Reason.UNTRUSTED_ISSUER, "no key of J-LIS that is trusted here signed the certificate"
        )
    signed = tlv.encode(0xDF11, birth_date) + tlv.encode(0xDF12, key_fields)
    if not _signed(certificate.key, signed, signature):
        raise EnrolmentRefusedError(Reason.DATA_TAMPERED, "the record is not what the municipality signed")
    if not _signed(key, files.challenge, files.signature):
        raise EnrolmentRefusedError(Reason.WRONG_SIGNATURE, "the card does not hold the key in its record: a copy")
    return SurfaceEnrolment(files.identifier, spki_of(key))


def _collect(attempt: Attempt, birth_date: bytearray) -> Generator[CommandApdu, ResponseApdu, SurfaceFiles]:
    identifier = yield from mynumber_surface.identify()
    certificate = yield from _file(CERTIFICATE, "the municipality's certificate")
    yield from mynumber_files.present(BIRTH_DATE, birth_date, digits=BIRTH_DIGITS, what="the birth date")
    record = yield from _file(RECORD, "the birth date record")
    challenge = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    signature = yield from mynumber_files.sign(mynumber_files.DEFAULT_KEY, challenge)
    return SurfaceFiles(identifier, certificate, record, challenge, signature)


def _file(identifier: int, what: str) -> Generator[CommandApdu, ResponseApdu, bytes]:
    file = yield from mynumber_files.select_file(identifier)
    if not file.ok:
        raise CardRefused(f"SELECT of {what}", file.sw)
    content = yield from mynumber_files.read_object(what)
    if not content:
        raise CardMalformed(f"{what} was never written")
    return content


def _fields(octets: bytes, tag: int, tags: tuple[int, ...]) -> list[bytes]:
    """Take an object apart that holds exactly these objects in this order, each with its shortest length."""
    try:
        inside = tlv.parse(tlv.parse_one(octets, tag))
    except TlvError:
        raise EnrolmentRefusedError(Reason.MALFORMED_ANSWER, f"not an object {tag:X}") from None
    found = tuple(item.tag for item in inside)
    # What is signed is made anew from the fields, so that no second spelling of it may pass.
    if found != tags or tlv.encode(tag, b"".join(map(bytes, inside))) != octets:
        raise EnrolmentRefusedError(Reason.MALFORMED_ANSWER, f"an object {tag:X} with other fields than it has")
    return [item.value for item in inside]


def _key(fields: bytes) -> rsa.RSAPublicKey:
    """Read a public key: exponent (90), modulus (91)."""
    try:
        numbers = {item.tag: item.value for item in tlv.parse(fields)}
        exponent, modulus = numbers[0x90], numbers[0x91]
    except (TlvError, KeyError):
        raise EnrolmentRefusedError(Reason.MALFORMED_ANSWER, "no public key where one belongs") from None
    if tlv.encode(0x90, exponent) + tlv.encode(0x91, modulus) != fields:
        raise EnrolmentRefusedError(Reason.MALFORMED_ANSWER, "a public key in another form than the card's")
    number = int.from_bytes(modulus)
    is_2048 = len(modulus) == _MODULUS_BYTES and modulus[0] >= 0x80 and number % 2 == 1
    if int.from_bytes(exponent) != _EXPONENT or not is_2048:
        raise EnrolmentRefusedError(Reason.UNSUPPORTED_KEY, "a public key that is not RSA-2048 with the exponent 65537")
    return rsa.RSAPublicNumbers(_EXPONENT, number).public_key()


def _signed(key: rsa.RSAPublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, *HOSTILE):
        return False
    return True
