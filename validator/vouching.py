"""Says who vouches for what a card showed: an issuer's certificate, an enrolment, or the operator's own key.

Nothing here depends on the card's answer to our challenge, so that it is found out while the card computes that
(`validator.lookahead`). It may be a copied certificate's: `validator.trust` gives it out only after the key answered.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from validator import piv_cvc, pkoc_cvc
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
)
from validator.model import NEVER, Instant, KeyAlgorithm, KnownCard, Reason
from validator.proof import BareKey, CardToken, Certificate, PivCvc, PkocCvc, Shown
from validator.trust_store import TrustStore, UntrustedIssuerError, WrongKeyUsageError

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
    """

    key: CardKey | None
    algorithm: KeyAlgorithm | None
    credential_id: bytes
    verdict: KnownCard | Reason | None


@dataclass(frozen=True, slots=True)
class Authorities:
    """Whose word counts at this gate.

    Attributes:
        store: Issuers in force.
        enrolled: Returns the public key that was enrolled under a credential id, SubjectPublicKeyInfo in DER, or None.
    """

    store: TrustStore
    enrolled: Callable[[bytes], bytes | None]


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
            return _recognised(shown, authorities.store)
        case Certificate():
            return _searched(shown.der, authorities.store, at)
        case PkocCvc():
            return _issued_pkoc(shown.octets, authorities.store)
        case PivCvc():
            return _issued_piv(shown.octets, authorities.store)
        case BareKey():
            return _enrolled(shown.spki, authorities)
        case CardToken():
            credential = card_credential_id(token_id(shown.family, shown.octets), shown.uid)
            return Vouched(None, None, credential, None)


def _recognised(known: KnownCard, store: TrustStore) -> Vouched | Reason:
    if known.trust_version != store.version:
        return Reason.PRESENT_AGAIN
    try:
        return Vouched(load_key(known.spki), known.algorithm, known.credential_id, known)
    except CertificateError:
        return Reason.UNSUPPORTED_KEY


def _searched(der: bytes, store: TrustStore, at: Instant) -> Vouched:
    certificate, key, algorithm = _read(der)
    spki = spki_of(key)
    credential = credential_id(spki)
    verdict: KnownCard | Reason
    try:
        chain = store.chain(certificate, at.wall_s)
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
            trust_version=store.version,
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
        verdict = KnownCard(credential, KeyAlgorithm.P256, spki, *window, issuer_id, store.version)
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
        verdict = KnownCard(credential, algorithm, spki, *window, signer_id, store.version)
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
