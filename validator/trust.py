"""Judges a proof: is this chip genuine, is its certificate one of ours, may it still be used?

The order is fixed, so that each reason says something true about the key that is present:

1. what was shown can be read, its key and its signature are of a kind that we accept (`UNSUPPORTED_KEY`);
2. its key answered our challenge (`WRONG_SIGNATURE`): whoever copied a certificate ends here, and nothing that follows
   can be pinned on a credential by somebody who does not hold its key. A refusal up to here names no credential;
3. somebody vouches for it: a trusted issuer (`UNTRUSTED_ISSUER`), for this purpose (`WRONG_KEY_USAGE`), or an enrolment
   (`NOT_ENROLLED`). A secret key that only the operator's cards have vouches for itself;
4. it is not on the deny list (`REVOKED`);
5. its dates, and those of its issuers, hold now (`CERTIFICATE_EXPIRED`, `CERTIFICATE_NOT_YET_VALID`).

A known card skips the work of 1 and 3: it was judged under the same trust list. What 1 and 3 say does not depend on the
card's answer, so that it is found out before that comes (`validator.vouching`), and given out here in this order.
Whatever goes wrong on the way is a refusal; no exception ever means trust.
"""

import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from validator import key_agreement
from validator.certificates import HOSTILE
from validator.model import ClockConfidence, Identity, Instant, KeyAlgorithm, KnownCard, Reason, Refusal
from validator.proof import Agreed, CardProof, Evidence, Mutual, Signed
from validator.vouching import Vouched

_CHALLENGE_HASH: dict[KeyAlgorithm, type[hashes.HashAlgorithm]] = {
    KeyAlgorithm.P256: hashes.SHA256,
    KeyAlgorithm.P384: hashes.SHA384,
    KeyAlgorithm.RSA2048: hashes.SHA256,
    KeyAlgorithm.RSA3072: hashes.SHA256,
}


def judge(
    proof: CardProof, vouched: Vouched | Reason, denied: Callable[[bytes], bool], at: Instant
) -> Identity | Refusal:
    """Judge what a card showed.

    Args:
        proof: The proof.
        vouched: What `vouching.vouch` said of what was shown.
        denied: Whether a credential id is on the deny list.
        at: Now.

    Returns:
        The identity, or the one reason why not, with the credential where its key is certainly present. An identity
        is `early` where the certificate is not yet valid by a clock that is not synchronised: it may lag, so that this
        is not held against the card.
    """
    if isinstance(vouched, Reason):
        return Refusal(vouched, proof.profile)
    if not _key_is_here(proof.evidence, vouched):
        return Refusal(Reason.WRONG_SIGNATURE, proof.profile)
    if isinstance(vouched.verdict, Reason):
        return Refusal(vouched.verdict, proof.profile, vouched.credential_id)
    return _judge_standing(proof, vouched, vouched.verdict, denied, at)


def _judge_standing(
    proof: CardProof, vouched: Vouched, known: KnownCard | None, denied: Callable[[bytes], bool], at: Instant
) -> Identity | Refusal:
    """Steps 4 and 5: what may change from one tap to the next."""
    credential = vouched.credential_id
    if denied(credential):
        return Refusal(Reason.REVOKED, proof.profile, credential)
    if known is not None and at.wall_s > known.not_after:
        return Refusal(Reason.CERTIFICATE_EXPIRED, proof.profile, credential)
    early = known is not None and at.wall_s < known.not_before
    if early and at.confidence is ClockConfidence.NTP:
        return Refusal(Reason.CERTIFICATE_NOT_YET_VALID, proof.profile, credential)
    return Identity(
        credential_id=credential,
        profile=proof.profile,
        assurance=proof.assurance,
        known=known,
        cached=proof.cached,
        early=early,
    )


def _key_is_here(evidence: Evidence, vouched: Vouched) -> bool:
    """Step 2: whether the key that is vouched for answered, in the way that its kind calls for and no other."""
    match evidence:
        case Signed():
            return _signed(evidence, vouched)
        case Agreed():
            return isinstance(vouched.key, ec.EllipticCurvePublicKey) and key_agreement.confirms(evidence, vouched.key)
        case Mutual():
            # Two empty strings are equal as well: nobody may pass by showing nothing.
            return (
                vouched.key is None
                and len(evidence.expected) > 0
                and hmac.compare_digest(evidence.expected, evidence.received)
            )


def _signed(evidence: Signed, vouched: Vouched) -> bool:
    key, algorithm = vouched.key, vouched.algorithm
    if key is None or algorithm is None or evidence.algorithm is not algorithm:
        return False
    digest = _CHALLENGE_HASH[algorithm]()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(evidence.signature, evidence.challenge, ec.ECDSA(digest))
        else:
            key.verify(evidence.signature, evidence.challenge, padding.PKCS1v15(), digest)
    except (InvalidSignature, *HOSTILE):
        return False
    return True
