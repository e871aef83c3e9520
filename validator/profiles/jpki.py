"""The personal authentication application (JPKI) of a MyNumber card: a certificate, and with the PIN a signature.

The user authentication certificate (EF 000A) can be read by anybody, so that alone it proves nothing: `CLAIMED`. It
holds neither name nor address. With the four-digit PIN its key signs our challenge: `HOLDER`. The PIN is shown only to
a card that has given a certificate whose key we can verify with, and that says that at least two of its three tries
are left: the third mistake is a way to the municipal office.

The signature certificate, which does name its holder, is never asked for; nor is any other application of the card.

Not verified on a card, since no specification is public: see `mynumber_files`. Of certificates in phones, which speak
the same protocol, nothing is known here but that.
"""

from collections.abc import Generator

from hardware.apdu import SW, ApduError, CommandApdu, ResponseApdu
from validator.certificates import (
    CertificateError,
    KeyUnsupportedError,
    certificate_key,
    key_algorithm,
    load_certificate,
)
from validator.model import Assurance, KeyAlgorithm, Scheme
from validator.profiles import mynumber_files
from validator.profiles.attempt import NONCE_BYTES, Attempt, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, KeyUnsupported, WrongFamily
from validator.proof import CardProof, IdCertificate, Signed, Unproved

NAME = "jpki"

AID = b""
"""It selects for itself: every known program asks for no template, and the choice of a family would."""

APPLICATION = bytes.fromhex("D392F000260100000001")
CERTIFICATE, KEY, PIN = 0x000A, 0x0017, 0x0018
PIN_DIGITS = 4

_CERTIFICATE_WORDS = "the user authentication certificate"

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Read the certificate; with a PIN, have the card sign.

    Args:
        attempt: What this attempt may use; `secrets.pin` decides how far it goes.
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


def _collect(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    if not selected.ok or not (yield from mynumber_files.select_application(APPLICATION)).ok:
        raise WrongFamily("no JPKI application")
    shown = IdCertificate(Scheme.JAPAN, (yield from _certificate()))
    pin = attempt.secrets.pin
    if pin is None:
        attempt.begin(shown)
        return CardProof(NAME, Assurance.CLAIMED, shown, Unproved())
    challenge = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    yield from mynumber_files.present(PIN, pin, digits=PIN_DIGITS, what="the user authentication PIN")
    key = yield from mynumber_files.select_file(KEY)
    if not key.ok:
        raise CardRefused("SELECT of the user authentication key", key.sw)
    attempt.begin(shown)
    signature = yield from mynumber_files.sign(mynumber_files.CURRENT_FILE, challenge)
    return CardProof(NAME, Assurance.HOLDER, shown, Signed(challenge, signature, KeyAlgorithm.RSA2048))


def _certificate() -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Read EF 000A whole; what is no certificate of RSA-2048 ends here, before any PIN is shown."""
    file = yield from mynumber_files.select_file(CERTIFICATE)
    if file.sw == SW.FILE_NOT_FOUND:
        raise WrongFamily("a JPKI application without a user authentication certificate")
    if not file.ok:
        raise CardRefused(f"SELECT of {_CERTIFICATE_WORDS}", file.sw)
    der = yield from mynumber_files.read_object(_CERTIFICATE_WORDS)
    if not der:
        raise WrongFamily("a JPKI application whose user authentication certificate was never written")
    try:
        algorithm = key_algorithm(certificate_key(load_certificate(der)))
    except KeyUnsupportedError as error:
        raise KeyUnsupported(str(error)) from None
    except CertificateError as error:
        raise CardMalformed(str(error)) from None
    if algorithm is not KeyAlgorithm.RSA2048:
        raise KeyUnsupported(f"a JPKI certificate for a key of {algorithm}")
    return der
