"""BER-TLV: what is encoded is parsed back, and any bytes end in data objects or TlvError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware import tlv
from hardware.tlv import Tlv, TlvError
from tests.hostile import hostile

SHORT_TAGS = st.integers(0, 0xFF).filter(lambda tag: tag & 0x1F != 0x1F)
FIRSTS = st.sampled_from([first << 5 | 0x1F for first in range(8)])
LONG_TAGS = st.builds(lambda first, last: first << 8 | last, FIRSTS, st.integers(0, 0x7F))
LONGER_TAGS = st.builds(
    lambda first, middle, last: first << 16 | (0x80 | middle) << 8 | last,
    FIRSTS,
    st.integers(0, 0x7F),
    st.integers(0, 0x7F),
)
TAGS = SHORT_TAGS | LONG_TAGS | LONGER_TAGS
VALUES = st.one_of(st.binary(max_size=40), st.integers(120, 700).map(bytes))
OBJECTS = st.builds(Tlv, TAGS, VALUES)


@given(st.lists(OBJECTS, max_size=6))
def test_objects_are_parsed_back(objects: list[Tlv]) -> None:
    encoded = b"".join(map(bytes, objects))
    assert tlv.parse(encoded) == objects
    for item in objects:
        first = next(other for other in objects if other.tag == item.tag)
        assert tlv.find(encoded, item.tag) == first.value


@given(OBJECTS)
def test_the_only_object_is_its_value(item: Tlv) -> None:
    assert tlv.parse_one(bytes(item), item.tag) == item.value
    with pytest.raises(TlvError):
        tlv.parse_one(bytes(item) + bytes(item), item.tag)
    with pytest.raises(TlvError, match=f"{item.tag:X}"):
        tlv.parse_one(bytes(item), 0x7E7E)


@hostile
@given(st.binary(max_size=60), TAGS)
def test_any_bytes_are_objects_or_an_error(data: bytes, tag: int) -> None:
    for read in (tlv.parse, lambda data: tlv.find(data, tag), lambda data: tlv.parse_one(data, tag)):
        try:
            read(data)
        except TlvError:
            continue


@given(st.binary(max_size=60))
def test_what_was_parsed_says_the_same_when_encoded_again(data: bytes) -> None:
    try:
        objects = tlv.parse(data)
    except TlvError:
        return
    again = b"".join(map(bytes, objects))
    assert tlv.parse(again) == objects
    assert len(again) <= len(data)


@given(OBJECTS, st.data())
def test_an_object_cut_short_is_an_error(item: Tlv, data: st.DataObject) -> None:
    encoded = bytes(item)
    cut = data.draw(st.integers(1, len(encoded) - 1)) if len(encoded) > 1 else 1
    with pytest.raises(TlvError):
        tlv.parse(encoded[:cut] if cut < len(encoded) else b"\x5f")


@pytest.mark.parametrize(
    ("tag", "size", "head"),
    [
        (0x53, 0, "5300"),
        (0x53, 127, "537F"),
        (0x53, 128, "538180"),
        (0x53, 255, "5381FF"),
        (0x53, 256, "53820100"),
        (0x5FC101, 65536, "5FC10183010000"),
        (0x7F49, 1, "7F4901"),
    ],
)
def test_lengths_are_the_shortest(tag: int, size: int, head: str) -> None:
    assert tlv.encode(tag, bytes(size)) == bytes.fromhex(head) + bytes(size)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("5F", "tag cut short"),
        ("5FC1", "tag cut short"),
        ("5FC1C101", "tag longer than 3"),
        ("53", "length missing"),
        ("5380", "0 bytes"),
        ("538400000001FF", "4 bytes"),
        ("538201", "length cut short"),
        ("530201", "says 2 bytes, 1 are there"),
    ],
)
def test_malformed_objects(data: str, why: str) -> None:
    with pytest.raises(TlvError, match=why):
        tlv.parse(bytes.fromhex(data))


def test_longer_lengths_than_needed_are_read() -> None:
    assert tlv.parse(bytes.fromhex("53820001AA")) == [Tlv(0x53, b"\xaa")]


def test_a_find_stops_at_the_first() -> None:
    assert tlv.find(bytes.fromhex("5301AA5301BB53"), 0x53) == b"\xaa"
    assert tlv.find(b"", 0x53) is None


def test_a_value_too_long_for_three_length_bytes() -> None:
    with pytest.raises(TlvError, match="too long"):
        tlv.encode(0x53, bytes(1 << 24))
