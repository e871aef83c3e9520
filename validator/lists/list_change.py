"""A signed change of a ticket list or of a status list: what was sold, or became of cards, since it was published.

As with changes of a deny list (`validator.lists.deny_change`), each names the state that it is made for and the state
that comes out, they are counted from 1 for each published list, and one that begins at the published list itself is a
cumulative one: it takes the place of all changes before it.

A change is a msgpack array inside an envelope signed for `Purpose.CHANGE` (see `validator.envelope`). What it changes
stands in deltas: one of tickets (`validator.lists.ticket_delta`), or one of statuses for an issuer
(`validator.lists.status_delta`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol, Self, TypeVar

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.envelope import Purpose, seal
from validator.lists.dense_delta import WrongBaseError
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind, opened, refuse_other_kind

FORMAT: Final = 1
STATE_HASH_BYTES: Final = 32
MAX_CHANGE_BYTES: Final = 12 * 1024 * 1024
"""As many changed credentials as an overlay takes are 10 MB."""
MAX_DELTAS: Final = 1024

_WHERE: Final = "change of a list"


@dataclass(frozen=True, slots=True)
class ListChange:
    """What leads from one state of a list to another.

    Attributes:
        kind: Which list, `TICKETS` or `STATUS`.
        region: The network that it is for.
        version: The published list that it belongs to.
        number: 1, 2, 3 ... for each published list.
        issued_s: When it was made, seconds since 1970 UTC.
        not_after_s: Until when the list with it is fresh, seconds since 1970 UTC, inclusive.
        base: State of the list before, 32 bytes.
        state: State of the list afterwards, 32 bytes.
        deltas: What changes, one after the other.
    """

    kind: ListKind
    region: str
    version: int
    number: int
    issued_s: int
    not_after_s: int
    base: bytes
    state: bytes
    deltas: tuple[bytes, ...] = ()


class Changeable(Protocol):
    """A list that takes such changes."""

    @property
    def state_hash(self) -> bytes:
        """Names what it says, 32 bytes."""
        ...

    def with_deltas(self, deltas: Sequence[bytes], where: object) -> Self:
        """Return the list after some deltas."""
        ...


_Listed = TypeVar("_Listed", bound=Changeable)
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_State = Annotated[bytes, msgspec.Meta(min_length=STATE_HASH_BYTES, max_length=STATE_HASH_BYTES)]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    kind: Literal["tickets", "status"]
    region: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    version: _Positive
    number: _Positive
    issued_s: _Count
    not_after_s: _Count
    base: _State
    state: _State
    deltas: Annotated[list[bytes], msgspec.Meta(max_length=MAX_DELTAS)]


def seal_list_change(change: ListChange, key: Ed25519PrivateKey, signer: str) -> bytes:
    """Sign a change and return the bytes that are sent.

    Raises:
        ListError: Something in it is out of its range, so that no gate would believe it.
    """
    payload = msgpack.packb(
        [
            FORMAT,
            change.kind.value,
            change.region,
            change.version,
            change.number,
            change.issued_s,
            change.not_after_s,
            change.base,
            change.state,
            list(change.deltas),
        ]
    )
    _decode(payload, _named(change.kind, change.number))
    sealed = seal(key, signer, Purpose.CHANGE, payload)
    if len(sealed) > MAX_CHANGE_BYTES:
        raise ListError(_WHERE, f"{len(sealed)} bytes, and no gate reads more than {MAX_CHANGE_BYTES}: publish a list")
    return sealed


def open_list_change(data: bytes, keys: Mapping[str, Ed25519PublicKey], where: object = _WHERE) -> ListChange:
    """Verify and parse a change; its deltas are looked at when they are applied.

    Args:
        data: What was sent, at most `MAX_CHANGE_BYTES`.
        keys: Publishers that are believed, by the name they sign with.
        where: What to call it in an error.

    Raises:
        ListError: It is too long, not signed by one of them, or not a change that this version understands.
    """
    if len(data) > MAX_CHANGE_BYTES:
        raise ListError(where, f"{len(data)} bytes, at most {MAX_CHANGE_BYTES} are read")
    envelope = opened(data, Purpose.CHANGE, keys, where)
    change = _decode(envelope.payload, where)
    refuse_other_kind(envelope.signer, change.kind, where)
    return change


def apply(listed: _Listed, change: ListChange) -> _Listed:
    """Return the list that a change makes of another, which stays as it is.

    Raises:
        WrongBaseError: It is made for another state of the list.
        ListError: A delta does not fit, or it leads to another state than it says.
    """
    where = _named(change.kind, change.number)
    if change.base != listed.state_hash:
        raise WrongBaseError(where, f"is for the state {change.base.hex()}, the list is at {listed.state_hash.hex()}")
    changed = listed.with_deltas(change.deltas, where)
    if changed.state_hash != change.state:
        raise ListError(where, f"leads to the state {changed.state_hash.hex()}, and says {change.state.hex()}")
    return changed


def _named(kind: ListKind, number: int) -> str:
    return f"change {number} of the {kind} list"


def _decode(payload: bytes, where: object) -> ListChange:
    try:
        wire = msgspec.convert(msgpack.unpackb(payload), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a change of a list: {error}") from None
    if wire.not_after_s <= wire.issued_s:
        raise ListError(where, f"not_after_s {wire.not_after_s} is not after issued_s {wire.issued_s}")
    return ListChange(
        kind=ListKind(wire.kind),
        region=wire.region,
        version=wire.version,
        number=wire.number,
        issued_s=wire.issued_s,
        not_after_s=wire.not_after_s,
        base=wire.base,
        state=wire.state,
        deltas=tuple(wire.deltas),
    )
