"""The virtual NTAG 424 DNA: NXP's recorded session replayed, what its files allow to whom, and what wrong keys cost."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import ev2
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.ev2 import CardAnswer, CommMode, Session, SessionKeys
from hardware.virtual.chip import Chip
from hardware.virtual.ntag424 import DELAY_S, Ntag424Chip
from hardware.virtual.ntag424_files import (
    CAPABILITY_CONTAINER,
    FREE,
    NEVER,
    Access,
    DynamicMessage,
    SettingsError,
    as_delivered,
)
from hardware.virtual.ntag424_keys import crc32_of_key

VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent.parent / "vectors" / "ntag424.json").read_text())["vectors"]
}
UID = bytes.fromhex("04DE5F1EACC040")
KEYS = [bytes([number]) * 16 for number in range(5)]
FACTORY = [bytes(16)] * 5
TOKEN = bytes(range(16))
SELECT = bytes.fromhex("00A4040007D276000085010100")
SIGNATURE = bytes(range(56))
RND_A = bytes(range(0x20, 0x30))


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def recorded(*values: str) -> Callable[[int], bytes]:
    """Randomness that was recorded, in its order."""
    left: Iterator[bytes] = iter([octets(value) for value in values])

    def random(count: int) -> bytes:
        value = next(left)
        assert len(value) == count
        return value

    return random


def issued(**options: Any) -> Ntag424Chip:
    return Ntag424Chip(UID, KEYS, TOKEN, **options)


def ask(chip: Ntag424Chip, command: CommandApdu | bytes | str) -> ResponseApdu:
    sent = octets(command) if isinstance(command, str) else bytes(command)
    answer = chip.process(sent).response
    assert answer is not None
    return ResponseApdu.from_bytes(answer)


def part_one(chip: Ntag424Chip, number: int) -> ResponseApdu:
    return ask(chip, ev2.native(0x71, bytes([number, 0])))


def authenticated(chip: Ntag424Chip, number: int, key: bytes | None = None) -> Session:
    """Select and authenticate, as a gate or a bureau does."""
    assert ask(chip, SELECT).sw == 0x9000
    key = KEYS[number] if key is None else key
    first = part_one(chip, number)
    assert first.sw == 0x91AF
    rnd_b = ev2.decrypt(key, first.data)
    second = ask(chip, ev2.native(0xAF, ev2.gate_cryptogram(key, RND_A, rnd_b)))
    assert second.sw == 0x9100
    answer = CardAnswer.opened(key, second.data)
    assert answer.rnd_a_rotated == ev2.rotated(RND_A)
    return Session(SessionKeys.of_challenges(key, RND_A, rnd_b), answer.identifier)


def fail(chip: Ntag424Chip, number: int = 1) -> int:
    """One authentication with a wrong key; the status word that ends it."""
    first = part_one(chip, number)
    return first.sw if first.sw != 0x91AF else ask(chip, ev2.native(0xAF, bytes(32))).sw


def place(number: int, offset: int, length: int) -> bytes:
    return bytes([number]) + offset.to_bytes(3, "little") + length.to_bytes(3, "little")


def read(
    chip: Ntag424Chip, session: Session, mode: CommMode, number: int = 3, *, at: int = 0, length: int = 16
) -> bytes:
    response = ask(chip, session.seal_command(mode, 0xAD, place(number, at, length)))
    assert response.sw == 0x9100
    return session.open_response(mode, response.data)


def change_key(chip: Ntag424Chip, session: Session, number: int, new: bytes, old: bytes) -> ResponseApdu:
    if number == 0:
        data = new + b"\x01"
    else:
        data = bytes(a ^ b for a, b in zip(new, old, strict=True)) + b"\x01" + crc32_of_key(new)
    return ask(chip, session.seal_command(CommMode.FULL, 0xC4, bytes([number]), data))


class TestRecordedByNxp:
    """AN12196 rev. 2.0: what NXP's card answered, ours answers, byte for byte."""

    def test_key_3_writes_key_0_goes_on_and_changes_keys(self) -> None:
        third, first = VECTORS["ntag424-authenticateev2first-key3"], VECTORS["ntag424-authenticateev2nonfirst-key0"]
        random = recorded(third["expected"]["rndb"], third["expected"]["ti"], first["expected"]["rndb"])
        chip = Ntag424Chip(octets("04958CAA5C5E80"), FACTORY, None, random=random)
        assert ask(chip, SELECT).sw == 0x9000
        self.authenticate(chip, third)
        self.command(chip, "ntag424-writedata-full-proprietary")
        self.authenticate(chip, first)
        self.command(chip, "ntag424-writedata-plain-cc")
        self.command(chip, "ntag424-changekey-full-key2")
        last = ask(chip, VECTORS["ntag424-changekey-full-key0"]["expected"]["command"])
        assert (last.sw, last.data) == (0x9100, b"")
        session = authenticated_anew(chip, 0, "5004BF991F408672B1EF00F08F9E8647")
        assert read(chip, session, CommMode.PLAIN, 1, at=14, length=18) == octets(
            "FF0506E105008082830000000000000000 00"
        )
        session = authenticated_anew(chip, 2, "F3847D627727ED3BC9C4CC050489B966")
        assert read(chip, session, CommMode.FULL, 3, length=10) == octets("0102030405060708090A")

    def test_key_0_writes_and_sets_up_the_ndef_file(self) -> None:
        zero = VECTORS["ntag424-authenticateev2first-key0"]
        chip = Ntag424Chip(UID, FACTORY, None, random=recorded(zero["expected"]["rndb"], zero["expected"]["ti"]))
        ndef = chip._files[2]
        ndef.access, ndef.mode = Access(FREE, 0, 0, 0), CommMode.FULL  # as it was set up before the recording began
        assert ask(chip, SELECT).sw == 0x9000
        self.authenticate(chip, zero)
        self.command(chip, "ntag424-writedata-full-ndef")
        self.command(chip, "ntag424-changefilesettings-full")
        assert bytes(ndef.content).startswith(b"\x00\x51\xd1\x01\x4dU\x04choose.url.com/ntag424?e=")
        assert ndef.message == DynamicMessage(2, 1, 1, picc_data_at=0x20, mac_input_at=0x43, mac_at=0x43)

    def authenticate(self, chip: Ntag424Chip, vector: dict[str, Any]) -> None:
        first = ask(chip, vector["expected"]["first_command"])
        assert (first.sw, first.data) == (0x91AF, octets(vector["inputs"]["e_rndb"]))
        second = ask(chip, ev2.native(0xAF, octets(vector["expected"]["part2_data"])))
        assert (second.sw, second.data) == (0x9100, octets(vector["inputs"]["card_final_response_data"]))

    def command(self, chip: Ntag424Chip, name: str) -> None:
        assert bytes(ask(chip, VECTORS[name]["expected"]["command"])) == octets(VECTORS[name]["inputs"]["response"])

    def test_settings_of_table_7_are_read_and_written_alike(self) -> None:
        printed = octets(VECTORS["ntag424-getfilesettings-mac"]["expected"]["response_data"])
        file = as_delivered()[2]
        file.change_settings(printed[1:4] + printed[7:])
        assert file.settings == printed

    def test_checksum_of_a_new_key(self) -> None:
        vector = VECTORS["ntag424-crc32nk"]
        assert crc32_of_key(octets(vector["inputs"]["new_key"])) == octets(vector["expected"]["crc32nk"])


def authenticated_anew(chip: Ntag424Chip, number: int, key: str) -> Session:
    chip._keys._random = lambda count: bytes(range(count))  # the recording is at its end
    return authenticated(chip, number, octets(key))


class TestIssuedCard:
    def test_it_is_a_chip_and_says_80(self) -> None:
        chip: Chip = issued()
        assert chip.historical == b"\x80"

    def test_the_gates_key_reads_the_token_under_its_mac(self) -> None:
        chip = issued()
        assert read(chip, authenticated(chip, 1), CommMode.MAC) == TOKEN

    def test_two_sessions_share_nothing(self) -> None:
        chip = issued()
        one, two = authenticated(chip, 1), authenticated(chip, 1)
        assert one.identifier != two.identifier
        stale = one.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))
        assert ask(chip, stale).sw == 0x911E

    @pytest.mark.parametrize("number", [2, 3, 4])
    def test_no_other_key_reads_it(self, number: int) -> None:
        chip = issued()
        session = authenticated(chip, number)
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))).sw == 0x91AE

    def test_nobody_reads_it_freely(self) -> None:
        chip = issued()
        assert ask(chip, SELECT).sw == 0x9000
        assert ask(chip, ev2.native(0xAD, place(3, 0, 16))).sw == 0x91AE
        assert ask(chip, "00A4000C02E105").sw == 0x9000
        assert ask(chip, "00B0000010").sw == 0x6982

    def test_the_gates_key_writes_nothing_and_changes_nothing(self) -> None:
        chip = issued()
        session = authenticated(chip, 1)
        assert ask(chip, session.seal_command(CommMode.MAC, 0x8D, place(3, 0, 16), bytes(16))).sw == 0x91AE
        session = authenticated(chip, 1)
        assert change_key(chip, session, 1, bytes(16), KEYS[1]).sw == 0x91AE
        session = authenticated(chip, 1)
        assert ask(chip, session.seal_command(CommMode.FULL, 0x5F, b"\x03", octets("00EEEE"))).sw == 0x91AE
        assert read(chip, authenticated(chip, 1), CommMode.MAC) == TOKEN

    def test_the_master_key_writes(self) -> None:
        chip = issued()
        session = authenticated(chip, 0)
        response = ask(chip, session.seal_command(CommMode.MAC, 0x8D, place(3, 4, 2), b"\xaa\xbb"))
        assert (response.sw, session.open_response(CommMode.MAC, response.data)) == (0x9100, b"")
        assert read(chip, session, CommMode.MAC) == TOKEN[:4] + b"\xaa\xbb" + TOKEN[6:]

    @pytest.mark.parametrize(
        ("header", "sw"),
        [
            (place(3, 0, 129), 0x91BE),
            (place(3, 128, 0), 0x91BE),
            (place(3, 0xFFFFFF, 0xFFFFFF), 0x91BE),
            (place(9, 0, 16), 0x91F0),
            (place(3, 0, 16)[:-1], 0x917E),
        ],
    )
    def test_a_read_that_cannot_be_ends_the_session(self, header: bytes, sw: int) -> None:
        chip = issued()
        session = authenticated(chip, 1)
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, header)).sw == sw
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))).sw == 0x91AE

    def test_a_length_of_zero_reads_the_rest(self) -> None:
        chip = issued()
        assert read(chip, authenticated(chip, 1), CommMode.MAC, length=0) == TOKEN + bytes(112)

    def test_more_than_an_answer_holds_is_refused(self) -> None:
        chip = issued()
        chip._files[2].access, chip._files[2].mode = Access(1, 0, 0, 0), CommMode.MAC
        session = authenticated(chip, 1)
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(2, 0, 0))).sw == 0x917E

    def test_without_its_mac_a_command_is_refused_and_the_session_ends(self) -> None:
        chip = issued()
        session = authenticated(chip, 1)
        assert ask(chip, ev2.native(0xAD, place(3, 0, 16))).sw == 0x911E
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))).sw == 0x91AE

    def test_settings_are_told_plainly_and_under_a_mac(self) -> None:
        chip = issued()
        assert ask(chip, SELECT).sw == 0x9000
        plain = ask(chip, ev2.native(0xF5, b"\x03"))
        assert (plain.sw, plain.data) == (0x9100, octets("0001 0010 800000"))
        session = authenticated(chip, 1)
        sealed = ask(chip, session.seal_command(CommMode.MAC, 0xF5, b"\x03"))
        assert session.open_response(CommMode.MAC, sealed.data) == plain.data

    def test_selecting_the_application_again_ends_the_session(self) -> None:
        chip = issued()
        session = authenticated(chip, 1)
        assert ask(chip, SELECT).sw == 0x9000
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))).sw == 0x91AE

    @pytest.mark.parametrize("compute_s", [0.0, 0.004])
    def test_only_commands_with_cryptography_take_its_time(self, compute_s: float) -> None:
        chip = issued(compute_s=compute_s)
        assert chip.process(SELECT).compute_s == 0
        assert chip.process(octets("9060000000")).compute_s == 0
        chip.process(octets("90AF000000"))
        chip.process(octets("90AF000000"))
        first = chip.process(octets("9071000002010000"))
        assert first.compute_s == compute_s
        assert first.response is not None
        cryptogram = ev2.gate_cryptogram(KEYS[1], RND_A, ev2.decrypt(KEYS[1], first.response[:-2]))
        assert chip.process(bytes(ev2.native(0xAF, cryptogram))).compute_s == compute_s

    @pytest.mark.parametrize(
        ("uid", "keys", "token", "options"),
        [
            (UID[:4], KEYS, TOKEN, {}),
            (UID, KEYS[:4], TOKEN, {}),
            (UID, [*KEYS[:4], bytes(15)], TOKEN, {}),
            (UID, KEYS, TOKEN[:-1], {}),
            (UID, KEYS, TOKEN, {"signature": bytes(32)}),
            (UID, KEYS, TOKEN, {"ndef": bytes(257)}),
            (UID, KEYS, TOKEN, {"message": DynamicMessage(2, 1, picc_data_at=240, mac_input_at=0, mac_at=0)}),
        ],
    )
    def test_a_chip_that_cannot_be(self, uid: bytes, keys: list[bytes], token: bytes, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"bytes|places"):
            Ntag424Chip(uid, keys, token, **options)


class TestPersonalising:
    def test_a_bureau_makes_an_issued_card_of_a_delivered_one(self) -> None:
        chip = Ntag424Chip(UID, FACTORY, None)
        session = authenticated(chip, 3, FACTORY[3])
        written = ask(chip, session.seal_command(CommMode.FULL, 0x8D, place(3, 0, 16), TOKEN))
        assert written.sw == 0x9100
        session = authenticated(chip, 0, FACTORY[0])
        settings_ = bytes([CommMode.MAC]) + bytes(Access(1, 0, 0, 0))
        response = ask(chip, session.seal_command(CommMode.FULL, 0x5F, b"\x03", settings_))
        assert (response.sw, session.open_response(CommMode.FULL, response.data)) == (0x9100, b"")
        for number in (1, 2, 3, 4, 0):
            assert change_key(chip, session, number, KEYS[number], FACTORY[number]).sw == 0x9100
        assert read(chip, authenticated(chip, 1), CommMode.MAC) == TOKEN
        assert fail(chip, 0) == 0x91AE

    def test_a_new_key_with_a_wrong_checksum_changes_nothing(self) -> None:
        chip = issued()
        session = authenticated(chip, 0)
        data = bytes(16) + b"\x01" + bytes(4)
        assert ask(chip, session.seal_command(CommMode.FULL, 0xC4, b"\x01", data)).sw == 0x911E
        authenticated(chip, 1)

    def test_a_new_master_key_ends_the_session_that_the_old_one_opened(self) -> None:
        chip = issued()
        session = authenticated(chip, 0)
        assert change_key(chip, session, 0, bytes(16), KEYS[0]).sw == 0x9100
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))).sw == 0x91AE

    @pytest.mark.parametrize(
        ("offset", "length", "sw"), [(0, 3, 0x917E), (0, 1, 0x917E), (0, 0, 0x917E), (127, 2, 0x91BE), (128, 2, 0x91BE)]
    )
    def test_a_write_that_cannot_be_changes_nothing(self, offset: int, length: int, sw: int) -> None:
        chip = issued()
        session = authenticated(chip, 0)
        data = b"" if length == 0 else b"\xaa\xaa"
        assert ask(chip, session.seal_command(CommMode.MAC, 0x8D, place(3, offset, length), data)).sw == sw
        assert bytes(chip._files[3].content) == TOKEN + bytes(112)

    def test_a_file_that_is_closed_for_ever(self) -> None:
        chip = issued()
        chip._files[3].access = Access(NEVER, NEVER, NEVER, NEVER)
        for ins, mode, header, data in (
            (0xAD, CommMode.MAC, place(3, 0, 16), b""),
            (0x8D, CommMode.MAC, place(3, 0, 2), b"\0\0"),
            (0x5F, CommMode.FULL, b"\x03", octets("00EEEE")),
        ):
            session = authenticated(chip, 0)
            assert ask(chip, session.seal_command(mode, ins, header, data)).sw == 0x919D

    def test_a_dynamic_message_that_is_set_up_anew_counts_from_zero(self) -> None:
        chip = issued()
        file = chip._files[2]
        for _ in range(2):
            file.read_counter = 7
            session = authenticated(chip, 0)
            data = octets("4000E0C1F121200000430000430000")
            assert ask(chip, session.seal_command(CommMode.FULL, 0x5F, b"\x02", data)).sw == 0x9100
            assert (file.read_counter, file.access) == (0, Access(FREE, 0, 0, 0))

    @pytest.mark.parametrize(("number", "size", "sw"), [(0, 21, 0x917E), (1, 17, 0x917E), (9, 21, 0x9140)])
    def test_a_new_key_of_another_shape(self, number: int, size: int, sw: int) -> None:
        chip = issued()
        session = authenticated(chip, 0)
        assert ask(chip, session.seal_command(CommMode.FULL, 0xC4, bytes([number]), bytes(size))).sw == sw

    @pytest.mark.parametrize(
        "data",
        ["", "0000", "0200E0", "00EEEE00", "40EEEE", "40EEEE40FFEE", "40EEEEC1FE99200000", "40EEEE01FFFE000000000000"],
    )
    def test_settings_that_cannot_be(self, data: str) -> None:
        chip = issued()
        session = authenticated(chip, 0)
        before = chip._files[2].settings
        response = ask(chip, session.seal_command(CommMode.FULL, 0x5F, b"\x02", octets(data)))
        assert response.sw == 0x919E
        assert chip._files[2].settings == before


class TestWrongKeys:
    def test_the_fiftieth_in_a_row_is_delayed_and_a_right_key_makes_good(self) -> None:
        chip = issued()
        ask(chip, SELECT)
        assert [fail(chip) for _ in range(50)] == [0x91AE] * 50
        delayed = chip.process(octets("9071000002010000"))
        assert (delayed.response, delayed.compute_s) == (b"\x91\xad", DELAY_S)
        authenticated(chip, 1)
        assert fail(chip) == 0x91AE
        authenticated(chip, 1)

    def test_delays_grow_with_each_further_wrong_key(self) -> None:
        chip = issued()
        ask(chip, SELECT)
        for _ in range(50):
            fail(chip)
        assert [fail(chip) for _ in range(6)] == [0x91AD, 0x91AE, 0x91AD, 0x91AD, 0x91AE, 0x91AD]

    def test_power_does_not_heal_it_and_other_keys_are_free_of_it(self) -> None:
        chip = issued()
        ask(chip, SELECT)
        for _ in range(50):
            fail(chip)
        chip.reset()
        ask(chip, SELECT)
        authenticated(chip, 2)
        assert part_one(chip, 1).sw == 0x91AD

    def test_a_thousand_block_the_key_until_the_issuer_changes_it(self) -> None:
        chip = issued()
        ask(chip, SELECT)
        chip._keys._keys[1].failures = 999
        assert [fail(chip), part_one(chip, 1).sw] == [0x91AE, 0x919D]
        session = authenticated(chip, 0)
        assert change_key(chip, session, 1, bytes(16), KEYS[1]).sw == 0x9100
        authenticated(chip, 1, bytes(16))

    def test_a_right_key_takes_ten_back(self) -> None:
        chip = issued()
        chip._keys._keys[1].failures = 25
        for left in (15, 5, 0, 0):
            authenticated(chip, 1)
            assert chip._keys._keys[1].failures == left


class TestVersionUidSignature:
    def version(self, chip: Ntag424Chip, command: CommandApdu) -> bytes:
        frames = [ask(chip, command), ask(chip, ev2.native(0xAF)), ask(chip, ev2.native(0xAF))]
        assert [frame.sw for frame in frames] == [0x91AF, 0x91AF, 0x9100]
        return b"".join(frame.data for frame in frames)

    def test_the_version_comes_in_three_frames(self) -> None:
        whole = self.version(issued(), ev2.native(0x60))
        assert whole[:14] == octets("04040230001105 04040201021105")
        assert (whole[14:21], len(whole)) == (UID, 28)

    def test_in_a_session_one_mac_covers_them(self) -> None:
        chip = issued()
        session = authenticated(chip, 1)
        whole = self.version(chip, session.seal_command(CommMode.MAC, 0x60))
        assert session.open_response(CommMode.MAC, whole) == self.version(issued(), ev2.native(0x60))
        assert read(chip, session, CommMode.MAC) == TOKEN

    def test_the_uid_is_told_to_who_has_a_key_and_encrypted(self) -> None:
        chip = issued()
        ask(chip, SELECT)
        assert ask(chip, ev2.native(0x51)).sw == 0x91AE
        session = authenticated(chip, 4)
        response = ask(chip, session.seal_command(CommMode.FULL, 0x51))
        assert UID not in response.data
        assert session.open_response(CommMode.FULL, response.data) == UID

    def test_the_signature_is_told_to_anybody(self) -> None:
        chip = issued(signature=SIGNATURE)
        plain = ask(chip, "903C0000010000")
        assert (plain.data, plain.sw) == (SIGNATURE, 0x9190)
        session = authenticated(chip, 1)
        sealed = ask(chip, session.seal_command(CommMode.FULL, 0x3C, b"\x00"))
        assert (session.open_response(CommMode.FULL, sealed.data), sealed.sw) == (SIGNATURE, 0x9100)
        assert ask(issued(signature=SIGNATURE), "903C0000010100").sw == 0x919E
        assert ask(issued(), "903C0000010000").sw == 0x911C


class TestDialogue:
    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("00A4040007D276000085010000", 0x9000),
            ("00A4040007D2760000850102", 0x6A82),
            ("00A4040006D27600008501", 0x6A82),
            ("00A4050007D2760000850101", 0x6A86),
            ("00A4040107D2760000850101", 0x6A86),
            ("00A4000C02E104", 0x6A82),
            ("00D60000010000", 0x6D00),
            ("80A4040000", 0x6E00),
            ("00A40400070000", 0x6700),
            ("9071000002010000", 0x9140),
            ("90AD00000703000000100000 00", 0x919D),
            ("9099000000", 0x911C),
            ("9060010000", 0x919E),
            ("90AF000000", 0x91CA),
        ],
    )
    def test_before_the_application_is_selected(self, command: str, sw: int) -> None:
        assert ask(issued(), command).sw == sw

    @pytest.mark.parametrize(
        ("command", "sw"),
        [
            ("9071000002050000", 0x9140),
            ("90710000020E0000", 0x9140),
            ("9071000001 0100", 0x917E),
            ("90710000020101 00", 0x917E),
            ("9071000009010700000000000000 00", 0x917E),
            ("90710000080106020000000000 00", 0x91AF),
            ("9077000001 0100", 0x919D),
            ("90AD000007 09000000100000 00", 0x91F0),
            ("90AD000000", 0x917E),
            ("00A4000C02E103", 0x9000),
            ("00A4020C02E110", 0x6A82),
            ("00B0000000", 0x6985),
            ("00B0830000", 0x9000),
            ("00B0840100", 0x9000),
            ("00B0850000", 0x6982),
            ("00B0832000", 0x6A86),
            ("00B0860000", 0x6A82),
        ],
    )
    def test_after_it_is_selected(self, command: str, sw: int) -> None:
        chip = issued()
        ask(chip, SELECT)
        assert ask(chip, command).sw == sw

    @pytest.mark.parametrize("number", [2, 0x42])
    def test_the_capability_container_and_the_message_are_free(self, number: int) -> None:
        ndef = bytes([0, number]) + bytes(number)
        chip = issued(ndef=ndef)
        ask(chip, SELECT)
        ask(chip, "00A4000C02E103")
        assert ask(chip, "00B000000F").data == CAPABILITY_CONTAINER[:15]
        ask(chip, "00A4000C02E104")
        assert ask(chip, "00B0000002").data == ndef[:2]
        assert ask(chip, "00B0000000").data == ndef.ljust(256, b"\0")

    def test_who_is_authenticated_reads_what_was_written_and_nothing_dynamic(self) -> None:
        message = DynamicMessage(2, 1, picc_data_at=0x20, mac_input_at=0x43, mac_at=0x43)
        chip = issued(message=message)
        session = authenticated(chip, 1)
        assert read(chip, session, CommMode.PLAIN, 2, length=200) == bytes(200)
        assert chip._files[2].read_counter == 0
        assert ask(chip, "00B0840000").sw == 0x6982
        ask(chip, SELECT)
        assert ask(chip, "00B0840000").data != bytes(256)
        assert chip._files[2].read_counter == 1

    def test_a_frame_is_asked_for_without_data(self) -> None:
        chip = issued()
        assert ask(chip, ev2.native(0x60)).sw == 0x91AF
        assert ask(chip, ev2.native(0xAF, b"\0")).sw == 0x91CA
        assert ask(chip, ev2.native(0xAF)).sw == 0x91CA

    def test_a_read_of_a_file_brings_no_data(self) -> None:
        chip = issued()
        ask(chip, SELECT)
        assert ask(chip, "00B0830001AA00").sw == 0x6985

    @pytest.mark.parametrize(
        ("between", "sw"), [("9060000000", 0x91CA), ("00B0830000", 0x6985), (SELECT.hex(), 0x6985)]
    )
    def test_what_comes_between_the_parts_of_an_authentication_aborts_it(self, between: str, sw: int) -> None:
        chip = issued()
        ask(chip, SELECT)
        first = part_one(chip, 1)
        assert ask(chip, between).sw == sw
        cryptogram = ev2.gate_cryptogram(KEYS[1], RND_A, ev2.decrypt(KEYS[1], first.data))
        assert ask(chip, ev2.native(0xAF, cryptogram)).sw == 0x91CA
        authenticated(chip, 1)

    @pytest.mark.parametrize("size", [0, 15, 16, 31, 33, 48])
    def test_a_second_part_of_another_length_is_refused_and_not_counted(self, size: int) -> None:
        chip = issued()
        ask(chip, SELECT)
        part_one(chip, 1)
        assert ask(chip, ev2.native(0xAF, bytes(size))).sw == 0x917E
        assert chip._keys._keys[1].failures == 0

    @pytest.mark.parametrize("commands", [[], [SELECT], [SELECT, octets("9071000002010000")]])
    def test_torn_away_at_any_point_it_begins_anew(self, commands: list[bytes]) -> None:
        chip = issued()
        for command in commands:
            ask(chip, command)
        chip.reset()
        assert part_one(chip, 1).sw == 0x9140
        assert read(chip, authenticated(chip, 1), CommMode.MAC) == TOKEN

    def test_torn_away_its_session_is_gone(self) -> None:
        chip = issued()
        session = authenticated(chip, 1)
        chip.reset()
        ask(chip, SELECT)
        assert ask(chip, session.seal_command(CommMode.MAC, 0xAD, place(3, 0, 16))).sw == 0x91AE


class TestDynamicMessageSettings:
    @given(
        meta=st.sampled_from([0, 1, 4, FREE, NEVER]),
        file=st.sampled_from([0, 1, 4, NEVER]),
        uid=st.booleans(),
        counter=st.booleans(),
        encrypt=st.booleans(),
        limit=st.none() | st.integers(1, 2**24 - 1),
        numbers=st.lists(st.integers(0, 2**24 - 1), min_size=7, max_size=7),
    )
    def test_what_is_encoded_decodes(
        self,
        *,
        meta: int,
        file: int,
        uid: bool,
        counter: bool,
        encrypt: bool,
        limit: int | None,
        numbers: list[int],
    ) -> None:
        plain, maced = meta == FREE, file != NEVER
        message = DynamicMessage(
            meta,
            file,
            counter_key=1,
            uid=uid,
            counter=counter,
            uid_at=numbers[0] if uid and plain else None,
            counter_at=numbers[1] if counter and plain else None,
            picc_data_at=numbers[2] if meta < FREE else None,
            mac_input_at=numbers[3] if maced else None,
            encrypted_at=numbers[4] if maced and encrypt else None,
            encrypted_bytes=max(1, numbers[5]) if maced and encrypt else 0,
            mac_at=numbers[6] if maced else None,
            limit=limit,
        )
        assert DynamicMessage.from_bytes(bytes(message)) == message

    @given(noise=st.binary(max_size=40))
    def test_noise_is_refused_or_means_what_it_says(self, noise: bytes) -> None:
        file = as_delivered()[2]
        before = file.settings
        try:
            file.change_settings(noise)
        except SettingsError:
            assert file.settings == before
            return
        if file.message is not None:
            again = as_delivered()[2]
            again.change_settings(file.settings[1:4] + file.settings[7:])
            assert again.settings == file.settings
            assert len(file.mirrored(UID, bytes(16), lambda number: KEYS[number])) == 256

    @pytest.mark.parametrize(
        "message",
        [
            DynamicMessage(FREE, NEVER, uid_at=0, counter_at=13),
            DynamicMessage(FREE, NEVER, uid_at=243, counter_at=0),
            DynamicMessage(2, 1, picc_data_at=0, mac_input_at=0, mac_at=31),
            DynamicMessage(2, 1, picc_data_at=0, mac_input_at=41, mac_at=40),
            DynamicMessage(2, 1, picc_data_at=0, mac_input_at=65, encrypted_at=64, encrypted_bytes=32, mac_at=96),
            DynamicMessage(2, 1, picc_data_at=0, mac_input_at=64, encrypted_at=64, encrypted_bytes=16, mac_at=96),
            DynamicMessage(2, 1, picc_data_at=0, mac_input_at=0, encrypted_at=96, encrypted_bytes=32, mac_at=64),
            DynamicMessage(
                2, 1, counter=False, picc_data_at=0, mac_input_at=0, encrypted_at=64, encrypted_bytes=32, mac_at=96
            ),
            DynamicMessage(2, NEVER, picc_data_at=0, mac_at=40),
            DynamicMessage(7, 1, picc_data_at=0, mac_input_at=40, mac_at=40),
        ],
    )
    def test_places_that_cannot_be(self, message: DynamicMessage) -> None:
        with pytest.raises(SettingsError):
            message.check(256)


COMMAND = st.one_of(
    st.binary(max_size=60),
    st.just(SELECT),
    st.builds(
        lambda ins, data: bytes(ev2.native(ins, data)),
        st.sampled_from([0x3C, 0x51, 0x5F, 0x60, 0x71, 0x77, 0x8D, 0xAD, 0xAF, 0xC4, 0xF5]),
        st.binary(max_size=40) | st.sampled_from([b"\x01\x00", b"\x02", place(2, 0, 0), place(3, 0, 16)]),
    ),
    st.builds(
        lambda ins, p1, p2, data: bytes(CommandApdu(0, ins, p1, p2, data, 256)),
        st.sampled_from([0xA4, 0xB0]),
        st.sampled_from([0x00, 0x02, 0x04, 0x83, 0x84]),
        st.sampled_from([0x00, 0x0C]),
        st.sampled_from([b"", octets("E104"), octets("E105")]),
    ),
)


class TestArbitraryCommands:
    @settings(max_examples=60)
    @given(commands=st.lists(COMMAND, max_size=12))
    def test_each_gets_a_status_word_and_none_gets_the_token_or_a_key(self, commands: list[bytes]) -> None:
        message = DynamicMessage(2, 1, picc_data_at=0x20, mac_input_at=0x43, mac_at=0x43)
        chip = issued(message=message, signature=bytes(56))
        for command in commands:
            answer = chip.process(command).response
            assert answer is not None
            assert 2 <= len(answer) <= 258
            assert TOKEN[1:] not in answer
        chip.reset()
        assert read(chip, authenticated(chip, 1), CommMode.MAC) == TOKEN
