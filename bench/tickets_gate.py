"""A gate in service that takes over a new ticket snapshot and changes of it, while passengers tap.

The gate is the real `validator run` in its own process. The cards are held against nfcpy's simulated air by this
process, which also installs the lists, as the uplink does. What counts is the gate's own work: presence to signal,
less every wait for the card.
"""

import asyncio
import datetime as dt
import hashlib
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from backend_sync.demo.day import anext_event, present
from backend_sync.demo.depot import FRESH_S, PUBLISHER, REGION, Depot
from backend_sync.demo.issuer import DAY, Issuer
from backend_sync.demo.processes import Process
from backend_sync.deny_changes import Stamp
from backend_sync.list_changes import next_ticket_change
from bench.figures import p50, p99
from bench.ticket_population import CHANGES, HOLDERS_FILE, SNAPSHOTS, a_pass, sales
from bench.watch import Watch, watching
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.piv import PivChip
from validator.certificates import credential_id, spki_of
from validator.lists import directory
from validator.lists.changes_file import write_changes
from validator.lists.list_change import seal_list_change
from validator.lists.manifest import ListKind, Manifest, seal_manifest
from validator.lists.ticket_store import TicketStore
from validator.lists.tickets import Tickets, published_tickets

HOLDERS, BUYERS = 20, 4
"""Cards with a pass in the snapshot, and cards that buy one while the gate serves."""
CHANGED: Final = 20_000
BEFORE: Final = 60
WARM_UP: Final = HOLDERS + BUYERS


def _key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(1_000_003 + number, ec.SECP256R1())


def _id(number: int) -> bytes:
    return credential_id(spki_of(_key(number).public_key()))


def cards(folder: Path) -> None:
    """Write who is to have a pass in the snapshot."""
    (folder / HOLDERS_FILE).write_bytes(b"".join(_id(number) for number in range(HOLDERS)))


@dataclass(slots=True)
class _Lane:
    """The gate, and who taps at it in turn."""

    air: Field
    events: AsyncIterator[dict[str, Any]]
    chips: list[PivChip]
    bought: bool = False
    owed: bool = False
    taps: list[tuple[float, float, float]] = field(default_factory=list)
    wrong: int = 0

    async def tap(self, number: int) -> None:
        """Whoever holds a pass is let in, who bought one is once the change is in force, and nobody who did neither."""
        began_s = time.monotonic()
        report = await present(AirCard(self.chips[number], Technology.TYPE_A), self.air, self.events)
        self.air.remove()
        await asyncio.wait_for(self.air.polled(), 10)
        granted = report["outcome"] == "GRANT"
        self.taps.append((began_s, time.monotonic(), report["own_ms"]))
        owed, possible = number < HOLDERS or self.owed, number < HOLDERS or self.bought
        self.wrong += (owed and not granted) or (granted and not possible)

    async def until(self, done: "asyncio.Task[None]") -> None:
        while not done.done():
            for number in range(len(self.chips)):
                await self.tap(number)
        await done


@dataclass(frozen=True, slots=True)
class _Office:
    """Who installs lists at the gate."""

    depot: Depot
    store: Path
    sha256: bytes
    now_s: int

    @property
    def lists(self) -> Path:
        return self.depot.state / "lists"

    def install(self, version: int) -> None:
        """Install the snapshot under another number, whole: copied, hashed, checked and synchronised."""
        manifest = Manifest(
            kind=ListKind.TICKETS,
            region=REGION,
            version=version,
            issued_s=self.now_s,
            not_after_s=self.now_s + FRESH_S,
            payload_sha256=self.sha256,
            payload_bytes=self.store.stat().st_size,
            root=directory.payload_root(ListKind.TICKETS, self.store),
        )
        key = self.depot.publisher.key
        sealed = seal_manifest(manifest, key, PUBLISHER)
        directory.install(self.lists, sealed, self.store, {PUBLISHER: key.public_key()}, region=REGION)

    def changes(self, version: int) -> Iterator[list[bytes]]:
        """Make changes of a snapshot: first a day's, then a few at a time; the last is for cards that are tapped."""
        tickets: Tickets = published_tickets(TicketStore(self.store), version, self.sha256)
        sealed: list[bytes] = []
        for number in range(1, CHANGES + 1):
            held = dict(sales(0, CHANGED)) if number == 1 else dict(sales(CHANGED + 70 * number, 70))
            if number == CHANGES:
                held |= {_id(each): [a_pass(each)] for each in range(HOLDERS, HOLDERS + BUYERS)}
            stamp = Stamp(REGION, version, number, self.now_s + number, self.now_s + FRESH_S)
            change, tickets = next_ticket_change(tickets, held, stamp)
            sealed.append(seal_list_change(change, self.depot.publisher.key, PUBLISHER))
            yield list(sealed)


async def _gate(folder: Path) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        air = await Field.open()
        stack.push_async_callback(air.close)
        now = dt.datetime.now(dt.UTC)
        depot, issuer = Depot.create(await _emptied(folder / "gate"), air=air.path, port=1), Issuer.create("Bench", now)
        depot.publish([issuer], [], now)
        store = folder / "store"
        office = _Office(depot, store, await asyncio.to_thread(_sha256, store), int(now.timestamp()))
        await asyncio.to_thread(office.install, 2)
        process = Process(
            "validator",
            ["-m", "validator", "run", "--config", str(depot.gate_toml), "--json"],
            folder / "gate.log",
        )
        started = time.perf_counter()
        await process.start()
        stack.push_async_callback(process.stop)
        events = process.events()
        await anext_event(events, "ready")
        ready_s = time.perf_counter() - started
        keys = [_key(number) for number in range(HOLDERS + BUYERS)]
        lane = _Lane(air, events, [PivChip(key, issuer.issue(key, now - DAY, now + DAY)) for key in keys])
        return {"start_s": ready_s} | await _served(lane, office, stack.enter_context(watching()), process.pid)


async def _served(lane: _Lane, office: _Office, watch: Watch, pid: int) -> dict[str, float]:
    for number in range(WARM_UP):
        await lane.tap(number)
    lane.taps.clear()
    for number in range(BEFORE):
        await lane.tap(number % HOLDERS)
    before, lane.taps = [own for _, _, own in lane.taps], []
    for version in range(3, 3 + SNAPSHOTS):
        await lane.until(asyncio.create_task(_swap(lane, office, version)))
    resident = _memory_mb(pid, "VmHWM")
    for number in range(HOLDERS, HOLDERS + BUYERS):
        await lane.tap(number)
    await asyncio.sleep(_ADOPTED_S)  # until the watch knows of the last one
    own = [own for _, _, own in lane.taps]
    calm = [own for began_s, ended_s, own in lane.taps if not watch.disturbed(began_s, ended_s)]
    return {
        "before": len(before),
        "before_ms": p50(before),
        "before_slowest_ms": max(before),
        "during": len(own),
        "during_ms": p50(own),
        "during_p99_ms": p99(own),
        "during_slowest_ms": max(own),
        "calm": len(calm),
        "slowest_ms": max(calm, default=max(own)),
        "wrong": lane.wrong,
        "resident_mb": resident,
    }


async def _swap(lane: _Lane, office: _Office, version: int) -> None:
    """Install a snapshot, then its changes one after the other, and give the gate the time to take over each."""
    # The new snapshot is the old one anew: until its last change is there, it does not know who bought.
    lane.owed = False
    await asyncio.to_thread(office.install, version)
    await asyncio.sleep(_ADOPTED_S)
    changes = office.changes(version)
    for number in range(1, CHANGES + 1):
        sealed = await asyncio.to_thread(next, changes)
        lane.bought = lane.bought or number == CHANGES
        await asyncio.to_thread(write_changes, office.lists, version, sealed, ListKind.TICKETS)
        await asyncio.sleep(_ADOPTED_S)
    lane.owed = True


_ADOPTED_S: Final = 3.0
"""A gate looks for new lists each second."""


async def _emptied(folder: Path) -> Path:
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    await asyncio.to_thread(folder.mkdir)
    return folder


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _memory_mb(pid: int, name: str) -> float:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status[name].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    step, where = sys.argv[1], Path(sys.argv[2])
    if step == "cards":
        cards(where)
    print(json.dumps(asyncio.run(_gate(where)) if step == "gate" else {}))
