"""Numbered rows, and triggers by which SQLite itself keeps evidence from being changed, whoever opened the file."""

from typing import Final

from sqlalchemy import BigInteger, Connection, Integer, Table

ROW: Final = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows by itself only in a column that is exactly INTEGER PRIMARY KEY."""

_APPEND_ONLY = "is append-only: record a correction instead"


def forbid(
    connection: Connection, table: Table, name: str, verb: str, when: str = "TRUE", *, why: str = _APPEND_ONLY
) -> None:
    """Have the database refuse a statement on a table.

    Args:
        connection: To the database.
        table: The table.
        name: Tells this trigger from the table's others.
        verb: ``INSERT``, ``UPDATE`` or ``DELETE``.
        when: An SQL condition over ``NEW`` and ``OLD``; always, by default.
        why: What follows the table's name in the error.
    """
    connection.exec_driver_sql(
        f"CREATE TRIGGER {table.name}_no_{name} BEFORE {verb} ON {table.name} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{table.name} {why}'); END"
    )


def is_there(table: Table) -> str:
    """Whether an INSERT would meet a row: OR REPLACE deletes that one, without a trigger on most connections."""
    key = " AND ".join(f"{column.name} = NEW.{column.name}" for column in table.primary_key)
    found = (f"EXISTS (SELECT 1 FROM {table.name} WHERE {where})" for where in (key, "rowid = NEW.rowid"))  # noqa: S608 - constant names
    return " OR ".join(found)
