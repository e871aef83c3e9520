"""The population of the lists' benchmark: the same from the same seed, however it is cut."""

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.population import ISSUERS, PRODUCTS, YEARS, Block, Chunk, Issuer, Population, choices_bits

CARDS = 200_000
RATE = 0.01
SEEDS = [0, 1, 2**63, 2**64 - 1]


def plan(mode: str, seed: int = 1) -> Population:
    if mode == "uniform":
        return Population.uniform(seed, CARDS, round(CARDS * RATE))
    return Population.realistic(seed, CARDS, RATE)


nation = cache(plan)


@cache
def whole(mode: str, seed: int = 1) -> Chunk:
    return nation(mode, seed).chunk(0, CARDS)


modes = st.sampled_from(["uniform", "realistic"])
seeds = st.sampled_from(SEEDS)


@pytest.mark.parametrize("mode", ["uniform", "realistic"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_card_is_a_function_of_the_seed_and_its_number(mode: str, seed: int) -> None:
    one, same, other = nation(mode, seed), plan(mode, seed), nation(mode, seed ^ 1)
    for number in range(0, CARDS, 997):
        assert one.card(number) == same.card(number)
        assert one.card(number).credential_id != other.card(number).credential_id


@given(modes, seeds, st.integers(0, CARDS - 1))
def test_numpy_and_plain_python_agree(mode: str, seed: int, number: int) -> None:
    card, chunk = nation(mode, seed).card(number), nation(mode, seed).chunk(number, number + 1)
    assert chunk.ids.astype(">u8").tobytes() == card.credential_id
    assert chunk.revoked.tolist() == [card.revoked]
    assert chunk.numbers.tolist() == [number]


@given(modes, st.integers(0, CARDS), st.integers(0, CARDS), st.integers(1, CARDS))
def test_where_chunks_are_cut_does_not_matter(mode: str, one: int, other: int, size: int) -> None:
    first, stop = sorted((one, other))
    size = max(size, (stop - first) // 10)
    chunks = list(nation(mode).chunks(first, stop, size))
    assert all(0 < len(chunk.numbers) <= size for chunk in chunks)
    for name in ("numbers", "ids", "revoked"):
        parts = [getattr(chunk, name) for chunk in chunks]
        expected = getattr(whole(mode), name)[first:stop]
        assert np.array_equal(np.concatenate([expected[:0], *parts]), expected)


@pytest.mark.parametrize("mode", ["uniform", "realistic"])
@pytest.mark.parametrize("seed", [1, 2, 2**64 - 1])
def test_each_block_has_exactly_as_many_revoked_cards_as_its_plan_says(mode: str, seed: int) -> None:
    population, revoked = nation(mode, seed), whole(mode, seed).revoked
    for block in population.blocks:
        assert np.count_nonzero(revoked[block.first : block.first + block.cards]) == block.revoked
    assert population.revoked_cards == round(CARDS * RATE)
    assert sum(block.cards for block in population.blocks) == CARDS


@pytest.mark.parametrize("cards", [*range(1, 70), 127, 128, 129, 1000])
def test_small_blocks_are_exact_too(cards: int) -> None:
    for revoked in {0, 1, cards // 2, cards}:
        population = Population.uniform(5, cards, revoked)
        assert np.count_nonzero(population.chunk(0, cards).revoked) == revoked
        assert [population.card(number).revoked for number in range(cards)] == population.revoked(0, cards).tolist()


def test_issuers_years_and_products_have_the_rates_that_are_assumed() -> None:
    population = nation("realistic")
    cards: Counter[str] = Counter()
    revoked: Counter[str] = Counter()
    for block in population.blocks:
        for name in (population.issuers[block.issuer].name, str(block.year), block.product):
            cards[name] += block.cards
            revoked[name] += block.revoked
    for traits in (ISSUERS, YEARS, PRODUCTS):
        average = sum(trait.share * trait.rate for trait in traits) / sum(trait.share for trait in traits)
        for trait in traits:
            share = trait.share / sum(other.share for other in traits)
            # Each of 240 blocks is rounded by less than a card, in its size and in its revoked cards.
            assert abs(cards[trait.name] - CARDS * share) < 240
            expected = RATE * trait.rate / average
            assert abs(revoked[trait.name] / cards[trait.name] - expected) < 240 / cards[trait.name]
    rates = [block.revoked / block.cards for block in population.blocks if block.cards > 1000]
    assert max(rates) > 10 * min(rates)


def test_revoked_cards_fall_as_evenly_as_chance_lets_them() -> None:
    """Fifty slices of the numbers, and their last bits: the sum of squares is within six deviations of its mean."""
    for seed in range(3):
        population = Population.uniform(seed, CARDS, CARDS // 10)
        revoked = np.flatnonzero(population.revoked(0, CARDS))
        for classes, width in ((revoked // (CARDS // 50), 50), (revoked % 64, 64)):
            counts = np.bincount(classes, minlength=width)
            mean = counts.mean()
            squares = float(((counts - mean) ** 2).sum() / (mean * (1 - 0.1)))
            assert abs(squares - (width - 1)) < 6 * math.sqrt(2 * (width - 1))


def test_gaps_between_revoked_cards_are_those_of_chance() -> None:
    """Kolmogorov and Smirnov: the distance from the geometric distribution, at a level of one in a hundred million."""
    revoked = np.flatnonzero(Population.uniform(3, 1_000_000, 10_000).revoked(0, 1_000_000))
    gaps = np.sort(np.diff(revoked))
    points = np.arange(1, gaps.max() + 1)
    found = np.searchsorted(gaps, points, side="right") / len(gaps)
    assert np.abs(found - (1 - 0.99**points)).max() < 3.1 / math.sqrt(len(gaps))


@pytest.mark.parametrize("mode", ["uniform", "realistic"])
def test_ids_are_distinct_and_uniform(mode: str) -> None:
    ids = whole(mode).ids
    for half in (0, 1):
        words = ids[:, half]
        assert len(np.unique(words)) == CARDS
        ones = np.array([np.count_nonzero(words >> np.uint64(bit) & np.uint64(1)) for bit in range(64)])
        # Six deviations of a fair coin thrown for each card.
        assert np.abs(ones - CARDS / 2).max() < 6 * math.sqrt(CARDS) / 2


def test_revoked_cards_are_not_told_by_their_ids() -> None:
    chunk = whole("uniform")
    among = chunk.ids[chunk.revoked]
    for bit in range(64):
        ones = np.count_nonzero(among >> np.uint64(bit) & np.uint64(1), axis=0)
        assert np.abs(ones - len(among) / 2).max() < 6 * math.sqrt(len(among)) / 2


@given(modes, st.integers(0, CARDS - 1))
def test_a_cards_index_counts_from_its_issuers_first(mode: str, number: int) -> None:
    population = nation(mode)
    card = population.card(number)
    issuer = population.issuers[card.block.issuer]
    assert card.index == number - issuer.first
    assert 0 <= card.index < issuer.cards
    assert card.block.first <= number < card.block.first + card.block.cards


@given(modes, st.integers(0, CARDS - 2))
def test_cards_of_a_block_are_issued_in_the_order_of_their_numbers(mode: str, number: int) -> None:
    population = nation(mode)
    one, following = population.card(number), population.card(number + 1)
    assert one.block != following.block or one.issued_s <= following.issued_s
    assert np.datetime64(one.issued_s, "s").astype("datetime64[Y]") == np.datetime64(str(one.block.year))


def test_issuers_have_keys_of_their_own_and_share_the_numbers_among_them() -> None:
    issuers = nation("realistic").issuers
    assert len({issuer.key_id for issuer in issuers}) == len(issuers)
    assert all(len(issuer.key_id) == 16 for issuer in issuers)
    assert [issuer.first for issuer in issuers] == [
        sum(issuer.cards for issuer in issuers[:place]) for place in range(len(issuers))
    ]
    assert sum(issuer.cards for issuer in issuers) == CARDS


@given(st.integers(1, 200), st.data())
def test_the_bound_counts_the_ways_to_choose(cards: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, cards))
    assert choices_bits(cards, chosen) == pytest.approx(math.log2(math.comb(cards, chosen)), abs=1e-9)


def test_knowing_the_rates_of_blocks_saves_octets() -> None:
    population = nation("realistic")
    assert population.bound_bits(by_block=True) < 0.95 * population.bound_bits()
    assert nation("uniform").bound_bits(by_block=True) == nation("uniform").bound_bits()


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [Block(0, 2026, "adult", 1, 10, 0)],
        [Block(0, 2026, "adult", 0, 10, 11)],
        [Block(0, 2026, "adult", 0, 10, -1)],
        [Block(0, 2026, "adult", 0, 0, 0), Block(0, 2026, "adult", 0, 5, 0)],
        [Block(0, 2026, "adult", 0, 10, 1), Block(0, 2026, "child", 11, 10, 1)],
        [Block(0, 2026, "adult", 0, 2**32 + 1, 1)],
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused(blocks: list[Block]) -> None:
    with pytest.raises(ValueError, match=r"block|cards"):
        Population(1, [Issuer("A", bytes(16), 0, 10)], blocks)


def test_there_is_no_card_beyond_the_last() -> None:
    population = nation("uniform")
    for number in (-1, CARDS):
        with pytest.raises(IndexError):
            population.card(number)
    for first, stop in ((0, CARDS + 1), (-1, 1), (2, 1)):
        with pytest.raises(IndexError):
            population.chunk(first, stop)
        with pytest.raises(IndexError):
            population.revoked(first, stop)


def test_so_many_revoked_that_a_block_has_not_as_many_cards_is_refused() -> None:
    with pytest.raises(ValueError, match="no more than it has"):
        Population.realistic(1, CARDS, 0.5)
