"""Deltas of the dense deny list: they lead from one state to the next, in order, and nowhere else."""

import dataclasses
import os
import random
from array import array
from collections.abc import Iterable
from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.tracing import peak_bytes
from validator.lists.dense_delta import (
    DenseDelta,
    WrongBaseError,
    apply,
    between,
    combine,
    decode_dense_delta,
    encode_dense_delta,
)
from validator.lists.dense_deny import MAX_COVERS, DenseDeny, dense_deny
from validator.lists.errors import ListError
from validator.lists.rice import BLOCK, WORD

SOAK = os.environ.get("PILET_SOAK") == "1"
ISSUER, OTHER = bytes(range(16)), bytes(range(1, 17))
HEAD_BYTES, RUN_HEAD_BYTES = 112, 9

OLD = dense_deny(ISSUER, 100, [10, 20, 30])
NEW = dense_deny(ISSUER, 120, [5, 10, 30, 110])


def numbers_of(*members: int) -> "array[int]":
    return array(WORD, members)


def listed(members: Iterable[int], covers: int) -> DenseDeny:
    return dense_deny(ISSUER, covers, sorted(members))


@st.composite
def chains(draw: st.DrawFn, least: int = 2, most: int = 2) -> list[DenseDeny]:
    """States of one list: its coverage grows, numbers come and go; the later the more like each other they are."""
    scale = draw(st.sampled_from([1, BLOCK // 20, MAX_COVERS // 100]))
    chain: list[DenseDeny] = []
    covers, members = draw(st.integers(0, 80)), set[int]()
    for _ in range(draw(st.integers(least, most))):
        members ^= draw(st.sets(st.integers(0, covers - 1), max_size=30)) if covers else set()
        chain.append(listed({number * scale for number in members}, covers * scale))
        covers += draw(st.integers(0, 4))
    return chain


def steps(chain: list[DenseDeny]) -> list[DenseDelta]:
    return [between(old, new) for old, new in pairwise(chain)]


class TestLaws:
    @given(chains())
    def test_what_is_between_two_leads_from_one_to_the_other(self, chain: list[DenseDeny]) -> None:
        old, new = chain
        before = old.numbers[:]
        changed = apply(old, between(old, new))
        assert (changed, changed.numbers, changed.covers) == (new, new.numbers, new.covers)
        assert old.numbers == before

    @given(chains())
    def test_what_is_between_two_is_the_difference_of_sets(self, chain: list[DenseDeny]) -> None:
        old, new = chain
        delta = between(old, new)
        assert list(delta.added) == sorted(set(new.numbers) - set(old.numbers))
        assert list(delta.removed) == sorted(set(old.numbers) - set(new.numbers))

    @given(chains(1, 1))
    def test_nothing_is_between_a_list_and_itself(self, chain: list[DenseDeny]) -> None:
        delta = between(chain[0], chain[0])
        assert not delta.added
        assert not delta.removed
        assert apply(chain[0], delta) == chain[0]

    @given(chains(3, 6))
    def test_a_chain_may_be_combined_and_is_what_is_between_its_ends(self, chain: list[DenseDeny]) -> None:
        cumulative = reduce(combine, steps(chain))
        assert cumulative == between(chain[0], chain[-1])
        assert apply(chain[0], cumulative) == chain[-1]

    @given(chains(4, 4))
    def test_in_whatever_order_it_is_combined(self, chain: list[DenseDeny]) -> None:
        first, second, third = steps(chain)
        assert combine(combine(first, second), third) == combine(first, combine(second, third))

    @given(chains(3, 5), st.data())
    def test_a_chain_has_one_order_and_leaves_nothing_out(self, chain: list[DenseDeny], data: st.DataObject) -> None:
        state, delta = data.draw(st.sampled_from(chain)), data.draw(st.sampled_from(steps(chain)))
        if delta.base == state.state_hash:
            assert apply(state, delta).state_hash == delta.new
        else:
            with pytest.raises(WrongBaseError, match="is for the state"):
                apply(state, delta)

    @given(chains())
    def test_what_is_written_is_what_is_read(self, chain: list[DenseDeny]) -> None:
        delta = between(*chain)
        payload = encode_dense_delta(delta)
        assert decode_dense_delta(payload) == delta
        assert encode_dense_delta(decode_dense_delta(payload)) == payload

    @given(chains(), st.data())
    def test_changed_bits_lead_nowhere(self, chain: list[DenseDeny], data: st.DataObject) -> None:
        old, new = chain
        changed = bytearray(encode_dense_delta(between(old, new)))
        bit = data.draw(st.integers(0, 8 * len(changed) - 1))
        changed[bit // 8] ^= 1 << bit % 8
        try:
            delta = decode_dense_delta(bytes(changed))
        except ListError:
            return
        assert encode_dense_delta(delta) == changed
        with pytest.raises(ListError):
            apply(old, delta)

    @given(chains(), st.data(), st.binary(max_size=20))
    def test_another_tail_is_refused(self, chain: list[DenseDeny], data: st.DataObject, tail: bytes) -> None:
        payload = encode_dense_delta(between(*chain))
        changed = payload[: data.draw(st.integers(0, len(payload)))] + tail
        if changed != payload and len(changed) != len(payload):
            with pytest.raises(ListError):
                decode_dense_delta(changed)

    @hostile
    @given(
        octets=st.one_of(st.binary(max_size=60), st.binary(min_size=60, max_size=200)),
        covers=st.tuples(st.integers(0, MAX_COVERS + 1), st.integers(0, MAX_COVERS + 1)),
        framed=st.booleans(),
    )
    def test_any_octets_are_refused_or_are_what_is_written(
        self, octets: bytes, covers: tuple[int, int], *, framed: bool
    ) -> None:
        head = b"pilet-ddelta/1\0\0" + bytes(80) + covers[0].to_bytes(8) + covers[1].to_bytes(8)
        payload = head + octets if framed else octets
        try:
            delta = decode_dense_delta(payload)
        except ListError:
            return
        assert encode_dense_delta(delta) == payload


class TestApply:
    DELTA = between(OLD, NEW)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"issuer": OTHER}, "is for the issuer 0102"),
            ({"base": NEW.state_hash}, "is for the state"),
            ({"covers_before": 99}, "is for a list that covers 99, the list covers 100"),
            ({"covers_before": 121}, "goes back from 121 indices covered to 120"),
            ({"covers": 99}, "goes back from 100 indices covered to 99"),
            ({"covers": 110}, "added: the number 110 is beyond the 110 indices"),
            ({"covers": 121}, "leads to the state"),
            ({"covers": MAX_COVERS + 1}, "covers 4294967297 indices"),
            ({"added": numbers_of(5, 30, 110)}, "adds the number 30, which is listed already"),
            ({"added": numbers_of(5, 20, 110)}, "adds and removes the same number"),
            ({"added": numbers_of(110, 5)}, "added: number 1 is 5, not greater"),
            ({"added": numbers_of(5, 110, 110)}, "added: number 2 is 110, not greater"),
            ({"added": numbers_of(5)}, "leads to the state"),
            ({"removed": numbers_of(20, 40)}, "removes the number 40, which is not listed"),
            ({"removed": numbers_of(99)}, "removes the number 99, which is not listed"),
            ({"removed": numbers_of(100)}, "removed: the number 100 is beyond the 100 indices"),
            ({"removed": numbers_of()}, "leads to the state"),
            ({"new": OLD.state_hash}, "leads to the state"),
            ({"new": bytes(31)}, "state hashes of 32 and 31 bytes"),
            ({"base": bytes(33)}, "state hashes of 33 and 32 bytes"),
            ({"issuer": bytes(15)}, "an issuer's id of 15 bytes"),
        ],
        ids=str,
    )
    def test_refuses_with_a_reason(self, change: dict[str, object], why: str) -> None:
        assert apply(OLD, self.DELTA) == NEW
        with pytest.raises(ListError, match=why) as caught:
            apply(OLD, dataclasses.replace(self.DELTA, **change), "delta 7")  # type: ignore[arg-type]  # one test for fields of several types
        assert caught.value.where == "delta 7"
        assert isinstance(caught.value, WrongBaseError) == why.startswith("is for the state")

    def test_twice_is_refused(self) -> None:
        with pytest.raises(WrongBaseError):
            apply(apply(OLD, self.DELTA), self.DELTA)

    def test_a_removed_card_is_refused_no_longer(self) -> None:
        changed = apply(OLD, self.DELTA)
        assert [index for index in range(120) if changed.denied(index)] == [5, 10, 30, 110]
        assert OLD.denied(20)

    @pytest.mark.parametrize("size", [BLOCK - 2, BLOCK - 1, BLOCK, BLOCK + 1])
    def test_at_both_ends_of_a_long_list(self, size: int) -> None:
        numbers = array(WORD, range(1, 2 * size, 2))
        old = dense_deny(ISSUER, 2 * size + 9, numbers)
        new = dense_deny(ISSUER, 2 * size + 9, numbers_of(0) + numbers[1:-1] + numbers_of(2 * size + 8))
        delta = between(old, new)
        assert delta.added == numbers_of(0, 2 * size + 8)
        assert delta.removed == numbers_of(1, 2 * size - 1)
        assert apply(old, delta).numbers == new.numbers


class TestBetweenAndCombine:
    def test_different_issuers(self) -> None:
        other = dense_deny(OTHER, 120, [])
        with pytest.raises(ListError, match=r"between the issuers 0001.* and 0102"):
            between(OLD, other)
        with pytest.raises(ListError, match="of the issuers"):
            combine(between(OLD, NEW), between(other, other))

    def test_coverage_never_goes_back(self) -> None:
        with pytest.raises(ListError, match="goes back from 120 indices covered to 100"):
            between(NEW, OLD)

    def test_only_what_follows_is_combined(self) -> None:
        with pytest.raises(WrongBaseError, match="goes on from the state"):
            combine(between(OLD, NEW), between(OLD, NEW))

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"covers_before": 119}, "goes on from 119 indices covered, and leads to 120"),
            ({"added": numbers_of(110)}, "adds or removes a number twice"),
            ({"removed": numbers_of(20)}, "adds or removes a number twice"),
            ({"removed": numbers_of(115)}, "removed: the number 115 is beyond the 100 indices"),
            ({"added": numbers_of(2, 1)}, "added: number 1 is 1, not greater"),
        ],
        ids=str,
    )
    def test_deltas_that_contradict_each_other_are_not_combined(self, change: dict[str, object], why: str) -> None:
        follows = between(NEW, NEW)
        with pytest.raises(ListError, match=why):
            combine(between(OLD, NEW), dataclasses.replace(follows, **change))  # type: ignore[arg-type]  # as above

    def test_what_is_taken_back_is_in_it_no_more(self) -> None:
        back = dense_deny(ISSUER, 120, [10, 20, 30])
        combined = combine(between(OLD, NEW), between(NEW, back))
        assert (combined.added, combined.removed) == (numbers_of(), numbers_of())
        assert apply(OLD, combined) == back

    @pytest.mark.parametrize("more", [0, 1])
    def test_a_million_changes_are_the_most(self, more: int) -> None:
        old, new = listed([], 2 * BLOCK), listed(range(BLOCK + more), 2 * BLOCK)
        if more:
            with pytest.raises(ListError, match="added: 1048577 numbers, 1048576 is the most"):
                between(old, new)
        else:
            delta = decode_dense_delta(encode_dense_delta(between(old, new)))
            assert apply(old, delta).numbers == new.numbers


class TestPayload:
    def test_seventy_cards_of_a_hundred_million_take_two_hundred_bytes(self) -> None:
        world = 100_000_000
        stolen = sorted(random.Random(7).sample(range(world), 70))
        delta = between(dense_deny(ISSUER, world, []), dense_deny(ISSUER, world, stolen))
        assert len(encode_dense_delta(delta)) <= HEAD_BYTES + 2 * RUN_HEAD_BYTES + 200

    @pytest.mark.parametrize(
        "change",
        [{"added": numbers_of(2, 1)}, {"covers": 99}, {"covers_before": -1, "removed": numbers_of()}, {"new": b""}],
        ids=str,
    )
    def test_what_nobody_could_apply_is_not_written(self, change: dict[str, object]) -> None:
        with pytest.raises(ListError):
            encode_dense_delta(dataclasses.replace(between(OLD, NEW), **change))  # type: ignore[arg-type]  # as above

    def test_octets_after_its_end_are_refused(self) -> None:
        with pytest.raises(ListError, match="2 octets are left over"):
            decode_dense_delta(encode_dense_delta(between(OLD, NEW)) + bytes(2))

    @pytest.mark.parametrize("covers", [MAX_COVERS, MAX_COVERS + 1, (1 << 64) - 1])
    @pytest.mark.parametrize("place", [0, 1])
    def test_an_index_has_32_bits_whatever_is_covered(self, covers: int, place: int) -> None:
        """2 ** 32, as a run of one number with k = 31 that is otherwise sound."""
        beyond, nothing = bytes.fromhex("00000001 1f 00000001 20 00000000"), bytes(RUN_HEAD_BYTES)
        runs = [nothing + beyond, beyond + nothing][place]
        with pytest.raises(ListError, match="goes to 4294967296, and 4294967295 is the last number"):
            decode_dense_delta(b"pilet-ddelta/1\0\0" + bytes(80) + covers.to_bytes(8) * 2 + runs)

    @pytest.mark.parametrize("covers", [MAX_COVERS, MAX_COVERS + 1, (1 << 64) - 1])
    @pytest.mark.parametrize("count", [1, 1 << 20, (1 << 32) - 1])
    def test_a_few_octets_never_cost_memory(self, covers: int, count: int) -> None:
        head = b"pilet-ddelta/1\0\0" + bytes(80) + covers.to_bytes(8) * 2

        def decode() -> None:
            with pytest.raises(ListError):
                decode_dense_delta(head + count.to_bytes(4) + b"\0" + b"\xff" * 4)

        assert peak_bytes(decode) < 100_000

    @pytest.mark.timeout(3600 if SOAK else 120)
    def test_every_length_and_every_cut(self) -> None:
        """Deltas of every length; each cut short, and with a bit changed, leads nowhere."""
        world, rng = 10_000_000, random.Random(11)
        members = rng.sample(range(world), 20_000)
        old = listed(members[:10_000], world)
        for length in range(20_001) if SOAK else [*range(100), *range(100, 20_001, 991)]:
            half = length // 2
            delta = between(old, listed(members[half : 10_000 + length - half], world))
            payload = encode_dense_delta(delta)
            assert len(delta.added) + len(delta.removed) == length
            assert decode_dense_delta(payload) == delta
            with pytest.raises(ListError):
                decode_dense_delta(payload[: rng.randrange(len(payload))])
            bit = rng.randrange(8 * len(payload))
            flipped = bytearray(payload)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ListError):
                apply(old, decode_dense_delta(bytes(flipped)))
