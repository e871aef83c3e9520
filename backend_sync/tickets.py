"""What is left of every product sold, as the publisher states it to the gates, and up to where uses are counted.

A gate subtracts from a published product the uses in its own journal that lie beyond its *horizon*, and no others. So
that no use counts twice and none is forgotten, a product's state here contains exactly:

- of a device's newest epoch: granted taps up to the contiguous position, which is the horizon ``(epoch, seq)``
  published for that device. Taps beyond a gap are in the ledger and wait for the gap to close;
- of its older epochs: every granted tap. Those journals are gone from the device, so it cannot count them itself.

An epoch begins with the second in which its journal was made, so the newest epoch is the greatest, and a straggler of
an older one changes nothing about that.

A gate whose journal is of a newer epoch than its horizon counts all of it; one without a horizon counts all it has.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, Subquery, func, or_, select

from backend_sync.sales import product_of
from backend_sync.schema import POSITION, SALE, TAP
from validator.model import Outcome, Product

_CHUNK = 1000


class TicketSnapshot:
    """Tickets and horizons as of one moment.

    Args:
        connection: A read transaction that lasts as long as the snapshot is used.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def horizons(self) -> dict[str, tuple[int, int]]:
        """Return ``(epoch, seq)`` by device: uses up to there are in `product_states`."""
        rows = self._connection.execute(select(_newest()))
        return {row.device: (row.epoch, row.contiguous) for row in rows}

    def product_states(self) -> Iterator[tuple[bytes, Product]]:
        """Yield ``(credential_id, product)`` with what is left, in the order of product ids; never below zero."""
        newest = _newest()
        used = (
            select(
                TAP.c.product_id,
                func.sum(TAP.c.rides).label("rides_used"),
                func.sum(TAP.c.amount).label("amount_used"),
            )
            .join(newest, newest.c.device == TAP.c.device)
            .where(
                TAP.c.outcome == int(Outcome.GRANT),
                TAP.c.product_id.is_not(None),
                or_(TAP.c.epoch < newest.c.epoch, TAP.c.seq <= newest.c.contiguous),
            )
            .group_by(TAP.c.product_id)
            .subquery("used")
        )
        rows = self._connection.execute(
            select(
                SALE,
                func.coalesce(used.c.rides_used, 0).label("rides_used"),
                func.coalesce(used.c.amount_used, 0).label("amount_used"),
            )
            .outerjoin(used, used.c.product_id == SALE.c.id)
            .order_by(SALE.c.id)
            .execution_options(yield_per=_CHUNK)
        )
        for row in rows:
            rides, balance = max(0, row.rides - row.rides_used), max(0, row.balance - row.amount_used)
            yield row.credential_id, product_of(row, rides, balance)


def _newest() -> Subquery:
    """Position of each device's newest epoch."""
    other = POSITION.alias()
    greatest = select(func.max(other.c.epoch)).where(other.c.device == POSITION.c.device).scalar_subquery()
    return select(POSITION).where(POSITION.c.epoch == greatest).subquery("newest")
