"""PKOC profile 1: octets, what each wrong answer becomes, and the enrolled key that decides."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hardware.medium import MediumLost
from hardware.virtual.pkoc import LeRule, PkocChip, Profile
from tests.hostile import hostile
from tests.validator.attempting import GATE, REGION
from tests.validator.authority import Authority
from tests.validator.pkoc_cards import (
    ORDER,
    PKOC1,
    VECTORS,
    Gate,
    Held,
    enrolment,
    fresh,
    held,
    identity_of,
    key,
    point_of,
    reason_of,
    tap,
)
from validator import pkoc_cvc
from validator.certificates import credential_id, spki_of
from validator.dialogue import MAX_APDUS
from validator.model import Assurance, Identity, Reason, Refusal
from validator.profiles import pkoc1
from validator.profiles.errors import CardMalformed, CardRefused, ProfileError, WrongFamily
from validator.proof import BareKey, CardProof, Shown, Signed
from validator.trust_store import TrustStore

SELECT = bytes.fromhex(VECTORS["se-v1-frames"]["select"])
SELECTED = bytes.fromhex(VECTORS["se-v1-frames"]["selected"])
PUBLISHED = {
    name: bytes.fromhex(VECTORS["se-v1-signature"][name]) for name in ("transaction_id", "public_key", "signature")
}
V1_ONLY = frozenset({Profile.SE_V1})


def v1_card(number: int = 0) -> PkocChip:
    return PkocChip(key(number), profiles=V1_ONLY)


def gate(*enrolled: int) -> Gate:
    return Gate((PKOC1,), enrolment(*(key(number) for number in enrolled)))


def object_of(tag: int, value: bytes) -> bytes:
    return bytes([tag, len(value)]) + value


def answering(answer: Callable[[bytes], bytes], selected: bytes = SELECTED) -> Held:
    """A card of two answers: to SELECT, and what it makes of the transaction identifier."""
    return Held(lambda command: selected if command == SELECT else answer(command[11:27]))


def sign(transaction: bytes, private: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    der = (private or key()).sign(transaction, ec.ECDSA(hashes.SHA256()))
    return b"".join(number.to_bytes(32) for number in decode_dss_signature(der))


def good(transaction: bytes) -> bytes:
    return object_of(0x5A, point_of(key())) + object_of(0x9E, sign(transaction)) + b"\x90\x00"


class TestGood:
    def test_two_exchanges_of_the_published_form(self) -> None:
        card = held(v1_card())
        proof = tap(card, PKOC1, random=lambda count: bytes(range(count)))
        site, reader = pkoc1.reader_identifier(REGION, GATE)[:16], pkoc1.reader_identifier(REGION, GATE)[16:]
        prefix = VECTORS["se-v1-frames"]["authenticate_prefix"]
        transaction = bytes(range(16))
        assert card.log == [
            SELECT,
            bytes.fromhex(f"{prefix}385C0201004C10{transaction.hex()}4D20{site.hex()}{reader.hex()}00"),
        ]
        assert (proof.profile, proof.assurance, proof.cache_key) == ("pkoc1", Assurance.CHIP, None)
        assert proof.shown == BareKey(spki_of(key().public_key()))
        assert isinstance(proof.evidence, Signed)
        assert proof.evidence.challenge == transaction

    def test_an_enrolled_card_is_believed(self) -> None:
        who = gate(0).judge(tap(held(v1_card()), PKOC1))
        assert isinstance(who, Identity)
        assert (who.credential_id, who.profile, who.assurance) == (identity_of(key()), "pkoc1", Assurance.CHIP)
        assert not who.cached

    def test_nothing_is_announced_before_the_key_is_there(self) -> None:
        seen: list[Shown] = []
        tap(held(v1_card()), PKOC1, begin=seen.append)
        assert seen == []

    def test_the_published_exchange(self) -> None:
        """Reader role: the published transaction, the published answer, judged as every tap is."""
        card = answering(
            lambda transaction: (
                object_of(0x5A, PUBLISHED["public_key"]) + object_of(0x9E, PUBLISHED["signature"]) + b"\x90\x00"
                if transaction == PUBLISHED["transaction_id"]
                else b"\x6f\x00"
            )
        )
        proof = tap(card, PKOC1, random=lambda _count: PUBLISHED["transaction_id"])
        spki = spki_of(pkoc_cvc.load_point(PUBLISHED["public_key"]))
        who = replace(gate(), enrolled={credential_id(spki): spki}).judge(proof)
        assert isinstance(who, Identity)
        assert who.credential_id == credential_id(spki)
        assert reason_of(gate().judge(proof)) is Reason.NOT_ENROLLED

    def test_objects_come_in_any_order_and_strangers_among_them(self) -> None:
        def answer(transaction: bytes) -> bytes:
            parts = (object_of(0xF8, b"later"), object_of(0x9E, sign(transaction)), b"\x7f\x66\x01\x00")
            return b"".join(parts) + object_of(0x5A, point_of(key())) + b"\x90\x00"

        assert reason_of(gate(0).judge(tap(answering(answer), PKOC1))) is None

    def test_an_answer_in_pieces(self) -> None:
        card = held(PkocChip(key(), profiles=V1_ONLY, piece=100))
        assert reason_of(gate(0).judge(tap(card, PKOC1))) is None
        assert card.log[-1] == bytes.fromhex("00C0000021")

    @pytest.mark.parametrize(
        "versions", ["5C020100", "5C0402000100", "5C0401000200", "7F66010 05C020100".replace(" ", "")]
    )
    def test_a_card_may_offer_more(self, versions: str) -> None:
        card = answering(good, bytes.fromhex(versions + "9000"))
        assert reason_of(gate(0).judge(tap(card, PKOC1))) is None


class TestReader:
    def test_its_identifier_is_stable_and_its_own(self) -> None:
        one = pkoc1.reader_identifier("tartu", "gate-7")
        assert one == pkoc1.reader_identifier("tartu", "gate-7")
        assert len(one) == 32
        assert one[:16] == pkoc1.reader_identifier("tartu", "gate-8")[:16]
        assert one[16:] == pkoc1.reader_identifier("narva", "gate-7")[16:]

    @given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=2, unique=True))
    def test_no_two_gates_share_one(self, gates: list[tuple[str, str]]) -> None:
        assert pkoc1.reader_identifier(*gates[0]) != pkoc1.reader_identifier(*gates[1])

    @given(st.text(max_size=20))
    def test_a_site_is_no_reader(self, name: str) -> None:
        identifier = pkoc1.reader_identifier(name, name)
        assert identifier[:16] != identifier[16:]


class TestLe:
    @pytest.mark.parametrize("sw", ["6700", "6F00"])
    def test_once_more_without_it_and_with_a_fresh_transaction(self, sw: str) -> None:
        card = Held(lambda _command: b"")
        answers = iter([SELECTED, bytes.fromhex(sw)])
        card.process = lambda command: next(answers, None) or good(command[11:27])
        proof = tap(card, PKOC1)
        first, second = card.log[1], card.log[2]
        assert (len(first), first[-1], len(second)) == (62, 0, 61)
        assert first[11:27] != second[11:27]
        assert isinstance(proof.evidence, Signed)
        assert proof.evidence.challenge == second[11:27]
        assert reason_of(gate(0).judge(proof)) is None

    @pytest.mark.parametrize("rule", LeRule)
    @pytest.mark.parametrize("app", [False, True], ids=["card", "app"])
    def test_every_card_is_reached(self, rule: LeRule, *, app: bool) -> None:
        card = held(PkocChip(key(), profiles=V1_ONLY, authenticate_le=rule, app=app))
        assert reason_of(gate(0).judge(tap(card, PKOC1))) is None
        assert len(card.log) == (3 if rule is LeRule.REFUSED else 2)

    @pytest.mark.parametrize("sw", ["6700", "6F00"])
    def test_not_a_third_time(self, sw: str) -> None:
        card = answering(lambda _transaction: bytes.fromhex(sw))
        with pytest.raises(CardRefused):
            tap(card, PKOC1)
        assert len(card.log) == 3

    def test_a_wrong_le_is_corrected(self) -> None:
        card = Held(lambda _command: b"")
        answers = iter([SELECTED, b"\x6c\x85"])
        card.process = lambda command: next(answers, None) or good(command[11:27])
        assert reason_of(gate(0).judge(tap(card, PKOC1))) is None
        assert card.log[2][-1] == 0x85


class TestRefusals:
    @pytest.mark.parametrize(
        "selected",
        [
            "6A82",
            "6D00",
            "9000",  # the profile for tags that are no secure elements
            "5C020200 9000",
            "5C00 9000",
            "5C03010001 9000",
            "5C020100 5C020100 9000",
            "5C0401 9000",
            "6F045C020100 9000",
            "61114F0BA000000308000010000100 7907 4F05A000000308 9000",
        ],
    )
    def test_a_card_that_does_not_offer_version_1_is_another_familys(self, selected: str) -> None:
        card = answering(good, bytes.fromhex(selected))
        with pytest.raises(WrongFamily) as caught:
            tap(card, PKOC1)
        assert caught.value.reason is Reason.UNKNOWN_MEDIUM
        assert len(card.log) == 1

    @pytest.mark.parametrize("sw", ["6D00", "6E00"])
    def test_a_card_without_the_command_is_another_familys(self, sw: str) -> None:
        with pytest.raises(WrongFamily):
            tap(answering(lambda _transaction: bytes.fromhex(sw)), PKOC1)

    @pytest.mark.parametrize(
        ("answer", "error", "why"),
        [
            (lambda _: b"\x69\x82", CardRefused, "6982"),
            (lambda _: b"\x69\x85", CardRefused, "6985"),
            (lambda _: b"\x6a\x80", CardRefused, "6A80"),
            (lambda _: b"\x90\x00", CardMalformed, "no key"),
            (lambda _: b"\x61\x00", CardMalformed, "brings none"),
            (lambda _: b"\x00\x61\x00", CardMalformed, "more than"),
            (lambda _: b"\x6c\x00", CardRefused, "6C00"),
            (lambda _: object_of(0x5A, point_of(key())) + b"\x90\x00", CardMalformed, "no signature"),
            (lambda t: object_of(0x9E, sign(t)) + b"\x90\x00", CardMalformed, "no key"),
            (lambda t: good(t)[:-3] + b"\x90\x00", CardMalformed, "says"),
            (lambda t: good(t)[:-2] + b"\x9e\x90\x00", CardMalformed, "length missing"),
            (lambda t: good(t)[:-2] + object_of(0x9E, sign(t)) + b"\x90\x00", CardMalformed, "twice"),
            (lambda t: good(t)[:-2] + object_of(0x5A, point_of(key(1))) + b"\x90\x00", CardMalformed, "twice"),
            (lambda t: object_of(0x5B, point_of(key())) + good(t)[67:], CardMalformed, "no key"),
            (lambda t: object_of(0x5A, point_of(key())[:64]) + good(t)[67:], CardMalformed, "uncompressed"),
            (lambda t: object_of(0x5A, point_of(key()) + b"\x00") + good(t)[67:], CardMalformed, "uncompressed"),
            (lambda t: object_of(0x5A, b"\x02" + point_of(key())[1:33]) + good(t)[67:], CardMalformed, "uncompressed"),
            (lambda t: object_of(0x5A, b"\x00") + good(t)[67:], CardMalformed, "uncompressed"),
            (lambda t: object_of(0x5A, b"\x04" + bytes(64)) + good(t)[67:], CardMalformed, "not on P-256"),
            (lambda t: good(t)[:66] + bytes([good(t)[66] ^ 1]) + good(t)[67:], CardMalformed, "not on P-256"),
            (lambda t: good(t)[:67] + object_of(0x9E, sign(t)[:-1]) + b"\x90\x00", CardMalformed, "r||s"),
            (lambda t: good(t)[:67] + object_of(0x9E, der(t)) + b"\x90\x00", CardMalformed, "r||s"),
            (lambda t: good(t)[:67] + object_of(0x9E, bytes(64)) + b"\x90\x00", CardMalformed, "out of range"),
            (
                lambda t: good(t)[:67] + object_of(0x9E, ORDER.to_bytes(32) + sign(t)[32:]) + b"\x90\x00",
                CardMalformed,
                "out of range",
            ),
        ],
    )
    def test_each_wrong_answer_has_its_reason(
        self, answer: Callable[[bytes], bytes], error: type[ProfileError], why: str
    ) -> None:
        with pytest.raises(error) as caught:
            tap(answering(answer), PKOC1)
        assert type(caught.value) is error
        assert why in str(caught.value)
        assert caught.value.reason is Reason.MALFORMED_ANSWER


def der(transaction: bytes) -> bytes:
    return key().sign(transaction, ec.ECDSA(hashes.SHA256()))


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=300),
    st.tuples(
        st.one_of(
            st.binary(max_size=140),
            st.lists(
                st.tuples(st.sampled_from([0x5A, 0x9E, 0x5C, 0x01]), st.binary(max_size=66)).map(
                    lambda pair: object_of(*pair)
                ),
                max_size=3,
            ).map(b"".join),
        ),
        st.sampled_from(["9000", "6100", "6110", "6C10", "6700", "6F00", "6D00"]),
    ).map(lambda parts: parts[0] + bytes.fromhex(parts[1])),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=8), last=ANSWER, selected=st.one_of(st.just(SELECTED), ANSWER))
    def test_any_answers_end_in_a_profile_error_within_bounds(
        self, answers: list[bytes], last: bytes, selected: bytes
    ) -> None:
        script = iter([selected, *answers])
        card = Held(lambda _command: next(script, last))
        with pytest.raises(ProfileError):
            tap(card, PKOC1)
        assert len(card.log) <= MAX_APDUS

    @given(position=st.integers(0, 134), flip=st.integers(1, 255))
    def test_one_spoilt_byte_opens_nothing(self, position: int, flip: int) -> None:
        def spoilt(transaction: bytes) -> bytes:
            answer = bytearray(good(transaction))
            answer[position] ^= flip
            return bytes(answer)

        try:
            proof = tap(answering(spoilt), PKOC1)
        except ProfileError:
            return
        assert isinstance(gate(0).judge(proof), Refusal)

    @given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
    def test_a_signature_over_another_transaction(self, asked: bytes, signed: bytes) -> None:
        proof = tap(answering(lambda _transaction: good(signed)), PKOC1, random=lambda _count: asked)
        assert reason_of(gate(0).judge(proof)) is (None if asked == signed else Reason.WRONG_SIGNATURE)


class TestReasons:
    """The negative suite: what a gate records of each card that it must not believe."""

    async def test_a_clone_shows_an_enrolled_key_without_having_it(self) -> None:
        def answer(transaction: bytes) -> bytes:
            return object_of(0x5A, point_of(key())) + object_of(0x9E, sign(transaction, key(1))) + b"\x90\x00"

        assert await gate(0, 1).examine(answering(answer)) == Refusal(Reason.WRONG_SIGNATURE, "pkoc1")

    async def test_a_phone_that_made_itself_a_key(self) -> None:
        assert await gate(0).examine(held(v1_card(1))) == Refusal(Reason.NOT_ENROLLED, "pkoc1", identity_of(key(1)))

    async def test_the_enrolled_key_decides_and_not_the_presented_one(self) -> None:
        """An enrolment under the presented key's id that holds another key: the other one must have signed."""
        stolen = replace(gate(), enrolled={identity_of(key(1)): spki_of(key().public_key())})
        assert reason_of(await stolen.examine(held(v1_card(1)))) is Reason.WRONG_SIGNATURE

    async def test_revoked(self) -> None:
        denying = replace(gate(0), denied=frozenset({identity_of(key())}))
        assert await denying.examine(held(v1_card())) == Refusal(Reason.REVOKED, "pkoc1", identity_of(key()))

    async def test_replayed(self) -> None:
        recorded = held(v1_card())
        tap(recorded, PKOC1)
        answer = v1_answer(recorded)
        assert await gate(0).examine(answering(lambda _transaction: answer)) == Refusal(Reason.WRONG_SIGNATURE, "pkoc1")

    async def test_another_familys_card(self) -> None:
        apt = bytes.fromhex("61114F0BA000000308000010000100 7907 4F05A000000308 9000")
        assert reason_of(await gate(0).examine(answering(good, apt))) is Reason.UNKNOWN_MEDIUM

    @pytest.mark.parametrize("answer", ["6982", "9000", "6100", "5A00 9E00 9000"])
    async def test_an_answer_that_breaks_the_protocol(self, answer: str) -> None:
        card = answering(lambda _transaction: bytes.fromhex(answer))
        assert reason_of(await gate(0).examine(card)) is Reason.MALFORMED_ANSWER

    @pytest.mark.parametrize("apdus", [0, 1])
    async def test_torn_at_every_apdu(self, apdus: int) -> None:
        assert await gate(0).examine(held(v1_card(), tear_before=apdus)) == Refusal(Reason.PRESENT_AGAIN)

    async def test_presented_again_it_gets_another_transaction(self) -> None:
        card, random = held(v1_card()), fresh()
        with pytest.raises(MediumLost):
            tap(replace(card, tear_before=1, log=card.log), PKOC1, random=random)
        proof = tap(card, PKOC1, random=random)
        assert reason_of(gate(0).judge(proof)) is None
        assert card.log[1][:11] == card.log[3][:11]
        assert card.log[1][11:27] != card.log[3][11:27]

    async def test_an_issuers_word_counts_for_nothing_here(self) -> None:
        """A key in the trust store's place does not enrol anybody."""
        trusting = replace(gate(), trusted=TrustStore(1, [Authority.root().certificate], pkoc_issuers={}))
        assert reason_of(await trusting.examine(held(v1_card()))) is Reason.NOT_ENROLLED


def v1_answer(card: Held) -> bytes:
    """What the card says to the last transaction in its log."""
    answer = card.process(card.log[-1])
    assert answer is not None
    return answer


def test_a_proof_names_nothing_to_keep() -> None:
    proof: CardProof = tap(held(v1_card()), PKOC1)
    assert proof.cache_key is None
    assert not proof.cached
