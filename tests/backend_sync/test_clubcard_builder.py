"""Building a sparse deny list: right about every card, the same each time, and nothing comes out that is not."""

import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend_sync import clubcard_builder
from backend_sync.clubcard_builder import Built, build, verify
from backend_sync.publish_errors import PublishError
from backend_sync.ribbon_builder import (
    Asking,
    Columns,
    Ids,
    Ordered,
    TooManyFailedError,
    equations,
    noise,
    solve,
    triangulate,
)
from validator.lists.clubcard import NO_RARE, Clubcard, Status
from validator.lists.errors import ListError
from validator.lists.ribbon import WIDTH, Equations, Ribbon

COVERED_S = 1_700_000_000
BY = Equations(b"a salt of a test")
SEED = b"seed"
EDGES = [0, 1, 2**63, 2**64 - 1, 2**32, 2**32 - 1]
HALVES = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1))


@dataclass(frozen=True)
class Source:
    """A block of cards in memory."""

    name: bytes
    all_good: Ids
    all_revoked: Ids
    chunk: int = 1000
    covered_until_s: int = COVERED_S

    def good(self) -> Iterator[Ids]:
        return self._chunks(self.all_good)

    def revoked(self) -> Iterator[Ids]:
        return self._chunks(self.all_revoked)

    def _chunks(self, ids: Ids) -> Iterator[Ids]:
        return (ids[at : at + self.chunk] for at in range(0, len(ids), self.chunk))


@dataclass(frozen=True)
class Changing(Source):
    """A source that loses its last good card at one of the times that it is asked for them."""

    times: Iterator[int] = field(default_factory=itertools.count)
    at: int = 0

    def good(self) -> Iterator[Ids]:
        lost = int(next(self.times) == self.at)
        return self._chunks(self.all_good[: len(self.all_good) - lost])


def some_ids(count: int, seed: int) -> Ids:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), np.uint64)


def block(name: bytes, good: int, revoked: int, seed: int = 1) -> Source:
    return Source(name, some_ids(good, seed), some_ids(revoked, seed + 1000))


def octets(pair: NDArray[np.uint64]) -> bytes:
    return b"".join(int(half).to_bytes(8) for half in pair)


def bound_bits(cards: int, revoked: int) -> float:
    log_choices = math.lgamma(cards + 1) - math.lgamma(revoked + 1) - math.lgamma(cards - revoked + 1)
    return log_choices / math.log(2)


def assert_right(payload: bytes, *sources: Source) -> None:
    card = Clubcard.parse(payload)
    for source in sources:
        for expected, ids in ((Status.GOOD, source.all_good), (Status.DENIED, source.all_revoked)):
            for pair in ids:
                assert card.status(source.name, octets(pair), COVERED_S) is expected


class TestEquations:
    @given(pairs=st.lists(st.tuples(HALVES, HALVES), min_size=1, max_size=50), salt=st.binary(min_size=16, max_size=16))
    def test_numpy_and_a_gate_find_the_same(self, pairs: list[tuple[int, int]], salt: bytes) -> None:
        by = Equations(salt)
        found = equations(np.array(pairs, np.uint64), by)
        for number, (high, low) in enumerate(pairs):
            first, second, coefficients = by.of((high << 64 | low).to_bytes(16))
            assert (first, second) == (found.first[number], found.second[number])
            words = (int(word) << 64 * place for place, word in enumerate(found.coefficients[:, number]))
            assert coefficients == sum(words)

    @given(rows=st.integers(WIDTH, 3000), columns=st.integers(1, 4), seed=st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_numpy_and_a_gate_get_the_same_answer(self, rows: int, columns: int, seed: int) -> None:
        bits = (1 << rows) - 1
        drawn = [
            (int.from_bytes(noise(rows, b"%d %d" % (seed, number)), "little") & bits).to_bytes(
                (rows + 7) // 8, "little"
            )
            for number in range(columns)
        ]
        ids = some_ids(300, seed)
        found = equations(ids, BY)
        ribbon = Ribbon(rows, drawn)
        asked = [BY.of(octets(pair)) for pair in ids]
        expected = [number for number, each in enumerate(asked) if ribbon.vanishes(each[0], each[2])]
        assert Asking(Columns(rows, tuple(drawn))).vanishing(found.first, found.coefficients).tolist() == expected


class TestSolving:
    @given(count=st.integers(0, 900), rows=st.integers(WIDTH, 1200), seed=st.integers(0, 1000))
    @settings(max_examples=25, deadline=None)
    def test_each_equation_comes_out_or_is_said_to_fail(self, count: int, rows: int, seed: int) -> None:
        ids = some_ids(count, seed)
        wanted = np.random.default_rng(seed).integers(0, 2, count, np.uint8)
        ordered = Ordered(ids, BY, rows, second=True)
        triangle = triangulate(ordered.batches(wanted), rows, count)
        solved = solve(triangle, [noise(rows, b"free")])
        failed = set(ordered.order[triangle.failed].tolist())
        ribbon = Ribbon(rows, solved.columns)
        for number, pair in enumerate(ids):
            _, second, coefficients = BY.of(octets(pair))
            assert ribbon.vanishes(second, coefficients) == ((wanted[number] == 0) ^ (number in failed))

    @given(rows=st.integers(WIDTH, 600))
    @settings(max_examples=20)
    def test_a_free_row_keeps_its_bit(self, rows: int) -> None:
        triangle = triangulate([], rows)
        drawn = noise(rows, b"free")
        bits = int.from_bytes(drawn, "little") & ((1 << rows) - 1)
        assert int.from_bytes(solve(triangle, [drawn]).columns[0], "little") == bits

    def test_too_many_contradictions_end_it(self) -> None:
        ids = np.repeat(some_ids(5, 1), 2, axis=0)
        ordered = Ordered(ids, BY, 1000, second=True)
        wanted = np.tile(np.array([0, 1], np.uint8), 5)
        assert len(triangulate(ordered.batches(wanted), 1000, 5).failed) == 5
        with pytest.raises(TooManyFailedError, match="5 of the first 10"):
            triangulate(ordered.batches(wanted), 1000, 4)


class TestBuild:
    @given(sizes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=4), seed=st.binary(max_size=9))
    @settings(max_examples=25, deadline=None)
    def test_every_card_of_any_universe_is_told_apart(self, sizes: list[tuple[int, int]], seed: bytes) -> None:
        sources = [block(b"block %d" % number, *counts, seed=number) for number, counts in enumerate(sizes)]
        built = build(sources, seed)
        assert (built.good, built.revoked) == (sum(pair[0] for pair in sizes), sum(pair[1] for pair in sizes))
        assert_right(built.payload, *sources)

    def test_blocks_get_the_columns_that_their_rates_are_worth(self) -> None:
        sources = [
            block(b"one in a hundred", 9_900, 100, 1),
            block(b"one in ten", 9_000, 1_000, 2),
            block(b"half", 500, 500, 3),
            block(b"nearly all", 30, 3_000, 4),
            block(b"all", 0, 70, 5),
            block(b"none", 800, 0, 6),
            block(b"nobody", 0, 0, 7),
        ]
        built = build(sources, SEED)
        blocks = Clubcard.parse(built.payload).blocks
        assert {name: (each.rare, each.columns) for name, each in blocks.items()} == {
            b"one in a hundred": (Status.DENIED, 6),
            b"one in ten": (Status.DENIED, 3),
            b"half": (Status.DENIED, 0),
            b"nearly all": (Status.GOOD, 6),
            b"all": (Status.GOOD, NO_RARE),
            b"none": (Status.DENIED, NO_RARE),
            b"nobody": (Status.DENIED, NO_RARE),
        }
        assert_right(built.payload, *sources)

    def test_size_and_what_comes_through(self) -> None:
        cards, revoked = 600_000, 6_000
        built = build([block(b"a", cards - revoked, revoked)], SEED)
        assert 8 * len(built.payload) < 1.15 * bound_bits(cards, revoked)
        # 2**-6 of the good cards come through by chance, and few more: a ribbon that is too full lets more through.
        by_chance = (cards - revoked) / 64
        assert abs(built.equations - revoked - by_chance) < 5 * math.sqrt(by_chance)

    def test_the_same_universe_gives_the_same_bytes_in_whatever_order_it_comes(self) -> None:
        one, two = block(b"a", 3_000, 60), block(b"b", 2_000, 40, 2)
        turned = [
            replace(each, all_good=each.all_good[::-1], all_revoked=each.all_revoked[::-1], chunk=77)
            for each in (two, one)
        ]
        payload = build([one, two], SEED).payload
        assert build(turned, SEED).payload == payload
        assert build([one, two], b"another").payload != payload

    def test_progress_is_told(self) -> None:
        told: list[tuple[str, int, int]] = []
        build([block(b"a", 990, 10)], SEED, lambda *each: told.append(each))
        assert [each for each in told if each[1] in {each[2], 1000}] == [
            ("count", 1000, 0),
            ("first", 10, 10),
            ("sift", 990, 990),
            ("second", told[-3][2], told[-3][2]),
            ("check", 1000, 0),
        ]

    @pytest.mark.slow
    def test_a_million_and_in_a_soak_ten(self) -> None:
        cards = 10_000_000 if os.environ.get("PILET_SOAK") == "1" else 1_000_000
        built = build([block(b"a", cards - cards // 100, cards // 100)], SEED)
        assert built.exceptions <= built.equations / clubcard_builder.EQUATIONS_AN_EXCEPTION + 16
        assert 8 * len(built.payload) < 1.13 * bound_bits(cards, cards // 100)


class TestExceptions:
    @pytest.fixture(name="crowded")
    def _crowded(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, Built]:
        monkeypatch.setattr(clubcard_builder, "SECOND_EXCESS", (-0.5, -0.2))
        monkeypatch.setattr(clubcard_builder, "FEW_EXCEPTIONS", 400)
        source = block(b"a", 40_000, 1_000)
        return source, build([source], SEED)

    def test_equations_that_cannot_be_met_are_exceptions(self, crowded: tuple[Source, Built]) -> None:
        source, built = crowded
        assert built.exceptions == len(Clubcard.parse(built.payload).exceptions) > 0
        assert set(Clubcard.parse(built.payload).exceptions.values()) == {Status.GOOD, Status.DENIED}
        assert_right(built.payload, replace(source, all_good=source.all_good[::7]))

    def test_a_fuller_ribbon_is_tried_first(self, crowded: tuple[Source, Built]) -> None:
        assert (crowded[1].attempts, crowded[1].second_excess) == (2, -0.2)

    def test_they_are_the_same_in_whatever_order_the_cards_come(self, crowded: tuple[Source, Built]) -> None:
        source, built = crowded
        turned = replace(source, all_good=source.all_good[::-1], all_revoked=source.all_revoked[::-1])
        assert build([turned], SEED).payload == built.payload

    def test_it_gives_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clubcard_builder, "SECOND_EXCESS", (-0.5, -0.3))
        with pytest.raises(PublishError, match="try another seed"):
            build([block(b"a", 40_000, 1_000)], SEED)


class TestRefusals:
    @pytest.mark.parametrize(
        ("sources", "why"),
        [
            ([block(b"a", 9, 1), block(b"a", 9, 1, 2)], "61 is there twice"),
            ([block(b"", 9, 1)], "name has 0 bytes"),
            ([block(b"n" * 256, 9, 1)], "name has 256 bytes"),
            ([replace(block(b"a", 9, 1), covered_until_s=-1)], "no such time"),
            ([replace(block(b"a", 9, 1), covered_until_s=2**64)], "no such time"),
        ],
    )
    def test_blocks_that_no_list_can_hold(self, sources: list[Source], why: str) -> None:
        with pytest.raises(PublishError, match=why):
            build(sources, SEED)

    def test_a_card_that_is_both_good_and_revoked(self) -> None:
        source = block(b"a", 990, 10)
        twice = replace(source, all_good=np.concatenate([source.all_good, source.all_revoked[:1]]))
        with pytest.raises(PublishError, match="1 wrong answers"):
            build([twice], SEED)

    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_a_source_that_changes(self, at: int) -> None:
        source = block(b"a", 9_900, 100)
        with pytest.raises(PublishError, match="cards were counted"):
            build([Changing(b"a", source.all_good, source.all_revoked, at=at)], SEED)


class TestVerify:
    SOURCE = block(b"a", 4_000, 40)
    PAYLOAD = build([SOURCE], SEED).payload

    def test_each_wrong_answer_is_counted(self) -> None:
        source = self.SOURCE
        assert verify(self.PAYLOAD, [source]) == 0
        moved = replace(source, all_good=np.concatenate([source.all_good, source.all_revoked[3:10]]))
        assert verify(self.PAYLOAD, [moved]) == 7
        moved = replace(source, all_revoked=np.concatenate([source.all_revoked, source.all_good[5:9]]))
        assert verify(self.PAYLOAD, [moved]) == 4

    def test_a_block_that_is_missing_or_covered_otherwise_is_all_wrong(self) -> None:
        for other in (replace(self.SOURCE, name=b"b"), replace(self.SOURCE, covered_until_s=COVERED_S + 1)):
            assert verify(self.PAYLOAD, [other]) >= 4_040

    @pytest.mark.parametrize("answer", [Status.GOOD, Status.DENIED, Status.UNCOVERED])
    def test_a_gates_reader_is_asked_too(self, answer: Status, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Clubcard, "status", lambda *_: answer)
        assert (
            verify(self.PAYLOAD, [self.SOURCE]) == 2 * 4 + 1
        )  # the samples: two of each thousand good cards, and one of the revoked

    def test_a_gates_reader_that_forgets_the_coverage_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = Clubcard.status
        monkeypatch.setattr(Clubcard, "status", lambda card, name, each, _: told(card, name, each, COVERED_S))
        assert (
            verify(self.PAYLOAD, [self.SOURCE]) == 2 * 4 + 1
        )  # the samples: two of each thousand good cards, and one of the revoked

    def test_a_damaged_payload_is_refused(self) -> None:
        with pytest.raises(ListError):
            verify(self.PAYLOAD[:-1], [self.SOURCE])
