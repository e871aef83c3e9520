"""What a tap that arrives late changes: rides that are no more, rides that are now, and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass

from backend_sync.journeys.pairing import Ride


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two pairings of one card's taps.

    Attributes:
        gone: Rides that are no more.
        come: Rides that are now.
    """

    gone: tuple[Ride, ...]
    come: tuple[Ride, ...]

    def lines(self) -> list[str]:
        """Say it for people, a ride a line."""
        return [f"{sign} {_line(ride)}" for sign, rides in (("-", self.gone), ("+", self.come)) for ride in rides]


def difference(before: Iterable[Ride], after: Iterable[Ride]) -> Change:
    """Return what changed between two pairings; rides are compared by their taps, rider, state and rules."""
    was, now = ({_identity(ride): ride for ride in rides} for rides in (before, after))
    return Change(
        tuple(ride for key, ride in was.items() if key not in now),
        tuple(ride for key, ride in now.items() if key not in was),
    )


def _identity(ride: Ride) -> tuple[object, ...]:
    return ride.taps, ride.head, ride.state, ride.rules, ride.leg


def _line(ride: Ride) -> str:
    return f"{ride.state} {ride.rules[0]}: {', '.join(tap.name for tap in ride.taps)}"
