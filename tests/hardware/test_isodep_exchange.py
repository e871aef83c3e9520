"""The reader's blocks against the card's over an air that loses and garbles frames: exactly once, or a typed error."""

import os
from collections.abc import Generator, Iterable, Iterator
from enum import Enum, auto
from itertools import chain, repeat
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware import isodep_initiator
from hardware.isodep import (
    DELTA_FWT_S,
    FRAME_SIZES,
    IsoDepError,
    Link,
    ReadyBlock,
    WaitBlock,
    frame_bytes,
    frame_waiting_time_s,
    parse_block,
)
from hardware.isodep_initiator import CardBroken, CardSilent, Fault, Heard, Initiator, Send
from hardware.virtual.chip import Answer
from hardware.virtual.isodep_target import IsoDepTarget, Reply
from tests.hardware.echo import OK, Echo, get_data, pattern

T = TypeVar("T")
SOAK = os.environ.get("PILET_SOAK") == "1"
FWT_S = frame_waiting_time_s(8)
SMALL = Link(14, FWT_S)


class Fate(Enum):
    """What becomes of a frame and of its answer."""

    DELIVERED = auto()
    LOST_ON_THE_WAY = auto()
    ANSWER_LOST = auto()
    ANSWER_GARBLED = auto()


FAULTS = [fate for fate in Fate if fate is not Fate.DELIVERED]


class Air:
    """Carries frames between the two machines; each pair meets its fate."""

    def __init__(self, target: IsoDepTarget, fates: Iterable[Fate] = ()) -> None:
        self._target = target
        self._fates: Iterator[Fate] = chain(fates, repeat(Fate.DELIVERED))
        self.sent: list[Send] = []
        self.replies: list[Reply] = []

    def carry(self, dialogue: Generator[Send, Heard, T]) -> T:
        try:
            send = next(dialogue)
            while True:
                send = dialogue.send(self._pair(send))
        except StopIteration as done:
            value: T = done.value
            return value

    def _pair(self, send: Send) -> Heard:
        self.sent.append(send)
        fate = next(self._fates)
        if fate is Fate.LOST_ON_THE_WAY:
            return Fault.SILENCE
        reply = self._target.receive(send.frame)
        if reply is None or fate is Fate.ANSWER_LOST:
            return Fault.SILENCE
        self.replies.append(reply)
        return Fault.GARBLED if fate is Fate.ANSWER_GARBLED else reply.frame


def pair(
    chip: Echo, fates: Iterable[Fate] = (), *, fsci: int = 8, fsdi: int = 8, wtx_every: int | None = None
) -> tuple[Initiator, Air]:
    target = IsoDepTarget(
        chip, card_frame=frame_bytes(fsci), reader_frame=frame_bytes(fsdi), fwt_s=FWT_S, wtx_every=wtx_every
    )
    return Initiator(Link(frame_bytes(fsci), FWT_S), 290), Air(target, fates)


APDUS = st.lists(
    st.one_of(st.binary(max_size=60), st.binary(min_size=200, max_size=700), st.integers(0, 700).map(get_data)),
    min_size=1,
    max_size=5,
)
SIZES = st.integers(0, len(FRAME_SIZES) - 1)
WTX = st.none() | st.integers(1, 4)


def tell(apdu: bytes, frames: Iterable[Heard], link: Link = SMALL) -> tuple[list[Send], bytes | IsoDepError]:
    """Drive one exchange with whatever the card says; return what was sent and how it ended."""
    dialogue = Initiator(link, 290).exchange(apdu)
    sent = [next(dialogue)]
    try:
        for heard in frames:
            sent.append(dialogue.send(heard))  # noqa: PERF401 - a comprehension would hide the StopIteration
    except StopIteration as done:
        return sent, done.value
    except IsoDepError as error:
        return sent, error
    raise AssertionError("the exchange outlived the frames")


@pytest.mark.slow
@settings(max_examples=20000 if SOAK else 400, deadline=None)
@given(APDUS, SIZES, SIZES, WTX, st.lists(st.sampled_from([Fate.DELIVERED, *Fate]), max_size=60))
def test_every_apdu_arrives_exactly_once_or_the_reader_is_told(
    apdus: list[bytes], fsci: int, fsdi: int, wtx_every: int | None, fates: list[Fate]
) -> None:
    chip = Echo()
    initiator, air = pair(chip, fates, fsci=fsci, fsdi=fsdi, wtx_every=wtx_every)
    answered = 0
    for apdu in apdus:
        try:
            response = air.carry(initiator.exchange(apdu))
        except (CardSilent, CardBroken):
            break
        answered += 1
        assert response == chip.answer(apdu) + OK
    assert chip.heard in (apdus[:answered], apdus[: answered + 1])


@settings(max_examples=200)
@given(APDUS, SIZES, SIZES, WTX, st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(3, 6)), max_size=20))
def test_a_fault_now_and_then_is_always_repaired(
    apdus: list[bytes], fsci: int, fsdi: int, wtx_every: int | None, faults: list[tuple[Fate, int]]
) -> None:
    chip = Echo()
    # After a fault: R(NAK), R(ACK) and the block once more, perhaps with a waiting time extension among them.
    fates = [fate for fault, calm in faults for fate in (fault, *[Fate.DELIVERED] * (calm + 2))]
    initiator, air = pair(chip, fates, fsci=fsci, fsdi=fsdi, wtx_every=wtx_every)
    assert [air.carry(initiator.exchange(apdu)) for apdu in apdus] == [chip.answer(apdu) + OK for apdu in apdus]
    assert chip.heard == apdus


@settings(max_examples=300)
@given(
    st.binary(max_size=300),
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(Fault),
            st.sampled_from(
                [b"\x02\x90\x00", b"\x03\x90\x00", b"\x12a", b"\x13b", b"\xa2", b"\xa3", b"\xf2\x01", b"\xc2"]
            ),
        ),
        max_size=200,
    ),
)
def test_a_hostile_card_gets_a_response_or_an_error_within_bounds(apdu: bytes, frames: list[Heard]) -> None:
    sent, outcome = tell(apdu, chain(frames, repeat(Fault.SILENCE)))
    assert isinstance(outcome, bytes | CardSilent | CardBroken)
    assert len(sent) <= len(frames) + 1 + isodep_initiator.SILENCE_RETRIES
    assert all(len(send.frame) <= 14 and 0 < send.wait_s < 6 for send in sent)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=20), max_size=30))
def test_no_frame_of_a_reader_upsets_the_card(frames: list[bytes]) -> None:
    target = IsoDepTarget(Echo(), card_frame=14, reader_frame=14, fwt_s=FWT_S)
    for frame in frames:
        reply = target.receive(frame)
        if reply is not None:
            parse_block(reply.frame)
            assert len(reply.frame) <= 14


def test_waiting_time_is_not_extended_for_ever() -> None:
    sent, outcome = tell(b"\x00", repeat(b"\xf2\x3f"))
    assert isinstance(outcome, CardBroken)
    assert len(sent) == isodep_initiator.MAX_BLOCKS
    assert sent[1].frame == bytes(WaitBlock(59))
    assert sent[1].wait_s == pytest.approx(59 * FWT_S + DELTA_FWT_S)


def test_a_response_does_not_grow_for_ever() -> None:
    sent, outcome = tell(b"\x00", chain.from_iterable(repeat((b"\x12" + bytes(253), b"\x13" + bytes(253)))))
    assert "65538 bytes" in str(outcome)
    assert len(sent) < 300


@pytest.mark.parametrize("frame", ["A3", "FF", "", "0B9000", "03", "C2"])
def test_the_same_nonsense_again_is_given_up(frame: str) -> None:
    sent, outcome = tell(b"\x00", repeat(bytes.fromhex(frame)))
    assert isinstance(outcome, CardBroken)
    assert len(sent) == 1 + isodep_initiator.GARBLED_RETRIES


def test_a_card_that_left_costs_one_waiting_time_and_two_short_retries() -> None:
    sent, outcome = tell(b"\x00", repeat(Fault.SILENCE), Link(254, frame_waiting_time_s(12)))
    assert isinstance(outcome, CardSilent)
    assert [send.frame for send in sent] == [b"\x02\x00", b"\xb2", b"\xb2"]
    assert sent[0].wait_s == pytest.approx(frame_waiting_time_s(12) + DELTA_FWT_S)
    assert sum(send.wait_s for send in sent[1:]) < 0.2


def test_presence_keeps_the_state_of_both() -> None:
    chip = Echo()
    initiator, air = pair(chip)
    for apdu in (b"\x01\x02", b"\x03\x04", b"\x05\x06"):
        assert air.carry(initiator.presence(2))
        assert air.carry(initiator.exchange(apdu)) == apdu + OK
    assert air.carry(initiator.presence(2))
    assert [send.frame.hex() for send in air.sent[::2]] == ["b2", "b3", "b2", "b3"]
    assert chip.heard == [b"\x01\x02", b"\x03\x04", b"\x05\x06"]


def test_absence_is_asked_for_as_often_as_told() -> None:
    initiator, air = pair(Echo(), repeat(Fate.LOST_ON_THE_WAY))
    assert not air.carry(initiator.presence(2))
    assert len(air.sent) == 2


@pytest.mark.parametrize("compute_s", [0.01, 0.07, 0.2, 3.0, 9.0])
@pytest.mark.parametrize("fwi", [0, 4, 8, 14])
def test_a_slow_chip_asks_for_time_and_keeps_to_it(compute_s: float, fwi: int) -> None:
    fwt_s = frame_waiting_time_s(fwi)
    target = IsoDepTarget(Echo(compute_s=compute_s), card_frame=254, reader_frame=254, fwt_s=fwt_s)
    air = Air(target)
    assert air.carry(Initiator(Link(254, fwt_s), 290).exchange(b"\x01")) == b"\x01" + OK
    assert sum(reply.compute_s for reply in air.replies) == pytest.approx(compute_s)
    for send, reply in zip(air.sent, air.replies, strict=True):
        assert reply.compute_s < send.wait_s


def test_time_on_the_air_counts_against_the_waiting_time() -> None:
    target = IsoDepTarget(
        Echo(compute_s=0.05), card_frame=254, reader_frame=254, fwt_s=FWT_S, air_s=lambda frame: len(frame) * 85e-6
    )
    assert target.receive(b"\x02\x01") == Reply(b"\x02\x01" + OK, 0.05)
    reply = target.receive(b"\x03" + bytes(250))
    assert reply is not None
    assert isinstance(parse_block(reply.frame), WaitBlock)


def test_waiting_time_may_be_extended_anywhere() -> None:
    chip = Echo()
    initiator, air = pair(chip, fsci=0, fsdi=0, wtx_every=1)
    command = pattern(40)
    assert air.carry(initiator.exchange(command)) == command + OK
    asked = [isinstance(parse_block(reply.frame), WaitBlock) for reply in air.replies]
    assert asked == [True, False] * (len(asked) // 2)
    carried = [parse_block(reply.frame) for reply in air.replies[1::2]]
    assert sum(isinstance(block, ReadyBlock) for block in carried) == 3
    assert len(carried) == 7


def test_a_card_torn_away_while_it_thinks_is_silent() -> None:
    class Torn(Echo):
        def process(self, command: bytes) -> Answer:
            return Answer(None)

    initiator, air = pair(Torn())
    with pytest.raises(CardSilent):
        air.carry(initiator.exchange(b"\x00"))
    assert not air.replies


def test_a_frame_longer_than_the_card_takes_is_not_heard() -> None:
    target = IsoDepTarget(Echo(), card_frame=14, reader_frame=254, fwt_s=FWT_S)
    assert target.receive(b"\x02" + bytes(14)) is None
    assert target.receive(b"\x02" + bytes(13)) is not None


def test_no_apdu_is_longer_than_the_longest() -> None:
    chip = Echo()
    target = IsoDepTarget(chip, card_frame=254, reader_frame=254, fwt_s=FWT_S)
    replies = [
        target.receive(bytes([0x12 | number]) + bytes(253)) for number in chain.from_iterable(repeat((0, 1), 130))
    ]
    assert replies[-2:] != [None, None]
    assert None in replies
    assert not chip.heard
