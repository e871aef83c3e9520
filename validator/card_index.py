"""The number that an issuer gives each of its cards, 0, 1, 2 ..., inside the 16 octets that name the card anyway.

A dense number makes lists over a nation's cards as small as they can be (`validator.lists`), and it has to be signed
with the card. Every family has a name of 16 octets under its issuer's signature or key: the card UUID of PIV (FIPS
201-3 §3.4.1) in the certificate's alternative name and in the card-verifiable certificate's subject, the subject
reference of PKOC, the token of the operator's own cards. Such a name is a UUID of version 8 (RFC 9562 §5.8)::

    octet   0-1   2-5     6           7       8            9-11    12-15
            "Pi"  random  8 | random  random  10 | random  random  number, big-endian

74 bits of it are random, so that a token stays what nobody can guess. Of 4 million names that are no such UUID one
looks like it; a number is asked about only where its issuer numbers its cards.
"""

import uuid
from typing import Final

from cryptography import x509

from validator.certificates import HOSTILE, credential_id

NAME_BYTES: Final = 16
MAX_INDEX: Final = 2**32 - 1
_MARK: Final = b"Pi"
_INDEX_BYTES: Final = 4
_VERSION: Final = 0x80
_VARIANT: Final = 0x80

TOKENS: Final = credential_id(b"pilet tokens")
"""Stands for the issuer of tokens: an operator's ledger numbers them all, whatever their family."""


def card_name(index: int, random: bytes) -> bytes:
    """Name a card.

    Args:
        index: Its number, 0 to 2**32 - 1.
        random: 16 random octets; 74 bits of them are kept.

    Raises:
        ValueError: There is no such number, or not so many octets.
    """
    if not 0 <= index <= MAX_INDEX:
        raise ValueError(f"card number {index} is not one of 32 bits")
    if len(random) != NAME_BYTES:
        raise ValueError(f"{len(random)} random octets, {NAME_BYTES} are wanted")
    name = bytearray(random)
    name[: len(_MARK)] = _MARK
    name[6] = _VERSION | name[6] & 0x0F
    name[8] = _VARIANT | name[8] & 0x3F
    name[-_INDEX_BYTES:] = index.to_bytes(_INDEX_BYTES)
    return bytes(name)


def index_of(name: bytes) -> int | None:
    """Return the number in a card's name, or None where the name has none."""
    if len(name) != NAME_BYTES or not name.startswith(_MARK):
        return None
    if name[6] & 0xF0 != _VERSION or name[8] & 0xC0 != _VARIANT:
        return None
    return int.from_bytes(name[-_INDEX_BYTES:])


def index_in(certificate: x509.Certificate) -> int | None:
    """Return the number in a certificate's card UUID (FIPS 201-3 §4.2.2: a URN in the alternative name), or None."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        urns = [urn for urn in names.get_values_for_type(x509.UniformResourceIdentifier) if urn.startswith("urn:uuid:")]
        return index_of(uuid.UUID(urns[0]).bytes) if len(urns) == 1 else None
    except (x509.ExtensionNotFound, *HOSTILE):
        return None
