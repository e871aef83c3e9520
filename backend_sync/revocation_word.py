"""What the ledger says of a card that was revoked or given back."""

from dataclasses import dataclass

from validator.model import Credential


@dataclass(frozen=True, slots=True)
class Word:
    """The last thing that was said of a card.

    Attributes:
        credential: The card.
        revoked: Whether it is revoked now.
        before: Whether it was when the deny list was published.
    """

    credential: Credential
    revoked: bool
    before: bool
