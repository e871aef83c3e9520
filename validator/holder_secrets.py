"""What a holder tells a desk: CAN, machine-readable zone and PIN, asked for without showing them."""

import getpass
import sys

from hardware import lds
from validator.profiles.attempt import Secrets

ASK = "-"
"""Stands for a secret that is to be asked for, so that it is seen neither on the screen nor in a list of processes."""

CAN_DIGITS = 6
PIN_DIGITS = range(4, 13)
MRZ_FIELDS = 3


class SecretRefused(ValueError):  # noqa: N818 - says what the secret is
    """What was typed cannot be such a secret; the message never repeats it."""


def holder_secrets(can: str | None, mrz: str | None, pin: str | None) -> Secrets:
    """Take what the holder told, asking for what is `ASK`.

    Args:
        can: The six digits that are printed on the card's front.
        mrz: Document number, date of birth and date of expiry (YYMMDD), separated by commas.
        pin: The PIN for authentication, 4 to 12 digits.

    Raises:
        SecretRefused: It cannot be one.
    """
    told = Secrets(
        can=_told(can, "CAN (6 digits, on the front of the card): "),
        mrz=_told(mrz, "Document number, date of birth, date of expiry (NUMBER,YYMMDD,YYMMDD): "),
        pin=_told(pin, "PIN1: "),
    )
    try:
        _check(told)
    except SecretRefused:
        told.wipe()
        raise
    return told


def ask(question: str) -> str:
    """Ask for a secret: on a terminal without showing it, else the next line of standard input."""
    return getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def _check(told: Secrets) -> None:
    """Refuse what cannot be, and bring the machine-readable zone into its form."""
    if told.can is not None and not (told.can.isdigit() and len(told.can) == CAN_DIGITS):
        raise SecretRefused(f"a CAN has {CAN_DIGITS} digits")
    if told.pin is not None and not (told.pin.isdigit() and len(told.pin) in PIN_DIGITS):
        raise SecretRefused(f"a PIN has {PIN_DIGITS.start} to {PIN_DIGITS.stop - 1} digits")
    if told.mrz is not None:
        told.mrz[:] = _mrz_information(told.mrz)


def _told(given: str | None, question: str) -> bytearray | None:
    if given is None:
        return None
    return bytearray((ask(question) if given == ASK else given).encode("ascii", "replace"))


def _mrz_information(typed: bytearray) -> bytes:
    """Return what PACE makes its key of (Doc 9303-11 §4.3.2): each field with its check digit."""
    fields = bytes(typed).upper().split(b",")
    if len(fields) != MRZ_FIELDS or not all(fields):
        raise SecretRefused("give NUMBER,YYMMDD,YYMMDD: document number, date of birth, date of expiry")
    number, *dates = (field.strip().decode("ascii") for field in fields)
    # What is not known of a date of birth is a filler.
    formed = (len(date) == len("YYMMDD") and date.replace("<", "0").isdigit() for date in dates)
    if not number.replace("<", "").isalnum() or not all(formed):
        raise SecretRefused("give NUMBER,YYMMDD,YYMMDD: letters and digits, then six digits twice")
    padded = number.ljust(9, "<")  # a field of nine, or the whole number where it is longer
    return "".join(field + lds.check_digit(field) for field in (padded, *dates)).encode()
