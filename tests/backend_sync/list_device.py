"""A publisher whose lists travel by the catalogue, and a device that takes them: both real, a mirror in between."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backend_sync.catalogue.floors import FloorsFile
from backend_sync.catalogue.roles import Kind
from backend_sync.catalogue.target import Custom, Wave
from backend_sync.list_installer import Home, ListInstaller
from tests.backend_sync.catalogue_office import DAY, NOW, Mirror, Office, key
from validator.lists import installed
from validator.lists.deny_list import encode_deny_list
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ROLE_OF, ListKind, Manifest, seal_manifest
from validator.lists.trust_list import encode_trust_list
from validator.publishers import Publishers

REGION = "north"
TRUST = encode_trust_list([], [])
PASSENGERS = [bytes([number]) * 16 for number in range(1, 41)]


def denying(*credential_ids: bytes) -> bytes:
    return encode_deny_list(credential_ids)


@dataclass
class MirroredOffice:
    """Publishes lists of the north."""

    home: Path

    def __post_init__(self) -> None:
        self.office = Office(self.home, kinds=tuple(Kind))
        self.folder = self.home / "drafts"
        self.folder.mkdir()

    @property
    def root(self) -> bytes:
        return self.office.root

    def signer(self, kind: ListKind) -> str:
        return f"{REGION}.{ROLE_OF[kind]}"

    def sealed(
        self,
        kind: ListKind,
        payload: bytes,
        version: int,
        *,
        signer: str | None = None,
        region: str = REGION,
        issued_s: int = NOW,
    ) -> bytes:
        name = signer or self.signer(kind)
        manifest = Manifest(
            kind, region, version, issued_s, issued_s + DAY, hashlib.sha256(payload).digest(), len(payload), horizons={}
        )
        return seal_manifest(manifest, key(self.office.online[name]), name)

    def publish(
        self,
        kind: ListKind,
        payload: bytes,
        version: int,
        *,
        percent: int = 100,
        sealed: bytes | None = None,
        now_s: int = NOW,
    ) -> None:
        """Put a list into the catalogue, as it should be, or with another manifest."""
        repository = self.office.repository
        role = ROLE_OF[kind]
        custom = Custom(Kind(role), REGION, version, NOW, NOW + DAY, Wave(percent))
        parts = ((kind.value, payload), (f"{kind}.manifest", sealed or self.sealed(kind, payload, version)))
        for name, content in parts:
            (self.folder / name).write_bytes(content)
            repository.add(f"{REGION}/{role}/{name}", self.folder / name, custom)
        repository.publish(now_s)

    def files(self) -> dict[str, bytes]:
        return self.office.files()


@dataclass
class ListDevice:
    """A gate of the north: what its uplink installs, and what its validator then believes."""

    home: Path
    root: bytes
    device: str = "gate-1"
    passengers: Sequence[bytes] = ()
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.home / "uplink").mkdir(parents=True)
        self.lists = self.home / "lists"
        self.floors = FloorsFile(self.home / "floors.db")
        self.restart()

    def restart(self) -> None:
        own = Home(
            device=self.device,
            region=REGION,
            lists=self.lists,
            folder=self.home / "uplink" / "catalogue",
            root=self.root,
        )
        self.installer = ListInstaller(own, self.floors, lambda: self.passengers)
        self.publishers = Publishers({}, self.root, self.lists, REGION)

    def refresh(self, files: Mapping[str, bytes], now_s: int = NOW) -> list[ListKind]:
        mirror = Mirror(dict(files))
        taken = self.installer.refresh(mirror, now_s)
        self.asked = mirror.asked
        return taken

    def gate(self, previous: InstalledLists | None = None) -> InstalledLists:
        """What a validator has that starts now."""
        return installed.load(self.lists, self.publishers.keys(), REGION, previous)

    def reason(self, kind: ListKind) -> str:
        return self.installer.refused[kind].reason

    def close(self) -> None:
        self.floors.close()
