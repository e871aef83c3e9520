"""What it costs to change between legs: ``fare_transfer_rules.txt``, folded over effective legs in order of time.

A transfer may be refused (too late, too many, another medium or rider category): then the legs are paid apart, and a
new sub-journey begins. Nobody pays more for a transfer than for the legs apart, and no sub-journey costs less than 0.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from validator.fares.journey import PricedLeg, Step, SubJourney
from validator.fares.leg_pricing import price_of, price_step
from validator.fares.rules import Rule
from validator.fares.tariff import FeedTables, Tariffs
from validator.fares.tariff_rows import Clock, TransferRule, TransferType

TRANSFER_RULES: Final = "fare_transfer_rules.txt"

_CLOCKS: Final = {
    Clock.DEPARTURE_ARRIVAL: Rule.CLOCK_DEPARTURE_ARRIVAL,
    Clock.DEPARTURE_DEPARTURE: Rule.CLOCK_DEPARTURE_DEPARTURE,
    Clock.ARRIVAL_DEPARTURE: Rule.CLOCK_ARRIVAL_DEPARTURE,
    Clock.ARRIVAL_ARRIVAL: Rule.CLOCK_ARRIVAL_ARRIVAL,
}
_KINDS: Final = {
    TransferType.ADD: (Rule.TRANSFER_ADD, "the first leg and the transfer: A + AB"),
    TransferType.BOTH: (Rule.TRANSFER_BOTH, "both legs and the transfer: A + AB + B"),
    TransferType.INSTEAD: (Rule.TRANSFER_INSTEAD, "the transfer instead of the first leg: AB"),
}
_NO_LIMIT: Final = 2**62


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive transfers by rules between one group and itself; its count and its clock begin with its first leg."""

    groups: tuple[int | None, int | None]
    count: int
    first: PricedLeg


@dataclass(frozen=True, slots=True)
class _Taken:
    """A transfer that may be taken, and what the sub-journey costs with it."""

    rule: TransferRule
    run: _Run
    amount: int
    steps: tuple[Step, ...]

    @property
    def order(self) -> tuple[int, int, int]:
        """The least count that is enough is first (GTFS, transfer_count), then the cheapest, then the line."""
        count = self.rule.count
        return (_NO_LIMIT if count is None or count < 0 else count, self.amount, self.rule.line)


def fold(tariffs: Tariffs, legs: Iterable[PricedLeg]) -> Iterator[SubJourney]:
    """Group legs that follow each other into sub-journeys, and price the transfers in them.

    Args:
        tariffs: By which they were priced.
        legs: Effective legs in order of departure.
    """
    part: SubJourney | None = None
    run: _Run | None = None
    for leg in legs:
        if part is None:
            part, run = SubJourney((leg,), leg.amount, leg.amount, ()), None
            continue
        taken, refused = _transfer(tariffs, part, run, leg)
        if taken is None:
            yield part
            part, run = SubJourney((leg,), leg.amount, leg.amount, refused), None
            continue
        assert part.single is not None
        assert leg.amount is not None
        steps = (*part.steps, *taken.steps)
        part, run = SubJourney((*part.legs, leg), taken.amount, part.single + leg.amount, steps), taken.run
    if part is not None:
        yield part


def _transfer(
    tariffs: Tariffs, part: SubJourney, run: _Run | None, leg: PricedLeg
) -> tuple[_Taken | None, tuple[Step, ...]]:
    """Find the transfer from a sub-journey to a leg, or why there is none."""
    before = part.legs[-1]
    if part.amount is None or leg.amount is None:
        return None, ()  # the leg itself says what is unknown
    apart = next((Step(rule, f"{what}: paid apart") for rule, what, differs in _same(before, leg) if differs), None)
    if apart is not None:
        return None, (apart,)
    tables = tariffs.feeds[leg.feed]
    rules = list(_between(tables, before.group, leg.group))
    if not rules:
        return None, (Step(Rule.TRANSFER_NONE, "no transfer rule is for these legs: paid apart", TRANSFER_RULES),)
    found = [_take(tables, part, run, leg, rule) for rule in rules]
    taken = [each for each in found if isinstance(each, _Taken)]
    if not taken:
        return None, tuple(each for each in found if isinstance(each, Step))
    best = min(taken, key=lambda each: each.order)
    apart_amount = part.amount + leg.amount
    if best.amount > apart_amount:
        what = f"{best.amount} is more than {apart_amount} for the legs apart: paid apart"
        return None, (Step(Rule.TRANSFER_DEARER, what, _line(best.rule)),)
    if best.amount < 0:
        floor = Step(Rule.TRANSFER_FLOOR, f"{best.amount} is less than nothing: 0", _line(best.rule))
        best = replace(best, amount=0, steps=(*best.steps, floor))
    return best, ()


def _same(before: PricedLeg, leg: PricedLeg) -> Iterator[tuple[Rule, str, bool]]:
    yield Rule.TRANSFER_FEED, "another feed", before.feed != leg.feed
    yield Rule.TRANSFER_MEDIUM, "another fare medium", before.medium != leg.medium
    yield Rule.TRANSFER_RIDER, "another rider category", before.rider != leg.rider
    yield Rule.TRANSFER_CURRENCY, "another currency", before.currency != leg.currency


def _between(tables: FeedTables, before: int | None, after: int | None) -> Iterator[TransferRule]:
    """Yield the rules between two groups; an empty field is every group that is not named in that column."""
    if before is None or after is None:
        return
    first = before if before in tables.listed_from_groups else None
    second = after if after in tables.listed_to_groups else None
    yield from (rule for rule in tables.feed.transfer_rules if (rule.from_group, rule.to_group) == (first, second))


def _take(tables: FeedTables, part: SubJourney, run: _Run | None, leg: PricedLeg, rule: TransferRule) -> _Taken | Step:
    """Try one rule: its count, its clock, its product."""
    source, groups = _line(rule), (rule.from_group, rule.to_group)
    if run is not None and run.groups == groups and rule.count is not None:
        run = _Run(groups, run.count + 1, run.first)
    else:
        run = _Run(groups, 1, part.legs[-1])
    steps: list[Step] = []
    if None in groups:
        steps.append(Step(Rule.TRANSFER_EXCEPT, "an empty field is every group that no rule names", source))
    if rule.count is not None:
        if 0 < rule.count < run.count:
            return Step(Rule.TRANSFER_SPENT, f"transfer {run.count} of {rule.count}: paid apart", source)
        steps.append(Step(Rule.TRANSFER_COUNT, f"transfer {run.count} of {_count(rule.count)}", source))
    in_time, clocked = _clock(run, leg, rule)
    if not in_time:
        return clocked[0]
    steps += clocked
    between = 0
    if rule.product is not None:
        price = price_of(tables, rule.product, leg)
        if price is None:
            return Step(Rule.TRANSFER_PRODUCT, "its product is not for this rider and medium: paid apart", source)
        if price.currency != leg.currency:
            return Step(Rule.TRANSFER_CURRENCY, f"its product is in {price.currency}: paid apart", source)
        between = price.amount
        steps.append(price_step(tables, price))
    assert part.amount is not None
    assert leg.amount is not None
    kept = 0 if rule.kind is TransferType.INSTEAD and len(part.legs) == 1 else part.amount
    amount = kept + between + (leg.amount if rule.kind is TransferType.BOTH else 0)
    name, what = _KINDS[rule.kind]
    steps.append(Step(name, f"{what}, {amount} minor units so far", source))
    return _Taken(rule, run, amount, tuple(steps))


def _clock(run: _Run, leg: PricedLeg, rule: TransferRule) -> tuple[bool, tuple[Step, ...]]:
    """Say whether a transfer is within the rule's limit, and why."""
    if rule.limit_s is None or rule.clock is None:
        return True, ()
    source, took = _line(rule), _elapsed(rule.clock, run.first, leg)
    if took is None:
        what = "its clock asks when a leg ended, and nobody knows: paid apart"
        return False, (Step(Rule.TRANSFER_OPEN, what, source),)
    if took > rule.limit_s:
        return False, (Step(Rule.TRANSFER_LATE, f"{took} s are more than {rule.limit_s}: paid apart", source),)
    steps: tuple[Step, ...] = (Step(_CLOCKS[rule.clock], f"{took} s of {rule.limit_s}", source),)
    if run.count > 1:
        steps += (Step(Rule.TRANSFER_RUN, "its clock runs since the first leg of these transfers", source),)
    return True, steps


def _elapsed(clock: Clock, first: PricedLeg, last: PricedLeg) -> int | None:
    start = first.departed_s if clock in {Clock.DEPARTURE_ARRIVAL, Clock.DEPARTURE_DEPARTURE} else first.arrived_s
    end = last.departed_s if clock in {Clock.DEPARTURE_DEPARTURE, Clock.ARRIVAL_DEPARTURE} else last.arrived_s
    return None if start is None or end is None else end - start


def _count(count: int) -> str:
    return "any number" if count < 0 else str(count)


def _line(rule: TransferRule) -> str:
    return f"{TRANSFER_RULES}:{rule.line}"
