"""The number of a Spanish DNI: eight digits and a check letter, ``12345678Z``, that name one citizen for life.

The letter is the number's remainder by 23, looked up in a row of letters. The authentication certificate of a DNIe
carries the number in its subject's serialNumber: bare, or with the prefix ``IDCES-`` (EN 319 412-1 §5.1.3: an identity
card's number, from Spain).

A number is a name, not a secret, and still personal data: no message here repeats one.
"""

from cryptography import x509
from cryptography.x509.oid import NameOID

from validator.certificates import HOSTILE, CertificateError

DIGITS = 8
LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
"""By remainder; I, Ñ, O and U are left out, since they are taken for other letters and digits."""

_IDENTITY_CARD = "IDCES-"


class DniError(ValueError):
    """The text is no DNI number; the message says why, and never the text."""


def check_letter(number: int) -> str:
    """Return the check letter.

    Args:
        number: The eight digits, 0 to 99999999.

    Raises:
        DniError: It is out of range.
    """
    if not 0 <= number < 10**DIGITS:
        raise DniError(f"the number of a DNI has {DIGITS} digits")
    return LETTERS[number % len(LETTERS)]


def parse(text: str) -> str:
    """Read a DNI number; nothing may stand around it but the prefix of a certificate.

    Args:
        text: ``12345678Z`` or ``IDCES-12345678Z``, the letter in capitals.

    Returns:
        Eight digits and the letter.

    Raises:
        DniError: It has another length, something that is no digit, or another letter.
    """
    number = text.removeprefix(_IDENTITY_CARD)
    digits, letter = number[:DIGITS], number[DIGITS:]
    if len(digits) != DIGITS or len(letter) != 1 or not (digits.isascii() and digits.isdecimal()):
        raise DniError(f"the number of a DNI is {DIGITS} digits and a letter")
    if letter != check_letter(int(digits)):
        raise DniError("the check letter of the DNI is another")
    return number


def of_certificate(certificate: x509.Certificate) -> str:
    """Return the number of the holder that a certificate names.

    Who issued it is not looked at here: a name means something only where the chain holds.

    Raises:
        CertificateError: Its subject has no serialNumber, several, or one that is no DNI number.
    """
    try:
        names = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    except HOSTILE as error:
        raise CertificateError(f"a subject that cannot be read: {type(error).__name__}") from None
    if len(names) != 1 or not isinstance(names[0], str):
        raise CertificateError("a subject without exactly one serial number")
    try:
        return parse(names[0])
    except DniError as error:
        raise CertificateError(str(error)) from None
