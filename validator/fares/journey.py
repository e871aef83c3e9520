"""The vocabulary of pricing: legs as they were travelled, what they cost, and why, step by step."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from validator.fares.rules import Rule


class Leg(msgspec.Struct, frozen=True):
    """One ride on one vehicle, or through one pair of gates. Times are seconds since 1970 UTC.

    Attributes:
        departed_s: Of the validation at its start.
        arrived_s: Of the validation at its end; None where it is still open, or where none is made.
        feed: Name of the feed whose ids are used.
        from_stop: Where it began.
        to_stop: Where it ended; None together with `arrived_s`.
        route: The route, where it is known; it names the network.
        network: The network, where no route is known; empty for none.
        rider: The rider category; empty for the feed's default.
        medium: The fare medium; empty where it is unknown.
    """

    departed_s: int
    arrived_s: int | None
    feed: str
    from_stop: str
    to_stop: str | None
    route: str = ""
    network: str = ""
    rider: str = ""
    medium: str = ""

    @property
    def order(self) -> tuple[int, bool, int, str, str, str, str, str, str, str]:
        """What legs are sorted by, so that a set of them has one price: departure first, then all the rest."""
        arrived, stop = self.arrived_s or 0, self.to_stop or ""
        places = (self.feed, self.from_stop, stop, self.route, self.network, self.rider, self.medium)
        return (self.departed_s, self.arrived_s is None, arrived, *places)


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that was applied.

    Attributes:
        rule: Which.
        what: What it did here, for people.
        source: File and line of the feed that said so; empty where the rule is nobody's but ours.
    """

    rule: Rule
    what: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class PricedLeg:
    """A leg, or several that were joined into an effective one, with its single fare.

    Attributes:
        legs: What was travelled.
        amount: Single fare in minor units; None where it is unknown, which is not zero.
        currency: Its currency; empty where it is unknown.
        product: Index of the fare product in its feed; -1 where it is unknown.
        network: Index of the network in its feed; None for none.
        rider: Index of the rider category in its feed; None for none.
        medium: Index of the medium in its feed; None where it is unknown.
        group: Index of the leg group; None for none, or where the fare is unknown.
        steps: Why.
    """

    legs: tuple[Leg, ...]
    amount: int | None
    currency: str
    product: int
    network: int | None
    rider: int | None
    medium: int | None
    group: int | None
    steps: tuple[Step, ...]

    @property
    def feed(self) -> str:
        """The feed that all its legs are of."""
        return self.legs[0].feed

    @property
    def departed_s(self) -> int:
        """When the first of its legs began."""
        return self.legs[0].departed_s

    @property
    def arrived_s(self) -> int | None:
        """When the last of its legs ended."""
        return self.legs[-1].arrived_s


@dataclass(frozen=True, slots=True)
class SubJourney:
    """Legs with the transfers between them, priced as one.

    Attributes:
        legs: Effective legs, in order.
        amount: What they cost together before caps; None where it is unknown.
        single: What they cost apart; None where it is unknown.
        steps: Why the transfers cost what they do.
    """

    legs: tuple[PricedLeg, ...]
    amount: int | None
    single: int | None
    steps: tuple[Step, ...]

    @property
    def currency(self) -> str:
        """Its currency; empty where the amount is unknown."""
        return self.legs[0].currency


@dataclass(frozen=True, slots=True)
class JourneyPrice:
    """What a set of legs costs.

    Attributes:
        parts: Sub-journeys in order of departure, before caps.
        totals: What is charged of the known ones, by currency, in minor units.
        steps: Why caps changed the sum, and what is missing in it.
        known: Whether nothing is missing.
    """

    parts: tuple[SubJourney, ...]
    totals: Mapping[str, int]
    steps: tuple[Step, ...]
    known: bool

    def explanation(self) -> tuple[Step, ...]:
        """Every step in the order in which it was taken."""
        taken: list[Step] = []
        for part in self.parts:
            for leg in part.legs:
                taken += leg.steps
            taken += part.steps
        return (*taken, *self.steps)
