"""What a product says beyond its dates, places and price. Most say nothing of it (`ORDINARY`).

Minutes are those of the service day, as GTFS counts them: 25:30 is half past one of the night that belongs to the day
before (`validator.service_hours`).
"""

from typing import Final, NamedTuple

DAY_MINUTES: Final = 24 * 60
EVERY_DAY: Final = 0b111_1111
"""Weekdays as bits, Monday the lowest."""


class TimeFrame(NamedTuple):
    """Hours of some weekdays.

    Attributes:
        from_minute: First minute, counted from midnight at which the service day's date begins.
        until_minute: First minute after it; beyond 1440 where a service day ends after midnight.
        weekdays: Bits, Monday the lowest.
    """

    from_minute: int
    until_minute: int
    weekdays: int = EVERY_DAY


class Conditions(NamedTuple):
    """What a product says that most do not.

    Attributes:
        rider: The rider category that it was sold for; empty for the feed's default.
        medium: The fare medium that it is on; empty where that does not matter.
        riders: How many travel on one tap, the holder counted. What the tap takes is for all of them.
        zones: Zones where it is valid, beside its places.
        networks: Networks that it is valid in; empty means all.
        time_frames: When it is valid; empty means always.
        day_starts_s: When its service day begins, seconds after midnight: its validity begins and ends so much later.
        scheme: Whose right it is, where it is no ride: a health-insurance cover, a library card. Empty for a ride.
        floor: How far below zero a gate lets pay as you go run, in minor units.
        proof_until: When the proof of a concession ends, seconds since 1970 UTC; 0 where none is needed, or it is for
            good.
    """

    rider: str = ""
    medium: str = ""
    riders: int = 1
    zones: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    time_frames: frozenset[TimeFrame] = frozenset()
    day_starts_s: int = 0
    scheme: str = ""
    floor: int = 0
    proof_until: int = 0


ORDINARY: Final = Conditions()
"""A ride for one, at any hour."""
