"""The card families that this gate can speak to, by the names that its file uses."""

from collections.abc import Iterable
from types import MappingProxyType

from hardware.medium import Target
from validator.choice import Family, TagFamily
from validator.profiles import ntag424, piv, piv_sm, pkoc1, pkoc2, ultralight_aes

_NXP = 0x04
"""First byte of a UID that NXP gave (ISO/IEC 7816-6 manufacturer code)."""
_ISO_DEP_ALONE = 0x20


def _is_ntag424_like(target: Target) -> bool:
    """Say whether it may be an NTAG 424 DNA: NXP's UID of seven bytes, historical byte 80 alone, SAK 20 if told."""
    return (
        target.sak in (None, _ISO_DEP_ALONE)
        and len(target.uid) == ntag424.UID_BYTES
        and target.uid[0] == _NXP
        and target.historical == b"\x80"
    )


FAMILIES = MappingProxyType(
    {
        family.name: family
        for family in (
            Family(piv_sm.NAME, piv.AID, piv_sm.authenticate),
            Family(piv.NAME, piv.AID, piv.authenticate),
            Family(pkoc2.NAME, pkoc2.AID, pkoc2.authenticate),
            Family(pkoc1.NAME, pkoc1.AID, pkoc1.authenticate),
            Family(ntag424.NAME, ntag424.AID, ntag424.authenticate, _is_ntag424_like),
            TagFamily(ultralight_aes.NAME, ultralight_aes.authenticate),
        )
    }
)
"""In the order that a desk asks them, where nothing is known of their shares."""


def families(names: Iterable[str]) -> tuple[Family | TagFamily, ...]:
    """Return families in the order of their names.

    Raises:
        KeyError: There is no such family.
    """
    return tuple(FAMILIES[name] for name in names)


OPERATOR_KEYS = MappingProxyType(
    {ntag424.NAME: (ntag424.OPERATOR_KEY,), ultralight_aes.NAME: (ultralight_aes.DATA_KEY_NAME,)}
)
"""Operator keys without which a family's cards are all refused."""
