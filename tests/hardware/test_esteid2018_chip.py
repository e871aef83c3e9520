"""The virtual Estonian card of 2018: laws for any bytes, access rules on either way, PINs, what OpenSC relies on."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.pace import Mapping, PaceInfo, PasswordKind, open_nonce, password_key
from hardware.pace_party import Party
from hardware.secure_messaging import SecureChannel
from hardware.virtual.esteid2018 import AUTHENTICATION, MAIN, SIGNING, EstEid2018Chip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import ChipTiming, KeyType, NoFigure

KEY = ec.generate_private_key(ec.SECP384R1())
CERTIFICATE = bytes.fromhex("30820400") + bytes(range(256)) * 4  # any octets: the card does not look into them
SIGNING_CERTIFICATE = bytes.fromhex("30820100") + bytes(256)
PERSON = ("ÕUNAPUU", "MÄRT", "N", "EST", "24 12 2199 EST", "89912240008", "AA0000007", *[""] * 8)
CAN = "123456"
VECTOR: dict[str, Any] = next(
    vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "esteid_pace.json").read_text())["vectors"]
    if vector["name"] == "esteid2018"
)

SELECT_MAIN, SELECT_AUTHENTICATION, SELECT_SIGNING = (
    f"00A4040C{len(name):02X}{name.hex().upper()}" for name in (MAIN, AUTHENTICATION, SIGNING)
)
TRIES = "00CB3FFF0A4D087006BF8101 02A08000"
VERIFY = "002000010C 31323334FFFFFFFFFFFFFFFF"
WRONG = "002000010C 34333231FFFFFFFFFFFFFFFF"
SET_ENVIRONMENT = "002241A406 800104 840181"
DIGEST = "AB" * 48
SIGN = f"0088000030{DIGEST}00"


def chip_of(**options: Any) -> EstEid2018Chip:
    return EstEid2018Chip(KEY, CERTIFICATE, PERSON, **options)


def ask(chip: EstEid2018Chip, *commands: str) -> str:
    response = None
    for command in commands:
        response = chip.process(bytes.fromhex(command)).response
        assert response is not None
    assert response is not None
    return response.hex().upper()


def signature_holds(raw: bytes) -> None:
    der = encode_dss_signature(int.from_bytes(raw[:48]), int.from_bytes(raw[48:]))
    KEY.public_key().verify(der, bytes.fromhex(DIGEST), ec.ECDSA(Prehashed(hashes.SHA384())))


def session(chip: EstEid2018Chip, can: str = CAN) -> SecureChannel:
    """Open a session, step by step as a terminal does."""
    info = PaceInfo.of(Mapping.GM, 32, 12)
    party = Party(info, lambda count: bytes(range(7, 7 + count)))
    assert ask(chip, SELECT_MAIN, "0022C1A412800A04007F0007020204020483010284010C") == "9000"
    sealed = bytes.fromhex(ask(chip, "10860000027C0000"))
    assert sealed[:4] == bytes.fromhex("7C228020"), "a nonce of two blocks"
    nonce = open_nonce(password_key(PasswordKind.CAN, can.encode(), 32), sealed[4:-2])
    own = party.map(nonce, _given(chip, "81", party.mapping_point))
    party.agree(_given(chip, "83", own))
    answer = ask(chip, f"008600000C7C0A8508{party.own_token.hex()}00")
    assert answer == (f"7C0A8608{party.expected_token.hex().upper()}9000" if can == CAN else "6300")
    return party.channel()


def _given(chip: EstEid2018Chip, tag: str, point: bytes) -> bytes:
    answer = bytes.fromhex(ask(chip, f"10860000457C43{tag}41{point.hex()}00"))
    assert answer[-2:] == b"\x90\x00"
    return answer[4:-2]


def inside(chip: EstEid2018Chip, channel: SecureChannel, *commands: str) -> str:
    opened = ResponseApdu(b"", 0)
    for command in commands:
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(command))))).response
        assert said is not None
        while said[-2] == 0x61:
            more = chip.process(bytes.fromhex("00C00000") + said[-1:]).response
            assert more is not None
            said = said[:-2] + more
        opened = channel.open_response(ResponseApdu.from_bytes(said))
    return bytes(opened).hex().upper()


commands = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda cla, ins, p1, p2, body: bytes([cla, ins, p1, p2]) + body,
        st.sampled_from([0x00, 0x0C, 0x10, 0x80]),
        st.sampled_from([0x20, 0x22, 0x86, 0x88, 0xA4, 0xB0, 0xC0, 0xCB]),
        st.sampled_from([0x00, 0x01, 0x02, 0x04, 0x09, 0x3F, 0x41, 0xC1]),
        st.sampled_from([0x00, 0x01, 0x04, 0x0C, 0x85, 0xA4, 0xFF]),
        st.one_of(
            st.binary(max_size=20), st.binary(min_size=1, max_size=70).map(lambda data: bytes([len(data)]) + data)
        ),
    ),
    st.sampled_from(
        [
            SELECT_MAIN,
            SELECT_AUTHENTICATION,
            TRIES,
            VERIFY,
            SET_ENVIRONMENT,
            SIGN,
            "00A4010C025000",
            "00A4020C025006",
            "00B0000000",
            "0022C1A412800A04007F0007020204020483010284010C",
            "10860000027C0000",
        ]
    ).map(bytes.fromhex),
)


class TestLaws:
    @given(script=st.lists(commands, max_size=12), can=st.sampled_from([None, CAN]))
    def test_any_bytes_get_a_status_word(self, script: list[bytes], can: str | None) -> None:
        chip = chip_of(can=can)
        for command in script:
            response = chip.process(command).response
            assert response is not None
            assert 2 <= len(response) <= 258
            assert response[-2] & 0xF0 in (0x60, 0x90)

    @given(script=st.lists(commands, max_size=12))
    def test_over_the_air_nothing_is_said_before_pace(self, script: list[bytes]) -> None:
        chip = chip_of(can=CAN)
        said = b"".join(chip.process(command).response or b"" for command in script)
        for secret in (CERTIFICATE[100:150], *(text.encode() for text in PERSON if len(text) > 3)):
            assert secret not in said
        assert chip.tries_left == 3, "nor is a try spent"

    @given(script=st.lists(commands.filter(lambda command: bytes.fromhex(VERIFY) != command), max_size=12))
    def test_nothing_is_signed_without_the_pin(self, script: list[bytes]) -> None:
        chip = chip_of()
        for command in (bytes.fromhex(SELECT_AUTHENTICATION), bytes.fromhex(SET_ENVIRONMENT), *script):
            chip.process(command)
        assert len(ask(chip, SELECT_AUTHENTICATION, SET_ENVIRONMENT, SIGN)) == 4


class TestFiles:
    def test_personal_data_at_the_contacts(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_MAIN, "00A4010C025000") == "9000"
        for field, text in enumerate(PERSON, 1):
            expected = (text.encode() or b"\0").hex().upper() + "9000"
            assert ask(chip, f"00A4020C0250{field:02X}", "00B0000000") == expected
        assert ask(chip, "00A4010C025000") == "6A82", "it is selected already"
        assert ask(chip, "00A4020C025010") == "6A82"

    def test_the_certificate_is_read_to_its_end(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_MAIN, "00A4090404ADF1340100") == f"62048002{len(CERTIFICATE):04X}9000"
        content = b"".join(bytes.fromhex(ask(chip, f"00B0{at:04X}E9")[:-4]) for at in range(0, len(CERTIFICATE), 233))
        assert content == CERTIFICATE
        assert ask(chip, f"00B0{len(CERTIFICATE):04X}E9") == "6B00"

    def test_the_way_that_opensc_goes(self) -> None:
        chip = chip_of(signing_certificate=SIGNING_CERTIFICATE)
        assert (
            ask(chip, SELECT_MAIN, "00A4000C", "00A4020C02D003", "00B000000B") == "0409" + b"AA0000007".hex() + "9000"
        )
        assert ask(chip, "00A4000C", "00A4010C02ADF1", "00A4020402340100") == f"62048002{len(CERTIFICATE):04X}9000"
        assert ask(chip, "00A4000C", "00A4010C02ADF2", "00A4020402341F00") == "620480020104" + "9000"
        assert ask(chip, "00A4000C", TRIES)[:28] == "701EBF81011AA0189A01039B0103"
        assert len(ask(chip, TRIES)) == 2 * 34
        assert ask(chip, "00CB3FFF0A4D087006BF8102 02A08000")[24:28] == "0103"
        assert ask(chip, "00CB3FFF0A4D087006BF8105 02A08000") == "6A88"
        assert ask(chip, "00A4010C02ADF2", "00CB3FFF0A4D087006BF8105 02A08000")[:8] == "701EBF81"

    def test_a_card_without_a_signing_certificate_still_has_its_directory(self) -> None:
        assert ask(chip_of(), SELECT_MAIN, "00A4010C02ADF2") == "9000"
        assert ask(chip_of(), SELECT_MAIN, "00A4090404ADF2341F00") == "6A82"

    def test_ef_cardaccess_is_a_real_cards(self) -> None:
        published = next(answer for command, answer in VECTOR["exchanges"] if command == "00b0000000")
        for can in (None, CAN):
            assert ask(chip_of(can=can), SELECT_MAIN, "00A4020C02011C", "00B0000000") == published.upper() + "9000"
        assert ask(chip_of(), SELECT_MAIN, "00A4020C02011C", "00B0004000") == "6B00"

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("00B0000000", "6986"),
            ("00A4020C025001", "6A82"),
            ("00A4040C03A00000", "6A82"),
            ("00A404010101", "6A86"),
            ("00A4030C025000", "6A86"),
            ("00A4020102D003", "6A86"),
            ("00A4080C025000", "9000"),
            ("00A4090C045000501000", "6A82"),
            ("00CB3FFE0A4D087006BF810102A08000", "6A86"),
            ("00CB3FFF024D0800", "6A88"),
            ("0020010100", "6A88"),
            ("00200085", "6A88"),
            ("002000010431323334", "6700"),
            ("00200001", "63C3"),
            (SET_ENVIRONMENT, "6A88"),
            ("002241B806 800104 840181", "6A86"),
            (SIGN, "6985"),
            ("0088010030", "6A86"),
            ("00840000 08", "6D00"),
            ("80A4000C", "6E00"),
            ("0CA4000C0A8E080000000000000000 00", "6E00"),
            ("0022C1A412800A04007F0007020204020483010284010C", "6A86"),
            ("00C0000010", "6985"),
            ("00A4", "6700"),
        ],
    )
    def test_what_it_refuses_at_the_contacts(self, command: str, answer: str) -> None:
        chip = chip_of()
        ask(chip, SELECT_MAIN)
        assert ask(chip, command) == answer

    def test_before_its_application_is_selected_there_are_no_files(self) -> None:
        for command in ("00A4000C", "00A4020C02011C", "00A4010C025000"):
            assert ask(chip_of(), command) == "6A82"

    def test_a_template_is_given_to_who_wants_one(self) -> None:
        name = MAIN.hex().upper()
        assert ask(chip_of(), f"00A4040010{name}00") == f"6F128410{name}9000"
        assert ask(chip_of(), SELECT_MAIN, "00A4010402500000") == "6F048302" + "5000" + "9000"
        assert ask(chip_of(), SELECT_MAIN, "00A40000") == "6F0483023F009000"


class TestKey:
    def test_it_signs_after_the_pin_and_keeps_the_verification(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_AUTHENTICATION, VERIFY) == "9000"
        for environment in (SET_ENVIRONMENT, "002241A409 8004FF200800 840181"):
            assert ask(chip, environment) == "9000"
            for _ in range(2):
                raw = bytes.fromhex(ask(chip, SIGN))
                assert (len(raw), raw[-2:]) == (98, b"\x90\x00")
                signature_holds(raw[:-2])

    def test_the_pin_may_be_given_in_the_master_file(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_MAIN, VERIFY, "00A4000C", "00A4010C02ADF1", SET_ENVIRONMENT) == "9000"
        signature_holds(bytes.fromhex(ask(chip, SIGN))[:-2])

    def test_no_environment_no_pin_or_no_digest(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_AUTHENTICATION, SIGN) == "6985"
        assert ask(chip, SET_ENVIRONMENT, SIGN) == "6982"
        assert ask(chip, VERIFY, "0088000020" + "AB" * 32 + "00") == "6700"
        assert ask(chip, SELECT_AUTHENTICATION, SIGN) == "6985", "another selection forgets the environment"

    def test_power_off_forgets_the_pin_and_keeps_the_tries(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_AUTHENTICATION, VERIFY, WRONG) == "63C2"
        chip.reset()
        assert ask(chip, SELECT_AUTHENTICATION, SET_ENVIRONMENT, SIGN) == "6982"
        assert chip.tries_left == 2

    def test_three_wrong_pins_block(self) -> None:
        chip = chip_of()
        assert [ask(chip, SELECT_MAIN, WRONG) for _ in range(4)] == ["63C2", "63C1", "63C0", "6983"]
        assert ask(chip, VERIFY) == "6983"
        assert ask(chip, TRIES)[22:28] == "9B0100"

    def test_the_right_pin_gives_the_tries_back(self) -> None:
        chip = chip_of(tries=1)
        assert ask(chip, SELECT_MAIN, TRIES)[22:28] == "9B0101"
        assert ask(chip, VERIFY) == "9000"
        assert (chip.tries_left, ask(chip, "00200001")) == (3, "9000")

    def test_pin2_is_known_where_it_belongs(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT_SIGNING, "002000850C 3132333435FFFFFFFFFFFFFF") == "9000"
        assert ask(chip, SELECT_SIGNING, "002241B606 800154 84019F") == "6A86", "no key is behind it"

    def test_a_signature_takes_the_silicons_time(self) -> None:
        timing = ChipTiming.of("jcop4-p71")
        chip = chip_of(timing=timing)
        ask(chip, SELECT_AUTHENTICATION, VERIFY, SET_ENVIRONMENT)
        assert chip.process(bytes.fromhex(SIGN)).compute_s == timing.seconds(KeyType.P_384)
        assert chip.process(bytes.fromhex(SELECT_MAIN)).compute_s == 0.0
        assert chip.process(bytes.fromhex(SIGN)).compute_s == 0.0, "a refusal takes none"


class TestAir:
    def test_before_pace_it_refuses_all_but_one_file(self) -> None:
        chip = chip_of(can=CAN)
        assert ask(chip, SELECT_MAIN, "00A4090C04ADF13401") == "9000"
        for command in ("00B0000000", TRIES, VERIFY, SET_ENVIRONMENT, SIGN):
            assert ask(chip, command) == "6982"

    def test_in_the_session_its_application_is_selected_again(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        assert inside(chip, channel, "00A4010C025000") == "6A82"
        assert inside(chip, channel, SELECT_MAIN, "00A4010C025000", "00A4020C025006", "00B000000B") == (
            PERSON[5].encode().hex().upper() + "9000"
        )
        assert inside(chip, channel, SELECT_AUTHENTICATION, VERIFY, SET_ENVIRONMENT) == "9000"
        signature_holds(bytes.fromhex(inside(chip, channel, SIGN))[:-2])

    def test_231_bytes_at_a_time_of_which_the_end_is_fetched_in_clear(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        answer = inside(chip, channel, SELECT_MAIN, "00A4090C04ADF13401", "00B0000000")
        assert bytes.fromhex(answer) == CERTIFICATE[:231] + b"\x90\x00"
        said = chip.process(bytes(channel.seal_command(CommandApdu(0x00, 0xB0, 0, 231, le=256)))).response
        assert said is not None
        assert said[-2:] == bytes.fromhex("6102")

    def test_a_wrong_can_opens_nothing(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip, "000000")
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(SELECT_MAIN))))).response
        assert said is not None
        assert len(said) == 2

    def test_a_plain_command_ends_the_session(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        assert inside(chip, channel, SELECT_MAIN, TRIES)[:2] == "70"
        assert ask(chip, TRIES) == "6982"
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(TRIES))))).response
        assert said == bytes.fromhex("6882")

    def test_power_off_ends_the_session_and_forgets_the_pin(self) -> None:
        chip = chip_of(can=CAN)
        inside(chip, session(chip), SELECT_MAIN, VERIFY)
        chip.reset()
        channel = session(chip)
        assert inside(chip, channel, SELECT_AUTHENTICATION, SET_ENVIRONMENT, SIGN) == "6982"


class TestPower:
    def test_a_session_ends_with_it(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        chip.reset()
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(SELECT_MAIN))))).response
        assert said == bytes.fromhex("6882")


class TestMaking:
    def test_bad_descriptions(self) -> None:
        with pytest.raises(CardFileError, match="P-384"):
            EstEid2018Chip(ec.generate_private_key(ec.SECP256R1()), CERTIFICATE, PERSON)
        with pytest.raises(ValueError, match="15 fields"):
            EstEid2018Chip(KEY, CERTIFICATE, PERSON[:-1])
        for pin in ("123", "1234567890123", "abcd"):
            with pytest.raises(ValueError, match="decimal digits"):
                chip_of(pin=pin)
        for tries in (-1, 4):
            with pytest.raises(ValueError, match="tries"):
                chip_of(tries=tries)
        with pytest.raises(NoFigure):
            chip_of(timing=ChipTiming.of("jcop241-j3a081"))

    def test_its_historical_bytes_are_the_same_on_either_way(self) -> None:
        assert chip_of().historical == chip_of(can=CAN).historical == bytes.fromhex("0012233F536549440F9000")
