"""What a card showed, and what proves that its key is here: all that a profile collects, not yet judged. Data only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from validator.model import Assurance, KeyAlgorithm, KnownCard, Scheme


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


@dataclass(frozen=True, slots=True)
class IdCertificate:
    """The authentication certificate of a national identity card, X.509 in DER; judged by its scheme's own rules."""

    scheme: Scheme
    der: bytes


@dataclass(frozen=True, slots=True)
class EnrolledUnder:
    """What a card says freely of itself, under which its public key was enrolled at a desk.

    Attributes:
        family: The card family.
        identifier: What any reader may read; copyable, so that it only picks the key that has to answer.
    """

    family: str
    identifier: bytes


@dataclass(frozen=True, slots=True)
class TravelDocument:
    """Files of an ICAO travel document application (Doc 9303-10), whole, as the card holds them.

    Attributes:
        security_object: EF.SOD.
        groups: Data groups that were read, by their number.
        card_security: EF.CardSecurity, or None where it was not read.
        chip_key: SubjectPublicKeyInfo, DER, of the key that the chip proved, from one of these groups; None for none.
    """

    security_object: bytes
    groups: Mapping[int, bytes]
    card_security: bytes | None = None
    chip_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class DnieComponent:
    """What a DNIe shows of its chip: two X.509 certificates, DER.

    Attributes:
        certificate: File 601F: of the chip's key.
        issuer: File 6020: of who signed it.
    """

    certificate: bytes
    issuer: bytes


Shown = (
    Certificate
    | PkocCvc
    | PivCvc
    | BareKey
    | CardToken
    | IdCertificate
    | EnrolledUnder
    | DnieComponent
    | TravelDocument
    | KnownCard
)
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
    """Card and gate showed each other a secret key that both hold. Of a printed number's key, it proves the number.

    Attributes:
        expected: What a card with the right key had to send, over our fresh random number and over what it gave.
        received: What came.
    """

    expected: bytes
    received: bytes


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The chip answered under what only its private key leads to (Doc 9303-11 §6.2 and §4.4.3.5.3).

    Attributes:
        expected: What the chip with the key of `TravelDocument.chip_key` had to send: a checksum under the keys that it
            agreed on with our ephemeral one, or the public key that it mapped with.
        received: What came.
    """

    expected: bytes
    received: bytes


@dataclass(frozen=True, slots=True)
class Recovered:
    """The chip signed our challenge with a signature that carries its message (CWA 14890-1 §8.4.1, ISO/IEC 9796-2).

    Attributes:
        challenge: The message that RND.IFD is made of, by `cwa14890.challenge_of`.
        serial: SN.IFD, 8 bytes.
        signature: SIGMIN, opened with the terminal's key.
    """

    challenge: bytes
    serial: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Unproved:
    """Nothing: whoever copied what the card shows could show it as well. Worth `Assurance.CLAIMED`, never more."""


Evidence = Signed | Agreed | Confirmed | Recovered | Mutual | Unproved
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
