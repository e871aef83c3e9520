"""Hours of a service day, which need not end at midnight, and whether a product is for them.

The gate's clock on the wall comes as an offset: no zone files are read here.
"""

from collections.abc import Collection
from typing import Final

from validator.conditions import DAY_MINUTES, TimeFrame

_MINUTE_S: Final = 60
_DAY_S: Final = DAY_MINUTES * _MINUTE_S
_THURSDAY: Final = 3
"""Weekday of 1970-01-01, Monday counted as 0."""


def within(frames: Collection[TimeFrame], at_s: int, offset_s: int, day_starts_s: int) -> bool:
    """Say whether a product is for this hour.

    `TIME-FRAME-1`: a frame holds on its weekdays, from its first minute to before its last. Without frames every hour
    is good. `TIME-FRAME-2`: what is before the hour at which the service day begins is late in the day before: its
    minutes go on beyond 1440, and its weekday is that day's.

    Args:
        frames: When the product is valid.
        at_s: Seconds since 1970 UTC.
        offset_s: What the clocks on the walls are ahead of UTC, in seconds.
        day_starts_s: When the service day begins, seconds after midnight.
    """
    if not frames:
        return True
    day, second = divmod(at_s + offset_s, _DAY_S)
    late = second < day_starts_s
    minute = (second + _DAY_S * late) // _MINUTE_S
    weekday = 1 << ((day - late + _THURSDAY) % 7)
    return any(weekday & frame.weekdays and frame.from_minute <= minute < frame.until_minute for frame in frames)
