"""A signed change of a deny list: what was refused, or forgiven, since the list in force was published.

Changes are small enough to be sent at once. Each names the state of the list that it is made for and the state that
comes out (`DenyList.state_hash`), so that none can be left out, applied twice or applied to another list. Changes are
counted from 1 for each published list. A change that begins at the published list itself is a cumulative one: it takes
the place of all changes before it.

A change is a msgpack array inside an envelope signed for `Purpose.CHANGE` (see `validator.envelope`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.envelope import Purpose, seal
from validator.lists import dense_delta
from validator.lists.dense_delta import DenseDelta, WrongBaseError, decode_dense_delta, encode_dense_delta
from validator.lists.deny_list import STATE_HASH_BYTES, DenyList
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind, opened, refuse_other_kind
from validator.lists.sparse_delta import SparseDelta

FORMAT: Final = 1
MAX_CHANGE_BYTES: Final = 4 * 1024 * 1024
"""A week of 20,000 changes a day takes a tenth of it."""

_WHERE: Final = "change of the deny list"


@dataclass(frozen=True, slots=True)
class DenyChange:
    """What leads from one state of a deny list to another.

    Attributes:
        region: The network that it is for.
        version: The published list that it belongs to.
        number: 1, 2, 3 ... for each published list.
        issued_s: When it was made, seconds since 1970 UTC.
        not_after_s: Until when the list with it is fresh, seconds since 1970 UTC, inclusive.
        base: State of the list before, 32 bytes.
        state: State of the list afterwards, 32 bytes.
        numbered: Changes of numbers, one for an issuer, by ascending issuer.
        ids: Changes of ids; None for none.
    """

    region: str
    version: int
    number: int
    issued_s: int
    not_after_s: int
    base: bytes
    state: bytes
    numbered: tuple[DenseDelta, ...] = ()
    ids: SparseDelta | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
_State = Annotated[bytes, msgspec.Meta(min_length=STATE_HASH_BYTES, max_length=STATE_HASH_BYTES)]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    region: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    version: _Positive
    number: _Positive
    issued_s: _Count
    not_after_s: _Count
    base: _State
    state: _State
    numbered: Annotated[list[bytes], msgspec.Meta(max_length=1024)]
    ids: bytes


def seal_change(change: DenyChange, key: Ed25519PrivateKey, signer: str) -> bytes:
    """Sign a change and return the bytes that are sent.

    Raises:
        ListError: Something in it is out of its range, so that no gate would believe it.
    """
    payload = msgpack.packb(
        [
            FORMAT,
            change.region,
            change.version,
            change.number,
            change.issued_s,
            change.not_after_s,
            change.base,
            change.state,
            [encode_dense_delta(each) for each in change.numbered],
            b"" if change.ids is None else change.ids.encode(),
        ]
    )
    _decode(payload, _WHERE)
    sealed = seal(key, signer, Purpose.CHANGE, payload)
    if len(sealed) > MAX_CHANGE_BYTES:
        raise ListError(_WHERE, f"{len(sealed)} bytes, and no gate reads more than {MAX_CHANGE_BYTES}: publish a list")
    return sealed


def open_change(data: bytes, keys: Mapping[str, Ed25519PublicKey], where: object = _WHERE) -> DenyChange:
    """Verify and parse a change.

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
    refuse_other_kind(envelope.signer, ListKind.DENY, where)
    return _decode(envelope.payload, where)


def apply(listed: DenyList, change: DenyChange, where: object = _WHERE) -> DenyList:
    """Return the list that a change makes of another, which stays as it is.

    Raises:
        WrongBaseError: It is made for another state of the list.
        ListError: It changes what cannot be changed so, or leads to another state than it says.
    """
    if change.base != listed.state_hash:
        raise WrongBaseError(where, f"is for the state {change.base.hex()}, the list is at {listed.state_hash.hex()}")
    numbered = dict(listed.numbered)
    for delta in change.numbered:
        held = numbered.get(delta.issuer)
        if held is None:
            raise ListError(where, f"changes numbers of the issuer {delta.issuer.hex()}, who has none on the list")
        numbered[delta.issuer] = dense_delta.apply(held, delta, where)
    overlay = listed.overlay if change.ids is None else listed.overlay.with_delta(change.ids, where)
    changed = DenyList(listed.ids, numbered, listed.register, overlay)
    if changed.state_hash != change.state:
        raise ListError(where, f"leads to the state {changed.state_hash.hex()}, and says {change.state.hex()}")
    return changed


def _decode(payload: bytes, where: object) -> DenyChange:
    try:
        wire = msgspec.convert(msgpack.unpackb(payload), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a change of a deny list: {error}") from None
    if wire.not_after_s <= wire.issued_s:
        raise ListError(where, f"not_after_s {wire.not_after_s} is not after issued_s {wire.issued_s}")
    numbered = tuple(decode_dense_delta(each, where) for each in wire.numbered)
    issuers = [each.issuer for each in numbered]
    if issuers != sorted(set(issuers)):
        raise ListError(where, "issuers are not in order, or one is there twice")
    return DenyChange(
        region=wire.region,
        version=wire.version,
        number=wire.number,
        issued_s=wire.issued_s,
        not_after_s=wire.not_after_s,
        base=wire.base,
        state=wire.state,
        numbered=numbered,
        ids=SparseDelta.parse(wire.ids, where) if wire.ids else None,
    )
