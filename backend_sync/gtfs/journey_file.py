"""Journeys in a table, to be explained: one leg a line.

Columns: ``journey``, ``feed`` (may be left out with one feed), ``route_id`` or ``network_id``, ``from_stop_id``,
``to_stop_id``, ``departs``, ``arrives``, ``rider_category_id``, ``fare_media_id``. Times are ISO 8601; without an
offset
they are what the agency's clocks show, the first of the two where an hour comes twice.
"""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from backend_sync.gtfs.feed_files import FeedFiles, Row
from backend_sync.gtfs.problems import FeedMissing, FeedRefused, Problems
from validator.fares.journey import Leg
from validator.fares.tariff import Tariffs

_REQUIRED: Final = ("journey", "from_stop_id", "departs")


def read_journeys(path: Path, tariffs: Tariffs) -> dict[str, list[Leg]]:
    """Read journeys, in the file's order.

    Args:
        path: A CSV file.
        tariffs: Whose feeds are named.

    Raises:
        FeedMissing: The file is not there.
        FeedRefused: There are problems in it.
    """
    if not path.is_file():
        raise FeedMissing(f"{path}: there is no such file; name a table of journeys")
    problems = Problems()
    journeys: dict[str, list[Leg]] = {}
    for row in FeedFiles({path.name: path}, problems).table(path.name, _REQUIRED).rows:
        leg = _leg(row, tariffs)
        if leg is not None:
            journeys.setdefault(row.required("journey"), []).append(leg)
    if problems.found:
        raise FeedRefused(str(path), sorted(problems.found))
    return journeys


def _leg(row: Row, tariffs: Tariffs) -> Leg | None:
    feed = row.text("feed") or (next(iter(tariffs.feeds)) if len(tariffs.feeds) == 1 else row.required("feed"))
    start, departs, arrives = row.required("from_stop_id"), row.required("departs"), row.text("arrives")
    if bool(arrives) != bool(row.text("to_stop_id")):
        row.wrong("arrives", "one of it and to_stop_id is empty", "give both, or none for a leg without an end")
        return None
    if not feed or not departs:
        return None
    zones = {name: tables.feed.zones[0].name for name, tables in tariffs.feeds.items()}
    return Leg(
        departed_s=_seconds(row, "departs", zones, feed),
        arrived_s=_seconds(row, "arrives", zones, feed) if arrives else None,
        feed=feed,
        from_stop=start,
        to_stop=row.text("to_stop_id") or None,
        route=row.text("route_id"),
        network=row.text("network_id"),
        rider=row.text("rider_category_id"),
        medium=row.text("fare_media_id"),
    )


def _seconds(row: Row, field: str, zones: Mapping[str, str], feed: str) -> int:
    try:
        at = dt.datetime.fromisoformat(row.text(field))
    except ValueError:
        row.wrong(field, f"{row.text(field)!r} is no time", "write it as 2026-03-02T08:00:00")
        return 0
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(zones.get(feed, "UTC")))
    return int(at.timestamp())
