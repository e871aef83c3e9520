"""What people read when the gate is a terminal."""

import io
from collections.abc import Iterable

import pytest
from rich.console import Console

from hardware.console import ConsoleGate, NullGate, line
from hardware.gate import CUES, Gate, Signal


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


async def show_all(gate: Gate, signals: Iterable[Signal] = Signal) -> None:
    for signal in signals:
        await gate.show(signal)
    await gate.close()


async def test_one_line_for_each_signal_and_one_for_the_end() -> None:
    console = Console(file=io.StringIO(), width=120)
    await show_all(ConsoleGate(console))
    lines = printed(console).splitlines()
    assert [text.split()[0] for text in lines] == [*(CUES[signal].shape for signal in Signal), "◌"]
    assert [text for text in lines if "barrier opens" in text] == [lines[1]]


def test_the_lines_of_a_grant_and_a_denial() -> None:
    assert line(Signal.GRANT).plain == "▲ grant         green, ♪ 1760 Hz 120 ms, barrier opens"
    assert line(Signal.DENY).plain == "✖ deny          red, ♪ 330 Hz 180 ms rest 60 ms 330 Hz 180 ms"


@pytest.mark.parametrize("signal", list(Signal))
def test_the_lamp_is_coloured_where_the_terminal_is(signal: Signal) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(line(signal))
    assert "\x1b[" in printed(console)


async def test_the_silent_gate_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    await show_all(NullGate())
    assert capfd.readouterr() == ("", "")


async def test_what_a_passenger_reads_stands_below_the_signal() -> None:
    console = Console(width=60, file=io.StringIO())
    await ConsoleGate(console).show(Signal.GRANT, "valid; [4] rides left")
    assert printed(console).splitlines()[1] == "  valid; [4] rides left"
