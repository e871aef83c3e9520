"""The ledger's table of the order in which sales were recorded. Nothing in it is ever changed.

A sale's own number is the seller's, and its time is the seller's clock. So neither says what a published ticket list
has not heard of; the number of the last row here does.
"""

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table

from backend_sync.append_only import forbid, is_there

SELLING = MetaData()

# SQLite counts rows by itself only in a column that is exactly INTEGER PRIMARY KEY.
_ROW = BigInteger().with_variant(Integer, "sqlite")

SALE_RECORDED = Table(
    "sale_recorded",
    SELLING,
    Column("id", _ROW, primary_key=True),
    Column("sale", BigInteger, nullable=False, unique=True),
)


def create_order_of_sales(connection: Connection) -> None:
    """Make the table, have it say the order of the sales that are there, and have SQLite keep it as it is written."""
    SELLING.create_all(connection)
    connection.exec_driver_sql("INSERT INTO sale_recorded (sale) SELECT id FROM sale ORDER BY rowid")
    taken = "EXISTS (SELECT 1 FROM sale_recorded WHERE sale = NEW.sale)"
    forbid(connection, SALE_RECORDED, "replace", "INSERT", f"{is_there(SALE_RECORDED)} OR {taken}")
    unsold = "NOT EXISTS (SELECT 1 FROM sale WHERE id = NEW.sale)"
    forbid(connection, SALE_RECORDED, "stranger", "INSERT", unsold, why="names sales of this ledger alone")
    forbid(connection, SALE_RECORDED, "update", "UPDATE")
    forbid(connection, SALE_RECORDED, "delete", "DELETE")
