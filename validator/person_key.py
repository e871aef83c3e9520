"""What tells a person from others across cards, and cannot be turned back: a keyed hash of the personal identifier.

A hash without a key hides nothing here. An Estonian personal code is a sex, a day of birth and three digits: some
seventy million for a century, so that whoever has the hash of one finds it within a minute by trying them all, however
it is salted, as long as the salt lies beside it. Spain's numbers are a hundred million. So it is HMAC-SHA-256 (RFC
2104) under a key of 32 bytes that lies at the desks, and never where the ledger is: a copy of the ledger alone tells
nobody.

The same person gives the same hash with any card that tells the same identifier: codes are brought into one form first.
"""

import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from validator.model import Scheme
from validator.secret_files import SecretError, read_secret, wipe

KEY_BYTES: Final = 32
ICAO: Final = "icao"
"""Stands for the scheme of a travel document whose state has no scheme here."""
LASTING: Final = frozenset({Scheme.ESTONIA.value, Scheme.SPAIN.value})
"""Where a person keeps one identifier for life; elsewhere it goes with the document, and the next one has another."""

_CHECK_VALUE_BYTES = 3
_SEMANTICS = re.compile(r"(?:PNO|IDC|PAS|TIN)[A-Z]{2}-")  # ETSI EN 319 412-1 §5.1.3
_FORMS: Final = {
    Scheme.ESTONIA.value: re.compile(r"[1-8][0-9]{10}"),
    Scheme.SPAIN.value: re.compile(r"(?:[0-9]{8}|[XYZ][0-9]{7})[A-Z]"),
    Scheme.JAPAN.value: re.compile(r"SERIAL-(?:[0-9A-F]{2}){8,32}-[0-9A-F]{1,40}"),
    ICAO: re.compile(r"[A-Z]{1,3}-[A-Z0-9]{1,32}"),
}
_DIGITS = re.compile(rb"([0-9A-Fa-f]{64})[\r\n]{0,2}")


class IdentifierError(Exception):
    """What was read is no identifier of its scheme; the message never repeats it."""


@dataclass(frozen=True, slots=True)
class PersonKey:
    """A key under which persons are told apart.

    Attributes:
        octets: 32 bytes, taken over; in no message and no ``repr``.
    """

    octets: bytearray = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.octets) != KEY_BYTES:
            raise ValueError(f"a person key of {len(self.octets)} bytes: {KEY_BYTES} are meant")

    @property
    def check_value(self) -> str:
        """Six hexadecimal digits that tell this key from others and give nothing of it away."""
        return self._mac(b"check")[:_CHECK_VALUE_BYTES].hex().upper()

    def person(self, scheme: Scheme | None, identifier: str) -> bytes:
        """Return what stands for a person, 32 bytes.

        Args:
            scheme: Whose identifier it is; None for a travel document of a state that has no scheme here.
            identifier: As `canonical` takes it.

        Raises:
            IdentifierError: It is no identifier of that scheme.
        """
        return self._mac(b"person", scheme_name(scheme).encode(), canonical(scheme, identifier).encode())

    def wipe(self) -> None:
        """Overwrite the key; it is of no use afterwards."""
        wipe(self.octets)

    def _mac(self, *parts: bytes) -> bytes:
        return hmac.digest(self.octets, b"\0".join((b"pilet/1", *parts)), "sha256")


def scheme_name(scheme: Scheme | None) -> str:
    """Return a scheme's name in reports and in the ledger: ``ee``, ``jp``, ``es``, or ``icao`` for none."""
    return ICAO if scheme is None else scheme.value


def canonical(scheme: Scheme | None, identifier: str) -> str:
    """Bring an identifier into the one form that is hashed.

    Args:
        scheme: Whose it is; None for a travel document of a state that has no scheme here.
        identifier: Estonia and Spain: the number, with or without what ETSI EN 319 412-1 puts before it (``PNOEE-``,
            ``IDCES-``), as old and new certificates have it. Japan: what `serial_identifier` returns, so that the
            individual number, whose keeping the law forbids, is refused even if somebody brought it. Travel documents:
            code of the issuing state, a hyphen, the document code in two characters, and the document's number.

    Raises:
        IdentifierError: It is no identifier of that scheme.
    """
    name = scheme_name(scheme)
    told = identifier.strip().upper()
    if name in LASTING:
        told = _SEMANTICS.sub("", told, count=1)
    if not _FORMS[name].fullmatch(told):
        raise IdentifierError(f"what the document tells is no identifier of scheme {name}: nobody can be known by it")
    return told


def serial_identifier(issuer_key: bytes, serial: int) -> str:
    """Return what a person is known by where a document tells no identifier: the number of its certificate.

    Args:
        issuer_key: The certificate's authority key identifier: generations of an issuer share a name, and each numbers
            its certificates anew.
        serial: The certificate's serial number.
    """
    return f"SERIAL-{issuer_key.hex().upper()}-{serial:X}"


def load_person_key(path: Path) -> PersonKey:
    """Read a person key: 32 bytes, or 64 hexadecimal digits and a line's end.

    Raises:
        SecretError: It is missing, open to others, or something else.
    """
    content = read_secret(path.parent, path, 2 * KEY_BYTES + 2)
    key = content
    if len(content) != KEY_BYTES:
        found = _DIGITS.fullmatch(content)
        # Digit by digit, since `bytes.fromhex` would leave copies behind.
        key = bytearray(int(content[at : at + 2], 16) for at in range(0, 2 * KEY_BYTES, 2)) if found else bytearray()
        wipe(content)
    if not key:
        raise SecretError(f"{path}: a person key is {KEY_BYTES} bytes, or {2 * KEY_BYTES} hexadecimal digits")
    if len(set(key)) == 1:
        raise SecretError(f"{path}: the key is blank, one byte {KEY_BYTES} times: write the operator's key into it")
    return PersonKey(key)
