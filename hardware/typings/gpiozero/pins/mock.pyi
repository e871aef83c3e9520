from gpiozero.pins import Factory, Pin

class PinState:
    timestamp: float
    state: float

class MockPin(Pin):
    states: list[PinState]
    def clear_states(self) -> None: ...

class MockPWMPin(MockPin): ...

class MockFactory(Factory):
    pin_class: type[MockPin]
    pins: dict[object, MockPin]
    def __init__(self, revision: str | None = ..., pin_class: type[MockPin] | None = ...) -> None: ...
    def pin(self, name: int | str, pin_class: type[MockPin] | None = ...) -> MockPin: ...
    def reset(self) -> None: ...
