"""The payload of a ticket list: an SQLite file that is written once and only read afterwards.

It is opened ``immutable``: no locks, no journal, no write, and pages are read as they are needed, so that a million
products cost no memory. `products` is the only question a gate asks of it.
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from validator.lists.errors import ListError
from validator.lists.product_rules import BOUNDS, breach, place_breach
from validator.model import CREDENTIAL_ID_BYTES, Product, ProductKind

APPLICATION_ID = 0x50494C54  # "PILT"
FORMAT = 1
CACHE_KIB = 512
PROGRESS_EVERY = 10_000

_COLUMNS = (
    "credential_id, product_id, kind, valid_from, valid_until, active_from, rides, balance, fare, pass_back_s, places"
)
_SCHEMA = """CREATE TABLE products (
    credential_id BLOB NOT NULL,
    product_id INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    active_from INTEGER NOT NULL,
    rides INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    fare INTEGER NOT NULL,
    pass_back_s INTEGER NOT NULL,
    places TEXT NOT NULL,
    PRIMARY KEY (credential_id, product_id)
) STRICT, WITHOUT ROWID"""
_STAGED = "CREATE TEMP TABLE staged (product_id INTEGER PRIMARY KEY, credential_id, kind, valid_from, valid_until, \
active_from, rides, balance, fare, pass_back_s, places)"
_STAGE = f"INSERT INTO staged ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant column names
_COPY = f"INSERT INTO products ({_COLUMNS}) SELECT {_COLUMNS} FROM staged ORDER BY credential_id, product_id"  # noqa: S608 - the same
_KINDS = ", ".join(str(int(kind)) for kind in ProductKind)
_RULE = (
    f"length(credential_id) = {CREDENTIAL_ID_BYTES} AND kind IN ({_KINDS}) AND valid_from < valid_until AND "
) + " AND ".join(f"{field} BETWEEN {smallest} AND {largest}" for field, (smallest, largest) in BOUNDS.items())
_BREACH = f"SELECT product_id FROM products WHERE NOT ({_RULE}) LIMIT 1"  # noqa: S608 - the same
_PLACES = "SELECT DISTINCT places FROM products"
_FIND = f"SELECT {_COLUMNS} FROM products WHERE credential_id = ? ORDER BY product_id"  # noqa: S608 - the same


class TicketList:
    """An open ticket file. One thread at a time may ask it."""

    def __init__(self, path: Path) -> None:
        """Open a file that was verified before.

        Raises:
            ListError: It is not a ticket list of this format.
        """
        self._path = path
        try:
            self._connection = _open_immutable(path)
            self._connection.pragma("cache_size", -CACHE_KIB)
            found = (self._connection.pragma("application_id"), self._connection.pragma("user_version"))
        except apsw.Error as error:
            raise ListError(path, f"not a ticket list: {error}") from None
        if found != (APPLICATION_ID, FORMAT):
            self._connection.close()
            raise ListError(path, "not a ticket list of this format")

    def products(self, credential_id: bytes) -> list[Product]:
        """Return what a credential holds, in order of product id.

        Raises:
            ListError: The file cannot be read any more.
        """
        try:
            rows = self._connection.execute(_FIND, (credential_id,)).fetchall()
            return [_product(row) for row in rows]
        except (apsw.Error, ValueError) as error:
            raise ListError(self._path, f"cannot be read: {error}") from error

    def check(self) -> None:
        """Read every page and row once; done when a file is installed, not at each start.

        Raises:
            ListError: The file is damaged, or holds another schema than this version writes.
        """
        try:
            schema = self._connection.execute("SELECT sql FROM sqlite_schema").fetchall()
            verdict = self._connection.execute("PRAGMA integrity_check(1)").fetchall()
            broken = self._broken_rule()
            pages = self._connection.pragma("page_count") * self._connection.pragma("page_size")
            length = self._path.stat().st_size
        except (apsw.Error, OSError, ValueError) as error:  # ValueError: text that is not UTF-8
            raise ListError(self._path, f"damaged: {error}") from None
        if length != pages:  # SQLite reads what is missing from the last page as zeros
            raise ListError(self._path, f"damaged: {length} bytes, {pages} are wanted")
        if schema != [(_SCHEMA,)]:
            raise ListError(self._path, "another schema than that of a ticket list")
        if verdict != [("ok",)]:
            raise ListError(self._path, f"damaged: {verdict[0][0]}")
        if broken is not None:
            raise ListError(self._path, broken)

    def _broken_rule(self) -> str | None:
        for (product_id,) in self._connection.execute(_BREACH):
            return f"product {product_id} breaks a rule of products"
        found = (place_breach(_places(column)) for (column,) in self._connection.execute(_PLACES))
        return next((why for why in found if why is not None), None)

    def close(self) -> None:
        """Close the file; harmless when closed already."""
        self._connection.close()


def write_ticket_file(
    path: Path, entries: Iterable[tuple[bytes, Product]], progress: Callable[[int], None] = lambda _count: None
) -> int:
    """Write a ticket file. It is not synchronised to the disk: whoever installs it does that.

    Args:
        path: A file that does not exist yet.
        entries: Credential id and product, in any order; memory does not grow with their number.
        progress: Told the count of products read so far, every ten thousand and at the end.

    Returns:
        The number of products.

    Raises:
        ListError: An entry breaks a rule (`product_rules`), or two share a product id; nothing is left behind.
    """
    if path.exists():
        raise ListError(path, "exists already")
    try:
        return _write(path, entries, progress)
    except apsw.ConstraintError as error:
        path.unlink(missing_ok=True)
        raise ListError(path, f"two entries share a product id: {error}") from None
    except apsw.Error as error:
        path.unlink(missing_ok=True)
        raise ListError(path, f"cannot be written: {error}") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(path: Path, entries: Iterable[tuple[bytes, Product]], progress: Callable[[int], None]) -> int:
    connection = apsw.Connection(str(path))
    try:
        connection.pragma("journal_mode", "off")
        connection.pragma("synchronous", 0)
        connection.pragma("temp_store", 1)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", FORMAT)
        connection.execute(_STAGED)
        count = 0
        rows = (_row(path, credential_id, product) for credential_id, product in entries)
        with connection:
            while chunk := list(itertools.islice(rows, PROGRESS_EVERY)):
                connection.executemany(_STAGE, chunk)
                count += len(chunk)
                progress(count)
            # Sorted, so that the tree is packed page by page and a gate reads as few as it can.
            connection.execute(_SCHEMA)
            connection.execute(_COPY)
        return count
    finally:
        connection.close()


def _row(path: Path, credential_id: bytes, product: Product) -> tuple[bytes | int | str, ...]:
    if len(credential_id) != CREDENTIAL_ID_BYTES:
        raise ListError(path, f"product {product.product_id}: a credential id of {len(credential_id)} bytes")
    why = breach(product)
    if why is not None:
        raise ListError(path, f"product {product.product_id}: {why}")
    return (
        credential_id,
        product.product_id,
        int(product.kind),
        product.valid_from,
        product.valid_until,
        product.active_from,
        product.rides,
        product.balance,
        product.fare,
        product.pass_back_s,
        "\n".join(sorted(product.places)),
    )


def _product(row: tuple[Any, ...]) -> Product:
    _, product_id, kind, valid_from, valid_until, active_from, rides, balance, fare, pass_back_s, places = row
    return Product(
        product_id=product_id,
        kind=ProductKind(kind),
        valid_from=valid_from,
        valid_until=valid_until,
        active_from=active_from,
        rides=rides,
        balance=balance,
        fare=fare,
        pass_back_s=pass_back_s,
        places=_places(places),
    )


def _places(column: str) -> frozenset[str]:
    return frozenset(column.split("\n")) if column else frozenset()


def _open_immutable(path: Path) -> apsw.Connection:
    # mode=ro beside immutable=1: some versions of SQLite open an immutable file for writing unless they are told.
    name = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    return apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
