"""The payload of a trust list: whose word counts, as a msgpack array.

    [1, [anchor], [intermediate], [[reference, key], ...], [signer], [[scheme, [anchor], [intermediate]], ...], [csca],
     [component root]]

Anchors and intermediates are X.509 issuers, signers are X.509 certificates for PIV content signing, all DER; the pairs
are PKOC issuers, an issuer reference of 16 characters and a P-256 key as SubjectPublicKeyInfo, DER. Issuers of national
identity cards stand by their scheme, so that no country's authority vouches for another's cards; country signing
authorities of travel documents (CSCA) stand by themselves, and so do the component roots of the Spanish DNIe, RSA keys
as SubjectPublicKeyInfo. What follows the intermediates may be left out.

A PKOC issuer has no dates: its cards have theirs, and it is believed for as long as it is on the list in force.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgpack
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key, load_pem_public_key

from validator.certificates import (
    HOSTILE,
    CardKey,
    CertificateError,
    certificate_key,
    load_certificate,
    load_key,
    spki_of,
    validity,
)
from validator.chains import extension_not_honoured
from validator.lists.content_signer import ContentSigner, SignerError, is_content_signer, read_signer
from validator.lists.errors import ListError
from validator.model import Scheme
from validator.trust_store import NationalIssuers, Signer, TrustStore

FORMAT = 1
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""Some thousand certificates: far more than a network has issuers."""
MAX_PER_SUBJECT = 8
"""Certificates of one subject: some renewals and cross certificates. A search tries each of them at each link."""

__all__ = ["ContentSigner", "TrustList", "encode_trust_list", "is_content_signer", "parse_trust_list"]

_REFERENCE = re.compile(rb"[A-Z0-9]{16}")


@dataclass(frozen=True, slots=True)
class TrustList:
    """Issuers, parsed. There may be none, where all cards have enrolled keys or keys of the operator.

    Attributes:
        anchors: X.509 issuers, trusted by themselves.
        intermediates: X.509 issuers, trusted where they lead to an anchor.
        pkoc_issuers: Keys that sign PKOC certificates, by issuer reference (tag 42 of the certificate).
        sm_signers: Content signers, by the identifier that the certificates of PIV secure messaging name them by.
        national: Issuers of national identity cards, by scheme.
        travel_anchors: Country signing authorities of travel documents.
        component_roots: Keys that vouch for the chips of the Spanish DNIe.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]
    pkoc_issuers: Mapping[bytes, ec.EllipticCurvePublicKey] = field(default_factory=dict)
    sm_signers: Mapping[bytes, ContentSigner] = field(default_factory=dict)
    national: Mapping[Scheme, NationalIssuers] = field(default_factory=dict)
    travel_anchors: tuple[x509.Certificate, ...] = ()
    component_roots: tuple[rsa.RSAPublicKey, ...] = ()

    def store(self, version: int, where: object = "trust list") -> TrustStore:
        """Return the issuers as a gate asks them.

        Args:
            version: Of the list.
            where: What to call the file in an error.

        Raises:
            ListError: No gate could use them.
        """
        try:
            return TrustStore(
                version,
                self.anchors,
                self.intermediates,
                pkoc_issuers=self.pkoc_issuers,
                sm_signers={
                    identifier: Signer(signer.key, signer.not_before, signer.not_after)
                    for identifier, signer in self.sm_signers.items()
                },
                national=self.national,
                travel_anchors=self.travel_anchors,
                component_roots=self.component_roots,
            )
        except ValueError as error:
            raise ListError(where, f"no gate could use it: {error}") from None


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    """The layout on the wire. New fields are appended with a default; anything else is a new format number."""

    format: Literal[1]
    anchors: list[bytes]
    intermediates: list[bytes]
    pkoc_issuers: list[tuple[bytes, bytes]] = []
    sm_signers: list[bytes] = []
    national: list[tuple[Scheme, list[bytes], list[bytes]]] = []
    travel_anchors: list[bytes] = []
    component_roots: list[bytes] = []


def encode_trust_list(
    anchors: Iterable[x509.Certificate],
    intermediates: Iterable[x509.Certificate],
    pkoc_issuers: Mapping[str, CardKey] | None = None,
    sm_signers: Iterable[x509.Certificate] = (),
    *,
    national: Mapping[Scheme, NationalIssuers] | None = None,
    travel_anchors: Iterable[x509.Certificate] = (),
    component_roots: Iterable[rsa.RSAPublicKey] = (),
) -> bytes:
    """Encode a trust list; the same issuers in any order, and twice, give the same bytes.

    Args:
        anchors: X.509 issuers that are trusted by themselves.
        intermediates: X.509 issuers that are trusted where they lead to an anchor.
        pkoc_issuers: Keys that sign PKOC certificates, by issuer reference; P-256, or no gate would take the list.
        sm_signers: Certificates for PIV content signing.
        national: Issuers of national identity cards, by scheme.
        travel_anchors: Country signing authorities of travel documents.
        component_roots: Keys that vouch for the chips of the Spanish DNIe.
    """
    schemes = [
        [scheme.value, _sorted_der(issuers.anchors), _sorted_der(issuers.intermediates)]
        for scheme, issuers in sorted((national or {}).items())
    ]
    references = sorted(
        (reference.encode("utf-8", "replace"), spki_of(key)) for reference, key in (pkoc_issuers or {}).items()
    )
    return msgpack.packb(
        [
            FORMAT,
            _sorted_der(anchors),
            _sorted_der(intermediates),
            references,
            _sorted_der(sm_signers),
            schemes,
            _sorted_der(travel_anchors),
            sorted({spki_of(key) for key in component_roots}),
        ]
    )


def parse_trust_list(payload: bytes, where: object = "trust list") -> TrustList:
    """Parse a trust list and see that each issuer can do what it is there for.

    An issuer that restricts what it vouches for in a way that is not honoured here is refused with the list, rather
    than found out at a gate by the holders of its cards (`extension_not_honoured`).

    Args:
        payload: The payload file's bytes.
        where: What to call the file in an error.

    Raises:
        ListError: It is no trust list, or somebody on it is no issuer; the message says who.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ListError(where, f"{len(payload)} bytes are more than a trust list may have")
    try:
        wire = msgspec.convert(msgpack.unpackb(payload), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a trust list: {error}") from None
    if wire.intermediates and not wire.anchors:
        raise ListError(where, "intermediates and no anchor that they could lead to")
    parsed = TrustList(
        anchors=tuple(_issuer(der, f"anchor {index}", where) for index, der in enumerate(wire.anchors)),
        intermediates=tuple(
            _issuer(der, f"intermediate {index}", where) for index, der in enumerate(wire.intermediates)
        ),
        pkoc_issuers=_pkoc_issuers(wire.pkoc_issuers, where),
        sm_signers=_sm_signers(wire.sm_signers, where),
        national=_national(wire.national, where),
        travel_anchors=tuple(_travel_anchor(der, index, where) for index, der in enumerate(wire.travel_anchors)),
        component_roots=tuple(_component_root(spki, where) for spki in wire.component_roots),
    )
    _refuse_crowds((*parsed.anchors, *parsed.intermediates), where)
    for issuers in parsed.national.values():
        _refuse_crowds((*issuers.anchors, *issuers.intermediates), where)
    return parsed


def _refuse_crowds(certificates: Iterable[x509.Certificate], where: object) -> None:
    subjects = Counter(certificate.subject for certificate in certificates)
    for subject, count in subjects.items():
        if count > MAX_PER_SUBJECT:
            why = f"{count} certificates of {subject.rfc4514_string()}, at most {MAX_PER_SUBJECT} are allowed"
            raise ListError(where, why)


def _issuer(der: bytes, which: str, where: object) -> x509.Certificate:
    try:
        certificate = load_certificate(der)
        certificate_key(certificate)
        first, last = validity(certificate)
        certificate.subject.public_bytes()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        not_honoured = extension_not_honoured(certificate)
        called = f"{which} ({certificate.subject.rfc4514_string()})"
    except x509.ExtensionNotFound:
        raise ListError(where, f"{which} has no basic constraints or no key usage: not an issuer's") from None
    except CertificateError as error:
        raise ListError(where, f"{which}: {error}") from None
    except HOSTILE as error:
        raise ListError(where, f"{which} cannot be read: {type(error).__name__}") from None
    if not (constraints.critical and constraints.value.ca and usage.value.key_cert_sign):
        raise ListError(where, f"{which} may not sign certificates: not an issuer's")
    if not_honoured is not None:
        raise ListError(where, f"{called} has {not_honoured}, which is not honoured here: none of its cards would pass")
    if last < first:
        raise ListError(where, f"{which} is never valid: notAfter is before notBefore")
    return certificate


def _national(schemes: list[tuple[Scheme, list[bytes], list[bytes]]], where: object) -> dict[Scheme, NationalIssuers]:
    found: dict[Scheme, NationalIssuers] = {}
    for scheme, anchors, intermediates in schemes:
        called = f"scheme {scheme.value}"
        if scheme in found:
            raise ListError(where, f"{called} is there twice")
        if not anchors:
            raise ListError(where, f"{called} has no anchor that its cards could lead to")
        found[scheme] = NationalIssuers(
            tuple(_issuer(der, f"{called}, anchor {index}", where) for index, der in enumerate(anchors)),
            tuple(_issuer(der, f"{called}, intermediate {index}", where) for index, der in enumerate(intermediates)),
        )
    return found


def load_component_root(path: Path, content: bytes) -> rsa.RSAPublicKey:
    """Load a file with one public key that vouches for the chips of the DNIe, PEM or DER.

    Raises:
        ListError: It holds something else.
    """
    try:
        key = load_pem_public_key(content) if b"-----BEGIN" in content else load_der_public_key(content)
    except HOSTILE:
        raise ListError(path, "no public key in PEM or DER form") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise ListError(path, "no RSA public key: the roots of the DNIe's chips have no other")
    return key


def _component_root(spki: bytes, where: object) -> rsa.RSAPublicKey:
    try:
        key = load_key(spki)
    except CertificateError as error:
        raise ListError(where, f"component root: {error}") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise ListError(where, "a component root has no RSA key: the DNIe knows no other")
    return key


def _travel_anchor(der: bytes, index: int, where: object) -> x509.Certificate:
    """Take a country's signing authority. Its extensions are Doc 9303-12's business, and judged with each document."""
    try:
        certificate = load_certificate(der)
        validity(certificate)
        certificate.subject.public_bytes()
    except (CertificateError, *HOSTILE) as error:
        raise ListError(where, f"travel anchor {index}: {error}") from None
    return certificate


def _pkoc_issuers(pairs: list[tuple[bytes, bytes]], where: object) -> dict[bytes, ec.EllipticCurvePublicKey]:
    found: dict[bytes, ec.EllipticCurvePublicKey] = {}
    for reference, spki in pairs:
        called = f"PKOC issuer {reference.decode('ascii', 'backslashreplace')}"
        if not _REFERENCE.fullmatch(reference):
            raise ListError(where, f"{called}: a reference has 16 characters, A to Z and 0 to 9")
        if reference in found:
            raise ListError(where, f"{called} is there twice: a reference names one key, another key needs another one")
        try:
            key = load_key(spki)
        except CertificateError as error:
            raise ListError(where, f"{called}: {error}") from None
        if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
            raise ListError(where, f"{called} has no P-256 key: PKOC issuers have no other")
        if spki_of(key) != spki:
            raise ListError(where, f"{called}: a key in another encoding than its plainest")
        found[reference] = key
    return found


def _sm_signers(certificates: list[bytes], where: object) -> dict[bytes, ContentSigner]:
    found: dict[bytes, ContentSigner] = {}
    for index, der in enumerate(certificates):
        try:
            signer = read_signer(load_certificate(der))
        except (CertificateError, SignerError) as error:
            raise ListError(where, f"content signer {index}: {error}") from None
        other = found.setdefault(signer.identifier, signer)
        if other is not signer:
            why = (
                f"content signers {other.name} and {signer.name} have the same identifier "
                f"{signer.identifier.hex().upper()}, the first 8 bytes of their subject key identifiers: no card could "
                "tell them apart; leave one of them out"
            )
            raise ListError(where, why)
    return found


def _sorted_der(certificates: Iterable[x509.Certificate]) -> list[bytes]:
    return sorted({certificate.public_bytes(Encoding.DER) for certificate in certificates})
