"""Builds a sparse deny list over a whole nation's cards, and lets none out that is wrong about a single one.

After Clubcard (Schanck, eprint 2025/610); the payload is that of `validator.lists.clubcard`. The universe is streamed
three times: counted, sifted through the first ribbons, and checked. Only the cards of each block's rare sort, and the
few others that the first ribbons let through, are held in memory.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from backend_sync.clubcard_check import BlockSource, Progress, batched, check, id_bytes, verify
from backend_sync.publish_errors import PublishError
from backend_sync.ribbon_builder import (
    Asking,
    Columns,
    Ids,
    Ordered,
    TooManyFailedError,
    equations,
    no_bits,
    noise,
    rows_for,
    solve,
    triangulate,
)
from validator.lists.clubcard import (
    BLOCK,
    COUNTS,
    DIGEST_BYTES,
    MAGIC,
    MAX_COLUMNS,
    MAX_NAME_BYTES,
    NO_RARE,
    RIBBON,
    Block,
    Status,
)
from validator.lists.ribbon import MAX_ROWS, SALT_BYTES, Equations

__all__ = ["BlockSource", "Built", "Progress", "build", "verify"]

FIRST_EXCESS = 0.02
"""Rows of a first ribbon beyond one for each card of the rare sort. With less, more of the others get through."""
SECOND_EXCESS = (0.015, 0.025, 0.05)
"""The same for the second ribbon; the next is tried when too many equations contradict each other."""
EQUATIONS_AN_EXCEPTION = 20_000
"""So many equations may have one exception: the 16 bytes cost less than the rows that would avoid it."""
FEW_EXCEPTIONS = 16

_MAX_TIME_S = (1 << 64) - 1
_WHERE = "sparse deny list"


@dataclass(frozen=True, slots=True)
class Built:
    """A sparse deny list, and what it took.

    Attributes:
        payload: For `validator.lists.clubcard`.
        good: How many cards are good.
        revoked: How many are revoked.
        equations: How many the second ribbon tells apart: the rare ones, and those that the first ribbons let through.
        exceptions: How many of these are in the list of exceptions.
        attempts: How often the second ribbon was begun.
        second_excess: How many rows it has beyond one for each equation, as a part of these.
    """

    payload: bytes
    good: int
    revoked: int
    equations: int
    exceptions: int
    attempts: int
    second_excess: float


@dataclass(frozen=True, slots=True)
class _Counted:
    source: BlockSource
    good: int
    revoked: int
    block: Block

    def rare(self) -> Iterable[Ids]:
        return self.source.revoked() if self.block.rare is Status.DENIED else self.source.good()

    def common(self) -> Iterable[Ids]:
        return self.source.good() if self.block.rare is Status.DENIED else self.source.revoked()


@dataclass(frozen=True, slots=True)
class _Cards:
    """Cards of one sort in one block."""

    ids: Ids
    status: Status
    odd: bool
    """What the second ribbon says of them."""


@dataclass(frozen=True, slots=True)
class _Exact:
    ribbon: Columns
    exceptions: Mapping[bytes, Status]
    attempts: int


def build(blocks: Iterable[BlockSource], seed: bytes, progress: Progress = lambda *_: None) -> Built:
    """Build a list, and check it against every card.

    Args:
        blocks: The universe, in any order.
        seed: Of the build's salt. The same universe and seed give the same bytes; nobody should know it beforehand.
        progress: Told how it goes.

    Raises:
        PublishError: A block is named twice or breaks a rule of the format; a card is both good and revoked; a source
            gave other cards than before; the equations could not be met.
    """
    counted = _count(blocks, progress)
    salt = blake2b(seed, digest_size=SALT_BYTES, person=b"pilet-sparse").digest()
    cards, filters = _sift(counted, Equations(salt), progress)
    exact = _tell_apart(cards, Equations(salt), progress)
    payload = _encode(counted, salt, filters, exact)
    checked = check(payload, [each.source for each in counted], progress)
    if checked.wrong:
        raise PublishError(f"{_WHERE}: {checked.wrong} wrong answers; is a card both good and revoked?")
    _refuse_change(checked.cards, sum(each.good + each.revoked for each in counted))
    return Built(
        payload,
        good=sum(each.good for each in counted),
        revoked=sum(each.revoked for each in counted),
        equations=sum(len(each.ids) for each in cards),
        exceptions=len(exact.exceptions),
        attempts=exact.attempts,
        second_excess=SECOND_EXCESS[exact.attempts - 1],
    )


def _count(blocks: Iterable[BlockSource], progress: Progress) -> list[_Counted]:
    """Count the cards of each block, and see which sort is rare in it and how many columns that is worth."""
    counted: dict[bytes, _Counted] = {}
    done = 0
    for source in blocks:
        name = source.name
        if not 1 <= len(name) <= MAX_NAME_BYTES:
            raise PublishError(f"{_WHERE}: a block's name has {len(name)} bytes, 1 to {MAX_NAME_BYTES} are wanted")
        if name in counted:
            raise PublishError(f"{_WHERE}: block {name.hex()} is there twice")
        if not 0 <= source.covered_until_s <= _MAX_TIME_S:
            raise PublishError(f"{_WHERE}: block {name.hex()} is covered until {source.covered_until_s}, no such time")
        good = sum(map(len, source.good()))
        revoked = sum(map(len, source.revoked()))
        done += good + revoked
        progress("count", done, 0)
        rare, common = (Status.DENIED, Status.GOOD) if revoked <= good else (Status.GOOD, Status.DENIED)
        columns = _columns(min(good, revoked), max(good, revoked))
        counted[name] = _Counted(source, good, revoked, Block(source.covered_until_s, rare, common, columns))
    return [counted[name] for name in sorted(counted)]


def _columns(rare: int, common: int) -> int:
    """Return floor(log2(common / rare)): one more column costs more than the cards that it would hold back."""
    return min((common // rare).bit_length() - 1, MAX_COLUMNS) if rare else NO_RARE


def _sift(counted: Sequence[_Counted], by: Equations, progress: Progress) -> tuple[list[_Cards], dict[int, Columns]]:
    """Make the first ribbons, one for all blocks with so many columns; sift the common cards through them."""
    cards: list[_Cards] = []
    filters: dict[int, Columns] = {}
    done, total = 0, sum(max(each.good, each.revoked) for each in counted if each.block.columns != NO_RARE)
    for columns in sorted({each.block.columns for each in counted} - {NO_RARE}):
        group = [each for each in counted if each.block.columns == columns]
        rare = [_Cards(_joined(each.rare()), each.block.rare, odd=False) for each in group]
        cards += rare
        asking = None
        if columns:
            filters[columns] = _first_ribbon(_joined(each.ids for each in rare), columns, by, progress)
            asking = Asking(filters[columns])
        for each in group:
            through = []
            for ids in batched(each.common()):
                found = equations(ids, by)
                through.append(ids if asking is None else ids[asking.vanishing(found.first, found.coefficients)])
                done += len(ids)
                progress("sift", done, total)
            cards.append(_Cards(_joined(through), each.block.common, odd=True))
    _refuse_change(done, total)
    return cards, filters


def _joined(parts: Iterable[Ids]) -> Ids:
    return np.concatenate([np.empty((0, 2), np.uint64), *parts])


def _first_ribbon(ids: Ids, columns: int, by: Equations, progress: Progress) -> Columns:
    """Make columns in which the equations of all these ids vanish, and those of others as seldom as by chance."""
    rows = _checked(rows_for(len(ids), FIRST_EXCESS))
    ordered = Ordered(ids, by, rows, second=False)
    triangle = triangulate(
        ordered.batches(np.zeros(len(ids), np.uint8)), rows, progress=lambda done: progress("first", done, len(ids))
    )
    return solve(triangle, [noise(rows, b"%d %d %d" % (by.mixer, columns, number)) for number in range(columns)])


def _tell_apart(cards: Sequence[_Cards], by: Equations, progress: Progress) -> _Exact:
    """Make the one column that says of each card whether it is of the rare sort."""
    if not cards:
        return _Exact(Columns(0, ()), {}, 1)
    ids = _joined(each.ids for each in cards)
    odd = np.repeat(np.array([each.odd for each in cards], np.uint8), [len(each.ids) for each in cards])
    most = max(FEW_EXCEPTIONS, len(ids) // EQUATIONS_AN_EXCEPTION)
    for attempt, excess in enumerate(SECOND_EXCESS, 1):
        rows = _checked(rows_for(len(ids), excess))
        ordered = Ordered(ids, by, rows, second=True)
        try:
            triangle = triangulate(ordered.batches(odd), rows, most, lambda done: progress("second", done, len(ids)))
        except TooManyFailedError:
            continue
        ribbon = solve(triangle, [no_bits(rows)])
        return _Exact(ribbon, _exceptions(cards, ids, ordered.order[triangle.failed]), attempt)
    raise PublishError(f"{_WHERE}: more than {most} of {len(ids)} equations contradict others; try another seed")


def _exceptions(cards: Sequence[_Cards], ids: Ids, failed: NDArray[np.intp]) -> dict[bytes, Status]:
    ends = np.cumsum([len(each.ids) for each in cards])
    owners = np.searchsorted(ends, failed, side="right").tolist()
    return {id_bytes(ids[number]): cards[owner].status for number, owner in zip(failed, owners, strict=True)}


def _refuse_change(cards: int, counted: int) -> None:
    if cards != counted:
        raise PublishError(f"{_WHERE}: {counted} cards were counted, and {cards} came when they were asked for again")


def _checked(rows: int) -> int:
    if rows >= MAX_ROWS:
        raise PublishError(f"{_WHERE}: a ribbon would have {rows} rows, below {MAX_ROWS} is possible")
    return rows


def _encode(counted: Sequence[_Counted], salt: bytes, filters: Mapping[int, Columns], exact: _Exact) -> bytes:
    denied = sorted(each for each, status in exact.exceptions.items() if status is Status.DENIED)
    good = sorted(each for each, status in exact.exceptions.items() if status is Status.GOOD)
    parts = [salt, COUNTS.pack(len(counted), len(filters), exact.ribbon.rows, len(denied), len(good))]
    for each in counted:
        block = each.block
        parts += [bytes([len(each.source.name)]), each.source.name]
        parts.append(BLOCK.pack(block.covered_until_s, block.rare.value, block.columns))
    parts += [RIBBON.pack(columns, ribbon.rows) for columns, ribbon in sorted(filters.items())]
    parts += denied + good
    for _, ribbon in sorted(filters.items()):
        parts += ribbon.columns
    parts += exact.ribbon.columns
    body = b"".join(parts)
    return MAGIC + blake2b(body, digest_size=DIGEST_BYTES).digest() + body
