"""Proofs made to be judged, and short names for what became of them."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.validator.authority import (
    NOW,
    CardPrivateKey,
    card_key,
    seconds,
)
from validator import trust
from validator.model import (
    Assurance,
    CardProof,
    ClockConfidence,
    Identity,
    Instant,
    KeyAlgorithm,
    Reason,
    Refusal,
)
from validator.trust_store import TrustStore

MESSAGE = b"a challenge that is fresh in every test that matters"


def instant(when: dt.datetime = NOW, confidence: ClockConfidence = ClockConfidence.NTP) -> Instant:
    return Instant(seconds(when) * 1000, 5_000, bytes(8), confidence)


def sign(key: CardPrivateKey, message: bytes = MESSAGE) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message, ec.ECDSA(hashes.SHA256() if key.key_size == 256 else hashes.SHA384()))


def nobody(_credential_id: bytes) -> bool:
    return False


def prove(
    certificate: bytes, algorithm: KeyAlgorithm = KeyAlgorithm.P256, *, signature: bytes | None = None
) -> CardProof:
    return CardProof(
        profile="piv",
        assurance=Assurance.CHIP,
        challenge=MESSAGE,
        signature=sign(card_key(algorithm)) if signature is None else signature,
        algorithm=algorithm,
        block_id=bytes(32),
        shown=certificate,
    )


def judge(proof: CardProof, store: TrustStore, denied: Callable[[bytes], bool], at: Instant) -> Identity | Refusal:
    """Vouch and judge in one go."""
    return trust.judge(proof, trust.vouch(proof.shown, store, at), denied, at)


def believed(verdict: Identity | Refusal) -> Identity:
    assert isinstance(verdict, Identity), verdict
    return verdict


def again(proof: CardProof, store: TrustStore, at: Instant | None = None) -> CardProof:
    """The same card at its next tap, with the verdict of the first in the cache."""
    known = believed(judge(proof, store, nobody, at or instant())).known
    return replace(proof, shown=known)


def reason_of(
    proof: CardProof,
    store: TrustStore,
    at: Instant | None = None,
    denied: Callable[[bytes], bool] = nobody,
) -> Reason | None:
    verdict = judge(proof, store, denied, at or instant())
    return verdict.reason if isinstance(verdict, Refusal) else None
