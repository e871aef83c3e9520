"""ISO-DEP as bytes: what is encoded is parsed back, and no bytes end in anything but a value or IsoDepError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import isodep
from hardware.isodep import Atqb, Ats, Block, DeselectBlock, InformationBlock, IsoDepError, ReadyBlock, WaitBlock

NUMBERS = st.integers(0, 1)
BLOCKS: st.SearchStrategy[Block] = st.one_of(
    st.builds(InformationBlock, NUMBERS, st.binary(max_size=300), st.booleans()),
    st.builds(ReadyBlock, NUMBERS, st.booleans()),
    st.just(DeselectBlock()),
    st.builds(WaitBlock, st.integers(1, isodep.MAX_WTXM)),
)
NIBBLES = st.integers(0, 15)
FOUR_BYTES = st.binary(min_size=4, max_size=4)


@given(BLOCKS)
def test_blocks_are_parsed_back(block: Block) -> None:
    assert isodep.parse_block(bytes(block)) == block


@given(st.binary(max_size=4))
def test_any_frame_is_a_block_or_an_error(frame: bytes) -> None:
    try:
        block = isodep.parse_block(frame)
    except IsoDepError:
        return
    if isinstance(block, WaitBlock):
        assert block.multiplier == min(frame[1] & 0x3F, isodep.MAX_WTXM)
    else:
        assert bytes(block) == frame


@pytest.mark.parametrize(
    ("frame", "block"),
    [
        ("02", InformationBlock(0, b"")),
        ("1300A4", InformationBlock(1, b"\x00\xa4", more=True)),
        ("A3", ReadyBlock(1)),
        ("B2", ReadyBlock(0, nak=True)),
        ("C2", DeselectBlock()),
        ("F201", WaitBlock(1)),
        ("F2C5", WaitBlock(5)),
        ("F23F", WaitBlock(59)),
    ],
)
def test_block_cases(frame: str, block: Block) -> None:
    assert isodep.parse_block(bytes.fromhex(frame)) == block


@pytest.mark.parametrize(
    "frame", ["", "0A00", "0601", "22", "00", "A200", "AA", "C200", "F2", "F200", "F20101", "F0", "FF"]
)
def test_frames_that_are_no_blocks(frame: str) -> None:
    with pytest.raises(IsoDepError):
        isodep.parse_block(bytes.fromhex(frame))


@given(st.integers(0, 8), NIBBLES, NIBBLES, st.binary(max_size=15))
def test_an_answer_to_select_is_parsed_back(fsci: int, fwi: int, sfgi: int, historical: bytes) -> None:
    ats = Ats(fsci, fwi, sfgi, historical)
    assert Ats.from_bytes(bytes(ats)) == ats


@given(NIBBLES, st.binary(max_size=15))
def test_an_answer_to_select_may_lack_its_interface_bytes(fsci: int, historical: bytes) -> None:
    ats = Ats(fsci, historical=historical, interface_bytes=False)
    assert bytes(ats) == bytes([len(historical) + 2, fsci]) + historical
    assert Ats.from_bytes(bytes(ats)) == ats


@given(st.binary(max_size=20))
def test_any_bytes_are_an_answer_to_select_or_an_error(ats: bytes) -> None:
    for candidate in (ats, bytes([len(ats) + 1]) + ats):
        try:
            link = Ats.from_bytes(candidate).link
        except IsoDepError:
            continue
        assert 14 <= link.frame <= 254
        assert isodep.MIN_FWT_S <= link.fwt_s <= isodep.MAX_FWT_S
        assert 0 <= link.guard_s <= isodep.MAX_FWT_S


@pytest.mark.parametrize(
    ("ats", "expected"),
    [
        ("01", Ats(2, 4, 0, b"")),
        ("0207", Ats(7, 4, 0, b"")),
        ("0428A5C1", Ats(8, 10, 5, b"\xc1")),
        ("0418A5C1", Ats(8, 4, 0, b"\xc1")),
        ("0448A5C1", Ats(8, 4, 0, b"\xc1")),
        ("067880700241", Ats(8, 7, 0, b"\x41")),
    ],
)
def test_answers_to_select(ats: str, expected: Ats) -> None:
    assert Ats.from_bytes(bytes.fromhex(ats)) == expected


@pytest.mark.parametrize("ats", ["", "00", "03", "0270", "037080", "0478807002"])
def test_broken_answers_to_select(ats: str) -> None:
    with pytest.raises(IsoDepError):
        Ats.from_bytes(bytes.fromhex(ats))


def test_a_waiting_time_cannot_be_said_without_tb() -> None:
    with pytest.raises(IsoDepError, match="FWI 8"):
        bytes(Ats(8, 8, interface_bytes=False))


def test_reserved_values_are_read_as_the_standard_says() -> None:
    assert isodep.frame_bytes(9) == isodep.frame_bytes(15) == isodep.frame_bytes(8) == 254
    assert isodep.frame_waiting_time_s(15) == isodep.frame_waiting_time_s(4)
    assert isodep.frame_waiting_time_s(14) == pytest.approx(4.949, abs=0.001)
    assert isodep.guard_time_s(0) == isodep.guard_time_s(15) == 0
    assert isodep.guard_time_s(8) == pytest.approx(0.0773, abs=0.0001)


@pytest.mark.parametrize(("limit", "fsdi"), [(290, 8), (254, 8), (253, 7), (64, 5), (16, 0), (3, 0)])
def test_the_reader_promises_no_more_than_it_takes(limit: int, fsdi: int) -> None:
    assert isodep.size_index(limit) == fsdi


@given(st.builds(Atqb, FOUR_BYTES, FOUR_BYTES, NIBBLES, NIBBLES, NIBBLES, st.booleans()))
def test_an_answer_to_request_b_is_parsed_back(atqb: Atqb) -> None:
    assert Atqb.from_bytes(bytes(atqb)) == atqb
    assert atqb.link.historical == atqb.application


@given(st.binary(max_size=14))
def test_any_bytes_are_an_answer_to_request_b_or_an_error(atqb: bytes) -> None:
    for candidate in (atqb, b"\x50" + atqb):
        try:
            link = Atqb.from_bytes(candidate).link
        except IsoDepError:
            continue
        assert 14 <= link.frame <= 254


@pytest.mark.parametrize("answer", ["", "01", "1F00"])
def test_an_answer_to_attrib_for_somebody_else(answer: str) -> None:
    with pytest.raises(IsoDepError):
        isodep.check_attrib_answer(bytes.fromhex(answer))


def test_activation_commands() -> None:
    assert isodep.rats(8) == bytes.fromhex("E080")
    atqb = Atqb(bytes.fromhex("E5DD3DC9"), bytes(4), 8, 8)
    assert isodep.attrib(atqb, 8) == bytes.fromhex("1DE5DD3DC900080100")
    isodep.check_attrib_answer(b"\x00")
    isodep.check_attrib_answer(b"\x10\x01")
