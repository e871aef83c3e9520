"""The rows of a tariff, as they stand on the wire: msgpack arrays, ids as indices into the feed's own tables.

A row keeps the line of the file that it was compiled from, so that a price can be explained years later. Days count
from 1970-01-01, times of day are seconds after midnight by the clock on the wall, amounts are minor units
of their currency.
"""

from enum import IntEnum, unique
from typing import Annotated, Final, Literal

import msgspec

FORMAT: Final = 1
DAY_S: Final = 24 * 3600
MAX_AMOUNT: Final = 2**31 - 1
MAX_CAPS: Final = 6
"""So many caps of one period a feed may have; a best price looks at every selection of them."""

Index = Annotated[int, msgspec.Meta(ge=0, le=2**24)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Line = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
Amount = Annotated[int, msgspec.Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
TimeOfDay = Annotated[int, msgspec.Meta(ge=0, le=DAY_S)]
Day = Annotated[int, msgspec.Meta(ge=0, le=2**20)]
Offset = Annotated[int, msgspec.Meta(ge=-DAY_S, le=DAY_S)]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]


@unique
class Clock(IntEnum):
    """``duration_limit_type``: between which validations of the first and the last leg a transfer's limit runs."""

    DEPARTURE_ARRIVAL = 0
    DEPARTURE_DEPARTURE = 1
    ARRIVAL_DEPARTURE = 2
    ARRIVAL_ARRIVAL = 3


@unique
class TransferType(IntEnum):
    """``fare_transfer_type``: what a transfer costs; A and B are the legs, AB the transfer's product."""

    ADD = 0  # A + AB
    BOTH = 1  # A + AB + B
    INSTEAD = 2  # AB


@unique
class Period(IntEnum):
    """How long a cap holds: a service day, or seven of them from Monday."""

    DAY = 1
    WEEK = 7


class _Row(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A row; what is not on the wire is an error, and so is what is there too much."""


class Zone(_Row, frozen=True):
    """A time zone between the tariff's days.

    Attributes:
        name: Its IANA name.
        offset_s: Seconds east of UTC before the first transition.
        transitions: Second since 1970 UTC and the offset from then on, ascending.
    """

    name: Id
    offset_s: Offset
    transitions: tuple[tuple[int, Offset], ...]


class Stop(_Row, frozen=True):
    """A stop, its station (an index of a stop), its areas, and its time zone where it is not the agency's."""

    stop_id: Id
    station: Index | None
    areas: tuple[Index, ...]
    zone: Index | None


class Price(_Row, frozen=True):
    """A line of ``fare_products.txt``; no rider or medium means any."""

    product: Index
    rider: Index | None
    medium: Index | None
    amount: Amount
    currency: Currency
    line: Line


class Frame(_Row, frozen=True):
    """A line of ``timeframes.txt``: from `start` to before `end` on the days of a service."""

    start: TimeOfDay
    end: TimeOfDay
    service: Index


class LegRule(_Row, frozen=True):
    """A line of ``fare_leg_rules.txt``; None is an empty field."""

    group: Index | None
    network: Index | None
    from_area: Index | None
    to_area: Index | None
    from_frames: Index | None
    to_frames: Index | None
    product: Index
    priority: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    line: Line


class JoinRule(_Row, frozen=True):
    """A line of ``fare_leg_join_rules.txt``; both stops are given, or neither."""

    network: Index
    from_stop: Index | None
    to_stop: Index | None
    line: Line


class TransferRule(_Row, frozen=True):
    """A line of ``fare_transfer_rules.txt``; a count of None stands with two groups that differ, -1 is no limit."""

    from_group: Index | None
    to_group: Index | None
    count: Annotated[int, msgspec.Meta(ge=-1, le=2**31)] | None
    limit_s: Seconds | None
    clock: Clock | None
    kind: TransferType
    product: Index | None
    line: Line


class Cap(_Row, frozen=True):
    """A line of ``pilet_caps.txt``: so much at most in a period, for what it names; None is whatever there is."""

    cap_id: Id
    period: Period
    amount: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
    currency: Currency
    product: Index | None
    network: Index | None
    rider: Index | None
    line: Line


class Feed(_Row, frozen=True):
    """One operator's tariff. Ids are its own: feeds side by side never share one.

    Attributes:
        name: What legs call this feed.
        first_day: The first calendar day that the tariff is for.
        last_day: The last one.
        day_starts_s: When a service day begins; before it, a ride counts for the day before.
        join_limit_s: Longest time between arrival and departure of legs that are joined; None for no limit.
        zones: Time zones; the first is the agency's.
        stops: Stops, by id.
        areas: Ids of areas.
        networks: Ids of networks.
        routes: Route ids, and the network of each where it has one.
        riders: Ids of rider categories.
        default_rider: The category of whoever names none.
        media: Ids of fare media.
        products: Ids of fare products.
        prices: What products cost.
        services: For each service a bit for each day, the first day's in the lowest bit of the first byte.
        frames: Timeframes, by group.
        groups: Ids of leg groups.
        prioritised: Whether ``fare_leg_rules.txt`` has the column ``rule_priority``.
        leg_rules: What legs cost.
        join_rules: Which legs are one.
        transfer_rules: What changing between legs costs.
        caps: What is paid at most.
    """

    name: Id
    first_day: Day
    last_day: Day
    day_starts_s: Annotated[int, msgspec.Meta(ge=0, lt=DAY_S)]
    join_limit_s: Seconds | None
    zones: Annotated[tuple[Zone, ...], msgspec.Meta(min_length=1)]
    stops: tuple[Stop, ...]
    areas: tuple[Id, ...]
    networks: tuple[Id, ...]
    routes: tuple[tuple[Id, Index | None], ...]
    riders: tuple[Id, ...]
    default_rider: Index | None
    media: tuple[Id, ...]
    products: tuple[Id, ...]
    prices: tuple[Price, ...]
    services: tuple[bytes, ...]
    frames: tuple[tuple[Frame, ...], ...]
    groups: tuple[Id, ...]
    prioritised: bool
    leg_rules: tuple[LegRule, ...]
    join_rules: tuple[JoinRule, ...]
    transfer_rules: tuple[TransferRule, ...]
    caps: tuple[Cap, ...]


class Tariff(_Row, frozen=True):
    """Feeds side by side, by name."""

    format: Literal[1]
    feeds: tuple[Feed, ...]
