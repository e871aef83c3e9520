"""PKOC profile 2: octets, what each wrong answer becomes, the issuer's word, and no way down to profile 1."""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hardware import tlv
from hardware.medium import MediumLost
from hardware.virtual.pkoc import PkocChip, Profile
from tests.hostile import hostile
from tests.validator.attempting import GATE, WALL_MS
from tests.validator.pkoc_cards import (
    DAY,
    IIR,
    ORDER,
    PKOC1,
    PKOC2,
    STRANGER_IIR,
    TODAY,
    VECTORS,
    Gate,
    Held,
    certificate,
    enrolment,
    fresh,
    held,
    identity_of,
    instant,
    key,
    point_of,
    reason_of,
    store,
    tap,
)
from validator.dialogue import MAX_APDUS
from validator.model import Assurance, ClockConfidence, Identity, KnownCard, Reason, Refusal
from validator.profiles import pkoc1, pkoc2
from validator.profiles.attempt import cache_key, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, KeyUnsupported, ProfileError, WrongFamily
from validator.proof import CardProof, PkocCvc, Shown, Signed

SELECT = bytes.fromhex(VECTORS["se-v1-frames"]["select"])
SELECTED = bytes.fromhex(VECTORS["se-v1-frames"]["selected"])
GET_INFO, INFO, GET_CVC = (bytes.fromhex(VECTORS["se-v2-frames"][name]) for name in ("get_info", "info", "get_cvc"))
INTERNAL_AUTHENTICATE = bytes.fromhex(VECTORS["se-v2-frames"]["internal_authenticate_prefix"])
AUTHENTICATE = bytes.fromhex(VECTORS["se-v1-frames"]["authenticate_prefix"])
GET_RESPONSE = bytes.fromhex("00C00000")
OK = b"\x90\x00"
LEAVES_IT_OPEN = ["6700", "6A81", "6A82", "6A86", "6A88", "6B00", "6D00", "6E00", "6F00"]


def sign(challenge: bytes, private: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    der = (private or key()).sign(challenge, ec.ECDSA(hashes.SHA256()))
    return b"".join(number.to_bytes(32) for number in decode_dss_signature(der))


def v2_card(number: int = 0, **facts: Any) -> PkocChip:
    return PkocChip(key(number), cvc=certificate(key(number), **facts))


def like(chip: PkocChip, **answers: Callable[[bytes], bytes]) -> Held:
    """A card that answers as a chip does but for some commands: ``cvc``, ``info``, ``sign``, ``more``."""
    asked = {"cvc": GET_CVC, "info": GET_INFO, "sign": INTERNAL_AUTHENTICATE, "more": GET_RESPONSE}
    chip.reset()

    def process(command: bytes) -> bytes | None:
        for name, answer in answers.items():
            if command.startswith(asked[name]):
                return answer(command)
        return chip.process(command).response

    return Held(process)


def says(answer: str) -> Callable[[bytes], bytes]:
    return lambda _command: bytes.fromhex(answer)


def kept(number: int = 0, trust_version: int = 7) -> KnownCard:
    """The verdict that a first tap leaves behind."""
    who = Gate(trusted=store(trust_version)).judge(tap(held(v2_card(number)), PKOC2))
    assert isinstance(who, Identity)
    assert who.known is not None
    return who.known


class TestGood:
    def test_three_exchanges_of_the_published_form(self) -> None:
        chip = v2_card()
        card, nonce = held(chip), bytes(range(32))
        proof = tap(card, PKOC2, random=lambda count: bytes(range(count)))
        challenge = hashlib.sha256(challenge_message(GATE, WALL_MS, nonce)).digest()
        assert card.log == [SELECT, GET_CVC, INTERNAL_AUTHENTICATE + b"\x20" + challenge + b"\x00"]
        assert isinstance(proof.shown, PkocCvc)
        octets = proof.shown.octets
        assert (proof.profile, proof.assurance) == ("pkoc2", Assurance.CHIP)
        assert proof.cache_key == hashlib.sha256(b"pkoc2\0" + octets).digest() == cache_key(pkoc2.NAME, octets)
        assert isinstance(proof.evidence, Signed)
        assert proof.evidence.challenge == challenge

    def test_an_issuers_card_is_believed_and_then_known(self) -> None:
        who = Gate().judge(tap(held(v2_card()), PKOC2))
        assert isinstance(who, Identity)
        assert (who.credential_id, who.profile, who.assurance) == (identity_of(key()), "pkoc2", Assurance.CHIP)
        assert who.known is not None
        assert who.known.issuer_id == identity_of(key(-1))
        assert dt.datetime.fromtimestamp(who.known.not_before, dt.UTC).date() == TODAY - DAY
        assert dt.datetime.fromtimestamp(who.known.not_after, dt.UTC).date() == TODAY + DAY

    def test_a_known_card_is_recognised_by_its_whole_certificate(self) -> None:
        octets = certificate()
        known = {cache_key(pkoc2.NAME, octets): kept()}
        card = held(PkocChip(key(), cvc=octets))
        proof = tap(card, PKOC2, known=known.get)
        assert len(card.log) == 3
        assert proof.shown == kept()
        who = Gate().judge(proof)
        assert isinstance(who, Identity)
        assert (who.cached, who.credential_id) == (True, identity_of(key()))

    @pytest.mark.parametrize("hit", [False, True], ids=["miss", "hit"])
    def test_what_it_will_be_judged_by_is_announced_before_it_signs(self, *, hit: bool) -> None:
        seen: list[Shown] = []
        when: list[int] = []
        card = held(v2_card())

        def begin(shown: Shown) -> None:
            seen.append(shown)
            when.append(len(card.log))

        proof = tap(card, PKOC2, begin=begin, known=(lambda _key: kept()) if hit else (lambda _key: None))
        assert seen == [proof.shown]
        assert when == [2]

    def test_an_answer_in_pieces(self) -> None:
        card = held(PkocChip(key(), cvc=certificate(), piece=100))
        assert reason_of(Gate().judge(tap(card, PKOC2))) is None
        assert [command[1] for command in card.log] == [0xA4, 0xCA, 0xC0, 0xC0, 0x88]

    @pytest.mark.parametrize("app", [False, True], ids=["card", "app"])
    async def test_a_gate_that_takes_both_takes_the_issuers_word(self, *, app: bool) -> None:
        card = held(PkocChip(key(), cvc=certificate(), app=app))
        who = await Gate(enrolled=enrolment(key())).examine(card)
        assert isinstance(who, Identity)
        assert who.profile == "pkoc2"
        assert len(card.log) == 3


class TestChallenge:
    def test_it_binds_gate_and_moment_and_is_fresh(self) -> None:
        def challenge(gate: str = GATE, wall_ms: int = WALL_MS, nonce: int = 0) -> bytes:
            proof = tap(held(v2_card()), PKOC2, gate=gate, wall_ms=wall_ms, random=lambda count: bytes([nonce]) * count)
            assert isinstance(proof.evidence, Signed)
            assert len(proof.evidence.challenge) == 32
            return proof.evidence.challenge

        assert challenge() == challenge()
        assert len({challenge(), challenge(gate="gate-8"), challenge(wall_ms=WALL_MS + 1), challenge(nonce=1)}) == 4


class TestWhichProfile:
    """INFO is asked only where the answer to the certificate leaves it open."""

    @pytest.mark.parametrize("sw", LEAVES_IT_OPEN)
    def test_a_card_that_says_profile_2_and_has_no_certificate(self, sw: str) -> None:
        card = like(v2_card(), cvc=says(sw))
        with pytest.raises(CardRefused, match=sw) as caught:
            tap(card, PKOC2, PKOC1)
        assert caught.value.reason is Reason.MALFORMED_ANSWER
        assert card.log == [SELECT, GET_CVC, GET_INFO]

    @pytest.mark.parametrize(
        "info",
        [
            *LEAVES_IT_OPEN,
            "6985",
            "9000",
            "7F63 00 9000",
            "7F63 02 5C00 9000",
            "7F63 04 5C020100 9000",
            "7F63 05 5C03010200 9000",
            "7F63 06 5C020200 9000",
            "5C020200 9000",
            "7F21 04 5C020200 9000",
            "7F63045C0202 00",
        ],
    )
    def test_a_card_that_does_not_is_profile_1s(self, info: str) -> None:
        card = like(PkocChip(key(), profiles={Profile.SE_V1}), cvc=says("6D00"), info=says(info))
        with pytest.raises(WrongFamily):
            tap(card, PKOC2)
        proof = tap(like(PkocChip(key(), profiles={Profile.SE_V1}), cvc=says("6D00"), info=says(info)), PKOC2, PKOC1)
        assert proof.profile == "pkoc1"

    @pytest.mark.parametrize("info", ["7F63085C060100 02000300 9000", "7F66 00 7F63 06 5C020200 8000 9000"])
    def test_a_card_that_says_more_is_profile_2s(self, info: str) -> None:
        with pytest.raises(CardRefused):
            tap(like(v2_card(), cvc=says("6A88"), info=says(info)), PKOC2, PKOC1)

    @pytest.mark.parametrize("app", [False, True], ids=["card", "app"])
    def test_profile_1_costs_two_exchanges_more(self, *, app: bool) -> None:
        card = held(PkocChip(key(), profiles={Profile.SE_V1}, app=app))
        assert tap(card, PKOC2, PKOC1).profile == "pkoc1"
        assert [command[:4] for command in card.log] == [SELECT[:4], GET_CVC[:4], GET_INFO[:4], AUTHENTICATE]

    @pytest.mark.parametrize("sw", ["6982", "6985", "6300", "6283", "61FF", "6C00"])
    def test_any_other_error_ends_it_without_a_question(self, sw: str) -> None:
        card = like(v2_card(), cvc=says(sw))
        with pytest.raises((CardRefused, CardMalformed)):
            tap(card, PKOC2, PKOC1)
        assert GET_INFO not in card.log
        assert not any(command.startswith(AUTHENTICATE) for command in card.log)

    def test_an_error_with_data_ends_it_too(self) -> None:
        card = like(v2_card(), cvc=says("7F21 6D00"))
        with pytest.raises(CardRefused):
            tap(card, PKOC2, PKOC1)
        assert GET_INFO not in card.log

    @pytest.mark.parametrize("selected", ["6A82", "6D00", "6999"])
    def test_no_application(self, selected: str) -> None:
        card = Held(lambda _command: bytes.fromhex(selected))
        with pytest.raises(WrongFamily):
            tap(card, PKOC2, PKOC1)
        assert card.log == [SELECT]

    def test_a_card_asked_for_profile_1_first_may_turn_out_to_be_profile_2s(self) -> None:
        card = held(PkocChip(key(), cvc=certificate(), profiles={Profile.SE_V2}))
        assert tap(card, PKOC1, PKOC2).profile == "pkoc2"

    def test_both_live_under_one_application(self) -> None:
        assert pkoc1.AID == pkoc2.AID


def signing(answer: Callable[[bytes], bytes]) -> Held:
    """A good card that puts its answer to a challenge in another way."""
    return like(v2_card(), sign=lambda command: answer(command[5:37]), more=answer)


class TestRefusals:
    @pytest.mark.parametrize(
        ("answer", "error", "why"),
        [
            (lambda _: b"\x69\x85", CardRefused, "6985"),
            (lambda _: b"\x67\x00", CardRefused, "6700"),
            (lambda _: b"\x6d\x00", CardRefused, "6D00"),
            (lambda _: b"\x6a\x88", CardRefused, "6A88"),
            (lambda _: OK, CardMalformed, "expected one object 9E"),
            (lambda _: b"\x61\x00", CardMalformed, "brings none"),
            (lambda _: b"\x00\x61\x00", CardMalformed, "more than"),
            (lambda c: tlv.encode(0x9F, sign(c)) + OK, CardMalformed, "."),
            (lambda c: tlv.encode(0x5A, sign(c)) + OK, CardMalformed, "found 5A"),
            (lambda c: tlv.encode(0x9E, sign(c)) * 2 + OK, CardMalformed, "found 9E, 9E"),
            (lambda c: tlv.encode(0x9E, sign(c))[:-1] + OK, CardMalformed, "says 64"),
            (lambda c: tlv.encode(0x9E, sign(c)) + b"\x00" + OK, CardMalformed, "length missing"),
            (lambda c: tlv.encode(0x9E, sign(c)[1:]) + OK, CardMalformed, "63 bytes"),
            (lambda c: tlv.encode(0x9E, key().sign(c, ec.ECDSA(hashes.SHA256()))) + OK, CardMalformed, "r\\|\\|s"),
            (lambda c: sign(c) + OK, CardMalformed, "."),
            (lambda _: tlv.encode(0x9E, bytes(64)) + OK, CardMalformed, "out of range"),
            (lambda c: tlv.encode(0x9E, sign(c)[:32] + ORDER.to_bytes(32)) + OK, CardMalformed, "out of range"),
        ],
    )
    def test_each_wrong_answer_to_the_challenge(
        self, answer: Callable[[bytes], bytes], error: type[ProfileError], why: str
    ) -> None:
        with pytest.raises(error, match=why) as caught:
            tap(signing(answer), PKOC2, PKOC1)
        assert type(caught.value) is error
        assert caught.value.reason is Reason.MALFORMED_ANSWER

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda cvc: b"",
            lambda cvc: cvc[:-1],
            lambda cvc: cvc + b"\x00",
            lambda cvc: cvc[4:],
            lambda cvc: b"\x7f\x4e" + cvc[2:],
            lambda cvc: cvc * 2,
            lambda cvc: cvc.replace(
                bytes.fromhex("5F290100"), bytes.fromhex("5F290180")
            ),  # a PIV certificate's profile
            lambda cvc: cvc.replace(IIR, IIR.lower()),
            lambda cvc: cvc.replace(point_of(key()), point_of(key())[:-1] + bytes([point_of(key())[-1] ^ 1])),
        ],
    )
    def test_a_bad_certificate_is_not_challenged_and_not_tried_as_profile_1(
        self, spoil: Callable[[bytes], bytes]
    ) -> None:
        spoilt = spoil(certificate())
        assert spoilt != certificate()
        card = like(v2_card(), cvc=lambda _command: spoilt + OK)
        with pytest.raises(CardMalformed):
            tap(card, PKOC2, PKOC1)
        assert card.log == [SELECT, GET_CVC]

    def test_a_key_on_another_curve(self) -> None:
        other = certificate().replace(bytes.fromhex("06082A8648CE3D030107"), bytes.fromhex("06082A8648CE3D030106"))
        card = like(v2_card(), cvc=lambda _command: other + OK)
        with pytest.raises(KeyUnsupported) as caught:
            tap(card, PKOC2, PKOC1)
        assert caught.value.reason is Reason.UNSUPPORTED_KEY
        assert card.log == [SELECT, GET_CVC]


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=300),
    st.tuples(
        st.one_of(
            st.binary(max_size=256),
            st.just(INFO[:-2]),
            st.tuples(st.integers(0, 213), st.integers(0, 255)).map(
                lambda spoil: bytes(b ^ spoil[1] * (i == spoil[0]) for i, b in enumerate(certificate()))
            ),
            st.binary(min_size=64, max_size=64).map(lambda raw: tlv.encode(0x9E, raw)),
        ),
        st.sampled_from(["9000", "9000", "6100", "6110", "6C10", "6A88", "6D00", "6F00"]),
    ).map(lambda parts: parts[0] + bytes.fromhex(parts[1])),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=8), last=ANSWER, known=st.booleans())
    def test_any_answers_open_nothing_and_end_within_bounds(
        self, answers: list[bytes], last: bytes, *, known: bool
    ) -> None:
        script = iter([SELECTED, *answers])
        card = Held(lambda _command: next(script, last))
        try:
            proof = tap(card, PKOC2, PKOC1, known=(lambda _key: kept()) if known else (lambda _key: None))
        except ProfileError:
            pass
        else:
            assert reason_of(Gate().judge(proof)) is Reason.WRONG_SIGNATURE
        assert len(card.log) <= MAX_APDUS

    @given(
        which=st.sampled_from([GET_CVC, INTERNAL_AUTHENTICATE]), position=st.integers(0, 215), flip=st.integers(1, 255)
    )
    def test_one_spoilt_byte_opens_nothing(self, which: bytes, position: int, flip: int) -> None:
        chip = v2_card()

        def process(command: bytes) -> bytes | None:
            answer = chip.process(command).response
            if answer is None or not command.startswith(which):
                return answer
            spoilt = bytearray(answer)
            spoilt[position % len(spoilt)] ^= flip
            return bytes(spoilt)

        try:
            proof = tap(Held(process), PKOC2, PKOC1)
        except ProfileError:
            return
        assert reason_of(Gate().judge(proof)) in (Reason.WRONG_SIGNATURE, Reason.UNTRUSTED_ISSUER)


class TestReasons:
    """The negative suite: what a gate records of each card that it must not believe, on a miss and on a hit."""

    @pytest.fixture(params=[False, True], ids=["miss", "hit"])
    def gate(self, request: pytest.FixtureRequest) -> Gate:
        return Gate(known=(lambda _key: kept()) if request.param else (lambda _key: None))

    async def test_a_good_card(self, gate: Gate) -> None:
        assert reason_of(await gate.examine(held(v2_card()))) is None

    async def test_a_clone_has_the_certificate_but_not_the_key(self, gate: Gate) -> None:
        clone = held(PkocChip(key(1), cvc=certificate()))
        assert await gate.examine(clone) == Refusal(Reason.WRONG_SIGNATURE, "pkoc2")

    async def test_replayed(self, gate: Gate) -> None:
        recorded = held(v2_card())
        tap(recorded, PKOC2)
        answer = recorded.process(recorded.log[-1])
        assert answer is not None
        card = like(v2_card(), sign=lambda _command: answer)
        assert await gate.examine(card) == Refusal(Reason.WRONG_SIGNATURE, "pkoc2")

    async def test_revoked(self, gate: Gate) -> None:
        denying = replace(gate, denied=frozenset({identity_of(key())}))
        assert await denying.examine(held(v2_card())) == Refusal(Reason.REVOKED, "pkoc2", identity_of(key()))

    @pytest.mark.parametrize(
        ("wall_ms", "reason"),
        [
            (-1, Reason.CERTIFICATE_NOT_YET_VALID),
            (0, None),
            (3 * 86_400_000 - 1, None),
            (3 * 86_400_000, Reason.CERTIFICATE_EXPIRED),
        ],
    )
    async def test_its_days_are_whole_days(self, gate: Gate, wall_ms: int, reason: Reason | None) -> None:
        """Valid on three days: from the first second of the first to the last of the last, UTC."""
        begin_ms = int(dt.datetime.combine(TODAY - DAY, dt.time(), dt.UTC).timestamp() * 1000)
        who = await replace(gate, at=instant(begin_ms + wall_ms)).examine(held(v2_card()))
        assert reason_of(who) is reason

    async def test_early_by_a_clock_that_may_lag(self, gate: Gate) -> None:
        at = instant(WALL_MS - 2 * 86_400_000, ClockConfidence.RTC)
        who = await replace(gate, at=at).examine(held(v2_card()))
        assert isinstance(who, Identity)
        assert who.early

    async def test_a_verdict_of_another_trust_list(self) -> None:
        gate = Gate(trusted=store(8), known=lambda _key: kept(trust_version=7))
        assert reason_of(await gate.examine(held(v2_card()))) is Reason.PRESENT_AGAIN

    @pytest.mark.parametrize(
        "facts",
        [
            {"signer": -2},
            {"signer": -2, "issuer": STRANGER_IIR},
            {"issuer": STRANGER_IIR},
            {"signer": 0},  # signed by itself
        ],
        ids=["forged", "stranger", "another name", "self"],
    )
    async def test_wrong_issuer(self, facts: dict[str, Any]) -> None:
        who = await Gate(enrolled=enrolment(key())).examine(held(v2_card(**facts)))
        assert who == Refusal(Reason.UNTRUSTED_ISSUER, "pkoc2", identity_of(key()))

    async def test_expired_and_forged_is_forged(self) -> None:
        card = v2_card(signer=-2, first_day=TODAY - 3 * DAY, last_day=TODAY - 2 * DAY)
        assert reason_of(await Gate().examine(held(card))) is Reason.UNTRUSTED_ISSUER

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            ({"cvc": says("6A88")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("6985")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("9000")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("6100"), "more": says("6100")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("6100"), "more": says("6D00")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("00 6100"), "more": says("00 6100")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("00 6100"), "more": says("6C01")}, Reason.MALFORMED_ANSWER),
            ({"cvc": says("6A88"), "info": says("00 6100"), "more": says("00 6100")}, Reason.MALFORMED_ANSWER),
            ({"sign": says("6D00")}, Reason.MALFORMED_ANSWER),
            ({"sign": says("6F00")}, Reason.MALFORMED_ANSWER),
            ({"sign": says("9E00 9000")}, Reason.MALFORMED_ANSWER),
        ],
    )
    async def test_no_failure_leads_down_to_profile_1(
        self, spoil: dict[str, Callable[[bytes], bytes]], reason: Reason
    ) -> None:
        """Even for a card whose key is enrolled and would sign."""
        card = like(v2_card(), **spoil)
        assert reason_of(await Gate(enrolled=enrolment(key())).examine(card)) is reason
        assert not any(command.startswith(AUTHENTICATE) for command in card.log)

    async def test_downgraded_between_card_and_gate(self) -> None:
        """Who hides both commands of profile 2 is left with a bare key, and that nobody has enrolled."""
        card = like(v2_card(), cvc=says("6D00"), info=says("6D00"))
        assert await Gate().examine(card) == Refusal(Reason.NOT_ENROLLED, "pkoc1", identity_of(key()))

    async def test_another_familys_card(self) -> None:
        """A card that answers to the name and knows nothing of PKOC."""
        card = Held(lambda command: OK if command == SELECT else b"\x6d\x00")
        assert reason_of(await Gate().examine(card)) is Reason.UNKNOWN_MEDIUM

    @pytest.mark.parametrize("apdus", [0, 1, 2])
    async def test_torn_at_every_apdu(self, gate: Gate, apdus: int) -> None:
        assert await gate.examine(held(v2_card(), tear_before=apdus)) == Refusal(Reason.PRESENT_AGAIN)

    @pytest.mark.parametrize("apdus", range(5))
    async def test_torn_between_pieces(self, apdus: int) -> None:
        card = held(PkocChip(key(), cvc=certificate(), piece=100), tear_before=apdus)
        assert await Gate().examine(card) == Refusal(Reason.PRESENT_AGAIN)

    def test_presented_again_it_gets_another_challenge(self) -> None:
        card, random = held(v2_card()), fresh()
        with pytest.raises(MediumLost):
            tap(replace(card, tear_before=2), PKOC2, random=random)
        first = card.log.copy()
        proof: CardProof = tap(replace(card, log=[]), PKOC2, random=random)
        assert isinstance(proof.evidence, Signed)
        assert len(first) == 3
        assert first[2][5:37] != proof.evidence.challenge
        assert reason_of(Gate().judge(proof)) is None
