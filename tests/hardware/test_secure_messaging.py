"""Secure messaging with AES: published runs in both roles, the round trip, and everything that is refused.

What is sealed wrongly on purpose is sealed by a second hand: CMAC over the octets that the standard says.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import ApduError, CommandApdu, ResponseApdu
from hardware.secure_messaging import MAX_COMMAND_DATA, SecureChannel, SecureMessagingError
from tests.hostile import hostile

VECTORS = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "pace.json").read_text())["vectors"]
}
ICAO = VECTORS["icao-9303-11-g1-pace-ecdh-gm-aes128-brainpoolp256r1"]
AES_256 = VECTORS["pace-ecdh-gm-aes256-secp256r1-and-secure-messaging"]

ENC, MAC = bytes(range(16)), bytes(range(16, 32))
KEY_BYTES = st.sampled_from([16, 24, 32])
CLASSES = st.sampled_from([0x00, 0x10, 0x01, 0x13, 0x80, 0x90, 0xB3])
BYTE = st.integers(0, 255)
LE = st.none() | st.integers(1, 256) | st.sampled_from([257, 4096, 65535, 65536])
COMMANDS = st.builds(CommandApdu, CLASSES, BYTE, BYTE, BYTE, st.binary(max_size=MAX_COMMAND_DATA), LE)
SHORT_LE = st.none() | st.integers(1, 256)
SHORT_COMMANDS = st.builds(CommandApdu, CLASSES, BYTE, BYTE, BYTE, st.binary(max_size=MAX_COMMAND_DATA), SHORT_LE)
WORDS = st.sampled_from([0x9000, 0x6282, 0x6300, 0x63C2, 0x6982, 0x6A82, 0x6B00, 0x6D00])
RESPONSES = st.builds(ResponseApdu, st.binary(max_size=300), WORDS)
READ = CommandApdu(0x00, 0xB0, 0x00, 0x00, le=256)
OK = b"\x99\x02\x90\x00"


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def channel(key_bytes: int = 16, ssc: int = 0) -> SecureChannel:
    return SecureChannel((ENC + MAC)[:key_bytes], (MAC + ENC)[:key_bytes], ssc)


def of_vector(vector: Any) -> SecureChannel:
    return SecureChannel(octets(vector["expected"]["KS_enc"]), octets(vector["expected"]["KS_mac"]))


def padded(message: bytes) -> bytes:
    message += b"\x80"
    return message + bytes(-len(message) % 16)


def cryptogram(ssc: int, plain: bytes) -> bytes:
    """Encrypt what is padded already, under `ENC`."""
    ecb = Cipher(algorithms.AES(ENC), modes.ECB()).encryptor()
    encryptor = Cipher(algorithms.AES(ENC), modes.CBC(ecb.update(ssc.to_bytes(16)))).encryptor()
    return encryptor.update(plain)


def sealed(ssc: int, objects: bytes, header: bytes = b"") -> bytes:
    """Objects and a checksum that is right for them, under `MAC`."""
    mac = CMAC(algorithms.AES(MAC))
    mac.update(ssc.to_bytes(16) + (padded(header) if header else b"") + (padded(objects) if objects else b""))
    return objects + b"\x8e\x08" + mac.finalize()[:8]


def framed(message: bytes, le: int | None = None) -> CommandApdu:
    """A command of its header and its data."""
    return CommandApdu(message[0], message[1], message[2], message[3], message[4:], le)


def asked() -> SecureChannel:
    """A terminal that sent its first command and waits for the answer, whose counter is 2."""
    terminal = channel()
    terminal.seal_command(READ)
    return terminal


class TestVectors:
    def test_the_first_command_of_icao_in_both_roles(self) -> None:
        plain = CommandApdu.from_bytes(octets(ICAO["inputs"]["first_sm_plain_command"]))
        protected = octets(ICAO["expected"]["first_sm_protected_command"])
        answer = ResponseApdu.from_bytes(octets(ICAO["expected"]["first_sm_response"]))
        terminal, card = of_vector(ICAO), of_vector(ICAO)
        assert bytes(terminal.seal_command(plain)) == protected
        assert card.open_command(CommandApdu.from_bytes(protected)) == plain
        assert card.seal_response(ResponseApdu(b"", 0x9000)) == answer
        assert terminal.open_response(answer) == ResponseApdu(b"", 0x9000)

    def test_the_run_with_aes_256_in_both_roles(self) -> None:
        terminal, card = of_vector(AES_256), of_vector(AES_256)
        steps = zip(
            AES_256["inputs"]["sm_plain_commands"],
            AES_256["expected"]["sm_protected_commands"],
            AES_256["inputs"]["sm_card_responses"],
            AES_256["expected"]["sm_plain_responses"],
            strict=True,
        )
        for command, protected, response, opened in steps:
            plain = CommandApdu.from_bytes(octets(command))
            answer = ResponseApdu(octets(opened["data"]), int(opened["sw"], 16))
            assert bytes(terminal.seal_command(plain)) == octets(protected)
            assert card.open_command(CommandApdu.from_bytes(octets(protected))) == plain
            assert bytes(card.seal_response(answer)) == octets(response)
            assert terminal.open_response(ResponseApdu.from_bytes(octets(response))) == answer


class TestRoundTrip:
    @given(
        talk=st.lists(st.tuples(COMMANDS, RESPONSES), min_size=1, max_size=4),
        key_bytes=KEY_BYTES,
        ssc=st.integers(0, 2**128 - 1),
    )
    def test_what_is_sealed_opens_to_itself(
        self, talk: list[tuple[CommandApdu, ResponseApdu]], key_bytes: int, ssc: int
    ) -> None:
        terminal, card = channel(key_bytes, ssc), channel(key_bytes, ssc)
        for command, response in talk:
            on_air = terminal.seal_command(command)
            assert on_air.cla == command.cla | 0x0C
            assert card.open_command(on_air) == command
            assert terminal.open_response(card.seal_response(response)) == response
        assert terminal.alive
        assert card.alive

    @given(command=SHORT_COMMANDS)
    def test_what_fits_a_short_command_still_does(self, command: CommandApdu) -> None:
        on_air = channel().seal_command(command)
        assert CommandApdu.from_bytes(bytes(on_air)) == on_air

    @given(command=COMMANDS)
    def test_the_same_command_is_never_sealed_alike(self, command: CommandApdu) -> None:
        terminal = channel()
        first, second = terminal.seal_command(command), terminal.seal_command(command)
        assert first.data != second.data

    @pytest.mark.parametrize("cla", [0x0C, 0x04, 0x08, 0x40, 0x60, 0xC0, 0xFF])
    def test_a_class_that_cannot_be_secured_costs_no_count(self, cla: int) -> None:
        terminal, card = channel(), channel()
        with pytest.raises(ApduError, match="cannot be secured"):
            terminal.seal_command(CommandApdu(cla, 0xB0, 0, 0))
        assert card.open_command(terminal.seal_command(READ)) == READ

    def test_more_data_than_fits_costs_no_count(self) -> None:
        terminal, card = channel(), channel()
        with pytest.raises(ApduError, match="chain them"):
            terminal.seal_command(CommandApdu(0, 0xDB, 0, 0, bytes(MAX_COMMAND_DATA + 1)))
        assert card.open_command(terminal.seal_command(READ)) == READ

    def test_the_forms_of_an_object_by_instruction(self) -> None:
        """87 with its padding indicator where the instruction is even, 85 without where it is odd."""
        even = channel().seal_command(CommandApdu(0x00, 0xCA, 0x3F, 0xFF, bytes(3), 256)).data
        odd = channel().seal_command(CommandApdu(0x00, 0xCB, 0x3F, 0xFF, bytes(3), 256)).data
        assert (even[:3], even[19:22]) == (b"\x87\x11\x01", b"\x97\x01\x00")
        assert (odd[:2], odd[18:21]) == (b"\x85\x10", b"\x97\x01\x00")

    def test_a_command_without_data_and_le_is_its_checksum(self) -> None:
        """Nothing follows the padded header then, not even padding."""
        header = bytes([0x0C, 0x20, 0x00, 0x81])
        on_air = channel().seal_command(CommandApdu(0x00, 0x20, 0x00, 0x81))
        assert on_air.data == sealed(1, b"", header)
        assert bytes(on_air)[-1:] == b"\x00"

    def test_an_odd_instruction_is_answered_with_either_object(self) -> None:
        """The standard says 85; cards were seen to answer 87 to everything."""
        for objects in (b"\x85\x10" + cryptogram(2, padded(b"x")), b"\x87\x11\x01" + cryptogram(2, padded(b"x"))):
            terminal = channel()
            terminal.seal_command(CommandApdu(0x00, 0xCB, 0x3F, 0xFF, le=256))
            answer = ResponseApdu(sealed(2, objects + OK), 0x9000)
            assert terminal.open_response(answer) == ResponseApdu(b"x", 0x9000)

    def test_a_length_of_more_bytes_than_needed_is_read_as_it_came(self) -> None:
        objects = b"\x87\x81\x11\x01" + cryptogram(2, padded(b"x")) + OK
        assert asked().open_response(ResponseApdu(sealed(2, objects), 0x9000)).data == b"x"

    def test_a_sealed_error_counts_and_the_word_beside_it_may_be_9000(self) -> None:
        answer = sealed(2, b"\x99\x02\x6a\x82")
        for outer in (0x6A82, 0x9000):
            assert asked().open_response(ResponseApdu(answer, outer)) == ResponseApdu(b"", 0x6A82)


class TestFlippedBits:
    @given(command=COMMANDS, at=st.integers(0, 2**16), bit=st.integers(0, 7))
    def test_of_a_sealed_command(self, command: CommandApdu, at: int, bit: int) -> None:
        card, on_air = channel(), channel().seal_command(command)
        message = bytearray([on_air.cla, on_air.ins, on_air.p1, on_air.p2, *on_air.data])
        message[at % len(message)] ^= 1 << bit
        with pytest.raises(SecureMessagingError):
            card.open_command(framed(bytes(message), on_air.le))
        assert not card.alive

    @given(command=COMMANDS, response=RESPONSES, at=st.integers(0, 2**16), bit=st.integers(0, 7))
    def test_of_a_sealed_answer(self, command: CommandApdu, response: ResponseApdu, at: int, bit: int) -> None:
        terminal, card = channel(), channel()
        card.open_command(terminal.seal_command(command))
        message = bytearray(bytes(card.seal_response(response)))
        message[at % len(message)] ^= 1 << bit
        with pytest.raises(SecureMessagingError):
            terminal.open_response(ResponseApdu.from_bytes(bytes(message)))
        assert not terminal.alive

    @hostile
    @given(data=st.binary(max_size=300), sw=st.integers(0, 0xFFFF))
    def test_any_answer_at_all(self, data: bytes, sw: int) -> None:
        terminal = asked()
        with pytest.raises(SecureMessagingError):
            terminal.open_response(ResponseApdu(data, sw))
        assert not terminal.alive

    @hostile
    @given(cla=BYTE, ins=BYTE, p1=BYTE, p2=BYTE, data=st.binary(max_size=255))
    def test_any_command_at_all(self, cla: int, ins: int, p1: int, p2: int, data: bytes) -> None:
        card = channel()
        with pytest.raises(SecureMessagingError):
            card.open_command(CommandApdu(cla, ins, p1, p2, data))
        assert not card.alive

    @hostile
    @given(objects=st.binary(max_size=64), sw=WORDS)
    def test_any_objects_under_a_right_checksum(self, objects: bytes, sw: int) -> None:
        """Even who has the keys gets nothing but a plain answer or a refusal out of it."""
        terminal = asked()
        try:
            opened = terminal.open_response(ResponseApdu(sealed(2, objects), sw))
        except SecureMessagingError:
            assert not terminal.alive
        else:
            assert opened.sw == int.from_bytes(objects[-2:])

    @hostile
    @given(objects=st.binary(max_size=64))
    def test_any_objects_of_a_command_under_a_right_checksum(self, objects: bytes) -> None:
        card, header = channel(), bytes([0x0C, 0xCB, 0x00, 0x00])
        try:
            card.open_command(framed(header + sealed(1, objects, header)))
        except SecureMessagingError:
            assert not card.alive


BLOCK = cryptogram(2, padded(b"abc"))
CRYPTOGRAM = b"\x87\x11\x01" + BLOCK

#: Answers to the first command whose checksum is right, and whose objects are not.
WRONG_OBJECTS = {
    "nothing but the checksum": b"",
    "no status": CRYPTOGRAM,
    "status before the cryptogram": OK + CRYPTOGRAM,
    "two cryptograms": CRYPTOGRAM + CRYPTOGRAM + OK,
    "two statuses": OK + OK,
    "both kinds of cryptogram": CRYPTOGRAM + b"\x85\x10" + BLOCK + OK,
    "an object that nobody knows": CRYPTOGRAM + b"\x81\x01\x00" + OK,
    "a plain value": b"\x81\x03abc" + OK,
    "the cryptogram of an odd instruction": b"\x85\x10" + BLOCK + OK,
    "a status of one byte": CRYPTOGRAM + b"\x99\x01\x90",
    "a status of three bytes": b"\x99\x03\x90\x00\x00",
    "an empty status": b"\x99\x00",
    "an Le": b"\x97\x01\x00" + OK,
    "an empty cryptogram": b"\x87\x00" + OK,
    "a padding indicator alone": b"\x87\x01\x01" + OK,
    "another padding indicator": b"\x87\x11\x02" + BLOCK + OK,
    "half a block": b"\x87\x09\x01" + BLOCK[:8] + OK,
    "no padding": b"\x87\x11\x01" + cryptogram(2, b"0123456789abcdef") + OK,
    "zeros for padding": b"\x87\x11\x01" + cryptogram(2, bytes(16)) + OK,
    "a length beyond the end": b"\x87\x7f\x01" + BLOCK + OK,
    "a checksum within": b"\x8e\x08" + bytes(8) + OK,
}


class TestRefused:
    @pytest.mark.parametrize("objects", WRONG_OBJECTS.values(), ids=WRONG_OBJECTS)
    def test_wrong_objects_under_a_right_checksum(self, objects: bytes) -> None:
        terminal = asked()
        with pytest.raises(SecureMessagingError):
            terminal.open_response(ResponseApdu(sealed(2, objects), 0x9000))
        assert not terminal.alive

    @pytest.mark.parametrize(
        "message",
        [
            CRYPTOGRAM + OK,  # the checksum is missing
            CRYPTOGRAM + OK + b"\x8e\x00",
            CRYPTOGRAM + OK + b"\x8e\x08" + bytes(8),
            sealed(2, CRYPTOGRAM + OK)[:-1],
            sealed(2, CRYPTOGRAM + OK) + b"\x00",
            sealed(2, CRYPTOGRAM + OK) + sealed(2, OK)[-10:],
            sealed(2, CRYPTOGRAM + OK)[-10:] + CRYPTOGRAM + OK,
            sealed(1, CRYPTOGRAM + OK),
            sealed(3, CRYPTOGRAM + OK),
            sealed(0, CRYPTOGRAM + OK),
            sealed(2, CRYPTOGRAM + OK, bytes(4)),
        ],
        ids=[
            "no checksum",
            "empty checksum",
            "zeros",
            "cut short",
            "one byte more",
            "two checksums",
            "checksum first",
            "the counter of the command",
            "the counter of the next command",
            "the counter of no message",
            "the checksum of a command",
        ],
    )
    def test_wrong_checksums(self, message: bytes) -> None:
        terminal = asked()
        with pytest.raises(SecureMessagingError):
            terminal.open_response(ResponseApdu(message, 0x9000))
        assert not terminal.alive

    @pytest.mark.parametrize("sw", [0x9000, 0x6700, 0x6982, 0x6987, 0x6988, 0x6A82])
    def test_a_plain_answer_names_its_status_word(self, sw: int) -> None:
        terminal = asked()
        with pytest.raises(SecureMessagingError) as refused:
            terminal.open_response(ResponseApdu(b"", sw))
        assert refused.value.sw == sw
        assert ("dropped the session" in str(refused.value)) is (sw in (0x6987, 0x6988))

    def test_a_plain_answer_with_data_does_not_repeat_it(self) -> None:
        with pytest.raises(SecureMessagingError) as refused:
            asked().open_response(ResponseApdu(b"38001085718", 0x9000))
        assert "38001085718" not in str(refused.value)

    def test_another_status_word_beside_the_sealed_one(self) -> None:
        with pytest.raises(SecureMessagingError, match="differs"):
            asked().open_response(ResponseApdu(sealed(2, OK), 0x6A82))

    def test_an_earlier_answer_again(self) -> None:
        terminal, card = channel(), channel()
        card.open_command(terminal.seal_command(READ))
        first = card.seal_response(ResponseApdu(b"one", 0x9000))
        terminal.open_response(first)
        terminal.seal_command(READ)
        with pytest.raises(SecureMessagingError, match="checksum"):
            terminal.open_response(first)

    def test_an_earlier_command_again(self) -> None:
        terminal, card = channel(), channel()
        first = terminal.seal_command(READ)
        card.open_command(first)
        card.seal_response(ResponseApdu(b"", 0x9000))
        with pytest.raises(SecureMessagingError, match="checksum"):
            card.open_command(first)

    def test_a_command_as_its_own_answer(self) -> None:
        terminal = channel()
        echoed = terminal.seal_command(READ)
        with pytest.raises(SecureMessagingError):
            terminal.open_response(ResponseApdu(echoed.data, 0x9000))

    @pytest.mark.parametrize(
        "objects",
        [
            b"\x97\x01\x00\x87\x11\x01" + cryptogram(1, padded(b"")),
            b"\x97\x01\x00\x97\x01\x00",
            b"\x97\x00",
            b"\x97\x03\x00\x01\x00",
            OK,
            b"\x85\x10" + cryptogram(1, padded(b"")),
        ],
        ids=["Le first", "two Le", "empty Le", "long Le", "a status", "an odd instruction's object"],
    )
    def test_wrong_objects_of_a_command(self, objects: bytes) -> None:
        card, header = channel(), bytes([0x0C, 0xA4, 0x00, 0x00])
        with pytest.raises(SecureMessagingError):
            card.open_command(framed(header + sealed(1, objects, header)))
        assert not card.alive

    def test_a_plain_command(self) -> None:
        card = channel()
        with pytest.raises(SecureMessagingError, match="not sealed"):
            card.open_command(READ)
        assert not card.alive


class TestDead:
    @pytest.mark.parametrize(
        "use",
        [
            lambda dead: dead.seal_command(READ),
            lambda dead: dead.open_response(ResponseApdu(sealed(2, OK), 0x9000)),
            lambda dead: dead.open_command(channel().seal_command(READ)),
            lambda dead: dead.seal_response(ResponseApdu(b"", 0x9000)),
        ],
        ids=["seal_command", "open_response", "open_command", "seal_response"],
    )
    def test_nothing_goes_after_the_first_error(self, use: Callable[[SecureChannel], object]) -> None:
        dead = channel()
        with pytest.raises(SecureMessagingError):
            dead.open_response(ResponseApdu(b"", 0x6988))
        with pytest.raises(SecureMessagingError, match="over"):
            use(dead)

    def test_keys_are_copied_and_overwritten(self) -> None:
        key = bytearray(ENC)
        wiped = SecureChannel(key, MAC)
        wiped.wipe()
        assert not any(wiped._enc_key + wiped._mac_key)
        assert key == ENC
        assert not wiped.alive
