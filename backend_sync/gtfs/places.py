"""Where fares apply: agency, stops, areas, routes and networks."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from backend_sync.gtfs.calendars import Span, zone_of
from backend_sync.gtfs.feed_files import FeedFiles, Row, numbered, once
from validator.fares.tariff_rows import Stop, Zone

AREAS: Final = "areas.txt"
STOPS: Final = "stops.txt"
_STATION: Final = "1"
_ZONE: Final = "name it as the IANA time zone database does, Europe/Tallinn"


@dataclass(frozen=True, slots=True)
class Places:
    """Numbers of everything that has a place.

    Attributes:
        zones: Time zones, the agency's first.
        stops: Stops by their numbers.
        stop_ids: Numbers of stops.
        areas: Numbers of areas.
        networks: Numbers of networks.
        routes: Networks of routes, by route id.
    """

    zones: tuple[Zone, ...]
    stops: tuple[Stop, ...]
    stop_ids: dict[str, int]
    areas: dict[str, int]
    networks: dict[str, int]
    routes: tuple[tuple[str, int | None], ...]


def read_places(files: FeedFiles, span: Span) -> Places:
    """Read what has a place."""
    areas, of_stops = _areas(files)
    zones = _Zones(files, span)
    stop_ids, stops = _stops(files, of_stops, zones)
    networks, routes = _networks(files)
    return Places(tuple(zones.found), stops, stop_ids, areas, networks, routes)


class _Zones:
    """The time zones that a feed names."""

    def __init__(self, files: FeedFiles, span: Span) -> None:
        self._span = span
        self.found: list[Zone] = []
        self._numbers: dict[str, int] = {}
        agencies = files.table("agency.txt", ("agency_timezone",))
        for row in agencies.rows:
            if self.number(row, "agency_timezone") not in {0, None}:
                row.wrong("agency_timezone", "is not that of the first agency", "one feed has one: split the feed")
        if not agencies.rows:
            files.problems.add(agencies.file, 0, "agency_timezone", "there is no agency", "add the file and its line")

    def number(self, row: Row, field: str) -> int | None:
        """Return the number of a zone, None where the field is empty or wrong."""
        name = row.text(field)
        if name and name not in self._numbers:
            zone = zone_of(name, self._span)
            if zone is None:
                row.wrong(field, f"{name!r} is no time zone", _ZONE)
                return None
            self._numbers[name] = len(self.found)
            self.found.append(zone)
        return self._numbers.get(name)


def _areas(files: FeedFiles) -> tuple[dict[str, int], dict[str, list[tuple[Row, int]]]]:
    table, seen = files.table(AREAS, ("area_id",)), dict[tuple[object, ...], int]()
    areas = numbered({row.text("area_id") for row in table.rows})
    for row in table.rows:
        once(row, (row.required("area_id"),), seen, "area_id")
    of_stops, seen = defaultdict[str, list[tuple[Row, int]]](list), {}
    for row in files.table("stop_areas.txt", ("area_id", "stop_id")).rows:
        row.required("area_id")
        area, stop = row.known("area_id", areas, AREAS), row.required("stop_id")
        if once(row, (row.text("area_id"), stop), seen, "area_id and stop_id") and area is not None:
            of_stops[stop].append((row, area))
    return areas, of_stops


def _stops(
    files: FeedFiles, of_stops: dict[str, list[tuple[Row, int]]], zones: _Zones
) -> tuple[dict[str, int], tuple[Stop, ...]]:
    table, seen = files.table(STOPS, ("stop_id",)), dict[tuple[object, ...], int]()
    ids = numbered({row.text("stop_id") for row in table.rows})
    rows = {row.text("stop_id"): row for row in table.rows if row.required("stop_id")}
    for row in table.rows:
        once(row, (row.text("stop_id"),), seen, "stop_id")
    for stop, assigned in of_stops.items():
        for row, _ in assigned if stop not in ids else ():
            row.wrong("stop_id", f"{stop!r} is not in {STOPS}", f"add it to {STOPS}, or correct it here")
    stops = []
    for stop_id, row in sorted(rows.items()):
        station = row.known("parent_station", ids, STOPS)
        above = rows.get(row.text("parent_station")) if station is not None else None
        if row.text("location_type") == _STATION and above is not None:
            row.wrong("parent_station", "a station is in no other station", "leave it empty")
        own = of_stops.get(stop_id) or (of_stops.get(above.text("stop_id")) if above is not None else None)
        zone = zones.number(row if above is None else above, "stop_timezone")
        stops.append(Stop(stop_id, station, tuple(sorted(area for _, area in own or ())), zone))
    return ids, tuple(stops)


def _networks(files: FeedFiles) -> tuple[dict[str, int], tuple[tuple[str, int | None], ...]]:
    routes = files.table("routes.txt", ("route_id",))
    own = files.table("networks.txt", ("network_id",))
    assigned = files.table("route_networks.txt", ("network_id", "route_id"))
    in_routes = {row.text("network_id") for row in routes.rows} - {""}
    if in_routes and (own.columns or assigned.columns):
        meaning = "networks are named here and in networks.txt or route_networks.txt"
        files.problems.add(routes.file, 1, "network_id", meaning, "keep one of the two")
    seen: dict[tuple[object, ...], int] = {}
    for row in own.rows:
        once(row, (row.required("network_id"),), seen, "network_id")
    networks = numbered(in_routes | {row.text("network_id") for row in own.rows})
    of_routes: dict[str, int | None] = {}
    for row in routes.rows:
        if route := row.required("route_id"):
            if route in of_routes:
                row.wrong("route_id", f"{route!r} is there twice", "take one of the two out")
            of_routes[route] = networks.get(row.text("network_id"))
    seen = {}
    for row in assigned.rows:
        route = row.required("route_id")
        row.required("network_id")
        network = row.known("network_id", networks, own.file)
        if route and route not in of_routes:
            row.wrong("route_id", f"{route!r} is not in {routes.file}", f"add it to {routes.file}, or correct it here")
        if once(row, (route,), seen, "route_id") and network is not None and route in of_routes:
            of_routes[route] = network
    return networks, tuple(sorted(of_routes.items(), key=lambda each: each[0]))
