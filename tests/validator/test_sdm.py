"""SUN links: NXP's examples, the virtual card's own links, whatever was touched, and the counter rule."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import ev2
from hardware.apdu import ResponseApdu
from hardware.ev2 import SessionKeys
from hardware.virtual.ntag424 import Ntag424Chip
from hardware.virtual.ntag424_files import FREE, NEVER, NOT_MIRRORED, DynamicMessage
from tests.hostile import hostile
from validator.model import Assurance
from validator.sdm import CounterRule, LinkError, LinkForged, LinkReading, PiccData, verify

VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent.parent / "vectors" / "ntag424.json").read_text())["vectors"]
    if "sun-sdm" in vector["name"]
}
SEALED = [name for name, vector in VECTORS.items() if "picc_data" in vector["inputs"]]

UID = bytes.fromhex("04DE5F1EACC040")
KEYS = [bytes([number]) * 16 for number in range(5)]
META, FILE = 2, 1
SELECT = bytes.fromhex("00A4040007D276000085010100")
SELECT_NDEF = bytes.fromhex("00A4000C02E104")
READ_BINARY = bytes.fromhex("00B0000000")
READ_DATA = bytes.fromhex("90AD0000070200000000000000")

#: "…?p=" 32 hex "&e=" 32 hex "&m=" 16 hex, behind NLEN.
P, E, M = 0x10, 0x33, 0x56
TEXT = b"\0\0https://x/?p=".ljust(P, b" ") + b"0" * 32 + b"&e=" + b"sixteen secrets!" + b"0" * 16 + b"&m=" + b"0" * 16
WITH_DATA = DynamicMessage(
    META, FILE, FILE, picc_data_at=P, mac_input_at=E, encrypted_at=E, encrypted_bytes=32, mac_at=M
)
WITHOUT_DATA = DynamicMessage(META, FILE, FILE, picc_data_at=P, mac_input_at=M, mac_at=M)
PLAINLY = DynamicMessage(FREE, FILE, FILE, uid_at=P, counter_at=P + 15, mac_input_at=M, mac_at=M)


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def tag(message: DynamicMessage, **options: Any) -> Ntag424Chip:
    chip = Ntag424Chip(UID, KEYS, bytes(range(16)), ndef=TEXT, message=message, **options)
    ask(chip, SELECT)
    ask(chip, SELECT_NDEF)
    return chip


def ask(chip: Ntag424Chip, command: bytes) -> ResponseApdu:
    answer = chip.process(command).response
    assert answer is not None
    return ResponseApdu.from_bytes(answer)


def link(chip: Ntag424Chip) -> str:
    """What a phone reads: it selects, and reads the file."""
    ask(chip, SELECT_NDEF)
    return ask(chip, READ_BINARY).data.decode("ascii")


def verified(text: str) -> LinkReading:
    picc = PiccData.opened(KEYS[META], octets(text[P : P + 32]))
    return verify(picc, KEYS[FILE], octets(text[M : M + 16]), mac_input=text[E:M], encrypted=slice(32))


def _where(data: str, text: str) -> slice:
    start = text.index(data.upper())
    return slice(start, start + len(data))


class TestPublished:
    @pytest.mark.parametrize("name", SEALED)
    def test_encrypted_picc_data(self, name: str) -> None:
        given_, expected = VECTORS[name]["inputs"], VECTORS[name]["expected"]
        picc = PiccData.opened(octets(given_["meta_read_key"]), octets(given_["picc_data"]))
        assert picc == PiccData(octets(expected["uid"]), expected["read_counter"])
        data = given_.get("encrypted_file_data")
        reading = verify(
            picc,
            octets(given_["file_read_key"]),
            octets(expected["sdm_mac"]),
            mac_input=given_["mac_input_ascii"],
            encrypted=None if data is None else _where(data, given_["mac_input_ascii"]),
        )
        file_data = expected["file_data_ascii"].encode() if "file_data_ascii" in expected else None
        assert reading == LinkReading(picc.uid, picc.read_counter, file_data, Assurance.CLAIMED)

    def test_plain_uid_and_counter(self) -> None:
        vector = VECTORS["ntag424-sun-sdm-plain-mirror"]
        given_, expected = vector["inputs"], vector["expected"]
        picc = PiccData.mirrored(octets(given_["uid"]), octets(given_["read_counter_bytes_be"]))
        reading = verify(picc, octets(given_["file_read_key"]), octets(expected["sdm_mac"]))
        assert (reading.uid, reading.read_counter) == (octets(given_["uid"]), expected["read_counter"])

    def test_as_the_card(self) -> None:
        """The card that made the printed link makes it again: its counter, its random padding, its keys."""
        given_, expected = (VECTORS["ntag424-sun-sdm-piccdata"][part] for part in ("inputs", "expected"))
        padding = octets(expected["picc_data_plain"])[11:]
        chip = Ntag424Chip(
            octets(expected["uid"]),
            [octets(given_["file_read_key"])] * 5,
            None,
            ndef=TEXT,
            message=WITHOUT_DATA,
            random=lambda count: padding.ljust(count, b"\0"),
        )
        chip._files[2].read_counter = expected["read_counter"] - 1
        ask(chip, SELECT)
        text = link(chip)
        assert text[P : P + 32] == given_["picc_data"]
        assert text[M : M + 16] == expected["sdm_mac"]


class TestVirtualCard:
    def test_each_reading_is_a_link_of_its_own_and_counts(self) -> None:
        chip = tag(WITH_DATA)
        texts = [link(chip) for _ in range(3)]
        readings = [verified(text) for text in texts]
        assert [reading.read_counter for reading in readings] == [1, 2, 3]
        assert {reading.file_data for reading in readings} == {b"sixteen secrets!"}
        assert {reading.uid for reading in readings} == {UID}
        assert len({text[E:] for text in texts}) == 3
        assert "secrets" not in "".join(texts)

    def test_a_tag_that_shows_its_uid_plainly(self) -> None:
        text = link(tag(PLAINLY))
        assert text[P : P + 14] == UID.hex().upper()
        picc = PiccData.mirrored(octets(text[P : P + 14]), octets(text[P + 15 : P + 21]))
        assert verify(picc, KEYS[FILE], octets(text[M : M + 16])) == LinkReading(UID, 1)

    def test_one_reading_in_pieces_is_one_link(self) -> None:
        chip = tag(WITH_DATA)
        pieces = [ask(chip, bytes([0, 0xB0, 0, at, 0x20])).data for at in range(0, 0xA0, 0x20)]
        assert verified(b"".join(pieces).decode()).read_counter == 1

    def test_another_command_in_between_begins_another(self) -> None:
        chip = tag(WITH_DATA)
        for counter, command in enumerate([READ_BINARY, READ_DATA, READ_BINARY, READ_BINARY], start=1):
            last = ask(chip, command)
            assert last.sw in (0x9000, 0x9100)
            assert verified(last.data.decode()).read_counter == min(counter, 3)
        for counter, other in enumerate(["00CA000000", "9060000000", "9099000000"], start=4):
            ask(chip, octets(other))
            while (last := ask(chip, READ_BINARY)).sw == 0x6985:  # GetVersion had more to say
                pass
            assert verified(last.data.decode()).read_counter == counter

    def test_the_counter_outlives_the_field(self) -> None:
        chip = tag(WITHOUT_DATA)
        link(chip)
        chip.reset()
        ask(chip, SELECT)
        assert PiccData.opened(KEYS[META], octets(link(chip)[P : P + 32])).read_counter == 2

    @pytest.mark.parametrize(("limit", "last", "sw"), [(5, 5, 0x919D), (None, 2**24 - 1, 0x911E)])
    def test_the_counter_ends_at_its_limit_or_at_its_end(self, limit: int | None, last: int, sw: int) -> None:
        chip = tag(DynamicMessage(META, FILE, FILE, picc_data_at=P, mac_input_at=M, mac_at=M, limit=limit))
        chip._files[2].read_counter = last - 1
        assert PiccData.opened(KEYS[META], octets(link(chip)[P : P + 32])).read_counter == last
        ask(chip, SELECT_NDEF)
        assert ask(chip, READ_BINARY).sw == 0x6982
        assert ask(chip, READ_DATA).sw == sw

    def test_a_counter_that_is_kept_and_not_shown(self) -> None:
        chip = tag(DynamicMessage(FREE, NEVER, FILE, uid_at=P, counter_at=NOT_MIRRORED))
        assert link(chip) == TEXT.replace(b"0" * 14, UID.hex().upper().encode(), 1).ljust(256, b"\0").decode()
        assert chip._files[2].read_counter == 1

    def test_a_link_of_a_tag_without_a_counter_is_not_taken(self) -> None:
        chip = tag(DynamicMessage(META, FILE, FILE, counter=False, picc_data_at=P, mac_input_at=M, mac_at=M))
        with pytest.raises(LinkError, match="no UID and counter"):
            PiccData.opened(KEYS[META], octets(link(chip)[P : P + 32]))


class TestForged:
    @given(position=st.integers(0, 95), flip=st.integers(1, 15))
    def test_one_digit_changed_anywhere_is_refused(self, position: int, flip: int) -> None:
        text = link(tag(WITH_DATA))
        digits = [*range(P, P + 32), *range(E, E + 32), *range(M, M + 16)]
        at = digits[position % len(digits)]
        other = f"{int(text[at], 16) ^ flip:X}"
        changed = text[:at] + other + text[at + 1 :]
        with pytest.raises(LinkError):
            verified(changed)

    @pytest.mark.parametrize(
        ("where", "why"),
        [(slice(1, 33), "hexadecimal"), (slice(30), "whole blocks"), (slice(500, 532), "whole blocks")],
    )
    def test_data_that_do_not_stand_where_they_are_said_to(self, where: slice, why: str) -> None:
        text = link(tag(WITH_DATA))
        picc = PiccData.opened(KEYS[META], octets(text[P : P + 32]))
        with pytest.raises(LinkError, match=why):
            verify(picc, KEYS[FILE], octets(text[M : M + 16]), mac_input=text[E:M], encrypted=where)

    @pytest.mark.parametrize("counter", [-1, 1 << 24])
    def test_a_counter_that_no_card_has(self, counter: int) -> None:
        with pytest.raises(LinkError, match="counter"):
            PiccData(UID, counter)

    @pytest.mark.parametrize("mac", [b"", bytes(7), bytes(8), bytes(16)])
    def test_a_mac_of_zeros_or_of_another_length(self, mac: bytes) -> None:
        with pytest.raises(LinkForged, match="MAC"):
            verify(PiccData(UID, 1), KEYS[FILE], mac)

    @pytest.mark.parametrize("size", [1, 15, 17])
    def test_encrypted_data_that_are_not_whole_blocks(self, size: int) -> None:
        keys = SessionKeys.of_reading(KEYS[FILE], UID, b"\x01\0\0")
        text = bytes(size).hex()
        mac = ev2.truncated(ev2.cmac(keys.mac, text.encode()))
        with pytest.raises(LinkError, match="whole blocks"):
            verify(PiccData(UID, 1), KEYS[FILE], mac, mac_input=text, encrypted=slice(len(text)))

    def test_keys_are_wiped_whatever_comes_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[SessionKeys] = []

        def spy(key: bytes, uid: bytes, counter: bytes) -> SessionKeys:
            made.append(SessionKeys(bytearray(ev2.cmac(key, uid)), bytearray(ev2.cmac(key, counter))))
            return made[-1]

        monkeypatch.setattr("validator.sdm.SessionKeys.of_reading", spy)
        with pytest.raises(LinkForged):
            verify(PiccData(UID, 1), KEYS[FILE], bytes(8))
        mac = ev2.truncated(ev2.cmac(ev2.cmac(KEYS[FILE], b"\x01\0\0"), b""))
        verify(PiccData(UID, 1), KEYS[FILE], mac)
        assert [(keys.encryption, keys.mac) for keys in made] == [(bytearray(16), bytearray(16))] * 2

    def test_another_cards_key(self) -> None:
        text = link(tag(WITHOUT_DATA))
        picc = PiccData.opened(KEYS[META], octets(text[P : P + 32]))
        with pytest.raises(LinkForged):
            verify(picc, KEYS[3], octets(text[M : M + 16]))

    def test_text_that_is_not_ascii(self) -> None:
        with pytest.raises(LinkError, match="ASCII"):
            verify(PiccData(UID, 1), KEYS[FILE], bytes(8), mac_input="pääsukene")

    @hostile
    @given(noise=st.binary(max_size=40))
    def test_noise_for_picc_data(self, noise: bytes) -> None:
        try:
            picc = PiccData.opened(KEYS[META], noise)
        except LinkError:
            return
        assert len(noise) == 16
        with pytest.raises(LinkForged):
            verify(picc, KEYS[FILE], bytes(8))

    @given(uid=st.binary(max_size=9), counter=st.binary(max_size=5))
    def test_plain_fields_have_their_lengths(self, uid: bytes, counter: bytes) -> None:
        if (len(uid), len(counter)) == (7, 3):
            assert PiccData.mirrored(uid, counter) == PiccData(uid, int.from_bytes(counter))
            return
        with pytest.raises(LinkError):
            PiccData.mirrored(uid, counter)


class TestCounterRule:
    @given(counters=st.lists(st.integers(1, 20), max_size=30), uids=st.lists(st.sampled_from([UID, bytes(7)])))
    def test_what_is_accepted_grows_strictly_for_each_card(self, counters: list[int], uids: list[bytes]) -> None:
        last: dict[bytes, int] = {}
        accepted: dict[bytes, list[int]] = {UID: [], bytes(7): []}
        rule = CounterRule(last.get)
        for counter, uid in zip(counters, uids, strict=False):
            if rule.accepts(LinkReading(uid, counter)):
                last[uid] = counter
                accepted[uid].append(counter)
            else:
                assert counter <= last[uid]
        for history in accepted.values():
            assert history == sorted(set(history))

    @pytest.mark.parametrize(("last", "accepted"), [(None, True), (60, True), (61, False), (62, False)])
    def test_a_link_is_accepted_once_and_never_after_a_newer_one(self, last: int | None, *, accepted: bool) -> None:
        assert CounterRule(lambda _uid: last).accepts(LinkReading(UID, 61)) is accepted

    def test_two_places_that_share_nothing_each_accept_it(self) -> None:
        """Why a link claims and does not prove."""
        reading = verified(link(tag(WITH_DATA)))
        here: dict[bytes, int] = {}
        there: dict[bytes, int] = {}
        assert all(CounterRule(place.get).accepts(reading) for place in (here, there))
        assert reading.assurance is Assurance.CLAIMED
