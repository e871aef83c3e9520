"""EV2 secure messaging: both ends agree on whatever is said, notice whatever was touched, and repeat NXP's examples."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import ev2
from hardware.ev2 import CardAnswer, CommMode, Ev2Error, Session, SessionKeys

VECTORS: dict[str, dict[str, Any]] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent.parent / "vectors" / "ntag424.json").read_text())["vectors"]
}
AUTHENTICATIONS = [name for name in VECTORS if "authenticateev2" in name]
COMMANDS = [name for name, vector in VECTORS.items() if vector.get("kind") == "command"]

BLOCK = st.binary(min_size=16, max_size=16)
MODE = st.sampled_from(list(CommMode))
PROTECTED = st.sampled_from([CommMode.MAC, CommMode.FULL])
INS = st.integers(0, 255)
HEADER, DATA = st.binary(max_size=7), st.binary(max_size=80)


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def ends(key: bytes = bytes(16), counter: int = 0) -> tuple[Session, Session]:
    """Gate and card after an authentication."""
    pair = [Session(SessionKeys.of_challenges(key, bytes(16), bytes(16)), b"TITI", counter) for _ in range(2)]
    return pair[0], pair[1]


class TestLaws:
    @given(data=DATA)
    def test_padding_comes_off_again_and_is_never_a_block_too_many(self, data: bytes) -> None:
        blocks = ev2.padded(data)
        assert ev2.unpadded(blocks) == data
        assert len(blocks) % 16 == 0
        assert 0 < len(blocks) - len(data) <= 16

    @given(blocks=st.binary(max_size=48))
    def test_what_comes_off_was_padding_or_is_refused(self, blocks: bytes) -> None:
        try:
            data = ev2.unpadded(blocks)
        except Ev2Error:
            return
        assert blocks.startswith(data + b"\x80")
        assert set(blocks[len(data) + 1 :]) <= {0}

    @given(key=BLOCK, blocks=st.lists(BLOCK, min_size=1, max_size=5).map(b"".join), iv=BLOCK)
    def test_what_is_encrypted_decrypts(self, key: bytes, blocks: bytes, iv: bytes) -> None:
        assert ev2.decrypt(bytearray(key), ev2.encrypt(key, blocks, iv), iv) == blocks

    @given(challenge=BLOCK)
    def test_sixteen_rotations_change_nothing_and_one_moves_the_first_byte(self, challenge: bytes) -> None:
        turned = challenge
        for _ in range(16):
            turned = ev2.rotated(turned)
        assert turned == challenge
        assert ev2.rotated(challenge) == challenge[1:] + challenge[:1]

    @given(key=BLOCK, rnd_a=BLOCK, rnd_b=BLOCK, identifier=st.binary(min_size=4, max_size=4))
    def test_both_cryptograms_open_for_who_has_the_key(
        self, key: bytes, rnd_a: bytes, rnd_b: bytes, identifier: bytes
    ) -> None:
        opened = ev2.open_gate_cryptogram(key, ev2.gate_cryptogram(key, rnd_a, rnd_b))
        assert opened == (rnd_a, ev2.rotated(rnd_b))
        answer = CardAnswer(identifier, ev2.rotated(rnd_a))
        assert CardAnswer.opened(key, answer.sealed(key)) == answer

    @given(
        key=BLOCK,
        talk=st.lists(st.tuples(MODE, INS, HEADER, DATA, DATA), max_size=6),
        counter=st.integers(0, 100),
    )
    def test_both_ends_hear_what_the_other_said_in_any_mode_and_order(
        self, key: bytes, talk: list[tuple[CommMode, int, bytes, bytes, bytes]], counter: int
    ) -> None:
        gate, card = ends(key, counter)
        for mode, ins, header, said, answered in talk:
            command = gate.seal_command(mode, ins, header, said)
            assert (command.cla, command.ins, command.p1, command.p2, command.le) == (0x90, ins, 0, 0, 256)
            assert card.open_command(mode, ins, command.data, len(header)) == (header, said)
            assert gate.open_response(mode, card.seal_response(mode, answered)) == answered
        assert gate.counter == card.counter == counter + len(talk)

    @given(mode=PROTECTED, ins=INS, header=HEADER, data=DATA, position=st.integers(0), flip=st.integers(1, 255))
    def test_a_command_that_was_touched_is_refused(
        self, mode: CommMode, ins: int, header: bytes, data: bytes, *, position: int, flip: int
    ) -> None:
        gate, card = ends()
        field = bytearray(gate.seal_command(mode, ins, header, data).data)
        field[position % len(field)] ^= flip
        with pytest.raises(Ev2Error, match="MAC"):
            card.open_command(mode, ins, bytes(field), len(header))
        assert card.counter == 0

    @given(mode=PROTECTED, data=DATA, position=st.integers(0), flip=st.integers(1, 255))
    def test_an_answer_that_was_touched_is_refused(self, mode: CommMode, data: bytes, position: int, flip: int) -> None:
        gate, card = ends()
        field = bytearray(card.seal_response(mode, data))
        field[position % len(field)] ^= flip
        with pytest.raises(Ev2Error, match="MAC"):
            gate.open_response(mode, bytes(field))

    @given(mode=PROTECTED, ins=INS, data=DATA, plain=st.integers(0, 3))
    def test_nothing_can_be_repeated_left_out_or_put_in(
        self, mode: CommMode, ins: int, data: bytes, plain: int
    ) -> None:
        gate, card = ends()
        first = gate.seal_command(mode, ins, b"", data)
        card.open_command(mode, ins, first.data, 0)
        with pytest.raises(Ev2Error):
            card.open_command(mode, ins, first.data, 0)
        for _ in range(1 + plain):  # commands that the card never sees: plain ones count as well
            gate.seal_command(CommMode.PLAIN, ins)
        with pytest.raises(Ev2Error):
            card.open_command(mode, ins, gate.seal_command(mode, ins, b"", data).data, 0)

    @given(mode=PROTECTED, ins=INS, data=DATA, one=BLOCK, other=BLOCK)
    def test_another_keys_session_opens_nothing(
        self, mode: CommMode, ins: int, data: bytes, one: bytes, other: bytes
    ) -> None:
        (gate, _), (_, card) = ends(one), ends(other)
        field = gate.seal_command(mode, ins, b"", data).data
        if one == other:
            card.open_command(mode, ins, field, 0)
            return
        with pytest.raises(Ev2Error):
            card.open_command(mode, ins, field, 0)

    @given(mode=MODE, ins=INS, field=st.binary(max_size=60), header=st.integers(0, 7))
    def test_arbitrary_fields_are_refused_or_plain(self, mode: CommMode, ins: int, field: bytes, header: int) -> None:
        gate, card = ends()
        try:
            heard = card.open_command(mode, ins, field, header)
        except Ev2Error:
            heard = None
        assert heard is None or (mode is CommMode.PLAIN and b"".join(heard) == field)
        try:
            answer = gate.open_response(mode, field)
        except Ev2Error:
            return
        assert mode is CommMode.PLAIN
        assert answer == field


class TestCases:
    @pytest.mark.parametrize("size", [0, 1, 15, 17, 31])
    def test_parts_of_blocks_are_neither_encrypted_nor_decrypted(self, size: int) -> None:
        for work in (ev2.encrypt, ev2.decrypt):
            with pytest.raises(Ev2Error, match=f"{size} bytes"):
                work(bytes(16), bytes(size))

    @pytest.mark.parametrize("size", [16, 48])
    def test_cryptograms_have_32_bytes(self, size: int) -> None:
        with pytest.raises(Ev2Error, match=f"{size} bytes"):
            ev2.open_gate_cryptogram(bytes(16), bytes(size))
        with pytest.raises(Ev2Error, match=f"{size} bytes"):
            CardAnswer.opened(bytes(16), bytes(size))

    @pytest.mark.parametrize("blocks", [b"", bytes(16), b"\x80" + bytes(16), b"\x01" + bytes(15)])
    def test_what_is_no_padding(self, blocks: bytes) -> None:
        with pytest.raises(Ev2Error, match="padding"):
            ev2.unpadded(blocks)

    def test_the_counter_ends_a_session_and_never_wraps(self) -> None:
        gate, card = ends(counter=ev2.MAX_COUNTER)
        for end, say in ((gate, lambda: gate.seal_command(CommMode.PLAIN, 0)), (card, lambda: hear(card))):
            with pytest.raises(Ev2Error, match="end"):
                say()
            assert end.counter == ev2.MAX_COUNTER

    @pytest.mark.parametrize("mode", list(CommMode))
    def test_a_command_shorter_than_its_header_is_refused(self, mode: CommMode) -> None:
        gate, card = ends()
        field = gate.seal_command(mode, 0xAD, bytes(6)).data
        with pytest.raises(Ev2Error, match="6 bytes"):
            card.open_command(mode, 0xAD, field, 7)

    def test_wiped_keys_are_zero_and_sign_for_nobody(self) -> None:
        keys = SessionKeys.of_challenges(bytes(16), bytes(16), bytes(16))
        gate, (_, card) = Session(keys, b"TITI"), ends()
        gate.wipe()
        assert (keys.encryption, keys.mac) == (bytearray(16), bytearray(16))
        with pytest.raises(Ev2Error):
            card.open_command(CommMode.MAC, 1, gate.seal_command(CommMode.MAC, 1).data, 0)

    def test_the_two_keys_of_a_session_differ(self) -> None:
        keys = SessionKeys.of_challenges(bytes(16), bytes(16), bytes(16))
        assert keys.encryption != keys.mac


def hear(card: Session) -> tuple[bytes, bytes]:
    return card.open_command(CommMode.PLAIN, 0, b"", 0)


class TestPublished:
    """AN12196, byte for byte, in both roles."""

    @pytest.mark.parametrize("name", AUTHENTICATIONS)
    def test_authentication_as_the_gate(self, name: str) -> None:
        given_, expected = VECTORS[name]["inputs"], VECTORS[name]["expected"]
        key, rnd_a = octets(given_["key"]), octets(given_["rnda"])
        first = "nonfirst" not in name
        ins, header = (0x71, [given_["key_number"], 0]) if first else (0x77, [given_["key_number"]])
        assert bytes(ev2.native(ins, bytes(header))) == octets(expected["first_command"])
        rnd_b = ev2.decrypt(key, octets(given_["e_rndb"]))
        assert rnd_b == octets(expected["rndb"])
        assert ev2.gate_cryptogram(key, rnd_a, rnd_b) == octets(expected["part2_data"])
        answer = octets(given_["card_final_response_data"])
        if first:
            opened = CardAnswer.opened(key, answer)
            assert opened.identifier == octets(expected["ti"])
            assert opened.rnd_a_rotated == octets(expected["rnda_rotated"]) == ev2.rotated(rnd_a)
            assert opened.card_capabilities == octets(expected["pdcap2"])
            assert opened.gate_capabilities == octets(expected["pcdcap2"])
        else:
            assert ev2.decrypt(key, answer) == octets(expected["rnda_rotated"]) == ev2.rotated(rnd_a)
        keys = SessionKeys.of_challenges(key, rnd_a, rnd_b)
        assert keys.encryption == octets(expected["ses_auth_enc_key"])
        assert keys.mac == octets(expected["ses_auth_mac_key"])

    @pytest.mark.parametrize("name", AUTHENTICATIONS)
    def test_authentication_as_the_card(self, name: str) -> None:
        given_, expected = VECTORS[name]["inputs"], VECTORS[name]["expected"]
        key, rnd_a, rnd_b = octets(given_["key"]), octets(given_["rnda"]), octets(expected["rndb"])
        assert ev2.encrypt(key, rnd_b) == octets(given_["e_rndb"])
        assert ev2.open_gate_cryptogram(key, octets(expected["part2_data"])) == (rnd_a, ev2.rotated(rnd_b))
        rotated = ev2.rotated(rnd_a)
        answer = (
            CardAnswer(octets(expected["ti"]), rotated).sealed(key) if "ti" in expected else ev2.encrypt(key, rotated)
        )
        assert answer == octets(given_["card_final_response_data"])

    @pytest.mark.parametrize("name", COMMANDS)
    def test_command_as_the_gate(self, name: str) -> None:
        given_, expected = VECTORS[name]["inputs"], VECTORS[name]["expected"]
        mode, session = CommMode[given_["mode"]], session_of(given_)
        ins, header, data = int(given_["ins"], 16), octets(given_["header"]), octets(given_["data"])
        assert bytes(session.seal_command(mode, ins, header, data)) == octets(expected["command"])
        response = octets(given_["response"])
        assert response[-2:] == b"\x91\x00"
        assert session.open_response(mode, response[:-2]) == octets(expected["response_data"])

    @pytest.mark.parametrize("name", COMMANDS)
    def test_command_as_the_card(self, name: str) -> None:
        given_, expected = VECTORS[name]["inputs"], VECTORS[name]["expected"]
        mode, session = CommMode[given_["mode"]], session_of(given_)
        ins, header, data = int(given_["ins"], 16), octets(given_["header"]), octets(given_["data"])
        sent = octets(expected["command"])
        field = sent[5:-1] if len(sent) > 5 else b""
        assert session.open_command(mode, ins, field, len(header)) == (header, data)
        assert session.seal_response(mode, octets(expected["response_data"])) == octets(given_["response"])[:-2]

    def test_session_vectors_are_the_printed_ones(self) -> None:
        """The keys follow from SV1 and SV2 as they are printed, by CMAC alone."""
        vector = VECTORS["ntag424-authenticateev2first-key0"]
        key, expected = octets(vector["inputs"]["key"]), vector["expected"]
        assert ev2.cmac(key, octets(expected["sv1"])) == octets(expected["ses_auth_enc_key"])
        assert ev2.cmac(key, octets(expected["sv2"])) == octets(expected["ses_auth_mac_key"])

    def test_change_of_the_key_that_opened_the_session(self) -> None:
        vector = VECTORS["ntag424-changekey-full-key0"]
        given_, session = vector["inputs"], session_of(vector["inputs"])
        data = octets(given_["new_key"]) + bytes([given_["key_version"]])
        command = session.seal_command(CommMode.FULL, 0xC4, b"\x00", data)
        assert bytes(command) == octets(vector["expected"]["command"])


def session_of(given_: dict[str, Any]) -> Session:
    keys = SessionKeys(bytearray(octets(given_["enc_key"])), bytearray(octets(given_["mac_key"])))
    return Session(keys, octets(given_["ti"]), given_["counter"])
