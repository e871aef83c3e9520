"""A device's side of the changes of one list: each is tried on the list before it is kept for the gate.

A change that fits the list as it is now is laid over it at once. One that does not says that something was missed; then
what the publisher left at the broker is taken instead: a cumulative change, and those after it. Whatever does not fit
leaves the list as it was, and is reported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path
from typing import Final, Generic, TypeVar

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backend_sync.throttle import Complaints
from validator.lists.changes_file import Changed, have_room, read_changes, write_changes
from validator.lists.changing import DENIALS, STATUSES, TICKETS, Changing
from validator.lists.deny_change import DenyChange
from validator.lists.deny_list import DenyList
from validator.lists.directory import read_verified, version_in_force
from validator.lists.errors import ListError
from validator.lists.list_change import ListChange
from validator.lists.manifest import ListKind, Manifest
from validator.lists.statuses import Statuses
from validator.lists.tickets import Tickets

_Listed = TypeVar("_Listed", bound=DenyList | Tickets | Statuses)
_Change = TypeVar("_Change", bound=DenyChange | ListChange)

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
class _Followed(Generic[_Listed, _Change]):
    """The list in force, what it was published as, and the changes that made it so."""

    manifest: Manifest
    published: _Listed
    listed: _Listed
    last: _Change | None
    sealed: tuple[bytes, ...]

    @property
    def number(self) -> int:
        return 0 if self.last is None else self.last.number


@dataclass(slots=True)
class ChangeFollower(Generic[_Listed, _Change]):
    """Keeps the changes of one device's list of a kind. Blocks; used in one thread.

    Attributes:
        changing: The kind.
        lists: The list directory, which this process owns.
        region: The network that the device belongs to.
        keys: Tells whose changes are believed, by the name they sign with.
        now_s: Tells the time, seconds since 1970 UTC.
        complaints: Where what is refused is logged.
        refused: Why the last change was not taken; empty in good health.
    """

    changing: Changing[_Listed, _Change]
    lists: Path
    region: str
    keys: Callable[[], Mapping[str, Ed25519PublicKey]]
    now_s: Callable[[], int]
    complaints: Complaints = field(default_factory=lambda: Complaints(log))
    refused: str = ""
    _followed: _Followed[_Listed, _Change] | None = field(default=None)

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
        version = version_in_force(self.lists, self.changing.kind)
        if version is None or version == self.version:
            return
        try:
            keys = self.keys()
            manifest, payload = read_verified(self.lists, self.changing.kind, version, keys, self.region)
            published = self.changing.load(manifest, payload)
        except (ListError, OSError) as error:
            self._refuse(str(error))
            return
        kept: list[bytes] = []
        laid: Changed[_Listed, _Change] = Changed(published)
        try:
            kept = read_changes(self.lists, version, self.changing.kind)
            laid = self.changing.lay_over(published, manifest, kept, keys)
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
        following = (*held.sealed, sealed)
        try:
            change = self.changing.open(sealed, self.keys())
            if (change.region, change.version) != (held.manifest.region, held.manifest.version):
                # Of a list that this device does not have yet, or no longer: that one's changes come with it.
                return Step.KNOWN
            if change.number <= held.number:
                return Step.KNOWN
            if change.base != held.listed.state_hash or not have_room(following):
                return Step.GAP
            self._keep(held, self.changing.apply(held.listed, change), change, following)
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
            opened = [(each, self.changing.open(each, keys)) for each in kept]
            mine = [(each, change) for each, change in opened if change.version == held.manifest.version]
            laid = self.changing.lay_over(held.published, held.manifest, [each for each, _ in mine], keys)
            if laid.last is not None and laid.last.number > held.number:
                taken = next(place for place, (_, change) in enumerate(mine, 1) if change == laid.last)
                self._keep(held, laid.listed, laid.last, tuple(each for each, _ in mine[:taken]))
            if laid.fault is not None:
                raise laid.fault
        except ListError as error:
            self._refuse(str(error))
            return Step.REFUSED
        self.refused = ""
        return Step.APPLIED if self.number > held.number else Step.KNOWN

    def _keep(
        self, held: _Followed[_Listed, _Change], listed: _Listed, change: _Change, sealed: tuple[bytes, ...]
    ) -> None:
        if change.issued_s > self.now_s() + AHEAD_S:
            where = f"change {change.number} of the {self.changing.kind} list"
            raise ListError(where, f"was made at {change.issued_s}, and it is {self.now_s()}")
        write_changes(self.lists, held.manifest.version, sealed, self.changing.kind)
        self._followed = _Followed(held.manifest, held.published, listed, change, sealed)
        self.refused = ""

    def _refuse(self, why: str) -> None:
        self.refused = why
        # Whoever can send to the region's topics can send without end.
        self.complaints.warn(self.changing.kind.value, "change.refused", list=self.changing.kind.value, why=why)


AnyFollower = (
    ChangeFollower[DenyList, DenyChange] | ChangeFollower[Tickets, ListChange] | ChangeFollower[Statuses, ListChange]
)


def followers_of(
    lists: Path, region: str, keys: Callable[[], Mapping[str, Ed25519PublicKey]], now_s: Callable[[], int]
) -> dict[ListKind, AnyFollower]:
    """Return who keeps the changes of a device's lists, by kind; the arguments are those of `ChangeFollower`."""
    found: tuple[AnyFollower, ...] = (
        ChangeFollower(DENIALS, lists, region, keys, now_s),
        ChangeFollower(TICKETS, lists, region, keys, now_s),
        ChangeFollower(STATUSES, lists, region, keys, now_s),
    )
    return {each.changing.kind: each for each in found}
