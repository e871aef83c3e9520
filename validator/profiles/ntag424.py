"""NTAG 424 DNA (NXP NT4H2421Gx rev. 3.0) as an operator's own card: a diversified key, a token that names the account.

SELECT, AuthenticateEV2First in two parts, one read of the token file under the session's MAC: four exchanges. The card
proves that it holds the key that the operator derived for its UID, over our fresh random number; the answer's MAC binds
the token to this session. Nothing that was recorded at another gate or another time fits.

How a card is laid out, and a bureau has to personalise it:

- key 0 (AppMasterKey) stays with the issuer; no gate has it;
- key 1 is the gate's, and differs from card to card (AN10922 over the UID). It opens nothing but the token file;
- file 3 holds the token in its first 16 bytes; Read = key 1, Write = ReadWrite = Change = key 0, CommMode.MAC.

A key that was rolled is tried after the current one. Each wrong key is counted by the card, and 1000 block the key for
good (§9); a success takes ten back, so that the cards of one operator never get there.

A card with a random UID is not taken. Its key cannot be derived before its UID is known, and to ask for that costs
three exchanges more, under a key that all cards share: whoever takes one gate apart could then follow every passenger.
"""

from collections.abc import Generator

from hardware import ev2
from hardware.apdu import ApduExchange, CommandApdu, ResponseApdu
from hardware.ev2 import CardAnswer, CommMode, Ev2Error, Ins, Session, SessionKeys, Status
from validator.model import Assurance
from validator.profiles.attempt import BLANK_TOKENS, TOKEN_BYTES, Attempt, CardKeyMissing
from validator.profiles.errors import CardMalformed, CardRefused, KeyNotHere, KeyUnsupported, WrongFamily
from validator.proof import CardProof, CardToken, Mutual

NAME = "ntag424"

AID = bytes.fromhex("D2760000850101")
"""The application that NXP installs, and NFC Forum's name for NDEF: phones and other tags answer to it, too."""

UID_BYTES = ev2.UID_BYTES

OPERATOR_KEY = "ntag424-application"
"""Name of the operator key that the keys of single cards are derived from."""

KEY_NUMBER = 1
TOKEN_FILE = 3

MAX_VERSIONS = 4
"""Versions of the operator key that one tap tries: a miss costs two exchanges, and is counted by a stranger's card."""

MAX_DELAYS = 16
"""How often a card that was given wrong keys may say "not now": it wants to be asked until its delay is spent (§9)."""

_AUTHENTICATE_STEP = "AuthenticateEV2First"
_READ_STEP = f"ReadData of file {TOKEN_FILE}"
_OTHER_FAMILY = (Status.ILLEGAL_COMMAND_CODE, Status.NO_SUCH_KEY)
"""A card of NXP's that does not know this authentication, or has no such key."""

_AUTHENTICATE = ev2.native(Ins.AUTHENTICATE_FIRST, bytes([KEY_NUMBER, 0]))

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Talk to one card until it has proved possession of its key and given its token, or failed to.

    Args:
        attempt: What this attempt may use.
        selected: What the card answered when its application was selected.

    Returns:
        What the card showed. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    if not selected.ok:
        raise WrongFamily(f"no NDEF application: {selected.sw:04X}")
    answer = yield from _ask_for_challenge()
    if answer.sw >> 8 != Status.OK >> 8 or answer.sw in _OTHER_FAMILY:
        raise WrongFamily(f"not an NTAG 424 DNA: {answer.sw:04X} to {_AUTHENTICATE_STEP}")
    if len(attempt.uid) != UID_BYTES:
        raise KeyUnsupported("a card whose UID is random: its key is derived from a fixed one of 7 bytes")
    versions = attempt.keys.versions(OPERATOR_KEY)[:MAX_VERSIONS]
    try:
        for tried, version in enumerate(versions):
            if tried:
                answer = yield from _ask_for_challenge()
            proof = yield from _collect(attempt, version, _challenge_in(answer))
            if proof is not None:
                return proof
    except CardKeyMissing as missing:
        raise KeyNotHere(str(missing)) from None
    except Ev2Error as error:
        raise CardMalformed(str(error)) from None
    raise KeyNotHere(f"the card accepts none of {len(versions)} versions of {OPERATOR_KEY}")


def _ask_for_challenge() -> ApduExchange:
    """AuthenticateEV2First, part 1 (§10.4.1); a card that delays it is asked until it does not, within a bound."""
    response = yield _AUTHENTICATE
    for _ in range(MAX_DELAYS):
        if response.sw != Status.AUTHENTICATION_DELAY:
            break
        response = yield _AUTHENTICATE
    return response


def _challenge_in(answer: ResponseApdu) -> bytes:
    """E(K, RndB), which a card gives to anybody."""
    if answer.sw != Status.ADDITIONAL_FRAME:
        raise CardRefused(_AUTHENTICATE_STEP, answer.sw)
    if len(answer.data) != ev2.CHALLENGE_BYTES:
        raise CardMalformed(f"a challenge of {len(answer.data)} bytes")
    return answer.data


def _collect(
    attempt: Attempt, version: int, challenge: bytes
) -> Generator[CommandApdu, ResponseApdu, CardProof | None]:
    """Authenticate under one version of the operator key and read the token; None where the card does not know it."""
    rnd_a = attempt.random(ev2.CHALLENGE_BYTES)
    with attempt.keys.card_key(OPERATOR_KEY, version, attempt.uid) as key:
        rnd_b = ev2.decrypt(key, challenge)
        response = yield ev2.native(Ins.ADDITIONAL_FRAME, ev2.gate_cryptogram(key, rnd_a, rnd_b))
        if response.sw == Status.AUTHENTICATION_ERROR:
            return None
        if response.sw != Status.OK:
            raise CardRefused(f"{_AUTHENTICATE_STEP}, part 2", response.sw)
        answer = CardAnswer.opened(key, response.data)
        keys = SessionKeys.of_challenges(key, rnd_a, rnd_b)
    session = Session(keys, answer.identifier)
    try:
        octets, expected, received = yield from _read_token(session)
    finally:
        session.wipe()
    # Who has the wrong key is asked on, and found out by both values at once: one answer, one reason.
    evidence = Mutual(ev2.rotated(rnd_a) + expected, answer.rnd_a_rotated + received)
    token = CardToken(NAME, attempt.uid, octets)
    attempt.begin(token)
    return CardProof(NAME, Assurance.CHIP, token, evidence)


def _read_token(session: Session) -> Generator[CommandApdu, ResponseApdu, tuple[bytes, bytes, bytes]]:
    """ReadData (§10.8.1) in CommMode.MAC: the token, the MAC that has to follow it, and the one that did."""
    header = bytes([TOKEN_FILE]) + (0).to_bytes(3, "little") + TOKEN_BYTES.to_bytes(3, "little")
    response = yield session.seal_command(CommMode.MAC, Ins.READ_DATA, header)
    if response.sw != Status.OK:
        raise CardRefused(_READ_STEP, response.sw)
    if len(response.data) != TOKEN_BYTES + ev2.MAC_BYTES:
        raise CardMalformed(f"{len(response.data)} bytes for a token and its MAC")
    token, received = response.data[:TOKEN_BYTES], response.data[TOKEN_BYTES:]
    if token in BLANK_TOKENS:
        raise CardMalformed("a token file that nobody has written")
    return token, session.response_mac(token), received
