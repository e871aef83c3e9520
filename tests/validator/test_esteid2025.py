"""The Estonian card of 2025 at a desk: the octets of each mode, and a session that a real card had."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hardware.apdu import SHORT_LE_MAX
from tests.validator.attempting import GATE, WALL_MS, counting
from tests.validator.authority import Authority
from tests.validator.dual_interface_cards import (
    CAN,
    DOCUMENT,
    PIN,
    RESIDENT,
    THALES,
    Reader,
    attempting,
    converse,
    replay,
    tap,
)
from validator.model import Assurance
from validator.profiles import esteid2025
from validator.profiles.attempt import challenge_message
from validator.profiles.dual_interface import PersonalField
from validator.profiles.errors import CardMalformed

VECTOR: dict[str, Any] = next(
    vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "esteid_pace.json").read_text())["vectors"]
    if vector["name"] == esteid2025.NAME
)
DIGEST = hashlib.sha384(challenge_message(GATE, WALL_MS, counting(32))).hexdigest().upper()
SELECT = "00A4040C0CA000000063504B43532D3135"
SELECT_MASTER = "00A4040C10A0000000181002030000000000000001"
TRIES = "00CB00FF05A00383018100"
SELECT_CERTIFICATE = "00A4080404ADF13411"
VERIFY = "002000810C343731310000000000000000"
SET_ENVIRONMENT = "002241B606800154840101"


def reads(size: int) -> list[str]:
    return [f"00B0{at:04X}{min(223, size - at):02X}" for at in range(0, size, 223)]


class TestOctets:
    def test_at_the_contacts_without_a_pin(self, authority: Authority) -> None:
        der = THALES.certificate(authority)
        reader = Reader(THALES.chip(authority, certificate=der))
        tap(THALES, reader, attempting())
        assert reader.hexes == [SELECT, SELECT_CERTIFICATE, *reads(len(der))]
        assert (reader.traffic.apdus, reader.traffic.bytes_out) == (7, 17 + 9 + 5 * 5)

    def test_at_the_contacts_with_pin1(self, authority: Authority) -> None:
        der = THALES.certificate(authority)
        reader = Reader(THALES.chip(authority, certificate=der))
        tap(THALES, reader, attempting(pin=PIN))
        assert reader.hexes == [
            SELECT,
            TRIES,
            SELECT_CERTIFICATE,
            *reads(len(der)),
            VERIFY,
            SET_ENVIRONMENT,
            f"002A90A0329030{DIGEST}",
            "002A9E9A00",
        ]

    @pytest.mark.parametrize(("pin", "inside"), [(None, 7), (PIN, 12)])
    def test_over_the_air_the_same_goes_through_the_session(
        self, authority: Authority, pin: str | None, inside: int
    ) -> None:
        reader = Reader(THALES.chip(authority, can=CAN))
        proof = tap(THALES, reader, attempting(can=CAN, pin=pin, contactless=True))
        assert proof.assurance is (Assurance.HOLDER if pin else Assurance.SHARED_SECRET)
        assert reader.hexes[0] == SELECT_MASTER
        assert [command[:4].hex().upper() for command in reader.log[1:8]] == [
            "00A4020C",
            "00B00000",
            "0022C1A4",
            *["10860000"] * 3,
            "00860000",
        ]
        assert all(command[0] == 0x0C for command in reader.log[8:])
        assert len(reader.log) == 8 + inside
        assert max(map(len, reader.answers)) <= SHORT_LE_MAX + 2, "no answer needs a second command"

    def test_a_personal_field_is_numbered_in_decimal(self, authority: Authority) -> None:
        reader = Reader(THALES.chip(authority))
        converse(esteid2025.personal_data(attempting(), [PersonalField.REMARK_5]), reader)
        assert reader.hexes == [SELECT, "00A4080C02DFDD", "00A40204025015", "00B0000001"]

    def test_the_document_number_is_a_personal_field(self, authority: Authority) -> None:
        reader = Reader(THALES.chip(authority))
        assert converse(esteid2025.document_number(attempting()), reader) == DOCUMENT
        assert reader.hexes == [SELECT, "00A4080C02DFDD", "00A40204025007", "00B0000009"]


class TestTemplates:
    @pytest.mark.parametrize("told", ["", "6200", "620482020009", "62038101 09", "6F0481020009", "62", "6204810200"])
    def test_a_file_that_does_not_tell_its_size(self, authority: Authority, told: str) -> None:
        def tamper(_number: int, command: bytes, answer: bytes) -> bytes:
            return bytes.fromhex(told + "9000") if command[2:4] == b"\x02\x04" else answer

        with pytest.raises(CardMalformed):
            converse(
                esteid2025.personal_data(attempting(), [PersonalField.SEX]), Reader(THALES.chip(authority), tamper)
            )

    def test_a_field_longer_than_an_answer_is_read_as_far_as_one_goes(self, authority: Authority) -> None:
        reader = Reader(THALES.chip(authority, personal_data=("Õ" * 200, *RESIDENT[1:])))
        with pytest.raises(CardMalformed, match="UTF-8"):
            converse(esteid2025.personal_data(attempting(), [PersonalField.SURNAME]), reader)
        assert reader.hexes[-1] == "00B00000DF", "223 bytes end within a letter"

    def test_an_empty_file_is_an_empty_field(self, authority: Authority) -> None:
        def tamper(_number: int, command: bytes, answer: bytes) -> bytes:
            if command[2:4] == b"\x02\x04":
                return bytes.fromhex("6204810200009000")
            return b"\x6b\x00" if command[1] == 0xB0 else answer

        reader = Reader(THALES.chip(authority), tamper)
        assert converse(esteid2025.personal_data(attempting(), [PersonalField.SEX]), reader) == {PersonalField.SEX: ""}


class TestRealCard:
    def test_its_pace_is_ours(self) -> None:
        """With the phone's private numbers every octet of ours is the phone's, and the card's token fits."""
        replay(THALES, VECTOR)

    def test_what_it_told_of_a_pin_is_read(self, authority: Authority) -> None:
        """GET DATA of PIN2 of a test card (open-eid/nfc-Android-lib, ThalesSignFlowReplayTest.java): three tries."""
        told = (
            "A0348301828C04F0000000DF210403FFA503DF2702FFFFDF28010CDF2F0101"
            "DF3F1403050C01AA01FFFF550055FFFFAAFF55AA000000"
        )

        def tamper(_number: int, command: bytes, answer: bytes) -> bytes:
            return bytes.fromhex(told + "9000") if command[1] == 0xCB else answer

        proof = tap(THALES, Reader(THALES.chip(authority), tamper), attempting(pin=PIN))
        assert proof.assurance is Assurance.HOLDER
