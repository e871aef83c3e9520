"""Judges a proof: is this chip genuine, is its certificate one of ours, may it still be used?

The order is fixed, so that each reason says something true about the key that is present:

1. the certificate can be read, its key and signature are of a kind that we accept (`UNSUPPORTED_KEY`);
2. the signature is over our challenge, by that key (`WRONG_SIGNATURE`): whoever copied a certificate ends here, and
   nothing that follows can be pinned on a credential by somebody who does not hold its key. A refusal up to here names
   no credential;
3. a trusted issuer vouches for it (`UNTRUSTED_ISSUER`), for this purpose (`WRONG_KEY_USAGE`);
4. it is not on the deny list (`REVOKED`);
5. its dates, and those of its issuers, hold now (`CERTIFICATE_EXPIRED`, `CERTIFICATE_NOT_YET_VALID`).

A known card skips the work of 1 and 3: its chain was judged under the same trust list. What 1 and 3 say does not depend
on the signature, so that it is found out while the card computes it (`vouch`), and given out in this order (`judge`).
Whatever goes wrong on the way is a refusal; no exception ever means trust.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from validator.certificates import (
    HOSTILE,
    CardKey,
    CertificateError,
    KeyUnsupportedError,
    certificate_key,
    credential_id,
    key_algorithm,
    load_certificate,
    load_key,
    spki_of,
)
from validator.model import CardProof, ClockConfidence, Identity, Instant, KeyAlgorithm, KnownCard, Reason, Refusal
from validator.trust_store import TrustStore, UntrustedIssuerError, WrongKeyUsageError

_SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""Hashes that a certificate may be signed with (SP 800-78-5, table 3); SHA-1 is not among them."""

_CHALLENGE_HASH: dict[KeyAlgorithm, type[hashes.HashAlgorithm]] = {
    KeyAlgorithm.P256: hashes.SHA256,
    KeyAlgorithm.P384: hashes.SHA384,
    KeyAlgorithm.RSA2048: hashes.SHA256,
    KeyAlgorithm.RSA3072: hashes.SHA256,
}


@dataclass(frozen=True, slots=True)
class Vouched:
    """What the issuers in force say of a key, before anybody has signed with it: it may be a copied certificate's.

    Attributes:
        key: The key that must have signed the challenge.
        algorithm: What it is.
        credential_id: Names it.
        verdict: What vouches for it, or the one reason why nothing does.
    """

    key: CardKey
    algorithm: KeyAlgorithm
    credential_id: bytes
    verdict: KnownCard | Reason


def vouch(shown: bytes | KnownCard, store: TrustStore, at: Instant) -> Vouched | Reason:
    """Judge what needs no signature: steps 1 and 3, for `judge` to give out once the signature of step 2 holds.

    Args:
        shown: The card's certificate, DER; or the verdict that was kept of it.
        store: Issuers in force. A verdict that was reached under another version is not believed: present again.
        at: Now.

    Returns:
        What vouches for the key, or the one reason why there is no key to verify with.
    """
    try:
        return _recognised(shown, store) if isinstance(shown, KnownCard) else _searched(shown, store, at)
    except KeyUnsupportedError:
        return Reason.UNSUPPORTED_KEY
    except CertificateError:
        return Reason.MALFORMED_ANSWER


def judge(
    proof: CardProof, vouched: Vouched | Reason, denied: Callable[[bytes], bool], at: Instant
) -> Identity | Refusal:
    """Judge what a card showed.

    Args:
        proof: The proof, with a whole certificate or with a known card.
        vouched: What `vouch` said of that certificate or card.
        denied: Whether a credential id is on the deny list.
        at: Now.

    Returns:
        The identity, or the one reason why not, with the credential where its key is certainly present. An identity
        is `early` where the certificate is not yet valid by a clock that is not synchronised: it may lag, so that this
        is not held against the card.
    """
    if isinstance(vouched, Reason):
        return Refusal(vouched, proof.profile)
    if not _signed(proof, vouched):
        return Refusal(Reason.WRONG_SIGNATURE, proof.profile)
    if isinstance(vouched.verdict, Reason):
        return Refusal(vouched.verdict, proof.profile, vouched.credential_id)
    return _judge_standing(proof, vouched.verdict, denied, at)


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


def _judge_standing(
    proof: CardProof, known: KnownCard, denied: Callable[[bytes], bool], at: Instant
) -> Identity | Refusal:
    """Steps 4 and 5: what may change from one tap to the next."""
    if denied(known.credential_id):
        return Refusal(Reason.REVOKED, proof.profile, known.credential_id)
    if at.wall_s > known.not_after:
        return Refusal(Reason.CERTIFICATE_EXPIRED, proof.profile, known.credential_id)
    early = at.wall_s < known.not_before
    if early and at.confidence is ClockConfidence.NTP:
        return Refusal(Reason.CERTIFICATE_NOT_YET_VALID, proof.profile, known.credential_id)
    return Identity(
        credential_id=known.credential_id,
        profile=proof.profile,
        assurance=proof.assurance,
        known=known,
        cached=proof.cached,
        early=early,
    )


def _signed(proof: CardProof, vouched: Vouched) -> bool:
    """Step 2: whether the key signed the challenge, with the algorithm that it calls for and no other."""
    if proof.algorithm is not vouched.algorithm:
        return False
    key, digest = vouched.key, _CHALLENGE_HASH[vouched.algorithm]()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(proof.signature, proof.challenge, ec.ECDSA(digest))
        else:
            key.verify(proof.signature, proof.challenge, padding.PKCS1v15(), digest)
    except (InvalidSignature, *HOSTILE):
        return False
    return True
