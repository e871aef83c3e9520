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


class CanNeeded(ProfileError):  # noqa: N818 - names what is missing
    """The card says nothing before PACE, and nobody gave its CAN or MRZ."""

    reason = Reason.CAN_NEEDED


class WrongCan(ProfileError):  # noqa: N818 - says what the secret is
    """The card did not accept the CAN or MRZ. It is never tried again by itself."""

    reason = Reason.WRONG_CAN


class PinNeeded(ProfileError):  # noqa: N818 - names what is missing
    """What was asked for takes the holder's PIN, and nobody gave it."""

    reason = Reason.PIN_NEEDED


class WrongPin(ProfileError):  # noqa: N818 - says what the secret is
    """The card did not accept the PIN.

    Attributes:
        tries_left: As the card says; None where it does not.
    """

    reason = Reason.WRONG_PIN

    def __init__(self, tries_left: int | None) -> None:
        told = "" if tries_left is None else f"; {tries_left} tries are left"
        super().__init__(f"the card did not accept the PIN{told}")
        self.tries_left = tries_left


class PinBlocked(ProfileError):  # noqa: N818 - says what the PIN is
    """No tries are left."""

    reason = Reason.PIN_BLOCKED


class PinNotSet(ProfileError):  # noqa: N818 - says what the PIN is
    """The PIN is still the one that the card was sent with: its holder has to set one first."""

    reason = Reason.PIN_NOT_SET


class PinAtRisk(ProfileError):  # noqa: N818 - says what the PIN is at
    """One try is left, and it is the holder's to spend, not ours."""

    reason = Reason.PIN_AT_RISK


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
