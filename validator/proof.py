"""What a card showed, and what proves that its key is here: all that a profile collects, not yet judged. Data only."""

from collections.abc import Callable
from dataclasses import dataclass

from validator.model import Assurance, KeyAlgorithm, KnownCard


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate, DER."""

    der: bytes


@dataclass(frozen=True, slots=True)
class PkocCvc:
    """A card-verifiable certificate of PKOC 2.0.1: the whole ``7F21`` object."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class PivCvc:
    """A card-verifiable certificate of PIV secure messaging: the whole ``7F21`` object."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class BareKey:
    """A public key that comes alone, SubjectPublicKeyInfo in DER: only an enrolment can vouch for it."""

    spki: bytes


@dataclass(frozen=True, slots=True)
class CardToken:
    """What an authenticated card of an operator's own family holds; its secret key vouches for it.

    Attributes:
        family: The card family.
        uid: The true UID that the card's key is proved for.
        octets: The account token.
    """

    family: str
    uid: bytes
    octets: bytes


Shown = Certificate | PkocCvc | PivCvc | BareKey | CardToken | KnownCard
"""What a card is to be judged by: what it gave of itself, or the verdict that was kept of it."""

#: Is told what a card will be judged by, and returns at once: while the card computes its answer, what does not depend
#: on that answer can be looked up.
LookAhead = Callable[[Shown], None]


@dataclass(frozen=True, slots=True)
class Signed:
    """The card signed our challenge.

    Attributes:
        challenge: The message that it was asked to sign (its digest or padding is the profile's business).
        signature: DER ``ECDSA-Sig-Value`` or RSA octets, whatever the family's own encoding is.
        algorithm: The algorithm that the profile asked for.
    """

    challenge: bytes
    signature: bytes
    algorithm: KeyAlgorithm


@dataclass(frozen=True, slots=True)
class Agreed:
    """The card confirmed a key that only its private key and our ephemeral one lead to (SP 800-73-5 pt2 §4.1).

    Attributes:
        suite: Cipher suite, 0x27 (CS2) or 0x2E (CS7).
        host_key: Our ephemeral private number, big-endian, as long as the curve's field.
        host_id: ID_sH, 8 bytes.
        card_id: ID_sICC, 8 bytes.
        nonce: N_ICC, 16 bytes (CS2) or 24 (CS7).
        control: CB_ICC.
        cryptogram: AuthCryptogram, 16 bytes.
    """

    suite: int
    host_key: bytes
    host_id: bytes
    card_id: bytes
    nonce: bytes
    control: int
    cryptogram: bytes


@dataclass(frozen=True, slots=True)
class Mutual:
    """Card and gate showed each other a secret key that both hold.

    Attributes:
        expected: What a card with the right key had to send, over our fresh random number and over what it gave.
        received: What came.
    """

    expected: bytes
    received: bytes


Evidence = Signed | Agreed | Mutual
"""What proves that the key is here, and was when we asked."""


@dataclass(frozen=True, slots=True)
class CardProof:
    """What a card showed, not yet judged.

    Attributes:
        profile: Name of the card family, for example ``piv``.
        assurance: The most that this protocol can prove, if everything holds.
        shown: What it is to be judged by.
        evidence: What proves that its key is here.
        cache_key: What a verdict on it is kept under, 32 bytes; None where there is nothing to keep.
    """

    profile: str
    assurance: Assurance
    shown: Shown
    evidence: Evidence
    cache_key: bytes | None = None

    @property
    def cached(self) -> bool:
        """Whether a kept verdict stands for what the card could have given of itself."""
        return isinstance(self.shown, KnownCard)
