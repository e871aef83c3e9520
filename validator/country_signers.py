"""Chains of travel documents: from a document signer's certificate to a country's signing authority (Doc 9303-12).

A country's authority (CSCA) signs document signers directly. It changes its key every few years; a link certificate
then certifies the new key with the old one. So a chain is a document signer, then links, then an authority that is on
our list. Among what is on the list, a certificate that its own key signed stands for itself, and any other counts where
it leads to one of those. A chain stays within one country: no authority vouches for another one's, whatever it signs.

Path building is done here, and not by ``cryptography``'s verification: that one follows the rules of the web, which
know no Brainpool curve and no curve whose parameters are written out. There is little to build. Signers are looked up
by name and key identifier, in our list alone: a certificate that a document brings is never taken for an issuer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from hardware import tlv
from hardware.ec_keys import EcKeyError, EcKeyUnsupported, parse_ec_key
from hardware.tlv import TlvError
from validator.certificates import (
    HOSTILE,
    CardKey,
    CertificateError,
    KeyUnsupportedError,
    credential_id,
    load_key,
    spki_of,
    validity,
)
from validator.chains import UntrustedIssuerError, WrongKeyUsageError
from validator.signed_data import DIGESTS, verifies

MAX_LINKS = 4
"""Link certificates between a document signer and the authority that is on the list by itself: twenty years of keys."""

MIN_RSA_BITS = 2048

_HONOURED = frozenset({ExtensionOID.KEY_USAGE, ExtensionOID.BASIC_CONSTRAINTS})
"""Critical extensions of a document signer that are looked at here (Doc 9303-12, table 5)."""

_VERSION = 0xA0
_SUBJECT_PUBLIC_KEY_INFO = 5
"""Place in a TBSCertificate, the version aside (RFC 5280 §4.1)."""

_ACCEPTED = tuple(type(digest) for digest in DIGESTS.values())


@dataclass(frozen=True, slots=True)
class SignerChain:
    """What vouches for a document signer, dates aside.

    Attributes:
        key: The document signer's key.
        issuer_id: Id of the key that signed its certificate: SHA-256 of its SubjectPublicKeyInfo, 16 bytes.
        not_before: Seconds since 1970 UTC from which the chain holds, inclusive.
        not_after: Seconds since 1970 UTC until which it holds, inclusive.
        country: Two letters, in capitals, of the country that authority, links and document signer all name.
    """

    key: CardKey
    issuer_id: bytes
    not_before: int
    not_after: int
    country: str


class CountrySigners:
    """Countries' signing authorities, and their links, by name and by key identifier.

    A certificate on the list that cannot be used vouches for nobody: its key is of a kind that is not worked with, it
    is not an authority's, or it does not say of which country.
    """

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        """Take the certificates of a list: self-signed ones and link certificates, in any order.

        Raises:
            CertificateError: The dates of one cannot be read.
        """
        self._by_name: dict[bytes, list[_Authority]] = {}
        self._by_key: dict[bytes, list[_Authority]] = {}
        for certificate in certificates:
            authority = _Authority.of(certificate)
            if authority is None:
                continue
            self._by_name.setdefault(authority.subject, []).append(authority)
            if authority.key_identifier is not None:
                self._by_key.setdefault(authority.key_identifier, []).append(authority)

    def chain(self, certificate: x509.Certificate, at_s: int) -> SignerChain:
        """Find a chain from a document signer's certificate to an authority on the list.

        Dates are the caller's to judge, on what comes back: it holds at `at_s` if any chain does.

        Args:
            certificate: The document signer's.
            at_s: Seconds since 1970 UTC.

        Raises:
            KeyUnsupportedError: The key or the signature is of a kind that is not accepted.
            CertificateError: The certificate cannot be read.
            UntrustedIssuerError: There is no chain.
            WrongKeyUsageError: There is one, but the certificate is not a document signer's.
        """
        key = public_key(certificate)
        own = validity(certificate)
        chains = [
            SignerChain(key, credential_id(spki_of(issuer.key)), *_overlap(own, window), issuer.country)
            for issuer in self._issuers(certificate)
            for window in self._windows(issuer, MAX_LINKS)
        ]
        if not chains:
            raise UntrustedIssuerError
        if not _is_document_signer(certificate):
            raise WrongKeyUsageError
        return next((each for each in chains if each.not_before <= at_s <= each.not_after), chains[0])

    def _issuers(self, certificate: x509.Certificate) -> Iterator["_Authority"]:
        """Authorities on the list, of its own country, that signed a certificate.

        Names alone decide nothing, and neither do identifiers.
        """
        named = self._by_name.get(_name(certificate, of_issuer=True), [])
        keyed = self._by_key.get(_key_identifier(certificate, of_issuer=True) or b"", [])
        for authority in dict.fromkeys((*named, *keyed)):
            if authority.country == _country(certificate) and _signed(certificate, authority.key):
                yield authority

    def _windows(self, authority: "_Authority", links: int) -> Iterator[tuple[int, int]]:
        """First and last second of each chain from an authority to one that is on the list by itself."""
        own = authority.not_before, authority.not_after
        if authority.self_signed:
            yield own
        elif links:
            for issuer in self._issuers(authority.certificate):
                for window in self._windows(issuer, links - 1):
                    yield _overlap(own, window)


@dataclass(frozen=True, slots=True, eq=False)
class _Authority:
    certificate: x509.Certificate
    key: CardKey
    subject: bytes
    key_identifier: bytes | None
    country: str
    not_before: int
    not_after: int
    self_signed: bool

    @classmethod
    def of(cls, certificate: x509.Certificate) -> "_Authority | None":
        window = validity(certificate)
        try:
            key = public_key(certificate)
            authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            identifier = _key_identifier(certificate, of_issuer=False)
        except (CertificateError, x509.ExtensionNotFound, *HOSTILE):
            return None
        country = _country(certificate)
        if not authority or country is None:
            return None
        name = _name(certificate, of_issuer=False)
        return cls(certificate, key, name, identifier, country, *window, _signed(certificate, key))


def public_key(certificate: x509.Certificate) -> CardKey:
    """Return the key that a certificate certifies, its curve named or written out.

    Raises:
        KeyUnsupportedError: Its kind, curve or size is not accepted.
        CertificateError: It cannot be read, or is no point on its curve.
    """
    spki = _spki(certificate)
    try:
        return parse_ec_key(spki).native
    except EcKeyUnsupported:
        key = load_key(spki)  # on no curve that we know: RSA, or nothing
    except EcKeyError as error:
        raise CertificateError(str(error)) from None
    if key.key_size < MIN_RSA_BITS:
        raise KeyUnsupportedError(f"a signer's key of {key.key_size} bits")
    return key


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        members = tlv.parse(tlv.parse_one(certificate.tbs_certificate_bytes, 0x30))
        return bytes(members[_SUBJECT_PUBLIC_KEY_INFO + (members[0].tag == _VERSION)])
    except (TlvError, IndexError):
        raise CertificateError("a certificate without a key") from None


def _signed(certificate: x509.Certificate, key: CardKey) -> bool:
    try:
        parameters, digest = certificate.signature_algorithm_parameters, certificate.signature_hash_algorithm
    except HOSTILE:  # an algorithm that cryptography cannot name
        return False
    if parameters is None or not isinstance(digest, _ACCEPTED):
        return False
    return verifies(key, certificate.signature, certificate.tbs_certificate_bytes, parameters, digest)


def _is_document_signer(certificate: x509.Certificate) -> bool:
    """Whether a certificate is for signing documents (Doc 9303-12, table 5).

    Authorities sign other certificates as well: of master lists and deviation lists, of servers. Those have an extended
    key usage, which a document signer has not.
    """
    try:
        extensions = list(certificate.extensions)
    except HOSTILE as error:
        raise CertificateError(f"extensions that cannot be read: {type(error).__name__}") from None
    values = {extension.oid: extension.value for extension in extensions}
    usage, constraints = values.get(ExtensionOID.KEY_USAGE), values.get(ExtensionOID.BASIC_CONSTRAINTS)
    return (
        isinstance(usage, x509.KeyUsage)
        and usage.digital_signature
        and not usage.key_cert_sign
        and not (isinstance(constraints, x509.BasicConstraints) and constraints.ca)
        and ExtensionOID.EXTENDED_KEY_USAGE not in values
        and all(extension.oid in _HONOURED for extension in extensions if extension.critical)
    )


def _key_identifier(certificate: x509.Certificate, *, of_issuer: bool) -> bytes | None:
    try:
        if of_issuer:
            authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
            return authority.value.key_identifier
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, *HOSTILE):
        return None


def _name(certificate: x509.Certificate, *, of_issuer: bool) -> bytes:
    try:
        return (certificate.issuer if of_issuer else certificate.subject).public_bytes()
    except HOSTILE:
        return b""  # no name in DER is empty


def _country(certificate: x509.Certificate) -> str | None:
    """Return the country that a certificate's subject names, in capitals; None where it names none, or several."""
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)
    except HOSTILE:
        return None
    value = found[0].value if len(found) == 1 else None
    return value.upper() if isinstance(value, str) and value.isascii() else None


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), min(one[1], other[1])
