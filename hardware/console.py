"""Gates without metal: one that prints its lamp and sounds on a terminal, one that shows nothing."""

from rich.console import Console
from rich.text import Text

from hardware.gate import CUES, Beep, Cue, Signal

_STYLES = {"amber": "dark_orange", "green": "green", "red": "red"}


class ConsoleGate:
    """A `hardware.gate.Gate` that prints one line per signal: shape, name, lamp, sound, barrier.

    Args:
        console: The terminal, or where the lines go instead.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    async def show(self, signal: Signal, text: str = "") -> None:
        """Print the signal, and what the passenger reads below it."""
        self._console.print(line(signal))
        if text:
            self._console.print(Text(f"  {text}"))

    async def close(self) -> None:
        """Print that the lamp is dark."""
        self._console.print(Text("◌ closed", style="dim"))


class NullGate:
    """A `hardware.gate.Gate` for a reader that stands alone."""

    async def show(self, signal: Signal, text: str = "") -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def line(signal: Signal) -> Text:
    """Describe a signal in one line that is legible without colour."""
    cue = CUES[signal]
    text = Text(f"{cue.shape} {signal.value.replace('_', ' '):<14}", style=f"bold {_STYLES[cue.colour]}")
    return text.append(", ".join(_parts(cue)), style="not bold default")


def _parts(cue: Cue) -> list[str]:
    lamp = f"{cue.colour}, blinks {cue.blink_hz:g} times a second" if cue.blink_hz else cue.colour
    return [lamp, *([_sound(cue.sound)] if cue.sound else []), *(["barrier opens"] if cue.opens else [])]


def _sound(sound: tuple[Beep, ...]) -> str:
    return "♪ " + " ".join(f"{beep.hertz} Hz {beep.ms} ms" if beep.hertz else f"rest {beep.ms} ms" for beep in sound)
