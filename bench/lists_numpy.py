"""Steps of the lists' benchmark that need numpy: the population, and the sparse list built over it and checked."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from backend_sync.clubcard_builder import build, verify
from bench.population import CHUNK, Population, choices_bits
from bench.steps import Progress, Stopwatch, serve, tell

SAMPLE: Final = 400_000
"""Cards that are looked up: as many revoked ones as others."""
_TOLD_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Vintage:
    """The cards of one issuer and year, as whoever builds a sparse list asks for them.

    Attributes:
        name: The id of the issuer's key and the year.
        covered_until_s: When the last of them was issued, Unix seconds.
        population: Where they are.
        first: Their first number.
        stop: The number after their last.
        revoked_cards: How many of them are revoked.
        stopwatch: Adds up what making them takes.
    """

    name: bytes
    covered_until_s: int
    population: Population
    first: int
    stop: int
    revoked_cards: int
    stopwatch: Stopwatch

    def good(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the ids of those that are not revoked."""
        return self._ids(np.logical_not)

    def revoked(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the ids of those that are."""
        return self._ids(np.copy)

    def _ids(self, chosen: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]) -> Iterator[NDArray[np.uint64]]:
        for begin in range(self.first, self.stop, CHUNK):
            with self.stopwatch.running():
                marked = chosen(self.population.revoked(begin, min(begin + CHUNK, self.stop)))
                ids = self.population.ids((begin + np.flatnonzero(marked)).astype(np.uint32))
            yield ids


def vintages(population: Population, stopwatch: Stopwatch) -> list[Vintage]:
    """Return the blocks of a sparse list: what a gate can tell of a card from its certificate, issuer and year."""
    found: dict[bytes, Vintage] = {}
    for block in population.blocks:
        name = population.issuers[block.issuer].key_id + block.year.to_bytes(2)
        stop = block.first + block.cards
        until_s, first, revoked = population.card(stop - 1).issued_s, block.first, block.revoked
        if name in found:
            before = found[name]
            until_s, first = max(until_s, before.covered_until_s), before.first
            revoked += before.revoked_cards
        found[name] = Vintage(name, until_s, population, first, stop, revoked, stopwatch)
    return list(found.values())


def sift(folder: str, mode: str, seed: int, cards: int, revoked: int) -> dict[str, Any]:
    """Write the files that the other steps read (see `bench.lists_plain`), and say what the population is."""
    population = _population(mode, seed, cards, revoked)
    parts = []
    for begin in range(0, cards, CHUNK):
        end = min(begin + CHUNK, cards)
        parts.append((begin + np.flatnonzero(population.revoked(begin, end))).astype(np.uint32))
        tell("population", end, cards)
    numbers = np.concatenate(parts)
    dice = np.random.Generator(np.random.PCG64(seed))
    hits = dice.choice(numbers, SAMPLE // 2)
    misses = _absent(dice.integers(0, cards, SAMPLE, dtype=np.uint32), numbers)[: SAMPLE // 2]
    asked = np.concatenate([hits, misses])
    denied = np.arange(len(asked)) < len(hits)
    order = dice.permutation(len(asked))
    asked, denied = asked[order], denied[order]
    made = vintages(population, Stopwatch())
    place = np.searchsorted([vintage.first for vintage in made], asked, side="right") - 1
    for name, words in {
        "numbers": numbers,
        "asked": asked,
        "denied": denied.astype(np.uint8),
        "ids": population.ids(asked).astype(">u8"),
        "vintages": place.astype(np.uint8),
    }.items():
        Path(folder, name).write_bytes(words.tobytes())
    return {
        "issuers": [(issuer.key_id.hex(), issuer.first, issuer.cards) for issuer in population.issuers],
        "vintages": [(vintage.name.hex(), vintage.covered_until_s) for vintage in made],
        "bound_bits": population.bound_bits(),
        "bound_bits_by_block": population.bound_bits(by_block=True),
        "bound_bits_by_vintage": sum(
            choices_bits(vintage.stop - vintage.first, vintage.revoked_cards) for vintage in made
        ),
    }


def build_sparse(folder: str, mode: str, seed: int, cards: int, revoked: int) -> dict[str, Any]:
    """Build the sparse list and write its payload."""
    stopwatch = Stopwatch()
    blocks = vintages(_population(mode, seed, cards, revoked), stopwatch)
    whole = Stopwatch()
    with whole.running():
        built = build(blocks, seed.to_bytes(8), _phases())
    Path(folder, "sparse").write_bytes(built.payload)
    return {
        "seconds": whole.seconds,
        "cpu_s": whole.cpu_s,
        "population_s": stopwatch.seconds,
        "bytes": len(built.payload),
        "exceptions": built.exceptions,
    }


def verify_sparse(folder: str, mode: str, seed: int, cards: int, revoked: int) -> dict[str, Any]:
    """Ask the sparse list about every card of the population, and count what it says wrongly."""
    stopwatch = Stopwatch()
    blocks = vintages(_population(mode, seed, cards, revoked), stopwatch)
    whole = Stopwatch()
    with whole.running():
        wrong = verify(Path(folder, "sparse").read_bytes(), blocks, _phases())
    return {"seconds": whole.seconds, "population_s": stopwatch.seconds, "wrong_in_all": wrong}


def _population(mode: str, seed: int, cards: int, revoked: int) -> Population:
    if mode == "uniform":
        return Population.uniform(seed, cards, revoked)
    return Population.realistic(seed, cards, revoked / cards)


def _absent(wanted: NDArray[np.uint32], among: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Leave out of some numbers those that are among ascending others."""
    place = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    absent: NDArray[np.uint32] = wanted[among[place] != wanted]
    return absent


def _phases() -> Progress:
    """Return what tells how far a step is, some times a second and not more often."""
    told_s = 0.0

    def progress(phase: str, done: int, total: int) -> None:
        nonlocal told_s
        if (now_s := time.monotonic()) - told_s >= _TOLD_EVERY_S:
            told_s = now_s
            tell(phase, done, total)

    return progress


STEPS = {step.__name__: step for step in (sift, build_sparse, verify_sparse)}

if __name__ == "__main__":
    serve(STEPS)
