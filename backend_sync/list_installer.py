"""A device's lists, brought up to its catalogue: fetch, verify, try, install.

Nothing here touches what is in force before its successor is whole on the disk.
What does not do is refused with a reason that has a name, is reported, and is tried again when the catalogue next
changes; what only could not be had is tried again soon. Who may sign (`validator.lists.authority`) changes for the gate
role by role, each when its lists here are signed by those who may from now on: otherwise a restart in between would
find lists that nobody vouches for any more.
"""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backend_sync.catalogue import client, metadata_file
from backend_sync.catalogue.chunks import collect
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.fetching import Fetch
from backend_sync.catalogue.floors import Floors
from backend_sync.catalogue.list_targets import list_signer, manifest_path, payload_path
from backend_sync.catalogue.metadata_file import MetadataSet
from backend_sync.catalogue.roles import TARGETS
from backend_sync.catalogue.target import Catalogue, Target
from backend_sync.change_follower import AHEAD_S
from backend_sync.self_check import self_check
from backend_sync.waves import in_wave
from validator.fares.editions import MAX_BYTES
from validator.lists import directory
from validator.lists.authority import (
    authorised_keys,
    earlier_targets,
    encode_authority,
    read_authority,
    write_authority,
)
from validator.lists.errors import ListError
from validator.lists.manifest import ROLE_OF, ListKind, Manifest, open_manifest

log = structlog.get_logger("uplink")

CATALOGUE: Final = "catalogue"
"""What the catalogue itself is called where lists are reported."""
INCOMING: Final = "incoming"
FREE_BYTES: Final = 64 * 1024 * 1024
"""Of the disk, for the journal: no list ever takes a tap's place."""
_MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
_GIB: Final = 1024**3
_LARGEST: Final[Mapping[str, int]] = {"trust": _GIB, "deny": _GIB // 4, "tickets": 4 * _GIB, "tariff": MAX_BYTES}
_TRANSIENT: Final = frozenset({Refusal.NOT_REACHED, Refusal.SLOW, Refusal.STORAGE, Refusal.FREEZE, Refusal.EXPIRED})
"""What may be otherwise in a minute: a line, a disk, a clock."""
_CHUNKS: Final = ".chunks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What an installer knows of its device.

    Attributes:
        device: Its id: decides when it is its turn.
        region: The network that it belongs to.
        lists: The list directory, which this process owns.
        folder: Where the catalogue's metadata and pieces of lists are kept; made if its parent is there.
        root: The root that the device was made with.
    """

    device: str
    region: str
    lists: Path
    folder: Path
    root: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """What was not taken.

    Attributes:
        version: Which version of it.
        reason: Why, in words for whoever published it.
        transient: Whether trying again may help.
    """

    version: int
    reason: str
    transient: bool


@dataclass(slots=True)
class ListInstaller:
    """Brings lists to one device. Blocks; used in one thread.

    Attributes:
        home: The device.
        floors: The highest versions seen.
        passengers: Tells the credentials of passengers who were let in lately.
        refused: What was refused at the last try, by list, and under `CATALOGUE` the catalogue itself.
        catalogue: What is in force of the catalogue; None before the first one.
    """

    home: Home
    floors: Floors
    passengers: Callable[[], Sequence[bytes]]
    refused: dict[str, Refused] = field(default_factory=dict)
    catalogue: Catalogue | None = None

    def refresh(self, fetch: Fetch, now_s: int) -> list[ListKind]:
        """Take the newest catalogue, and install what it lists for this device.

        Args:
            fetch: Whom to ask.
            now_s: The time, seconds since 1970 UTC.

        Returns:
            The lists of which a new version is in force.
        """
        home = self.home
        try:
            catalogue = client.refresh(fetch, home.folder, home.root, now_s, region=home.region, floors=self.floors)
            held = self._metadata()
            keys = authorised_keys(encode_authority(held.roots, held.roles[TARGETS]), home.root, home.region)
        except CatalogueRefused as refused:
            self._refuse(CATALOGUE, 0, refused)
            return []
        except ListError as error:
            self._refuse(CATALOGUE, 0, error)
            return []
        self.refused.pop(CATALOGUE, None)
        self.catalogue = catalogue
        installed = [kind for kind in ListKind if self._bring(fetch, catalogue, kind, keys, now_s)]
        try:
            self._hand_over(held, keys)
        except ListError as error:
            self._refuse(CATALOGUE, 0, error)
        return installed

    @property
    def unfinished(self) -> bool:
        """Whether something is missing that trying again soon may bring."""
        return any(refused.transient for refused in self.refused.values())

    def keys(self) -> dict[str, Ed25519PublicKey]:
        """Return the keys that a gate here believes; none before the first catalogue.

        Raises:
            ListError: What says so cannot be read, or is not signed.
        """
        content = read_authority(self.home.lists)
        return {} if content is None else authorised_keys(content, self.home.root, self.home.region)

    def _metadata(self) -> MetadataSet:
        held = metadata_file.read(self.home.folder)
        if held is None:
            raise ListError(self.home.folder, "the catalogue's metadata was written, and cannot be read")
        return held

    def _bring(
        self, fetch: Fetch, catalogue: Catalogue, kind: ListKind, keys: Mapping[str, Ed25519PublicKey], now_s: int
    ) -> bool:
        path = payload_path(self.home.region, kind)
        payload = catalogue.targets.get(path)
        manifest = catalogue.targets.get(manifest_path(self.home.region, kind))
        if payload is None or manifest is None or not self._wanted(kind, payload, keys):
            self.refused.pop(kind, None)
            return False
        version = payload.custom.version
        try:
            self._install(fetch, kind, payload, manifest, keys, now_s=now_s)
        except (CatalogueRefused, ListError) as error:
            self._refuse(kind, version, error)
            return False
        except OSError as error:
            why = f"{error.filename or self.home.folder}: {error.strerror or error}"
            self._refuse(kind, version, CatalogueRefused(Refusal.STORAGE, path, why))
            return False
        self.refused.pop(kind, None)
        log.info("list.installed", kind=kind.value, version=version)
        return True

    def _wanted(self, kind: ListKind, target: Target, keys: Mapping[str, Ed25519PublicKey]) -> bool:
        """Whether a list is newer than what is here, and this device's turn has come.

        Its turn has always come where there is no such list at all, or one that was signed with a key which may sign no
        more: whatever number that has, a thief may have made it. A list that was stopped is for nobody.
        """
        lists, version, percent = self.home.lists, target.custom.version, target.custom.wave.percent
        current = directory.version_in_force(lists, kind)
        if current is not None and not directory.still_signed(lists, kind, keys):
            return version != current
        if current is None and not directory.installed_versions(lists, kind):
            return percent > 0
        return version > (current or 0) and in_wave(self.home.device, kind, version, percent)

    def _install(
        self,
        fetch: Fetch,
        kind: ListKind,
        payload: Target,
        manifest: Target,
        keys: Mapping[str, Ed25519PublicKey],
        *,
        now_s: int,
    ) -> None:
        if payload.custom.version != manifest.custom.version:
            why = f"is of version {manifest.custom.version}, its payload of {payload.custom.version}"
            raise CatalogueRefused(Refusal.MIX_AND_MATCH, manifest.path, why)
        shelf = self.home.folder / INCOMING / kind.value
        shelf.mkdir(parents=True, exist_ok=True)
        _clear(shelf, {payload.sha256, manifest.sha256})
        sealed = self._fetched(fetch, manifest, shelf, _MAX_MANIFEST_BYTES).read_bytes()
        said = open_manifest(sealed, keys, manifest.path)
        if (said.kind, said.version) != (kind, payload.custom.version):
            raise CatalogueRefused(Refusal.MIX_AND_MATCH, manifest.path, f"is for {said.kind} {said.version}")
        self._refuse_its_time(said, now_s)
        held = self._held(kind, payload)
        candidate = held or self._fetched(fetch, payload, shelf, _LARGEST.get(ROLE_OF[kind], _GIB))
        if said.payload_sha256.hex() != payload.sha256:
            raise CatalogueRefused(Refusal.MIX_AND_MATCH, payload.path, "is not the payload of its manifest")
        self_check(kind, candidate, self.home.lists, self.passengers(), now_s)
        directory.install(self.home.lists, sealed, candidate, keys, region=self.home.region)
        shutil.rmtree(shelf, ignore_errors=True)

    def _refuse_its_time(self, said: Manifest, now_s: int) -> None:
        """Refuse a list from the future, which would move the gate's clock, and one that is past its date already.

        A device that has no such list takes what there is: what it is worth is said elsewhere.
        """
        if said.issued_s > now_s + AHEAD_S:
            why = f"was made at {said.issued_s}, and it is {now_s}"
            raise CatalogueRefused(Refusal.MALFORMED, f"{said.kind} list", why)
        if said.not_after_s < now_s and directory.version_in_force(self.home.lists, said.kind) is not None:
            raise CatalogueRefused(Refusal.EXPIRED, f"{said.kind} list", f"ended at {said.not_after_s}, it is {now_s}")

    def _held(self, kind: ListKind, target: Target) -> Path | None:
        """Find a payload among the versions that are here: an order to go back needs nothing to be sent."""
        for version in directory.installed_versions(self.home.lists, kind):
            path = self.home.lists / kind.value / str(version) / directory.PAYLOAD
            if path.exists() and path.stat().st_size == target.length and _sha256(path) == target.sha256:
                return path
        return None

    def _fetched(self, fetch: Fetch, target: Target, shelf: Path, largest: int) -> Path:
        """Return a target's file, whole; what an attempt that was cut off brought is not asked for again."""
        if target.length > largest:
            why = f"{target.length} bytes, and none of its kind has more than {largest}"
            raise CatalogueRefused(Refusal.ENDLESS_DATA, target.path, why)
        path = shelf / target.sha256
        if path.exists() and _sha256(path) == target.sha256:
            return path
        free, needed = shutil.disk_usage(shelf).free, 3 * target.length + FREE_BYTES
        if free < needed:
            why = f"{free} bytes are free, and {needed} are needed beside the journal"
            raise CatalogueRefused(Refusal.STORAGE, shelf, why)
        chunks = shelf / (target.sha256 + _CHUNKS)
        collect(fetch, target, chunks, path)
        shutil.rmtree(chunks, ignore_errors=True)
        return path

    def _hand_over(self, held: MetadataSet, keys: Mapping[str, Ed25519PublicKey]) -> None:
        """Tell the gate who may sign from now on: role by role, each once it has signed what is here of it."""
        lists = self.home.lists
        before = None
        with contextlib.suppress(ListError):
            before = read_authority(lists)
        earlier = dict[str, bytes]()
        for kind in ListKind:
            if before is None or directory.version_in_force(lists, kind) is None:
                continue
            if not directory.still_signed(lists, kind, keys):
                role = list_signer(self.home.region, kind)
                earlier[role] = earlier_targets(before, role)
                self._refuse(kind, 0, ListError(f"{kind} list", "its key was replaced; publish it anew"))
        authority = encode_authority(held.roots, held.roles[TARGETS], earlier)
        if authority != before:
            lists.mkdir(parents=True, exist_ok=True)
            write_authority(lists, authority)

    def _refuse(self, what: str, version: int, error: CatalogueRefused | ListError) -> None:
        transient = isinstance(error, CatalogueRefused) and error.reason in _TRANSIENT
        name = f"{error.reason}: " if isinstance(error, CatalogueRefused) else ""
        refused = Refused(version, name + error.why, transient)
        if self.refused.get(what) != refused:
            log.error(
                "list.refused", kind=what, version=version, where=error.where, why=refused.reason, again=transient
            )
        self.refused[what] = refused


def _clear(shelf: Path, keep: set[str]) -> None:
    """Remove what was brought of versions that nobody lists any more."""
    for left in shelf.iterdir():
        if left.name.removesuffix(_CHUNKS) not in keep:
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
