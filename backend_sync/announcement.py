"""What the gates are told of a list between two publications, and when; no clock, no disk.

Each published list has a chain of changes. A change is made when there is something to say (somebody was revoked,
something was sold), and an empty one from time to time: it shows a gate that it missed nothing. Each hour the chain is
folded: one change that begins at the published list, with the number of the last one that it covers, takes the place of
all up to there.

While a new list is still on its way through the waves, gates that do not have it go on with the one before, and that
one's chain goes on beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.deny_changes import Stamp
from backend_sync.telling import Change, Listed, Said, Telling
from backend_sync.wire import ChangeTopic
from validator.lists.changes_file import MAX_CHANGES
from validator.lists.manifest import Manifest

MOST_BYTES: Final = 2 * 1024 * 1024
"""Of the changes after a folding, at which the next one is due: beside a cumulative change a gate's file takes them."""
MAX_CHAINS: Final = 3
"""A fleet that is still spread over more lists than these has other troubles; the oldest is told nothing more."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When changes are made. Times are seconds.

    Attributes:
        change_every_s: Between two changes, where there is nothing to say.
        fold_every_s: Between two foldings.
        most: Changes in a chain at which it is folded before its time.
        fresh_s: So long a list with a change is fresh after it; None where changes leave the list as old as it is.
        burst: Changes that may be made at once, one after the other. A signed change of one card is 0.3 kB, most of it
            the same for a thousand cards: where much is said all day, it is gathered.
        refill_s: For each of these seconds one more may be made at once, up to `burst`.
    """

    change_every_s: float = 300
    fold_every_s: float = 3600
    most: int = MAX_CHANGES // 2
    fresh_s: int | None = 24 * 3600
    burst: int = 100
    refill_s: float = 200


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs changes.

    Attributes:
        name: As the gates know it.
        key: Its key.
    """

    name: str
    key: Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Chain(Generic[Listed, Change, Said]):
    """The changes of one published list.

    Attributes:
        telling: How they are made.
        manifest: What the list says about itself.
        published: The list.
        listed: What has come of it.
        number: Of the last change, 0 for none.
        changed_s: When that was made, or the list, seconds since 1970 UTC.
        folded_s: When it was folded, or the list made, seconds since 1970 UTC.
        cumulative: The change that begins at the published list, signed; None before the first folding.
        since: The changes after that, signed, in order.
        spent: How much of the burst was used when the last change was made.
    """

    telling: Telling[Listed, Change, Said]
    manifest: Manifest
    published: Listed
    listed: Listed
    number: int
    changed_s: int
    folded_s: int
    cumulative: bytes | None = None
    since: tuple[bytes, ...] = ()
    spent: float = 0.0

    @property
    def sealed(self) -> list[bytes]:
        """All changes that count, as they are kept and sent."""
        return [*([] if self.cumulative is None else [self.cumulative]), *self.since]


AnyChain = Chain[Any, Any, Any]


def resume(
    telling: Telling[Listed, Change, Said],
    published: Listed,
    manifest: Manifest,
    sealed: Sequence[bytes],
    signer: Signer,
) -> Chain[Listed, Change, Said]:
    """Return the chain that was kept beside a list.

    Raises:
        ListError: It does not hold. No gate would take what followed; a new list begins a new chain.
    """
    keys = {signer.name: signer.key.public_key()}
    found = telling.changing.lay_over(published, manifest, sealed, keys)
    if found.fault is not None:
        raise found.fault
    if found.last is None:
        return Chain(telling, manifest, published, published, 0, manifest.issued_s, manifest.issued_s)
    first = telling.changing.open(sealed[0], keys)
    folded = first.number > 1
    return Chain(
        telling,
        manifest,
        published,
        found.listed,
        found.last.number,
        found.last.issued_s,
        first.issued_s if folded else manifest.issued_s,
        sealed[0] if folded else None,
        tuple(sealed[1:] if folded else sealed),
    )


def may_speak(chain: AnyChain, now_s: int, rhythm: Rhythm) -> bool:
    """Whether a change may be made now; if not, what there is to say is gathered."""
    return _is_due(chain, now_s, rhythm) or _spent(chain, now_s, rhythm) + 1 <= rhythm.burst


def advance(
    chain: Chain[Listed, Change, Said], said: Said, now_s: int, *, rhythm: Rhythm, signer: Signer
) -> tuple[Chain[Listed, Change, Said], bytes] | None:
    """Make the next change, if one is due.

    Args:
        chain: The chain so far.
        said: What there is to say; what the chain says already is left out.
        now_s: The time, seconds since 1970 UTC.
        rhythm: When changes are made.
        signer: Who signs them.

    Returns:
        The chain with it, and the change, signed; None if none is due.

    Raises:
        ListError: What has changed since the list was published is more than a change may hold: publish a new list.
    """
    due = _is_due(chain, now_s, rhythm)
    if not said and not due:
        return None
    telling = chain.telling
    now_s = max(now_s, chain.changed_s)  # a clock that was set back makes no change older than the last
    # A change has to end after it began, also that of a list which is past its date.
    until_s = max(chain.manifest.not_after_s, now_s + 1) if rhythm.fresh_s is None else now_s + rhythm.fresh_s
    stamp = Stamp(chain.manifest.region, chain.manifest.version, chain.number + 1, now_s, until_s)
    change, listed = telling.next(chain.listed, said, stamp)
    if listed.state_hash == chain.listed.state_hash and not due:
        return None
    sealed = telling.seal(change, signer.key, signer.name)
    spent = min(_spent(chain, now_s, rhythm) + 1, rhythm.burst)
    chain = replace(
        chain, listed=listed, number=stamp.number, changed_s=now_s, since=(*chain.since, sealed), spent=spent
    )
    full = len(chain.sealed) >= rhythm.most or sum(map(len, chain.since)) > MOST_BYTES
    if full or now_s - chain.folded_s >= rhythm.fold_every_s:
        whole = telling.seal(telling.cumulative(chain.published, listed, stamp), signer.key, signer.name)
        chain = replace(chain, folded_s=now_s, cumulative=whole, since=())
    return chain, sealed


def standing(chains: Sequence[AnyChain]) -> dict[ChangeTopic, bytes]:
    """Return what stands at the broker for gates that join, or found a gap; empty for nothing.

    Args:
        chains: That of the newest list, then those of the lists before it.
    """
    newest, *others = chains
    before = [sealed for chain in others for sealed in chain.sealed]
    return {
        "cumulative": newest.cumulative or b"",
        "since": msgpack.packb(list(newest.since)),
        "before": msgpack.packb(before) if before else b"",
    }


def _is_due(chain: AnyChain, now_s: int, rhythm: Rhythm) -> bool:
    return now_s - chain.changed_s >= rhythm.change_every_s


def _spent(chain: AnyChain, now_s: int, rhythm: Rhythm) -> float:
    return max(0.0, chain.spent - max(0, now_s - chain.changed_s) / rhythm.refill_s)
