"""Changes to a ticket snapshot on the wire.

A delta says of some credentials, in ascending order, all that they hold from now on, be it nothing:

    "pilet-ticket-d/1" | snapshot: version, 8 bytes, SHA-256 | state before, 32 bytes | state after, 32 bytes |
    length of the table of shapes, 4 bytes | credentials, 4 bytes | table |
    credential id, 16 bytes | products, 1 byte | number of the shape, 2 bytes, product (`product_rows`), 20 bytes | ...

Shapes of the snapshot have the numbers that they have there; the delta's own table goes on from them, and has only what
is not in the snapshot's. So what changes every few minutes does not carry the same long lists of places each time.

Rides and balances in a delta are those as of the snapshot's horizons, with what was bought since and without what was
ridden since. So a device adds the same own taps to them, whatever tells of the credential.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

from validator.lists.errors import ListError
from validator.lists.product_rows import (
    MAX_SHAPES,
    MAX_TABLE_BYTES,
    NUMBERS,
    SHAPE_NUMBER,
    Shape,
    encode_shapes,
    keeps_rules,
    parse_shapes,
)
from validator.model import CREDENTIAL_ID_BYTES

MAX_CREDENTIALS: Final = 1 << 18
"""In a delta and in an overlay, 30 MB of memory; where there are more, a new snapshot is due."""
MAX_DELTA_BYTES: Final = 32 * 1024 * 1024
MAX_PRODUCTS: Final = 255
"""Of one credential."""

SHAPE_DIGEST_BYTES: Final = 16
HELD_BYTES: Final = SHAPE_DIGEST_BYTES + NUMBERS.size
"""Of one product, where it is held by itself: the digest of its shape, and its numbers."""

_MAGIC: Final = b"pilet-ticket-d/1"
_HEAD: Final = struct.Struct(">16sQ32s32s32sII")
_ROW_BYTES: Final = SHAPE_NUMBER.size + NUMBERS.size


class Snapshot(NamedTuple):
    """The ticket snapshot that changes are changes of.

    Attributes:
        version: Of the list.
        sha256: Of its payload.
        shapes: The table of shapes in its payload.
    """

    version: int
    sha256: bytes
    shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketDelta:
    """What changes from one state to another; `TicketOverlay.delta` makes one.

    Attributes:
        base: The snapshot that it is for.
        before: State of the overlay that it fits.
        after: State of the overlay that comes out.
        shapes: Of the products in it, by their digests.
        held: By credential id, all products of each: the digest of the shape, and the product.
    """

    base: Snapshot
    before: bytes
    after: bytes
    shapes: Mapping[bytes, Shape]
    held: Mapping[bytes, bytes]


def encode_ticket_delta(delta: TicketDelta) -> bytes:
    """Encode a delta; `parse_ticket_delta` gives it back.

    Raises:
        ListError: It has too many shapes.
    """
    version, sha256, known = delta.base
    used = {digest: delta.shapes[digest] for held in delta.held.values() for digest, _ in parts_of(held)}
    table, order = encode_shapes(set(used.values()).difference(known))
    if len(known) + len(order) > MAX_SHAPES:
        raise ListError("ticket delta", f"{len(order)} new shapes beside {len(known)} are too many")
    place = {shape: number for number, shape in enumerate((*known, *order))}
    numbers = {digest: SHAPE_NUMBER.pack(place[shape]) for digest, shape in used.items()}
    parts = [_HEAD.pack(_MAGIC, version, sha256, delta.before, delta.after, len(table), len(delta.held)), table]
    for credential_id, held in sorted(delta.held.items()):
        parts += (credential_id, bytes([len(held) // HELD_BYTES]))
        for digest, at in parts_of(held):
            parts += (numbers[digest], held[at : at + NUMBERS.size])
    return b"".join(parts)


def parse_ticket_delta(payload: bytes, base: Snapshot, where: object = "ticket delta") -> TicketDelta:
    """Parse a delta.

    Args:
        payload: Its bytes.
        base: The snapshot that it has to be for.
        where: What to call the delta in an error.

    Raises:
        ListError: It is for another snapshot, is not what `encode_ticket_delta` makes of any delta, or a product in it
            breaks a rule.
    """
    if not _HEAD.size <= len(payload) <= MAX_DELTA_BYTES or not payload.startswith(_MAGIC):
        raise ListError(where, "not a ticket delta")
    _, version, sha256, before, after, table_bytes, count = _HEAD.unpack_from(payload)
    if (version, sha256) != (base.version, base.sha256):
        raise ListError(where, f"is for snapshot {version} {sha256.hex()}, this is {base.version} {base.sha256.hex()}")
    at = _HEAD.size + table_bytes
    if count > MAX_CREDENTIALS or table_bytes > MAX_TABLE_BYTES or at > len(payload):
        raise ListError(where, f"{count} credentials and {table_bytes} bytes of shapes are too many, or not there")
    own = parse_shapes(payload[_HEAD.size : at], where)
    shapes = _Numbered((*base.shapes, *own))
    held: dict[bytes, bytes] = {}
    ids, last = list[int](), b""
    for _ in range(count):
        rows_at = at + CREDENTIAL_ID_BYTES + 1
        credential_id, rows = payload[at : rows_at - 1], int.from_bytes(payload[rows_at - 1 : rows_at])
        at = rows_at + _ROW_BYTES * rows
        if at > len(payload) or credential_id <= last:
            raise ListError(where, f"credential {credential_id.hex()} is cut off, or not after the one before it")
        found = [_checked(payload, row, shapes, where) for row in range(rows_at, at, _ROW_BYTES)]
        if any(one[0] >= other[0] for one, other in pairwise(found)):
            raise ListError(where, f"products of credential {credential_id.hex()} are not in order")
        held[credential_id], last = b"".join([octets for _, octets in found]), credential_id
        ids += [product_id for product_id, _ in found]
    used = shapes.used()
    if at != len(payload) or len(set(ids)) != len(ids):
        raise ListError(where, "has bytes after its end, or a product that two credentials hold")
    if not set(own) <= set(used.values()) - set(base.shapes):
        raise ListError(where, "has a shape that the snapshot has, or that no product has")
    return TicketDelta(base, before, after, used, held)


class _Numbered:
    """Shapes by their numbers, of which only those that are used get a digest."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        self._shapes = shapes
        self._digests: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, number: int) -> tuple[bytes, Shape]:
        if number not in self._digests:
            self._digests[number] = shape_digest(self._shapes[number])
        return self._digests[number], self._shapes[number]

    def used(self) -> dict[bytes, Shape]:
        return {digest: self._shapes[number] for number, digest in self._digests.items()}


def _checked(payload: bytes, at: int, shapes: _Numbered, where: object) -> tuple[int, bytes]:
    number = SHAPE_NUMBER.unpack_from(payload, at)[0]
    if number >= len(shapes):
        raise ListError(where, f"a product has shape {number}, {len(shapes)} are there")
    digest, shape = shapes[number]
    numbers = payload[at + SHAPE_NUMBER.size : at + _ROW_BYTES]
    lower_id, lower_from, lower_until, _, amount = NUMBERS.unpack(numbers)
    if not keeps_rules(shape, lower_id, lower_from, lower_until, amount):
        raise ListError(where, f"product {shape.upper_id | lower_id} breaks a rule of products")
    return shape.upper_id | lower_id, digest + numbers


def parts_of(held: bytes) -> Iterator[tuple[bytes, int]]:
    """Go through what a credential holds: the digest of each product's shape, and where its numbers begin."""
    for at in range(0, len(held), HELD_BYTES):
        yield held[at : at + SHAPE_DIGEST_BYTES], at + SHAPE_DIGEST_BYTES


def shape_digest(shape: Shape) -> bytes:
    """Return what a shape is known by where there is no table, 16 bytes."""
    return blake2b(encode_shapes([shape])[0], digest_size=SHAPE_DIGEST_BYTES).digest()
