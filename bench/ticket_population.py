"""The accounts of a region and what they hold, made from their numbers: nothing of it is kept in memory."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from validator.model import CREDENTIAL_ID_BYTES, NEVER
from validator.rights import Product, ProductKind

DAY: Final = 86_400
NOW: Final = 1_790_000_000
FIRST_SALE: Final = 2**32 - 4_000_000
"""Sales were counted for some years; their numbers pass 32 bits among those that are on the list."""

HOLDERS_FILE: Final = "holders"
"""Ids of the cards that tap at the gate, one after the other."""
SNAPSHOTS: Final = 2
CHANGES: Final = 8

_ZONES: Final = [
    frozenset(f"Stop {zone}-{stop}" for zone in range(first, last + 1) for stop in range(30))
    for first in range(1, 6)
    for last in range(first, 6)
]


def entries(records: int) -> Iterator[tuple[bytes, Product]]:
    """Most accounts hold one period pass or one purse, few a carnet; one in fifty holds a second product."""
    for number in range(records):
        drawn = hashlib.sha256((number - (number % 50 == 49)).to_bytes(8)).digest()
        place = _ZONES[drawn[16] % len(_ZONES)] if drawn[17] & 1 else frozenset[str]()
        start = NOW - drawn[18] * DAY
        product_id = FIRST_SALE + number
        if drawn[19] < 140:
            end = start + (30, 90, 365)[drawn[20] % 3] * DAY
            sold = Product(product_id, ProductKind.PERIOD_PASS, start, end, start + 600, pass_back_s=600, places=place)
        elif drawn[19] < 240:
            cents = int.from_bytes(drawn[21:23]) % 10_000
            fare = (150, 120, 75)[drawn[20] % 3]
            sold = Product(product_id, ProductKind.STORED_VALUE, start, NEVER, start, balance=cents, fare=fare)
        else:
            sold = Product(product_id, ProductKind.CARNET, start, start + 365 * DAY, start, rides=drawn[20] % 10)
        yield drawn[:CREDENTIAL_ID_BYTES], sold


def sales(first: int, count: int) -> Iterator[tuple[bytes, list[Product]]]:
    """Credentials that are not in the snapshot, and what they bought since."""
    for number, (_, product) in enumerate(entries(first + count)):
        if number >= first:
            yield hashlib.sha256(b"sale %d" % number).digest()[:CREDENTIAL_ID_BYTES], [product]


def a_pass(number: int) -> Product:
    """A pass for a card that taps; such sales come before all others."""
    return Product(number + 1, ProductKind.PERIOD_PASS, NOW, NEVER, NOW)


def holders(path: Path) -> Iterator[tuple[bytes, Product]]:
    """What the snapshot says of the cards that tap at the gate."""
    ids = path.read_bytes()
    for number, at in enumerate(range(0, len(ids), CREDENTIAL_ID_BYTES)):
        yield ids[at : at + CREDENTIAL_ID_BYTES], a_pass(number)
