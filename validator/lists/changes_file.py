"""The changes of a list in force, as they were sent: one file beside the list, replaced whole.

    <directory>/<kind>/<version>/changes     msgpack: an array of signed changes, in order

Deny lists have their own changes (`validator.lists.deny_change`), ticket and status lists those of
`validator.lists.list_change`; trust lists and enrolled keys have none.

Whoever installs changes has tried them on the list before. A gate tries them again: it believes the file no more than
any other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Generic, Protocol, TypeVar

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator.lists import deny_change, list_change
from validator.lists.deny_change import DenyChange, open_change
from validator.lists.deny_list import DenyList
from validator.lists.directory import write_in_place
from validator.lists.errors import ListError
from validator.lists.list_change import Changeable, ListChange, open_list_change
from validator.lists.manifest import ListKind, Manifest

CHANGES: Final = "changes"
MAX_CHANGES: Final = 512
"""More than an hour of one every ten seconds: by then a cumulative change has taken their place."""
CHANGED_KINDS: Final = frozenset({ListKind.DENY, ListKind.TICKETS, ListKind.STATUS})

MAX_BYTES: Final = 16 * 1024 * 1024
"""Of the whole file: the largest cumulative change, and some more after it."""

_AROUND_BYTES: Final = 5
"""Of msgpack, around an octet string and around an array."""

_File = Annotated[list[bytes], msgspec.Meta(max_length=MAX_CHANGES)]


class _Hashed(Protocol):
    @property
    def state_hash(self) -> bytes: ...


_Listed = TypeVar("_Listed", bound=_Hashed)
_Changeable = TypeVar("_Changeable", bound=Changeable)
_Change = TypeVar("_Change", bound=DenyChange | ListChange)


@dataclass(frozen=True, slots=True)
class Changed(Generic[_Listed, _Change]):
    """A list with its changes.

    Attributes:
        listed: The list that comes out.
        last: The last change that is in it; None where there was none.
        fault: Why the changes after that are not in it; None in good health.
    """

    listed: _Listed
    last: _Change | None = None
    fault: ListError | None = None


def changes_path(directory: Path, version: int, kind: ListKind = ListKind.DENY) -> Path:
    """Return where the changes of a version of a list lie."""
    return directory / kind.value / str(version) / CHANGES


def read_changes(directory: Path, version: int, kind: ListKind = ListKind.DENY) -> list[bytes]:
    """Return the changes that were installed, signed as they are; none where there is no file.

    Raises:
        ListError: The file cannot be read, or is none of ours.
    """
    path = changes_path(directory, version, kind)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ListError(path, f"cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ListError(path, f"more than {MAX_BYTES} bytes")
    try:
        return msgspec.convert(msgpack.unpackb(content), _File, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(path, f"not a file of changes: {error}") from None


def have_room(sealed: Sequence[bytes]) -> bool:
    """Whether the file takes so many changes of this length."""
    return len(sealed) <= MAX_CHANGES and sum(len(each) + _AROUND_BYTES for each in sealed) < MAX_BYTES - _AROUND_BYTES


def write_changes(directory: Path, version: int, sealed: Sequence[bytes], kind: ListKind = ListKind.DENY) -> None:
    """Put changes in force in place of those that are; only the one process that owns the directory may.

    Raises:
        ListError: They cannot be stored, or nobody would read so many; what was in force still is.
    """
    path = changes_path(directory, version, kind)
    if not have_room(sealed):
        raise ListError(path, f"more than {MAX_CHANGES} changes or {MAX_BYTES} bytes: a cumulative change is due")
    try:
        write_in_place(path, msgpack.packb(list(sealed)))
    except OSError as error:
        raise ListError(path, f"cannot be stored: {error.strerror or error}") from error


def with_changes(
    published: DenyList,
    manifest: Manifest,
    sealed: Sequence[bytes],
    keys: Mapping[str, Ed25519PublicKey],
    known: DenyList | None = None,
) -> Changed[DenyList, DenyChange]:
    """Lay changes over a published deny list, as far as they hold.

    Args:
        published: The list.
        manifest: What it says about itself.
        sealed: Signed changes, in order; each may begin where one before it ended, or at the published list.
        keys: Publishers that are believed, by the name they sign with.
        known: A list that came out of some of these changes before: they are not applied again.
    """
    opened = (open_change(each, keys) for each in sealed)
    return _laid_over(published, manifest, opened, known=known, apply=deny_change.apply)


def with_list_changes(
    published: _Changeable,
    manifest: Manifest,
    sealed: Sequence[bytes],
    keys: Mapping[str, Ed25519PublicKey],
    known: _Changeable | None = None,
) -> Changed[_Changeable, ListChange]:
    """Lay changes over a published ticket list or status list, as far as they hold; see `with_changes`."""
    opened = (open_list_change(each, keys) for each in sealed)
    return _laid_over(published, manifest, opened, known=known, apply=list_change.apply)


def _laid_over(
    published: _Listed,
    manifest: Manifest,
    opened: Iterable[_Change],
    *,
    known: _Listed | None,
    apply: Callable[[_Listed, _Change], _Listed],
) -> Changed[_Listed, _Change]:
    found: Changed[_Listed, _Change] = Changed(published)
    try:
        changes = [_belonging(each, manifest) for each in opened]
        for number, change in enumerate(changes):
            if known is not None and change.state == known.state_hash:
                found, changes = Changed(known, change), changes[number + 1 :]
                break
        for change in changes:
            base = published if change.base == published.state_hash else found.listed
            found = Changed(apply(base, change), change)
    except ListError as error:
        return Changed(found.listed, found.last, error)
    return found


def _belonging(change: _Change, manifest: Manifest) -> _Change:
    where = f"change {change.number} of the {manifest.kind} list"
    kind = change.kind if isinstance(change, ListChange) else ListKind.DENY
    if kind is not manifest.kind:
        raise ListError(where, f"changes a list of kind {kind}")
    if (change.region, change.version) != (manifest.region, manifest.version):
        raise ListError(where, f"belongs to version {change.version} of region {change.region!r}")
    return change
