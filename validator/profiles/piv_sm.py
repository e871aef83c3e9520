"""PIV SM-AUTH (SP 800-73-5 part 2, §4.1 and appendix A): one command makes the card prove its secure messaging key.

The card agrees with our ephemeral key on a secret, confirms it, and hands over its certificate in the same answer:
SELECT and one GENERAL AUTHENTICATE, 252 bytes at most with P-256. So a kept verdict saves no exchange, only the check
of the signer's signature. The session that could follow is not used.

Only a card that announces a cipher suite is this family's; any other is left to `piv`, with the same selection. A card
that announces one and then fails is not tried with its other key: nobody may choose the weaker protocol by failing the
stronger.
"""

import hashlib
from collections.abc import Generator

from cryptography.hazmat.primitives.asymmetric import ec

from hardware import opacity, tlv
from hardware.apdu import SHORT_LE_MAX, ApduError, CommandApdu, ResponseApdu, exchange
from hardware.opacity import CardMessage, HostMessage, OpacityError
from hardware.tlv import TlvError
from validator.model import Assurance
from validator.profiles.attempt import Attempt, cache_key
from validator.profiles.errors import CardMalformed, CardRefused, WrongFamily
from validator.proof import Agreed, CardProof, PivCvc

NAME = "piv-sm"

AID = bytes.fromhex("A00000030800001000")
"""PIV Card Application AID, right-truncated so that every version answers (pt1 §2.2); `piv` lives under it as well."""

_INS_GENERAL_AUTHENTICATE = 0x87
_TEMPLATE, _MECHANISMS, _MECHANISM = 0x61, 0xAC, 0x80
_DYNAMIC_AUTHENTICATION, _CHALLENGE, _RESPONSE = 0x7C, 0x81, 0x82

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def host_id(gate: str) -> bytes:
    """Return ID_sH, 8 bytes: the gate's name, hashed.

    It enters the card's confirmation, so that an answer is bound to the gate that asked, as a signed challenge is. The
    ephemeral key alone makes each answer fresh; a random identifier would add nothing to it.
    """
    return hashlib.sha256(b"pilet-gate/1" + gate.encode()).digest()[: opacity.HOST_ID_BYTES]


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Talk to one card until it has confirmed a fresh key, or failed to.

    Args:
        attempt: What this attempt may use.
        selected: What the card answered when its application was selected.

    Returns:
        What the card showed. Nothing in it is verified here, its certificate not even read.

    Raises:
        WrongFamily: The card announces no cipher suite.
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    suite = _announced(selected)
    try:
        return (yield from _collect(attempt, suite))
    except (ApduError, TlvError, OpacityError) as error:
        raise CardMalformed(str(error)) from None


def _announced(selected: ResponseApdu) -> opacity.Suite:
    """Find the cipher suite in the application property template (pt2 §3.1.1).

    There is one suite or none. PivApplet lists all its algorithms there, each in an AC object of its own, so that only
    the two identifiers of a suite count. Cards in the field let other objects follow the template (7F66, the lengths
    that they take). A template that cannot be read announces nothing.
    """
    if not selected.ok:
        raise WrongFamily(f"no PIV application: {selected.sw:04X}")
    try:
        mechanisms = {
            item.value
            for listed in tlv.parse(tlv.find(selected.data, _TEMPLATE) or b"")
            if listed.tag == _MECHANISMS
            for item in tlv.parse(listed.value)
            if item.tag == _MECHANISM
        }
    except TlvError:
        raise WrongFamily("a PIV application whose property template cannot be read") from None
    suites = [suite for suite in opacity.SUITES.values() if bytes([suite.identifier]) in mechanisms]
    if not suites:
        raise WrongFamily("a PIV application without secure messaging")
    if len(suites) > 1:
        raise CardMalformed("a card that announces two cipher suites")
    return suites[0]


def _collect(attempt: Attempt, suite: opacity.Suite) -> _Collect:
    number = suite.private_number(attempt.random(suite.random_bytes))
    point = opacity.point_of(ec.derive_private_key(number, suite.curve).public_key())
    sent = HostMessage(host_id(attempt.gate), point)
    received = yield from _establish(suite, sent)
    key = cache_key(NAME, received.certificate)
    shown = attempt.known(key) or PivCvc(received.certificate)
    attempt.begin(shown)
    evidence = Agreed(
        suite=suite.identifier,
        host_key=number.to_bytes(suite.coordinate_bytes),
        host_id=sent.host_id,
        card_id=opacity.card_id(received.certificate),
        nonce=received.nonce,
        control=received.control,
        cryptogram=received.cryptogram,
    )
    return CardProof(NAME, Assurance.CHIP, shown, evidence, key)


def _establish(suite: opacity.Suite, sent: HostMessage) -> Generator[CommandApdu, ResponseApdu, CardMessage]:
    template = tlv.encode(_DYNAMIC_AUTHENTICATION, tlv.encode(_CHALLENGE, bytes(sent)) + tlv.encode(_RESPONSE, b""))
    command = CommandApdu(
        0x00, _INS_GENERAL_AUTHENTICATE, suite.identifier, opacity.KEY_REFERENCE, template, le=SHORT_LE_MAX
    )
    response = yield from exchange(command)
    if not response.ok:
        raise CardRefused(f"GENERAL AUTHENTICATE {suite.name}", response.sw)
    message = tlv.parse_one(tlv.parse_one(response.data, _DYNAMIC_AUTHENTICATION), _RESPONSE)
    return CardMessage.parse(suite, message)
