"""The demo: the same seed gives the same reasons, the ledger equals the journal, and the books close."""

import datetime as dt
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from backend_sync import __main__ as command_line
from backend_sync.broker import EmbeddedBroker
from backend_sync.demo import show
from backend_sync.demo.city import GATES, TRAVELLERS
from backend_sync.demo.city import TAPS as CITY_TAPS
from backend_sync.demo.depot import DEVICE, Depot
from backend_sync.demo.issuer import Issuer
from backend_sync.demo.population import Crowd, CrowdMaker, Persona
from backend_sync.demo.processes import choose_broker
from backend_sync.demo.show import close_books, run_demo
from backend_sync.ledger import Ledger
from tests.backend_sync.brokers import free_port, mosquitto_program
from tests.backend_sync.gate import CREDENTIAL, GateJournal, a_tap
from validator import config as gate_file
from validator.journal import Journal

ROOT = Path(__file__).parents[2]
TAPS = 48
EMBEDDED_TAPS = 8


def crowd(seed: int, taps: int) -> Crowd:
    now = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    ours, theirs = Issuer.create("ours", now), Issuer.create("theirs", now)
    return CrowdMaker(ours, theirs, "here", now, random.Random(seed)).make(taps)


@pytest.mark.parametrize("taps", [1, 5, 28, 29, 40])
def test_a_crowd_makes_exactly_the_taps_asked_for(taps: int) -> None:
    assert sum(crowd(3, taps).reasons().values()) == taps


def test_everybody_comes_once_if_there_is_room() -> None:
    assert {visit.persona for visit in crowd(5, 40).visits} == set(Persona)


def test_the_seed_decides_who_comes() -> None:
    first, second, other = crowd(7, 40), crowd(7, 40), crowd(8, 40)
    assert [visit.persona for visit in first.visits] == [visit.persona for visit in second.visits]
    assert [visit.persona for visit in first.visits] != [visit.persona for visit in other.visits]


async def a_day(taps: int) -> dict[str, Any]:
    return await run_demo(taps, 7, Console(file=io.StringIO()), timed=False)


def everybody(seed: int, taps: int) -> dict[str, int]:
    """Return how taps should end: the crowd's, and the city's."""
    city = Counter(reason.name for each in TRAVELLERS for _, reason in each.taps)
    return dict(sorted((city + Counter(crowd(seed, taps).reasons())).items()))


def whole(figures: dict[str, Any], taps: int) -> None:
    taps += CITY_TAPS
    assert figures["taps"] == figures["journal_entries"] == figures["ledger_entries"] == taps
    assert figures["granted"] + figures["denied"] == taps
    assert (figures["missing"], figures["duplicated"], figures["chain_breaks"]) == (0, 0, 0)
    assert figures["ledger_equals_journal"] is True
    assert figures["books_closed"] is True
    assert figures["stored_value"]["loaded"] == figures["stored_value"]["spent"] + figures["stored_value"]["left"]
    assert figures["city"] == {
        "charged": 250 + 125 + 750 + 750,
        "given_back": 120,  # the second bus within an hour is free
        "rides_without_end": 1,
        "at_maximum_fare": 250,
        "given_back_when_completed": 150,  # the day is at its cap of 6.00
        "goodwill": 50,
        "posted_by_one_more_run": 0,
        "pending": 0,
    }


@pytest.mark.slow
async def test_the_same_seed_gives_the_same_reasons_and_closed_books() -> None:
    mosquitto_program()
    runs = [await a_day(TAPS) for _ in range(2)]
    assert runs[0]["reasons"] == runs[1]["reasons"] == everybody(7, TAPS)
    for figures in runs:
        whole(figures, TAPS)


@pytest.mark.slow
async def test_a_machine_without_mosquitto_lives_the_same_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(show, "choose_broker", lambda _folder: ("embedded broker", EmbeddedBroker(free_port())))
    figures = await a_day(EMBEDDED_TAPS)
    assert figures["reasons"] == everybody(7, EMBEDDED_TAPS)
    whole(figures, EMBEDDED_TAPS)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert isinstance(choose_broker(tmp_path)[1], EmbeddedBroker)


@pytest.mark.parametrize("altered", [False, True])
async def test_the_ledger_is_compared_with_the_journal_entry_by_entry(tmp_path: Path, *, altered: bool) -> None:
    depot = Depot.create(tmp_path, air="udp:127.0.0.1:54321", port=1883)
    config = gate_file.load(depot.gate_toml)
    journal = await Journal.open(config.journal, DEVICE, config.device_private_key())
    for number in (1, 2):
        await journal.settle(CREDENTIAL, lambda _, number=number: a_tap(number))  # type: ignore[misc]
    epoch = journal.epoch
    await journal.close()
    other = GateJournal(DEVICE, epoch)
    other.key = config.device_private_key()
    for number in (1, 3 if altered else 2):
        other.append(a_tap(number))
    with Ledger.open(depot.ledger_url, create=True) as ledger:
        ledger.register_device(DEVICE, other.public_key)
        ledger.record_batch(other.arrival(1, 2), received_ms=0)
    found = close_books(depot)
    assert (found.journal_entries, found.books.to_dict()["taps"], found.books.closed) == (2, 2, True)
    assert found.equal is not altered


@pytest.mark.parametrize(
    ("closed", "equal", "code"), [(True, True, os.EX_OK), (False, True, os.EX_SOFTWARE), (True, False, os.EX_SOFTWARE)]
)
def test_the_demo_fails_unless_its_ledger_is_its_journal_and_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, closed: bool, equal: bool, code: int
) -> None:
    async def done(*_: object, **__: object) -> dict[str, bool]:
        return {"books_closed": closed, "ledger_equals_journal": equal}

    monkeypatch.setattr(show, "run_demo", done)
    ended = os.EX_OK
    try:
        command_line.demo(as_json=True)
    except typer.Exit as end:
        ended = end.exit_code
    assert ended == code
    assert json.loads(capsys.readouterr().out) == {"books_closed": closed, "ledger_equals_journal": equal}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    with a_running_demo(tmp_path) as demo:
        # Broker and ingest; a validator and an uplink at each gate of the city, and at the crowd's.
        until(lambda: len(children(demo.pid)) == 2 + 2 * (len(GATES) + 1))
        started = children(demo.pid)
        demo.send_signal(number)
        assert demo.wait(20) == (os.EX_OK if number is signal.SIGTERM else -signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in started))
    if number is signal.SIGTERM:
        assert list(tmp_path.iterdir()) == [], "its private keys are gone"


@contextmanager
def a_running_demo(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    mosquitto_program()
    command = [sys.executable, "-m", "backend_sync", "demo", "--fast", "--taps", "300"]
    environment = os.environ | {"TMPDIR": str(folder)}
    demo = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield demo
    finally:
        for pid in children(demo.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        demo.kill()
        demo.wait()


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
