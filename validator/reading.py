"""Reads one card and says what it proves: `validator read`, for a desk, a fitter or an integrator."""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hardware.medium import Medium, Reader
from validator import trust
from validator.dialogue import Traffic, drive
from validator.known_cards import KnownCardStore
from validator.model import CardProof, Identity, Instant, Reason, Refusal
from validator.profiles import piv
from validator.profiles.errors import ProfileError
from validator.trust_store import TrustStore

AUTHENTIC = "authentic"
_VERSION_BYTES = 6
LANE = "validator-read"
"""Stands for the gate in the challenge; a signature made here opens no gate."""


class IssuersError(Exception):
    """The directory of issuers cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one card showed.

    Attributes:
        profile: Card family, or None where none was recognised.
        assurance: Rung of the ladder that was reached, or None.
        credential_id: In hexadecimal, or None.
        verdict: ``authentic``, or the name of the `Reason` why not.
        key: Algorithm of the card's key, or None.
        cached: Whether the certificate had been judged before.
        traffic: APDUs and octets.
        total_ms: From presence to verdict.
        card_ms: Of that, waiting for the card.
    """

    profile: str | None
    assurance: str | None
    credential_id: str | None
    verdict: str
    key: str | None
    cached: bool
    traffic: Traffic
    total_ms: float
    card_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "profile": self.profile,
            "assurance": self.assurance,
            "credential_id": self.credential_id,
            "verdict": self.verdict,
            "key": self.key,
            "cached": self.cached,
            "apdus": self.traffic.apdus,
            "bytes_out": self.traffic.bytes_out,
            "bytes_in": self.traffic.bytes_in,
            "ms": {
                "total": round(self.total_ms, 3),
                "waiting": round(self.card_ms, 3),
                "own": round(self.total_ms - self.card_ms, 3),
            },
        }


async def read_one(reader: Reader, issuers: TrustStore, cards: KnownCardStore, at: Instant, limit_s: float) -> Reading:
    """Wait for one card and authenticate it.

    Args:
        reader: Not yet open; closed again here.
        issuers: Whose cards are believed.
        cards: Certificates judged before; a new one is added.
        at: Now; no deny list is consulted.
        limit_s: Longest time to wait for the card and its dialogue together.

    Raises:
        ReaderError: The reader failed, or the card was lost.
        TimeoutError: No card came in time.
    """
    await reader.open()
    try:
        async with asyncio.timeout(limit_s):
            return await _read(await reader.wait(), issuers, cards, at)
    finally:
        await reader.close()


async def _read(medium: Medium, issuers: TrustStore, cards: KnownCardStore, at: Instant) -> Reading:
    start_s, activation_s = time.perf_counter(), medium.card_s
    traffic = Traffic()
    challenge = piv.challenge_message(LANE, at.wall_ms, secrets.token_bytes(32))
    proof: CardProof | None = None
    who: Identity | Refusal
    try:
        profile = piv.authenticate(challenge, cards.find)
        proof = await medium.converse(lambda transceive: drive(profile, transceive, traffic))
        who = trust.judge(proof, issuers, _nobody, at)
    except ProfileError as error:
        who = Refusal(error.reason)
    total_s = time.perf_counter() - start_s + activation_s
    if proof is not None and isinstance(who, Identity) and not who.cached:
        cards.remember(proof.block_id, who.known)
    believed = isinstance(who, Identity) and not who.early
    return Reading(
        profile=None if proof is None else proof.profile,
        assurance=who.assurance.name if isinstance(who, Identity) and believed else None,
        credential_id=None if who.credential_id is None else who.credential_id.hex(),
        verdict=AUTHENTIC if believed else _reason(who).name,
        key=None if proof is None else proof.algorithm.value,
        cached=proof is not None and proof.known is not None,
        traffic=traffic,
        total_ms=total_s * 1000,
        card_ms=medium.card_s * 1000,
    )


def _nobody(_credential_id: bytes) -> bool:
    return False


def _reason(who: Identity | Refusal) -> Reason:
    return who.reason if isinstance(who, Refusal) else Reason.CERTIFICATE_NOT_YET_VALID


def load_issuers(directory: Path) -> TrustStore:
    """Load every certificate (PEM or DER) in a directory: self-issued ones are anchors, others lead to one.

    The store's version follows from the certificates, so that a cache is never believed under other issuers.

    Raises:
        IssuersError: The directory cannot be read, or a file in it holds no certificate.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.is_file())
        certificates = [certificate for path in paths for certificate in _certificates(path)]
    except OSError as error:
        raise IssuersError(f"{directory}: {error.strerror}; give the directory of issuer certificates") from None
    anchors = [certificate for certificate in certificates if certificate.issuer == certificate.subject]
    if not anchors:
        raise IssuersError(f"{directory}: no root among {len(certificates)} certificates; add the self-issued one")
    fingerprints = sorted(certificate.fingerprint(hashes.SHA256()) for certificate in certificates)
    version = int.from_bytes(hashlib.sha256(b"".join(fingerprints)).digest()[:_VERSION_BYTES])
    return TrustStore(version, anchors, [each for each in certificates if each not in anchors])


def _certificates(path: Path) -> list[x509.Certificate]:
    data = path.read_bytes()
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError:
        raise IssuersError(f"{path}: no certificate in PEM or DER form; remove it from the directory") from None
