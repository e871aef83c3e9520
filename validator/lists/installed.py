"""The lists that a gate decides by: loaded at start, looked at between taps, loaded again when a pointer moves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from validator.fares.editions import Editions
from validator.list_facts import CardStatus, Freshness, Guest, ListVersions
from validator.lists.changes_file import (
    CHANGED_KINDS,
    Changed,
    changes_path,
    read_changes,
    with_changes,
    with_list_changes,
)
from validator.lists.changing import load_denials, load_statuses, load_tickets, read_payload
from validator.lists.deny_change import DenyChange
from validator.lists.deny_list import DenyList
from validator.lists.directory import POINTER, PublisherKeys, installed_versions, read_verified, version_in_force
from validator.lists.enrolled_list import EnrolledKeys
from validator.lists.errors import ListError
from validator.lists.gate_rules import GateRules, StalePolicies, StalePolicy, parse_gate_rules
from validator.lists.list_change import ListChange
from validator.lists.manifest import ListKind, Manifest
from validator.lists.statuses import Statuses
from validator.lists.tariff_list import load_editions
from validator.lists.tickets import Tickets
from validator.lists.trust_list import parse_trust_list
from validator.model import Credential, Identity, Instant
from validator.rights import Product
from validator.trust_store import TrustStore

log = structlog.get_logger()

_Stat = tuple[int, int, int] | None
_Pointer = tuple[_Stat, _Stat]
"""The pointer's state, and for a list that takes changes that of its changes."""
_Content = TypeVar("_Content")
_Changing = TypeVar("_Changing", DenyList, Tickets, Statuses)

_NO_EDITIONS = Editions()

MAX_ATTEMPTS = 3
"""How often a kind is looked for while somebody else installs a newer version of it."""


@dataclass(frozen=True, slots=True)
class InstalledLists:
    """The lists in force, verified.

    Attributes:
        directory: Where they come from.
        trust: Issuers; None where no list could be loaded.
        deny: Credentials that are refused, changes and all; None where no list could be loaded.
        tickets: Products, changes and all; None where no list could be loaded.
        manifests: What each loaded list says about itself.
        faults_by_kind: Why a version that should be in force is not; a kind in good health is left out.
        pointers: The pointers' state, taken before anything was read.
        keys: Keys of cards that no issuer vouches for; None where no list could be loaded, and where none is installed,
            which is no fault.
        published: The deny list without its changes.
        changes: The last change that is in force of each list that has any.
        statuses: Of cards of other regions, changes and all; None where no list could be loaded, and where none is
            installed, which is no fault.
        rules: The signed configuration of the region's gates; None where none is in force, which is no fault.
        tariff: Editions of the tariff; None where no list could be loaded, and where none is installed, which is no
            fault.
    """

    directory: Path
    trust: TrustStore | None
    deny: DenyList | None
    tickets: Tickets | None
    manifests: Mapping[ListKind, Manifest]
    faults_by_kind: Mapping[ListKind, tuple[ListError, ...]]
    pointers: Mapping[ListKind, _Pointer]
    keys: EnrolledKeys | None = None
    published: DenyList | None = None
    changes: Mapping[ListKind, DenyChange | ListChange] = field(default_factory=dict)
    statuses: Statuses | None = None
    rules: GateRules | None = None
    tariff: Editions | None = None

    @property
    def faults(self) -> tuple[ListError, ...]:
        """Why versions that should be in force are not; empty in good health."""
        return tuple(fault for kind in self.faults_by_kind.values() for fault in kind)

    @property
    def versions(self) -> ListVersions:
        """Versions in force; 0 where there is none."""
        return ListVersions(
            trust=self._version(ListKind.TRUST),
            deny=self._version(ListKind.DENY),
            tickets=self._version(ListKind.TICKETS),
            enrolled=self._version(ListKind.ENROLLED),
            status=self._version(ListKind.STATUS),
            tariff=self._version(ListKind.TARIFF),
        )

    @property
    def editions(self) -> Editions:
        """Editions of the tariff; without a list none holds at any time."""
        return _NO_EDITIONS if self.tariff is None else self.tariff

    @property
    def issued_floor_s(self) -> int:
        """The newest issue time, seconds since 1970 UTC: no clock can be right that is behind it. 0 without lists."""
        said = (*self.manifests.values(), *self.changes.values())
        return max((each.issued_s for each in said), default=0)

    def policy(self, kind: ListKind, own: StalePolicies) -> StalePolicy:
        """Say what a list is worth past its date: by the signed configuration, else by the gate's own file.

        Args:
            kind: Which list.
            own: What the gate's file says, of every kind.
        """
        signed = None if self.rules is None else self.rules.stale.get(kind)
        return own[kind] if signed is None else signed

    def freshness(self, kind: ListKind, at: Instant, policy: StalePolicy) -> Freshness:
        """Say how current a list is; what serves in place of a version that does not load is never `FRESH`.

        Args:
            kind: Which list.
            at: Now.
            policy: What it is worth past its date.
        """
        manifest = self.manifests.get(kind)
        if manifest is None:
            return Freshness.MISSING
        not_after_s = manifest.not_after_s
        if kind in self.changes:
            not_after_s = max(not_after_s, self.changes[kind].not_after_s)
        if at.wall_s > not_after_s + policy.grace_s and policy.then == "refuse":
            return Freshness.STALE
        return Freshness.GRACE if at.wall_s > not_after_s or self.faulty(kind) else Freshness.FRESH

    def denied(self, credential: Credential) -> bool:
        """Whether a credential is on the deny list; without a list nobody is, and `freshness` says so."""
        return self.deny is not None and self.deny.denied(credential)

    def products(self, credential_id: bytes) -> list[Product]:
        """Return what a credential holds; without a list nobody holds anything, and `freshness` says so.

        Raises:
            ListError: The ticket file cannot be read any more.
        """
        return [] if self.tickets is None else self.tickets.products(credential_id)

    def card_status(self, credential: Credential) -> CardStatus:
        """Return what the status list says of a card; without a list `UNKNOWN`, and `freshness` says so.

        Raises:
            ListError: The status list cannot be read any more.
        """
        return CardStatus.UNKNOWN if self.statuses is None else self.statuses.status(credential)

    def enrolled(self, credential_id: bytes) -> bytes | None:
        """Return the public key that was enrolled under a credential id, SubjectPublicKeyInfo in DER, or None.

        Raises:
            ListError: The list of enrolled keys cannot be read any more.
        """
        return None if self.keys is None else self.keys.find(credential_id)

    def enrolled_under(self, name: bytes) -> bytes | None:
        """Return the public key that was enrolled under a name that a card says of itself, or None.

        Raises:
            ListError: The list of enrolled keys cannot be read any more.
        """
        return None if self.keys is None else self.keys.find_under(name)

    def horizon(self, device: str) -> tuple[int, int]:
        """Return epoch and sequence number of a device's last tap that the balances include; (0, 0) for none."""
        manifest = self.manifests.get(ListKind.TICKETS)
        return (0, 0) if manifest is None else manifest.horizons.get(device, (0, 0))

    def changed(self) -> bool:
        """Whether a pointer has moved since; cheap enough to ask between taps."""
        return any(_pointer(self.directory, kind) != self.pointers[kind] for kind in ListKind)

    def faulty(self, kind: ListKind) -> bool:
        """Whether a version of a list that should be in force is not."""
        return kind in self.faults_by_kind

    def _version(self, kind: ListKind) -> int:
        manifest = self.manifests.get(kind)
        return 0 if manifest is None else manifest.version


def load(
    directory: Path, publisher_keys: PublisherKeys, region: str, previous: InstalledLists | None = None
) -> InstalledLists:
    """Load the lists in force; each is verified again.

    A version that does not load is reported in `InstalledLists.faults` and in the log, and the newest other version
    that does load takes its place: the one that was loaded before where that is newer than any on the disk, since a
    disk that cannot be read for a moment is no reason to forget it. Nothing that the directory holds can make this
    fail. While there are faults, the caller should try again from time to time.

    Args:
        directory: The list directory; it need not exist.
        publisher_keys: Publishers that are believed, by the name they sign with.
        region: The network that the device belongs to; a list of another is a fault.
        previous: What was loaded before from the same directory: kinds without a fault whose pointer has not moved are
            taken over.
    """
    pointers = {kind: _pointer(directory, kind) for kind in ListKind}
    manifests: dict[ListKind, Manifest] = {}
    faults: dict[ListKind, tuple[ListError, ...]] = {}

    def one(kind: ListKind, build: Callable[[Manifest, Path], _Content], kept: _Content | None) -> _Content | None:
        held = None if previous is None or kept is None else (previous.manifests[kind], kept)
        settled = previous is not None and previous.pointers[kind][0] == pointers[kind][0] and not previous.faulty(kind)
        found, wrong = held, list[ListError]()
        if held is None or not settled:
            found, wrong = _load_kind(directory, kind, publisher_keys, region, build)
        if found is None and held is not None and not wrong:
            wrong = _reported(kind, [ListError(directory / kind.value, "the list that was in force cannot be found")])
        if wrong and held is not None and (found is None or found[0].version < held[0].version):
            found = held
        if wrong:
            faults[kind] = tuple(wrong)
        if found is None:
            return None
        manifests[kind], content = found
        return content

    later = _Changes(directory, publisher_keys, pointers, manifests, faults, previous)
    before = previous or InstalledLists(directory, None, None, None, {}, {}, pointers)
    trust = one(ListKind.TRUST, _build_trust, before.trust)
    published = one(ListKind.DENY, load_denials, before.published)
    tickets = one(ListKind.TICKETS, load_tickets, before.tickets and before.tickets.published)
    statuses = one(ListKind.STATUS, load_statuses, before.statuses and before.statuses.published)
    return InstalledLists(
        directory=directory,
        trust=trust,
        deny=later.over(published, before.deny, ListKind.DENY),
        tickets=later.over(tickets, before.tickets, ListKind.TICKETS),
        manifests=manifests,
        faults_by_kind=faults,
        pointers=pointers,
        keys=one(ListKind.ENROLLED, _build_enrolled, before.keys),
        published=published,
        changes=later.last,
        statuses=later.over(statuses, before.statuses, ListKind.STATUS),
        rules=one(ListKind.CONFIG, _build_config, before.rules),
        tariff=one(ListKind.TARIFF, _build_tariff, before.tariff),
    )


def guest_at(
    pass_back_s: int | None, who: Identity, lists: InstalledLists, own: StalePolicies, at: Instant
) -> Guest | None:
    """Return what is known of a card that holds nothing here, where the place admits guests; None where it does not.

    Raises:
        ListError: The status list cannot be read any more.
    """
    if pass_back_s is None:
        return None
    credential = Credential(who.credential_id, who.issuer_id, index=who.index)
    return Guest(
        lists.card_status(credential),
        lists.freshness(ListKind.STATUS, at, lists.policy(ListKind.STATUS, own)),
        pass_back_s,
    )


@dataclass(slots=True)
class _Changes:
    """Lays changes over the lists that were just loaded; `last` says which were in force last."""

    directory: Path
    keys: PublisherKeys
    pointers: Mapping[ListKind, _Pointer]
    manifests: Mapping[ListKind, Manifest]
    faults: dict[ListKind, tuple[ListError, ...]]
    previous: InstalledLists | None
    last: dict[ListKind, DenyChange | ListChange] = field(default_factory=dict)

    def over(self, listed: _Changing | None, before: _Changing | None, kind: ListKind) -> _Changing | None:
        """Return a list with its changes; what came out of the same ones before is taken over."""
        if listed is None:
            return None
        previous = self.previous
        if previous is not None and before is not None and self._settled(previous, kind):
            self.last.update({kind: previous.changes[kind]} if kind in previous.changes else {})
            return before
        found: Changed[_Changing, DenyChange] | Changed[_Changing, ListChange]
        found = self._read(listed, self.manifests[kind], before)
        self._note(kind, found.last, found.fault)
        return found.listed

    def _note(self, kind: ListKind, last: DenyChange | ListChange | None, fault: ListError | None) -> None:
        if last is not None:
            self.last[kind] = last
        if fault is not None:
            self.faults[kind] = (*self.faults.get(kind, ()), *_reported(kind, [fault]))

    def _settled(self, previous: InstalledLists, kind: ListKind) -> bool:
        faulty = previous.faulty(kind) or kind in self.faults
        return not faulty and previous.pointers[kind] == self.pointers[kind]

    def _read(
        self, listed: _Changing, manifest: Manifest, known: _Changing | None
    ) -> Changed[_Changing, DenyChange] | Changed[_Changing, ListChange]:
        try:
            sealed = read_changes(self.directory, manifest.version, manifest.kind)
        except ListError as error:
            none: Changed[_Changing, ListChange] = Changed(listed, fault=error)
            return none
        if isinstance(listed, DenyList):
            return with_changes(listed, manifest, sealed, self.keys, known)
        return with_list_changes(listed, manifest, sealed, self.keys, known)


def _load_kind(
    directory: Path,
    kind: ListKind,
    keys: PublisherKeys,
    region: str,
    build: Callable[[Manifest, Path], _Content],
) -> tuple[tuple[Manifest, _Content] | None, list[ListError]]:
    """Load the version in force, or the newest other one that loads; start over when the pointer moves meanwhile."""
    faults: list[ListError] = []
    for _ in range(MAX_ATTEMPTS):
        pointer, faults = _pointer(directory, kind), []
        for version in _candidates(directory, kind, faults):
            try:
                manifest, payload = read_verified(directory, kind, version, keys, region)
                return (manifest, build(manifest, payload)), _reported(kind, faults)
            except ListError as error:
                faults.append(error)
        if not faults or _pointer(directory, kind) == pointer:
            break
    return None, _reported(kind, faults)


def _candidates(directory: Path, kind: ListKind, faults: list[ListError]) -> list[int]:
    """Versions to try, the one in force first; versions newer than that were never put in force."""
    stored, current = installed_versions(directory, kind), version_in_force(directory, kind)
    if current is None:
        if stored or _pointer(directory, kind)[0] is not None:
            faults.append(ListError(directory / kind.value / POINTER, "names no version"))
        return stored
    return [current, *(version for version in stored if version < current)]


def _reported(kind: ListKind, faults: list[ListError]) -> list[ListError]:
    for fault in faults:
        log.error("list.fault", kind=kind.value, where=fault.where, why=fault.why)
    return faults


def _build_trust(manifest: Manifest, payload: Path) -> TrustStore:
    return parse_trust_list(read_payload(payload), payload).store(manifest.version, payload)


def _build_enrolled(_manifest: Manifest, payload: Path) -> EnrolledKeys:
    return EnrolledKeys(payload)


def _build_config(_manifest: Manifest, payload: Path) -> GateRules:
    return parse_gate_rules(read_payload(payload), payload)


def _build_tariff(_manifest: Manifest, payload: Path) -> Editions:
    return load_editions(payload)


def _pointer(directory: Path, kind: ListKind) -> _Pointer:
    version = version_in_force(directory, kind) if kind in CHANGED_KINDS else None
    changes = None if version is None else _stat(changes_path(directory, version, kind))
    return _stat(directory / kind.value / POINTER), changes


def _stat(path: Path) -> _Stat:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
