"""PACE as a dialogue: the published runs APDU by APDU, terminal against virtual card, and secrets."""

import os
from collections.abc import Callable, Generator
from typing import Any

import pytest

from hardware import pace as protocol
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.medium import MediumLost
from hardware.pace import Mapping, PaceInfo, PasswordKind
from hardware.pace_party import Party
from hardware.secure_messaging import SecureChannel
from hardware.virtual.pace_card import PaceCard
from tests.hardware.pace_vectors import AES_256, ICAO, ICAO_CAM, drawing, octets, private_numbers
from tests.validator.pace_cards import (
    CAN,
    CHIP_KEY,
    MRZ,
    SECRET,
    SUITE,
    SUITES,
    FileCard,
    card,
    drive,
    established,
    one,
    read_secret,
    script,
    whole_tap,
)
from validator.profiles import pace
from validator.profiles.errors import CardMalformed, CardRefused, WrongCan


class TestPublishedRuns:
    def test_icao_as_a_terminal(self) -> None:
        inputs, expected = ICAO["inputs"], ICAO["expected"]
        sent: list[str] = []
        answers = [
            "9000",
            "7C128010" + inputs["z"] + "9000",
            "7C438241" + expected["pk_map_ic"] + "9000",
            "7C438441" + inputs["pk_dh_ic"] + "9000",
            expected["c5_response"],
            expected["first_sm_response"],
        ]

        def carry(command: bytes) -> bytes:
            sent.append(command.hex().upper())
            return octets(answers[len(sent) - 1])

        (info,) = protocol.parse_card_access(octets(inputs["ef_cardaccess"]))
        draw = drawing(*private_numbers(ICAO, "ifd"))
        secret = inputs["mrz_information"].encode()
        session = drive(pace.establish(info, PasswordKind.MRZ, secret, draw, name_parameters=False), carry)
        plain = CommandApdu.from_bytes(octets(inputs["first_sm_plain_command"]))
        assert drive(pace.through(session.channel, one(plain)), carry) == ResponseApdu(b"", 0x9000)
        assert sent == [
            expected["mse_set_at"],
            "10860000027C0000",
            "10860000457C438141" + expected["pk_map_ifd"] + "00",
            "10860000457C438341" + expected["pk_dh_ifd"] + "00",
            expected["c5_command"],
            expected["first_sm_protected_command"],
        ]
        assert (session.expected, session.received) == (octets(expected["T_ic"]), octets(expected["T_ic"]))
        assert (session.mapping_key, session.chip_data) == (octets(expected["pk_map_ic"]), None)

    def test_icao_as_a_card(self) -> None:
        inputs, expected = ICAO["inputs"], ICAO["expected"]
        draw = drawing(octets(expected["s"]), *private_numbers(ICAO, "ic"))
        (info,) = protocol.parse_card_access(octets(inputs["ef_cardaccess"]))
        played = PaceCard((info,), mrz=inputs["mrz_information"].encode(), random=draw)
        assert played.card_access == octets(inputs["ef_cardaccess"])
        commands = [
            expected["mse_set_at"],
            "10860000027C0000",
            "10860000457C438141" + expected["pk_map_ifd"] + "00",
            "10860000457C438341" + expected["pk_dh_ifd"] + "00",
            expected["c5_command"],
            expected["first_sm_protected_command"],
        ]
        heard: list[CommandApdu] = []

        def application(command: CommandApdu) -> ResponseApdu:
            heard.append(command)
            return ResponseApdu(b"", 0x9000)

        answers = [bytes(played.process(CommandApdu.from_bytes(octets(sent)), application)) for sent in commands]
        assert [answer.hex().upper() for answer in answers] == [
            "9000",
            "7C128010" + inputs["z"] + "9000",
            "7C438241" + expected["pk_map_ic"] + "9000",
            "7C438441" + inputs["pk_dh_ic"] + "9000",
            expected["c5_response"],
            expected["first_sm_response"],
        ]
        assert heard == [CommandApdu.from_bytes(octets(inputs["first_sm_plain_command"]))]
        assert played.password is PasswordKind.MRZ

    def test_the_estonian_parameters_of_2018(self) -> None:
        inputs, expected = AES_256["inputs"], AES_256["expected"]
        steps = ("c1", "c2", "c3", "c4", "c5")
        answers = [*(inputs["card_responses"][step] for step in steps), *inputs["sm_card_responses"]]
        sent: list[str] = []

        def carry(command: bytes) -> bytes:
            sent.append(command.hex().upper())
            return octets(answers[len(sent) - 1])

        info = PaceInfo(octets(inputs["oid_value"]), 2, inputs["parameter_id"])
        draw = drawing(*private_numbers(AES_256, "ifd"))
        session = drive(pace.establish(info, PasswordKind.CAN, inputs["can"].encode(), draw), carry)
        assert session.received == octets(expected["T_ic"])
        for command, opened in zip(inputs["sm_plain_commands"], expected["sm_plain_responses"], strict=True):
            answer = drive(pace.through(session.channel, one(CommandApdu.from_bytes(octets(command)))), carry)
            assert answer == ResponseApdu(octets(opened["data"]), int(opened["sw"], 16))
        assert sent == [*(expected[step] for step in steps), *expected["sm_protected_commands"]]

    def test_chip_authentication_mapping_of_icao(self) -> None:
        inputs, expected = ICAO_CAM["inputs"], ICAO_CAM["expected"]
        steps = ("c1", "c2", "c3", "c4", "c5")
        sent: list[str] = []

        def carry(command: bytes) -> bytes:
            sent.append(command.hex().upper())
            return octets(inputs["card_responses"][steps[len(sent) - 1]])

        (info,) = protocol.parse_card_access(octets(inputs["ef_cardaccess"]))
        draw = drawing(*private_numbers(ICAO_CAM, "ifd"))
        secret = inputs["mrz_information"].encode()
        session = drive(pace.establish(info, PasswordKind.MRZ, secret, draw, name_parameters=False), carry)
        assert sent == [expected[step] for step in steps]
        assert session.chip_data == octets(expected["CA_ic"])
        chip_key = octets(inputs["chip_key"])
        assert protocol.verify_chip_data(info.parameters, session.chip_data, session.mapping_key, chip_key)
        assert session.channel._enc_key == octets(expected["KS_enc"])
        assert session.channel._mac_key == octets(expected["KS_mac"])


class TestTerminalAndCard:
    @pytest.mark.parametrize("info", SUITES, ids=lambda info: f"{info.mapping}-{info.key_bytes}-{info.parameters.name}")
    def test_every_suite(self, info: PaceInfo) -> None:
        held = card(info, nonce_bytes=32)
        assert drive(pace.read_card_access(), held.process) == (info,)
        session = established(held.process, info)
        assert session.expected == session.received
        assert drive(pace.through(session.channel, read_secret()), held.process) == SECRET
        if info.mapping is Mapping.CAM:
            assert session.chip_data is not None
            chip_key = info.parameters.public_point(CHIP_KEY)
            assert protocol.verify_chip_data(info.parameters, session.chip_data, session.mapping_key, chip_key)
        else:
            assert session.chip_data is None

    @pytest.mark.parametrize(("kind", "secret"), [(PasswordKind.CAN, CAN), (PasswordKind.MRZ, MRZ)])
    @pytest.mark.parametrize("nonce_bytes", [16, 32, 48])
    def test_passwords_and_nonces(self, kind: PasswordKind, secret: bytes, nonce_bytes: int) -> None:
        held = card(nonce_bytes=nonce_bytes)
        established(held.process, kind=kind, secret=secret)
        assert held.pace.password is kind

    def test_the_card_tells_suites_apart(self) -> None:
        infos = (SUITE, PaceInfo.of(Mapping.GM, 16, 13), PaceInfo.of(Mapping.GM, 32, 12))
        for info in infos:
            held = card(*infos)
            established(held.process, info)
            assert held.pace.established

    def test_parameters_may_go_unnamed_where_one_suite_has_the_mechanism(self) -> None:
        held = card(SUITE, PaceInfo.of(Mapping.GM, 32, 16))
        established(held.process, name_parameters=False)
        assert held.log[0].hex() == "0022c1a40f800a04007f00070202040202830102"
        held = card(SUITE, PaceInfo.of(Mapping.GM, 16, 13))
        with pytest.raises(CardRefused) as refused:
            established(held.process, name_parameters=False)
        assert refused.value.sw == 0x6A88

    @pytest.mark.parametrize("piece", [20, 64, 200, 255])
    def test_get_response_stays_outside(self, piece: int) -> None:
        """Answers come in pieces, of PACE and of the session; the counter does not notice."""
        held = card(piece=piece)
        session = established(held.process)
        assert drive(pace.through(session.channel, read_secret()), held.process) == SECRET
        fetched = [command for command in held.log if command[1] == 0xC0]
        assert fetched
        assert all(command[0] == 0x00 for command in fetched)

    def test_a_wrong_le_is_repaired_without_counting(self) -> None:
        """T=0 cards ask for another Le; they have not yet taken the command."""
        held = card()
        session = established(held.process)
        asked: list[bytes] = []

        def carry(command: bytes) -> bytes:
            asked.append(command)
            return b"\x6c\x80" if len(asked) % 2 else held.process(command[:-1] + b"\x00")

        assert drive(pace.through(session.channel, read_secret()), carry) == SECRET
        assert asked[1] == asked[0][:-1] + b"\x80"

    def test_several_dialogues_share_a_session(self) -> None:
        held = card()
        session = established(held.process)
        for _ in range(3):
            assert drive(pace.through(session.channel, read_secret()), held.process) == SECRET

    def test_a_dialogue_that_says_nothing(self) -> None:
        def silent() -> Generator[CommandApdu, ResponseApdu, bytes]:
            yield from ()
            return b"nothing"

        channel = SecureChannel(bytes(16), bytes(16))
        assert drive(pace.through(channel, silent()), script()) == b"nothing"

    def test_a_plain_command_ends_the_session(self) -> None:
        held = card()
        session = established(held.process)
        assert drive(pace.through(session.channel, read_secret()), held.process) == SECRET
        assert held.process(octets("00B0000000")) == octets("6982")
        with pytest.raises(CardMalformed):
            drive(pace.through(session.channel, read_secret()), held.process)
        assert not session.channel.alive

    def test_get_response_does_not(self) -> None:
        held = card()
        session = established(held.process)
        unheard = held.pace.process(CommandApdu(0, 0xC0, 0, 0, le=256), lambda _command: ResponseApdu(b"", 0x6985))
        assert (unheard.sw, held.pace.established) == (0x6985, True)
        assert drive(pace.through(session.channel, read_secret()), held.process) == SECRET

    def test_power_off_ends_everything(self) -> None:
        held = card()
        session = established(held.process)
        held.pace.reset()
        assert (held.pace.established, held.pace.password) == (False, None)
        with pytest.raises(CardMalformed, match="6882"):
            drive(pace.through(session.channel, read_secret()), held.process)

    def test_another_protocols_template_is_the_applications(self) -> None:
        """CWA-14890 uses the same MSE, without a mechanism."""
        heard: list[CommandApdu] = []

        def application(command: CommandApdu) -> ResponseApdu:
            heard.append(command)
            return ResponseApdu(b"", 0x9000)

        held = PaceCard((SUITE,), can=CAN)
        for sent in ("0022C1A4068301018401FF", "0022C1A402FFFF", "0086000000", "00220101"):
            assert held.process(CommandApdu.from_bytes(octets(sent)), application).ok
        assert len(heard) == 4


class TestSecrets:
    @pytest.mark.parametrize(
        ("kind", "secret"),
        [(PasswordKind.CAN, b"123457"), (PasswordKind.CAN, b""), (PasswordKind.MRZ, CAN), (PasswordKind.MRZ, MRZ[1:])],
    )
    def test_a_wrong_password_shows_at_the_last_step_and_is_not_tried_again(
        self, kind: PasswordKind, secret: bytes
    ) -> None:
        held = card()
        with pytest.raises(WrongCan) as refused:
            established(held.process, kind=kind, secret=secret)
        assert [command[1] for command in held.log] == [0x22, 0x86, 0x86, 0x86, 0x86]
        assert held.answers[-1] == octets("6300")
        assert not held.pace.established
        assert secret.decode() not in str(refused.value) or not secret

    @pytest.mark.parametrize("sw", ["6300", "63C0", "63C9", "63CF", "6A80"])
    def test_words_for_a_wrong_password(self, sw: str) -> None:
        with pytest.raises(WrongCan):
            established(last_answer(card(), octets(sw)))

    @pytest.mark.parametrize("sw", ["6700", "6982", "6983", "6985", "6988", "6A88", "6F00", "6E00"])
    def test_words_that_are_not(self, sw: str) -> None:
        with pytest.raises(CardRefused) as refused:
            established(last_answer(card(), octets(sw)))
        assert refused.value.sw == int(sw, 16)

    @pytest.mark.parametrize("kind", [PasswordKind.PIN, PasswordKind.PUK])
    def test_passwords_with_tries_are_never_tried(self, kind: PasswordKind) -> None:
        with pytest.raises(ValueError, match="tries"):
            next(pace.establish(SUITE, kind, b"1234", os.urandom))

    @pytest.mark.parametrize("step", range(12))
    def test_a_card_that_leaves_is_lost_and_not_wrong(self, step: int) -> None:
        held = card()

        def carry(command: bytes) -> bytes:
            if len(held.log) == step:
                raise MediumLost("virtual", "torn away")
            return held.process(command)

        with pytest.raises(MediumLost):
            drive(whole_tap(), carry)
        assert len(held.log) == step

    def test_what_was_secret_is_overwritten_however_it_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parties: list[Party] = []
        keys: list[bytearray] = []

        class Watched(Party):
            def __init__(self, info: PaceInfo, random: Callable[[int], bytes]) -> None:
                super().__init__(info, random)
                parties.append(self)

        def password_key(*arguments: Any) -> bytearray:
            keys.append(derive(*arguments))
            return keys[-1]

        derive = protocol.password_key
        monkeypatch.setattr(pace, "Party", Watched)
        monkeypatch.setattr(protocol, "password_key", password_key)
        terminals: list[int] = []
        for step in range(6):
            held = card()
            terminals.append(len(keys))
            terminal = pace.establish(SUITE, PasswordKind.CAN, CAN, os.urandom)
            command = next(terminal)
            for _ in range(min(step, 4)):
                command = terminal.send(ResponseApdu.from_bytes(held.process(bytes(command))))
            if step == 5:
                with pytest.raises(StopIteration):
                    terminal.send(ResponseApdu.from_bytes(held.process(bytes(command))))
            terminal.close()
        assert len(parties) == 6
        for party in parties:
            assert not any(party._mapping_private + party._private + party._enc_key + party._mac_key)
        assert len(keys) > 6
        assert not any(any(keys[terminal]) for terminal in terminals)


def last_answer(held: FileCard, answer: bytes) -> Callable[[bytes], bytes]:
    """Let a card take part, and answer the last step of PACE otherwise."""
    return lambda command: answer if command[:2] == b"\x00\x86" else held.process(command)
