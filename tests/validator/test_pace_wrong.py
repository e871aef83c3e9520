"""PACE as a dialogue: cards that go wrong at each step, break the session, or answer anything at all."""

import os
from collections.abc import Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import pace as protocol
from hardware import tlv
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.domain_parameters import STANDARDIZED
from hardware.secure_messaging import SecureChannel
from tests.hardware.pace_vectors import octets
from tests.hostile import hostile
from tests.validator.pace_cards import (
    CAM_SUITE,
    CHIP_KEY,
    SUITE,
    SUITES,
    card,
    changed,
    drive,
    established,
    read_secret,
    script,
    whole_tap,
)
from validator.dialogue import MAX_APDUS
from validator.profiles import pace
from validator.profiles.errors import CardMalformed, CardRefused, ProfileError

#: Each example multiplies a dozen points in plain Python.
slow_examples = settings(max_examples=400 if os.environ.get("PILET_SOAK") == "1" else 30)


POINT = STANDARDIZED[12].public_point(1)
OTHER_CURVE = STANDARDIZED[13].public_point(1)


def answer_of(tag: int, value: bytes) -> bytes:
    return tlv.encode(0x7C, tlv.encode(tag, value)) + b"\x90\x00"


class TestMalformed:
    @pytest.mark.parametrize(
        ("step", "answer"),
        [
            (1, b"\x90\x00"),
            (1, answer_of(0x81, bytes(16))),
            (1, answer_of(0x80, b"")),
            (1, answer_of(0x80, bytes(15))),
            (1, answer_of(0x80, bytes(17))),
            (1, answer_of(0x80, bytes(16))[:-3] + b"\x90\x00"),
            (1, tlv.encode(0x7C, tlv.encode(0x80, bytes(16)) * 2) + b"\x90\x00"),
            (1, tlv.encode(0x80, bytes(16)) + b"\x90\x00"),
            (2, answer_of(0x82, b"\x00")),
            (2, answer_of(0x82, b"")),
            (2, answer_of(0x82, POINT[:-1] + b"\x00")),
            (2, answer_of(0x82, b"\x04" + bytes(64))),
            (2, answer_of(0x82, OTHER_CURVE)),
            (2, answer_of(0x82, POINT[1:])),
            (2, answer_of(0x82, b"\x02" + POINT[1:33])),
            (2, answer_of(0x84, POINT)),
            (3, answer_of(0x84, b"\x00")),
            (3, answer_of(0x84, POINT[:-1] + b"\x00")),
            (3, answer_of(0x84, OTHER_CURVE)),
            (3, answer_of(0x82, POINT)),
            (4, b"\x90\x00"),
            (4, answer_of(0x86, b"")),
            (4, answer_of(0x86, bytes(8))),
            (4, answer_of(0x86, bytes(16))),
            (4, answer_of(0x85, bytes(8))),
            (4, answer_of(0x87, b"DECVCA")),
            (4, answer_of(0x8B, bytes(8))),
        ],
    )
    def test_answers(self, step: int, answer: bytes) -> None:
        with pytest.raises(CardMalformed):
            established(changed(step, lambda _good: answer, card()))

    @pytest.mark.parametrize("step", [2, 3])
    def test_our_own_key_as_the_cards(self, step: int) -> None:
        def carry(command: bytes) -> bytes:
            if len(held.log) != step:
                return held.process(command)
            return answer_of(2 * step - 2 + 0x80, command[9:-1])

        held = card()
        with pytest.raises(CardMalformed, match="came back"):
            established(carry)

    @pytest.mark.parametrize("step", range(4))
    def test_refusals_before_the_last_step(self, step: int) -> None:
        for sw in (0x6300, 0x6A80, 0x6A88, 0x6982, 0x6D00):
            with pytest.raises(CardRefused) as refused:
                established(changed(step, lambda _good, sw=sw: sw.to_bytes(2), card()))  # type: ignore[misc]
            assert refused.value.sw == sw

    def test_references_of_certification_authorities_are_let_pass(self) -> None:
        def change(good: bytes) -> bytes:
            (token,) = tlv.parse(tlv.parse_one(good[:-2], 0x7C))
            return tlv.encode(0x7C, bytes(token) + bytes.fromhex("870201028802FFFF")) + b"\x90\x00"

        assert established(changed(4, change, card())).channel.alive

    def test_the_token_twice(self) -> None:
        def change(good: bytes) -> bytes:
            token = tlv.parse_one(good[:-2], 0x7C)
            return tlv.encode(0x7C, token * 2) + b"\x90\x00"

        with pytest.raises(CardMalformed, match="do not belong"):
            established(changed(4, change, card()))

    def test_chip_authentication_mapping_without_its_data(self) -> None:
        with pytest.raises(CardMalformed, match="without its data"):
            established(card(CAM_SUITE, chip_key=None).process, CAM_SUITE)

    @pytest.mark.parametrize("data", [b"", bytes(15), bytes(17)])
    def test_chip_authentication_data_that_cannot_be_read(self, data: bytes) -> None:
        def change(good: bytes) -> bytes:
            token = tlv.find(tlv.parse_one(good[:-2], 0x7C), 0x86) or b""
            return tlv.encode(0x7C, tlv.encode(0x86, token) + tlv.encode(0x8A, data)) + b"\x90\x00"

        with pytest.raises(CardMalformed, match="chip authentication data"):
            established(changed(4, change, card(CAM_SUITE)), CAM_SUITE)

    @slow_examples
    @given(step=st.integers(1, 4), at=st.integers(0, 200), flip=st.integers(1, 255), cam=st.booleans())
    def test_one_changed_byte_never_leads_to_a_session_with_another_key(
        self, step: int, at: int, flip: int, *, cam: bool
    ) -> None:
        """The status word aside. Of chip authentication data a change may pass here; it then proves no key."""
        info = CAM_SUITE if cam else SUITE

        def change(good: bytes) -> bytes:
            octets = bytearray(good[:-2])
            octets[at % len(octets)] ^= flip
            return bytes(octets) + good[-2:]

        held = card(info)
        try:
            session = established(changed(step, change, held), info)
        except ProfileError:
            return
        assert (step, cam) == (4, True)
        assert session.chip_data is not None
        assert not protocol.verify_chip_data(
            info.parameters, session.chip_data, session.mapping_key, info.parameters.public_point(CHIP_KEY)
        )


class TestSession:
    @pytest.mark.parametrize("sw", ["6987", "6988", "6982", "9000", "6F00"])
    def test_plain_answers(self, sw: str) -> None:
        held = card()
        session = established(held.process)
        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, read_secret()), script(sw))
        assert not session.channel.alive

    def test_the_dialogue_is_closed_when_the_session_breaks(self) -> None:
        closed: list[bool] = []

        def dialogue() -> Generator[CommandApdu, ResponseApdu, None]:
            try:
                yield CommandApdu(0, 0xB0, 0, 0, le=256)
            finally:
                closed.append(True)

        session, play = established(card().process), dialogue()
        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, play), script("6988"))
        assert closed == [True]

    @slow_examples
    @given(step=st.integers(0, 3), at=st.integers(0, 400), bit=st.integers(0, 7))
    def test_any_flipped_bit_of_an_answer(self, step: int, at: int, bit: int) -> None:
        def change(good: bytes) -> bytes:
            octets = bytearray(good)
            octets[at % (len(octets) - 2)] ^= 1 << bit
            return bytes(octets)

        held = card(piece=4096)
        session = established(held.process)
        before = len(held.log)
        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, read_secret()), changed(before + step, change, held))
        assert not session.channel.alive

    @slow_examples
    @given(step=st.integers(0, 3), at=st.integers(0, 400), bit=st.integers(0, 7))
    def test_any_flipped_bit_of_a_command(self, step: int, at: int, bit: int) -> None:
        """The virtual card drops the session, in plain; a bit that is no longer sealed drops it as well."""
        held = card(piece=4096)
        session = established(held.process)
        before = len(held.log)

        def carry(command: bytes) -> bytes:
            octets = bytearray(command)
            if len(held.log) - before == step:
                position = at % (len(octets) - 2)
                octets[position + (position >= 4)] ^= 1 << bit  # the length byte and the outer Le are transport
            return held.process(bytes(octets))

        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, read_secret()), carry)
        assert not held.pace.established

    def test_answers_of_another_session(self) -> None:
        one_card, other_card = card(), card()
        session = established(one_card.process)
        other = established(other_card.process)
        drive(pace.through(other.channel, read_secret()), other_card.process)
        replayed = iter(other_card.answers[5:])
        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, read_secret()), lambda _command: next(replayed))

    def test_an_endless_answer(self) -> None:
        session = established(card().process)
        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, read_secret()), lambda _command: bytes(200) + b"\x61\x00")
        assert not session.channel.alive


class TestCardAccess:
    @pytest.mark.parametrize("piece", [32, 100, 231])
    def test_a_long_padded_file_in_parts(self, piece: int) -> None:
        infos = SUITES[:15]
        content = protocol.encode_card_access(infos)
        held = card(*infos, card_access=content + bytes(64))

        def carry(command: bytes) -> bytes:
            """A card that gives less than it is asked for, and says so."""
            answer = held.process(command)
            return answer[:-2][:piece] + b"\x62\x82" if len(answer) - 2 > piece else answer

        assert drive(pace.read_card_access(), carry) == tuple(infos)

    def test_none_is_spoken(self) -> None:
        held = card(card_access=octets("31143012060A04007F0007020204040402010202010C"))
        assert drive(pace.read_card_access(), held.process) == ()

    @pytest.mark.parametrize("sw", ["6A82", "6982", "6D00", "6E00"])
    def test_refused(self, sw: str) -> None:
        for answers in ((sw,), ("9000", sw)):
            with pytest.raises(CardRefused) as refused:
                drive(pace.read_card_access(), script(*answers))
            assert refused.value.sw == int(sw, 16)

    @pytest.mark.parametrize(
        "answers",
        [
            ("9000", "9000"),
            ("9000", "3114309000", "9000"),
            ("9000", "309000"),
            ("9000", "31806282"),
            ("9000", "3182FFFF9000"),
            ("9000", "310230009000"),
        ],
        ids=["empty", "ends early", "no SET", "indefinite", "too long", "no SecurityInfo"],
    )
    def test_malformed(self, answers: tuple[str, ...]) -> None:
        with pytest.raises(CardMalformed):
            drive(pace.read_card_access(), script(*answers))

    def test_a_file_in_drops_comes_to_an_end(self) -> None:
        asked: list[bytes] = []

        def carry(command: bytes) -> bytes:
            asked.append(command)
            if command[1] == 0xA4:
                return b"\x90\x00"
            return octets("318207009000") if len(asked) == 2 else octets("009000")

        with pytest.raises(CardMalformed, match="early"):
            drive(pace.read_card_access(), carry)
        assert len(asked) < MAX_APDUS // 2


ANSWER = st.one_of(
    st.sampled_from([b"\x90\x00", b"\x61\x08", b"\x6c\x10", b"\x63\x00", b"\x69\x88"]),
    st.binary(min_size=2, max_size=258),
    st.binary(max_size=256).map(lambda data: data + b"\x90\x00"),
    st.tuples(st.sampled_from([0x80, 0x82, 0x84, 0x86, 0x8A]), st.binary(max_size=80)).map(lambda one: answer_of(*one)),
    st.sampled_from([answer_of(tag, POINT) for tag in (0x82, 0x84)] + [answer_of(0x80, bytes(16))]),
)


class TestAnyAnswers:
    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER)
    def test_a_tap_ends_in_a_refusal(self, answers: list[bytes], last: bytes) -> None:
        left = iter([octets("9000"), octets("31143012060A04007F0007020204020202010202010C9000"), *answers])
        with pytest.raises(ProfileError):
            drive(whole_tap(), lambda _command: next(left, last))

    @hostile
    @given(answers=st.lists(ANSWER, max_size=12), last=ANSWER)
    def test_reading_card_access_ends(self, answers: list[bytes], last: bytes) -> None:
        left = iter(answers)
        try:
            infos = drive(pace.read_card_access(), lambda _command: next(left, last))
        except ProfileError:
            return
        assert all(info.spoken for info in infos)

    @hostile
    @given(answers=st.lists(ANSWER, max_size=8), last=ANSWER)
    def test_a_session_ends_in_a_refusal(self, answers: list[bytes], last: bytes) -> None:
        left = iter(answers)
        channel = SecureChannel(bytes(16), bytes(range(16)))
        with pytest.raises(ProfileError):
            drive(pace.through(channel, read_secret()), lambda _command: next(left, last))
        assert not channel.alive
