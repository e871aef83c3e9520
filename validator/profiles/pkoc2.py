"""PKOC, secure element profile 2 (NFC Transport Profile 2.0.1): an issuer's certificate, and a signed challenge.

Three exchanges: SELECT, the certificate, INTERNAL AUTHENTICATE. The command that tells profile 2 from profile 1, INFO,
is asked only where a card gives no certificate and leaves open which of the two it speaks: a certificate says as much
as INFO does, and one exchange less is 15 to 20 ms less.

Nobody can choose the weaker profile by failing this one. Who has given a certificate is judged by it, and who says that
it speaks profile 2 is never offered to profile 1, certificate or not: only a card that knows neither command may be.

The challenge binds the gate that asks and the moment it asks: 32 bytes, the digest of the message that PIV cards sign.
The card hashes them once more.
"""

import hashlib
from collections.abc import Generator

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu, drain, exchange, send
from hardware.tlv import TlvError
from validator import pkoc_cvc
from validator.certificates import CertificateError, KeyUnsupportedError
from validator.model import Assurance, KeyAlgorithm
from validator.profiles.attempt import NONCE_BYTES, Attempt, cache_key, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, KeyUnsupported, WrongFamily
from validator.proof import CardProof, PkocCvc, Shown, Signed

NAME = "pkoc2"

AID = bytes.fromhex("A000000898000001")
"""PKOC application; both profiles live under it."""

VERSION = b"\x02\x00"
"""What INFO says of a card of profile 2."""

_GET_CVC = CommandApdu(0x00, 0xCA, 0x7F, 0x21, le=SHORT_LE_MAX)
_GET_INFO = CommandApdu(0x00, 0xCA, 0x7F, 0x63, le=SHORT_LE_MAX)
_CVC_STEP = "GET DATA 7F21"

_INFO, _VERSIONS, _SIGNATURE = 0x7F63, 0x5C, 0x9E

_WRONG_P1_P2 = 0x6B00  # ISO/IEC 7816-4 §5.6: an offset out of range to some, an unknown object to others
_LEAVES_IT_OPEN = frozenset(
    {
        SW.REFERENCED_DATA_NOT_FOUND,  # profile 2 without a certificate; the rest: no such command, or a general error
        SW.WRONG_LENGTH,
        SW.FUNCTION_NOT_SUPPORTED,
        SW.FILE_NOT_FOUND,
        SW.INCORRECT_P1_P2,
        _WRONG_P1_P2,
        SW.INSTRUCTION_NOT_SUPPORTED,
        SW.CLASS_NOT_SUPPORTED,
        SW.UNKNOWN_ERROR,
    }
)

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Talk to one card until it has given its certificate and signed our challenge, or failed to.

    Args:
        attempt: What this attempt may use.
        selected: What the card answered when its application was selected.

    Returns:
        The certificate, or the verdict that was kept of it, and the signature. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    if not selected.ok:
        raise WrongFamily(f"no PKOC application: {selected.sw:04X}")
    try:
        return (yield from _collect(attempt))
    except KeyUnsupportedError as error:
        raise KeyUnsupported(str(error)) from None
    except (ApduError, TlvError, CertificateError) as error:
        raise CardMalformed(str(error)) from None


def _collect(attempt: Attempt) -> _Collect:
    certificate = yield from _certificate()
    key = cache_key(NAME, certificate)
    shown: Shown | None = attempt.known(key)
    if shown is None:
        # No card is asked to sign that shows what cannot be judged, and the reason is that of its certificate.
        pkoc_cvc.parse(certificate)
        shown = PkocCvc(certificate)
    message = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    challenge = hashlib.sha256(message).digest()
    attempt.begin(shown)
    signature = yield from _challenge(challenge)
    return CardProof(NAME, Assurance.CHIP, shown, Signed(challenge, signature, KeyAlgorithm.P256), key)


def _certificate() -> Generator[CommandApdu, ResponseApdu, bytes]:
    first = yield from send(_GET_CVC)
    if first.sw in _LEAVES_IT_OPEN and not first.data:
        if (yield from _says_profile_2()):
            raise CardRefused(_CVC_STEP, first.sw)
        raise WrongFamily("a PKOC application without profile 2")
    whole = yield from drain(_GET_CVC.cla, first)
    if not whole.ok:
        raise CardRefused(_CVC_STEP, whole.sw)
    return whole.data


def _says_profile_2() -> Generator[CommandApdu, ResponseApdu, bool]:
    answer = yield from exchange(_GET_INFO)
    if not answer.ok:
        return False
    try:
        versions = tlv.find(tlv.find(answer.data, _INFO) or b"", _VERSIONS) or b""
    except TlvError:
        return False
    return VERSION in (versions[at : at + 2] for at in range(0, len(versions), 2))


def _challenge(challenge: bytes) -> Generator[CommandApdu, ResponseApdu, bytes]:
    answer = yield from exchange(CommandApdu(0x00, 0x88, 0x00, 0x00, challenge, le=SHORT_LE_MAX))
    if not answer.ok:
        raise CardRefused("INTERNAL AUTHENTICATE", answer.sw)
    return pkoc_cvc.der_signature(tlv.parse_one(answer.data, _SIGNATURE))
