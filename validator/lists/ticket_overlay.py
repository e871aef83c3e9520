"""A gate's overlay of all ticket deltas since the snapshot.

Credentials stand in 4096 buckets by the first bits of their ids. The state hash covers a digest of each bucket, so that
a delta costs time by its own length and not by the overlay's, and two devices with the same hash hold the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Final, NamedTuple

from validator.lists.errors import ListError
from validator.lists.product_rows import Shape, numbers_of, position, product_of, shape_of
from validator.lists.product_rules import breach
from validator.lists.ticket_delta import (
    HELD_BYTES,
    MAX_CREDENTIALS,
    MAX_PRODUCTS,
    Snapshot,
    TicketDelta,
    encode_ticket_delta,
    parse_ticket_delta,
    parts_of,
    shape_digest,
)
from validator.model import CREDENTIAL_ID_BYTES
from validator.rights import Product

_BUCKETS: Final = 4096
_DIGEST_BYTES: Final = 16

_Bucket = tuple[bytes, tuple[bytes, ...]]
"""Credential ids one after the other, ascending, and what each holds."""
_EMPTY: Final[_Bucket] = (b"", ())


class _Contents(NamedTuple):
    buckets: list[_Bucket]
    digests: bytes
    shapes: Mapping[bytes, Shape]
    credentials: int


class TicketOverlay:
    """All changes since a snapshot; never altered, `with_delta` makes another one that shares what did not change.

    Attributes:
        base: The snapshot.
        state: Names what it holds, 32 bytes.
    """

    __slots__ = ("_contents", "base", "state")

    def __init__(self, base: Snapshot, contents: _Contents | None = None) -> None:
        """Begin without changes, or with those that another overlay made."""
        self.base = base
        self._contents = contents or _Contents([_EMPTY] * _BUCKETS, _bucket_digest(_EMPTY) * _BUCKETS, {}, 0)
        self.state = _state(base, self._contents.digests)

    def __len__(self) -> int:
        """Return how many credentials were changed since the snapshot."""
        return self._contents.credentials

    def products(self, credential_id: bytes) -> list[Product] | None:
        """Return what a credential holds, in order of product id; None where the snapshot still says it."""
        if len(credential_id) != CREDENTIAL_ID_BYTES:
            return None
        ids, held = self._contents.buckets[_bucket(credential_id)]
        place = position(ids, credential_id, 0, len(ids))
        if place is None:
            return None
        return [product_of(self._contents.shapes[digest], held[place], at) for digest, at in parts_of(held[place])]

    def delta(self, changes: Mapping[bytes, Iterable[Product]]) -> TicketDelta:
        """Return the delta that says anew what some credentials hold.

        Args:
            changes: All products of each, by credential id; none for one that shall hold nothing.

        Raises:
            ListError: A product or an id breaks a rule, or there would be too many.
        """
        shapes, held = dict[bytes, Shape](), dict[bytes, bytes]()
        digests: dict[Shape, bytes] = {}
        for credential_id, products in changes.items():
            parts: list[bytes] = []
            for product in sorted(products, key=lambda product: product.product_id):
                why = breach(product)
                if why is not None:
                    raise ListError("ticket delta", f"product {product.product_id}: {why}")
                shape = shape_of(product)
                if shape not in digests:
                    digests[shape] = shape_digest(shape)
                    shapes[digests[shape]] = shape
                parts += (digests[shape], numbers_of(product))
            if len(credential_id) != CREDENTIAL_ID_BYTES or len(parts) > 2 * MAX_PRODUCTS:
                why = f"{len(parts) // 2} products of a credential with an id of {len(credential_id)} bytes"
                raise ListError("ticket delta", why)
            held[credential_id] = b"".join(parts)
        unfinished = TicketDelta(self.base, self.state, b"", shapes, held)
        finished = replace(unfinished, after=self._merged(unfinished).state)
        return parse_ticket_delta(encode_ticket_delta(finished), self.base)

    def with_delta(self, delta: TicketDelta) -> "TicketOverlay":
        """Return the overlay after a delta.

        Raises:
            ListError: It is for another snapshot, fits another state, makes the overlay too large, or does not lead to
                the state that it says.
        """
        where = f"ticket delta to {delta.after.hex()[:16]}"
        if delta.base != self.base:
            raise ListError(where, f"is for snapshot {delta.base.version}, this is another: {self.base.version}")
        if delta.before != self.state:
            raise ListError(where, f"fits state {delta.before.hex()}, this is {self.state.hex()}")
        after = self._merged(delta)
        if after.state != delta.after:
            raise ListError(where, f"leads to state {after.state.hex()}")
        return after

    def encode(self) -> bytes:
        """Return the cumulative delta, from the snapshot to here; `parse_overlay` makes the same overlay of it."""
        held = {
            ids[at : at + CREDENTIAL_ID_BYTES]: octets
            for ids, rows in self._contents.buckets
            for at, octets in zip(range(0, len(ids), CREDENTIAL_ID_BYTES), rows, strict=True)
        }
        begin = TicketOverlay(self.base)
        return encode_ticket_delta(TicketDelta(self.base, begin.state, self.state, self._contents.shapes, held))

    def _merged(self, delta: TicketDelta) -> "TicketOverlay":
        touched: dict[int, dict[bytes, bytes]] = {}
        for credential_id, octets in delta.held.items():
            touched.setdefault(_bucket(credential_id), {})[credential_id] = octets
        buckets, digests = list(self._contents.buckets), bytearray(self._contents.digests)
        count = self._contents.credentials
        for number, news in touched.items():
            ids, rows = buckets[number]
            known = (ids[at : at + CREDENTIAL_ID_BYTES] for at in range(0, len(ids), CREDENTIAL_ID_BYTES))
            merged = sorted({**dict(zip(known, rows, strict=True)), **news}.items())
            buckets[number] = b"".join([each for each, _ in merged]), tuple([octets for _, octets in merged])
            digests[_DIGEST_BYTES * number : _DIGEST_BYTES * (number + 1)] = _bucket_digest(buckets[number])
            count += len(merged) - len(rows)
        if count > MAX_CREDENTIALS:
            raise ListError("ticket delta", f"{count} credentials would be changed, {MAX_CREDENTIALS} may be")
        shapes = {**self._contents.shapes, **delta.shapes}
        return TicketOverlay(self.base, _Contents(buckets, bytes(digests), shapes, count))


def parse_overlay(payload: bytes, base: Snapshot, where: object = "ticket overlay") -> TicketOverlay:
    """Make an overlay of a cumulative delta.

    Raises:
        ListError: It is no delta, is for another snapshot, or does not begin with the snapshot itself.
    """
    return TicketOverlay(base).with_delta(parse_ticket_delta(payload, base, where))


def _bucket(credential_id: bytes) -> int:
    return int.from_bytes(credential_id[:2]) * _BUCKETS >> 16


def _bucket_digest(bucket: _Bucket) -> bytes:
    ids, rows = bucket
    lengths = bytes([len(octets) // HELD_BYTES for octets in rows])
    return blake2b(ids + lengths + b"".join(rows), digest_size=_DIGEST_BYTES).digest()


def _state(base: Snapshot, digests: bytes) -> bytes:
    return blake2b(base.version.to_bytes(8) + base.sha256 + digests, digest_size=32, person=b"pilet-tickets").digest()
