from gpiozero.exc import GPIOZeroError as GPIOZeroError
from gpiozero.pins import Factory as Factory
from gpiozero.tones import Tone as Tone

class OutputDevice:
    def __init__(
        self,
        pin: int | str | None = ...,
        *,
        active_high: bool = ...,
        initial_value: bool | None = ...,
        pin_factory: Factory | None = ...,
    ) -> None: ...
    def on(self) -> None: ...
    def off(self) -> None: ...
    def close(self) -> None: ...

class RGBLED:
    value: tuple[float, float, float]
    def __init__(
        self,
        red: int | str | None = ...,
        green: int | str | None = ...,
        blue: int | str | None = ...,
        *,
        active_high: bool = ...,
        initial_value: tuple[float, float, float] = ...,
        pwm: bool = ...,
        pin_factory: Factory | None = ...,
    ) -> None: ...
    def close(self) -> None: ...

class TonalBuzzer:
    def __init__(
        self,
        pin: int | str | None = ...,
        *,
        initial_value: float | None = ...,
        mid_tone: Tone = ...,
        octaves: int = ...,
        pin_factory: Factory | None = ...,
    ) -> None: ...
    def play(self, tone: Tone | None) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
