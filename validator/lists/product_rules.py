"""What a product must keep to, so that a gate can decide by it and a journal entry can say so.

The seller, the writer of a ticket file and the installer ask here; a gate in service need not ask again.
"""

from collections.abc import Mapping

from validator.entry import MAX_INTEGER
from validator.model import Assurance, Product

MAX_AMOUNT = 2**31 - 1
"""Largest number of rides, minor units or seconds of pass-back; sums of many uses stay far below an entry's bound."""

MAX_PLACE_CHARACTERS = 64
"""As in a journal entry: a place with a longer name can never be recorded."""

LEAST_ASSURANCES = (Assurance.CHIP, Assurance.HOLDER)
"""What a product may ask for: less than `CHIP` can be copied, and opens no gate whatever a product says."""

BOUNDS: Mapping[str, tuple[int, int]] = {
    "product_id": (1, MAX_INTEGER),
    "valid_from": (0, MAX_INTEGER),
    "valid_until": (0, MAX_INTEGER),
    "active_from": (0, MAX_INTEGER),
    "rides": (0, MAX_AMOUNT),
    "balance": (0, MAX_AMOUNT),
    "fare": (0, MAX_AMOUNT),
    "pass_back_s": (0, MAX_AMOUNT),
}
"""Smallest and largest value of each number of a `Product`."""


def breach(product: Product) -> str | None:
    """Say which rule a product breaks, naming field and value; None where it keeps to all."""
    for field, (smallest, largest) in BOUNDS.items():
        number = getattr(product, field)
        if not smallest <= number <= largest:
            return f"{field} {number} is not between {smallest} and {largest}"
    if product.valid_from >= product.valid_until:
        return f"valid_until {product.valid_until} is not after valid_from {product.valid_from}"
    if product.least_assurance not in LEAST_ASSURANCES:
        return f"least_assurance {product.least_assurance.name} is not one of a gate's, CHIP or HOLDER"
    return place_breach(product.places)


def place_breach(places: frozenset[str]) -> str | None:
    """Say what is wrong with the name of a place; None where all are good."""
    for place in sorted(places):
        if not 1 <= len(place) <= MAX_PLACE_CHARACTERS or not place.isprintable():
            return f"the name of a place, {place!r}, is not 1 to {MAX_PLACE_CHARACTERS} printable characters"
    return None
