"""Who may sign a region's lists, as the catalogue says: its roots and its targets, kept beside the lists.

    <directory>/authority     msgpack: [1, [[version, root], ...], targets, {role: targets}], metadata of TUF

The roots lead from the one that the device was made with, each signed as the one before it asks and as it asks itself;
the newest says who signs targets, and targets which key speaks for a kind of list in a region (TUF specification 5.3,
5.6). A gate follows that by itself: whoever brings lists to the device is believed no more than the lists are.

A role whose key was replaced, and whose lists here are still signed with the one before, has the targets of then beside
it: so a device that has the new key's deny list and the old key's tickets believes both, and each key for its own kind.

No date is looked at. What a list is worth when it is old is said elsewhere; a gate that hears nothing for a year
does not forget whom it believed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined] # its __all__ is computed

from validator.lists.directory import AUTHORITY, write_in_place
from validator.lists.errors import ListError
from validator.lists.manifest import ROLE_KINDS, role_name

FORMAT: Final = 1
MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_ROOTS: Final = 1024


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    roots: Annotated[list[tuple[Annotated[int, msgspec.Meta(ge=1)], bytes]], msgspec.Meta(max_length=_MAX_ROOTS)]
    targets: bytes
    earlier: Annotated[dict[str, bytes], msgspec.Meta(max_length=16)]


def encode_authority(roots: Mapping[int, bytes], targets: bytes, earlier: Mapping[str, bytes] | None = None) -> bytes:
    """Return the content of the file.

    Args:
        roots: Every root after the one that the device was made with, by version; that one may be there, too.
        targets: The targets metadata.
        earlier: By role, targets metadata of before, where that role's lists wait for their new key.
    """
    listed = [[version, roots[version]] for version in sorted(roots)]
    encoded: bytes = msgpack.packb([FORMAT, listed, targets, dict(sorted((earlier or {}).items()))])
    return encoded


def earlier_targets(content: bytes, role: str) -> bytes:
    """Return the targets metadata by which a file that was verified speaks of a role.

    Raises:
        ListError: It is no such file.
    """
    wire = _parsed(content, AUTHORITY)
    return wire.earlier.get(role, wire.targets)


def write_authority(directory: Path, content: bytes) -> None:
    """Put the file in place, whole; only the one process that owns the list directory may.

    Raises:
        ListError: It cannot be stored; the one before it still is there.
    """
    try:
        write_in_place(directory / AUTHORITY, content)
    except OSError as error:
        raise ListError(directory / AUTHORITY, f"cannot be stored: {error.strerror or error}") from error


def read_authority(directory: Path) -> bytes | None:
    """Return the content of the file, not yet verified; None where there is none.

    Raises:
        ListError: It cannot be read.
    """
    path = directory / AUTHORITY
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ListError(path, f"cannot be read: {error.strerror or error}") from error


def authorised_keys(content: bytes, root: bytes, region: str, where: object = AUTHORITY) -> dict[str, Ed25519PublicKey]:
    """Return the keys that may sign a region's lists, by the name of their role, ``<region>.<kind>``.

    Args:
        content: What `encode_authority` made.
        root: The root that the device was made with.
        region: The network that the device belongs to.
        where: What to call the file in an error.

    Raises:
        ListError: It is no such file, or is not signed as the root asks; or nobody speaks for the region.
    """
    wire = _parsed(content, where)
    try:
        trusted, before = Metadata[Root].from_bytes(root), list[Root]()
        trusted.signed.verify_delegate("root", trusted.signed_bytes, trusted.signatures)
        for version, data in wire.roots:
            following = Metadata[Root].from_bytes(data)
            if following.signed.version != version:
                raise ListError(where, f"calls root {following.signed.version} root {version}")
            if version <= trusted.signed.version:
                continue
            if version != trusted.signed.version + 1:
                raise ListError(where, f"goes from root {trusted.signed.version} to {version}")
            for judge in (trusted.signed, following.signed):
                judge.verify_delegate("root", following.signed_bytes, following.signatures)
            before.append(trusted.signed)
            trusted = following
        targets = _targets(wire.targets, [trusted.signed])
        by_role = {role: _targets(data, [*before, trusted.signed]) for role, data in wire.earlier.items()}
    except (RepositoryError, ValueError) as error:
        raise ListError(where, f"is not signed as it should be: {error}") from None
    found = {name: key for name in _roles(region) if (key := _key(by_role.get(name, targets), name)) is not None}
    if not found:
        raise ListError(where, f"nobody speaks for region {region!r}")
    return found


def _parsed(content: bytes, where: object) -> _Wire:
    if len(content) > MAX_BYTES:
        raise ListError(where, f"more than {MAX_BYTES} bytes")
    try:
        return msgspec.convert(msgpack.unpackb(content), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a file of roots and targets: {error}") from None


def _targets(data: bytes, judges: list[Root]) -> Targets:
    """Read targets that one of some roots vouches for.

    Raises:
        RepositoryError: None of them does.
    """
    targets = Metadata[Targets].from_bytes(data)
    for judge in judges[:-1]:
        try:
            judge.verify_delegate("targets", targets.signed_bytes, targets.signatures)
        except RepositoryError:
            continue
        return targets.signed
    judges[-1].verify_delegate("targets", targets.signed_bytes, targets.signatures)
    return targets.signed


def _roles(region: str) -> list[str]:
    return [role_name(region, kind) for kind in ROLE_KINDS]


def _key(targets: Targets, role: str) -> Ed25519PublicKey | None:
    """Return the one key that a role has; None where there is no such role, or it is not of a form that is known."""
    delegations = targets.delegations
    roles = None if delegations is None else delegations.roles
    if delegations is None or roles is None or role not in roles or len(roles[role].keyids) != 1:
        return None
    key = delegations.keys.get(roles[role].keyids[0])
    if key is None or (key.keytype, key.scheme) != ("ed25519", "ed25519"):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
    except (ValueError, KeyError, TypeError):
        return None
