import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Table, func, select, text
from sqlalchemy.exc import IntegrityError

from backend_sync import recording
from backend_sync.admission import Arrival, Refused, Rejection
from backend_sync.ledger import Ledger, LedgerError, LedgerMissing, LedgerUnavailable, Sale, SaleConflict
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
from validator.lists.ticket_store import TicketStore, write_ticket_store
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
            discarded = connection.execute(select(func.coalesce(func.sum(DUPLICATE.c.count), 0))).scalar_one()
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
    assert batches <= len(arrivals)
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


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """One row of each kind, as a plain connection sees it: none of the ledger's own settings."""
    path = tmp_path / "ledger.db"
    journal, copy = GateJournal(), GateJournal()
    journal.append(a_tap(product=5, rides=1))
    copy.append(a_tap(2))
    with Ledger.open(f"sqlite:///{path}", create=True) as ledger:
        ledger.register_device(journal.device, journal.public_key)
        ledger.record_sale(Sale(CREDENTIAL, carnet(5, 10), 1000, DAWN_MS))
        for arrival in (journal.arrival(1), journal.arrival(1), copy.arrival(1)):
            ledger.record_batch(arrival, received_ms=DAWN_MS)
    with closing(sqlite3.connect(path)) as connection:
        yield connection


@pytest.mark.parametrize("table", [*APPEND_ONLY, DUPLICATE], ids=lambda table: str(table.name))
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {0} SET {1} = {1}",
        "UPDATE OR REPLACE {0} SET {1} = {1}",
        "DELETE FROM {0}",
        "INSERT OR REPLACE INTO {0} SELECT * FROM {0}",
        "REPLACE INTO {0} (rowid, {2}) SELECT rowid, {3} FROM {0}",
        "INSERT INTO {0} SELECT * FROM {0} WHERE TRUE ON CONFLICT DO UPDATE SET {1} = {1}",
    ],
)
def test_evidence_cannot_be_changed_from_any_connection(
    evidence: sqlite3.Connection, table: Table, statement: str
) -> None:
    names = list(table.columns.keys())
    before = evidence.execute(f"SELECT rowid, * FROM {table.name}").fetchall()
    assert before
    # Under another key, but in the place of a row that is there.
    others = [f"{name} + 1" if name in {"id", "seq"} else name for name in names]
    if table.name == "device":
        others[0] = "id || 'x'"
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        evidence.execute(statement.format(table.name, names[0], ", ".join(names), ", ".join(others)))
    assert evidence.execute(f"SELECT rowid, * FROM {table.name}").fetchall() == before


def test_of_a_duplicate_only_the_count_may_grow(evidence: sqlite3.Connection) -> None:
    evidence.execute("UPDATE duplicate SET count = count + 1, last_ms = last_ms + 1")
    for change in ("count = count - 1", "count = count + 1, first_ms = 0", "count = count + 1, seq = 2"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            evidence.execute(f"UPDATE duplicate SET {change}")


def test_what_is_sent_again_for_ever_takes_no_room() -> None:
    journal, copy = GateJournal().fill(3), GateJournal()
    copy.append(a_tap(99))
    with a_ledger(journal) as ledger:
        ledger.record_batch(journal.arrival(1, 3), received_ms=DAWN_MS)
        for n in range(5):
            ledger.record_batch(journal.arrival(3, 3), received_ms=DAWN_MS + n)
            ledger.record_batch(replace(copy.arrival(1), head=3), received_ms=DAWN_MS + n)
            ledger.record_batch(Arrival("gate-1", 7, 3, ()), received_ms=DAWN_MS + n)
        with ledger.reading() as connection:
            duplicates = connection.execute(select(DUPLICATE)).all()
            batches = connection.execute(select(BATCH.c.head, BATCH.c.admitted)).all()
    assert duplicates == [("gate-1", 7, 3, 10, DAWN_MS, DAWN_MS + 4)]
    assert batches == [(3, 2), (3, 1)], "the first, and the one with the contradiction"


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
        lambda: Sale(CREDENTIAL, carnet(1, 1), 2**31, 1),
        lambda: Sale(CREDENTIAL, carnet(1, 1), 1, 2**63),
        lambda: Sale(CREDENTIAL, carnet(1, 2**31), 1, 1),
        lambda: Sale(CREDENTIAL, purse(1, 2**31), 1, 1),
        lambda: Sale(CREDENTIAL, purse(1, 1, fare=2**31), 1, 1),
        lambda: Sale(CREDENTIAL, replace(month(1), places=frozenset({"a\nb"})), 1, 1),
        lambda: Sale(CREDENTIAL, replace(month(1), places=frozenset({""})), 1, 1),
    ],
)
def test_a_sale_that_no_ledger_can_keep_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"sale .*: "):
        wrong()


def test_whatever_may_be_sold_can_be_published(tmp_path: Path) -> None:
    most = 2**31 - 1
    sold = [
        replace(month(1), places=frozenset({"Tõnismäe", "Platform #3"})),
        carnet(2, most),
        purse(3, most, fare=most),
        replace(month(2**63 - 1), valid_until=2**63 - 1, pass_back_s=most),
    ]
    with a_ledger() as ledger:
        assert ledger.record_sales(Sale(CREDENTIAL, product, most, DAWN_MS) for product in sold) == 4
        with ledger.snapshot() as tickets:
            assert write_ticket_store(tmp_path / "tickets", tickets.product_states()) == 4
    with closing(TicketStore(tmp_path / "tickets")) as published:
        assert published.products(CREDENTIAL) == sold


def test_many_sales_are_recorded_once_and_not_at_all_where_one_contradicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend_sync.sales.CHUNK", 3)
    sold = [Sale(CREDENTIAL, carnet(number, 10), 1000, DAWN_MS) for number in range(1, 11)]
    with a_ledger() as ledger:
        assert ledger.record_sales(sold[4:6]) == 2
        for wrong in (replace(sold[5], price=1), replace(sold[9], price=1)):
            with pytest.raises(SaleConflict, match=f"sale {wrong.product.product_id} "):
                ledger.record_sales([*sold, wrong])
        assert sorted(states(ledger)) == [5, 6]
        assert ledger.record_sales([*sold, sold[0]]) == 8
        assert ledger.record_sales(sold) == 0
        assert sorted(states(ledger)) == list(range(1, 11))


def test_a_sum_that_overflows_is_no_reason_to_try_again() -> None:
    with a_ledger() as ledger, pytest.raises(LedgerError, match="integer overflow"), ledger.reading() as connection:
        connection.execute(text(f"SELECT sum(n) FROM (SELECT {2**62} AS n UNION ALL SELECT {2**62})"))


def test_an_error_does_not_print_who_travelled() -> None:
    stranger = GateJournal("stranger").fill(1)
    with a_ledger() as ledger, pytest.raises(IntegrityError) as error:
        ledger.record_batch(stranger.arrival(1), received_ms=DAWN_MS)
    assert repr(CREDENTIAL)[2:-1] not in str(error.value)
    assert "stranger" not in str(error.value)


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
    old, new = GateJournal(epoch=5), GateJournal(epoch=900)
    for journal in (old, new):
        for _ in range(3):
            journal.append(a_tap(product=1, amount=100))
    with a_ledger(old) as ledger:
        ledger.record_sale(Sale(CREDENTIAL, purse(1, 1000), 1000, DAWN_MS))
        ledger.record_batch(old.arrival(1, 3), received_ms=DAWN_MS)
        assert (ledger.horizons(), states(ledger)) == ({"gate-1": (5, 1)}, {1: (0, 900)})
        ledger.record_batch(new.arrival(1, 3), received_ms=DAWN_MS)
        assert (ledger.horizons(), states(ledger)) == ({"gate-1": (900, 1)}, {1: (0, 700)})
        ledger.record_batch(old.arrival(2), received_ms=DAWN_MS)
        assert ledger.horizons() == {"gate-1": (900, 1)}, "a straggler brings no epoch back"
        assert states(ledger) == {1: (0, 600)}


def test_an_epoch_that_nobody_signed_is_no_horizon() -> None:
    journal = GateJournal().fill(2)
    with a_ledger(journal) as ledger:
        ledger.record_batch(journal.arrival(1, 2), received_ms=DAWN_MS)
        receipt = ledger.record_batch(Arrival("gate-1", 2**62, 9, ()), received_ms=DAWN_MS)
        assert (receipt.contiguous, receipt.recorded) == (0, 0)
        assert ledger.horizons() == {"gate-1": (7, 2)}


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
    with Ledger.open(f"sqlite:///{path}", create=True) as ledger:
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
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
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
    Ledger.open(f"sqlite:///{path}", create=True).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(SchemaTooNew, match="99"):
        Ledger.open(f"sqlite:///{path}")


def test_another_engine_is_refused_clearly() -> None:
    with pytest.raises(LedgerError, match="postgresql"):
        Ledger.open("postgresql://host/ledger")


def test_only_who_records_something_begins_a_ledger(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(LedgerMissing, match=r"ledger\.db: there is no ledger"):
        Ledger.open(url)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LedgerMissing, match="folder is not there"):
        Ledger.open(f"sqlite:///{tmp_path}/absent/ledger.db", create=True)
    with Ledger.open(url, create=True) as ledger:
        assert ledger.begun
    for create in (False, True):
        with Ledger.open(url, create=create) as ledger:
            assert not ledger.begun


def test_an_empty_file_is_no_ledger_until_something_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger.open(f"sqlite:///{path}")
    with Ledger.open(f"sqlite:///{path}", create=True) as ledger:
        assert ledger.begun


@pytest.mark.parametrize("create", [False, True])
def test_what_is_no_ledger_is_left_alone(tmp_path: Path, *, create: bool) -> None:
    key, foreign = tmp_path / "device.pem", tmp_path / "foreign.db"
    key.write_text("-----BEGIN PRIVATE KEY-----")
    with closing(sqlite3.connect(foreign)) as database:
        database.executescript("CREATE TABLE entry (seq); PRAGMA user_version=1")
    for path in (key, foreign):
        with pytest.raises(LedgerError, match=f"{path}: this is"):
            Ledger.open(f"sqlite:///{path}", create=create)
    assert key.read_text() == "-----BEGIN PRIVATE KEY-----"
    assert not (tmp_path / "device.pem.lock").exists()
    with closing(sqlite3.connect(foreign)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("entry",)]


def test_a_damaged_ledger_is_told_and_not_waited_for(on_disk: tuple[Path, Ledger], tmp_path: Path) -> None:
    path, ledger = on_disk
    ledger.close()
    content = bytearray(path.read_bytes())
    content[100:4096] = bytes(3996)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(content)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(f"sqlite:///{damaged}")


def test_the_envelopes_of_a_device_come_as_they_were_signed() -> None:
    journal, other = GateJournal().fill(3), GateJournal("gate-2").fill(1)
    with a_ledger(journal, other) as ledger:
        for arrival in (journal.arrival(3, 1), journal.arrival(2), other.arrival(1)):
            ledger.record_batch(arrival, received_ms=DAWN_MS)
        kept = [(7, seq, envelope) for seq, envelope in enumerate(journal.envelopes, 1)]
        assert list(ledger.tap_envelopes("gate-1")) == kept


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
