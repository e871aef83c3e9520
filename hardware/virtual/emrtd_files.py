"""Files of a travel document, as a card in software holds them.

Machine-readable zones of people who do not exist, and what the chip says of its keys. What an issuer signs over them
(EF.SOD, EF.CardSecurity) comes from an issuer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hardware import lds, tlv
from hardware.ec_keys import EcKey

_INTEGER, _OBJECT_IDENTIFIER, _SEQUENCE, _SET = 0x02, 0x06, 0x30, 0x31
_DG14, _DG15 = 0x6E, 0x6F
_PK_ECDH = bytes.fromhex("04007F000702020102")
_ACTIVE_AUTHENTICATION = bytes.fromhex("678108010105")
_VERSION = 1
_FILLER = "<"


@dataclass(frozen=True, slots=True)
class Holder:
    """An invented person and their document.

    Attributes:
        surname: Primary identifier, letters and spaces.
        given_names: Secondary identifier, the same.
        number: Document number, letters and digits; more than nine are possible on a card.
        birth: ``YYMMDD``.
        expiry: ``YYMMDD``.
        sex: ``F``, ``M`` or ``<``.
        state: Issuing state and nationality. ``UTO`` is Utopia, which Doc 9303 keeps for specimens.
        optional: Optional data.
    """

    surname: str = "ERIKSSON"
    given_names: str = "ANNA MARIA"
    number: str = "L898902C3"
    birth: str = "740812"
    expiry: str = "320415"
    sex: str = "F"
    state: str = "UTO"
    optional: str = ""

    def card(self) -> str:
        """Write the machine-readable zone of a card, TD1: 90 characters."""
        if len(self.number) > 9:
            number = self.number[:9] + _FILLER + self.number[9:] + lds.check_digit(self.number) + _FILLER
        else:
            number = _checked(self.number.ljust(9, _FILLER))
        upper = f"I{_FILLER}{self.state}{number}{self.optional}".ljust(30, _FILLER)
        dates = _checked(self.birth), self.sex + _checked(self.expiry)
        middle = f"{dates[0]}{dates[1]}{self.state}".ljust(29, _FILLER)
        whole = lds.check_digit(upper[5:] + middle[:7] + middle[8:15] + middle[18:29])
        return upper + middle + whole + self._names(30)

    def booklet(self) -> str:
        """Write the machine-readable zone of a passport, TD3: 88 characters."""
        upper = f"P{_FILLER}{self.state}{self._names(39)}"
        lower = _checked(self.number.ljust(9, _FILLER)) + self.state + _checked(self.birth) + self.sex
        lower += _checked(self.expiry) + _checked(self.optional.ljust(14, _FILLER))
        return upper + lower + lds.check_digit(lower[:10] + lower[13:20] + lower[21:])

    def _names(self, width: int) -> str:
        field = f"{self.surname}{2 * _FILLER}{self.given_names}".replace(" ", _FILLER)
        return field.ljust(width, _FILLER)[:width]


def chip_authentication_info(oid: bytes, key_id: int | None = None, version: int = _VERSION) -> bytes:
    """Make a ChipAuthenticationInfo (TR-03110-3 §A.1.1.2)."""
    return _info(oid, _number(version), key_id)


def chip_key_info(key: EcKey, key_id: int | None = None) -> bytes:
    """Make a ChipAuthenticationPublicKeyInfo (TR-03110-3 §A.1.1.2)."""
    return _info(_PK_ECDH, key.spki, key_id)


def active_authentication_info(algorithm: bytes) -> bytes:
    """Make an ActiveAuthenticationInfo (Doc 9303-11 §9.2.8) of an algorithm, value octets of its identifier."""
    members = _number(_VERSION) + tlv.encode(_OBJECT_IDENTIFIER, algorithm)
    return tlv.encode(_SEQUENCE, tlv.encode(_OBJECT_IDENTIFIER, _ACTIVE_AUTHENTICATION) + members)


def security_infos(infos: Iterable[bytes]) -> bytes:
    """Make a SecurityInfos: a set in DER's order."""
    return tlv.encode(_SET, b"".join(sorted(infos)))


def dg14(infos: Iterable[bytes]) -> bytes:
    """Make data group 14."""
    return tlv.encode(_DG14, security_infos(infos))


def dg15(spki: bytes) -> bytes:
    """Make data group 15."""
    return tlv.encode(_DG15, spki)


def _info(oid: bytes, required: bytes, key_id: int | None) -> bytes:
    optional = b"" if key_id is None else _number(key_id)
    return tlv.encode(_SEQUENCE, tlv.encode(_OBJECT_IDENTIFIER, oid) + required + optional)


def _number(number: int) -> bytes:
    return tlv.encode(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _checked(field: str) -> str:
    return field + lds.check_digit(field)
