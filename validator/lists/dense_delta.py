"""What changes between two states of a dense deny list.

    "pilet-ddelta/1" and two zero bytes | issuer, 16 bytes | base, 32 bytes | new, 32 bytes
    | covers before, 8 bytes | covers, 8 bytes | run of the added | run of the removed (`validator.lists.rice`)

`base` and `new` are the state hashes of the list before and after. So deltas chain, and none can be left out, applied
twice or applied to another list. A cumulative delta is one whose base is the snapshot; `combine` makes it of a chain.
All numbers are big-endian. A delta adds and removes a million at most; what changes more is a new snapshot.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import merge

from validator.lists.dense_deny import MAX_COVERS, STATE_HASH_BYTES, DenseDeny, not_below, out_of_range
from validator.lists.errors import ListError
from validator.lists.rice import BLOCK, WORD, Numbers, decode_run, encode_run
from validator.model import CREDENTIAL_ID_BYTES

_NAME = "dense deny delta"
_MAGIC = b"pilet-ddelta/1".ljust(16, b"\0")
_HEAD = struct.Struct(f">{len(_MAGIC)}s{CREDENTIAL_ID_BYTES}s{STATE_HASH_BYTES}s{STATE_HASH_BYTES}sQQ")


class WrongBaseError(ListError):
    """The delta is sound, as far as can be seen, and made for another state: a cumulative one, or a snapshot, helps."""


@dataclass(frozen=True, slots=True)
class DenseDelta:
    """A change of one issuer's list.

    Attributes:
        issuer: The id of the issuer's key, 16 bytes.
        base: The state hash of the list that it is for, 32 bytes.
        new: The state hash of the list that comes out, 32 bytes.
        covers_before: What the list covers before.
        covers: What it covers afterwards, never less.
        added: Indices that are refused from now on, ascending.
        removed: Indices that are refused no longer, ascending.
    """

    issuer: bytes
    base: bytes
    new: bytes
    covers_before: int
    covers: int
    added: Numbers
    removed: Numbers


def encode_dense_delta(delta: DenseDelta) -> bytes:
    """Encode a delta; equal ones give the same bytes.

    Raises:
        ListError: Nobody could apply it.
    """
    _refuse_senseless(delta, _NAME)
    head = _HEAD.pack(_MAGIC, delta.issuer, delta.base, delta.new, delta.covers_before, delta.covers)
    return head + encode_run(delta.added, 0) + encode_run(delta.removed, 0)


def decode_dense_delta(payload: bytes, where: object = _NAME) -> DenseDelta:
    """Read a payload whole.

    Args:
        payload: The payload's bytes. A delta takes at most 32 bytes for each of them.
        where: What to call it in an error.

    Raises:
        ListError: It is not what `encode_dense_delta` writes of any delta.
    """
    if len(payload) < _HEAD.size or not payload.startswith(_MAGIC):
        raise ListError(where, "not a delta of a dense deny list")
    _, issuer, base, new, covers_before, covers = _HEAD.unpack_from(payload)
    added, at = decode_run(payload, _HEAD.size, 0, min(covers, MAX_COVERS), where)
    removed, at = decode_run(payload, at, 0, min(covers_before, MAX_COVERS), where)
    if at != len(payload):
        raise ListError(where, f"{len(payload) - at} octets are left over after the numbers that are removed")
    delta = DenseDelta(issuer, base, new, covers_before, covers, added, removed)
    _refuse_senseless(delta, where)
    return delta


def apply(listed: DenseDeny, delta: DenseDelta, where: object = _NAME) -> DenseDeny:
    """Return the list that a delta makes of another, which stays as it is.

    Args:
        listed: The list that it is for.
        delta: The delta.
        where: What to call the delta in an error.

    Raises:
        WrongBaseError: It is for another state of the list.
        ListError: It is for another issuer, adds what is listed already, removes what is not, covers less than before,
            names an index beyond what it covers, or something else comes out than it says.
    """
    _refuse_senseless(delta, where)
    if delta.issuer != listed.issuer:
        raise ListError(where, f"is for the issuer {delta.issuer.hex()}, the list is of {listed.issuer.hex()}")
    if delta.base != listed.state_hash:
        raise WrongBaseError(where, f"is for the state {delta.base.hex()}, the list is at {listed.state_hash.hex()}")
    if delta.covers_before != listed.covers:
        raise ListError(where, f"is for a list that covers {delta.covers_before}, the list covers {listed.covers}")
    changed = DenseDeny(listed.issuer, delta.covers, _spliced(listed.numbers, delta, where))
    if changed.state_hash != delta.new:
        raise ListError(where, f"leads to the state {changed.state_hash.hex()}, and says {delta.new.hex()}")
    return changed


def amend(
    listed: DenseDeny, added: Iterable[int], removed: Iterable[int], covers: int, where: object = _NAME
) -> DenseDelta:
    """Return the delta that adds and removes these indices, without a look at all the others.

    Args:
        listed: The list that it is for.
        added: In any order; none of them is listed.
        removed: In any order; all of them are listed.
        covers: What the list covers afterwards, never less than before.
        where: What to call the delta in an error.

    Raises:
        ListError: There can be no such delta to this list.
    """
    draft = DenseDelta(
        issuer=listed.issuer,
        base=listed.state_hash,
        new=bytes(STATE_HASH_BYTES),
        covers_before=listed.covers,
        covers=covers,
        added=array(WORD, sorted(added)),
        removed=array(WORD, sorted(removed)),
    )
    _refuse_senseless(draft, where)
    return replace(draft, new=DenseDeny(listed.issuer, covers, _spliced(listed.numbers, draft, where)).state_hash)


def between(old: DenseDeny, new: DenseDeny, where: object = _NAME) -> DenseDelta:
    """Return the delta that makes one list of another.

    Raises:
        ListError: They are of different issuers, the new one covers less, or they differ by more than a delta takes.
    """
    if old.issuer != new.issuer:
        raise ListError(where, f"is between the issuers {old.issuer.hex()} and {new.issuer.hex()}")
    added, removed = array(WORD), array(WORD)
    before = after = 0
    for end in range(BLOCK, new.covers + BLOCK, BLOCK):
        old_end, new_end = bisect_left(old.numbers, end, before), bisect_left(new.numbers, end, after)
        was, now = old.numbers[before:old_end], new.numbers[after:new_end]
        if was != now:
            added.extend(sorted(set(now).difference(was)))
            removed.extend(sorted(set(was).difference(now)))
        before, after = old_end, new_end
    delta = DenseDelta(old.issuer, old.state_hash, new.state_hash, old.covers, new.covers, added, removed)
    _refuse_senseless(delta, where)
    return delta


def combine(first: DenseDelta, second: DenseDelta, where: object = _NAME) -> DenseDelta:
    """Return the delta that does what two do one after the other; what the second takes back is in it no more.

    Raises:
        WrongBaseError: The second does not follow the first.
        ListError: They are of different issuers, disagree on what is covered, do the same thing twice, or are
            together more than a delta takes.
    """
    for delta in (first, second):
        _refuse_senseless(delta, where)
    if first.issuer != second.issuer:
        raise ListError(where, f"is of the issuers {first.issuer.hex()} and {second.issuer.hex()}")
    if first.new != second.base:
        raise WrongBaseError(where, f"goes on from the state {second.base.hex()}, and leads to {first.new.hex()}")
    if first.covers != second.covers_before:
        raise ListError(where, f"goes on from {second.covers_before} indices covered, and leads to {first.covers}")
    added, removed = set(first.added), set(first.removed)
    if not (added.isdisjoint(second.added) and removed.isdisjoint(second.removed)):
        raise ListError(where, "adds or removes a number twice")
    back = added.intersection(second.removed) | removed.intersection(second.added)
    combined = DenseDelta(
        first.issuer,
        first.base,
        second.new,
        first.covers_before,
        second.covers,
        array(WORD, sorted(added.union(second.added) - back)),
        array(WORD, sorted(removed.union(second.removed) - back)),
    )
    _refuse_senseless(combined, where)
    return combined


def _refuse_senseless(delta: DenseDelta, where: object) -> None:
    """Refuse what can be applied to no list at all."""
    for why in _breaches(delta):
        raise ListError(where, why)


def _breaches(delta: DenseDelta) -> Iterator[str]:
    why = out_of_range(delta.issuer, delta.covers)
    if why is not None:
        yield why
    if not len(delta.base) == len(delta.new) == STATE_HASH_BYTES:
        yield f"state hashes of {len(delta.base)} and {len(delta.new)} bytes, {STATE_HASH_BYTES} are wanted"
    if not 0 <= delta.covers_before <= delta.covers:
        yield f"goes back from {delta.covers_before} indices covered to {delta.covers}"
    for word, numbers, covers in (
        ("added", delta.added, delta.covers),
        ("removed", delta.removed, delta.covers_before),
    ):
        why = not_below(numbers, covers)
        if why is not None:
            yield f"{word}: {why}"
        if len(numbers) > BLOCK:
            yield f"{word}: {len(numbers)} numbers, {BLOCK} is the most; more than that is for a snapshot to say"
    if not set(delta.removed).isdisjoint(delta.added):
        yield "adds and removes the same number"


def _spliced(numbers: Numbers, delta: DenseDelta, where: object) -> Numbers:
    """Copy the stretches between the changes, so that the cost is that of a copy and not of a loop over the list."""
    result, at = array(WORD), 0
    changes = merge(((number, True) for number in delta.added), ((number, False) for number in delta.removed))
    for number, adds in changes:
        position = bisect_left(numbers, number, at)
        listed = position < len(numbers) and numbers[position] == number
        if listed and adds:
            raise ListError(where, f"adds the number {number}, which is listed already")
        if not (listed or adds):
            raise ListError(where, f"removes the number {number}, which is not listed")
        result.extend(numbers[at:position])
        at = position
        if adds:
            result.append(number)
        else:
            at += 1
    result.extend(numbers[at:])
    return result
