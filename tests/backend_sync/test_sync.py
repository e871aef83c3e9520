"""A journal, an uplink, a broker, an ingest and a ledger, all real, in one event loop."""

import asyncio
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync import ingest, uplink, wire
from backend_sync.mqtt import Link
from backend_sync.vehicle_position import PositionRelay
from backend_sync.wire import Presence, PresenceState, Reported, VehiclePosition
from tests.backend_sync.depot import Depot, closed, heard, listener, running, until
from tests.backend_sync.gate import CREDENTIAL, GateJournal, a_tap, key_of
from validator.journal import Journal
from validator.journal_reader import JournalReader
from validator.model import ClockConfidence, Instant
from validator.position import Position
from validator.vehicle_feed import VehiclePosition as VehicleFeed


async def test_a_journal_becomes_a_ledger(depot: Depot) -> None:
    depot.journal.fill(230)
    depot.register()
    async with running(ingest.run(depot.ingest_options()), uplink.run(depot.uplink_options())):
        await depot.until_acknowledged()
        for number in range(20):
            depot.journal.append(a_tap(1000 + number))
            await asyncio.sleep(0.01)
        await depot.until_acknowledged()
    closed(depot.books(), 250)


async def test_a_broker_that_dies_in_the_middle_loses_nothing(depot: Depot) -> None:
    depot.journal.fill(2000)
    depot.register()
    async with running(ingest.run(depot.ingest_options()), uplink.run(depot.uplink_options())):
        for mark in (100, 800):
            await until(lambda mark=mark: depot.cursor() >= mark)  # type: ignore[misc]
            await depot.carrier.kill()
            depot.journal.fill(100)
            await asyncio.sleep(0.1)
            await depot.carrier.start()
        await depot.until_acknowledged()
    closed(depot.books(), 2200)


async def test_ingest_may_come_later_and_go_at_any_time(depot: Depot) -> None:
    depot.journal.fill(300)
    depot.register()
    async with running(uplink.run(depot.uplink_options())):
        await asyncio.sleep(0.2)
        async with running(ingest.run(depot.ingest_options())):
            await until(lambda: depot.cursor() >= 50)
        depot.journal.fill(100)
        async with running(ingest.run(depot.ingest_options())):
            await depot.until_acknowledged()
    closed(depot.books(), 400)


async def test_a_cursor_that_is_lost_costs_one_batch(mosquitto: Depot) -> None:
    mosquitto.journal.fill(1000)
    mosquitto.register()
    async with running(ingest.run(mosquitto.ingest_options())):
        async with running(uplink.run(mosquitto.uplink_options())):
            await mosquitto.until_acknowledged()
        (mosquitto.folder / "cursor").write_bytes(b"damaged")
        async with running(uplink.run(mosquitto.uplink_options())):
            await mosquitto.until_acknowledged()
    books = mosquitto.books()
    closed(books, 1000)
    assert 50 <= len(books.devices[0].discarded) <= 400


async def test_a_new_life_of_the_journal_starts_from_its_first_entry(mosquitto: Depot) -> None:
    old, new = GateJournal(epoch=5).fill(60), GateJournal(epoch=900).fill(30)
    now = [old]
    mosquitto.register(old)

    class Recreated:
        @property
        def epoch(self) -> int:
            return now[0].epoch

        def head(self) -> int:
            return now[0].head()

        def entries_after(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
            return now[0].entries_after(seq, limit)

        def close(self) -> None:
            """Nothing is open."""

    options = mosquitto.uplink_options(open_journal=lambda _: Recreated())
    async with running(ingest.run(mosquitto.ingest_options()), uplink.run(options)):
        await until(lambda: mosquitto.cursor(5) == 60)
        now[0] = new
        await until(lambda: mosquitto.cursor(900) == 30)
    closed(mosquitto.books(), 90)


async def test_the_validators_own_journal(mosquitto: Depot, tmp_path: Path) -> None:
    key: Ed25519PrivateKey = key_of("gate-1")
    journal = await Journal.open(tmp_path / "journal.db", "gate-1", key)
    mosquitto.register()
    options = mosquitto.uplink_options(open_journal=JournalReader)
    async with running(ingest.run(mosquitto.ingest_options()), uplink.run(options)):
        for number in range(40):
            await journal.settle(CREDENTIAL, lambda _, number=number: a_tap(number + 1))  # type: ignore[misc]
        await until(lambda: mosquitto.cursor(journal.epoch) == 40)
    await journal.close()
    closed(mosquitto.books(), 40)


async def test_presence_and_state_are_reported(depot: Depot) -> None:
    depot.journal.fill(120)
    presence, reported = wire.presence("gate-1"), wire.reported("gate-1")
    options = depot.uplink_options(versions=lambda: {"tickets": 4})
    async with listener(depot, presence, reported) as link:
        async with running(uplink.run(options)):
            ready = wire.decode(Presence, await heard(link))
            state = wire.decode(Reported, await heard(link))
        slept = wire.decode(Presence, await heard(link))
    assert (ready.state, slept.state) == (PresenceState.READY, PresenceState.SLEEPING)
    assert ready.session == slept.session
    assert state == Reported(device="gate-1", epoch=7, head=120, queue=120, versions={"tickets": 4})
    async with listener(depot, presence) as late:
        assert wire.decode(Presence, await heard(late)) == slept


async def test_a_device_that_vanishes_is_reported_lost(mosquitto: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[Link] = []
    subscribe = Link.subscribe

    async def remembered(self: Link, topic: str) -> None:
        links.append(self)
        await subscribe(self, topic)

    async with listener(mosquitto, wire.presence("gate-1")) as link:
        monkeypatch.setattr(Link, "subscribe", remembered)
        async with running(uplink.run(mosquitto.uplink_options(reconnect=5.0, reconnect_max=5.0))):
            ready = wire.decode(Presence, await heard(link))
            links[0]._client._client._sock_close()
            lost = wire.decode(Presence, await heard(link))
    assert (ready.state, lost.state) == (PresenceState.READY, PresenceState.LOST)
    assert ready.session == lost.session


async def test_several_gates_share_one_ingest(mosquitto: Depot) -> None:
    others = [
        Depot(mosquitto.folder / name, mosquitto.carrier, GateJournal(name).fill(120)) for name in ("a", "b", "c")
    ]
    for other in others:
        other.folder.mkdir()
    mosquitto.register(*(other.journal for other in others))
    async with running(
        ingest.run(mosquitto.ingest_options()), *(uplink.run(other.uplink_options()) for other in others)
    ):
        for other in others:
            await other.until_acknowledged()
    closed(mosquitto.books(), 360)


async def test_a_vehicles_position_reaches_its_gate(depot: Depot) -> None:
    device, file, at_s = depot.journal.device, depot.folder / "position.json", 1_795_435_200
    feed, at = VehicleFeed(file, 60, ZoneInfo("UTC")), Instant(at_s * 1000, 0, b"one-boot", ClockConfidence.NTP)
    told = VehiclePosition(at_s=at_s, stop="7820", route="5", zones=["A"], network="bus")
    async with listener(depot) as computer:
        await computer.publish(wire.position(device), wire.encode(told), retain=True)
        assert not feed(at).known
        async with running(uplink.run(depot.uplink_options(position=PositionRelay(device, file)))):
            await until(file.exists)
            assert feed(at) == Position(frozenset({"A"}), "bus", "7820", "5")
            await computer.publish(wire.position(device), b"nowhere")
            later = wire.encode(VehiclePosition(at_s=at_s + 30, stop="7821"))
            await computer.publish(wire.position(device), later)
            await until(lambda: feed(at).stop == "7821")


async def test_a_position_that_cannot_be_written_is_lost_and_nothing_else(mosquitto: Depot) -> None:
    device = mosquitto.journal.device
    relay = PositionRelay(device, mosquitto.folder / "nowhere" / "position.json")
    mosquitto.register()
    async with listener(mosquitto) as computer:
        await computer.publish(wire.position(device), wire.encode(VehiclePosition(at_s=1)), retain=True)
        async with running(
            ingest.run(mosquitto.ingest_options()), uplink.run(mosquitto.uplink_options(position=relay))
        ):
            mosquitto.journal.fill(30)
            await mosquitto.until_acknowledged()
    closed(mosquitto.books(), 30)
