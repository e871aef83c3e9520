"""Chains from a card's certificate to an issuer that is accepted.

Path building and the checks of RFC 5280 §6 are cryptography's; the rules of its web defaults that do not fit a card
(host names, TLS usages, identifiers that a 300-byte certificate leaves out) are replaced by those stated here.

A card chooses the certificate that it shows, so that what a search costs is not the card's to choose: no search begins
before the key of an issuer on the list has verified the certificate's signature.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier
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

MAX_MOMENTS = 4
"""How many other moments are tried where no chain holds now, and how many times a chain's window is widened."""

_HONOURED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    }
)
"""Extensions that path building accounts for; a certificate with another critical one is in no chain."""

_NAMES = {
    ExtensionOID.CERTIFICATE_POLICIES: "certificatePolicies",
    ExtensionOID.INHIBIT_ANY_POLICY: "inhibitAnyPolicy",
    ExtensionOID.POLICY_CONSTRAINTS: "policyConstraints",
    ExtensionOID.POLICY_MAPPINGS: "policyMappings",
}


class UntrustedIssuerError(Exception):
    """No chain leads from the certificate to an anchor."""


class WrongKeyUsageError(Exception):
    """A chain leads to an anchor, but the certificate was issued for another purpose."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What vouches for a card's certificate, dates aside.

    An issuer whose certificate was renewed leads to more than one chain. The window is that of all chains that follow
    on each other without a gap, so that a verdict that is kept says what a new search would say.

    Attributes:
        issuer_id: Id of the key that signed the card's certificate: SHA-256 of its SubjectPublicKeyInfo, 16 bytes.
        not_before: Seconds since 1970 UTC from which a chain holds, inclusive.
        not_after: Seconds since 1970 UTC until which a chain holds, inclusive.
    """

    issuer_id: bytes
    not_before: int
    not_after: int


class ChainFinder(Protocol):
    """Whose certificates are accepted."""

    def chain(self, certificate: x509.Certificate, at_s: int) -> Chain:
        """Find the chain from a card's certificate to an anchor (`Issuers.chain`)."""
        ...


class Issuers:
    """Issuers of one kind of card.

    Raises:
        CertificateError: The dates of a certificate cannot be read.
    """

    def __init__(
        self,
        anchors: Iterable[x509.Certificate],
        intermediates: Iterable[x509.Certificate],
        purpose: "Purpose",
    ) -> None:
        """Take issuers.

        Args:
            anchors: Trusted by themselves.
            intermediates: Trusted where they lead to an anchor.
            purpose: What the certificates are for: `CARD_AUTHENTICATION` or `IDENTITY_CARD`.
        """
        anchor_list = list(anchors)
        self._intermediates = list(intermediates)
        self._strict = _policy(anchor_list, purpose.card(), purpose.issuing)
        self._any_usage = _policy(anchor_list, _unused_policy(), purpose.issuing)
        self._issuers: dict[bytes, list[_Issuer]] = {}
        for certificate in (*anchor_list, *self._intermediates):
            issuer = _Issuer.of(certificate)
            self._issuers.setdefault(issuer.subject, []).append(issuer)

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
            WrongKeyUsageError: There is one, but not for this purpose.
        """
        first, last = validity(certificate)
        if not self._signed_by_an_issuer(certificate):
            raise UntrustedIssuerError
        preferred = min(max(at_s, first), last)
        for moment in (preferred, *self._other_moments(certificate, preferred, first, last)):
            found = _verify(self._strict, certificate, self._intermediates, moment)
            if found is not None:
                return self._widened(found, first, last)
            if _verify(self._any_usage, certificate, self._intermediates, moment) is not None:
                raise WrongKeyUsageError
        raise UntrustedIssuerError

    def _signed_by_an_issuer(self, certificate: x509.Certificate) -> bool:
        """Whether an issuer that the certificate names may have signed it: asked where many share a name.

        A search goes through all of them, at every level and moment, before it gives up on a copied name. A single one
        is tried by the search itself, once, and asking first would only make a good card wait twice.
        """
        named = self._issuers.get(_issuer_name(certificate), [])
        return len(named) == 1 or any(_signed(certificate, issuer) for issuer in named)

    def _other_moments(self, certificate: x509.Certificate, preferred: int, first: int, last: int) -> list[int]:
        """Moments worth a try when an issuer is out of date at the preferred one: what comes next, then what was last.

        A set of certificates has a moment when all are valid if, and only if, all are valid at the latest of their
        notBefores. With no issuer above the card out of date there is nothing to try.
        """
        above = self._above(certificate)
        if all(issuer.not_before <= preferred <= issuer.not_after for issuer in above):
            return []
        starts = {max(first, issuer.not_before) for issuer in above} - {preferred}
        in_time = [start for start in starts if start <= last]
        return sorted(in_time, key=lambda start: (start < preferred, abs(start - preferred)))[:MAX_MOMENTS]

    def _above(self, certificate: x509.Certificate) -> list["_Issuer"]:
        """Issuers that a chain from the certificate may go through, by their names."""
        names, above = {_issuer_name(certificate)}, list[_Issuer]()
        waiting = list(names)
        while waiting:
            for issuer in self._issuers.get(waiting.pop(), []):
                above.append(issuer)
                if issuer.issued_by not in names:
                    names.add(issuer.issued_by)
                    waiting.append(issuer.issued_by)
        return above

    def _widened(self, found: list[x509.Certificate], first: int, last: int) -> Chain:
        """Follow a chain's window into those of the chains before and after it, within the card's own dates."""
        start, end = _window(found)
        for _ in range(MAX_MOMENTS):
            later = _verify(self._strict, found[0], self._intermediates, end + 1) if end < last else None
            earlier = _verify(self._strict, found[0], self._intermediates, start - 1) if start > first else None
            if later is None and earlier is None:
                break
            end = end if later is None else _window(later)[1]
            start = start if earlier is None else _window(earlier)[0]
        issuer = found[min(1, len(found) - 1)]
        return Chain(credential_id(spki_of(certificate_key(issuer))), start, end)


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    subject: bytes
    issued_by: bytes
    not_before: int
    not_after: int

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        subject, issued_by = certificate.subject.public_bytes(), _issuer_name(certificate)
        return cls(certificate, subject, issued_by, *validity(certificate))


def _issuer_name(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.issuer.public_bytes()
    except HOSTILE:
        return b""  # no name in DER is empty


def _signed(certificate: x509.Certificate, issuer: _Issuer) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer.certificate)
    except (InvalidSignature, *HOSTILE):
        return False
    return True


def _policy(
    anchors: list[x509.Certificate], card: ExtensionPolicy, issuing: frozenset[ObjectIdentifier]
) -> PolicyBuilder | None:
    """Rules for a chain; None without an anchor, where there are no chains."""
    if not anchors:
        return None
    builder = PolicyBuilder().store(Store(anchors)).max_chain_depth(MAX_CHAIN_DEPTH)
    return builder.extension_policies(ca_policy=_issuer_policy(issuing), ee_policy=card)


def _verify(
    policy: PolicyBuilder | None, certificate: x509.Certificate, intermediates: list[x509.Certificate], moment: int
) -> list[x509.Certificate] | None:
    if policy is None:
        return None
    # naive UTC is what PolicyBuilder.time takes
    try:
        when = dt.datetime.fromtimestamp(moment, dt.UTC).replace(tzinfo=None)
        return policy.time(when).build_client_verifier().verify(certificate, intermediates).chain
    except (VerificationError, OSError, *HOSTILE):
        return None


def _window(chain: list[x509.Certificate]) -> tuple[int, int]:
    """First and last second at which every certificate of a chain is valid."""
    windows = [validity(certificate) for certificate in chain]
    return max(first for first, _ in windows), min(last for _, last in windows)


def extension_not_honoured(certificate: x509.Certificate) -> str | None:
    """Name an extension of an issuer's certificate that is not honoured here, so that no chain may go through it.

    These are all critical extensions that path building does not account for (policy constraints and mappings among
    them), and name constraints, critical or not: they would be applied to some kinds of names and ignored for others.

    Args:
        certificate: One whose extensions can be read.
    """
    for extension in certificate.extensions:
        if extension.oid == ExtensionOID.NAME_CONSTRAINTS:
            return "nameConstraints"
        if extension.critical and extension.oid not in _HONOURED:
            return f"critical {_NAMES.get(extension.oid, extension.oid.dotted_string)}"
    return None


def _issuer_policy(issuing: frozenset[ObjectIdentifier]) -> ExtensionPolicy:
    def may_issue(_policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage | None) -> None:
        if extension is not None and issuing.isdisjoint(extension):
            raise ValueError("may not issue certificates for this purpose")

    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.CRITICAL, _is_authority)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, may_issue)
        .require_not_present(x509.NameConstraints)
    )


def _card_policy() -> ExtensionPolicy:
    """Rules for a certificate of PIV card authentication (FIPS 201-3 §4.2.1)."""
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.ExtendedKeyUsage, Criticality.CRITICAL, _is_for_cards)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_no_authority)
    )


def _identity_policy() -> ExtensionPolicy:
    """Rules for the authentication certificate of a national identity card, which is for its holder as a client."""
    return (
        ExtensionPolicy.permit_all()
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _is_for_clients)
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


def _is_for_cards(_policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage) -> None:
    if ID_PIV_CARD_AUTH not in extension:
        raise ValueError("not for card authentication")


def _is_for_clients(_policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage | None) -> None:
    if extension is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in extension:
        raise ValueError("not for authentication")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage) -> None:
    if not extension.digital_signature:
        raise ValueError("may not sign")


def _is_no_authority(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints | None) -> None:
    if extension is not None and extension.ca:
        raise ValueError("a certificate authority, not a card")


@dataclass(frozen=True, slots=True)
class Purpose:
    """What certificates are for.

    Attributes:
        card: Rules for a card's certificate.
        issuing: An issuer whose own certificate names purposes has to name one of these.
    """

    card: Callable[[], ExtensionPolicy]
    issuing: frozenset[ObjectIdentifier]


CARD_AUTHENTICATION = Purpose(_card_policy, frozenset({ID_PIV_CARD_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}))
IDENTITY_CARD = Purpose(
    _identity_policy, frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
)
