"""The card authentication key of a virtual PIV card: what the chip computes, and how the key is read from files."""

import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key, pkcs12

from hardware.virtual.timing import KeyType

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

#: Algorithm identifiers of SP 800-78-5, table 9.
ALGORITHM = {KeyType.RSA_3072: 0x05, KeyType.RSA_2048: 0x07, KeyType.P_256: 0x11, KeyType.P_384: 0x14}

_CURVES: dict[str, tuple[KeyType, hashes.HashAlgorithm]] = {
    "secp256r1": (KeyType.P_256, hashes.SHA256()),
    "secp384r1": (KeyType.P_384, hashes.SHA384()),
}
_MODULI = {2048: KeyType.RSA_2048, 3072: KeyType.RSA_3072}
#: A block of type 1 (RFC 8017 §9.2): 00 01, at least eight times FF, 00, and what is signed.
_PKCS1_V15 = re.compile(rb"\x00\x01\xff{8,}?\x00(.*)", re.DOTALL)


class CardFileError(ValueError):
    """A key or certificate file cannot make a card; the message names the file."""


class ChallengeRefused(ValueError):  # noqa: N818 - names the card's answer
    """The challenge has not the size or range that the key can sign."""


@dataclass(frozen=True, slots=True)
class CardKey:
    """One private key and what a PIV chip does with it.

    Attributes:
        key: The private key.
        kind: Its type.
    """

    key: PrivateKey
    kind: KeyType

    @classmethod
    def of(cls, key: PrivateKeyTypes) -> "CardKey":
        """Take a key that PIV knows for card authentication (SP 800-78-5, table 9).

        Raises:
            CardFileError: It is neither P-256, P-384, RSA-2048 nor RSA-3072.
        """
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
            return cls(key, _CURVES[key.curve.name][0])
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size in _MODULI:
            return cls(key, _MODULI[key.key_size])
        size = getattr(key, "key_size", None)
        what = type(key).__name__ + (f" of {size} bits" if size else "")
        raise CardFileError(f"a PIV card cannot hold {what}: make a P-256, P-384, RSA-2048 or RSA-3072 key")

    @property
    def algorithm(self) -> int:
        """The algorithm identifier, P1 of GENERAL AUTHENTICATE."""
        return ALGORITHM[self.kind]

    def sign(self, challenge: bytes) -> bytes:
        """Sign as the chip does: RSASP1 over a padded block, or ECDSA over a digest.

        Args:
            challenge: 256 or 384 bytes for RSA, 32 or 48 bytes for the curves.

        Returns:
            The signature: as long as the modulus, or a DER ``ECDSA-Sig-Value``.

        Raises:
            ChallengeRefused: The length is another, or the block is not below the modulus.
        """
        if isinstance(self.key, rsa.RSAPrivateKey):
            return _rsasp1(self.key, challenge)
        digest = _CURVES[self.key.curve.name][1]
        if len(challenge) != digest.digest_size:
            raise ChallengeRefused(f"{len(challenge)} bytes are no {digest.name} digest")
        return self.key.sign(challenge, ec.ECDSA(utils.Prehashed(digest)))


def read_pkcs12(path: Path, password: bytes | None) -> tuple[PrivateKeyTypes, bytes]:
    """Read a private key and its certificate from a PKCS#12 file.

    Returns:
        The key, and the certificate in DER.

    Raises:
        CardFileError: The file cannot be read, the password is wrong, or key or certificate are missing.
    """
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(_read(path), password)
    except ValueError as error:
        raise CardFileError(f"{path}: not a PKCS#12 file, or the password is wrong ({error})") from error
    if key is None or certificate is None:
        raise CardFileError(f"{path}: holds no private key with its certificate")
    return key, certificate.public_bytes(Encoding.DER)


def read_key(path: Path, password: bytes | None = None) -> PrivateKeyTypes:
    """Read a private key, PEM or DER.

    Raises:
        CardFileError: The file cannot be read, is no private key, or the password is missing or wrong.
    """
    content = _read(path)
    load = load_pem_private_key if b"-----BEGIN" in content else load_der_private_key
    try:
        return load(content, password)
    except (ValueError, TypeError) as error:  # TypeError: a password is missing, or given for a clear file
        raise CardFileError(f"{path}: no private key could be read ({error})") from error


def read_certificate(path: Path) -> bytes:
    """Read a certificate, PEM or DER, and return it in DER.

    Raises:
        CardFileError: The file cannot be read or is no certificate.
    """
    content = _read(path)
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in content else x509.load_der_x509_certificate
    try:
        return load(content).public_bytes(Encoding.DER)
    except ValueError as error:
        raise CardFileError(f"{path}: no certificate could be read ({error})") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CardFileError(f"{path}: {error.strerror}") from error


def _rsasp1(key: rsa.RSAPrivateKey, block: bytes) -> bytes:
    """RFC 8017 §5.2.1. The library signs only what it padded itself, which is what a terminal usually sends."""
    numbers = key.private_numbers()
    size = key.key_size // 8
    message = int.from_bytes(block)
    if len(block) != size or message >= numbers.public_numbers.n:
        raise ChallengeRefused(f"{len(block)} bytes are no block below a modulus of {size} bytes")
    if (usual := _PKCS1_V15.fullmatch(block)) is not None:
        return key.sign(usual.group(1), padding.PKCS1v15(), utils.NoDigestInfo())
    # Any other block, PSS for one: by the Chinese remainder theorem, twenty times slower than the library.
    by_p = pow(message % numbers.p, numbers.dmp1, numbers.p)
    by_q = pow(message % numbers.q, numbers.dmq1, numbers.q)
    return (by_q + numbers.q * ((by_p - by_q) * numbers.iqmp % numbers.p)).to_bytes(size)
