"""The dense deny list: it answers exactly, at every length, and damaged it is refused and nothing else."""

import os
import random
import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.tracing import peak_bytes
from validator.lists.dense_deny import (
    MAX_COVERS,
    DenseDeny,
    decode_dense_deny,
    dense_deny,
    encode_dense_deny,
)
from validator.lists.errors import ListError
from validator.lists.rice import BLOCK, WORD

SOAK = os.environ.get("PILET_SOAK") == "1"
ISSUER, OTHER = bytes(range(16)), bytes(range(1, 17))
ISSUERS = st.binary(min_size=16, max_size=16)
HEAD_BYTES, SECTION_BYTES = 20, 56


def listed(members: Iterable[int], covers: int, issuer: bytes = ISSUER) -> DenseDeny:
    return dense_deny(issuer, covers, sorted(members))


@st.composite
def lists(draw: st.DrawFn, issuers: st.SearchStrategy[bytes] = ISSUERS) -> DenseDeny:
    covers = draw(st.one_of(st.integers(0, 100), st.integers(0, 9 * BLOCK)))
    members = draw(st.sets(st.integers(0, covers - 1), max_size=40)) if covers else set[int]()
    return listed(members, covers, draw(issuers))


def payloads() -> st.SearchStrategy[bytes]:
    return st.lists(lists(), min_size=1, max_size=4, unique_by=lambda each: each.issuer).map(encode_dense_deny)


def refuse(payload: bytes, why: str | None = None) -> None:
    with pytest.raises(ListError, match=why):
        decode_dense_deny(payload)


def refuse_damaged(payload: bytes, rng: random.Random, times: int) -> None:
    """Cut a payload short at random points and flip random bits of it."""
    for _ in range(times):
        refuse(payload[: rng.randrange(len(payload))])
        refuse(flipped(payload, rng.randrange(8 * len(payload))))


def flipped(payload: bytes, bit: int) -> bytes:
    changed = bytearray(payload)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class TestLookup:
    @given(members=st.sets(st.integers(0, 500), max_size=80), covers=st.integers(501, MAX_COVERS))
    def test_is_membership(self, members: set[int], covers: int) -> None:
        deny = listed(members, covers)
        assert len(deny) == len(members)
        assert [index for index in range(-2, 520) if deny.denied(index)] == sorted(members)

    def test_a_card_that_was_issued_later_is_not_on_it(self) -> None:
        deny = listed([7, 9], 10)
        assert [deny.denied(index) for index in (7, 9, 10, 11, MAX_COVERS - 1, MAX_COVERS + 9, -1)] == [
            *(True, True),
            *[False] * 5,
        ]

    def test_the_last_index_there_is(self) -> None:
        deny = decode_dense_deny(encode_dense_deny([listed([MAX_COVERS - 1], MAX_COVERS)]))[ISSUER]
        assert deny.denied(MAX_COVERS - 1)
        assert not deny.denied(MAX_COVERS - 2)


class TestStateHash:
    def test_is_over_issuer_coverage_and_numbers(self) -> None:
        digest = blake2b(digest_size=32, person=b"pilet-dense/1\0\0\0")
        digest.update(ISSUER + struct.pack(">Q", 1000) + struct.pack("<3I", 1, 22, 333))
        assert listed([1, 22, 333], 1000).state_hash == digest.digest()

    @given(lists(), lists())
    def test_is_what_equality_is(self, first: DenseDeny, second: DenseDeny) -> None:
        same = [(each.issuer, each.covers, list(each.numbers)) for each in (first, second)]
        assert (first == second) == (same[0] == same[1]) == (hash(first) == hash(second))
        assert first == listed(first.numbers, first.covers, first.issuer)
        assert first != "a list"


class TestMaking:
    @pytest.mark.parametrize(
        ("issuer", "covers", "numbers", "why"),
        [
            (bytes(15), 9, [], "an issuer's id of 15 bytes"),
            (ISSUER, -1, [], "covers -1 indices"),
            (ISSUER, MAX_COVERS + 1, [], "covers 4294967297 indices"),
            (ISSUER, 9, [3, 3], "number 1 is 3, not greater"),
            (ISSUER, 9, [3, 4, 2], "number 2 is 2, not greater"),
            (ISSUER, 9, [9], "the number 9 is beyond the 9 indices"),
            (ISSUER, 0, [0], "the number 0 is beyond the 0 indices"),
            (ISSUER, 9, [-1], "holds what is no index"),
            (ISSUER, 9, [MAX_COVERS], "holds what is no index"),
            (ISSUER, 9, ["3"], "holds what is no index"),
        ],
    )
    def test_of_what_is_no_list(self, issuer: bytes, covers: int, numbers: list[int], why: str) -> None:
        with pytest.raises(ListError, match=why):
            dense_deny(issuer, covers, numbers)

    def test_takes_a_copy(self) -> None:
        numbers = array(WORD, [1, 2])
        deny = dense_deny(ISSUER, 9, numbers)
        numbers[0] = 0
        assert deny.denied(1)


class TestPayload:
    @given(st.lists(lists(), min_size=1, max_size=4, unique_by=lambda each: each.issuer))
    def test_what_is_written_is_what_is_read(self, some: list[DenseDeny]) -> None:
        read = decode_dense_deny(encode_dense_deny(some))
        assert read == {each.issuer: each for each in some}
        assert [read[each.issuer].numbers for each in some] == [each.numbers for each in some]
        assert encode_dense_deny(read.values()) == encode_dense_deny(reversed(some))

    @hostile
    @given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(b"pilet-dense/1\0\0\0".__add__)))
    def test_any_octets_are_refused(self, octets: bytes) -> None:
        refuse(octets)

    @hostile
    @given(
        covers=st.integers(0, 3 * BLOCK), body=st.binary(max_size=120), state_hash=st.binary(min_size=32, max_size=32)
    )
    def test_made_up_sections_are_refused(self, covers: int, body: bytes, state_hash: bytes) -> None:
        refuse(encode_head(1) + encode_section_head(ISSUER, covers, state_hash) + body)

    @given(payloads(), st.data())
    def test_no_bit_can_be_changed(self, payload: bytes, data: st.DataObject) -> None:
        refuse(flipped(payload, data.draw(st.integers(0, 8 * len(payload) - 1))))

    @given(payloads(), st.data(), st.binary(max_size=40))
    def test_a_tail_is_never_dropped(self, payload: bytes, data: st.DataObject, tail: bytes) -> None:
        kept = data.draw(st.integers(0, len(payload)))
        changed = payload[:kept] + tail
        if changed != payload:
            refuse(changed)

    def test_every_cut_and_every_bit_of_one(self) -> None:
        payload = encode_dense_deny([listed(range(5, 900, 7), 1000), listed([BLOCK], 3 * BLOCK, OTHER)])
        for length in range(len(payload)):
            refuse(payload[:length])
        for bit in range(8 * len(payload)):
            refuse(flipped(payload, bit))

    def test_another_list_under_the_same_head(self) -> None:
        whole, short = (encode_dense_deny([listed(members, 10)]) for members in ([2, 3], [2]))
        refuse(whole[: HEAD_BYTES + SECTION_BYTES] + short[HEAD_BYTES + SECTION_BYTES :], "section 0 is damaged")

    def test_sections_stand_in_order_and_are_counted(self) -> None:
        first, second = (encode_dense_deny([listed([2], 10, issuer)])[HEAD_BYTES:] for issuer in (ISSUER, OTHER))
        assert len(decode_dense_deny(encode_head(2) + first + second)) == 2
        refuse(encode_head(2) + second + first, "section 1 is not of a greater issuer")
        refuse(encode_head(2) + first + first, "section 1 is not of a greater issuer")
        refuse(encode_head(3) + first + second, "ends in the head of section 2 of 3")
        refuse(encode_head(1) + first + second, "octets are left over")
        refuse(encode_head(0), "holds no issuer's section")
        refuse(encode_head(0) + first, "holds no issuer's section")

    def test_what_could_not_be_read_is_not_written(self) -> None:
        with pytest.raises(ListError, match="holds no issuer's section"):
            encode_dense_deny([])
        with pytest.raises(ListError, match="two sections of the issuer 0001"):
            encode_dense_deny([listed([1], 2), listed([], 2)])

    def test_the_error_names_the_file(self) -> None:
        with pytest.raises(ListError) as caught:
            decode_dense_deny(b"", "lists/dense/4/payload")
        assert (caught.value.where, caught.value.why) == ("lists/dense/4/payload", "not a dense deny list")

    @pytest.mark.parametrize("covers", [MAX_COVERS, MAX_COVERS + 1, (1 << 64) - 1])
    @pytest.mark.parametrize("count", [0, 1, 1 << 20, (1 << 32) - 1])
    @pytest.mark.parametrize("parameter", [0, 31, 255])
    def test_a_few_octets_never_cost_memory(self, covers: int, count: int, parameter: int) -> None:
        run = struct.pack(">IBI", count, parameter, (1 << 32) - 1)
        hostile_payload = encode_head((1 << 32) - 1) + encode_section_head(ISSUER, covers, bytes(32)) + run
        assert peak_bytes(lambda: refuse(hostile_payload)) < 100_000


def encode_head(count: int) -> bytes:
    return b"pilet-dense/1\0\0\0" + struct.pack(">I", count)


def encode_section_head(issuer: bytes, covers: int, state_hash: bytes) -> bytes:
    return struct.pack(">16sQ32s", issuer, covers, state_hash)


class TestTokyo:
    """In October 2007 a deny list whose length did not fit a block size kept 4,378 gates closed in the morning.

    A list of any length loads exactly; cut short or with a bit changed it is refused. There is no third thing.
    `test_rice` has every length of a run, and every length of the last run after other ones, in each test run.
    """

    @pytest.mark.timeout(3600 if SOAK else 120)
    @pytest.mark.parametrize("covers", [30_000, 20_001 * 5_000])
    def test_every_length(self, covers: int) -> None:
        rng = random.Random(covers)
        numbers = array(WORD, sorted(rng.sample(range(covers), 20_000)))
        lengths = range(20_001) if SOAK else [*range(40), *range(40, 20_001, 331), 19_998, 19_999, 20_000]
        for length in lengths:
            deny = dense_deny(ISSUER, covers, numbers[:length])
            payload = encode_dense_deny([deny])
            read = decode_dense_deny(payload)[ISSUER]
            assert (read, read.numbers, read.covers) == (deny, numbers[:length], covers), length
            refuse_damaged(payload, rng, 1)

    @pytest.mark.parametrize("step", [64, pytest.param(4, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("kept", [1, 4])
    @pytest.mark.parametrize("more", [-2, -1, 0, 1, 2])
    def test_lengths_around_the_edges_of_blocks(self, step: int, kept: int, more: int) -> None:
        """Lists of up to a million that end two before, at, and two past the end of a block."""
        covers = 4 * BLOCK + 3 * step
        numbers = array(WORD, range(1, covers, step))
        length = bisect_left(numbers, kept * BLOCK) + more
        deny = dense_deny(ISSUER, covers, numbers[:length])
        payload = encode_dense_deny([deny])
        read = decode_dense_deny(payload)[ISSUER]
        assert (read, read.numbers) == (deny, numbers[:length])
        assert read.denied(numbers[length - 1])
        assert not read.denied(numbers[length])
        refuse_damaged(payload, random.Random(kept), 2)

    @pytest.mark.parametrize("at", [-2, -1, 0, 1, 2])
    @pytest.mark.parametrize("covered", [-2, -1, 0, 1, 2])
    def test_numbers_and_coverage_around_the_edges_of_blocks(self, at: int, covered: int) -> None:
        rng = random.Random(at)
        for block in range(1, 9):
            covers = block * BLOCK + covered
            members = {edge * BLOCK + at for edge in range(1, block + 1)} | {covers - 1}
            deny = listed({number for number in members if number < covers}, covers)
            payload = encode_dense_deny([deny])
            assert decode_dense_deny(payload) == {ISSUER: deny}
            refuse_damaged(payload, rng, 10)

    @pytest.mark.parametrize(
        "count", [BLOCK, *(pytest.param(BLOCK + more, marks=pytest.mark.slow) for more in (-2, -1, 1, 2))]
    )
    def test_whole_blocks_are_refused(self, count: int) -> None:
        """A year's cards, all of them, because of a weakness of their chip: a bit for each card."""
        deny = dense_deny(ISSUER, count, range(count))
        payload = encode_dense_deny([deny])
        assert decode_dense_deny(payload)[ISSUER].numbers == deny.numbers
        assert len(payload) < HEAD_BYTES + SECTION_BYTES + count // 8 + 20
        refuse_damaged(payload, random.Random(count), 2)
