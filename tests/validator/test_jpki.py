"""The JPKI profile against the virtual card: rungs, octets, tries that are never spent, and each wrong answer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import ResponseApdu
from hardware.virtual.mynumber import MynumberChip
from tests.hostile import hostile
from tests.validator.attempting import GATE, WALL_MS, attempt, counting
from tests.validator.mynumber_cards import (
    CARD,
    STRANGER,
    Exchanges,
    Torn,
    chip,
    der_of,
    generation,
    over,
    personalised,
    spoilt,
    tap,
    torn,
    with_pin,
)
from validator.model import Assurance, KeyAlgorithm, Reason, Scheme
from validator.profiles import jpki
from validator.profiles.attempt import Attempt, Secrets, challenge_message
from validator.profiles.errors import (
    CardMalformed,
    CardRefused,
    KeyUnsupported,
    PinAtRisk,
    PinBlocked,
    ProfileError,
    WrongFamily,
    WrongPin,
)
from validator.proof import CardProof, IdCertificate, Shown, Signed, Unproved

MESSAGE = challenge_message(GATE, WALL_MS, counting(32))
SELECTED = ResponseApdu(b"", 0x9000)
VERIFY = "0020008004"
VECTORS = Path(__file__).parents[1] / "vectors" / "mynumber.json"


def present(carry: Exchanges, what: Attempt | None = None) -> CardProof:
    return tap(jpki.authenticate(what or with_pin(), SELECTED), carry)


def tries(card: MynumberChip) -> int:
    """What the card says itself."""
    for command in ("00A4040C0AD392F000260100000001", "00A4020C020018"):
        assert card.process(bytes.fromhex(command)).response == b"\x90\x00"
    answer = card.process(bytes.fromhex("00200080")).response
    assert answer is not None
    return answer[1] & 0x0F


def shown_pins(carry: Exchanges) -> list[str]:
    return [command for command in carry.commands if command.startswith("00200080") and len(command) > 8]


class TestRungs:
    def test_without_a_pin_the_certificate_is_claimed(self) -> None:
        carry = over(chip())
        proof = present(carry, attempt())
        certificate = personalised().authentication_certificate
        assert certificate is not None
        assert proof == CardProof("jpki", Assurance.CLAIMED, IdCertificate(Scheme.JAPAN, certificate), Unproved())
        reads = -(-len(certificate) // 256)
        assert carry.commands[:2] == ["00A4040C0AD392F000260100000001", "00A4020C02000A"]
        assert [command[:8] for command in carry.commands[2:]] == [f"00B0{n:02X}00" for n in range(reads)]

    def test_with_the_pin_the_holder_is_proved(self) -> None:
        carry = over(chip())
        proof = present(carry)
        assert (proof.profile, proof.assurance) == ("jpki", Assurance.HOLDER)
        evidence = proof.evidence
        assert isinstance(evidence, Signed)
        assert (evidence.challenge, evidence.algorithm) == (MESSAGE, KeyAlgorithm.RSA2048)
        CARD().public_key().verify(evidence.signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
        digest = hashes.Hash(hashes.SHA256())
        digest.update(MESSAGE)
        info = "3031300D060960864801650304020105000420" + digest.finalize().hex().upper()
        assert carry.commands[-5:] == [
            "00A4020C020018",
            "00200080",
            "002000800431323334",
            "00A4020C020017",
            f"802A008033{info}00",
        ]

    def test_the_trust_is_told_before_the_card_computes(self) -> None:
        seen: list[Shown] = []
        carry = over(chip())
        what = replace(
            with_pin(), begin=lambda shown: seen.append(shown) if "802A" not in "".join(carry.commands) else None
        )
        assert present(carry, what).shown == seen[0]

    @pytest.mark.parametrize("piece", [64, 128, 255, 256])
    def test_the_card_gives_as_many_bytes_at_once_as_it_likes(self, piece: int) -> None:
        assert present(over(chip(piece=piece))) == present(over(chip()))

    @given(piece=st.integers(48, 256))
    def test_whatever_the_pieces_the_certificate_is_whole(self, piece: int) -> None:
        shown = present(over(chip(piece=piece)), attempt()).shown
        assert shown == IdCertificate(Scheme.JAPAN, personalised().authentication_certificate or b"")

    def test_filler_behind_the_certificate_is_left_out(self) -> None:
        certificate = personalised().authentication_certificate
        assert certificate is not None
        shown = present(over(chip(authentication_certificate=certificate + b"\xff" * 400)), attempt()).shown
        assert shown == IdCertificate(Scheme.JAPAN, certificate)

    def test_a_card_that_gives_more_than_it_was_asked_for(self) -> None:
        verb = over(chip())

        def process(command: bytes) -> bytes:
            answer = verb(command)
            return answer[:-2] + b"\xee" * 20 + answer[-2:] if command[:3] == b"\x00\xb0\x03" else answer

        assert present(Exchanges(process), attempt()) == present(over(chip()), attempt())

    @pytest.mark.parametrize("first", [0, 1, 128, 255])
    def test_a_signature_in_pieces_is_fetched_with_a_command_of_the_standard(self, first: int) -> None:
        """The signing command is of J-LIS's own class; GET RESPONSE is not."""
        verb, rest = over(chip()), b""

        def process(command: bytes) -> bytes:
            nonlocal rest
            if command[:2] == b"\x80\x2a":
                signature = verb(command)[:-2]
                rest = signature[first:]
                return signature[:first] + bytes([0x61, len(rest) & 0xFF])
            if rest:
                assert command == bytes([0x00, 0xC0, 0x00, 0x00, len(rest) & 0xFF])
                return rest + b"\x90\x00"
            return verb(command)

        assert present(Exchanges(process)) == present(over(chip()))

    def test_a_copy_without_the_key_signs_with_its_own(self) -> None:
        """The profile judges nothing: that the signature is not the certificate's is for trust to see."""
        evidence = present(over(chip(authentication_key=STRANGER()))).evidence
        assert isinstance(evidence, Signed)
        STRANGER().public_key().verify(evidence.signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())

    def test_the_commands_are_those_that_are_published(self) -> None:
        [known] = [each for each in json.loads(VECTORS.read_text()) if each["name"] == "commands"]
        carry = over(chip())
        present(carry)
        said = [command for command in carry.commands if not command.startswith("00B0")]
        names = (
            "select_jpki",
            "select_certificate",
            "select_pin",
            "ask_tries",
            "verify_prefix",
            "select_key",
            "sign_prefix",
        )
        assert len(said) == len(names)
        assert all(command.startswith(known[name]) for command, name in zip(said, names, strict=True))


class TestPin:
    def test_a_wrong_pin_is_shown_once_and_costs_one_try(self) -> None:
        card = chip()
        carry = over(card)
        with pytest.raises(WrongPin) as caught:
            present(carry, with_pin(b"4321"))
        assert (caught.value.tries_left, caught.value.reason) == (2, Reason.WRONG_PIN)
        assert len(shown_pins(carry)) == 1
        assert tries(card) == 2

    def test_the_last_try_is_never_spent(self) -> None:
        card = chip()
        for _ in range(2):
            with pytest.raises(WrongPin):
                present(over(card), with_pin(b"4321"))
        carry = over(card)
        with pytest.raises(PinAtRisk):
            present(carry)
        assert shown_pins(carry) == []
        assert tries(card) == 1

    def test_a_right_pin_gives_the_tries_back(self) -> None:
        card = chip()
        with pytest.raises(WrongPin):
            present(over(card), with_pin(b"4321"))
        assert present(over(card)).assurance is Assurance.HOLDER
        assert tries(card) == 3

    def test_a_blocked_pin_is_said_and_nothing_is_shown(self) -> None:
        card = chip()
        for command in ("00A4040C0AD392F000260100000001", "00A4020C020018", *[VERIFY + "30303030"] * 3):
            card.process(bytes.fromhex(command))
        carry = over(card)
        with pytest.raises(PinBlocked):
            present(carry)
        assert shown_pins(carry) == []

    @pytest.mark.parametrize("pin", [b"", b"123", b"12345", b"12a4", b"PASSWORD1", "\uff11\uff12\uff13\uff14".encode()])
    def test_what_cannot_be_the_pin_is_not_shown(self, pin: bytes) -> None:
        card = chip()
        carry = over(card)
        with pytest.raises(WrongPin) as caught:
            present(carry, with_pin(pin))
        assert caught.value.tries_left == 3
        assert shown_pins(carry) == []
        assert tries(card) == 3

    @pytest.mark.parametrize("answer", ["9000", "6300", "6A82", "6700", "6982"])
    def test_a_card_that_does_not_tell_its_tries_is_shown_nothing(self, answer: str) -> None:
        card = chip()
        verb = over(card)
        carry = Exchanges(lambda command: bytes.fromhex(answer) if command.hex() == "00200080" else verb(command))
        with pytest.raises(CardMalformed, match="tries"):
            present(carry)
        assert shown_pins(carry) == []

    def test_the_pin_is_lost_with_the_application(self) -> None:
        card = chip()
        present(over(card))
        for command in ("00A4040C0AD3921000310001010402", "00A4040C0AD392F000260100000001", "00A4020C020017"):
            card.process(bytes.fromhex(command))
        assert card.process(bytes.fromhex("802A00800401020304 00")).response == bytes.fromhex("6982")

    @given(pin=st.binary(max_size=16), answers=st.lists(st.binary(min_size=2, max_size=40), max_size=30))
    def test_no_error_repeats_a_pin(self, pin: bytes, answers: list[bytes]) -> None:
        script = iter(answers)
        with pytest.raises(ProfileError) as caught:
            present(Exchanges(lambda _command: next(script, b"\x6a\x82")), with_pin(b"97531" + pin))
        assert "97531" not in repr(caught.value) + str(caught.value.__cause__)


class TestOtherCards:
    @pytest.mark.parametrize("answer", ["6A82", "6D00", "6E00", "6999"])
    def test_a_card_without_the_application_is_left_to_others(self, answer: str) -> None:
        with pytest.raises(WrongFamily):
            present(Exchanges(lambda _command: bytes.fromhex(answer)))

    @pytest.mark.parametrize("certificate", [None, b"\xff" * 64, bytes(64)])
    def test_a_card_whose_holder_wants_no_certificate(self, certificate: bytes | None) -> None:
        carry = over(chip(authentication_certificate=certificate))
        with pytest.raises(WrongFamily):
            present(carry)
        assert shown_pins(carry) == []

    @pytest.mark.parametrize(
        "key",
        [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072)],
        ids=["P-256", "RSA-3072"],
    )
    def test_a_key_of_another_kind_is_refused_before_the_pin(self, key: Any) -> None:
        carry = over(chip(authentication_certificate=der_of(generation(2).issue(key))))
        with pytest.raises(KeyUnsupported):
            present(carry)
        assert shown_pins(carry) == []


def forged(octets: bytes) -> Exchanges:
    return over(chip(authentication_certificate=octets))


class TestBadFiles:
    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (bytes.fromhex("308206"), "does not begin"),
            (bytes.fromhex("30"), "does not begin"),
            (bytes.fromhex("3080") + bytes(40), "does not begin"),
            (bytes.fromhex("3083001000") + bytes(40), "does not begin"),
            (bytes.fromhex("3084") + bytes(40), "does not begin"),
            (bytes.fromhex("30821000") + bytes(40), "says that it has 4100 bytes"),
            (bytes.fromhex("30820200") + bytes(40), "READ BINARY"),
            (bytes.fromhex("3003020101"), "not a certificate"),
            (bytes.fromhex("1F8103020101") + bytes(300), "not a certificate"),
        ],
    )
    def test_a_bad_certificate_file(self, content: bytes, why: str) -> None:
        carry = forged(content)
        with pytest.raises((CardMalformed, CardRefused), match=why):
            present(carry)
        assert shown_pins(carry) == []

    def test_a_file_in_crumbs_is_given_up(self) -> None:
        with pytest.raises(CardMalformed, match="pieces"):
            present(over(chip(piece=8)))

    def test_a_file_that_gives_nothing_more_is_given_up(self) -> None:
        verb = over(chip())
        with pytest.raises(CardMalformed, match="ends early"):
            present(Exchanges(lambda command: b"\x90\x00" if command[:3] == b"\x00\xb0\x01" else verb(command)))

    @pytest.mark.parametrize(
        ("prefix", "answer", "error"),
        [
            ("00A4020C02000A", "6982", CardRefused),
            ("00B0", "6982", CardRefused),
            ("00B0", "61FF", CardRefused),
            ("00A4020C020018", "6A82", CardRefused),
            ("0020008004", "6700", CardRefused),
            ("0020008004", "6984", PinBlocked),
            ("0020008004", "6983", PinBlocked),
            ("0020008004", "63C0", PinBlocked),
            ("0020008004", "63C1", WrongPin),
            ("00A4020C020017", "6A82", CardRefused),
            ("802A", "6982", CardRefused),
            ("802A", "9000", CardMalformed),
            ("802A", "00" * 255 + "9000", CardMalformed),
            ("802A", "00" * 257 + "9000", CardMalformed),
        ],
    )
    def test_each_wrong_answer_has_its_refusal(self, prefix: str, answer: str, error: type[ProfileError]) -> None:
        verb = over(chip())

        def process(command: bytes) -> bytes:
            return bytes.fromhex(answer) if command.startswith(bytes.fromhex(prefix)) else verb(command)

        with pytest.raises(error) as caught:
            present(Exchanges(process))
        assert type(caught.value) is error

    def test_a_card_that_leaves_at_any_exchange_is_just_gone(self) -> None:
        whole = over(chip())
        present(whole)
        for after in range(len(whole.log)):
            with pytest.raises(Torn):
                present(torn(chip(), after))


ANSWER = st.one_of(
    st.binary(min_size=2, max_size=300),
    st.tuples(st.binary(max_size=258), st.sampled_from(["9000", "6100", "6110", "6C10", "6A82", "63C2", "6282"])).map(
        lambda parts: parts[0] + bytes.fromhex(parts[1])
    ),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER, pin=st.booleans())
    def test_any_answers_end_in_a_profile_error(self, answers: list[bytes], last: bytes, *, pin: bool) -> None:
        script = iter(answers)
        with pytest.raises(ProfileError):
            present(Exchanges(lambda _command: next(script, last)), with_pin() if pin else attempt())

    @given(position=st.integers(0, 16), index=st.integers(0, 260), flip=st.integers(1, 255), pin=st.booleans())
    def test_one_spoilt_answer_ends_in_a_proof_or_a_profile_error(
        self, position: int, index: int, flip: int, *, pin: bool
    ) -> None:
        def change(answer: bytes) -> bytes:
            other = bytearray(answer)
            other[index % len(other)] ^= flip
            return bytes(other)

        try:
            proof = present(spoilt(chip(), position, change), with_pin() if pin else attempt())
        except ProfileError:
            return
        assert proof.assurance is (Assurance.HOLDER if pin else Assurance.CLAIMED)
        assert isinstance(proof.evidence, Signed if pin else Unproved)


def test_secrets_other_than_the_pin_change_nothing() -> None:
    secrets = Secrets(can=bytearray(b"123456"), mrz=bytearray(b"L898902C<369080619406236"))
    assert present(over(chip()), replace(attempt(), secrets=secrets)).assurance is Assurance.CLAIMED
