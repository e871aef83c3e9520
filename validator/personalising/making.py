"""What one card is made from, and why none was made of it."""

from dataclasses import dataclass, field

from validator.model import Reason
from validator.profiles.attempt import Attempt
from validator.profiles.errors import ProfileError

DELIVERED_KEY = bytes(16)
"""Every key of a card as it is delivered."""


@dataclass(frozen=True, slots=True)
class Making:
    """One card that is to be made.

    Attributes:
        attempt: Its true UID, 7 bytes, the operator's keys, and fresh randomness.
        token: The account token, 16 bytes.
        key_version: Version of the operator keys that its own are derived from.
    """

    attempt: Attempt
    token: bytes = field(repr=False)
    key_version: int


class NotBlank(ProfileError):  # noqa: N818 - says what the card is
    """The card is not as it was delivered, and nothing was written: it is somebody's."""

    reason = Reason.UNKNOWN_MEDIUM
