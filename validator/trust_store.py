"""Whose word counts, parsed once per trust list: issuers of cards by kind, and keys that sign their certificates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from validator.chains import CARD_AUTHENTICATION, IDENTITY_CARD, ChainFinder, Issuers
from validator.jpki_certificate import JpkiIssuers
from validator.model import Scheme


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs certificates of PIV secure messaging. They have no dates of their own: they end with their signer.

    Attributes:
        key: The signer's public key.
        not_before: Seconds since 1970 UTC, inclusive.
        not_after: Seconds since 1970 UTC, inclusive.
    """

    key: ec.EllipticCurvePublicKey
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class NationalIssuers:
    """Issuers of one scheme's identity cards.

    Attributes:
        anchors: Trusted by themselves.
        intermediates: Trusted where they lead to an anchor.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()


class TrustStore:
    """The issuers of one trust list.

    Attributes:
        version: Version of the trust list.
        cards: Issuers of PIV card authentication certificates.
        component_roots: Keys that vouch for the chips of the Spanish DNIe.
        travel_anchors: Country signing authorities of travel documents (CSCA, Doc 9303-12).

    Raises:
        CertificateError: The dates of a certificate cannot be read.
    """

    def __init__(
        self,
        version: int,
        anchors: Iterable[x509.Certificate],
        intermediates: Iterable[x509.Certificate] = (),
        *,
        pkoc_issuers: Mapping[bytes, ec.EllipticCurvePublicKey] | None = None,
        sm_signers: Mapping[bytes, Signer] | None = None,
        national: Mapping[Scheme, NationalIssuers] | None = None,
        travel_anchors: Iterable[x509.Certificate] = (),
        component_roots: Iterable[rsa.RSAPublicKey] = (),
    ) -> None:
        """Take the issuers of one list.

        Args:
            version: Of the list.
            anchors: X.509 issuers that are trusted by themselves.
            intermediates: X.509 issuers that are trusted where they lead to an anchor.
            pkoc_issuers: Keys that sign PKOC certificates, by their issuer reference of 16 characters.
            sm_signers: Signers of PIV secure messaging, by the first 8 bytes of their subject key identifier.
            national: Issuers of national identity cards, by scheme.
            travel_anchors: Country signing authorities of travel documents.
            component_roots: Keys that vouch for the chips of the Spanish DNIe.
        """
        self.version = version
        self.cards = Issuers(anchors, intermediates, CARD_AUTHENTICATION)
        self.travel_anchors = tuple(travel_anchors)
        self.component_roots = tuple(component_roots)
        self._pkoc_issuers, self._sm_signers = dict(pkoc_issuers or {}), dict(sm_signers or {})
        self._national = {scheme: _issuers(scheme, issuers) for scheme, issuers in (national or {}).items()}

    def pkoc_issuer(self, reference: bytes) -> ec.EllipticCurvePublicKey | None:
        """Return the key of a PKOC issuer by its issuer reference, 16 characters; None for a stranger."""
        return self._pkoc_issuers.get(reference)

    def sm_signer(self, identifier: bytes) -> Signer | None:
        """Return who signs certificates of PIV secure messaging by their identifier, 8 bytes; None for a stranger."""
        return self._sm_signers.get(identifier)

    def national(self, scheme: Scheme) -> ChainFinder | None:
        """Return the issuers of a scheme's identity cards; None where the network takes none of them."""
        return self._national.get(scheme)


def _issuers(scheme: Scheme, issuers: NationalIssuers) -> ChainFinder:
    if scheme is Scheme.JAPAN:  # its generations share one name, and are told apart by their keys
        return JpkiIssuers((*issuers.anchors, *issuers.intermediates))
    return Issuers(issuers.anchors, issuers.intermediates, IDENTITY_CARD)
