"""What happens to one batch inside the ledger's transaction: new taps, duplicates, conflicts, the position."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from backend_sync import postings
from backend_sync.admission import Arrival, Rejection, SignedEntry
from backend_sync.schema import BATCH, CONFLICT, DUPLICATE, POSITION, POSTING, REJECTED, REJECTED_COUNT, TAP

REJECTED_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one batch.

    Attributes:
        device: Whose.
        epoch: Life of its journal.
        contiguous: Entries 1 to here are in the ledger.
        recorded: Taps that were new.
        duplicates: Taps that were there already, octet for octet.
        conflicts: Sequence numbers under which something else is there. An alarm: the first stays.
    """

    device: str
    epoch: int
    contiguous: int
    recorded: int
    duplicates: int
    conflicts: tuple[int, ...]


def record(connection: Connection, arrival: Arrival, received_ms: int) -> Receipt:
    """Record one batch.

    A batch that brings nothing and announces nothing new leaves no row of its own, so that a device which has to send
    the same again and again does not fill the disk.
    """
    place = {"device": arrival.device, "epoch": arrival.epoch}
    fresh, repeated, contradicting = _classify(connection, arrival)
    alarms = _not_noted(connection, place, contradicting)
    if fresh or alarms or not _announced_before(connection, arrival):
        row = place | {"head": arrival.head, "admitted": len(arrival.entries), "received_ms": received_ms}
        key = connection.execute(insert(BATCH), row).inserted_primary_key
        assert key is not None
        _keep(connection, place | {"batch": key[0]}, fresh, alarms)
    _count_duplicates(connection, place, Counter(repeated), received_ms)
    return Receipt(
        arrival.device,
        arrival.epoch,
        _advance(connection, arrival, moved=bool(fresh)),
        len(fresh),
        len(repeated),
        tuple(sorted({signed.entry.seq for signed in contradicting})),
    )


def tap_row(signed: SignedEntry) -> dict[str, Any]:
    """Return a tap's columns, all but its batch."""
    entry, tap = signed.entry, signed.entry.tap
    return {
        "device": entry.device,
        "epoch": entry.epoch,
        "seq": entry.seq,
        "previous": entry.previous,
        "digest": signed.digest,
        "wall_ms": tap.at.wall_ms,
        "mono_ms": tap.at.mono_ms,
        "boot": tap.at.boot,
        "confidence": int(tap.at.confidence),
        "place": tap.place,
        "gate": tap.gate,
        "outcome": int(tap.outcome),
        "reason": int(tap.reason),
        "graced": tap.graced,
        "trust_version": tap.versions.trust,
        "deny_version": tap.versions.deny,
        "tickets_version": tap.versions.tickets,
        "credential_id": tap.credential_id,
        "profile": tap.profile,
        "assurance": None if tap.assurance is None else int(tap.assurance),
        "cached": tap.cached,
        "product_id": tap.product_id,
        "rides": tap.rides,
        "amount": tap.amount,
        "recovers": tap.recovers,
        "edition": tap.edition,
        "stop": tap.stop,
        "route": tap.route,
        "riders": tap.riders,
        "label": int(tap.label),
        "envelope": signed.envelope,
    }


def posting_rows(signed: SignedEntry) -> list[dict[str, Any]]:
    """Return the columns of what a tap posts."""
    entry = signed.entry
    return [
        {
            "device": entry.device,
            "epoch": entry.epoch,
            "seq": entry.seq,
            "account": posting.account.value,
            "product_id": posting.product_id,
            "unit": posting.unit.value,
            "amount": posting.amount,
        }
        for posting in postings.of_tap(entry.tap)
    ]


def note_rejections(connection: Connection, rejections: Sequence[Rejection], received_ms: int) -> None:
    """Name what was refused, and count it by reason. Old names give way; the counts stay."""
    if not rejections:
        return
    rows = [
        {
            "source": rejection.source,
            "reason": rejection.reason.value,
            "size": rejection.size,
            "digest": rejection.digest,
            "received_ms": received_ms,
        }
        for rejection in rejections
    ]
    connection.execute(insert(REJECTED), rows)
    newest = connection.execute(select(func.max(REJECTED.c.id))).scalar_one()
    connection.execute(delete(REJECTED).where(REJECTED.c.id <= newest - REJECTED_KEPT))
    for rejection in rejections:
        reason = rejection.reason.value
        counted = connection.execute(
            update(REJECTED_COUNT).where(REJECTED_COUNT.c.reason == reason).values(count=REJECTED_COUNT.c.count + 1)
        )
        if counted.rowcount == 0:
            connection.execute(insert(REJECTED_COUNT), {"reason": reason, "count": 1})


def _classify(connection: Connection, arrival: Arrival) -> tuple[list[SignedEntry], list[int], list[SignedEntry]]:
    held: dict[int, bytes] = {
        row.seq: row.digest
        for row in connection.execute(
            select(TAP.c.seq, TAP.c.digest).where(
                TAP.c.device == arrival.device,
                TAP.c.epoch == arrival.epoch,
                TAP.c.seq.in_({signed.entry.seq for signed in arrival.entries}),
            )
        )
    }
    fresh: list[SignedEntry] = []
    repeated: list[int] = []
    contradicting: list[SignedEntry] = []
    for signed in arrival.entries:
        seq = signed.entry.seq
        if seq not in held:
            held[seq] = signed.digest
            fresh.append(signed)
        elif held[seq] == signed.digest:
            repeated.append(seq)
        else:
            contradicting.append(signed)
    return fresh, repeated, contradicting


def _not_noted(
    connection: Connection, place: dict[str, Any], contradicting: Sequence[SignedEntry]
) -> dict[tuple[int, bytes], SignedEntry]:
    """Return the contradictions that are new, by number and digest."""
    if not contradicting:
        return {}
    alarms = {(signed.entry.seq, signed.digest): signed for signed in contradicting}
    noted = connection.execute(
        select(CONFLICT.c.seq, CONFLICT.c.digest).where(
            CONFLICT.c.device == place["device"],
            CONFLICT.c.epoch == place["epoch"],
            CONFLICT.c.seq.in_({seq for seq, _ in alarms}),
        )
    )
    for row in noted.all():
        alarms.pop((row.seq, row.digest), None)
    return alarms


def _announced_before(connection: Connection, arrival: Arrival) -> bool:
    """Return whether the device's latest batch said the same of the same journal."""
    latest = connection.execute(
        select(BATCH.c.epoch, BATCH.c.head).where(BATCH.c.device == arrival.device).order_by(BATCH.c.id.desc()).limit(1)
    ).first()
    return latest is not None and tuple(latest) == (arrival.epoch, arrival.head)


def _keep(
    connection: Connection,
    batch: dict[str, Any],
    fresh: Sequence[SignedEntry],
    alarms: dict[tuple[int, bytes], SignedEntry],
) -> None:
    if fresh:
        connection.execute(insert(TAP), [tap_row(signed) | {"batch": batch["batch"]} for signed in fresh])
        moved = [row for signed in fresh for row in posting_rows(signed)]
        if moved:
            connection.execute(insert(POSTING), moved)
    if alarms:
        rows = [
            batch | {"seq": seq, "digest": digest, "envelope": signed.envelope}
            for (seq, digest), signed in alarms.items()
        ]
        connection.execute(insert(CONFLICT), rows)


def _count_duplicates(connection: Connection, place: dict[str, Any], repeated: Counter[int], received_ms: int) -> None:
    """Count each discarded duplicate in its one row."""
    if not repeated:
        return
    here = (DUPLICATE.c.device == place["device"], DUPLICATE.c.epoch == place["epoch"])
    known = set(connection.execute(select(DUPLICATE.c.seq).where(*here, DUPLICATE.c.seq.in_(repeated))).scalars())
    first = [
        place | {"seq": seq, "count": count, "first_ms": received_ms, "last_ms": received_ms}
        for seq, count in repeated.items()
        if seq not in known
    ]
    if first:
        connection.execute(insert(DUPLICATE), first)
    if known:
        again = update(DUPLICATE).where(*here, DUPLICATE.c.seq == bindparam("of"))
        connection.execute(
            again.values(count=DUPLICATE.c.count + bindparam("more"), last_ms=received_ms),
            [{"of": seq, "more": repeated[seq]} for seq in sorted(known)],
        )


def _advance(connection: Connection, arrival: Arrival, *, moved: bool) -> int:
    """Move the position of a device's epoch past what has become contiguous, and return it.

    An epoch has one from its first signed entry on: what nobody signed begins none.
    """
    here = (POSITION.c.device == arrival.device, POSITION.c.epoch == arrival.epoch)
    position: int | None = connection.execute(select(POSITION.c.contiguous).where(*here)).scalar()
    if not arrival.entries or (position is not None and not moved):
        return position or 0
    contiguous = _contiguous_from(connection, arrival, position or 0)
    if position is None:
        row = {"device": arrival.device, "epoch": arrival.epoch, "contiguous": contiguous}
        connection.execute(insert(POSITION), row)
    else:
        connection.execute(update(POSITION).where(*here).values(contiguous=contiguous))
    return contiguous


def _contiguous_from(connection: Connection, arrival: Arrival, contiguous: int) -> int:
    """Walk on from where the position stood; each tap is walked past once, however late it closes a gap."""
    ahead = connection.execute(
        select(TAP.c.seq)
        .where(TAP.c.device == arrival.device, TAP.c.epoch == arrival.epoch, TAP.c.seq > contiguous)
        .order_by(TAP.c.seq)
    ).scalars()
    for seq in ahead:
        if seq != contiguous + 1:
            break
        contiguous = seq
    ahead.close()
    return contiguous
