"""Judges a proof: is this chip genuine, is its certificate one of ours, may it still be used?

The order is fixed, so that each reason says something true about the key that is present:

1. what was shown can be read, its key and its signature are of a kind that we accept (`UNSUPPORTED_KEY`);
2. its key answered our challenge (`WRONG_SIGNATURE`): whoever copied a certificate ends here, and nothing that follows
   can be pinned on a credential by somebody who does not hold its key. A refusal up to here names no credential, nor
   does one of a card that proved less than that its chip is genuine;
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
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from validator import active_authentication, dnie_component, key_agreement
from validator.certificates import HOSTILE
from validator.model import (
    Assurance,
    ClockConfidence,
    Credential,
    Identity,
    Instant,
    KeyAlgorithm,
    KnownCard,
    Reason,
    Refusal,
    Validity,
)
from validator.proof import (
    Agreed,
    CardProof,
    CardToken,
    Confirmed,
    IdCertificate,
    Mutual,
    Recovered,
    Shown,
    Signed,
    TravelDocument,
    Unproved,
)
from validator.vouching import Vouched

_CHALLENGE_HASH: dict[KeyAlgorithm, type[hashes.HashAlgorithm]] = {
    KeyAlgorithm.P256: hashes.SHA256,
    KeyAlgorithm.P384: hashes.SHA384,
    KeyAlgorithm.RSA2048: hashes.SHA256,
    KeyAlgorithm.RSA3072: hashes.SHA256,
}


def judge(
    proof: CardProof, vouched: Vouched | Reason, denied: Callable[[Credential], bool], at: Instant
) -> Identity | Refusal:
    """Judge what a card showed.

    Args:
        proof: The proof.
        vouched: What `vouching.vouch` said of what was shown.
        denied: Whether a credential is on the deny list.
        at: Now.

    Returns:
        The identity, or the one reason why not, with the credential where its key is certainly present. An identity
        is `early` where the certificate is not yet valid by a clock that is not synchronised: it may lag, so that this
        is not held against the card.
    """
    if isinstance(vouched, Reason):
        return Refusal(vouched, proof.profile)
    proved = _proved(proof, vouched)
    if proved is None:
        return Refusal(Reason.WRONG_SIGNATURE, proof.profile)
    # Who only claims a credential gets nothing recorded against it.
    named = vouched.credential_id if proved >= Assurance.CHIP else None
    if isinstance(vouched.verdict, Reason):
        return Refusal(vouched.verdict, proof.profile, named)
    dates = vouched.verdict
    credential = vouched.credential
    refused = _standing(dates, credential, denied, at)
    if refused is not None:
        return Refusal(refused, proof.profile, named)
    return Identity(
        credential_id=vouched.credential_id,
        profile=proof.profile,
        assurance=min(proved, proof.assurance),
        known=dates if isinstance(dates, KnownCard) else None,
        cached=proof.cached,
        early=dates is not None and at.wall_s < dates.not_before,
        document=vouched.document,
        issuer_id=credential.issuer_id,
        index=credential.index,
    )


def _standing(
    dates: KnownCard | Validity | None, credential: Credential, denied: Callable[[Credential], bool], at: Instant
) -> Reason | None:
    """Steps 4 and 5: what may change from one tap to the next."""
    if denied(credential):
        return Reason.REVOKED
    if dates is not None and at.wall_s > dates.not_after:
        return Reason.CERTIFICATE_EXPIRED
    if dates is not None and at.wall_s < dates.not_before and at.confidence is ClockConfidence.NTP:
        return Reason.CERTIFICATE_NOT_YET_VALID
    return None


def _proved(proof: CardProof, vouched: Vouched) -> Assurance | None:
    """Step 2: what the evidence is worth for what was shown; None where it does not hold, or is of another kind."""
    evidence, shown = proof.evidence, proof.shown
    match evidence:
        case Signed():
            return _by_signature(evidence, shown, vouched)
        case Agreed():
            key = vouched.key
            agreed = isinstance(key, ec.EllipticCurvePublicKey) and key_agreement.confirms(evidence, key)
            return Assurance.CHIP if agreed else None
        case Recovered():
            recovered = isinstance(vouched.key, rsa.RSAPublicKey) and dnie_component.answered(vouched.key, evidence)
            return Assurance.CHIP if recovered else None
        case Confirmed():
            # The key that the country signed is in the files, or there would be no `vouched`.
            confirmed = isinstance(shown, TravelDocument) and shown.chip_key is not None and _equal(evidence)
            return Assurance.CHIP if confirmed else None
        case Mutual():
            return _shared(shown) if _equal(evidence) else None
        case Unproved():
            return Assurance.CLAIMED if isinstance(shown, IdCertificate) else None


def _by_signature(evidence: Signed, shown: Shown, vouched: Vouched) -> Assurance | None:
    if isinstance(shown, TravelDocument):
        return _active(shown, evidence)
    if not _signed(evidence, vouched):
        return None
    # The keys of national identity cards sign only after the holder's PIN (each scheme's access rules).
    return Assurance.HOLDER if isinstance(shown, IdCertificate) else Assurance.CHIP


def _shared(shown: Shown) -> Assurance | None:
    """What it is worth that card and reader hold the same secret."""
    match shown:
        case CardToken():
            return Assurance.CHIP  # a key of this card alone
        case IdCertificate() | TravelDocument():
            return Assurance.SHARED_SECRET  # the number that is printed on it, whatever keys are in its files
        case _:
            return None


def _active(shown: TravelDocument, evidence: Signed) -> Assurance | None:
    """Active Authentication (Doc 9303-11 §6.1)."""
    if shown.chip_key is None:
        return None
    confirmed = active_authentication.confirms(shown.chip_key, evidence.challenge, evidence.signature)
    return Assurance.CHIP if confirmed else None


def _equal(evidence: Mutual | Confirmed) -> bool:
    # Two empty strings are equal as well: nobody may pass by showing nothing.
    return len(evidence.expected) > 0 and hmac.compare_digest(evidence.expected, evidence.received)


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
