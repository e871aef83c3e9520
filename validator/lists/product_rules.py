"""What a product must keep to, so that a gate can decide by it and a journal entry can say so.

The seller, the writer of a ticket file and the installer ask here; a gate in service need not ask again.
"""

from collections.abc import Iterable, Mapping

from validator.conditions import DAY_MINUTES, EVERY_DAY, ORDINARY, Conditions
from validator.entry import MAX_INTEGER
from validator.model import Assurance
from validator.rights import Product, ProductKind

MAX_AMOUNT = 2**31 - 1
"""Largest number of rides, minor units or seconds of pass-back; sums of many uses stay far below an entry's bound."""

MAX_PLACE_CHARACTERS = 64
"""As in a journal entry: a place with a longer name can never be recorded."""

MAX_RIDERS = 99
MAX_TIME_FRAMES = 16
DAY_S = DAY_MINUTES * 60

LEAST_ASSURANCES = (Assurance.CHIP, Assurance.HOLDER)
"""What a product may ask for: less than `CHIP` can be copied, and opens no gate whatever a product says."""

BOUNDS: Mapping[str, tuple[int, int]] = {
    "product_id": (1, MAX_INTEGER),
    "valid_from": (0, MAX_INTEGER),
    "valid_until": (0, MAX_INTEGER),
    "active_from": (0, MAX_INTEGER),
    "rides": (0, MAX_AMOUNT),
    "fare": (0, MAX_AMOUNT),
    "pass_back_s": (0, MAX_AMOUNT),
}
"""Smallest and largest value of each number of a `Product`, but its balance."""

CONDITION_BOUNDS: Mapping[str, tuple[int, int]] = {
    "riders": (1, MAX_RIDERS),
    "day_starts_s": (0, DAY_S - 1),
    "floor": (0, MAX_AMOUNT),
    "proof_until": (0, MAX_INTEGER),
}
"""The same of its `Conditions`."""


def breach(product: Product) -> str | None:
    """Say which rule a product breaks, naming field and value; None where it keeps to all."""
    why = _out_of_bounds(product, BOUNDS)
    if why is not None:
        return why
    if product.valid_from >= product.valid_until:
        return f"valid_until {product.valid_until} is not after valid_from {product.valid_from}"
    if product.least_assurance not in LEAST_ASSURANCES:
        return f"least_assurance {product.least_assurance.name} is not one of a gate's, CHIP or HOLDER"
    return name_breach("place", product.places) or conditions_breach(product.conditions) or _money_breach(product)


def name_breach(what: str, names: Iterable[str]) -> str | None:
    """Say what is wrong with the name of a place or the like; None where all are good."""
    for name in sorted(names):
        if not 1 <= len(name) <= MAX_PLACE_CHARACTERS or not name.isprintable():
            return f"the name of a {what}, {name!r}, is not 1 to {MAX_PLACE_CHARACTERS} printable characters"
    return None


def conditions_breach(conditions: Conditions) -> str | None:
    """Say which rule the conditions of a product break by themselves; None where they keep to all."""
    if conditions == ORDINARY:
        return None
    named = {"rider category": conditions.rider, "medium": conditions.medium, "scheme": conditions.scheme}
    why = _out_of_bounds(conditions, CONDITION_BOUNDS)
    whys = [why, name_breach("zone", conditions.zones), name_breach("network", conditions.networks)]
    whys += [name_breach(what, filter(None, [name])) for what, name in named.items()]
    if len(conditions.time_frames) > MAX_TIME_FRAMES:
        whys.append(f"{len(conditions.time_frames)} time frames are more than {MAX_TIME_FRAMES}")
    for frame in sorted(conditions.time_frames):
        if not 0 <= frame.from_minute < frame.until_minute <= 2 * DAY_MINUTES:
            whys.append(f"a time frame from minute {frame.from_minute} until {frame.until_minute} is none of two days")
        if not 1 <= frame.weekdays <= EVERY_DAY:
            whys.append(f"the weekdays {frame.weekdays} of a time frame are not 1 to {EVERY_DAY}")
    return next(filter(None, whys), None)


def _out_of_bounds(told: object, bounds: Mapping[str, tuple[int, int]]) -> str | None:
    for field, (smallest, largest) in bounds.items():
        number = getattr(told, field)
        if not smallest <= number <= largest:
            return f"{field} {number} is not between {smallest} and {largest}"
    return None


def _money_breach(product: Product) -> str | None:
    """Only pay as you go goes below zero, and never without a price in mind: else nothing would end it."""
    floor = product.conditions.floor
    if not -floor <= product.balance <= MAX_AMOUNT - floor:
        return f"balance {product.balance} is not between {-floor} and {MAX_AMOUNT - floor}"
    if product.kind is ProductKind.PAY_AS_YOU_GO:
        return None if product.fare else "fare 0 of pay as you go: say what a ride is assumed to cost"
    return f"floor {floor} of what is no pay as you go" if floor else None
