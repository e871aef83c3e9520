"""The broker as a shelf: what was left there is found by name, by whoever comes later, and by nobody else's name."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from backend_sync import wire
from backend_sync.mqtt import Link, connect
from backend_sync.retained import NotThere, RetainedReader
from backend_sync.wire import WireError
from tests.backend_sync.depot import Depot

METADATA = wire.list_metadata("north", "timestamp.json")


@contextlib.asynccontextmanager
async def reading(depot: Depot, answer_s: float = 5.0) -> AsyncIterator[RetainedReader]:
    """A reader whose messages are received beside it, as an uplink does."""
    async with connect(depot.carrier.address, "gate-1", clean_session=True) as link:
        reader = RetainedReader(link, answer_s)
        receiving = asyncio.create_task(receive(link, reader))
        yield reader
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)


async def receive(link: Link, reader: RetainedReader) -> None:
    while True:
        reader.take(await link.receive())


async def leave(depot: Depot, **files: bytes) -> None:
    async with connect(depot.carrier.address, "publisher", clean_session=True) as link:
        for name, payload in files.items():
            await link.publish(wire.list_metadata("north", name), payload, retain=True)


async def test_what_was_left_is_found_by_name(depot: Depot) -> None:
    await leave(depot, one=b"first", other=b"second")
    async with reading(depot) as reader:
        found = [await reader.read(wire.list_metadata("north", name)) for name in ("other", "one", "other")]
    assert found == [b"second", b"first", b"second"]


async def test_several_are_read_at_once(depot: Depot) -> None:
    files = {f"file-{number}": bytes([number]) * 60_000 for number in range(20)}
    await leave(depot, **files)
    async with reading(depot) as reader:
        found = await asyncio.gather(*(reader.read(wire.list_metadata("north", name)) for name in files))
    assert found == list(files.values())


async def test_what_nobody_left_is_not_there(depot: Depot) -> None:
    await leave(depot, one=b"first")
    async with reading(depot, answer_s=0.3) as reader:
        with pytest.raises(NotThere, match="north/metadata/two"):
            await reader.read(wire.list_metadata("north", "two"))
        assert await reader.read(wire.list_metadata("north", "one")) == b"first"


async def test_what_was_taken_away_is_not_there(depot: Depot) -> None:
    await leave(depot, one=b"first")
    await leave(depot, one=b"")
    async with reading(depot, answer_s=0.3) as reader:
        with pytest.raises(NotThere):
            await reader.read(wire.list_metadata("north", "one"))


async def test_what_comes_while_somebody_waits_is_found(depot: Depot) -> None:
    async with reading(depot) as reader:
        waiting = asyncio.create_task(reader.read(METADATA))
        await asyncio.sleep(0.3)
        await leave(depot, **{"timestamp.json": b"late"})
        assert await waiting == b"late"


@pytest.mark.parametrize("name", ["", "a/b", "#", "+", "..", "a b", "x" * 65])
def test_a_name_that_is_no_topic_level(name: str) -> None:
    with pytest.raises(WireError):
        wire.list_metadata("north", name)
    with pytest.raises(WireError):
        wire.list_metadata(name, "timestamp.json")
    with pytest.raises(WireError):
        wire.list_object(name, bytes(32))
