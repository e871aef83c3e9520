"""Real processes, killed at any moment: what the journal has, the ledger has, once."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from backend_sync import wire
from backend_sync.ledger import Ledger, Sale
from backend_sync.mqtt import Broker, connect
from backend_sync.reconcile import reconcile
from backend_sync.schema import TAP
from backend_sync.wire import TapBatch
from tests.backend_sync.brokers import free_port, listening, mosquitto_command
from tests.backend_sync.gate import CREDENTIAL, DAWN_MS, GateJournal, key_of, purse
from tests.flow.backend_process import CRASHES, DEVICE
from tests.flow.supervised import Supervisor, python
from validator.cursor import CursorFile
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader

PROGRAM = Path(__file__).with_name("backend_process.py")
ROUNDS = 20 * (20 if os.environ.get("PILET_SOAK") == "1" else 1)
LONGEST_PAUSE_S = 1.5


class Site:
    """A gate and a back office in one folder, their processes under a supervisor."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes = Supervisor(folder, seed)
        self.ledger_url = f"sqlite:///{folder}/ledger.db"
        with Ledger.open(self.ledger_url, create=True) as ledger:
            ledger.register_device(DEVICE, key_of(DEVICE).public_key())
            ledger.record_sale(Sale(CREDENTIAL, purse(1, 10**9), 10**9, DAWN_MS))

    def start_broker(self) -> None:
        self.processes.add("mosquitto", mosquitto_command(self.folder, self.port))

    def start(self, role: str, *arguments: str) -> None:
        self.processes.add(role, python(PROGRAM, role, self.folder, self.port, *arguments))

    def journal(self) -> tuple[int, list[bytes]]:
        reader = JournalReader(self.folder / "journal.db")
        try:
            return reader.epoch, [envelope for _, envelope in reader.entries_after(0, 10**9)]
        finally:
            reader.close()

    def head(self) -> int:
        try:
            reader = JournalReader(self.folder / "journal.db")
        except JournalError:
            return 0
        try:
            return reader.head()
        finally:
            reader.close()

    def acknowledged(self) -> int:
        return CursorFile(self.folder / "cursor", DEVICE).load(self.journal()[0])

    def assert_whole(self) -> None:
        epoch, journal = self.journal()
        with Ledger.open(self.ledger_url) as ledger:
            with ledger.reading() as connection:
                found = connection.execute(select(TAP.c.epoch, TAP.c.envelope).order_by(TAP.c.seq)).all()
            books = reconcile(ledger)
        assert {row.epoch for row in found} == {epoch}
        assert [row.envelope for row in found] == journal
        said = books.to_dict()
        counts = {
            name: said[name] for name in ("taps", "missing", "duplicated", "chain_breaks", "conflicts", "rejected")
        }
        assert counts == {
            "taps": len(journal),
            "missing": 0,
            "duplicated": 0,
            "chain_breaks": 0,
            "conflicts": 0,
            "rejected": {},
        }
        assert books.closed


def until(true: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, seed=20)
    with made.processes:
        yield made


def logs(site: Site) -> str:
    return "\n".join(f"{one.name}: {one.last_words()}" for one in site.processes.processes.values())


@pytest.mark.parametrize("line", CRASHES)
def test_ingest_that_dies_at_a_certain_line_loses_and_doubles_nothing(site: Site, line: str) -> None:
    site.start_broker()
    site.start("writer")
    site.start("uplink")
    site.start("ingest", line)
    dying = site.processes.processes["ingest"]
    assert dying.wait(20) == -signal.SIGKILL, dying.last_words()
    until(lambda: site.head() >= 100, 20, lambda: logs(site))
    site.start("ingest")
    site.processes.processes["writer"].stop()
    until(lambda: site.acknowledged() == site.head(), 30, lambda: logs(site))
    site.processes.processes["ingest"].stop()
    site.assert_whole()


async def test_the_broker_keeps_what_ingest_had_not_committed(site: Site) -> None:
    journal = GateJournal(DEVICE).fill(10)
    batch = wire.encode(TapBatch(device=DEVICE, epoch=journal.epoch, head=10, entries=journal.envelopes))
    site.start_broker()
    await listening(site.port)
    site.start("ingest", "before-the-commit")
    dying = site.processes.processes["ingest"]
    async with connect(Broker("127.0.0.1", site.port), DEVICE, clean_session=True) as link:
        while dying.running:
            await link.publish(wire.tap_up(DEVICE), batch)
            await asyncio.sleep(0.1)
    site.start("ingest")
    with Ledger.open(site.ledger_url) as ledger:
        async with asyncio.timeout(20):
            while ledger.horizons() != {DEVICE: (journal.epoch, 10)}:  # noqa: ASYNC110 - another process fills it
                await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(60 + ROUNDS * 10)
def test_processes_that_are_killed_at_random_end_with_journal_equal_ledger(site: Site) -> None:
    site.start_broker()
    for role in ("writer", "uplink", "ingest"):
        site.start(role)
    until(lambda: site.head() > 0, 20, lambda: logs(site))
    killed = [site.processes.kill_one("mosquitto", "writer", "uplink", "ingest") for _ in rounds(site)]
    site.processes.processes["writer"].stop()
    until(lambda: site.acknowledged() == site.head(), 60, lambda: logs(site))
    for role in ("uplink", "ingest"):
        site.processes.processes[role].stop()
    assert set(killed) == {"mosquitto", "writer", "uplink", "ingest"}
    site.assert_whole()


def rounds(site: Site) -> Iterator[int]:
    for number in range(ROUNDS):
        time.sleep(site.processes.pause(LONGEST_PAUSE_S))
        yield number
