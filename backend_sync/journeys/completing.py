"""The queue of incomplete rides: where they may have ended, why that is likely, and what a person's yes does.

A yes is a tap: the desk's, at that place and time. So nothing else has to know of it: the day is computed again, and
what it then costs less is given back by a new entry.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from backend_sync.journeys.pairing import Ride, State
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.taps import JourneyTap
from validator.fares.editions import Edition, Place

HABIT: Final = 2
"""So many rides from one station to one other make a habit."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Where an incomplete ride may have ended.

    Attributes:
        ride: Which.
        place: The place, as gates are configured.
        arrived_s: When, seconds since 1970 UTC.
        rule: Why.
        reason: The same for people.
    """

    ride: Ride
    place: str
    arrived_s: int
    rule: JourneyRule
    reason: str

    def accepted(self, desk: str, epoch: int, seq: int) -> JourneyTap:
        """Return the tap that a person's yes is.

        Args:
            desk: Who says yes, as a device; no gate has that name.
            epoch: Of the desk's taps.
            seq: The tap's number there.
        """
        first = self.ride.taps[0]
        return JourneyTap(
            card=first.card,
            at_s=self.arrived_s,
            device=desk,
            epoch=epoch,
            seq=seq,
            place=self.place,
            product_id=first.product_id,
            granted=True,
        )


def suggestions(rides: Sequence[Ride], history: Iterable[Ride] = ()) -> list[Suggestion]:
    """Return what a person may say yes to, by ride: the station that the next ride begins at, then what is usual.

    Args:
        rides: One card's, as `pair` made them.
        history: Rides of the same card before these.
    """
    ordered = sorted(rides, key=lambda ride: (ride.taps[0].order, ride.head))
    usual = [ride for ride in (*history, *ordered) if ride.state is State.COMPLETE]
    found: list[Suggestion] = []
    for number, ride in enumerate(ordered):
        if ride.state is not State.INCOMPLETE or ride.head or ride.taps[0].riders > 1:
            continue
        assert ride.edition is not None
        start = ride.edition.places[ride.taps[0].place]
        after = next((each for each in ordered[number + 1 :] if each.head == 0), None)
        end_s = ride.taps[0].at_s + ride.edition.limits.journey_s
        if after is not None:
            end_s = min(end_s, after.taps[0].at_s - 1)
            found += _return(ride, ride.edition, start, after.taps[0], end_s)
        found += _habit(ride, ride.edition, start, usual, end_s)
    return found


def _return(ride: Ride, edition: Edition, start: Place, after: JourneyTap, end_s: int) -> list[Suggestion]:
    there = edition.places.get(after.place)
    arrived_s = min(ride.taps[0].at_s + edition.limits.typical_s, end_s)
    if there is None or not _ends(start, there) or arrived_s <= ride.taps[0].at_s:
        return []
    reason = f"the next ride begins at {after.place}, {after.at_s - ride.taps[0].at_s} s later"
    return [Suggestion(ride, after.place, arrived_s, JourneyRule.COMPLETE_RETURN, reason)]


def _habit(ride: Ride, edition: Edition, start: Place, usual: Sequence[Ride], end_s: int) -> list[Suggestion]:
    took: dict[str, list[int]] = {}
    for each in usual:
        first, last = each.taps
        here, there = edition.places.get(first.place), edition.places.get(last.place)
        if here is not None and there is not None and here.station == start.station and _ends(start, there):
            took.setdefault(last.place, []).append(last.at_s - first.at_s)
    if not took:
        return []
    place, times = min(
        Counter({name: len(each) for name, each in took.items()}).items(), key=lambda one: (-one[1], one[0])
    )
    arrived_s = min(ride.taps[0].at_s + median_low(took[place]), end_s)
    if times < HABIT or arrived_s <= ride.taps[0].at_s:
        return []
    reason = f"{times} of {sum(map(len, took.values()))} rides from there ended at {place}"
    return [Suggestion(ride, place, arrived_s, JourneyRule.COMPLETE_HABIT, reason)]


def _ends(start: Place, there: Place) -> bool:
    """Say whether a ride may go from one place to another: by gates of one network, between two stations."""
    return (
        there.gated
        and there.station != start.station
        and (there.feed, there.network, there.route) == (start.feed, start.network, start.route)
    )
