"""Tickets and statuses on a gate: what they cost to build, to keep, to ask and to change.

Each step runs in a process of its own (``python -m bench.tickets STEP FOLDER RECORDS``), so that its memory is its own.
Warm look-ups are timed one by one, in rounds of which the quietest counts.
"""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress

from bench.figures import Figure, Report, p50, p99, scratch
from bench.ticket_population import CHANGES, HOLDERS_FILE, SNAPSHOTS, entries, holders, sales
from validator.list_facts import CardStatus
from validator.lists.status_array import StatusFile, write_status_file
from validator.lists.status_delta import StatusDelta, StatusOverlay, encode_status_delta, parse_status_delta
from validator.lists.ticket_delta import Snapshot, encode_ticket_delta, parse_ticket_delta
from validator.lists.ticket_overlay import TicketOverlay, parse_overlay
from validator.lists.ticket_store import TicketStore, write_ticket_store
from validator.model import CREDENTIAL_ID_BYTES
from validator.rights import Product

RECORDS: Final = 10_000_000
CARDS_PER_RECORD: Final = 10
"""A nation has ten regions of this size."""
ASKED: Final = 100_000
ASKED_COLD: Final = 500
ROUNDS: Final = 3
RESIDENT_AFTER: Final = 10_000
CHANGED: Final = 20_000
INCREMENT: Final = 70
SWAPS: Final = 20

RECORD_GOAL: Final = 40.0
BUILD_GOAL_S: Final = 90.0
LOOK_UP_GOAL_US: Final = 20.0
RESIDENT_GOAL_MB: Final = 120.0

_ISSUER: Final = bytes(range(16))

TAP_GOAL_MS: Final = 20.0
REFUSED_GOAL: Final = 0.0
SWAPPED: Final = f"own work of a tap while {SNAPSHOTS} snapshots and {CHANGES} changes of each are taken over"

_HERE, _GATE = "bench.tickets", "bench.tickets_gate"
"""The gate's step has a module of its own: what it imports would count as memory of the others."""

Measured = dict[str, float]


async def run(records: int = RECORDS) -> Report:
    """Measure a snapshot of so many tickets, a gate that takes it over, and the statuses of ten times as many cards."""
    report = Report("lists-tickets", f"{records:,} tickets and the statuses of {CARDS_PER_RECORD * records:,} cards")
    with scratch() as folder:
        await asyncio.to_thread(_step, _GATE, "cards", folder, records)
        found = {step: await asyncio.to_thread(_step, _HERE, step, folder, records) for step in _STEPS}
        found["gate"] = await asyncio.to_thread(_step, _GATE, "gate", folder, records)
    store, ask, served, status = found["build"], found["ask"], found["gate"], found["status"]
    cards, after = CARDS_PER_RECORD * records, f"after {RESIDENT_AFTER:,} look-ups"
    report.figures += [
        Figure("size of a record", store["bytes"], "B", records, RECORD_GOAL),
        Figure("build", store["seconds"], "s", records, BUILD_GOAL_S),
        Figure("build, of which making the entries", store["entries_s"], "s", records),
        Figure("build, peak memory", store["peak_mb"], "MB", records),
        Figure("check at installation", ask["check_s"], "s", records),
        Figure("open", ask["open_ms"], "ms", 1),
        Figure("look-up, median", ask["p50_us"], "µs", ASKED),
        Figure("look-up, p99", ask["p99_us"], "µs", ASKED, LOOK_UP_GOAL_US),
        Figure("look-up from the disk, median", ask["cold_us"], "µs", ASKED_COLD),
        Figure(f"resident memory {after}", ask["resident_mb"], "MB", 1, RESIDENT_GOAL_MB),
        Figure("resident memory, of which the open snapshot", ask["held_mb"], "MB", 1),
        Figure(f"delta of {INCREMENT} credentials", ask["delta_bytes"], "B", 1),
        Figure(f"delta of {INCREMENT} applied to {CHANGED:,}", ask["delta_ms"], "ms", 1),
        Figure(f"look-up in an overlay of {CHANGED:,}, p99", ask["overlay_us"], "µs", ASKED, LOOK_UP_GOAL_US),
        Figure("look-up while snapshots are swapped, slowest", ask["swap_ms"], "ms", SWAPS, TAP_GOAL_MS),
        Figure("gate, start to ready", served["start_s"], "s", 1),
        Figure("gate, own work of a tap before, median", served["before_ms"], "ms", int(served["before"])),
        Figure("gate, own work of a tap before, slowest", served["before_slowest_ms"], "ms", int(served["before"])),
        Figure(f"gate, {SWAPPED}, median", served["during_ms"], "ms", int(served["during"])),
        Figure(f"gate, {SWAPPED}, p99", served["during_p99_ms"], "ms", int(served["during"])),
        Figure(f"gate, {SWAPPED}, slowest", served["during_slowest_ms"], "ms", int(served["during"])),
        Figure("gate, the same, machine on time", served["slowest_ms"], "ms", int(served["calm"]), TAP_GOAL_MS),
        Figure("gate, taps wrongly decided", served["wrong"], "taps", int(served["during"]), REFUSED_GOAL),
        Figure("gate, resident memory, greatest", served["resident_mb"], "MB", 1, RESIDENT_GOAL_MB),
        Figure("statuses, file", status["mb"], "MB", cards),
        Figure("statuses, written", status["seconds"], "s", cards),
        Figure("statuses, held in memory", status["held_mb"], "MB", cards),
        Figure("statuses, look-up, median", status["p50_us"], "µs", ASKED),
        Figure("statuses, look-up, p99", status["p99_us"], "µs", ASKED, LOOK_UP_GOAL_US),
        Figure(f"statuses, delta of {INCREMENT}", status["delta_bytes"], "B", 1),
        Figure(f"statuses, delta of {INCREMENT} applied to {CHANGED:,}", status["delta_ms"], "ms", 1),
        Figure(f"statuses, delta of {CHANGED:,}", status["day_bytes"] / 1e3, "kB", 1),
    ]
    return report


def _step(module: str, step: str, folder: Path, records: int) -> Measured:
    """Run a step in a process of its own."""
    with Progress(transient=True) as progress:
        progress.add_task(step, total=None)
        command = [sys.executable, "-m", module, step, str(folder), str(records)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    measured: Measured = json.loads(done.stdout)
    return measured


def _credentials(records: int, count: int) -> list[bytes]:
    """Ids of random accounts, one in five of which never bought anything."""
    chosen = random.Random(records)
    numbers = (chosen.randrange(records * 5 // 4) for _ in range(count))
    return [hashlib.sha256(number.to_bytes(8)).digest()[:CREDENTIAL_ID_BYTES] for number in numbers]


def _build(folder: Path, records: int) -> Measured:
    return _built(
        folder / "store",
        records,
        lambda path: write_ticket_store(path, chain(entries(records), holders(folder / HOLDERS_FILE))),
    )


def _built(path: Path, records: int, write: Callable[[Path], int]) -> Measured:
    started = time.perf_counter()
    for _ in entries(records):
        pass
    made = time.perf_counter()
    write(path)
    seconds = time.perf_counter() - made
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {
        "seconds": seconds,
        "entries_s": made - started,
        "bytes": path.stat().st_size / records,
        "peak_mb": _memory_mb("VmHWM"),
    }


def _ask(folder: Path, records: int) -> Measured:
    path = folder / "store"
    before, started = _memory_mb("VmRSS"), time.perf_counter()
    store = TicketStore(path)
    opened = {"open_ms": (time.perf_counter() - started) * 1e3, "held_mb": _memory_mb("VmRSS") - before}
    asked = opened | _asked(path, store.products, store.check, records)
    return asked | _overlaid(records, Snapshot(1, bytes(32), store.shapes)) | {"swap_ms": _swapped(path, records)}


def _asked(path: Path, products: Callable[[bytes], list[Product]], check: Callable[[], None], records: int) -> Measured:
    """Ask for random accounts: first from the disk, then until memory has settled, then warm."""
    ids = _credentials(records, ASKED)
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    cold = _timed_us(products, ids[:ASKED_COLD])
    _timed_us(products, ids[:RESIDENT_AFTER])
    resident = _memory_mb("VmRSS")
    started = time.perf_counter()
    check()
    checked = time.perf_counter() - started
    warm = _quietest_us(products, ids)
    figures = {"cold_us": p50(cold), "p50_us": p50(warm), "p99_us": p99(warm)}
    return figures | {"resident_mb": resident, "check_s": checked}


def _overlaid(records: int, base: Snapshot) -> Measured:
    """Put a small delta onto many changes, and ask what is changed."""
    overlay = _overlay(base)
    sold = dict(sales(CHANGED, INCREMENT))
    payload = encode_ticket_delta(overlay.delta(sold))
    started = time.perf_counter()
    overlay = overlay.with_delta(parse_ticket_delta(payload, base))
    seconds = time.perf_counter() - started
    changed = [credential_id for credential_id, _ in sales(0, CHANGED)]
    asked = _quietest_us(overlay.products, [*changed, *_credentials(records, ASKED - CHANGED)])
    return {"delta_bytes": len(payload), "delta_ms": seconds * 1e3, "overlay_us": p99(asked)}


def _overlay(base: Snapshot) -> TicketOverlay:
    overlay = TicketOverlay(base)
    return overlay.with_delta(overlay.delta(dict(sales(0, CHANGED))))


def _swapped(path: Path, records: int) -> float:
    """Ask a thousand times a second while another thread opens snapshots and changes; return the slowest, ms."""
    right = TicketStore(path)
    base = Snapshot(1, bytes(32), right.shapes)
    payload = _overlay(base).encode()
    held = [(TicketStore(path), parse_overlay(payload, base))]
    done = threading.Event()

    def swap() -> None:
        for _ in range(SWAPS):
            held[0] = (TicketStore(path), parse_overlay(payload, base))
        done.set()

    def products(credential_id: bytes) -> list[Product]:
        store, overlay = held[0]
        changed = overlay.products(credential_id)
        return store.products(credential_id) if changed is None else changed

    ids = _credentials(records, 1000)
    slowest, worker = 0.0, threading.Thread(target=swap)
    worker.start()
    while not done.wait(0.001):
        credential_id = ids.pop()
        ids.insert(0, credential_id)
        started = time.perf_counter()
        found = products(credential_id)
        slowest = max(slowest, time.perf_counter() - started)
        if found != right.products(credential_id):
            raise RuntimeError(f"a swap changed what {credential_id.hex()} holds")
    worker.join()
    return slowest * 1e3


def _status(folder: Path, records: int) -> Measured:
    """Write, ask and change the statuses of a nation's cards."""
    path, cards = folder / "status", CARDS_PER_RECORD * records
    chosen = random.Random(records)
    started = time.perf_counter()
    write_status_file(path, [(_ISSUER, cards, _random_octets(chosen, -(-cards // 4), cards % 4))])
    seconds, before = time.perf_counter() - started, _memory_mb("VmRSS")
    begin = StatusOverlay(StatusFile(path).arrays[_ISSUER])
    held = _memory_mb("VmRSS") - before
    day = _status_delta(begin, chosen, CHANGED)
    overlay = begin.with_delta(day)
    increment = encode_status_delta(_status_delta(overlay, chosen, INCREMENT))
    started = time.perf_counter()
    overlay.with_delta(parse_status_delta(increment))
    delta_ms = (time.perf_counter() - started) * 1e3
    asked = _quietest_us(overlay.status, [chosen.randrange(cards) for _ in range(ASKED)])
    return {
        "seconds": seconds,
        "mb": path.stat().st_size / 1e6,
        "held_mb": held,
        "p50_us": p50(asked),
        "p99_us": p99(asked),
        "delta_bytes": len(increment),
        "delta_ms": delta_ms,
        "day_bytes": len(encode_status_delta(day)),
    }


def _random_octets(chosen: random.Random, count: int, last: int) -> Iterator[bytes]:
    for _ in range(0, count - 1, 1 << 20):
        size = min(1 << 20, count - 1)
        count -= size
        yield chosen.randbytes(size)
    yield bytes([chosen.randrange(4 ** (last or 4))])


def _status_delta(overlay: StatusOverlay, chosen: random.Random, count: int) -> StatusDelta:
    """Change random cards; the publisher knows where that leads, as it makes the next state anyway."""
    cards = chosen.sample(range(overlay.count), count)
    return overlay.delta({card: CardStatus((overlay.status(card) + 1 + card % 3) % 4) for card in sorted(cards)})


def _timed_us(ask: Callable[[Any], object], keys: Sequence[Any]) -> list[float]:
    """Ask once for each key; microseconds, the clock's own (some 0.1 µs) included."""
    clock, times = time.perf_counter_ns, list[float]()
    for key in keys:
        started = clock()
        ask(key)
        times.append((clock() - started) / 1e3)
    return times


def _quietest_us(ask: Callable[[Any], object], keys: Sequence[Any]) -> list[float]:
    """Ask in rounds; the quietest counts, since neighbours are not the list's."""
    return min((_timed_us(ask, keys) for _ in range(ROUNDS)), key=p99)


def _memory_mb(field: str) -> float:
    """Return a size of this process; not getrusage's, whose maximum is inherited from whoever started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024 / 1e6


_STEPS: Final[Mapping[str, Callable[[Path, int], Measured]]] = {
    "build": _build,
    "ask": _ask,
    "status": _status,
}

if __name__ == "__main__":
    print(json.dumps(_STEPS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
