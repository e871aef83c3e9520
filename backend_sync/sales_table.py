"""The order in which sales were recorded, and what sales say since some have conditions.

A sale's own number is the seller's, and its time is the seller's clock. So neither says what a published ticket list
has not heard of; the number of the last row of `SALE_RECORDED` does. Nothing in it is ever changed.
"""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table

from backend_sync.append_only import ROW, forbid, is_there
from validator.conditions import ORDINARY, Conditions, TimeFrame

SELLING = MetaData()

SALE_RECORDED = Table(
    "sale_recorded",
    SELLING,
    Column("id", ROW, primary_key=True),
    Column("sale", BigInteger, nullable=False, unique=True),
)

_NUMBERS = ("riders", "day_starts_s", "floor", "proof_until")
_TEXTS = ("rider", "medium", "scheme", "zones", "networks", "time_frames")
_FRAMES = msgspec.json.Decoder(list[TimeFrame])


def condition_columns() -> list[Column[Any]]:
    """Return the columns of a sale for its conditions; those of an ordinary one stand in an old sale."""
    said = condition_values(ORDINARY)
    return [
        *(Column(name, BigInteger, nullable=False, server_default=str(said[name])) for name in _NUMBERS),
        *(Column(name, String, nullable=False, server_default=str(said[name])) for name in _TEXTS),
    ]


def condition_values(conditions: Conditions) -> dict[str, int | str]:
    """Return what the columns of a sale say of its conditions."""
    told = conditions._asdict()
    sets = {name: sorted(told[name]) for name in ("zones", "networks", "time_frames")}
    return {**told, **{name: msgspec.json.encode(each).decode() for name, each in sets.items()}}


def conditions_of(row: Any) -> Conditions:  # noqa: ANN401 - rows of a join have no type of their own
    """Return the conditions that a sale's row tells of."""
    told = {name: getattr(row, name) for name in (*_NUMBERS, *_TEXTS)}
    told["zones"] = frozenset(msgspec.json.decode(row.zones, type=list[str]))
    told["networks"] = frozenset(msgspec.json.decode(row.networks, type=list[str]))
    told["time_frames"] = frozenset(_FRAMES.decode(row.time_frames))
    return Conditions(**told)


def tell_conditions(connection: Connection) -> None:
    """Add what older sales do not say: they were ordinary. A ledger that is made now says it already."""
    there = set(connection.exec_driver_sql("SELECT name FROM pragma_table_info('sale')").scalars())
    for name, said in condition_values(ORDINARY).items():
        if name not in there:
            kind, default = ("BIGINT", said) if name in _NUMBERS else ("VARCHAR", f"'{said}'")
            connection.exec_driver_sql(f"ALTER TABLE sale ADD COLUMN {name} {kind} NOT NULL DEFAULT {default}")


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
