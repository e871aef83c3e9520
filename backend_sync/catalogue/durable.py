"""Files that are whole or not there, whenever the power goes: write, fsync, rename, fsync the folder."""

import os
from pathlib import Path

INCOMING = ".incoming-"


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place in one step; it is on the disk when this returns.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    incoming = path.with_name(INCOMING + path.name)
    try:
        with incoming.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(incoming, path)  # noqa: PTH105 - one spelling for renames, which the power-cut tests count
    except OSError:
        incoming.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder that is still there after a power cut; its parents have to be there.

    Raises:
        OSError: It cannot be made.
    """
    try:
        path.mkdir()
    except FileExistsError:
        return
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
