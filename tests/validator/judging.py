"""Proofs made to be judged, and short names for what became of them."""

import datetime as dt
from collections.abc import Callable, Container
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.validator.authority import (
    NOW,
    CardPrivateKey,
    card_key,
    seconds,
)
from validator import trust, vouching
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
)
from validator.proof import CardProof, Certificate, Signed
from validator.trust_store import TrustStore
from validator.vouching import Authorities

MESSAGE = b"a challenge that is fresh in every test that matters"


def instant(when: dt.datetime = NOW, confidence: ClockConfidence = ClockConfidence.NTP) -> Instant:
    return Instant(seconds(when) * 1000, 5_000, bytes(8), confidence)


def sign(key: CardPrivateKey, message: bytes = MESSAGE) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message, ec.ECDSA(hashes.SHA256() if key.key_size == 256 else hashes.SHA384()))


def nobody(_credential: Credential) -> bool:
    return False


def prove(
    certificate: bytes, algorithm: KeyAlgorithm = KeyAlgorithm.P256, *, signature: bytes | None = None
) -> CardProof:
    return CardProof(
        profile="piv",
        assurance=Assurance.CHIP,
        shown=Certificate(certificate),
        evidence=Signed(MESSAGE, sign(card_key(algorithm)) if signature is None else signature, algorithm),
        cache_key=bytes(32),
    )


def evidenced(proof: CardProof, **changes: Any) -> CardProof:
    """The same proof with other evidence."""
    assert isinstance(proof.evidence, Signed)
    return replace(proof, evidence=replace(proof.evidence, **changes))


def nobody_enrolled(_credential_id: bytes) -> None:
    """A list of enrolled keys that is empty."""


def on_list(credential_ids: Container[bytes]) -> Callable[[Credential], bool]:
    """A deny list of these ids."""
    return lambda credential: credential.id in credential_ids


def judge(proof: CardProof, store: TrustStore, denied: Callable[[Credential], bool], at: Instant) -> Identity | Refusal:
    """Vouch and judge in one go."""
    return trust.judge(proof, vouching.vouch(proof.shown, Authorities(store, nobody_enrolled), at), denied, at)


def believed(verdict: Identity | Refusal) -> Identity:
    assert isinstance(verdict, Identity), verdict
    return verdict


def kept(identity: Identity) -> KnownCard:
    assert identity.known is not None
    return identity.known


def again(proof: CardProof, store: TrustStore, at: Instant | None = None) -> CardProof:
    """The same card at its next tap, with the verdict of the first in the cache."""
    return replace(proof, shown=kept(believed(judge(proof, store, nobody, at or instant()))))


def reason_of(
    proof: CardProof,
    store: TrustStore,
    at: Instant | None = None,
    denied: Callable[[Credential], bool] = nobody,
) -> Reason | None:
    verdict = judge(proof, store, denied, at or instant())
    return verdict.reason if isinstance(verdict, Refusal) else None
