"""The lists that take signed changes, kind by kind: how a payload is opened and changes are laid over it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from validator.lists import deny_change, list_change
from validator.lists.changes_file import Changed, with_changes, with_list_changes
from validator.lists.deny_change import DenyChange, open_change
from validator.lists.deny_list import DenyList
from validator.lists.errors import ListError
from validator.lists.list_change import ListChange, open_list_change
from validator.lists.manifest import ListKind, Manifest
from validator.lists.status_array import StatusFile
from validator.lists.statuses import Statuses
from validator.lists.ticket_store import TicketStore
from validator.lists.tickets import Tickets, published_tickets

_Listed = TypeVar("_Listed", bound=DenyList | Tickets | Statuses)
_Change = TypeVar("_Change", bound=DenyChange | ListChange)
_Keys = Mapping[str, Ed25519PublicKey]


class LayOver(Protocol[_Listed, _Change]):
    """Lays signed changes over a published list, as far as they hold; see `changes_file.with_changes`."""

    def __call__(
        self, published: _Listed, manifest: Manifest, sealed: Sequence[bytes], keys: _Keys
    ) -> Changed[_Listed, _Change]:
        """Return what comes out."""
        ...


@dataclass(frozen=True, slots=True)
class Changing(Generic[_Listed, _Change]):
    """One kind of list that takes changes. Everything here raises `ListError` for what no gate would take.

    Attributes:
        kind: Which.
        load: Opens a payload by its manifest. Tickets and statuses stay on the disk.
        open: Verifies and parses a signed change.
        apply: Makes of a list and a change the list that comes out.
        lay_over: Lays signed changes over a published list, as far as they hold.
    """

    kind: ListKind
    load: Callable[[Manifest, Path], _Listed]
    open: Callable[[bytes, _Keys], _Change]
    apply: Callable[[_Listed, _Change], _Listed]
    lay_over: LayOver[_Listed, _Change]


def read_payload(path: Path) -> bytes:
    """Return the octets of a payload.

    Raises:
        ListError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ListError(path, f"cannot be read: {error.strerror or error}") from error


def load_denials(_manifest: Manifest, payload: Path) -> DenyList:
    """Read a deny list into memory.

    Raises:
        ListError: It cannot be read, or is none.
    """
    return DenyList.parse(read_payload(payload), payload)


def load_tickets(manifest: Manifest, payload: Path) -> Tickets:
    """Open a ticket list.

    Raises:
        ListError: It cannot be read, is none, or has not the root of its manifest.
    """
    store = TicketStore(payload)
    _compare_root(manifest, payload, store.root)
    return published_tickets(store, manifest.version, manifest.payload_sha256)


def load_statuses(manifest: Manifest, payload: Path) -> Statuses:
    """Open a status list.

    Raises:
        ListError: It cannot be read, is none, or has not the root of its manifest.
    """
    file = StatusFile(payload)
    _compare_root(manifest, payload, file.root)
    return Statuses(file)


def _compare_root(manifest: Manifest, payload: Path, root: bytes) -> None:
    if manifest.root and root != manifest.root:
        raise ListError(payload, "has not the root of its manifest")


def _opens(kind: ListKind) -> Callable[[bytes, _Keys], ListChange]:
    def opened(sealed: bytes, keys: _Keys) -> ListChange:
        change = open_list_change(sealed, keys)
        if change.kind is not kind:
            raise ListError(f"change of the {kind} list", f"changes a list of kind {change.kind}")
        return change

    return opened


DENIALS: Final = Changing(ListKind.DENY, load_denials, open_change, deny_change.apply, with_changes)
TICKETS: Final = Changing(
    ListKind.TICKETS, load_tickets, _opens(ListKind.TICKETS), list_change.apply, with_list_changes
)
STATUSES: Final = Changing(
    ListKind.STATUS, load_statuses, _opens(ListKind.STATUS), list_change.apply, with_list_changes
)
