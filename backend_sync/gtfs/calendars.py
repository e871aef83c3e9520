"""Days and clocks of a feed: calendars, timeframes, the tariff's own days, time zones."""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backend_sync.gtfs.feed_files import FeedFiles, Row, Table, numbered
from validator.fares.tariff_rows import DAY_S, Frame, Zone

EPOCH: Final = dt.date(1970, 1, 1)
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
TIMEFRAMES: Final = "timeframes.txt"
MAX_DAYS: Final = 3660

_DATE: Final = re.compile(r"[0-9]{8}", re.ASCII)
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-5][0-9]):([0-5][0-9])", re.ASCII)
_LAST_YEAR: Final = 2200
_ADDED: Final = 1
_REMOVED: Final = 2


@dataclass(frozen=True, slots=True)
class Span:
    """The calendar days that a tariff is for, both included."""

    first: dt.date
    last: dt.date

    @property
    def first_day(self) -> int:
        """The first, counted from 1970-01-01."""
        return day_number(self.first)

    @property
    def last_day(self) -> int:
        """The last, counted from 1970-01-01."""
        return day_number(self.last)


def day_number(date: dt.date) -> int:
    """Count days from 1970-01-01."""
    return (date - EPOCH).days


def date_of(row: Row, field: str) -> dt.date | None:
    """Read ``YYYYMMDD``; None where the field is empty or wrong."""
    value = row.text(field)
    if not value:
        return None
    try:
        if _DATE.fullmatch(value):
            return dt.date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        pass
    row.wrong(field, f"{value!r} is no date", "write it as YYYYMMDD")
    return None


def time_of(row: Row, field: str, most: int = DAY_S) -> int | None:
    """Read ``HH:MM:SS`` as seconds after midnight; None where the field is empty or wrong."""
    value = row.text(field)
    if not value:
        return None
    found = _TIME.fullmatch(value)
    seconds = int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]) if found else most + 1
    if seconds > most:
        row.wrong(field, f"{value!r} is no time of a day", "write it as HH:MM:SS, at most 24:00:00")
        return None
    return seconds


def read_services(files: FeedFiles) -> dict[str, set[dt.date]]:
    """Read which days each service runs on (calendar.txt and calendar_dates.txt)."""
    days = defaultdict[str, set[dt.date]](set)
    for row in files.table("calendar.txt", ("service_id", *WEEKDAYS, "start_date", "end_date")).rows:
        service, runs = row.required("service_id"), [row.integer(day, 0, 1) for day in WEEKDAYS]
        start, end = date_of(row, "start_date"), date_of(row, "end_date")
        if start is None or end is None or end < start or (end - start).days > MAX_DAYS:
            row.wrong("end_date", f"the days are not from start_date to at most {MAX_DAYS} later", "correct the dates")
            continue
        each = (start + dt.timedelta(number) for number in range((end - start).days + 1))
        days[service].update(day for day in each if runs[day.weekday()])
    for row in files.table("calendar_dates.txt", ("service_id", "date", "exception_type")).rows:
        service, date, kind = row.required("service_id"), date_of(row, "date"), row.integer("exception_type", 1, 2)
        if date is not None and kind == _ADDED:
            days[service].add(date)
        if date is not None and kind == _REMOVED:
            days[service].discard(date)
    return days


def span_of(files: FeedFiles, services: Iterable[set[dt.date]], first: dt.date | None, last: dt.date | None) -> Span:
    """Say which days the tariff is for: as it was asked, else as feed_info.txt says, else those of the calendars."""
    info = files.table("feed_info.txt", ())
    for row in info.rows[:1]:
        first, last = first or date_of(row, "feed_start_date"), last or date_of(row, "feed_end_date")
    every = set[dt.date]().union(*services) or {EPOCH}
    span = Span(first or min(every), last or max(every))
    if span.first <= EPOCH or span.last.year > _LAST_YEAR or not 0 <= (span.last - span.first).days <= MAX_DAYS:
        meaning = f"{span.first} to {span.last} are not the days of a tariff"
        files.problems.add(info.file, 0, "feed_start_date", meaning, "say which days it is for (--from, --until)")
        return Span(EPOCH, EPOCH)
    return span


def service_bits(days: set[dt.date], span: Span) -> bytes:
    """Write days as bits, the first day of the span in the lowest bit of the first byte."""
    bits = bytearray((span.last_day - span.first_day) // 8 + 1)
    for date in days:
        if span.first <= date <= span.last:
            octet, bit = divmod(day_number(date) - span.first_day, 8)
            bits[octet] |= 1 << bit
    return bytes(bits)


def read_timeframes(table: Table, services: Iterable[str]) -> tuple[dict[str, int], list[list[tuple[Frame, str]]]]:
    """Read timeframes.

    Returns:
        The number of each group, and its frames, each with the id of its service; the frame's own service is 0.
    """
    groups, known = numbered({row.text("timeframe_group_id") for row in table.rows}), set(services)
    frames: list[list[tuple[Frame, str]]] = [[] for _ in groups]
    for row in table.rows:
        group, service = row.required("timeframe_group_id"), row.required("service_id")
        if service and service not in known:
            row.wrong("service_id", f"{service!r} is in no calendar", "add it to calendar.txt or calendar_dates.txt")
        if bool(row.text("start_time")) != bool(row.text("end_time")):
            row.wrong("end_time", "one of start_time and end_time is empty", "give both, or none for the whole day")
            continue
        start, end = time_of(row, "start_time"), time_of(row, "end_time")
        start, end = start or 0, DAY_S if end is None else end
        if start >= end:
            row.wrong("end_time", "the timeframe ends before it begins", "split it at 24:00:00")
        elif group:
            frames[groups[group]].append((Frame(start, end, 0), service))
            _overlap(row, frames[groups[group]], service)
    return groups, frames


def zone_of(name: str, span: Span) -> Zone | None:
    """Return what a time zone's clocks do between the days of a span; None where there is no such zone."""
    try:
        zone = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
    start, end = (span.first_day - 2) * DAY_S, (span.last_day + 3) * DAY_S
    transitions: list[tuple[int, int]] = []
    for before, after in pairwise(range(start, end + 1, DAY_S)):
        if _offset(zone, before) != _offset(zone, after):
            transitions.append((_changes(zone, before, after), _offset(zone, after)))
    return Zone(name, _offset(zone, start), tuple(transitions))


def _changes(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the second at which the offset becomes that of `after`."""
    wanted = _offset(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (before, middle) if _offset(zone, middle) == wanted else (middle, after)
    return after


def _offset(zone: ZoneInfo, at_s: int) -> int:
    offset = dt.datetime.fromtimestamp(at_s, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _overlap(row: Row, frames: list[tuple[Frame, str]], service: str) -> None:
    last, _ = frames[-1]
    if any(other == service and one.start < last.end and last.start < one.end for one, other in frames[:-1]):
        row.wrong("start_time", "overlaps another timeframe of this group and service", "make them meet, not overlap")
