"""The right to this ride: what a credential has bought, less what it has used here, at this place and time.

Pass-back comes before everything else, and over all products: a second tap shortly after a first one neither falls
through to the next product nor costs a second ride. What then fits is taken in the order period pass, carnet, stored
value, pay as you go, and within a kind the product that ends first.

A card of another region that holds nothing here may be a guest, where the place admits guests: what it pays is its own
region's affair, so that nothing is taken from it here. One that is not known to be good is not let in.

Whatever the clock cannot tell counts for the passenger: elapsed time is taken from the monotonic clock within one boot,
from the wall clock otherwise, and where neither can tell, nobody is refused for having been here a moment ago.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from validator.fares.at_gate import NO_TARIFF, RideHere
from validator.list_facts import CardStatus, Freshness, Guest
from validator.model import Assurance, ClockConfidence, DocumentType, Instant, Reason
from validator.passing_back import taken_again
from validator.position import NOWHERE, Position, Reach, reach
from validator.rights import Entitlement, Product, ProductKind, Use
from validator.risk import NO_RULES, RiskRules, credit, too_often
from validator.service_hours import within

#: What to say when nothing fits, the most helpful first: what waiting mends, then what a purchase mends, then what
#: another hour, place or day mends; an old product that has ended says least.
HELPFULNESS: tuple[Reason, ...] = (
    Reason.PASS_BACK,
    Reason.TOO_MANY_RIDES,
    Reason.TICKET_NOT_YET_ACTIVE,
    Reason.BALANCE_TOO_LOW,
    Reason.FIRST_RIDE_LIMIT,
    Reason.RIDES_USED_UP,
    Reason.PROOF_ENDED,
    Reason.NOT_VALID_NOW,
    Reason.NOT_VALID_HERE,
    Reason.RESIDENTS_ONLY,
    Reason.ASSURANCE_TOO_LOW,
    Reason.TICKET_NOT_YET_VALID,
    Reason.TICKET_EXPIRED,
    Reason.NO_TICKET,
)


RESIDENTS = frozenset({DocumentType.CITIZEN, DocumentType.EU_CITIZEN, DocumentType.RESIDENT})
"""Whose documents show that they live in the country. An e-resident's shows that its holder does not."""

ON_THE_WAY_S: Final = 3 * 3600
"""How long after a product has ended its holder is let out: the longest journey, as the back office pairs taps."""


@dataclass(frozen=True, slots=True)
class _Tapped:
    """Where and when, and what holds there for all products."""

    place: str
    position: Position
    at: Instant
    risk: RiskRules
    leaving: bool
    seen: bool
    ride: RideHere

    def fare(self, product: Product) -> int:
        told = product.conditions
        fare = self.ride.fare(told.rider, told.medium, told.riders)
        return product.fare if fare is None else fare


def assess(
    products: Sequence[Product],
    uses: Sequence[Use],
    horizon_seq: int,
    place: str,
    at: Instant,
    *,
    document: DocumentType | None = None,
    assurance: Assurance = Assurance.HOLDER,
    guest: Guest | None = None,
    position: Position = NOWHERE,
    risk: RiskRules = NO_RULES,
    leaving: bool = False,
    ride: RideHere = NO_TARIFF,
) -> Entitlement | Reason:
    """Find what pays for a ride.

    A first tap whose passenger may not have seen the grant (`Use.ratified` is false) is repeated for nothing within a
    minute, once: the repetition itself is not repeatable. It is good even if the product has ended meanwhile or its
    last ride is gone, since that was the ride. After that minute it is a tap like any other: the gate did open, and a
    card that falls silent on purpose must not carry a second person later. A product without a pass-back window has no
    such repetition, since there the next tap is the next person of a group.

    `SCHEME-1`: a right of another scheme is no ride, and is not looked at. `EXIT-1`: on the way out nothing is taken,
    and nobody is asked what is left, how often they rode or at what hour, nor refused as passed back.

    Args:
        products: What the credential holds, as the ticket list states it.
        uses: What this device granted it, in any order.
        horizon_seq: Sequence number of this device up to which the list's rides and balances are already reduced.
        place: Where.
        at: When.
        document: What the identity card that was tapped says of its holder's standing; None for other cards.
        assurance: What the card's proof is worth; the greatest where a person looks at the holder instead.
        guest: What is known of the card in other regions; None where the place admits no guests. It does not matter for
            a credential that holds a product here.
        position: Zones, network and wall clock of the place.
        risk: What the place risks on a card.
        leaving: The lane is a way out.
        ride: What the ride costs by the tariff in force, where that can be known.

    Returns:
        The entitlement, or the most helpful reason why there is none (`HELPFULNESS`).
    """
    tapped = _Tapped(place, position, at, risk, leaving, bool(uses), ride)
    if guest is not None and not products:
        return _welcome(guest, uses, tapped)
    held: dict[int | None, Product] = {each.product_id: each for each in products if not each.conditions.scheme}
    again = _followed({number: product.pass_back_s for number, product in held.items()}, uses, tapped)
    if again is not None:
        return again if isinstance(again, Reason) else Entitlement(held[again.product_id], recovers=again.seq)
    unsynced = [use for use in uses if use.seq > horizon_seq]
    abroad = document is not None and document not in RESIDENTS
    judged = [
        _barred(product, assurance, abroad=abroad) or _fits(product, unsynced, tapped)
        for product in sorted(held.values(), key=_preference)
    ]
    fitting = [found for found in judged if isinstance(found, Entitlement)]
    if fitting:
        # Among equals the first one stays: a certain right comes before one that only a better clock could confirm.
        return min(fitting, key=lambda found: found.uncertain)
    reasons = [found for found in judged if isinstance(found, Reason)]
    return min([*reasons, Reason.NO_TICKET], key=HELPFULNESS.index)


def _followed(windows: dict[int | None, int], uses: Sequence[Use], tapped: _Tapped) -> Use | Reason | None:
    """Judge a tap by those before it, whatever pays for it."""
    if tapped.leaving:
        return None
    again = taken_again(windows, uses, tapped.place, tapped.at)
    if again is None and windows and too_often(uses, tapped.at, tapped.risk):
        return Reason.TOO_MANY_RIDES
    return again


def _welcome(guest: Guest, uses: Sequence[Use], tapped: _Tapped) -> Entitlement | Reason:
    """Judge a card that holds nothing here by what its own region said of it."""
    if guest.freshness >= Freshness.STALE:
        return Reason.NO_TICKET
    if guest.status is not CardStatus.OK:
        return _UNWELCOME.get(guest.status, Reason.NO_TICKET)
    again = _followed({None: guest.pass_back_s}, uses, tapped)
    if isinstance(again, Reason):
        return again
    doubtful = guest.freshness is not Freshness.FRESH
    return Entitlement(None, recovers=None if again is None else again.seq, doubtful=doubtful)


_UNWELCOME = {CardStatus.BLOCKED: Reason.REVOKED, CardStatus.LOW: Reason.BALANCE_TOO_LOW}


def _barred(product: Product, assurance: Assurance, *, abroad: bool) -> Reason | None:
    """Say why this card may not use a product at all, whatever is left on it.

    `RESIDENTS-1`: an identity card that is tapped for a concession for residents has to be a resident's.
    """
    if abroad and product.residents_only:
        return Reason.RESIDENTS_ONLY
    return Reason.ASSURANCE_TOO_LOW if assurance < product.least_assurance else None


def _preference(product: Product) -> tuple[ProductKind, int, int]:
    return product.kind, product.valid_until, product.product_id


def _fits(product: Product, unsynced: Sequence[Use], tapped: _Tapped) -> Entitlement | Reason:
    """Judge one product by itself.

    `SERVICE-DAY-1`: it begins and ends as much later as its service day begins after midnight. `PROOF-1`: a concession
    ends with what proved it. `EXIT-2`: who rode in with it is let out for the length of a journey after it has ended.
    `ACTIVE-1`: it is good from when it was activated. `TIME-FRAME-3`: only a synchronised clock holds an hour or a
    beginning against somebody; else the grant is graced.
    """
    told, at = product.conditions, tapped.at
    now_s = at.wall_s - told.day_starts_s
    over = _over(product, now_s - (ON_THE_WAY_S if tapped.leaving else 0))
    if over is not None:
        return over
    reached = reach(product, tapped.place, tapped.position)
    if reached is Reach.ELSEWHERE:
        return Reason.NOT_VALID_HERE
    early = now_s < product.valid_from or at.wall_s < product.active_from
    ill_timed = not tapped.leaving and not within(
        told.time_frames, at.wall_s, tapped.position.offset_s, told.day_starts_s
    )
    if at.confidence is ClockConfidence.NTP and (early or ill_timed):
        if now_s < product.valid_from:
            return Reason.TICKET_NOT_YET_VALID
        return Reason.TICKET_NOT_YET_ACTIVE if early else Reason.NOT_VALID_NOW
    used = [use for use in unsynced if use.product_id == product.product_id]
    rides, amount, reason = (0, 0, Reason.VALID) if tapped.leaving else _price(product, used, tapped)
    if reason not in _GOOD:
        return reason
    if reason is Reason.VALID and reached is Reach.UNTOLD:
        reason = Reason.POSITION_UNKNOWN
    doubtful = ill_timed or reason is not Reason.VALID
    return Entitlement(product, rides, amount, early=early, doubtful=doubtful, reason=reason)


def _over(product: Product, now_s: int) -> Reason | None:
    if now_s >= product.valid_until:
        return Reason.TICKET_EXPIRED
    proof_until = product.conditions.proof_until
    return Reason.PROOF_ENDED if proof_until and now_s >= proof_until else None


_GOOD = frozenset({Reason.VALID, Reason.FIRST_RIDE})


def _price(product: Product, used: Sequence[Use], tapped: _Tapped) -> tuple[int, int, Reason]:
    """Return the rides and the amount that a tap takes from a product, and `VALID` or why it cannot.

    `PASS-1`: a period pass gives nothing away. `CARNET-1`: a carnet gives a ride, while one is left. `VALUE-1`: stored
    value gives the fare, while that much is left. `VALUE-2`: that is the tariff's, where one tap can tell it, else the
    product's own. `LATER-1`: pay as you go gives nothing at the gate.
    """
    match product.kind:
        case ProductKind.PERIOD_PASS:
            return 0, 0, Reason.VALID
        case ProductKind.CARNET:
            left = product.rides - sum(use.rides for use in used)
            return 1, 0, Reason.VALID if left >= 1 else Reason.RIDES_USED_UP
        case ProductKind.STORED_VALUE:
            fare = tapped.fare(product)
            enough = product.balance - sum(use.amount for use in used) >= fare
            return 0, fare, Reason.VALID if enough else Reason.BALANCE_TOO_LOW
    return 0, 0, credit(product, used, tapped.risk, seen=tapped.seen, fare=tapped.fare(product))
