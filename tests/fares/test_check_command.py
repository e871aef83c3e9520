"""``backend-sync export gtfs-check`` as it is typed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backend_sync.__main__ import EXITS, app
from backend_sync.gtfs.problems import FeedMissing

HERE = Path(__file__).parent
CITY, COAST, JOURNEYS = str(HERE / "city"), str(HERE / "coast"), str(HERE / "journeys.csv")


def check(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", "gtfs-check", *arguments], env={"COLUMNS": "200"})


def facts(done: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_good_feed_is_counted() -> None:
    done = check(CITY, COAST, "--json")
    assert done.exit_code == 0
    assert [(each["feed"], each["leg_rules"]) for each in facts(done)] == [("city", 13), ("coast", 4)]
    assert "feed city: 12 stops, 20 prices, 13 leg rules" in check(CITY).stdout


def test_a_journey_is_explained_rule_by_rule() -> None:
    done = check(CITY, COAST, "--journey", JOURNEYS)
    assert done.exit_code == 0
    told = done.stdout.split("journey metro-bus:")[1].split("\njourney ")[0]
    assert told.startswith(" 2.80 EUR\n")
    assert "A1 to A2: 1.80 EUR" in told
    assert "TRANSFER-CLOCK-3: 1800 s of 1800 (fare_transfer_rules.txt:4)" in told
    assert "journey no-rule: nothing is known, and legs without a fare" in done.stdout


def test_an_explanation_in_json_has_every_leg_and_step() -> None:
    done = check(CITY, COAST, "--journey", JOURNEYS, "--json")
    (one,) = [each for each in facts(done) if each.get("journey") == "joined"]
    assert (one["legs"], one["known"], one["totals"]) == (2, True, {"EUR": 400})
    assert isinstance(one["parts"], list)
    (part,) = one["parts"]
    assert (part["amount"], part["apart"], part["legs"][0]["legs"]) == (400, 400, 2)
    assert {"rule": "JOIN-STATION-1", "source": "fare_leg_join_rules.txt:2"}.items() <= part["legs"][0]["steps"][
        0
    ].items()


def test_problems_of_all_feeds_are_listed_and_nothing_is_compiled(tmp_path: Path) -> None:
    wrong = shutil.copytree(CITY, tmp_path / "wrong")
    (wrong / "fare_products.txt").write_text("fare_product_id,amount,currency\nmetro,?,EUR\n")
    done = check(str(wrong), COAST, "--json", "--journey", JOURNEYS)
    assert done.exit_code == os.EX_DATAERR
    assert all(each["problem"] and each["meaning"] and each["remedy"] for each in facts(done))
    assert "fare_products.txt:2: amount: '?' is no amount of EUR; digits" in check(str(wrong)).stdout


def test_days_are_those_that_are_asked_for() -> None:
    done = check(CITY, COAST, "--until", "2026-03-01", "--journey", JOURNEYS)
    assert "the tariff of feed city is not for that day" in done.stdout.split("journey zone-card:")[1][:300]
    assert check(CITY, "--from", "yesterday").exit_code == 2


@pytest.mark.parametrize(
    ("table", "meaning"),
    [
        ("journey,from_stop_id,departs\n1,A1,noon\n", "journeys.csv:2: departs: 'noon' is no time"),
        ("journey,from_stop_id,departs,arrives\n1,A1,2026-03-02T08:00,2026-03-02T09:00\n", "one of it and to_stop_id"),
        ("journey,from_stop_id\n1,A1\n", "journeys.csv:1: departs: is not in the heading"),
        ("journey,from_stop_id,departs\n1,A1,\n", "journeys.csv:2: departs: is empty"),
    ],
)
def test_a_wrong_table_of_journeys_is_refused(tmp_path: Path, table: str, meaning: str) -> None:
    path = tmp_path / "journeys.csv"
    path.write_text(table)
    done = check(CITY, "--journey", str(path))
    assert done.exit_code == os.EX_DATAERR
    assert meaning in done.stdout


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert isinstance(check(str(tmp_path / "nothing")).exception, FeedMissing)
    assert isinstance(check(CITY, "--journey", str(tmp_path / "nothing")).exception, FeedMissing)
    assert EXITS[FeedMissing] == os.EX_NOINPUT
