"""The vocabulary of a tap: what is believed of a card, what is granted, what is recorded. Data only."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique

from validator.list_facts import ListVersions

CREDENTIAL_ID_BYTES = 16
NEVER = 2**62
"""The end of what has no end of its own, seconds since 1970 UTC."""


@unique
class Assurance(IntEnum):
    """How an identity was earned. No profile claims more than its protocol proves."""

    CLAIMED = 1  # copyable data was shown
    SHARED_SECRET = 2  # the CAN or another secret printed on the card was known
    CHIP = 3  # a fresh challenge was answered with a key that an issuer, an enrolment or an operator key vouches for
    HOLDER = 4  # the same, after a PIN


@unique
class Reason(IntEnum):
    """Why a tap ended as it did. Numbers are stable and go on the wire; they are never given a second meaning."""

    VALID = 1
    RECOVERED = 2  # the first tap was torn away before the signal; this one costs nothing
    FIRST_RIDE = 3  # graced: pay as you go, and this gate has never seen the card before
    POSITION_UNKNOWN = 4  # graced: the ticket is for some zones or networks, and the vehicle cannot tell where it is

    PRESENT_AGAIN = 10
    UNKNOWN_MEDIUM = 11
    MALFORMED_ANSWER = 12
    ONE_CARD_AT_A_TIME = 13  # more than one medium was in the field

    UNTRUSTED_ISSUER = 20
    CERTIFICATE_EXPIRED = 21
    CERTIFICATE_NOT_YET_VALID = 22
    WRONG_KEY_USAGE = 23
    WRONG_SIGNATURE = 24
    UNSUPPORTED_KEY = 25
    ASSURANCE_TOO_LOW = 26
    NOT_ENROLLED = 27  # a bare key that no enrolment vouches for
    KEY_NOT_HERE = 28  # the operator key that this card answers to is not on this gate
    DATA_TAMPERED = 29  # what the card holds is not what its issuer signed

    REVOKED = 30
    TRUST_LIST_STALE = 31
    DENY_LIST_STALE = 32
    TICKET_LIST_STALE = 33

    NO_TICKET = 40
    TICKET_NOT_YET_VALID = 41
    TICKET_EXPIRED = 42
    TICKET_NOT_YET_ACTIVE = 43  # sold a moment ago; the activation delay still runs
    RIDES_USED_UP = 44
    BALANCE_TOO_LOW = 45
    NOT_VALID_HERE = 46
    PASS_BACK = 47
    RESIDENTS_ONLY = 48  # a concession for residents, and the card is an e-resident's
    PROOF_ENDED = 49  # a concession, and what proved the right to it has run out
    NOT_VALID_NOW = 50  # outside the hours or weekdays that the ticket is for
    TOO_MANY_RIDES = 51  # more rides within a short time than one card may take at this gate
    FIRST_RIDE_LIMIT = 52  # pay as you go: more on credit than a card gets that this gate has never seen before

    CAN_NEEDED = 60  # the card says nothing before it is shown the number that is printed on it
    WRONG_CAN = 61
    PIN_NEEDED = 62
    WRONG_PIN = 63
    PIN_BLOCKED = 64
    PIN_NOT_SET = 65  # the PIN is still the one that the card was sent with
    PIN_AT_RISK = 66  # so few tries are left that none is spent here
    LINK_AT_DESK = 67  # a national identity card that can only claim: link it to a fast credential at a desk


@unique
class Outcome(IntEnum):
    """What the gate does."""

    DENY = 0
    GRANT = 1


@unique
class Label(IntEnum):
    """What a lane calls its taps. Journeys are not paired by it: labels are wrong more often than clocks."""

    NONE = 0
    ENTRY = 1
    EXIT = 2


@unique
class ClockConfidence(IntEnum):
    """How far the wall clock can be believed."""

    FLOOR = 0  # the clock was behind a time that has certainly passed; that time is used instead
    RTC = 1  # a battery clock, not checked against anything since boot
    NTP = 2  # synchronised since boot


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the clocks.

    Attributes:
        wall_ms: Milliseconds since 1970-01-01 UTC, never below the floor.
        mono_ms: Milliseconds of the monotonic clock of this boot.
        boot: Eight bytes that name this boot; `mono_ms` compares only within one.
        confidence: How far `wall_ms` can be believed.
    """

    wall_ms: int
    mono_ms: int
    boot: bytes
    confidence: ClockConfidence

    @property
    def wall_s(self) -> int:
        """Whole seconds since 1970-01-01 UTC."""
        return self.wall_ms // 1000


@unique
class Scheme(StrEnum):
    """Who issues a national identity card, and by which rules its certificates are judged."""

    ESTONIA = "ee"
    JAPAN = "jp"
    SPAIN = "es"


@unique
class DocumentType(StrEnum):
    """What a national identity card says of its holder's standing, as far as its certificate tells."""

    CITIZEN = "citizen"
    EU_CITIZEN = "eu-citizen"
    RESIDENT = "resident"
    E_RESIDENT = "e-resident"
    DIPLOMAT = "diplomat"
    UNKNOWN = "unknown"


@unique
class KeyAlgorithm(StrEnum):
    """Keys that a card authentication certificate may carry (SP 800-78-5, table 10)."""

    P256 = "P-256"
    P384 = "P-384"
    RSA2048 = "RSA-2048"
    RSA3072 = "RSA-3072"


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card certificate that was validated before: the cache's verdict, under the lists of that time.

    Attributes:
        credential_id: SHA-256 of the SubjectPublicKeyInfo, first 16 bytes.
        algorithm: What the key is.
        spki: SubjectPublicKeyInfo, DER.
        not_before: Seconds since 1970 UTC.
        not_after: Seconds since 1970 UTC.
        issuer_id: SHA-256 of the issuer's SubjectPublicKeyInfo, first 16 bytes.
        trust_version: Version of the trust list under which the chain was validated.
        issued_s: When the certificate was issued, seconds since 1970 UTC; 0 where it does not say.
        index: The number that its issuer gave the card, or None.
    """

    credential_id: bytes
    algorithm: KeyAlgorithm
    spki: bytes
    not_before: int
    not_after: int
    issuer_id: bytes
    trust_version: int
    issued_s: int = 0
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Validity:
    """When what vouches for a card holds, where there is no verdict to keep: seconds since 1970 UTC, both inclusive."""

    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class Credential:
    """What a deny list knows a card by.

    Attributes:
        id: Names its key, 16 bytes.
        issuer_id: Names the key of its issuer, 16 bytes; empty where nobody issued it.
        issued_s: When its certificate was issued, seconds since 1970 UTC; 0 where that is not known.
        index: The number that its issuer gave the card, or None.
    """

    id: bytes
    issuer_id: bytes = b""
    issued_s: int = 0
    index: int | None = None


#: Finds a known card by its cache key; None where it was never seen.
KnownCards = Callable[[bytes], KnownCard | None]


@dataclass(frozen=True, slots=True)
class Identity:
    """What is believed of a card after its proof was judged.

    Attributes:
        credential_id: 16 bytes, the key of tickets and deny list.
        profile: Name of the card family.
        assurance: How the identity was earned.
        known: The verdict to keep, or that was kept (`cached`); None where the family has nothing to keep.
        cached: Whether a kept verdict was used.
        early: The certificate seems not yet valid, and the clock is not synchronised, so this is not held against it.
        document: What a national identity card says of its holder's standing; None for other cards.
        issuer_id: Names the key of its issuer, 16 bytes; empty where nobody issued it.
        index: The number that its issuer gave the card, or None.
    """

    credential_id: bytes
    profile: str
    assurance: Assurance
    known: KnownCard | None
    cached: bool
    early: bool = False
    document: DocumentType | None = None
    issuer_id: bytes = b""
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a proof was not believed; the credential is named only once its key has signed the challenge."""

    reason: Reason
    profile: str | None = None
    credential_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Tap:
    """One presentation with its outcome: all that is recorded of it, and nothing about a person.

    Attributes:
        at: When.
        place: Stop or gate line, as configured.
        gate: The lane.
        outcome: Grant or deny.
        reason: Why.
        graced: Granted although something was uncertain.
        versions: Lists in force.
        credential_id: 16 bytes, or None where no credential was seen.
        profile: Card family, or None.
        assurance: How the identity was earned, or None where none was.
        cached: Whether the certificate's verdict came from the cache.
        product_id: Product that paid, or None; a grant without one is a guest's, whose own region is to be asked.
        rides: Rides taken.
        amount: Minor units taken.
        recovers: Sequence number of the torn tap that this one repeats, or None.
        edition: Edition of the tariff in force at the gate; 0 where it has none.
        stop: Where a vehicle was, as its feed says; empty where the place does not move, or nobody knows.
        route: What it ran as, likewise.
        riders: How many travel by this tap.
        label: What the lane calls it.
    """

    at: Instant
    place: str
    gate: str
    outcome: Outcome
    reason: Reason
    graced: bool
    versions: ListVersions
    credential_id: bytes | None = None
    profile: str | None = None
    assurance: Assurance | None = None
    cached: bool = False
    product_id: int | None = None
    rides: int = 0
    amount: int = 0
    recovers: int | None = None
    edition: int = 0
    stop: str = ""
    route: str = ""
    riders: int = 1
    label: Label = Label.NONE
