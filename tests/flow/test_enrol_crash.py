"""A real process that issues cards, killed at any moment: its files are those of one that nobody disturbed."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import select

from backend_sync.issuing_tables import BINDING, CREDENTIAL
from backend_sync.ledger import Ledger
from tests.backend_sync.card_bureau import records, write_accounts, write_keys, write_report
from tests.flow.supervised import python
from validator.certificates import token_id

PROGRAM = Path(__file__).with_name("enrol_process.py")
KILLS = 20 * (10 if os.environ.get("PILET_SOAK") == "1" else 1)
ACCOUNTS = 500
CHUNK = 50
POLL_S = 0.001
LONGEST_LIFE_S = {"anywhere": 0.8, "binding": 0.2, "writing": 0.03}
"""How long a process is left alone, after it is ready or has begun what it is killed in."""


def told_by(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    ready, told = done.stdout.split("\n", 1)
    assert ready == "ready"
    read: dict[str, int] = json.loads(told)
    return read


class Office:
    """A ledger and the operator's keys in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.options = write_keys(folder) | {"--out": folder / "out"}
        Ledger.open(self.url, create=True).close()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.db"

    def accounts(self, batch: str) -> list[str]:
        return [f"{batch}-{number}" for number in range(ACCOUNTS)]

    def command(self, batch: str) -> list[str]:
        accounts = write_accounts(self.folder / f"{batch}.csv", self.accounts(batch))
        options = [str(word) for option in self.options.items() for word in option]
        return python(PROGRAM, "batch", accounts, "--ledger", self.url, "--json", *options)

    def run(self, batch: str) -> dict[str, int]:
        done = subprocess.run(self.command(batch), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return told_by(done)

    def live_and_die(self, command: list[str], seconds: float, begun: Callable[[], bool] = lambda: True) -> bool:
        """Let it begin something and go on for that long; return whether it was killed then, and not at its end."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"ready\n", process.stderr.read().decode()
            while process.poll() is None and not begun():
                time.sleep(POLL_S)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            assert process.returncode == 0, process.stderr.read().decode()
            return False

    def count(self, query: str) -> int:
        """Look into the ledger while a process writes; nothing is copied back from its log by that."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/ledger.db?mode=ro", uri=True)) as ledger:
            return int(ledger.execute(query).fetchone()[0])

    def bound(self) -> int:
        return self.count("SELECT count(*) FROM binding")

    def answered(self) -> int:
        return self.count("SELECT count(*) FROM bureau_answer")

    def begun(self, phase: str, batch: str) -> Callable[[], bool]:
        if phase == "binding":
            before = self.bound()
            return lambda: self.bound() > before
        if phase == "writing":
            records = self.folder / "out" / f".{batch}.building" / "records-0001.csv.p7m"
            if records.exists():  # of the process that was killed before: the next one makes the folder anew
                old = records.stat().st_ino
                return lambda: self._is_another(records, old)
            return records.exists
        return lambda: True

    @staticmethod
    def _is_another(path: Path, inode: int) -> bool:
        try:
            return path.stat().st_ino != inode
        except FileNotFoundError:
            return True

    def phase(self, batch: str, before: int) -> str:
        """In what a process died, as it left things."""
        bound = self.bound() - before
        if 0 < bound < ACCOUNTS:
            return "binding"
        if bound == ACCOUNTS and (self.folder / "out" / f".{batch}.building").exists():
            return "writing"
        return "elsewhere"

    def ledger_rows(self) -> list[tuple[int, str, int, bytes]]:
        with Ledger.open(self.url) as ledger, ledger.reading() as connection:
            rows = connection.execute(
                select(BINDING.c.serial, BINDING.c.account, BINDING.c.state, CREDENTIAL.c.id)
                .join(CREDENTIAL, CREDENTIAL.c.serial == BINDING.c.serial)
                .order_by(BINDING.c.serial)
            )
            return [(row.serial, row.account, row.state, row.id) for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(120 + KILLS * 10)
def test_a_process_that_is_killed_at_random_issues_each_card_once(tmp_path: Path) -> None:
    rng, office, calm = Random(8), Office(tmp_path / "killed"), Office(tmp_path / "calm")
    phases, batches = Counter[str](), list[str]()
    while phases.total() < KILLS:
        before, died = len(batches) * ACCOUNTS, True
        batches.append(f"batch-{len(batches)}")
        command = office.command(batches[-1])
        while died and phases.total() < KILLS:
            aim = rng.choice(sorted(LONGEST_LIFE_S))
            died = office.live_and_die(command, rng.uniform(0, LONGEST_LIFE_S[aim]), office.begun(aim, batches[-1]))
            if died:
                phases[office.phase(batches[-1], before)] += 1
        office.run(batches[-1])
    assert phases["binding"] > 0, phases
    assert phases["writing"] > 0, phases
    calm.run(batches[0])
    undisturbed, read = records(calm.folder / "out" / batches[0], tmp_path), list[dict[str, str]]()
    for batch in batches:
        mine = records(office.folder / "out" / batch, tmp_path)
        if batch == batches[0]:
            assert [row | {"token": ""} for row in mine] == [row | {"token": ""} for row in undisturbed]
        assert [row["reference"] for row in mine] == [f"parcel-{account}" for account in office.accounts(batch)]
        read += mine
    assert [int(row["serial"]) for row in read] == list(range(1, len(batches) * ACCOUNTS + 1))
    assert Counter(row["token"] for row in read).most_common(1)[0][1] == 1
    accounts = [account for batch in batches for account in office.accounts(batch)]
    ids = [token_id("ntag424", bytes.fromhex(row["token"])) for row in read]
    expected = [(serial, account, 1, ids[serial - 1]) for serial, account in enumerate(accounts, 1)]
    assert office.ledger_rows() == expected
    assert {path.name for path in (office.folder / "out").iterdir()} == set(batches)


@pytest.mark.slow
def test_a_report_that_is_killed_at_random_is_recorded_once(tmp_path: Path) -> None:
    rng, office = Random(8), Office(tmp_path / "office")
    office.run("batch")
    results = [(serial, "failed" if serial % 10 == 0 else "ok") for serial in range(1, ACCOUNTS + 1)]
    report = write_report(tmp_path / "report.csv", results)
    command = python(PROGRAM, "bureau-report", report, "--batch", "batch", "--ledger", office.url, "--json")
    recorded = list[int]()
    for chunk in range(3):
        live = chunk * CHUNK
        if office.live_and_die(command, rng.uniform(0, 0.05), lambda live=live: office.answered() > live):  # type: ignore[misc]
            recorded.append(office.answered())
    assert any(0 < count < ACCOUNTS for count in recorded), recorded
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    told = told_by(done)
    assert told["live"] + told["failed"] + told["known"] == ACCOUNTS
    states = {serial: state for serial, _, state, _ in office.ledger_rows()}
    assert states == {serial: 3 if result == "failed" else 2 for serial, result in results}
    again = told_by(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60))
    assert again == {"live": 0, "failed": 0, "known": ACCOUNTS, "ended_before": 0}


def test_a_terminal_is_shown_how_far_it_is_and_a_log_is_not(tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(
            office.command("seen"), stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": "xterm"}
        ) as process:
            os.close(theirs)
            shown = b"".join(iter(lambda: read_terminal(ours), b""))
        assert process.returncode == 0
    finally:
        os.close(ours)
    assert all(what in shown for what in (b"accounts bound", b"records written", b"500/500"))
    done = subprocess.run(office.command("unseen"), capture_output=True, check=True, timeout=60)
    assert done.stderr == b""


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_two_that_are_started_at_once_issue_one_batch(tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    command = office.command("batch")
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    ends = sorted((one.wait(60), (one.stderr.read() if one.stderr else b"").decode()) for one in started)
    for one in started:
        assert one.stderr is not None
        one.stderr.close()
    assert ends[0][0] == 0
    assert ends[1][0] in {0, os.EX_TEMPFAIL}, ends[1][1]
    assert len(office.ledger_rows()) == ACCOUNTS
    assert len(records(office.folder / "out" / "batch", tmp_path)) == ACCOUNTS
