"""From a feed's files to one operator's tariff, or to all that is wrong with it."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backend_sync.gtfs.calendars import TIMEFRAMES, read_services, read_timeframes, service_bits, span_of, time_of
from backend_sync.gtfs.feed_files import FeedFiles
from backend_sync.gtfs.places import read_places
from backend_sync.gtfs.problems import FeedRefused, Problems
from backend_sync.gtfs.products import read_offer
from backend_sync.gtfs.rule_tables import read_caps, read_join_rules, read_leg_rules, read_transfer_rules
from validator.fares.tariff_rows import DAY_S, Feed, Frame, Zone

SERVICE: Final = "pilet_service.txt"
_NO_ZONE: Final = Zone("UTC", 0, ())


@dataclass(frozen=True, slots=True)
class Days:
    """Which days a tariff is for; None is as the feed says."""

    first: dt.date | None = None
    last: dt.date | None = None


def compile_feed(path: Path, name: str, days: Days) -> Feed:
    """Compile a feed.

    Args:
        path: Its folder or zip.
        name: What legs call it.
        days: Which days the tariff is for.

    Raises:
        FeedMissing: It cannot be read.
        FeedRefused: There are problems in it; it names them all.
    """
    problems = Problems()
    with FeedFiles.open(path, problems) as files:
        feed = _compile(files, name, days)
    if problems.found:
        raise FeedRefused(str(path), sorted(problems.found))
    return feed


def _compile(files: FeedFiles, name: str, days: Days) -> Feed:
    services = read_services(files)
    span = span_of(files, services.values(), days.first, days.last)
    places, offer = read_places(files, span), read_offer(files)
    table = files.table(TIMEFRAMES, ("timeframe_group_id", "service_id"))
    groups, frames = read_timeframes(table, services)
    used = sorted({service for group in frames for _, service in group})
    legs = read_leg_rules(files, places, offer, groups)
    day_starts_s, join_limit_s = _service(files)
    return Feed(
        name=name,
        first_day=span.first_day,
        last_day=span.last_day,
        day_starts_s=day_starts_s,
        join_limit_s=join_limit_s,
        zones=places.zones or (_NO_ZONE,),
        stops=places.stops,
        areas=tuple(places.areas),
        networks=tuple(places.networks),
        routes=places.routes,
        riders=tuple(offer.riders),
        default_rider=offer.default_rider,
        media=tuple(offer.media),
        products=tuple(offer.products),
        prices=offer.prices,
        services=tuple(service_bits(services.get(service, set()), span) for service in used),
        frames=tuple(tuple(Frame(one.start, one.end, used.index(service)) for one, service in each) for each in frames),
        groups=tuple(legs.groups),
        prioritised=legs.prioritised,
        leg_rules=legs.rules,
        join_rules=read_join_rules(files, places),
        transfer_rules=read_transfer_rules(files, legs, offer),
        caps=read_caps(files, places, offer),
    )


def _service(files: FeedFiles) -> tuple[int, int | None]:
    """Read when a service day begins, and how long legs may be apart that are joined (docs/fares.md)."""
    table = files.table(SERVICE, ())
    if not table.rows:
        return 0, None
    for row in table.rows[1:]:
        row.wrong("", "a second line", "one line says all")
    first = table.rows[0]
    return time_of(first, "service_day_start", DAY_S - 1) or 0, first.integer("join_limit", 1, 2**31)
