"""Which consecutive legs are one for their fare: ``fare_leg_join_rules.txt``."""

from typing import Final

from validator.fares.journey import Leg, Step
from validator.fares.leg_pricing import Place
from validator.fares.rules import Rule
from validator.fares.tariff import FeedTables
from validator.fares.tariff_rows import JoinRule

JOIN_RULES: Final = "fare_leg_join_rules.txt"


def join(tables: FeedTables, before: tuple[Leg, Place], after: tuple[Leg, Place]) -> tuple[bool, tuple[Step, ...]]:
    """Say whether two legs of one feed that follow each other are one.

    Both have the rule's network. The first ends at the station where the second begins, unless the rule names both
    stops, or their stations.

    Returns:
        Whether they are one, and the rule that says so, or that says why not although a rule of the feed would.
    """
    (leg, place), (next_leg, next_place) = before, after
    if place.network is None or place.network != next_place.network or place.end is None:
        return False, ()
    rule = next(
        (each for each in tables.joins.get(place.network, ()) if meets(tables, each, place.end, next_place.start)),
        None,
    )
    if rule is None:
        return False, ()
    source = f"{JOIN_RULES}:{rule.line}"
    if (place.rider, place.medium) != (next_place.rider, next_place.medium):
        return False, (Step(Rule.JOIN_SAME, "another rider category or medium: the legs are not joined", source),)
    assert leg.arrived_s is not None
    waited, limit = next_leg.departed_s - leg.arrived_s, tables.feed.join_limit_s
    if limit is not None and waited > limit:
        return False, (Step(Rule.JOIN_LATE, f"{waited} s between the legs are more than {limit}: not joined", source),)
    if rule.from_stop is None:
        return True, (Step(Rule.JOIN_STATION, "the legs meet at one station, and are one for their fare", source),)
    return True, (Step(Rule.JOIN_STOPS, "the legs meet at the stops of the rule, and are one for their fare", source),)


def meets(tables: FeedTables, rule: JoinRule, end: int, start: int) -> bool:
    """Say whether a leg that ends at one stop and one that begins at another meet by a rule."""
    if rule.from_stop is None:
        return tables.station(end) == tables.station(start)
    return rule.from_stop in {end, tables.station(end)} and rule.to_stop in {start, tables.station(start)}
