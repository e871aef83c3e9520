"""Prices without explanations, for a back office that has ten million taps a day to price.

Nothing is decided here. What decides a price is named in a short key, `validator.fares.pricing` prices the first legs
that have it, and the answer is kept. Times enter a key in two ways only: as a block, within which no clock in the
tariff changes what it says, and as the number of limits of transfers that an elapsed time exceeds. Whatever a key
cannot say is priced anew each time.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import gcd
from operator import attrgetter
from typing import Final, TypeVar

from validator.fares.capping import Item
from validator.fares.joining import meets
from validator.fares.journey import Leg
from validator.fares.leg_pricing import Unknown, in_frames, locate, price_leg, zone_of
from validator.fares.local_time import service_day, wall
from validator.fares.pricing import Account, best_total, effective_legs, items_of, price
from validator.fares.tariff import FeedTables, Tariffs
from validator.fares.tariff_rows import DAY_S, Clock
from validator.fares.transferring import fold

MAX_KEPT: Final = 200_000
"""So many answers of a kind are kept; then they are forgotten and found again."""

_AGENCY: Final = 0
_DEPARTED: Final = attrgetter("departed_s")
_STARTS: Final = {Clock.DEPARTURE_ARRIVAL, Clock.DEPARTURE_DEPARTURE}
_ENDS: Final = {Clock.DEPARTURE_DEPARTURE, Clock.ARRIVAL_DEPARTURE}

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")
_Key = tuple[object, ...]
_Item = tuple[int, int, int | None, int]
"""The fields of what caps count."""
_Counted = tuple[int, Account, int, int | None, int]
"""Of a sub-journey: its first leg, whose it is, its product, its network, its amount."""


class QuickPrices:
    """A tariff's prices, kept.

    Args:
        tariffs: What to price by.
    """

    def __init__(self, tariffs: Tariffs) -> None:
        self._tariffs = tariffs
        self._feeds = {name: _FeedKeys(tables) for name, tables in tariffs.feeds.items()}
        self._folds: dict[_Key, tuple[_Counted, ...]] = {}
        self._totals: dict[_Key, int] = {}

    def totals(self, legs: Sequence[Leg]) -> tuple[Mapping[str, int], bool]:
        """Return what `price` charges for legs by currency, and whether nothing is missing in it."""
        if len(legs) == 1:
            alone = self._alone(legs[0])
            if alone is not None:
                return alone
        ordered = sorted(legs, key=_DEPARTED)
        if any(one.departed_s == other.departed_s for one, other in pairwise(ordered)):
            ordered.sort(key=lambda leg: leg.order)
        marks = [keys.mark(leg) if (keys := self._feeds.get(leg.feed)) else None for leg in ordered]
        if None in marks:
            return self._slow(legs)
        accounts: dict[Account, list[_Item]] = {}
        for first, last in self._stretches(ordered):
            some = ordered[first:last]
            key = self._key(some, marks[first:last])
            if key is None:
                return self._slow(legs)
            found = self._folds.get(key)
            if found is None:
                found = _kept(self._folds, key, self._fold(some))
            for number, account, product, network, amount in found:
                leg = some[number]
                item = self._feeds[leg.feed].day(leg.departed_s), product, network, amount
                accounts.setdefault(account, []).append(item)
        return self._capped(accounts), True

    def day(self, leg: Leg) -> int | None:
        """Return the service day that a leg begins on by its feed's agency; None where its feed is not known."""
        keys = self._feeds.get(leg.feed)
        return None if keys is None else keys.day(leg.departed_s)

    def _alone(self, leg: Leg) -> tuple[Mapping[str, int], bool] | None:
        """Price a leg that travels alone: the day changes nothing about it, and its mark is all."""
        keys = self._feeds.get(leg.feed)
        mark = None if keys is None else keys.mark(leg)
        if keys is None or mark is None:
            return None
        found = keys.alone.get(mark)
        if found is None:
            told = price(self._tariffs, (leg,))
            found = keys.alone[mark] = told.totals, told.known
        return found

    def _slow(self, legs: Sequence[Leg]) -> tuple[Mapping[str, int], bool]:
        told = price(self._tariffs, legs)
        return told.totals, told.known

    def _stretches(self, legs: Sequence[Leg]) -> Iterator[tuple[int, int]]:
        """Yield where legs begin and end that no join and no transfer connects to the others."""
        first, latest = 0, 0
        for number, leg in enumerate(legs):
            if number > first and self._feeds[leg.feed].apart(leg.departed_s - latest):
                yield first, number
                first, latest = number, 0
            latest = max(latest, leg.departed_s, leg.arrived_s or 0)
        yield first, len(legs)

    def _key(self, legs: Sequence[Leg], marks: Sequence[int | None]) -> _Key | None:
        """Name what decides the price of legs; None where they may be joined, or a leg among them has no fare."""
        if len(legs) == 1:
            keys = self._feeds[legs[0].feed]
            return (legs[0].feed, marks[0]) if keys.priced[marks[0] or 0] else None
        parts: list[object] = []
        for number, leg in enumerate(legs):
            keys = self._feeds[leg.feed]
            if not keys.priced[marks[number] or 0]:
                return None
            parts += leg.feed, marks[number]
            if number and legs[number - 1].feed == leg.feed and keys.may_join(legs[number - 1], leg):
                return None
            for before in legs[:number]:
                if before.feed == leg.feed:
                    parts += keys.elapsed(before, leg)
        return tuple(parts)

    def _fold(self, legs: Sequence[Leg]) -> tuple[_Counted, ...]:
        parts = tuple(fold(self._tariffs, effective_legs(self._tariffs, legs)))
        counted: list[_Counted] = []
        number = 0
        for part, (account, item) in zip(parts, items_of(self._tariffs, parts), strict=True):
            counted.append((number, account, item.product, item.network, item.amount))
            number += len(part.legs)
        return tuple(counted)

    def _capped(self, accounts: Mapping[Account, Sequence[_Item]]) -> Mapping[str, int]:
        totals: dict[str, int] = {}
        for account, items in accounts.items():
            key = account, *items
            total = self._totals.get(key)
            if total is None:
                total = _kept(self._totals, key, best_total(self._tariffs, account, (Item(*each) for each in items))[0])
            totals[account[1]] = totals.get(account[1], 0) + total
        return totals


class _FeedKeys:
    """What decides prices in one feed, as small numbers."""

    def __init__(self, tables: FeedTables) -> None:
        feed = tables.feed
        self._tables = tables
        self._block_s = _block(tables)
        areas: dict[_Key, int] = {}
        self._kinds = {
            stop.stop_id: (areas.setdefault((stop.areas, stop.zone or 0), len(areas)), stop.zone or 0)
            for stop in feed.stops
        }
        self._slots: dict[tuple[int, int], int] = {}
        self._said: dict[_Key, int] = {}
        self._days: dict[int, int] = {}
        self._marks: dict[_Key, int] = {}
        self._numbers: dict[_Key, int] = {}
        self._joins: dict[_Key, bool] = {}
        self.priced: list[bool] = []
        self.alone: dict[int, tuple[Mapping[str, int], bool]] = {}
        self._clocks = sorted({rule.clock for rule in feed.transfer_rules if rule.clock is not None})
        self._limits = sorted({rule.limit_s for rule in feed.transfer_rules if rule.limit_s is not None})
        self._endless = any(rule.limit_s is None for rule in feed.transfer_rules) or (
            bool(feed.join_rules) and feed.join_limit_s is None
        )
        self._longest = max((*self._limits, feed.join_limit_s or 0))

    def mark(self, leg: Leg) -> int | None:
        """Return a number that legs of one fare share; None where a leg is not one of this feed's."""
        start, end = self._kinds.get(leg.from_stop), None
        if start is None:
            return None
        block, zone = leg.departed_s // self._block_s, start[1]
        departs = self._slots.get((zone, block))
        if departs is None:
            departs = self._slot(leg.from_stop, zone, block)
        arrives = None
        if leg.to_stop is not None and leg.arrived_s is not None:
            end = self._kinds.get(leg.to_stop)
            if end is None or leg.arrived_s < leg.departed_s:
                return None
            block, zone = leg.arrived_s // self._block_s, end[1]
            arrives = self._slots.get((zone, block))
            if arrives is None:
                arrives = self._slot(leg.to_stop, zone, block)
        key = start[0], end, departs, arrives, leg.route, leg.network, leg.rider, leg.medium
        mark = self._marks.get(key)
        return self._mark(key, leg) if mark is None else mark

    def day(self, at_s: int) -> int:
        """Return the service day of a time, by the agency's clock."""
        block = at_s // self._block_s
        day = self._days.get(block)
        if day is None:
            feed = self._tables.feed
            day = _kept(self._days, block, service_day(feed.zones[_AGENCY], at_s, feed.day_starts_s))
        return day

    def apart(self, waited_s: int) -> bool:
        """Say whether a leg that begins so long after whatever was before is too late for any transfer or join."""
        return not self._endless and waited_s > self._longest

    def may_join(self, before: Leg, leg: Leg) -> bool:
        """Say whether a join rule may make one of two legs; whether it does is for `joining` to say."""
        joins = self._tables.joins
        if not joins or before.to_stop is None:
            return False
        limit = self._tables.feed.join_limit_s
        if limit is not None and leg.departed_s - (before.arrived_s or 0) > limit:
            return False
        key = before.to_stop, leg.from_stop, before.route, before.network
        found = self._joins.get(key)
        if found is None:
            tables = self._tables
            network = tables.routes[before.route] if before.route else tables.networks.get(before.network)
            ends = tables.stops[before.to_stop], tables.stops[leg.from_stop]
            rules = () if network is None else joins.get(network, ())
            found = _kept(self._joins, key, any(meets(tables, rule, *ends) for rule in rules))
        return found

    def elapsed(self, first: Leg, last: Leg) -> Iterator[int]:
        """Yield, for each clock that transfers ask, how many limits passed between two legs; -1 is unknown."""
        for clock in self._clocks:
            start = first.departed_s if clock in _STARTS else first.arrived_s
            end = last.departed_s if clock in _ENDS else last.arrived_s
            yield -1 if start is None or end is None else bisect_left(self._limits, end - start)

    def _slot(self, stop: str, zone: int, block: int) -> int:
        """Name what the clocks of a zone say in a block: whether the tariff is for that day, and its timeframes."""
        tables, at_s = self._tables, block * self._block_s
        number = tables.stops[stop]
        day, _ = wall(zone_of(tables, tables.feed.stops[number]), at_s)
        held = [in_frames(tables, group, number, at_s) for group in range(len(tables.feed.frames))]
        said = tables.feed.first_day <= day <= tables.feed.last_day, *held
        return _kept(self._slots, (zone, block), self._said.setdefault(said, len(self._said)))

    def _mark(self, key: _Key, leg: Leg) -> int | None:
        """Price a leg as the first of its key, and number what came out."""
        tables = self._tables
        try:
            place = locate(tables, leg)
        except Unknown:
            return None
        priced = price_leg(tables, (leg,), place, place)
        answer = priced.amount, priced.currency, priced.product, priced.network, priced.rider, priced.medium
        number = self._numbers.setdefault((*answer, priced.group), len(self._numbers))
        if number == len(self.priced):
            self.priced.append(priced.amount is not None)
        return _kept(self._marks, key, number)


def _block(tables: FeedTables) -> int:
    """Return the seconds of a block: every clock of a feed changes what it says at a multiple of them only."""
    feed = tables.feed
    block = gcd(DAY_S, feed.day_starts_s)
    for zone in feed.zones:
        block = gcd(block, zone.offset_s, *(number for transition in zone.transitions for number in transition))
    return gcd(block, *(edge for group in feed.frames for frame in group for edge in (frame.start, frame.end)))


def _kept(answers: dict[_Asked, _Answer], key: _Asked, answer: _Answer) -> _Answer:
    if len(answers) >= MAX_KEPT:
        answers.clear()
    answers[key] = answer
    return answer
