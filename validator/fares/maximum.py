"""What a leg costs at most, of which nobody knows where it ended: what an incomplete journey is charged."""

from validator.fares.journey import Leg
from validator.fares.leg_pricing import Place, fields_of, in_frames, price_of
from validator.fares.tariff import FeedTables
from validator.fares.tariff_rows import Price


def dearest(tables: FeedTables, leg: Leg, place: Place) -> Price | None:
    """Return the dearest fare that a rule names for a leg's network, start and time of departure.

    Whatever the leg turns out to be costs no more: rules of every end, time of arrival and priority are looked at.

    Args:
        tables: Its feed.
        leg: A leg; where it ended is not looked at.
        place: What `validator.fares.leg_pricing.locate` found of it.

    Returns:
        The price; None where no rule is for that start, or the fares are in several currencies.
    """
    networks = list(fields_of(tables, (place.network,), tables.listed_networks))
    starts = list(fields_of(tables, tables.feed.stops[place.start].areas, tables.listed_from))
    offers = [
        price
        for (network, start, _), rules in tables.legs.items()
        if network in networks and start in starts
        for rule in rules
        if in_frames(tables, rule.from_frames, place.start, leg.departed_s)
        and (price := price_of(tables, rule.product, place)) is not None
    ]
    if len({price.currency for price in offers}) != 1:
        return None
    return max(offers, key=lambda price: (price.amount, -price.line))
