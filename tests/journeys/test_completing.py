"""The queue of incomplete rides, one case a rule, and the refund that a yes brings."""

import pytest

from backend_sync.journeys.completing import suggestions
from backend_sync.journeys.entries import entries
from backend_sync.journeys.pairing import pair
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import settle
from backend_sync.postings import Account, Posting, Unit
from tests.journeys.office import CARD, CLOSES_S, RULEBOOK, taps

BEFORE = "09:00 mA1; 09:30 mC1; 1/09:00 mA1; 1/09:40 mC1; "


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        ("09:00 mA1; 17:00 mB1; 17:20 mA1", [("COMPLETE-RETURN-1", "mB1", 1800)]),
        ("09:00 mA1; 09:00:01 v1", []),  # not a station
        ("09:00 mA1; 17:00 mA1; 17:20 mB1", []),  # begins where this one began
        ("09:00 mA1; 09:20 n-gate", []),  # gates of another network
        ("09:00 mA1; 17:00 unheard", []),  # at a place that nobody knows
        ("09:00 mA1", []),  # nothing after it
        (BEFORE + "2/09:00 mA1", [("COMPLETE-HABIT-1", "mC1", 1800)]),
        (BEFORE + "2/09:00 mB1", []),  # from another station
        ("09:00 mA1; 09:30 mC1; 2/09:00 mA1", []),  # once is no habit
        (BEFORE + "2/09:00 mA1; 2/09:10 n-gate", [("COMPLETE-HABIT-1", "mC1", 599)]),  # before the next tap
        (BEFORE + "2/09:00 mA1; 2/09:00:01 n-gate", []),  # no second is left for an end
        (
            BEFORE + "2/09:00 mA1; 2/17:00 mB1; 2/17:20 mA1",
            [("COMPLETE-RETURN-1", "mB1", 1800), ("COMPLETE-HABIT-1", "mC1", 1800)],
        ),
        ("09:00 mA1; 09:20 unheard; 10:00 n-gate; 10:10 n-gate; 17:00 mA1", []),  # what waits is no habit
        ("09:00 mA1 riders=2; 17:00 mB1; 17:20 mA1", []),  # a group is asked
    ],
)
def test_an_incomplete_ride_is_suggested_an_end(short: str, expected: list[tuple[str, str, int]]) -> None:
    found = suggestions(pair(RULEBOOK, taps(short), CLOSES_S))
    assert [(one.rule, one.place, one.arrived_s - one.ride.taps[0].at_s) for one in found] == expected


def test_history_makes_a_habit() -> None:
    history = pair(RULEBOOK, taps(BEFORE), CLOSES_S)
    (found,) = suggestions(pair(RULEBOOK, taps("5/09:00 mA1"), CLOSES_S), history)
    assert (found.rule, found.reason) == (JourneyRule.COMPLETE_HABIT, "2 of 2 rides from there ended at mC1")


def test_a_yes_gives_back_what_the_maximum_fare_was_too_much() -> None:
    those = taps("09:00 mA1; 17:00 mB1; 17:20 mA1")
    posted = settle(RULEBOOK, those, CLOSES_S).charges
    (found,) = suggestions(pair(RULEBOOK, those, CLOSES_S))
    accepted = settle(RULEBOOK, [*those, found.accepted("desk", 1, 1)], CLOSES_S)
    (entry,) = entries(posted, accepted.charges)
    assert entry.rule is JourneyRule.ENTRY_REFUND
    assert (entry.key[:2], entry.amount) == ((CARD, 1), -50)  # 3.50 at most, and 3.00 to b
    assert entry.postings == (
        Posting(Account.STORED_VALUE, 1, Unit.MINOR, 50),
        Posting(Account.FARE_REVENUE, None, Unit.MINOR, -50),
    )
    assert accepted.maxima == []


def test_what_is_due_no_more_is_given_back() -> None:
    key = (CARD, 1, 20_000, "EUR")
    (entry,) = entries({key: 300}, {})
    assert (entry.key, entry.amount) == (key, -300)
