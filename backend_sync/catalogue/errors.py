"""Why a catalogue, or what it lists, is not taken."""

from enum import StrEnum, unique


@unique
class Refusal(StrEnum):
    """What was wrong, by the names that the field gives to attacks; stable, because devices report them.

    The attacks are those of the specification of The Update Framework (TUF), section 1.5.2.
    """

    ROLLBACK = "rollback"
    """Something older than what was seen before."""
    FREEZE = "freeze"
    """The newest timestamp that can be had is past its time."""
    MIX_AND_MATCH = "mix_and_match"
    """A file that is not the one which its catalogue names."""
    ENDLESS_DATA = "endless_data"
    """More bytes than were announced, or than anybody may send."""
    SLOW = "slow"
    """A trickle: so many small pieces that it would take for ever."""
    WRONG_KEY = "wrong_key"
    """Signed, but by nobody who may sign it."""
    THRESHOLD = "threshold"
    """Signed by fewer than have to."""
    EXPIRED = "expired"
    """Root, snapshot or targets past their time."""
    MALFORMED = "malformed"
    """Not what it should be, whoever signed it."""
    WRONG_REGION = "wrong_region"
    """Nothing here is for this device's region, or something is for another one that may not be."""
    NOT_REACHED = "not_reached"
    """It could not be had."""
    STORAGE = "storage"
    """The disk does not take it, or does not give it back."""


class CatalogueRefused(Exception):  # noqa: N818 - says what happened; the refusal is the expected answer to an attack
    """Something is not taken. What was in force stays in force, unchanged.

    Attributes:
        reason: Which kind of wrong.
        where: The file or object.
        why: What is wrong with it.
    """

    def __init__(self, reason: Refusal, where: object, why: str) -> None:
        super().__init__(f"{where}: {why} ({reason})")
        self.reason = reason
        self.where = str(where)
        self.why = why
