"""Closing the books: what is missing, what came twice, what was tampered with, and whether the money adds up.

Each stored envelope is opened again with the device's registered key, so that the verdict rests on what the gates
signed and not on what this database says about it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import ColumnElement, Connection, func, select, union

from backend_sync import money, postings
from backend_sync.admission import SignedEntry, admit_entry
from backend_sync.chain import Chain, Link, examine
from backend_sync.ledger import Ledger
from backend_sync.money import GroupedPostings, Money
from backend_sync.recording import tap_row
from backend_sync.schema import BATCH, CONFLICT, DEVICE, DUPLICATE, POSITION, POSTING, REJECTED_COUNT, TAP
from validator.model import Outcome, Reason

_CHUNK = 1000
_NAMES = {int(reason): reason.name for reason in Reason}


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A resent tap that was discarded.

    Attributes:
        seq: Which.
        count: How often.
        first_ms: When for the first time, milliseconds since 1970 UTC.
        last_ms: When for the last time.
    """

    seq: int
    count: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class DeviceBooks:
    """One epoch of one device.

    Attributes:
        device: Whose.
        epoch: Life of its journal.
        chain: What is there and what is not.
        acknowledged: Contiguous position that the ledger keeps and acknowledges; that of `chain` if all is well.
        discarded: Each duplicate that was discarded.
        conflicts: Numbers under which a second, different entry arrived.
    """

    device: str
    epoch: int
    chain: Chain
    acknowledged: int
    discarded: tuple[Duplicate, ...]
    conflicts: tuple[int, ...]

    @property
    def closed(self) -> bool:
        """Whether nothing is missing, outstanding, twice, broken, forged, altered or contradicted."""
        chain = self.chain
        faults = (
            chain.missing,
            chain.outstanding,
            chain.duplicated,
            chain.breaks,
            chain.unsigned,
            chain.altered,
            chain.misposted,
            self.conflicts,
        )
        return not any(faults) and self.acknowledged == chain.contiguous

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it; missing numbers as ranges with both ends included."""
        chain = self.chain
        return {
            "device": self.device,
            "epoch": self.epoch,
            "taps": chain.taps,
            "contiguous_up_to": chain.contiguous,
            "acknowledged": self.acknowledged,
            "highest": chain.highest,
            "announced": chain.announced,
            "outstanding": chain.outstanding,
            "missing": [list(ends) for ends in chain.missing],
            "duplicated": chain.duplicated,
            "chain_breaks": chain.breaks,
            "unsigned": chain.unsigned,
            "altered": chain.altered,
            "misposted": chain.misposted,
            "conflicts": list(self.conflicts),
            "duplicates_discarded": [
                {"seq": item.seq, "count": item.count, "first_ms": item.first_ms, "last_ms": item.last_ms}
                for item in self.discarded
            ],
        }


@dataclass(frozen=True, slots=True)
class Books:
    """The whole ledger, reconciled.

    Attributes:
        devices: By device and epoch.
        silent: Registered devices that were never heard.
        strays: Taps that no chain accounts for; 0 if all is well.
        granted: Taps granted.
        denied: Taps denied.
        reasons: Taps by the name of their reason.
        rejected: Messages and entries that were refused, by reason.
        money: Whether it adds up.
    """

    devices: tuple[DeviceBooks, ...]
    silent: tuple[str, ...]
    strays: int
    granted: int
    denied: int
    reasons: dict[str, int]
    rejected: dict[str, int]
    money: Money

    @property
    def closed(self) -> bool:
        """Whether nothing is open anywhere. A device that was never heard leaves nothing open: it may not be in use."""
        return self.money.closed and not self.strays and all(books.closed for books in self.devices)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it: the counts first, the names below them."""
        chains = [books.chain for books in self.devices]
        return {
            "closed": self.closed,
            "taps": sum(chain.taps for chain in chains),
            "granted": self.granted,
            "denied": self.denied,
            "reasons": self.reasons,
            "missing": sum(chain.missing_count for chain in chains),
            "outstanding": sum(chain.outstanding for chain in chains),
            "strays": self.strays,
            "duplicated": sum(len(chain.duplicated) for chain in chains),
            "duplicates_discarded": sum(item.count for books in self.devices for item in books.discarded),
            "conflicts": sum(len(books.conflicts) for books in self.devices),
            "chain_breaks": sum(len(chain.breaks) for chain in chains),
            "unsigned": sum(len(chain.unsigned) for chain in chains),
            "altered": sum(len(chain.altered) for chain in chains),
            "misposted": sum(len(chain.misposted) for chain in chains),
            "rejected": self.rejected,
            "money": {
                "closed": self.money.closed,
                "loaded": self.money.loaded,
                "spent": self.money.spent,
                "left": self.money.left,
                "fares_on_taps": self.money.fares_on_taps,
                "settled": self.money.settled,
                "rides_sold": self.money.rides_sold,
                "rides_used": self.money.rides_posted,
                "rides_left": self.money.rides_left,
                "rides_on_taps": self.money.rides_on_taps,
                "paid": self.money.paid,
                "revenue": self.money.revenue,
                "overspent": [
                    {"product_id": item.product_id, "unit": item.unit, "amount": item.amount}
                    for item in self.money.overspent
                ],
                "unfounded": [
                    {
                        "device": tap.device,
                        "epoch": tap.epoch,
                        "seq": tap.seq,
                        "product_id": tap.product_id,
                        "why": tap.why.value,
                    }
                    for tap in self.money.unfounded
                ],
                "unbalanced": list(self.money.unbalanced),
                "misposted": list(self.money.misposted),
            },
            "devices": [books.to_dict() for books in self.devices],
            "silent": list(self.silent),
        }


def reconcile(ledger: Ledger) -> Books:
    """Reconcile a ledger as of one moment, whatever is recorded meanwhile.

    Raises:
        LedgerUnavailable: Try again later.
    """
    with ledger.reading() as connection:
        keys = {
            row.id: Ed25519PublicKey.from_public_bytes(row.public_key)
            for row in connection.execute(select(DEVICE).order_by(DEVICE.c.id))
        }
        devices = tuple(
            _device_books(connection, device, epoch, announced, keys.get(device))
            for (device, epoch), announced in sorted(_journals(connection).items())
        )
        heard = {books.device for books in devices}
        outcomes, reasons = _counts(connection, TAP.c.outcome), _counts(connection, TAP.c.reason)
        return Books(
            devices=devices,
            silent=tuple(device for device in keys if device not in heard),
            strays=sum(outcomes.values()) - sum(books.chain.taps for books in devices),
            granted=outcomes.get(int(Outcome.GRANT), 0),
            denied=outcomes.get(int(Outcome.DENY), 0),
            reasons={_NAMES.get(number, str(number)): reasons[number] for number in sorted(reasons)},
            rejected=dict(connection.execute(select(REJECTED_COUNT)).all()),
            money=money.count(connection),
        )


def _journals(connection: Connection) -> dict[tuple[str, int], int]:
    """Return what was announced, by device and epoch, of every journal of which something is or was recorded.

    A journal of which no entry was ever believed counts only as long as it is the last that its device spoke of:
    nobody signed that it exists.
    """
    said = (
        select(
            BATCH.c.device,
            BATCH.c.epoch,
            func.max(BATCH.c.id).label("latest"),
            func.max(BATCH.c.admitted).label("admitted"),
        )
        .group_by(BATCH.c.device, BATCH.c.epoch)
        .subquery("said")
    )
    rows = connection.execute(
        select(said, BATCH.c.head).join(BATCH, BATCH.c.id == said.c.latest).order_by(said.c.latest)
    ).all()
    last = {row.device: row.epoch for row in rows}
    found = {(row.device, row.epoch): int(row.head) for row in rows if row.admitted or last[row.device] == row.epoch}
    present = union(select(TAP.c.device, TAP.c.epoch), select(POSITION.c.device, POSITION.c.epoch))
    for row in connection.execute(present):
        found.setdefault((row.device, row.epoch), 0)
    return found


def _device_books(
    connection: Connection, device: str, epoch: int, announced: int, key: Ed25519PublicKey | None
) -> DeviceBooks:
    acknowledged = connection.execute(
        select(POSITION.c.contiguous).where(POSITION.c.device == device, POSITION.c.epoch == epoch)
    ).scalar()
    discarded = connection.execute(
        select(DUPLICATE.c.seq, DUPLICATE.c.count, DUPLICATE.c.first_ms, DUPLICATE.c.last_ms)
        .where(DUPLICATE.c.device == device, DUPLICATE.c.epoch == epoch)
        .order_by(DUPLICATE.c.seq)
    ).all()
    conflicts = connection.execute(
        select(CONFLICT.c.seq)
        .where(CONFLICT.c.device == device, CONFLICT.c.epoch == epoch)
        .distinct()
        .order_by(CONFLICT.c.seq)
    ).scalars()
    return DeviceBooks(
        device=device,
        epoch=epoch,
        chain=examine(_links(connection, device, epoch, key), announced),
        acknowledged=acknowledged or 0,
        discarded=tuple(Duplicate(*row) for row in discarded),
        conflicts=tuple(conflicts),
    )


def _links(connection: Connection, device: str, epoch: int, key: Ed25519PublicKey | None) -> Iterator[Link]:
    moved = connection.execute(
        select(POSTING)
        .where(POSTING.c.device == device, POSTING.c.epoch == epoch)
        .order_by(POSTING.c.seq, POSTING.c.id)
        .execution_options(yield_per=_CHUNK)
    )
    by_tap = GroupedPostings(moved, "seq")
    taps = connection.execute(
        select(TAP)
        .where(TAP.c.device == device, TAP.c.epoch == epoch)
        .order_by(TAP.c.seq)
        .execution_options(yield_per=_CHUNK)
    )
    for row in taps.mappings():
        signed = None if key is None else admit_entry(row["envelope"], device, epoch, key)
        if isinstance(signed, SignedEntry):
            yield Link(
                row["seq"],
                signed.entry.previous,
                signed.digest,
                faithful=all(row[column] == value for column, value in tap_row(signed).items()),
                posted=by_tap.take(row["seq"], postings.of_tap(signed.entry.tap)),
            )
        else:
            yield Link(row["seq"], row["previous"], row["digest"], signed=False)


def _counts(connection: Connection, column: ColumnElement[int]) -> dict[int, int]:
    return dict(connection.execute(select(column, func.count()).group_by(column)).all())
