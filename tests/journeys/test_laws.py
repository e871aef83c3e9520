"""Laws of journeys: over whatever taps one card may leave."""

from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync.journeys.completing import suggestions
from backend_sync.journeys.entries import entries
from backend_sync.journeys.late import difference
from backend_sync.journeys.pairing import Ride, State, pair
from backend_sync.journeys.settling import Settled, settle
from backend_sync.journeys.shards import settle_shard, shard_of
from backend_sync.journeys.taps import JourneyTap
from tests.journeys.office import CARD, CLOSES_S, RULEBOOK, numbered, some_taps, taps
from validator.fares.leg_pricing import locate
from validator.fares.maximum import dearest
from validator.fares.pricing import effective_legs
from validator.model import Label

JOURNEY_S = 3 * 3600


def told(settled: Settled) -> object:
    """Return what a settlement says, without the objects that say it."""
    return (
        settled.charges,
        [(each.rule, each.what, each.ride.taps) for each in settled.pending],
        [(rule, ride.taps, ride.head) for rule, ride in settled.notes],
    )


def rides_of(those: list[JourneyTap]) -> list[Ride]:
    return pair(RULEBOOK, those, CLOSES_S)


@given(some_taps, st.randoms())
@settings(deadline=None)
def test_the_order_in_which_taps_arrive_changes_nothing_nor_does_a_tap_that_comes_twice(
    those: list[JourneyTap], random: object
) -> None:
    first = settle(RULEBOOK, those, CLOSES_S)
    again = [*those, *those[::2]]
    random.shuffle(again)  # type: ignore[attr-defined]
    assert told(settle(RULEBOOK, again, CLOSES_S)) == told(first)
    assert difference(rides_of(those), rides_of(again)).lines() == []


@given(some_taps)
@settings(deadline=None)
def test_each_tap_and_rider_is_in_one_ride(those: list[JourneyTap]) -> None:
    found = Counter((tap.order, ride.head) for ride in rides_of(those) for tap in ride.taps)
    assert set(found.values()) <= {1}
    heads = Counter(order for order, _ in found)
    for tap in those:
        unpaid = not tap.granted or heads[tap.order] == 1
        assert heads[tap.order] == tap.riders or unpaid


@given(some_taps, st.sampled_from(Label))
@settings(deadline=None)
def test_labels_decide_nothing(those: list[JourneyTap], label: Label) -> None:
    other = [msgspec.structs.replace(tap, label=label) for tap in those]
    assert settle(RULEBOOK, those, CLOSES_S).charges == settle(RULEBOOK, other, CLOSES_S).charges
    assert [ride.state for ride in rides_of(those)] == [ride.state for ride in rides_of(other)]


@given(some_taps, some_taps)
@settings(deadline=None)
def test_a_refused_card_is_never_charged(those: list[JourneyTap], others: list[JourneyTap]) -> None:
    refused = [msgspec.structs.replace(tap, granted=False, device="shut") for tap in others]
    with_them, without = settle(RULEBOOK, [*those, *refused], CLOSES_S), settle(RULEBOOK, those, CLOSES_S)
    assert with_them.charges == without.charges
    assert settle(RULEBOOK, refused, CLOSES_S).charges == {}


@given(some_taps)
@settings(deadline=None)
def test_no_price_is_negative_or_above_the_single_fares(those: list[JourneyTap]) -> None:
    rides, settled = rides_of(those), settle(RULEBOOK, those, CLOSES_S)
    most = Counter[str]()
    for ride in rides:
        if ride.state in {State.COMPLETE, State.SINGLE, State.INCOMPLETE} and ride.leg and ride.edition and ride.terms:
            (single,) = effective_legs(ride.edition.tariffs, [ride.leg])
            most[single.currency] += single.amount or 0
    for each in settled.maxima:
        assert each.amount >= 0
        most[each.currency] += each.amount
    for currency in {key[3] for key in settled.charges}:
        due = sum(amount for key, amount in settled.charges.items() if key[3] == currency)
        assert 0 <= due <= most[currency]


@given(some_taps)
@settings(deadline=None)
def test_a_ride_that_costs_something_is_priced_covered_or_named(those: list[JourneyTap]) -> None:
    settled = settle(RULEBOOK, those, CLOSES_S)
    assert all(each.what for each in settled.pending)
    named = {id(each.ride) for each in settled.pending}
    assert len(named) == len(settled.pending)
    for ride in rides_of(those):
        if ride.state in {State.PENDING, State.OPEN}:
            assert ride.why
            assert ride.rules[0].value.startswith("PENDING-")
    silent = [tap for tap in those if tap.product_id in {None, 9} or tap.place == "unheard" or tap.tariff == 99]
    for tap in silent:
        alone = settle(RULEBOOK, [msgspec.structs.replace(tap, recovers=None)], CLOSES_S)
        assert alone.charges == {}
        assert bool(alone.pending) == tap.granted


@given(some_taps, some_taps)
@settings(deadline=None)
def test_what_was_posted_and_what_is_new_is_what_is_due(before: list[JourneyTap], late: list[JourneyTap]) -> None:
    late = [msgspec.structs.replace(tap, device="late") for tap in late]
    posted: Counter[tuple[bytes, int, int, str]] = Counter()
    for those in (before, [*before, *late], [*before, *late]):
        due = settle(RULEBOOK, those, CLOSES_S).charges
        new = list(entries(posted, due))
        for entry in new:
            assert entry.amount != 0
            assert sum(side.amount for side in entry.postings) == 0
            assert entry.postings[1].amount == entry.amount
            posted[entry.key] += entry.amount
        assert {key: amount for key, amount in posted.items() if amount} == {
            key: amount for key, amount in due.items() if amount
        }
        assert list(entries(posted, due)) == []


@given(some_taps, some_taps.filter(bool))
@settings(deadline=None)
def test_a_late_tap_changes_nothing_before_it_nor_beyond_a_gap(those: list[JourneyTap], late: list[JourneyTap]) -> None:
    tap = msgspec.structs.replace(late[0], device="late", recovers=None)
    those = [msgspec.structs.replace(each, recovers=None) for each in those]
    change = difference(rides_of(those), rides_of([*those, tap]))
    ends = [tap.at_s]
    for each in sorted(those, key=lambda one: one.order):
        if ends[-1] <= each.at_s <= ends[-1] + JOURNEY_S:
            ends.append(each.at_s)
    for ride in (*change.gone, *change.come):
        assert ride.taps[-1].at_s >= tap.at_s - JOURNEY_S
        assert ride.taps[0].at_s <= ends[-1]
    assert any(tap in ride.taps for ride in change.come)
    assert len(change.lines()) == len(change.gone) + len(change.come)


@given(some_taps)
@settings(deadline=None)
def test_a_yes_makes_the_suggested_ride_and_no_other(those: list[JourneyTap]) -> None:
    before = rides_of(those)
    for number, suggestion in enumerate(suggestions(before)):
        tap = suggestion.accepted("desk", 1, number)
        change = difference(before, rides_of([*those, tap]))
        assert change.gone == (suggestion.ride,)
        (ride,) = change.come
        assert ride.state is State.COMPLETE
        assert ride.taps == (suggestion.ride.taps[0], tap)
        assert suggestion.reason


@given(some_taps, some_taps, st.integers(1, 5))
@settings(deadline=None)
def test_cards_are_settled_apart(those: list[JourneyTap], others: list[JourneyTap], shards: int) -> None:
    others = [msgspec.structs.replace(tap, card=CARD[::-1]) for tap in others]
    found: dict[bytes, object] = {}
    for shard in range(shards):
        mixed = [tap for tap in (*others, *those) if shard_of(tap.card, shards) == shard]
        found |= {card: told(settled) for card, settled in settle_shard(RULEBOOK, mixed, CLOSES_S)}
    expected = {mine[0].card: told(settle(RULEBOOK, mine, CLOSES_S)) for mine in (those, others) if mine}
    assert found == expected


def test_incomplete_rides_cost_the_dearest_fare_from_there() -> None:
    (ride,) = rides_of(taps("08:00 mA1"))
    assert ride.leg is not None
    assert ride.edition is not None
    tables = ride.edition.tariffs.feeds["city"]
    most = dearest(tables, ride.leg, locate(tables, ride.leg))
    assert most is not None
    assert list(settle(RULEBOOK, taps("08:00 mA1"), CLOSES_S).charges.values()) == [most.amount] == [400]


def test_numbers_of_taps_are_their_own() -> None:
    assert [tap.seq for tap in numbered(taps("08:00 mA1; 09:00 mB1"))] == [1, 2]
