"""The DNIe profile, the negative table: what a card does, and what that gets; then any bytes at all."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.apdu import CommandApdu
from hardware.medium import MediumLost
from hardware.virtual.chip import Chip
from hardware.virtual.dnie import DnieChip
from tests.dnie_cards import (
    CAN,
    NEW,
    OLD,
    Issuers,
    component,
    contents,
    in_slot,
    key,
    on_air,
)
from tests.hostile import hostile
from tests.validator.dnie_taps import AIR, SLOT, Tapped, chip_of, dialogue, judged, wanting
from validator import dnie_component
from validator.certificates import CertificateError
from validator.dialogue import MAX_APDUS, MAX_BYTES, Traffic, drive
from validator.dnie_component import Component
from validator.model import Assurance, Reason
from validator.profiles.errors import (
    CardMalformed,
    CardRefused,
    KeyUnsupported,
    ProfileError,
    WrongCan,
)
from validator.proof import CardProof, DnieComponent

slow_examples = settings(max_examples=200 if os.environ.get("PILET_SOAK") == "1" else 10, deadline=None)


class TestWrong:
    """The negative table: what a card does, and the reason that is recorded."""

    def test_a_wrong_number(self) -> None:
        card = Tapped(on_air())
        with pytest.raises(WrongCan):
            card.tap(contactless=True, can=bytearray(b"654321"))
        assert len([command for command in card.log if command[:4] == bytes.fromhex("00860000")]) == 1

    @pytest.mark.parametrize("air", [True, False])
    def test_copied_certificates_without_the_key(self, *, air: bool) -> None:
        clone = contents(component=replace(component(), key=key("thief")))
        proof = Tapped(on_air(clone)).tap(**AIR) if air else Tapped(in_slot(clone)).tap(**SLOT)
        assert judged(proof) is Reason.WRONG_SIGNATURE

    def test_a_component_of_another_root(self) -> None:
        forged = contents(component=replace(component(label="thief"), root=NEW.root))
        proof = Tapped(in_slot(forged)).tap(**SLOT)
        assert judged(proof) is Reason.UNTRUSTED_ISSUER
        assert isinstance(judged(proof, (Issuers(label="thief").root.public_key(),)), Component)

    def test_only_what_is_configured_is_a_root(self) -> None:
        proof = Tapped(in_slot()).tap(**SLOT)
        assert judged(proof, (OLD.root.public_key(), NEW.root.public_key())) is Reason.UNTRUSTED_ISSUER

    def test_a_key_put_into_anothers_certificate(self) -> None:
        mine, his = (key(name).public_key().public_numbers().n.to_bytes(128) for name in ("thief", "chip"))
        forged = replace(component(), key=key("thief"), certificate=component().certificate.replace(his, mine))
        assert judged(Tapped(in_slot(contents(component=forged))).tap(**SLOT)) is Reason.UNTRUSTED_ISSUER

    def test_an_earlier_answer_again(self) -> None:
        earlier = Tapped(in_slot())
        assert isinstance(judged(earlier.tap(**SLOT)), Component)
        replayed = iter(earlier.answers)
        assert judged(Tapped(in_slot()).tap(lambda *_: next(replayed), **SLOT)) is Reason.WRONG_SIGNATURE

    def test_an_answer_that_was_made_for_another_gate(self) -> None:
        """The same randomness at two gates, which no gate has: even then the answer of one is worthless."""

        def at(gate: str, change: Callable[[bytes, bytes], bytes] | None = None) -> tuple[CardProof, list[bytes]]:
            card = Tapped(in_slot())
            return card.tap(change, gate=gate, random=bytes), card.answers

        answers = at("gate-8")[1]
        replayed = iter(answers)
        assert judged(at("gate-7", lambda *_: next(replayed))[0]) is Reason.WRONG_SIGNATURE
        again = iter(answers)
        assert isinstance(judged(at("gate-8", lambda *_: next(again))[0]), Component)

    def test_an_answer_to_another_serial_number(self) -> None:

        class Deaf(DnieChip):
            def _internal_authenticate(self, command: CommandApdu) -> bytes:
                assert self._state.terminal is not None
                self._state.terminal = replace(self._state.terminal, holder=OLD.reference)
                return super()._internal_authenticate(replace(command, data=command.data[:8] + OLD.serial))

        assert judged(Tapped(Deaf(contents())).tap(**SLOT)) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize(
        "answer", ["", "00", "00" * 127, "00" * 129, "FF" * 128], ids=lambda octets: f"{len(octets)}"
    )
    def test_an_answer_of_another_shape(self, answer: str) -> None:
        def change(command: bytes, given_answer: bytes) -> bytes:
            return bytes.fromhex(answer) + b"\x90\x00" if command[1] == 0x88 else given_answer

        with pytest.raises(CardMalformed):
            Tapped(in_slot()).tap(change, **SLOT)

    @pytest.mark.parametrize("name", ["certificate", "issuer"])
    @pytest.mark.parametrize("octets", ["", "30", "30800000", "3082FFFF00", "04020000", "3003020101"])
    def test_no_certificate_in_a_component_file(self, name: str, octets: str) -> None:
        held = replace(component(), **{name: bytes.fromhex(octets)})  # type: ignore[arg-type]
        with pytest.raises(CardMalformed):
            Tapped(in_slot(contents(component=held))).tap(**SLOT)

    def test_a_component_key_of_another_size(self) -> None:
        held = replace(component(), certificate=Issuers().chip(public=key("odd", 1536).public_key()))
        with pytest.raises(KeyUnsupported):
            Tapped(in_slot(contents(component=held))).tap(**SLOT)

    @pytest.mark.parametrize(
        "control",
        [
            "",
            "6F00",
            "6F02 8500",
            "6F06 8504 01601F02",
            "6F07 8505 01601F0000",
            "6F07 8505 01601F1001",
            "6F07 8505 01601FFFFF",
            "85",
            "6F0C",
        ],
    )
    def test_control_information_that_tells_no_length(self, control: str) -> None:
        def change(command: bytes, answer: bytes) -> bytes:
            return bytes.fromhex(control) + b"\x90\x00" if command[5:7] == b"\x60\x1f" else answer

        with pytest.raises(CardMalformed):
            Tapped(in_slot()).tap(change, **SLOT)

    @pytest.mark.parametrize("more", [b"", bytes(224), bytes(256)], ids=["nothing", "one more", "many more"])
    def test_a_file_that_ends_before_or_after_its_end(self, more: bytes) -> None:
        def change(command: bytes, answer: bytes) -> bytes:
            return more + b"\x90\x00" if command[1] == 0xB0 else answer

        with pytest.raises(CardMalformed):
            Tapped(in_slot()).tap(change, **SLOT)

    def test_a_card_that_gives_a_byte_at_a_time(self) -> None:
        def change(command: bytes, answer: bytes) -> bytes:
            return answer[:1] + b"\x90\x00" if command[1] == 0xB0 else answer

        card = Tapped(in_slot())
        with pytest.raises(CardMalformed):
            card.tap(change, **SLOT)
        assert card.traffic.apdus <= MAX_APDUS

    @pytest.mark.parametrize("prefix", ["00A4000002602000", "00A4000002601F00", "00B0"])
    @pytest.mark.parametrize("sw", ["6A82", "6985", "6F00"])
    def test_files_that_are_refused_are_no_proof(self, prefix: str, sw: str) -> None:
        """Without its component files the card can only claim; without any file it can do nothing."""

        def change(command: bytes, answer: bytes) -> bytes:
            return bytes.fromhex(sw) if command.hex().upper().startswith(prefix) else answer

        card = Tapped(in_slot())
        if prefix == "00B0":
            with pytest.raises(CardRefused):
                card.tap(change, **SLOT)
        else:
            assert card.tap(change, **SLOT).assurance is Assurance.CLAIMED


class TestTornAway:
    def cut(self, chip: Chip, after: int, **wanted: Any) -> None:
        count = 0

        def carry(command: bytes) -> bytes:
            nonlocal count
            count += 1
            if count > after:
                raise MediumLost("virtual", "torn away")
            return chip.process(command).response or b""

        with pytest.raises(MediumLost):
            drive(dialogue(wanting(**wanted)), carry, Traffic())

    @pytest.mark.parametrize("after", range(15))
    def test_through_contacts_at_any_apdu(self, after: int) -> None:
        self.cut(in_slot(), after, **SLOT)

    @pytest.mark.parametrize("after", range(24))
    def test_over_the_air_at_any_apdu(self, after: int) -> None:
        self.cut(on_air(), after, **AIR)


class TestSession:
    """Whatever is done to one answer inside the session: present again, or a refusal, and never a proof."""

    @pytest.mark.parametrize("place", [8, 10, 15, 23])
    @pytest.mark.parametrize(
        "change",
        [
            lambda answer: answer[:-3] + bytes([answer[-3] ^ 1]) + answer[-2:],  # the checksum
            lambda answer: answer[:3] + bytes([answer[3] ^ 1]) + answer[4:],
            lambda answer: answer[:-2] + b"\x6a\x82",
            lambda _answer: b"\x90\x00",
            lambda _answer: b"\x69\x88",
            lambda answer: answer[:-12] + b"\x90\x00",
        ],
        ids=["checksum", "content", "status", "plain", "dropped", "unsealed"],
    )
    def test_a_spoilt_answer(self, place: int, change: Callable[[bytes], bytes]) -> None:
        card = Tapped(on_air())

        def spoil(_command: bytes, answer: bytes) -> bytes:
            return change(answer) if len(card.log) == place + 1 else answer

        with pytest.raises(CardMalformed):
            card.tap(spoil, **AIR)

    def test_an_answer_twice(self) -> None:
        card = Tapped(on_air())

        def repeat(_command: bytes, answer: bytes) -> bytes:
            return card.answers[-1] if len(card.log) == 12 else answer

        with pytest.raises(CardMalformed):
            card.tap(repeat, **AIR)


CONTROL, CARD_ACCESS = "6F07850501601F0280", "31143012060A04007F0007020204020202010202010D"
ANSWER = st.one_of(
    st.binary(min_size=0, max_size=300),
    st.tuples(
        st.one_of(
            st.binary(max_size=258),
            st.sampled_from([bytes.fromhex(CONTROL), bytes.fromhex(CARD_ACCESS)]),
        ),
        st.sampled_from(["9000", "6100", "6110", "6C10", "6982", "6A82", "6B00", "6282", "6300"]),
    ).map(lambda parts: parts[0] + bytes.fromhex(parts[1])),
)


class TestHostileCard:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER, contactless=st.booleans(), told=st.booleans())
    def test_any_answers_end_in_a_profile_error_within_bounds(
        self, answers: list[bytes], last: bytes, *, contactless: bool, told: bool
    ) -> None:
        script = iter(answers)
        traffic = Traffic()
        using = wanting(contactless=contactless, can=bytearray(CAN) if told else None)
        with pytest.raises(ProfileError):
            drive(dialogue(using), lambda _command: next(script, last), traffic)
        assert traffic.apdus <= MAX_APDUS
        assert traffic.bytes_in <= MAX_BYTES + 300

    @given(spoilt=st.integers(0, 16), at=st.integers(0, 300), flip=st.integers(1, 255))
    def test_one_changed_byte_is_never_believed_more(self, spoilt: int, at: int, flip: int) -> None:
        """It may make the card claim less; it never makes a chip of it that was not there."""
        card = Tapped(in_slot())

        def change(_command: bytes, answer: bytes) -> bytes:
            octets = bytearray(answer)
            if len(card.log) == spoilt + 1:
                octets[at % len(octets)] ^= flip
            return bytes(octets)

        try:
            proof = card.tap(change, **SLOT)
        except ProfileError:
            return
        if proof.assurance is not Assurance.CHIP:
            assert proof.assurance is Assurance.CLAIMED
            return
        shown, evidence = chip_of(proof)
        try:
            verdict = judged(proof)
        except CertificateError:
            return
        if isinstance(verdict, Component):
            assert shown == DnieComponent(component().certificate, component().issuer)
            assert dnie_component.answered(key("chip").public_key(), evidence)

    @slow_examples
    @given(spoilt=st.integers(0, 23), at=st.integers(0, 300), flip=st.integers(1, 255))
    def test_one_changed_byte_over_the_air(self, spoilt: int, at: int, flip: int) -> None:
        card = Tapped(on_air())

        def change(_command: bytes, answer: bytes) -> bytes:
            octets = bytearray(answer)
            if len(card.log) == spoilt + 1:
                octets[at % len(octets)] ^= flip
            return bytes(octets)

        try:
            proof = card.tap(change, **AIR)
        except ProfileError:
            return
        assert isinstance(judged(proof), Component)  # what was changed was free anyway: before PACE, nothing counts
