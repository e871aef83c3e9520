"""The real gate and the real back office under load, killed at any moment: what the passenger saw is in the ledger."""

import asyncio
import datetime as dt
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import select

from backend_sync.demo.depot import DEVICE, PLACE, Depot
from backend_sync.demo.issuer import DAY, Issuer
from backend_sync.demo.population import Card
from backend_sync.ledger import Ledger
from backend_sync.reconcile import reconcile
from backend_sync.schema import TAP
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.piv import PivChip
from tests.backend_sync.brokers import free_port, mosquitto_command
from tests.flow.supervised import Supervisor
from validator.cursor import CursorFile
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader
from validator.rights import Product, ProductKind

ROUNDS = 20 * (20 if os.environ.get("PILET_SOAK") == "1" else 1)
LONGEST_PAUSE_S = 1.5
DRAIN_S = 90.0
CARDS = 6
NAMES = ("validator", "uplink", "ingest", "mosquitto")


def make_cards(issuer: Issuer, now: dt.datetime) -> list[Card]:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(CARDS)]
    technologies = itertools.cycle((Technology.TYPE_A, Technology.TYPE_B))
    return [
        Card(key, issuer.issue(key, now - DAY, now + 365 * DAY), technology, "jcop4-p71")
        for key, technology in zip(keys, technologies, strict=False)
    ]


def purse(number: int, now: dt.datetime) -> Product:
    now_s = int(now.timestamp())
    return Product(
        number,
        ProductKind.STORED_VALUE,
        now_s - 3600,
        now_s + 86400,
        now_s - 3600,
        balance=1_000_000,
        fare=150,
        places=frozenset({PLACE}),
    )


@asynccontextmanager
async def passengers(air: Field, cards: list[Card]) -> AsyncIterator[None]:
    """One card after the other, for a moment each, whether the gate is alive or not."""

    async def come_and_go() -> None:
        chips = [PivChip(card.key, card.certificate) for card in cards]
        for card, chip in itertools.cycle(zip(cards, chips, strict=True)):
            air.place(AirCard(chip, card.technology))
            await asyncio.sleep(0.15)
            air.remove()
            await asyncio.sleep(0.08)

    coming = asyncio.create_task(come_and_go())
    try:
        yield
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError):
            await coming
        air.remove()


def module(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", name, *(str(argument) for argument in arguments)]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path, seed=7) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(120 + ROUNDS * 10)
async def test_a_gate_and_its_office_killed_at_random_end_with_journal_equal_ledger(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    now, port = dt.datetime.now(dt.UTC), free_port()
    air = await Field.open()
    depot, issuer = Depot.create(tmp_path, air=air.path, port=port), Issuer.create("Issuer", now)
    cards = make_cards(issuer, now)
    depot.sell([(card.credential_id, purse(number, now)) for number, card in enumerate(cards, 1)], now)
    depot.publish([issuer], [], now)
    supervisor.add("mosquitto", mosquitto_command(tmp_path, port))
    supervisor.add("ingest", module("backend_sync", "ingest", "--config", depot.office_toml))
    supervisor.add("validator", module("validator", "run", "--config", depot.gate_toml, "--json"))
    supervisor.add("uplink", module("backend_sync", "uplink", "--config", depot.gate_toml))
    try:
        async with passengers(air, cards):
            await until(lambda: positions(depot)[0] > 3, supervisor)
            killed = []
            for _ in range(ROUNDS):
                await asyncio.sleep(supervisor.pause(LONGEST_PAUSE_S))
                killed.append(await asyncio.to_thread(supervisor.kill_one, *NAMES))
            await asyncio.sleep(2)
        assert set(killed) == set(NAMES)
        await asyncio.to_thread(supervisor.processes["validator"].stop)
        await until(lambda: positions(depot)[0] == positions(depot)[1], supervisor)
    finally:
        await air.close()
    for name in ("uplink", "ingest"):
        await asyncio.to_thread(supervisor.processes[name].stop)
    check(depot, supervisor.processes["validator"].log)


def positions(depot: Depot) -> tuple[int, int]:
    """Head of the journal, and how far it is acknowledged."""
    try:
        with closing(JournalReader(depot.state / "journal.db")) as journal:
            cursor = CursorFile(depot.state / "uplink" / "cursor", DEVICE)
            return journal.head(), cursor.load(journal.epoch)
    except JournalError:
        return 0, 0


async def until(true: Callable[[], bool], supervisor: Supervisor) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            while not true():  # noqa: ASYNC110 - other processes make it true
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail("\n".join(f"{one.name}: {one.last_words()}" for one in supervisor.processes.values()))


def check(depot: Depot, log: Path) -> None:
    with closing(JournalReader(depot.state / "journal.db")) as journal:
        kept = [sealed for _, sealed in journal.entries_after(0, 10**9)]
    with Ledger.open(depot.ledger_url) as ledger:
        with ledger.reading() as connection:
            recorded = connection.execute(select(TAP.c.seq, TAP.c.outcome, TAP.c.envelope).order_by(TAP.c.seq)).all()
        books = reconcile(ledger)
    assert [row.envelope for row in recorded] == kept
    found = books.to_dict()
    assert (found["missing"], found["duplicated"], found["chain_breaks"]) == (0, 0, 0)
    assert books.closed
    assert found["money"]["spent"] == 150 * books.granted
    events = [json.loads(line) for line in log.read_text().splitlines() if '"event": "tap"' in line]
    seen = {event["seq"] for event in events if event["outcome"] == "GRANT"}
    assert len(seen) == len([event for event in events if event["outcome"] == "GRANT"]), "no number was used twice"
    assert len(seen) > ROUNDS, "there was load"
    assert seen <= {row.seq for row in recorded if row.outcome}, "what a passenger saw is in the ledger"
