"""The vocabulary of rights: what was sold, what was granted here, what pays for a ride, what was decided. Data only."""

from dataclasses import dataclass
from enum import IntEnum, unique

from validator.conditions import ORDINARY, Conditions
from validator.model import Assurance, Outcome, Reason


@unique
class ProductKind(IntEnum):
    """What was sold."""

    PERIOD_PASS = 1
    CARNET = 2  # a number of rides
    STORED_VALUE = 3  # an amount of money, from which a flat fare is taken
    PAY_AS_YOU_GO = 4  # priced afterwards; a deposit and a floor bound what is owed meanwhile


@dataclass(frozen=True, slots=True)
class Product:
    """One right that a credential holds, as the ticket list states it.

    Attributes:
        product_id: The sale's number; unique over all credentials.
        kind: What was sold.
        valid_from: Seconds since 1970 UTC, inclusive.
        valid_until: Seconds since 1970 UTC, exclusive.
        active_from: Seconds since 1970 UTC; sale time plus activation delay.
        rides: Rides left as of the list's horizon (carnet), else 0.
        balance: Minor units left as of the list's horizon (stored value; of the deposit of pay as you go, where what is
            owed counts below zero), else 0.
        fare: Minor units that one tap takes (stored value), or that it is assumed to cost until it is priced (pay as
            you go), else 0.
        pass_back_s: Seconds within which a second ride at the same place is refused; 0 allows group boarding.
        places: Places where it is valid; empty means everywhere.
        residents_only: A concession: an identity card that is tapped for it has to be a resident's. Other cards were
            asked when it was sold.
        least_assurance: Least rung of the ladder on which a gate takes a ride from it; a place may ask for more.
        conditions: What most products do not say.
    """

    product_id: int
    kind: ProductKind
    valid_from: int
    valid_until: int
    active_from: int
    rides: int = 0
    balance: int = 0
    fare: int = 0
    pass_back_s: int = 0
    places: frozenset[str] = frozenset()
    residents_only: bool = False
    least_assurance: Assurance = Assurance.CHIP
    conditions: Conditions = ORDINARY


@dataclass(frozen=True, slots=True)
class Use:
    """One ride that this device's own journal granted, synced or not.

    Attributes:
        seq: Sequence number of the tap that granted it.
        product_id: The product that paid; None for a guest's ride.
        wall_ms: When.
        mono_ms: When, by the monotonic clock of `boot`.
        boot: Names the boot that `mono_ms` belongs to.
        place: Where.
        rides: Rides taken from a carnet.
        amount: Minor units taken from stored value.
        ratified: The card was still there when the gate had signalled, so the passenger saw the grant.
        recovers: Sequence number of the torn tap that this one repeats, or None.
        leaving: It was on the way out.
    """

    seq: int
    product_id: int | None
    wall_ms: int
    mono_ms: int
    boot: bytes
    place: str
    rides: int
    amount: int
    ratified: bool
    recovers: int | None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Entitlement:
    """The right to this ride, here and now, and what it takes.

    Attributes:
        product: The product that pays; None for a guest, from whom nothing is taken here.
        rides: Rides that this tap takes.
        amount: Minor units that this tap takes.
        recovers: Sequence number of the torn tap that this one repeats (then it takes nothing), or None.
        early: The product seems not yet valid, and the clock is not synchronised, so this is not held against it.
        doubtful: Something else is uncertain: a guest's status list is not the one that should be in force, or the
            clock cannot tell that the hour is wrong, or `reason` says what.
        reason: Why it is granted, unless it repeats a torn tap: `VALID`, or what is uncertain.
    """

    product: Product | None
    rides: int = 0
    amount: int = 0
    recovers: int | None = None
    early: bool = False
    doubtful: bool = False
    reason: Reason = Reason.VALID

    @property
    def uncertain(self) -> bool:
        """Whether a grant is graced because of the right itself."""
        return self.early or self.doubtful

    @property
    def riders(self) -> int:
        """How many travel on this tap."""
        return 1 if self.product is None else self.product.conditions.riders

    @property
    def product_id(self) -> int | None:
        """Number of the product that pays; None for a guest."""
        return None if self.product is None else self.product.product_id


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate does and exactly why.

    Attributes:
        outcome: Grant or deny.
        reason: The one reason.
        graced: Granted although something was uncertain.
        entitlement: What a grant takes; None on a denial.
    """

    outcome: Outcome
    reason: Reason
    graced: bool = False
    entitlement: Entitlement | None = None

    @property
    def granted(self) -> bool:
        """Whether the gate opens."""
        return self.outcome is Outcome.GRANT
