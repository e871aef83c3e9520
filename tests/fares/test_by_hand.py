"""Journeys that were priced by hand from the reference and the feeds, with the reasoning beside each."""

import csv
import re
from pathlib import Path

import pytest

from backend_sync.gtfs.compiling import Days, compile_feed
from backend_sync.gtfs.currencies import in_major
from backend_sync.gtfs.journey_file import read_journeys
from validator.fares.pricing import price
from validator.fares.rules import Rule
from validator.fares.tariff import Tariffs, encode_tariff

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULE = re.compile(r"^\| `([A-Z]+(?:-[A-Z]+)*-\d)` \|", re.MULTILINE)


def rows() -> list[dict[str, str]]:
    with (HERE / "by_hand.csv").open(newline="") as file:
        return list(csv.DictReader(file))


TARIFFS = Tariffs.parse(encode_tariff(compile_feed(HERE / name, name, Days()) for name in ("city", "coast")))
JOURNEYS = read_journeys(HERE / "journeys.csv", TARIFFS)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["journey"])
def test_a_journey_costs_what_the_hand_says(row: dict[str, str]) -> None:
    found = price(TARIFFS, JOURNEYS[row["journey"]])
    fired = {step.rule.value for step in found.explanation()}
    assert " + ".join(in_major(amount, currency) for currency, amount in found.totals.items()) == row["total"]
    assert set(row["rules"].split()) <= fired
    assert found.known == (Rule.TOTAL_UNKNOWN not in fired)


def test_every_journey_has_a_row_and_a_reason() -> None:
    assert [row["journey"] for row in rows()] == list(JOURNEYS)
    assert len(rows()) >= 60
    assert all(row["why"] for row in rows())


def test_rules_of_docs_code_and_rows_are_the_same() -> None:
    said = set(RULE.findall((ROOT / "docs" / "fares.md").read_text()))
    coded = {rule.value for rule in Rule}
    rowed = {rule for row in rows() for rule in row["rules"].split()}
    assert said == coded == rowed


def test_every_rule_is_applied_somewhere_in_the_code() -> None:
    sources = [path.read_text() for path in (ROOT / "validator" / "fares").glob("*.py") if path.name != "rules.py"]
    assert [rule.name for rule in Rule if not any(f"Rule.{rule.name}" in source for source in sources)] == []
