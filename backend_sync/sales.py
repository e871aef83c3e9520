"""Sales: what a credential was given, once."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from backend_sync import links, postings
from backend_sync.sales_table import SALE_RECORDED, condition_values, conditions_of
from backend_sync.schema import POSTING, SALE
from backend_sync.wire import MAX_INTEGER
from validator.lists.product_rules import MAX_AMOUNT, breach
from validator.model import CREDENTIAL_ID_BYTES, Assurance
from validator.rights import Product, ProductKind

CHUNK = 1000
"""So many sales are looked up or written at once."""


class SaleConflict(Exception):  # noqa: N818 - names what has to be resolved by hand
    """A sale with this number is recorded, and it is another one."""


class ConcessionRefused(Exception):  # noqa: N818 - the answer to the seller
    """A concession for residents was sold to somebody whose document is no resident's."""


@dataclass(frozen=True, slots=True)
class Sale:
    """One sale; its number is the product's.

    Attributes:
        credential_id: Who may use it, 16 bytes.
        product: What was sold: the rides and the value loaded are those of the start.
        price: Minor units paid.
        sold_ms: Milliseconds since 1970 UTC.

    Raises:
        ValueError: A field that no ledger can keep, or a product that no gate can decide by.
    """

    credential_id: bytes
    product: Product
    price: int
    sold_ms: int

    def __post_init__(self) -> None:
        product = self.product
        if len(self.credential_id) != CREDENTIAL_ID_BYTES:
            raise ValueError(f"sale {product.product_id}: a credential id has {CREDENTIAL_ID_BYTES} bytes")
        for name, number, largest in (("price", self.price, MAX_AMOUNT), ("sold_ms", self.sold_ms, MAX_INTEGER)):
            if not 0 <= number <= largest:
                raise ValueError(f"sale {product.product_id}: {name} {number} is not between 0 and {largest}")
        why = breach(product)
        if why is not None:
            raise ValueError(f"sale {product.product_id}: {why}")


def unrecorded(connection: Connection, sales: Iterable[Sale]) -> list[Sale]:
    """Return the sales that are not recorded yet, each once.

    Raises:
        SaleConflict: Another sale, recorded or among these, has the number of one of them.
        ConcessionRefused: One is for residents, and its credential is of an account that is known to be no resident's.
    """
    by_number: dict[int, Sale] = {}
    for sale in sales:
        number = sale.product.product_id
        if by_number.setdefault(number, sale) != sale:
            raise SaleConflict(f"sale {number} is there twice with different content: give one of them a new number")
    numbers = list(by_number)
    for start in range(0, len(numbers), CHUNK):
        known = connection.execute(select(SALE).where(SALE.c.id.in_(numbers[start : start + CHUNK]))).mappings()
        for row in known.all():
            if dict(row) != _row(by_number.pop(row["id"])):
                raise SaleConflict(f"sale {row['id']} is recorded with other content: give this one a new number")
    _refuse_concessions(connection, list(by_number.values()))
    return list(by_number.values())


def record_sales(connection: Connection, sales: Sequence[Sale]) -> int:
    """Record sales and their postings inside the caller's transaction; return how many are new.

    Raises:
        SaleConflict: Another sale has the number of one of them.
        ConcessionRefused: As for `unrecorded`.
    """
    new = unrecorded(connection, sales)
    if new:
        connection.execute(insert(SALE), [_row(sale) for sale in new])
        connection.execute(insert(SALE_RECORDED), [{"sale": sale.product.product_id} for sale in new])
    moved = [row for sale in new for row in _posting_rows(sale)]
    if moved:
        connection.execute(insert(POSTING), moved)
    return len(new)


def last_row(connection: Connection) -> int:
    """Return the number of the sale that was recorded last, 0 for none: as long as it stays, nothing was sold."""
    return int(connection.execute(select(func.max(SALE_RECORDED.c.id))).scalar() or 0)


def _refuse_concessions(connection: Connection, new: Sequence[Sale]) -> None:
    """What was recorded stays, whoever its passenger has become since."""
    concessions = [sale for sale in new if sale.product.residents_only]
    if not concessions:
        return
    abroad = links.not_residents(connection, {sale.credential_id for sale in concessions})
    for sale in concessions:
        if sale.credential_id in abroad:
            raise ConcessionRefused(
                f"sale {sale.product.product_id}: it is for residents, and the document that this passenger was proved "
                "with is no resident's: sell something else, or have a resident's document linked first"
            )


def product_left(row: Any, rides_used: int, amount_used: int) -> Product:  # noqa: ANN401 - rows of a join have no type
    """Return the product of a row of `SALE` with what is left of it: never below zero, or below its floor."""
    rides, balance = max(0, row.rides - rides_used), max(-row.floor, row.balance - amount_used)
    return Product(
        product_id=row.id,
        kind=ProductKind(row.kind),
        valid_from=row.valid_from,
        valid_until=row.valid_until,
        active_from=row.active_from,
        rides=rides,
        balance=balance,
        fare=row.fare,
        pass_back_s=row.pass_back_s,
        places=frozenset(json.loads(row.places)),
        residents_only=bool(row.residents_only),
        least_assurance=Assurance(row.least_assurance),
        conditions=conditions_of(row),
    )


def _posting_rows(sale: Sale) -> list[dict[str, Any]]:
    product = sale.product
    return [
        {
            "sale": product.product_id,
            "account": posting.account.value,
            "product_id": posting.product_id,
            "unit": posting.unit.value,
            "amount": posting.amount,
        }
        for posting in postings.of_sale(
            product.product_id, rides=product.rides, balance=product.balance, price=sale.price
        )
    ]


def _row(sale: Sale) -> dict[str, Any]:
    product = sale.product
    return {
        "id": product.product_id,
        "credential_id": sale.credential_id,
        "kind": int(product.kind),
        "valid_from": product.valid_from,
        "valid_until": product.valid_until,
        "active_from": product.active_from,
        "rides": product.rides,
        "balance": product.balance,
        "fare": product.fare,
        "pass_back_s": product.pass_back_s,
        "places": json.dumps(sorted(product.places)),
        "residents_only": int(product.residents_only),
        "least_assurance": int(product.least_assurance),
        "price": sale.price,
        "sold_ms": sale.sold_ms,
        **condition_values(product.conditions),
    }
