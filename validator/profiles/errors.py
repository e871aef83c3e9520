"""Why a card's dialogue ended without a proof. A profile raises these and nothing else."""

from validator.model import Reason


class ProfileError(Exception):
    """Root of what a profile may raise; what a card sent is never repeated in the message.

    Attributes:
        reason: What the tap is recorded as.
        family: The card family that recognised the card, once the choice knows it.
    """

    reason: Reason = Reason.MALFORMED_ANSWER
    family: str | None = None


class WrongFamily(ProfileError):  # noqa: N818 - names the event: another profile may try
    """The card does not hold this profile's application, or nothing in it that a gate can challenge."""

    reason = Reason.UNKNOWN_MEDIUM


class CardMalformed(ProfileError):  # noqa: N818 - says what the card is
    """The card's answer breaks the format, the protocol or a bound."""


class KeyUnsupported(ProfileError):  # noqa: N818 - says what the key is
    """The card's certificate carries a kind of key that the profile cannot challenge."""

    reason = Reason.UNSUPPORTED_KEY


class KeyNotHere(ProfileError):  # noqa: N818 - names what is missing
    """The operator key that this card answers to is not on this gate."""

    reason = Reason.KEY_NOT_HERE


class CardRefused(ProfileError):  # noqa: N818 - says what the card did
    """The card answered a command that it should know with an error.

    Attributes:
        step: The command, in words.
        sw: The status word.
    """

    def __init__(self, step: str, sw: int) -> None:
        super().__init__(f"the card answered {sw:04X} to {step}")
        self.step = step
        self.sw = sw
