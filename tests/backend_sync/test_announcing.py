"""The announcing service on a real Mosquitto: what it brings, what it tells, and what it lives through."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from backend_sync import announcing, wire
from backend_sync.announcement import Rhythm
from backend_sync.catalogue.client import refresh
from backend_sync.mqtt import LinkLost
from backend_sync.wave_rule import WaveRule
from backend_sync.waves import in_wave
from backend_sync.wire import ListState
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import NOW, FloorsInMemory
from tests.backend_sync.depot import running, until
from tests.backend_sync.list_office import REGION, Listener, ListOffice, card, changed, listening
from validator.lists.changes_file import read_changes
from validator.lists.manifest import ListKind

LISTED, STOLEN = card(1), card(2)


@pytest.fixture
async def carrier(tmp_path: Path) -> AsyncIterator[MosquittoCarrier]:
    carrier = MosquittoCarrier(tmp_path)
    await carrier.start()
    yield carrier
    await carrier.kill()


@pytest.fixture
def office(tmp_path: Path, carrier: MosquittoCarrier) -> ListOffice:
    return ListOffice(tmp_path / "office", carrier.address).adopt()


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


async def test_a_gate_finds_the_catalogue_at_the_broker(office: ListOffice, tmp_path: Path) -> None:
    published = office.publish_deny([LISTED])
    async with running(announcing.run(office.options())), listening(office.broker) as listener:
        await become(lambda: stands(listener, office))
        files = {
            topic.split("/", 4)[-1].removeprefix("metadata/"): content for topic, content in office.files().items()
        }
    files = {name.replace("object/", "objects/"): content for name, content in files.items()}
    root = (office.documents / "1.root.json").read_bytes()
    floors = FloorsInMemory()
    catalogue = refresh(
        lambda name, _: _only(files, name), tmp_path / "device", root, NOW, region=REGION, floors=floors
    )
    assert catalogue.targets["north/deny/deny"].sha256 == published.manifest.payload_sha256.hex()
    assert catalogue.targets["north/deny/deny.manifest"].custom.version == 1


def _only(files: dict[str, bytes], name: str) -> list[bytes]:
    if name not in files:
        raise FileNotFoundError(name)
    return [files[name]]


async def test_who_is_revoked_is_told_and_who_joins_finds_the_whole(office: ListOffice) -> None:
    published = office.publish_deny([LISTED])
    async with running(announcing.run(office.options())), listening(office.broker) as listener:
        for number in range(2, 7):
            office.revoke(card(number))
            await until(partial(has_heard, listener, number - 1))
        office.restore(card(3))
        await until(lambda: len(listener.heard) == 6)
        heard = changed(published, listener.heard)
        joined = await listener.joined(published)
        assert joined.state_hash == heard.state_hash
        assert [heard.denied(card(number)) for number in range(1, 7)] == [True, True, False, True, True, True]
        assert await listener.changes("cumulative") == []


async def test_a_cumulative_change_takes_the_place_of_all_before_it(office: ListOffice) -> None:
    published = office.publish_deny([LISTED])
    rhythm = Rhythm(most=3)
    async with running(announcing.run(office.options(rhythm=rhythm))), listening(office.broker) as listener:
        for number in range(2, 7):
            office.revoke(card(number))
            await until(partial(has_heard, listener, number - 1))
        whole = changed(published, listener.heard)

        async def folded() -> bool:
            return (await listener.joined(published)).state_hash == whole.state_hash

        await become(folded)
        assert len(await listener.changes("cumulative")) == 1
        assert len(await listener.changes("since")) < 3


async def test_a_broker_that_lost_its_memory_has_everything_again(
    office: ListOffice, carrier: MosquittoCarrier
) -> None:
    published = office.publish_deny([LISTED])
    async with running(announcing.run(office.options())):
        async with listening(office.broker) as listener:
            office.revoke(STOLEN)
            await become(lambda: stands(listener, office))
            await until(lambda: bool(listener.heard))
            await carrier.kill()
        office.revoke(card(3))
        await carrier.start()
        async with listening(office.broker) as listener:
            await become(lambda: stands(listener, office))
            joined = await listener.joined(published)
            assert [joined.denied(each) for each in (LISTED, STOLEN, card(3), card(4))] == [True, True, True, False]


async def test_a_link_that_comes_back_is_not_sent_everything_anew(office: ListOffice) -> None:
    """The broker still knows what is there: what it is sent again is the timestamp and the changes."""
    office.publish_deny([card(number) for number in range(20_000)])
    brought: list[tuple[int, int]] = []
    options = office.options(brought=lambda done, of: brought.append((done, of)))
    async with running(announcing.run(options)), listening(office.broker) as listener:
        await become(lambda: stands(listener, office))
    first = len(brought)
    assert first >= 8
    async with running(announcing.run(options)), listening(office.broker) as listener:
        office.publish_deny([card(1)], now_s=NOW + 1)
        await become(lambda: stands(listener, office))
    assert 0 < len(brought) - first < first, "only what is new"


async def test_what_is_named_by_nothing_any_more_is_cleared(office: ListOffice) -> None:
    office.publish_deny([LISTED])
    first = office.files()
    async with running(announcing.run(office.options())), listening(office.broker) as listener:
        await become(lambda: stands(listener, office))
        for number in range(2):
            office.publish_deny([card(number)], now_s=NOW + number)
        await become(lambda: stands(listener, office))
        gone = first.keys() - office.files().keys()
        assert any("object" in topic for topic in gone)

        async def cleared() -> bool:
            return not [topic for topic in gone if await listener.read(topic) is not None]

        await become(cleared)


async def test_gates_that_wait_for_a_new_list_hear_of_stolen_cards_too(office: ListOffice) -> None:
    old = office.publish_deny([LISTED])
    async with running(announcing.run(office.options())), listening(office.broker) as listener:
        office.revoke(card(2))
        await until(partial(has_heard, listener, 1))
        new = office.publish_deny([LISTED], percent=0, now_s=NOW + 1)
        await become(lambda: stands(listener, office))
    heard = list(listener.heard)
    # The process that comes after knows that two lists are out.
    async with running(announcing.run(office.options())), listening(office.broker) as listener:
        await become(lambda: stands(listener, office))
        office.revoke(card(3))
        await until(partial(has_heard, listener, 2))

        async def told() -> bool:
            return changed(old, await listener.changes("before")).denied(card(3))

        await become(told)
        before = changed(old, await listener.changes("before"))
        assert [before.denied(card(number)) for number in range(1, 5)] == [True, True, True, False]
        again = [sealed for sealed in listener.heard if sealed not in heard]
        assert changed(old, [*heard, *again]).state_hash == before.state_hash
        assert (await listener.joined(new)).denied(card(3))
        office.catalogue.set_wave(ListKind.DENY, 100, NOW + 2)

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


async def test_a_list_that_gates_take_goes_to_everybody(office: ListOffice) -> None:
    office.publish_deny([LISTED], percent=100)
    office.publish_deny([LISTED], percent=1, now_s=NOW + 1)
    rule = WaveRule(pause_s=0.2)
    async with running(announcing.run(office.options(rule=rule))), listening(office.broker) as listener:
        await listener.report("gate-1", ListState(version=2, change=0))
        await until(lambda: office.catalogue.in_force()[ListKind.DENY].percent == 100)


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


async def started(office: ListOffice) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", "backend_sync", "publish", "announce", "--config", str(office.toml))
    return await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)


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
