"""Says who vouches for what a card showed: an issuer's certificate, an enrolment, or the operator's own key.

Nothing here depends on the card's answer to our challenge, so that it is found out while the card computes that
(`validator.lookahead`). It may be a copied certificate's: `validator.trust` gives it out only after the key answered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from validator import dnie_component, estonian_certificate, passive_authentication, piv_cvc, pkoc_cvc
from validator.card_index import TOKENS, index_in, index_of
from validator.certificates import (
    HOSTILE,
    CardKey,
    CertificateError,
    KeyUnsupportedError,
    card_credential_id,
    certificate_key,
    credential_id,
    key_algorithm,
    load_certificate,
    load_key,
    spki_of,
    token_id,
    validity,
)
from validator.chains import ChainFinder, UntrustedIssuerError, WrongKeyUsageError
from validator.country_signers import CountrySigners
from validator.model import NEVER, Credential, DocumentType, Instant, KeyAlgorithm, KnownCard, Reason, Scheme, Validity
from validator.proof import (
    BareKey,
    CardToken,
    Certificate,
    DnieComponent,
    EnrolledUnder,
    IdCertificate,
    PivCvc,
    PkocCvc,
    Shown,
    TravelDocument,
)
from validator.trust_store import TrustStore

_TRAVEL_DOCUMENT = "emrtd"
_SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""Hashes that a certificate may be signed with (SP 800-78-5, table 3); SHA-1 is not among them."""


@dataclass(frozen=True, slots=True)
class Vouched:
    """What the issuers in force say of a key, before anybody has signed with it: it may be a copied certificate's.

    Attributes:
        key: The public key whose private half must be here; None for a family that shares a secret key with us.
        algorithm: What it is; None without a public key.
        credential_id: Names it.
        verdict: What vouches for it, or the one reason why nothing does; None where the secret key itself does.
        document: What a national identity card says of its holder's standing; None for other cards.
        token_index: The number in an operator's token; None for other cards.
    """

    key: CardKey | None
    algorithm: KeyAlgorithm | None
    credential_id: bytes
    verdict: KnownCard | Validity | Reason | None
    document: DocumentType | None = None
    token_index: int | None = None

    @property
    def credential(self) -> Credential:
        """What a deny list is asked by."""
        verdict = self.verdict
        if isinstance(verdict, KnownCard):
            return Credential(self.credential_id, verdict.issuer_id, verdict.issued_s, verdict.index)
        if self.token_index is not None:
            return Credential(self.credential_id, TOKENS, index=self.token_index)
        return Credential(self.credential_id)


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose word counts at this gate.

    Attributes:
        store: Issuers in force.
        enrolled: Returns the public key that was enrolled under a credential id, SubjectPublicKeyInfo in DER, or None.
        enrolled_under: The same, for a name that a card says freely of itself (`certificates.token_id`).
    """

    store: TrustStore
    enrolled: Callable[[bytes], bytes | None]
    enrolled_under: Callable[[bytes], bytes | None] = lambda _name: None


def vouch(shown: Shown, authorities: Authorities, at: Instant) -> Vouched | Reason:
    """Say who vouches for what was shown: steps 1 and 3 of `validator.trust`, to be given out once step 2 holds.

    Args:
        shown: What the card gave of itself, or the verdict that was kept of it. A verdict that was reached under
            another version of the trust list is not believed: present again.
        authorities: Whose word counts.
        at: Now.

    Returns:
        What vouches for the key, or the one reason why there is no key to verify with.

    Raises:
        ListError: The list of enrolled keys cannot be read any more.
    """
    try:
        return _vouched(shown, authorities, at)
    except KeyUnsupportedError:
        return Reason.UNSUPPORTED_KEY
    except CertificateError:
        return Reason.MALFORMED_ANSWER


def _vouched(shown: Shown, authorities: Authorities, at: Instant) -> Vouched | Reason:
    match shown:
        case KnownCard():
            found: Vouched | Reason = _recognised(shown, authorities.store)
        case Certificate():
            found = _searched(shown.der, authorities.store.cards, authorities.store.version, at)
        case PkocCvc():
            found = _issued_pkoc(shown.octets, authorities.store)
        case PivCvc():
            found = _issued_piv(shown.octets, authorities.store)
        case BareKey():
            found = _enrolled(shown.spki, authorities)
        case CardToken():
            credential = card_credential_id(token_id(shown.family, shown.octets), shown.uid)
            found = Vouched(None, None, credential, None, token_index=index_of(shown.octets))
        case _:
            found = _vouched_nationally(shown, authorities, at)
    return found


def _vouched_nationally(
    shown: IdCertificate | EnrolledUnder | DnieComponent | TravelDocument, authorities: Authorities, at: Instant
) -> Vouched | Reason:
    match shown:
        case IdCertificate():
            return _identified(shown, authorities.store, at)
        case EnrolledUnder():
            return _enrolled_under(shown, authorities)
        case DnieComponent():
            return _component(shown, authorities.store)
        case TravelDocument():
            return _signed_by_a_country(shown, authorities.store, at)


def _recognised(known: KnownCard, store: TrustStore) -> Vouched | Reason:
    if known.trust_version != store.version:
        return Reason.PRESENT_AGAIN
    try:
        return Vouched(load_key(known.spki), known.algorithm, known.credential_id, known)
    except CertificateError:
        return Reason.UNSUPPORTED_KEY


def _identified(shown: IdCertificate, store: TrustStore, at: Instant) -> Vouched | Reason:
    issuers = store.national(shown.scheme)
    if issuers is None:
        return Reason.UNTRUSTED_ISSUER
    return replace(_searched(shown.der, issuers, store.version, at), document=_document(shown))


def _component(shown: DnieComponent, store: TrustStore) -> Vouched | Reason:
    key = dnie_component.chip_key(shown.certificate)
    found = dnie_component.judge(shown, store.component_roots)
    verdict = found if isinstance(found, Reason) else Validity(found.not_before, found.not_after)
    return Vouched(key, None, credential_id(spki_of(key)), verdict, DocumentType.CITIZEN)


@lru_cache(maxsize=2)
def _country_signers(anchors: tuple[x509.Certificate, ...]) -> CountrySigners:
    """Sort a list's authorities once; there are hundreds of them."""
    return CountrySigners(anchors)


def _signed_by_a_country(shown: TravelDocument, store: TrustStore, at: Instant) -> Vouched | Reason:
    found = passive_authentication.examine(shown, _country_signers(store.travel_anchors), at.wall_s)
    if isinstance(found, Reason):
        return found
    # Without a key of the chip's there is only what was read: it names a document, and anybody could have copied it.
    named = credential_id(found.chip_key or token_id(_TRAVEL_DOCUMENT, shown.security_object))
    return Vouched(None, None, named, Validity(found.not_before, found.not_after), DocumentType.UNKNOWN)


def _document(shown: IdCertificate) -> DocumentType:
    match shown.scheme:
        case Scheme.ESTONIA:
            return estonian_certificate.holder_of(load_certificate(shown.der)).document_type
        case Scheme.JAPAN:
            return DocumentType.RESIDENT  # for whoever is entered in a municipality's register, of any nationality
        case Scheme.SPAIN:
            return DocumentType.CITIZEN


def _searched(der: bytes, issuers: ChainFinder, trust_version: int, at: Instant) -> Vouched:
    certificate, key, algorithm = _read(der)
    spki = spki_of(key)
    credential = credential_id(spki)
    verdict: KnownCard | Reason
    try:
        chain = issuers.chain(certificate, at.wall_s)
    except UntrustedIssuerError:
        verdict = Reason.UNTRUSTED_ISSUER
    except WrongKeyUsageError:
        verdict = Reason.WRONG_KEY_USAGE
    except CertificateError:
        verdict = Reason.MALFORMED_ANSWER
    else:
        verdict = KnownCard(
            credential_id=credential,
            algorithm=algorithm,
            spki=spki,
            not_before=chain.not_before,
            not_after=chain.not_after,
            issuer_id=chain.issuer_id,
            trust_version=trust_version,
            issued_s=validity(certificate)[0],
            index=index_in(certificate),
        )
    return Vouched(key, algorithm, credential, verdict)


def _read(der: bytes) -> tuple[x509.Certificate, CardKey, KeyAlgorithm]:
    """Step 1.

    Raises:
        KeyUnsupportedError: The key, or the signature on the certificate, is of a kind that we do not accept.
        CertificateError: The certificate cannot be read.
    """
    certificate = load_certificate(der)
    key = certificate_key(certificate)
    algorithm = key_algorithm(key)
    try:
        acceptable = isinstance(certificate.signature_hash_algorithm, _SIGNATURE_HASHES)
    except HOSTILE:  # an algorithm that cryptography cannot name
        acceptable = False
    if not acceptable:
        raise KeyUnsupportedError("a certificate whose signature is of a kind that is not accepted")
    return certificate, key, algorithm


def _issued_pkoc(octets: bytes, store: TrustStore) -> Vouched:
    cvc = pkoc_cvc.parse(octets)
    issuer = store.pkoc_issuer(cvc.issuer)
    spki = spki_of(cvc.key)
    credential = credential_id(spki)
    verdict: KnownCard | Reason = Reason.UNTRUSTED_ISSUER
    if issuer is not None and cvc.signed_by(issuer):
        window, issuer_id = (cvc.not_before, cvc.not_after), credential_id(spki_of(issuer))
        verdict = KnownCard(
            *(credential, KeyAlgorithm.P256, spki, *window, issuer_id, store.version),
            issued_s=cvc.not_before,
            index=index_of(cvc.subject),
        )
    return Vouched(cvc.key, KeyAlgorithm.P256, credential, verdict)


def _issued_piv(octets: bytes, store: TrustStore) -> Vouched:
    """A PIV CVC has no dates (SP 800-73-5 pt2 §4.1.5): ticket list, deny list and its signer's dates end it."""
    cvc = piv_cvc.parse(octets)
    signer = store.sm_signer(cvc.issuer)
    spki, algorithm = spki_of(cvc.key), key_algorithm(cvc.key)
    credential = credential_id(spki)
    verdict: KnownCard | Reason = Reason.UNTRUSTED_ISSUER
    if signer is not None and cvc.signed_by(signer.key):
        window, signer_id = (signer.not_before, signer.not_after), credential_id(spki_of(signer.key))
        verdict = KnownCard(*(credential, algorithm, spki, *window, signer_id, store.version), index=index_of(cvc.guid))
    return Vouched(cvc.key, algorithm, credential, verdict)


def _enrolled(presented: bytes, authorities: Authorities) -> Vouched:
    """The presented key only says where to look; the enrolled one is the key that must have signed."""
    credential = credential_id(presented)
    enrolled = authorities.enrolled(credential)
    key = load_key(presented if enrolled is None else enrolled)
    algorithm = key_algorithm(key)
    verdict: KnownCard | Reason = Reason.NOT_ENROLLED
    if enrolled is not None:
        verdict = KnownCard(credential, algorithm, enrolled, 0, NEVER, b"", authorities.store.version)
    return Vouched(key, algorithm, credential, verdict)


def _enrolled_under(shown: EnrolledUnder, authorities: Authorities) -> Vouched | Reason:
    enrolled = authorities.enrolled_under(token_id(shown.family, shown.identifier))
    if enrolled is None:
        return Reason.NOT_ENROLLED
    key, credential = load_key(enrolled), credential_id(enrolled)
    algorithm = key_algorithm(key)
    verdict = KnownCard(credential, algorithm, enrolled, 0, NEVER, b"", authorities.store.version)
    return Vouched(key, algorithm, credential, verdict)
