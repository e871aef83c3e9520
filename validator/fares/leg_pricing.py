"""The single fare of a leg: ``fare_leg_rules.txt`` and ``fare_products.txt``.

Two meanings of an empty field (GTFS reference, fare_leg_rules.txt, 3 and 4): without the column ``rule_priority`` it is
whatever no rule names in that column; with it, it is anything, and the highest priority wins. No match is no fare.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from validator.fares.journey import Leg, PricedLeg, Step
from validator.fares.local_time import wall
from validator.fares.rules import Rule
from validator.fares.tariff import FeedTables
from validator.fares.tariff_rows import LegRule, Price, Stop, Zone

LEG_RULES: Final = "fare_leg_rules.txt"
PRODUCTS: Final = "fare_products.txt"

_Found = TypeVar("_Found")


class Unknown(Exception):  # noqa: N818 - a fare that is unknown is an answer, caught in this package
    """A leg has no fare by this tariff.

    Attributes:
        step: Why.
    """

    def __init__(self, step: Step) -> None:
        super().__init__(step.what)
        self.step = step


@dataclass(frozen=True, slots=True)
class Place:
    """A leg in a feed's own numbers.

    Attributes:
        start: The stop where it began.
        end: The stop where it ended; None where it is open.
        network: Its network; None for none.
        rider: Its rider category; None for none.
        medium: Its medium; None where it is unknown.
        steps: What had to be assumed.
    """

    start: int
    end: int | None
    network: int | None
    rider: int | None
    medium: int | None
    steps: tuple[Step, ...]


def locate(tables: FeedTables, leg: Leg) -> Place:
    """Find a leg's stops, network, rider and medium in its feed.

    Raises:
        Unknown: The feed has no such thing, or the tariff is not for that day.
    """
    feed, steps = tables.feed, tuple[Step, ...]()
    start = _known(tables.stops, leg.from_stop, Rule.STOP_UNKNOWN, f"feed {feed.name} has no stop")
    end = None
    if leg.to_stop is not None:
        end = _known(tables.stops, leg.to_stop, Rule.STOP_UNKNOWN, f"feed {feed.name} has no stop")
    network, rider, medium = None, feed.default_rider, None
    if leg.route:
        network = _known(tables.routes, leg.route, Rule.NETWORK_UNKNOWN, f"feed {feed.name} has no route")
    elif leg.network:
        network = _known(tables.networks, leg.network, Rule.NETWORK_UNKNOWN, f"feed {feed.name} has no network")
    if leg.rider:
        rider = _known(tables.riders, leg.rider, Rule.RIDER_UNKNOWN, f"feed {feed.name} has no rider category")
    elif rider is not None:
        steps = (Step(Rule.RIDER_DEFAULT, f"no rider category is named: {feed.riders[rider]}", "rider_categories.txt"),)
    if leg.medium:
        medium = _known(tables.media, leg.medium, Rule.MEDIUM_UNKNOWN, f"feed {feed.name} has no fare medium")
    if leg.arrived_s is not None and leg.arrived_s < leg.departed_s:
        raise Unknown(Step(Rule.TIME_BACKWARDS, f"it ended {leg.departed_s - leg.arrived_s} s before it began"))
    day, _ = wall(zone_of(tables, feed.stops[start]), leg.departed_s)
    if not feed.first_day <= day <= feed.last_day:
        raise Unknown(Step(Rule.DAYS, f"the tariff of feed {feed.name} is not for that day"))
    return Place(start, end, network, rider, medium, steps)


def price_leg(tables: FeedTables, legs: tuple[Leg, ...], first: Place, last: Place) -> PricedLeg:
    """Price a leg, or several that were joined.

    Args:
        tables: Their feed.
        legs: What was travelled; an effective leg begins with the first and ends with the last.
        first: Where the first was.
        last: Where the last was.
    """
    feed, steps = tables.feed, list(first.steps)
    try:
        rules = _matching(tables, legs, first, last, steps)
    except Unknown as unknown:
        return unpriced(legs, (*steps, unknown.step))
    offers = [(rule, price) for rule in rules if (price := price_of(tables, rule.product, first)) is not None]
    if not offers:
        names = ", ".join(sorted({feed.products[rule.product] for rule in rules}))
        return unpriced(legs, (*steps, Step(Rule.PRODUCT_NONE, f"{names} is not for this rider and medium", PRODUCTS)))
    rule, price = min(offers, key=lambda offer: (offer[1].amount, offer[0].line))
    steps.append(_choice(tables, rule))
    if rule.from_frames is not None or rule.to_frames is not None:
        steps.append(Step(Rule.LEG_TIMEFRAME, "its timeframe holds by the clock at the stop", _line(rule)))
    if len(offers) > 1:
        what = f"{feed.products[rule.product]} is the cheapest of {len(offers)} fares"
        steps.append(Step(Rule.LEG_CHEAPEST, what, _line(rule)))
    steps.append(price_step(tables, price))
    return PricedLeg(
        legs=legs,
        amount=price.amount,
        currency=price.currency,
        product=rule.product,
        network=first.network,
        rider=first.rider,
        medium=first.medium,
        group=rule.group,
        steps=tuple(steps),
    )


def unpriced(legs: tuple[Leg, ...], steps: tuple[Step, ...]) -> PricedLeg:
    """Return legs whose fare is unknown."""
    return PricedLeg(legs, None, "", -1, None, None, None, None, steps)


def price_of(tables: FeedTables, product: int, who: Place | PricedLeg) -> Price | None:
    """Return what a product costs a rider with a medium, the row that names both before one that is for any."""
    for rider, medium in ((who.rider, who.medium), (who.rider, None), (None, who.medium), (None, None)):
        price = tables.prices.get((product, rider, medium))
        if price is not None:
            return price
    return None


def price_step(tables: FeedTables, price: Price) -> Step:
    """Say what a product costs, and whether its row was made for this rider or medium."""
    specific = price.rider is not None or price.medium is not None
    return Step(
        Rule.PRODUCT_SPECIFIC if specific else Rule.PRODUCT_GENERAL,
        f"{tables.feed.products[price.product]} costs {price.amount} minor units of {price.currency}",
        f"{PRODUCTS}:{price.line}",
    )


def _known(ids: Mapping[str, _Found], name: str, rule: Rule, what: str) -> _Found:
    if name not in ids:
        raise Unknown(Step(rule, f"{what} {name}"))
    return ids[name]


def _matching(tables: FeedTables, legs: tuple[Leg, ...], first: Place, last: Place, steps: list[Step]) -> list[LegRule]:
    feed = tables.feed
    networks = list(fields_of(tables, (first.network,), tables.listed_networks))
    starts = list(fields_of(tables, feed.stops[first.start].areas, tables.listed_from))
    if last.end is None:
        if any((network, start) in tables.asks_end for network in networks for start in starts):
            raise Unknown(Step(Rule.LEG_OPEN, "what it costs depends on where or when it ends", LEG_RULES))
        steps.append(Step(Rule.LEG_OPEN, "it has no end yet, and no rule for its start asks for one", LEG_RULES))
        ends: list[int | None] = [None]
    else:
        ends = list(fields_of(tables, feed.stops[last.end].areas, tables.listed_to))
    found = [
        rule
        for network in networks
        for start in starts
        for end in ends
        for rule in tables.legs.get((network, start, end), ())
        if in_frames(tables, rule.from_frames, first.start, legs[0].departed_s)
        and in_frames(tables, rule.to_frames, last.end, legs[-1].arrived_s)
    ]
    if not found:
        raise Unknown(Step(Rule.LEG_NONE, "no rule is for this leg: its fare is unknown", LEG_RULES))
    highest = max(rule.priority for rule in found)
    return [rule for rule in found if rule.priority == highest]


def fields_of(tables: FeedTables, values: Iterable[int | None], listed: frozenset[int | None]) -> Iterator[int | None]:
    """Yield what a rule's field may say to match a leg's values.

    Args:
        tables: The feed.
        values: A network, or the areas of a stop.
        listed: What rules name in that field.
    """
    named = [value for value in values if value is not None and value in listed]
    yield from named
    if tables.feed.prioritised or not named:
        yield None


def in_frames(tables: FeedTables, frames: int | None, stop: int | None, at_s: int | None) -> bool:
    """Say whether a group of timeframes holds at a time, by the clock of a stop; no group always does."""
    if frames is None:
        return True
    assert stop is not None
    assert at_s is not None
    feed = tables.feed
    day, second = wall(zone_of(tables, feed.stops[stop]), at_s)
    number, bit = divmod(day - feed.first_day, 8)
    return feed.first_day <= day <= feed.last_day and any(
        frame.start <= second < frame.end and feed.services[frame.service][number] >> bit & 1
        for frame in feed.frames[frames]
    )


def zone_of(tables: FeedTables, stop: Stop) -> Zone:
    """Return the time zone of a stop."""
    return tables.feed.zones[stop.zone or 0]


def _choice(tables: FeedTables, rule: LegRule) -> Step:
    product = tables.feed.products[rule.product]
    if tables.feed.prioritised:
        return Step(Rule.LEG_PRIORITY, f"priority {rule.priority} is the highest that matches: {product}", _line(rule))
    if None in {rule.network, rule.from_area, rule.to_area}:
        return Step(Rule.LEG_EXCEPT, f"an empty field is whatever no rule names: {product}", _line(rule))
    return Step(Rule.LEG_EXACT, f"network and areas are named: {product}", _line(rule))


def _line(rule: LegRule) -> str:
    return f"{LEG_RULES}:{rule.line}"
