"""From the ceremony of keys to a stolen card that is refused: what people type, real processes, and one gate."""

import asyncio
import datetime as dt
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from backend_sync.demo.day import anext_event, present
from backend_sync.demo.depot import DEVICE, PUBLISHER, REGION, Depot
from backend_sync.demo.issuer import DAY, Issuer
from backend_sync.demo.population import Card
from backend_sync.demo.processes import Process
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.piv import PivChip
from tests.backend_sync.brokers import MosquittoCarrier
from validator.rights import Product, ProductKind

PASSPHRASE = "a passphrase for tests\n"
ANSWER_S = 60.0


class Office:
    """Types commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def type(self, *arguments: str, answer: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "backend_sync", *arguments],
            cwd=self.folder,
            input=answer,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def publish(self, *arguments: str) -> str:
        return self.type("publish", *arguments, "--config", "office.toml")

    def ceremony(self) -> None:
        """Three holders of root, one of targets, and the keys of the machine that publishes."""
        (self.folder / "keys" / REGION).mkdir(parents=True)
        offline = ("anna", "bo", "chen", "targets")
        for name in offline:
            self.type("publish", "keys", "create", f"{name}.key", answer=PASSPHRASE)
        for name in ("snapshot", "timestamp", *(f"{REGION}/{kind}" for kind in ("trust", "deny", "tickets"))):
            self.type("publish", "keys", "create", f"keys/{name}.key", "--online")
        roots = [part for name in offline[:3] for part in ("--root", f"{name}.pub")]
        online = ["--snapshot", "keys/snapshot.pub", "--timestamp", "keys/timestamp.pub"]
        region = ["--region", f"{REGION}=keys/{REGION}"]
        self.type("publish", "keys", "init", "ceremony", *roots, "--targets", "targets.pub", *online, *region)
        for document, name in (("1.root.json", "anna"), ("1.root.json", "chen"), ("1.targets.json", "targets")):
            signing = (f"ceremony/{document}", "--key", f"{name}.key")
            self.type("publish", "keys", "sign", *signing, answer=PASSPHRASE)
        self.publish("keys", "adopt", "ceremony/1.root.json", "ceremony/1.targets.json")


def with_catalogue(depot: Depot) -> None:
    """The gate knows the root and nobody else; the office has a catalogue."""
    gate = depot.gate_toml.read_text()
    publisher = f'[lists.publishers]\n"{PUBLISHER}" = "publisher.pub"\n'
    assert publisher in gate
    depot.gate_toml.write_text(gate.replace(publisher, '[catalogue]\nroot = "ceremony/1.root.json"\n'))
    with depot.office_toml.open("a") as office:
        office.write('\n[catalogue]\nfolder = "catalogue"\nkeys = "keys"\ncanary_percent = 100\n')


@asynccontextmanager
async def process(depot: Depot, name: str, *arguments: str) -> AsyncIterator[Process]:
    started = Process(name, ["-W", "error", "-m", *arguments], depot.folder / f"{name}.log")
    await started.start()
    try:
        yield started
    finally:
        await started.stop()


async def tapped(card: Card, air: Field, events: AsyncIterator[dict[str, Any]]) -> str:
    assert card.certificate is not None
    event = await present(AirCard(PivChip(card.key, card.certificate), card.technology), air, events)
    air.remove()
    await asyncio.wait_for(air.polled(), 10)
    reason: str = event["reason"]
    return reason


async def until_tapped(reason: str, card: Card, air: Field, events: AsyncIterator[dict[str, Any]]) -> list[str]:
    """Tap until the gate says something else; what it said on the way."""
    said = list[str]()
    async with asyncio.timeout(ANSWER_S):
        while (last := await tapped(card, air, events)) != reason:
            said.append(last)
            await asyncio.sleep(0.3)
    return said


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_stolen_card_is_refused_at_a_gate_that_knows_nothing_but_a_root(tmp_path: Path) -> None:
    now, carrier = dt.datetime.now(dt.UTC), MosquittoCarrier(tmp_path)
    air = await Field.open()
    depot = Depot.create(tmp_path, air=air.path, port=carrier.address.port)
    office, issuer = Office(tmp_path), Issuer.create("Issuer", now)
    key = ec.generate_private_key(ec.SECP256R1())
    card = Card(key, issuer.issue(key, now - DAY, now + 365 * DAY), Technology.TYPE_A, "jcop4-p71")
    now_s = int(now.timestamp())
    depot.sell([(card.credential_id, Product(1, ProductKind.PERIOD_PASS, now_s - 60, now_s + 3600, now_s - 60))], now)
    with_catalogue(depot)
    await asyncio.to_thread(office.ceremony)
    (tmp_path / "issuer.pem").write_bytes(issuer.pem)
    (tmp_path / "nobody").write_text("")
    await asyncio.to_thread(office.publish, "trust", "issuer.pem")
    await asyncio.to_thread(office.publish, "deny", "nobody", "--empty")
    await asyncio.to_thread(office.publish, "tickets")
    gate = ("--config", str(depot.gate_toml))
    await carrier.start()
    try:
        async with (
            process(depot, "announce", "backend_sync", "publish", "announce", "--config", str(depot.office_toml)),
            process(depot, "validator", "validator", "run", *gate, "--json") as validator,
            process(depot, "uplink", "backend_sync", "uplink", *gate),
        ):
            events = validator.events()
            await anext_event(events, "ready")
            before = await until_tapped("VALID", card, air, events)
            assert set(before) <= {"TRUST_LIST_STALE", "DENY_LIST_STALE", "TICKET_LIST_STALE"}, "no list, no ride"
            stolen = (card.credential_id.hex(), "--why", "stolen", "--config", "office.toml")
            await asyncio.to_thread(office.type, "enrol", "revoke", *stolen)
            assert set(await until_tapped("REVOKED", card, air, events)) <= {"VALID"}
            found = (card.credential_id.hex(), "--why", "found", "--config", "office.toml")
            await asyncio.to_thread(office.type, "enrol", "restore", *found)
            assert set(await until_tapped("VALID", card, air, events)) <= {"REVOKED"}
            status = await asyncio.to_thread(office.publish, "status", "--json")
            told = {each["kind"]: each for each in map(json.loads, status.splitlines())}
            assert told.keys() == {"trust", "deny", "tickets"}
            for each in told.values():
                assert (each["version"], each["on"], each["refused"], each["stopped"]) == (1, [DEVICE], {}, False)
    finally:
        await carrier.kill()
        await air.close()
