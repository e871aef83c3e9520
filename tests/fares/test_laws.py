"""Laws of prices: over whatever anybody travels in the two feeds of the tests, and under whatever caps."""

from itertools import combinations, groupby

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.fares.travel import FEEDS, MONDAY_S, TARIFFS, UNCAPPED, city, coast, tariffs
from validator.fares.capping import Item, best_price
from validator.fares.journey import Leg
from validator.fares.local_time import service_day, wall, week
from validator.fares.pricing import effective_legs, price
from validator.fares.tariff_rows import DAY_S, Cap, Period, TransferType, Zone

journeys = st.lists(st.one_of(city, city, city, coast), max_size=8)
caps = st.lists(
    st.builds(
        Cap,
        cap_id=st.just("cap"),
        period=st.sampled_from(Period),
        amount=st.integers(0, 3000),
        currency=st.sampled_from(["EUR", "EUR", "EUR", "SEK"]),
        product=st.none() | st.integers(0, len(FEEDS[0].products) - 1),
        network=st.none() | st.integers(0, len(FEEDS[0].networks) - 1),
        rider=st.none() | st.integers(0, len(FEEDS[0].riders) - 1),
        line=st.just(2),
    ),
    max_size=4,
)


@given(journeys)
@settings(deadline=None)
def test_a_price_is_never_negative_and_never_above_the_single_fares(legs: list[Leg]) -> None:
    found = price(TARIFFS, legs)
    for part in found.parts:
        assert (part.amount is None) == (part.single is None)
        assert part.amount is None or 0 <= part.amount <= (part.single or 0)
        assert part.single == (None if part.amount is None else sum(leg.amount or 0 for leg in part.legs))
    singles: dict[str, int] = {}
    for leg in effective_legs(TARIFFS, legs):
        singles[leg.currency] = singles.get(leg.currency, 0) + (leg.amount or 0)
    assert all(0 <= amount <= singles[currency] for currency, amount in found.totals.items())


@given(journeys)
@settings(deadline=None)
def test_no_leg_is_lost_and_none_is_free_because_it_is_unknown(legs: list[Leg]) -> None:
    found = price(TARIFFS, legs)
    travelled = [leg for part in found.parts for effective in part.legs for leg in effective.legs]
    assert travelled == sorted(legs, key=lambda leg: leg.order)
    assert found.known == all(effective.amount is not None for part in found.parts for effective in part.legs)
    assert all(effective.steps for part in found.parts for effective in part.legs)


@given(journeys, st.randoms())
@settings(deadline=None)
def test_the_order_in_which_taps_come_changes_nothing_nor_does_pricing_them_again(
    legs: list[Leg], random: object
) -> None:
    first = price(TARIFFS, legs)
    random.shuffle(legs)  # type: ignore[attr-defined]
    assert price(TARIFFS, legs) == first == price(TARIFFS, legs)


@given(journeys, caps, st.data())
@settings(deadline=None)
def test_one_more_cap_or_a_lower_one_never_costs_more(legs: list[Leg], those: list[Cap], data: st.DataObject) -> None:
    without = price(UNCAPPED, legs).totals
    capped = price(tariffs(FEEDS, those), legs).totals
    lower = [msgspec.structs.replace(cap, amount=data.draw(st.integers(0, cap.amount))) for cap in those]
    lowest = price(tariffs(FEEDS, lower), legs).totals
    assert lowest.keys() == capped.keys() == without.keys()
    assert all(0 <= lowest[each] <= capped[each] <= without[each] for each in without)


@given(
    st.lists(
        st.builds(Item, st.integers(0, 15), st.integers(0, 1), st.none() | st.just(0), st.integers(0, 20)), max_size=6
    ),
    st.lists(
        st.builds(
            Cap,
            cap_id=st.just("cap"),
            period=st.sampled_from(Period),
            amount=st.integers(0, 30),
            currency=st.just("EUR"),
            product=st.none() | st.integers(0, 1),
            network=st.none() | st.just(0),
            rider=st.none(),
            line=st.just(2),
        ),
        max_size=3,
    ),
)
@settings(deadline=None)
def test_a_best_price_is_that_of_the_best_selection_of_passes(items: list[Item], those: list[Cap]) -> None:
    """By the definition itself: every cap is offered for each of its days or weeks, and all selections are tried."""
    passes = [
        (cap, each)
        for cap in those
        for each in {item.day if cap.period is Period.DAY else week(item.day) for item in items}
    ]
    assume(len(passes) <= 10)

    def costs(chosen: tuple[tuple[Cap, int], ...]) -> int:
        uncovered = [
            item.amount
            for item in items
            if not any(
                start == (item.day if cap.period is Period.DAY else week(item.day))
                and cap.product in {None, item.product}
                and cap.network in {None, item.network}
                for cap, start in chosen
            )
        ]
        return sum(cap.amount for cap, _ in chosen) + sum(uncovered)

    least = min(costs(chosen) for size in range(len(passes) + 1) for chosen in combinations(passes, size))
    assert best_price(items, those)[0] == least


@given(st.lists(city, min_size=2, max_size=6))
@settings(deadline=None)
def test_nothing_is_shared_between_media_or_riders(legs: list[Leg]) -> None:
    for part in price(TARIFFS, legs).parts:
        assert len({(leg.rider, leg.medium, leg.feed) for leg in part.legs}) == 1
        assert len({(leg.rider, leg.medium) for effective in part.legs for leg in effective.legs}) <= 2


@given(st.integers(MONDAY_S - 400 * DAY_S, MONDAY_S + 400 * DAY_S), st.integers(0, DAY_S - 1))
def test_a_service_day_is_the_calendar_day_or_the_one_before(at: int, starts: int) -> None:
    zone = FEEDS[0].zones[0]
    day, second = wall(zone, at)
    assert service_day(zone, at, starts) == (day if second >= starts else day - 1)
    assert 0 <= day - week(day) < 7
    assert (week(day) - 4) % 7 == 0


@pytest.mark.parametrize(
    ("at", "second"),
    [(99, 99), (100, 3700), (3699, 7299), (3700, 3700), (3701, 3701)],
    ids=["before", "forward", "last-of-summer", "back", "after"],
)
def test_clocks_go_forward_and_back(at: int, second: int) -> None:
    assert wall(Zone("Test/Zone", 0, ((100, 3600), (3700, 0))), at) == (0, second)


def test_the_feeds_of_the_tests_have_every_kind_of_transfer() -> None:
    kinds = sorted(rule.kind for rule in FEEDS[0].transfer_rules)
    assert [kind for kind, _ in groupby(kinds)] == list(TransferType)
