"""MIFARE Ultralight AES: a mailed card that shares a secret key of its own with the gates, and holds an account token.

The card proves its key by three-pass authentication over our fresh random number, and the token by the code on the
frame that carries it. A card with a random UID first tells its true one to a key that all cards share; what it showed
in anticollision names nobody. Its data key is derived from the true UID, so that one card's key opens no other card.

The gate proves its key first: a card that refuses every version of it is another operator's, and says so by a refusal,
not by a wrong answer. Each refusal counts against the card's own limit of failed attempts, where its issuer set one.
"""

from collections.abc import Generator
from dataclasses import dataclass

from hardware import ultralight_aes as aes
from hardware.type2 import TagAnswer, TagCommand
from validator.model import Assurance
from validator.profiles.attempt import BLANK_TOKENS, Attempt, CardKeyMissing
from validator.profiles.errors import CardMalformed, CardRefused, KeyNotHere, WrongFamily
from validator.proof import CardProof, CardToken, Mutual

NAME = "ultralight-aes"

DATA_KEY_NAME = "ultralight-data"
"""Operator key from which each card's own is derived."""
UID_KEY_NAME = "ultralight-uid"
"""Operator key that all cards share; all it opens is their true UIDs."""

TOKEN_PAGE = 0x04
"""First of the four pages of the account token, 16 bytes."""

MAX_VERSIONS = 4
"""Versions of one operator key that are tried on a card, the newest first."""

_Talk = Generator[TagCommand, TagAnswer, bytes]


@dataclass(slots=True)
class _Evidence:
    """What the card had to send, what it sent, and the true UID that its key is derived for."""

    expected: bytes = b""
    received: bytes = b""
    uid: bytes = b""

    def holds(self) -> bool:
        """Whether to go on asking: who failed once is asked for nothing more."""
        return self.expected == self.received


def authenticate(attempt: Attempt) -> Generator[TagCommand, TagAnswer, CardProof]:
    """Talk to one tag until it has shown that it holds a card's key, or failed to.

    Args:
        attempt: What this attempt may use.

    Returns:
        What the card showed; where it failed to prove its key, whatever it showed by then.

    Raises:
        ProfileError: Whatever else the tag says; each subclass names the reason that is recorded.
    """
    evidence = _Evidence()
    token = b""
    session = yield from _authenticated(attempt, evidence)
    if session is not None:
        try:
            token = yield from _read(session, TOKEN_PAGE, evidence)
        finally:
            session.wipe()
        if evidence.holds() and token in BLANK_TOKENS:
            raise CardMalformed("a token that nobody has written")
    shown = CardToken(NAME, evidence.uid, token)
    attempt.begin(shown)
    return CardProof(NAME, Assurance.CHIP, shown, Mutual(evidence.expected, evidence.received))


def open_session(attempt: Attempt) -> Generator[TagCommand, TagAnswer, aes.Session]:
    """Authenticate once more, for commands that change the card. Whoever asked for the session wipes it.

    Raises:
        ProfileError: As `authenticate`; `CardMalformed` too where the card does not hold its key.
    """
    session = yield from _authenticated(attempt, _Evidence())
    if session is None:
        raise CardMalformed("the card does not hold the key that it claims")
    return session


def _authenticated(attempt: Attempt, evidence: _Evidence) -> Generator[TagCommand, TagAnswer, aes.Session | None]:
    """Open a session under the card's own key, which the caller wipes; None where the card proved no key."""
    yield from _recognise()
    try:
        uid = attempt.uid or (yield from _true_uid(attempt, evidence))
        if not evidence.holds():
            return None
        if len(uid) != aes.UID_BYTES:
            raise CardMalformed(f"a UID of {len(uid)} bytes")
        evidence.uid = uid
        session = yield from _open(attempt, aes.DATA_KEY, DATA_KEY_NAME, uid, evidence)
    except CardKeyMissing as error:
        raise KeyNotHere(str(error)) from None
    if not evidence.holds():
        session.wipe()
        return None
    return session


def _recognise() -> Generator[TagCommand, TagAnswer, None]:
    """Ask for the version. A tag that does not know the command may say nothing; one that missed it is asked again."""
    answer = yield TagCommand(bytes([aes.GET_VERSION]))
    if answer.silent:
        answer = yield TagCommand(bytes([aes.GET_VERSION]))
    if not aes.is_ultralight_aes(answer.data):
        raise WrongFamily("no MIFARE Ultralight AES")


def _true_uid(attempt: Attempt, evidence: _Evidence) -> _Talk:
    session = yield from _open(attempt, aes.UID_KEY, UID_KEY_NAME, b"", evidence)
    try:
        if not evidence.holds():
            return b""
        pages = yield from _read(session, aes.UID_PAGE, evidence)
    finally:
        session.wipe()
    if not evidence.holds():
        return b""
    uid = aes.uid_of(pages)
    if uid is None:
        raise CardMalformed("a check byte of the UID is wrong")
    return uid


def _open(
    attempt: Attempt, number: int, name: str, uid: bytes, evidence: _Evidence
) -> Generator[TagCommand, TagAnswer, aes.Session]:
    """Authenticate under the first version of an operator key that the card accepts."""
    for version in attempt.keys.versions(name)[:MAX_VERSIONS]:
        with attempt.keys.card_key(name, version, uid) as key:
            session = yield from _three_passes(number, key, attempt.random(aes.BLOCK), evidence)
        if session is not None:
            return session
    raise KeyNotHere(f"no version of {name} on this gate opens the card")


def _three_passes(
    number: int, key: bytearray, rnd_a: bytes, evidence: _Evidence
) -> Generator[TagCommand, TagAnswer, aes.Session | None]:
    """Run one authentication; None where the card refused our proof."""
    first = yield TagCommand(bytes([aes.AUTHENTICATE, number]))
    if first.refused:
        raise CardRefused("AUTHENTICATE", first.acknowledgement or 0)
    rnd_b = aes.decrypt(key, _block(first, aes.AUTHENTICATE_MORE))
    proof = aes.encrypt(key, rnd_a + aes.rotated(rnd_b))
    second = yield TagCommand(bytes([aes.AUTHENTICATE_PART_2]) + proof)
    if second.refused:
        return None
    evidence.received += aes.decrypt(key, _block(second, aes.AUTHENTICATE_DONE))
    evidence.expected += aes.rotated(rnd_a)
    return aes.Session.of_challenges(key, rnd_a, rnd_b)


def _block(answer: TagAnswer, status: int) -> bytes:
    if len(answer.data) != 1 + aes.BLOCK or answer.data[0] != status:
        raise CardMalformed(f"{len(answer.data)} bytes where an authentication goes on")
    return answer.data[1:]


def _read(session: aes.Session, page: int, evidence: _Evidence) -> _Talk:
    """Read four pages with their code."""
    answer = yield TagCommand(session.sealed(bytes([aes.READ, page])))
    if answer.refused:
        raise CardRefused("READ", answer.acknowledgement or 0)
    size = aes.READ_PAGES * aes.PAGE_BYTES
    if len(answer.data) != size + aes.MAC_BYTES:
        raise CardMalformed(f"{len(answer.data)} bytes where four pages and their code belong")
    evidence.received += answer.data[size:]
    evidence.expected += session.next_mac(answer.data[:size])
    return answer.data[:size]
