"""Prices without explanations are those with them, whatever is travelled, and whatever was asked before."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fares.travel import FEEDS, MONDAY_S, TARIFFS, UNCAPPED, city, coast, tariffs
from validator.fares import quick
from validator.fares.journey import Leg
from validator.fares.leg_pricing import locate
from validator.fares.local_time import service_day
from validator.fares.maximum import dearest
from validator.fares.pricing import effective_legs, price
from validator.fares.quick import QuickPrices
from validator.fares.tariff_rows import DAY_S, Feed

ENDED = [
    msgspec.structs.replace(
        FEEDS[0], transfer_rules=tuple(rule for rule in FEEDS[0].transfer_rules if rule.limit_s is not None)
    ),
    FEEDS[1],
]
JOINLESS = [msgspec.structs.replace(FEEDS[0], join_rules=(), join_limit_s=None), FEEDS[1]]
UNLIMITED = [msgspec.structs.replace(FEEDS[0], join_limit_s=None), FEEDS[1]]
QUICK = [
    (each, QuickPrices(each)) for each in (TARIFFS, UNCAPPED, tariffs(ENDED), tariffs(JOINLESS), tariffs(UNLIMITED))
]

broken = st.builds(
    lambda leg, field, value: Leg(**{**{name: getattr(leg, name) for name in Leg.__struct_fields__}, field: value}),
    city,
    st.sampled_from(["feed", "from_stop", "to_stop", "route", "network", "rider", "medium"]),
    st.sampled_from(["", "nowhere", "city", "coast"]),
).filter(lambda leg: (leg.to_stop is None) == (leg.arrived_s is None))
untimely = st.builds(
    lambda leg, at_s: Leg(leg.departed_s, at_s, "city", leg.from_stop, None if at_s is None else "A1", leg.route),
    city,
    st.none() | st.integers(MONDAY_S - 400 * DAY_S, MONDAY_S + 400 * DAY_S),
)
odd = st.builds(
    lambda leg, at_s: Leg(at_s, at_s + 60, "city", leg.from_stop, leg.from_stop, leg.route),
    city,
    st.integers(MONDAY_S - 400 * DAY_S, MONDAY_S + 400 * DAY_S),
)
rush = st.builds(
    lambda start, end, wait: Leg(
        MONDAY_S + 8 * 3600 + 600 * wait,
        MONDAY_S + 8 * 3600 + 600 * wait + 300,
        "city",
        start,
        end,
        "M1",
        "",
        "",
        "card",
    ),
    st.sampled_from(["A1", "B1", "B2", "C1"]),
    st.sampled_from(["A1", "B1", "B2", "C1"]),
    st.integers(0, 30),
)
journeys = st.lists(st.one_of(city, city, city, rush, rush, coast, odd), max_size=7)


@given(journeys)
@settings(deadline=None, max_examples=400)
def test_quick_prices_are_the_explained_ones(legs: list[Leg]) -> None:
    for explained, prices in QUICK:
        told = price(explained, legs)
        assert prices.totals(legs) == (told.totals, told.known)
        assert prices.totals(legs[:1]) == (price(explained, legs[:1]).totals, price(explained, legs[:1]).known)


@given(st.lists(st.one_of(city, broken, untimely), max_size=4))
@settings(deadline=None, max_examples=400)
def test_what_the_tariff_does_not_know_is_unknown_quickly_too(legs: list[Leg]) -> None:
    for explained, prices in QUICK:
        told = price(explained, legs)
        assert prices.totals(legs) == (told.totals, told.known)


@given(st.lists(journeys, max_size=4))
@settings(deadline=None)
def test_what_was_forgotten_is_found_again(days: list[list[Leg]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "MAX_KEPT", 2)
        prices = QuickPrices(TARIFFS)
        for legs in days:
            assert prices.totals(legs)[0] == price(TARIFFS, legs).totals


@given(city)
@settings(deadline=None, max_examples=300)
def test_a_maximum_fare_is_never_less_than_what_the_leg_turns_out_to_cost(leg: Leg) -> None:
    for feeds in (FEEDS, PRIORITISED):
        each = tariffs(feeds)
        tables = each.feeds["city"]
        (priced,) = effective_legs(each, [leg])
        if priced.amount is None:
            continue
        most = dearest(tables, leg, locate(tables, leg))
        assert most is None or (most.currency == priced.currency and most.amount >= priced.amount)
        opened = Leg(leg.departed_s, None, "city", leg.from_stop, None, leg.route, "", leg.rider, leg.medium)
        assert most == dearest(tables, opened, locate(tables, opened))


def test_where_no_fare_begins_there_is_no_maximum() -> None:
    feed: Feed = msgspec.structs.replace(FEEDS[0], leg_rules=())
    tables = tariffs([feed, FEEDS[1]]).feeds["city"]
    leg = Leg(MONDAY_S, None, "city", "A1", None, "M1")
    assert dearest(tables, leg, locate(tables, leg)) is None


PRIORITISED = [
    msgspec.structs.replace(
        FEEDS[0],
        prioritised=True,
        leg_rules=tuple(
            msgspec.structs.replace(rule, priority=number % 3) for number, rule in enumerate(FEEDS[0].leg_rules)
        ),
    ),
    FEEDS[1],
]


@given(st.one_of(city, coast, odd, broken))
@settings(deadline=None)
def test_a_leg_begins_on_the_service_day_of_its_feeds_agency(leg: Leg) -> None:
    feeds = {each.name: each for each in FEEDS}
    feed = feeds.get(leg.feed)
    said = None if feed is None else service_day(feed.zones[0], leg.departed_s, feed.day_starts_s)
    assert QUICK[0][1].day(leg) == said
