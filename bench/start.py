"""Start of a gate in a new process (files in the page cache), and its memory with a million tickets installed."""

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from rich.progress import Progress

from backend_sync.demo.day import anext_event, present
from backend_sync.demo.depot import Depot
from backend_sync.demo.issuer import DAY, Issuer
from backend_sync.demo.processes import Process
from backend_sync.publisher import Dates
from bench.figures import Figure, Report, p50, scratch
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.piv import PivChip
from validator.model import CREDENTIAL_ID_BYTES
from validator.rights import Product, ProductKind

TICKETS = 1_000_000
DENIED = 100_000
STARTS = 7
TAPS = 50
START_GOAL_S = 1.5
RESIDENT_GOAL_MB = 90.0


async def run(tickets: int = TICKETS) -> Report:
    """Measure how long `validator run` takes to be ready, and what it then holds in memory."""
    report = Report("start", f"Start and memory with {tickets:,} tickets and {DENIED:,} denials installed")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(scratch())
        air = await Field.open()
        stack.push_async_callback(air.close)
        now = dt.datetime.now(dt.UTC)
        depot = Depot.create(folder, air=air.path, port=1)
        _install(depot, now, tickets)
        starts: list[float] = []
        chips = _chips(Issuer.create("Bench cards", now), now)
        resident: list[float] = []
        for number in range(STARTS):
            started = time.perf_counter()
            gate = Process(
                "validator",
                ["-m", "validator", "run", "--config", str(depot.gate_toml), "--json"],
                folder / f"gate-{number}.log",
            )
            await gate.start()
            try:
                events = gate.events()
                await anext_event(events, "ready")
                starts.append(time.perf_counter() - started)
                await _tap(air, events, chips)
                resident.append(_resident_mb(gate.pid))
            finally:
                await gate.stop()
    report.figures += [
        Figure("process start to ready (reader open), median", p50(starts), "s", STARTS, goal=START_GOAL_S),
        Figure("process start to ready (reader open), slowest", max(starts), "s", STARTS, goal=START_GOAL_S),
        Figure(f"resident memory after {TAPS} taps, greatest", max(resident), "MB", STARTS, goal=RESIDENT_GOAL_MB),
    ]
    return report


def _install(depot: Depot, now: dt.datetime, tickets: int) -> None:
    issuer = Issuer.create("Bench issuer", now)
    depot.publish([issuer], (_credential(-number) for number in range(1, DENIED + 1)), now)
    now_s = int(now.timestamp())
    with Progress(transient=True) as progress:
        task = progress.add_task("a million tickets", total=tickets)
        depot.publisher.tickets(
            _products(tickets, now_s),
            {},
            Dates(now_s, now_s + 86400),
            lambda done: progress.update(task, completed=done),
        )
    depot.install()


def _chips(issuer: Issuer, now: dt.datetime) -> list[PivChip]:
    """Cards that nobody sold anything to: each tap looks into every list and finds nothing."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(TAPS)]
    return [PivChip(key, issuer.issue(key, now - DAY, now + DAY)) for key in keys]


async def _tap(air: Field, events: AsyncIterator[dict[str, Any]], chips: list[PivChip]) -> None:
    for chip in chips:
        await present(AirCard(chip, Technology.TYPE_A), air, events)
        air.remove()
        await asyncio.wait_for(air.polled(), 10)


def _products(count: int, now_s: int) -> Iterator[tuple[bytes, Product]]:
    for number in range(1, count + 1):
        yield (
            _credential(number),
            Product(
                number, ProductKind.PERIOD_PASS, now_s - 86400, now_s + 30 * 86400, now_s - 86400, pass_back_s=3600
            ),
        )


def _credential(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()[:CREDENTIAL_ID_BYTES]


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} says nothing of its memory")
