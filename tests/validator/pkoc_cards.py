"""PKOC cards, issuers and gates for tests: what is held against a reader, and what becomes of it."""

import datetime as dt
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hardware.medium import Medium, MediumLost, Target, Technology, Transceive
from hardware.virtual.chip import Chip
from tests.conversing import MeetsByWaiting
from tests.validator.attempting import WALL_MS, attempt, stranger
from tests.validator.authority import Authority
from tests.validator.judging import on_list
from validator import choice, pkoc_cvc, trust, vouching
from validator.certificates import credential_id, spki_of
from validator.choice import Family
from validator.dialogue import Profile, Traffic, drive
from validator.model import ClockConfidence, Identity, Instant, KnownCards, Reason, Refusal
from validator.presentation import Examiner
from validator.profiles import pkoc1, pkoc2
from validator.proof import CardProof, LookAhead
from validator.trust_store import TrustStore

_T = TypeVar("_T")

VECTORS: dict[str, dict[str, Any]] = {
    entry["name"]: entry for entry in json.loads((Path(__file__).parents[1] / "vectors" / "pkoc.json").read_text())
}

PKOC1 = Family(pkoc1.NAME, pkoc1.AID, pkoc1.authenticate)
PKOC2 = Family(pkoc2.NAME, pkoc2.AID, pkoc2.authenticate)
TARGET = Target(Technology.TYPE_A, bytes.fromhex("08112233"), b"")

IIR, STRANGER_IIR = b"PILETTARTU000001", b"SOMEBODYELSE0001"
TODAY = dt.datetime.fromtimestamp(WALL_MS / 1000, dt.UTC).date()
DAY = dt.timedelta(days=1)
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """A P-256 key, the same for the whole session: cards count up from 0, issuers down from -1."""
    return _key(number)


@functools.cache
def _key(_number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def point_of(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def certificate(
    card: ec.EllipticCurvePrivateKey | None = None,
    *,
    signer: int = -1,
    issuer: bytes = IIR,
    first_day: dt.date = TODAY - DAY,
    last_day: dt.date = TODAY + DAY,
) -> bytes:
    return pkoc_cvc.issue(
        key(signer),
        issuer=issuer,
        subject=b"SUBJECT000000001",
        key=(key() if card is None else card).public_key(),
        first_day=first_day,
        last_day=last_day,
    )


@functools.cache
def store(version: int = 7) -> TrustStore:
    """Trusts key -1 as `IIR`."""
    return TrustStore(version, [Authority.root().certificate], pkoc_issuers={IIR: key(-1).public_key()})


def fresh() -> Callable[[int], bytes]:
    """Randomness of which no two pieces are the same."""
    calls = itertools.count(1)
    return lambda count: next(calls).to_bytes(4).rjust(count, b"\xa5")


RANDOM = fresh()


def instant(wall_ms: int = WALL_MS, confidence: ClockConfidence = ClockConfidence.NTP) -> Instant:
    return Instant(wall_ms, 5_000, bytes(8), confidence)


@dataclass
class Held:
    """A card in the field of a reader: carries APDUs, keeps a log of them, and may be torn away.

    Attributes:
        process: Answers an APDU; silence is a torn card.
        tear_before: Number of the APDU, from 0, that does not reach it any more.
    """

    process: Callable[[bytes], bytes | None]
    tear_before: int | None = None
    target: Target = TARGET
    found_s: float = 0.0
    card_s: float = 0.0
    log: list[bytes] = field(default_factory=list)

    def transceive(self, command: bytes) -> bytes:
        answer = None if len(self.log) == self.tear_before else self.process(command)
        self.log.append(command)
        if answer is None:
            raise MediumLost("test", "torn away")
        return answer

    async def converse(self, dialogue: Callable[[Transceive], _T]) -> _T:
        return dialogue(self.transceive)

    async def present(self) -> bool:
        return self.tear_before is None

    async def removed(self) -> None:
        """It leaves when it is told to."""


def held(chip: Chip, tear_before: int | None = None) -> Held:
    chip.reset()
    return Held(lambda command: chip.process(command).response, tear_before)


def dialogue(
    families: Iterable[Family],
    *,
    known: KnownCards = stranger,
    begin: LookAhead = lambda _shown: None,
    random: Callable[[int], bytes] = RANDOM,
    gate: str | None = None,
    wall_ms: int = WALL_MS,
) -> Profile:
    asked = replace(attempt(known, begin), random=random, wall_ms=wall_ms)
    return choice.authenticate(tuple(families), TARGET, asked if gate is None else replace(asked, gate=gate))


def tap(card: Held, *families: Family, **asked: Any) -> CardProof:
    """Drive one dialogue, within the bounds of every dialogue."""
    return drive(dialogue(families, **asked), card.transceive, Traffic())


@dataclass(frozen=True)
class Gate:
    """A gate that takes some families: who is enrolled, denied and trusted there, and when it is.

    Attributes:
        families: In the order in which they are asked.
        enrolled: Keys that may come alone, by their credential id.
        denied: Credential ids on the deny list.
        trusted: Issuers in force.
        at: Now.
        known: Verdicts kept.
    """

    families: tuple[Family, ...] = (PKOC2, PKOC1)
    enrolled: Mapping[bytes, bytes] = field(default_factory=dict)
    denied: frozenset[bytes] = frozenset()
    trusted: TrustStore = field(default_factory=store)
    at: Instant = field(default_factory=instant)
    known: KnownCards = stranger

    def judge(self, proof: CardProof) -> Identity | Refusal:
        vouched = vouching.vouch(proof.shown, vouching.Authorities(self.trusted, self.enrolled.get), self.at)
        return trust.judge(proof, vouched, on_list(self.denied), self.at)

    async def examine(self, card: Held) -> Identity | Refusal:
        """Present a card as a station does."""
        ask = functools.partial(dialogue, self.families, known=self.known, wall_ms=self.at.wall_ms)
        examiner = Examiner(_Lane(card), lambda _target: ask(), self.judge, 10.0)
        return (await examiner.examine(await examiner.meet())).who


@dataclass
class _Lane(MeetsByWaiting):
    """A reader against which one card is held: activated anew it is the same card."""

    card: Held
    name: str = "test"
    polls: int = 0

    async def open(self) -> None: ...

    async def wait(self) -> Medium:
        return self.card

    async def close(self) -> None: ...


def enrolment(*keys: ec.EllipticCurvePrivateKey) -> dict[bytes, bytes]:
    spkis = [spki_of(each.public_key()) for each in keys]
    return {credential_id(spki): spki for spki in spkis}


def identity_of(private: ec.EllipticCurvePrivateKey) -> bytes:
    return credential_id(spki_of(private.public_key()))


def reason_of(who: Identity | Refusal) -> Reason | None:
    return who.reason if isinstance(who, Refusal) else None
