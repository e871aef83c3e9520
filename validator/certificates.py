"""X.509 certificates and public keys as a gate needs them: hostile bytes in, a typed answer or one error out."""

import datetime as dt
import hashlib
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from validator.model import CREDENTIAL_ID_BYTES, KeyAlgorithm

MAX_LOADED_KEYS = 1024
"""Loaded keys kept for the next tap. One is about 2 KiB of native memory and saves some 10 µs."""

CardKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

HOSTILE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)
"""Everything that cryptography raises on bytes that somebody made to be raised on. Its warnings, of what is deprecated
and of names longer than X.520 allows, are among them because a process may run with warnings as errors, and what is
merely tolerated is no certificate for a gate."""


class CertificateError(ValueError):
    """The bytes are not a certificate, or not a public key, that can be worked with."""


class KeyUnsupportedError(CertificateError):
    """A well-formed key of a kind, curve or size that SP 800-78-5 table 10 does not allow."""


def load_certificate(der: bytes) -> x509.Certificate:
    """Parse one DER certificate; nothing may follow it.

    Raises:
        CertificateError: It cannot be parsed.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except HOSTILE as error:
        raise CertificateError(f"not a certificate: {type(error).__name__}") from None


def load_certificates(content: bytes) -> list[x509.Certificate]:
    """Parse what a file of certificates holds: one in DER, or any number in PEM.

    Raises:
        CertificateError: Neither.
    """
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except HOSTILE:
        raise CertificateError("holds no certificate in PEM or DER form") from None


def certificate_key(certificate: x509.Certificate) -> CardKey:
    """Return the public key that a certificate certifies.

    Raises:
        KeyUnsupportedError: Its kind, curve or size is none that a card may have.
        CertificateError: It cannot be parsed, or is no point on its curve.
    """
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        raise KeyUnsupportedError("a key of an unknown kind or curve") from None
    except HOSTILE as error:
        raise CertificateError(f"no usable public key: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise KeyUnsupportedError(f"a key of kind {type(key).__name__}")
    return key


@lru_cache(maxsize=MAX_LOADED_KEYS)
def load_key(spki: bytes) -> CardKey:
    """Load a SubjectPublicKeyInfo in DER; the most recent keys stay loaded.

    Raises:
        CertificateError: It cannot be parsed, or is of a kind that a card may not have.
    """
    try:
        key = load_der_public_key(spki)
    except HOSTILE as error:
        raise CertificateError(f"not a public key: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise KeyUnsupportedError(f"a key of kind {type(key).__name__}")
    return key


def key_algorithm(key: CardKey) -> KeyAlgorithm:
    """Name a card's key (SP 800-78-5, table 10).

    Raises:
        KeyUnsupportedError: Another curve or size.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return KeyAlgorithm.P256
        if isinstance(key.curve, ec.SECP384R1):
            return KeyAlgorithm.P384
        raise KeyUnsupportedError(f"a key on curve {key.curve.name}")
    if key.key_size == 2048:
        return KeyAlgorithm.RSA2048
    if key.key_size == 3072:
        return KeyAlgorithm.RSA3072
    raise KeyUnsupportedError(f"an RSA key of {key.key_size} bits")


def spki_of(key: CardKey) -> bytes:
    """Return the SubjectPublicKeyInfo of a key, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def credential_id(spki: bytes) -> bytes:
    """Return the credential's id: the first 16 bytes of the SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(spki).digest()[:CREDENTIAL_ID_BYTES]


def token_id(family: str, token: bytes) -> bytes:
    """Return what stands for a token where it must not be known: a hash of it and its family's name, 16 bytes."""
    name = family.encode()
    return credential_id(len(name).to_bytes(1) + name + token)


def card_credential_id(token: bytes, uid: bytes) -> bytes:
    """Return the id of a credential without a public key: of its token and the chip that it was put on, 16 bytes.

    A token crosses the air; a chip's key is proved for its UID. Bound together, a token on another chip is another
    credential, which nobody sold anything.

    Args:
        token: Its `token_id`.
        uid: The true UID that the card's key was proved for.
    """
    return credential_id(token + uid)


def validity(certificate: x509.Certificate) -> tuple[int, int]:
    """Return notBefore and notAfter in seconds since 1970 UTC, both inclusive (RFC 5280 §4.1.2.5).

    Raises:
        CertificateError: A date cannot be read.
    """
    try:
        return _seconds(certificate.not_valid_before_utc), _seconds(certificate.not_valid_after_utc)
    except HOSTILE as error:
        raise CertificateError(f"no usable dates: {type(error).__name__}") from None


def _seconds(moment: dt.datetime) -> int:
    return int(moment.timestamp())
