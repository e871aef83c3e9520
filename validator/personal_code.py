"""The Estonian personal code (isikukood): eleven digits ``GYYMMDDSSSC`` that name one person for life.

G is sex and century of birth (1 and 2 from 1800, 3 and 4 from 1900, 5 and 6 from 2000, 7 and 8 from 2100; odd is male),
YYMMDD the birthday, SSS a serial number, C the check digit. E-residents get codes of the same form: nothing in a code
tells who lives where.

A code is a name, not a secret, and still personal data: no message here repeats one.
"""

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum, unique

DIGITS = 11

_WEIGHTS = ((1, 2, 3, 4, 5, 6, 7, 8, 9, 1), (3, 4, 5, 6, 7, 8, 9, 1, 2, 3))
"""The second row counts only where the first leaves ten."""
_MODULUS = 11
_FIRST_CENTURY = 1800


class PersonalCodeError(ValueError):
    """The text is no personal code; the message says why, and never the text."""


@unique
class Sex(StrEnum):
    """As a personal code states it."""

    MALE = "male"
    FEMALE = "female"


@dataclass(frozen=True, slots=True)
class PersonalCode:
    """A personal code whose form, birthday and check digit hold. Made by `parse`.

    Attributes:
        digits: The eleven digits. `repr` leaves them out.
        sex: As G states it.
        born: The birthday that G and YYMMDD state.
    """

    digits: str = field(repr=False)
    sex: Sex = field(repr=False)
    born: dt.date = field(repr=False)


def parse(text: str) -> PersonalCode:
    """Read a personal code; nothing may stand around it.

    Raises:
        PersonalCodeError: It has another length, something that is no digit, no such century or day, or another check
            digit.
    """
    if len(text) != DIGITS or not (text.isascii() and text.isdecimal()):
        raise PersonalCodeError(f"a personal code is {DIGITS} digits")
    first = int(text[0])
    if not 1 <= first <= 8:
        raise PersonalCodeError("the first digit of a personal code is 1 to 8")
    century = _FIRST_CENTURY + (first - 1) // 2 * 100
    try:
        born = dt.date(century + int(text[1:3]), int(text[3:5]), int(text[5:7]))
    except ValueError:
        raise PersonalCodeError("a personal code with a birthday that no calendar has") from None
    if check_digit(text[:-1]) != int(text[-1]):
        raise PersonalCodeError("the check digit of a personal code does not match")
    return PersonalCode(text, Sex.MALE if first % 2 else Sex.FEMALE, born)


def check_digit(digits: str) -> int:
    """Compute the check digit of the first ten digits.

    Raises:
        PersonalCodeError: They are not ten digits.
    """
    if len(digits) != DIGITS - 1 or not (digits.isascii() and digits.isdecimal()):
        raise PersonalCodeError(f"a check digit is computed over {DIGITS - 1} digits")
    for weights in _WEIGHTS:
        remainder = sum(weight * int(digit) for weight, digit in zip(weights, digits, strict=True)) % _MODULUS
        if remainder < 10:
            return remainder
    return 0
