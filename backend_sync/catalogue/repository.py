"""The publisher's side: a folder that any server, cache or broker can copy, signed with the keys that are online.

    <out>/metadata/N.root.json, N.targets.json        signed offline, brought here by `Repository.adopt`
    <out>/metadata/N.<region>.<kind>.json, N.snapshot.json
    <out>/metadata/timestamp.json                     the one file that is written over, and the last one written
    <out>/objects/<SHA-256>                           chunks and their indexes

Versions are files of their own (TUF's consistent snapshots), so that whoever reads while this writes sees the catalogue
before or the one after. What is published was taken by a device's own code first. What nothing names any more is
removed with the next publication but one (`backend_sync.catalogue.upkeep`).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.catalogue import ceremony
from backend_sync.catalogue.chunks import CHUNK_BYTES, split
from backend_sync.catalogue.durable import make_folder, write_durably
from backend_sync.catalogue.errors import CatalogueRefused
from backend_sync.catalogue.fetching import OBJECTS, Fetch
from backend_sync.catalogue.rehearsal import rehearse
from backend_sync.catalogue.roles import (
    DELEGATED,
    ROOT,
    RULES,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    Kind,
    delegated_role,
    parse_path,
)
from backend_sync.catalogue.target import Custom, Target, Wave, custom_fields, read_target
from backend_sync.catalogue.tuf_api import (
    CryptoSigner,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from backend_sync.catalogue.upkeep import remove_unnamed
from backend_sync.publish_errors import InputMissing, PublishError

METADATA: Final = "metadata"
_TIMESTAMP_FILE: Final = f"{TIMESTAMP}.json"


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published.

    Attributes:
        versions: By role, of all that the catalogue now consists of.
        fresh_until_s: When its timestamp ends, seconds since 1970 UTC.
    """

    versions: Mapping[str, int]
    fresh_until_s: int


class Repository:
    """The catalogue in a folder. One process at a time."""

    def __init__(self, out: Path, keys: Mapping[str, Ed25519PrivateKey], chunk_bytes: int = CHUNK_BYTES) -> None:
        """Open a catalogue's folder; made if it is not there.

        Args:
            out: The folder; its parent exists.
            keys: The online keys that are here, by role: timestamp, snapshot, ``<region>.<kind>``.
            chunk_bytes: Size of the chunks of new targets.

        Raises:
            PublishError: The folder cannot be made.
        """
        self._out, self._chunk_bytes = out, chunk_bytes
        self._signers = {role: CryptoSigner(key) for role, key in keys.items()}
        self._staged: dict[str, dict[str, TargetFile | None]] = {}
        try:
            for folder in (out, out / METADATA, out / OBJECTS):
                make_folder(folder)
        except OSError as error:
            raise PublishError(f"{error.filename or out}: {error.strerror or error}") from error

    def adopt(self, document: bytes) -> int:
        """Take over a root or targets that was signed offline; devices hear of it with the next `publish`.

        Returns:
            Its version.

        Raises:
            PublishError: Signatures are missing, it does not follow the version that is here, or it cannot be written.
        """
        root = self._newest(ROOT)
        asked = ceremony.outstanding(document, root)
        if not asked.complete:
            raise PublishError(f"{asked.role} {asked.version}: {'; '.join(q.words() for q in asked.quorums)}")
        newest = self._newest_version(asked.role)
        if asked.version != newest + 1:
            raise PublishError(f"{asked.role} {asked.version}: the next one is {newest + 1}")
        self._write(f"{asked.version}.{asked.role}.json", document)
        return asked.version

    def add(self, path: str, payload: Path, custom: Custom) -> Target:
        """Stage an object: its chunks are written now, and `publish` lists it.

        Args:
            path: ``<region>/<kind>/<name>``; an object that is listed under it is replaced.
            payload: The object.
            custom: What it is; region and kind as in the path, the version newer than what is listed.

        Raises:
            InputMissing: The object cannot be read.
            PublishError: Path and custom do not agree, nobody may list it, it is not newer, or it cannot be written.
        """
        try:
            region, kind, _ = parse_path(path)
        except ValueError as error:
            raise PublishError(str(error)) from None
        if (custom.region, custom.kind) != (region, kind):
            raise PublishError(f"{path}: says of itself that it is for {custom.region}/{custom.kind}")
        role = f"{region}.{kind}"
        # What a key listed that was replaced since is no floor: it may have been a thief who chose the number.
        listed = self._listed(role).get(path) if self._stands(role) else None
        if listed is not None and _read(listed).custom.version >= custom.version:
            raise PublishError(f"{path}: version {custom.version} is not newer than {_read(listed).custom.version}")
        if not payload.is_file():
            raise InputMissing(f"{payload}: is no file")
        try:
            parts = split(payload, self._out / OBJECTS, self._chunk_bytes)
        except OSError as error:
            raise PublishError(f"{error.filename or payload}: {error.strerror or error}") from error
        except ValueError as error:
            raise PublishError(str(error)) from None
        fields = custom_fields(custom, parts.index)
        self._staged.setdefault(role, {})[path] = TargetFile(
            parts.length, {"sha256": parts.sha256}, path, {"custom": fields}
        )
        return read_target(path, parts.length, {"sha256": parts.sha256}, fields)

    def withdraw(self, path: str) -> None:
        """Stage that an object is listed no more.

        Raises:
            PublishError: It is not listed.
        """
        role = ".".join(path.split("/")[:2])
        if path not in self._listed(role):
            raise PublishError(f"{path}: is not listed")
        self._staged.setdefault(role, {})[path] = None

    def set_wave(self, path: str, percent: int) -> None:
        """Stage that another part of the devices installs an object, whose version stays; `publish` lists it so.

        Args:
            path: What is listed, or staged.
            percent: 0 for nobody, 100 for everybody.

        Raises:
            PublishError: It is not listed.
        """
        role = ".".join(path.split("/")[:2])
        listed = self._staged.get(role, {}).get(path) or self._listed(role).get(path)
        if listed is None:
            raise PublishError(f"{path}: is not listed")
        target = _read(listed)
        custom = custom_fields(msgspec.structs.replace(target.custom, wave=Wave(percent)), target.index)
        changed = TargetFile(listed.length, listed.hashes, path, {"custom": custom})
        self._staged.setdefault(role, {})[path] = changed

    def listed(self, region: str) -> dict[str, Target]:
        """Return what is in force for a region, by path.

        Raises:
            PublishError: It cannot be read.
        """
        roles = (delegated_role(region, kind) for kind in Kind)
        return {path: _read(target) for role in roles for path, target in self._listed(role).items()}

    def publish(self, now_s: int) -> Publication:
        """Sign what changed or grows old, and a new timestamp; put all of it in force with the last rename.

        Args:
            now_s: The time, seconds since 1970 UTC.

        Raises:
            PublishError: A key is missing, nothing was adopted yet, or a device would not take it. What was published
                before still is, and what is staged still is.
        """
        root = ceremony.read_root(self._needed(ROOT))
        targets_data = self._needed(TARGETS)
        targets = ceremony.read_targets(targets_data)
        new: dict[str, bytes] = {}
        meta = {f"{TARGETS}.json": _meta(targets.version, targets_data)}
        roles = list((targets.delegations.roles if targets.delegations else None) or ())
        self._refuse_unknown(roles)
        for role in roles:
            version, data = self._delegated(role, targets, now_s)
            meta[f"{role}.json"] = _meta(version, data)
            new[f"{version}.{role}.json"] = data
        version, data = self._snapshot(root, meta, now_s)
        new[f"{version}.{SNAPSHOT}.json"] = data
        timestamp = Timestamp(
            version=self._timestamp_version() + 1,
            expires=_until(now_s, RULES[TIMESTAMP].lifetime_s),
            snapshot_meta=_meta(version, data),
        )
        new[_TIMESTAMP_FILE] = self._signed(TIMESTAMP, Metadata(timestamp), root)
        regions = sorted({role.partition(".")[0] for role in roles})
        self._rehearse(new, regions, now_s)
        for name in [name for name in new if name != _TIMESTAMP_FILE] + [_TIMESTAMP_FILE]:
            self._write(name, new[name])
        self._staged.clear()
        try:
            remove_unnamed(self._out / METADATA, self._out / OBJECTS)
        except OSError as error:
            raise PublishError(f"{error.filename}: {error.strerror or error}; it is published all the same") from error
        versions = {
            ROOT: root.version,
            TIMESTAMP: timestamp.version,
            SNAPSHOT: version,
            **{name.removesuffix(".json"): held.version for name, held in meta.items()},
        }
        return Publication(versions, int(timestamp.expires.timestamp()))

    def fetch(self, name: str, max_bytes: int) -> Iterable[bytes]:
        """Serve what is published, as `backend_sync.catalogue.fetching.Fetch` asks for it."""
        home = self._out if name.startswith(f"{OBJECTS}/") else self._out / METADATA
        with (home / name).open("rb") as file:
            yield file.read(max_bytes + 1)

    def root(self, version: int = 1) -> bytes:
        """Return a root by its version; what devices are made with.

        Raises:
            PublishError: It was not adopted.
        """
        held = self._read(f"{version}.{ROOT}.json")
        if held is None:
            raise PublishError(f"{self._out}: root {version} was not brought here yet")
        return held

    def _delegated(self, role: str, targets: Targets, now_s: int) -> tuple[int, bytes]:
        held = self._current(role)
        version = self._newest_version(role)
        if held is not None and role not in self._staged:
            metadata = Metadata[Targets].from_bytes(held)
            stands = targets.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            if stands and not _grows_old(metadata.signed, DELEGATED.lifetime_s, now_s):
                return metadata.signed.version, held
        listed = dict(self._listed(role))
        for path, target in self._staged.get(role, {}).items():
            if target is None:
                listed.pop(path, None)
            else:
                listed[path] = target
        fresh = Targets(version=version + 1, expires=_until(now_s, DELEGATED.lifetime_s), targets=listed)
        return fresh.version, self._signed(role, Metadata(fresh), targets)

    def _snapshot(self, root: Root, meta: dict[str, MetaFile], now_s: int) -> tuple[int, bytes]:
        held = self._current(SNAPSHOT)
        if held is not None:
            metadata = Metadata[Snapshot].from_bytes(held)
            stands = root.get_verification_result(SNAPSHOT, metadata.signed_bytes, metadata.signatures)
            young = not _grows_old(metadata.signed, RULES[SNAPSHOT].lifetime_s, now_s)
            if stands and young and metadata.signed.meta == meta:
                return metadata.signed.version, held
        version = self._newest_version(SNAPSHOT) + 1
        fresh = Snapshot(version=version, expires=_until(now_s, RULES[SNAPSHOT].lifetime_s), meta=meta)
        return version, self._signed(SNAPSHOT, Metadata(fresh), root)

    def _signed(
        self,
        role: str,
        metadata: "Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]",
        delegator: Root | Targets,
    ) -> bytes:
        signer = self._signers.get(role)
        if signer is None:
            raise PublishError(f"{role}: has to be signed anew, and its key is not here")
        if signer.public_key.keyid not in delegator.get_delegated_role(role).keyids:
            raise PublishError(f"{role}: the key that is here may not sign for it; was it replaced?")
        metadata.sign(signer)
        return metadata.to_bytes()

    def _rehearse(self, new: Mapping[str, bytes], regions: list[str], now_s: int) -> None:
        def fetch(name: str, max_bytes: int) -> Iterable[bytes]:
            return [new[name]] if name in new else self.fetch(name, max_bytes)

        served: Fetch = fetch
        try:
            rehearse(served, self.root(), regions, now_s)
        except CatalogueRefused as refused:
            raise PublishError(f"{self._out}: a device would not take it: {refused}") from refused

    def _refuse_unknown(self, roles: list[str]) -> None:
        for role in self._staged:
            if role not in roles:
                raise PublishError(f"{role}: something is to be listed, and targets delegates to no such role")

    def _stands(self, role: str) -> bool:
        """Whether a role's metadata in force is signed by whoever may sign it now; there may be none."""
        held, data = self._current(role), self._newest(TARGETS)
        if held is None or data is None:
            return False
        metadata, targets = Metadata[Targets].from_bytes(held), ceremony.read_targets(data)
        try:
            return bool(targets.get_verification_result(role, metadata.signed_bytes, metadata.signatures))
        except ValueError:
            return False

    def _listed(self, role: str) -> dict[str, TargetFile]:
        held = self._current(role)
        return {} if held is None else Metadata[Targets].from_bytes(held).signed.targets

    def _current(self, role: str) -> bytes | None:
        """Return the version of a role that is in force: the timestamp names the snapshot, and that the others."""
        timestamp = self._read(_TIMESTAMP_FILE)
        if timestamp is None:
            return None
        snapshot_version = Metadata[Timestamp].from_bytes(timestamp).signed.snapshot_meta.version
        snapshot = self._read(f"{snapshot_version}.{SNAPSHOT}.json")
        if role == SNAPSHOT or snapshot is None:
            return snapshot
        held = Metadata[Snapshot].from_bytes(snapshot).signed.meta.get(f"{role}.json")
        return None if held is None else self._read(f"{held.version}.{role}.json")

    def _timestamp_version(self) -> int:
        held = self._read(_TIMESTAMP_FILE)
        return 0 if held is None else Metadata[Timestamp].from_bytes(held).signed.version

    def _newest_version(self, role: str) -> int:
        """Return the greatest version that ever got a name here, in force or cut off before: none is used twice."""
        names = (path.name for path in (self._out / METADATA).glob(f"*.{role}.json"))
        return max(
            (int(number) for number in (name.partition(".")[0] for name in names) if number.isdecimal()), default=0
        )

    def _newest(self, role: str) -> bytes | None:
        return self._read(f"{self._newest_version(role)}.{role}.json")

    def _needed(self, role: str) -> bytes:
        held = self._newest(role)
        if held is None:
            raise PublishError(f"{self._out}: {role} was not brought here yet; it is signed offline")
        return held

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._out / METADATA / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PublishError(f"{error.filename}: {error.strerror or error}") from error

    def _write(self, name: str, content: bytes) -> None:
        path = self._out / METADATA / name
        try:
            if self._read(name) != content:
                write_durably(path, content)
        except OSError as error:
            raise PublishError(f"{error.filename or path}: {error.strerror or error}") from error


def _read(listed: TargetFile) -> Target:
    return read_target(listed.path, listed.length, listed.hashes, listed.custom)


def _grows_old(signed: Targets | Snapshot, lifetime_s: int, now_s: int) -> bool:
    """Whether less than half of its time is left."""
    return int(signed.expires.timestamp()) - now_s < lifetime_s // 2


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _until(now_s: int, lifetime_s: int) -> datetime:
    return datetime.fromtimestamp(now_s + lifetime_s, UTC)
