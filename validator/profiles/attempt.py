"""What one attempt to authenticate one card may use, and nothing else: no clock, no reader, no file."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from validator.model import KnownCards
from validator.proof import LookAhead

NONCE_BYTES = 32
"""Fresh randomness in a challenge that has room for it."""


TOKEN_BYTES = 16
BLANK_TOKENS = (bytes(TOKEN_BYTES), b"\xff" * TOKEN_BYTES)
"""What a card that nobody personalised holds where its token belongs."""


class CardKeys(Protocol):
    """Secret keys of single cards, derived from an operator's keys (AN10922), wherever those are."""

    def versions(self, name: str) -> tuple[int, ...]:
        """Return the versions of an operator key that this gate accepts, the current one first; empty for none.

        Args:
            name: Names the operator key, for example ``ntag424-application``.
        """
        ...

    def card_key(self, name: str, version: int, uid: bytes) -> AbstractContextManager[bytearray]:
        """Derive one card's key, 16 bytes, for the length of a ``with`` block; its memory is wiped at the end.

        Args:
            name: Names the operator key.
            version: One of `versions`.
            uid: The card's true UID, 7 bytes. Empty gives the operator key that all cards share, which only the
                retrieval of a random-UID card's true UID may use.

        Raises:
            CardKeyMissing: This gate has no such key.
            CardKeysFailed: The module that holds it does not answer.
        """
        ...


class CardKeyMissing(Exception):  # noqa: N818 - names what is missing
    """An operator key is not on this gate; the message names it, never a value."""


class CardKeysFailed(Exception):  # noqa: N818 - says what they did
    """Who holds the operator keys does not answer: the gate is broken, not the card. The message says what failed."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a card's holder told the desk. A gate has none. Each is wiped by whoever asked for it, after the attempt.

    Attributes:
        can: The card access number, digits in ASCII.
        mrz: Document number, date of birth and date of expiry as the machine-readable zone has them, each with its
            check digit, in ASCII (Doc 9303-11 §4.3.2): what PACE makes its key of.
        pin: The PIN for authentication (PIN1), digits in ASCII.
    """

    can: bytearray | None = field(default=None, repr=False)
    mrz: bytearray | None = field(default=None, repr=False)
    pin: bytearray | None = field(default=None, repr=False)

    def wipe(self) -> None:
        """Overwrite them; copies that the interpreter made are out of reach."""
        for secret in (self.can, self.mrz, self.pin):
            if secret is not None:
                secret[:] = bytes(len(secret))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt.

    Attributes:
        region: The network that the gate belongs to.
        gate: Device, place and lane, as one name; what a card signs is bound to it where the family allows.
        wall_ms: Now, milliseconds since 1970 UTC.
        uid: What anticollision found; empty where it was random, since a random one names nobody.
        random: Returns that many fresh bytes of the operating system's randomness.
        known: Finds a card that was judged before, under the lists now in force.
        begin: Told what the card will be judged by, as soon as that is known.
        keys: Keys of the families that have no public key.
        contactless: Whether the card is known to speak over the air. PC/SC readers do not always tell.
        secrets: What the holder told the desk.
    """

    region: str
    gate: str
    wall_ms: int
    uid: bytes
    random: Callable[[int], bytes]
    known: KnownCards
    begin: LookAhead
    keys: CardKeys
    contactless: bool = False
    secrets: Secrets = Secrets()


def cache_key(family: str, octets: bytes) -> bytes:
    """Return what a verdict is kept under: no family finds another's, whatever a card makes its octets look like.

    Args:
        family: Its name.
        octets: What the card showed first, and always shows alike.
    """
    return hashlib.sha256(family.encode() + b"\0" + octets).digest()


def challenge_message(gate: str, wall_ms: int, nonce: bytes) -> bytes:
    """Bind a challenge to the gate that asks and the moment it asks, so that its signature is worthless elsewhere.

    The layout is ``pilet-tap/1``, the gate's name, the time as eight bytes, the nonce; texts and nonce are preceded by
    their length in two bytes, so that no two different inputs give the same message. What the card signs is its digest,
    so that nobody who chooses a part can make the card sign a digest of their choice.

    Args:
        gate: Name of the gate or lane, at most 65535 bytes of UTF-8.
        wall_ms: Milliseconds since 1970 UTC, not negative.
        nonce: Fresh random bytes; 32 are right.
    """
    return b"".join(
        (_counted(b"pilet-tap/1"), _counted(gate.encode()), wall_ms.to_bytes(8), _counted(nonce)),
    )


def _counted(octets: bytes) -> bytes:
    return len(octets).to_bytes(2) + octets
