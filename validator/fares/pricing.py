"""What a passenger's legs cost together: joins, single fares, transfers, caps, in this order; every step explained."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from validator.fares.capping import CAPS, Item, best_price
from validator.fares.joining import join
from validator.fares.journey import JourneyPrice, Leg, PricedLeg, Step, SubJourney
from validator.fares.leg_pricing import Place, Unknown, locate, price_leg, unpriced
from validator.fares.local_time import service_day, wall
from validator.fares.rules import Rule
from validator.fares.tariff import FeedTables, Tariffs
from validator.fares.transferring import fold

Account = tuple[str, str, int | None, int | None]
"""Whose single fares caps count together: feed, currency, rider, medium."""

_AGENCY: Final = 0
"""The zone of a feed that is its agency's."""


def price(tariffs: Tariffs, legs: Iterable[Leg]) -> JourneyPrice:
    """Price one passenger's legs; in any order they cost the same.

    Args:
        tariffs: What to price by.
        legs: What was travelled, of as many days as caps should see.

    Returns:
        The totals and their explanation. A leg without a fare is named, and is in no total.
    """
    parts = tuple(fold(tariffs, effective_legs(tariffs, legs)))
    totals, steps = _capped(tariffs, parts)
    unknown = sum(part.amount is None for part in parts)
    if unknown:
        steps += (Step(Rule.TOTAL_UNKNOWN, f"{unknown} legs have no fare: the total is of the others only"),)
    return JourneyPrice(parts, MappingProxyType(totals), steps, known=not unknown)


def effective_legs(tariffs: Tariffs, legs: Iterable[Leg]) -> Iterator[PricedLeg]:
    """Yield legs in order, those that are one joined, each with its single fare."""
    joined: list[tuple[Leg, Place]] = []
    notes: tuple[Step, ...] = ()
    for leg in sorted(legs, key=lambda each: each.order):
        place = _located(tariffs, leg)
        if joined:
            one, said = False, tuple[Step, ...]()
            if isinstance(place, Place) and joined[-1][0].feed == leg.feed:
                one, said = join(tariffs.feeds[leg.feed], joined[-1], (leg, place))
            if not one:
                yield _single(tariffs, joined, notes)
                joined, notes = [], ()
            notes += said
        if isinstance(place, Place):
            joined.append((leg, place))
        else:
            yield unpriced((leg,), (place,))
    if joined:
        yield _single(tariffs, joined, notes)


def _located(tariffs: Tariffs, leg: Leg) -> Place | Step:
    if leg.feed not in tariffs.feeds:
        return Step(Rule.FEED_UNKNOWN, f"the tariff has no feed {leg.feed}")
    try:
        return locate(tariffs.feeds[leg.feed], leg)
    except Unknown as unknown:
        return unknown.step


def _single(tariffs: Tariffs, joined: list[tuple[Leg, Place]], notes: tuple[Step, ...]) -> PricedLeg:
    legs = tuple(leg for leg, _ in joined)
    priced = price_leg(tariffs.feeds[legs[0].feed], legs, joined[0][1], joined[-1][1])
    return replace(priced, steps=(*notes, *priced.steps))


def items_of(
    tariffs: Tariffs, parts: Iterable[SubJourney], steps: list[Step] | None = None
) -> Iterator[tuple[Account, Item]]:
    """Yield what caps count: each sub-journey whose fare is known, and with whose others it is counted.

    Args:
        tariffs: By which they were priced.
        parts: Sub-journeys.
        steps: Where to say which of them count for the day before; None where nobody asks.
    """
    for part in parts:
        if part.amount is not None:
            leg = part.legs[0]
            day = _day(tariffs.feeds[leg.feed], leg, steps)
            item = Item(day, leg.product, leg.network, part.amount)
            yield (leg.feed, part.currency, leg.rider, leg.medium), item


def best_total(tariffs: Tariffs, account: Account, items: Iterable[Item]) -> tuple[int, tuple[Step, ...]]:
    """Return the least that an account's items cost under its caps, and the caps that were reached."""
    name, currency, rider, _ = account
    caps = [cap for cap in tariffs.feeds[name].feed.caps if cap.currency == currency and cap.rider in {None, rider}]
    return best_price(items, caps)


def _capped(tariffs: Tariffs, parts: Iterable[SubJourney]) -> tuple[dict[str, int], tuple[Step, ...]]:
    accounts = defaultdict[Account, list[Item]](list)
    steps: list[Step] = []
    for account, item in items_of(tariffs, parts, steps):
        accounts[account].append(item)
    totals = defaultdict[str, int](int)
    for account, items in accounts.items():
        total, reached = best_total(tariffs, account, items)
        totals[account[1]] += total
        steps += reached
    return dict(sorted(totals.items())), tuple(steps)


def _day(tables: FeedTables, leg: PricedLeg, steps: list[Step] | None) -> int:
    """Return the service day that a sub-journey counts for, by the agency's clock."""
    feed, zone = tables.feed, tables.feed.zones[_AGENCY]
    day = service_day(zone, leg.departed_s, feed.day_starts_s)
    if steps is not None and feed.caps and day != wall(zone, leg.departed_s)[0]:
        steps.append(Step(Rule.DAY_START, "before the service day begins: caps count it for the day before", CAPS))
    return day
