"""ISO/IEC 9796-2 digital signature scheme 1 with partial recovery: RSA signatures that carry a part of their message.

Two protocols of identity cards use it, in both roles here: the authentication of CWA 14890-1 (§8, with SHA-1), and the
Active Authentication of travel documents (Doc 9303-11 §6.1). What is signed is, as one number::

    6A || M1 || hash(M1 || M2) || trailer

M1 fills the block and comes out of the signature; M2 is what does not fit, and travels beside it or is known already.
The trailer ``BC`` says that the hash is agreed on (SHA-1 here); ``xx CC`` names it (ISO/IEC 10118-3 identifiers).

A power and its negative are told apart by the trailer, so that a signer may hand out the smaller one of s and n - s
(``SIGMIN`` in CWA 14890-1, whose certificates have s itself). Other paddings and other headers are refused: a block of
scheme 1 that cuts its message has no freedom left.
"""

import hashlib
import hmac
from dataclasses import dataclass
from enum import Enum, unique

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

HEADER = b"\x6a"
"""Binary 01, one for "the message is cut", and no padding: what is left over is always whole bytes."""

MIN_BITS, MAX_BITS = 1024, 4096
_MAX_EXPONENT = 1 << 32
_TRAILING_NIBBLE = 12


class Iso9796Error(ValueError):
    """The signature, the key or the message is none of this scheme, or the signature does not hold."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """A trailer field and the hash that it stands for.

    Attributes:
        octets: As they end the block.
        digest: Its name in hashlib.
    """

    octets: bytes
    digest: str

    @property
    def digest_bytes(self) -> int:
        """Length of the hash."""
        return hashlib.new(self.digest, usedforsecurity=False).digest_size

    def hash(self, message: bytes) -> bytes:
        """Hash a message."""
        return hashlib.new(self.digest, message, usedforsecurity=False).digest()


SHA1_AGREED = Trailer(b"\xbc", "sha1")
"""Trailer of option 1: CWA 14890-1, and travel documents that sign with SHA-1."""

NAMED = (
    Trailer(b"\x33\xcc", "sha1"),
    Trailer(b"\x34\xcc", "sha256"),
    Trailer(b"\x35\xcc", "sha512"),
    Trailer(b"\x36\xcc", "sha384"),
    Trailer(b"\x38\xcc", "sha224"),
)
"""Trailers of option 2: travel documents (Doc 9303-11 §6.1.2.1)."""


@unique
class Production(Enum):
    """What a signer hands out of s and n - s."""

    PLAIN = "s itself"
    SMALLER = "min(s, n - s)"


def capacity(modulus_bytes: int, trailer: Trailer = SHA1_AGREED) -> int:
    """Return the length of M1: how many bytes of a message one signature carries.

    Args:
        modulus_bytes: Length of the modulus.
        trailer: The trailer in use.
    """
    return modulus_bytes - len(HEADER) - trailer.digest_bytes - len(trailer.octets)


def sign(
    modulus: int,
    exponent: int,
    message: bytes,
    *,
    trailer: Trailer = SHA1_AGREED,
    production: Production = Production.PLAIN,
) -> bytes:
    """Sign a message, as a card does.

    Args:
        modulus: n.
        exponent: The private exponent d.
        message: M1 || M2, longer than `capacity`.
        trailer: The trailer in use.
        production: What is handed out.

    Returns:
        The signature, as long as the modulus.

    Raises:
        Iso9796Error: The message is too short to be cut, or the modulus is not one of this scheme.
    """
    size = _modulus_bytes(modulus)
    cut = capacity(size, trailer)
    if len(message) <= cut:
        raise Iso9796Error(f"a message of {len(message)} bytes fits whole: nothing is left to recover it by")
    block = HEADER + message[:cut] + trailer.hash(message) + trailer.octets
    signature = pow(int.from_bytes(block), exponent, modulus)
    if production is Production.SMALLER:
        signature = min(signature, modulus - signature)
    return signature.to_bytes(size)


def recover(
    key: RSAPublicNumbers,
    signature: bytes,
    rest: bytes,
    *,
    trailers: tuple[Trailer, ...] = (SHA1_AGREED,),
    production: Production = Production.PLAIN,
) -> bytes:
    """Verify a signature, and return the part of the message that it carries.

    Args:
        key: The signer's public key.
        signature: As long as the modulus.
        rest: M2, at least one byte.
        trailers: Those that are accepted.
        production: What the signer has to hand out; the larger of the two numbers is then refused.

    Returns:
        M1, `capacity` bytes.

    Raises:
        Iso9796Error: It does not hold, or something in it is not of this scheme. What was wrong is not told apart
            further: nobody but a debugger would need it.
    """
    size = _modulus_bytes(key.n)
    if not key.e & 1 or not 1 < key.e < _MAX_EXPONENT:
        raise Iso9796Error("a public exponent that no signer has")
    number = int.from_bytes(signature)
    if len(signature) != size or not 0 < number < key.n:
        raise Iso9796Error(f"{len(signature)} bytes are no signature of this key")
    if production is Production.SMALLER and number > key.n - number:
        raise Iso9796Error("the larger one of the two numbers")
    if not rest:
        raise Iso9796Error("a message that is not cut")
    block = _opened(pow(number, key.e, key.n), key.n, production).to_bytes(size)
    for trailer in trailers:
        if block.startswith(HEADER) and block.endswith(trailer.octets):
            end = size - len(trailer.octets)
            start = end - trailer.digest_bytes
            message = block[len(HEADER) : start]
            if hmac.compare_digest(trailer.hash(message + rest), block[start:end]):
                return message
    raise Iso9796Error("the signature does not hold")


def _opened(power: int, modulus: int, production: Production) -> int:
    """Undo the choice between s and n - s: the trailer's last four bits say which power is the block."""
    if production is Production.SMALLER and power % 16 != _TRAILING_NIBBLE:
        return modulus - power
    return power


def _modulus_bytes(modulus: int) -> int:
    bits = modulus.bit_length()
    if not modulus & 1 or bits % 8 or not MIN_BITS <= bits <= MAX_BITS:
        raise Iso9796Error(f"a modulus of {bits} bits is none of this scheme")
    return bits // 8
