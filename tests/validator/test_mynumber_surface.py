"""The surface profile against the virtual card: three exchanges, what the key is looked up by, and wrong answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import ResponseApdu
from tests.hostile import hostile
from tests.validator.attempting import GATE, WALL_MS, attempt, counting
from tests.validator.mynumber_cards import (
    IDENTIFICATION,
    SURFACE,
    Exchanges,
    Torn,
    card_verb,
    chip,
    over,
    spoilt,
    tap,
    torn,
    with_pin,
)
from validator.model import Assurance, KeyAlgorithm
from validator.profiles import mynumber_surface
from validator.profiles.attempt import Attempt, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, ProfileError, WrongFamily
from validator.proof import CardProof, EnrolledUnder, Shown, Signed

MESSAGE = challenge_message(GATE, WALL_MS, counting(32))
SELECTED = ResponseApdu(b"", 0x9000)
VECTORS = Path(__file__).parents[1] / "vectors" / "mynumber.json"
SELECT_SURFACE = "00A4040C0AD3921000310001010402"
SELECT_MANAGER = "00A4040C07A0000001510000"
GET_IDENTIFICATION = "00CA004500"


def present(carry: Exchanges, what: Attempt | None = None) -> CardProof:
    return tap(mynumber_surface.authenticate(what or attempt(), SELECTED), carry)


class TestTap:
    def test_three_exchanges_prove_the_chip(self) -> None:
        carry = over(chip())
        proof = present(carry)
        evidence = proof.evidence
        assert isinstance(evidence, Signed)
        assert proof == CardProof(
            "mynumber-surface",
            Assurance.CHIP,
            EnrolledUnder("mynumber-surface", IDENTIFICATION),
            Signed(MESSAGE, evidence.signature, KeyAlgorithm.RSA2048),
        )
        SURFACE().public_key().verify(evidence.signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
        digest = hashes.Hash(hashes.SHA256())
        digest.update(MESSAGE)
        info = "3031300D060960864801650304020105000420" + digest.finalize().hex().upper()
        assert carry.commands == [GET_IDENTIFICATION, SELECT_SURFACE, f"802A000033{info}00"]

    @pytest.mark.parametrize("before", ["D392F000260100000001", "D3921000310001010402"])
    def test_a_card_that_somebody_else_selected_is_asked_through_its_manager(self, before: str) -> None:
        card = chip()
        card.process(bytes.fromhex("00A4040C0A" + before))
        carry = over(card)
        assert present(carry).shown == EnrolledUnder("mynumber-surface", IDENTIFICATION)
        assert carry.commands[:-1] == [
            GET_IDENTIFICATION,
            SELECT_SURFACE,
            SELECT_MANAGER,
            GET_IDENTIFICATION,
            SELECT_SURFACE,
        ]

    def test_what_it_is_judged_by_is_told_before_the_card_computes(self) -> None:
        seen: list[Shown] = []
        carry = over(chip())

        def begin(shown: Shown) -> None:
            assert len(carry.log) == 2
            seen.append(shown)

        assert [present(carry, replace(attempt(), begin=begin)).shown] == seen

    def test_with_a_pin_it_leaves_the_card_to_jpki_untouched(self) -> None:
        carry = over(chip())
        with pytest.raises(WrongFamily):
            present(carry, with_pin())
        assert carry.log == []

    @given(number=st.binary(min_size=2, max_size=64).filter(lambda octets: len(set(octets)) > 1))
    def test_whatever_the_number_it_is_taken_as_it_is(self, number: bytes) -> None:
        assert present(over(chip(identification=number))).shown == EnrolledUnder("mynumber-surface", number)

    @pytest.mark.parametrize("number", [b"", b"7", bytes(14), b"\xff" * 14, b" " * 14, bytes(range(65))])
    def test_a_number_that_names_no_card(self, number: bytes) -> None:
        with pytest.raises(CardMalformed, match="names no card"):
            present(over(chip(identification=number)))

    def test_the_commands_are_those_that_are_published(self) -> None:
        [known] = [each for each in json.loads(VECTORS.read_text()) if each["name"] == "commands"]
        assert known["get_identification"] == GET_IDENTIFICATION
        assert known["select_surface"] == SELECT_SURFACE
        assert known["select_card_manager"] == SELECT_MANAGER
        carry = over(chip())
        present(carry)
        assert carry.commands[-1].startswith(known["sign_without_pin_prefix"])


class TestOtherCards:
    @pytest.mark.parametrize("told", ["6D00", "6E00", "6A88", "34373131 9000", "6982"])
    def test_a_card_of_another_family_keeps_its_selection(self, told: str) -> None:
        """Two exchanges, and neither selects anything on it: its own family may count on what it selects by itself."""
        carry = Exchanges(lambda command: bytes.fromhex(told) if command[1] == 0xCA else bytes.fromhex("6A82"))
        with pytest.raises(WrongFamily):
            present(carry)
        assert carry.commands == [GET_IDENTIFICATION, SELECT_SURFACE]


class TestRefusals:
    @pytest.mark.parametrize(
        ("prefix", "answers", "error"),
        [
            ("00CA", ["6A88", "6A88"], CardRefused),
            ("00A4040C07", ["6A82"], CardRefused),
            ("00A4040C0A", ["9000", "6A82"], CardRefused),
            ("802A", ["6982"], CardRefused),
            ("802A", ["6985"], CardRefused),
            ("802A", ["9000"], CardMalformed),
            ("802A", ["00" * 255 + "9000"], CardMalformed),
            ("802A", ["6100", "6100"], CardMalformed),
        ],
    )
    def test_each_wrong_answer_has_its_refusal(
        self, prefix: str, answers: list[str], error: type[ProfileError]
    ) -> None:
        card = chip()
        if prefix.startswith("00A4"):
            card.process(bytes.fromhex(SELECT_SURFACE))  # so that the manager has to be asked
        verb, script = card_verb(card), iter(answers)

        def process(command: bytes) -> bytes:
            if command.startswith(bytes.fromhex(prefix)) or command[1] == 0xC0:
                return bytes.fromhex(next(script, answers[-1]))
            return verb(command)

        with pytest.raises(error) as caught:
            present(Exchanges(process))
        assert type(caught.value) is error

    def test_a_card_that_leaves_at_any_exchange_is_just_gone(self) -> None:
        for after in range(3):
            with pytest.raises(Torn):
                present(torn(chip(), after))


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=300),
    st.tuples(st.binary(max_size=258), st.sampled_from(["9000", "6100", "6110", "6C10", "6A82", "6A88"])).map(
        lambda parts: parts[0] + bytes.fromhex(parts[1])
    ),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=8), last=ANSWER)
    def test_any_answers_end_in_a_profile_error_or_in_256_bytes(self, answers: list[bytes], last: bytes) -> None:
        script = iter(answers)
        try:
            proof = present(Exchanges(lambda _command: next(script, last)))
        except ProfileError:
            return
        assert isinstance(proof.evidence, Signed)
        assert (len(proof.evidence.signature), proof.evidence.challenge) == (256, MESSAGE)

    @given(position=st.integers(0, 3), index=st.integers(0, 260), flip=st.integers(1, 255))
    def test_one_spoilt_answer_ends_in_a_proof_or_a_profile_error(self, position: int, index: int, flip: int) -> None:
        def change(answer: bytes) -> bytes:
            other = bytearray(answer)
            other[index % len(other)] ^= flip
            return bytes(other)

        try:
            proof = present(spoilt(chip(), position, change))
        except ProfileError:
            return
        assert isinstance(proof.evidence, Signed)
        assert proof.evidence.challenge == MESSAGE
