"""The UID that a virtual PC/SC reader tells in its own name: the card at vpcd's wire never sees the question."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.virtual import vpcd
from hardware.virtual.chip import Answer
from tests.hardware.pcd import Pcd, Slot

GET_UID = bytes.fromhex("FFCA000000")
UID = bytes.fromhex("04A1B2C3D4E5F6")
SELECT = bytes.fromhex("00A4040007D276000085010100")


class Chip:
    """Answers 9000, and remembers what it was asked."""

    historical = b"\x80"

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def reset(self) -> None:
        """Forget nothing: what it was asked is for the test."""

    def process(self, command: bytes) -> Answer:
        self.asked.append(command)
        return Answer(b"\x90\x00")


@contextlib.asynccontextmanager
async def presented(chip: Chip, uid: bytes | None = None, tear_after: int | None = None) -> AsyncIterator[Slot]:
    pcd = Pcd()
    await pcd.listen()
    card = asyncio.create_task(vpcd.present(chip, port=pcd.port, uid=uid, tear_after=tear_after))
    slot = await pcd.inserted()
    try:
        yield slot
    finally:
        await slot.close()
        card.cancel()
        await asyncio.gather(card, return_exceptions=True)
        await pcd.unplug()


@pytest.mark.parametrize("uid", [UID[:4], UID, UID + b"\x07\x08\x09"])
async def test_the_reader_tells_the_uid(uid: bytes) -> None:
    chip = Chip()
    async with presented(chip, uid) as slot:
        assert await slot.ask(GET_UID) == uid + b"\x90\x00"
        assert await slot.ask(SELECT) == b"\x90\x00"
    assert chip.asked == [SELECT]


async def test_a_reader_that_knows_no_uid_says_so() -> None:
    chip = Chip()
    async with presented(chip) as slot:
        assert await slot.ask(GET_UID) == b"\x6a\x81"
    assert chip.asked == []


@pytest.mark.parametrize("uid", [b"", UID[:3], UID[:5], UID + bytes(4)])
async def test_a_uid_of_another_length_is_none(uid: bytes) -> None:
    with pytest.raises(ValueError, match="4, 7 or 10 bytes"):
        await vpcd.present(Chip(), uid=uid)


async def test_the_readers_own_commands_do_not_tear_a_card() -> None:
    chip = Chip()
    async with presented(chip, UID, tear_after=1) as slot:
        for _ in range(3):
            assert await slot.ask(GET_UID) == UID + b"\x90\x00"
        assert await slot.ask(SELECT) == b"\x90\x00"
        assert await slot.ask(GET_UID) == UID + b"\x90\x00"
        with pytest.raises(asyncio.IncompleteReadError):
            await slot.ask(SELECT)


@given(
    tails=st.lists(st.binary(min_size=3, max_size=60), min_size=1, max_size=6),
    uid=st.sampled_from([None, UID]),
)
def test_no_command_of_class_ff_reaches_the_chip(tails: list[bytes], uid: bytes | None) -> None:
    chip = Chip()

    async def converse() -> None:
        async with presented(chip, uid) as slot:
            for tail in tails:
                told = uid if b"\xff" + tail == GET_UID else None
                assert await slot.ask(b"\xff" + tail) == (b"\x6a\x81" if told is None else told + b"\x90\x00")
            await slot.ask(SELECT)

    asyncio.run(converse())
    assert chip.asked == [SELECT]
