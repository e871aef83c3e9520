"""The virtual Estonian card of 2025: laws for any bytes, access rules on either way, its PIN's states."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.pace import Mapping, PaceInfo, PasswordKind, open_nonce, parse_card_access, password_key
from hardware.pace_party import Party
from hardware.secure_messaging import SecureChannel
from hardware.virtual.esteid2025 import MASTER, PKCS15, EstEid2025Chip
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import ChipTiming, KeyType

KEY = ec.generate_private_key(ec.SECP384R1())
CERTIFICATE = bytes.fromhex("30820400") + bytes(range(256)) * 4  # any octets: the card does not look into them
PERSON = ("ÕUNAPUU", "MÄRT", "N", "EST", "24 12 2199", "89912240008", "AA0000007", *[""] * 8)
CAN = "123456"
SUITE = PaceInfo.of(Mapping.GM, 32, 16)

SELECT_MASTER, SELECT = (f"00A4040C{len(name):02X}{name.hex().upper()}" for name in (MASTER, PKCS15))
TRIES = "00CB00FF05A00383018100"
VERIFY = "002000810C 313233340000000000000000"
WRONG = "002000810C 343332310000000000000000"
SET_ENVIRONMENT = "002241B606 800154 840101"
DIGEST = "AB" * 48
HASH = f"002A90A0329030{DIGEST}"
SIGN = "002A9E9A00"


def chip_of(**options: Any) -> EstEid2025Chip:
    return EstEid2025Chip(KEY, CERTIFICATE, PERSON, **options)


def ask(chip: EstEid2025Chip, *commands: str) -> str:
    response = None
    for command in commands:
        response = chip.process(bytes.fromhex(command)).response
        assert response is not None
    assert response is not None
    return response.hex().upper()


def signature_holds(answer: str) -> None:
    raw = bytes.fromhex(answer)
    assert (len(raw), raw[-2:]) == (98, b"\x90\x00")
    der = encode_dss_signature(int.from_bytes(raw[:48]), int.from_bytes(raw[48:96]))
    KEY.public_key().verify(der, bytes.fromhex(DIGEST), ec.ECDSA(Prehashed(hashes.SHA384())))


def session(chip: EstEid2025Chip) -> SecureChannel:
    """Open a session, step by step as a terminal does: no object 84, a nonce of one block, points of 97 bytes."""
    party = Party(SUITE, lambda count: bytes(range(7, 7 + count)))
    assert ask(chip, SELECT_MASTER, "0022C1A40F800A04007F00070202040204830102") == "9000"
    sealed = bytes.fromhex(ask(chip, "10860000027C0000"))
    assert sealed[:4] == bytes.fromhex("7C128010")
    nonce = open_nonce(password_key(PasswordKind.CAN, CAN.encode(), 32), sealed[4:-2])
    own = party.map(nonce, _given(chip, "81", party.mapping_point))
    party.agree(_given(chip, "83", own))
    answer = ask(chip, f"008600000C7C0A8508{party.own_token.hex()}00")
    assert answer == f"7C0A8608{party.expected_token.hex().upper()}9000"
    return party.channel()


def _given(chip: EstEid2025Chip, tag: str, point: bytes) -> bytes:
    answer = bytes.fromhex(ask(chip, f"10860000657C63{tag}61{point.hex()}00"))
    assert answer[-2:] == b"\x90\x00"
    return answer[4:-2]


def inside(chip: EstEid2025Chip, channel: SecureChannel, *commands: str) -> str:
    opened = ResponseApdu(b"", 0)
    for command in commands:
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(command))))).response
        assert said is not None
        opened = channel.open_response(ResponseApdu.from_bytes(said))
    return bytes(opened).hex().upper()


commands = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda cla, ins, p1, p2, body: bytes([cla, ins, p1, p2]) + body,
        st.sampled_from([0x00, 0x0C, 0x10, 0x80]),
        st.sampled_from([0x20, 0x22, 0x2A, 0x86, 0xA4, 0xB0, 0xC0, 0xCB]),
        st.sampled_from([0x00, 0x02, 0x04, 0x08, 0x41, 0x90, 0x9E, 0xC1]),
        st.sampled_from([0x00, 0x04, 0x0C, 0x81, 0x9A, 0xA0, 0xA4, 0xB6, 0xFF]),
        st.one_of(
            st.binary(max_size=20), st.binary(min_size=1, max_size=70).map(lambda data: bytes([len(data)]) + data)
        ),
    ),
    st.sampled_from(
        [
            SELECT_MASTER,
            SELECT,
            TRIES,
            VERIFY,
            SET_ENVIRONMENT,
            HASH,
            SIGN,
            "00A4080C02DFDD",
            "00A40204025006",
            "00B0000000",
            "0022C1A40F800A04007F00070202040204830102",
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
        for command in (bytes.fromhex(SELECT), *script):
            chip.process(command)
        assert len(ask(chip, SELECT, SET_ENVIRONMENT, HASH, SIGN)) == 4


class TestFiles:
    def test_personal_data_and_what_their_templates_tell(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT, "00A4080C02DFDD") == "9000"
        for field, text in enumerate(PERSON, 1):
            octets = text.encode() or b"\0"
            told = ask(chip, f"00A402040250{field:02d}")
            assert told == f"62138102{len(octets):04X}820101830250{field:02d}8A01058C0303FF009000"
            assert ask(chip, f"00B00000{len(octets):02X}") == octets.hex().upper() + "9000"

    def test_the_certificate_is_found_by_its_path(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT, "00A4080404ADF13411")[:12] == f"62138102{len(CERTIFICATE):04X}"
        content = b"".join(bytes.fromhex(ask(chip, f"00B0{at:04X}DF")[:-4]) for at in range(0, len(CERTIFICATE), 223))
        assert content == CERTIFICATE
        assert ask(chip, "00A4080404ADF23421") == "6A82", "there is no signing certificate"
        other = chip_of(signing_certificate=b"\x30\x82\x01\x00" + bytes(256))
        assert ask(other, SELECT, "00A4080404ADF23421")[:12] == "621381020104"

    def test_ef_cardaccess_lies_under_what_is_selected_by_itself(self) -> None:
        for can in (None, CAN):
            answer = bytes.fromhex(ask(chip_of(can=can), "00A4020C02011C", "00B0000000"))
            assert parse_card_access(answer[:-2]) == (SUITE,)

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("00A4040C03A00000", "6A82"),
            ("00A4040401A0", "6A82"),
            ("00A404040CA000000063504B43532D3135", "6A86"),
            ("00CB00FE05A00383018100", "6A86"),
            ("00CB00FF05A00383018400", "6A88"),
            ("0020018100", "6A88"),
            ("00200001", "6A88"),
            ("00200081", "63C3"),
            ("002000810431323334", "6700"),
            ("002241A406 800154 840101", "6A86"),
            ("002241B606 800144 840101", "6A88"),
            ("002241B606 800154 840105", "6A88"),
            (HASH, "6985"),
            (SIGN, "6985"),
            ("00880000 30" + DIGEST + "00", "6D00"),
            ("0022C1A40F800A04007F00070202040204830102", "6A86"),
        ],
    )
    def test_what_it_refuses_at_the_contacts(self, command: str, answer: str) -> None:
        chip = chip_of()
        ask(chip, SELECT)
        assert ask(chip, command) == answer

    @pytest.mark.parametrize("command", [TRIES, VERIFY, SET_ENVIRONMENT])
    def test_its_pin_and_key_belong_to_one_application(self, command: str) -> None:
        assert ask(chip_of(), SELECT_MASTER, command) == "6985"
        assert ask(chip_of(), "00A4080404ADF13411", "00B0000000") == "6985"

    def test_at_the_contacts_a_template_may_be_asked_for(self) -> None:
        name = PKCS15.hex().upper()
        assert ask(chip_of(), f"00A404000C{name}00") == f"6F0E840C{name}9000"


class TestKey:
    def test_it_signs_a_digest_once(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT, VERIFY, SET_ENVIRONMENT, HASH) == "9000"
        signature_holds(ask(chip, SIGN))
        assert ask(chip, SIGN) == "6985"
        signature_holds(ask(chip, HASH, SIGN))

    def test_no_pin_or_no_digest(self) -> None:
        chip = chip_of()
        assert ask(chip, SELECT, SET_ENVIRONMENT, HASH, SIGN) == "6982"
        assert ask(chip, VERIFY, SET_ENVIRONMENT, SIGN) == "6985"
        for wrong in ("002A90A0229020" + "AB" * 32, "002A90A0019000", "002A90A003910101", "002A90A00190"):
            assert ask(chip, wrong) == "6A80"
        assert ask(chip, "002A9E9B00") == "6A86"
        assert ask(chip, "002A9E9A020000") == "6A86"

    def test_a_pins_state(self) -> None:
        chip = chip_of(tries=2)
        assert ask(chip, SELECT, TRIES) == "A01D8301818C04F0000000DF210402FFA503DF2702FFFFDF28010CDF2F01019000"
        assert ask(chip, WRONG) == "63C1"
        assert ask(chip, WRONG) == "63C0"
        assert ask(chip, VERIFY) == "6983"
        chip.reset()
        assert "DF210400" in ask(chip, SELECT, TRIES)
        assert chip.tries_left == 0

    def test_a_transport_pin_opens_nothing(self) -> None:
        chip = chip_of(transport_pin=True)
        assert ask(chip, SELECT, TRIES).endswith("DF2F01009000")
        assert ask(chip, VERIFY) == "6985"
        assert ask(chip, SET_ENVIRONMENT, HASH, SIGN) == "6982"
        assert chip.tries_left == 3

    def test_a_signature_takes_the_silicons_time(self) -> None:
        timing = ChipTiming.of("jcop4-p71")
        chip = chip_of(timing=timing)
        ask(chip, SELECT, VERIFY, SET_ENVIRONMENT, HASH)
        assert chip.process(bytes.fromhex(SIGN)).compute_s == timing.seconds(KeyType.P_384)
        assert chip.process(bytes.fromhex(HASH)).compute_s == 0.0


class TestAir:
    def test_before_pace_the_eid_application_is_not_there(self) -> None:
        chip = chip_of(can=CAN)
        assert ask(chip, SELECT) == "6A82"
        for command in (TRIES, VERIFY, SET_ENVIRONMENT, HASH, SIGN):
            assert ask(chip, SELECT_MASTER, command) == "6982"
        assert ask(chip, "00A4080404ADF13411", "00B0000000") == "6982"

    def test_in_the_session_all_is_there_once_it_was_selected(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        assert inside(chip, channel, "00A4080C02DFDD") == "6A82"
        assert inside(chip, channel, f"00A404000C{PKCS15.hex()}00") == "6A86", "it knows one form of SELECT only"
        assert inside(chip, channel, SELECT, "00A4080C02DFDD", "00A40204025006", "00B000000B") == (
            PERSON[5].encode().hex().upper() + "9000"
        )
        assert inside(chip, channel, "00A4080404ADF13411", "00B0000000") == CERTIFICATE[:223].hex().upper() + "9000"
        assert inside(chip, channel, VERIFY, SET_ENVIRONMENT, HASH) == "9000"
        signature_holds(inside(chip, channel, SIGN))

    def test_a_plain_command_ends_the_session(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        assert inside(chip, channel, SELECT, TRIES)[:2] == "A0"
        assert ask(chip, TRIES) == "6982"
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(TRIES))))).response
        assert said == bytes.fromhex("6882")


class TestPower:
    def test_a_session_ends_with_it(self) -> None:
        chip = chip_of(can=CAN)
        channel = session(chip)
        chip.reset()
        said = chip.process(bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(SELECT))))).response
        assert said == bytes.fromhex("6882")


class TestMaking:
    def test_bad_descriptions(self) -> None:
        with pytest.raises(CardFileError, match="P-384"):
            EstEid2025Chip(ec.generate_private_key(ec.SECP256R1()), CERTIFICATE, PERSON)
        with pytest.raises(ValueError, match="15 fields"):
            EstEid2025Chip(KEY, CERTIFICATE, PERSON[:-1])

    def test_its_historical_bytes_tell_which_way(self) -> None:
        assert chip_of().historical == bytes.fromhex("8031B85365494464B085051012233F")
        assert chip_of(can=CAN).historical == bytes.fromhex("8031D85365494464B085051012233F")
