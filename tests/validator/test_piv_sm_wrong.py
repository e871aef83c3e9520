"""PIV SM-AUTH, the negative table: what a card does, and the reason that is recorded; then any bytes at all."""

import hashlib
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from hardware import opacity
from hardware.medium import MediumLost
from hardware.opacity import CS2, CS7, Suite
from tests import opacity_by_the_book as book
from tests.hostile import hostile
from tests.validator.attempting import attempt
from tests.validator.authority import DAY, NOW, SINCE, UNTIL
from tests.validator.piv_sm_cards import (
    BOTH,
    CAK,
    CARD,
    CERTIFICATES,
    CURVES,
    GUID,
    ISSUER,
    KEYS,
    OK,
    SELECT,
    SIGNERS,
    SM,
    TARGET,
    VERSION,
    Held,
    answering,
    by_the_book,
    card,
    certificate,
    changed,
    credential,
    judged,
    known_card,
    reason_of,
    store,
    tap,
    template,
)
from validator import choice
from validator.dialogue import MAX_APDUS, Traffic, drive
from validator.model import Reason, Refusal
from validator.profiles import piv_sm
from validator.profiles.errors import CardMalformed, CardRefused, ProfileError

OTHER = {suite: ec.derive_private_key(31337, suite.curve) for suite in CARD}


class TestWrong:
    """The negative table: what a card does, and the reason that is recorded."""

    @BOTH
    def test_a_copied_certificate_without_its_key(self, suite: Suite) -> None:
        clone = card(suite, key=OTHER[suite])
        assert reason_of(clone, store(suite)) is Reason.WRONG_SIGNATURE
        verdict = judged(tap(clone), store(suite))
        assert verdict == Refusal(Reason.WRONG_SIGNATURE, "piv-sm")  # and nothing is pinned on the true card

    @BOTH
    def test_a_copied_certificate_of_a_known_card(self, suite: Suite) -> None:
        clone = card(suite, key=OTHER[suite])
        assert reason_of(clone, store(suite), known=known_card(suite)) is Reason.WRONG_SIGNATURE

    @BOTH
    def test_a_certificate_that_the_issuer_did_not_sign(self, suite: Suite) -> None:
        held = card(suite, certificate(suite, signer=OTHER[suite]))
        assert reason_of(held, store(suite)) is Reason.UNTRUSTED_ISSUER

    @BOTH
    def test_an_issuer_that_nobody_knows(self, suite: Suite) -> None:
        held = card(suite, certificate(suite, issuer=b"STRANGER"))
        assert reason_of(held, store(suite)) is Reason.UNTRUSTED_ISSUER

    def test_an_issuer_whose_key_is_on_another_curve(self) -> None:
        issuers = store(signer=SIGNERS[CS7].public_key())
        assert reason_of(card(CS2), issuers) is Reason.UNTRUSTED_ISSUER

    @BOTH
    def test_a_key_put_into_anothers_certificate(self, suite: Suite) -> None:
        """The thief holds a key; only the signature of the issuer is in the way."""
        good = CERTIFICATES[suite]
        mine, his = opacity.point_of(OTHER[suite].public_key()), opacity.point_of(KEYS[suite].public_key())
        held = card(suite, good.replace(his, mine), OTHER[suite])
        assert reason_of(held, store(suite)) is Reason.UNTRUSTED_ISSUER

    @BOTH
    def test_revoked(self, suite: Suite) -> None:
        denied = frozenset({credential(suite)})
        assert reason_of(card(suite), store(suite), denied=denied) is Reason.REVOKED
        assert reason_of(card(suite), store(suite), known=known_card(suite), denied=denied) is Reason.REVOKED

    @BOTH
    def test_a_signer_that_is_out_of_date(self, suite: Suite) -> None:
        """The certificate itself has no dates: it ends with its signer."""
        over, ahead = store(suite, valid=(SINCE, NOW - DAY)), store(suite, valid=(NOW + DAY, UNTIL))
        assert reason_of(card(suite), over) is Reason.CERTIFICATE_EXPIRED
        assert reason_of(card(suite), ahead) is Reason.CERTIFICATE_NOT_YET_VALID

    @BOTH
    def test_a_verdict_of_another_trust_list(self, suite: Suite) -> None:
        stale = known_card(suite, VERSION - 1)
        assert reason_of(card(suite), store(suite), known=stale) is Reason.PRESENT_AGAIN

    @BOTH
    def test_an_earlier_answer_again(self, suite: Suite) -> None:
        held = card(suite)
        answers: list[bytes] = []

        def record(command: bytes) -> bytes:
            answers.append(processed(command))
            return answers[-1]

        processed, held.process = held.process, record
        assert reason_of(held, store(suite)) is None
        script = iter(answers)
        assert reason_of(Held(lambda _command: next(script)), store(suite)) is Reason.WRONG_SIGNATURE

    @BOTH
    def test_an_answer_that_was_made_for_another_gate(self, suite: Suite) -> None:
        """The same ephemeral key at two gates, which no gate does: even then the answer of one is worthless."""

        def elsewhere(request: bytes) -> bytes:
            asked = request[:1] + piv_sm.host_id("another gate") + request[9:]
            return by_the_book(suite, CERTIFICATES[suite])(asked)

        assert reason_of(answering(elsewhere, suite), store(suite)) is Reason.WRONG_SIGNATURE

    @BOTH
    @pytest.mark.parametrize("control", [0x01, 0x0F, 0x10, 0x80, 0xFF])
    def test_a_control_byte_of_persistent_binding(self, suite: Suite, control: int) -> None:
        held = answering(lambda request: changed(request, suite, control=bytes([control])), suite)
        assert reason_of(held, store(suite)) is Reason.WRONG_SIGNATURE

    @BOTH
    @pytest.mark.parametrize("name", ["nonce", "cryptogram"])
    def test_another_nonce_or_cryptogram(self, suite: Suite, name: str) -> None:
        size = {"nonce": suite.nonce_bytes, "cryptogram": 16}[name]
        held = answering(lambda request: changed(request, suite, **{name: b"\x5a" * size}), suite)
        assert reason_of(held, store(suite)) is Reason.WRONG_SIGNATURE

    def test_a_key_on_another_curve_than_the_suite_that_was_announced(self) -> None:
        held = answering(lambda request: changed(request, CS2, certificate=CERTIFICATES[CS7]))
        assert reason_of(held, store(CS7)) is Reason.WRONG_SIGNATURE

    @BOTH
    def test_a_point_that_is_not_on_the_curve(self, suite: Suite) -> None:
        good, point = CERTIFICATES[suite], opacity.point_of(KEYS[suite].public_key())
        off = good.replace(point, point[:-1] + bytes([point[-1] ^ 1]))
        held = answering(lambda request: changed(request, suite, certificate=off), suite)
        assert reason_of(held, store(suite)) is Reason.MALFORMED_ANSWER

    @BOTH
    def test_a_signature_of_bare_numbers(self, suite: Suite) -> None:
        curve = CURVES[suite.identifier]
        bare = book.certificate(
            suite.identifier, ISSUER, GUID, curve.times(CARD[suite], curve.base), b"\x5a" * 2 * curve.size
        )
        held = answering(by_the_book(suite, bare), suite)
        assert reason_of(held, store(suite)) is Reason.MALFORMED_ANSWER

    def test_a_signature_with_rsa(self) -> None:
        objects = book.signed_part(
            ISSUER, GUID, book.P256, "06082A8648CE3D030107", book.P256.times(CARD[CS2], book.P256.base)
        )
        octets = book.tlv("7F21", objects + book.signature_object("300D06092A864886F70D01010B0500", bytes(256)))
        assert reason_of(answering(by_the_book(CS2, octets)), store()) is Reason.UNSUPPORTED_KEY

    def test_a_curve_of_no_suite(self) -> None:
        octets = CERTIFICATES[CS2].replace(bytes.fromhex("2A8648CE3D030107"), bytes.fromhex("2B240303020801FF"))
        held = answering(lambda request: changed(request, CS2, certificate=octets))
        assert reason_of(held, store()) is Reason.UNSUPPORTED_KEY

    def test_an_intermediate_certificate(self) -> None:
        octets = CERTIFICATES[CS2].replace(bytes.fromhex("5F4C0100"), bytes.fromhex("5F4C0112"))
        assert reason_of(answering(by_the_book(CS2, octets)), store()) is Reason.MALFORMED_ANSWER

    @BOTH
    @pytest.mark.parametrize("size", [1, 30, 200])
    def test_a_certificate_that_is_cut_short_or_followed(self, suite: Suite, size: int) -> None:
        for octets in (CERTIFICATES[suite][:-size], CERTIFICATES[suite] + bytes(size)):
            held = answering(by_the_book(suite, octets), suite)
            assert reason_of(held, store(suite)) is Reason.MALFORMED_ANSWER

    @pytest.mark.parametrize(
        "data",
        [
            "",
            "7C00",
            "7C028200",
            "7C0282",
            "7C038201",
            "7C0582030011227C",
            "7D028200",
            "7C028100",
            "7C048200" + "8200",
            "7C238221" + "00" * 33,  # control, nonce, cryptogram, and no certificate
            "7C22" + "8220" + "00" * 32,
            "7C0082" + "00" * 64,
            "7CFF" + "00" * 20,
            "7C84000000228220" + "00" * 32,
            "7C" + "80" + "82",
            "8222" + "00" * 34,
            "7C2482220000" + "00" * 32 + "00",
            "00" * 256,
        ],
    )
    def test_an_answer_that_is_no_template_of_the_standard(self, data: str) -> None:
        held = answering(lambda _request: bytes.fromhex(data) + OK)
        with pytest.raises(CardMalformed) as caught:
            tap(held)
        assert caught.value.reason is Reason.MALFORMED_ANSWER

    @pytest.mark.parametrize("certified", [b"\x00", b"\x7f\x21", b"\x7f\x21\x00", b"\x30\x03\x02\x01\x01"])
    def test_what_is_no_certificate_at_all(self, certified: bytes) -> None:
        held = answering(lambda request: changed(request, CS2, certificate=certified))
        assert reason_of(held, store()) is Reason.MALFORMED_ANSWER

    @BOTH
    @pytest.mark.parametrize("after", [0, 1, 2])
    def test_torn_away_at_any_apdu(self, suite: Suite, after: int) -> None:
        held = card(suite)
        processed = held.process

        def torn(command: bytes) -> bytes:
            if len(held.log) > after:
                raise MediumLost("virtual", "torn away")
            return processed(command)

        held.process = torn
        if suite is CS2 and after == 2:  # it has only two
            assert reason_of(held, store(suite)) is None
            return
        with pytest.raises(MediumLost):
            tap(held)

    @pytest.mark.parametrize(
        ("answer", "error", "at_most"),
        [
            (bytes(256) + b"\x61\x00", CardMalformed, MAX_APDUS),
            (bytes(1) + b"\x61\x00", CardMalformed, MAX_APDUS),
            (b"\x61\x00", CardMalformed, 3),
            (b"\x6c\x10", CardRefused, 3),
            (b"\x90", CardMalformed, 2),
            (b"", CardMalformed, 2),
        ],
        ids=[
            "61 00 for ever",
            "a byte and 61 00 for ever",
            "61 00 and nothing",
            "6C for ever",
            "half a status",
            "none",
        ],
    )
    def test_a_card_without_an_end(self, answer: bytes, error: type[ProfileError], at_most: int) -> None:
        held = Held(lambda command: template("AC06800127060100") + OK if command == SELECT else answer)
        with pytest.raises(error) as caught:
            tap(held)
        assert caught.value.reason is Reason.MALFORMED_ANSWER
        assert len(held.log) <= at_most


ANSWER = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.binary(max_size=258), st.sampled_from(["9000", "6100", "6110", "6C10", "6A82", "6A86"])).map(
        lambda parts: parts[0] + bytes.fromhex(parts[1])
    ),
)
SELECTED = st.sampled_from(
    [
        template("AC06800127060100") + OK,
        template("AC0680012E060100") + OK,
        template("") + OK,
        template("AC06800127060100")[:20] + b"\x61\x0c",
    ]
)


class TestHostileCard:
    @hostile
    @given(selected=SELECTED, answers=st.lists(ANSWER, max_size=8), last=ANSWER)
    def test_any_answers_end_in_a_reason_within_bounds(
        self, selected: bytes, answers: list[bytes], last: bytes
    ) -> None:
        script = iter([selected, *answers])
        held = Held(lambda _command: next(script, last))
        assert reason_of(held, store()) is not None
        assert len(held.log) <= MAX_APDUS

    @hostile
    @given(
        inner=st.binary(max_size=250),
        suite=st.sampled_from([CS2, CS7]),
        depth=st.integers(0, 2),
    )
    def test_any_bytes_in_the_right_template_are_never_believed(self, inner: bytes, suite: Suite, depth: int) -> None:
        data = inner
        for tag in ("82", "7C")[:depth]:
            data = book.tlv(tag, data)
        data = data[:256]
        assert reason_of(answering(lambda _request: data + OK, suite), store(suite)) in (
            Reason.MALFORMED_ANSWER,
            Reason.UNSUPPORTED_KEY,
            Reason.WRONG_SIGNATURE,
        )

    @BOTH
    @given(at=st.integers(0, 400), flip=st.integers(1, 255), known=st.booleans())
    def test_an_answer_with_one_changed_byte_is_never_believed(
        self, suite: Suite, at: int, flip: int, *, known: bool
    ) -> None:
        """Whatever byte of it: template, nonce, cryptogram, certificate. Only the status word is not covered."""

        def spoilt(request: bytes) -> bytes:
            good = bytearray(changed(request, suite)[:-2])
            good[at % len(good)] ^= flip
            return bytes(good) + OK

        held = answering(spoilt, suite)
        # A kept verdict is found by the certificate's own digest: a changed certificate is a stranger's.
        kept = {hashlib.sha256(b"piv-sm" + CERTIFICATES[suite]).digest(): known_card(suite)} if known else {}
        using = replace(attempt(kept.get), random=os.urandom)
        try:
            proof = drive(choice.authenticate((SM, CAK), TARGET, using), held.carry, Traffic())
        except CardMalformed:
            return
        assert isinstance(judged(proof, store(suite)), Refusal)
