"""Taps of which a hand made rides and prices, with the reasoning beside each."""

import csv
import re
from pathlib import Path

import pytest

from backend_sync.gtfs.currencies import in_major
from backend_sync.journeys.editions import Rulebook
from backend_sync.journeys.entries import Entry, entries
from backend_sync.journeys.pairing import Ride, pair
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import Settled, settle
from tests.fares.travel import MONDAY_S
from tests.journeys.office import AHEAD, CLOSES_S, RULEBOOK, TERMS, taps
from validator.fares.tariff_rows import DAY_S

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULE = re.compile(r"^\| `([A-Z]+(?:-[A-Z]+)*-\d)` \|", re.MULTILINE)
ELSEWHERE = {
    "COMPLETE-RETURN-1",
    "COMPLETE-HABIT-1",
    "COMPLETE-DESK-1",
    "ENTRY-REFUND-1",
    "ENTRY-TAKEN-1",
    "ENTRY-GOODWILL-1",
    "PENDING-CURRENCY-1",
}
"""Rules with tests of their own: test_completing.py, test_completed.py, tests/backend_sync/test_settlement.py."""
BOOKS = {"edition": Rulebook([AHEAD], TERMS)}


def rows() -> list[dict[str, str]]:
    with (HERE / "by_hand.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def fired(rides: list[Ride], settled: Settled, new: list[Entry]) -> set[JourneyRule]:
    return (
        {rule for ride in rides for rule in ride.rules}
        | {rule for rule, _ in settled.notes}
        | {pending.rule for pending in settled.pending}
        | {entry.rule for entry in new}
    )


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["case"])
def test_taps_make_the_rides_and_cost_what_the_hand_says(row: dict[str, str]) -> None:
    rulebook = BOOKS.get(row["case"], RULEBOOK)
    those = taps(row["taps"])
    rides, settled = pair(rulebook, those, CLOSES_S), settle(rulebook, those, CLOSES_S)
    assert " ".join(ride.state for ride in rides) == row["rides"]
    charged = sorted(
        (day - MONDAY_S // DAY_S - 1, amount, unit) for (_, _, day, unit), amount in settled.charges.items()
    )
    assert "; ".join(f"{day}: {in_major(amount, unit)}" for day, amount, unit in charged if amount) == row["charges"]
    assert set(row["rules"].split()) <= fired(rides, settled, list(entries({}, settled.charges)))


def test_every_row_has_a_reason() -> None:
    assert all(row["why"] for row in rows())
    assert len({row["case"] for row in rows()}) == len(rows())


def test_rules_of_docs_code_and_rows_are_the_same() -> None:
    said = set(RULE.findall((ROOT / "docs" / "journeys.md").read_text()))
    coded = {rule.value for rule in JourneyRule}
    rowed = {rule for row in rows() for rule in row["rules"].split()}
    assert said == coded == rowed | ELSEWHERE


def test_every_rule_is_applied_somewhere_in_the_code() -> None:
    rooms = [*(ROOT / "backend_sync" / "journeys").glob("*.py"), ROOT / "backend_sync" / "settlement.py"]
    sources = [path.read_text() for path in rooms if path.stem != "rules"]
    used = {
        rule
        for rule in JourneyRule
        if any(f"JourneyRule.{rule.name}" in source or f"(`{rule}`)" in source for source in sources)
    }
    assert used == set(JourneyRule)
