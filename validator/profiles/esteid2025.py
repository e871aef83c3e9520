"""The Estonian identity card since November 2025 (Thales, a PKCS#15 application): ID-card, residence permit, Digi-ID.

What a tap proves is told in `validator.profiles.dual_interface`. The card has no INTERNAL AUTHENTICATE: with PIN1 the
authentication key signs the SHA-384 of our challenge as it would sign a document's, through PSO: COMPUTE DIGITAL
SIGNATURE. A card whose PIN1 is still the one that it was sent with signs nothing.

Over the air the PKCS#15 application is there only inside a channel. What any reader may select is the card's own, under
which EF.CardAccess lies; a phone's reader finds the card by it.
"""

from collections.abc import Collection, Generator

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, CommandApdu, ResponseApdu
from validator.profiles import dual_interface
from validator.profiles.attempt import Attempt
from validator.profiles.dual_interface import PIECE_BYTES, Generation, PersonalField, Steps
from validator.profiles.errors import CardMalformed, PinNotSet
from validator.proof import CardProof

NAME = "esteid2025"

AID = b""
"""None: which application can be selected depends on the interface."""

HISTORICAL = frozenset(
    {
        bytes.fromhex("8031B85365494464B085051012233F"),  # contacts
        bytes.fromhex("8031D85365494464B085051012233F"),  # air
    }
)
"""Historical bytes of the ATR and the ATS: a hint at the family."""

MASTER = bytes.fromhex("A0000000181002030000000000000001")
PKCS15 = bytes.fromhex("A000000063504B43532D3135")

PIN1 = 0x81
PIN_PADDING = 0x00

_CERTIFICATE = bytes.fromhex("ADF13411")
_PERSONAL_DIRECTORY = bytes.fromhex("DFDD")
_TRIES_OF_PIN1 = bytes.fromhex("A003 830181")
_ECDSA_SHA384_WITH_THE_AUTHENTICATION_KEY = bytes.fromhex("800154 840101")

_TRIES, _CHANGED = 0xDF21, 0xDF2F


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
        yield from dual_interface.select(0x08, 0x0C, _PERSONAL_DIRECTORY, "SELECT of the personal data directory")
        fields = {}
        for field in wanted:
            told = yield from dual_interface.select(0x02, 0x04, _file_of(field), "SELECT of a personal data field")
            octets = yield from dual_interface.read_piece(0, min(PIECE_BYTES, _size_in(told)))
            fields[field] = dual_interface.field_text(octets)
        return fields

    return (yield from dual_interface.read(_CARD, attempt, reading))


def document_number(attempt: Attempt) -> Steps[str]:
    """Read the document number.

    Raises:
        ProfileError: As `authenticate`.
    """
    field = PersonalField.DOCUMENT_NUMBER
    return (yield from personal_data(attempt, (field,)))[field]


def _file_of(field: PersonalField) -> bytes:
    """Return a field's file identifier: its number is written in decimal digits, so that PD10 is 5010."""
    return bytes([0x50, int(str(field.value), 16)])


def _size_in(template: bytes) -> int:
    """Return the file's size from its control parameters, 62 { 81 size, … }, or 1 for an empty file: Le is never 0."""
    size = tlv.find(tlv.parse_one(template, 0x62), 0x81)
    if size is None or len(size) != 2:
        raise CardMalformed("a file that does not tell its size")
    return max(1, int.from_bytes(size))


def _read_certificate() -> Steps[bytes]:
    yield from dual_interface.select(0x08, 0x04, _CERTIFICATE, "SELECT of the authentication certificate")
    return (yield from dual_interface.read_der())


def _tries_left() -> Steps[int]:
    """GET DATA of the PIN's object: A0 { DF21 tries left, …, DF2F whether its holder has changed it, … }."""
    found = yield from dual_interface.command(
        "00CB00FF", _TRIES_OF_PIN1, "GET DATA of the PIN's tries", le=SHORT_LE_MAX
    )
    content = tlv.parse_one(found, 0xA0)
    tries, changed = tlv.find(content, _TRIES), tlv.find(content, _CHANGED)
    if not tries:
        raise CardMalformed("the PIN's object does not tell its tries")
    if changed == b"\x00":
        raise PinNotSet("PIN1 is still the one that the card was sent with")
    return tries[0]


def _sign(pin: bytearray, digest: bytes) -> Steps[bytes]:
    yield from dual_interface.verify_pin(PIN1, pin, PIN_PADDING)
    yield from dual_interface.command(
        "002241B6", _ECDSA_SHA384_WITH_THE_AUTHENTICATION_KEY, "MANAGE SECURITY ENVIRONMENT"
    )
    yield from dual_interface.command("002A90A0", tlv.encode(0x90, digest), "PSO: HASH")
    return (yield from dual_interface.command("002A9E9A", b"", "PSO: COMPUTE DIGITAL SIGNATURE", le=SHORT_LE_MAX))


_CARD = Generation(
    name=NAME,
    root=MASTER,
    application=PKCS15,
    name_parameters=False,
    read_certificate=_read_certificate,
    tries_left=_tries_left,
    sign=_sign,
)
