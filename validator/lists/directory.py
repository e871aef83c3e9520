"""The list directory on a device: immutable versions behind a pointer. One process installs, another reads.

    <directory>/<kind>/<version>/manifest     signed
    <directory>/<kind>/<version>/payload      bound to it by length and SHA-256
    <directory>/<kind>/current                the number of the version in force
    <directory>/authority                     who may sign, where a catalogue says so (`validator.lists.authority`)

A version is complete on the disk before it gets its name, and has its name before the pointer names it. Whatever is
cut off in between leaves the version that was in force. The one before it is kept, in case a disk spoils the newest.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator.envelope import EnvelopeError, EnvelopeForged, EnvelopeUntrusted, Purpose, open_envelope
from validator.lists.deny_list import DenyList
from validator.lists.enrolled_list import EnrolledKeys
from validator.lists.errors import ListError
from validator.lists.gate_rules import parse_gate_rules
from validator.lists.manifest import CHECKED_PAGES, ListKind, Manifest, open_manifest
from validator.lists.status_array import StatusFile
from validator.lists.tariff_list import load_editions
from validator.lists.ticket_store import TicketStore
from validator.lists.trust_list import parse_trust_list

log = structlog.get_logger()

MANIFEST = "manifest"
PAYLOAD = "payload"
POINTER = "current"
AUTHORITY = "authority"
_INCOMING = ".incoming-"
_BLOCK = 256 * 1024
_SYNC_EVERY = 1024 * 1024
"""A gate's journal waits for the disk until what is being installed beside it is there: a little at a time."""
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024

PublisherKeys = Mapping[str, Ed25519PublicKey]


def install(
    directory: Path,
    manifest_bytes: bytes,
    payload_path: Path,
    publisher_keys: PublisherKeys,
    *,
    region: str | None = None,
) -> Manifest:
    """Verify a candidate and put it in force; only the one process that owns the directory may.

    Args:
        directory: The list directory; made if it is not there.
        manifest_bytes: The signed manifest.
        payload_path: The payload; it is copied.
        publisher_keys: Publishers that are believed, by the name they sign with.
        region: The network that the device belongs to; None takes a list of any.

    Returns:
        The manifest that is now in force.

    Raises:
        ListError: The candidate is not believed, not newer, damaged, or cannot be stored. What was in force still is.
    """
    manifest = open_manifest(manifest_bytes, publisher_keys, f"manifest for {payload_path}")
    if region is not None:
        _refuse_other_region(manifest, region, payload_path)
    shelf = directory / manifest.kind.value
    _refuse_older(shelf, manifest, publisher_keys)
    before = version_in_force(directory, manifest.kind)
    incoming = shelf / f"{_INCOMING}{manifest.version}"
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        _sync_directory(directory)
        _clear_incoming(shelf)
        incoming.mkdir()
        _copy_verified(payload_path, incoming / PAYLOAD, manifest)
        check_payload(manifest.kind, incoming / PAYLOAD)
        _refuse_other_root(manifest, incoming / PAYLOAD)
        _write_synced(incoming / MANIFEST, manifest_bytes)
        _sync_directory(incoming)
        _put_in_place(incoming, shelf / str(manifest.version))
        _point_to(shelf, manifest.version)
    except ListError:
        shutil.rmtree(incoming, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(incoming, ignore_errors=True)
        raise ListError(error.filename or shelf, f"cannot be stored: {error.strerror or error}") from error
    _remove_all_but(shelf, {manifest.version, before})
    return manifest


def version_in_force(directory: Path, kind: ListKind) -> int | None:
    """Return the version that the pointer names, or None where there is no readable pointer."""
    try:
        text = (directory / kind.value / POINTER).read_text("ascii")
        return int(text) if text.strip().isdigit() else None
    except (OSError, ValueError):
        return None


def installed_versions(directory: Path, kind: ListKind) -> list[int]:
    """Return the versions that are stored, newest first, in force or not."""
    try:
        names = [path.name for path in (directory / kind.value).iterdir()]
    except OSError:
        return []
    return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def read_verified(
    directory: Path, kind: ListKind, version: int, publisher_keys: PublisherKeys, region: str
) -> tuple[Manifest, Path]:
    """Verify a stored version: signature, kind, number, region, length and hash.

    A payload whose manifest names its root is not hashed: whoever opens it compares the root (`payload_root`), and its
    pages are verified when they are read.

    Returns:
        Its manifest and the path of its payload.

    Raises:
        ListError: It is not what its manifest says, or the manifest is not believed.
    """
    home = directory / kind.value / str(version)
    try:
        with (home / MANIFEST).open("rb") as file:
            manifest = open_manifest(file.read(_MAX_MANIFEST_BYTES), publisher_keys, home / MANIFEST)
        if (manifest.kind, manifest.version) != (kind, version):
            raise ListError(home / MANIFEST, f"is for {manifest.kind} {manifest.version}")
        _refuse_other_region(manifest, region, home / MANIFEST)
        if (home / PAYLOAD).stat().st_size != manifest.payload_bytes:
            raise ListError(home / PAYLOAD, f"has not the {manifest.payload_bytes} bytes of its manifest")
        if manifest.root:
            return manifest, home / PAYLOAD
        with (home / PAYLOAD).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise ListError(error.filename or home, f"cannot be read: {error.strerror or error}") from error
    if digest != manifest.payload_sha256:
        raise ListError(home / PAYLOAD, "has not the SHA-256 of its manifest")
    return manifest, home / PAYLOAD


def write_in_place(path: Path, content: bytes) -> None:
    """Replace a file whole: after a power cut there is the old one or the new one.

    Raises:
        OSError: It cannot be stored; the old one is still there.
    """
    fresh = path.with_name(f"{_INCOMING}{path.name}")
    _write_synced(fresh, content)
    os.replace(fresh, path)  # noqa: PTH105 - as for the other rename
    _sync_directory(path.parent)


def check_payload(kind: ListKind, path: Path) -> None:
    """Read a payload whole, as a gate would, and see that nothing in it fails.

    Raises:
        ListError: A gate could not use it.
        OSError: It cannot be read.
    """
    _CHECKS[kind](path)


def payload_root(kind: ListKind, path: Path) -> bytes:
    """Return the root of a payload of checked pages, 32 bytes; empty for one that has none.

    Raises:
        ListError: It cannot be read, or is damaged elsewhere than in its pages.
    """
    if kind not in CHECKED_PAGES:
        return b""
    file = TicketStore(path) if kind is ListKind.TICKETS else StatusFile(path)
    try:
        return file.root
    finally:
        file.close()


def _check_trust(path: Path) -> None:
    parse_trust_list(path.read_bytes(), path).store(0, path)


def _check_deny(path: Path) -> None:
    DenyList.parse(path.read_bytes(), path).check(path)


def _check_tickets(path: Path) -> None:
    tickets = TicketStore(path)
    try:
        tickets.check()
    finally:
        tickets.close()


def _check_status(path: Path) -> None:
    statuses = StatusFile(path)
    try:
        statuses.check()
    finally:
        statuses.close()


def _check_enrolled(path: Path) -> None:
    keys = EnrolledKeys(path)
    try:
        keys.check()
    finally:
        keys.close()


def _check_config(path: Path) -> None:
    parse_gate_rules(path.read_bytes(), path)


def _check_tariff(path: Path) -> None:
    load_editions(path)


_CHECKS: dict[ListKind, Callable[[Path], None]] = {
    ListKind.TRUST: _check_trust,
    ListKind.DENY: _check_deny,
    ListKind.TICKETS: _check_tickets,
    ListKind.ENROLLED: _check_enrolled,
    ListKind.CONFIG: _check_config,
    ListKind.STATUS: _check_status,
    ListKind.TARIFF: _check_tariff,
}


def _refuse_other_root(manifest: Manifest, payload: Path) -> None:
    if manifest.root and manifest.root != payload_root(manifest.kind, payload):
        raise ListError(payload, "has not the root that its manifest says")


def _refuse_other_region(manifest: Manifest, region: str, where: Path) -> None:
    if manifest.region != region:
        raise ListError(where, f"is for region {manifest.region!r}, this device is in {region!r}")


def still_signed(directory: Path, kind: ListKind, publisher_keys: PublisherKeys) -> bool:
    """Whether those who signed the version in force may still sign; what cannot be read is not held against it."""
    version = version_in_force(directory, kind)
    try:
        sealed = (directory / kind.value / str(version) / MANIFEST).read_bytes()
        open_envelope(sealed, Purpose.LIST, publisher_keys)
    except (EnvelopeUntrusted, EnvelopeForged):
        return False
    except (OSError, EnvelopeError):
        return True
    return True


def _refuse_older(shelf: Path, manifest: Manifest, publisher_keys: PublisherKeys) -> None:
    """Never older, never the same twice; without a pointer, the newest stored version may be put in force again.

    What was signed with a key that may sign no more is no floor: a thief of that key chose the greatest number.
    """
    floor = version_in_force(shelf.parent, manifest.kind)
    if floor is not None and not still_signed(shelf.parent, manifest.kind, publisher_keys):
        return
    if floor is None:
        floor = max(installed_versions(shelf.parent, manifest.kind), default=1) - 1
    if manifest.version <= floor:
        raise ListError(shelf, f"version {manifest.version} is not newer than {floor}, which is installed")


def _copy_verified(source: Path, target: Path, manifest: Manifest) -> None:
    """Copy, hash what is written, and bring it to the disk; the length is bounded by the manifest's."""
    digest, length = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(_BLOCK):
            length += len(block)
            if length > manifest.payload_bytes:
                break
            digest.update(block)
            writer.write(block)
            if length % _SYNC_EVERY < len(block):
                writer.flush()
                os.fsync(writer.fileno())
        writer.flush()
        os.fsync(writer.fileno())
    if length != manifest.payload_bytes:
        raise ListError(source, f"has not the {manifest.payload_bytes} bytes that its manifest says")
    if digest.digest() != manifest.payload_sha256:
        raise ListError(source, "has not the SHA-256 that its manifest says")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(incoming: Path, home: Path) -> None:
    if home.exists():  # left behind by an installation that was cut off before the pointer named it
        shutil.rmtree(home)
    os.rename(incoming, home)  # noqa: PTH104 - one spelling for both renames, which the crash tests count
    _sync_directory(home.parent)


def _point_to(shelf: Path, version: int) -> None:
    write_in_place(shelf / POINTER, f"{version}\n".encode())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clear_incoming(shelf: Path) -> None:
    for left in shelf.glob(f"{_INCOMING}*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def _remove_all_but(shelf: Path, keep: set[int | None]) -> None:
    for version in installed_versions(shelf.parent, ListKind(shelf.name)):
        if version not in keep:
            try:
                shutil.rmtree(shelf / str(version))
            except OSError as error:
                log.warning("list.not_removed", path=str(shelf / str(version)), why=str(error))
