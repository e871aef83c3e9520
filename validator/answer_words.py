"""What a language calls what a passenger wants to know, and English."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import Final

from validator.model import Reason
from validator.reason_words import REASON_WORDS


@unique
class Band(Enum):
    """How far a balance goes: bystanders read the display, too, so that no amount is shown."""

    EMPTY = auto()
    LOW = auto()
    ENOUGH = auto()
    PLENTY = auto()


@dataclass(frozen=True, slots=True)
class Words:
    """One language. In texts, braces stand for numbers.

    Attributes:
        reasons: What each reason is called.
        charged: What a tap took, in ``{major}`` and ``{minor}`` units.
        one_left: One ride is left.
        left: ``{count}`` rides are left.
        riders: The tap is for ``{count}``.
        until: Valid until ``{day}``, ``{month}``, ``{hour}`` and ``{minute}``.
        bands: How far the balance goes.
        between: Stands between two things said.
    """

    reasons: Mapping[Reason, str]
    charged: str
    one_left: str
    left: str
    riders: str
    until: str
    bands: Mapping[Band, str]
    between: str = "; "


ENGLISH: Final = Words(
    reasons=REASON_WORDS,
    charged="charged {major}.{minor:02}",
    one_left="1 ride left",
    left="{count} rides left",
    riders="for {count} people",
    until="until {day}/{month} {hour:02}:{minute:02}",
    bands={
        Band.EMPTY: "balance used up: top up",
        Band.LOW: "balance low: top up soon",
        Band.ENOUGH: "balance good for some rides",
        Band.PLENTY: "balance good",
    },
)
