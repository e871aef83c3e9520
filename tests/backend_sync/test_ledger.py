import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from backend_sync import recording
from backend_sync.admission import Arrival, Refused, Rejection
from backend_sync.ledger import Ledger, LedgerError, LedgerUnavailable, Sale, SaleConflict
from backend_sync.recording import posting_rows, tap_row
from backend_sync.schema import (
    APPEND_ONLY,
    BATCH,
    CONFLICT,
    DUPLICATE,
    POSTING,
    REJECTED,
    REJECTED_COUNT,
    TAP,
    SchemaTooNew,
)
from backend_sync.wire import WireError
from tests.backend_sync.gate import CREDENTIAL, DAWN_MS, GateJournal, a_ledger, a_tap, carnet, key_of, month, purse
from validator.model import Tap

taps = st.builds(
    a_tap,
    number=st.integers(1, 10**6),
    granted=st.booleans(),
    product=st.none() | st.integers(1, 3),
    rides=st.integers(0, 2),
    amount=st.integers(0, 500),
)


def journals(tap_lists: list[list[Tap]]) -> list[GateJournal]:
    made = []
    for number, tap_list in enumerate(tap_lists):
        journal = GateJournal(f"gate-{number % 2}", epoch=number)
        for tap in tap_list:
            journal.append(tap)
        made.append(journal)
    return made


def deliveries(draw: st.DrawFn, made: list[GateJournal]) -> list[Arrival]:
    """Every entry at least once, in batches cut anyhow, in any order, some repeated."""
    parcels: list[tuple[int, list[int]]] = []
    for number, journal in enumerate(made):
        seqs = draw(st.permutations(range(1, journal.head() + 1)))
        while seqs:
            size = draw(st.integers(1, 7))
            parcels.append((number, list(seqs[:size])))
            seqs = seqs[size:]
    if parcels:
        parcels += draw(st.lists(st.sampled_from(parcels), max_size=5))
    return [made[number].arrival(*seqs) for number, seqs in draw(st.permutations(parcels))]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[GateJournal], list[Arrival]]:
    made = journals(draw(st.lists(st.lists(taps, max_size=12), min_size=1, max_size=3)))
    return made, deliveries(draw, made)


def sums(ledger: Ledger) -> dict[str, int]:
    with ledger.reading() as connection:
        return dict(
            connection.execute(select(POSTING.c.unit, func.sum(POSTING.c.amount)).group_by(POSTING.c.unit)).all()
        )


@settings(max_examples=60)
@given(worlds())
def test_the_ledger_is_the_journals_however_they_arrive(world: tuple[list[GateJournal], list[Arrival]]) -> None:
    made, arrivals = world
    with a_ledger(*made) as ledger:
        held: set[tuple[str, int, int]] = set()
        for arrival in arrivals:
            receipt = ledger.record_batch(arrival, received_ms=DAWN_MS)
            seqs = [signed.entry.seq for signed in arrival.entries]
            held |= {(arrival.device, arrival.epoch, seq) for seq in seqs}
            contiguous = next(n for n in range(10**6) if (arrival.device, arrival.epoch, n + 1) not in held)
            assert receipt.contiguous == contiguous
            assert receipt.recorded + receipt.duplicates == len(seqs)
            assert set(sums(ledger).values()) <= {0}
        with ledger.reading() as connection:
            found = connection.execute(select(TAP).order_by(TAP.c.device, TAP.c.epoch, TAP.c.seq)).mappings().all()
            moved = connection.execute(
                select(POSTING).order_by(POSTING.c.device, POSTING.c.epoch, POSTING.c.seq)
            ).mappings()
            got_postings = [dict(row) for row in moved]
            batches = connection.execute(select(func.count()).select_from(BATCH)).scalar_one()
            discarded = connection.execute(select(func.count()).select_from(DUPLICATE)).scalar_one()
    signed = [
        journal.signed(seq)
        for journal in sorted(made, key=lambda one: (one.device, one.epoch))
        for seq in range(1, journal.head() + 1)
    ]
    assert [{k: v for k, v in row.items() if k != "batch"} for row in found] == [tap_row(one) for one in signed]
    want = [row for one in signed for row in posting_rows(one)]
    keys = ("device", "epoch", "seq", "account", "product_id", "unit", "amount")
    assert sorted(str([row[k] for k in keys]) for row in got_postings) == sorted(
        str([row[k] for k in keys]) for row in want
    )
    assert batches == len(arrivals)
    assert discarded == sum(len(one.entries) for one in arrivals) - len(signed)


def test_batches_of_one_commit_are_recorded_together_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = GateJournal().fill(4)
    stranger = GateJournal("stranger").fill(1)
    with a_ledger(journal) as ledger:
        with pytest.raises(IntegrityError):
            ledger.record_batches([journal.arrival(1, 2), stranger.arrival(1)], received_ms=DAWN_MS)
        with ledger.reading() as connection:
            assert connection.execute(select(func.count()).select_from(TAP)).scalar_one() == 0
        receipts = ledger.record_batches([journal.arrival(1, 2), journal.arrival(2, 3)], received_ms=DAWN_MS)
    assert [(one.recorded, one.duplicates, one.contiguous) for one in receipts] == [(2, 0, 2), (1, 1, 3)]


def test_the_same_entry_twice_in_one_batch_is_recorded_once() -> None:
    journal = GateJournal().fill(1)
    with a_ledger(journal) as ledger:
        receipt = ledger.record_batch(journal.arrival(1, 1), received_ms=DAWN_MS)
    assert (receipt.recorded, receipt.duplicates) == (1, 1)


def test_another_entry_under_a_known_number_is_an_alarm_and_the_first_stays() -> None:
    journal, copy = GateJournal().fill(2), GateJournal()
    copy.append(a_tap(99))
    with a_ledger(journal) as ledger:
        ledger.record_batch(journal.arrival(1, 2), received_ms=DAWN_MS)
        for _ in range(2):
            receipt = ledger.record_batch(copy.arrival(1), received_ms=DAWN_MS)
            assert (receipt.recorded, receipt.duplicates, receipt.conflicts) == (0, 0, (1,))
        with ledger.reading() as connection:
            kept = connection.execute(select(TAP.c.envelope).where(TAP.c.seq == 1)).scalar_one()
            alarms = connection.execute(select(CONFLICT.c.seq, CONFLICT.c.envelope)).all()
    assert kept == journal.envelopes[0]
    assert alarms == [(1, copy.envelopes[0])]


@pytest.mark.parametrize("table", APPEND_ONLY, ids=lambda table: str(table.name))
@pytest.mark.parametrize(
    "statement", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "INSERT OR REPLACE INTO {0} SELECT * FROM {0}"]
)
def test_evidence_cannot_be_changed(table: object, statement: str) -> None:
    journal, copy = GateJournal(), GateJournal()
    journal.append(a_tap(product=5, rides=1))
    copy.append(a_tap(2))
    with a_ledger(journal) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, carnet(5, 10), 1000, DAWN_MS))
        for arrival in (journal.arrival(1), journal.arrival(1), copy.arrival(1)):
            ledger.record_batch(arrival, received_ms=DAWN_MS)
        assert hasattr(table, "name")
        assert hasattr(table, "columns")
        with pytest.raises(IntegrityError, match="append-only"), ledger._writing() as connection:
            connection.execute(text(statement.format(table.name, table.columns.keys()[0])))


def test_devices_are_registered_once_and_for_all() -> None:
    with Ledger.open("sqlite://") as ledger:
        ledger.register_device("gate-1", key_of("gate-1").public_key())
        ledger.register_device("gate-1", key_of("gate-1").public_key())
        with pytest.raises(LedgerError, match="another key"):
            ledger.register_device("gate-1", key_of("gate-2").public_key())
        with pytest.raises(WireError):
            ledger.register_device("gate/1", key_of("gate-1").public_key())
        assert ledger.device_key("gate-2") is None
        ledger.register_device("gate-2", key_of("gate-2").public_key())
        assert ledger.device_key("gate-2") == key_of("gate-2").public_key()
        assert list(ledger.devices()) == ["gate-1", "gate-2"]


def test_a_sale_is_recorded_once() -> None:
    sale = Sale(CREDENTIAL, purse(8, 2000), 1900, DAWN_MS)
    with a_ledger() as ledger:
        assert ledger.record_sale(sale)
        assert not ledger.record_sale(sale)
        with pytest.raises(SaleConflict, match="sale 8"):
            ledger.record_sale(replace(sale, price=1))
        with ledger.reading() as connection:
            rows = connection.execute(select(POSTING.c.account, POSTING.c.amount).where(POSTING.c.sale == 8)).all()
    assert dict(rows) == {"tender": -1900, "stored-value": 2000, "sales-revenue": -100}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Sale(b"short", carnet(1, 1), 1, 1),
        lambda: Sale(CREDENTIAL, carnet(-1, 1), 1, 1),
        lambda: Sale(CREDENTIAL, carnet(1, 1), -1, 1),
        lambda: Sale(CREDENTIAL, purse(1, 2**63), 1, 1),
    ],
)
def test_a_sale_that_no_ledger_can_keep_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"sale .*: "):
        wrong()


def states(ledger: Ledger) -> dict[int, tuple[int, int]]:
    return {product.product_id: (product.rides, product.balance) for _, product in ledger.product_states()}


def test_a_product_comes_back_as_it_was_sold() -> None:
    with a_ledger() as ledger:
        ledger.record_sale(Sale(CREDENTIAL, month(3), 3000, DAWN_MS))
        assert list(ledger.product_states()) == [(CREDENTIAL, month(3))]


def test_states_count_uses_up_to_the_horizon_and_no_further() -> None:
    journal = GateJournal()
    for _ in range(4):
        journal.append(a_tap(product=1, rides=1))
    with a_ledger(journal) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, carnet(1, 10), 1000, DAWN_MS))
        assert ledger.horizons() == {}
        ledger.record_batch(journal.arrival(1, 2, 4), received_ms=DAWN_MS)
        assert ledger.horizons() == {"gate-1": (7, 2)}
        assert states(ledger) == {1: (8, 0)}
        ledger.record_batch(journal.arrival(3), received_ms=DAWN_MS)
        assert ledger.horizons() == {"gate-1": (7, 4)}
        assert states(ledger) == {1: (6, 0)}


def test_of_an_epoch_that_is_over_every_use_counts() -> None:
    old, new = GateJournal(epoch=900), GateJournal(epoch=5)
    for journal in (old, new):
        for _ in range(3):
            journal.append(a_tap(product=1, amount=100))
    with a_ledger(old) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, purse(1, 1000), 1000, DAWN_MS))
        ledger.record_batch(old.arrival(1, 3), received_ms=DAWN_MS)
        assert (ledger.horizons(), states(ledger)) == ({"gate-1": (900, 1)}, {1: (0, 900)})
        ledger.record_batch(new.arrival(1), received_ms=DAWN_MS)
        assert (ledger.horizons(), states(ledger)) == ({"gate-1": (5, 1)}, {1: (0, 700)})
        ledger.record_batch(old.arrival(1, 3), received_ms=DAWN_MS)
        assert ledger.horizons() == {"gate-1": (5, 1)}, "a duplicate brings no epoch back"


def test_what_was_overspent_offline_is_stated_as_nothing_left() -> None:
    journal = GateJournal()
    for _ in range(3):
        journal.append(a_tap(product=1, rides=1))
    with a_ledger(journal) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, carnet(1, 2), 1000, DAWN_MS))
        ledger.record_batch(journal.arrival(1, 2, 3), received_ms=DAWN_MS)
        assert states(ledger) == {1: (0, 0)}


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[Path, Ledger]]:
    path = tmp_path / "ledger.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        yield path, ledger


def test_a_snapshot_does_not_see_what_comes_later(on_disk: tuple[Path, Ledger]) -> None:
    path, ledger = on_disk
    journal = GateJournal()
    for _ in range(2):
        journal.append(a_tap(product=1, rides=1))
    ledger.register_device(journal.device, journal.public_key)
    ledger.record_sale(Sale(CREDENTIAL, carnet(1, 10), 1000, DAWN_MS))
    ledger.record_batch(journal.arrival(1), received_ms=DAWN_MS)
    with Ledger.open(f"sqlite:///{path}") as publisher, publisher.snapshot() as snapshot:
        assert snapshot.horizons() == {"gate-1": (7, 1)}
        ledger.record_batch(journal.arrival(2), received_ms=DAWN_MS)
        assert [product.rides for _, product in snapshot.product_states()] == [9]
        assert snapshot.horizons() == {"gate-1": (7, 1)}
    assert states(ledger) == {1: (8, 0)}


def test_the_file_is_kept_for_power_cuts(on_disk: tuple[Path, Ledger]) -> None:
    _, ledger = on_disk
    with ledger.reading() as connection:
        for pragma, value in (
            ("journal_mode", "wal"),
            ("synchronous", 2),
            ("foreign_keys", 1),
            ("recursive_triggers", 1),
        ):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


def test_a_locked_ledger_is_unavailable_and_nothing_is_half_done(
    on_disk: tuple[Path, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ledger = on_disk
    journal = GateJournal().fill(2)
    ledger.register_device(journal.device, journal.public_key)
    monkeypatch.setattr("backend_sync.ledger.BUSY_TIMEOUT_S", 0.05)
    with Ledger.open(f"sqlite:///{path}") as impatient, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            impatient.record_batch(journal.arrival(1), received_ms=DAWN_MS)
        other.execute("ROLLBACK")
        assert impatient.record_batch(journal.arrival(1), received_ms=DAWN_MS).recorded == 1


def test_a_full_disk_is_unavailable_and_nothing_is_half_done(on_disk: tuple[Path, Ledger]) -> None:
    _, ledger = on_disk
    journal = GateJournal().fill(50)
    ledger.register_device(journal.device, journal.public_key)
    with ledger.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.record_batch(journal.arrival(*range(1, 51)), received_ms=DAWN_MS)
    with ledger.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
        assert connection.execute(select(func.count()).select_from(TAP)).scalar_one() == 0
    assert ledger.record_batch(journal.arrival(*range(1, 51)), received_ms=DAWN_MS).contiguous == 50


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(SchemaTooNew, match="99"):
        Ledger.open(f"sqlite:///{path}")


def test_another_engine_and_another_place_are_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="postgresql"):
        Ledger.open("postgresql://host/ledger")
    with pytest.raises(LedgerUnavailable, match="open"):
        Ledger.open(f"sqlite:///{tmp_path}/absent/ledger.db")


def test_refusals_are_counted_for_ever_and_named_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "REJECTED_KEPT", 5)
    with a_ledger() as ledger:
        for n in range(4):
            refusals = [
                Rejection(f"gate-{n}", Refused.SIGNATURE, 9, bytes(32)),
                Rejection("?", Refused.TOPIC, 1, bytes(32)),
            ]
            ledger.record_batches([], refusals, received_ms=DAWN_MS + n)
        with ledger.reading() as connection:
            named = connection.execute(select(REJECTED.c.source).order_by(REJECTED.c.id)).scalars().all()
            counts: dict[str, int] = dict(connection.execute(select(REJECTED_COUNT)).all())
    assert named == ["?", "gate-2", "?", "gate-3", "?"]
    assert counts == {"signature": 4, "topic": 4}
