"""What a passenger reads on the display: one line that says whether, until when, and what is left.

The decision's reason always stands; what else there is follows, the most useful first, as far as the display has room.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from types import MappingProxyType
from typing import Final

from validator.answer_estonian import ESTONIAN
from validator.answer_japanese import JAPANESE
from validator.answer_words import ENGLISH, Band, Words
from validator.rights import Decision, Entitlement, Product, ProductKind, Use
from validator.risk import rides_of


@unique
class Language(StrEnum):
    """What passengers read, ISO 639-1."""

    ENGLISH = "en"
    ESTONIAN = "et"
    JAPANESE = "ja"


@unique
class Display(IntEnum):
    """How many characters a display has room for."""

    BUS = 100
    GATE = 150


WORDS: Final = MappingProxyType({Language.ENGLISH: ENGLISH, Language.ESTONIAN: ESTONIAN, Language.JAPANESE: JAPANESE})

LAST_DAY_S: Final = 4_102_444_800
"""2100: what ends later has no end that anybody wants to read."""

_LOW_FARES, _PLENTY_FARES = 3, 10
"""From so many fares on a balance is good for some rides, and simply good."""


@dataclass(frozen=True, slots=True)
class Passengers:
    """Who reads, and where.

    Attributes:
        language: Of the display.
        display: Its room.
    """

    language: Language = Language.ENGLISH
    display: Display = Display.GATE


ANYBODY: Final = Passengers()
"""English, with room."""


def answer(decision: Decision, unsynced: Sequence[Use], offset_s: int, passengers: Passengers) -> str:
    """Say a decision to a passenger.

    Args:
        decision: What the gate does and why.
        unsynced: The card's uses here before this tap that the ticket list does not count.
        offset_s: What the clocks on the walls are ahead of UTC, in seconds.
        passengers: Who reads it.

    Returns:
        One line, never empty, never longer than the display.
    """
    words = WORDS[passengers.language]
    said = words.reasons[decision.reason]
    right = decision.entitlement
    for part in () if right is None else _parts(right, unsynced, offset_s, words):
        longer = f"{said}{words.between}{part}"
        if len(longer) <= passengers.display:
            said = longer
    return said


def _parts(right: Entitlement, unsynced: Sequence[Use], offset_s: int, words: Words) -> Iterator[str]:
    """Say what there is to say of a right, the most useful first."""
    product = right.product
    if product is None:
        return
    used = [use for use in unsynced if use.product_id == product.product_id]
    if right.riders > 1:
        yield words.riders.format(count=right.riders)
    if product.kind is ProductKind.CARNET:
        left = max(0, product.rides - sum(use.rides for use in used) - right.rides)
        yield (words.one_left if left == 1 else words.left).format(count=left)
    if product.kind in (ProductKind.STORED_VALUE, ProductKind.PAY_AS_YOU_GO):
        yield words.bands[band(product, used, right)]
    ends_s = product.valid_until + product.conditions.day_starts_s
    if ends_s < LAST_DAY_S:
        ends = dt.datetime.fromtimestamp(ends_s + offset_s, dt.UTC)
        yield words.until.format(day=ends.day, month=ends.month, hour=ends.hour, minute=ends.minute)
    if right.amount:
        yield words.charged.format(major=right.amount // 100, minor=right.amount % 100)


def band(product: Product, used: Sequence[Use], right: Entitlement) -> Band:
    """Return how far a balance goes after a tap, in fares.

    Args:
        product: Stored value or pay as you go.
        used: Its uses here that the list does not count.
        right: What the tap takes.
    """
    left = product.balance - sum(use.amount for use in used) - right.amount
    if product.kind is ProductKind.PAY_AS_YOU_GO:
        left -= product.fare * (len(rides_of(used)) + (right.recovers is None))
    if left < max(1, product.fare):
        return Band.EMPTY
    if left < _LOW_FARES * product.fare:
        return Band.LOW
    return Band.ENOUGH if left < _PLENTY_FARES * product.fare else Band.PLENTY
