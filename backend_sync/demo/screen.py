"""What people see of the demo: the lamp and its sound, the taps, the queue and the ledger filling, the closed books."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hardware.gate import CUES, Cue, Signal

SHOWN_TAPS = 14


@dataclass(slots=True)
class Screen:
    """A live view on a terminal; a line now and then where there is none.

    Attributes:
        console: Where to draw.
        taps: How many taps there will be.
    """

    console: Console
    taps: int
    _done: int = 0
    _queue: int = 0
    _ledger: int = 0
    _broker: str = "up"
    _note: str = "getting ready"
    _signal: Signal = Signal.READY
    _lines: deque[tuple[Signal, str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=SHOWN_TAPS))
    _live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=12, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._signal = Signal.READY
            self._live.refresh()
            self._live.stop()

    def note(self, text: str) -> None:
        """Say what is going on."""
        self._note = text
        if self._live is None:
            self.console.print(text)

    def tap(self, persona: str, event: dict[str, Any]) -> None:
        """Show a tap that the validator reported."""
        self._done += 1
        self._signal = Signal(event["signal"])
        self._lines.append((self._signal, persona, event))
        if self._live is None and (self._done % 25 == 0 or self._done == self.taps):
            self.console.print(f"{self._done} of {self.taps} taps, {self._ledger} in the ledger, {self._queue} waiting")

    def idle(self) -> None:
        """Show that the gate waits for the next passenger."""
        self._signal = Signal.READY

    def counts(self, *, queue: int, ledger: int) -> None:
        """Show how many taps wait on the gate and how many the ledger holds."""
        self._queue, self._ledger = queue, ledger

    def broker(self, state: str) -> None:
        """Show whether the broker is there."""
        self._broker = state
        if self._live is None:
            self.console.print(f"broker {state}")

    def closed(self, figures: dict[str, Any]) -> None:
        """Show the figures of the closed books."""
        table = Table(title="Closed books", show_header=False, title_justify="left")
        table.add_column(justify="right", style="bold")
        table.add_column()
        for name, value in figures.items():
            shown = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name.replace("_", " "), shown)
        self.console.print(table)

    def __rich__(self) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column(width=26)
        head.add_column(ratio=1)
        head.add_row(_lamp(CUES[self._signal], self._signal), self._state())
        return Group(head, self._table())

    def _state(self) -> Panel:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=9)
        grid.add_column(width=12, justify="right")
        grid.add_column(ratio=1)
        rows = (("taps", self._done, "cyan"), ("queue", self._queue, "yellow"), ("ledger", self._ledger, "green"))
        for name, value, colour in rows:
            grid.add_row(
                name, f"{value} / {self.taps}", ProgressBar(self.taps or 1, value, complete_style=colour, width=50)
            )
        grid.add_row("broker", self._broker, Text(self._note, style="dim"))
        return Panel(grid, title="gate → queue → ledger")

    def _table(self) -> Table:
        table = Table(expand=True)
        table.add_column("", justify="center")
        for heading in ("passenger", "card", "reason"):
            table.add_column(heading)
        for heading in ("tap ms", "own ms"):
            table.add_column(heading, justify="right")
        for signal, persona, event in self._lines:
            cue = CUES[signal]
            kind = f"{event['profile'] or '-'} {'known' if event['cached'] else 'new'} {event['technology']}"
            table.add_row(
                Text(cue.shape, style=f"bold {_style(cue)}"),
                persona,
                kind,
                Text(event["reason"], style=_style(cue)),
                f"{event['total_ms']:.0f}",
                f"{event['own_ms']:.1f}",
            )
        return table


def _lamp(cue: Cue, signal: Signal) -> Panel:
    sound = "".join("♪" if beep.hertz >= 600 else "♩" if beep.hertz else " " for beep in cue.sound) or "silence"
    style = f"bold {_style(cue)}"
    text = Text(f"\n{cue.shape} {signal.name.replace('_', ' ')} {cue.shape}\n{sound}", style=style, justify="center")
    return Panel(text, style=style, title="lamp", height=6)


def _style(cue: Cue) -> str:
    return {"amber": "yellow"}.get(cue.colour, cue.colour)
