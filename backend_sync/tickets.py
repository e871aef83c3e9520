"""What is left of every product sold, as the publisher states it to the gates, and up to where uses are counted.

A gate subtracts from a published product the uses in its own journal that lie beyond its *horizon*, and no others. So
that no use counts twice and none is forgotten, a product's state here contains exactly:

- of a device's newest epoch: granted taps up to the contiguous position, which is the horizon ``(epoch, seq)``
  published for that device. Taps beyond a gap are in the ledger and wait for the gap to close;
- of its older epochs: every granted tap. Those journals are gone from the device, so it cannot count them itself.

Whatever settlements charged or gave back is taken off as well: a gate knows nothing of it.

An epoch begins with the second in which its journal was made, so the newest epoch is the greatest, and a straggler of
an older one changes nothing about that.

A gate whose journal is of a newer epoch than its horizon counts all of it; one without a horizon counts all it has.

What was sold after a list was published is told in changes of that list. A gate adds the same own taps to whatever
tells it of a product, so a product's state in a change is that as of the list's horizons, whatever was ridden since.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, Subquery, func, or_, select

from backend_sync.sales import last_row, product_left
from backend_sync.sales_table import SALE_RECORDED
from backend_sync.schema import POSITION, SALE, TAP
from backend_sync.settlement_tables import SETTLEMENT
from validator.model import Outcome
from validator.rights import Product

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
        """Yield ``(credential_id, product)`` with what is left, in the order of product ids."""
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
        settled = (
            select(SETTLEMENT.c.product_id, func.sum(SETTLEMENT.c.amount).label("amount"))
            .group_by(SETTLEMENT.c.product_id)
            .subquery("settled")
        )
        rows = self._connection.execute(
            select(
                SALE,
                func.coalesce(used.c.rides_used, 0).label("rides_used"),
                (func.coalesce(used.c.amount_used, 0) + func.coalesce(settled.c.amount, 0)).label("amount_used"),
            )
            .outerjoin(used, used.c.product_id == SALE.c.id)
            .outerjoin(settled, settled.c.product_id == SALE.c.id)
            .order_by(SALE.c.id)
            .execution_options(yield_per=_CHUNK)
        )
        for row in rows:
            yield row.credential_id, product_left(row, row.rides_used, row.amount_used)

    def last_sale(self) -> int:
        """Return the number of the last sale that is in the snapshot, in the order in which they were recorded."""
        return last_row(self._connection)

    def sold_after(self, row: int, horizons: Mapping[str, tuple[int, int]]) -> Iterator[tuple[int, bytes, Product]]:
        """Yield ``(row, credential_id, product)`` of what was recorded after a list was published, in that order.

        Args:
            row: The last sale that is in the list, as `last_sale` said.
            horizons: The list's. Uses up to there are taken off, and no others.
        """
        recorded = select(SALE).join(SALE_RECORDED, SALE_RECORDED.c.sale == SALE.c.id)
        while True:
            after = recorded.add_columns(SALE_RECORDED.c.id.label("row")).where(SALE_RECORDED.c.id > row)
            sold = self._connection.execute(after.order_by(SALE_RECORDED.c.id).limit(_CHUNK)).all()
            if not sold:
                return
            rides, amounts = self._used([each.id for each in sold], horizons)
            for each in sold:
                yield each.row, each.credential_id, product_left(each, rides[each.id], amounts[each.id])
            row = sold[-1].row

    def _used(
        self, product_ids: list[int], horizons: Mapping[str, tuple[int, int]]
    ) -> tuple[Counter[int], Counter[int]]:
        """Return the rides and the amounts that were used of some products up to horizons."""
        rides, amounts = Counter[int](), Counter[int]()
        used = select(TAP.c.device, TAP.c.epoch, TAP.c.seq, TAP.c.product_id, TAP.c.rides, TAP.c.amount).where(
            TAP.c.outcome == int(Outcome.GRANT), TAP.c.product_id.in_(product_ids)
        )
        for tap in self._connection.execute(used):
            if (tap.epoch, tap.seq) <= horizons.get(tap.device, (-1, 0)):
                rides[tap.product_id] += tap.rides
                amounts[tap.product_id] += tap.amount
        settled = select(SETTLEMENT.c.product_id, SETTLEMENT.c.amount).where(SETTLEMENT.c.product_id.in_(product_ids))
        for row in self._connection.execute(settled):
            amounts[row.product_id] += row.amount
        return rides, amounts


def _newest() -> Subquery:
    """Position of each device's newest epoch."""
    other = POSITION.alias()
    greatest = select(func.max(other.c.epoch)).where(other.c.device == POSITION.c.device).scalar_subquery()
    return select(POSITION).where(POSITION.c.epoch == greatest).subquery("newest")
