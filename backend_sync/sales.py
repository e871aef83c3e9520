"""Sales: what a credential was given, once."""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from backend_sync import postings
from backend_sync.schema import POSTING, SALE
from backend_sync.wire import MAX_INTEGER
from validator.model import CREDENTIAL_ID_BYTES, Product, ProductKind


class SaleConflict(Exception):  # noqa: N818 - names what has to be resolved by hand
    """A sale with this number is recorded, and it is another one."""


@dataclass(frozen=True, slots=True)
class Sale:
    """One sale; its number is the product's.

    Attributes:
        credential_id: Who may use it, 16 bytes.
        product: What was sold: the rides and the value loaded are those of the start.
        price: Minor units paid.
        sold_ms: Milliseconds since 1970 UTC.

    Raises:
        ValueError: A field that no ledger can keep.
    """

    credential_id: bytes
    product: Product
    price: int
    sold_ms: int

    def __post_init__(self) -> None:
        product = self.product
        if len(self.credential_id) != CREDENTIAL_ID_BYTES:
            raise ValueError(f"sale {product.product_id}: a credential id has {CREDENTIAL_ID_BYTES} bytes")
        numbers = {
            "product_id": product.product_id,
            "valid_from": product.valid_from,
            "valid_until": product.valid_until,
            "active_from": product.active_from,
            "rides": product.rides,
            "balance": product.balance,
            "fare": product.fare,
            "pass_back_s": product.pass_back_s,
            "price": self.price,
            "sold_ms": self.sold_ms,
        }
        for name, number in numbers.items():
            if not 0 <= number <= MAX_INTEGER:
                raise ValueError(f"sale {product.product_id}: {name} {number} is not between 0 and 2**63-1")


def record_sale(connection: Connection, sale: Sale) -> bool:
    """Record a sale and its postings inside the caller's transaction; return whether it is new.

    Raises:
        SaleConflict: Another sale has its number.
    """
    row = _row(sale)
    there = connection.execute(select(SALE).where(SALE.c.id == sale.product.product_id)).mappings().first()
    if there is not None:
        if dict(there) != row:
            raise SaleConflict(
                f"sale {sale.product.product_id} is recorded with other content: give this one a new number"
            )
        return False
    connection.execute(insert(SALE), row)
    moved = [
        {
            "sale": sale.product.product_id,
            "account": posting.account.value,
            "product_id": posting.product_id,
            "unit": posting.unit.value,
            "amount": posting.amount,
        }
        for posting in postings.of_sale(
            sale.product.product_id, rides=sale.product.rides, balance=sale.product.balance, price=sale.price
        )
    ]
    if moved:
        connection.execute(insert(POSTING), moved)
    return True


def product_of(row: Any, rides: int, balance: int) -> Product:  # noqa: ANN401 - rows of a join have no type of their own
    """Return the product of a row of `SALE` with what is left of it."""
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
    )


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
        "price": sale.price,
        "sold_ms": sale.sold_ms,
    }
