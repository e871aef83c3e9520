"""An attempt for tests: a fixed gate and moment, and randomness that counts up."""

from contextlib import AbstractContextManager

from validator.model import KnownCards
from validator.profiles.attempt import Attempt, CardKeyMissing
from validator.proof import LookAhead

GATE, WALL_MS, REGION = "gate-7", 1_795_420_800_123, "tartu"


class NoKeys:
    """A gate without operator keys."""

    def versions(self, name: str) -> tuple[int, ...]:
        return ()

    def card_key(self, name: str, version: int, uid: bytes) -> AbstractContextManager[bytearray]:
        raise CardKeyMissing(f"{name}.{version} is not on this gate")


def counting(count: int) -> bytes:
    return bytes(range(count))


def stranger(_cache_key: bytes) -> None:
    """A cache that knows nobody."""


def attempt(
    known: KnownCards = stranger,
    begin: LookAhead = lambda _shown: None,
    *,
    uid: bytes = bytes.fromhex("04112233445566"),
) -> Attempt:
    return Attempt(REGION, GATE, WALL_MS, uid, counting, known, begin, NoKeys())
