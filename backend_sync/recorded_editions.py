"""The editions of the tariff that a ledger prices by: recorded as they are published, never changed.

An edition that is published later and begins earlier takes the place of what would have begun with it or after it, as
it does at the gates (`backend_sync.tariff_command.succeed`).
"""

from collections.abc import Iterable

from sqlalchemy import Connection, func, insert, select

from backend_sync.settlement_tables import EDITION
from validator.fares.editions import Edition, Editions, encode_editions, parse_editions


class EditionRefused(Exception):  # noqa: N818 - the answer to who publishes a tariff
    """Another edition than the one that the ledger knows by its number."""


def last_edition(connection: Connection) -> int:
    """Return the greatest number of an edition; 0 where there is none."""
    return int(connection.execute(select(func.max(EDITION.c.number))).scalar() or 0)


def record_editions(connection: Connection, editions: Iterable[Edition], recorded_ms: int) -> int:
    """Record editions inside the caller's transaction; those that are there already change nothing.

    Returns:
        How many are new.

    Raises:
        EditionRefused: One has the number of another.
    """
    new = 0
    for edition in editions:
        octets = encode_editions([edition])
        found = connection.execute(select(EDITION.c.octets).where(EDITION.c.number == edition.version)).scalar()
        if found == octets:
            continue
        if found is not None:
            raise EditionRefused(f"edition {edition.version}: the ledger knows another one by that number")
        row = {"number": edition.version, "from_s": edition.from_s, "octets": octets, "recorded_ms": recorded_ms}
        connection.execute(insert(EDITION), row)
        new += 1
    return new


def recorded_editions(connection: Connection) -> Editions:
    """Return the editions that hold or held, each from its moment on."""
    kept: list[Edition] = []
    for row in connection.execute(select(EDITION).order_by(EDITION.c.number)):
        kept = [each for each in kept if each.from_s < row.from_s]
        kept += parse_editions(row.octets, f"edition {row.number} of the ledger").editions
    return Editions(kept)
