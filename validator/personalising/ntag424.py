"""Makes an operator's card of a delivered NTAG 424 DNA, laid out as `validator.profiles.ntag424` expects it.

Keys 1 to 4, the settings of the token file, the token, and key 0 last: a card that has the issuer's key 0 has all of
the rest. Until then key 0 is the delivered one, and everything may be written again. Keys 2 to 4 open nothing and get
the issuer's key too, so that no key is left that everybody knows. Each single command is atomic on this chip.
"""

import hmac
import zlib
from collections.abc import Callable, Generator

from hardware import ev2
from hardware.apdu import SHORT_LE_MAX, ApduError, CommandApdu, ResponseApdu, exchange
from hardware.ev2 import CardAnswer, CommMode, Ev2Error, Ins, Session, SessionKeys, Status
from validator.originality import ChipProduct
from validator.personalising.making import DELIVERED_KEY, Making, NotBlank
from validator.profiles import ntag424
from validator.profiles.errors import CardMalformed, CardRefused

ISSUER_KEY = "ntag424-issuer"
"""Operator key that key 0 is derived from; no gate has it."""
KEY_NAMES = (ntag424.OPERATOR_KEY, ISSUER_KEY)
PRODUCT = ChipProduct.NTAG_424_DNA

_MASTER, _KEYS = 0, 5
_SETTINGS = bytes([CommMode.MAC, 0x00, 0x10])
"""Of the token file: ReadWrite and Change = key 0, Read = key 1, Write = key 0 (§10.7.1)."""

_Steps = Generator[CommandApdu, ResponseApdu, None]
_Ask = Generator[CommandApdu, ResponseApdu, ResponseApdu]


def signature() -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Read NXP's originality signature (Read_Sig, AN12196 table 30); empty where the card gives none.

    Raises:
        ProfileError: The card cannot be selected.
    """
    yield from _Card(bytes).select()
    answer = yield ev2.native(Ins.READ_SIG, b"\x00")
    return answer.data if answer.sw == Status.SIGNATURE else b""


def check(making: Making) -> _Steps:
    """Make sure that a card is as delivered; nothing is written.

    Raises:
        NotBlank: One of its keys is somebody's.
        ProfileError: The card refuses, or breaks the protocol.
    """
    card = _Card(making.attempt.random)
    yield from _guarded(_check(card))


def write(making: Making, *, resumed: bool) -> _Steps:
    """Write everything; repeated on a card that was torn away, it goes on.

    Args:
        making: The card.
        resumed: Whether this card was begun before, so that some of it, or all, may be written.

    Raises:
        NotBlank: It is not as delivered, and was not finished under these keys.
        ProfileError: The card refuses, or breaks the protocol.
    """
    card = _Card(making.attempt.random)
    yield from _guarded(_write(card, making, resumed=resumed))


def _guarded(steps: _Steps) -> _Steps:
    try:
        yield from steps
    except (Ev2Error, ApduError) as error:
        raise CardMalformed(str(error)) from None


def _check(card: "_Card") -> _Steps:
    yield from card.select()
    for number in range(_KEYS):
        if not (yield from card.opens(number, DELIVERED_KEY)):
            raise NotBlank(f"key {number} is not the one that cards are delivered with")


def _write(card: "_Card", making: Making, *, resumed: bool) -> _Steps:
    keys, uid, version = making.attempt.keys, making.attempt.uid, making.key_version
    with (
        keys.card_key(ntag424.OPERATOR_KEY, version, uid) as gate_key,
        keys.card_key(ISSUER_KEY, version, uid) as issuer_key,
    ):
        yield from card.select()
        if not (yield from card.opens(_MASTER, DELIVERED_KEY)):
            if resumed and (yield from card.opens(_MASTER, issuer_key)):
                return
            raise NotBlank("key 0 is not the one that cards are delivered with")
        for number in range(1, _KEYS):
            yield from card.change_key(number, gate_key if number == ntag424.KEY_NUMBER else issuer_key, version)
        file = bytes([ntag424.TOKEN_FILE])
        yield from card.command(CommMode.FULL, Ins.CHANGE_FILE_SETTINGS, file, _SETTINGS)
        place = file + (0).to_bytes(3, "little") + len(making.token).to_bytes(3, "little")
        yield from card.command(CommMode.MAC, Ins.WRITE_DATA, place, making.token)
        yield from card.change_master_key(issuer_key, version)


class _Card:
    """One end of a dialogue with a card, and the session that is open."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._session: Session | None = None

    def select(self) -> _Steps:
        """Select the application (§10.9.1)."""
        answer = yield from exchange(CommandApdu(0x00, 0xA4, 0x04, 0x00, ntag424.AID, le=SHORT_LE_MAX))
        if not answer.ok:
            raise CardRefused("SELECT", answer.sw)

    def opens(self, number: int, key: ev2.Secret) -> Generator[CommandApdu, ResponseApdu, bool]:
        """Authenticate (§10.4.1) and begin a session; whether the card took the key."""
        self._drop()
        challenge = yield from self._ask_for_challenge(number)
        if challenge.sw != Status.ADDITIONAL_FRAME:
            raise CardRefused("AuthenticateEV2First", challenge.sw)
        rnd_a, rnd_b = self._random(ev2.CHALLENGE_BYTES), ev2.decrypt(key, challenge.data)
        if len(rnd_b) != ev2.CHALLENGE_BYTES:
            raise CardMalformed(f"a challenge of {len(rnd_b)} bytes")
        proof = yield ev2.native(Ins.ADDITIONAL_FRAME, ev2.gate_cryptogram(key, rnd_a, rnd_b))
        if proof.sw == Status.AUTHENTICATION_ERROR:
            return False
        if proof.sw != Status.OK:
            raise CardRefused("AuthenticateEV2First, part 2", proof.sw)
        answer = CardAnswer.opened(key, proof.data)
        if not hmac.compare_digest(answer.rnd_a_rotated, ev2.rotated(rnd_a)):
            raise CardMalformed(f"the card does not hold the key {number} that it claims")
        self._session = Session(SessionKeys.of_challenges(key, rnd_a, rnd_b), answer.identifier)
        return True

    def command(self, mode: CommMode, ins: Ins, header: bytes, data: bytes) -> _Steps:
        """Run one command of the session."""
        self._accept(mode, ins, (yield from self._ask(mode, ins, header, data)))

    def change_key(self, number: int, new: ev2.Secret, version: int) -> _Steps:
        """Change a key other than key 0 (§10.6.1): it comes masked by the one that it replaces.

        The card says by the checksum which one it has. After a tear it may be the new one already, which is then
        written over itself; it is neither, if the card refuses that too.
        """
        header, tail = bytes([number]), bytes([version]) + _crc32(new)
        answer = yield from self._ask(CommMode.FULL, Ins.CHANGE_KEY, header, _masked(new, DELIVERED_KEY) + tail)
        if answer.sw == Status.INTEGRITY_ERROR:
            if not (yield from self.opens(_MASTER, DELIVERED_KEY)):
                raise CardMalformed("key 0 has changed meanwhile")
            answer = yield from self._ask(CommMode.FULL, Ins.CHANGE_KEY, header, _masked(new, new) + tail)
        self._accept(CommMode.FULL, Ins.CHANGE_KEY, answer)

    def change_master_key(self, new: ev2.Secret, version: int) -> _Steps:
        """Change key 0, with which the session ends: the answer has no MAC."""
        data = bytes(new) + bytes([version])
        answer = yield from self._ask(CommMode.FULL, Ins.CHANGE_KEY, bytes([_MASTER]), data)
        if answer.sw != Status.OK:
            raise CardRefused("ChangeKey", answer.sw)
        self._drop()

    def _ask_for_challenge(self, number: int) -> _Ask:
        """Part 1; a card that was given wrong keys is asked until its delay is spent, within a bound."""
        command = ev2.native(Ins.AUTHENTICATE_FIRST, bytes([number, 0]))
        answer = yield command
        for _ in range(ntag424.MAX_DELAYS):
            if answer.sw != Status.AUTHENTICATION_DELAY:
                break
            answer = yield command
        return answer

    def _ask(self, mode: CommMode, ins: Ins, header: bytes, data: bytes) -> _Ask:
        assert self._session is not None
        return (yield self._session.seal_command(mode, ins, header, data))

    def _accept(self, mode: CommMode, ins: Ins, answer: ResponseApdu) -> None:
        assert self._session is not None
        if answer.sw != Status.OK:
            raise CardRefused(ins.name, answer.sw)
        if self._session.open_response(mode, answer.data):
            raise CardMalformed(f"the card answers {ins.name} with data")

    def _drop(self) -> None:
        if self._session is not None:
            self._session.wipe()
            self._session = None


def _masked(new: ev2.Secret, old: ev2.Secret) -> bytes:
    return bytes(a ^ b for a, b in zip(new, old, strict=True))


def _crc32(key: ev2.Secret) -> bytes:
    """CRC32NK: IEEE 802.3 without the last complement, least significant byte first (AN12196 rev. 2.0, table 25)."""
    return (zlib.crc32(key) ^ 0xFFFFFFFF).to_bytes(4, "little")
