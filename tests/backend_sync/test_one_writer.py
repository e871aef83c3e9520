"""The lock beside a SQLite ledger: one writer at a time, in this process or another; gone with whoever held it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend_sync import ledger as ledger_room
from backend_sync.ledger import Ledger, LedgerUnavailable, Sale
from backend_sync.one_writer import StillWriting, one_writer
from tests.backend_sync.gate import CREDENTIAL, DAWN_MS, GateJournal, carnet

HOLD = "import sys; from pathlib import Path; from backend_sync.one_writer import one_writer\n"
HOLD += "with one_writer(Path(sys.argv[1]), 5): print('held', flush=True); sys.stdin.read()"
ROOT = Path(__file__).parents[2]


def test_a_second_writer_waits_and_then_gives_up(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with one_writer(lock, 1), pytest.raises(StillWriting), one_writer(lock, 0.05):
        pass
    with one_writer(lock, 0):
        pass


def test_the_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StillWriting), one_writer(lock, 0.05):
            pass
        holder.kill()
        holder.wait()
    with one_writer(lock, 1):
        pass


def test_threads_that_count_under_it_lose_nothing(tmp_path: Path) -> None:
    lock, count = tmp_path / "lock", tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(20):
            with one_writer(lock, 30):
                count.write_text(str(int(count.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "80"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger_room, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger.db"
    Ledger.open(f"sqlite:///{path}", create=True).close()
    return path


SALE = Sale(CREDENTIAL, carnet(1, 10), 1000, DAWN_MS)


def test_a_ledger_that_somebody_else_writes_is_unavailable_and_not_broken(path: Path) -> None:
    with Ledger.open(f"sqlite:///{path}") as ledger:
        with one_writer(path.with_name("ledger.db.lock"), 1):
            with pytest.raises(LedgerUnavailable):
                ledger.record_sale(SALE)
            assert ledger.tap_count() == 0, "reading needs no lock"
        assert ledger.record_sale(SALE)


def test_a_ledger_that_needs_no_migration_is_opened_while_somebody_else_writes(path: Path) -> None:
    with one_writer(path.with_name("ledger.db.lock"), 1), Ledger.open(f"sqlite:///{path}") as ledger:
        assert ledger.tap_count() == 0


def test_whoever_cannot_have_the_lock_leaves_the_log_as_it_is(path: Path) -> None:
    ledger, log = Ledger.open(f"sqlite:///{path}"), path.with_name("ledger.db-wal")
    ledger.record_sale(SALE)
    before, written = path.read_bytes(), log.read_bytes()
    with one_writer(path.with_name("ledger.db.lock"), 1):
        ledger.close()
        assert (path.read_bytes(), log.read_bytes()) == (before, written)
    with Ledger.open(f"sqlite:///{path}") as again:
        assert not again.record_sale(SALE), "it is in the log"
    assert not log.exists(), "with the lock, the last to close copies it back"


def test_a_ledger_by_another_name_has_the_same_lock(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with (
        one_writer(path.with_name("ledger.db.lock"), 1),
        Ledger.open(f"sqlite:///{link}") as ledger,
        pytest.raises(LedgerUnavailable),
    ):
        ledger.record_sale(SALE)
    assert not path.with_name("link.db.lock").exists()


def test_many_sales_leave_room_for_ingest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_room, "BUSY_TIMEOUT_S", 30)
    monkeypatch.setattr("backend_sync.sales.CHUNK", 10)
    journal = GateJournal().fill(1)
    sales = [Sale(CREDENTIAL, carnet(number, 10), 1000, DAWN_MS) for number in range(1, 501)]
    with Ledger.open(f"sqlite:///{path}") as ledger:
        ledger.register_device(journal.device, journal.public_key)
        sold: list[int] = []
        seller = threading.Thread(target=lambda: sold.append(ledger.record_sales(sales)))
        seller.start()
        while seller.is_alive() and not next(ledger.product_states(), None):
            pass
        ledger.record_batch(journal.arrival(1), received_ms=DAWN_MS)
        early = sum(1 for _ in ledger.product_states())
        seller.join()
    assert sold == [500]
    assert early < 500, "ingest had its turn before the last sale"
