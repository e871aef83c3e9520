"""Cards with a secure messaging key, the tap that reads them, and the verdict: for the tests of PIV SM-AUTH."""

import datetime as dt
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import settings

from hardware.medium import Target, Technology
from hardware.opacity import CS2, CS7, Suite
from hardware.virtual.piv import PivChip
from hardware.virtual.piv_sm import SmKey
from tests import opacity_by_the_book as book
from tests.validator.attempting import attempt
from tests.validator.authority import NOW, SINCE, UNTIL, Authority, card_key, seconds
from tests.validator.judging import on_list
from validator import choice, piv_cvc, trust, vouching
from validator.certificates import credential_id, spki_of
from validator.choice import Family
from validator.dialogue import Traffic, drive
from validator.model import ClockConfidence, Identity, Instant, KeyAlgorithm, KnownCard, Reason, Refusal
from validator.profiles import piv, piv_sm
from validator.profiles.errors import ProfileError
from validator.proof import Agreed, CardProof, Shown
from validator.trust_store import Signer, TrustStore
from validator.vouching import Authorities

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "piv_sm.json").read_text())
RECORDED = pytest.mark.parametrize("exchange", VECTORS["exchanges"], ids=lambda exchange: exchange["name"])
BOTH = pytest.mark.parametrize("suite", [CS2, CS7], ids=lambda suite: suite.name)
TARGET = Target(Technology.TYPE_A, b"", b"")
SM = Family(piv_sm.NAME, piv_sm.AID, piv_sm.authenticate)
CAK = Family(piv.NAME, piv.AID, piv.authenticate)
SELECT = bytes.fromhex("00A4040009A0000003080000100000")
AT = Instant(seconds(NOW) * 1000, 5_000, bytes(8), ClockConfidence.NTP)
AUTHORITY = Authority.root()
VERSION = 7
ISSUER, GUID = b"ISSUER-1", bytes(range(16))
CARD = {CS2: 1_234_567, CS7: 7_654_321}  # the private number of a card of each suite
KEYS = {suite: ec.derive_private_key(number, suite.curve) for suite, number in CARD.items()}
SIGNERS = {suite: ec.derive_private_key(99, suite.curve) for suite in CARD}
ALGORITHM = {CS2: KeyAlgorithm.P256, CS7: KeyAlgorithm.P384}
CURVES = {0x27: book.P256, 0x2E: book.P384}
slow_examples = settings(max_examples=300 if os.environ.get("PILET_SOAK") == "1" else 15, deadline=None)

Process = Callable[[bytes], bytes]


@dataclass
class Held:
    """A card in the field, what was said to it, and what the gate was told."""

    process: Process
    log: list[bytes] = field(default_factory=list)
    begun: list[Shown] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    def carry(self, command: bytes) -> bytes:
        self.log.append(command)
        return self.process(command)


def certificate(suite: Suite, **changes: Any) -> bytes:
    plain: dict[str, Any] = {
        "issuer": ISSUER,
        "guid": GUID,
        "key": KEYS[suite].public_key(),
        "signer": SIGNERS[suite],
    }
    return piv_cvc.issue(**(plain | changes))


CERTIFICATES = {suite: certificate(suite) for suite in CARD}


def processing(chip: PivChip) -> Process:
    def process(command: bytes) -> bytes:
        response = chip.process(command).response
        assert response is not None
        return response

    return process


def card(suite: Suite, octets: bytes | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> Held:
    """The virtual card, with a card authentication key as well."""
    sm = SmKey(key or KEYS[suite], CERTIFICATES[suite] if octets is None else octets)
    chip = PivChip(card_key(KeyAlgorithm.P256), cak_certificate(), secure_messaging=sm)
    return Held(processing(chip))


def cak_certificate() -> bytes:
    return AUTHORITY.issue(card_key(KeyAlgorithm.P256))


def store(
    suite: Suite = CS2,
    *,
    issuer: bytes = ISSUER,
    signer: ec.EllipticCurvePublicKey | None = None,
    valid: tuple[dt.datetime, dt.datetime] = (SINCE, UNTIL),
) -> TrustStore:
    """The issuers in force: one X.509 authority, and one content signer."""
    first, last = map(seconds, valid)
    key = SIGNERS[suite].public_key() if signer is None else signer
    return TrustStore(VERSION, [AUTHORITY.certificate], sm_signers={issuer: Signer(key, first, last)})


def tap(
    held: Held,
    *,
    known: KnownCard | None = None,
    families: tuple[Family, ...] = (SM, CAK),
    random: Callable[[int], bytes] = os.urandom,
) -> CardProof:
    def find(key: bytes) -> KnownCard | None:
        held.asked.append(key)
        return known

    using = replace(attempt(find, held.begun.append), random=random)
    return drive(choice.authenticate(families, TARGET, using), held.carry, Traffic())


def judged(proof: CardProof, issuers: TrustStore, *, denied: frozenset[bytes] = frozenset()) -> Identity | Refusal:
    vouched = vouching.vouch(proof.shown, Authorities(issuers, lambda _credential: None), AT)
    return trust.judge(proof, vouched, on_list(denied), AT)


def reason_of(held: Held, issuers: TrustStore, **options: Any) -> Reason | None:
    """What becomes of a tap, from the card to the verdict; None for an identity."""
    denied = options.pop("denied", frozenset())
    try:
        proof = tap(held, **options)
    except ProfileError as error:
        return error.reason
    verdict = judged(proof, issuers, denied=denied)
    return verdict.reason if isinstance(verdict, Refusal) else None


def agreed(proof: CardProof) -> Agreed:
    assert isinstance(proof.evidence, Agreed)
    return proof.evidence


def credential(suite: Suite) -> bytes:
    return credential_id(spki_of(KEYS[suite].public_key()))


def known_card(suite: Suite, version: int = VERSION) -> KnownCard:
    spki = spki_of(KEYS[suite].public_key())
    signer = credential_id(spki_of(SIGNERS[suite].public_key()))
    return KnownCard(credential(suite), ALGORITHM[suite], spki, seconds(SINCE), seconds(UNTIL), signer, version)


def answering(answer: Callable[[bytes], bytes], suite: Suite = CS2) -> Held:
    """A card that announces a suite and answers the key establishment with what is made of object 81."""
    selected = template(f"AC068001{suite.identifier:02X}060100") + b"\x90\x00"
    size = 1 + 8 + suite.point_bytes

    def process(command: bytes) -> bytes:
        if command == SELECT:
            return selected
        assert command[:4] == bytes([0x00, 0x87, suite.identifier, 0x04])
        return answer(command[9 : 9 + size])

    return Held(process)


def template(listed: str) -> bytes:
    return book.tlv("61", bytes.fromhex("4F0BA00000030800001000010079074F05A000000308" + listed))


def by_the_book(suite: Suite, octets: bytes, private: int | None = None) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        number = CARD[suite] if private is None else private
        return book.answer(suite.identifier, number, octets, request, os.urandom(suite.nonce_bytes)).data_field + OK

    return answer


OK = b"\x90\x00"


def changed(request: bytes, suite: Suite, **changes: bytes) -> bytes:
    """A good answer with some of its fields replaced."""
    good = book.answer(suite.identifier, CARD[suite], CERTIFICATES[suite], request, bytes(suite.nonce_bytes))
    fields = {"control": b"\x00", "nonce": bytes(suite.nonce_bytes), "cryptogram": good.cryptogram}
    whole = b"".join((fields | {"certificate": CERTIFICATES[suite]} | changes).values())
    return book.tlv("7C", book.tlv("82", whole)) + OK
