"""What a feed's rows must keep to beyond their own fields, so that pricing need not look again."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from validator.fares.tariff_rows import MAX_CAPS, Feed, Period


def breach(feed: Feed) -> str | None:
    """Say the first thing that is wrong with a feed, naming table and value; None where all is well."""
    return next(_breaches(feed), None)


def _breaches(feed: Feed) -> Iterator[str]:
    yield from _indices(feed)
    yield from _order(feed)
    yield from _values(feed)


def _indices(feed: Feed) -> Iterator[str]:
    stops, areas, networks, riders = len(feed.stops), len(feed.areas), len(feed.networks), len(feed.riders)
    media, products, groups, frames = len(feed.media), len(feed.products), len(feed.groups), len(feed.frames)
    yield from _beyond("stops.station", (each.station for each in feed.stops), stops)
    yield from _beyond("stops.areas", (area for each in feed.stops for area in each.areas), areas)
    yield from _beyond("stops.zone", (each.zone for each in feed.stops), len(feed.zones))
    yield from _beyond("routes.network", (network for _, network in feed.routes), networks)
    yield from _beyond("default_rider", (feed.default_rider,), riders)
    yield from _beyond("prices.product", (each.product for each in feed.prices), products)
    yield from _beyond("prices.rider", (each.rider for each in feed.prices), riders)
    yield from _beyond("prices.medium", (each.medium for each in feed.prices), media)
    yield from _beyond("frames.service", (one.service for each in feed.frames for one in each), len(feed.services))
    for rule in feed.leg_rules:
        yield from _beyond("leg_rules.group", (rule.group,), groups)
        yield from _beyond("leg_rules.network", (rule.network,), networks)
        yield from _beyond("leg_rules.area", (rule.from_area, rule.to_area), areas)
        yield from _beyond("leg_rules.frames", (rule.from_frames, rule.to_frames), frames)
        yield from _beyond("leg_rules.product", (rule.product,), products)
    for join in feed.join_rules:
        yield from _beyond("join_rules.network", (join.network,), networks)
        yield from _beyond("join_rules.stop", (join.from_stop, join.to_stop), stops)
    for transfer in feed.transfer_rules:
        yield from _beyond("transfer_rules.group", (transfer.from_group, transfer.to_group), groups)
        yield from _beyond("transfer_rules.product", (transfer.product,), products)
    for cap in feed.caps:
        yield from _beyond("caps.product", (cap.product,), products)
        yield from _beyond("caps.network", (cap.network,), networks)
        yield from _beyond("caps.rider", (cap.rider,), riders)


def _order(feed: Feed) -> Iterator[str]:
    tables: dict[str, Iterable[str]] = {
        "stops": (each.stop_id for each in feed.stops),
        "areas": feed.areas,
        "networks": feed.networks,
        "routes": (route for route, _ in feed.routes),
        "riders": feed.riders,
        "media": feed.media,
        "products": feed.products,
        "groups": feed.groups,
    }
    for name, ids in tables.items():
        if any(one >= other for one, other in pairwise(ids)):
            yield f"{name} do not ascend"
    for zone in feed.zones:
        if any(one[0] >= other[0] for one, other in pairwise(zone.transitions)):
            yield f"transitions of {zone.name} do not ascend"


def _values(feed: Feed) -> Iterator[str]:
    if feed.last_day < feed.first_day:
        yield f"last_day {feed.last_day} is before first_day {feed.first_day}"
    octets = (feed.last_day - feed.first_day) // 8 + 1
    if any(len(each) != octets for each in feed.services):
        yield f"a service has not {octets} octets of days"
    of_legs = {rule.product for rule in feed.leg_rules}
    if any(each.amount < 0 and each.product in of_legs for each in feed.prices):
        yield "a leg's product has a negative amount"
    if any(one.start >= one.end for each in feed.frames for one in each):
        yield "a timeframe ends before it begins"
    if any((each.from_stop is None) != (each.to_stop is None) for each in feed.join_rules):
        yield "a join rule has one stop and not the other"
    for period in Period:
        if sum(each.period is period for each in feed.caps) > MAX_CAPS:
            yield f"more than {MAX_CAPS} caps of a {period.name.lower()}"
    yield from _transfers(feed)


def _transfers(feed: Feed) -> Iterator[str]:
    for rule in feed.transfer_rules:
        if rule.count == 0 or (rule.count is None) == (rule.from_group == rule.to_group):
            yield f"count {rule.count} in the transfer rule of line {rule.line}"
        if (rule.limit_s is None) != (rule.clock is None):
            yield f"a limit without a clock, or a clock without a limit, in the transfer rule of line {rule.line}"


def _beyond(what: str, indices: Iterable[int | None], size: int) -> Iterator[str]:
    for index in indices:
        if index is not None and index >= size:
            yield f"{what} {index} is not below {size}"
