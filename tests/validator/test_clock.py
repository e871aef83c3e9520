"""Time that is never below what has certainly passed."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.clock import BUILD_TIME_MS, STEP_MS, SystemClock, TimeFloor, read
from validator.model import ClockConfidence

DAY_MS = 24 * 3600 * 1000

BOOT = b"one-boot"
MS = st.integers(0, 2**42)
SOURCES = st.sampled_from(ClockConfidence)
FLOOR = TimeFloor(1_000_000, 5_000)


@given(wall=MS, mono=MS, floor=st.builds(TimeFloor, MS, MS), source=SOURCES)
def test_never_below_the_floor_and_never_more_confident_than_the_source(
    wall: int, mono: int, floor: TimeFloor, source: ClockConfidence
) -> None:
    now = read(wall, mono, BOOT, floor, source)
    assert now.wall_ms >= floor.wall_ms
    assert (now.mono_ms, now.boot) == (mono, BOOT)
    assert now.confidence in (source, ClockConfidence.FLOOR)
    if now.wall_ms != wall:
        assert now.confidence is ClockConfidence.FLOOR


@given(wall=st.integers(0, FLOOR.wall_ms - 1), elapsed=st.integers(0, 2**40), source=SOURCES)
def test_below_the_floor_time_moves_with_the_monotonic_clock(wall: int, elapsed: int, source: ClockConfidence) -> None:
    now = read(wall, FLOOR.mono_ms + elapsed, BOOT, FLOOR, source)
    assert (now.wall_ms, now.confidence) == (FLOOR.wall_ms + elapsed, ClockConfidence.FLOOR)


@pytest.mark.parametrize(
    ("wall", "mono", "source", "expected", "confidence"),
    [
        (2_000_000, 6_000, ClockConfidence.NTP, 2_000_000, ClockConfidence.NTP),
        (2_000_000, 6_000, ClockConfidence.RTC, 2_000_000, ClockConfidence.RTC),
        (2_000_000, 6_000, ClockConfidence.FLOOR, 2_000_000, ClockConfidence.FLOOR),
        (1_000_000 - STEP_MS // 2, 5_000, ClockConfidence.RTC, 1_000_000, ClockConfidence.FLOOR),
        # A wrong clock does not become right by ticking past the floor.
        (1_000_001, 95_000, ClockConfidence.RTC, 1_090_000, ClockConfidence.FLOOR),
        # Two clocks never agree to the millisecond.
        (1_090_000 - STEP_MS, 95_000, ClockConfidence.RTC, 1_090_000 - STEP_MS, ClockConfidence.RTC),
        # The network knows better than the course of a floor, and never better than the floor.
        (1_000_001, 95_000, ClockConfidence.NTP, 1_000_001, ClockConfidence.NTP),
        (999_999, 95_000, ClockConfidence.NTP, 1_090_000, ClockConfidence.FLOOR),
    ],
)
def test_readings(wall: int, mono: int, source: ClockConfidence, expected: int, confidence: ClockConfidence) -> None:
    now = read(wall, mono, BOOT, FLOOR, source)
    assert (now.wall_ms, now.confidence) == (expected, confidence)


@given(floor=st.builds(TimeFloor, MS, MS), wall=MS, later=MS)
def test_a_floor_only_rises(floor: TimeFloor, wall: int, later: int) -> None:
    mono = floor.mono_ms + later
    raised = floor.raised(wall, mono)
    assert raised.course_ms(mono) == max(wall, floor.course_ms(mono))
    assert raised.wall_ms >= floor.wall_ms


def system_clock(folder: Path, floor_ms: int, *present: str) -> SystemClock:
    for name in present:
        (folder / name).write_text("f00d\n")
    return SystemClock(floor_ms, synchronized=folder / "synchronized", rtc=folder / "rtc", boot_id=folder / "boot_id")


@pytest.mark.parametrize(
    ("present", "confidence"),
    [
        (["synchronized", "rtc"], ClockConfidence.NTP),
        (["synchronized"], ClockConfidence.NTP),
        (["rtc"], ClockConfidence.RTC),
        ([], ClockConfidence.FLOOR),
    ],
)
def test_confidence_comes_from_what_the_system_says(
    tmp_path: Path, present: list[str], confidence: ClockConfidence
) -> None:
    before = time.time_ns() // 1_000_000
    now = system_clock(tmp_path, 0, *present).now()
    assert now.confidence is confidence
    assert before <= now.wall_ms <= time.time_ns() // 1_000_000


def test_a_clock_that_somebody_keeps_right_is_as_good_as_a_synchronised_one(tmp_path: Path) -> None:
    here = {"synchronized": tmp_path / "synchronized", "rtc": tmp_path / "rtc"}
    assert SystemClock(0, kept=True, **here).now().confidence is ClockConfidence.NTP
    future = time.time_ns() // 1_000_000 + 3_600_000
    assert SystemClock(future, kept=True, **here).now().confidence is ClockConfidence.FLOOR


def test_a_floor_beyond_the_system_s_clock_rules_until_it_is_passed(tmp_path: Path) -> None:
    future = time.time_ns() // 1_000_000 + 3_600_000
    clock = system_clock(tmp_path, 0, "synchronized")
    assert clock.now().confidence is ClockConfidence.NTP
    clock.raise_floor(future)
    first = clock.now()
    clock.raise_floor(future - 1_800_000)
    second = clock.now()
    assert first.confidence is second.confidence is ClockConfidence.FLOOR
    assert future <= first.wall_ms <= second.wall_ms
    assert second.wall_ms - first.wall_ms == second.mono_ms - first.mono_ms


def test_a_boot_has_one_name_and_another_boot_another(tmp_path: Path) -> None:
    named = system_clock(tmp_path, 0, "boot_id").now().boot
    assert system_clock(tmp_path, 0).now().boot == named
    assert len(named) == 8
    (tmp_path / "boot_id").write_text("beef\n")
    assert system_clock(tmp_path, 0).now().boot != named
    (tmp_path / "boot_id").unlink()
    assert system_clock(tmp_path, 0).now().boot != system_clock(tmp_path, 0).now().boot


def test_this_machine_has_a_clock() -> None:
    first, second = SystemClock(0).now(), SystemClock(0).now()
    assert first.boot == second.boot
    assert first.mono_ms <= second.mono_ms


def test_the_build_time_has_passed() -> None:
    assert time.time_ns() // 1_000_000 >= BUILD_TIME_MS
    assert SystemClock(0).now().wall_ms >= BUILD_TIME_MS


def test_a_synchronised_clock_knows_better_than_the_journal_but_not_than_what_was_signed(tmp_path: Path) -> None:
    marker, never = tmp_path / "synchronized", tmp_path / "none"
    now_ms = time.time_ns() // 1_000_000
    clock = SystemClock(0, synchronized=marker, rtc=never)
    clock.remember(now_ms + DAY_MS)
    assert clock.now().wall_ms >= now_ms + DAY_MS, "nobody knows better"
    marker.touch()
    assert clock.now().wall_ms < now_ms + DAY_MS
    assert clock.now().confidence is ClockConfidence.NTP
    clock.raise_floor(now_ms + 2 * DAY_MS)
    assert clock.now().wall_ms >= now_ms + 2 * DAY_MS
    assert clock.now().confidence is ClockConfidence.FLOOR
