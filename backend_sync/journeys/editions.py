"""What is in force when: editions of the tariff, each with its places and limits, and how each product pays."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from validator.fares.quick import QuickPrices
from validator.fares.tariff import Tariffs

_FROM = attrgetter("from_s")


@dataclass(frozen=True, slots=True)
class Place:
    """Where taps are made, in a feed's own ids.

    Attributes:
        feed: Name of the feed.
        stop: Its stop; empty for a vehicle, whose taps say where it was.
        station: The station of that stop; the stop itself where it has none.
        network: Its network; empty where the route names it.
        route: Its route; empty where taps name it, or none is known.
        gated: Whether one taps on the way in and on the way out; else one tap is one ride.
    """

    feed: str
    stop: str
    station: str
    network: str = ""
    route: str = ""
    gated: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Times by which taps are paired, in seconds; each is in time itself.

    Attributes:
        journey_s: Longest time between entry and exit.
        correction_s: Longest time between entry and exit at one station that is a change of mind.
        group_s: Longest time from the first to the last validation of a group in one vehicle.
        typical_s: How long a ride takes as far as nobody knows better.
    """

    journey_s: int = 3 * 3600
    correction_s: int = 300
    group_s: int = 60
    typical_s: int = 1800


class Edition:
    """A version of the tariff, from a moment on.

    Attributes:
        version: Its number; gates name it on their taps.
        from_s: When it begins to hold, seconds since 1970 UTC.
        tariffs: What to price by.
        prices: The same without explanations.
        places: Where taps are made, by the name that gates use.
        limits: By which taps are paired.
    """

    def __init__(
        self, version: int, from_s: int, tariffs: Tariffs, places: Mapping[str, Place], limits: Limits | None = None
    ) -> None:
        self.version = version
        self.from_s = from_s
        self.tariffs = tariffs
        self.prices = QuickPrices(tariffs)
        self.places = places
        self.limits = limits or Limits()


@dataclass(frozen=True, slots=True)
class Terms:
    """How a product pays for journeys.

    Attributes:
        rider: The rider category that it was sold for; empty for the feed's default.
        medium: The fare medium that it is on; empty where it does not matter.
        prepaid: Passes and carnets: what the gate took is all.
    """

    rider: str = ""
    medium: str = ""
    prepaid: bool = False


class Rulebook:
    """All that taps are judged by.

    Attributes:
        editions: Editions, by when they begin to hold.
        versions: Their numbers.
        terms: How products pay, by their number.
    """

    def __init__(self, editions: Iterable[Edition], terms: Mapping[int, Terms]) -> None:
        self.editions = sorted(editions, key=_FROM)
        self._starts = [edition.from_s for edition in self.editions]
        self.versions = frozenset(edition.version for edition in self.editions)
        self.terms = terms

    def at(self, at_s: int) -> Edition | None:
        """Return the edition that holds at a time; None before the first."""
        number = bisect_right(self._starts, at_s)
        return self.editions[number - 1] if number else None
