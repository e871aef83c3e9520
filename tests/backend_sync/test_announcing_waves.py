"""The announcing service on a real Mosquitto: lists that spread or are stopped, and what it lives through."""

import asyncio
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from backend_sync import announcing
from backend_sync.mqtt import LinkLost
from backend_sync.wave_rule import WaveRule
from backend_sync.waves import in_wave
from backend_sync.wire import ListState
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import NOW
from tests.backend_sync.depot import running, until
from tests.backend_sync.list_office import (
    ListOffice,
    become,
    card,
    changed,
    has_heard,
    listening,
    stands,
    started,
)
from validator.lists.changes_file import read_changes
from validator.lists.manifest import ListKind

LISTED, STOLEN = card(1), card(2)


async def test_gates_that_wait_for_a_new_list_hear_of_stolen_cards_too(announced: ListOffice) -> None:
    old = announced.publish_deny([LISTED])
    async with running(announcing.run(announced.options())), listening(announced.broker) as listener:
        announced.revoke(card(2))
        await until(partial(has_heard, listener, 1))
        new = announced.publish_deny([LISTED], percent=0, now_s=NOW + 1)
        await become(lambda: stands(listener, announced))
    heard = list(listener.heard)
    # The process that comes after knows that two lists are out.
    async with running(announcing.run(announced.options())), listening(announced.broker) as listener:
        await become(lambda: stands(listener, announced))
        announced.revoke(card(3))
        await until(partial(has_heard, listener, 2))

        async def told() -> bool:
            return changed(old, await listener.changes("before")).denied(card(3))

        await become(told)
        before = changed(old, await listener.changes("before"))
        assert [before.denied(card(number)) for number in range(1, 5)] == [True, True, True, False]
        again = [sealed for sealed in listener.heard if sealed not in heard]
        assert changed(old, [*heard, *again]).state_hash == before.state_hash
        assert (await listener.joined(new)).denied(card(3))
        announced.catalogue.set_wave(ListKind.DENY, 100, NOW + 2)

        async def over() -> bool:
            return not await listener.changes("before")

        await become(over)


async def test_a_wave_stops_by_itself_when_gates_refuse_the_list(tmp_path: Path, carrier: MosquittoCarrier) -> None:
    devices = [f"gate-{number}" for number in range(40)]
    office = ListOffice(tmp_path / "office", carrier.address, devices).adopt()
    office.publish_deny([LISTED], percent=25)
    asked = [device for device in devices if in_wave(device, "deny", 1, 25)]
    assert len(asked) >= 5
    rule = WaveRule(pause_s=0.5)
    async with running(announcing.run(office.options(rule=rule))), listening(office.broker, "strangers") as listener:
        for number in range(20):
            await listener.report(f"stranger-{number}", ListState(version=0, change=0, refused_version=1, reason="no"))
        for device in asked[:2]:
            await listener.report(device, ListState(version=0, change=0, refused_version=1, reason="self-check failed"))
        await asyncio.sleep(1)
        assert office.catalogue.in_force()[ListKind.DENY].percent == 25, "strangers have no vote, and two are no limit"
        await listener.report(asked[2], ListState(version=0, change=0, refused_version=1, reason="self-check failed"))
        await until(lambda: office.catalogue.in_force()[ListKind.DENY].percent == 0)
        await listener.report(asked[3], ListState(version=1, change=0))
        await asyncio.sleep(1)
        assert office.catalogue.in_force()[ListKind.DENY].percent == 0, "nobody starts it again but a person"


async def test_a_list_that_gates_take_goes_to_everybody(announced: ListOffice) -> None:
    announced.publish_deny([LISTED], percent=100)
    announced.publish_deny([LISTED], percent=1, now_s=NOW + 1)
    rule = WaveRule(pause_s=0.2)
    async with running(announcing.run(announced.options(rule=rule))), listening(announced.broker) as listener:
        await listener.report("gate-1", ListState(version=2, change=0))
        await until(lambda: announced.catalogue.in_force()[ListKind.DENY].percent == 100)


async def test_a_change_that_was_kept_and_not_sent_comes_after_a_kill(
    tmp_path: Path, carrier: MosquittoCarrier
) -> None:
    now_s = int(time.time())  # the process that is killed reads the clock
    office = ListOffice(tmp_path / "office", carrier.address, made_s=now_s).adopt()
    published = office.publish_deny([LISTED], now_s=now_s)
    first = await started(office)
    try:
        async with listening(office.broker) as listener:
            office.revoke(STOLEN)
            await until(lambda: bool(listener.heard))
        carrier.freeze()  # what is kept now cannot be sent
        office.revoke(card(3))
        await until(lambda: len(read_changes(office.lists, 1)) >= 2)
    finally:
        first.send_signal(signal.SIGKILL)
        await first.wait()
    await carrier.kill()
    office.revoke(card(4))  # and this one nobody has looked at
    await carrier.start()
    async with listening(office.broker) as listener:
        second = await started(office)
        try:
            await until(lambda: bool(listener.heard))

            async def whole() -> bool:
                joined = await listener.joined(published)
                return [joined.denied(card(number)) for number in range(1, 6)] == [True] * 4 + [False]

            await become(whole)
        finally:
            second.send_signal(signal.SIGTERM)
            assert await second.wait() == os.EX_OK


async def test_without_a_broker_changes_are_made_and_kept(tmp_path: Path) -> None:
    carrier = MosquittoCarrier(tmp_path)
    office = ListOffice(tmp_path / "office", carrier.address).adopt()
    published = office.publish_deny([LISTED])
    moved: list[str] = []
    async with running(announcing.run(office.options(progress=moved.append))):
        with pytest.raises(LinkLost):
            async with listening(office.broker):
                pass
        office.revoke(STOLEN)
        await until(lambda: bool(read_changes(office.lists, 1)))
        await until(lambda: {announcing.CHANGES, announcing.CARRYING} <= set(moved))
    assert changed(published, read_changes(office.lists, 1)).denied(STOLEN)
