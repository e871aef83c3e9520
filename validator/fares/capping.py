"""Caps: the best price of a day or a week. GTFS has none; ``pilet_caps.txt`` is this project's own (docs/fares.md).

A cap is a pass that costs its amount and that a passenger is given without asking, as soon as the single fares are
dearer. The price of a week is the least that any selection of such passes and single fares costs. So one more cap, or a
lower one, never makes a week dearer, and none makes it dearer than without.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from validator.fares.journey import Step
from validator.fares.local_time import week
from validator.fares.rules import Rule
from validator.fares.tariff_rows import Cap, Period

CAPS: Final = "pilet_caps.txt"


@dataclass(frozen=True, slots=True)
class Item:
    """What caps count: a sub-journey, by the day, the product and the network that it began with.

    Attributes:
        day: Its service day.
        product: Index of its product.
        network: Index of its network; None for none.
        amount: What it costs without caps, in minor units.
    """

    day: int
    product: int
    network: int | None
    amount: int


def best_price(items: Iterable[Item], caps: Sequence[Cap]) -> tuple[int, tuple[Step, ...]]:
    """Price what one rider travelled with one medium, in one currency.

    Args:
        items: What was travelled; amounts are not negative.
        caps: Those that are for this rider and currency.

    Returns:
        The least total, and the caps that were reached.
    """
    weeks = defaultdict[int, list[Item]](list)
    for item in items:
        weeks[week(item.day)].append(item)
    total, steps = 0, list[Step]()
    for _, those in sorted(weeks.items()):
        amount, chosen = min(
            (_with(selection, those, caps) for selection in _selections(those, caps, Period.WEEK)), key=_cheapest
        )
        total += amount
        for cap, worth in chosen:
            steps += _steps(cap, worth)
    return total, tuple(steps)


_Chosen = tuple[tuple[Cap, int], ...]
"""Caps that were reached, each with what it covers."""


def _cheapest(found: tuple[int, _Chosen]) -> tuple[int, int]:
    return found[0], len(found[1])


def _with(selection: tuple[Cap, ...], items: list[Item], caps: Sequence[Cap]) -> tuple[int, _Chosen]:
    """Price a week in which these caps of a week hold."""
    days = defaultdict[int, list[Item]](list)
    for item in items:
        if not any(_covers(cap, item) for cap in selection):
            days[item.day].append(item)
    total, chosen = _taken(selection, items)
    for _, those in sorted(days.items()):
        amount, reached = min(
            (_day(narrowed, those) for narrowed in _selections(those, caps, Period.DAY)), key=_cheapest
        )
        total, chosen = total + amount, (*chosen, *reached)
    return total, chosen


def _day(selection: tuple[Cap, ...], items: list[Item]) -> tuple[int, _Chosen]:
    amount, chosen = _taken(selection, items)
    return amount + sum(item.amount for item in items if not any(_covers(cap, item) for cap in selection)), chosen


def _taken(selection: tuple[Cap, ...], items: list[Item]) -> tuple[int, _Chosen]:
    return sum(cap.amount for cap in selection), tuple((cap, _worth(cap, items)) for cap in selection)


def _selections(items: list[Item], caps: Sequence[Cap], period: Period) -> Iterator[tuple[Cap, ...]]:
    """Yield every selection of the caps that may pay: one that covers no more than it costs never does."""
    useful = [cap for cap in caps if cap.period is period and _worth(cap, items) > cap.amount]
    for size in range(len(useful) + 1):
        yield from combinations(useful, size)


def _worth(cap: Cap, items: list[Item]) -> int:
    return sum(item.amount for item in items if _covers(cap, item))


def _covers(cap: Cap, item: Item) -> bool:
    return cap.product in {None, item.product} and cap.network in {None, item.network}


def _steps(cap: Cap, worth: int) -> Iterator[Step]:
    rule = Rule.CAP_DAY if cap.period is Period.DAY else Rule.CAP_WEEK
    source = f"{CAPS}:{cap.line}"
    yield Step(rule, f"{cap.cap_id}: {worth} minor units of single fares cost {cap.amount}", source)
    if not cap.product is cap.network is cap.rider is None:
        yield Step(Rule.CAP_NARROW, f"{cap.cap_id} counts only the product, network or rider that it names", source)
