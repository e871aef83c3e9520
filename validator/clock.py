"""The clock of a box that may have no battery: never below a time that has certainly passed, and honest about doubt.

The floor is the latest of the build time, the issue time of any list that was believed, and the last journal entry that
was made on a synchronised clock. A wall clock below it is wrong; then the floor is used, moving on with the monotonic
clock. A clock that is synchronised now knows better than what the journal remembers of an earlier one, but not better
than what was signed.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from validator.model import ClockConfidence, Instant

BUILD_TIME_MS = 1_795_392_000_000
"""2026-11-23T00:00:00Z: when this source was made; moved on with each release."""

STEP_MS = 1000
"""How far a wall clock may fall behind the floor's own course before it counts as wrong: two clocks never agree to the
millisecond."""

_BOOT_BYTES = 8


@dataclass(frozen=True, slots=True)
class TimeFloor:
    """A time that had certainly passed at one moment of the monotonic clock.

    Attributes:
        wall_ms: Milliseconds since 1970-01-01 UTC.
        mono_ms: The monotonic clock of this boot at that moment.
    """

    wall_ms: int
    mono_ms: int

    def course_ms(self, mono_ms: int) -> int:
        """Return the least wall time that is possible now."""
        return self.wall_ms + max(0, mono_ms - self.mono_ms)

    def raised(self, wall_ms: int, mono_ms: int) -> "TimeFloor":
        """Return the higher of this floor and another that is learnt now."""
        return TimeFloor(wall_ms, mono_ms) if wall_ms > self.course_ms(mono_ms) else self


def read(wall_ms: int, mono_ms: int, boot: bytes, floor: TimeFloor, source: ClockConfidence) -> Instant:
    """Turn raw readings into an instant that may be believed as far as it says.

    Args:
        wall_ms: The system's wall clock, milliseconds since 1970-01-01 UTC, however wrong.
        mono_ms: The monotonic clock of this boot, milliseconds.
        boot: Eight bytes that name this boot.
        floor: What time it is at least.
        source: How far the system's clock is to be believed if it is not below the floor.

    Returns:
        An instant that is never below the floor.
    """
    course_ms = floor.course_ms(mono_ms)
    # A synchronised clock knows better than the course of a floor that another clock may have set too high.
    least_ms = floor.wall_ms if source is ClockConfidence.NTP else course_ms - STEP_MS
    if wall_ms < max(least_ms, floor.wall_ms):
        return Instant(course_ms, mono_ms, boot, ClockConfidence.FLOOR)
    return Instant(wall_ms, mono_ms, boot, source)


class SystemClock:
    """The clocks of this machine. Only composition roots make one; everything else is given an `Instant`."""

    def __init__(
        self,
        floor_ms: int,
        *,
        kept: bool = False,
        synchronized: Path = Path("/run/systemd/timesync/synchronized"),
        rtc: Path = Path("/sys/class/rtc/rtc0"),
        boot_id: Path = Path("/proc/sys/kernel/random/boot_id"),
    ) -> None:
        """Start from a floor.

        Args:
            floor_ms: A time that has certainly passed, milliseconds since 1970-01-01 UTC; the build time is known here.
            kept: Somebody who knows says that the system's clock is kept right, by chrony or by a hypervisor, say.
            synchronized: Exists once the clock was set from the network (systemd-timesyncd).
            rtc: Exists where there is a battery clock.
            boot_id: Names this boot.
        """
        self._kept, self._synchronized, self._rtc = kept, synchronized, rtc
        self._boot = _boot(boot_id)
        self._signed = self._highest = TimeFloor(max(BUILD_TIME_MS, floor_ms), _mono_ms())

    def now(self) -> Instant:
        """Read the clocks."""
        source = self._source()
        floor = self._signed if source is ClockConfidence.NTP else self._highest
        return read(time.time_ns() // 1_000_000, _mono_ms(), self._boot, floor, source)

    def raise_floor(self, floor_ms: int) -> None:
        """Take note of a signed time that has certainly passed, milliseconds since 1970 UTC; never goes down."""
        self._signed = self._signed.raised(floor_ms, _mono_ms())
        self.remember(floor_ms)

    def remember(self, floor_ms: int) -> None:
        """Take note of a time that an earlier synchronised clock showed; one that is synchronised now knows better."""
        self._highest = self._highest.raised(floor_ms, _mono_ms())

    def _source(self) -> ClockConfidence:
        if self._kept or self._synchronized.exists():
            return ClockConfidence.NTP
        # Without a battery the system restores the last time that it saved: another floor, not a clock.
        return ClockConfidence.RTC if self._rtc.exists() else ClockConfidence.FLOOR


def _mono_ms() -> int:
    """Milliseconds since boot, time asleep included, so that waking up does not shorten a pass-back window."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _boot(boot_id: Path) -> bytes:
    try:
        name = boot_id.read_bytes()
    except OSError:
        name = os.urandom(_BOOT_BYTES)  # compares with no other boot: elapsed time then comes from the wall clock
    return hashlib.sha256(name).digest()[:_BOOT_BYTES]
