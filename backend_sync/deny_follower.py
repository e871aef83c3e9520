"""A device's side of the changes of its deny list: each is tried on the list before it is kept for the gate.

A change that fits the list as it is now is laid over it at once. One that does not says that something was missed; then
what the publisher left at the broker is taken instead: a cumulative change, and those after it. Whatever does not fit
leaves the list as it was, and is reported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator.lists.changes_file import MAX_CHANGES, Changed, read_changes, with_changes, write_changes
from validator.lists.deny_change import DenyChange, apply, open_change
from validator.lists.deny_list import DenyList
from validator.lists.directory import read_verified, version_in_force
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind, Manifest

AHEAD_S: Final = 24 * 3600
"""So far a publisher's clock may be ahead of this device's: what is signed moves the gate's clock."""

log = structlog.get_logger("uplink")


@unique
class Step(Enum):
    """What became of a change."""

    APPLIED = "applied"
    KNOWN = "known"
    GAP = "gap"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class _Followed:
    """The deny list in force, what it was published as, and the changes that made it so."""

    manifest: Manifest
    published: DenyList
    listed: DenyList
    last: DenyChange | None
    sealed: tuple[bytes, ...]

    @property
    def number(self) -> int:
        return 0 if self.last is None else self.last.number


@dataclass(slots=True)
class DenyFollower:
    """Keeps the changes of one device's deny list. Blocks; used in one thread.

    Attributes:
        lists: The list directory, which this process owns.
        region: The network that the device belongs to.
        keys: Tells whose changes are believed, by the name they sign with.
        now_s: Tells the time, seconds since 1970 UTC.
        refused: Why the last change was not taken; empty in good health.
    """

    lists: Path
    region: str
    keys: Callable[[], Mapping[str, Ed25519PublicKey]]
    now_s: Callable[[], int]
    refused: str = ""
    _followed: _Followed | None = field(default=None)

    @property
    def version(self) -> int:
        """Version of the list that is followed; 0 for none."""
        return 0 if self._followed is None else self._followed.manifest.version

    @property
    def number(self) -> int:
        """Number of the last change in force; 0 for none."""
        return 0 if self._followed is None else self._followed.number

    def follow(self) -> None:
        """Take up the list that is in force, with the changes that were kept of it; a list that fails is left alone."""
        version = version_in_force(self.lists, ListKind.DENY)
        if version is None or version == self.version:
            return
        try:
            keys = self.keys()
            manifest, payload = read_verified(self.lists, ListKind.DENY, version, keys, self.region)
            published = DenyList.parse(payload.read_bytes(), payload)
        except (ListError, OSError) as error:
            self._refuse(str(error))
            return
        kept: list[bytes] = []
        laid = Changed(published)
        try:
            kept = read_changes(self.lists, version)
            laid = with_changes(published, manifest, kept, keys)
            if laid.fault is not None:
                raise laid.fault
        except ListError as error:
            # What is damaged here is at the broker, whole: it is taken anew from the publication on.
            self._refuse(str(error))
            kept, laid = [], Changed(published)
        self._followed = _Followed(manifest, published, laid.listed, laid.last, tuple(kept))

    def take(self, sealed: bytes) -> Step:
        """Take a change that was just sent."""
        held = self._followed
        if held is None:
            return Step.GAP
        try:
            change = open_change(sealed, self.keys())
            if (change.region, change.version) != (held.manifest.region, held.manifest.version):
                # Of a list that this device does not have yet, or no longer: that one's changes come with it.
                return Step.KNOWN
            if change.number <= held.number:
                return Step.KNOWN
            if change.base != held.listed.state_hash or len(held.sealed) == MAX_CHANGES:
                return Step.GAP
            self._keep(held, apply(held.listed, change), change, (*held.sealed, sealed))
        except ListError as error:
            self._refuse(str(error))
            return Step.REFUSED
        return Step.APPLIED

    def catch_up(self, kept: Sequence[bytes]) -> Step:
        """Take what the publisher left for those who missed something.

        Args:
            kept: Signed changes, in order: of each list a cumulative one, if there is one, and those after it. Those
                of another list than this device has are passed over.
        """
        held = self._followed
        if held is None:
            return Step.GAP
        try:
            keys = self.keys()
            mine = [each for each in kept if open_change(each, keys).version == held.manifest.version]
            laid = with_changes(held.published, held.manifest, mine, keys)
            if laid.last is not None and laid.last.number > held.number:
                taken = next(place for place, each in enumerate(mine, 1) if open_change(each, keys) == laid.last)
                self._keep(held, laid.listed, laid.last, tuple(mine[:taken]))
            if laid.fault is not None:
                raise laid.fault
        except ListError as error:
            self._refuse(str(error))
            return Step.REFUSED
        self.refused = ""
        return Step.APPLIED if self.number > held.number else Step.KNOWN

    def _keep(self, held: _Followed, listed: DenyList, change: DenyChange, sealed: tuple[bytes, ...]) -> None:
        if change.issued_s > self.now_s() + AHEAD_S:
            where = f"change {change.number} of the deny list"
            raise ListError(where, f"was made at {change.issued_s}, and it is {self.now_s()}")
        write_changes(self.lists, held.manifest.version, sealed)
        self._followed = _Followed(held.manifest, held.published, listed, change, sealed)
        self.refused = ""

    def _refuse(self, why: str) -> None:
        self.refused = why
        log.error("deny.change_refused", why=why)
