"""The Estonian identity card of 2018 to 2025 (IDEMIA, an IAS-ECC application): ID-card, residence permit, Digi-ID.

What a tap proves is told in `validator.profiles.dual_interface`. With PIN1 the authentication key signs the SHA-384 of
our challenge through INTERNAL AUTHENTICATE. The application's Latvian twins answer to the same name; their certificates
lead to another issuer.
"""

from collections.abc import Collection, Generator

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, CommandApdu, ResponseApdu
from validator.profiles import dual_interface
from validator.profiles.attempt import Attempt
from validator.profiles.dual_interface import PIECE_BYTES, Generation, PersonalField, Steps
from validator.profiles.errors import CardMalformed
from validator.proof import CardProof

NAME = "esteid2018"

AID = b""
"""None: the card selects its application for itself, in the one form that it answers on either interface."""

HISTORICAL = frozenset(
    {
        bytes.fromhex("0012233F536549440F9000"),  # Cosmo 8
        bytes.fromhex("0012233F54654944320F9000"),  # Cosmo X
    }
)
"""Historical bytes of the ATR and the ATS: a hint at the family."""

MAIN = bytes.fromhex("A000000077010800070000FE00000100")
AUTHENTICATION = bytes.fromhex("E828BD080FF2504F5420415750")
"""The application within the application that PIN1 and the authentication key belong to."""

PIN1 = 0x01
PIN_PADDING = 0xFF

_CERTIFICATE = bytes.fromhex("ADF13401")
_PERSONAL_DIRECTORY = bytes.fromhex("5000")
_DOCUMENT_NUMBER = bytes.fromhex("D003")
_TRIES_OF_PIN1 = bytes.fromhex("4D08 7006 BF8101 02 A080")
_ECDSA_WITH_THE_AUTHENTICATION_KEY = bytes.fromhex("800104 840181")

_OCTET_STRING = 0x04


def authenticate(attempt: Attempt, selected: ResponseApdu) -> Generator[CommandApdu, ResponseApdu, CardProof]:
    """Talk to one card until it has proved as much as the secrets of this attempt allow, or failed to.

    Args:
        attempt: What this attempt may use.
        selected: Not looked at: nothing was selected yet.

    Returns:
        What the card showed. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    del selected
    return (yield from dual_interface.authenticate(_CARD, attempt))


def personal_data(attempt: Attempt, wanted: Collection[PersonalField]) -> Steps[dict[PersonalField, str]]:
    """Read fields of the personal data file, for a desk or an inspector; a gate has no use for them.

    They are a claim, like the certificate that was read without a PIN: who proved something else of the card compares
    the personal code.

    Args:
        attempt: What this attempt may use.
        wanted: The fields; nothing else is read.

    Returns:
        The fields as the card has them; an empty one, as the cards of e-residents have some, is an empty text.

    Raises:
        ProfileError: As `authenticate`.
    """

    def reading() -> Steps[dict[PersonalField, str]]:
        yield from dual_interface.select(0x01, 0x0C, _PERSONAL_DIRECTORY, "SELECT of the personal data directory")
        fields = {}
        for field in wanted:
            file = (0x5000 | field).to_bytes(2)
            yield from dual_interface.select(0x02, 0x0C, file, "SELECT of a personal data field")
            fields[field] = dual_interface.field_text((yield from dual_interface.read_piece(0, PIECE_BYTES)))
        return fields

    return (yield from dual_interface.read(_CARD, attempt, reading))


def document_number(attempt: Attempt) -> Steps[str]:
    """Read the document number from its own file.

    Raises:
        ProfileError: As `authenticate`.
    """

    def reading() -> Steps[str]:
        yield from dual_interface.select(0x02, 0x0C, _DOCUMENT_NUMBER, "SELECT of the document number")
        content = yield from dual_interface.read_piece(0, PIECE_BYTES)
        return dual_interface.field_text(tlv.parse_one(content, _OCTET_STRING))

    return (yield from dual_interface.read(_CARD, attempt, reading))


def _read_certificate() -> Steps[bytes]:
    yield from dual_interface.select(0x09, 0x0C, _CERTIFICATE, "SELECT of the authentication certificate")
    return (yield from dual_interface.read_der())


def _tries_left() -> Steps[int]:
    """GET DATA of the PIN's object: 70 { BF8101 { A0 { 9A most tries, 9B tries left, … } } }."""
    found = yield from dual_interface.command(
        "00CB3FFF", _TRIES_OF_PIN1, "GET DATA of the PIN's tries", le=SHORT_LE_MAX
    )
    content = found
    for tag in (0x70, 0xBF8100 | PIN1, 0xA0, 0x9B):
        inner = tlv.find(content, tag)
        if inner is None:
            raise CardMalformed("the PIN's object does not tell its tries")
        content = inner
    if len(content) != 1:
        raise CardMalformed(f"{len(content)} bytes for the PIN's tries")
    return content[0]


def _sign(pin: bytearray, digest: bytes) -> Steps[bytes]:
    yield from dual_interface.select(0x04, 0x0C, AUTHENTICATION, "SELECT of the authentication application")
    yield from dual_interface.verify_pin(PIN1, pin, PIN_PADDING)
    yield from dual_interface.command("002241A4", _ECDSA_WITH_THE_AUTHENTICATION_KEY, "MANAGE SECURITY ENVIRONMENT")
    return (yield from dual_interface.command("00880000", digest, "INTERNAL AUTHENTICATE", le=SHORT_LE_MAX))


_CARD = Generation(
    name=NAME,
    root=MAIN,
    application=MAIN,
    name_parameters=True,
    read_certificate=_read_certificate,
    tries_left=_tries_left,
    sign=_sign,
)
