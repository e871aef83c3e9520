"""The card families that an operator issues itself: what their profiles call them and their operator keys."""

from enum import StrEnum, unique
from types import MappingProxyType

SHARED_KEY_SUFFIX = "-uid"
"""Ends the names of operator keys that are the same in all cards; they only open a random-UID card's true UID."""


@unique
class CardFamily(StrEnum):
    """Families without a public key, by the names of their profiles: they enter into the ids of their credentials."""

    NTAG424 = "ntag424"
    ULTRALIGHT_AES = "ultralight-aes"

    @property
    def key_prefix(self) -> str:
        """How the names of this family's operator keys begin."""
        return _KEYS[self][0]

    @property
    def card_key(self) -> str:
        """Name of the operator key that a card's own is derived from, which a gate asks it for."""
        return "".join(_KEYS[self])


_KEYS = MappingProxyType(
    {CardFamily.NTAG424: ("ntag424-", "application"), CardFamily.ULTRALIGHT_AES: ("ultralight-", "data")}
)
