"""Steps of the lists' benchmark in which there is no numpy: all that a gate does, and what builds the dense list.

Files hold 32-bit words of this machine: `numbers` the revoked cards' numbers in ascending order, `asked` the numbers of
a sample of cards. `denied` has an octet for each of the sample: whether that card is revoked. `ids` has their ids of 16
octets, `vintages` an octet for each: the place of its block among those that the sparse list names.
"""

import gc
import math
import random
import time
import tracemalloc
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.steps import peak_mb, repeated, serve
from validator.lists.clubcard import Clubcard, Status
from validator.lists.dense_delta import apply, between, decode_dense_delta, encode_dense_delta
from validator.lists.dense_deny import DenseDeny, decode_dense_deny, encode_dense_deny
from validator.lists.rice import WORD

Plan = Sequence[tuple[str, int, int]]
"""Of each issuer: the id of its key in hex, the first number of its cards, how many they are."""

TIMER_SAMPLES = 100_000
ROUNDS = 3
REMOVALS_IN = 20
"""One change of so many takes a card off the list: found again, paid again. An assumption."""


def encode_dense(folder: str, issuers: Plan, repeats: int) -> dict[str, Any]:
    """Make the dense list of the revoked numbers and write its payload; so many times."""
    sections = _sections(folder, issuers)
    payload, took = repeated(
        lambda: encode_dense_deny(DenseDeny(issuer, covers, numbers) for issuer, covers, numbers in sections), repeats
    )
    Path(folder, "dense").write_bytes(payload)
    return {"bytes": len(payload), **took}


def load_dense(folder: str, issuers: Plan, repeats: int) -> dict[str, Any]:
    """Load the dense list as a gate does, compare it with what was revoked, and look the sample up."""
    payload = Path(folder, "dense").read_bytes()
    lists, took = repeated(lambda: decode_dense_deny(payload), repeats)
    loaded_peak_mb = peak_mb()
    wrong = 0
    for issuer, covers, numbers in _sections(folder, issuers):
        found = lists[issuer]
        if found.covers != covers or found.numbers != numbers:
            wrong += len(set(found.numbers).symmetric_difference(numbers)) + abs(found.covers - covers)
    place = {first: lists[bytes.fromhex(issuer)] for issuer, first, _ in issuers}
    firsts = sorted(place)
    asked = [(place[first], number - first) for number, first in _issued(_words(folder, "asked"), firsts)]
    looked = _looked_up(DenseDeny.denied, asked, True, Path(folder, "denied").read_bytes())
    return {"peak_mb": loaded_peak_mb, "wrong_in_all": wrong, **took, **looked}


def weigh_dense(folder: str) -> dict[str, Any]:
    """Say how much memory Python's allocators hold for the loaded dense list."""
    payload = Path(folder, "dense").read_bytes()
    return {"held_mb": _held_mb(lambda: decode_dense_deny(payload))}


def change_dense(folder: str, changes: int, seed: int, repeats: int) -> dict[str, Any]:
    """Change the dense list, of one issuer, as so many events do; measure the delta and a gate that applies it."""
    (old,) = decode_dense_deny(Path(folder, "dense").read_bytes()).values()
    dice = random.Random(seed)
    removed = set(dice.sample(old.numbers, changes // REMOVALS_IN))
    added = set[int]()
    while len(added) + len(removed) < changes:
        number = dice.randrange(old.covers)
        if not old.denied(number):
            added.add(number)
    kept = (number for number in old.numbers if number not in removed)
    new = DenseDeny(old.issuer, old.covers, array(WORD, sorted([*kept, *added])))
    payload = encode_dense_delta(between(old, new))
    applied, took = repeated(lambda: apply(old, decode_dense_delta(payload)), repeats)
    if applied.numbers != new.numbers:
        raise RuntimeError(f"a delta of {changes} changes did not lead to the list that it was made of")
    return {"bytes": len(payload), "added": len(added), "removed": len(removed), **took}


def load_sparse(folder: str, vintages: Sequence[tuple[str, int]], repeats: int) -> dict[str, Any]:
    """Load the sparse list as a gate does, and look the sample up.

    Args:
        folder: Where the files are.
        vintages: Of each block: its name in hex, and up to when its cards were issued.
        repeats: How often it is loaded.
    """
    payload = Path(folder, "sparse").read_bytes()
    listed, took = repeated(lambda: Clubcard.parse(payload), repeats)
    loaded_peak_mb = peak_mb()
    ids = Path(folder, "ids").read_bytes()
    named = [(bytes.fromhex(name), until_s) for name, until_s in vintages]
    asked = [
        (named[vintage][0], ids[16 * place : 16 * place + 16], named[vintage][1])
        for place, vintage in enumerate(Path(folder, "vintages").read_bytes())
    ]
    looked = _looked_up(listed.status, asked, Status.DENIED, Path(folder, "denied").read_bytes())
    return {"peak_mb": loaded_peak_mb, **took, **looked}


def weigh_sparse(folder: str) -> dict[str, Any]:
    """Say how much memory Python's allocators hold for the loaded sparse list."""
    payload = Path(folder, "sparse").read_bytes()
    return {"held_mb": _held_mb(lambda: Clubcard.parse(payload))}


def _sections(folder: str, issuers: Plan) -> list[tuple[bytes, int, "array[int]"]]:
    numbers = _words(folder, "numbers")
    sections = []
    for issuer, first, cards in issuers:
        mine = numbers[bisect_left(numbers, first) : bisect_left(numbers, first + cards)]
        sections.append((bytes.fromhex(issuer), cards, array(WORD, (number - first for number in mine))))
    return sections


def _issued(numbers: Iterable[int], firsts: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Pair each number with the first of the same issuer."""
    for number in numbers:
        yield number, firsts[bisect_left(firsts, number + 1) - 1]


def _words(folder: str, name: str) -> "array[int]":
    words = array(WORD)
    words.frombytes(Path(folder, name).read_bytes())
    return words


def _held_mb(load: Callable[[], object]) -> float:
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    loaded = load()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    del loaded
    return (after - before) / 1e6


def _looked_up(
    look_up: Callable[..., object], keys: Sequence[tuple[object, ...]], denial: object, expected: bytes
) -> dict[str, Any]:
    """Time each look-up by itself, in rounds of which the quietest counts.

    What the clock itself takes between two readings, its median, is taken off.
    """
    clock = time.perf_counter_ns
    overhead = array("q")
    for _ in range(TIMER_SAMPLES):
        began = clock()
        ended = clock()
        overhead.append(ended - began)
    timer_ns = _ranked(overhead, 50)
    wrong, rounds = 0, list[dict[str, dict[str, float]]]()
    for _ in range(ROUNDS):
        taken = (array("q"), array("q"))
        for key, revoked in zip(keys, expected, strict=True):
            began = clock()
            answer = look_up(*key)
            ended = clock()
            taken[revoked].append(ended - began - timer_ns)
            wrong += (answer == denial) != revoked
        rounds.append(
            {
                sort: {"n": len(samples), "p50_us": _ranked(samples, 50) / 1000, "p99_us": _ranked(samples, 99) / 1000}
                for sort, samples in zip(("good", "revoked"), taken, strict=True)
            }
        )
    quietest = min(rounds, key=lambda sorts: sum(samples["p99_us"] for samples in sorts.values()))
    return {"wrong_in_sample": wrong, "timer_us": timer_ns / 1000, **quietest}


def _ranked(samples: "array[int]", percent: int) -> int:
    """Return the least sample that so many of a hundred do not exceed (nearest rank)."""
    return sorted(samples)[math.ceil(percent * len(samples) / 100) - 1]


STEPS = {
    step.__name__: step for step in (encode_dense, load_dense, weigh_dense, change_dense, load_sparse, weigh_sparse)
}

if __name__ == "__main__":
    serve(STEPS)
