"""Which rules price: legs, joins, transfers, and this project's own caps."""

from dataclasses import dataclass
from typing import Final

from backend_sync.gtfs.feed_files import FeedFiles, Row, numbered, once
from backend_sync.gtfs.places import STOPS, Places
from backend_sync.gtfs.products import PRODUCTS, RIDERS, Offer, amount_of
from validator.fares.tariff_rows import (
    MAX_CAPS,
    Cap,
    Clock,
    JoinRule,
    LegRule,
    Period,
    TransferRule,
    TransferType,
)

LEG_RULES: Final = "fare_leg_rules.txt"
JOIN_RULES: Final = "fare_leg_join_rules.txt"
TRANSFER_RULES: Final = "fare_transfer_rules.txt"
CAPS: Final = "pilet_caps.txt"
_MOST: Final = 2**31
_LEG_KEY: Final = (
    "network_id", "from_area_id", "to_area_id", "from_timeframe_group_id", "to_timeframe_group_id", "fare_product_id",
)  # fmt: skip
_JOIN_KEY: Final = ("from_network_id", "to_network_id", "from_stop_id", "to_stop_id")
_TRANSFER_KEY: Final = (
    "from_leg_group_id", "to_leg_group_id", "fare_product_id", "transfer_count", "duration_limit",
)  # fmt: skip
_PERIODS: Final = {"day": Period.DAY, "week": Period.WEEK}


@dataclass(frozen=True, slots=True)
class LegRules:
    """What ``fare_leg_rules.txt`` says.

    Attributes:
        rules: Its lines.
        groups: Numbers of leg groups.
        prioritised: Whether it has the column ``rule_priority``.
    """

    rules: tuple[LegRule, ...]
    groups: dict[str, int]
    prioritised: bool


def read_leg_rules(files: FeedFiles, places: Places, offer: Offer, frames: dict[str, int]) -> LegRules:
    """Read the rules for legs."""
    table = files.table(LEG_RULES, ("fare_product_id",))
    if not table.rows:
        files.problems.add(
            LEG_RULES, 0, "", "there is no rule to price by", "add the file; fares of version 1 are not read"
        )
    groups = numbered({row.text("leg_group_id") for row in table.rows})
    negative = {price.product: price.line for price in offer.prices if price.amount < 0}
    rules, seen = list[LegRule](), dict[tuple[object, ...], int]()
    for row in table.rows:
        network = row.known("network_id", places.networks, "networks.txt or routes.txt")
        from_area = row.known("from_area_id", places.areas, "areas.txt")
        to_area = row.known("to_area_id", places.areas, "areas.txt")
        from_frames = row.known("from_timeframe_group_id", frames, "timeframes.txt")
        to_frames = row.known("to_timeframe_group_id", frames, "timeframes.txt")
        row.required("fare_product_id")
        product = row.known("fare_product_id", offer.products, PRODUCTS)
        priority = row.integer("rule_priority", 0, _MOST)
        once(row, tuple(map(row.text, _LEG_KEY)), seen, "network, areas, timeframes and product")
        if product in negative:
            meaning = f"its product costs less than nothing (line {negative[product]} of {PRODUCTS})"
            row.wrong("fare_product_id", meaning, "a discount belongs to a transfer rule")
        elif product is not None:
            group = groups.get(row.text("leg_group_id"))
            rules.append(
                LegRule(group, network, from_area, to_area, from_frames, to_frames, product, priority or 0, row.line)
            )
    return LegRules(tuple(rules), groups, "rule_priority" in table.columns)


def read_join_rules(files: FeedFiles, places: Places) -> tuple[JoinRule, ...]:
    """Read which legs are one."""
    rules, seen = list[JoinRule](), dict[tuple[object, ...], int]()
    for row in files.table(JOIN_RULES, ("from_network_id", "to_network_id")).rows:
        row.required("from_network_id")
        row.required("to_network_id")
        network = row.known("from_network_id", places.networks, "networks.txt or routes.txt")
        to_network = row.known("to_network_id", places.networks, "networks.txt or routes.txt")
        from_stop = row.known("from_stop_id", places.stop_ids, STOPS)
        to_stop = row.known("to_stop_id", places.stop_ids, STOPS)
        if network != to_network:
            row.wrong("to_network_id", "is not from_network_id", "legs are joined within one network only")
        if bool(row.text("from_stop_id")) != bool(row.text("to_stop_id")):
            row.wrong("to_stop_id", "one of from_stop_id and to_stop_id is empty", "give both, or none")
        elif network is not None:
            once(row, tuple(map(row.text, _JOIN_KEY)), seen, "networks and stops")
            rules.append(JoinRule(network, from_stop, to_stop, row.line))
    return tuple(rules)


def read_transfer_rules(files: FeedFiles, legs: LegRules, offer: Offer) -> tuple[TransferRule, ...]:
    """Read what transfers cost."""
    rules, seen = list[TransferRule](), dict[tuple[object, ...], int]()
    for row in files.table(TRANSFER_RULES, ("fare_transfer_type",)).rows:
        before = row.known("from_leg_group_id", legs.groups, LEG_RULES)
        after = row.known("to_leg_group_id", legs.groups, LEG_RULES)
        count, same = _count(row), row.text("from_leg_group_id") == row.text("to_leg_group_id")
        if same and not row.text("transfer_count"):
            row.wrong("transfer_count", "is empty, and both groups are the same", "say how many; -1 is any number")
        if not same and row.text("transfer_count"):
            row.wrong("transfer_count", "is given, and the groups differ", "leave it empty")
        limit, clock = row.integer("duration_limit", 1, _MOST), row.integer("duration_limit_type", 0, 3)
        if bool(row.text("duration_limit")) != bool(row.text("duration_limit_type")):
            row.wrong("duration_limit_type", "one of it and duration_limit is empty", "give both, or none")
        kind, product = row.integer("fare_transfer_type", 0, 2), row.known("fare_product_id", offer.products, PRODUCTS)
        if not row.required("fare_transfer_type") or kind is None:
            continue
        once(row, tuple(map(row.text, _TRANSFER_KEY)), seen, "groups, product, count and limit")
        at = None if clock is None else Clock(clock)
        rules.append(TransferRule(before, after, count, limit, at, TransferType(kind), product, row.line))
    return tuple(rules)


def read_caps(files: FeedFiles, places: Places, offer: Offer) -> tuple[Cap, ...]:
    """Read what is paid at most (docs/fares.md)."""
    caps, seen = list[Cap](), dict[tuple[object, ...], int]()
    for row in files.table(CAPS, ("cap_id", "period", "amount", "currency")).rows:
        cap_id, period, amount = row.required("cap_id"), row.required("period"), amount_of(row)
        once(row, (cap_id,), seen, "cap_id")
        if period and period not in _PERIODS:
            row.wrong("period", f"{period!r} is no period", "day or week")
        if amount is not None and amount < 0:
            row.wrong("amount", "is less than nothing", "0 or more")
        product = row.known("fare_product_id", offer.products, PRODUCTS)
        network = row.known("network_id", places.networks, "networks.txt or routes.txt")
        rider = row.known("rider_category_id", offer.riders, RIDERS)
        if cap_id and period in _PERIODS and amount is not None:
            cap = Cap(cap_id, _PERIODS[period], amount, row.text("currency"), product, network, rider, row.line)
            caps.append(cap)
            if sum(each.period is cap.period for each in caps) > MAX_CAPS:
                row.wrong("period", f"more than {MAX_CAPS} caps of a {period}", "take some out")
    return tuple(caps)


def _count(row: Row) -> int | None:
    count = row.integer("transfer_count", -1, _MOST)
    if count == 0:
        row.wrong("transfer_count", "0 transfers", "take the line out, or say -1 for any number")
    return count
