"""The ledger's tables of editions of the tariff, of settlements, and of rides that the desk completed.

A settlement is what a product owes for a service day beyond what was posted before, or a refund out of goodwill; its
`ordinal` counts those of one card, product and day. So two runs that know nothing of each other cannot both post the
same difference: the second one meets the first one's number. Nothing in these tables is ever changed.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from backend_sync.append_only import ROW, forbid, is_there

SETTLING = MetaData()

EDITION = Table(
    "edition",
    SETTLING,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("from_s", BigInteger, nullable=False),
    Column("octets", LargeBinary, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
)

SETTLEMENT = Table(
    "settlement",
    SETTLING,
    Column("id", ROW, primary_key=True),
    Column("credential_id", LargeBinary(16), nullable=False),
    Column("product_id", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("rule", String(32), nullable=False),
    Column("why", String, nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    UniqueConstraint("credential_id", "product_id", "day", "ordinal", name="settlement_is_counted"),
    CheckConstraint("amount <> 0 AND ordinal > 0", name="settlement_moves_something"),
)

COMPLETION = Table(
    "completion",
    SETTLING,
    Column("id", ROW, primary_key=True),
    Column("credential_id", LargeBinary(16), nullable=False),
    # The tap whose ride had no end.
    Column("device", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("place", String(64), nullable=False),
    Column("arrived_s", BigInteger, nullable=False),
    Column("rule", String(32), nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    UniqueConstraint("device", "epoch", "seq", name="completion_is_one"),
)

SETTLEMENT_BY_PRODUCT = Index("settlement_by_product", SETTLEMENT.c.product_id)

_TWICE = {
    SETTLEMENT: ("credential_id", "product_id", "day", "ordinal"),
    COMPLETION: ("device", "epoch", "seq"),
}
"""What a row may not replace, beside the row of its number."""


def create_settlements(connection: Connection) -> None:
    """Make the tables, and have SQLite keep them as they are written."""
    SETTLING.create_all(connection)
    for table in (EDITION, SETTLEMENT, COMPLETION):
        same = " AND ".join(f"{name} = NEW.{name}" for name in _TWICE.get(table, ()))
        twice = f" OR EXISTS (SELECT 1 FROM {table.name} WHERE {same})" if same else ""  # noqa: S608 - constant names
        forbid(connection, table, "replace", "INSERT", is_there(table) + twice)
        forbid(connection, table, "update", "UPDATE")
        forbid(connection, table, "delete", "DELETE")
    unsold = "NOT EXISTS (SELECT 1 FROM sale WHERE id = NEW.product_id)"
    forbid(connection, SETTLEMENT, "stranger", "INSERT", unsold, why="names sales of this ledger alone")
