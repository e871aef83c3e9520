"""Looks up every card of a universe in a sparse deny list, before it is published.

A hundred million cards are asked for with numpy; some of them with the reader that a gate has, so that the two agree.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backend_sync.ribbon_builder import BATCH, Asking, Columns, Ids, equations
from validator.lists.clubcard import NO_RARE, Block, Clubcard, Status
from validator.lists.ribbon import Ribbon

_SAMPLE_EVERY = 997

Progress = Callable[[str, int, int], None]
"""Told a phase, how much of it is done, and how much there is; 0 while that is not known."""


class BlockSource(Protocol):
    """The cards of one block. It is gone through more than once, and has to give the same cards each time."""

    @property
    def name(self) -> bytes:
        """What a gate finds the block by: 1 to 255 bytes."""

    @property
    def covered_until_s(self) -> int:
        """Until which issue time all its cards are known, seconds since 1970 UTC, inclusive."""

    def good(self) -> Iterable[Ids]:
        """Give the ids of cards that are not revoked, in chunks of any length; each id once in one block."""

    def revoked(self) -> Iterable[Ids]:
        """Give the ids of revoked cards, likewise."""


def batched(chunks: Iterable[Ids]) -> Iterator[Ids]:
    """Cut chunks into batches that a processor's cache holds."""
    for ids in chunks:
        for begin in range(0, len(ids), BATCH):
            yield ids[begin : begin + BATCH]


def id_bytes(pair: NDArray[np.uint64]) -> bytes:
    """Return an id as the 16 bytes that it is elsewhere."""
    return pair.astype(">u8").tobytes()


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        cards: How many cards were looked up.
        wrong: For how many of them the answer was wrong.
    """

    cards: int
    wrong: int


def check(payload: bytes, blocks: Iterable[BlockSource], progress: Progress = lambda *_: None) -> Checked:
    """Look up every card of the universe, and some with the reader that a gate has.

    Raises:
        ListError: No gate could read the payload.
    """
    checking = _Checking(Clubcard.parse(payload))
    cards, wrong = 0, 0
    for source in blocks:
        for expected, chunks in ((Status.GOOD, source.good()), (Status.DENIED, source.revoked())):
            for ids in batched(chunks):
                wrong += int(np.count_nonzero(checking.wrong(source, ids, expected)))
                cards += len(ids)
                progress("check", cards, 0)
    return Checked(cards, wrong)


def verify(payload: bytes, blocks: Iterable[BlockSource], progress: Progress = lambda *_: None) -> int:
    """Return for how many cards of the universe `check` found a wrong answer; its errors are the same."""
    return check(payload, blocks, progress).wrong


class _Checking:
    def __init__(self, card: Clubcard) -> None:
        self._card = card
        self._filters = {columns: _asking(ribbon) for columns, ribbon in card.filters.items()}
        self._exact = None if card.exact is None else _asking(card.exact)
        self._exceptions = np.array([int.from_bytes(each[:8]) for each in card.exceptions], np.uint64)

    def wrong(self, source: BlockSource, ids: Ids, expected: Status) -> NDArray[np.bool_]:
        """Say of each card whether its answer is wrong."""
        block = self._card.blocks.get(source.name)
        if block is None or block.covered_until_s != source.covered_until_s:
            return np.full(len(ids), fill_value=True)
        wrong = self._in_bulk(block, ids, expected)
        for number in range(0, len(ids), _SAMPLE_EVERY):
            wrong[number] |= self._at_a_gate(source, id_bytes(ids[number])) is not expected
        return wrong

    def _in_bulk(self, block: Block, ids: Ids, expected: Status) -> NDArray[np.bool_]:
        wrong = np.full(len(ids), block.common is not expected)
        if block.columns == NO_RARE or self._exact is None:
            return wrong
        found = equations(ids, self._card.equations)
        left: NDArray[np.intp] = np.arange(len(ids))
        if block.columns:
            left = self._filters[block.columns].vanishing(found.first, found.coefficients)
        left = left[self._exact.vanishing(found.second[left], found.coefficients[:, left])]
        wrong[left] = block.rare is not expected
        for number in np.flatnonzero(np.isin(ids[:, 0], self._exceptions)).tolist():
            status = self._card.exceptions.get(id_bytes(ids[number]))
            if status is not None:
                wrong[number] = status is not expected
        return wrong

    def _at_a_gate(self, source: BlockSource, credential_id: bytes) -> Status | None:
        """Ask the reader about a card; had it been issued later, the answer must be that nothing is known of it."""
        later = self._card.status(source.name, credential_id, source.covered_until_s + 1)
        if later is not Status.UNCOVERED:
            return None
        return self._card.status(source.name, credential_id, source.covered_until_s)


def _asking(ribbon: Ribbon) -> Asking:
    return Asking(Columns(ribbon.rows, tuple(ribbon.columns())))
