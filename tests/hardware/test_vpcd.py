"""The virtual card at the end of vpcd's wire, against a virtual reader that the test plays itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.atr import contactless_atr
from hardware.medium import ReaderGone
from hardware.virtual import vpcd
from hardware.virtual.chip import Answer
from hardware.virtual.piv import PivChip
from hardware.virtual.timing import KeyType
from tests.hardware.pcd import Pcd
from tests.issuing import IssuedCard

SELECT = bytes.fromhex("00A4040009A0000003080000100000")
OFF, ON, RESET, ATR = b"\x00", b"\x01", b"\x02", b"\x04"


class SlowChip:
    """Echoes commands, and says that it thought about them."""

    historical = b"slow"
    compute_s = 0.05

    def reset(self) -> None:
        """Forget nothing: there is nothing."""

    def process(self, command: bytes) -> Answer:
        return Answer(command + b"\x90\x00" if command != b"\xff\xff" else None, self.compute_s)


@pytest.fixture
async def pcd() -> AsyncIterator[Pcd]:
    pcd = Pcd()
    await pcd.listen()
    yield pcd
    await pcd.unplug()


@pytest.fixture
def chip(issued: Callable[[KeyType], IssuedCard]) -> PivChip:
    card = issued(KeyType.P_256)
    return PivChip(card.key, card.der)


@contextlib.asynccontextmanager
async def presented(
    chip: PivChip | SlowChip, port: int, *, atr: bytes | None = None, tear_after: int | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    card = asyncio.create_task(vpcd.present(chip, port=port, atr=atr, tear_after=tear_after))
    try:
        yield card
    finally:
        card.cancel()
        await asyncio.gather(card, return_exceptions=True)


async def test_the_card_answers_with_its_atr_and_to_apdus(pcd: Pcd, chip: PivChip) -> None:
    async with presented(chip, pcd.port):
        slot = await pcd.inserted()
        assert await slot.ask(ATR) == contactless_atr(chip.historical)
        await slot.tell(ON)
        assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
        assert (await slot.ask(b"\xff\xff")) == b"\x67\x00"
        await slot.close()


@pytest.mark.parametrize("control", [OFF, ON, RESET])
async def test_power_and_reset_make_the_chip_forget(pcd: Pcd, chip: PivChip, control: bytes) -> None:
    async with presented(chip, pcd.port):
        slot = await pcd.inserted()
        discovery = bytes.fromhex("00CB3FFF035C017E00")
        assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
        assert (await slot.ask(discovery)).endswith(b"\x90\x00")
        await slot.tell(control)
        assert await slot.ask(discovery) == b"\x6d\x00"
        await slot.close()


async def test_an_atr_of_ones_own(pcd: Pcd, chip: PivChip) -> None:
    async with presented(chip, pcd.port, atr=b"\x3b\x00"):
        slot = await pcd.inserted()
        assert await slot.ask(ATR) == b"\x3b\x00"
        await slot.close()


async def test_the_card_comes_back_when_the_reader_does(pcd: Pcd, chip: PivChip) -> None:
    async with presented(chip, pcd.port):
        slot = await pcd.inserted()
        assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
        await slot.close()
        await pcd.unplug()
        await pcd.listen()
        slot = await pcd.inserted()
        assert await slot.ask(bytes.fromhex("00CB3FFF035C017E00")) == b"\x6d\x00"  # it lost power meanwhile
        await slot.close()


async def test_where_no_reader_listens_the_card_says_so(pcd: Pcd, chip: PivChip) -> None:
    await pcd.unplug()
    try:
        with pytest.raises(ReaderGone, match=r"vpcd:127\.0\.0\.1:\d+: no virtual reader listens"):
            await vpcd.present(chip, port=pcd.port, tries=2)
    finally:
        await pcd.listen()


async def test_a_torn_card_is_gone_after_its_last_answer(pcd: Pcd, chip: PivChip) -> None:
    async with presented(chip, pcd.port, tear_after=1) as card:
        slot = await pcd.inserted()
        assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
        with pytest.raises(asyncio.IncompleteReadError):
            await slot.ask(SELECT)
        await asyncio.wait_for(card, 10)
        await slot.close()


async def test_silence_of_the_chip_takes_the_card_away(pcd: Pcd) -> None:
    async with presented(SlowChip(), pcd.port) as card:
        slot = await pcd.inserted()
        with pytest.raises(asyncio.IncompleteReadError):
            await slot.ask(b"\xff\xff")
        await asyncio.wait_for(card, 10)
        await slot.close()


async def test_an_answer_does_not_leave_before_the_silicon_would_have_it(pcd: Pcd) -> None:
    async with presented(SlowChip(), pcd.port):
        slot = await pcd.inserted()
        clock = asyncio.get_running_loop()
        began = clock.time()
        assert await slot.ask(b"ping") == b"ping\x90\x00"
        assert clock.time() - began >= SlowChip.compute_s - 0.001  # the loop's own granularity
        await slot.close()


@given(commands=st.lists(st.binary(min_size=2, max_size=300), max_size=5))
def test_any_messages_are_answered(issued: Callable[[KeyType], IssuedCard], commands: list[bytes]) -> None:
    card = issued(KeyType.P_256)

    async def converse() -> None:
        pcd = Pcd()
        await pcd.listen()
        async with presented(PivChip(card.key, card.der), pcd.port):
            slot = await pcd.inserted()
            await slot.tell(b"")
            await slot.tell(b"\x03")
            for command in commands:
                assert len(await slot.ask(command)) >= 2
            await slot.close()
        await pcd.unplug()

    asyncio.run(converse())
