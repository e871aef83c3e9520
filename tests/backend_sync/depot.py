"""A gate and a back office in one event loop, for tests: everything real but the waits, which are short."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backend_sync.ingest import IngestOptions
from backend_sync.ledger import Ledger
from backend_sync.mqtt import Link, connect
from backend_sync.outbox import Pace
from backend_sync.reconcile import Books, reconcile
from backend_sync.uplink import UplinkOptions
from tests.backend_sync.brokers import Carrier
from tests.backend_sync.gate import DAWN_MS, GateJournal, key_of
from validator.cursor import CursorFile

PACE = Pace(linger=0.05, resend=0.4, resend_max=2.0)


@dataclass
class Depot:
    """Everything of one test, with short waits."""

    folder: Path
    carrier: Carrier
    journal: GateJournal = field(default_factory=GateJournal)

    @property
    def ledger_url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.db"

    def uplink_options(self, **changes: Any) -> UplinkOptions:
        options = UplinkOptions(
            broker=self.carrier.address,
            device=self.journal.device,
            journal=self.folder / "journal.db",
            cursor=self.folder / "cursor",
            back_office={"office": key_of("office").public_key()},
            pace=PACE,
            poll=0.02,
            cursor_every=0.05,
            reconnect=0.05,
            reconnect_max=0.3,
            open_journal=lambda _: self.journal,
        )
        return replace(options, **changes)

    def ingest_options(self, **changes: Any) -> IngestOptions:
        options = IngestOptions(
            broker=self.carrier.address,
            ledger=self.ledger_url,
            key=key_of("office"),
            signer="office",
            now_ms=lambda: DAWN_MS,
            reconnect=0.05,
            reconnect_max=0.3,
        )
        return replace(options, **changes)

    def register(self, *journals: GateJournal) -> None:
        with Ledger.open(self.ledger_url, create=True) as ledger:
            for journal in journals or (self.journal,):
                ledger.register_device(journal.device, journal.public_key)

    def books(self) -> Books:
        with Ledger.open(self.ledger_url) as ledger:
            return reconcile(ledger)

    def cursor(self, epoch: int | None = None) -> int:
        epoch = self.journal.epoch if epoch is None else epoch
        return CursorFile(self.folder / "cursor", self.journal.device).load(epoch)

    async def until_acknowledged(self) -> None:
        await until(lambda: self.cursor() == self.journal.head())


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for is in files and other processes
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Run coroutines beside the test; one that fails fails the test."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@asynccontextmanager
async def listener(depot: Depot, *topics: str) -> AsyncIterator[Link]:
    async with connect(depot.carrier.address, "listener", clean_session=True) as link:
        for topic in topics:
            await link.subscribe(topic)
        yield link


async def heard(link: Link) -> bytes:
    async with asyncio.timeout(10):
        return (await link.receive()).payload


def closed(books: Books, taps: int) -> None:
    said = books.to_dict()
    assert {name: said[name] for name in ("taps", "missing", "duplicated", "chain_breaks", "conflicts")} == {
        "taps": taps,
        "missing": 0,
        "duplicated": 0,
        "chain_breaks": 0,
        "conflicts": 0,
    }
    assert books.closed
