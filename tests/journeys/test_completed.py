"""What the desk said, and what gates took at once: laws and rows of `COMPLETE-DESK-1` and `ENTRY-TAKEN-1`."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync.journeys.completed import DESK, Completion, pair_completed
from backend_sync.journeys.editions import Rulebook, Terms
from backend_sync.journeys.entries import taken
from backend_sync.journeys.pairing import State, pair
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import settle_rides
from backend_sync.journeys.taps import JourneyTap
from tests.fares.travel import MONDAY_S
from tests.journeys.office import CARD, CLOSES_S, RULEBOOK, some_taps, taps

AT_0815 = MONDAY_S + 8 * 3600 + 900


def completion(first: JourneyTap, place: str = "mB1", arrived_s: int = AT_0815) -> Completion:
    return Completion(1, first.key, place, arrived_s)


def test_an_end_that_the_desk_said_makes_a_ride_and_says_so() -> None:
    (first,) = taps("08:00 mA1")
    (ride,) = pair_completed(RULEBOOK, [first], [completion(first)], CLOSES_S)
    assert (ride.state, ride.taps[1].device, ride.taps[1].at_s) == (State.COMPLETE, DESK, AT_0815)
    assert ride.rules == (JourneyRule.PAIR_TIME, JourneyRule.COMPLETE_DESK)


def test_an_exit_that_the_gates_know_makes_the_desks_word_void() -> None:
    both = taps("08:00 mA1; 08:40 mC1")
    assert pair_completed(RULEBOOK, both, [completion(both[0])], CLOSES_S) == pair(RULEBOOK, both, CLOSES_S)


def test_nobody_has_arrived_before_the_books_close() -> None:
    (first,) = taps("08:00 mA1")
    said = [completion(first, arrived_s=CLOSES_S + 1)]
    assert pair_completed(RULEBOOK, [first], said, CLOSES_S) == pair(RULEBOOK, [first], CLOSES_S)


@given(some_taps, st.data())
@settings(deadline=None)
def test_the_desk_ends_rides_without_an_end_and_touches_nothing_else(
    those: list[JourneyTap], data: st.DataObject
) -> None:
    before = pair(RULEBOOK, those, CLOSES_S)
    first = data.draw(st.sampled_from(those)) if those else None
    said = [] if first is None else [completion(first, "mB1", first.at_s + 600)]
    after = pair_completed(RULEBOOK, those, said, CLOSES_S)
    endless = {ride.taps[0].key for ride in before if ride.state is State.INCOMPLETE and not ride.head}
    ended = {ride.taps[0].key for ride in after if ride.taps[-1].device == DESK and len(ride.taps) == 2}
    assert ended <= {each.first for each in said}
    if not endless & {each.first for each in said}:
        assert after == before
    assert {tap.key for ride in after for tap in ride.taps if tap.device != DESK} == {tap.key for tap in those}


class TestTaken:
    def sums(self, short: str, amounts: list[int]) -> dict[int, int]:
        those = [msgspec.structs.replace(tap, amount=amount) for tap, amount in zip(taps(short), amounts, strict=True)]
        rulebook = Rulebook(RULEBOOK.editions, {**RULEBOOK.terms, 4: Terms(medium="card")})
        rides = pair(rulebook, those, CLOSES_S)
        found = taken(rides, settle_rides(rides).pending, "EUR")
        assert {(card, currency) for card, _, _, currency in found} <= {(CARD, "EUR")}
        return {product: amount for (_, product, _, _), amount in found.items()}

    def test_both_taps_of_a_ride_count_each_for_its_product(self) -> None:
        assert self.sums("08:00 mA1; 08:20 mB1 product=4", [200, 50]) == {1: 200, 4: 50}

    def test_a_tap_of_several_riders_counts_once(self) -> None:
        assert self.sums("08:00 v1 riders=3", [600]) == {1: 600}

    def test_a_change_of_mind_costs_nothing_so_what_was_taken_counts(self) -> None:
        assert self.sums("08:00 mA1; 08:01 mA1", [200, 0]) == {1: 200}

    def test_what_was_taken_for_a_ride_that_waits_stays(self) -> None:
        assert self.sums("08:00 unheard; 09:00 mA1; 09:20 unheard; 12:00 v1 stop=nowhere", [1, 2, 4, 8]) == {}

    def test_under_way_when_the_books_close(self) -> None:
        those = [msgspec.structs.replace(tap, amount=9) for tap in taps("08:00 mA1")]
        rides = pair(RULEBOOK, those, those[0].at_s + 60)
        assert taken(rides, settle_rides(rides).pending, "EUR") == {}

    def test_passes_and_refused_taps_give_nothing_back(self) -> None:
        assert self.sums("08:00 v1 product=3; 09:00 v1 deny; 10:00 v1", [5, 7, 0]) == {}
