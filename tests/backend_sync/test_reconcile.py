import io
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import text

from backend_sync import wire
from backend_sync.admission import Arrival, Refused, Rejection, admit
from backend_sync.books import show_books
from backend_sync.chain import Link, examine
from backend_sync.ledger import Ledger, Sale
from backend_sync.money import Unfounded
from backend_sync.reconcile import Books, DeviceBooks, reconcile
from tests.backend_sync.gate import CREDENTIAL, DAWN_MS, GateJournal, a_ledger, a_tap, carnet, month, purse
from tests.backend_sync.older_ledger import forget_settlements
from validator.entry import GENESIS
from validator.model import Label, Tap

COLUMNS = "device, epoch, seq, account, unit, amount"


def recorded(journal: GateJournal, *seqs: int) -> Ledger:
    ledger = a_ledger(journal)
    for start in range(0, len(seqs), 50):
        ledger.record_batch(journal.arrival(*seqs[start : start + 50]), received_ms=DAWN_MS)
    return ledger


def numbers_without(device: DeviceBooks) -> set[int]:
    """What is missing and what was only announced."""
    beyond = range(device.chain.highest + 1, device.chain.highest + device.chain.outstanding + 1)
    return numbers_of(device.chain.missing) | set(beyond)


def tamper(ledger: Ledger, table: str, statement: str) -> None:
    """As somebody does who owns the file: the triggers go first."""
    with ledger.writing() as connection:
        for verb in ("update", "delete", "replace"):
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
    tail = set(range(max(set(range(total + 1)) - removed) + 1, total + 1))
    assert numbers_of(chain.missing) == removed - tail
    assert (chain.missing_count, chain.outstanding) == (len(removed - tail), len(tail))
    assert all(one[1] + 1 < other[0] for one, other in pairwise(chain.missing))
    assert chain.contiguous == min(removed, default=total + 1) - 1
    assert (chain.taps, chain.announced) == (total - len(removed), total)
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
    assert numbers_without(device) == set(range(1, total + 1)) - set(arrived)
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
        "settled": 0,
        "rides_sold": 10,
        "rides_used": 3,
        "rides_left": 7,
        "rides_on_taps": 3,
        "paid": 5200,
        "revenue": 450 + 4200,
        "overspent": [],
        "unfounded": [],
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
        ledger.record_batch(journal.arrival(3), received_ms=DAWN_MS + 6)
        assert reconcile(ledger).closed, "a discarded duplicate is no fault"
        ledger.record_batch(copy.arrival(1), received_ms=DAWN_MS)
        ledger.record_batches([], [Rejection("x", Refused.TOPIC, 1, bytes(32))], received_ms=DAWN_MS)
        books = reconcile(ledger)
    said = books.to_dict()
    assert not books.closed
    assert (said["duplicates_discarded"], said["duplicated"], said["conflicts"]) == (3, 0, 1)
    assert said["rejected"] == {"topic": 1}
    device = said["devices"][0]
    assert device["conflicts"] == [1]
    assert device["duplicates_discarded"] == [
        {"seq": 2, "count": 1, "first_ms": DAWN_MS + 5, "last_ms": DAWN_MS + 5},
        {"seq": 3, "count": 2, "first_ms": DAWN_MS + 5, "last_ms": DAWN_MS + 6},
    ]


def test_taps_of_an_older_ledger_are_what_their_devices_signed(tmp_path: Path) -> None:
    """Entries that say nothing of journeys decode to what the new columns say by default."""
    url, journal = f"sqlite:///{tmp_path}/ledger.db", GateJournal().fill(3)
    with Ledger.open(url, create=True) as ledger:
        ledger.register_device(journal.device, journal.public_key)
        ledger.record_batch(journal.arrival(1, 2, 3), received_ms=DAWN_MS)
        with ledger.writing() as connection:
            forget_settlements(connection)
            for column in ("edition", "stop", "route", "riders", "label"):
                connection.exec_driver_sql(f"ALTER TABLE tap DROP COLUMN {column}")
            connection.exec_driver_sql("PRAGMA user_version=8")
    with Ledger.open(url) as ledger:
        books = reconcile(ledger)
        assert books.closed
        assert books.devices[0].chain.taps == 3


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
        ("tap", "UPDATE tap SET riders = 2 WHERE seq = 3", {"altered": [3]}),
        ("tap", "UPDATE tap SET stop = '7820', route = '5' WHERE seq = 3", {"altered": [3]}),
        ("tap", "UPDATE tap SET edition = 9, label = 2 WHERE seq = 8", {"altered": [8]}),
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
    assert (device.chain.missing, device.chain.outstanding) == ([(2, 2)], 1)
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


def test_what_is_overspent_is_a_debt_and_the_books_still_close() -> None:
    journal = GateJournal()
    for _ in range(2):
        journal.append(a_tap(product=1, amount=100))
        journal.append(a_tap(product=2, rides=1))
    with recorded(journal, 1, 2, 3, 4) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, purse(1, 150, fare=100), 150, DAWN_MS))
        ledger.record_sale(Sale(CREDENTIAL, carnet(2, 1), 150, DAWN_MS))
        books = reconcile(ledger)
    found = {(one.product_id, one.unit, one.amount) for one in books.money.overspent}
    assert found == {(1, "minor", -50), (2, "ride", -1)}
    assert books.closed
    assert (books.money.loaded, books.money.spent, books.money.left) == (150, 200, -50)


@pytest.mark.parametrize(
    ("tap", "why"),
    [
        (a_tap(product=777, amount=150), Unfounded.NO_SALE),
        (a_tap(product=777), Unfounded.NO_SALE),
        (a_tap(amount=1), Unfounded.NO_SALE),
        (a_tap(rides=1), Unfounded.NO_SALE),
        (replace(a_tap(product=2, rides=1), credential_id=bytes(16)), Unfounded.OTHER_CREDENTIAL),
        (replace(a_tap(product=3), credential_id=None), Unfounded.OTHER_CREDENTIAL),
        (a_tap(product=1, amount=149), Unfounded.OTHER_AMOUNT),
        (a_tap(product=1, amount=150, rides=1), Unfounded.OTHER_AMOUNT),
        (a_tap(product=2, rides=2), Unfounded.OTHER_AMOUNT),
        (a_tap(product=2), Unfounded.OTHER_AMOUNT),
        (a_tap(product=3, amount=1), Unfounded.OTHER_AMOUNT),
        (replace(a_tap(product=1, amount=150), recovers=1), Unfounded.OTHER_AMOUNT),
        (replace(a_tap(product=2, rides=1), label=Label.EXIT), Unfounded.OTHER_AMOUNT),
        (a_tap(product=1, amount=150), None),
        (a_tap(product=2, rides=1), None),
        (a_tap(product=3), None),
        (replace(a_tap(product=1), recovers=1), None),
        (replace(a_tap(product=2), recovers=1), None),
        (replace(a_tap(product=1), label=Label.EXIT), None),
        (replace(a_tap(product=2), label=Label.EXIT), None),
        (a_tap(), None),  # a guest's: nothing is taken here
        (replace(a_tap(), recovers=1), None),
        (a_tap(granted=False, product=777, amount=9), None),
        (a_tap(granted=False), None),
    ],
)
def test_what_no_sale_accounts_for_is_named(tap: Tap, why: Unfounded | None) -> None:
    journal = GateJournal()
    journal.append(a_tap(granted=False))
    journal.append(tap)
    with recorded(journal, 1, 2) as ledger:
        for product in (purse(1, 1000), carnet(2, 10), month(3)):
            ledger.record_sale(Sale(CREDENTIAL, product, 1000, DAWN_MS))
        books = reconcile(ledger)
    found = [(one.device, one.epoch, one.seq, one.product_id, one.why) for one in books.money.unfounded]
    assert found == ([] if why is None else [("gate-1", 7, 2, tap.product_id, why)])
    assert books.closed == (why is None)
    if why is Unfounded.NO_SALE:
        assert books.money.overspent == (), "nobody owes for what nobody sold"
    assert json.loads(json.dumps(books.to_dict())) == books.to_dict()


def test_several_devices_and_epochs_are_kept_apart() -> None:
    made = [GateJournal("gate-1", 5).fill(3), GateJournal("gate-1", 9).fill(2), GateJournal("gate-2", 5).fill(4)]
    with a_ledger(*made) as ledger:
        for journal in made:
            ledger.record_batch(journal.arrival(1, journal.head()), received_ms=DAWN_MS)
        books = reconcile(ledger)
    found: dict[Any, Any] = {(one.device, one.epoch): one.chain.missing for one in books.devices}
    assert found == {("gate-1", 5): [(2, 2)], ("gate-1", 9): [], ("gate-2", 5): [(2, 3)]}


def test_what_was_announced_and_never_came_is_outstanding() -> None:
    journal = GateJournal().fill(2)
    with a_ledger(journal) as ledger:
        ledger.record_batch(replace(journal.arrival(1, 2), head=10), received_ms=DAWN_MS)
        books: Books = reconcile(ledger)
    assert (books.devices[0].chain.missing, books.devices[0].chain.outstanding) == ([], 8)
    assert (books.to_dict()["missing"], books.to_dict()["outstanding"]) == (0, 8)
    assert not books.closed


def test_what_was_falsely_announced_is_mended_by_the_next_batch() -> None:
    journal = GateJournal().fill(3)
    with recorded(journal, 1, 2, 3) as ledger:
        ledger.record_batch(replace(journal.arrival(1), head=2**63 - 1), received_ms=DAWN_MS)
        assert not reconcile(ledger).closed
        ledger.record_batch(journal.arrival(3), received_ms=DAWN_MS)
        assert reconcile(ledger).closed


def test_of_a_batch_that_was_refused_whole_the_books_know_what_it_announced() -> None:
    journal = GateJournal().fill(5)
    damaged = [envelope[:-1] + bytes([envelope[-1] ^ 1]) for envelope in journal.envelopes[3:]]
    with recorded(journal, 1, 2, 3) as ledger:
        batch = wire.TapBatch(device="gate-1", epoch=7, head=5, entries=damaged)
        admission = admit(wire.tap_up("gate-1"), wire.encode(batch), ledger.device_key)
        assert admission.arrival is not None
        ledger.record_batches([admission.arrival], admission.rejections, received_ms=DAWN_MS)
        books = reconcile(ledger)
    assert books.devices[0].chain.outstanding == 2
    assert books.rejected == {"signature": 2}
    assert not books.closed


def test_a_journal_that_nobody_signed_counts_until_its_device_is_heard_again() -> None:
    journal = GateJournal().fill(2)
    with recorded(journal, 1, 2) as ledger:
        ledger.record_batch(Arrival("gate-1", 2**62, 9, ()), received_ms=DAWN_MS)
        books = reconcile(ledger)
        assert [(one.epoch, one.chain.outstanding) for one in books.devices] == [(7, 0), (2**62, 9)]
        assert not books.closed
        ledger.record_batch(journal.arrival(2), received_ms=DAWN_MS)
        assert reconcile(ledger).closed


def test_a_device_that_was_never_heard_is_listed() -> None:
    with a_ledger(GateJournal("gate-2"), GateJournal("gate-1")) as ledger:
        ledger.record_batch(GateJournal("gate-1").fill(1).arrival(1), received_ms=DAWN_MS)
        books = reconcile(ledger)
    assert books.to_dict()["silent"] == ["gate-2"]
    assert books.closed


@pytest.mark.parametrize("lost", [(), (3,)])
def test_whoever_deletes_positions_hides_nothing(lost: tuple[int, ...]) -> None:
    journal = GateJournal().fill(5)
    with recorded(journal, *(seq for seq in range(1, 6) if seq not in lost)) as ledger:
        with ledger.writing() as connection:
            connection.execute(text("DELETE FROM position"))
        books = reconcile(ledger)
        assert numbers_of(books.devices[0].chain.missing) == set(lost)
        assert not books.closed
        ledger.record_batch(journal.arrival(1, *lost), received_ms=DAWN_MS)
        assert reconcile(ledger).closed, "a position is computed again from the taps"


def test_whoever_deletes_a_whole_journal_leaves_what_it_announced() -> None:
    old, new = GateJournal(epoch=5).fill(3), GateJournal(epoch=9).fill(1)
    with recorded(old, 1, 2, 3) as ledger:
        ledger.record_batch(new.arrival(1), received_ms=DAWN_MS)
        tamper(ledger, "tap", "DELETE FROM tap WHERE epoch = 5")
        with ledger.writing() as connection:
            connection.execute(text("DELETE FROM position WHERE epoch = 5"))
        books = reconcile(ledger)
    assert [(one.epoch, one.chain.outstanding) for one in books.devices] == [(5, 3), (9, 0)]
    assert not books.closed


def test_taps_of_a_device_that_is_not_registered_any_more_are_believed_by_nobody(tmp_path: Path) -> None:
    url, journal = f"sqlite:///{tmp_path}/ledger.db", GateJournal().fill(2)
    with Ledger.open(url, create=True) as ledger:
        ledger.register_device(journal.device, journal.public_key)
        ledger.record_batch(journal.arrival(1, 2), received_ms=DAWN_MS)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as database:
        database.execute("DROP TRIGGER device_no_delete")
        database.execute("DELETE FROM device")
    with Ledger.open(url) as ledger:
        books = reconcile(ledger)
    assert books.devices[0].chain.unsigned == [1, 2]
    assert not books.closed


def test_people_read_the_same() -> None:
    journal = GateJournal()
    for tap in (a_tap(product=1, amount=150), a_tap(product=777, rides=1)):
        journal.append(tap)
    with a_ledger(journal, GateJournal("gate-2")) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, purse(1, 100), 100, DAWN_MS))
        ledger.record_batch(replace(journal.arrival(1, 2), head=4), received_ms=DAWN_MS)
        books = reconcile(ledger)
    console = Console(record=True, width=200, file=io.StringIO())
    show_books(books, console)
    told = console.export_text()
    for line in (
        "gate-1 epoch 7: announced and not here yet: 3-4",
        "gate-2: registered, and nothing heard",
        "product 1 is 50 minor in debt",
        "tap gate-1 7 2: takes from what nobody sold (product 777)",
        "The books are OPEN",
    ):
        assert line in told
