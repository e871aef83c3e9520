"""Rides from one card's taps: by time, never by label, and whatever the order in which they arrive.

Each rider of a group is a head of its own: head 0 is in every tap, head 1 in those of two riders and more. A tap of
which something is not known still takes part, so that its partner is not taken for an incomplete journey; the ride of
both then waits.
"""

from collections.abc import Iterable
from enum import StrEnum, unique
from operator import attrgetter
from typing import Final

import msgspec

from backend_sync.journeys.editions import Rulebook, Terms
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.taps import JourneyTap
from validator.fares.editions import Edition, Limits, Place
from validator.fares.journey import Leg
from validator.model import Label

_AT: Final = attrgetter("at_s")
_LIMITS: Final = Limits()


@unique
class State(StrEnum):
    """What a ride is."""

    COMPLETE = "complete"
    SINGLE = "single"
    CORRECTED = "corrected"
    INCOMPLETE = "incomplete"
    OPEN = "open"
    PENDING = "pending"
    REFUSED = "refused"
    RECOVERED = "recovered"


class Ride(msgspec.Struct, frozen=True):
    """What one rider did, as one tap or two tell it.

    Attributes:
        taps: The tap, or the first and the last.
        head: Which rider of a group; 0 is the first.
        state: What it is.
        rules: Why.
        leg: What is priced; None where something is not known.
        edition: By what it is priced; None where there is none.
        terms: How its product pays, which is the first tap's; None where that is not known.
        why: What is not known, where it is pending.
    """

    taps: tuple[JourneyTap, ...]
    head: int
    state: State
    rules: tuple[JourneyRule, ...]
    leg: Leg | None
    edition: Edition | None
    terms: Terms | None
    why: str = ""


class _Seen:
    """A tap with what is known of it."""

    __slots__ = ("edition", "place", "problem", "tap", "terms")

    def __init__(self, rulebook: Rulebook, tap: JourneyTap) -> None:
        self.tap = tap
        self.edition = rulebook.at(tap.at_s)
        self.place = None if self.edition is None else self.edition.places.get(tap.place)
        self.terms = None if tap.product_id is None else rulebook.terms.get(tap.product_id)
        heard = not tap.tariff or tap.tariff in rulebook.versions
        self.problem = None if heard and self.place is not None and self.terms is not None else self._problem()

    def _problem(self) -> tuple[JourneyRule, str]:
        tap = self.tap
        if self.edition is None:
            return JourneyRule.PENDING_EDITION, f"{tap.name}: no edition of the tariff holds at its time"
        if self.place is None:
            return JourneyRule.PENDING_PLACE, f"{tap.name}: edition {self.edition.version} has no place {tap.place}"
        if tap.product_id is None:
            return JourneyRule.PENDING_GUEST, f"{tap.name}: a guest's, whose own region is to be asked"
        if self.terms is None:
            return JourneyRule.PENDING_PRODUCT, f"{tap.name}: product {tap.product_id} is not known"
        return JourneyRule.PENDING_VERSION, f"{tap.name}: its gate had version {tap.tariff}, not known here"

    @property
    def limits(self) -> Limits:
        return _LIMITS if self.edition is None else self.edition.limits


def pair(rulebook: Rulebook, taps: Iterable[JourneyTap], closes_s: int) -> list[Ride]:
    """Make rides of one card's taps.

    Args:
        rulebook: What they are judged by.
        taps: Of one card, in any order, any of them more than once. They begin after a gap that is longer than a
            journey may be, so that nothing before them matters.
        closes_s: When the books close, seconds since 1970 UTC: who is under way then may still arrive.

    Returns:
        Rides, by the time when they became known; each tap and rider is in exactly one.
    """
    rides: list[Ride] = []
    opens: dict[int, _Seen] = {}
    groups: dict[str, tuple[int, int]] = {}
    ordered = _distinct(taps)
    for tap in ordered:
        if not tap.granted:
            rides.append(Ride((tap,), 0, State.REFUSED, (JourneyRule.TAP_REFUSED,), None, None, None))
            continue
        if tap.recovers is not None and any(_is_torn(tap, each) for each in ordered):
            rides.append(Ride((tap,), 0, State.RECOVERED, (JourneyRule.TAP_RECOVERED,), None, None, None))
            continue
        seen = _Seen(rulebook, tap)
        if seen.place is None or seen.place.gated:
            for head in range(tap.riders):
                opened = opens.pop(head, None)
                if opened is None or _meet(rides, opened, seen, head):
                    opens[head] = seen
            continue
        first = _first_head(groups, seen)
        for head in range(first, first + tap.riders):
            opened = opens.pop(head, None)
            if opened is not None:
                late = tap.at_s - opened.tap.at_s > opened.limits.journey_s
                rule = JourneyRule.PAIR_LATE if late else JourneyRule.PAIR_LEFT
                rides.append(_alone(opened, head, State.INCOMPLETE, rule))
            rides.append(_alone(seen, head, State.SINGLE, JourneyRule.RIDE_SINGLE, grouped=first > 0))
    for head, opened in opens.items():
        late = opened.tap.at_s + opened.limits.journey_s < closes_s
        state, rule = (State.INCOMPLETE, JourneyRule.PAIR_LATE) if late else (State.OPEN, JourneyRule.PENDING_OPEN)
        rides.append(_alone(opened, head, state, rule))
    return rides


def _distinct(taps: Iterable[JourneyTap]) -> list[JourneyTap]:
    """Return taps in order, each once."""
    ordered = sorted(taps, key=_AT)
    before_s = -1
    for tap in ordered:
        if tap.at_s == before_s:
            return [tap for _, tap in sorted({tap.order: tap for tap in ordered}.items())]
        before_s = tap.at_s
    return ordered


def _is_torn(tap: JourneyTap, other: JourneyTap) -> bool:
    torn = tap.device, tap.epoch, tap.recovers, tap.place
    return other.granted and other.seq < tap.seq and torn == (other.device, other.epoch, other.seq, other.place)


def _first_head(groups: dict[str, tuple[int, int]], seen: _Seen) -> int:
    """Return the first rider that a validation is for: who taps again in one vehicle at once brings somebody along."""
    tap = seen.tap
    since, count = groups.get(tap.place, (tap.at_s, 0))
    if tap.at_s - since > seen.limits.group_s:
        since, count = tap.at_s, 0
    groups[tap.place] = since, count + tap.riders
    return count


def _meet(rides: list[Ride], opened: _Seen, seen: _Seen, head: int) -> bool:
    """Add the ride that a tap ends, and return whether the tap begins another."""
    waited, here, there = seen.tap.at_s - opened.tap.at_s, opened.place, seen.place
    if waited > opened.limits.journey_s:
        rides.append(_alone(opened, head, State.INCOMPLETE, JourneyRule.PAIR_LATE))
        return True
    if here is None or there is None:
        rides.append(_pair(opened, seen, head, State.COMPLETE, JourneyRule.PAIR_TIME))
        return False
    if (here.feed, here.network, here.route) != (there.feed, there.network, there.route):
        rides.append(_alone(opened, head, State.INCOMPLETE, JourneyRule.PAIR_NETWORK))
        return True
    corrected = here.station == there.station and waited <= opened.limits.correction_s
    state, rule = (
        (State.CORRECTED, JourneyRule.PAIR_CORRECTION) if corrected else (State.COMPLETE, JourneyRule.PAIR_TIME)
    )
    rides.append(_pair(opened, seen, head, state, rule))
    return False


def _pair(opened: _Seen, seen: _Seen, head: int, state: State, rule: JourneyRule) -> Ride:
    first, last = opened.tap, seen.tap
    rules: tuple[JourneyRule, ...] = (rule,)
    if head:
        rules += (JourneyRule.RIDE_RIDERS,)
    if first.label is Label.EXIT or last.label is Label.ENTRY:
        rules += (JourneyRule.PAIR_LABEL,)
    problem = opened.problem or seen.problem
    if problem is not None:
        return _waiting((first, last), head, (problem[0], *rules), opened, problem[1])
    assert opened.place is not None
    assert seen.place is not None
    assert opened.terms is not None
    leg = _leg(first, opened.place, opened.terms, last.at_s, last.stop or seen.place.stop)
    return Ride((first, last), head, state, rules, leg, opened.edition, opened.terms)


def _alone(seen: _Seen, head: int, state: State, rule: JourneyRule, *, grouped: bool = False) -> Ride:
    tap = seen.tap
    rules: tuple[JourneyRule, ...] = (rule,)
    if grouped:
        rules += (JourneyRule.RIDE_GROUP,)
    elif head:
        rules += (JourneyRule.RIDE_RIDERS,)
    if seen.problem is not None:
        return _waiting((tap,), head, (seen.problem[0], *rules), seen, seen.problem[1])
    assert seen.place is not None
    assert seen.terms is not None
    leg = _leg(tap, seen.place, seen.terms, None, None)
    why = f"{tap.name}: under way when the books closed" if state is State.OPEN else ""
    return Ride((tap,), head, state, rules, leg, seen.edition, seen.terms, why)


def _waiting(taps: tuple[JourneyTap, ...], head: int, rules: tuple[JourneyRule, ...], first: _Seen, why: str) -> Ride:
    return Ride(taps, head, State.PENDING, rules, None, first.edition, first.terms, why)


def _leg(tap: JourneyTap, place: Place, terms: Terms, arrived_s: int | None, to_stop: str | None) -> Leg:
    return Leg(
        tap.at_s,
        arrived_s,
        place.feed,
        tap.stop or place.stop,
        to_stop,
        tap.route or place.route,
        place.network,
        terms.rider,
        terms.medium,
    )
