import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from backend_sync.admission import Refused, Rejection
from backend_sync.chain import Link, examine
from backend_sync.ledger import Ledger, Sale
from backend_sync.reconcile import Books, reconcile
from tests.backend_sync.gate import CREDENTIAL, DAWN_MS, GateJournal, a_ledger, a_tap, carnet, month, purse
from validator.entry import GENESIS

COLUMNS = "device, epoch, seq, account, unit, amount"


def recorded(journal: GateJournal, *seqs: int) -> Ledger:
    ledger = a_ledger(journal)
    for start in range(0, len(seqs), 50):
        ledger.record_batch(journal.arrival(*seqs[start : start + 50]), received_ms=DAWN_MS)
    return ledger


def tamper(ledger: Ledger, table: str, statement: str) -> None:
    """As somebody does who owns the file: the triggers go first."""
    with ledger._writing() as connection:
        for verb in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
        connection.execute(text(statement))


def numbers_of(ranges: list[tuple[int, int]]) -> set[int]:
    return {n for first, last in ranges for n in range(first, last + 1)}


@settings(max_examples=100)
@given(total=st.integers(0, 40), data=st.data())
def test_exactly_the_removed_numbers_are_missing(total: int, data: st.DataObject) -> None:
    removed = data.draw(st.sets(st.integers(1, total))) if total else set()
    digests = {n: bytes([n]) * 32 for n in range(1, total + 1)} | {0: GENESIS}
    links = [Link(n, digests[n - 1], digests[n]) for n in range(1, total + 1) if n not in removed]
    chain = examine(links, total)
    assert numbers_of(chain.missing) == removed
    assert chain.missing_count == len(removed)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(chain.missing))
    assert chain.contiguous == min(removed, default=total + 1) - 1
    assert (chain.taps, chain.head) == (total - len(removed), total)
    assert not chain.breaks
    assert not chain.duplicated


@settings(max_examples=100)
@given(total=st.integers(1, 40), data=st.data())
def test_exactly_the_broken_links_are_named(total: int, data: st.DataObject) -> None:
    broken = data.draw(st.sets(st.integers(1, total)))
    digests = {n: bytes([n]) * 32 for n in range(1, total + 1)} | {0: GENESIS}
    links = [Link(n, bytes([255]) * 32 if n in broken else digests[n - 1], digests[n]) for n in range(1, total + 1)]
    chain = examine(links, total)
    assert set(chain.breaks) == broken
    assert not chain.missing


def test_a_number_that_is_there_twice_is_named() -> None:
    first, second = Link(1, GENESIS, b"1" * 32), Link(2, b"1" * 32, b"2" * 32)
    chain = examine([first, second, second], 2)
    assert (chain.duplicated, chain.taps, chain.missing, chain.breaks) == ([2], 2, [], [])


@settings(max_examples=25)
@given(total=st.integers(1, 30), data=st.data())
def test_the_books_name_what_never_arrived(total: int, data: st.DataObject) -> None:
    journal = GateJournal().fill(total)
    arrived = data.draw(st.lists(st.integers(1, total), min_size=1, unique=True))
    with recorded(journal, *arrived) as ledger:
        books = reconcile(ledger)
    (device,) = books.devices
    assert numbers_of(device.chain.missing) == set(range(1, total + 1)) - set(arrived)
    assert device.acknowledged == device.chain.contiguous
    assert books.closed == (len(arrived) == total)


def busy_ledger() -> Ledger:
    journal = GateJournal()
    for _ in range(3):
        journal.append(a_tap(product=1, amount=150))
        journal.append(a_tap(product=2, rides=1))
        journal.append(a_tap(product=3))
        journal.append(a_tap(granted=False))
    ledger = recorded(journal, *range(1, 13))
    for product, price in ((purse(1, 1000), 1000), (carnet(2, 10), 1200), (month(3), 3000)):
        ledger.record_sale(Sale(CREDENTIAL, product, price, DAWN_MS))
    return ledger


def test_closed_books() -> None:
    with busy_ledger() as ledger:
        books = reconcile(ledger)
    said = books.to_dict()
    assert json.loads(json.dumps(said)) == said
    assert said["closed"]
    counts = {name: said[name] for name in ("taps", "granted", "denied", "missing", "duplicated", "chain_breaks")}
    assert counts == {"taps": 12, "granted": 9, "denied": 3, "missing": 0, "duplicated": 0, "chain_breaks": 0}
    assert said["reasons"] == {"VALID": 9, "NO_TICKET": 3}
    assert said["money"] == {
        "closed": True,
        "loaded": 1000,
        "spent": 450,
        "left": 550,
        "fares_on_taps": 450,
        "rides_sold": 10,
        "rides_used": 3,
        "rides_left": 7,
        "rides_on_taps": 3,
        "paid": 5200,
        "revenue": 450 + 4200,
        "negative": [],
        "unbalanced": [],
        "misposted": [],
    }


def test_an_empty_ledger_is_closed() -> None:
    with a_ledger() as ledger:
        books = reconcile(ledger)
    assert books.closed
    assert books.to_dict()["taps"] == 0


def test_what_is_discarded_refused_or_contradicted_is_named() -> None:
    journal, copy = GateJournal().fill(3), GateJournal()
    copy.append(a_tap(99))
    with recorded(journal, 1, 2, 3) as ledger:
        ledger.record_batch(journal.arrival(2, 3), received_ms=DAWN_MS + 5)
        assert reconcile(ledger).closed, "a discarded duplicate is no fault"
        ledger.record_batch(copy.arrival(1), received_ms=DAWN_MS)
        ledger.record_batches([], [Rejection("x", Refused.TOPIC, 1, bytes(32))], received_ms=DAWN_MS)
        books = reconcile(ledger)
    said = books.to_dict()
    assert not books.closed
    assert (said["duplicates_discarded"], said["duplicated"], said["conflicts"]) == (2, 0, 1)
    assert said["rejected"] == {"topic": 1}
    device = said["devices"][0]
    assert device["conflicts"] == [1]
    assert device["duplicates_discarded"] == [
        {"seq": 2, "batch": 2, "received_ms": DAWN_MS + 5},
        {"seq": 3, "batch": 2, "received_ms": DAWN_MS + 5},
    ]


def test_a_chain_that_the_device_itself_broke_is_named() -> None:
    journal, other = GateJournal().fill(2), GateJournal()
    for number in (1, 50, 3):
        other.append(a_tap(number))
    journal.envelopes.append(other.envelopes[2])
    with recorded(journal, 1, 2, 3) as ledger:
        books = reconcile(ledger)
    assert books.devices[0].chain.breaks == [3]
    assert not books.closed


@pytest.mark.parametrize(
    ("table", "statement", "fault"),
    [
        ("tap", "UPDATE tap SET amount = 0 WHERE seq = 5", {"altered": [5]}),
        ("tap", "UPDATE tap SET reason = 40, outcome = 0 WHERE seq = 2", {"altered": [2]}),
        ("tap", "UPDATE tap SET digest = zeroblob(32) WHERE seq = 7", {"altered": [7]}),
        ("tap", "UPDATE tap SET envelope = substr(envelope, 1, 80) WHERE seq = 4", {"unsigned": [4]}),
        ("posting", "DELETE FROM posting WHERE seq = 5", {"misposted": [5]}),
        ("posting", "UPDATE posting SET amount = amount * 2 WHERE seq = 1", {"misposted": [1]}),
        ("posting", "UPDATE posting SET product_id = 3 WHERE seq = 6 AND account = 'carnet'", {"misposted": [6]}),
        ("posting", f"INSERT INTO posting ({COLUMNS}) SELECT {COLUMNS} FROM posting WHERE seq = 9", {"misposted": [9]}),
        ("posting", "UPDATE posting SET account = 'nonsense' WHERE seq = 5", {"misposted": [5]}),
    ],
)
def test_whoever_changes_the_file_is_found_out(table: str, statement: str, fault: dict[str, list[int]]) -> None:
    with busy_ledger() as ledger:
        tamper(ledger, table, statement)
        books = reconcile(ledger)
    device = books.devices[0].to_dict()
    named = {
        name: device[name] for name in ("missing", "duplicated", "chain_breaks", "unsigned", "altered", "misposted")
    }
    assert {name: found for name, found in named.items() if found} == fault
    assert not books.closed


def test_a_tap_that_was_deleted_is_missing() -> None:
    journal = GateJournal().fill(5)
    with recorded(journal, *range(1, 6)) as ledger:
        tamper(ledger, "tap", "DELETE FROM tap WHERE seq IN (2, 5)")
        books = reconcile(ledger)
    (device,) = books.devices
    assert device.chain.missing == [(2, 2), (5, 5)]
    assert (device.acknowledged, device.chain.contiguous) == (5, 1)
    assert not books.closed


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE posting SET amount = amount + 1 WHERE sale = 2 AND account = 'carnet'", ["sale 2"]),
        ("DELETE FROM posting WHERE sale = 1", []),
    ],
)
def test_a_sale_whose_postings_were_changed_is_found_out(statement: str, fault: list[str]) -> None:
    with busy_ledger() as ledger:
        tamper(ledger, "posting", statement)
        money = reconcile(ledger).money
    assert list(money.unbalanced) == fault
    assert list(money.misposted) == (fault or ["sale 1"])
    assert not money.closed


def test_a_balance_below_zero_is_named_and_the_books_still_close() -> None:
    journal = GateJournal()
    for product in (1, 1, 2, None):
        journal.append(a_tap(product=product, amount=100))
    with recorded(journal, 1, 2, 3, 4) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, purse(1, 150), 150, DAWN_MS))
        books = reconcile(ledger)
    found = {(one.product_id, one.unit, one.amount) for one in books.money.negative}
    assert found == {(1, "minor", -50), (2, "minor", -100), (None, "minor", -100)}
    assert books.closed
    assert (books.money.loaded, books.money.spent, books.money.left) == (150, 400, -250)


def test_several_devices_and_epochs_are_kept_apart() -> None:
    made = [GateJournal("gate-1", 5).fill(3), GateJournal("gate-1", 9).fill(2), GateJournal("gate-2", 5).fill(4)]
    with a_ledger(*made) as ledger:
        for journal in made:
            ledger.record_batch(journal.arrival(1, journal.head()), received_ms=DAWN_MS)
        books = reconcile(ledger)
    found: dict[Any, Any] = {(one.device, one.epoch): one.chain.missing for one in books.devices}
    assert found == {("gate-1", 5): [(2, 2)], ("gate-1", 9): [], ("gate-2", 5): [(2, 3)]}


def test_what_was_announced_and_never_came_is_missing() -> None:
    journal = GateJournal().fill(2)
    with a_ledger(journal) as ledger:
        ledger.record_batch(replace(journal.arrival(1, 2), head=10), received_ms=DAWN_MS)
        books: Books = reconcile(ledger)
    assert books.devices[0].chain.missing == [(3, 10)]
    assert books.to_dict()["missing"] == 8
