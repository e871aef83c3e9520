"""Files of travel documents: the specimens of Doc 9303, and what is no such file."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import lds
from hardware.domain_parameters import STANDARDIZED
from hardware.ec_keys import EcKey
from hardware.lds import LdsError, Mrz, check_digit, encode_dg1, parse_dg1, parse_dg14, parse_dg15, whole_length
from hardware.virtual import emrtd_files
from hardware.virtual.emrtd_files import Holder
from tests.hostile import hostile
from tests.validator.scripted_card import tlv

#: Doc 9303-4 appendix B, 9303-5 appendix B, 9303-6 appendix B: the same person in three sizes.
PASSPORT = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<" + "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
CARD = "I<UTOD231458907<<<<<<<<<<<<<<<" + "7408122F1204159UTO<<<<<<<<<<<6" + "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"
TD2 = "I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<" + "D231458907UTO7408122F1204159<<<<<<<6"
#: Doc 9303-11 appendix D.2: a document number of more than nine characters, of a TD1.
LONG_NUMBER = "I<UTOD23145890<7349<<<<<<<<<<<" + "3407127M9507122UTO<<<<<<<<<<<2" + "STEVENSON<<PETER<JOHN<<<<<<<<<"

NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=12)
DATES = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31)).map(lambda day: day.strftime("%y%m%d"))
HOLDERS = st.builds(
    Holder,
    surname=NAMES,
    given_names=NAMES,
    number=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=18),
    birth=DATES,
    expiry=DATES,
    sex=st.sampled_from("FM<"),
)


class TestSpecimens:
    @pytest.mark.parametrize(
        ("lines", "code", "number", "optional"),
        [(PASSPORT, "P", "L898902C3", "ZE184226B"), (CARD, "I", "D23145890", ""), (TD2, "I", "D23145890", "")],
        ids=["TD3", "TD1", "TD2"],
    )
    def test_anna_maria_eriksson(self, lines: str, code: str, number: str, optional: str) -> None:
        assert parse_dg1(encode_dg1(lines)) == Mrz(
            code=code,
            issuer="UTO",
            number=number,
            birth="740812",
            expiry="120415",
            nationality="UTO",
            surname="ERIKSSON",
            given_names="ANNA MARIA",
            optional=optional,
        )

    def test_a_long_document_number_goes_on_in_the_optional_data(self) -> None:
        found = parse_dg1(encode_dg1(LONG_NUMBER))
        assert (found.number, found.optional) == ("D23145890734", "")
        assert found.pace_secret == b"D23145890734934071279507122"

    def test_what_pace_makes_its_key_of(self) -> None:
        """Doc 9303-11 appendix G.1: T22000129, 12 August 1964, 31 October 2010."""
        holder = Holder(number="T22000129", birth="640812", expiry="101031")
        for lines in (holder.card(), holder.booklet()):
            assert parse_dg1(encode_dg1(lines)).pace_secret == b"T22000129364081251010318"

    def test_a_document_is_valid_through_its_last_day(self) -> None:
        assert parse_dg1(encode_dg1(PASSPORT)).expires_on == dt.date(2012, 4, 15)

    def test_a_document_may_not_end(self) -> None:
        assert parse_dg1(encode_dg1(Holder(expiry="<<<<<<").card())).expires_on is None

    def test_a_date_that_is_none_is_said_so(self) -> None:
        found = parse_dg1(encode_dg1(Holder(expiry="320231").card()))
        with pytest.raises(LdsError, match="no date"):
            _ = found.expires_on

    def test_nothing_personal_is_in_a_repr(self) -> None:
        told = repr(parse_dg1(encode_dg1(PASSPORT)))
        assert not any(secret in told for secret in ("ERIKSSON", "L898902C3", "740812"))


class TestMachineReadableZone:
    @given(HOLDERS)
    def test_what_was_written_is_read(self, holder: Holder) -> None:
        for lines in (holder.card(), replace(holder, number=holder.number[:9]).booklet()):
            found = parse_dg1(encode_dg1(lines))
            assert holder.number.startswith(found.number)
            assert (found.birth, found.expiry, found.surname) == (holder.birth, holder.expiry, holder.surname)
        assert parse_dg1(encode_dg1(holder.card())).number == holder.number

    @pytest.mark.parametrize("lines", [PASSPORT, CARD, TD2, LONG_NUMBER], ids=["TD3", "TD1", "TD2", "long"])
    def test_a_wrong_digit_is_found_wherever_it_is_checked(self, lines: str) -> None:
        refused = 0
        for position, character in enumerate(lines):
            if not character.isdigit():
                continue
            wrong = lines[:position] + str((int(character) + 1) % 10) + lines[position + 1 :]
            with pytest.raises(LdsError, match="check digit"):
                parse_dg1(encode_dg1(wrong))
            refused += 1
        assert refused > 20

    @pytest.mark.parametrize("length", [0, 1, 71, 73, 87, 89, 91, 180])
    def test_another_size_is_none(self, length: int) -> None:
        with pytest.raises(LdsError, match=f"{length} characters"):
            parse_dg1(encode_dg1("<" * length))

    @pytest.mark.parametrize(
        "octets",
        [b"", b"\x61\x00", tlv("61", tlv("5F1F", b"\xff" * 90)), tlv("75", tlv("5F1F", CARD.encode()))],
        ids=range(4),
    )
    def test_another_file_is_none(self, octets: bytes) -> None:
        with pytest.raises(LdsError):
            parse_dg1(octets)

    @given(st.text(max_size=12))
    def test_a_check_digit_is_a_digit_or_refused(self, field: str) -> None:
        try:
            digit = check_digit(field)
        except LdsError:
            return
        assert digit in "0123456789"

    @hostile
    @given(st.one_of(st.binary(max_size=200), st.text(st.characters(max_codepoint=127), min_size=90, max_size=90)))
    def test_any_octets_are_a_zone_or_refused(self, content: bytes | str) -> None:
        octets = content if isinstance(content, bytes) else tlv("61", tlv("5F1F", content.encode()))
        try:
            parse_dg1(octets)
        except LdsError:
            return


class TestLength:
    @pytest.mark.parametrize(
        ("head", "length"), [("6100", 2), ("617F", 129), ("618180", 131), ("77820800", 2052), ("7783001000", 4101)]
    )
    def test_a_file_says_how_long_it_is(self, head: str, length: int) -> None:
        assert whole_length(bytes.fromhex(head)) == length

    @pytest.mark.parametrize(
        "head", ["", "61", "6180", "6181", "618201", "6184000001", "77821FFD", "7783FFFFFF", "61FF"]
    )
    def test_or_it_is_not_read(self, head: str) -> None:
        with pytest.raises(LdsError):
            whole_length(bytes.fromhex(head))

    @given(st.binary(max_size=8))
    def test_never_more_than_the_bound(self, head: bytes) -> None:
        try:
            assert whole_length(head) <= lds.MAX_FILE_BYTES
        except LdsError:
            return


OID = bytes.fromhex("04007F00070202030202")
KEY = EcKey(STANDARDIZED[13], STANDARDIZED[13].public_point(99))


class TestSecurityInfos:
    def test_ways_keys_and_algorithm(self) -> None:
        found = parse_dg14(
            emrtd_files.dg14(
                [
                    emrtd_files.chip_authentication_info(OID, 300),
                    emrtd_files.chip_key_info(KEY, 300),
                    emrtd_files.active_authentication_info(bytes.fromhex("04007F00070101040103")),
                ]
            )
        )
        assert [(each.oid, each.version, each.key_id) for each in found.chip_authentication] == [(OID, 1, 300)]
        assert [(each.key, each.key_id) for each in found.chip_keys] == [(KEY, 300)]
        assert found.active_authentication == bytes.fromhex("04007F00070101040103")

    def test_what_is_not_worked_with_is_passed_over(self) -> None:
        dh = tlv("30", tlv("06", bytes.fromhex("04007F000702020101")) + tlv("30", b""))
        other_curve = emrtd_files.chip_key_info(KEY).replace(bytes.fromhex("2B2403030208010107"), bytes(9))
        terminal = tlv("30", tlv("06", bytes.fromhex("04007F0007020202")) + tlv("02", b"\x01"))
        found = parse_dg14(emrtd_files.dg14([dh, other_curve, terminal]))
        assert found == lds.SecurityInfos((), (), None)

    def test_a_key_off_its_curve_is_refused(self) -> None:
        bad = bytearray(emrtd_files.dg14([emrtd_files.chip_key_info(KEY)]))
        bad[-1] ^= 1
        with pytest.raises(LdsError, match="not on brainpoolP256r1"):
            parse_dg14(bytes(bad))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            tlv("31", tlv("30", b"")),
            tlv("31", tlv("04", tlv("06", OID))),
            tlv("31", tlv("30", tlv("06", OID))),
            tlv("31", tlv("30", tlv("06", OID) + tlv("04", b"\x01"))),
            tlv("31", tlv("30", tlv("06", OID) + tlv("02", bytes(9)))),
            tlv("31", tlv("30", tlv("06", bytes.fromhex("678108010105")) + tlv("02", b"\x01"))),
            tlv("31", tlv("30", tlv("06", bytes.fromhex("04007F000702020102")))),
        ],
        ids=range(8),
    )
    def test_what_cannot_be_read_is_refused(self, content: bytes) -> None:
        with pytest.raises(LdsError):
            parse_dg14(tlv("6E", content))

    @hostile
    @given(st.binary(max_size=120))
    def test_any_octets_are_read_or_refused(self, octets: bytes) -> None:
        for content in (octets, tlv("6E", octets), tlv("6E", tlv("31", tlv("30", octets)))):
            try:
                parse_dg14(content)
            except LdsError:
                continue

    @given(position=st.integers(0, 300), flip=st.integers(1, 255))
    def test_one_spoilt_octet_is_read_or_refused(self, position: int, flip: int) -> None:
        octets = bytearray(
            emrtd_files.dg14([emrtd_files.chip_authentication_info(OID, 1), emrtd_files.chip_key_info(KEY, 1)])
        )
        octets[position % len(octets)] ^= flip
        try:
            parse_dg14(bytes(octets))
        except LdsError:
            return


class TestActiveAuthenticationKey:
    def test_it_is_given_as_it_is_written(self) -> None:
        assert parse_dg15(emrtd_files.dg15(KEY.spki)) == KEY.spki

    @pytest.mark.parametrize("octets", [b"", b"\x6f\x00", tlv("6E", KEY.spki), tlv("6F", KEY.spki + b"\x30\x00")])
    def test_anything_else_is_refused(self, octets: bytes) -> None:
        with pytest.raises(LdsError):
            parse_dg15(octets)
