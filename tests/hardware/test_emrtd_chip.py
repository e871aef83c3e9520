"""A travel document in software behaves as one: before PACE, in a session, and when it is spoken to badly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import chip_authentication, lds
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.pace import PasswordKind
from hardware.virtual.emrtd import TravelDocumentChip
from tests.validator.travel_documents import (
    BRAINPOOL,
    PLAIN_SHA256,
    Issued,
    Reader,
    attempt,
    bare,
    curve_key,
    run,
    with_agreement,
    with_mapping,
    with_signature,
)
from validator.profiles import pace

SELECT_APPLICATION = "00A4040C07A0000002471001"


def answer(chip: TravelDocumentChip, command: str) -> str:
    got = chip.process(bytes.fromhex(command)).response
    assert got is not None
    return got.hex().upper()


class TestBeforePace:
    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            (SELECT_APPLICATION, "6982"),
            ("00A4040C07A0000002471002", "6A82"),
            ("00A4020C02011D", "6982"),
            ("00A4020C020101", "6A82"),
            ("00A4000C023F00", "9000"),
            ("00A4000C", "9000"),
            ("00A4000C022F00", "6A86"),
            ("00A40204020101", "6A86"),
            ("00B0000000", "6985"),
            ("00B0900000", "6A86"),
            ("0088000008" + "00" * 8 + "00", "6982"),
            ("002241A40C800A04007F00070202030202", "6982"),
            ("00860000047C02800000", "6982"),
            ("00840000 08", "6D00"),
            ("00C0000000", "6985"),
            ("00A4", "6700"),
            ("0CA4020C0A8E08" + "00" * 8, "6882"),
        ],
    )
    def test_it_says_nothing_but_ef_cardaccess(self, command: str, sw: str) -> None:
        assert answer(with_mapping().chip(), command) == sw

    def test_ef_cardaccess_is_everybodys(self) -> None:
        chip = bare().chip()
        assert answer(chip, "00A4020C02011C") == "9000"
        assert answer(chip, "00B0000000") == "31143012060A04007F0007020204020202010202010D9000"
        assert answer(chip, "00B0001000") == "02010202010D9000"
        assert answer(chip, "00B0001600") == "6B00"

    def test_a_card_without_ef_cardsecurity(self) -> None:
        assert answer(bare().chip(), "00A4020C02011D") == "6A82"


def in_session(issued: Issued) -> tuple[Reader, pace.Established]:
    """A document behind PACE, and the session."""
    reader = Reader.of(issued.chip())

    def dialogue() -> pace.Dialogue[pace.Established]:
        infos = yield from pace.read_card_access()
        return (yield from pace.establish(infos[0], PasswordKind.CAN, b"123456", attempt().random))

    return reader, drive(reader, dialogue())


def drive(reader: Reader, dialogue: pace.Dialogue[pace.Established]) -> pace.Established:
    try:
        command = next(dialogue)
        while True:
            command = dialogue.send(ResponseApdu.from_bytes(reader.transceive(bytes(command))))
    except StopIteration as done:
        established: pace.Established = done.value
        return established


def sealed(reader: Reader, established: pace.Established, command: CommandApdu) -> ResponseApdu:
    got = reader.transceive(bytes(established.channel.seal_command(command)))
    return established.channel.open_response(ResponseApdu.from_bytes(got))


SET = chip_authentication.set_template


class TestInSession:
    def test_the_application_and_its_files(self) -> None:
        issued = bare()
        reader, established = in_session(issued)
        assert sealed(reader, established, CommandApdu(0, 0xA4, 4, 0x0C, lds.APPLICATION)).ok
        assert sealed(reader, established, CommandApdu(0, 0xA4, 2, 0x0C, b"\x01\x01")).ok
        assert sealed(reader, established, CommandApdu(0, 0xB0, 0, 0, le=200)).data == issued.groups[1]

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            (CommandApdu(0, 0x22, 0x41, 0xA6, b"\x91\x00"), 0x6A86),
            (CommandApdu(0, 0x22, 0x41, 0xA4, b"\x80\x00"), 0x6A80),
            (SET(chip_authentication.Offer(bytes.fromhex("04007F00070202030204"), BRAINPOOL, None)), 0x6A88),  # type: ignore[arg-type]  # the key is not looked at
            (chip_authentication.agree(BRAINPOOL.public_point(3)), 0x6985),
            (CommandApdu(0, 0x88, 0, 0, bytes(8), le=256), 0x6D00),
        ],
        ids=["key agreement template", "no suite", "another suite", "no template", "no key"],
    )
    def test_what_it_refuses(self, command: CommandApdu, sw: int) -> None:
        reader, established = in_session(with_agreement())
        sealed(reader, established, CommandApdu(0, 0xA4, 4, 0x0C, lds.APPLICATION))
        assert sealed(reader, established, command).sw == sw

    @pytest.mark.parametrize("point", [b"", b"\x04" + bytes(64), BRAINPOOL.public_point(5)[:-1] + b"\0"])
    def test_a_bad_ephemeral_key_is_refused_and_the_session_stays(self, point: bytes) -> None:
        reader, established = in_session(with_agreement())
        sealed(reader, established, CommandApdu(0, 0xA4, 4, 0x0C, lds.APPLICATION))
        offered = chip_authentication.offer(lds.parse_dg14(with_agreement().groups[14]))
        assert offered is not None
        assert sealed(reader, established, SET(offered)).ok
        assert sealed(reader, established, chip_authentication.agree(point)).sw == 0x6A80
        assert sealed(reader, established, chip_authentication.agree(BRAINPOOL.public_point(5))).sw == 0x6985

    def test_active_authentication_takes_eight_bytes(self) -> None:
        reader, established = in_session(with_signature(curve_key(), PLAIN_SHA256))
        sealed(reader, established, CommandApdu(0, 0xA4, 4, 0x0C, lds.APPLICATION))
        assert sealed(reader, established, CommandApdu(0, 0x88, 0, 0, bytes(7), le=256)).sw == 0x6700
        assert len(sealed(reader, established, CommandApdu(0, 0x88, 0, 0, bytes(8), le=256)).data) == 64

    def test_a_plain_command_ends_it(self) -> None:
        reader, established = in_session(bare())
        sealed(reader, established, CommandApdu(0, 0xA4, 4, 0x0C, lds.APPLICATION))
        assert reader.transceive(bytes.fromhex("00A4020C020101")) == bytes.fromhex("6982")
        assert reader.transceive(bytes(established.channel.seal_command(CommandApdu(0, 0xB0, 0, 0, le=1))))[0] >> 4 == 6

    def test_power_ends_it(self) -> None:
        issued = with_agreement()
        chip = issued.chip()
        first = run(Reader.of(chip))
        chip.reset()
        assert answer(chip, "00B0000000") == "6985"
        assert run(Reader.of(chip)).shown == first.shown


class TestAfterChipAuthentication:
    def test_a_message_under_the_old_keys_ends_the_session(self) -> None:
        issued = with_agreement()
        reader, established = in_session(issued)
        sealed(reader, established, CommandApdu(0, 0xA4, 4, 0x0C, lds.APPLICATION))
        offered = chip_authentication.offer(lds.parse_dg14(issued.groups[14]))
        assert offered is not None
        sealed(reader, established, SET(offered))
        assert sealed(reader, established, chip_authentication.agree(BRAINPOOL.public_point(5))).data == b"\x7c\x00"
        old = established.channel.seal_command(CommandApdu(0, 0xB0, 0, 0, le=1))
        assert reader.transceive(bytes(old)) == bytes.fromhex("6988")
        assert reader.transceive(bytes.fromhex("00A4020C020101")) == bytes.fromhex("6982")

    def test_a_plain_command_ends_the_session(self) -> None:
        chip = with_agreement().chip()
        run(Reader.of(chip))
        assert answer(chip, "00B0000000") == "6982"
        assert answer(chip, "0CB000000D970100 8E08" + "00" * 8 + "00") == "6882"


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_commands_get_a_status_word(commands: list[bytes]) -> None:
    chip = with_agreement().chip()
    for command in commands:
        got = chip.process(command).response
        assert got is not None
        assert len(got) >= 2


def test_what_the_reader_sees_before_it_is_a_documents() -> None:
    assert bare().chip().historical == bytes.fromhex("8073C021C0")
