"""What an offline gate risks on a card: how far below zero, how often, and for whom it has never seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from validator.model import ClockConfidence, Instant, Reason
from validator.passing_back import elapsed_ms
from validator.rights import Product, Use


@dataclass(frozen=True, slots=True)
class RiskRules:
    """What a place risks; without numbers only the products' own floors hold.

    Attributes:
        rides: So many rides at this gate one card may take within `within_s`; 0 for any number.
        within_s: Seconds.
        first_ride_floor: How far below zero pay as you go may run on a card that this gate has never seen; None for
            the product's own floor.
    """

    rides: int = 0
    within_s: int = 0
    first_ride_floor: int | None = None


NO_RULES: Final = RiskRules()


def too_often(uses: Sequence[Use], at: Instant, rules: RiskRules) -> bool:
    """Say whether one more ride is one too many.

    `VELOCITY-1`: rides that this gate granted the card are counted, over all products, without repetitions of torn taps
    and ways out. `VELOCITY-2`: a ride before a restart does not count on a clock that only knows a floor.

    Args:
        uses: What this device granted the credential.
        at: When.
        rules: Of the place.
    """
    if not rules.rides:
        return False
    lost = at.confidence is ClockConfidence.FLOOR
    taken = [
        use
        for use in rides_of(uses)
        if 0 <= elapsed_ms(use, at) < rules.within_s * 1000 and not (lost and use.boot != at.boot)
    ]
    return len(taken) >= rules.rides


def rides_of(uses: Sequence[Use]) -> list[Use]:
    """Return the uses that are rides of their own."""
    return [use for use in uses if use.recovers is None and not use.leaving]


def credit(product: Product, unsynced: Sequence[Use], rules: RiskRules, *, seen: bool, fare: int) -> Reason:
    """Judge one more ride that is priced afterwards.

    `FLOOR-1`: rides that the list does not count yet are assumed to cost the product's fare each, and this one what the
    tariff says where one tap can tell; what is left then is not below the floor. `FIRST-RIDE-1`: on a card that this
    gate has never seen the floor may be nearer to zero. `FIRST-RIDE-2`: a first ride below zero is graced, and the tap
    says so.

    Args:
        product: Pay as you go.
        unsynced: Its uses here that the list does not count.
        rules: Of the place.
        seen: Whether this gate knows of any use of the card.
        fare: What this ride is assumed to cost.

    Returns:
        `VALID`, `FIRST_RIDE`, or why not.
    """
    left = product.balance - product.fare * len(rides_of(unsynced)) - fare
    floor = product.conditions.floor
    if left < -floor:
        return Reason.BALANCE_TOO_LOW
    if seen or left >= 0:
        return Reason.VALID
    if rules.first_ride_floor is not None and left < -rules.first_ride_floor:
        return Reason.FIRST_RIDE_LIMIT
    return Reason.FIRST_RIDE
