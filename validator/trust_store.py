"""Issuers that a gate accepts, parsed once per trust list, and the chain from a card's certificate to one of them.

Path building and the checks of RFC 5280 §6 are cryptography's; the rules of its web defaults that do not fit a card
(host names, TLS usages, identifiers that a 300-byte certificate leaves out) are replaced by those stated here.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from validator.certificates import HOSTILE, certificate_key, credential_id, spki_of, validity

ID_PIV_CARD_AUTH = ObjectIdentifier("2.16.840.1.101.3.6.8")
"""id-PIV-cardAuth: the one purpose of a card authentication certificate (FIPS 201-3 §4.2.1, critical)."""

MAX_CHAIN_DEPTH = 4
"""Certificates between a card's and the anchor, at most."""


class UntrustedIssuerError(Exception):
    """No chain leads from the certificate to an anchor."""


class WrongKeyUsageError(Exception):
    """A chain leads to an anchor, but the certificate was not issued for card authentication."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that holds, dates aside.

    Attributes:
        issuer_id: Id of the key that signed the card's certificate: SHA-256 of its SubjectPublicKeyInfo, 16 bytes.
        not_before: Seconds since 1970 UTC from which every certificate of the chain is valid, inclusive.
        not_after: Seconds since 1970 UTC until which every certificate of the chain is valid, inclusive.
    """

    issuer_id: bytes
    not_before: int
    not_after: int


class TrustStore:
    """The anchors and intermediates of one trust list.

    Attributes:
        version: Version of the trust list.

    Raises:
        ValueError: There is no anchor.
        CertificateError: The dates of a certificate cannot be read.
    """

    def __init__(
        self, version: int, anchors: Iterable[x509.Certificate], intermediates: Iterable[x509.Certificate] = ()
    ) -> None:
        anchor_list = list(anchors)
        self.version = version
        self._intermediates = list(intermediates)
        builder = PolicyBuilder().store(Store(anchor_list)).max_chain_depth(MAX_CHAIN_DEPTH)
        self._strict = builder.extension_policies(ca_policy=_issuer_policy(), ee_policy=_card_policy())
        self._any_usage = builder.extension_policies(ca_policy=_issuer_policy(), ee_policy=_unused_policy())
        self._issuers = [_Issuer.of(certificate) for certificate in (*anchor_list, *self._intermediates)]

    def chain(self, certificate: x509.Certificate, at_s: int) -> Chain:
        """Find the chain from a card's certificate to an anchor.

        Dates are the caller's to judge, on the `Chain` that comes back: the chain is built for a moment when all of its
        certificates are valid, at `at_s` if that is such a moment.

        Args:
            certificate: The card's certificate.
            at_s: Now, seconds since 1970 UTC.

        Raises:
            CertificateError: The certificate's dates cannot be read.
            UntrustedIssuerError: There is no chain.
            WrongKeyUsageError: There is one, but not for card authentication.
        """
        first, last = validity(certificate)
        preferred = min(max(at_s, first), last)
        for moment in (preferred, *self._other_moments(certificate, preferred, first, last)):
            found = _verify(self._strict, certificate, self._intermediates, moment)
            if found is not None:
                return _chain_of(found)
            if _verify(self._any_usage, certificate, self._intermediates, moment) is not None:
                raise WrongKeyUsageError
        raise UntrustedIssuerError

    def _other_moments(self, certificate: x509.Certificate, preferred: int, first: int, last: int) -> list[int]:
        """Moments worth a try when an issuer is out of date at the preferred one.

        A set of certificates has a moment when all are valid if, and only if, all are valid at the latest of their
        notBefores. With no issuer out of date there is nothing to try, so that a stranger's card costs one attempt.
        """
        if not any(issuer.names(certificate) for issuer in self._issuers):
            return []
        if all(issuer.not_before <= preferred <= issuer.not_after for issuer in self._issuers):
            return []
        starts = {max(first, issuer.not_before) for issuer in self._issuers}
        return sorted(start for start in starts if start <= last and start != preferred)


@dataclass(frozen=True, slots=True)
class _Issuer:
    subject: bytes
    not_before: int
    not_after: int

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        return cls(certificate.subject.public_bytes(), *validity(certificate))

    def names(self, certificate: x509.Certificate) -> bool:
        try:
            return certificate.issuer.public_bytes() == self.subject
        except HOSTILE:
            return False


def _verify(
    policy: PolicyBuilder, certificate: x509.Certificate, intermediates: list[x509.Certificate], moment: int
) -> list[x509.Certificate] | None:
    # naive UTC is what PolicyBuilder.time takes
    try:
        when = dt.datetime.fromtimestamp(moment, dt.UTC).replace(tzinfo=None)
        return policy.time(when).build_client_verifier().verify(certificate, intermediates).chain
    except (VerificationError, OSError, *HOSTILE):
        return None


def _chain_of(certificates: list[x509.Certificate]) -> Chain:
    windows = [validity(certificate) for certificate in certificates]
    issuer = certificates[min(1, len(certificates) - 1)]
    return Chain(
        issuer_id=credential_id(spki_of(certificate_key(issuer))),
        not_before=max(first for first, _ in windows),
        not_after=min(last for _, last in windows),
    )


def _issuer_policy() -> ExtensionPolicy:
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.CRITICAL, _is_authority)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_issue_cards)
    )


def _card_policy() -> ExtensionPolicy:
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.ExtendedKeyUsage, Criticality.CRITICAL, _is_for_cards)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_no_authority)
    )


def _unused_policy() -> ExtensionPolicy:
    """Any usage: tells a certificate of a trusted issuer for another purpose from a stranger's."""
    return ExtensionPolicy.permit_all()


def _is_authority(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("not a certificate authority")


def _may_sign_certificates(_policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage) -> None:
    if not extension.key_cert_sign:
        raise ValueError("may not sign certificates")


def _may_issue_cards(_policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage | None) -> None:
    allowed = {ID_PIV_CARD_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if extension is not None and allowed.isdisjoint(extension):
        raise ValueError("may not issue card authentication certificates")


def _is_for_cards(_policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage) -> None:
    if ID_PIV_CARD_AUTH not in extension:
        raise ValueError("not for card authentication")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage) -> None:
    if not extension.digital_signature:
        raise ValueError("may not sign")


def _is_no_authority(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints | None) -> None:
    if extension is not None and extension.ca:
        raise ValueError("a certificate authority, not a card")
