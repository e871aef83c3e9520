"""Provisions gates and a back office in one folder: keys, files, tickets sold, lists published and installed.

The demo and the benchmarks use it; what it writes is what depot staff would write.
"""

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend_sync.delivery import deliver
from backend_sync.demo.issuer import Issuer
from backend_sync.demo.media import Operator
from backend_sync.ledger import Ledger
from backend_sync.publisher import Dates, Publisher, create_key, write_public_key
from backend_sync.recorded_editions import record_editions
from backend_sync.sales import Sale
from validator.fares.editions import Edition, encode_editions
from validator.rights import Product

DEVICE, OFFICE, PUBLISHER = "gate-0001", "office-1", "publisher-1"
PLACE, REGION = "market-square", "demo"
FRESH_S = 7 * 24 * 3600

_GATE_TOML = """\
device = "{device}"
place = "{place}"
lane = "lane-1"
region = "{region}"
clock = "synchronized"
state = "state"
device_key = "device.pem"

[reader]
name = "nfcpy:{air}"

[cards]
families = {families}
{keys}

[gate]
driver = "none"

[lists.publishers]
"{publisher}" = "{up}publisher.pub"

[uplink]
host = "127.0.0.1"
port = {port}

[uplink.offices]
"{office}" = "{up}office.pub"

[position]
{position}
"""

_OFFICE_TOML = """\
name = "{office}"
key = "office.pem"
region = "{region}"
ledger = "sqlite:///ledger.db"

[broker]
host = "127.0.0.1"
port = {port}

[publisher]
name = "{publisher}"
key = "publisher.pem"
out = "published"

[devices]
"{device}" = "device.pub"
"""


@dataclass(frozen=True, slots=True)
class DemoGate:
    """One gate of a depot.

    Attributes:
        device: Its id.
        folder: Where its file and its state lie.
    """

    device: str
    folder: Path

    @property
    def toml(self) -> Path:
        """Its file."""
        return self.folder / "gate.toml"

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.folder / "state"


@dataclass(frozen=True, slots=True)
class Depot:
    """One folder with everything that gates and their back office need.

    Attributes:
        folder: Where it all lies.
        publisher: Signs lists.
        words: What all gates have in common, for their files.
        gates: The first one's files lie in the folder itself.
    """

    folder: Path
    publisher: Publisher
    words: dict[str, object]
    gates: list[DemoGate]

    @classmethod
    def create(
        cls, folder: Path, *, air: str, port: int, families: Sequence[str] = ("piv",), keys: Path | None = None
    ) -> "Depot":
        """Make keys and configuration files.

        Args:
            folder: An empty directory.
            air: nfcpy's path of the simulated reader, ``udp:HOST:PORT``.
            port: The broker's loopback port.
            families: Card families that the gate takes, in order.
            keys: Directory of operator keys.
        """
        for name in ("device", "office"):
            write_public_key(create_key(folder / f"{name}.pem"), folder / f"{name}.pub")
        signing = create_key(folder / "publisher.pem")
        write_public_key(signing, folder / "publisher.pub")
        words: dict[str, object] = {
            "device": DEVICE,
            "region": REGION,
            "office": OFFICE,
            "publisher": PUBLISHER,
            "port": port,
            "families": json.dumps(list(families)),
            "keys": "" if keys is None else f"keys = {json.dumps(str(keys))}",
        }
        (folder / "office.toml").write_text(_OFFICE_TOML.format(**words))
        depot = cls(folder, Publisher(folder / "published", PUBLISHER, signing, REGION), words, [])
        depot._write_gate(DemoGate(DEVICE, folder), PLACE, air, "", "")
        return depot

    def add_gate(self, device: str, place: str, air: str, position: str) -> DemoGate:
        """Enrol one more gate, in a folder of its own.

        Args:
            device: Its id.
            place: Where it stands.
            air: nfcpy's path of its simulated reader.
            position: Lines of ``[position]`` in its file.
        """
        gate = DemoGate(device, self.folder / device)
        gate.folder.mkdir()
        write_public_key(create_key(gate.folder / "device.pem"), gate.folder / "device.pub")
        with self.office_toml.open("a") as file:
            file.write(f'"{device}" = "{device}/device.pub"\n')
        self._write_gate(gate, place, air, position, "../")
        return gate

    def _write_gate(self, gate: DemoGate, place: str, air: str, position: str, up: str) -> None:
        words = {**self.words, "device": gate.device, "place": place, "air": air, "position": position, "up": up}
        gate.toml.write_text(_GATE_TOML.format(**words))
        (gate.state / "uplink").mkdir(parents=True)
        self.gates.append(gate)

    @property
    def gate_toml(self) -> Path:
        """The gate's file."""
        return self.folder / "gate.toml"

    @property
    def office_toml(self) -> Path:
        """The back office's file."""
        return self.folder / "office.toml"

    @property
    def state(self) -> Path:
        """The gate's state directory."""
        return self.folder / "state"

    @property
    def ledger_url(self) -> str:
        """URL of the ledger."""
        return f"sqlite:///{self.folder / 'ledger.db'}"

    def sell(self, products: Iterable[tuple[bytes, Product]], now: dt.datetime) -> None:
        """Record sales in the ledger; the price is what was loaded, or a ride's worth."""
        sold_ms = int(now.timestamp() * 1000)
        with Ledger.open(self.ledger_url, create=True) as ledger:
            for credential_id, product in products:
                ledger.record_sale(Sale(credential_id, product, product.balance or 2_000, sold_ms))

    def publish(
        self,
        issuers: Sequence[Issuer],
        revoked: Iterable[bytes],
        now: dt.datetime,
        *,
        operator: Operator | None = None,
        enrolled: Sequence[bytes] = (),
        editions: Sequence[Edition] = (),
    ) -> None:
        """Publish lists, tickets from the ledger, and install them at the gate.

        Args:
            issuers: Issuers of X.509 certificates.
            revoked: Credentials that are refused.
            now: When they are made.
            operator: Whose own media are believed as well.
            enrolled: Bare keys that are enrolled, SubjectPublicKeyInfo in DER.
            editions: Of the tariff.
        """
        dates = Dates(int(now.timestamp()), int(now.timestamp()) + FRESH_S)
        anchors = []
        for number, issuer in enumerate(issuers):
            anchors.append(self.folder / f"issuer-{number}.pem")
            anchors[-1].write_bytes(issuer.pem)
        pkoc, signers = (operator.pkoc_issuers, operator.sm_signers) if operator else ({}, ())
        self.publisher.trust(anchors, [], dates, pkoc_issuers=pkoc, sm_signers=signers)
        if enrolled:
            self.publisher.enrolled(enrolled, dates)
        self.publisher.deny(revoked, dates)
        if editions:
            self.publisher.tariff(encode_editions(editions), len(editions), dates)
            with Ledger.open(self.ledger_url, create=True) as ledger, ledger.writing() as connection:
                record_editions(connection, editions, dates.issued_s * 1000)
        with Ledger.open(self.ledger_url, create=True) as ledger, ledger.snapshot() as tickets:
            self.publisher.tickets(tickets.product_states(), tickets.horizons(), dates)
        self.install()

    def install(self) -> None:
        """Install the newest published lists at the gates."""
        keys = {PUBLISHER: self.publisher.key.public_key()}
        for gate in self.gates:
            deliver(self.publisher.out, gate.state / "lists", keys, REGION)
