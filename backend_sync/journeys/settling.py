"""What one card's rides cost, service day by service day, and what waits for somebody before it can be said.

A day costs what the week costs up to its end, less what it cost up to the day before: so a cap of a week is reached
once, and a day that is computed again comes to the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from backend_sync.journeys.editions import Rulebook
from backend_sync.journeys.pairing import Ride, State, pair
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.taps import JourneyTap
from validator.fares.editions import Edition
from validator.fares.journey import Leg, Step
from validator.fares.leg_pricing import Unknown, locate
from validator.fares.local_time import week
from validator.fares.maximum import dearest
from validator.fares.pricing import price
from validator.fares.rules import Rule

DayKey = tuple[bytes, int, int, str]
"""Card, product, service day since 1970-01-01, currency."""

_WAITS: Final = frozenset({State.PENDING, State.OPEN})
_COSTS: Final = frozenset({State.COMPLETE, State.SINGLE, State.INCOMPLETE})


@dataclass(frozen=True, slots=True)
class Pending:
    """A ride that has no price yet, and is in no sum.

    Attributes:
        rule: Why.
        ride: Which.
        what: What somebody has to do or find out, naming the tap.
    """

    rule: JourneyRule
    ride: Ride
    what: str


@dataclass(frozen=True, slots=True)
class MaximumFare:
    """An incomplete ride that is charged the most that it can have cost.

    Attributes:
        ride: Which.
        day: Its service day.
        amount: Minor units.
        currency: Of what.
    """

    ride: Ride
    day: int
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What one card owes.

    Attributes:
        charges: Minor units by day; a day's may be negative where a transfer gives back what the day before cost.
        maxima: What of it is the maximum fare of incomplete rides.
        notes: Rides whose price is not simply their fare, with the rule.
        pending: Rides without a price.
    """

    charges: dict[DayKey, int]
    maxima: list[MaximumFare]
    notes: list[tuple[JourneyRule, Ride]]
    pending: list[Pending]


_Account = tuple[int, int, int, int]
"""Product, rider of the group, edition, week: whose rides are priced together."""


def settle(rulebook: Rulebook, taps: Iterable[JourneyTap], closes_s: int) -> Settled:
    """Price one card's taps.

    Args:
        rulebook: What they are judged by.
        taps: As `pair` takes them; whole weeks where the tariff has caps of a week.
        closes_s: When the books close, seconds since 1970 UTC.
    """
    return settle_rides(pair(rulebook, taps, closes_s))


def settle_rides(rides: Iterable[Ride]) -> Settled:
    """Price one card's rides, as `pair` made them."""
    settled = Settled({}, [], [], [])
    accounts: dict[_Account, list[tuple[int, Ride, Leg]]] = {}
    for ride in rides:
        state = ride.state
        if state in _WAITS:
            rule = ride.rules[0]
            settled.pending.append(Pending(rule, ride, ride.why))
            continue
        if state not in _COSTS:
            continue
        assert ride.terms is not None
        if ride.terms.prepaid:
            settled.notes.append((JourneyRule.COVERED, ride))
            continue
        assert ride.leg is not None
        assert ride.edition is not None
        product = ride.taps[0].product_id
        assert product is not None
        day = ride.edition.prices.day(ride.leg)
        if day is None:
            what = f"{ride.taps[0].name}: {Rule.FEED_UNKNOWN}: the tariff has no feed {ride.leg.feed}"
            settled.pending.append(Pending(JourneyRule.PENDING_FARE, ride, what))
        elif state is not State.INCOMPLETE or not _at_most(settled, ride, ride.edition, ride.leg, day):
            key = product, ride.head, ride.edition.version, week(day)
            accounts.setdefault(key, []).append((day, ride, ride.leg))
    for (product, *_), priced in accounts.items():
        _best(settled, product, priced)
    return settled


def _best(settled: Settled, product: int, priced: Sequence[tuple[int, Ride, Leg]]) -> None:
    """Add what one rider's rides of one week cost, day by day."""
    ride = priced[0][1]
    edition, card = ride.edition, ride.taps[0].card
    assert edition is not None
    before: dict[str, int] = {}
    days = sorted({day for day, _, _ in priced})
    for last in days:
        legs = [leg for day, _, leg in priced if day <= last]
        totals, known = edition.prices.totals(legs)
        for currency, amount in totals.items():
            _add(settled, (card, product, last, currency), amount - before.get(currency, 0))
        if before:
            settled.notes.extend((JourneyRule.WEEK_BEST, ride) for day, ride, _ in priced if day == last)
        before = dict(totals)
        if not known and last == days[-1]:
            _name_unknown(settled, edition, priced)


def _name_unknown(settled: Settled, edition: Edition, priced: Sequence[tuple[int, Ride, Leg]]) -> None:
    """Name each ride that has no fare, with the step of the explanation that says why."""
    waiting = defaultdict[Leg, list[Ride]](list)
    for _, ride, leg in priced:
        waiting[leg].append(ride)
    for part in price(edition.tariffs, (leg for _, _, leg in priced)).parts:
        for effective in part.legs:
            if effective.amount is None:
                for leg in effective.legs:
                    ride = waiting[leg].pop()
                    settled.pending.append(_unpriced(ride, effective.steps[-1]))


def _unpriced(ride: Ride, step: Step) -> Pending:
    return Pending(JourneyRule.PENDING_FARE, ride, f"{ride.taps[0].name}: {step.rule}: {step.what}")


def _at_most(settled: Settled, ride: Ride, edition: Edition, leg: Leg, day: int) -> bool:
    """Charge an incomplete ride the maximum fare; return False where where it ended does not matter to its fare."""
    if edition.prices.totals([leg])[1]:
        settled.notes.append((JourneyRule.MAXIMUM_FLAT, ride))
        return False
    tables = edition.tariffs.feeds[leg.feed]
    try:
        place = locate(tables, leg)
    except Unknown as unknown:
        settled.pending.append(_unpriced(ride, unknown.step))
        return True
    most = dearest(tables, leg, place)
    if most is None:
        what = f"{ride.taps[0].name}: the tariff says no one fare that is the most from {leg.from_stop}"
        settled.pending.append(Pending(JourneyRule.PENDING_MAXIMUM, ride, what))
        return True
    first = ride.taps[0]
    assert first.product_id is not None
    _add(settled, (first.card, first.product_id, day, most.currency), most.amount)
    settled.notes.append((JourneyRule.MAXIMUM_FARE, ride))
    settled.maxima.append(MaximumFare(ride, day, most.amount, most.currency))
    return True


def _add(settled: Settled, key: DayKey, amount: int) -> None:
    settled.charges[key] = settled.charges.get(key, 0) + amount
