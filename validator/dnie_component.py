"""Judges the component certificate of a DNIe: which key its chip has to answer with, and who vouches for that.

The chip of each card has a key of its own beside those of its holder. File 601F certifies it, file 6020 its issuer, and
the component root of the Spanish police that issuer. They are X.509 certificates with RSA keys, all of 1024 bits as far
as published; the older ones are signed with SHA-1. Both are weaker than what else is accepted at a gate: a forger needs
a second preimage or a factored root, not a collision, since the police alone chooses what it signs.

The certificates name a chip, never a person. What the chip's answer is worth is told by `answered`.

Not known, for want of a public copy: which extensions these certificates carry. What is there has to fit (no authority
may be a card, no card an authority), and what is not there is not asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from hardware import cwa14890, tlv
from hardware.cwa14890 import Cwa14890Error
from validator.certificates import (
    HOSTILE,
    CertificateError,
    KeyUnsupportedError,
    credential_id,
    load_certificate,
    spki_of,
    validity,
)
from validator.model import Reason
from validator.proof import DnieComponent, Recovered

MAX_CERTIFICATE_BYTES = 4 * 1024
KEY_BITS = frozenset({1024, 2048})
"""Of a component key and of those above it."""

_SEQUENCE = 0x30
_HASHES = (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class Component:
    """A component key that a root vouches for, dates aside.

    Attributes:
        key: The chip's public key.
        spki: The same as SubjectPublicKeyInfo, DER: its credential id is `certificates.credential_id` of it.
        issuer_id: Id of the key that signed its certificate, 16 bytes.
        not_before: Seconds since 1970 UTC from which both certificates hold, inclusive.
        not_after: Seconds since 1970 UTC until which both hold, inclusive.
    """

    key: rsa.RSAPublicKey
    spki: bytes
    issuer_id: bytes
    not_before: int
    not_after: int


def judge(shown: DnieComponent, roots: Iterable[rsa.RSAPublicKey]) -> Component | Reason:
    """Find the chip's key, and who vouches for it.

    Args:
        shown: The two certificates.
        roots: Component roots that are accepted.

    Returns:
        The key, or the one reason why nobody vouches for it: `UNTRUSTED_ISSUER`, or `WRONG_KEY_USAGE` where a chain
        leads to a root but a certificate was made for something else.

    Raises:
        KeyUnsupportedError: A key, or the signature on a certificate, is of a kind that is not accepted.
        CertificateError: A certificate cannot be read.
    """
    certificate, issuer = _load(shown.certificate), _load(shown.issuer)
    key, issuer_key = _key(certificate), _key(issuer)
    if not _issued(certificate, issuer, issuer_key) or not any(_signed(issuer, root) for root in roots):
        return Reason.UNTRUSTED_ISSUER
    if not _may_issue(issuer) or not _is_card(certificate):
        return Reason.WRONG_KEY_USAGE
    windows = validity(certificate), validity(issuer)
    return Component(
        key=key,
        spki=spki_of(key),
        issuer_id=credential_id(spki_of(issuer_key)),
        not_before=max(first for first, _ in windows),
        not_after=min(last for _, last in windows),
    )


def answered(key: rsa.RSAPublicKey, evidence: Recovered) -> bool:
    """Tell whether the chip that holds this key answered our challenge.

    Args:
        key: From `judge`.
        evidence: What came of the challenge.
    """
    try:
        challenge = cwa14890.challenge_of(evidence.challenge)
        cwa14890.verify_answer(key.public_numbers(), challenge, evidence.serial, evidence.signature)
    except Cwa14890Error:
        return False
    return True


def root_units(issuer: bytes) -> tuple[str, ...]:
    """Return the organizational units of who issued the certificate in file 6020: they name the component root.

    Raises:
        CertificateError: The certificate cannot be read.
    """
    certificate = _load(issuer)
    try:
        found = certificate.issuer.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
    except HOSTILE as error:
        raise CertificateError(f"an issuer that cannot be read: {type(error).__name__}") from None
    return tuple(attribute.value for attribute in found if isinstance(attribute.value, str))


def chip_key(certificate: bytes) -> rsa.RSAPublicKey:
    """Return the key that a component certificate certifies, before anybody vouches for that.

    Args:
        certificate: File 601F.

    Raises:
        KeyUnsupportedError: The key is of a kind that no component has.
        CertificateError: The certificate cannot be read.
    """
    return _key(_load(certificate))


def _load(der: bytes) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise CertificateError(f"a certificate of {len(der)} bytes")
    certificate = load_certificate(der)
    # The one octet that no signature covers: it says how many bits of the signature are none.
    *_, signature = tlv.parse(tlv.parse_one(der, _SEQUENCE))
    if signature.value[:1] != b"\0":
        raise CertificateError("a certificate whose signature is not whole bytes")
    return certificate


def _key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    try:
        key = certificate.public_key()
    except HOSTILE as error:
        raise CertificateError(f"no usable public key: {type(error).__name__}") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in KEY_BITS:
        raise KeyUnsupportedError("a component with a key that is not RSA of 1024 or 2048 bits")
    return key


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, key: rsa.RSAPublicKey) -> bool:
    try:
        named = certificate.issuer == issuer.subject
    except HOSTILE as error:
        raise CertificateError(f"names that cannot be read: {type(error).__name__}") from None
    return named and _signed(certificate, key)


def _signed(certificate: x509.Certificate, key: rsa.RSAPublicKey) -> bool:
    try:
        digest = certificate.signature_hash_algorithm
        way = certificate.signature_algorithm_parameters
        signature, content = certificate.signature, certificate.tbs_certificate_bytes
    except HOSTILE:
        digest = way = None
        signature = content = b""
    if not isinstance(digest, _HASHES) or not isinstance(way, padding.PKCS1v15):
        raise KeyUnsupportedError("a component certificate whose signature is of a kind that is not accepted")
    try:
        key.verify(signature, content, way, digest)
    except (InvalidSignature, *HOSTILE):
        return False
    return True


def _may_issue(certificate: x509.Certificate) -> bool:
    constraints, usage = _extensions(certificate)
    return (constraints is None or constraints.ca) and (usage is None or usage.key_cert_sign)


def _is_card(certificate: x509.Certificate) -> bool:
    constraints, usage = _extensions(certificate)
    return (constraints is None or not constraints.ca) and (usage is None or not usage.key_cert_sign)


def _extensions(certificate: x509.Certificate) -> tuple[x509.BasicConstraints | None, x509.KeyUsage | None]:
    constraints: x509.BasicConstraints | None = None
    usage: x509.KeyUsage | None = None
    try:
        for extension in certificate.extensions:
            match extension.value:
                case x509.BasicConstraints():
                    constraints = extension.value
                case x509.KeyUsage():
                    usage = extension.value
                case _ if extension.critical:
                    raise CertificateError("a component certificate with a critical extension that is not known here")
    except HOSTILE as error:
        if isinstance(error, CertificateError):
            raise
        raise CertificateError(f"extensions that cannot be read: {type(error).__name__}") from None
    return constraints, usage
