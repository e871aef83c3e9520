"""What a card bureau must be sure of, and nobody else may read: keys, certificates, and CMS around both (RFC 5652).

What is secret travels as EnvelopedData for the bureau's RSA certificate; what says that it is whole and ours travels
as detached SignedData. ``openssl cms`` reads both. EnvelopedData alone notices no change of its octets: the bureau
verifies the signed manifest and the hashes in it first, and decrypts then.
"""

import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.algorithms import AES128, AES256
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    PKCS7EnvelopeBuilder,
    PKCS7Options,
    PKCS7SignatureBuilder,
)

from backend_sync.card_family import SHARED_KEY_SUFFIX, CardFamily
from backend_sync.enrolment_errors import EnrolmentError, EnrolmentInputMissing
from validator.certificates import HOSTILE, CertificateError, load_certificates
from validator.diversification import CONTEXT_MAX, context_of
from validator.secret_files import SecretError, read_secret

KEY_BYTES = 16
LEAST_RSA_BITS = 2048
LEAST_CURVE_BITS = 256
CHECK_VALUE_BYTES = 3

_KEY_FILE = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)+)\.(?P<version>[0-9]{1,3})=(?P<path>.+)", re.DOTALL)
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{32}")
_LAST_VERSION = 255
_PEM_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """A key from which the keys of single cards are derived (AN10922).

    Attributes:
        name: Names it, for example ``ntag424-application``.
        version: Which of that name, 0 to 255.
        octets: AES-128 key; it is in no message and in no ``repr``.
    """

    name: str
    version: int
    octets: bytes = field(repr=False)

    @property
    def check_value(self) -> str:
        """First three octets of the CMAC of a zero block (ANSI X9.24-1): tells keys apart and gives none away."""
        mac = CMAC(AES128(self.octets))
        mac.update(bytes(KEY_BYTES))
        return mac.finalize()[:CHECK_VALUE_BYTES].hex().upper()

    @property
    def context(self) -> bytes | None:
        """What enters into the derivation of a card's key beside its UID; None if all cards hold this very key."""
        return None if self.name.endswith(SHARED_KEY_SUFFIX) else context_of(self.name)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who answers for what is sent to a bureau.

    Attributes:
        certificate: Its certificate.
        chain: Certificates that lead from it to a root, as its file has them.
        key: Its private key.
    """

    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """Return a detached signature, DER."""
        builder = PKCS7SignatureBuilder().set_data(content).add_signer(self.certificate, self.key, hashes.SHA256())
        for certificate in self.chain:
            builder = builder.add_certificate(certificate)
        options = (PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities)
        return builder.sign(Encoding.DER, options)


@dataclass(frozen=True, slots=True)
class Bureau:
    """Who makes the cards, and alone can read what they are made from."""

    certificate: x509.Certificate

    def wrap(self, content: bytes) -> bytes:
        """Encrypt for the bureau, AES-256 under its RSA key; return DER."""
        builder = PKCS7EnvelopeBuilder().set_data(content).set_content_encryption_algorithm(AES256)
        return builder.add_recipient(self.certificate).encrypt(Encoding.DER, (PKCS7Options.Binary,))


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def load_bureau(path: Path, now: datetime) -> Bureau:
    """Load a bureau's certificate, PEM or DER.

    Args:
        path: Its file.
        now: With a time zone.

    Raises:
        EnrolmentInputMissing: The file cannot be read.
        EnrolmentError: It holds no certificate, or one that nothing may be encrypted for now.
    """
    certificate = _certificates(path, _read(path))[0]
    _in_force(path, certificate, now)
    key = _public_key(path, certificate)
    if not isinstance(key, rsa.RSAPublicKey) or not _is_strong(key):
        raise EnrolmentError(f"{path}: keys are wrapped for RSA of {LEAST_RSA_BITS} bits or more; ask for another")
    usage = _usage(path, certificate)
    if usage is not None and not usage.key_encipherment:
        raise EnrolmentError(f"{path}: this certificate is not for the encryption of keys; ask for another")
    return Bureau(certificate)


def load_signer(path: Path, now: datetime) -> Signer:
    """Load a private key and its certificate from one PEM file, as ``openssl cms -sign -signer`` takes it.

    Args:
        path: Its file; further certificates in it go along.
        now: With a time zone.

    Raises:
        EnrolmentInputMissing: The file cannot be read.
        EnrolmentError: Others may read it, or it does not hold a key and a certificate that may sign now.
    """
    content = bytes(_read_private(path, _PEM_BYTES))
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EnrolmentError(f"{path}: holds no unencrypted private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise EnrolmentError(f"{path}: CMS is signed with an elliptic curve or an RSA key here; make another")
    certificates = _certificates(path, content)
    mine = [one for one in certificates if _public_key(path, one) == key.public_key()]
    if not mine:
        raise EnrolmentError(f"{path}: none of its certificates is the key's")
    _in_force(path, mine[0], now)
    usage = _usage(path, mine[0])
    if usage is not None and not usage.digital_signature:
        raise EnrolmentError(f"{path}: its certificate is not for signatures")
    if not _is_strong(key.public_key()):
        raise EnrolmentError(f"{path}: an RSA key below {LEAST_RSA_BITS} bits, or a curve below {LEAST_CURVE_BITS}")
    return Signer(mine[0], tuple(one for one in certificates if one is not mine[0]), key)


def load_keys(told: Sequence[str], family: CardFamily) -> tuple[OperatorKey, ...]:
    """Load the operator keys that a bureau needs for a family; the one that a gate asks cards for comes first.

    Args:
        told: ``NAME.VERSION=PATH`` each. A file holds 16 octets, or 32 hexadecimal digits.
        family: The family.

    Raises:
        EnrolmentInputMissing: A file cannot be read.
        EnrolmentError: One is told wrongly, twice or of another family, others may read it, it holds something else,
            or the key that a gate asks for is not among them.
    """
    keys = {key.name: key for key in (_load_key(one, family) for one in told)}
    if len(keys) != len(told):
        raise EnrolmentError("--key-file: give each key once: all cards of a batch hold one version of it")
    if family.card_key not in keys:
        raise EnrolmentError(f"--key-file: no gate takes a {family.value} card without its key of {family.card_key}")
    first = keys.pop(family.card_key)
    return first, *keys.values()


def _load_key(told: str, family: CardFamily) -> OperatorKey:
    parts = _KEY_FILE.fullmatch(told)
    if parts is None or int(parts["version"]) > _LAST_VERSION or len(parts["name"]) > CONTEXT_MAX:
        raise EnrolmentError("--key-file: write NAME.VERSION=PATH, as in ntag424-application.2=/keys/application.key")
    name, path = parts["name"], Path(parts["path"])
    if not name.startswith(family.key_prefix):
        raise EnrolmentError(f"--key-file: {name} is no key of {family.value} cards; theirs begin {family.key_prefix}")
    content = _read_private(path, 2 * KEY_BYTES + 2)
    if len(content) != KEY_BYTES:
        digits = content.rstrip(b"\r\n")
        if not _HEXADECIMAL.fullmatch(digits):
            raise EnrolmentError(f"{path}: an AES-128 key is {KEY_BYTES} octets, or {2 * KEY_BYTES} hexadecimal digits")
        content = bytearray.fromhex(digits.decode())
    if len(set(content)) == 1:
        raise EnrolmentError(f"{path}: the key is blank, one octet {KEY_BYTES} times: give the operator's key")
    return OperatorKey(name, int(parts["version"]), bytes(content))


def _read_private(path: Path, longest: int) -> bytearray:
    if not path.exists():
        raise EnrolmentInputMissing(f"{path}: {os.strerror(errno.ENOENT)}")
    try:
        return read_secret(path.resolve().parent, path, longest)
    except SecretError as error:
        raise EnrolmentError(str(error)) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnrolmentInputMissing(f"{path}: {error.strerror or error}") from None


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return load_certificates(content)
    except CertificateError as error:
        raise EnrolmentError(f"{path}: {error}") from None


def _public_key(path: Path, certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except HOSTILE:
        raise EnrolmentError(f"{path}: a certificate whose key is of an unknown kind") from None


def _is_strong(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bool:
    return key.key_size >= (LEAST_RSA_BITS if isinstance(key, rsa.RSAPublicKey) else LEAST_CURVE_BITS)


def _in_force(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise EnrolmentError(
            f"{path}: valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, and not now; bring a certificate in force"
        )


def _usage(path: Path, certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except HOSTILE:
        raise EnrolmentError(f"{path}: a certificate whose extensions cannot be read") from None
