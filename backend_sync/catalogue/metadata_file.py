"""The verified metadata of a device, in one file: after a power cut it is the old set or the new, never a mixture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgpack
import msgspec

from backend_sync.catalogue.durable import make_folder, write_durably

NAME: Final = "metadata"
FORMAT: Final = 1
_MAX_BYTES = 64 * 1024 * 1024


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    verified_s: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    roots: list[tuple[Annotated[int, msgspec.Meta(ge=1)], bytes]]
    roles: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class MetadataSet:
    """Metadata that belongs together.

    Attributes:
        verified_s: When it was verified, seconds since 1970 UTC.
        roots: Every root since the one that the device was made with, by version.
        roles: The newest of the other roles, by name.
    """

    verified_s: int
    roots: dict[int, bytes]
    roles: dict[str, bytes]


def read(folder: Path) -> MetadataSet | None:
    """Return the set in a folder, or None where there is none that can be read; it is not verified here.

    Raises:
        OSError: The disk fails.
    """
    try:
        with (folder / NAME).open("rb") as file:
            data = file.read(_MAX_BYTES)
        wire = msgspec.convert(msgpack.unpackb(data), _Wire, builtin_types=(bytes,))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException, msgspec.ValidationError):
        return None
    return MetadataSet(wire.verified_s, dict(wire.roots), wire.roles)


def write(folder: Path, metadata: MetadataSet) -> None:
    """Put a set in place of the one before it.

    Raises:
        OSError: It cannot be written; the one before it is still there.
    """
    make_folder(folder)
    roots = [list(root) for root in metadata.roots.items()]
    write_durably(folder / NAME, msgpack.packb([FORMAT, metadata.verified_s, roots, metadata.roles]))
