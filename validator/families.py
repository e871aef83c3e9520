"""The card families that this gate can speak to, by the names that its file uses."""

from collections.abc import Iterable
from types import MappingProxyType

from hardware.medium import Target, Technology
from validator.choice import Family, TagFamily
from validator.profiles import (
    dnie,
    emrtd,
    esteid3,
    esteid2018,
    esteid2025,
    jpki,
    mynumber_surface,
    ntag424,
    piv,
    piv_sm,
    pkoc1,
    pkoc2,
    ultralight_aes,
)

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


def _is_type_b(target: Target) -> bool:
    """Say whether it may be a MyNumber card, which speaks over no other air."""
    return target.technology is Technology.TYPE_B


def _is_esteid3(target: Target) -> bool:
    """Say whether it answers a reset as the two last generations of EstEID 3.x do; they speak over no air."""
    return target.technology is Technology.CONTACT and target.historical in _ESTEID3


_ESTEID3 = (b"\xfeeID / PKI", bytes.fromhex("803180664090A4162A00830F9000"))
"""Historical bytes of EstEID 3.5 and 3.4."""

_OPERATORS: tuple[Family | TagFamily, ...] = (
    Family(piv_sm.NAME, piv.AID, piv_sm.authenticate),
    Family(piv.NAME, piv.AID, piv.authenticate),
    Family(pkoc2.NAME, pkoc2.AID, pkoc2.authenticate),
    Family(pkoc1.NAME, pkoc1.AID, pkoc1.authenticate),
    Family(ntag424.NAME, ntag424.AID, ntag424.authenticate, _is_ntag424_like),
    TagFamily(ultralight_aes.NAME, ultralight_aes.authenticate),
)
"""Families whose cards an operator can issue, in the order that a desk asks them."""

_NATIONS: tuple[Family, ...] = (
    Family(mynumber_surface.NAME, mynumber_surface.AID, mynumber_surface.authenticate, _is_type_b),
    Family(jpki.NAME, jpki.AID, jpki.authenticate, _is_type_b),
    Family(
        esteid2018.NAME,
        esteid2018.AID,
        esteid2018.authenticate,
        lambda target: target.historical in esteid2018.HISTORICAL,
    ),
    Family(
        esteid2025.NAME,
        esteid2025.AID,
        esteid2025.authenticate,
        lambda target: target.historical in esteid2025.HISTORICAL,
    ),
    Family(dnie.NAME, dnie.AID, dnie.authenticate, lambda target: dnie.HISTORICAL in target.historical),
    Family(emrtd.NAME, emrtd.AID, emrtd.authenticate),
    Family(esteid3.NAME, esteid3.AID, esteid3.authenticate, _is_esteid3),
)
"""National identity cards and travel documents."""

OPERATOR_FAMILIES = MappingProxyType({family.name: family for family in _OPERATORS})
NATIONAL_FAMILIES = MappingProxyType({family.name: family for family in _NATIONS})
FAMILIES = MappingProxyType(OPERATOR_FAMILIES | NATIONAL_FAMILIES)
"""All, in the order that a desk asks them, where nothing is known of their shares."""


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
