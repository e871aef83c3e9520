"""Clocks on walls, calendar days and service days, from the offsets that a tariff carries: no machine's own zone files.

GTFS asks timeframes by the wall clock of the stop and its *calendar* day; caps count *service* days, which begin at
the operator's own hour by the agency's clock. When the clocks go back an hour passes twice, and is the same hour both
times.
"""

from bisect import bisect_right
from operator import itemgetter
from typing import Final

from validator.fares.tariff_rows import DAY_S, Zone

_MONDAY: Final = 4
"""Day 4 since 1970-01-01, a Thursday, is the first Monday."""

_AT = itemgetter(0)


def wall(zone: Zone, at_s: int) -> tuple[int, int]:
    """Return the calendar day and the second after midnight that a zone's clocks show.

    Args:
        zone: The zone.
        at_s: Seconds since 1970 UTC.
    """
    number = bisect_right(zone.transitions, at_s, key=_AT)
    offset = zone.transitions[number - 1][1] if number else zone.offset_s
    return divmod(at_s + offset, DAY_S)


def service_day(zone: Zone, at_s: int, day_starts_s: int) -> int:
    """Return the service day of a time, which is the calendar day or the one before it."""
    day, second = wall(zone, at_s)
    return day if second >= day_starts_s else day - 1


def week(day: int) -> int:
    """Return the Monday of a day's week, as a day."""
    return day - (day - _MONDAY) % 7
