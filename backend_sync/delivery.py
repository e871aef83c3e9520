"""Brings the newest published lists into a gate's list directory, by the rules of the installer that a gate trusts."""

from collections.abc import Callable
from pathlib import Path

from validator.lists import directory
from validator.lists.directory import PublisherKeys
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind, Manifest


def deliver(
    published: Path,
    lists: Path,
    publisher_keys: PublisherKeys,
    region: str,
    told: Callable[[Manifest], None] = lambda _manifest: None,
) -> list[Manifest]:
    """Install the newest published version of each kind that the gate does not have yet: all of them, or none.

    Only a disk that fails in the middle can leave some installed; `told` has then heard which.

    Args:
        published: The publisher's directory, or a copy of it.
        lists: The gate's list directory.
        publisher_keys: Publishers that the gate believes, by name.
        region: The gate's network.
        told: Told of each list as soon as it is in force.

    Returns:
        What was installed; empty if the gate was up to date.

    Raises:
        ListError: Nothing is published there, a candidate is refused, or it cannot be stored.
    """
    newest = {kind: max(directory.installed_versions(published, kind), default=0) for kind in ListKind}
    if not any(newest.values()):
        raise ListError(published, "no list is published here")
    candidates = [
        _verified(published, kind, version, publisher_keys, region)
        for kind, version in newest.items()
        if version > (directory.version_in_force(lists, kind) or 0)
    ]
    installed: list[Manifest] = []
    for home in candidates:
        sealed = (home / directory.MANIFEST).read_bytes()
        installed.append(directory.install(lists, sealed, home / directory.PAYLOAD, publisher_keys, region=region))
        told(installed[-1])
    return installed


def _verified(published: Path, kind: ListKind, version: int, publisher_keys: PublisherKeys, region: str) -> Path:
    """Verify a candidate as a gate would, and return its folder."""
    _, payload = directory.read_verified(published, kind, version, publisher_keys, region)
    directory.check_payload(kind, payload)
    return payload.parent
