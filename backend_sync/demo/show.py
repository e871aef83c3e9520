"""Runs the demo: makes the crowd, starts the processes, lives the day, closes the books."""

import asyncio
import contextlib
import datetime as dt
import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from backend_sync.demo import city
from backend_sync.demo.closing import close_city
from backend_sync.demo.day import Day, live
from backend_sync.demo.depot import PLACE, DemoGate, Depot
from backend_sync.demo.errors import ProcessDied
from backend_sync.demo.issuer import Issuer
from backend_sync.demo.population import Crowd, CrowdMaker
from backend_sync.demo.processes import Process, choose_broker
from backend_sync.demo.screen import Screen
from backend_sync.ledger import Ledger, LedgerUnavailable
from backend_sync.reconcile import Books, reconcile
from hardware.virtual.air import Field
from validator.cursor import CursorFile
from validator.journal_file import JournalError
from validator.journal_reader import JournalReader

DRAIN_LIMIT_S = 120.0
LOOK_S = 0.25


async def run_demo(taps: int, seed: int, console: Console, *, timed: bool) -> dict[str, Any]:
    """Run the demo in a temporary folder.

    Args:
        taps: How many taps the crowd at the first gate makes; the city makes `city.TAPS` more.
        seed: Decides who comes.
        console: Where people look.
        timed: Model the time that real cards take.

    Returns:
        The figures of the closed books.

    Raises:
        Surprise: A tap ended otherwise than its passenger should.
        ProcessDied: A process ended on its own, or the queue did not drain.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilet-demo-")))
        air = await Field.open()
        stack.push_async_callback(air.close)
        broker_name, broker = choose_broker(folder)
        depot = Depot.create(folder, air=air.path, port=broker.port)
        airs = await _city_gates(depot, stack)
        crowd, people = _provision(depot, taps, seed, console)
        total = taps + city.TAPS
        console.print(
            f"{len(depot.gates)} gates, {total} taps, {broker_name}, a ledger in SQLite; nothing leaves this machine"
        )

        await broker.start()
        stack.push_async_callback(broker.stop)
        ingest = Process("ingest", _command("backend_sync", "ingest", depot.office_toml), folder / "ingest.log")
        validators = [_process("validator", "run", gate, "--json") for gate in depot.gates]
        uplinks = [_process("backend_sync", "uplink", gate) for gate in depot.gates]
        for process in (ingest, *validators, *uplinks):
            await process.start()
            stack.push_async_callback(process.stop)

        screen = stack.enter_context(Screen(console, total))
        counting = asyncio.create_task(_count(depot, screen))
        stack.push_async_callback(_end, counting)
        lanes = {
            gate.device: city.Lane(airs[gate.device], validator.events())
            for gate, validator in zip(depot.gates, validators, strict=True)
            if gate.device in airs
        }
        for lane in lanes.values():
            await city.ready(lane)
        travelled: list[dict[str, Any]] = []

        def seen(persona: str, event: dict[str, Any]) -> None:
            travelled.append(event)
            screen.tap(persona, event)

        async with asyncio.TaskGroup() as both:
            crowded = both.create_task(live(crowd, air, validators[0], broker, screen, timed=timed))
            both.create_task(city.travel(people, lanes, seen, timed=timed))
        day = crowded.result()
        day.taps.extend(travelled)
        screen.note("the last passenger has gone; the queue drains")
        await _drained(depot, total)
        await _end(counting)
        for process in (*uplinks, ingest, *validators):
            await process.stop()
        screen.counts(queue=0, ledger=total)
        screen.note("four hours later: the day is settled")
        with Ledger.open(depot.ledger_url) as ledger:
            closed_city = close_city(ledger, people, int(time.time()))
        screen.note("closed")
        figures = _figures(day, close_books(depot)) | {"city": closed_city.to_dict()}
    screen.closed(figures)
    return figures


def _process(package: str, command: str, gate: DemoGate, *options: str) -> Process:
    name = f"{command} of {gate.device}"
    return Process(name, _command(package, command, gate.toml, *options), gate.folder / f"{command}.log")


async def _city_gates(depot: Depot, stack: AsyncExitStack) -> dict[str, Field]:
    """Enrol the city's gates beside the first one; return the air at each."""
    airs = dict[str, Field]()
    for place, position in city.GATES.items():
        airs[place] = await Field.open()
        stack.push_async_callback(airs[place].close)
        depot.add_gate(place, place, airs[place].path, position)
    return airs


def _command(package: str, command: str, config: Path, *options: str) -> list[str]:
    return ["-m", package, command, "--config", str(config), *options]


def _provision(depot: Depot, taps: int, seed: int, console: Console) -> tuple[Crowd, list[city.Passenger]]:
    now = dt.datetime.now(dt.UTC)
    issuer, stranger = Issuer.create("Demo card issuer", now), Issuer.create("Somebody else's issuer", now)
    maker = CrowdMaker(issuer, stranger, PLACE, now, random.Random(seed))  # noqa: S311 - who comes, not a secret
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("making cards", total=taps)
        crowd = maker.make(taps, lambda made: progress.advance(task, made))
        progress.update(task, description="selling tickets, publishing lists")
        people = city.passengers(issuer, now, len(crowd.products) + 1)
        depot.sell([*crowd.products, *((person.card.credential_id, person.product) for person in people)], now)
        depot.publish([issuer], crowd.revoked, now, editions=[city.edition(now)])
    return crowd, people


async def _count(depot: Depot, screen: Screen) -> None:
    """Keep the screen's counts true."""
    while True:
        # Before the first tap there is no journal; a ledger that is being written may be busy. Look again.
        with contextlib.suppress(JournalError, LedgerUnavailable):
            head, cursor, recorded = await asyncio.to_thread(_positions, depot)
            screen.counts(queue=head - cursor, ledger=recorded)
        await asyncio.sleep(LOOK_S)


async def _drained(depot: Depot, taps: int) -> None:
    recorded = 0
    for _ in range(int(DRAIN_LIMIT_S / LOOK_S)):
        with contextlib.suppress(LedgerUnavailable):
            head, cursor, recorded = await asyncio.to_thread(_positions, depot)
            if cursor >= head and recorded >= taps:
                return
        await asyncio.sleep(LOOK_S)
    raise ProcessDied(f"the queue did not drain within {DRAIN_LIMIT_S:.0f} s: {recorded} of {taps} in the ledger")


def _positions(depot: Depot) -> tuple[int, int, int]:
    """Return how many taps the journals hold, how many of them are acknowledged, and how many the ledger holds."""
    heads = acknowledged = 0
    for gate in depot.gates:
        with contextlib.closing(JournalReader(gate.state / "journal.db")) as journal:
            heads += journal.head()
            acknowledged += CursorFile(gate.state / "uplink" / "cursor", gate.device).load(journal.epoch)
    with Ledger.open(depot.ledger_url) as ledger:
        return heads, acknowledged, ledger.tap_count()


@dataclass(frozen=True, slots=True)
class ClosedBooks:
    """Journals and ledger at the end of the day, each read for itself.

    Attributes:
        journal_entries: Entries that the gates' journals hold.
        equal: Whether the ledger holds these entries, octet for octet, and no other of these gates.
        books: The ledger, reconciled.
    """

    journal_entries: int
    equal: bool
    books: Books


def close_books(depot: Depot) -> ClosedBooks:
    """Compare a depot's ledger with the journals of its gates, and reconcile it."""
    entries, equal = 0, True
    with Ledger.open(depot.ledger_url) as ledger:
        for gate in depot.gates:
            with contextlib.closing(JournalReader(gate.state / "journal.db")) as journal:
                kept = [(journal.epoch, seq, envelope) for seq, envelope in journal.entries_after(0, journal.head())]
            entries += len(kept)
            equal = equal and kept == list(ledger.tap_envelopes(gate.device))
        return ClosedBooks(entries, equal, reconcile(ledger))


def _figures(day: Day, closed: ClosedBooks) -> dict[str, Any]:
    books = closed.books
    found = books.to_dict()
    return {
        "taps": len(day.taps),
        "granted": books.granted,
        "denied": books.denied,
        "reasons": dict(sorted(books.reasons.items())),
        "journal_entries": closed.journal_entries,
        "ledger_entries": found["taps"],
        "ledger_equals_journal": closed.equal,
        "missing": found["missing"],
        "duplicated": found["duplicated"],
        "chain_breaks": found["chain_breaks"],
        "duplicates_discarded": found["duplicates_discarded"],
        "stored_value": {name: found["money"][name] for name in ("loaded", "spent", "left")},
        "books_closed": books.closed,
        "own_work_ms": _spread([tap["own_ms"] for tap in day.taps]),
        "tap_ms": _spread([tap["total_ms"] for tap in day.taps]),
    }


def _spread(samples: list[float]) -> dict[str, float]:
    ranked = sorted(samples)
    return {f"p{share}": round(ranked[min(len(ranked) - 1, len(ranked) * share // 100)], 2) for share in (50, 99)}


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
