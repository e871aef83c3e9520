"""How millions of products are written in few bytes: what they have in common in a table, the rest in 20 bytes each.

    product = product id | valid from | valid until | active from | amount, the lower 4 bytes of each

The amount is rides for a carnet and, for what else there is, how far the balance is above the floor. A shape is what
many products have in common, and the upper halves of their numbers. Shapes stand in a table, a msgpack array, and are
numbered in its order from 0:

    [1, [[place, ...], ...], [[kind, fare, pass-back, places, residents only, least assurance, upper halves of product
     id, valid from, valid until and active from, the other amount], ...]]

Where a shape has conditions the table has format 2: each row ends with the number of its conditions, and these follow:

    [2, [[place, ...], ...], [[..., the other amount, conditions], ...], [[rider, medium, riders, [zone, ...],
     [network, ...], [[from minute, until minute, weekdays], ...], day starts, scheme, floor, proof until], ...]]

The same shapes have one table. No product takes more octets for having conditions.
"""

import struct
from collections.abc import Iterable
from typing import Annotated, Final, Literal, NamedTuple

import msgpack
import msgspec

from validator.conditions import ORDINARY, Conditions, TimeFrame
from validator.entry import MAX_INTEGER
from validator.lists.errors import ListError
from validator.lists.product_rules import MAX_AMOUNT, breach
from validator.model import CREDENTIAL_ID_BYTES, Assurance
from validator.rights import Product, ProductKind

FORMAT: Final = 1
FORMAT_WITH_CONDITIONS: Final = 2
NUMBERS: Final = struct.Struct(">5I")
SHAPE_NUMBER: Final = struct.Struct(">H")
MAX_SHAPES: Final = 1 << 16
MAX_TABLE_BYTES: Final = 16 * 1024 * 1024

_LOWER: Final = 2**32 - 1
_CARNET: Final = ProductKind.CARNET


class Shape(NamedTuple):
    """What many products have in common; see `Product` for what is not said here.

    Attributes:
        kind: What was sold.
        fare: Minor units.
        pass_back_s: Seconds.
        places: Where it is valid.
        residents_only: A concession.
        least_assurance: What a card has to prove.
        upper_id: The product id without its lower 32 bits, and so the others.
        upper_from: Of `valid_from`.
        upper_until: Of `valid_until`.
        upper_active: Of `active_from`.
        other: Balance of a carnet, rides of what is none; nobody but a test sells both.
        conditions: What most products do not say.
    """

    kind: ProductKind
    fare: int
    pass_back_s: int
    places: frozenset[str]
    residents_only: bool
    least_assurance: Assurance
    upper_id: int
    upper_from: int
    upper_until: int
    upper_active: int
    other: int
    conditions: Conditions = ORDINARY


def shape_of(product: Product) -> Shape:
    """Return the one shape that a product has."""
    return Shape(
        product.kind,
        product.fare,
        product.pass_back_s,
        product.places,
        product.residents_only,
        product.least_assurance,
        product.product_id & ~_LOWER,
        product.valid_from & ~_LOWER,
        product.valid_until & ~_LOWER,
        product.active_from & ~_LOWER,
        product.balance if product.kind is _CARNET else product.rides,
        product.conditions,
    )


def numbers_of(product: Product) -> bytes:
    """Return what a product does not share with others of its shape, 20 bytes; it keeps to the rules of products."""
    return NUMBERS.pack(
        product.product_id & _LOWER,
        product.valid_from & _LOWER,
        product.valid_until & _LOWER,
        product.active_from & _LOWER,
        product.rides if product.kind is _CARNET else product.balance + product.conditions.floor,
    )


def product_of(shape: Shape, octets: bytes, at: int) -> Product:
    """Read a product whose numbers begin at a place.

    Raises:
        struct.error: The octets end before.
    """
    lower_id, lower_from, lower_until, lower_active, amount = NUMBERS.unpack_from(octets, at)
    kind, fare, pass_back_s, places, residents, least = shape[:6]
    upper_id, upper_from, upper_until, upper_active, other, conditions = shape[6:]
    rides, balance = (amount, other) if kind is _CARNET else (other, amount - conditions.floor)
    return Product(
        upper_id | lower_id,
        kind,
        upper_from | lower_from,
        upper_until | lower_until,
        upper_active | lower_active,
        rides,
        balance,
        fare,
        pass_back_s,
        places,
        residents,
        least,
        conditions,
    )


def keeps_rules(shape: Shape, lower_id: int, lower_from: int, lower_until: int, amount: int) -> bool:
    """Whether a product of a shape keeps to the rules; `parse_shapes` has seen to those that the shape alone breaks."""
    return (
        shape.upper_id | lower_id > 0
        and shape.upper_from | lower_from < shape.upper_until | lower_until
        and amount <= MAX_AMOUNT
    )


_Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
_Upper = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER >> 32)]
_Row = tuple[ProductKind, _Amount, _Amount, _Amount, bool, Assurance, _Upper, _Upper, _Upper, _Upper, _Amount]
_LongRow = tuple[
    ProductKind, _Amount, _Amount, _Amount, bool, Assurance, _Upper, _Upper, _Upper, _Upper, _Amount, _Amount
]
_Told = tuple[str, str, int, list[str], list[str], list[TimeFrame], int, str, int, int]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    """The table of shapes on the wire."""

    format: Literal[1]
    places: list[list[str]]
    shapes: Annotated[list[_Row], msgspec.Meta(max_length=MAX_SHAPES)]


class _LongWire(msgspec.Struct, array_like=True, frozen=True):
    """The same where a shape has conditions."""

    format: Literal[2]
    places: list[list[str]]
    shapes: Annotated[list[_LongRow], msgspec.Meta(max_length=MAX_SHAPES)]
    conditions: list[_Told]


def encode_shapes(shapes: Iterable[Shape]) -> tuple[bytes, list[Shape]]:
    """Encode a table of shapes; the same shapes in any order, and twice, give the same bytes.

    Returns:
        The table, and the shapes in the order that it numbers them in, from 0.
    """
    wanted = set(shapes)
    places = sorted({tuple(sorted(shape.places)) for shape in wanted})
    number = {frozenset(names): index for index, names in enumerate(places)}
    conditions = sorted({shape.conditions for shape in wanted}, key=_told)
    among = {each: index for index, each in enumerate(conditions)}
    long = any(each != ORDINARY for each in conditions)
    rows = {}
    for shape in wanted:
        shared = (int(shape.kind), *shape[1:3], number[shape.places], shape.residents_only, int(shape.least_assurance))
        uppers = tuple(part >> 32 for part in shape[6:10])
        rows[(*shared, *uppers, shape.other, *([among[shape.conditions]] if long else []))] = shape
    table = [FORMAT_WITH_CONDITIONS if long else FORMAT, places, sorted(rows)]
    order = [rows[row] for row in sorted(rows)]
    return msgpack.packb([*table, [_told(each) for each in conditions]] if long else table), order


def parse_shapes(table: bytes, where: object) -> list[Shape]:
    """Parse a table of shapes.

    Raises:
        ListError: It is not what `encode_shapes` makes of any shapes, or one breaks a rule of products.
    """
    try:
        wire = _read(msgpack.unpackb(table))
        places = [frozenset(names) for names in wire.places]
        conditions = [_conditions(told) for told in wire.conditions]
        shapes = [_shape(row, places, conditions) for row in wire.shapes]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a table of shapes: {error}") from None
    for shape in shapes:
        why = breach(Product(1, shape.kind, 0, 1, 0, 0, 0, *shape[1:6], shape.conditions))
        if why is not None:
            raise ListError(where, f"a shape of products: {why}")
    if encode_shapes(shapes)[0] != table:
        raise ListError(where, "its table of shapes is not in the one form that it has")
    return shapes


def _read(told: object) -> _LongWire:
    """Read either format as if it had conditions."""
    if isinstance(told, list) and told[:1] == [FORMAT_WITH_CONDITIONS]:
        return msgspec.convert(told, _LongWire, builtin_types=(bytes,))
    wire = msgspec.convert(told, _Wire, builtin_types=(bytes,))
    return _LongWire(FORMAT_WITH_CONDITIONS, wire.places, [(*row, 0) for row in wire.shapes], [_told(ORDINARY)])


def _shape(row: _LongRow, places: list[frozenset[str]], conditions: list[Conditions]) -> Shape:
    kind, fare, pass_back_s, number, residents, least, *_ = row
    upper_id, upper_from, upper_until, upper_active, other, told = row[6:]
    uppers = (upper_id << 32, upper_from << 32, upper_until << 32, upper_active << 32)
    return Shape(kind, fare, pass_back_s, places[number], residents, least, *uppers, other, conditions[told])


def _told(conditions: Conditions) -> _Told:
    """Return conditions as they are written."""
    rider, medium, riders, zones, networks, frames, day_starts_s, scheme, floor, proof_until = conditions
    sets = (sorted(zones), sorted(networks), sorted(frames))
    return (rider, medium, riders, *sets, day_starts_s, scheme, floor, proof_until)


def _conditions(told: _Told) -> Conditions:
    rider, medium, riders, zones, networks, frames = told[:6]
    return Conditions(rider, medium, riders, frozenset(zones), frozenset(networks), frozenset(frames), *told[6:])


def position(column: bytes, credential_id: bytes, start: int, end: int) -> int | None:
    """Return at which place of a column of credential ids one stands first; None where it does not.

    Args:
        column: Octets, of which the column is a part.
        credential_id: 16 bytes.
        start: Where the column begins in them.
        end: Where it ends.
    """
    at = column.find(credential_id, start, end)
    while at >= 0 and (at - start) % CREDENTIAL_ID_BYTES:
        at = column.find(credential_id, at + 1, end)
    return None if at < 0 else (at - start) // CREDENTIAL_ID_BYTES
