"""The gate on a Raspberry Pi's pins: an RGB lamp behind its masks, a piezo buzzer, a relay for the barrier.

The only file that imports ``gpiozero``. The first state of a signal is on the pins when `GpioGate.show` returns; what
follows (blinking, the next tone, the end of the barrier's pulse) is done by timers of the event loop.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from gpiozero import RGBLED, Factory, GPIOZeroError, OutputDevice, TonalBuzzer
from gpiozero.tones import Tone

from hardware.gate import CUES, Beep, Signal

_DARK = (0.0, 0.0, 0.0)
_COLOURS = {"amber": (1.0, 0.5, 0.0), "green": (0.0, 1.0, 0.0), "red": (1.0, 0.0, 0.0)}

# Two octaves either way of 880 Hz: 220 to 3520 Hz, where small piezo buzzers are loud.
_MID_TONE = Tone.from_note("A5")
_OCTAVES = 2


class GpioError(Exception):
    """The pins cannot be used; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class GatePins:
    """Where the gate is wired, by the SoC's (BCM) pin numbers.

    Attributes:
        red: Red of the lamp, PWM.
        green: Green of the lamp, PWM.
        blue: Blue of the lamp, PWM.
        buzzer: Piezo buzzer, PWM; None where the lane has none.
        barrier: Relay that tells the barrier to let one person pass; None where the lane has none, as on a bus.
        barrier_active_high: False where the relay board closes on a low level.
    """

    red: int
    green: int
    blue: int
    buzzer: int | None = None
    barrier: int | None = None
    barrier_active_high: bool = True


class GpioGate:
    """A `hardware.gate.Gate` on pins.

    A new signal takes the lamp at once, and the buzzer if it has a sound of its own: going back to READY does not cut
    the beep of the grant before it. The relay's pulse always runs its length, and a further grant starts it anew.

    Args:
        pins: The wiring.
        factory: Where pins come from: `pi_factory`, or gpiozero's mock factory.
        pulse_s: Seconds for which the relay is held.

    Raises:
        GpioError: A pin does not exist, is in use, or cannot do what it is wired for.
    """

    def __init__(self, pins: GatePins, factory: Factory, *, pulse_s: float = 0.5) -> None:
        self._pulse_s = pulse_s
        self._lamp: RGBLED | None = None
        self._buzzer: TonalBuzzer | None = None
        self._barrier: OutputDevice | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        try:
            # The barrier first: its relay is driven shut before anything else can fail.
            if pins.barrier is not None:
                self._barrier = OutputDevice(
                    pins.barrier, active_high=pins.barrier_active_high, initial_value=False, pin_factory=factory
                )
            self._lamp = RGBLED(pins.red, pins.green, pins.blue, pin_factory=factory)
            if pins.buzzer is not None:
                self._buzzer = TonalBuzzer(pins.buzzer, mid_tone=_MID_TONE, octaves=_OCTAVES, pin_factory=factory)
        except GPIOZeroError as error:
            self._release()
            raise GpioError(f"gate pins {pins}: {error}; compare the configuration with the wiring") from error

    async def show(self, signal: Signal, text: str = "") -> None:  # noqa: ARG002 - lamps have no letters
        """Show the signal and open the barrier if it grants; returns at once, the cue plays by itself."""
        cue = CUES[signal]
        if cue.opens:
            self._open()
        self._light(_COLOURS[cue.colour], cue.blink_hz, lit=True)
        if cue.sound:
            self._play(cue.sound)

    async def close(self) -> None:
        """Leave the barrier shut and the lamp dark, and give the pins back; harmless when closed already."""
        self._release()

    def _open(self) -> None:
        if self._barrier is not None:
            self._barrier.on()
            self._later("barrier", self._pulse_s, self._barrier.off)

    def _light(self, colour: tuple[float, float, float], blink_hz: float, *, lit: bool) -> None:
        if self._lamp is None:
            return
        self._lamp.value = colour if lit else _DARK
        self._stop("lamp")
        if blink_hz:
            self._later("lamp", 0.5 / blink_hz, lambda: self._light(colour, blink_hz, lit=not lit))

    def _play(self, sound: tuple[Beep, ...]) -> None:
        if self._buzzer is None:
            return
        if not sound or not sound[0].hertz:
            self._buzzer.stop()
        else:
            self._buzzer.play(Tone.from_frequency(float(sound[0].hertz)))
        self._stop("buzzer")
        if sound:
            self._later("buzzer", sound[0].ms / 1000, lambda: self._play(sound[1:]))

    def _later(self, part: str, after_s: float, act: Callable[[], None]) -> None:
        self._stop(part)
        self._timers[part] = asyncio.get_running_loop().call_later(after_s, act)

    def _stop(self, part: str) -> None:
        timer = self._timers.pop(part, None)
        if timer is not None:
            timer.cancel()

    def _release(self) -> None:
        for part in tuple(self._timers):
            self._stop(part)
        if self._barrier is not None:
            self._barrier.off()
            self._barrier.close()
        if self._buzzer is not None:
            self._buzzer.stop()
            self._buzzer.close()
        if self._lamp is not None:
            self._lamp.value = _DARK
            self._lamp.close()
        self._barrier = self._buzzer = self._lamp = None


def pi_factory() -> Factory:
    """Return the pins of this Raspberry Pi, through the kernel's GPIO character device.

    Raises:
        GpioError: This is no Raspberry Pi, the device may not be opened, or the extra ``pi`` is not installed.
    """
    try:
        lgpio = import_module("lgpio")
        from gpiozero.pins.lgpio import LGPIOFactory  # noqa: PLC0415 - needs the optional extra that was just looked for
    except ImportError:
        raise GpioError("gpio: the library lgpio is missing; install pilet with its extra 'pi'") from None
    try:
        return LGPIOFactory()
    except (lgpio.error, GPIOZeroError, OSError) as error:
        raise GpioError(
            f"gpio: {error}; on a Raspberry Pi, see that this user may open /dev/gpiochip*, elsewhere use another gate"
        ) from error
