"""When a new list goes to more devices, and when to nobody any more: decided from what the devices report; pure.

Reports are unsigned hints, so each device has one vote, and only devices that the office knows have any. Lies can hold
a list back or stop it, which a person then sees; they cannot put anything on a gate.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from backend_sync.waves import WHOLE, in_wave
from backend_sync.wire import ListState


@dataclass(frozen=True, slots=True)
class WaveRule:
    """How fast a list spreads.

    Attributes:
        steps: Percents after the first, ascending; everybody is always the last.
        pause_s: Seconds without a new refusal before the next step.
        failures: More refusals than so many stop it,
        failure_percent: if they are more than so many percent of the devices that tried.
    """

    steps: Sequence[int] = (25, 50)
    pause_s: float = 600
    failures: int = 2
    failure_percent: float = 2


@unique
class Verdict(StrEnum):
    """What is to be done with a wave."""

    WIDEN = "widen"
    WAIT = "wait"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Votes:
    """How a version fares.

    Attributes:
        on: Devices that have it in force.
        refused: Devices that refused it, and why.
    """

    on: frozenset[str]
    refused: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wave:
    """How far a version has come.

    Attributes:
        kind: Which list.
        version: The version.
        percent: Of the devices, how many may install it.
        quiet_since_s: Since when it stands there, or the last refusal came; seconds of a steady clock.
    """

    kind: str
    version: int
    percent: int
    quiet_since_s: float


def count_votes(version: int, reports: Mapping[str, ListState]) -> Votes:
    """Count what devices say of a version; who has it in force has not refused it, whatever came before.

    Args:
        version: The version.
        reports: Their last words on lists of that kind, by device.
    """
    on = frozenset(device for device, state in reports.items() if state.version == version)
    refused = {
        device: state.reason
        for device, state in sorted(reports.items())
        if state.refused_version == version and device not in on
    }
    return Votes(on, refused)


def judge(wave: Wave, votes: Votes, devices: Collection[str], rule: WaveRule, now_s: float) -> tuple[Verdict, int]:
    """Decide what is to be done with a wave.

    Args:
        wave: How far it has come.
        votes: How it fares.
        devices: All devices that there are.
        rule: How fast it may be.
        now_s: Seconds of the same clock as the wave's.

    Returns:
        The verdict, and the percent that follows from it.
    """
    refused, tried = len(votes.refused), len(votes.refused) + len(votes.on)
    if wave.percent > 0 and refused > rule.failures and 100 * refused > rule.failure_percent * tried:
        return Verdict.STOP, 0
    if wave.percent in (0, WHOLE):  # stopped, or held back, by somebody; or through
        return Verdict.WAIT, wave.percent
    if 100 * refused > rule.failure_percent * tried:
        return Verdict.WAIT, wave.percent  # too few to stop it, and too many to go on
    further = min((step for step in (*rule.steps, WHOLE) if step > wave.percent), default=WHOLE)
    if devices and not any(in_wave(device, wave.kind, wave.version, wave.percent) for device in devices):
        return Verdict.WIDEN, further  # nobody is asked yet, so nobody can answer
    if votes.on and now_s - wave.quiet_since_s >= rule.pause_s:
        return Verdict.WIDEN, further
    return Verdict.WAIT, wave.percent
