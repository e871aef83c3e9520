"""The card's side of PACE: what it refuses, and how it says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.domain_parameters import STANDARDIZED
from hardware.virtual.pace_card import PaceCard
from tests.hardware.pace_vectors import octets
from tests.validator.pace_cards import CAN, SUITE, card

POINT = STANDARDIZED[12].public_point(1)


class TestVirtualCard:
    C1 = "0022C1A412800A04007F0007020204020283010284010C"

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("0022C1A40F800A04007F00070202040402830102", 0x6A80),  # a suite that it does not speak
            ("0022C1A40C800A04007F00070202040202", 0x6A80),  # no password
            ("0022C1A412800A04007F0007020204020283010284010D", 0x6A88),  # other parameters
            ("0022C1A40F800A04007F00070202040202830103", 0x6A88),  # a PIN that it does not have
            ("0022C1A40F800A04007F00070202040202830100", 0x6A88),
            ("0022C1A412800A04007F00070202040202830102830102", 0x6A80),  # twice
        ],
    )
    def test_templates(self, command: str, sw: int) -> None:
        assert card().process(octets(command)) == sw.to_bytes(2)

    @pytest.mark.parametrize(
        ("commands", "sw"),
        [
            (["00860000027C0000"], 0x6985),  # not chained
            (["10860000037C018000"], 0x6A80),
            (["108600000400000000"], 0x6A80),
            (["10860100027C0000"], 0x6A86),
            (["10860000027C0000", "10860000027C0000"], 0x6A80),  # the nonce again
            (["10860000027C0000", "10860000047C02810000"], 0x6A80),  # no point
            (["10860000027C0000", "10860000457C438341" + POINT.hex() + "00"], 0x6A80),  # a step too far
            (["10860000027C0000", "008600000C7C0A8508000000000000000000"], 0x6985),
        ],
    )
    def test_steps(self, commands: list[str], sw: int) -> None:
        held = card()
        assert held.process(octets(self.C1)) == b"\x90\x00"
        answers = [held.process(octets(command)) for command in commands]
        assert answers[-1] == sw.to_bytes(2)
        assert held.process(octets("10860000027C0000")) != b"\x90\x00"  # the run is over
        assert not held.pace.established

    def test_a_command_between_the_steps_ends_the_run(self) -> None:
        held = card()
        held.process(octets(self.C1))
        held.process(octets("00A4020C02011C"))
        assert held.process(octets("10860000027C0000")) == octets("6D00")

    def test_a_sealed_command_between_the_steps_ends_the_run(self) -> None:
        held = card()
        held.process(octets(self.C1))
        assert held.process(octets("0CB000000D97010B8E08000000000000000000")) == octets("6882")
        assert held.process(octets("10860000027C0000")) == octets("6982")

    def test_nonces_are_fresh(self) -> None:
        held, nonces = card(), set()
        for _ in range(5):
            held.process(octets(self.C1))
            nonces.add(held.process(octets("10860000027C0000")))
        assert len(nonces) == 5

    @given(
        commands=st.lists(
            st.binary(min_size=4, max_size=40).map(
                lambda body: CommandApdu(body[0], body[1], body[2], body[3], body[4:])
            )
        )
    )
    def test_any_commands_get_an_answer_and_no_session(self, commands: list[CommandApdu]) -> None:
        held = PaceCard((SUITE,), can=CAN)
        for command in commands:
            answer = held.process(command, lambda _command: ResponseApdu(b"", 0x6D00))
            assert not answer.ok or command.ins == 0x22
        assert not held.established
