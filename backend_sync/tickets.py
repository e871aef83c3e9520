"""What is left of every product sold, as the publisher states it to the gates, and up to where uses are counted.

A gate subtracts from a published product the uses in its own journal that lie beyond its *horizon*, and no others. So
that no use counts twice and none is forgotten, a product's state here contains exactly:

- of a device's newest epoch: granted taps up to the contiguous position, which is the horizon ``(epoch, seq)``
  published for that device. Taps beyond a gap are in the ledger and wait for the gap to close;
- of its older epochs: every granted tap. Those journals are gone from the device, so it cannot count them itself.

Epochs are random numbers, so the newest is the one that brought a new tap last. A straggler of an old epoch can claim
that place only until the next tap.

A gate whose journal is of a newer epoch than its horizon counts all of it; one without a horizon counts all it has.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, Subquery, and_, func, or_, select

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
        newest = _newest_epochs()
        rows = self._connection.execute(
            select(POSITION.c.device, POSITION.c.epoch, POSITION.c.contiguous).join(
                newest, and_(newest.c.device == POSITION.c.device, newest.c.epoch == POSITION.c.epoch)
            )
        )
        return {row.device: (row.epoch, row.contiguous) for row in rows}

    def product_states(self) -> Iterator[tuple[bytes, Product]]:
        """Yield ``(credential_id, product)`` with what is left, in the order of product ids; never below zero."""
        newest = _newest_epochs()
        used = (
            select(
                TAP.c.product_id,
                func.sum(TAP.c.rides).label("rides_used"),
                func.sum(TAP.c.amount).label("amount_used"),
            )
            .join(newest, newest.c.device == TAP.c.device)
            .join(POSITION, and_(POSITION.c.device == TAP.c.device, POSITION.c.epoch == TAP.c.epoch))
            .where(
                TAP.c.outcome == int(Outcome.GRANT),
                TAP.c.product_id.is_not(None),
                or_(TAP.c.epoch != newest.c.epoch, TAP.c.seq <= POSITION.c.contiguous),
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


def _newest_epochs() -> Subquery:
    latest = select(func.max(POSITION.c.batch)).group_by(POSITION.c.device)
    return select(POSITION.c.device, POSITION.c.epoch).where(POSITION.c.batch.in_(latest)).subquery("newest")
