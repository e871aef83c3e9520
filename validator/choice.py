"""Which card family a medium belongs to: asked in the order of their expected share, what the medium hints at first.

Families that live under one application identifier share its selection. What anticollision showed is only a hint: it
changes the order, never the verdict. A family that recognises a card keeps it: a card that fails there is not offered
to the next one, so that nobody can choose the weaker protocol by failing the stronger.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from hardware.apdu import SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu, exchange
from hardware.medium import Target
from hardware.type2 import TagAnswer, TagCommand
from validator.dialogue import Profile
from validator.profiles.attempt import Attempt
from validator.profiles.errors import CardMalformed, ProfileError, WrongFamily
from validator.proof import CardProof


@dataclass(frozen=True, slots=True)
class Family:
    """A card family on ISO/IEC 7816-4 commands.

    Attributes:
        name: As configured.
        aid: Application identifier that is selected. Empty where the family has none: it selects for itself.
        authenticate: Makes the dialogue, from the answer to the selection on.
        hinted: Whether what anticollision found speaks for this family.
    """

    name: str
    aid: bytes
    authenticate: Callable[[Attempt, ResponseApdu], Generator[CommandApdu, ResponseApdu, CardProof]]
    hinted: Callable[[Target], bool] = lambda _target: False


@dataclass(frozen=True, slots=True)
class TagFamily:
    """A card family on the frames of a type 2 tag.

    Attributes:
        name: As configured.
        authenticate: Makes the dialogue.
    """

    name: str
    authenticate: Callable[[Attempt], Generator[TagCommand, TagAnswer, CardProof]]


def authenticate(families: Sequence[Family | TagFamily], target: Target, attempt: Attempt) -> Profile:
    """Make the dialogue that finds a medium's family and authenticates it.

    Args:
        families: In the order of their expected share.
        target: What anticollision found.
        attempt: What this attempt may use.

    Raises:
        ProfileError: The medium is of none of these families (`WrongFamily`), or failed in its own.
    """
    if target.apdus:
        return _by_apdus([each for each in families if isinstance(each, Family)], target, attempt)
    return _by_frames([each for each in families if isinstance(each, TagFamily)], attempt)


def _by_apdus(families: Sequence[Family], target: Target, attempt: Attempt) -> Generator[Any, Any, CardProof]:
    selected: tuple[bytes, ResponseApdu] | None = None
    absent: set[bytes] = set()  # no application is asked for twice: so often may a card say no, and no oftener
    for family in sorted(families, key=lambda each: not each.hinted(target)):
        if family.aid in absent:
            continue
        if not family.aid:
            selected = b"", ResponseApdu(b"", SW.OK)
        elif selected is None or selected[0] != family.aid:
            selected = family.aid, (yield from _select(family.aid))
        if not selected[1].ok:
            absent.add(family.aid)
            continue
        try:
            return (yield from family.authenticate(attempt, selected[1]))
        except WrongFamily:
            continue
        except ProfileError as error:
            error.family = family.name
            raise
    raise WrongFamily(f"none of {', '.join(each.name for each in families) or 'no families'}")


def _by_frames(families: Sequence[TagFamily], attempt: Attempt) -> Generator[Any, Any, CardProof]:
    for family in families:
        try:
            return (yield from family.authenticate(attempt))
        except WrongFamily:
            continue
        except ProfileError as error:
            error.family = family.name
            raise
    raise WrongFamily("a tag of no family that this gate takes")


def _select(aid: bytes) -> Generator[CommandApdu, ResponseApdu, ResponseApdu]:
    try:
        return (yield from exchange(CommandApdu(0x00, 0xA4, 0x04, 0x00, aid, le=SHORT_LE_MAX)))
    except ApduError as error:
        raise CardMalformed(str(error)) from None
