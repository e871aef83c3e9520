"""Where a gate is, and whether a product is for there."""

from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import Final

from validator.rights import Product


@dataclass(frozen=True, slots=True)
class Position:
    """What is known of a gate's surroundings at a moment, beside the name of its place.

    Attributes:
        zones: Zones that it is in.
        network: The network that it runs in; empty where none is said.
        stop: The stop that a vehicle is at, in the operator's own id; empty where the place says it.
        route: What a vehicle runs as; empty where the place says it.
        known: False on a vehicle that cannot tell at present; then nothing above is said.
        offset_s: What the clocks on the walls are ahead of UTC, in seconds.
    """

    zones: frozenset[str] = frozenset()
    network: str = ""
    stop: str = ""
    route: str = ""
    known: bool = True
    offset_s: int = 0


NOWHERE: Final = Position()
"""A place that says nothing but its name."""


@unique
class Reach(Enum):
    """Whether a product is for a place."""

    HERE = auto()
    ELSEWHERE = auto()
    UNTOLD = auto()


def reach(product: Product, place: str, position: Position) -> Reach:
    """Say whether a product is for a place.

    `PLACE-1`: without places and zones it is for all. `PLACE-2`: it is for the places that it names.
    `ZONE-1`: it is for what lies in one of its zones, beside its places. `NETWORK-1`: and in one of its networks, where
    it names some. `POSITION-1`: where a vehicle cannot tell zone or network, that is not held against the passenger.

    Args:
        product: What was bought.
        place: The gate's.
        position: Of the gate.
    """
    conditions = product.conditions
    if conditions.networks and position.known and position.network not in conditions.networks:
        return Reach.ELSEWHERE
    anywhere = not product.places and not conditions.zones
    if anywhere or place in product.places:
        return Reach.UNTOLD if conditions.networks and not position.known else Reach.HERE
    if not position.known:
        return Reach.UNTOLD if conditions.zones else Reach.ELSEWHERE
    return Reach.ELSEWHERE if conditions.zones.isdisjoint(position.zones) else Reach.HERE
