"""The right to this ride: what a credential has bought, less what it has used here, at this place and time.

Pass-back comes before everything else, and over all products: a second tap shortly after a first one neither falls
through to the next product nor costs a second ride. What then fits is taken in the order period pass, carnet, stored
value, and within a kind the product that ends first.

A card of another region that holds nothing here may be a guest, where the place admits guests: what it pays is its own
region's affair, so that nothing is taken from it here. One that is not known to be good is not let in.

Whatever the clock cannot tell counts for the passenger: elapsed time is taken from the monotonic clock within one boot,
from the wall clock otherwise, and where neither can tell, nobody is refused for having been here a moment ago.
"""

from collections.abc import Mapping, Sequence

from validator.list_facts import CardStatus, Freshness, Guest
from validator.model import (
    Assurance,
    ClockConfidence,
    DocumentType,
    Entitlement,
    Instant,
    Product,
    ProductKind,
    Reason,
    Use,
)

#: What to say when nothing fits, the most helpful first: what waiting mends, then what a purchase mends, then what
#: another place or day mends; an old product that has ended says least.
HELPFULNESS: tuple[Reason, ...] = (
    Reason.PASS_BACK,
    Reason.TICKET_NOT_YET_ACTIVE,
    Reason.BALANCE_TOO_LOW,
    Reason.RIDES_USED_UP,
    Reason.NOT_VALID_HERE,
    Reason.RESIDENTS_ONLY,
    Reason.ASSURANCE_TOO_LOW,
    Reason.TICKET_NOT_YET_VALID,
    Reason.TICKET_EXPIRED,
    Reason.NO_TICKET,
)


RESIDENTS = frozenset({DocumentType.CITIZEN, DocumentType.EU_CITIZEN, DocumentType.RESIDENT})
"""Whose documents show that they live in the country. An e-resident's shows that its holder does not."""

RECOVERY_MS = 60_000
"""How long after a tap that was torn away before the signal the passenger may present the card again for nothing."""


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
) -> Entitlement | Reason:
    """Find what pays for a ride.

    A first tap whose passenger may not have seen the grant (`Use.ratified` is false) is repeated for nothing within a
    minute, once: the repetition itself is not repeatable. It is good even if the product has ended meanwhile or its
    last ride is gone, since that was the ride. After that minute it is a tap like any other: the gate did open, and a
    card that falls silent on purpose must not carry a second person later. A product without a pass-back window has no
    such repetition, since there the next tap is the next person of a group.

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

    Returns:
        The entitlement, or the most helpful reason why there is none (`HELPFULNESS`).
    """
    if guest is not None and not products:
        return _welcome(guest, uses, place, at)
    held: dict[int | None, Product] = {product.product_id: product for product in products}
    again = _taken_again({number: product.pass_back_s for number, product in held.items()}, uses, place, at)
    if again is not None:
        return again if isinstance(again, Reason) else Entitlement(held[again.product_id], recovers=again.seq)
    unsynced = [use for use in uses if use.seq > horizon_seq]
    abroad = document is not None and document not in RESIDENTS
    judged = [
        _barred(product, assurance, abroad=abroad) or _fits(product, unsynced, place, at)
        for product in sorted(products, key=_preference)
    ]
    fitting = [found for found in judged if isinstance(found, Entitlement)]
    if fitting:
        # Among equals the first one stays: a certain right comes before one that only a better clock could confirm.
        return min(fitting, key=lambda found: found.early)
    reasons = [found for found in judged if isinstance(found, Reason)]
    return min([*reasons, Reason.NO_TICKET], key=HELPFULNESS.index)


def _welcome(guest: Guest, uses: Sequence[Use], place: str, at: Instant) -> Entitlement | Reason:
    """Judge a card that holds nothing here by what its own region said of it."""
    if guest.freshness >= Freshness.STALE:
        return Reason.NO_TICKET
    if guest.status is not CardStatus.OK:
        return _UNWELCOME.get(guest.status, Reason.NO_TICKET)
    again = _taken_again({None: guest.pass_back_s}, uses, place, at)
    if isinstance(again, Reason):
        return again
    doubtful = guest.freshness is not Freshness.FRESH
    return Entitlement(None, recovers=None if again is None else again.seq, doubtful=doubtful)


_UNWELCOME = {CardStatus.BLOCKED: Reason.REVOKED, CardStatus.LOW: Reason.BALANCE_TOO_LOW}


def _barred(product: Product, assurance: Assurance, *, abroad: bool) -> Reason | None:
    """Say why this card may not use a product at all, whatever is left on it."""
    if abroad and product.residents_only:
        return Reason.RESIDENTS_ONLY
    return Reason.ASSURANCE_TOO_LOW if assurance < product.least_assurance else None


def _preference(product: Product) -> tuple[ProductKind, int, int]:
    return product.kind, product.valid_until, product.product_id


def _taken_again(
    windows: Mapping[int | None, int], uses: Sequence[Use], place: str, at: Instant
) -> Use | Reason | None:
    """Judge a tap that follows another at this place: the use that it repeats, passed back, or (None) neither."""
    recent = [
        use
        for use in uses
        if use.place == place
        and use.product_id in windows
        and 0 <= _elapsed_ms(use, at) < windows[use.product_id] * 1000
    ]
    if not recent:
        return None
    last = max(recent, key=lambda use: use.seq)
    repeated = last.recovers is not None or any(use.recovers == last.seq for use in uses)
    if not last.ratified and not repeated and _elapsed_ms(last, at) < RECOVERY_MS:
        return last
    # After a restart on a clock that only knows a floor, more time may have passed than it shows.
    if last.boot != at.boot and at.confidence is ClockConfidence.FLOOR:
        return None
    return Reason.PASS_BACK


def _elapsed_ms(use: Use, at: Instant) -> int:
    """Milliseconds since a use; negative where the wall clock was set back meanwhile."""
    return at.mono_ms - use.mono_ms if use.boot == at.boot else at.wall_ms - use.wall_ms


def _fits(product: Product, unsynced: Sequence[Use], place: str, at: Instant) -> Entitlement | Reason:
    """Judge one product by itself."""
    if at.wall_s >= product.valid_until:
        return Reason.TICKET_EXPIRED
    if product.places and place not in product.places:
        return Reason.NOT_VALID_HERE
    early = at.wall_s < max(product.valid_from, product.active_from)
    # Only a synchronised clock is good enough to hold a date in the future against somebody.
    if early and at.confidence is ClockConfidence.NTP:
        return Reason.TICKET_NOT_YET_VALID if at.wall_s < product.valid_from else Reason.TICKET_NOT_YET_ACTIVE
    return _paid(product, [use for use in unsynced if use.product_id == product.product_id], early=early)


def _paid(product: Product, used: Sequence[Use], *, early: bool) -> Entitlement | Reason:
    """Take one ride from what a product still holds."""
    match product.kind:
        case ProductKind.PERIOD_PASS:
            return Entitlement(product, early=early)
        case ProductKind.CARNET:
            if product.rides - sum(use.rides for use in used) < 1:
                return Reason.RIDES_USED_UP
            return Entitlement(product, rides=1, early=early)
        case ProductKind.STORED_VALUE:
            if product.balance - sum(use.amount for use in used) < product.fare:
                return Reason.BALANCE_TOO_LOW
            return Entitlement(product, amount=product.fare, early=early)
