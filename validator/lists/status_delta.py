"""Changes to a status array: deltas on the wire, and the overlay of all of them that a gate holds in memory.

    "pilet-status-d/1" | issuer, 16 bytes | state before, 32 bytes | state after, 32 bytes | cards after, 8 bytes |
    run | run | run | run

There is one run (`validator.lists.rice`) for each status in the order of their numbers, of the cards that get it. A
card is in at most one. States are named by `status_array.state_hash`, so that each delta fits exactly one state and a
gate proves where it is. A cumulative delta is one that fits the snapshot, and nothing else tells it from others.

An overlay holds changes, not changed pages: twenty thousand changes a day touch every page of a nation's array.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from validator.list_facts import CardStatus
from validator.lists.checked_pages import DIGEST_BYTES, PAGE_BYTES, page_digest
from validator.lists.errors import ListError
from validator.lists.rice import WORD, decode_run, encode_run
from validator.lists.status_array import CARDS_PER_PAGE, MAX_CARDS, StatusArray, state_hash, status_at

MAX_CHANGES: Final = 1 << 20
"""Of a delta and of an overlay, 5 MB of memory; where there are more, a new snapshot is due."""
MAX_DELTA_BYTES: Final = 4 * 1024 * 1024

_MAGIC: Final = b"pilet-status-d/1"
_HEAD: Final = struct.Struct(">16s16s32s32sQ")
_COUNT_BYTES: Final = 4
_ZEROS: Final = page_digest(bytes(PAGE_BYTES))


@dataclass(frozen=True, slots=True)
class StatusDelta:
    """What changes from one state of an array to another.

    Attributes:
        issuer: Whose cards.
        before: State hash of the array that it fits.
        after: State hash of the array that comes out.
        count: Cards after; never fewer than before.
        changes: The new status of each card that gets another one, by index, ascending.
    """

    issuer: bytes
    before: bytes
    after: bytes
    count: int
    changes: Mapping[int, CardStatus]


def encode_status_delta(delta: StatusDelta) -> bytes:
    """Encode a delta; `parse_status_delta` gives it back."""
    indices: dict[CardStatus, array[int]] = {status: array(WORD) for status in CardStatus}
    for index, status in sorted(delta.changes.items()):
        indices[status].append(index)
    head = _HEAD.pack(_MAGIC, delta.issuer, delta.before, delta.after, delta.count)
    return head + b"".join(encode_run(indices[status], 0) for status in CardStatus)


def parse_status_delta(payload: bytes, where: object = "status delta") -> StatusDelta:
    """Parse a delta.

    Args:
        payload: Its bytes.
        where: What to call them in an error.

    Raises:
        ListError: They are not what `encode_status_delta` makes of any delta.
    """
    if len(payload) > MAX_DELTA_BYTES or len(payload) < _HEAD.size or not payload.startswith(_MAGIC):
        raise ListError(where, "not a status delta")
    _, issuer, before, after, count = _HEAD.unpack_from(payload)
    if count > MAX_CARDS:
        raise ListError(where, f"{count} cards are more than indices")
    found: list[int] = []
    at = _HEAD.size
    for status in CardStatus:
        # The run's own count, looked at before memory is asked for: a run of neighbours has 8 of them to the octet.
        if len(found) + int.from_bytes(payload[at : at + _COUNT_BYTES]) > MAX_CHANGES:
            raise ListError(where, f"more than {MAX_CHANGES} changes")
        indices, at = decode_run(payload, at, 0, count, where)
        found += [index << 2 | status for index in indices]
    if at != len(payload):
        raise ListError(where, f"{len(payload) - at} bytes after its end")
    found.sort()
    changes = {change >> 2: CardStatus(change & 3) for change in found}
    if len(changes) != len(found):
        raise ListError(where, "a card gets two statuses")
    return StatusDelta(issuer, before, after, count, changes)


class StatusOverlay:
    """A status array and all changes since; never altered, `with_delta` makes another one.

    Attributes:
        base: The snapshot.
        count: Cards 0 to count - 1 are in it.
        state_hash: Names its state, 32 bytes.
    """

    __slots__ = ("_digests", "_indices", "_statuses", "base", "count", "state_hash")

    def __init__(self, base: StatusArray) -> None:
        """Begin with a snapshot and no changes; a cumulative delta fits this state."""
        self.base = base
        self.count = base.count
        self.state_hash = base.state_hash
        self._digests = base.digests
        self._indices: array[int] = array(WORD)
        self._statuses = b""

    def __len__(self) -> int:
        """Return how many cards were changed since the snapshot."""
        return len(self._indices)

    def status(self, index: int) -> CardStatus:
        """Return the status of a card; `UNKNOWN` for one that was issued after the last delta.

        Raises:
            ListError: It was not changed, and the snapshot's page that it is on cannot be read, or is damaged.
        """
        at = bisect_left(self._indices, index)
        if at < len(self._indices) and self._indices[at] == index:
            return CardStatus(self._statuses[at])
        return self.base.status(index)

    def delta(self, changes: Mapping[int, CardStatus], count: int | None = None) -> StatusDelta:
        """Return the delta that gives some cards another status.

        Args:
            changes: The new status of each, by index.
            count: How many cards there are then; as many as now by default.

        Raises:
            ListError: A card does not exist, there would be fewer cards than now, or a page cannot be read.
        """
        cards = self.count if count is None else count
        ascending = dict(sorted(changes.items()))
        unfinished = StatusDelta(self.base.issuer, self.state_hash, b"", cards, ascending)
        return replace(unfinished, after=self._after(unfinished, "status delta").state_hash)

    def with_delta(self, delta: StatusDelta) -> "StatusOverlay":
        """Return the overlay after a delta. Each page that it touches is read, and none else.

        Raises:
            ListError: It is another issuer's, fits another state, takes cards away, names a card that does not exist,
                makes the overlay too large, or does not lead to the state that it says.
        """
        where = f"status delta to {delta.after.hex()[:16]}"
        if delta.issuer != self.base.issuer:
            raise ListError(where, f"is for issuer {delta.issuer.hex()}, this is {self.base.issuer.hex()}")
        if delta.before != self.state_hash:
            raise ListError(where, f"fits state {delta.before.hex()}, this is {self.state_hash.hex()}")
        after = self._after(delta, where)
        if after.state_hash != delta.after:
            raise ListError(where, f"leads to state {after.state_hash.hex()}")
        return after

    def page(self, number: int) -> bytearray:
        """Return a page as it is after the changes, 4096 bytes.

        Raises:
            ListError: The snapshot's page cannot be read, or is damaged.
        """
        known = number < len(self.base.digests) // DIGEST_BYTES
        page = bytearray(self.base.page(number) if known else PAGE_BYTES)
        first, last = (bisect_left(self._indices, edge * CARDS_PER_PAGE) for edge in (number, number + 1))
        for index, status in zip(self._indices[first:last], self._statuses[first:last], strict=True):
            at, shift = (index % CARDS_PER_PAGE) >> 2, (index & 3) << 1
            page[at] = page[at] & ~(3 << shift) | status << shift
        return page

    def digest(self, number: int) -> bytes:
        """Return the digest of `page(number)`, without reading it."""
        return self._digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)] or _ZEROS

    def _after(self, delta: StatusDelta, where: str) -> "StatusOverlay":
        if not self.count <= delta.count <= MAX_CARDS:
            raise ListError(where, f"leaves {delta.count} cards of {self.count}")
        changes = sorted(delta.changes.items())
        if changes and not 0 <= changes[0][0] <= changes[-1][0] < delta.count:
            raise ListError(where, f"changes a card that is not one of {delta.count}")
        after = self._merged(changes, delta.count)
        if len(after) > MAX_CHANGES:
            raise ListError(where, f"{len(after)} cards would be changed since the snapshot, {MAX_CHANGES} may be")
        return after

    def _merged(self, changes: list[tuple[int, CardStatus]], count: int) -> "StatusOverlay":
        after = StatusOverlay(self.base)
        after.count = count
        statuses, done = bytearray(), 0
        for index, status in changes:
            at = bisect_left(self._indices, index, done)
            after._indices.extend(self._indices[done:at])
            statuses += self._statuses[done:at]
            after._indices.append(index)
            statuses.append(status)
            done = at + (at < len(self._indices) and self._indices[at] == index)
        after._indices.extend(self._indices[done:])
        after._statuses = bytes(statuses + self._statuses[done:])
        digests = bytearray(self._digests)
        digests += _ZEROS * (-(-count // CARDS_PER_PAGE) - len(digests) // DIGEST_BYTES)
        for number in {index // CARDS_PER_PAGE for index, _ in changes}:
            digests[DIGEST_BYTES * number : DIGEST_BYTES * (number + 1)] = page_digest(after.page(number))
        after._digests = bytes(digests)
        after.state_hash = state_hash(self.base.issuer, count, digests)
        return after

    def differences(self, other: "StatusOverlay") -> StatusDelta:
        """Return the delta that leads from here to another state; only pages that differ are read.

        Raises:
            ListError: The other one is of another issuer or has fewer cards, or a page cannot be read.
        """
        if other.base.issuer != self.base.issuer or other.count < self.count:
            raise ListError(other.base.where, f"no delta leads there from {self.base.where}")
        changes: dict[int, CardStatus] = {}
        for number in range(-(-other.count // CARDS_PER_PAGE)):
            if self.digest(number) != other.digest(number):
                here = self.page(number)
                there, first = other.page(number), number * CARDS_PER_PAGE
                for octet in (octet for octet in range(PAGE_BYTES) if here[octet] != there[octet]):
                    for index in range(first + 4 * octet, first + 4 * octet + 4):
                        if status_at(here, index) is not status_at(there, index):
                            changes[index] = status_at(there, index)
        return StatusDelta(self.base.issuer, self.state_hash, other.state_hash, other.count, changes)
