"""The back office's own catalogue: its folder, its online keys, and the lists that it brings to the gates.

One process at a time has it: what is published by hand waits for what `publish announce` does by itself, and the other
way about.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.catalogue.key_store import PRIVATE, load_private_key
from backend_sync.catalogue.list_targets import KIND_OF, list_signer, manifest_path, payload_path
from backend_sync.catalogue.repository import METADATA, Repository
from backend_sync.catalogue.roles import SNAPSHOT, TIMESTAMP, Kind, delegated_role
from backend_sync.catalogue.target import Custom, Target, Wave
from backend_sync.config import OfficeConfig
from backend_sync.one_writer import StillWriting, one_writer
from backend_sync.publish_errors import InputMissing, PublishError
from backend_sync.publisher import Published
from validator.lists.manifest import ListKind
from validator.toml_file import ConfigError

WAIT_S: Final = 60.0
"""So long a nation's list may take to be split and tried by the process that has the catalogue."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list in the catalogue in force.

    Attributes:
        kind: Which list.
        version: Its version.
        percent: Of the devices, how many may install it; 0 for a wave that was stopped.
        issued_s: When it was made, seconds since 1970 UTC.
        not_after_s: Until when it is fresh, seconds since 1970 UTC.
    """

    kind: ListKind
    version: int
    percent: int
    issued_s: int
    not_after_s: int


@dataclass(frozen=True, slots=True)
class ListCatalogue:
    """The catalogue of one region's lists.

    Attributes:
        folder: Its folder.
        region: The region.
        keys: The online keys that are here, by role.
    """

    folder: Path
    region: str
    keys: Mapping[str, Ed25519PrivateKey]

    def signer(self, kind: ListKind) -> tuple[str, Ed25519PrivateKey]:
        """Return the role that signs a list and its changes, and its key.

        Raises:
            InputMissing: The key is not here.
        """
        role = list_signer(self.region, kind)
        if role not in self.keys:
            raise InputMissing(f"{role}{PRIVATE}: is not among the catalogue's keys; nobody here may sign this list")
        return role, self.keys[role]

    @contextmanager
    def opened(self) -> Iterator[Repository]:
        """Have the catalogue, alone.

        Raises:
            PublishError: Another process has it for too long, or its folder cannot be made.
        """
        try:
            with one_writer(Path(f"{self.folder}.lock"), WAIT_S):
                yield Repository(self.folder, self.keys)
        except StillWriting as error:
            raise PublishError(f"{self.folder}: another process has the catalogue: {error}; run this again") from None

    def bring(self, published: Published, percent: int, now_s: int) -> None:
        """List a published version, for a part of the devices.

        Raises:
            PublishError: A key is missing, or a device would not take the catalogue. What was in force still is.
        """
        manifest = published.manifest
        custom = Custom(
            KIND_OF[manifest.kind],
            self.region,
            manifest.version,
            manifest.issued_s,
            manifest.not_after_s,
            Wave(percent),
        )
        with self.opened() as repository:
            repository.add(payload_path(self.region, manifest.kind), published.payload_path, custom)
            repository.add(manifest_path(self.region, manifest.kind), published.manifest_path, custom)
            repository.publish(now_s)

    def set_wave(self, kind: ListKind, percent: int, now_s: int, version: int | None = None) -> bool:
        """Have another part of the devices install a list; returns whether it was so.

        Args:
            kind: Which list.
            percent: 0 stops it, 100 is everybody.
            now_s: The time, seconds since 1970 UTC.
            version: Only if this is the version in force; None for any.

        Raises:
            PublishError: Nothing of this kind is in the catalogue, or it cannot be signed.
        """
        with self.opened() as repository:
            held = _listed(repository.listed(self.region), self.region).get(kind)
            if version is not None and (held is None or held.version != version):
                return False
            for path in (payload_path(self.region, kind), manifest_path(self.region, kind)):
                repository.set_wave(path, percent)
            repository.publish(now_s)
        return True

    def in_force(self) -> dict[ListKind, Listed]:
        """Return the lists in force, by kind; none where nothing was published yet.

        Raises:
            PublishError: The catalogue cannot be read.
        """
        return _listed(Repository(self.folder, {}).listed(self.region), self.region)

    def stamp(self, now_s: int) -> int:
        """Sign a new timestamp, and whatever else grows old; returns until when it counts, seconds since 1970 UTC.

        Raises:
            PublishError: A key is missing, or a device would not take it.
        """
        with self.opened() as repository:
            return repository.publish(now_s).fresh_until_s


class InForce:
    """The lists in force, read again when the catalogue is another.

    Args:
        catalogue: The catalogue.
    """

    def __init__(self, catalogue: ListCatalogue) -> None:
        self._catalogue = catalogue
        self._timestamp: tuple[int, int] | None = None
        self._found: dict[ListKind, Listed] = {}

    def look(self) -> dict[ListKind, Listed]:
        """Return them, by kind; none where nothing was published yet.

        Raises:
            PublishError: The catalogue cannot be read.
        """
        path = self._catalogue.folder / METADATA / f"{TIMESTAMP}.json"
        try:
            held = path.stat()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise PublishError(f"{path}: {error.strerror or error}") from error
        now = held.st_mtime_ns, held.st_ino
        if now != self._timestamp:
            self._found = self._catalogue.in_force()
            self._timestamp = now
        return self._found


def list_catalogue(office: OfficeConfig) -> ListCatalogue | None:
    """Return the catalogue that an office file names; None for none.

    Raises:
        ConfigError: Its folder of keys is not there.
        PublishError: A key cannot be used.
    """
    if office.file.catalogue is None:
        return None
    home = office.resolve(office.file.catalogue.keys)
    if not home.is_dir():
        raise ConfigError(f"{office.path}: key `catalogue.keys`: {home} is no folder")
    region, found = office.file.region, dict[str, Ed25519PrivateKey]()
    places: dict[str, tuple[Path, ...]] = {role: (home / f"{role}{PRIVATE}",) for role in (TIMESTAMP, SNAPSHOT)}
    try:
        for kind in Kind:
            role = delegated_role(region, kind)
            places[role] = (home / region / f"{kind}{PRIVATE}", home / f"{role}{PRIVATE}")
    except ValueError as error:
        raise ConfigError(f"{office.path}: key `region`: {error}") from None
    for role, paths in places.items():
        for path in paths:
            if path.exists():
                found[role] = load_private_key(path)
                break
    return ListCatalogue(office.resolve(office.file.catalogue.folder), region, found)


def needed_catalogue(office: OfficeConfig) -> ListCatalogue:
    """Return the catalogue that an office file names.

    Raises:
        ConfigError: It names none, or its folder of keys is not there.
        PublishError: A key cannot be used.
    """
    office.catalogue_section()
    catalogue = list_catalogue(office)
    assert catalogue is not None
    return catalogue


def _listed(targets: Mapping[str, Target], region: str) -> dict[ListKind, Listed]:
    found = {}
    for kind in ListKind:
        manifest = targets.get(manifest_path(region, kind))
        if manifest is not None and payload_path(region, kind) in targets:
            said = manifest.custom
            found[kind] = Listed(kind, said.version, said.wave.percent, said.issued_s, said.not_after_s)
    return found
