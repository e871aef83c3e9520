"""Judges a proof: is this chip genuine, is its certificate one of ours, may it still be used?

The order is fixed, so that each reason says something true about the key that is present:

1. the certificate can be read, its key and signature are of a kind that we accept (`UNSUPPORTED_KEY`);
2. the signature is over our challenge, by that key (`WRONG_SIGNATURE`): whoever copied a certificate ends here, and
   nothing that follows can be pinned on a credential by somebody who does not hold its key. A refusal up to here names
   no credential;
3. a trusted issuer vouches for it (`UNTRUSTED_ISSUER`), for this purpose (`WRONG_KEY_USAGE`);
4. it is not on the deny list (`REVOKED`);
5. its dates, and those of its issuers, hold now (`CERTIFICATE_EXPIRED`, `CERTIFICATE_NOT_YET_VALID`).

A known card enters at 2 and skips 3: its chain was judged under the same trust list. Whatever goes wrong on the way is
a refusal; no exception ever means trust.
"""

from collections.abc import Callable

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


def judge(proof: CardProof, store: TrustStore, denied: Callable[[bytes], bool], at: Instant) -> Identity | Refusal:
    """Judge what a card showed.

    Args:
        proof: The proof, with a whole certificate or with a known card.
        store: Issuers in force. A known card that was judged under another version is not believed: present again.
        denied: Whether a credential id is on the deny list.
        at: Now.

    Returns:
        The identity, or the one reason why not, with the credential where its key is certainly present. An identity
        is `early` where the certificate is not yet valid by a clock that is not synchronised: it may lag, so that this
        is not held against the card.
    """
    try:
        known = _recognised(proof, proof.known, store) if proof.known is not None else _vouched(proof, store, at)
    except _RefusedError as refused:
        return Refusal(refused.reason, proof.profile, refused.credential_id)
    return _judge_standing(proof, known, denied, at)


class _RefusedError(Exception):
    """Why a proof is not believed; it names a credential only after the holder of its key has signed."""

    def __init__(self, reason: Reason, credential: bytes | None = None) -> None:
        super().__init__(reason.name)
        self.reason = reason
        self.credential_id = credential


def _recognised(proof: CardProof, known: KnownCard, store: TrustStore) -> KnownCard:
    """Step 2 for a known card."""
    if known.trust_version != store.version:
        raise _RefusedError(Reason.PRESENT_AGAIN)
    try:
        signed = _signed(proof, load_key(known.spki), known.algorithm)
    except CertificateError:
        raise _RefusedError(Reason.UNSUPPORTED_KEY) from None
    if not signed:
        raise _RefusedError(Reason.WRONG_SIGNATURE)
    return known


def _vouched(proof: CardProof, store: TrustStore, at: Instant) -> KnownCard:
    """Steps 1 to 3 for a card that was not known."""
    certificate, key, algorithm = _read(proof)
    if not _signed(proof, key, algorithm):
        raise _RefusedError(Reason.WRONG_SIGNATURE)
    spki = spki_of(key)
    credential = credential_id(spki)
    try:
        chain = store.chain(certificate, at.wall_s)
    except UntrustedIssuerError:
        raise _RefusedError(Reason.UNTRUSTED_ISSUER, credential) from None
    except WrongKeyUsageError:
        raise _RefusedError(Reason.WRONG_KEY_USAGE, credential) from None
    except CertificateError:
        raise _RefusedError(Reason.MALFORMED_ANSWER, credential) from None
    return KnownCard(
        credential_id=credential,
        algorithm=algorithm,
        spki=spki,
        not_before=chain.not_before,
        not_after=chain.not_after,
        issuer_id=chain.issuer_id,
        trust_version=store.version,
    )


def _read(proof: CardProof) -> tuple[x509.Certificate, CardKey, KeyAlgorithm]:
    """Step 1."""
    if proof.certificate is None:
        raise _RefusedError(Reason.MALFORMED_ANSWER)
    try:
        certificate = load_certificate(proof.certificate)
        key = certificate_key(certificate)
        algorithm = key_algorithm(key)
    except KeyUnsupportedError:
        raise _RefusedError(Reason.UNSUPPORTED_KEY) from None
    except CertificateError:
        raise _RefusedError(Reason.MALFORMED_ANSWER) from None
    try:
        acceptable = isinstance(certificate.signature_hash_algorithm, _SIGNATURE_HASHES)
    except HOSTILE:  # an algorithm that cryptography cannot name
        acceptable = False
    if not acceptable:
        raise _RefusedError(Reason.UNSUPPORTED_KEY)
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
        cached=proof.known is not None,
        early=early,
    )


def _signed(proof: CardProof, key: CardKey, algorithm: KeyAlgorithm) -> bool:
    """Whether `key` signed the challenge, with the algorithm that it calls for and no other."""
    if proof.algorithm is not algorithm:
        return False
    digest = _CHALLENGE_HASH[algorithm]()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(proof.signature, proof.challenge, ec.ECDSA(digest))
        else:
            key.verify(proof.signature, proof.challenge, padding.PKCS1v15(), digest)
    except (InvalidSignature, *HOSTILE):
        return False
    return True
