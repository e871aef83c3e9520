"""Brings the newest published lists into a gate's list directory, through the installer that a gate trusts."""

from pathlib import Path

from validator.lists import directory
from validator.lists.directory import PublisherKeys
from validator.lists.manifest import ListKind, Manifest


def deliver(published: Path, lists: Path, publisher_keys: PublisherKeys, region: str) -> list[Manifest]:
    """Install the newest published version of each kind that the gate does not have yet.

    Args:
        published: The publisher's directory.
        lists: The gate's list directory.
        publisher_keys: Publishers that the gate believes, by name.
        region: The gate's network.

    Returns:
        What was installed; empty if the gate was up to date.

    Raises:
        ListError: A candidate was refused; kinds installed before it stay installed.
    """
    installed: list[Manifest] = []
    for kind in ListKind:
        newest = max(directory.installed_versions(published, kind), default=0)
        if newest <= (directory.version_in_force(lists, kind) or 0):
            continue
        home = published / kind.value / str(newest)
        sealed = (home / directory.MANIFEST).read_bytes()
        installed.append(directory.install(lists, sealed, home / directory.PAYLOAD, publisher_keys, region=region))
    return installed
