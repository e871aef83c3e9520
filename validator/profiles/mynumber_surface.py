"""The surface application of a MyNumber card signs our challenge without any PIN: proof of the chip, `CHIP`.

Its public key is in no file that a gate may read, so that a desk takes it once from the record that the card's issuer
signed (`validator.surface_enrolment`) and enrols it under what the card says freely of itself. That is the card
identification number, data object 0045 of the card's manager (GET DATA): of what is free it is the only thing that
belongs to this card alone. EF 0004 will not do, although it is free as well: it certifies the key of the municipality
that issued the card, and is the same on each card of that town. EF 0003 might differ from card to card, by a block
whose meaning nobody has published; it may hold a holder's number in another form, and is left alone.

The number is copyable, so that it only picks the key that has to answer. It is read first, while nothing is selected:
the card gives it there and in no application. A card on which some application is selected already is asked again
through its manager. A card of another family loses one or two exchanges here, and its selection is left as it was.

With a PIN there is something better to prove (`jpki`), and this family leaves the card to it.

Not verified on a card: that each generation answers the signing command alike and without GET CHALLENGE before it; that
object 0045 never changes on one card. An operator should ask its counsel whether it may keep the number's digest.
"""

from collections.abc import Generator

from hardware.apdu import SHORT_LE_MAX, ApduError, CommandApdu, ResponseApdu, exchange
from validator.model import Assurance, KeyAlgorithm
from validator.profiles import mynumber_files
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, WrongFamily
from validator.proof import CardProof, EnrolledUnder, Signed

NAME = "mynumber-surface"

AID = b""
"""It selects for itself, after the identification number was read."""

APPLICATION = bytes.fromhex("D3921000310001010402")
CARD_MANAGER = bytes.fromhex("A0000001510000")
"""The issuer security domain of GlobalPlatform: what is selected after a reset, if nothing else was."""

MAX_IDENTIFIER_BYTES = 64

_GET_IDENTIFICATION = CommandApdu(0x00, 0xCA, 0x00, 0x45, le=SHORT_LE_MAX)
_STEP = "GET DATA of the card identification number"

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Read what the key is enrolled under, and have the application sign.

    Args:
        attempt: What this attempt may use.
        selected: Of no meaning here, since there is no application identifier to select before.

    Returns:
        What the card showed. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    try:
        return (yield from _collect(attempt, selected))
    except ApduError as error:
        raise CardMalformed(str(error)) from None


def identify() -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Read the card identification number, and leave the surface application selected.

    Returns:
        The number as the card gives it, 2 to 64 bytes; nothing is made of its inside.

    Raises:
        WrongFamily: There is no surface application.
        CardRefused: There is one, and the card does not tell its number.
        CardMalformed: The number is empty, blank or too long.
        ApduError: An answer left its bounds.
    """
    told = yield from exchange(_GET_IDENTIFICATION)
    if not (yield from mynumber_files.select_application(APPLICATION)).ok:
        raise WrongFamily("no surface application")
    if not told.ok:
        told = yield from _asked_through_the_manager()
    number = told.data
    if len(number) > MAX_IDENTIFIER_BYTES or len(set(number)) < 2:
        raise CardMalformed(f"a card identification number of {len(number)} bytes that names no card")
    return number


def _collect(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    if not selected.ok or attempt.secrets.pin is not None:
        raise WrongFamily("with a PIN the holder can be proved, by another application of the card")
    shown = EnrolledUnder(NAME, (yield from identify()))
    challenge = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    attempt.begin(shown)
    signature = yield from mynumber_files.sign(mynumber_files.DEFAULT_KEY, challenge)
    return CardProof(NAME, Assurance.CHIP, shown, Signed(challenge, signature, KeyAlgorithm.RSA2048))


def _asked_through_the_manager() -> Generator[CommandApdu, ResponseApdu, ResponseApdu]:
    """The card is ours, and some application was selected when it was asked: ask again where it does answer."""
    manager = yield from mynumber_files.select_application(CARD_MANAGER)
    if not manager.ok:
        raise CardRefused("SELECT of the card manager", manager.sw)
    told = yield from exchange(_GET_IDENTIFICATION)
    if not told.ok:
        raise CardRefused(_STEP, told.sw)
    again = yield from mynumber_files.select_application(APPLICATION)
    if not again.ok:
        raise CardRefused("SELECT of the surface application", again.sw)
    return told
