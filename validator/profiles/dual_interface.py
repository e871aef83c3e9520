"""The Estonian identity cards that have two interfaces: what their generations share.

Through contacts the authentication certificate is everybody's to read, and to copy: `CLAIMED`. Over the air a card
gives nothing but EF.CardAccess before PACE with the number that is printed on it. After PACE both sides are known to
know that number: `SHARED_SECRET`, since a phone that was told it can do the same. The application's private keys ask
for a PIN on either way, so that no chip is proved without its holder: with PIN1 it signs our challenge, `HOLDER`.

A reader does not always tell which way a card speaks. Where it is not known to be the air the card is asked in clear,
and one that refuses to be read is asked again behind PACE.

A PIN's tries are read before it is spent; with one left it is the holder's to spend, elsewhere. Nothing is tried twice.
"""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hardware.apdu import SW, ApduError, ApduExchange, CommandApdu, ResponseApdu, exchange
from hardware.pace import PaceError, PasswordKind, preferred
from hardware.tlv import TlvError
from validator.certificates import (
    CertificateError,
    KeyUnsupportedError,
    certificate_key,
    key_algorithm,
    load_certificate,
)
from validator.model import Assurance, KeyAlgorithm, Scheme
from validator.profiles import pace
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import (
    CanNeeded,
    CardMalformed,
    CardRefused,
    KeyUnsupported,
    PinAtRisk,
    PinBlocked,
    WrongFamily,
    WrongPin,
)
from validator.profiles.pace import Established
from validator.proof import CardProof, IdCertificate, Mutual, Signed, Unproved

MAX_CERTIFICATE_BYTES = 4 * 1024
"""The largest in the field are under 1100."""

PIECE_BYTES = 223
"""What a card is asked for at a time: so much fits a short answer once it is sealed. Certificates of 1032 bytes take
five pieces of this size, or of any larger one that a card would give."""

SIGNATURE_BYTES = 96
"""r || s of P-384, the curve of every authentication key of these generations."""

PIN_DIGITS = range(4, 13)
"""Of PIN1; the block that carries it has `PIN_BLOCK_BYTES`."""

PIN_BLOCK_BYTES = 12
TRIES_AT_RISK = 1

_END_OF_FILE = 0x6282
_OFFSET_OUTSIDE = 0x6B00
_BLOCKED = (0x6983, 0x6984)
_NO_TRIES_TOLD = 0x6300

_T = TypeVar("_T")
_R = TypeVar("_R")
Steps = Generator[CommandApdu, ResponseApdu, _T]
"""A part of a dialogue."""


@unique
class PersonalField(IntEnum):
    """The personal data file: a file for each, PD1 to PD15."""

    SURNAME = 1
    GIVEN_NAMES = 2
    SEX = 3
    CITIZENSHIP = 4
    BIRTH = 5  # DD MM YYYY, in 2018 with a country after it
    PERSONAL_CODE = 6
    DOCUMENT_NUMBER = 7
    EXPIRY = 8  # DD MM YYYY
    ISSUE = 9
    PERMIT_TYPE = 10
    REMARK_1 = 11
    REMARK_2 = 12
    REMARK_3 = 13
    REMARK_4 = 14
    REMARK_5 = 15


@dataclass(frozen=True, slots=True)
class Generation:
    """How one generation of the card is spoken to.

    Attributes:
        name: Of the card family.
        root: Identifier of the application under which EF.CardAccess lies; any reader may select it.
        application: Identifier of the eID application; over the air it is selected again inside the channel.
        name_parameters: Whether the card is told its own domain parameters when PACE begins.
        read_certificate: Reads the authentication certificate, DER, with the eID application selected.
        tries_left: Reads how many tries PIN1 has, with the eID application just selected.
        sign: Spends PIN1 on the signature of a SHA-384 digest, and returns r || s.
    """

    name: str
    root: bytes
    application: bytes
    name_parameters: bool
    read_certificate: Callable[[], Steps[bytes]]
    tries_left: Callable[[], Steps[int]]
    sign: Callable[[bytearray, bytes], Steps[bytes]]


def authenticate(card: Generation, attempt: Attempt) -> Steps[CardProof]:
    """Prove as much as the secrets of this attempt allow.

    Returns:
        What the card showed: its authentication certificate. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """

    def reading() -> Steps[bytes]:
        if attempt.secrets.pin is not None:
            _check_tries(attempt.secrets.pin, (yield from card.tries_left()))
        return (yield from card.read_certificate())

    def prove(channel: Established | None, der: bytes) -> Steps[CardProof]:
        return _prove(card, attempt, channel, der)

    return (yield from _guarded(_opened(card, attempt, reading, prove)))


def read(card: Generation, attempt: Attempt, what: Callable[[], Steps[_T]]) -> Steps[_T]:
    """Read something else than the certificate, with the eID application selected, behind PACE where the card wants it.

    Raises:
        ProfileError: As `authenticate`.
    """

    def as_read(_channel: Established | None, found: _T) -> Steps[_T]:
        yield from ()
        return found

    return (yield from _guarded(_opened(card, attempt, what, as_read)))


def select(p1: int, p2: int, data: bytes, step: str) -> Steps[bytes]:
    """Select something that must be there, and return what the card says of it.

    Raises:
        CardRefused: It is not, or may not be selected.
    """
    response = yield from exchange(_select(p1, p2, data))
    if not response.ok:
        raise CardRefused(step, response.sw)
    return response.data


def read_der() -> Steps[bytes]:
    """Read the certificate in the selected file, as long as its own first bytes say.

    Raises:
        CardRefused: The file may not be read.
        CardMalformed: There is no certificate in it, one out of bounds, or the file ends before it does.
    """
    content = yield from read_piece(0, PIECE_BYTES)
    if len(content) < 4 or content[:2] != b"\x30\x82":  # a SEQUENCE of 256 bytes to 64 KiB
        raise CardMalformed("no certificate in the certificate file")
    size = 4 + int.from_bytes(content[2:4])
    if size > MAX_CERTIFICATE_BYTES:
        raise CardMalformed(f"a certificate of more than {MAX_CERTIFICATE_BYTES} bytes")
    while len(content) < size:
        found = yield from read_piece(len(content), min(PIECE_BYTES, size - len(content)))
        if not found:
            raise CardMalformed("the certificate file ends before the certificate does")
        content += found
    return content


def read_piece(offset: int, size: int) -> Steps[bytes]:
    """READ BINARY of the selected file (ISO/IEC 7816-4 §11.3.3): what is there, at most `size` bytes.

    Raises:
        CardRefused: The file may not be read.
        CardMalformed: The card gave more than was asked for.
    """
    response = yield from exchange(CommandApdu(0x00, 0xB0, offset >> 8, offset & 0xFF, le=size))
    if response.sw == _OFFSET_OUTSIDE:
        return b""
    if response.sw not in (SW.OK, _END_OF_FILE):
        raise CardRefused("READ BINARY", response.sw)
    if len(response.data) > size:
        raise CardMalformed(f"{len(response.data)} bytes where {size} were asked for")
    return response.data


def field_text(octets: bytes) -> str:
    """Decode one field of the personal data file; an empty one is a zero byte.

    Raises:
        CardMalformed: It is not printable text in UTF-8.
    """
    if octets in (b"", b"\x00"):
        return ""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise CardMalformed("a personal data field that is not UTF-8") from None
    if not text.isprintable():
        raise CardMalformed("a personal data field that is not printable")
    return text


def verify_pin(reference: int, pin: bytearray, padding: int) -> Steps[None]:
    """VERIFY (ISO/IEC 7816-4 §11.6.6), once: it spends a try if the PIN is wrong.

    Raises:
        WrongPin: It is.
        PinBlocked: There is no try left.
        CardRefused: The card will not have a PIN now.
    """
    # Sent as it is: `exchange` repeats a command when a card asks for another Le.
    response = yield CommandApdu(0x00, 0x20, 0x00, reference, bytes(pin).ljust(PIN_BLOCK_BYTES, bytes([padding])))
    if response.ok:
        return
    if response.sw in _BLOCKED or response.sw == 0x63C0:  # wrong, and it was the last
        raise PinBlocked("the PIN is blocked")
    if response.sw & 0xFFF0 == 0x63C0:
        raise WrongPin(response.sw & 0x0F)
    if response.sw == _NO_TRIES_TOLD:
        raise WrongPin(None)
    raise CardRefused("VERIFY", response.sw)


def command(cla_ins_p1_p2: str, data: bytes, step: str, *, le: int | None = None) -> Steps[bytes]:
    """Send one command that must succeed, and return the data of its answer.

    Raises:
        CardRefused: It did not.
    """
    cla, ins, p1, p2 = bytes.fromhex(cla_ins_p1_p2)
    response = yield from exchange(CommandApdu(cla, ins, p1, p2, data, le))
    if not response.ok:
        raise CardRefused(step, response.sw)
    return response.data


def _guarded(dialogue: Steps[_T]) -> Steps[_T]:
    try:
        return (yield from dialogue)
    except (ApduError, PaceError) as error:
        raise CardMalformed(str(error)) from None
    except TlvError:  # its message names tags, which in a personal data file are somebody's letters
        raise CardMalformed("data objects that cannot be read") from None


def _opened(
    card: Generation,
    attempt: Attempt,
    reading: Callable[[], Steps[_R]],
    then: Callable[[Established | None, _R], Steps[_T]],
) -> Steps[_T]:
    """Select the application, read in clear or behind PACE, and go on with what was read."""
    recognised = False
    if not attempt.contactless:
        recognised = (yield from _selected(card.application)).ok
        if recognised:
            try:
                found = yield from reading()
            except CardRefused as refused:
                if refused.sw != SW.SECURITY_STATUS_NOT_SATISFIED:
                    raise
            else:
                return (yield from then(None, found))
        elif card.root == card.application:
            raise WrongFamily(f"not a card of {card.name}")
    rooted = yield from _selected(card.root)
    if not rooted.ok:
        raise CardRefused("SELECT", rooted.sw) if recognised else WrongFamily(f"not a card of {card.name}")
    established = yield from _establish(card, attempt)

    def inside() -> Steps[_T]:
        selected = yield from _selected(card.application)
        if not selected.ok:
            raise CardRefused("SELECT of the eID application", selected.sw)
        return (yield from then(established, (yield from reading())))

    try:
        return (yield from pace.through(established.channel, inside()))
    finally:
        established.channel.wipe()


def _establish(card: Generation, attempt: Attempt) -> Steps[Established]:
    """PACE with the CAN; an MRZ is not asked for, since the one that this application keeps is nobody's to read."""
    can = attempt.secrets.can
    if can is None:
        raise CanNeeded("the card says nothing over the air without the number that is printed on it")
    info = preferred((yield from pace.read_card_access()))
    return (
        yield from pace.establish(info, PasswordKind.CAN, can, attempt.random, name_parameters=card.name_parameters)
    )


def _prove(card: Generation, attempt: Attempt, channel: Established | None, der: bytes) -> Steps[CardProof]:
    shown = IdCertificate(Scheme.ESTONIA, der)
    attempt.begin(shown)
    pin = attempt.secrets.pin
    if pin is not None:
        _check_key(der)
        challenge = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
        signature = _sig_value((yield from card.sign(pin, hashlib.sha384(challenge).digest())))
        return CardProof(card.name, Assurance.HOLDER, shown, Signed(challenge, signature, KeyAlgorithm.P384))
    if channel is not None:
        return CardProof(card.name, Assurance.SHARED_SECRET, shown, Mutual(channel.expected, channel.received))
    return CardProof(card.name, Assurance.CLAIMED, shown, Unproved())


def _check_key(der: bytes) -> None:
    """Find out before a PIN is spent whether the certificate is one that a signature can be held against."""
    try:
        algorithm = key_algorithm(certificate_key(load_certificate(der)))
    except KeyUnsupportedError as error:
        raise KeyUnsupported(str(error)) from None
    except CertificateError as error:
        raise CardMalformed(str(error)) from None
    if algorithm is not KeyAlgorithm.P384:
        raise KeyUnsupported(f"an {algorithm} key on a card whose keys are {KeyAlgorithm.P384}")


def _check_tries(pin: bytearray, tries: int) -> None:
    """End here where the PIN should not be spent, or cannot be a card's."""
    if tries == 0:
        raise PinBlocked("the PIN is blocked")
    if tries <= TRIES_AT_RISK:
        raise PinAtRisk("one try of the PIN is left")
    if len(pin) not in PIN_DIGITS or not pin.isdigit():
        raise WrongPin(tries)


def _sig_value(raw: bytes) -> bytes:
    """Turn r || s into an ECDSA-Sig-Value."""
    if len(raw) != SIGNATURE_BYTES:
        raise CardMalformed(f"a signature of {len(raw)} bytes")
    half = SIGNATURE_BYTES // 2
    r, s = int.from_bytes(raw[:half]), int.from_bytes(raw[half:])
    if not r or not s:
        raise CardMalformed("a number in the signature is zero")
    return encode_dss_signature(r, s)


def _selected(identifier: bytes) -> ApduExchange:
    """Select an application by its name; over the air the cards answer nothing but the form without a template."""
    return exchange(_select(0x04, 0x0C, identifier))


def _select(p1: int, p2: int, data: bytes) -> CommandApdu:
    return CommandApdu(0x00, 0xA4, p1, p2, data)
