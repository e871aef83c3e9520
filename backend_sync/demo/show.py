"""Runs the demo: makes the crowd, starts the processes, lives the day, closes the books."""

import asyncio
import contextlib
import datetime as dt
import random
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from backend_sync.demo.day import Day, live
from backend_sync.demo.depot import DEVICE, PLACE, Depot
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
        taps: How many taps.
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
        crowd = _provision(depot, taps, seed, console)
        console.print(f"one gate, {taps} taps, {broker_name}, a ledger in SQLite; nothing leaves this machine")

        await broker.start()
        stack.push_async_callback(broker.stop)
        validator = Process("validator", _command("validator", "run", depot.gate_toml, "--json"), folder / "gate.log")
        ingest = Process("ingest", _command("backend_sync", "ingest", depot.office_toml), folder / "ingest.log")
        uplink = Process("uplink", _command("backend_sync", "uplink", depot.gate_toml), folder / "uplink.log")
        for process in (ingest, validator, uplink):
            await process.start()
            stack.push_async_callback(process.stop)

        screen = stack.enter_context(Screen(console, taps))
        counting = asyncio.create_task(_count(depot, screen))
        stack.push_async_callback(_end, counting)
        day = await live(crowd, air, validator, broker, screen, timed=timed)
        screen.note("the last passenger has gone; the queue drains")
        await _drained(depot, taps)
        await _end(counting)
        for process in (uplink, ingest, validator):
            await process.stop()
        screen.counts(queue=0, ledger=taps)
        screen.note("closed")
        figures = _figures(day, close_books(depot))
    screen.closed(figures)
    return figures


def _command(package: str, command: str, config: Path, *options: str) -> list[str]:
    return ["-m", package, command, "--config", str(config), *options]


def _provision(depot: Depot, taps: int, seed: int, console: Console) -> Crowd:
    now = dt.datetime.now(dt.UTC)
    issuer, stranger = Issuer.create("Demo card issuer", now), Issuer.create("Somebody else's issuer", now)
    maker = CrowdMaker(issuer, stranger, PLACE, now, random.Random(seed))  # noqa: S311 - who comes, not a secret
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("making cards", total=taps)
        crowd = maker.make(taps, lambda made: progress.advance(task, made))
        progress.update(task, description="selling tickets, publishing lists")
        depot.sell(crowd.products, now)
        depot.publish([issuer], crowd.revoked, now)
    return crowd


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
            _, cursor, recorded = await asyncio.to_thread(_positions, depot)
            if cursor >= taps and recorded >= taps:
                return
        await asyncio.sleep(LOOK_S)
    raise ProcessDied(f"the queue did not drain within {DRAIN_LIMIT_S:.0f} s: {recorded} of {taps} in the ledger")


def _positions(depot: Depot) -> tuple[int, int, int]:
    """Return the journal's head, the uplink's cursor, and how many taps the ledger holds."""
    with (
        contextlib.closing(JournalReader(depot.state / "journal.db")) as journal,
        Ledger.open(depot.ledger_url) as ledger,
    ):
        cursor = CursorFile(depot.state / "uplink" / "cursor", DEVICE).load(journal.epoch)
        return journal.head(), cursor, ledger.tap_count()


@dataclass(frozen=True, slots=True)
class ClosedBooks:
    """Journal and ledger at the end of the day, each read for itself.

    Attributes:
        journal_entries: Entries that the gate's journal holds.
        equal: Whether the ledger holds these entries, octet for octet, and no other of this gate.
        books: The ledger, reconciled.
    """

    journal_entries: int
    equal: bool
    books: Books


def close_books(depot: Depot) -> ClosedBooks:
    """Compare a depot's ledger with the journal of its gate, and reconcile it."""
    with (
        contextlib.closing(JournalReader(depot.state / "journal.db")) as journal,
        Ledger.open(depot.ledger_url) as ledger,
    ):
        kept = [(journal.epoch, seq, envelope) for seq, envelope in journal.entries_after(0, journal.head())]
        return ClosedBooks(len(kept), kept == list(ledger.tap_envelopes(DEVICE)), reconcile(ledger))


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
