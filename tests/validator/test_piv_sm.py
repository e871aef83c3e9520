"""PIV SM-AUTH: octets, real cards, who announces what, and the whole way to a verdict."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from hardware.opacity import CS2, CS7, SUITES, Suite
from hardware.virtual.piv import PivChip
from tests import opacity_by_the_book as book
from tests.validator.attempting import GATE
from tests.validator.authority import card_key
from tests.validator.piv_sm_cards import (
    BOTH,
    CARD,
    CERTIFICATES,
    CURVES,
    GUID,
    ISSUER,
    OK,
    RECORDED,
    SELECT,
    Held,
    agreed,
    answering,
    by_the_book,
    cak_certificate,
    card,
    credential,
    judged,
    known_card,
    processing,
    reason_of,
    slow_examples,
    store,
    tap,
    template,
)
from validator.model import Assurance, Identity, KeyAlgorithm, Reason, Refusal
from validator.profiles import piv_sm
from validator.profiles.errors import CardMalformed, CardRefused, WrongFamily
from validator.proof import Certificate, PivCvc


class TestGood:
    @pytest.mark.parametrize(
        ("suite", "before_point", "rest"),
        [(CS2, "00872704507C4E814A00", []), (CS7, "00872E04707C6E816A00", ["00C0000044"])],
        ids=["CS2", "CS7"],
    )
    def test_two_exchanges_and_a_third_where_the_answer_is_longer(
        self, suite: Suite, before_point: str, rest: list[str]
    ) -> None:
        # As long as a certificate gets, so that the count of GET RESPONSE is always the same.
        signature = bytes.fromhex("3066023100") + b"\xaa" * 48 + bytes.fromhex("023100") + b"\xaa" * 48
        point = CURVES[suite.identifier].times(CARD[suite], CURVES[suite.identifier].base)
        longest = book.certificate(suite.identifier, ISSUER, GUID, point, signature)
        held = card(suite, longest if suite is CS7 else None)
        tap(held, random=(41).to_bytes)
        host = CURVES[suite.identifier].times(42, CURVES[suite.identifier].base)
        gate = hashlib.sha256(b"pilet-gate/1" + GATE.encode()).digest()[:8]
        sent = bytes.fromhex(before_point) + gate + b"\x04" + CURVES[suite.identifier].octets(host)
        assert held.log == [SELECT, sent + bytes.fromhex("820000"), *map(bytes.fromhex, rest)]

    @BOTH
    def test_a_stranger_shows_its_certificate_and_is_believed(self, suite: Suite) -> None:
        held = card(suite)
        proof = tap(held)
        assert (proof.profile, proof.assurance, proof.cached) == ("piv-sm", Assurance.CHIP, False)
        assert proof.shown == PivCvc(CERTIFICATES[suite])
        assert held.begun == [proof.shown]
        assert proof.cache_key == hashlib.sha256(b"piv-sm\0" + CERTIFICATES[suite]).digest()
        assert held.asked == [proof.cache_key]
        known = known_card(suite)
        assert judged(proof, store(suite)) == Identity(
            credential(suite), "piv-sm", Assurance.CHIP, known, False, issuer_id=known.issuer_id, index=known.index
        )

    @BOTH
    def test_a_known_card_is_believed_by_its_kept_verdict(self, suite: Suite) -> None:
        held = card(suite)
        proof = tap(held, known=known_card(suite))
        assert (proof.shown, proof.cached) == (known_card(suite), True)
        assert held.begun == [known_card(suite)]
        verdict = judged(proof, store(suite))
        assert isinstance(verdict, Identity)
        assert (verdict.credential_id, verdict.cached) == (credential(suite), True)

    @BOTH
    @slow_examples
    @given(random=st.binary(min_size=56, max_size=56))
    def test_a_card_by_the_book_is_believed(self, suite: Suite, random: bytes) -> None:
        held = answering(by_the_book(suite, CERTIFICATES[suite]), suite)
        assert reason_of(held, store(suite), random=lambda size: random[:size]) is None

    def test_the_ephemeral_key_is_fresh_on_each_tap(self) -> None:
        held = card(CS2)
        first, second = agreed(tap(held)), agreed(tap(held))
        assert first.host_key != second.host_key
        assert held.log[1] != held.log[3]

    @BOTH
    def test_the_private_number_leaves_with_the_proof_and_goes_nowhere_else(self, suite: Suite) -> None:
        held = card(suite)
        proof = tap(held)
        assert agreed(proof).host_key not in b"".join(held.log)
        assert agreed(proof).host_key.hex() not in repr(judged(proof, store(suite)))
        assert agreed(proof).card_id == hashlib.sha256(CERTIFICATES[suite]).digest()[:8]

    def test_the_identifier_names_the_gate_and_only_the_gate(self) -> None:
        assert len(piv_sm.host_id("a")) == 8
        assert piv_sm.host_id("a") == piv_sm.host_id("a") != piv_sm.host_id("b")


class TestRecordedCards:
    @RECORDED
    def test_a_real_card_is_believed_and_asked_in_the_recorded_octets(
        self, exchange: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inputs = exchange["inputs"]
        suite = SUITES[int(inputs["suite"], 16)]
        monkeypatch.setattr(piv_sm, "host_id", lambda _gate: bytes.fromhex(inputs["host_id"]))
        whole = bytes.fromhex(inputs["response"])
        script = [bytes.fromhex(inputs["select_response"]) + OK]
        script += [whole + OK] if len(whole) <= 256 else [whole[:256] + bytes([0x61, len(whole) - 256])]
        script += [whole[256:] + OK] if len(whole) > 256 else []
        answers = iter(script)
        held = Held(lambda _command: next(answers))
        number = int(inputs["host_private"], 16)
        proof = tap(held, random=(number - 1).to_bytes)
        assert held.log[1] == bytes.fromhex(exchange["expected"]["command"])
        signer = ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, bytes.fromhex(inputs["signer_point"]))
        issuer = bytes.fromhex(inputs["signer_identifier"])[:8]
        verdict = judged(proof, store(suite, issuer=issuer, signer=signer))
        assert isinstance(verdict, Identity)
        assert verdict.assurance is Assurance.CHIP
        assert judged(proof, store(suite)) == Refusal(Reason.UNTRUSTED_ISSUER, "piv-sm", verdict.credential_id)

    @RECORDED
    def test_its_recorded_answer_is_worthless_for_a_new_key(self, exchange: Any) -> None:
        inputs = exchange["inputs"]
        suite = SUITES[int(inputs["suite"], 16)]
        signer = ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, bytes.fromhex(inputs["signer_point"]))
        held = answering(lambda _request: bytes.fromhex(inputs["response"]) + OK, suite)
        issuers = store(suite, issuer=bytes.fromhex(inputs["signer_identifier"])[:8], signer=signer)
        assert reason_of(held, issuers) is Reason.WRONG_SIGNATURE


class TestAnnouncement:
    @pytest.mark.parametrize(
        "listed",
        [
            "AC06800127060100",
            "AC06060100800127",
            "500A49442D4F6E6520504956AC06800127060100",
            "AC06800103060100AC06800107060100AC06800111060100AC06800127060100",  # PivApplet lists what it can do
            "AC09800111800127060100",
            "500101" + "5F50820080" + "61" * 128 + "AC06800127060100",  # the template's length takes three bytes
        ],
    )
    def test_a_suite_is_found_among_whatever_is_listed(self, listed: str) -> None:
        held = answering(by_the_book(CS2, CERTIFICATES[CS2]))
        selected = template(listed) + OK
        inner = held.process
        held.process = lambda command: selected if command == SELECT else inner(command)
        assert reason_of(held, store()) is None

    @pytest.mark.parametrize("follows", ["7F6608020203F802027FFF", "FF", ""])
    def test_what_follows_the_template_is_not_looked_at(self, follows: str) -> None:
        held = answering(by_the_book(CS2, CERTIFICATES[CS2]))
        selected = template("AC06800127060100") + bytes.fromhex(follows) + OK
        inner = held.process
        held.process = lambda command: selected if command == SELECT else inner(command)
        assert reason_of(held, store()) is None

    @pytest.mark.parametrize(
        "selected",
        [
            template(""),
            template("AC06800111060100"),
            template("AC0780020027060100"),
            template("AC0780022E27060100"),
            template("AC058000060100"),
            template("800127"),
            template("AC068101270601FF"),
            template("AC06800127060100")[:-1],
            template("AC05800127060100"),
            template("AC068001"),
            b"",
            b"\x61\x82",
            bytes.fromhex("6F10AC06800127060100"),
            bytes.fromhex("AC06800127060100"),
            bytes.fromhex("FFFF"),
        ],
        ids=lambda selected: selected.hex() or "nothing",
    )
    def test_no_suite_leaves_the_card_to_its_other_key_with_one_selection(self, selected: bytes) -> None:
        plain = processing(PivChip(card_key(KeyAlgorithm.P256), cak_certificate()))

        def process(command: bytes) -> bytes:
            answer = plain(command)
            return selected + OK if command == SELECT else answer

        held = Held(process)
        proof = tap(held)
        assert (proof.profile, type(proof.shown)) == ("piv", Certificate)
        assert held.log.count(SELECT) == 1
        assert all(command[1:4] != bytes([0x87, 0x27, 0x04]) for command in held.log)

    @pytest.mark.parametrize("sw", [0x6A82, 0x6D00, 0x6999])
    def test_no_piv_application(self, sw: int) -> None:
        with pytest.raises(WrongFamily) as caught:
            tap(Held(lambda _command: sw.to_bytes(2)))
        assert caught.value.reason is Reason.UNKNOWN_MEDIUM

    def test_two_suites_on_one_key_are_malformed(self) -> None:
        held = Held(lambda _command: template("AC06800127060100AC0680012E060100") + OK)
        with pytest.raises(CardMalformed, match="two cipher suites"):
            tap(held)
        assert held.log == [SELECT]

    @pytest.mark.parametrize("sw", [0x6A86, 0x6A80, 0x6982, 0x6A81, 0x6D00, 0x6F00, 0x6300])
    def test_a_card_that_announced_a_suite_is_not_tried_with_its_other_key(self, sw: int) -> None:
        held = answering(lambda _request: sw.to_bytes(2))
        with pytest.raises(CardRefused, match=f"{sw:04X}") as caught:
            tap(held)
        assert caught.value.reason is Reason.MALFORMED_ANSWER
        assert len(held.log) == 2
