"""Taps from the broker into the ledger: believe, commit, then acknowledge.

The order is what makes ``kill -9`` harmless at any line. The broker keeps a message until it is acknowledged here,
which is after the commit; the device keeps a tap until the back office's own signed acknowledgement, which comes last.
Whatever is lost in between is sent again, and the ledger knows it by ``(device, epoch, seq)``.

A message that is refused is acknowledged to the broker all the same: it will not get better, and the broker gives us
only so many unacknowledged messages before it stops. The device gets no acknowledgement for it; for a batch of its own
whose entries are refused it gets its present position, so that it goes on with what follows.

The broker's own limit on unacknowledged messages (Mosquitto: ``max_inflight_messages``, 20) bounds how much is
committed at once and how much backlog can be seen from here; 200 suits a busy back office.
"""

import asyncio
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from backend_sync import wire
from backend_sync.admission import Admission, admit
from backend_sync.ledger import Ledger, LedgerUnavailable, Receipt
from backend_sync.mqtt import Broker, Link, LinkLost, Message, connect, full_jitter
from backend_sync.throttle import Complaints
from backend_sync.wire import Ack

_LOG = structlog.get_logger("ingest")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SendRates:
    """How backlog turns into the rate that devices are allowed: full up to a low mark, least from a high mark on.

    Attributes:
        full: Taps per minute and device without backlog.
        least: Taps per minute and device under the worst backlog.
        low: Messages waiting from which the rate falls.
        high: Messages waiting at which it is least.
    """

    full: int = 60_000
    least: int = 300
    low: int = 20
    high: int = 200

    def at(self, backlog: int) -> int:
        """Return taps per minute for a number of messages waiting."""
        if backlog <= self.low:
            return self.full
        if backlog >= self.high:
            return self.least
        left = (self.high - backlog) / (self.high - self.low)
        return self.least + round((self.full - self.least) * left)


@dataclass(frozen=True, kw_only=True)
class IngestOptions:
    """How one ingest process runs. Times are seconds.

    Attributes:
        broker: The broker.
        ledger: URL of the ledger.
        key: Signs acknowledgements.
        signer: The name under which devices know that key.
        now_ms: Wall clock, milliseconds since 1970 UTC.
        devices: Whose taps are admitted, if registered; a device that was taken out is refused although the ledger
            still knows its key. None admits every registered device.
        at_once: The most messages committed together.
        rates: Back-pressure.
        reconnect: Bound of the first wait before connecting again.
        reconnect_max: Bound of any such wait.
        progress: Called whenever something moved or the wait for messages was looked after: the watchdog's food.
        recorded: Called with the receipts of each commit, for those who show it.
        rng: Source of jitter.
    """

    broker: Broker
    ledger: str
    key: Ed25519PrivateKey
    signer: str
    now_ms: Callable[[], int]
    devices: Container[str] | None = None
    at_once: int = 200
    rates: SendRates = field(default_factory=SendRates)
    reconnect: float = 1.0
    reconnect_max: float = 30.0
    progress: Callable[[], None] = lambda: None
    recorded: Callable[[list[Receipt]], None] = lambda _: None
    rng: Random = field(default_factory=Random)

    @property
    def identifier(self) -> str:
        """Client id: the same after every restart, so that the broker keeps what came meanwhile, and no other's."""
        return f"ingest-{self.signer}"


async def run(options: IngestOptions) -> None:
    """Record taps until cancelled.

    Raises:
        LedgerMissing: There is no ledger at the URL.
        LedgerError: The ledger's URL names another engine, or the file is no ledger.
        SchemaTooNew: A later version of this program wrote the ledger.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ledger") as thread:
        ingest = Ingest(options, thread)
        try:
            await ingest.run()
        finally:
            thread.submit(ingest.close).result()


class Ingest:
    """One ingest process; `run` is the way in.

    Args:
        options: How it runs.
        thread: One thread, for everything that touches the ledger.
    """

    def __init__(self, options: IngestOptions, thread: ThreadPoolExecutor) -> None:
        self._options = options
        self._thread = thread
        self._ledger: Ledger | None = None
        self._complain = Complaints(_LOG).warn
        self._committed = False

    async def run(self) -> None:
        """Connect, record, and connect again, until cancelled."""
        attempt = 0
        while True:
            self._committed = False
            try:
                await self._session()
            except LinkLost as lost:
                self._complain("link", "the broker is out of reach", why=str(lost))
            except LedgerUnavailable as full:
                # Leaving makes the broker deliver again what was not acknowledged; waiting here would not.
                self._complain("ledger", "nothing is acknowledged until the ledger is back", why=str(full))
            attempt = 0 if self._committed else attempt + 1
            options = self._options
            left = full_jitter(options.rng, attempt, options.reconnect, options.reconnect_max)
            while left > 0:
                await asyncio.sleep(min(left, 1.0))
                left -= 1.0
                options.progress()

    def close(self) -> None:
        """Close the ledger, in its thread."""
        if self._ledger is not None:
            self._ledger.close()

    async def _session(self) -> None:
        options = self._options
        await self._in_thread(self._opened)
        async with connect(options.broker, options.identifier, clean_session=False, manual_acks=True) as link:
            await link.subscribe(wire.TAP_UP_FILTER)
            while True:
                messages = await self._take(link)
                admissions, receipts = await self._in_thread(self._commit, messages)
                self._committed = True
                self._release(link, messages)
                await self._answer(link, receipts, options.rates.at(len(messages) + link.waiting))
                self._note(admissions, receipts)
                options.progress()

    async def _take(self, link: Link) -> list[Message]:
        """Wait for a message and take with it what else is there."""
        receiving = asyncio.ensure_future(link.receive())
        try:
            while not receiving.done():
                await asyncio.wait({receiving}, timeout=1.0)
                self._options.progress()
            messages = [receiving.result()]
        finally:
            receiving.cancel()
        while link.waiting and len(messages) < self._options.at_once:
            messages.append(await link.receive())
        return messages

    def _commit(self, messages: list[Message]) -> tuple[list[Admission], list[Receipt]]:
        ledger = self._opened()
        admissions = [admit(message.topic, message.payload, self._admitted_key) for message in messages]
        receipts = ledger.record_batches(
            [admission.arrival for admission in admissions if admission.arrival is not None],
            [rejection for admission in admissions for rejection in admission.rejections],
            received_ms=self._options.now_ms(),
        )
        return admissions, receipts

    def _admitted_key(self, device: str) -> Ed25519PublicKey | None:
        devices = self._options.devices
        return self._opened().device_key(device) if devices is None or device in devices else None

    def _release(self, link: Link, messages: list[Message]) -> None:
        for message in messages:
            link.acknowledge(message)

    async def _answer(self, link: Link, receipts: list[Receipt], send_rate: int) -> None:
        """Acknowledge to the devices, once for each journal, however many of its batches were in the commit."""
        contiguous = {(receipt.device, receipt.epoch): receipt.contiguous for receipt in receipts}
        acks = [
            Ack(device=device, epoch=epoch, contiguous_up_to=up_to, send_rate=send_rate)
            for (device, epoch), up_to in contiguous.items()
        ]
        options = self._options
        await asyncio.gather(
            *(link.publish(wire.ack(ack.device), wire.seal_ack(ack, options.key, options.signer)) for ack in acks)
        )

    def _note(self, admissions: list[Admission], receipts: list[Receipt]) -> None:
        for admission in admissions:
            for rejection in admission.rejections:
                source = f"refused {rejection.source}"
                self._complain(source, "refused", device=rejection.source, why=rejection.reason.value)
        for receipt in receipts:
            if receipt.conflicts:
                source = f"conflict {receipt.device}"
                facts = {"device": receipt.device, "epoch": receipt.epoch, "seqs": receipt.conflicts}
                self._complain(source, "two entries under one number", **facts)
        if receipts:
            self._options.recorded(receipts)

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.open(self._options.ledger)
        return self._ledger

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
