"""Gates' uplinks and the announcing office on a real Mosquitto: from a revocation to a refusal, and what comes between.

The last class is named after July 2008, when a wrong table was published to every reader in London.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from backend_sync import announcing, uplink, wire
from backend_sync.mqtt import connect
from backend_sync.publisher import Published
from backend_sync.wave_rule import WaveRule
from backend_sync.wire import ListState, Reported
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import NOW, key
from tests.backend_sync.depot import running, until
from tests.backend_sync.list_device import PASSENGERS
from tests.backend_sync.list_office import ListOffice, card
from tests.backend_sync.listening_gate import Gate
from validator.lists.manifest import ListKind, seal_manifest
from validator.model import Credential

LISTED, STOLEN = card(1), card(2)


@pytest.fixture
def office(announced: ListOffice) -> ListOffice:
    return announced


@pytest.fixture
def gate(tmp_path: Path, office: ListOffice, carrier: MosquittoCarrier) -> Gate:
    return Gate(tmp_path, office, carrier)


async def test_from_a_revocation_to_a_refusal(office: ListOffice, gate: Gate) -> None:
    office.publish_deny([LISTED])
    async with running(announcing.run(office.options())), running(uplink.run(gate.uplink())):
        await until(gate.refuses(LISTED))
        assert not gate.lists.denied(STOLEN)
        office.revoke(STOLEN)
        await until(gate.refuses(LISTED, STOLEN))
        assert gate.lists.faults == ()
        office.restore(STOLEN)
        await until(lambda: not gate.refuses(STOLEN)())
        office.publish_deny([card(7)], now_s=NOW + 1)
        await until(gate.refuses(card(7)))
        office.revoke(card(8))
        await until(gate.refuses(card(7), card(8)))
        assert gate.lists.versions.deny == 2


async def test_a_gate_that_was_away_finds_what_it_missed(
    office: ListOffice, gate: Gate, carrier: MosquittoCarrier
) -> None:
    office.publish_deny([LISTED])
    async with running(announcing.run(office.options())):
        async with running(uplink.run(gate.uplink())):
            await until(gate.refuses(LISTED))
        for number in range(10, 15):
            office.revoke(card(number))
        await asyncio.sleep(0.3)
        gate.device.restart()
        async with running(uplink.run(gate.uplink())):
            await until(gate.refuses(*(card(number) for number in range(10, 15))))
            await carrier.kill()
            office.revoke(card(20))
            await carrier.start()
            await until(gate.refuses(card(20)))


async def reports(office: ListOffice) -> AsyncIterator[Reported]:
    async with connect(office.broker, "listener", clean_session=True) as link:
        await link.subscribe(wire.reported("gate-1"))
        while True:
            yield wire.decode(Reported, (await link.receive()).payload)


async def test_a_list_that_turns_everybody_away_is_refused_and_reported(
    tmp_path: Path, office: ListOffice, carrier: MosquittoCarrier
) -> None:
    gate = Gate(tmp_path / "busy", office, carrier, passengers=PASSENGERS)
    office.publish_deny([LISTED])
    async with running(announcing.run(office.options())), running(uplink.run(gate.uplink())):
        await until(gate.refuses(LISTED))
        office.publish_deny([Credential(each) for each in PASSENGERS], now_s=NOW + 1)
        state = ListState(version=0, change=0)
        async with asyncio.timeout(20):
            async for report in reports(office):
                state = report.lists.get("deny", state)
                if state.refused_version == 2:
                    break
        assert "would turn away 40 of the last 40 passengers" in state.reason
        assert (state.version, state.change) == (1, 0)
        assert gate.refuses(LISTED)()
        assert not any(gate.lists.denied(Credential(each)) for each in PASSENGERS)
        office.publish_deny([LISTED, STOLEN], now_s=NOW + 2)
        await until(gate.refuses(LISTED, STOLEN))
        assert gate.lists.manifests[ListKind.DENY].version == 3


class TestLondon:
    """What is properly signed and wrong never takes force, and goes no further than the first few gates."""

    GATES = 12

    @pytest.fixture
    def office(self, tmp_path: Path, carrier: MosquittoCarrier) -> ListOffice:
        devices = [f"gate-{number}" for number in range(self.GATES)]
        return ListOffice(tmp_path / "office", carrier.address, devices).adopt()

    @pytest.fixture
    def gates(self, tmp_path: Path, office: ListOffice, carrier: MosquittoCarrier) -> list[Gate]:
        return [Gate(tmp_path / name, office, carrier, name, PASSENGERS) for name in office.devices]

    def turning_everybody_away(self, office: ListOffice, percent: int) -> None:
        office.publish_deny([Credential(each) for each in PASSENGERS], percent, NOW + 1)

    def of_another_schema(self, office: ListOffice, percent: int) -> None:
        """Past the publisher's own rehearsal, as a faulty one would send it."""
        good = office.publish_deny([STOLEN], 0, NOW + 1)
        payload = office.home / "wrong"
        payload.write_bytes(good.payload_path.read_bytes().replace(b"pilet-deny/2", b"pilet-deny/3"))
        manifest = replace(good.manifest, version=3, payload_sha256=sha256(payload.read_bytes()).digest())
        sealed = office.home / "wrong.manifest"
        sealed.write_bytes(seal_manifest(manifest, key("north.deny"), "north.deny"))
        office.catalogue.bring(Published(manifest, 1, sealed, payload), percent, NOW + 2)

    @pytest.mark.slow
    @pytest.mark.parametrize("wrong", [turning_everybody_away, of_another_schema])
    async def test_a_wrong_list_never_takes_force_and_its_wave_stops(
        self, office: ListOffice, gates: list[Gate], wrong: Callable[["TestLondon", ListOffice, int], None]
    ) -> None:
        office.publish_deny([LISTED])
        options = office.options(rule=WaveRule(pause_s=3600))
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(running(announcing.run(options)))
            for gate in gates:
                await stack.enter_async_context(running(uplink.run(gate.uplink())))
            await until(lambda: all(gate.refuses(LISTED)() for gate in gates), 60)
            wrong(self, office, 50)
            await until(lambda: office.catalogue.in_force()[ListKind.DENY].percent == 0, 60)
            tried = [gate for gate in gates if ListKind.DENY in gate.device.installer.refused]
            assert WaveRule().failures < len(tried) < self.GATES
            assert all(gate.refuses(LISTED)() and gate.lists.versions.deny == 1 for gate in gates)
            assert not any(gate.lists.denied(Credential(each)) for gate in gates for each in PASSENGERS)
            office.revoke(STOLEN)
            await until(lambda: all(gate.refuses(LISTED, STOLEN)() for gate in gates), 60)
