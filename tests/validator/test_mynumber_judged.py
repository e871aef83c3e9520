"""From the card to the verdict: which rung each mode of a MyNumber card reaches, and why it is refused where it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hardware.apdu import ResponseApdu
from hardware.virtual.mynumber import MynumberChip
from tests.validator.attempting import attempt
from tests.validator.authority import DAY, NOW, SINCE, UNTIL, usage
from tests.validator.judging import instant, nobody, nobody_enrolled
from tests.validator.mynumber_cards import (
    BIRTH_DIGITS,
    CARD,
    FOR_AUTHENTICATION,
    IDENTIFICATION,
    ROOT,
    ROOT_ID,
    STRANGER,
    Exchanges,
    Generation,
    chip,
    der_of,
    generation,
    over,
    policies,
    rsa_key,
    tap,
    with_pin,
)
from validator import trust, vouching
from validator.certificates import credential_id, spki_of, token_id
from validator.model import Assurance, Credential, DocumentType, Identity, Instant, Reason, Refusal, Scheme
from validator.profiles import jpki, mynumber_surface
from validator.profiles.attempt import Attempt
from validator.proof import CardProof
from validator.surface_enrolment import SurfaceEnrolment, collect, judge, opening_digits
from validator.trust_store import NationalIssuers, TrustStore
from validator.vouching import Authorities

SELECTED = ResponseApdu(b"", 0x9000)


@pytest.fixture(scope="module")
def store() -> TrustStore:
    """Trusts the second generation of the authority and the third; the first is over."""
    anchors = tuple(generation(number).certificate for number in (2, 3))
    return TrustStore(1, [], national={Scheme.JAPAN: NationalIssuers(anchors)})


def verdict(
    proof: CardProof,
    store: TrustStore,
    *,
    enrolled: SurfaceEnrolment | None = None,
    denied: Callable[[Credential], bool] = nobody,
    at: Instant | None = None,
) -> Identity | Refusal:
    names = {} if enrolled is None else {token_id(mynumber_surface.NAME, enrolled.identifier): enrolled.spki}
    moment = at or instant()
    vouched = vouching.vouch(proof.shown, Authorities(store, nobody_enrolled, names.get), moment)
    return trust.judge(proof, vouched, denied, moment)


def reason(*given: Any, **more: Any) -> Reason | None:
    found = verdict(*given, **more)
    return found.reason if isinstance(found, Refusal) else None


def by_jpki(card: MynumberChip, what: Attempt) -> CardProof:
    return tap(jpki.authenticate(what, SELECTED), over(card))


def by_surface(card: MynumberChip, what: Attempt | None = None) -> CardProof:
    return tap(mynumber_surface.authenticate(what or attempt(), SELECTED), over(card))


def enrol(card: MynumberChip) -> SurfaceEnrolment:
    files = tap(collect(attempt(), opening_digits(BIRTH_DIGITS)), over(card))
    return judge(files, {ROOT_ID: ROOT().public_key()})


def issued(by: Generation, **how: Any) -> MynumberChip:
    return chip(authentication_certificate=der_of(by.issue(CARD(), **how)))


class TestRungs:
    def test_a_certificate_alone_is_a_claim(self, store: TrustStore) -> None:
        found = verdict(by_jpki(chip(), attempt()), store)
        assert isinstance(found, Identity)
        assert (found.assurance, found.document) == (Assurance.CLAIMED, DocumentType.RESIDENT)
        assert found.credential_id == credential_id(spki_of(CARD().public_key()))

    def test_a_clone_can_claim_as_well(self, store: TrustStore) -> None:
        """Which is why a claim is worth no more."""
        found = verdict(by_jpki(chip(authentication_key=STRANGER()), attempt()), store)
        assert isinstance(found, Identity)
        assert found.assurance is Assurance.CLAIMED

    def test_the_pin_proves_the_holder(self, store: TrustStore) -> None:
        found = verdict(by_jpki(chip(), with_pin()), store)
        assert isinstance(found, Identity)
        assert (found.assurance, found.profile) == (Assurance.HOLDER, "jpki")

    def test_an_enrolled_card_proves_its_chip(self, store: TrustStore) -> None:
        enrolled = enrol(chip())
        found = verdict(by_surface(chip()), store, enrolled=enrolled)
        assert isinstance(found, Identity)
        assert (found.assurance, found.profile) == (Assurance.CHIP, "mynumber-surface")
        assert found.credential_id == credential_id(enrolled.spki)


class TestRefused:
    def test_a_clone_without_the_key(self, store: TrustStore) -> None:
        assert reason(by_jpki(chip(authentication_key=STRANGER()), with_pin()), store) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize("pin", [False, True])
    def test_a_generation_that_is_not_trusted(self, store: TrustStore, *, pin: bool) -> None:
        card = issued(generation(1))
        assert reason(by_jpki(card, with_pin() if pin else attempt()), store) is Reason.UNTRUSTED_ISSUER

    def test_a_test_authority_of_the_same_name(self, store: TrustStore) -> None:
        card = issued(Generation.make(rsa_key(57)))
        assert reason(by_jpki(card, with_pin()), store) is Reason.UNTRUSTED_ISSUER

    @pytest.mark.parametrize(
        "extensions",
        [((usage(sign=True), True), (policies("1.2.392.200149.8.5.1.1.20"), True)), ()],
        ids=["for signatures", "for nothing"],
    )
    def test_a_certificate_for_another_purpose(self, store: TrustStore, extensions: Any) -> None:
        assert extensions != FOR_AUTHENTICATION
        card = issued(generation(2), extensions=extensions)
        assert reason(by_jpki(card, with_pin()), store) is Reason.WRONG_KEY_USAGE

    @pytest.mark.parametrize(
        ("when", "why"),
        [(UNTIL + DAY, Reason.CERTIFICATE_EXPIRED), (SINCE - DAY, Reason.CERTIFICATE_NOT_YET_VALID), (NOW, None)],
    )
    def test_dates(self, store: TrustStore, when: Any, why: Reason | None) -> None:
        assert reason(by_jpki(chip(), with_pin()), store, at=instant(when)) is why

    def test_a_network_that_takes_no_japanese_cards(self) -> None:
        assert reason(by_jpki(chip(), with_pin()), TrustStore(1, [])) is Reason.UNTRUSTED_ISSUER

    def test_a_card_that_nobody_enrolled(self, store: TrustStore) -> None:
        assert reason(by_surface(chip()), store) is Reason.NOT_ENROLLED

    def test_another_card_that_was_enrolled(self, store: TrustStore) -> None:
        enrolled = replace(enrol(chip()), identifier=b"4AB00000000018")
        assert reason(by_surface(chip()), store, enrolled=enrolled) is Reason.NOT_ENROLLED

    def test_an_apparatus_that_tells_anothers_number(self, store: TrustStore) -> None:
        enrolled = enrol(chip())
        apparatus = chip(surface_key=STRANGER(), identification=IDENTIFICATION)
        assert reason(by_surface(apparatus), store, enrolled=enrolled) is Reason.WRONG_SIGNATURE

    def test_a_tap_that_is_played_again(self, store: TrustStore) -> None:
        enrolled, heard = enrol(chip()), over(chip())
        assert isinstance(
            verdict(tap(mynumber_surface.authenticate(attempt(), SELECTED), heard), store, enrolled=enrolled), Identity
        )
        answers = iter([answer for _, answer in heard.log])
        later = replace(attempt(), wall_ms=attempt().wall_ms + 1)
        replayed = tap(mynumber_surface.authenticate(later, SELECTED), Exchanges(lambda _command: next(answers)))
        assert reason(replayed, store, enrolled=enrolled) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize("mode", ["holder", "chip"])
    def test_a_card_on_the_deny_list(self, store: TrustStore, mode: str) -> None:
        enrolled = enrol(chip())
        proof = by_jpki(chip(), with_pin()) if mode == "holder" else by_surface(chip())
        assert reason(proof, store, enrolled=enrolled, denied=lambda _credential: True) is Reason.REVOKED
