"""Certificates of Japan's public personal authentication service (JPKI): who issued one, and what it names a card by.

Above a card's certificate there is one authority and nothing else. Its generations (2015, 2019, 2023, …) share one
distinguished name, each with a key of its own, so that the name says nothing: the authority key identifier picks one,
and its signature settles it. Certificates of JPKI carry critical certificate policies, which the general search for
chains (`validator.chains`) does not account for; here they are read.

A card is named by its key: the digest of the SubjectPublicKeyInfo. The serial number is kept as text for people and for
nothing else: it changes with each renewal as the key does, and whether a carrier may store it is a question of law.
Whether a certificate was revoked is told only to operators that the ministers accredited; nobody else can know.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from validator.certificates import (
    HOSTILE,
    CertificateError,
    KeyUnsupportedError,
    certificate_key,
    credential_id,
    key_algorithm,
    load_certificate,
    spki_of,
    validity,
)
from validator.chains import Chain, UntrustedIssuerError, WrongKeyUsageError
from validator.model import KeyAlgorithm

SIGNATURE_POLICIES = "1.2.392.200149.8.5.1.1."
"""Policies of certificates for signatures, which name their holder; those for user authentication are below .3."""

_HONOURED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,  # a directory that only accredited operators reach
    }
)


@dataclass(frozen=True, slots=True)
class JpkiCertificate:
    """What is read of a card's certificate.

    Attributes:
        spki: Its key, SubjectPublicKeyInfo in DER: what identifies the card.
        serial: Its serial number in hexadecimal, for people.
        authority: Identifier of the key that signed it.
        not_before: Seconds since 1970 UTC, inclusive.
        not_after: Seconds since 1970 UTC, inclusive.
    """

    spki: bytes
    serial: str
    authority: bytes
    not_before: int
    not_after: int

    @property
    def credential_id(self) -> bytes:
        """What tickets are sold for, 16 bytes."""
        return credential_id(self.spki)


def read(der: bytes) -> JpkiCertificate:
    """Read a card's certificate. Nothing is verified.

    Raises:
        KeyUnsupportedError: Its key is not RSA-2048.
        CertificateError: It cannot be read, or does not say which key signed it.
    """
    certificate = load_certificate(der)
    key = certificate_key(certificate)
    if key_algorithm(key) is not KeyAlgorithm.RSA2048:
        raise KeyUnsupportedError("a JPKI certificate for a key that is not RSA-2048")
    authority = _authority_key(certificate)
    if authority is None:
        raise CertificateError("a certificate that does not say which key signed it")
    return JpkiCertificate(spki_of(key), f"{_serial(certificate):X}", authority, *validity(certificate))


class JpkiIssuers:
    """The authorities of JPKI that are trusted, of all generations; asked as `chains.Issuers` is.

    Raises:
        CertificateError: The certificate of an authority cannot be read.
    """

    def __init__(self, authorities: Iterable[x509.Certificate]) -> None:
        """Take authorities.

        Args:
            authorities: Trusted by themselves. One that may not issue certificates, or that carries a critical
                extension which is not honoured here, leads nowhere.
        """
        self._by_key: dict[bytes, list[_Authority]] = {}
        for certificate in authorities:
            identifier = _own_key(certificate)
            if identifier is not None and _may_issue(certificate):
                self._by_key.setdefault(identifier, []).append(_Authority(certificate, *validity(certificate)))

    def chain(self, certificate: x509.Certificate, at_s: int) -> Chain:
        """Find the authority that issued a card's certificate.

        Args:
            certificate: The card's certificate.
            at_s: Now, seconds since 1970 UTC: of two certificates of one authority, that which is valid is taken.

        Returns:
            What vouches for it. Dates are the caller's to judge.

        Raises:
            CertificateError: The certificate cannot be read.
            UntrustedIssuerError: None of the authorities issued it.
            WrongKeyUsageError: One of them did, but not for user authentication.
        """
        named = self._by_key.get(_authority_key(certificate) or b"", [])
        in_order = sorted(named, key=lambda each: not each.not_before <= at_s <= each.not_after)
        issuer = next((each for each in in_order if _issued(certificate, each.certificate)), None)
        if issuer is None or not _all_honoured(certificate):
            raise UntrustedIssuerError
        if not _for_authentication(certificate):
            raise WrongKeyUsageError
        first, last = validity(certificate)
        signer = credential_id(spki_of(certificate_key(issuer.certificate)))
        return Chain(signer, max(first, issuer.not_before), min(last, issuer.not_after))


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    not_before: int
    not_after: int


def _extensions(certificate: x509.Certificate) -> x509.Extensions:
    try:
        return certificate.extensions
    except HOSTILE as error:
        raise CertificateError(f"extensions that cannot be read: {type(error).__name__}") from None


def _authority_key(certificate: x509.Certificate) -> bytes | None:
    try:
        extension = _extensions(certificate).get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return extension.value.key_identifier


def _own_key(authority: x509.Certificate) -> bytes | None:
    try:
        return _extensions(authority).get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _serial(certificate: x509.Certificate) -> int:
    try:
        return certificate.serial_number
    except HOSTILE as error:
        raise CertificateError(f"no usable serial number: {type(error).__name__}") from None


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *HOSTILE):
        return False
    return True


def _may_issue(authority: x509.Certificate) -> bool:
    extensions = _extensions(authority)
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign and _all_honoured(authority)


def _all_honoured(certificate: x509.Certificate) -> bool:
    return all(each.oid in _HONOURED for each in _extensions(certificate) if each.critical)


def _for_authentication(certificate: x509.Certificate) -> bool:
    """Whether it may sign a challenge and is neither an authority's nor one for signatures, which promise more."""
    by_type = {type(each.value): each.value for each in _extensions(certificate)}
    usage, purposes = by_type.get(x509.KeyUsage), by_type.get(x509.ExtendedKeyUsage)
    constraints, policies = by_type.get(x509.BasicConstraints), by_type.get(x509.CertificatePolicies)
    return (
        isinstance(usage, x509.KeyUsage)
        and usage.digital_signature
        and not usage.content_commitment
        and not (isinstance(purposes, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes)
        and not (isinstance(constraints, x509.BasicConstraints) and constraints.ca)
        and not (
            isinstance(policies, x509.CertificatePolicies)
            and any(each.policy_identifier.dotted_string.startswith(SIGNATURE_POLICIES) for each in policies)
        )
    )
