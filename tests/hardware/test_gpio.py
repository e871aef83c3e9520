"""The gate on gpiozero's own mock pins, in an event loop whose time we turn by hand."""

import asyncio
import selectors
import sys
from collections.abc import Coroutine, Iterator
from types import ModuleType
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory, MockPin, MockPWMPin
from hypothesis import given
from hypothesis import strategies as st

from hardware.gate import CUES, Gate, Signal
from hardware.gpio import GatePins, GpioError, GpioGate, pi_factory

PINS = GatePins(red=17, green=27, blue=22, buzzer=18, barrier=23)
PULSE_S = 0.5


class _NoWaiting(selectors.DefaultSelector):
    """Looks at the sockets and returns at once, counting the time that it was asked to wait."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waited_s += max(timeout or 0.0, 0.0)
        return super().select(0)


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a story in an event loop in which sleeping takes no time and is exact."""
    selector = _NoWaiting()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.waited_s  # type: ignore[method-assign]  # the loop lives in the selector's time
    try:
        loop.run_until_complete(story)
    finally:
        loop.close()


@pytest.fixture
def factory() -> Iterator[MockFactory]:
    made = MockFactory(pin_class=MockPWMPin)
    yield made
    made.reset()


def lamp(factory: MockFactory) -> tuple[float, float, float]:
    return factory.pin(PINS.red).state, factory.pin(PINS.green).state, factory.pin(PINS.blue).state


def tone(factory: MockFactory) -> float | None:
    return factory.pin(18).frequency if factory.pin(18).state else None


def barrier(factory: MockFactory) -> float:
    return factory.pin(23).state


def as_port(gate: GpioGate) -> Gate:
    return gate


def test_a_grant_is_on_the_pins_when_show_returns_and_its_cue_ends_by_itself(factory: MockFactory) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory, pulse_s=PULSE_S)
        await as_port(gate).show(Signal.GRANT)
        assert (lamp(factory), tone(factory), barrier(factory)) == ((0, 1, 0), 1760, 1)
        await asyncio.sleep(0.119)
        assert (tone(factory), barrier(factory)) == (1760, 1)
        await asyncio.sleep(0.002)
        assert (tone(factory), barrier(factory)) == (None, 1)
        await asyncio.sleep(PULSE_S)
        assert (lamp(factory), tone(factory), barrier(factory)) == ((0, 1, 0), None, 0)

    run(story())


def test_a_denial_sounds_twice_and_low(factory: MockFactory) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory)
        await gate.show(Signal.DENY)
        heard = []
        for _ in range(5):
            heard.append(tone(factory))
            await asyncio.sleep(0.1)
        assert heard == [330, 330, None, 330, 330]
        assert tone(factory) is None

    run(story())


@pytest.mark.parametrize("signal", [Signal.PRESENT_AGAIN, Signal.FAULT])
def test_a_blinking_lamp_blinks_until_the_next_signal(factory: MockFactory, signal: Signal) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory)
        half_s = 0.5 / CUES[signal].blink_hz
        await gate.show(signal)
        await asyncio.sleep(half_s / 2)
        seen = []
        for _ in range(6):
            seen.append(lamp(factory) != (0, 0, 0))
            await asyncio.sleep(half_s)
        assert seen == [True, False] * 3
        await gate.show(Signal.READY)
        for _ in range(6):
            assert lamp(factory) == (1, 0.5, 0)
            await asyncio.sleep(half_s)

    run(story())


def test_going_back_to_ready_cuts_neither_the_beep_nor_the_pulse(factory: MockFactory) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory, pulse_s=PULSE_S)
        await gate.show(Signal.GRANT)
        await asyncio.sleep(0.05)
        await gate.show(Signal.READY)
        assert (lamp(factory), tone(factory), barrier(factory)) == ((1, 0.5, 0), 1760, 1)
        await asyncio.sleep(PULSE_S)
        assert (tone(factory), barrier(factory)) == (None, 0)

    run(story())


def test_a_second_grant_starts_the_pulse_anew(factory: MockFactory) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory, pulse_s=PULSE_S)
        await gate.show(Signal.GRANT)
        await asyncio.sleep(0.4)
        await gate.show(Signal.GRANT)
        await asyncio.sleep(0.4)
        assert barrier(factory) == 1
        await asyncio.sleep(0.2)
        assert barrier(factory) == 0

    run(story())


@given(
    shown=st.lists(st.tuples(st.sampled_from(Signal), st.integers(0, 1500)), max_size=12),
    barrier_active_high=st.booleans(),
)
def test_the_barrier_is_open_exactly_within_a_pulse_of_a_grant(
    *, shown: list[tuple[Signal, int]], barrier_active_high: bool
) -> None:
    factory = MockFactory(pin_class=MockPWMPin)
    pins = GatePins(17, 27, 22, 18, 23, barrier_active_high=barrier_active_high)

    def is_open() -> bool:
        return bool(barrier(factory)) is barrier_active_high

    async def story() -> None:
        gate = GpioGate(pins, factory, pulse_s=PULSE_S)
        now_ms, granted_ms = 0, -1_000_000
        assert not is_open()
        for signal, then_wait_ms in shown:
            await gate.show(signal)
            granted_ms = now_ms if signal is Signal.GRANT else granted_ms
            if now_ms - granted_ms != PULSE_S * 1000:
                assert is_open() is (now_ms - granted_ms < PULSE_S * 1000)
            await asyncio.sleep(then_wait_ms / 1000)
            now_ms += then_wait_ms
        await gate.close()
        # A closed device lets go of its pin, and the relay's own resistor holds it shut.
        assert factory.pin(23).function == "input"

    run(story())
    factory.reset()


@pytest.mark.parametrize("signal", list(Signal))
def test_close_leaves_the_barrier_shut_the_lamp_dark_and_nothing_running(factory: MockFactory, signal: Signal) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory)
        await gate.show(signal)
        await gate.close()
        pins = [factory.pin(number) for number in (17, 27, 22, 18, 23)]
        for pin in pins:
            pin.clear_states()
        await asyncio.sleep(10)
        assert all(len(pin.states) == 1 for pin in pins)
        await gate.close()
        await gate.show(signal)
        assert all(len(pin.states) == 1 for pin in pins)

    run(story())


def test_a_lane_without_barrier_and_buzzer(factory: MockFactory) -> None:
    async def story() -> None:
        gate = GpioGate(GatePins(17, 27, 22), factory)
        for signal in Signal:
            await gate.show(signal)
            await asyncio.sleep(1)
        await gate.close()

    run(story())


def test_every_cue_can_be_played(factory: MockFactory) -> None:
    async def story() -> None:
        gate = GpioGate(PINS, factory)
        for signal in Signal:
            await gate.show(signal)
            for beep in CUES[signal].sound:
                assert tone(factory) == (beep.hertz or None)
                await asyncio.sleep(beep.ms / 1000)
        await gate.close()

    run(story())


@pytest.mark.parametrize(
    ("pins", "pin_class"),
    [
        (GatePins(17, 27, 99), MockPWMPin),  # no such pin
        (GatePins(17, 27, 27), MockPWMPin),  # used twice
        (GatePins(17, 27, 22), MockPin),  # cannot dim
    ],
)
def test_wrong_wiring_is_named_and_leaves_the_pins_free(pins: GatePins, pin_class: type[MockPin]) -> None:
    factory = MockFactory(pin_class=pin_class)
    with pytest.raises(GpioError, match="gate pins GatePins"):
        GpioGate(pins, factory)
    factory.pin_class = MockPWMPin
    factory.pins.clear()
    GpioGate(PINS, factory)
    factory.reset()


def test_without_the_extra_the_pins_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lgpio", None)
    with pytest.raises(GpioError, match="extra 'pi'"):
        pi_factory()


def test_a_chip_that_may_not_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(Exception):  # noqa: N818 - stands for lgpio.error, which has that lower-case name
        pass

    def gpiochip_open(chip: int) -> int:
        raise Refused(f"can not open gpiochip{chip}")

    # gpiozero reads a few constants of lgpio when it is imported; a module that has any constant serves.
    class Lgpio(ModuleType):
        def __getattr__(self, name: str) -> int:
            return 0

    lgpio = Lgpio("lgpio")
    lgpio.error, lgpio.gpiochip_open = Refused, gpiochip_open  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, "lgpio", lgpio)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.setattr("gpiozero.pins.local.get_pi_revision", lambda: 0xA02082)
    with pytest.raises(GpioError, match="can not open gpiochip0"):
        pi_factory()
    sys.modules.pop("gpiozero.pins.lgpio", None)
