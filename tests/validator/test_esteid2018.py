"""The Estonian card of 2018 at a desk: the octets of each mode, and a session that a real card had."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hardware.apdu import SHORT_LE_MAX, SW, CommandApdu, ResponseApdu
from tests.validator.attempting import GATE, WALL_MS, counting
from tests.validator.authority import Authority
from tests.validator.dual_interface_cards import CAN, DOCUMENT, IDEMIA, PIN, Reader, attempting, converse, replay, tap
from validator.model import Assurance
from validator.profiles import esteid2018
from validator.profiles.attempt import challenge_message
from validator.profiles.dual_interface import PersonalField

VECTOR: dict[str, Any] = next(
    vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "esteid_pace.json").read_text())["vectors"]
    if vector["name"] == esteid2018.NAME
)
DIGEST = hashlib.sha384(challenge_message(GATE, WALL_MS, counting(32))).hexdigest().upper()
SELECT = "00A4040C10A000000077010800070000FE00000100"
TRIES = "00CB3FFF0A4D087006BF810102A08000"
SELECT_CERTIFICATE = "00A4090C04ADF13401"
SELECT_AUTHENTICATION = "00A4040C0DE828BD080FF2504F5420415750"
VERIFY = "002000010C34373131FFFFFFFFFFFFFFFF"
SET_ENVIRONMENT = "002241A406800104840181"


def reads(size: int) -> list[str]:
    return [f"00B0{at:04X}{min(223, size - at):02X}" for at in range(0, size, 223)]


class TestOctets:
    def test_at_the_contacts_without_a_pin(self, authority: Authority) -> None:
        der = IDEMIA.certificate(authority)
        reader = Reader(IDEMIA.chip(authority, certificate=der))
        tap(IDEMIA, reader, attempting())
        assert reader.hexes == [SELECT, SELECT_CERTIFICATE, *reads(len(der))]
        assert (reader.traffic.apdus, reader.traffic.bytes_out) == (7, 21 + 9 + 5 * 5)
        assert reader.traffic.bytes_in == len(der) + 7 * 2

    def test_at_the_contacts_with_pin1(self, authority: Authority) -> None:
        der = IDEMIA.certificate(authority)
        reader = Reader(IDEMIA.chip(authority, certificate=der))
        tap(IDEMIA, reader, attempting(pin=PIN))
        assert reader.hexes == [
            SELECT,
            TRIES,
            SELECT_CERTIFICATE,
            *reads(len(der)),
            SELECT_AUTHENTICATION,
            VERIFY,
            SET_ENVIRONMENT,
            f"0088000030{DIGEST}00",
        ]
        assert reader.traffic.apdus == 12

    @pytest.mark.parametrize(("pin", "inside"), [(None, 7), (PIN, 12)])
    def test_over_the_air_the_same_goes_through_the_session(
        self, authority: Authority, pin: str | None, inside: int
    ) -> None:
        reader = Reader(IDEMIA.chip(authority, can=CAN))
        proof = tap(IDEMIA, reader, attempting(can=CAN, pin=pin, contactless=True))
        assert proof.assurance is (Assurance.HOLDER if pin else Assurance.SHARED_SECRET)
        assert [command[:4].hex().upper() for command in reader.log[:8]] == [
            "00A4040C",
            "00A4020C",
            "00B00000",
            "0022C1A4",
            *["10860000"] * 3,
            "00860000",
        ]
        assert all(command[0] == 0x0C for command in reader.log[8:])
        assert len(reader.log) == 8 + inside
        assert max(map(len, reader.answers)) <= SHORT_LE_MAX + 2, "no answer needs a second command"

    def test_the_document_number_has_a_file_of_its_own(self, authority: Authority) -> None:
        reader = Reader(IDEMIA.chip(authority))
        assert converse(esteid2018.document_number(attempting()), reader) == DOCUMENT
        assert reader.hexes == [SELECT, "00A4020C02D003", "00B00000DF"]

    def test_a_personal_field_is_numbered_in_hexadecimal(self, authority: Authority) -> None:
        reader = Reader(IDEMIA.chip(authority))
        converse(esteid2018.personal_data(attempting(), [PersonalField.REMARK_5]), reader)
        assert reader.hexes == [SELECT, "00A4010C025000", "00A4020C02500F", "00B00000DF"]


class TestContactsOfT0:
    """Some readers speak T=0: a card announces what it holds (61xx), or what Le should have been (6Cxx)."""

    @pytest.mark.parametrize("status", [0x61, 0x6C])
    def test_the_same_proof(self, authority: Authority, status: int) -> None:
        chip = IDEMIA.chip(authority)
        held = b""

        def carry(command: bytes) -> bytes:
            nonlocal held
            apdu = CommandApdu.from_bytes(command)
            if apdu.ins == 0xC0:
                said, held = held, b""
                return said + b"\x90\x00"
            real = chip.process(command).response
            assert real is not None
            if len(real) == 2 or apdu.le == len(real) - 2:
                return real
            if status == 0x61:
                held = real[:-2]
            return bytes([status, len(real) - 2])

        chip.reset()
        proof = converse(IDEMIA.profile.authenticate(attempting(pin=PIN), ResponseApdu(b"", SW.OK)), carry)
        assert proof.assurance is Assurance.HOLDER


class TestRealCard:
    def test_its_pace_is_ours(self) -> None:
        """With the phone's private numbers every octet of ours is the phone's, and the card's token fits."""
        replay(IDEMIA, VECTOR)
