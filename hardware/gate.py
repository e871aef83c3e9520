"""The port to what a passenger sees and hears. Each signal differs by light, shape and sound, never by colour alone."""

from dataclasses import dataclass
from enum import Enum, unique
from typing import Protocol


@unique
class Signal(Enum):
    """What a gate can say."""

    READY = "ready"
    GRANT = "grant"
    DENY = "deny"
    PRESENT_AGAIN = "present_again"
    ONE_CARD = "one_card"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Beep:
    """One tone: pitch in hertz (0 is silence) and length in milliseconds."""

    hertz: int
    ms: int


@dataclass(frozen=True, slots=True)
class Cue:
    """How a signal looks and sounds.

    Attributes:
        colour: Colour of the lamp.
        shape: Glyph of the display or of the lamp's mask, legible without colour.
        blink_hz: 0 for a steady lamp.
        sound: Tones in order; empty for silence.
        opens: Whether the barrier opens.
    """

    colour: str
    shape: str
    blink_hz: float
    sound: tuple[Beep, ...]
    opens: bool = False


#: One beep for yes, two low ones for no, a short rising pair for "again", three alike for "one card at a time", silence
#: and a slow blink for a fault.
CUES: dict[Signal, Cue] = {
    Signal.READY: Cue("amber", "•", 0, ()),
    Signal.GRANT: Cue("green", "▲", 0, (Beep(1760, 120),), opens=True),
    Signal.DENY: Cue("red", "✖", 0, (Beep(330, 180), Beep(0, 60), Beep(330, 180))),
    Signal.PRESENT_AGAIN: Cue("amber", "↻", 4, (Beep(660, 70), Beep(990, 70))),
    Signal.ONE_CARD: Cue("amber", "1", 2, (Beep(660, 70), Beep(0, 60), Beep(660, 70), Beep(0, 60), Beep(660, 70))),
    Signal.FAULT: Cue("red", "▬", 0.5, ()),
}


class Gate(Protocol):
    """Barrier, lamp and buzzer of one lane."""

    async def show(self, signal: Signal, text: str = "") -> None:
        """Show the signal and open the barrier if it grants; returns at once, the cue plays by itself.

        Args:
            signal: What to show.
            text: One line for the passenger, where the gate has a display; empty for none.
        """
        ...

    async def close(self) -> None:
        """Leave the barrier shut and the lamp dark: no light means "not working"."""
        ...
