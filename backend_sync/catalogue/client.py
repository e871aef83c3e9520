"""A device's side of the catalogue: fetch, verify with python-tuf, hold against the floors, keep.

All or nothing: a refused catalogue changes neither the metadata nor the floors. Metadata is written before the floors
rise, so that a power cut in between leaves a set above its floors.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from backend_sync.catalogue import metadata_file
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.fetching import Fetch
from backend_sync.catalogue.floors import MAX_VERSION, Floors, FloorsError
from backend_sync.catalogue.metadata_file import MetadataSet
from backend_sync.catalogue.roles import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Kind,
    checked_region,
    delegated_role,
    parse_path,
)
from backend_sync.catalogue.scratch import Scratch, explain, scratch
from backend_sync.catalogue.target import Catalogue, Target, read_target
from backend_sync.catalogue.tuf_api import (
    DownloadError,
    Metadata,
    RepositoryError,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

_PROBE = "-"
"""The name of an object that cannot exist: asking for it makes python-tuf load the role that would list it."""


def refresh(fetch: Fetch, folder: Path, root: bytes, now_s: int, *, region: str, floors: Floors) -> Catalogue:
    """Bring a device's catalogue up to date.

    Args:
        fetch: Asks for an object by its name, from whatever carries them.
        folder: Where this device keeps metadata; its parent exists. One process at a time.
        root: The root metadata that the device was made with.
        now_s: The time, seconds since 1970 UTC, as good as the device knows it.
        region: The network that the device belongs to.
        floors: The highest versions seen.

    Returns:
        What is now in force.

    Raises:
        CatalogueRefused: It is not taken, and `load` still gives what was in force. (Only floors that cannot be raised
            are noticed when the new metadata is in place: then that is in force.)
    """
    with _storage(folder):
        before = metadata_file.read(folder)
        after, verified = _run(before, fetch, root, now_s, region)
        _refuse_below(verified, floors)
        if before is None or (before.roots, before.roles) != (after.roots, after.roles):
            metadata_file.write(folder, after)
        floors.raise_to(verified.floors)
    return verified.catalogue


def load(folder: Path, root: bytes, *, region: str, floors: Floors) -> Catalogue:
    """Return what is in force, verified again, without asking anybody; it may be past its time.

    Raises:
        CatalogueRefused: Nothing was ever taken, or what is on the disk is not what was: MALFORMED, ROLLBACK ...
    """
    with _storage(folder):
        held = metadata_file.read(folder)
        if held is None:
            raise CatalogueRefused(Refusal.MALFORMED, folder, "no catalogue was taken yet, or it cannot be read")
        # Judged by the time at which it was taken: what a list is worth when it is stale is not said here.
        _, verified = _run(held, _from(held), root, held.verified_s, region)
        _refuse_below(verified, floors)
        floors.raise_to(verified.floors)
    return verified.catalogue


@dataclass(frozen=True, slots=True)
class _Verified:
    """A catalogue, and for each role and key that signed it, the version."""

    catalogue: Catalogue
    floors: dict[str, int]
    trusted: dict[str, tuple[str, ...]]
    """By role: the names of the floors that count, those of every key that may sign for it now."""


def _run(
    before: MetadataSet | None, fetch: Fetch, root: bytes, now_s: int, region: str
) -> tuple[MetadataSet, _Verified]:
    with scratch(before, fetch) as run:
        try:
            client = run.client(root, now_s)
            client.refresh()
            loaded = _load_region(run, region, client.get_targetinfo)
        except (RepositoryError, DownloadError) as error:
            raise explain(error, run, now_s) from error
        roles = {role: run.read(role) for role in (TIMESTAMP, SNAPSHOT, TARGETS, *loaded)}
        return MetadataSet(now_s, dict(run.roots()), roles), _verified(run, region, loaded)


def _load_region(run: Scratch, region: str, find: Callable[[str], object]) -> dict[str, Kind]:
    """Have python-tuf load the roles that speak for a region, and return them.

    Which those are is read here as strictly as it is written by `backend_sync.catalogue.ceremony`: one role for a kind,
    under its own name, and nobody else for the same paths. Then what python-tuf loads is just that one.
    """
    targets = Metadata[Targets].from_bytes(run.read(TARGETS)).signed
    if targets.targets:
        raise CatalogueRefused(Refusal.MALFORMED, TARGETS, "lists objects itself")
    try:
        checked_region(region)
    except ValueError as error:
        raise CatalogueRefused(Refusal.WRONG_REGION, "this device", str(error)) from None
    found: dict[str, Kind] = {}
    for kind in Kind:
        role, probe = delegated_role(region, kind), f"{region}/{kind}/{_PROBE}"
        speaking = list(targets.delegations.get_roles_for_target(probe)) if targets.delegations else []
        if not speaking:
            continue
        if speaking != [(role, True)]:
            raise CatalogueRefused(Refusal.MALFORMED, TARGETS, f"others than {role} speak for {probe}")
        find(probe)
        found[role] = kind
    if not found:
        raise CatalogueRefused(Refusal.WRONG_REGION, TARGETS, f"nobody speaks for region {region!r}")
    return found


def _verified(run: Scratch, region: str, loaded: dict[str, Kind]) -> _Verified:
    timestamp = Metadata[Timestamp].from_bytes(run.read(TIMESTAMP)).signed
    root = Metadata[Root].from_bytes(run.read(ROOT)).signed
    versions, floors = {ROOT: _bounded(ROOT, root.version)}, {ROOT: root.version}
    trusted: dict[str, tuple[str, ...]] = {ROOT: (ROOT,)}
    for role in (TIMESTAMP, SNAPSHOT, TARGETS, *loaded):
        data = run.read(role)
        judged = run.judge(role, data)
        if not judged:
            raise CatalogueRefused(Refusal.WRONG_KEY, role, "what was verified is not on the disk")
        versions[role] = _bounded(role, Metadata[Snapshot].from_bytes(data).signed.version)
        floors |= {f"{role}/{keyid}": versions[role] for keyid in judged.signed}
        trusted[role] = tuple(f"{role}/{keyid}" for keyid in (*judged.signed, *judged.unsigned))
    targets = {
        path: _listed(target, region, kind, role)
        for role, kind in loaded.items()
        for path, target in Metadata[Targets].from_bytes(run.read(role)).signed.targets.items()
    }
    fresh_until_s = int(timestamp.expires.replace(tzinfo=UTC).timestamp())
    return _Verified(Catalogue(region, targets, versions, fresh_until_s), floors, trusted)


def _listed(listed: TargetFile, region: str, kind: Kind, role: str) -> Target:
    where = f"{role}, {listed.path}"
    try:
        of_region, of_kind, _ = parse_path(listed.path)
        target = read_target(listed.path, listed.length, listed.hashes, listed.custom)
    except ValueError as error:
        raise CatalogueRefused(Refusal.MALFORMED, where, str(error)) from None
    if (of_region, of_kind) != (region, kind):
        raise CatalogueRefused(Refusal.WRONG_REGION, where, f"this role speaks for {region}/{kind} alone")
    if (target.custom.region, target.custom.kind) != (region, kind):
        said = f"{target.custom.region}/{target.custom.kind}"
        raise CatalogueRefused(Refusal.WRONG_REGION, where, f"says of itself that it is for {said}")
    return target


def _bounded(role: str, version: int) -> int:
    if type(version) is not int or version > MAX_VERSION:  # JSON's true counts as 1 in Python, and in python-tuf
        raise CatalogueRefused(Refusal.MALFORMED, role, f"version {version} is no number up to {MAX_VERSION}")
    return version


def _refuse_below(verified: _Verified, floors: Floors) -> None:
    seen = floors.read()
    for role, names in verified.trusted.items():
        version, floor = verified.catalogue.versions[role], max((seen.get(name, 0) for name in names), default=0)
        if version < floor:
            raise CatalogueRefused(Refusal.ROLLBACK, role, f"version {version} is older than {floor}, seen before")


def _from(held: MetadataSet) -> Fetch:
    """Ask the disk: the timestamp that it has is the newest, and there is no newer root."""

    def fetch(name: str, _max_bytes: int) -> Iterable[bytes]:
        if name != f"{TIMESTAMP}.json" or TIMESTAMP not in held.roles:
            raise FileNotFoundError(name)
        return [held.roles[TIMESTAMP]]

    return fetch


@contextlib.contextmanager
def _storage(folder: Path) -> Iterator[None]:
    """Give a disk that fails its name."""
    try:
        yield
    except OSError as error:
        raise CatalogueRefused(Refusal.STORAGE, error.filename or folder, error.strerror or str(error)) from error
    except FloorsError as error:
        raise CatalogueRefused(Refusal.STORAGE, error.path, error.why) from error
