"""Reads one card and says what it proves: `validator read`, for a desk, a fitter or an integrator."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hardware import opacity
from hardware.medium import Medium, Reader, ReaderError, SeveralMedia, Technology
from validator import choice, trust, vouching
from validator.choice import Family, TagFamily
from validator.dialogue import Traffic, drive
from validator.known_cards import KnownCardStore
from validator.model import Assurance, Credential, Identity, Instant, KeyAlgorithm, Reason, Refusal
from validator.profiles.attempt import Attempt, CardKeys, Secrets
from validator.profiles.errors import ProfileError
from validator.proof import Agreed, CardProof, CardToken, Confirmed, Mutual, Recovered, Shown, Signed, Unproved
from validator.vouching import Authorities

AUTHENTIC = "authentic"
CLAIMED = "claimed"
"""The data are an issuer's, and nothing proves that this is the card they were issued on."""
LANE = "validator-read"
"""Stands for the gate in the challenge; a signature made here opens no gate."""
DIALOGUE_LIMIT_S = 50.0
"""An RSA card takes a second or two, and a card that was shown many wrong CANs lets each further one wait half a
minute; a card that keeps asking for time is given up on."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one card showed.

    Attributes:
        profile: Card family, or None where none was recognised.
        assurance: Rung of the ladder that was reached, or None.
        credential_id: In hexadecimal, or None.
        verdict: ``authentic``, ``claimed``, or the name of the `Reason` why not.
        key: Algorithm of the card's key, or None.
        cached: Whether the certificate had been judged before.
        traffic: APDUs and octets.
        total_ms: From presence to verdict.
        card_ms: Of that, waiting for the card.
        document: What a national identity card says of its holder's standing, or None.
        who: What is believed of the card, or why nothing is.
        shown: What it was judged by, or None; may name a person, and is in no ``repr``.
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
    document: str | None
    who: Identity | Refusal
    shown: Shown | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "profile": self.profile,
            "assurance": self.assurance,
            "credential_id": self.credential_id,
            "verdict": self.verdict,
            "document": self.document,
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


@dataclass(frozen=True, slots=True)
class Desk:
    """What a desk knows of cards.

    Attributes:
        authorities: Whose cards are believed.
        families: Card families, in the order in which they are tried.
        keys: Keys of the families that have no public key.
        cards: Certificates judged before; a new one is added.
        secrets: What the holder told; wiped by whoever asked for it.
        denied: Whether a credential is refused although authentic.
    """

    authorities: Authorities
    families: Sequence[Family | TagFamily]
    keys: CardKeys
    cards: KnownCardStore
    secrets: Secrets = field(default_factory=Secrets)
    denied: Callable[[Credential], bool] = lambda _credential: False


async def read_one(reader: Reader, desk: Desk, at: Instant, wait_s: float) -> Reading:
    """Wait for one card and authenticate it.

    Args:
        reader: Not yet open; closed again here.
        desk: What is known of cards.
        at: Now.
        wait_s: Longest time to wait for a card; its dialogue has a limit of its own.

    Raises:
        ReaderError: The reader failed, no card came in time, or the card was lost or too slow.
    """
    await reader.open()
    try:
        async with _within(wait_s, reader, f"no card within {wait_s:g} s"):
            medium = await reader.wait()
        async with _within(DIALOGUE_LIMIT_S, reader, f"the card took more than {DIALOGUE_LIMIT_S:g} s"):
            return await _read(medium, desk, at)
    finally:
        await reader.close()


@asynccontextmanager
async def _within(limit_s: float, reader: Reader, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise ReaderError(reader.name, what) from None


async def _read(medium: Medium, desk: Desk, at: Instant) -> Reading:
    traffic, target = Traffic(), medium.target
    attempt = Attempt(
        region=LANE,
        gate=LANE,
        wall_ms=at.wall_ms,
        uid=b"" if target.uid_is_random else target.uid,
        random=secrets.token_bytes,
        known=desk.cards.find,
        begin=lambda _shown: None,
        keys=desk.keys,
        contactless=target.technology is not Technology.CONTACT,
        secrets=desk.secrets,
    )
    proof: CardProof | None = None
    who: Identity | Refusal
    try:
        profile = choice.authenticate(desk.families, target, attempt)
        proof = await medium.converse(lambda transceive: drive(profile, transceive, traffic))
        who = trust.judge(proof, vouching.vouch(proof.shown, desk.authorities, at), desk.denied, at)
    except ProfileError as error:
        who = Refusal(error.reason, error.family)
    except SeveralMedia:
        who = Refusal(Reason.ONE_CARD_AT_A_TIME)
    total_s = time.perf_counter() - medium.found_s
    if proof is not None:
        desk.cards.learn(proof, who)
    believed = isinstance(who, Identity) and not who.early
    proved = isinstance(who, Identity) and who.assurance >= Assurance.CHIP
    return Reading(
        profile=who.profile,
        assurance=who.assurance.name if isinstance(who, Identity) and believed else None,
        credential_id=None if who.credential_id is None else who.credential_id.hex(),
        verdict=(AUTHENTIC if proved else CLAIMED) if believed else _reason(who).name,
        key=None if proof is None else _key(proof),
        cached=proof is not None and proof.cached,
        traffic=traffic,
        total_ms=total_s * 1000,
        card_ms=medium.card_s * 1000,
        document=who.document.value if isinstance(who, Identity) and who.document is not None else None,
        who=who,
        shown=None if proof is None else proof.shown,
    )


def _key(proof: CardProof) -> str | None:
    match proof.evidence:
        case Signed():
            return proof.evidence.algorithm.value
        case Agreed():
            return (KeyAlgorithm.P256 if proof.evidence.suite == opacity.CS2.identifier else KeyAlgorithm.P384).value
        case Mutual():
            return "AES-128" if isinstance(proof.shown, CardToken) else None
        case Recovered():
            return f"RSA-{8 * len(proof.evidence.signature)}"
        case Confirmed() | Unproved():
            return None


def _reason(who: Identity | Refusal) -> Reason:
    return who.reason if isinstance(who, Refusal) else Reason.CERTIFICATE_NOT_YET_VALID
