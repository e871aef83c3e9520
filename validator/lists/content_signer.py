"""Content signers: whose keys sign the certificates of PIV secure messaging (SP 800-73-5 pt2 §4.1.5).

A card names its signer by the first 8 bytes of the subject key identifier of the signer's X.509 certificate.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from validator.certificates import HOSTILE, CertificateError, certificate_key, validity
from validator.chains import extension_not_honoured

ID_PIV_CONTENT_SIGNING = ObjectIdentifier("2.16.840.1.101.3.6.7")
"""id-PIV-content-signing: the purpose of such a certificate (FIPS 201-3 §4.2.1)."""
IDENTIFIER_BYTES = 8

_Curve = ec.SECP256R1 | ec.SECP384R1


class SignerError(Exception):
    """A certificate is no content signer's; the message says why."""


@dataclass(frozen=True, slots=True)
class ContentSigner:
    """A content signer.

    Attributes:
        name: Its subject.
        identifier: The first 8 bytes of its subject key identifier.
        key: Its key, P-256 or P-384.
        not_before: Seconds since 1970 UTC from which its certificate is valid, inclusive.
        not_after: Seconds since 1970 UTC until which it is valid, inclusive.
    """

    name: str
    identifier: bytes
    key: ec.EllipticCurvePublicKey
    not_before: int
    not_after: int


def is_content_signer(certificate: x509.Certificate) -> bool:
    """Whether a certificate says that it is for PIV content signing; `read_signer` says whether it can be used."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, *HOSTILE):
        return False
    return ID_PIV_CONTENT_SIGNING in usage.value


def read_signer(certificate: x509.Certificate) -> ContentSigner:
    """Read a content signer's certificate.

    Raises:
        SignerError: It is not for content signing, its key is of another kind, or it restricts its use in a way that
            is not honoured here.
    """
    try:
        name = certificate.subject.rfc4514_string()
        key, dates = certificate_key(certificate), validity(certificate)
        extensions = certificate.extensions
        not_honoured = extension_not_honoured(certificate)
    except CertificateError as error:
        raise SignerError(str(error)) from None
    except HOSTILE as error:
        raise SignerError(f"a certificate that cannot be read: {type(error).__name__}") from None
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _Curve)):
        raise SignerError(f"{name} has no P-256 or P-384 key: no certificate of secure messaging is signed otherwise")
    if not is_content_signer(certificate):
        raise SignerError(f"{name} is not for PIV content signing ({ID_PIV_CONTENT_SIGNING.dotted_string})")
    if not_honoured is not None:
        raise SignerError(f"{name} has {not_honoured}, which is not honoured here: none of its cards would pass")
    if dates[1] < dates[0]:
        raise SignerError(f"{name} is never valid: notAfter is before notBefore")
    return ContentSigner(name, _identifier(name, extensions), key, *dates)


def _identifier(name: str, extensions: x509.Extensions) -> bytes:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        raise SignerError(f"{name} has no key usage or no subject key identifier") from None
    if not usage.digital_signature:
        raise SignerError(f"{name} may not sign: its key usage has no digitalSignature")
    if usage.key_cert_sign or _is_authority(extensions):
        raise SignerError(f"{name} is a certificate authority, and no content signer")
    if len(identifier) < IDENTIFIER_BYTES:
        raise SignerError(
            f"{name} has a subject key identifier of {len(identifier)} bytes, {IDENTIFIER_BYTES} are needed"
        )
    return identifier[:IDENTIFIER_BYTES]


def _is_authority(extensions: x509.Extensions) -> bool:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
