"""What taps are judged by: editions of the tariff, and how each product pays."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from validator.fares.editions import Edition, Editions


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


class Rulebook(Editions):
    """All that taps are judged by.

    Attributes:
        terms: How products pay, by their number.
    """

    def __init__(self, editions: Iterable[Edition], terms: Mapping[int, Terms]) -> None:
        super().__init__(editions)
        self.terms = terms
