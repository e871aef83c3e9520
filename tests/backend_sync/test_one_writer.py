"""The lock beside a SQLite ledger: one writer at a time, in this process or another; gone with whoever held it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend_sync import ledger as ledger_room
from backend_sync.ledger import Ledger, LedgerUnavailable
from backend_sync.one_writer import StillWriting, one_writer

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


def test_a_ledger_that_somebody_else_writes_is_unavailable_and_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_room, "BUSY_TIMEOUT_S", 0.05)
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger.open(url) as ledger:
        with one_writer(tmp_path / "ledger.db.lock", 1):
            with pytest.raises(LedgerUnavailable):
                ledger.record_sales([])
            assert ledger.tap_count() == 0, "reading needs no lock"
        assert ledger.record_sales([]) == 0
