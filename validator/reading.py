"""Reads one card and says what it proves: `validator read`, for a desk, a fitter or an integrator."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hardware.medium import Medium, Reader, ReaderError
from validator import trust
from validator.certificates import CertificateError, load_certificates
from validator.dialogue import Traffic, drive
from validator.known_cards import KnownCardStore
from validator.lists.errors import ListError
from validator.lists.trust_list import encode_trust_list, parse_trust_list
from validator.model import CardProof, Identity, Instant, Reason, Refusal
from validator.profiles import piv
from validator.profiles.errors import ProfileError
from validator.trust_store import TrustStore

AUTHENTIC = "authentic"
_VERSION_BYTES = 6
LANE = "validator-read"
"""Stands for the gate in the challenge; a signature made here opens no gate."""
DIALOGUE_LIMIT_S = 30.0
"""An RSA card takes a second or two; a card that keeps asking for time is given up on."""


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


async def read_one(reader: Reader, issuers: TrustStore, cards: KnownCardStore, at: Instant, wait_s: float) -> Reading:
    """Wait for one card and authenticate it.

    Args:
        reader: Not yet open; closed again here.
        issuers: Whose cards are believed.
        cards: Certificates judged before; a new one is added.
        at: Now; no deny list is consulted.
        wait_s: Longest time to wait for a card; its dialogue has a limit of its own.

    Raises:
        ReaderError: The reader failed, no card came in time, or the card was lost or too slow.
    """
    await reader.open()
    try:
        async with _within(wait_s, reader, f"no card within {wait_s:g} s"):
            medium = await reader.wait()
        async with _within(DIALOGUE_LIMIT_S, reader, f"the card took more than {DIALOGUE_LIMIT_S:g} s"):
            return await _read(medium, issuers, cards, at)
    finally:
        await reader.close()


@asynccontextmanager
async def _within(limit_s: float, reader: Reader, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise ReaderError(reader.name, what) from None


async def _read(medium: Medium, issuers: TrustStore, cards: KnownCardStore, at: Instant) -> Reading:
    traffic = Traffic()
    challenge = piv.challenge_message(LANE, at.wall_ms, secrets.token_bytes(32))
    proof: CardProof | None = None
    who: Identity | Refusal
    try:
        profile = piv.authenticate(challenge, cards.find, lambda _shown: None)
        proof = await medium.converse(lambda transceive: drive(profile, transceive, traffic))
        who = trust.judge(proof, trust.vouch(proof.shown, issuers, at), _nobody, at)
    except ProfileError as error:
        who = Refusal(error.reason)
    total_s = time.perf_counter() - medium.found_s
    if proof is not None:
        cards.learn(proof, who)
    believed = isinstance(who, Identity) and not who.early
    return Reading(
        profile=None if proof is None else proof.profile,
        assurance=who.assurance.name if isinstance(who, Identity) and believed else None,
        credential_id=None if who.credential_id is None else who.credential_id.hex(),
        verdict=AUTHENTIC if believed else _reason(who).name,
        key=None if proof is None else proof.algorithm.value,
        cached=proof is not None and proof.cached,
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

    Each must be an issuer's by the rules of a trust list, so that nobody is believed here whom no gate would believe.
    The store's version follows from the certificates, so that a cache is never believed under other issuers.

    Raises:
        IssuersError: The directory cannot be read, or holds no root.
        ListError: A file in it holds no certificate, or one that is no issuer's.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.is_file())
        certificates = [certificate for path in paths for certificate in _issuers(path)]
    except OSError as error:
        what = f"{error.filename or directory}: {error.strerror}"
        raise IssuersError(f"{what}; give the directory of issuer certificates") from None
    anchors = [certificate for certificate in certificates if certificate.issuer == certificate.subject]
    if not anchors:
        raise IssuersError(f"{directory}: no root among {len(certificates)} certificates; add the self-issued one")
    fingerprints = sorted(certificate.fingerprint(hashes.SHA256()) for certificate in certificates)
    version = int.from_bytes(hashlib.sha256(b"".join(fingerprints)).digest()[:_VERSION_BYTES])
    return TrustStore(version, anchors, [each for each in certificates if each not in anchors])


def _issuers(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        certificates = load_certificates(path.read_bytes())
    except CertificateError as error:
        raise ListError(path, f"{error}; remove it from the directory") from None
    return parse_trust_list(encode_trust_list(certificates, ()), path).anchors
