"""The virtual DNIe, command by command: octets as readers in the field send them, and everything that it refuses."""

import os
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import cwa14890, pace, tlv
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.cwa14890 import TerminalKeys
from hardware.pace import PasswordKind
from hardware.pace_party import Party
from hardware.secure_messaging import SecureChannel
from hardware.virtual.dnie import SUITE, DnieChip
from tests.dnie_cards import CAN, MRZ, NEW, OLD, component, contents, entry, in_slot, key, on_air

SELECT_MASTER = "00A404000B4D61737465722E46696C65"
BOTH = pytest.mark.parametrize("terminal", [OLD, NEW], ids=lambda terminal: terminal.unit)
OK = 0x9000


def ask(chip: DnieChip, command: str | bytes) -> ResponseApdu:
    octets = bytes.fromhex(command) if isinstance(command, str) else command
    response = chip.process(octets).response
    assert response is not None
    return ResponseApdu.from_bytes(response)


def read(chip: DnieChip, *path: str) -> bytes:
    """Read a file as OpenSC does: the master file by name, each step by identifier, pieces of 240 bytes."""
    response = ask(chip, SELECT_MASTER + "00")
    for name in path:
        response = ask(chip, f"00A4000002{name}00")
        assert response.ok, name
    size = int.from_bytes((tlv.find(tlv.parse_one(response.data, 0x6F), 0x85) or b"")[3:5])
    content = b""
    while len(content) < size:
        piece = ask(chip, CommandApdu(0, 0xB0, len(content) >> 8, len(content) & 255, le=240).__bytes__())
        assert piece.ok
        content += piece.data
    return content


def introduce(chip: DnieChip, terminal: TerminalKeys) -> None:
    """The reference's commands, one after the other."""
    for command in (
        "002281B604 83 02 020F",
        f"002A00AE D2 {terminal.authority_certificate.hex()}",
        f"002281B60A 83 08 {terminal.authority_reference.hex()}",
        f"002A00AE D1 {terminal.certificate.hex()}",
        f"0022C1A412 83 0C {terminal.reference.hex()} 84 02 021F",
    ):
        assert ask(chip, command).sw == OK, command


def session(chip: DnieChip, kind: PasswordKind = PasswordKind.CAN, secret: bytes = CAN) -> SecureChannel | None:
    """Run PACE by hand as a terminal; None where the card did not accept the password."""
    template = tlv.encode(0x80, SUITE.oid) + tlv.encode(0x83, bytes([kind])) + tlv.encode(0x84, b"\x0d")
    assert ask(chip, bytes.fromhex("0022C1A4") + bytes([len(template)]) + template).ok

    def step(cla: int, content: bytes) -> ResponseApdu:
        return ask(chip, bytes(CommandApdu(cla, 0x86, 0, 0, tlv.encode(0x7C, content), le=256)))

    def field(response: ResponseApdu) -> bytes:
        return tlv.parse(tlv.parse_one(response.data, 0x7C))[0].value

    party = Party(SUITE, os.urandom)
    nonce = pace.open_nonce(pace.password_key(kind, secret, 16), field(step(0x10, b"")))
    own = party.map(nonce, field(step(0x10, tlv.encode(0x81, party.mapping_point))))
    party.agree(field(step(0x10, tlv.encode(0x83, own))))
    last = step(0x00, tlv.encode(0x85, party.own_token))
    if last.sw == 0x6300:
        return None
    assert field(last) == party.expected_token
    return party.channel()


def sealed(chip: DnieChip, channel: SecureChannel, command: str) -> ResponseApdu:
    return channel.open_response(ask(chip, bytes(channel.seal_command(CommandApdu.from_bytes(bytes.fromhex(command))))))


class TestFiles:
    def test_the_master_file_has_a_name(self) -> None:
        assert ask(in_slot(), SELECT_MASTER + "00").data.hex().upper() == (
            "6F19840B4D61737465722E46696C65850A383F0000000000000000"
        )
        assert ask(in_slot(), SELECT_MASTER[:-2] + "6600").sw == 0x6A82

    def test_control_information_tells_the_length(self) -> None:
        chip = in_slot()
        ask(chip, SELECT_MASTER + "00")
        size = len(component().certificate)
        expected = bytes.fromhex("6F0C850A01601F") + size.to_bytes(2) + bytes(5)
        assert ask(chip, "00A4000002601F00").data == expected

    def test_a_select_without_le_announces_what_there_is(self) -> None:
        """As through contacts with T=0."""
        chip = in_slot()
        waiting = ask(chip, SELECT_MASTER)
        assert (waiting.data, waiting.sw) == (b"", 0x611B)
        assert ask(chip, "00C000001B").data[:2] == bytes.fromhex("6F19")
        assert ask(chip, "00C000001B").sw == 0x6985

    def test_every_file(self) -> None:
        chip = in_slot()
        assert read(chip, "0006") == b"BMP100001"
        assert read(chip, "2F03") == b"DNIe 4.00"
        assert read(chip, "601F") == component().certificate
        assert read(chip, "6020") == component().issuer
        assert read(chip, "011C").startswith(
            bytes.fromhex("31143012060A04007F00070202040202020102020 10D".replace(" ", ""))
        )
        directory = read(chip, "5015", "6004")
        assert directory.index(b"CertFirmaDigital") < directory.index(b"CertAutenticacion")
        packed = read(chip, "6081", "7004")
        assert int.from_bytes(packed[4:8], "little") == len(packed) - 8
        assert zlib.decompress(packed[8:]) == entry().certificate
        assert int.from_bytes(packed[:4], "little") == len(entry().certificate)

    def test_the_chips_serial_number(self) -> None:
        assert ask(in_slot(), "90B8000007").data == bytes.fromhex("0011223344556A")

    @pytest.mark.parametrize(
        ("before", "command", "sw"),
        [
            ([], "00B0000010", 0x6985),
            ([], "00A40000026099", 0x6A82),
            ([], "00A40000017F", 0x6A82),
            ([], "00A4010002601F", 0x6A86),
            ([], "00A4000402601F", 0x6A86),
            ([], "00A40000026004", 0x6A82),  # it lies below 5015
            (["00A4000002501500"], "00A40000026004 00", OK),
            (["00A4000002501500"], "00B0000010", 0x6985),
            (["00A4000002000600"], "00B0000900", 0x6B00),
            (["00A4000002000600"], "00B0000800", OK),
            (["00A4000002501500", SELECT_MASTER + "00"], "00A4000002601F00", OK),
            ([], "0020000008" + "31" * 8, 0x6D00),
            ([], "0082000000", 0x6D00),
            ([], "80A4000002601F", 0x6E00),
            ([], "10A4000002601F", 0x6884),
            ([], "0CA4000002601F", 0x6882),
            ([], "00B8000007", 0x6E00),
            ([], "90A4000002601F", 0x6884),
            ([], "00A4", 0x6700),
            ([], "", 0x6700),
            ([], "00C0000000", 0x6985),
        ],
    )
    def test_what_is_refused(self, before: list[str], command: str, sw: int) -> None:
        chip = in_slot()
        for each in before:
            assert ask(chip, each).ok
        assert ask(chip, command).sw == sw

    def test_a_certificate_for_the_holder_alone(self) -> None:
        chip = in_slot(contents(entries=(replace(entry(), protected=True),)))
        for command in (SELECT_MASTER + "00", "00A4000002608100", "00A4000002700400"):
            assert ask(chip, command).ok
        assert ask(chip, "00B0000010").sw == 0x6982

    def test_power_forgets_the_selection(self) -> None:
        chip = in_slot()
        ask(chip, "00A4000002000600")
        chip.reset()
        assert ask(chip, "00B0000008").sw == 0x6985

    def test_the_historical_bytes(self) -> None:
        assert in_slot().historical.hex().upper() == "006A444E4965100000000400039000"
        assert on_air().historical.hex().upper() == "E1F35E117781A100"

    def test_a_serial_number_of_another_length(self) -> None:
        with pytest.raises(ValueError, match="6 bytes"):
            in_slot(contents(serial=bytes(6)))


class TestAuthentication:
    @BOTH
    def test_the_commands_of_the_reference(self, terminal: TerminalKeys) -> None:
        chip = in_slot(contents(component=component(terminal)))
        introduce(chip, terminal)
        challenge = bytes(range(8))
        answer = ask(chip, f"0088000010 {challenge.hex()} {terminal.serial.hex()} 80")
        assert (len(answer.data), answer.sw) == (128, OK)
        signature = terminal.open(answer.data, 128)
        public = key("chip").public_key().public_numbers()
        assert len(cwa14890.verify_answer(public, challenge, terminal.serial, signature)) == 32

    def test_a_terminal_of_the_other_root(self) -> None:
        chip = in_slot(contents(component=component(NEW)))
        assert ask(chip, "002281B6048302020F").ok
        assert ask(chip, f"002A00AED2{OLD.authority_certificate.hex()}").sw == 0x6A80

    def test_a_changed_certificate(self) -> None:
        chip = in_slot()
        for at in (4, 100, 200, 209):
            changed = bytearray(NEW.authority_certificate)
            changed[at] ^= 1
            assert ask(chip, "002281B6048302020F").ok
            assert ask(chip, f"002A00AED2{changed.hex()}").sw == 0x6A80

    def test_each_step_needs_the_one_before(self) -> None:
        chip = in_slot()
        internal = f"0088000010{bytes(8).hex()}{NEW.serial.hex()}80"
        both_keys = f"0022C1A412830C{NEW.reference.hex()}8402021F"
        assert ask(chip, f"002A00AED2{NEW.authority_certificate.hex()}").sw == 0x6985
        assert ask(chip, f"002281B60A8308{NEW.authority_reference.hex()}").sw == 0x6A88
        assert ask(chip, both_keys).sw == 0x6A88
        assert ask(chip, internal).sw == 0x6985
        introduce(chip, NEW)
        assert ask(chip, internal).ok
        assert ask(chip, internal).sw == 0x6985  # once for each MSE
        assert ask(chip, both_keys).ok
        assert ask(chip, internal).ok
        chip.reset()
        assert ask(chip, internal).sw == 0x6985

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            (f"0088000010{bytes(8).hex()}{OLD.serial.hex()}80", 0x6A80),
            (f"008800000F{bytes(7).hex()}{NEW.serial.hex()}80", 0x6A80),
            (f"0088010010{bytes(8).hex()}{NEW.serial.hex()}80", 0x6A86),
            (f"0022C1A412830C{OLD.reference.hex()}8402021F", 0x6A88),
            (f"0022C1A412830C{NEW.reference.hex()}8402021E", 0x6A88),
            (f"0022C1A40E830C{NEW.reference.hex()}", 0x6A88),
            ("0022C1B604 8302020F", 0x6A86),
            ("002281B604 8302020E", 0x6A88),
            ("002281B603 8302 02", 0x6A80),
            (f"002A00BE04{bytes(4).hex()}", 0x6A86),
        ],
    )
    def test_wrong_parameters(self, command: str, sw: int) -> None:
        chip = in_slot()
        introduce(chip, NEW)
        assert ask(chip, command).sw == sw

    def test_a_card_without_a_key_of_its_own(self) -> None:
        chip = in_slot(contents(component=None))
        assert ask(chip, "002281B6048302020F").sw == 0x6A88
        assert ask(chip, "00A4000002601F").sw == 0x6A82


class TestOverTheAir:
    @pytest.mark.parametrize(
        "command",
        [
            SELECT_MASTER,
            "00A4000002601F",
            "00A40000025015",
            "00A40000026099",
            "90B8000007",
            "002281B6048302020F",
            "0022C1A404830102" + "00",
            f"0088000010{bytes(16).hex()}80",
        ],
    )
    def test_nothing_is_free(self, command: str) -> None:
        assert ask(on_air(), command).sw in (0x6982, 0x6A80, 0x6700)
        assert not ask(on_air(), command).data

    def test_but_the_suite(self) -> None:
        chip = on_air()
        assert ask(chip, "00A4020C02011C").ok
        assert ask(chip, "00B0000000").data == bytes.fromhex("31143012060A04007F0007020204020202010202010D")

    def test_a_card_without_the_file(self) -> None:
        assert ask(on_air(card_access=False), "00A4020C02011C").sw == 0x6982

    @pytest.mark.parametrize("sw", [0x6985, 0x6A82, OK])
    def test_the_master_file_by_its_name(self, sw: int) -> None:
        chip = on_air(named_over_the_air=sw)
        assert ask(chip, SELECT_MASTER + "00").sw == sw
        assert ask(chip, "00A4000002601F").sw == 0x6982

    @pytest.mark.parametrize(("kind", "secret"), [(PasswordKind.CAN, CAN), (PasswordKind.MRZ, MRZ)])
    def test_everything_inside_a_session(self, kind: PasswordKind, secret: bytes) -> None:
        chip = on_air()
        channel = session(chip, kind, secret)
        assert channel is not None
        assert sealed(chip, channel, SELECT_MASTER + "00").ok
        assert sealed(chip, channel, "00A4000002000600").ok
        assert sealed(chip, channel, "00B0000009").data == b"BMP100001"
        assert sealed(chip, channel, "90B8000007").data == bytes.fromhex("0011223344556A")
        assert sealed(chip, channel, "00B0001000").sw == 0x6B00

    def test_the_authentication_inside_a_session(self) -> None:
        chip = on_air()
        channel = session(chip)
        assert channel is not None
        for command in (
            "002281B6048302020F",
            f"002A00AED2{NEW.authority_certificate.hex()}",
            f"002281B60A8308{NEW.authority_reference.hex()}",
            f"002A00AED1{NEW.certificate.hex()}",
            f"0022C1A412830C{NEW.reference.hex()}8402021F",
        ):
            assert sealed(chip, channel, command).ok
        answer = sealed(chip, channel, f"0088000010{bytes(8).hex()}{NEW.serial.hex()}80")
        public = key("chip").public_key().public_numbers()
        cwa14890.verify_answer(public, bytes(8), NEW.serial, NEW.open(answer.data, 128))

    def test_a_plain_command_ends_the_session(self) -> None:
        chip = on_air()
        channel = session(chip)
        assert channel is not None
        assert sealed(chip, channel, "00A4000002000600").ok
        assert ask(chip, "00B0000009").sw == 0x6982
        assert ask(chip, bytes(channel.seal_command(CommandApdu(0, 0xB0, 0, 0, le=9)))).sw == 0x6882

    def test_a_wrong_number(self) -> None:
        chip = on_air()
        assert session(chip, secret=b"123457") is None
        assert session(chip) is not None


COMMANDS = [
    SELECT_MASTER,
    "00A4000002601F00",
    "00A4000002501500",
    "00A4000002600400",
    "00B0000000",
    "00C0000000",
    "002281B6048302020F",
    f"002A00AED2{NEW.authority_certificate.hex()}",
    f"002281B60A8308{NEW.authority_reference.hex()}",
    f"002A00AED1{NEW.certificate.hex()}",
    f"0022C1A412830C{NEW.reference.hex()}8402021F",
    f"0088000010{bytes(8).hex()}{NEW.serial.hex()}80",
    "0022C1A40F800A04007F00070202040202830102",
    "10860000027C0000",
    "90B8000007",
]


class TestAnyCommand:
    @given(
        commands=st.lists(
            st.one_of(st.binary(max_size=60), st.sampled_from([bytes.fromhex(command) for command in COMMANDS])),
            max_size=12,
        ),
        air=st.booleans(),
    )
    def test_it_always_answers_and_gives_nothing_away_over_the_air(self, commands: list[bytes], *, air: bool) -> None:
        chip = on_air() if air else in_slot()
        for command in commands:
            response = chip.process(command).response
            assert response is not None
            assert 2 <= len(response) <= 258
            assert not air or b"CertAutenticacion" not in response
