"""The link to the broker: acknowledged by hand, mutually authenticated, and gone when it is gone."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from backend_sync import ingest, uplink, wire
from backend_sync.mqtt import Broker, LinkLost, Message, connect, full_jitter
from tests.backend_sync.brokers import MosquittoCarrier, free_port, listening, mosquitto_program
from tests.backend_sync.depot import Depot, closed, running
from tests.backend_sync.gate import GateJournal
from validator.key_loading import TlsSection, load_tls

TOPIC = wire.tap_up("gate-1")


async def received(broker: Broker, *, acknowledge: bool) -> list[bytes]:
    """Connect as the same ingest as ever and take what the broker has for it."""
    messages: list[Message] = []
    async with connect(broker, "ingest-1", clean_session=False, manual_acks=True) as link:
        await link.subscribe(wire.TAP_UP_FILTER)
        await asyncio.sleep(0.2)
        while link.waiting:
            messages.append(await link.receive())
        if acknowledge:
            for message in messages:
                link.acknowledge(message)
    return [message.payload for message in messages]


async def test_what_was_not_acknowledged_is_delivered_again(mosquitto: Depot) -> None:
    broker = mosquitto.carrier.address
    assert await received(broker, acknowledge=True) == []
    async with connect(broker, "gate-1", clean_session=True) as link:
        for payload in (b"1", b"2"):
            await link.publish(TOPIC, payload)
    for _ in range(2):
        assert await received(broker, acknowledge=False) == [b"1", b"2"]
    assert await received(broker, acknowledge=True) == [b"1", b"2"]
    assert await received(broker, acknowledge=True) == []


@pytest.mark.parametrize("wait", ["receive", "publish", "subscribe"])
async def test_a_broker_that_goes_away_ends_every_wait_at_once(tmp_path: Path, wait: str) -> None:
    carrier = MosquittoCarrier(tmp_path)
    await carrier.start()
    async with asyncio.timeout(4):  # the broker's own answers are waited for longer than that
        with pytest.raises(LinkLost):  # noqa: PT012 - the whole life of the link is the statement
            async with connect(carrier.address, "gate-1", clean_session=True) as link:
                carrier.freeze()
                waits: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
                    "receive": link.receive,
                    "publish": lambda: link.publish(TOPIC, b"1"),
                    "subscribe": lambda: link.subscribe(TOPIC),
                }
                waiting = asyncio.ensure_future(waits[wait]())
                await asyncio.sleep(0.2)
                assert not waiting.done()
                await carrier.kill()
                await waiting


async def test_nobody_there_is_a_lost_link() -> None:
    with pytest.raises(LinkLost):
        async with connect(Broker("127.0.0.1", free_port()), "gate-1", clean_session=True):
            raise AssertionError("connected to nobody")


async def test_cancelling_while_connecting_leaves_nothing_open(mosquitto: Depot) -> None:
    for pause in (0.0, 0.001, 0.003, 0.01):

        async def attempt() -> None:
            async with connect(mosquitto.carrier.address, "gate-1", clean_session=True):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(attempt())
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_full_jitter_spreads_over_the_whole_width_and_stays_below_its_bound() -> None:
    rng = Random(1)
    for attempt, bound in ((0, 1.0), (3, 8.0), (8, 256.0), (9, 300.0), (10_000, 300.0)):
        waits = [full_jitter(rng, attempt, 1.0, 300.0) for _ in range(500)]
        assert 0.0 <= min(waits) < 0.05 * bound
        assert 0.95 * bound < max(waits) <= bound


class Authority:
    """Issues the broker's and the devices' certificates; a device's CN is its id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test depot")])
        self.ca = self._write(
            "ca", self._certificate(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        )

    def issue(self, name: str) -> TlsSection:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        cert = self._write(name, self._certificate(subject, key, address))
        path = self.folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsSection(str(self.ca), str(cert), str(path))

    def context(self, name: str) -> ssl.SSLContext:
        return load_tls(self.issue(name), Path, name)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@asynccontextmanager
async def guarded_broker(folder: Path, authority: Authority) -> AsyncIterator[Broker]:
    """Mosquitto as in the field: client certificates only, and each CN kept to its own topics."""
    server, port = authority.issue("broker"), free_port()
    acl, config = folder / "acl", folder / "guarded.conf"
    acl.write_text(
        "pattern write pilet/1/tap/%u/up\npattern read pilet/1/device/%u/#\npattern write pilet/1/state/%u/#\n"
        "user ingest-1\ntopic read pilet/1/tap/#\ntopic write pilet/1/device/#\n"
    )
    config.write_text(
        f"user root\nlistener {port} 127.0.0.1\n"
        f"cafile {server.ca}\ncertfile {server.certificate}\nkeyfile {server.key}\n"
        "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n"
        f"allow_anonymous false\nacl_file {acl}\n"
        "persistence false\nlog_dest none\n"
    )
    process = await asyncio.create_subprocess_exec(mosquitto_program(), "-c", str(config))
    try:
        await listening(port)
        yield Broker("127.0.0.1", port, timeout=5.0)
    finally:
        process.kill()
        await process.wait()


async def test_each_device_with_its_own_certificate_and_its_own_topics(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    depot = Depot(tmp_path, MosquittoCarrier(tmp_path), GateJournal().fill(70))
    depot.register()
    async with guarded_broker(tmp_path, authority) as broker:
        gate, office, thief = (replace(broker, tls=authority.context(cn)) for cn in ("gate-1", "ingest-1", "gate-2"))
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        nobody.load_verify_locations(authority.ca)
        with pytest.raises(LinkLost):
            async with connect(replace(broker, tls=nobody, timeout=1.0), "gate-1", clean_session=True):
                raise AssertionError("connected without a certificate")
        async with running(
            ingest.run(depot.ingest_options(broker=office)), uplink.run(depot.uplink_options(broker=gate))
        ):
            async with connect(thief, "gate-2", clean_session=True) as link:
                await link.publish(TOPIC, b"in the name of another gate")
            await depot.until_acknowledged()
    books = depot.books()
    closed(books, 70)
    assert books.rejected == {}, "the broker acknowledged what it then threw away"
