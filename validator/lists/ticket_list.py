"""The payload of a ticket list: an SQLite file that is written once and only read afterwards.

`products` is the only question a gate asks of it (`validator.lists.immutable_file`).
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apsw

from validator.lists.errors import ListError
from validator.lists.immutable_file import FileFormat, check_whole, open_immutable, stage, write_new
from validator.lists.product_rules import BOUNDS, LEAST_ASSURANCES, breach, place_breach
from validator.model import CREDENTIAL_ID_BYTES, Assurance, Product, ProductKind

_COLUMNS = (
    "credential_id, product_id, kind, valid_from, valid_until, active_from, rides, balance, fare, pass_back_s, places, "
    "residents_only, least_assurance"
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
    residents_only INTEGER NOT NULL,
    least_assurance INTEGER NOT NULL,
    PRIMARY KEY (credential_id, product_id)
) STRICT, WITHOUT ROWID"""
FORMAT = FileFormat("ticket list", 0x50494C54, 3, _SCHEMA)  # "PILT"
_STAGED = "CREATE TEMP TABLE staged (product_id INTEGER PRIMARY KEY, credential_id, kind, valid_from, valid_until, \
active_from, rides, balance, fare, pass_back_s, places, residents_only, least_assurance)"
_STAGE = f"INSERT INTO staged ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - constant column names
_COPY = f"INSERT INTO products ({_COLUMNS}) SELECT {_COLUMNS} FROM staged ORDER BY credential_id, product_id"  # noqa: S608 - the same
_KINDS = ", ".join(str(int(kind)) for kind in ProductKind)
_RUNGS = ", ".join(str(int(rung)) for rung in LEAST_ASSURANCES)
_RULE = (
    f"length(credential_id) = {CREDENTIAL_ID_BYTES} AND kind IN ({_KINDS}) AND valid_from < valid_until AND "
    f"residents_only IN (0, 1) AND least_assurance IN ({_RUNGS}) AND "
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
        self._connection = open_immutable(path, FORMAT)

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
        check_whole(self._connection, self._path, FORMAT)
        try:
            broken = self._broken_rule()
        except (apsw.Error, ValueError) as error:  # ValueError: text that is not UTF-8
            raise ListError(self._path, f"damaged: {error}") from None
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

    def fill(connection: apsw.Connection) -> int:
        connection.execute(_STAGED)
        rows = (_row(path, credential_id, product) for credential_id, product in entries)
        try:
            count = stage(connection, _STAGE, rows, progress)
        except apsw.ConstraintError as error:
            raise ListError(path, f"two entries share a product id: {error}") from None
        # Sorted, so that the tree is packed page by page and a gate reads as few as it can.
        connection.execute(_SCHEMA)
        connection.execute(_COPY)
        return count

    return write_new(path, FORMAT, fill)


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
        int(product.residents_only),
        int(product.least_assurance),
    )


def _product(row: tuple[Any, ...]) -> Product:
    _, product_id, kind, valid_from, valid_until, active_from, rides, balance, fare, pass_back_s, places, *asked = row
    residents, least = asked
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
        residents_only=bool(residents),
        least_assurance=Assurance(least),
    )


def _places(column: str) -> frozenset[str]:
    return frozenset(column.split("\n")) if column else frozenset()
