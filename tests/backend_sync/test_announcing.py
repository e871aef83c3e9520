"""The announcing service on a real Mosquitto: what it brings, what it tells, and what a broker forgets."""

from functools import partial
from pathlib import Path

from backend_sync import announcing
from backend_sync.announcement import Rhythm
from backend_sync.catalogue.client import refresh
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import NOW, FloorsInMemory
from tests.backend_sync.depot import running, until
from tests.backend_sync.list_office import REGION, ListOffice, become, card, changed, has_heard, listening, stands

LISTED, STOLEN = card(1), card(2)


async def test_a_gate_finds_the_catalogue_at_the_broker(announced: ListOffice, tmp_path: Path) -> None:
    published = announced.publish_deny([LISTED])
    async with running(announcing.run(announced.options())), listening(announced.broker) as listener:
        await become(lambda: stands(listener, announced))
        files = {
            topic.split("/", 4)[-1].removeprefix("metadata/"): content for topic, content in announced.files().items()
        }
    files = {name.replace("object/", "objects/"): content for name, content in files.items()}
    root = (announced.documents / "1.root.json").read_bytes()
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


async def test_who_is_revoked_is_told_and_who_joins_finds_the_whole(announced: ListOffice) -> None:
    published = announced.publish_deny([LISTED])
    async with running(announcing.run(announced.options())), listening(announced.broker) as listener:
        for number in range(2, 7):
            announced.revoke(card(number))
            await until(partial(has_heard, listener, number - 1))
        announced.restore(card(3))
        await until(lambda: len(listener.heard) == 6)
        heard = changed(published, listener.heard)
        joined = await listener.joined(published)
        assert joined.state_hash == heard.state_hash
        assert [heard.denied(card(number)) for number in range(1, 7)] == [True, True, False, True, True, True]
        assert await listener.changes("cumulative") == []


async def test_a_cumulative_change_takes_the_place_of_all_before_it(announced: ListOffice) -> None:
    published = announced.publish_deny([LISTED])
    rhythm = Rhythm(most=3)
    async with running(announcing.run(announced.options(rhythm=rhythm))), listening(announced.broker) as listener:
        for number in range(2, 7):
            announced.revoke(card(number))
            await until(partial(has_heard, listener, number - 1))
        whole = changed(published, listener.heard)

        async def folded() -> bool:
            return (await listener.joined(published)).state_hash == whole.state_hash

        await become(folded)
        assert len(await listener.changes("cumulative")) == 1
        assert len(await listener.changes("since")) < 3


async def test_a_broker_that_lost_its_memory_has_everything_again(
    announced: ListOffice, carrier: MosquittoCarrier
) -> None:
    published = announced.publish_deny([LISTED])
    async with running(announcing.run(announced.options())):
        async with listening(announced.broker) as listener:
            announced.revoke(STOLEN)
            await become(lambda: stands(listener, announced))
            await until(lambda: bool(listener.heard))
            await carrier.kill()
        announced.revoke(card(3))
        await carrier.start()
        async with listening(announced.broker) as listener:
            await become(lambda: stands(listener, announced))
            joined = await listener.joined(published)
            assert [joined.denied(each) for each in (LISTED, STOLEN, card(3), card(4))] == [True, True, True, False]


async def test_a_link_that_comes_back_is_not_sent_everything_anew(announced: ListOffice) -> None:
    """The broker still knows what is there: what it is sent again is the timestamp and the changes."""
    announced.publish_deny([card(number) for number in range(20_000)])
    brought: list[tuple[int, int]] = []
    options = announced.options(brought=lambda done, of: brought.append((done, of)))
    async with running(announcing.run(options)), listening(announced.broker) as listener:
        await become(lambda: stands(listener, announced))
    first = len(brought)
    assert first >= 8
    async with running(announcing.run(options)), listening(announced.broker) as listener:
        announced.publish_deny([card(1)], now_s=NOW + 1)
        await become(lambda: stands(listener, announced))
    assert 0 < len(brought) - first < first, "only what is new"


async def test_what_is_named_by_nothing_any_more_is_cleared(announced: ListOffice) -> None:
    announced.publish_deny([LISTED])
    first = announced.files()
    async with running(announcing.run(announced.options())), listening(announced.broker) as listener:
        await become(lambda: stands(listener, announced))
        for number in range(2):
            announced.publish_deny([card(number)], now_s=NOW + number)
        await become(lambda: stands(listener, announced))
        gone = first.keys() - announced.files().keys()
        assert any("object" in topic for topic in gone)

        async def cleared() -> bool:
            return not [topic for topic in gone if await listener.read(topic) is not None]

        await become(cleared)
