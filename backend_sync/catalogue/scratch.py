"""One run of python-tuf's client in a folder that is thrown away afterwards; nothing of it is in force by itself.

python-tuf writes each file as soon as that one is verified, and does not synchronise. A device wants all or nothing, so
the run begins with what the device has, and whoever started it takes over what came out, or not.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.fetching import Fetch, fetch_whole
from backend_sync.catalogue.metadata_file import MetadataSet
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from backend_sync.catalogue.tuf_api import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    FetcherInterface,
    LengthOrHashMismatchError,
    Metadata,
    RepositoryError,
    Root,
    Targets,
    Timestamp,
    UnsignedMetadataError,
    Updater,
    UpdaterConfig,
    VerificationResult,
)

_BASE: Final = "catalogue/"
_LIMITS: Final = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=1,  # targets and one role of the region's; a role may not send a device on to others
    root_max_length=128 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=1024 * 1024,
    targets_max_length=4 * 1024 * 1024,
)
_LONGEST: Final = _LIMITS.targets_max_length
"""What a role that is listed may have: a length that a thief of keys signed bounds nothing by itself."""


_DELEGATED: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.[a-z]{1,16}")


class Courier(FetcherInterface):
    """Carries metadata from a `Fetch` to python-tuf, and remembers what it brought.

    Attributes:
        last: What was asked for last; empty before.
        brought: What came, by name.
        refusal: Why it stopped, where python-tuf has no name for that.
    """

    def __init__(self, fetch: Fetch) -> None:
        """Take whom to ask."""
        self._fetch_object = fetch
        self.last = ""
        self.brought: dict[str, bytes] = {}
        self.refusal: CatalogueRefused | None = None

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Bring one file, in memory and within both bounds."""
        self.last = name = url.removeprefix(_BASE)
        try:
            self.brought[name] = fetch_whole(self._fetch_object, name, min(max_length, _LONGEST))
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{name}: is not published", 404) from error
        except CatalogueRefused as refused:
            self.refusal = refused
            raise DownloadError(str(refused)) from refused
        return self.brought[name]

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Carry a target, which python-tuf is never asked for here: see `backend_sync.catalogue.chunks`."""
        return iter(self._fetch_object(url.removeprefix(_BASE), _LONGEST))


class Scratch:
    """A folder with verified metadata in it, and the client that put it there."""

    def __init__(self, folder: Path, before: MetadataSet | None, courier: Courier) -> None:
        """Fill the folder with what the device has; python-tuf verifies it again before it relies on it."""
        self._folder = folder
        self.courier = courier
        (folder / "root_history").mkdir()
        for version, root in (before.roots if before else {}).items():
            (folder / "root_history" / f"{version}.root.json").write_bytes(root)
        for role, metadata in (before.roles if before else {}).items():
            if _is_plain(role):
                (folder / f"{role}.json").write_bytes(metadata)

    def client(self, root: bytes, now_s: int) -> Updater:
        """Return the client, which judges what is too old by `now_s`.

        Raises:
            RepositoryError: The root that the device was made with is none.
        """
        client = Updater(str(self._folder), _BASE, fetcher=self.courier, config=_LIMITS, bootstrap=root)
        trusted = client._trusted_set  # noqa: SLF001 - see below
        # python-tuf 7 has no argument for the time: it reads the wall clock once, here, and compares with it later. A
        # gate's own idea of the time is better than its clock (`validator.clock`). The alternative is to replace
        # `datetime` in a module of theirs, for the whole process. If the attribute is ever renamed, this fails at once.
        assert isinstance(trusted.reference_time, datetime)
        trusted.reference_time = datetime.fromtimestamp(now_s, UTC)
        return client

    def read(self, role: str) -> bytes:
        """Return the metadata of a role, or `ROOT`: what was verified last."""
        return (self._folder / f"{role}.json").read_bytes()

    def has(self, role: str) -> bool:
        """Whether there is metadata of a role."""
        return (self._folder / f"{role}.json").exists()

    def roots(self) -> Mapping[int, bytes]:
        """Return all roots by version, as far as the newest that is verified."""
        newest = Metadata[Root].from_bytes(self.read(ROOT)).signed.version
        found = {
            int(path.name.partition(".")[0]): path.read_bytes() for path in (self._folder / "root_history").iterdir()
        }
        return MappingProxyType({version: found[version] for version in sorted(found) if version <= newest})

    def judge(self, role: str, data: bytes) -> VerificationResult | None:
        """Say which keys signed something for a role; None where nobody says who may, or it is no metadata."""
        try:
            metadata = Metadata[Targets].from_bytes(data)
            delegator = Metadata[Root].from_bytes(self.read(ROOT)).signed
            if role in {ROOT, TIMESTAMP, SNAPSHOT, TARGETS}:
                return delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
            targets = Metadata[Targets].from_bytes(self.read(TARGETS)).signed
            return targets.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError, OSError):
            return None


@contextmanager
def scratch(before: MetadataSet | None, fetch: Fetch) -> Iterator[Scratch]:
    """Make a folder for one run, where the system keeps what need not last.

    Raises:
        OSError: It cannot be made or filled.
    """
    with tempfile.TemporaryDirectory(prefix="pilet-catalogue-") as folder:
        yield Scratch(Path(folder), before, Courier(fetch))


def explain(error: Exception, run: Scratch, now_s: int) -> CatalogueRefused:
    """Give a failure of python-tuf's the name that the field has for it."""
    where, role = run.courier.last or "the root that this device was made with", _role_of(run.courier.last)
    if run.courier.refusal is not None:
        return run.courier.refusal
    reason = Refusal.MALFORMED
    match error:
        case DownloadError():
            reason = Refusal.NOT_REACHED
        case ExpiredMetadataError():
            return _expired(run, now_s)
        case UnsignedMetadataError():
            judged = run.judge(role, run.courier.brought.get(run.courier.last, b""))
            some = judged is not None and bool(judged.signed)
            reason = Refusal.THRESHOLD if some else Refusal.WRONG_KEY
        case LengthOrHashMismatchError():
            reason = Refusal.MIX_AND_MATCH
        case BadVersionNumberError():
            reason = Refusal.ROLLBACK if _is_what_it_is_called(run.courier) else Refusal.MIX_AND_MATCH
        case _:
            pass
    return CatalogueRefused(reason, where, str(error))


def _expired(run: Scratch, now_s: int) -> CatalogueRefused:
    """Find out what ended: python-tuf notices some of it only at the next step."""
    now = datetime.fromtimestamp(now_s, UTC)
    if Metadata[Root].from_bytes(run.read(ROOT)).signed.is_expired(now):
        return CatalogueRefused(Refusal.EXPIRED, "root", "its time is over")
    timestamp = Metadata[Timestamp].from_bytes(run.courier.brought[f"{TIMESTAMP}.json"]).signed
    if timestamp.is_expired(now):
        why = f"the newest that can be had ended at {timestamp.expires:%Y-%m-%dT%H:%M:%SZ}"
        return CatalogueRefused(Refusal.FREEZE, f"{TIMESTAMP}.json", why)
    return CatalogueRefused(Refusal.EXPIRED, run.courier.last, "its time is over")


def _is_what_it_is_called(courier: Courier) -> bool:
    """Whether the number in a file is that in its name; a timestamp has none in its name."""
    number = courier.last.partition(".")[0]
    if not number.isdecimal() or _role_of(courier.last) == ROOT:
        return True
    return Metadata[Targets].from_bytes(courier.brought[courier.last]).signed.version == int(number)


def _role_of(name: str) -> str:
    """``7.north.deny.json`` is the role ``north.deny``; the root that a device was made with has no name."""
    stem = name.removesuffix(".json")
    number, _, rest = stem.partition(".")
    return (rest if number.isdecimal() else stem) or ROOT


def _is_plain(role: str) -> bool:
    """Whether a role of a file that the disk may have spoilt can be the name of a file."""
    return role in {TIMESTAMP, SNAPSHOT, TARGETS} or _DELEGATED.fullmatch(role) is not None
