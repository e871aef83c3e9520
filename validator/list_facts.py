"""What lists on a gate are and say: how current, which ones a decision was made under, what they say of guests."""

from dataclasses import dataclass
from enum import IntEnum, unique


@unique
class Freshness(IntEnum):
    """How current an installed list is."""

    FRESH = 0
    GRACE = 1  # past its date, and the policy lets it serve: accepted up to the policy's value limit, and marked
    STALE = 2  # past the grace
    MISSING = 3


@dataclass(frozen=True, slots=True)
class ListVersions:
    """Versions of the lists that a decision was made under; 0 where none is installed.

    A journal entry has not that of the tariff's list, in which several editions are.
    """

    trust: int = 0
    deny: int = 0
    tickets: int = 0
    enrolled: int = 0
    status: int = 0
    tariff: int = 0


@unique
class CardStatus(IntEnum):
    """What a gate outside a card's own region knows of it. The numbers are the two bits of the status list."""

    UNKNOWN = 0  # nothing is known of it, or it was issued later
    OK = 1
    LOW = 2  # its balance or its credit is nearly used up
    BLOCKED = 3


@dataclass(frozen=True, slots=True)
class Guest:
    """What a place that admits cards of other regions knows of one.

    Attributes:
        status: What the status list says of it.
        freshness: Of that list; without one that is current enough its status is not looked at.
        pass_back_s: Seconds within which a second ride at the same place is refused.
    """

    status: CardStatus
    freshness: Freshness
    pass_back_s: int
