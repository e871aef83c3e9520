"""Takes out of a publisher's folder what neither the catalogue in force names nor the one before it.

Whoever reads the catalogue before while a new one is published still finds all of it. Roots stay for ever: a device
that was away for years follows them one by one. What is newer than the catalogue in force stays, too: it was signed
offline, or was being written, and its turn is to come.
"""

import errno
from collections.abc import Iterator
from pathlib import Path

from backend_sync.catalogue.chunks import decode_index
from backend_sync.catalogue.errors import CatalogueRefused
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TIMESTAMP
from backend_sync.catalogue.target import read_target
from backend_sync.catalogue.tuf_api import Metadata, Snapshot, Targets, Timestamp

_SUFFIX = ".json"


def remove_unnamed(metadata: Path, objects: Path) -> list[str]:
    """Remove it, and return the names. Nobody may be staging objects meanwhile: they are named by nothing yet.

    Args:
        metadata: Folder of the metadata, with a timestamp.
        objects: Folder of the chunks and their indexes.

    Raises:
        OSError: Something cannot be read or removed.
    """
    timestamp = Metadata[Timestamp].from_bytes((metadata / f"{TIMESTAMP}{_SUFFIX}").read_bytes()).signed
    newest = timestamp.snapshot_meta.version
    earlier = [version for version in _versions(metadata, SNAPSHOT) if version < newest]
    kept, named, in_force = set[str](), set[str](), {SNAPSHOT: newest}
    for number in (newest, *earlier[:1]):
        name = f"{number}.{SNAPSHOT}{_SUFFIX}"
        kept.add(name)
        for held, meta in Metadata[Snapshot].from_bytes((metadata / name).read_bytes()).signed.meta.items():
            role = held.removesuffix(_SUFFIX)
            in_force[role] = max(meta.version, in_force.get(role, 0))
            kept.add(f"{meta.version}.{held}")
            named.update(_objects(metadata / f"{meta.version}.{held}", objects, whole=number == newest))
    gone = [path for path in objects.iterdir() if path.name not in named]
    for path in metadata.glob(f"*{_SUFFIX}"):
        version, _, role = path.name.removesuffix(_SUFFIX).partition(".")
        old = version.isdecimal() and role != ROOT and int(version) <= in_force.get(role, 0)
        if old and path.name not in kept:
            gone.append(path)
    for path in gone:
        path.unlink(missing_ok=True)
    return sorted(path.name for path in gone)


def _versions(metadata: Path, role: str) -> list[int]:
    """Return the versions of a role that are here, newest first."""
    numbers = (path.name.partition(".")[0] for path in metadata.glob(f"*.{role}{_SUFFIX}"))
    return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)


def _objects(role: Path, objects: Path, *, whole: bool) -> Iterator[str]:
    """Yield the names of the objects that a role lists: indexes, and the chunks in them.

    Of the catalogue before, something may be missing: whoever asks for it takes the newer one.

    Raises:
        OSError: Something is missing or spoilt where all of it has to be whole.
    """
    if not role.exists() and not whole:
        return
    for path, listed in Metadata[Targets].from_bytes(role.read_bytes()).signed.targets.items():
        index = read_target(path, listed.length, listed.hashes, listed.custom).index
        yield index.sha256
        try:
            chunks = decode_index((objects / index.sha256).read_bytes(), index.sha256).chunks()
        except (FileNotFoundError, CatalogueRefused) as error:
            if whole:
                raise OSError(
                    errno.EIO, f"is listed and cannot be read: {error}", str(objects / index.sha256)
                ) from None
            continue
        yield from (sha256 for sha256, _ in chunks)
