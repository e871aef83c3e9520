"""The TOML file in which people write where taps are made: a table for each name that gates use, in a feed's own ids.

    [limits]
    journey_s = 10800

    [places."central 1"]
    feed = "city"
    stop = "A1"
    network = "metro"
    gated = true

A limit that is left out has its default (`validator.fares.editions.Limits`). All that is wrong is told at once.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from backend_sync.publish_errors import InputMissing
from validator.fares.editions import MAX_PLACES, LimitS, Limits, Place, PlaceName, place_faults, station_of
from validator.fares.tariff import Tariffs
from validator.fares.tariff_rows import Id

Fault = tuple[str, str]
"""A key of the file, empty for the whole, and what is wrong with it."""

_BARE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_LIMITS: Final = Limits()
_Table = TypeVar("_Table", bound=msgspec.Struct)


class LimitsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``, in seconds; what each is for, `Limits` says."""

    journey_s: LimitS = _LIMITS.journey_s
    correction_s: LimitS = _LIMITS.correction_s
    group_s: LimitS = _LIMITS.group_s
    typical_s: LimitS = _LIMITS.typical_s


class PlaceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[places.NAME]``, in the feed's own ids.

    Attributes:
        gated: Whether one taps on the way in and on the way out; else one tap is one ride.
        feed: Name of the feed; may be left out where there is one only.
        stop: Its stop; left out for a vehicle, whose taps say where it was.
        network: Its network; left out where the route names it.
        route: Its route; left out where taps name it, or none is known.
    """

    gated: bool
    feed: Id | None = None
    stop: Id | None = None
    network: Id | None = None
    route: Id | None = None


@dataclass(frozen=True, slots=True)
class PlacesFile:
    """What the file says.

    Attributes:
        limits: By which taps are paired.
        tables: Places by name.
    """

    limits: Limits
    tables: Mapping[str, PlaceTable]


def read_places_file(path: Path) -> tuple[PlacesFile, list[Fault]]:
    """Read the file, and tell all that is wrong with it.

    Raises:
        InputMissing: There is no such file, or it cannot be read.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissing(f"{path}: {error.strerror or error}; give the path of a file of places") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return PlacesFile(_LIMITS, {}), [("", f"not TOML: {error}")]
    faults: list[Fault] = [(_key(name), "no such key") for name in raw.keys() - {"limits", "places"}]
    limits = _table(raw.get("limits", {}), LimitsTable, "limits", faults)
    places, tables = raw.get("places", {}), dict[str, PlaceTable]()
    if not isinstance(places, dict) or not 0 < len(places) <= MAX_PLACES:
        faults.append(("places", f"1 to {MAX_PLACES} tables [places.NAME] are wanted"))
        places = {}
    for name, each in places.items():
        key = f"places.{_key(name)}"
        faults += _wrong(name, PlaceName, key)
        table = _table(each, PlaceTable, key, faults)
        if table is not None:
            tables[name] = table
    held = _LIMITS if limits is None else Limits(**msgspec.structs.asdict(limits))
    return PlacesFile(held, tables), faults


def places_in(file: PlacesFile, tariffs: Tariffs) -> tuple[dict[str, Place], list[Fault]]:
    """Return the places of a file with the stations that a tariff says, and all that the tariff does not have."""
    found, faults = dict[str, Place](), list[Fault]()
    for name, table in file.tables.items():
        key, feed = f"places.{_key(name)}", table.feed
        if feed is None and len(tariffs.feeds) == 1:
            (feed,) = tariffs.feeds
        if feed is None:
            faults.append((f"{key}.feed", f"is missing, and there are several feeds: {', '.join(tariffs.feeds)}"))
            continue
        stop = table.stop or ""
        place = Place(feed, stop, station_of(tariffs, feed, stop), table.network or "", table.route or "", table.gated)
        faults += [(f"{key}.{field}", why) for field, why in place_faults(place, tariffs)]
        found[name] = place
    return found, faults


def _table(raw: object, kind: type[_Table], key: str, faults: list[Fault]) -> _Table | None:
    """Read a table key by key, so that every one that is wrong is named."""
    if not isinstance(raw, dict):
        faults.append((key, "a table is wanted"))
        return None
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    before = len(faults)
    faults += [(f"{key}.{_key(name)}", "no such key") for name in raw if name not in fields]
    for name, field in fields.items():
        if name in raw:
            faults += _wrong(raw[name], field.type, f"{key}.{name}")
        elif field.required:
            faults.append((f"{key}.{name}", "is missing"))
    return msgspec.convert(raw, kind) if len(faults) == before else None


def _wrong(value: object, kind: object, key: str) -> Iterator[Fault]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        yield key, str(error)


def _key(name: str) -> str:
    """Return a key as TOML spells it."""
    return name if name and set(name) <= _BARE else msgspec.json.encode(name).decode()
