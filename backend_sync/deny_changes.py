"""Makes the changes that gates lay over their deny list: who is refused from now on, and who no longer."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from validator.lists import dense_delta
from validator.lists.dense_delta import DenseDelta, amend, between
from validator.lists.deny_change import DenyChange, apply
from validator.lists.deny_list import DenyList
from validator.lists.sparse_delta import SparseDelta
from validator.model import Credential


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a change says about itself.

    Attributes:
        region: The network that it is for.
        version: The published list that it belongs to.
        number: 1, 2, 3 ... for each published list.
        issued_s: When it is made, seconds since 1970 UTC.
        not_after_s: Until when the list with it is fresh, seconds since 1970 UTC.
    """

    region: str
    version: int
    number: int
    issued_s: int
    not_after_s: int


@dataclass(slots=True)
class _Wanted:
    """Numbers of one issuer that are to change."""

    added: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)


def next_change(
    listed: DenyList, revoked: Iterable[Credential], restored: Iterable[Credential], stamp: Stamp
) -> tuple[DenyChange, DenyList]:
    """Make the change after which some are refused and others no longer; what is so already is left out.

    Args:
        listed: The list as it is.
        revoked: Who is refused from now on.
        restored: Who is refused no longer; whoever is in both is refused.
        stamp: What the change says about itself.

    Returns:
        The change, and the list that comes out of it.

    Raises:
        ListError: An id has not 16 bytes.
    """
    numbers: dict[bytes, _Wanted] = {}
    added, removed = set[bytes](), set[bytes]()
    refused = list(revoked)
    kept = {each.id for each in refused}
    for credential, out in [(each, True) for each in refused] + [(each, False) for each in restored]:
        if not out and credential.id in kept:
            continue
        if listed.denied(credential) == out:
            continue
        number = _number(listed, credential)
        if number is not None:
            wanted = numbers.setdefault(credential.issuer_id, _Wanted())
            (wanted.added if out else wanted.removed).add(number)
        else:
            (added if out else removed).add(credential.id)
    ids = listed.overlay.delta(added, removed) if added or removed else None
    deltas = tuple(_numbers(listed, issuer, wanted) for issuer, wanted in sorted(numbers.items()))
    return _between_states(listed, deltas, ids, stamp)


def cumulative_change(published: DenyList, listed: DenyList, stamp: Stamp) -> DenyChange:
    """Make the one change that leads from the published list to the present one.

    Raises:
        ListError: The present list was not made of the published one.
    """
    deltas = tuple(
        between(published.numbered[issuer], section)
        for issuer, section in listed.numbered.items()
        if section != published.numbered[issuer]
    )
    moved = listed.overlay.state_hash != published.overlay.state_hash
    return _between_states(published, deltas, listed.overlay.cumulative() if moved else None, stamp)[0]


def _number(listed: DenyList, credential: Credential) -> int | None:
    """Return the number by which a list speaks of a card; None where it speaks of its id, which goes before."""
    named = credential.id in listed.ids or listed.overlay.status(credential.id) is not None
    return None if named or credential.issuer_id not in listed.numbered else credential.index


def _numbers(listed: DenyList, issuer: bytes, wanted: _Wanted) -> DenseDelta:
    section = listed.numbered[issuer]
    covers = max(section.covers, max(wanted.added, default=-1) + 1)
    return amend(section, wanted.added, wanted.removed, covers)


def _between_states(
    listed: DenyList, numbered: tuple[DenseDelta, ...], ids: SparseDelta | None, stamp: Stamp
) -> tuple[DenyChange, DenyList]:
    """Fill in the states between which a change leads, by applying it as a gate does."""
    sections = dict(listed.numbered)
    for delta in numbered:
        sections[delta.issuer] = dense_delta.apply(sections[delta.issuer], delta)
    overlay = listed.overlay if ids is None else listed.overlay.with_delta(ids)
    changed = DenyList(listed.ids, sections, listed.register, overlay)
    change = DenyChange(
        region=stamp.region,
        version=stamp.version,
        number=stamp.number,
        issued_s=stamp.issued_s,
        not_after_s=stamp.not_after_s,
        base=listed.state_hash,
        state=changed.state_hash,
        numbered=numbered,
        ids=ids,
    )
    return change, apply(listed, change)
