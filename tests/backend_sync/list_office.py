"""A back office whose lists travel by the catalogue: its files as people have them, and a gate that listens."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from backend_sync import config as office_file
from backend_sync import revocations, wire
from backend_sync.announcing import AnnounceOptions
from backend_sync.catalogue import ceremony
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Kind, delegated_role
from backend_sync.cataloguing import ListCatalogue, needed_catalogue
from backend_sync.ledger import Ledger, Sale
from backend_sync.mqtt import Broker, Link, connect
from backend_sync.publisher import Dates, Published, Publisher
from backend_sync.retained import NotThere, RetainedReader
from backend_sync.revocations import Why
from backend_sync.wire import ChangeTopic, ListState, Reported
from tests.backend_sync.catalogue_office import DAY, HOLDERS, NOW, key, public
from tests.backend_sync.gate import purse
from validator.lists.changes_file import with_changes
from validator.lists.deny_change import open_change
from validator.lists.deny_list import DenyList
from validator.lists.manifest import ListKind, open_manifest
from validator.model import Credential

REGION = "north"
KINDS = (Kind.TRUST, Kind.DENY, Kind.TICKETS, Kind.TARIFF)


def card(number: int) -> Credential:
    return Credential(number.to_bytes(16))


@dataclass
class ListOffice:
    """A back office.

    Attributes:
        home: A folder of its own.
        broker: Where it announces.
        devices: The gates it knows.
        made_s: When its root and targets were made, seconds since 1970 UTC.
    """

    home: Path
    broker: Broker = field(default_factory=lambda: Broker("127.0.0.1", 1))
    devices: Sequence[str] = ("gate-1",)
    made_s: int = NOW

    def __post_init__(self) -> None:
        self.keys = self.home / "keys"
        (self.keys / REGION).mkdir(parents=True)
        for role in (SNAPSHOT, TIMESTAMP):
            self._write_key(self.keys / f"{role}.key", role)
        for kind in KINDS:
            self._write_key(self.keys / REGION / f"{kind}.key", delegated_role(REGION, kind))
        for name in ("office", "publisher", *self.devices):
            self._write_key(self.home / f"{name}.key", name)
        devices = "\n".join(f'{device} = "{device}.pub"' for device in self.devices)
        self.toml.write_text(
            f'name = "office"\nkey = "office.key"\nregion = "{REGION}"\nledger = "sqlite:///ledger.db"\n'
            f'[broker]\nhost = "127.0.0.1"\nport = {self.broker.port}\n'
            '[publisher]\nname = "publisher"\nkey = "publisher.key"\nout = "published"\n'
            f'[catalogue]\nfolder = "catalogue"\nkeys = "keys"\n[devices]\n{devices}\n'
        )
        Ledger.open(self.ledger, create=True).close()
        self.documents = self.home / "ceremony"
        self.documents.mkdir()
        held = {
            ROOT: [public(name) for name in HOLDERS],
            TARGETS: [public(TARGETS)],
            SNAPSHOT: [public(SNAPSHOT)],
            TIMESTAMP: [public(TIMESTAMP)],
        }
        root = ceremony.first_root(held, self.made_s)
        for name in HOLDERS[:2]:
            root = ceremony.sign(root, key(name))
        regional = {REGION: {kind: public(delegated_role(REGION, kind)) for kind in KINDS}}
        targets = ceremony.sign(ceremony.first_targets(regional, self.made_s), key(TARGETS), root)
        (self.documents / "1.root.json").write_bytes(root)
        (self.documents / "1.targets.json").write_bytes(targets)

    @property
    def toml(self) -> Path:
        return self.home / "office.toml"

    @property
    def ledger(self) -> str:
        return f"sqlite:///{self.home}/ledger.db"

    @property
    def lists(self) -> Path:
        return self.home / "published"

    @property
    def catalogue(self) -> ListCatalogue:
        return needed_catalogue(office_file.load(self.toml))

    def adopt(self) -> "ListOffice":
        """Bring the ceremony's documents into the catalogue."""
        with self.catalogue.opened() as repository:
            for name in ("1.root.json", "1.targets.json"):
                repository.adopt((self.documents / name).read_bytes())
        return self

    def publish_deny(self, credentials: Sequence[Credential] = (), percent: int = 100, now_s: int = NOW) -> Published:
        """Publish a deny list as the command does."""
        with Ledger.open(self.ledger) as ledger, ledger.reading() as connection:
            listed = [each.id for each in (*credentials, *revocations.revoked(connection))]
            row = revocations.last_row(connection)
        signer, signing = self.catalogue.signer(ListKind.DENY)
        published = Publisher(self.lists, signer, signing, REGION).deny(listed, Dates(now_s, now_s + DAY), row)
        self.catalogue.bring(published, percent, now_s)
        return published

    def publish_tickets(self, percent: int = 100, now_s: int = NOW) -> Published:
        """Publish a ticket list as the command does."""
        signer, signing = self.catalogue.signer(ListKind.TICKETS)
        publisher = Publisher(self.lists, signer, signing, REGION)
        with Ledger.open(self.ledger) as ledger, ledger.snapshot() as sold:
            dates, row = Dates(now_s, now_s + DAY), sold.last_sale()
            published = publisher.tickets(sold.product_states(), sold.horizons(), dates, row=row)
        self.catalogue.bring(published, percent, now_s)
        return published

    def sell(self, number: int, to: Credential) -> None:
        with Ledger.open(self.ledger) as ledger:
            ledger.record_sale(Sale(to.id, purse(number, 1000), 1000, NOW * 1000))

    def revoke(self, *credentials: Credential) -> None:
        with Ledger.open(self.ledger) as ledger, ledger.writing() as connection:
            revocations.revoke(connection, credentials, Why.STOLEN, NOW * 1000)

    def restore(self, *credentials: Credential) -> None:
        with Ledger.open(self.ledger) as ledger, ledger.writing() as connection:
            revocations.restore(connection, [each.id for each in credentials], Why.FOUND, NOW * 1000)

    def options(self, **changes: Any) -> AnnounceOptions:
        settings: dict[str, Any] = {
            "broker": self.broker,
            "identifier": "announce-office",
            "catalogue": self.catalogue,
            "lists": self.lists,
            "ledger": self.ledger,
            "devices": frozenset(self.devices),
            "now_s": lambda: NOW,
            "poll": 0.05,
            "register": 0.5,
            "reconnect": 0.05,
            "reconnect_max": 0.3,
        }
        return AnnounceOptions(**settings | changes)

    def files(self) -> dict[str, bytes]:
        """The catalogue's files, by topic."""
        found = {}
        for path in (self.home / "catalogue" / "metadata").iterdir():
            found[wire.list_metadata(REGION, path.name)] = path.read_bytes()
        for path in (self.home / "catalogue" / "objects").iterdir():
            found[wire.list_object(REGION, bytes.fromhex(path.name))] = path.read_bytes()
        return found

    def _write_key(self, path: Path, name: str) -> None:
        private = key(name)
        path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
        public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.with_suffix(".pub").write_bytes(public_pem)


@dataclass
class Listener:
    """A gate's ear: what it hears on ``next``, and what it finds when it joins."""

    link: Link
    reader: RetainedReader
    heard: list[bytes] = field(default_factory=list)

    async def receive(self) -> None:
        while True:
            message = await self.link.receive()
            if not self.reader.take(message) and message.topic == wire.list_change(REGION, "deny", "next"):
                self.heard.append(message.payload)

    async def read(self, topic: str) -> bytes | None:
        try:
            return await self.reader.read(topic)
        except NotThere:
            return None

    async def changes(self, which: ChangeTopic) -> list[bytes]:
        found = await self.read(wire.list_change(REGION, "deny", which))
        if found is None:
            return []
        return [found] if which == "cumulative" else sealed_in(found)

    async def joined(self, published: Published) -> DenyList:
        """The list as a gate has it that joins now."""
        return changed(published, [*await self.changes("cumulative"), *await self.changes("since")])

    async def report(self, device: str, state: ListState, kind: str = "deny") -> None:
        reported = Reported(device=device, epoch=1, head=0, queue=0, lists={kind: state})
        await self.link.publish(wire.reported(device), wire.encode(reported), retain=True)


def sealed_in(payload: bytes) -> list[bytes]:
    """The changes of an array of them."""
    return msgspec.msgpack.decode(payload, type=list[bytes])


def changed(published: Published, sealed: Sequence[bytes]) -> DenyList:
    """A list with changes laid over it, all of which have to hold."""
    keys = {f"{REGION}.deny": key(f"{REGION}.deny").public_key()}
    manifest = open_manifest(published.manifest_path.read_bytes(), keys)
    mine = [each for each in sealed if open_change(each, keys).version == manifest.version]
    found = with_changes(DenyList.parse(published.payload_path.read_bytes()), manifest, mine, keys)
    assert found.fault is None, found.fault
    return found.listed


@contextlib.asynccontextmanager
async def listening(broker: Broker, name: str = "gate-1") -> AsyncIterator[Listener]:
    async with connect(broker, name, clean_session=True) as link:
        listener = Listener(link, RetainedReader(link, 0.7))
        receiving = asyncio.create_task(listener.receive())
        await link.subscribe(wire.list_change(REGION, "deny", "next"))
        yield listener
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def become(true: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - what is waited for is at the broker
            await asyncio.sleep(0.02)


def has_heard(listener: Listener, count: int) -> bool:
    return len(listener.heard) >= count


async def stands(listener: Listener, office: ListOffice) -> bool:
    """Whether all of the catalogue is at the broker as it is in its folder."""
    files, timestamp = office.files(), wire.list_metadata(REGION, "timestamp.json")
    if await listener.read(timestamp) != files[timestamp]:
        return False
    found = await asyncio.gather(*(listener.read(topic) for topic in files))
    if files != office.files():
        return False
    assert found == list(files.values()), "the timestamp comes after all that it names"
    return True


async def started(office: ListOffice) -> asyncio.subprocess.Process:
    """The announcing service as people start it, in a process of its own."""
    command = (sys.executable, "-m", "backend_sync", "publish", "announce", "--config", str(office.toml))
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
