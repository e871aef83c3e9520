"""The PC/SC reader above its slot: busy cards, mute cards, cancelled waits, hanging drivers. The slot is played."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import TypeVar

import pytest

from hardware import pcsc
from hardware.medium import MediumLost, MediumTimeout, ReaderGone, Target, Technology
from hardware.pcsc import PcscReader
from tests.conversing import transceive

NAME = "pcsc:Desk Reader"
TARGET = Target(Technology.TYPE_A, b"", b"hist")
T = TypeVar("T")


@dataclass
class Card:
    """A connection, as the slot gives it."""

    target: Target = TARGET
    activation_s: float = 0.25


@dataclass
class World:
    """What happens at the slot: its steps are taken from here, one at each call."""

    opening: list[Exception] = field(default_factory=list)
    looks: list[bool | Exception] = field(default_factory=list)
    connections: list[Card | Exception | None] = field(default_factory=list)
    answers: list[bytes | Exception] = field(default_factory=list)
    holding: list[bool] = field(default_factory=list)
    stall: threading.Event | None = None
    calls: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)


class Slot:
    """What `hardware.pcsc_slot.Slot` does, as the world of the test will have it."""

    of_the_test: World

    def __init__(self, name: str) -> None:
        assert name == NAME
        self.world = self.of_the_test  # a thread that hung closes its slot when its test is long over

    def open(self, wanted: str) -> None:
        self._called(f"open {wanted}")
        if self.world.opening:
            raise self.world.opening.pop(0)

    def look(self) -> bool:
        self._called("look")
        return _take(self.world.looks) if self.world.looks else False

    def connect(self) -> Card | None:
        self._called("connect")
        return _take(self.world.connections)

    def transmit(self, card: Card, apdu: bytes) -> tuple[bytes, float]:
        self._called(f"transmit {apdu.hex()}")
        if self.world.stall is not None:
            self.world.stall.wait()
        return _take(self.world.answers), 0.5

    def holds(self, card: Card, timeout_ms: int) -> bool:
        self._called("holds")
        return self.world.holding.pop(0)

    def release(self) -> None:
        self._called("release")

    def close(self) -> None:
        self._called("close")

    def _called(self, what: str) -> None:
        self.world.calls.append(what)
        self.world.threads.add(threading.current_thread().name)


def _take(steps: "list[T | Exception]") -> T:
    step = steps.pop(0)
    if isinstance(step, Exception):
        raise step
    return step


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    module = ModuleType("hardware.pcsc_slot")
    monkeypatch.setattr(Slot, "of_the_test", world, raising=False)
    monkeypatch.setattr(module, "Slot", Slot, raising=False)
    monkeypatch.setitem(sys.modules, "hardware.pcsc_slot", module)
    monkeypatch.setattr(pcsc, "_BUSY_PAUSE_S", 0)
    monkeypatch.setattr(pcsc, "_MUTE_PAUSE_S", 0)
    return world


@pytest.fixture
async def reader(world: World) -> AsyncIterator[PcscReader]:
    reader = PcscReader(NAME)
    await reader.open()
    yield reader
    await reader.close()


async def test_a_tap_from_wait_to_removal(world: World, reader: PcscReader) -> None:
    world.looks = [False, False, True]
    world.connections = [Card()]
    world.answers = [b"\x90\x00"]
    world.holding = [True, True, True, False]
    medium = await reader.wait()
    assert reader.polls == 3
    assert medium.target == TARGET
    assert medium.card_s == 0.25
    assert await transceive(medium, b"\x00\xa4") == b"\x90\x00"
    assert medium.card_s == 0.75
    assert await medium.present()
    await medium.removed()
    assert reader.polls == 6
    assert world.threads == {NAME}


async def test_the_last_tap_is_let_go_before_the_next(world: World, reader: PcscReader) -> None:
    world.looks = [True, True]
    world.connections = [Card(), Card()]
    await reader.wait()
    await reader.wait()
    assert world.calls == ["open Desk Reader", "release", "look", "connect", "release", "look", "connect"]


async def test_a_card_that_another_program_lets_go_is_waited_for(world: World, reader: PcscReader) -> None:
    world.looks = [True] * 4
    world.connections = [None, None, None, Card()]
    await reader.wait()
    assert world.calls.count("connect") == 4


async def test_a_card_that_another_program_keeps_is_a_fault(world: World, reader: PcscReader) -> None:
    world.looks = [True] * 1000
    world.connections = [None] * 1000
    with pytest.raises(ReaderGone, match="another program keeps the card"):
        await reader.wait()
    assert world.calls.count("connect") < 1000


async def test_a_mute_card_is_tried_again(world: World, reader: PcscReader) -> None:
    world.looks = [True, True, False, True]
    world.connections = [MediumLost(NAME, "mute"), MediumTimeout(NAME, "slow"), Card()]
    await reader.wait()
    assert world.calls.count("connect") == 3


async def test_a_cancelled_wait_leaves_the_reader_usable(world: World, reader: PcscReader) -> None:
    for _ in range(20):  # a cancellation that meets a result must not be lost
        waiting = asyncio.create_task(reader.wait())
        polled = reader.polls
        while reader.polls < polled + 5:  # noqa: ASYNC110 - the count is what the watchdog reads too
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    world.looks = [True]
    world.connections = [Card()]
    await reader.wait()


async def test_errors_of_the_card_and_the_reader_pass_through(world: World, reader: PcscReader) -> None:
    world.looks = [True, ReaderGone(NAME, "unplugged")]
    world.connections = [Card()]
    world.answers = [MediumLost(NAME, "gone"), MediumTimeout(NAME, "late")]
    medium = await reader.wait()
    with pytest.raises(MediumLost):
        await transceive(medium, b"\x00\xa4")
    with pytest.raises(MediumTimeout):
        await transceive(medium, b"\x00\xa4")
    with pytest.raises(ReaderGone):
        await reader.wait()


async def test_a_reader_that_failed_is_opened_again(world: World, reader: PcscReader) -> None:
    world.looks = [ReaderGone(NAME, "unplugged"), True]
    world.connections = [Card()]
    with pytest.raises(ReaderGone):
        await reader.wait()
    world.opening = [ReaderGone(NAME, "still unplugged")]
    with pytest.raises(ReaderGone, match="still unplugged"):
        await reader.open()
    with pytest.raises(ReaderGone, match="is closed"):
        await reader.wait()
    await reader.open()
    await reader.wait()


async def test_a_driver_that_hangs_is_left_behind(
    world: World, reader: PcscReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.looks = [True, True]
    world.connections = [Card(), Card()]
    world.answers = [b"\x90\x00", b"\x90\x00"]
    medium = await reader.wait()
    for limit in ("_HUNG_S", "_DIALOGUE_S"):
        monkeypatch.setattr(pcsc, limit, 0.05)
    stall = world.stall = threading.Event()
    with pytest.raises(ReaderGone, match="did not answer"):
        await transceive(medium, b"\x00\xa4")
    with pytest.raises(ReaderGone, match="is closed"):
        await reader.wait()
    for limit in ("_HUNG_S", "_DIALOGUE_S"):
        monkeypatch.setattr(pcsc, limit, 10)
    world.stall = None
    await reader.open()
    assert await transceive(await reader.wait(), b"\x00\xa4") == b"\x90\x00"
    stall.set()


async def test_closing_twice_is_harmless(world: World) -> None:
    reader = PcscReader(NAME)
    await reader.close()
    await reader.open()
    await reader.close()
    await reader.close()
    assert world.calls == ["open Desk Reader", "close"]


async def test_without_pyscard_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hardware.pcsc_slot", None)
    with pytest.raises(ReaderGone, match="install pilet with its extra `pcsc`"):
        await PcscReader(NAME).open()


@pytest.mark.parametrize("name", ["pcsc:Desk Reader", "Desk Reader"])
def test_the_name_with_and_without_its_prefix(name: str) -> None:
    assert PcscReader(name).name == "pcsc:Desk Reader"
