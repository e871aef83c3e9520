"""APDUs: what is encoded is decoded, any bytes end in a value or ApduError, and exchanges end within bounds."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.apdu import (
    CHAINING,
    INS_GET_RESPONSE,
    MAX_RESPONSE_APDUS,
    MAX_RESPONSE_BYTES,
    SW,
    ApduError,
    ApduExchange,
    CommandApdu,
    ResponseApdu,
    drain,
    exchange,
    send,
)

BYTES = st.integers(0, 255)
PLAIN_CLASSES = BYTES.map(lambda cla: cla & ~CHAINING)
HEADERS = {"cla": BYTES, "ins": BYTES, "p1": BYTES, "p2": BYTES}
SHORT_LES = st.none() | st.integers(1, 256)
COMMANDS = st.builds(CommandApdu, **HEADERS, data=st.binary(max_size=255), le=SHORT_LES)
RESPONSES = st.builds(ResponseApdu, st.binary(max_size=256), st.integers(0, 0xFFFF))
GET_DATA = CommandApdu(0x00, 0xCB, 0x3F, 0xFF, b"\x5c\x03\x5f\xc1\x01", le=256)


class ModelCard:
    """A card by the book: gathers chains, holds responses back in pieces, and may insist on the right Le.

    A command's response is its own data, as long as `size` says.
    """

    def __init__(self, size: int, piece: int = 256, *, exact_le: bool = False) -> None:
        self.size = size
        self.piece = piece
        self.exact_le = exact_le
        self.commands: list[CommandApdu] = []
        self.chained = 0
        self._gathered = b""
        self._held = b""

    def answer(self, command: CommandApdu) -> ResponseApdu:
        assert len(bytes(command)) <= 5 + 255 + 1
        if command.ins == INS_GET_RESPONSE:
            return self._give(command)
        self._gathered += command.data
        if command.cla & CHAINING:
            self.chained += 1
            assert command.le is None
            return ResponseApdu(b"", SW.OK)
        if self.exact_le and self.size > 0 and command.le != min(self.size, 256):
            self._gathered = self._gathered[: len(self._gathered) - len(command.data)]
            return ResponseApdu(b"", 0x6C00 | (min(self.size, 256) & 0xFF))
        whole = CommandApdu(command.cla, command.ins, command.p1, command.p2, self._gathered, command.le)
        self.commands.append(whole)
        self._gathered = b""
        self._held = bytes(index % 251 for index in range(self.size))
        return self._give(command)

    def _give(self, command: CommandApdu) -> ResponseApdu:
        room = min(self.piece, command.le or 0)
        piece, self._held = self._held[:room], self._held[room:]
        left = len(self._held)
        return ResponseApdu(piece, (0x6100 | min(left, 256) & 0xFF) if left else SW.OK)


def play(steps: ApduExchange, card: ModelCard) -> ResponseApdu:
    try:
        command = next(steps)
        while True:
            command = steps.send(card.answer(command))
    except StopIteration as done:
        response: ResponseApdu = done.value
        return response


def replay(steps: ApduExchange, responses: Iterator[ResponseApdu]) -> tuple[list[CommandApdu], ResponseApdu]:
    """Drive an exchange with a script of responses; ApduError passes through."""
    commands = [next(steps)]
    try:
        for response in responses:
            commands.append(steps.send(response))  # noqa: PERF401 - a comprehension would hide the StopIteration
    except StopIteration as done:
        return commands, done.value
    raise AssertionError("the exchange outlived the script")


@given(COMMANDS)
def test_commands_are_decoded_back(command: CommandApdu) -> None:
    assert CommandApdu.from_bytes(bytes(command)) == command


@given(RESPONSES)
def test_responses_are_decoded_back(response: ResponseApdu) -> None:
    assert ResponseApdu.from_bytes(bytes(response)) == response


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_an_error(apdu: bytes) -> None:
    try:
        command = CommandApdu.from_bytes(apdu)
    except ApduError:
        return
    assert 4 + len(command.data) <= len(apdu)
    assert command.le is None or 1 <= command.le <= 65536


@given(st.binary(max_size=300))
def test_any_bytes_are_a_response_or_an_error(apdu: bytes) -> None:
    try:
        response = ResponseApdu.from_bytes(apdu)
    except ApduError:
        assert len(apdu) < 2
        return
    assert bytes(response) == apdu


@given(st.binary(min_size=1, max_size=600), st.none() | st.integers(1, 65536))
def test_extended_commands_are_decoded(data: bytes, le: int | None) -> None:
    tail = b"" if le is None else (le & 0xFFFF).to_bytes(2)
    extended = b"\x00\x87\x11\x9e" + b"\x00" + len(data).to_bytes(2) + data + tail
    assert CommandApdu.from_bytes(extended) == CommandApdu(0x00, 0x87, 0x11, 0x9E, data, le)


@pytest.mark.parametrize(
    ("command", "encoded"),
    [
        (CommandApdu(0x00, 0xA4, 0x04, 0x00), "00A40400"),
        (CommandApdu(0x00, 0xC0, 0x00, 0x00, le=256), "00C0000000"),
        (CommandApdu(0x00, 0xC0, 0x00, 0x00, le=0x3C), "00C000003C"),
        (CommandApdu(0x10, 0x87, 0x07, 0x9E, b"\x7c"), "1087079E017C"),
        (GET_DATA, "00CB3FFF055C035FC10100"),
    ],
)
def test_the_four_cases(command: CommandApdu, encoded: str) -> None:
    assert bytes(command) == bytes.fromhex(encoded)


@pytest.mark.parametrize(("data", "le"), [(bytes(256), None), (b"", 0), (b"", 257), (b"", -1), (bytes(256), 256)])
def test_what_no_short_apdu_can_say(data: bytes, le: int | None) -> None:
    with pytest.raises(ApduError):
        bytes(CommandApdu(0, 0, 0, 0, data, le))


@pytest.mark.parametrize(
    "apdu",
    ["", "00A404", "00A404000201", "00A4040001020304", "00A404000000", "00A40400000000010203", "00A4040000000201"],
)
def test_lengths_that_do_not_add_up(apdu: str) -> None:
    with pytest.raises(ApduError):
        CommandApdu.from_bytes(bytes.fromhex(apdu))


@given(
    st.builds(
        CommandApdu,
        PLAIN_CLASSES,
        BYTES.filter(lambda ins: ins != INS_GET_RESPONSE),
        BYTES,
        BYTES,
        st.binary(max_size=1200),
        st.just(256),
    ),
    st.builds(ModelCard, st.integers(0, 3000), st.integers(200, 256), exact_le=st.booleans()),
    st.sampled_from([240, 255]),
)
def test_an_exchange_is_whole_both_ways(command: CommandApdu, card: ModelCard, chunk: int) -> None:
    response = play(exchange(command, chunk=chunk), card)
    assert response == ResponseApdu(bytes(index % 251 for index in range(card.size)), SW.OK)
    assert [replace(seen, le=256) for seen in card.commands] == [command]
    assert card.chained == max(0, (len(command.data) - 1) // chunk)


@given(st.integers(0, 700), st.lists(RESPONSES, min_size=1, max_size=12))
def test_any_script_of_a_card_ends_within_bounds(size: int, responses: list[ResponseApdu]) -> None:
    command = CommandApdu(0x00, 0xCB, 0x3F, 0xFF, bytes(size), le=256)
    try:
        commands, response = replay(exchange(command), cycle(responses))
    except ApduError:
        return
    assert len(response.data) <= MAX_RESPONSE_BYTES
    assert len(commands) <= size // 255 + 2 + 2 * MAX_RESPONSE_APDUS


def test_sending_leaves_the_rest_on_the_card() -> None:
    card = ModelCard(600)
    first = play(send(GET_DATA), card)
    assert (len(first.data), first.more) == (256, 256)
    whole = play(drain(GET_DATA.cla, first), card)
    assert (len(whole.data), whole.sw) == (600, SW.OK)


def test_a_refused_link_ends_the_chain() -> None:
    refused = ResponseApdu(b"", SW.SECURITY_STATUS_NOT_SATISFIED)
    commands, response = replay(exchange(CommandApdu(0, 0x87, 7, 0x9E, bytes(600), le=256)), repeat(refused))
    assert response == refused
    assert len(commands) == 1


def test_wrong_le_is_corrected_once() -> None:
    commands, response = replay(exchange(GET_DATA), repeat(ResponseApdu(b"", 0x6C10)))
    assert [command.le for command in commands] == [256, 16]
    assert response.wanted_le == 16


def test_get_response_goes_by_the_plain_class() -> None:
    more = ResponseApdu(b"\x01", 0x6105)
    commands, _ = replay(drain(0x1C, more), iter([ResponseApdu(b"\x02", SW.OK)]))
    assert commands == [CommandApdu(0x0C, INS_GET_RESPONSE, 0, 0, le=5)]


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (ResponseApdu(b"", 0x6100), "brings none"),
        (ResponseApdu(bytes(256), 0x6100), "more than 8192 bytes"),
        (ResponseApdu(b"\x00", 0x6101), "more than 64 APDUs"),
    ],
)
def test_promises_without_end(response: ResponseApdu, why: str) -> None:
    with pytest.raises(ApduError, match=why):
        replay(exchange(GET_DATA), repeat(response))


def test_what_status_words_say() -> None:
    assert ResponseApdu(b"", 0x6100).more == 256
    assert ResponseApdu(b"", 0x613C).more == 0x3C
    assert ResponseApdu(b"", 0x9000).more is None
    assert ResponseApdu(b"", 0x6C00).wanted_le == 256
    assert ResponseApdu(b"", 0x6700).wanted_le is None
    assert not ResponseApdu(b"", 0x6A82).ok
