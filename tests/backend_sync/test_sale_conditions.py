"""What sales say beyond dates, places and price: kept by the ledger, read from a file, unknown to older ledgers."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from sqlalchemy import select

from backend_sync.ledger import Ledger
from backend_sync.publish_errors import PublishError
from backend_sync.sales import Sale, product_left
from backend_sync.sales_file import sales_in
from backend_sync.sales_table import condition_values, conditions_of
from backend_sync.schema import SALE
from tests.backend_sync.gate import DAWN_MS, carnet
from tests.backend_sync.older_ledger import forget_settlements
from tests.validator.ticket_making import CONDITIONS
from validator.conditions import ORDINARY, Conditions, TimeFrame
from validator.lists.product_rules import breach
from validator.rights import Product, ProductKind

WHO = bytes(range(16))
STUDENT = Conditions(
    rider="student",
    medium="card",
    riders=2,
    zones=frozenset({"A", "B"}),
    networks=frozenset({"bus"}),
    time_frames=frozenset({TimeFrame(360, 1530, 0b1_1111)}),
    day_starts_s=14_400,
    floor=500,
    proof_until=2**31,
)
CREDIT = Product(8, ProductKind.PAY_AS_YOU_GO, 0, 2**40, 0, balance=1000, fare=300, conditions=STUDENT)
LINE = {
    "sale": 8,
    "credential_id": WHO.hex(),
    "kind": "pay_as_you_go",
    "price": 1000,
    "sold": 0,
    "valid_from": 0,
    "valid_until": 2**40,
    "balance": 1000,
    "fare": 300,
    "rider": "student",
    "medium": "card",
    "riders": 2,
    "zones": ["B", "A"],
    "networks": ["bus"],
    "hours": [{"from": "06:00", "until": "25:30", "weekdays": [1, 2, 3, 4, 5]}],
    "day_starts_s": 14_400,
    "floor": 500,
    "proof_until": 2**31,
}


@given(conditions=CONDITIONS)
def test_columns_say_what_the_conditions_say(conditions: Conditions) -> None:
    assert conditions_of(SimpleNamespace(**condition_values(conditions))) == conditions


def test_the_ledger_keeps_the_conditions_of_a_sale(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db", create=True) as ledger:
        sale = Sale(WHO, CREDIT, 1000, DAWN_MS)
        assert ledger.record_sale(sale)
        assert not ledger.record_sale(sale)
        with ledger.snapshot() as snapshot:
            assert list(snapshot.product_states()) == [(WHO, CREDIT)]
            assert [product for _, _, product in snapshot.sold_after(0, {})] == [CREDIT]


@pytest.mark.parametrize(("owed", "left"), [(0, 1000), (1000, 0), (1500, -500), (1501, -500)])
def test_pay_as_you_go_is_stated_down_to_its_floor(tmp_path: Path, owed: int, left: int) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db", create=True) as ledger:
        ledger.record_sale(Sale(WHO, CREDIT, 1000, DAWN_MS))
        with ledger.reading() as connection:
            (row,) = connection.execute(select(SALE)).all()
        assert product_left(row, 0, owed) == replace(CREDIT, balance=left)
        assert breach(product_left(row, 0, owed)) is None


def test_sales_of_an_older_ledger_are_ordinary(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger.open(url, create=True) as ledger:
        ledger.record_sale(Sale(WHO, carnet(5, 3), 0, DAWN_MS))
        with ledger.writing() as connection:
            forget_settlements(connection)
            for column in condition_values(ORDINARY):
                connection.exec_driver_sql(f"ALTER TABLE sale DROP COLUMN {column}")
            connection.exec_driver_sql("PRAGMA user_version=7")
    with Ledger.open(url) as ledger:
        assert not ledger.record_sale(Sale(WHO, carnet(5, 3), 0, DAWN_MS)), "it is the sale that is there"
        assert ledger.record_sale(Sale(WHO, CREDIT, 1000, DAWN_MS))
        with ledger.snapshot() as snapshot:
            assert [product for _, product in snapshot.product_states()] == [carnet(5, 3), CREDIT]


def test_a_line_says_conditions(tmp_path: Path) -> None:
    file = tmp_path / "sales.jsonl"
    file.write_text(json.dumps(LINE) + "\n")
    assert list(sales_in(file)) == [Sale(WHO, CREDIT, 1000, 0)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"fare": 0}, "fare 0 of pay as you go"),
        ({"balance": 0, "floor": 0}, "without a deposit or a floor"),
        ({"kind": "stored_value"}, "floor 500 of what is no pay as you go"),
        ({"kind": "period_pass"}, "a balance or a fare on a period_pass"),
        ({"riders": 0}, "riders 0 is not between 1 and 99"),
        ({"zones": [""]}, "the name of a zone"),
        ({"networks": ["\n"]}, "the name of a network"),
        ({"hours": [{"from": "10:00", "until": "10:00"}]}, "from minute 600 until 600"),
        ({"hours": [{"from": "10:60", "until": "11:00"}]}, "hours"),
        ({"hours": [{"from": "47:00", "until": "48:30"}]}, "until 2910"),
        ({"hours": [{"from": "10:00", "until": "11:00", "weekdays": []}]}, "weekdays"),
        ({"hours": [{"from": "10:00", "until": "11:00", "weekdays": [8]}]}, "weekdays"),
        ({"day_starts_s": 86_400}, "day_starts_s 86400"),
        ({"rider": "x" * 65}, "the name of a rider category"),
    ],
    ids=str,
)
def test_a_line_that_makes_no_sense_is_refused_by_name(tmp_path: Path, change: dict[str, object], why: str) -> None:
    file = tmp_path / "sales.jsonl"
    file.write_text(json.dumps(LINE | change) + "\n")
    with pytest.raises(PublishError, match=f"line 1: .*{why}"):
        list(sales_in(file))
