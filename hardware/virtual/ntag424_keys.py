"""The keys of an NTAG 424 DNA: who may authenticate, and what wrong keys cost (NT4H2421Gx rev. 3.0 §9, §10.4).

The data sheet does not say how many times an authentication is delayed after too many wrong keys. Here it is once for
the fiftieth wrong key in a row, twice for the next, and so on.
"""

import hmac
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hardware import ev2
from hardware.ev2 import CardAnswer, Ev2Error, Session, SessionKeys, Status

KEY_COUNT = 5
TOTAL_FAILURES_MAX, TOTAL_FAILURES_BACK = 1000, 10
"""TotFailCtrLimit and TotFailCtrDecr at delivery (§10.5.1, table 50)."""
FAILURES_BEFORE_DELAY = 50
"""Wrong keys in a row before authentications are delayed (AN12196 rev. 2.0 §6.4)."""


class Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    """The tag answers nothing but a status word.

    Attributes:
        sw: The status word.
    """

    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


@dataclass(slots=True)
class _Key:
    """One application key, and how often somebody had the wrong one."""

    octets: bytes
    version: int
    failures_in_a_row: int = 0
    failures: int = 0
    delays: int = 0

    def failed(self) -> None:
        self.failures_in_a_row += 1
        self.failures += 1
        self.delays = max(0, self.failures_in_a_row - FAILURES_BEFORE_DELAY + 1)

    def succeeded(self) -> None:
        self.failures_in_a_row = 0
        self.failures = max(0, self.failures - TOTAL_FAILURES_BACK)


@dataclass(frozen=True, slots=True)
class _Challenge:
    """An authentication of which the first part is done."""

    number: int
    rnd_b: bytes
    carried_on: Session | None


class KeyRing:
    """The application keys, and the authentication that is going on with one of them.

    Args:
        keys: 16 bytes each.
        versions: Their version bytes.
        random: Returns that many random bytes.

    Raises:
        ValueError: There are not five, or a length is wrong.
    """

    def __init__(self, keys: Sequence[bytes], versions: Sequence[int], random: Callable[[int], bytes]) -> None:
        if [len(key) for key in keys] != [ev2.KEY_BYTES] * KEY_COUNT:
            raise ValueError(f"an NTAG 424 DNA has {KEY_COUNT} keys of {ev2.KEY_BYTES} bytes")
        self._keys = [_Key(key, version) for key, version in zip(keys, versions, strict=True)]
        self._random = random
        self._challenge: _Challenge | None = None

    @property
    def pending(self) -> bool:
        """Whether an authentication waits for its second part."""
        return self._challenge is not None

    def octets(self, number: int) -> bytes:
        """Return a key.

        Raises:
            Refused: There is no such key.
        """
        return self._key(number).octets

    def abort(self) -> None:
        """Forget the authentication that is going on."""
        self._challenge = None

    def begin(self, number: int, carried_on: Session | None) -> bytes:
        """Begin an authentication; return E(K, RndB).

        Args:
            number: Which key.
            carried_on: The session whose transaction goes on (AuthenticateEV2NonFirst), or None for a new one.

        Raises:
            Refused: There is no such key, it is blocked, or wrong keys have to be waited off.
        """
        key = self._key(number)
        if key.failures >= TOTAL_FAILURES_MAX:
            raise Refused(Status.PERMISSION_DENIED)
        if key.delays:
            key.delays -= 1
            raise Refused(Status.AUTHENTICATION_DELAY)
        rnd_b = self._random(ev2.CHALLENGE_BYTES)
        self._challenge = _Challenge(number, rnd_b, carried_on)
        return ev2.encrypt(key.octets, rnd_b)

    def finish(self, cryptogram: bytes) -> tuple[Session, int, bytes]:
        """Finish the authentication that is pending, whatever comes of it.

        Args:
            cryptogram: E(K, RndA || RndB').

        Returns:
            The session, the number of its key, and what proves to the gate that the card has it.

        Raises:
            Refused: The cryptogram is of another length, or of another key.
        """
        challenge, self._challenge = self._challenge, None
        assert challenge is not None
        key = self._keys[challenge.number]
        try:
            rnd_a, rnd_b_rotated = ev2.open_gate_cryptogram(key.octets, cryptogram)
        except Ev2Error:
            raise Refused(Status.LENGTH_ERROR) from None
        if not hmac.compare_digest(rnd_b_rotated, ev2.rotated(challenge.rnd_b)):
            key.failed()
            raise Refused(Status.AUTHENTICATION_ERROR)
        key.succeeded()
        keys = SessionKeys.of_challenges(key.octets, rnd_a, challenge.rnd_b)
        if challenge.carried_on is not None:
            session = Session(keys, challenge.carried_on.identifier, challenge.carried_on.counter)
            return session, challenge.number, ev2.encrypt(key.octets, ev2.rotated(rnd_a))
        identifier = self._random(ev2.IDENTIFIER_BYTES)
        answer = CardAnswer(identifier, ev2.rotated(rnd_a)).sealed(key.octets)
        return Session(keys, identifier), challenge.number, answer

    def replace(self, number: int, octets: bytes, version: int) -> None:
        """Put a new key in; its counters begin anew."""
        self._keys[number] = _Key(octets, version)

    def unmasked(self, number: int, masked: bytes, checksum: bytes) -> bytes:
        """Return the new key that came masked by the one it replaces (§10.6.1, table 63).

        Raises:
            Refused: There is no such key, or the checksum is another.
        """
        new = bytes(a ^ b for a, b in zip(masked, self._key(number).octets, strict=True))
        if checksum != crc32_of_key(new):
            raise Refused(Status.INTEGRITY_ERROR)
        return new

    def _key(self, number: int) -> _Key:
        if number >= len(self._keys):
            raise Refused(Status.NO_SUCH_KEY)
        return self._keys[number]


def crc32_of_key(key: bytes) -> bytes:
    """CRC32NK: IEEE 802.3 without the last complement, least significant byte first (AN12196 rev. 2.0, table 25)."""
    return (zlib.crc32(key) ^ 0xFFFFFFFF).to_bytes(4, "little")
