"""Gate and back office agree on every tap that both can price."""

from collections import Counter

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from backend_sync.journeys.settling import settle
from backend_sync.journeys.taps import JourneyTap
from tests.fares.travel import MONDAY_S
from tests.journeys.office import CARD, CLOSES_S, PLACES, RULEBOOK, some_taps, taps
from validator.fares.at_gate import NO_TARIFF, RideHere
from validator.fares.tariff_rows import DAY_S

UNGATED = sorted(name for name, place in PLACES.items() if not place.gated)

on_vehicles = st.builds(
    JourneyTap,
    card=st.just(CARD),
    at_s=st.integers(MONDAY_S - 2 * DAY_S, MONDAY_S + 8 * DAY_S),
    device=st.just("gate"),
    epoch=st.just(1),
    seq=st.integers(1, 1000),
    place=st.sampled_from(UNGATED),
    product_id=st.sampled_from([1, 2]),
    granted=st.just(True),
    stop=st.sampled_from(["", "D1", "B1", "A1", "nowhere"]),
    route=st.sampled_from(["", "B7", "N1", "unknown"]),
    riders=st.sampled_from([1, 1, 2, 3]),
)


def told(tap: JourneyTap) -> int | None:
    """Return what a gate with the newest tariff takes."""
    terms = RULEBOOK.terms[tap.product_id or 0]
    here = RideHere(RULEBOOK.at(tap.at_s), tap.place, tap.at_s, tap.stop, tap.route)
    return here.fare(terms.rider, terms.medium, tap.riders)


@given(on_vehicles)
@settings(deadline=None)
def test_what_a_gate_takes_for_a_ride_is_what_that_ride_alone_costs(tap: JourneyTap) -> None:
    amount, settled = told(tap), settle(RULEBOOK, [tap], CLOSES_S)
    event(f"priced: {amount is not None}")
    if amount is None:
        assert settled.charges == {}
        assert settled.pending
        return
    assert amount >= 0
    assert not settled.pending
    assert sum(settled.charges.values()) == amount


@given(st.lists(on_vehicles, max_size=8, unique_by=lambda tap: tap.seq))
@settings(deadline=None)
def test_no_more_is_due_than_gates_took(those: list[JourneyTap]) -> None:
    amounts = [told(tap) for tap in those]
    settled = settle(RULEBOOK, those, CLOSES_S)
    if None in amounts:
        return
    event(f"rides: {len(those)}")
    took = Counter[int]()
    for tap, amount in zip(those, amounts, strict=True):
        took[tap.product_id or 0] += amount or 0
    for product, most in took.items():
        assert 0 <= sum(amount for key, amount in settled.charges.items() if key[1] == product) <= most


@given(some_taps)
@settings(deadline=None)
def test_where_one_taps_out_as_well_a_gate_says_no_fare(those: list[JourneyTap]) -> None:
    for tap in those:
        place = PLACES.get(tap.place)
        if tap.product_id in {1, 2} and (place is None or place.gated):
            assert told(tap) is None


def test_a_gate_without_a_tariff_says_no_fare() -> None:
    assert NO_TARIFF.fare("", "", 1) is None
    (tap,) = taps("09:00 v1")
    assert told(msgspec.structs.replace(tap, at_s=0)) is None
