"""What happens to one batch inside the ledger's transaction: new taps, duplicates, conflicts, the position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

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
    """Record one batch."""
    place = {"device": arrival.device, "epoch": arrival.epoch}
    key = connection.execute(
        insert(BATCH), place | {"head": arrival.head, "received_ms": received_ms}
    ).inserted_primary_key
    assert key is not None
    batch: int = key[0]
    fresh, repeated, contradicting = _classify(connection, arrival)
    if fresh:
        connection.execute(insert(TAP), [tap_row(signed) | {"batch": batch} for signed in fresh])
        moved = [row for signed in fresh for row in posting_rows(signed)]
        if moved:
            connection.execute(insert(POSTING), moved)
    if repeated:
        connection.execute(insert(DUPLICATE), [place | {"seq": seq, "batch": batch} for seq in repeated])
    _note_conflicts(connection, place | {"batch": batch}, contradicting)
    contiguous = _advance(connection, arrival, batch, moved=bool(fresh))
    return Receipt(
        arrival.device,
        arrival.epoch,
        contiguous,
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


def _note_conflicts(connection: Connection, place: dict[str, Any], contradicting: Sequence[SignedEntry]) -> None:
    for signed in contradicting:
        named = connection.execute(
            select(CONFLICT.c.seq).where(
                CONFLICT.c.device == place["device"],
                CONFLICT.c.epoch == place["epoch"],
                CONFLICT.c.seq == signed.entry.seq,
                CONFLICT.c.digest == signed.digest,
            )
        ).first()
        if named is None:
            row = place | {"seq": signed.entry.seq, "digest": signed.digest, "envelope": signed.envelope}
            connection.execute(insert(CONFLICT), row)


def _advance(connection: Connection, arrival: Arrival, batch: int, *, moved: bool) -> int:
    """Move the position of a device's epoch past what has become contiguous, and return it."""
    here = (POSITION.c.device == arrival.device, POSITION.c.epoch == arrival.epoch)
    position = connection.execute(select(POSITION.c.contiguous, POSITION.c.head).where(*here)).first()
    if position is None:
        first = {"contiguous": 0, "head": arrival.head, "batch": batch}
        connection.execute(insert(POSITION), {"device": arrival.device, "epoch": arrival.epoch} | first)
    contiguous, head = (
        (0, arrival.head) if position is None else (position.contiguous, max(position.head, arrival.head))
    )
    if moved:
        contiguous = _contiguous_from(connection, arrival, contiguous)
        connection.execute(update(POSITION).where(*here).values(contiguous=contiguous, head=head, batch=batch))
    elif position is not None and head > position.head:
        connection.execute(update(POSITION).where(*here).values(head=head))
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
