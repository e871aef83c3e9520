"""What is in force when: editions of the tariff, each with its places and limits, and the file in which gates get them.

    "pilet-editions/1" | msgpack of `_File`

The file has the edition in force and those that come next. Each has its tariff as `encode_tariff` writes it, so that a
gate prices by the very bytes that the back office prices by. A place's station is not in it: the tariff says it.
The same editions give the same bytes. Whatever else it is given, `parse_editions` refuses.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Annotated, Final, Literal

import msgspec

from validator.fares.errors import EditionsError, TariffError
from validator.fares.quick import QuickPrices
from validator.fares.tariff import Tariffs, encode_tariff
from validator.fares.tariff_rows import Id

FORMAT: Final = 1
MAX_BYTES: Final = 8 * 2**20
"""Of the file: what a gate reads into its memory has an end."""
MAX_EDITIONS: Final = 8
MAX_PLACES: Final = 2**16
"""Of an edition."""
MAX_NUMBER: Final = 2**31 - 1
MAX_LIMIT_S: Final = 7 * 24 * 3600

_MAGIC: Final = b"pilet-editions/1"
_WHERE: Final = "editions"
_FROM = attrgetter("from_s")

PlaceName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""As in a gate's configuration, and on its taps."""
LimitS = Annotated[int, msgspec.Meta(ge=0, le=MAX_LIMIT_S)]
_OptionalId = Annotated[str, msgspec.Meta(max_length=256)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where taps are made, in a feed's own ids.

    Attributes:
        feed: Name of the feed.
        stop: Its stop; empty for a vehicle, whose taps say where it was.
        station: The station of that stop; the stop itself where it has none.
        network: Its network; empty where the route names it.
        route: Its route; empty where taps name it, or none is known.
        gated: Whether one taps on the way in and on the way out; else one tap is one ride.
    """

    feed: str
    stop: str
    station: str
    network: str = ""
    route: str = ""
    gated: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Times by which taps are paired, in seconds; each is in time itself.

    Attributes:
        journey_s: Longest time between entry and exit.
        correction_s: Longest time between entry and exit at one station that is a change of mind.
        group_s: Longest time from the first to the last validation of a group in one vehicle.
        typical_s: How long a ride takes as far as nobody knows better.
    """

    journey_s: int = 3 * 3600
    correction_s: int = 300
    group_s: int = 60
    typical_s: int = 1800


class Edition:
    """A version of the tariff, from a moment on.

    Attributes:
        version: Its number; gates name it on their taps.
        from_s: When it begins to hold, seconds since 1970 UTC.
        tariffs: What to price by.
        prices: The same without explanations.
        places: Where taps are made, by the name that gates use.
        limits: By which taps are paired.
    """

    def __init__(
        self, version: int, from_s: int, tariffs: Tariffs, places: Mapping[str, Place], limits: Limits | None = None
    ) -> None:
        self.version = version
        self.from_s = from_s
        self.tariffs = tariffs
        self.prices = QuickPrices(tariffs)
        self.places = places
        self.limits = limits or Limits()


class Editions:
    """Editions, of which one holds at a time.

    Attributes:
        editions: By when they begin to hold.
        versions: Their numbers.
    """

    def __init__(self, editions: Iterable[Edition] = ()) -> None:
        self.editions = tuple(sorted(editions, key=_FROM))
        self._starts = [edition.from_s for edition in self.editions]
        self.versions = frozenset(edition.version for edition in self.editions)

    def at(self, at_s: int) -> Edition | None:
        """Return the edition that holds at a time; None before the first."""
        number = bisect_right(self._starts, at_s)
        return self.editions[number - 1] if number else None


class _Row(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A row; what is not on the wire is an error, and so is what is there too much."""


class _PlaceRow(_Row, frozen=True):
    name: PlaceName
    feed: Id
    stop: _OptionalId
    network: _OptionalId
    route: _OptionalId
    gated: bool


class _LimitsRow(_Row, frozen=True):
    journey_s: LimitS
    correction_s: LimitS
    group_s: LimitS
    typical_s: LimitS


class _EditionRow(_Row, frozen=True):
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]
    from_s: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    tariff: bytes
    places: Annotated[tuple[_PlaceRow, ...], msgspec.Meta(max_length=MAX_PLACES)]
    limits: _LimitsRow


class _File(_Row, frozen=True):
    format: Literal[1]
    editions: Annotated[tuple[_EditionRow, ...], msgspec.Meta(min_length=1, max_length=MAX_EDITIONS)]


def place_faults(place: Place, tariffs: Tariffs) -> Iterator[tuple[str, str]]:
    """Yield what a place names that its tariff does not have: the field, and what is wrong with it.

    Args:
        place: Its station is not looked at.
        tariffs: The tariff of the same edition.
    """
    tables = tariffs.feeds.get(place.feed)
    if tables is None:
        yield "feed", f"the tariff has no feed {place.feed!r}"
        return
    if place.stop and place.stop not in tables.stops:
        yield "stop", f"feed {place.feed} has no stop {place.stop!r}"
    if place.network and place.network not in tables.networks:
        yield "network", f"feed {place.feed} has no network {place.network!r}"
    if place.route and place.route not in tables.routes:
        yield "route", f"feed {place.feed} has no route {place.route!r}"
    if place.route and place.network:
        yield "network", f"route {place.route!r} says it already; leave one of them out"


def station_of(tariffs: Tariffs, feed: str, stop: str) -> str:
    """Return the id of a stop's station, of the stop itself where it has none; empty where there is no such stop."""
    tables = tariffs.feeds.get(feed)
    number = None if tables is None else tables.stops.get(stop)
    return "" if tables is None or number is None else tables.feed.stops[tables.station(number)].stop_id


def encode_editions(editions: Iterable[Edition], where: object = _WHERE) -> bytes:
    """Encode editions; in any order they give the same bytes.

    Args:
        editions: The edition in force, and those that come next.
        where: What to call them in an error.

    Raises:
        EditionsError: No gate would take them; it names all that is wrong.
    """
    given = Editions(editions)
    data = _MAGIC + msgspec.msgpack.encode(_File(FORMAT, tuple(_edition_row(each) for each in given.editions)))
    read = parse_editions(data, where)
    elsewhere = [
        f"{_named(one, name)}: its station is {other.places[name].station!r} by the tariff, not {place.station!r}"
        for one, other in zip(given.editions, read.editions, strict=True)
        for name, place in one.places.items()
        if other.places[name].station != place.station
    ]
    if elsewhere:
        raise EditionsError(where, elsewhere)
    return data


def parse_editions(data: bytes, where: object = _WHERE) -> Editions:
    """Read the file that gates get.

    Args:
        data: Its bytes.
        where: What to call them in an error.

    Raises:
        EditionsError: They are not what `encode_editions` writes, or a place is not in its tariff; it names all such.
    """
    if len(data) > MAX_BYTES:
        raise EditionsError(where, [f"has {len(data)} bytes, more than {MAX_BYTES}"])
    if not data.startswith(_MAGIC):
        raise EditionsError(where, ["not a file of editions of this format"])
    try:
        file = msgspec.msgpack.decode(memoryview(data)[len(_MAGIC) :], type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EditionsError(where, [f"not a file of editions: {error}"]) from None
    if _MAGIC + msgspec.msgpack.encode(file) != data:
        raise EditionsError(where, ["not written as editions are"])
    problems = list(_order(file))
    tariffs: dict[bytes, Tariffs] = {}
    editions = []
    for row in file.editions:
        try:
            if row.tariff not in tariffs:
                tariffs[row.tariff] = Tariffs.parse(row.tariff)
        except TariffError as error:
            problems.append(f"edition {row.number}: tariff: {error.why}")
            continue
        edition = _edition(row, tariffs[row.tariff])
        problems += _misplaced(edition)
        editions.append(edition)
    if problems:
        raise EditionsError(where, problems)
    return Editions(editions)


def _edition_row(edition: Edition) -> _EditionRow:
    places = tuple(
        _PlaceRow(name, place.feed, place.stop, place.network, place.route, place.gated)
        for name, place in sorted(edition.places.items())
    )
    limits = edition.limits
    return _EditionRow(
        edition.version,
        edition.from_s,
        encode_tariff(tables.feed for tables in edition.tariffs.feeds.values()),
        places,
        _LimitsRow(limits.journey_s, limits.correction_s, limits.group_s, limits.typical_s),
    )


def _edition(row: _EditionRow, tariffs: Tariffs) -> Edition:
    places = {
        each.name: Place(
            each.feed, each.stop, station_of(tariffs, each.feed, each.stop), each.network, each.route, each.gated
        )
        for each in row.places
    }
    limits = row.limits
    return Edition(
        row.number,
        row.from_s,
        tariffs,
        places,
        Limits(limits.journey_s, limits.correction_s, limits.group_s, limits.typical_s),
    )


def _order(file: _File) -> Iterator[str]:
    for one, other in pairwise(file.editions):
        if one.number >= other.number:
            yield f"edition {other.number} comes after edition {one.number}"
        if one.from_s >= other.from_s:
            yield f"edition {other.number} begins at {other.from_s}, the one before it at {one.from_s}"
    for row in file.editions:
        for place, after in pairwise(row.places):
            if place.name >= after.name:
                yield f"edition {row.number}: place {after.name!r} comes after {place.name!r}"


def _misplaced(edition: Edition) -> Iterator[str]:
    for name, place in edition.places.items():
        for fault, why in place_faults(place, edition.tariffs):
            yield f"{_named(edition, name)}: {fault}: {why}"


def _named(edition: Edition, place: str) -> str:
    return f"edition {edition.version}, place {place!r}"
