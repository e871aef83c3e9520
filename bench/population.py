"""A nation's cards from a seed: any card at once, by its number, and none of them held as an object.

A card's credential id and whether it is revoked are functions of the seed and the card's number, so that chunks can be
made anywhere, twice, and in any order, and a hundred million cards cost the memory of one chunk. One formula serves
numpy's arrays and Python's integers.

- The id is two words of 64 bits, each a mixing of key + number x odd constant, as in splitmix64 (Steele, Lea, Flood:
  Fast splittable pseudorandom number generators, 2014; the second with MurmurHash3's constants). Each mixing is one to
  one, so that no two cards share an id. It stands for the SHA-256 of a key: uniform bits.
- Exactly so many cards of a block are revoked as its rate says, every set of them alike for what is measured here: a
  keyed one-to-one mixing of the places in a block, where a result beyond the block is mixed again (cycle walking:
  Black, Rogaway: Ciphers with arbitrary finite domains, 2002), and the cards that land first are revoked. An exact
  count gives an exact information bound.

The numbers of cards run through issuers, then years, then products, each in a range of its own. A card's index at its
issuer is its number less the issuer's first. Cards of a block are issued evenly over its year, in the order of numbers.

What is assumed and not measured: everything in `ISSUERS`, `YEARS` and `PRODUCTS`. Nobody publishes these figures. They
are meant to be unlike each other in the way that real ones are: some issuers are far larger, more young cards than old
ones are about, the chance of having been lost grows with age, and children lose more cards than the old do.
"""

import datetime as dt
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

CHUNK: Final = 1 << 20
"""Cards of a chunk, if nobody says otherwise: some 17 MB of ids, and as much again while they are made."""
MOST_CARDS: Final = 1 << 32
"""An index has 32 bits."""
_WORD: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
"""Splitmix64's increment: odd, so that key + number x step is another word for each number."""
_ODD: Final = (0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F, 0x165667B1)
"""Of the rounds that mix a block's places: the odd constants of MurmurHash3 and xxHash, 32 bits."""

Words = TypeVar("Words", int, NDArray[np.uint64])
Places = TypeVar("Places", int, NDArray[np.uint32])


class Trait(NamedTuple):
    """What sets some cards apart.

    Attributes:
        name: What they are called.
        share: Their share of the cards, against the others'.
        rate: Their chance of being revoked, against the others'.
    """

    name: str
    share: float
    rate: float


ISSUERS: Final = (
    Trait("issuer A", 40, 1.0),
    Trait("issuer B", 25, 0.6),
    Trait("issuer C", 15, 1.5),
    Trait("issuer D", 10, 0.3),
    Trait("issuer E", 7, 1.0),
    Trait("issuer F", 3, 4.0),
)
YEARS: Final = tuple(Trait(str(2026 - age), 20 - 2 * age, 0.5 + age) for age in range(9, -1, -1))
PRODUCTS: Final = (Trait("adult", 62, 1.0), Trait("child", 12, 2.5), Trait("senior", 22, 0.4), Trait("staff", 4, 0.2))


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who issued a range of cards.

    Attributes:
        name: For people.
        key_id: 16 bytes, as the id of an issuer's key.
        first: The first number; the card with it has index 0 at this issuer.
        cards: How many.
    """

    name: str
    key_id: bytes
    first: int
    cards: int


@dataclass(frozen=True, slots=True)
class Block:
    """Cards that are alike: of one issuer, year and product.

    Attributes:
        issuer: Place of the issuer among the population's.
        year: When they were issued.
        product: Name of the product.
        first: The first number.
        cards: How many.
        revoked: How many of them are revoked.
    """

    issuer: int
    year: int
    product: str
    first: int
    cards: int
    revoked: int


@dataclass(frozen=True, slots=True)
class Card:
    """One card.

    Attributes:
        index: At its issuer.
        credential_id: 16 bytes.
        block: What it belongs to.
        revoked: Whether it is revoked.
        issued_s: When it was issued, Unix seconds.
    """

    index: int
    credential_id: bytes
    block: Block
    revoked: bool
    issued_s: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Cards with consecutive numbers.

    Attributes:
        numbers: Of the cards, ascending.
        ids: Shape (n, 2): the big-endian halves of each id.
        revoked: Whether each is revoked.
    """

    numbers: NDArray[np.uint32]
    ids: NDArray[np.uint64]
    revoked: NDArray[np.bool_]


class Population:
    """All cards of a nation.

    Attributes:
        cards: How many.
        revoked_cards: How many of them are revoked.
        issuers: By number of their cards.
        blocks: The same; without gaps, empty ones left out.
    """

    def __init__(self, seed: int, issuers: Sequence[Issuer], blocks: Sequence[Block]) -> None:
        """Take a plan; `uniform` and `realistic` make one.

        Args:
            seed: 64 bits.
            issuers: Those that blocks name.
            blocks: In order of their numbers, from 0 and without gaps.

        Raises:
            ValueError: The blocks leave a gap, revoke more cards than they have, or are too many for 32 bits.
        """
        self.issuers = tuple(issuers)
        self.blocks = tuple(blocks)
        self.cards = sum(block.cards for block in blocks)
        self.revoked_cards = sum(block.revoked for block in blocks)
        if not 0 < self.cards <= MOST_CARDS:
            raise ValueError(f"{self.cards} cards: at least 1, and at most {MOST_CARDS} that 32 bits can count")
        expected = 0
        for block in blocks:
            if block.first != expected or not 0 <= block.revoked <= block.cards or not block.cards:
                raise ValueError(f"block {block}: it is to begin at {expected}, and to revoke no more than it has")
            expected += block.cards
        self._firsts = [block.first for block in blocks]
        self._high_key, self._low_key = _key(seed, 0), _key(seed, 1)
        self._rounds = [tuple(_key(seed, 2 + len(_ODD) * place + turn) for turn in range(len(_ODD)))
                        for place in range(len(blocks))]  # fmt: skip

    @classmethod
    def uniform(cls, seed: int, cards: int, revoked: int) -> "Population":
        """Plan one issuer and one block, any `revoked` of whose `cards` cards are revoked."""
        issuer = Issuer(ISSUERS[0].name, _issuer_key_id(seed, ISSUERS[0].name), 0, cards)
        return cls(seed, [issuer], [Block(0, int(YEARS[-1].name), PRODUCTS[0].name, 0, cards, revoked)])

    @classmethod
    def realistic(cls, seed: int, cards: int, rate: float) -> "Population":
        """Plan blocks with rates of their own, by the assumptions above, so that `rate` of all cards are revoked.

        Raises:
            ValueError: `rate` is so great that all cards of some block would have to be revoked.
        """
        kinds = [(place, year, product) for place in range(len(ISSUERS)) for year in YEARS for product in PRODUCTS]
        sizes = _apportioned(cards, [ISSUERS[place].share * year.share * product.share
                                     for place, year, product in kinds])  # fmt: skip
        rates = [ISSUERS[place].rate * year.rate * product.rate for place, year, product in kinds]
        weights = [size * block_rate for size, block_rate in zip(sizes, rates, strict=True)]
        revoked = _apportioned(round(cards * rate), weights)
        issuers, blocks, first = [], [], 0
        for place, trait in enumerate(ISSUERS):
            begin = first
            for (of, year, product), size, count in zip(kinds, sizes, revoked, strict=True):
                if of == place and size:
                    blocks.append(Block(place, int(year.name), product.name, first, size, count))
                    first += size
            issuers.append(Issuer(trait.name, _issuer_key_id(seed, trait.name), begin, first - begin))
        return cls(seed, issuers, blocks)

    def card(self, number: int) -> Card:
        """Return one card, without numpy.

        Raises:
            IndexError: There is no such card.
        """
        if not 0 <= number < self.cards:
            raise IndexError(f"card {number} of {self.cards}")
        place = bisect_right(self._firsts, number) - 1
        block = self.blocks[place]
        offset = number - block.first
        begin, end = (int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) for year in (block.year, block.year + 1))
        return Card(
            number - self.issuers[block.issuer].first,
            _high(self._high_key, number).to_bytes(8) + _low(self._low_key, number).to_bytes(8),
            block,
            self._landing(place, offset) < block.revoked,
            begin + offset * (end - begin) // block.cards,
        )

    def ids(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """Return the ids of cards, shape (n, 2): the big-endian halves of each."""
        wide = numbers.astype(np.uint64)
        return np.stack([_high(self._high_key, wide), _low(self._low_key, wide)], axis=1)

    def revoked(self, first: int, stop: int) -> NDArray[np.bool_]:
        """Return whether each of the cards from `first` up to `stop`, less one, is revoked.

        Raises:
            IndexError: There are no such cards.
        """
        if not 0 <= first <= stop <= self.cards:
            raise IndexError(f"cards {first} to {stop} of {self.cards}")
        parts = [np.empty(0, np.bool_)]
        place = bisect_right(self._firsts, first) - 1
        while first < stop:
            block = self.blocks[place]
            end = min(stop, block.first + block.cards)
            offsets = np.arange(first - block.first, end - block.first, dtype=np.uint32)
            parts.append(self._landings(place, offsets) < block.revoked)
            first, place = end, place + 1
        return np.concatenate(parts)

    def chunk(self, first: int, stop: int) -> Chunk:
        """Return the cards from `first` up to `stop`, less one.

        Raises:
            IndexError: There are no such cards.
        """
        revoked = self.revoked(first, stop)
        numbers = np.arange(first, stop, dtype=np.uint32)
        return Chunk(numbers, self.ids(numbers), revoked)

    def chunks(self, first: int = 0, stop: int | None = None, size: int = CHUNK) -> Iterator[Chunk]:
        """Yield the cards from `first` up to `stop`, less one (all by default), at most `size` at a time."""
        stop = self.cards if stop is None else stop
        for begin in range(first, stop, size):
            yield self.chunk(begin, min(begin + size, stop))

    def bound_bits(self, *, by_block: bool = False) -> float:
        """Return how many bits it takes to name the revoked cards.

        Args:
            by_block: For whoever knows beforehand how many there are in each block.
        """
        if by_block:
            return sum(choices_bits(block.cards, block.revoked) for block in self.blocks)
        return choices_bits(self.cards, self.revoked_cards)

    def _landing(self, place: int, offset: int) -> int:
        cards = self.blocks[place].cards
        landed = _mixed(offset, self._rounds[place], cards)
        while landed >= cards:
            landed = _mixed(landed, self._rounds[place], cards)
        return landed

    def _landings(self, place: int, offsets: NDArray[np.uint32]) -> NDArray[np.uint32]:
        cards, rounds = self.blocks[place].cards, self._rounds[place]
        landed = _mixed(offsets, rounds, cards)
        astray = np.flatnonzero(landed >= cards)
        while astray.size:
            again = _mixed(landed[astray], rounds, cards)
            landed[astray] = again
            astray = astray[again >= cards]
        return landed


def choices_bits(cards: int, chosen: int) -> float:
    """Return the binary logarithm of the number of ways to choose `chosen` of `cards`."""
    return (math.lgamma(cards + 1) - math.lgamma(chosen + 1) - math.lgamma(cards - chosen + 1)) / math.log(2)


def _key(seed: int, stream: int) -> int:
    return _high(seed & _WORD, stream)


def _high(key: int, numbers: Words) -> Words:
    """Mix as splitmix64 does; one to one."""
    words: Any = numbers  # numpy's types say that unsigned words and an int give signed ones; its arrays do not
    words = (words * _STEP + key) & _WORD
    words = ((words ^ (words >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    words = ((words ^ (words >> 27)) * 0x94D049BB133111EB) & _WORD
    mixed: Words = words ^ (words >> 31)
    return mixed


def _low(key: int, numbers: Words) -> Words:
    """Mix with the constants of MurmurHash3's 64-bit finaliser; one to one."""
    words: Any = numbers
    words = (words * _STEP + key) & _WORD
    words = ((words ^ (words >> 33)) * 0xFF51AFD7ED558CCD) & _WORD
    words = ((words ^ (words >> 33)) * 0xC4CEB9FE1A85EC53) & _WORD
    mixed: Words = words ^ (words >> 33)
    return mixed


def _mixed(places: Places, rounds: Sequence[int], cards: int) -> Places:
    """Mix numbers of as many bits as a block's places have; one to one, since each step of it is."""
    words: Any = places
    bits = (cards - 1).bit_length()
    mask, half = (1 << bits) - 1, (bits + 1) // 2
    for key, odd in zip(rounds, _ODD, strict=True):
        words = ((words ^ (key & mask)) * odd) & mask
        words = words ^ (words >> half)
    mixed: Places = words
    return mixed


def _apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """Share out a total by weight in whole numbers: rounded down, what is left to the greatest remainders."""
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    shares = [math.floor(share) for share in exact]
    for place in sorted(range(len(weights)), key=lambda place: shares[place] - exact[place])[: total - sum(shares)]:
        shares[place] += 1
    return shares


def _issuer_key_id(seed: int, name: str) -> bytes:
    return sha256(f"{seed}/{name}".encode()).digest()[:16]
