"""Rice codes: what is written is what is read, in one way only, near the bound that no code can pass."""

import math
import os
import random
import struct
from array import array
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.lists.errors import ListError
from validator.lists.rice import BLOCK, WORD, Numbers, decode_blocks, decode_run, encode_blocks, encode_run

SOAK = os.environ.get("PILET_SOAK") == "1"
WORLD = 1 << 32
HEAD = struct.Struct(">IBI")


def numbers_of(*members: int) -> Numbers:
    return array(WORD, sorted(set(members)))


def spread(count: int, start: int, end: int, seed: int = 1) -> Numbers:
    return array(WORD, sorted(random.Random(seed).sample(range(start, end), count)))


@st.composite
def runs(draw: st.DrawFn) -> tuple[Numbers, int, int]:
    """Numbers between two bounds: few or many of them, far apart or side by side."""
    start = draw(st.one_of(st.just(0), st.integers(0, WORLD - 1)))
    width = draw(st.one_of(st.integers(1, 300), st.integers(1, WORLD)))
    end = min(WORLD, start + width)
    inside = st.integers(start, end - 1)
    members = set(draw(st.lists(inside, max_size=60)))
    for first in draw(st.lists(inside, max_size=3)):
        members.update(range(first, min(end, first + draw(st.integers(0, 200)))))
    if draw(st.booleans()):
        members.update({start, end - 1})
    return numbers_of(*members), start, end


def read_run(data: bytes, start: int, end: int) -> Numbers:
    """Decode a run that begins somewhere in other octets, and see that it ends where it should."""
    read, until = decode_run(b"head" + data + b"tail", 4, start, end, "run")
    assert until == 4 + len(data)
    return read


def gaps_of(numbers: Numbers, start: int) -> list[int]:
    return [later - earlier - 1 for earlier, later in pairwise([start - 1, *numbers])]


def spelled(numbers: Numbers, start: int, parameter: int) -> tuple[int, bytes]:
    """Write a run with any parameter, by the definition of the code; return how many bits it takes, and its octets."""
    unary, fixed = "", ""
    for gap in gaps_of(numbers, start):
        unary += "0" * (gap >> parameter) + "1"
        fixed += f"{gap % (1 << parameter):0{parameter}b}" if parameter else ""
    octets = [
        bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)) for bits in (unary, fixed)
    ]
    return len(unary) + len(fixed), HEAD.pack(len(numbers), parameter, len(octets[0])) + b"".join(octets)


class TestRuns:
    @given(runs())
    def test_what_is_written_is_what_is_read(self, run: tuple[Numbers, int, int]) -> None:
        numbers, start, end = run
        assert read_run(encode_run(numbers, start), start, end) == numbers

    @given(st.sets(st.integers(0, 400), min_size=1, max_size=30))
    def test_is_written_with_the_best_parameter_and_read_with_no_other(self, members: set[int]) -> None:
        numbers = numbers_of(*members)
        spellings = [spelled(numbers, 0, parameter) for parameter in range(12)]
        _, best = min(spellings, key=lambda each: each[0])
        assert encode_run(numbers, 0) == best
        for _, spelling in spellings:
            if spelling != best:
                with pytest.raises(ListError, match="another makes it shorter"):
                    decode_run(spelling, 0, 0, 401, "run")

    @given(runs(), st.data())
    def test_changed_bits_are_refused_or_are_what_another_run_is_written_as(
        self, run: tuple[Numbers, int, int], data: st.DataObject
    ) -> None:
        numbers, start, end = run
        changed = bytearray(encode_run(numbers, start))
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        try:
            read, until = decode_run(bytes(changed), 0, start, end, "run")
        except ListError:
            return
        assert encode_run(read, start) == changed[:until]

    @hostile
    @given(
        count=st.integers(0, 40),
        parameter=st.integers(0, 33),
        quotients=st.binary(max_size=24),
        remainders=st.binary(max_size=24),
        start=st.integers(0, WORLD - 1),
        width=st.integers(1, WORLD),
    )
    def test_made_up_runs_are_refused_or_are_what_is_written(
        self, *, count: int, parameter: int, quotients: bytes, remainders: bytes, start: int, width: int
    ) -> None:
        made_up = HEAD.pack(count, parameter, len(quotients)) + quotients + remainders
        end = min(WORLD, start + width)
        try:
            read, until = decode_run(made_up, 0, start, end, "run")
        except ListError:
            return
        assert encode_run(read, start) == made_up[:until]
        assert list(read) == sorted(set(read))
        assert not read or (start <= read[0] and read[-1] < end)

    @hostile
    @given(st.binary(max_size=80), st.integers(0, WORLD))
    def test_any_octets_are_refused_or_are_what_is_written(self, data: bytes, end: int) -> None:
        try:
            read, until = decode_run(data, 0, 0, end, "run")
        except ListError:
            return
        assert encode_run(read, 0) == data[:until]

    @given(runs(), st.data())
    def test_a_cut_is_refused(self, run: tuple[Numbers, int, int], data: st.DataObject) -> None:
        numbers, start, end = run
        whole = encode_run(numbers, start)
        with pytest.raises(ListError, match="octet"):
            decode_run(whole[: data.draw(st.integers(0, len(whole) - 1))], 0, start, end, "run")

    @given(runs())
    def test_no_number_passes_the_bound(self, run: tuple[Numbers, int, int]) -> None:
        numbers, start, _ = run
        if numbers:
            with pytest.raises(ListError, match="the last number"):
                decode_run(encode_run(numbers, start), 0, start, numbers[-1], "run")


class TestOnlyOneWay:
    """5, 7, 300 from 0: gaps 5, 1, 292, written with k = 6 as 1 1 00001 and 000101 000001 100100."""

    WRITTEN = bytes.fromhex("00000003 06 00000001 c2 141900")

    def test_as_written_by_hand(self) -> None:
        assert encode_run(numbers_of(5, 7, 300), 0) == self.WRITTEN
        assert read_run(self.WRITTEN, 0, 301) == numbers_of(5, 7, 300)

    @pytest.mark.parametrize(
        ("octets", "why"),
        [
            ("00000003 05 00000002 c010 2848", "the parameter 5, another makes it shorter"),
            ("00000003 07 00000001 c8 0a0520", "the parameter 7, another makes it shorter"),
            ("00000002 06 00000001 c2 1419", "counts 2 numbers and has 3"),
            ("00000004 06 00000001 c2 141900", "counts 4 numbers and has 3"),
            ("00000003 06 00000002 c200 141900", "not filled up"),
            ("00000003 06 00000001 c2 141901", "not filled up"),
            ("00000003 06 00000001 c2 141920", "not filled up"),
            ("00000003 20 00000001 c2 141900000000000000000000", "the parameter 32, 31 is the greatest"),
            ("00000003 06 00000001 c2 1419", "needs 1 octets more"),
            ("00000003 06 ffffffff c2 141900", "needs 4294967294 octets more"),
            ("00100000 06 00000001 c2 141900", "needs 786429 octets more"),
            ("00100001 06 00000001 c2 141900", "counts 1048577 numbers, 1048576 is the most"),
            ("00000003 06 000000", "in the head of the run"),
            ("00000000 00 00000001 00", "is empty, and its head is not"),
            ("00000000 06 00000000", "is empty, and its head is not"),
            ("00000001 00 00000000", "counts 1 numbers and has 0"),
        ],
    )
    def test_no_other_is_read(self, octets: str, why: str) -> None:
        with pytest.raises(ListError, match=why):
            decode_run(bytes.fromhex(octets), 0, 0, WORLD, "run")

    @pytest.mark.parametrize("numbers", [(0,), (WORLD - 1,), (0, WORLD - 1), (WORLD - 2, WORLD - 1), (0, 1, WORLD - 1)])
    def test_the_ends_of_the_world(self, numbers: tuple[int, ...]) -> None:
        assert read_run(encode_run(numbers_of(*numbers), 0), 0, WORLD) == numbers_of(*numbers)


def lengths_of_a_run() -> Iterator[int]:
    """Each to 20,000 in a soak; else short ones, those at powers of two, and one in 97, of every remainder mod 8."""
    if SOAK:
        yield from range(20_001)
        return
    yield from range(600)
    yield from (length for power in range(10, 15) for length in range(2**power - 2, 2**power + 3))
    yield from range(600, 20_001, 97)
    yield from range(19_998, 20_001)


class TestEveryLength:
    """A list whose length did not fit a block once closed a city's gates for a morning."""

    @pytest.mark.timeout(3600 if SOAK else 120)
    def test_of_a_run(self) -> None:
        numbers = spread(20_000, 7, 7 + 1_000_000)
        for length in lengths_of_a_run():
            written = encode_run(numbers[:length], 7)
            assert read_run(written, 7, 1_000_007) == numbers[:length], length

    def test_of_the_last_run_and_of_the_runs_before_it(self) -> None:
        """Every length to 20,000: of blocks with 100 numbers each, only the last one changes from length to length."""
        numbers, before = array(WORD), b""
        rng = random.Random(3)
        for block in range(201):
            start, end = block * BLOCK, (block + 1) * BLOCK
            members = array(WORD, sorted(rng.sample(range(start, end), 100)))
            for length in range(101):
                last = encode_run(members[:length], start)
                read, until = decode_run(before + last, len(before), start, end, "blocks")
                assert (read, until) == (members[:length], len(before) + len(last)), (block, length)
            numbers.extend(members)
            before += encode_run(members, start)
            if block % 20 == 0:
                assert encode_blocks(numbers, end) == before
                assert decode_blocks(before, 0, end, "blocks") == (numbers, len(before))
        assert len(numbers) == 20_100

    @pytest.mark.parametrize(
        "power", [*range(2, 17), *(pytest.param(each, marks=pytest.mark.slow) for each in (18, 20))]
    )
    @pytest.mark.parametrize("more", [-2, -1, 0, 1, 2])
    def test_around_powers_of_two_to_a_whole_block_and_past_it(self, power: int, more: int) -> None:
        count = (1 << power) + more
        for numbers in (array(WORD, range(count)), array(WORD, range(1, 3 * count, 3))):
            universe = numbers[-1] + 1
            written = encode_blocks(numbers, universe)
            assert decode_blocks(written, 0, universe, "blocks") == (numbers, len(written))


class TestBlocks:
    @pytest.mark.parametrize("blocks", [1, 2, 3])
    @pytest.mark.parametrize("covered", [-2, -1, 0, 1, 2])
    @pytest.mark.parametrize("at", [-2, -1, 0, 1, 2])
    def test_positions_and_universes_at_the_edges(self, blocks: int, covered: int, at: int) -> None:
        universe, edge = blocks * BLOCK + covered, blocks * BLOCK + at
        around = {number for number in (0, BLOCK - 1, BLOCK, edge, edge + 1) if number < universe}
        for members in (around, around - {0}, around & {edge}, around & {edge, edge + 1}):
            numbers = numbers_of(*members)
            written = encode_blocks(numbers, universe)
            assert decode_blocks(written, 0, universe, "blocks") == (numbers, len(written))
            for cut in range(len(written)):
                with pytest.raises(ListError):
                    decode_blocks(written[:cut], 0, universe, "blocks")

    @given(st.sets(st.integers(0, 5 * BLOCK - 1), max_size=50), st.integers(0, BLOCK))
    def test_any_set(self, members: set[int], more: int) -> None:
        universe, numbers = max(members, default=-1) + 1 + more, numbers_of(*members)
        written = encode_blocks(numbers, universe)
        assert decode_blocks(b"?" + written + b"!", 1, universe, "blocks") == (numbers, 1 + len(written))

    def test_the_last_block_ends_with_the_universe(self) -> None:
        written = encode_blocks(numbers_of(1, BLOCK + 8), BLOCK + 9)
        with pytest.raises(ListError, match=f"goes to {BLOCK + 8}, and {BLOCK + 7} is the last number"):
            decode_blocks(written, 0, BLOCK + 8, "blocks")

    def test_each_block_has_a_parameter_of_its_own(self) -> None:
        """Half of one block and a thousandth of the next: together they take what each takes alone."""
        dense, rare = array(WORD, range(0, BLOCK, 2)), spread(1000, BLOCK, 2 * BLOCK)
        written = encode_blocks(dense + rare, 2 * BLOCK)
        assert written == encode_run(dense, 0) + encode_run(rare, BLOCK)
        assert (written[4], written[len(encode_run(dense, 0)) + 4]) == (0, 9)

    @pytest.mark.parametrize("share", [100, 50])
    def test_uniform_lists_are_near_the_information_bound(self, share: int) -> None:
        universe = 4 * BLOCK
        count = universe // share
        bound = math.lgamma(universe + 1) - math.lgamma(count + 1) - math.lgamma(universe - count + 1)
        written = encode_blocks(spread(count, 0, universe), universe)
        assert len(written) * 8 <= 1.01 * bound / math.log(2)
