"""One lane in this process: the production station, journal, lists and nfcpy driver, and virtual cards on the air."""

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from backend_sync.demo.depot import PLACE, REGION, Depot
from backend_sync.demo.issuer import DAY, CardKey, Issuer
from backend_sync.demo.media import Operator, OperatorCard
from backend_sync.demo.population import Card
from hardware.gate import Signal
from hardware.medium import Reader, Technology
from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import AirCard, Field
from hardware.virtual.chip import Chip
from hardware.virtual.piv import PivChip
from validator import config as gate_file
from validator import operator_keys
from validator.families import families as chosen
from validator.journal import Journal
from validator.journal_reader import JournalReader
from validator.known_cards import KnownCardStore
from validator.lists import installed
from validator.lists.directory import PublisherKeys
from validator.operator_keys import OperatorKeys
from validator.rights import Product, ProductKind
from validator.service import clock_of, place_of
from validator.station import JOURNAL, READER, Station, TapReport
from validator.supervision import Progress

LIMIT_S = 20.0
HOUR_S = 3600


class RecordingGate:
    """Remembers what it showed, and how many taps the journal held at that moment."""

    def __init__(self, journal_path: Path) -> None:
        self._journal_path = journal_path
        self.shown: list[Signal] = []
        self.read: list[str] = []
        self.recorded: list[int] = []
        self.faulted = asyncio.Event()
        self.ready_again = asyncio.Event()
        self.closed = False

    async def show(self, signal: Signal, text: str = "") -> None:
        if signal is Signal.FAULT:
            self.faulted.set()
        if signal is Signal.READY and self.shown:
            self.ready_again.set()
        self.shown.append(signal)
        self.read.append(text)
        if signal is not Signal.READY:
            with closing(JournalReader(self._journal_path)) as journal:
                self.recorded.append(journal.head())

    async def close(self) -> None:
        self.closed = True


@dataclass
class Lane:
    """A running station and the air in front of it."""

    depot: Depot
    issuer: Issuer
    air: Field
    gate: RecordingGate
    station: Station
    now: dt.datetime
    operator: Operator | None = None
    reports: asyncio.Queue[TapReport] = field(default_factory=asyncio.Queue)
    sold: int = 0
    serving: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Tell the station to stop, once, and wait until it has."""
        serving, self.serving = self.serving, None
        if serving is not None:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    def card(self, key: CardKey | None = None) -> Card:
        key = key or ec.generate_private_key(ec.SECP256R1())
        return Card(key, self.issuer.issue(key, self.now - DAY, self.now + 365 * DAY), Technology.TYPE_A, "jcop4-p71")

    def sell(self, card: Card | OperatorCard, kind: ProductKind = ProductKind.PERIOD_PASS, **facts: Any) -> None:
        """Sell a product and bring new tickets to the gate."""
        self.sold += 1
        now_s = int(self.now.timestamp())
        product = Product(
            self.sold,
            kind,
            valid_from=now_s - HOUR_S,
            valid_until=now_s + 24 * HOUR_S,
            active_from=now_s - HOUR_S,
            places=frozenset({PLACE}),
            **facts,
        )
        self.depot.sell([(card.credential_id, product)], self.now)

    def publish(
        self,
        revoked: list[bytes] | None = None,
        issuers: list[Issuer] | None = None,
        enrolled: Sequence[bytes] = (),
    ) -> None:
        own = [self.issuer] if self.operator is None else [self.issuer, self.operator.issuer]
        self.depot.publish(issuers or own, revoked or [], self.now, operator=self.operator, enrolled=enrolled)
        self.adopt()

    def adopt(self) -> None:
        """Let the station take what is installed."""
        self.station.adopt(installed.load(self.depot.state / "lists", self._keys(), REGION, self.station.lists))

    def _keys(self) -> PublisherKeys:
        return gate_file.load(self.depot.gate_toml).publisher_keys()

    async def tap(
        self, chip: Chip, technology: Technology = Technology.TYPE_A, tear_after: int | None = None
    ) -> TapReport:
        """Hold a chip against the reader until the tap is over, and take it away."""
        return await self._presented(AirCard(chip, technology, tear_after=tear_after))

    async def tap_card(self, card: OperatorCard, tear_after: int | None = None) -> TapReport:
        """Hold an operator's card against the reader until the tap is over, and take it away."""
        return await self._presented(card.on_air(tear_after=tear_after))

    async def _presented(self, card: AirCard) -> TapReport:
        self.air.place(card)
        report = await asyncio.wait_for(self.reports.get(), LIMIT_S)
        self.air.remove()
        await asyncio.wait_for(self.air.polled(), LIMIT_S)
        return report

    async def present(self, card: Card, tear_after: int | None = None) -> TapReport:
        assert card.certificate is not None
        return await self.tap(PivChip(card.key, card.certificate), card.technology, tear_after)


@asynccontextmanager
async def open_lane(
    folder: Path,
    reader: Reader | None = None,
    *,
    families: Sequence[str] = ("piv",),
    operator: Operator | None = None,
) -> AsyncIterator[Lane]:
    """Provision a lane in an empty folder and serve it."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    air = await Field.open()
    depot, issuer = Depot.create(folder, air=air.path, port=1, families=families), Issuer.create("Lane issuer", now)
    depot.publish([issuer], [], now)
    config = gate_file.load(depot.gate_toml)
    lists = installed.load(config.lists, config.publisher_keys(), config.file.region)
    journal = await Journal.open(config.journal, config.file.device, config.device_private_key())
    cards = KnownCardStore.open(config.known_cards, lists.versions.trust)
    gate = RecordingGate(config.journal)
    station = Station(
        reader or NfcpyReader(f"nfcpy:{air.path}", air.path),
        gate,
        journal,
        cards,
        clock_of(config, lists.issued_floor_s * 1000),
        place_of(config),
        chosen(config.file.cards.families),
        OperatorKeys({}) if operator is None else operator_keys.load(operator.key_directory),
        lists,
        Progress({READER: 60, JOURNAL: 60}, time.monotonic()),
    )
    lane = Lane(depot, issuer, air, gate, station, now, operator)
    station.on_tap = lane.reports.put_nowait
    lane.serving = asyncio.create_task(station.run())
    try:
        yield lane
    finally:
        await lane.stop()
        cards.close()
        await journal.close()
        await air.close()
