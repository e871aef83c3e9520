"""Changes to a sparse deny list: ids that were revoked since, and ids that no longer are.

    "pilet-sparse-d/1" | base state, 32 bytes | new state, 32 bytes | count added, count removed, 4 bytes each
    | ids added, 16 bytes each, ascending | ids removed, likewise

A snapshot cannot be changed in place: its equations hold for one universe only. Deltas are gathered in an overlay that
is asked before it, and of two changes to one id the later counts. The state is the snapshot's hash, and from the first
change on BLAKE2b-256 over it and the overlay; each delta names the state that it begins at and the one that it leads
to. A cumulative delta is one that begins at the snapshot.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from validator.lists.clubcard import Clubcard, Status
from validator.lists.errors import ListError
from validator.model import CREDENTIAL_ID_BYTES

_MAGIC = b"pilet-sparse-d/1"
_STATE_MAGIC = b"pilet-sparse-s/1"
_HASH_BYTES = 32
_COUNTS = struct.Struct(">II")
HEADER_BYTES = len(_MAGIC) + 2 * _HASH_BYTES + _COUNTS.size
_WHERE = "delta of the sparse deny list"


@dataclass(frozen=True, slots=True)
class SparseDelta:
    """Changes that lead from one state to another.

    Attributes:
        base: The state that they are made to, 32 bytes.
        new: The state that they lead to, 32 bytes.
        added: Ids that are revoked now.
        removed: Ids that are no longer revoked.
    """

    base: bytes
    new: bytes
    added: frozenset[bytes]
    removed: frozenset[bytes]

    @classmethod
    def parse(cls, payload: bytes, where: object = _WHERE) -> "SparseDelta":
        """Read a delta.

        Raises:
            ListError: It is not written as `encode` writes it.
        """
        if len(payload) < HEADER_BYTES or payload[: len(_MAGIC)] != _MAGIC:
            raise ListError(where, "not a delta of a sparse deny list")
        added, removed = _COUNTS.unpack_from(payload, HEADER_BYTES - _COUNTS.size)
        rest = len(payload) - HEADER_BYTES
        if rest != (added + removed) * CREDENTIAL_ID_BYTES:
            raise ListError(where, f"the header counts {added} and {removed} ids, {rest} bytes of ids are there")
        ids = [payload[at : at + CREDENTIAL_ID_BYTES] for at in range(HEADER_BYTES, len(payload), CREDENTIAL_ID_BYTES)]
        for part in (ids[:added], ids[added:]):
            if any(after <= before for before, after in pairwise(part)):
                raise ListError(where, "ids are not in order")
        states = payload[len(_MAGIC) : HEADER_BYTES - _COUNTS.size]
        delta = cls(states[:_HASH_BYTES], states[_HASH_BYTES:], frozenset(ids[:added]), frozenset(ids[added:]))
        delta.check(where)
        return delta

    def encode(self) -> bytes:
        """Write it; the same changes give the same bytes.

        Raises:
            ListError: A hash or an id has another length, or an id is both added and removed.
        """
        self.check(_WHERE)
        counts = _COUNTS.pack(len(self.added), len(self.removed))
        return b"".join((_MAGIC, self.base, self.new, counts, *sorted(self.added), *sorted(self.removed)))

    def check(self, where: object) -> None:
        """See that it says one thing of each id.

        Raises:
            ListError: A hash or an id has another length, or an id is both added and removed.
        """
        if (len(self.base), len(self.new)) != (_HASH_BYTES, _HASH_BYTES):
            raise ListError(where, f"states of {len(self.base)} and {len(self.new)} bytes, {_HASH_BYTES} are wanted")
        if any(len(each) != CREDENTIAL_ID_BYTES for part in (self.added, self.removed) for each in part):
            raise ListError(where, f"an id has not {CREDENTIAL_ID_BYTES} bytes")
        if both := self.added & self.removed:
            raise ListError(where, f"{min(both).hex()} is both added and removed")


class Overlay:
    """What is known beyond a snapshot. It never changes: a delta gives a new one.

    Attributes:
        snapshot: State hash of the snapshot that it lies over.
        denied: Ids that were revoked since.
        cleared: Ids that are no longer revoked.
        state_hash: Of snapshot and overlay together, 32 bytes.
    """

    __slots__ = ("cleared", "denied", "snapshot", "state_hash")

    def __init__(
        self, snapshot: bytes, denied: frozenset[bytes] = frozenset(), cleared: frozenset[bytes] = frozenset()
    ) -> None:
        self.snapshot = snapshot
        self.denied = denied
        self.cleared = cleared
        self.state_hash = _state(snapshot, denied, cleared)

    def status(self, credential_id: bytes) -> Status | None:
        """Say what has changed about a card; None if nothing has."""
        if credential_id in self.denied:
            return Status.DENIED
        return Status.GOOD if credential_id in self.cleared else None

    def with_delta(self, delta: SparseDelta, where: object = _WHERE) -> "Overlay":
        """Apply a delta.

        Raises:
            ListError: It begins at another state, adds what was added already, removes what was removed already, or
                leads to another state than it says.
        """
        if delta.base != self.state_hash:
            raise ListError(where, f"begins at state {delta.base.hex()}, this list is at {self.state_hash.hex()}")
        if again := delta.added & self.denied:
            raise ListError(where, f"adds {min(again).hex()}, which was added already")
        if again := delta.removed & self.cleared:
            raise ListError(where, f"removes {min(again).hex()}, which was removed already")
        changed = self._changed(delta.added, delta.removed)
        if changed.state_hash != delta.new:
            raise ListError(where, f"says that it leads to {delta.new.hex()}, and leads to {changed.state_hash.hex()}")
        return changed

    def delta(self, added: Iterable[bytes], removed: Iterable[bytes]) -> SparseDelta:
        """Make the delta that changes so much.

        Raises:
            ListError: An id has another length, or is both added and removed, or was so already.
        """
        changes = frozenset(added), frozenset(removed)
        made = SparseDelta(self.state_hash, self._changed(*changes).state_hash, *changes)
        made.check(_WHERE)
        self.with_delta(made)
        return made

    def cumulative(self) -> SparseDelta:
        """Return the one delta that leads from the snapshot to here."""
        return SparseDelta(self.snapshot, self.state_hash, self.denied, self.cleared)

    def _changed(self, added: frozenset[bytes], removed: frozenset[bytes]) -> "Overlay":
        return Overlay(self.snapshot, (self.denied - removed) | added, (self.cleared - added) | removed)


@dataclass(frozen=True, slots=True)
class SparseDeny:
    """A snapshot under its overlay.

    Attributes:
        card: The snapshot.
        overlay: What has changed since.
    """

    card: Clubcard
    overlay: Overlay

    def status(self, block: bytes, credential_id: bytes, issued_s: int) -> Status:
        """Say what is known of a card; arguments and errors as of `Clubcard.status`."""
        changed = self.overlay.status(credential_id)
        return self.card.status(block, credential_id, issued_s) if changed is None else changed

    def with_delta(self, delta: SparseDelta, where: object = _WHERE) -> "SparseDeny":
        """Apply a delta, with the errors of `Overlay.with_delta`."""
        return SparseDeny(self.card, self.overlay.with_delta(delta, where))


def over(card: Clubcard) -> SparseDeny:
    """Return a snapshot to which nothing has changed yet."""
    return SparseDeny(card, Overlay(card.state_hash))


def _state(snapshot: bytes, denied: frozenset[bytes], cleared: frozenset[bytes]) -> bytes:
    if not denied and not cleared:
        return snapshot
    counts = _COUNTS.pack(len(denied), len(cleared))
    whole = b"".join((_STATE_MAGIC, snapshot, counts, *sorted(denied), *sorted(cleared)))
    return hashlib.blake2b(whole, digest_size=_HASH_BYTES).digest()
