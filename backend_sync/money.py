"""Whether the ledger's money and rides add up, computed by the database from two sides: postings, and their causes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select

from backend_sync import postings
from backend_sync.postings import Account, Posting, Unit
from backend_sync.schema import POSTING, SALE, TAP
from backend_sync.settlement_tables import SETTLEMENT
from validator.model import Label, Outcome
from validator.rights import ProductKind

_NAMED = 1000
"""At most so many of each kind of fault are named; the books are open long before."""

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Balance:
    """What one product holds, in one unit."""

    product_id: int
    unit: str
    amount: int


@unique
class Unfounded(StrEnum):
    """Why no sale accounts for what a granted tap took."""

    NO_SALE = "no-sale"  # its product was never sold, or it took something and names none
    OTHER_CREDENTIAL = "other-credential"  # the product was sold to another
    OTHER_AMOUNT = "other-amount"  # not the one ride or the fare that the product costs


@dataclass(frozen=True, slots=True)
class UnfoundedTap:
    """One granted tap that no sale accounts for."""

    device: str
    epoch: int
    seq: int
    product_id: int | None
    why: Unfounded


@dataclass(frozen=True, slots=True)
class Money:
    """Sums in minor units and rides, and what is wrong with them.

    Attributes:
        loaded: Stored value that sales loaded.
        spent: Stored value that taps and settlements took, by the fares posted.
        left: Stored value that products hold now.
        fares_on_taps: Amounts that granted taps name.
        settled: Amounts of settlements and refunds.
        rides_sold: Rides that sales created.
        rides_posted: Rides that taps took, by the postings.
        rides_left: Rides that products hold now.
        rides_on_taps: Rides that granted taps name.
        paid: Prices of all sales.
        revenue: Fares taken, and sales of passes and carnets.
        overspent: Products that were sold and hold less than nothing: uses that crossed while devices were offline.
        unfounded: Granted taps that no sale accounts for.
        unbalanced: Causes (``tap DEVICE EPOCH SEQ``, ``sale ID``, ``settlement ID``) whose postings do not sum to zero
            in a unit.
        misposted: Sales and settlements whose postings are not their own; taps are examined with their chain.
    """

    loaded: int
    spent: int
    left: int
    fares_on_taps: int
    settled: int
    rides_sold: int
    rides_posted: int
    rides_left: int
    rides_on_taps: int
    paid: int
    revenue: int
    overspent: tuple[Balance, ...]
    unfounded: tuple[UnfoundedTap, ...]
    unbalanced: tuple[str, ...]
    misposted: tuple[str, ...]

    @property
    def closed(self) -> bool:
        """Whether everything adds up. What is overspent is a debt to collect, not an error of the books."""
        return (
            not self.unfounded
            and not self.unbalanced
            and not self.misposted
            and self.loaded == self.spent + self.left
            and self.spent == self.fares_on_taps + self.settled
            and self.rides_sold == self.rides_posted + self.rides_left
            and self.rides_posted == self.rides_on_taps
        )


def count(connection: Connection) -> Money:
    """Add everything up, in one read transaction of the caller's."""
    side = (POSTING.c.account, POSTING.c.unit)
    balances = {
        (row.account, row.unit): int(row.amount)
        for row in connection.execute(select(*side, func.sum(POSTING.c.amount).label("amount")).group_by(*side))
    }

    def balance(account: Account, unit: Unit) -> int:
        return balances.get((account.value, unit.value), 0)

    fares, rides_on_taps = _sums(connection, TAP.c.amount, TAP.c.rides, where=TAP.c.outcome == int(Outcome.GRANT))
    loaded, rides_sold, paid = _sums(connection, SALE.c.balance, SALE.c.rides, SALE.c.price)
    spent = balance(Account.FARE_REVENUE, Unit.MINOR)
    return Money(
        loaded=loaded,
        spent=spent,
        left=balance(Account.STORED_VALUE, Unit.MINOR),
        fares_on_taps=fares,
        settled=_sums(connection, SETTLEMENT.c.amount)[0],
        rides_sold=rides_sold,
        rides_posted=balance(Account.RIDES_USED, Unit.RIDE),
        rides_left=balance(Account.CARNET, Unit.RIDE),
        rides_on_taps=rides_on_taps,
        paid=paid,
        revenue=spent + balance(Account.SALES_REVENUE, Unit.MINOR),
        overspent=tuple(
            Balance(row.product_id, row.unit, row.amount) for row in connection.execute(_overspent()).all()
        ),
        unfounded=tuple(
            UnfoundedTap(row.device, row.epoch, row.seq, row.product_id, Unfounded(row.why))
            for row in connection.execute(_unfounded()).all()
        ),
        unbalanced=tuple(_cause(row) for row in connection.execute(_unbalanced()).all()),
        misposted=tuple(islice(chain(_misposted_sales(connection), _misposted_settlements(connection)), _NAMED)),
    )


def paid(connection: Connection, product_ids: Iterable[int]) -> dict[int, int]:
    """Return what products paid for rides, at gates and by settlements, in minor units; 0 for those that paid none."""
    wanted = list(product_ids)
    spent = (
        select(POSTING.c.product_id, func.sum(-POSTING.c.amount).label("amount"))
        .where(
            POSTING.c.account == Account.STORED_VALUE.value,
            POSTING.c.sale.is_(None),
            POSTING.c.product_id.in_(wanted),
        )
        .group_by(POSTING.c.product_id)
    )
    return dict.fromkeys(wanted, 0) | {row.product_id: int(row.amount) for row in connection.execute(spent)}


def _sums(
    connection: Connection, *columns: ColumnElement[int], where: ColumnElement[bool] | None = None
) -> tuple[int, ...]:
    wanted = select(*(func.coalesce(func.sum(column), 0) for column in columns))
    return tuple(connection.execute(wanted if where is None else wanted.where(where)).one())


def _unfounded() -> Select[Any]:
    # The tap after a torn one takes nothing, nor does one on the way out.
    takes = and_(TAP.c.recovers.is_(None), TAP.c.label != int(Label.EXIT))
    rides = case((and_(takes, SALE.c.kind == int(ProductKind.CARNET)), 1), else_=0)
    # Under a tariff the gate asks what the edition says; the day's settlement counts it against the day's price.
    by_tariff = and_(takes, SALE.c.kind == int(ProductKind.STORED_VALUE), TAP.c.edition != 0)
    flat = case((and_(takes, SALE.c.kind == int(ProductKind.STORED_VALUE)), SALE.c.fare), else_=0)
    amount = case((and_(by_tariff, TAP.c.amount >= 0), TAP.c.amount), else_=flat)
    why = case(
        (SALE.c.id.is_(None), Unfounded.NO_SALE.value),
        (TAP.c.credential_id.is_distinct_from(SALE.c.credential_id), Unfounded.OTHER_CREDENTIAL.value),
        (or_(TAP.c.rides != rides, TAP.c.amount != amount), Unfounded.OTHER_AMOUNT.value),
    ).label("why")
    found = (
        select(TAP.c.device, TAP.c.epoch, TAP.c.seq, TAP.c.product_id, why)
        .outerjoin(SALE, SALE.c.id == TAP.c.product_id)
        .where(
            TAP.c.outcome == int(Outcome.GRANT),
            or_(TAP.c.product_id.is_not(None), TAP.c.rides != 0, TAP.c.amount != 0),
        )
        .subquery()
    )
    return (
        select(found).where(found.c.why.is_not(None)).order_by(found.c.device, found.c.epoch, found.c.seq).limit(_NAMED)
    )


def _overspent() -> Select[Any]:
    amount = func.sum(POSTING.c.amount)
    return (
        select(POSTING.c.product_id, POSTING.c.unit, amount.label("amount"))
        .join(SALE, SALE.c.id == POSTING.c.product_id)
        .where(POSTING.c.account.in_([Account.STORED_VALUE.value, Account.CARNET.value]))
        .group_by(POSTING.c.product_id, POSTING.c.unit)
        .having(amount < 0)
        .order_by(POSTING.c.product_id, POSTING.c.unit)
        .limit(_NAMED)
    )


def _unbalanced() -> Select[Any]:
    cause = (POSTING.c.device, POSTING.c.epoch, POSTING.c.seq, POSTING.c.sale, POSTING.c.settlement)
    return select(*cause).group_by(*cause, POSTING.c.unit).having(func.sum(POSTING.c.amount) != 0).limit(_NAMED)


def _misposted_sales(connection: Connection) -> Iterator[str]:
    moved = connection.execute(
        select(POSTING)
        .where(POSTING.c.sale.is_not(None))
        .order_by(POSTING.c.sale, POSTING.c.id)
        .execution_options(yield_per=_CHUNK)
    )
    by_sale = GroupedPostings(moved, "sale")
    for sale in connection.execute(select(SALE).order_by(SALE.c.id).execution_options(yield_per=_CHUNK)):
        due = postings.of_sale(sale.id, rides=sale.rides, balance=sale.balance, price=sale.price)
        if not by_sale.take(sale.id, due):
            yield f"sale {sale.id}"


def _misposted_settlements(connection: Connection) -> Iterator[str]:
    moved = connection.execute(
        select(POSTING)
        .where(POSTING.c.settlement.is_not(None))
        .order_by(POSTING.c.settlement, POSTING.c.id)
        .execution_options(yield_per=_CHUNK)
    )
    by_settlement = GroupedPostings(moved, "settlement")
    for row in connection.execute(select(SETTLEMENT).order_by(SETTLEMENT.c.id).execution_options(yield_per=_CHUNK)):
        if not by_settlement.take(row.id, postings.of_fare(row.product_id, row.amount)):
            yield f"settlement {row.id}"


class GroupedPostings:
    """Walks postings and their causes side by side, both in the same order.

    Args:
        rows: Rows of `POSTING`, ordered by `key` and then by id.
        key: The column that names the cause.
    """

    def __init__(self, rows: Iterable[Row[Any]], key: str) -> None:
        self._groups = groupby(rows, attrgetter(key))
        self._ahead = next(self._groups, None)

    def take(self, cause: int, due: tuple[Posting, ...]) -> bool:
        """Return whether `cause` has posted what is due and nothing else. Causes are asked for in rising order."""
        found: list[tuple[str, int | None, str, int]] = []
        while self._ahead is not None and self._ahead[0] < cause:
            self._ahead = next(self._groups, None)
        if self._ahead is not None and self._ahead[0] == cause:
            found = [(row.account, row.product_id, row.unit, row.amount) for row in self._ahead[1]]
            self._ahead = next(self._groups, None)
        return found == [(side.account.value, side.product_id, side.unit.value, side.amount) for side in due]


def _cause(row: Row[Any]) -> str:
    if row.settlement is not None:
        return f"settlement {row.settlement}"
    return f"tap {row.device} {row.epoch} {row.seq}" if row.sale is None else f"sale {row.sale}"
