"""A catalogue with everybody who signs it: holders of offline keys, the online keys, and whoever stole some of them."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical

from backend_sync.catalogue import ceremony
from backend_sync.catalogue.client import load, refresh
from backend_sync.catalogue.floors import MAX_VERSION, FloorsFile
from backend_sync.catalogue.key_store import named_key
from backend_sync.catalogue.repository import METADATA, Repository
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Kind, delegated_role
from backend_sync.catalogue.target import Catalogue, Custom, Target
from backend_sync.catalogue.tuf_api import SSlibKey

NOW = 1_800_000_000
DAY = 24 * 3600
HOLDERS = ("root-a", "root-b", "root-c")
REGIONS = ("north", "south")
GREATEST = 2**63 - 1


def key(name: str) -> Ed25519PrivateKey:
    """The same key for the same name, in every test."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def public(name: str) -> SSlibKey:
    return named_key(key(name).public_key(), name)


@dataclass
class Office:
    """Publishes a catalogue.

    Attributes:
        home: A folder of its own.
        online: Names of the online keys, by role.
    """

    home: Path
    kinds: tuple[Kind, ...] = (Kind.DENY, Kind.TARIFF)
    online: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        roles = [delegated_role(region, kind) for region in REGIONS for kind in self.kinds]
        self.online = {role: role for role in (SNAPSHOT, TIMESTAMP, *roles)}
        root = ceremony.first_root(
            {
                ROOT: [public(name) for name in HOLDERS],
                TARGETS: [public(TARGETS)],
                SNAPSHOT: [public(SNAPSHOT)],
                TIMESTAMP: [public(TIMESTAMP)],
            },
            NOW,
        )
        self.root = self.signed(root, "root-a", "root-c")
        self.repository.adopt(self.root)
        targets = ceremony.first_targets(
            {region: {kind: public(delegated_role(region, kind)) for kind in self.kinds} for region in REGIONS}, NOW
        )
        self.repository.adopt(self.signed(targets, TARGETS, authority=self.root))

    def copied(self, home: Path) -> "Office":
        """The same office in another folder, for whoever changes it."""
        shutil.copytree(self.home, home)
        office = copy.copy(self)
        office.home, office.online = home, dict(self.online)
        return office

    @property
    def repository(self) -> Repository:
        """Opened anew, with the keys that are online now."""
        keys = {role: key(name) for role, name in self.online.items()}
        return Repository(self.home / "published", keys, chunk_bytes=1024)

    @property
    def metadata(self) -> Path:
        return self.home / "published" / METADATA

    def signed(self, document: bytes, *names: str, authority: bytes | None = None) -> bytes:
        for name in names:
            document = ceremony.sign(document, key(name), authority)
        return document

    def publish(self, version: int = 1, now_s: int = NOW, **payloads: bytes) -> dict[str, Target]:
        """Publish a version of the north's deny list, and others by ``region_kind=payload``."""
        repository, added = self.repository, {}
        for name, payload in (payloads or {"north_deny": b"deny %d" % version}).items():
            region, kind = name.split("_")
            path = f"{region}/{kind}/list"
            (self.home / name).write_bytes(payload)
            custom = Custom(Kind(kind), region, version, now_s, now_s + DAY)
            added[path] = repository.add(path, self.home / name, custom)
        repository.publish(now_s)
        return added

    def rotate(self, role: str, new: str, holders: Iterable[str] = ("root-a", "root-b"), now_s: int = NOW) -> None:
        """Give an online role another key, by root or by targets."""
        old = self.online[role]
        if role in (SNAPSHOT, TIMESTAMP):
            root = self.newest(ROOT)
            following = ceremony.next_root(root, role, old, public(new), now_s)
            self.repository.adopt(self.signed(following, *holders, authority=root))
        else:
            following = ceremony.next_targets(self.newest(TARGETS), role, public(new), now_s)
            self.repository.adopt(self.signed(following, TARGETS, authority=self.newest(ROOT)))
        self.online[role] = new

    def newest(self, role: str) -> bytes:
        versions = [int(path.name.split(".")[0]) for path in self.metadata.glob(f"*.{role}.json")]
        return (self.metadata / f"{max(versions)}.{role}.json").read_bytes()

    def files(self) -> dict[str, bytes]:
        """What is published, by the name it is asked for."""
        found = {path.name: path.read_bytes() for path in self.metadata.iterdir()}
        objects = self.home / "published" / "objects"
        return found | {f"objects/{path.name}": path.read_bytes() for path in objects.iterdir()}


@dataclass
class Mirror:
    """Whatever carries the catalogue: it serves these files, honest or not, and remembers what it was asked for."""

    files: dict[str, bytes]
    asked: list[str] = field(default_factory=list)

    def __call__(self, name: str, max_bytes: int) -> Iterator[bytes]:
        self.asked.append(name)
        if name not in self.files:
            raise FileNotFoundError(name)
        yield self.files[name]


@dataclass
class Device:
    """A gate of the north, with its metadata and its floors."""

    home: Path
    root: bytes
    region: str = "north"

    def __post_init__(self) -> None:
        self.home.mkdir(exist_ok=True)
        self.folder = self.home / "catalogue"
        self.floors = FloorsFile(self.home / "floors")

    def refresh(self, files: Mapping[str, bytes], now_s: int = NOW) -> Catalogue:
        return refresh(Mirror(dict(files)), self.folder, self.root, now_s, region=self.region, floors=self.floors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.floors.close()

    def load(self) -> Catalogue:
        return load(self.folder, self.root, region=self.region, floors=self.floors)


@dataclass
class FloorsInMemory:
    """Floors in memory: these laws try a great many catalogues."""

    seen: dict[str, int] = field(default_factory=dict)

    def read(self) -> dict[str, int]:
        return dict(self.seen)

    def raise_to(self, versions: Mapping[str, int], /) -> None:
        assert all(type(version) is int and 0 < version <= MAX_VERSION for version in versions.values())
        self.seen |= {name: max(version, self.seen.get(name, 0)) for name, version in versions.items()}


class Thief:
    """Holds online keys, and makes metadata by hand: nothing here asks the publisher's code what may be said."""

    def __init__(self, files: Mapping[str, bytes], **keys: str) -> None:
        """Take what is published, and the names of the stolen keys by role; ``_`` stands for the dot of a role."""
        self.files = dict(files)
        self._keys = {role.replace("_", "."): name for role, name in keys.items()}

    def content(self, role: str) -> dict[str, Any]:
        """What a role says now, to be changed."""
        newest = max(
            (name for name in self.files if name.removesuffix(".json").split(".", 1)[-1] == role),
            key=lambda name: int(name.split(".")[0]) if name[0].isdigit() else 0,
        )
        signed: dict[str, Any] = json.loads(self.files[newest])["signed"]
        return signed

    def put(self, role: str, signed: dict[str, Any], *signers: str) -> bytes:
        """Sign and publish; returns the bytes."""
        data = sign_by_hand(signed, *(signers or (self._keys[role],)))
        name = f"{role}.json" if role == TIMESTAMP else f"{signed['version']}.{role}.json"
        self.files[name] = data
        return data

    def list_in_snapshot(self, role: str, version: int, data: bytes, snapshot_version: int | None = None) -> None:
        """Have snapshot and timestamp name a version of a role."""
        snapshot = self.content(SNAPSHOT)
        snapshot["meta"][f"{role}.json"] = meta(version, data)
        snapshot["version"] = snapshot_version or snapshot["version"] + 1
        self.stamp(snapshot["version"], self.put(SNAPSHOT, snapshot))

    def stamp(self, snapshot_version: int, snapshot: bytes, version: int | None = None) -> None:
        timestamp = self.content(TIMESTAMP)
        timestamp["version"] = version or timestamp["version"] + 1
        timestamp["meta"]["snapshot.json"] = meta(snapshot_version, snapshot)
        self.put(TIMESTAMP, timestamp)


def meta(version: int, data: bytes) -> dict[str, Any]:
    return {"version": version, "length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}


def sign_by_hand(signed: dict[str, Any], *names: str) -> bytes:
    payload = encode_canonical(signed)
    assert payload is not None
    signatures = [{"keyid": public(name).keyid, "sig": key(name).sign(payload.encode()).hex()} for name in names]
    return json.dumps({"signatures": signatures, "signed": signed}).encode()


def at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
