"""Large objects in pieces that are named by what they hold, so that a transfer goes on where it was cut off.

An index lists the chunks of one object; the catalogue lists the index by its SHA-256. On the wire an index is a msgpack
array ``[1, chunk size, length, digests]``, the digests of 32 bytes each one after the other. Every chunk is verified
before it gets its name on the disk, and once more when it is used: chunks are not synchronised one by one, so a power
cut may leave one that is not what its name says, and then it is asked for again.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal

import msgpack
import msgspec

from backend_sync.catalogue.durable import INCOMING, sync_folder, write_durably
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.fetching import Fetch, fetch_whole, object_name
from backend_sync.catalogue.target import MAX_INDEX_BYTES, IndexReference, Target

FORMAT: Final = 1
CHUNK_BYTES: Final = 128 * 1024
"""Size of all chunks but the last: a message that no broker refuses."""
LEAST_CHUNK_BYTES: Final = 1024
GREATEST_CHUNK_BYTES: Final = 1024 * 1024
_DIGEST_BYTES = 32


class _Wire(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    chunk_bytes: Annotated[int, msgspec.Meta(ge=LEAST_CHUNK_BYTES, le=GREATEST_CHUNK_BYTES)]
    length: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    digests: bytes


@dataclass(frozen=True, slots=True)
class Index:
    """What an object is made of.

    Attributes:
        chunk_bytes: Size of each chunk but the last.
        length: Of the object, in bytes.
        digests: SHA-256 of each chunk, in order.
    """

    chunk_bytes: int
    length: int
    digests: tuple[bytes, ...]

    def chunks(self) -> Iterator[tuple[str, int]]:
        """Yield the SHA-256, hexadecimal, and the length of each chunk."""
        for number, digest in enumerate(self.digests):
            yield digest.hex(), min(self.chunk_bytes, self.length - number * self.chunk_bytes)


def encode_index(index: Index) -> bytes:
    """Return the bytes of an index."""
    encoded: bytes = msgpack.packb([FORMAT, index.chunk_bytes, index.length, b"".join(index.digests)])
    return encoded


def decode_index(data: bytes, where: object) -> Index:
    """Parse an index.

    Raises:
        CatalogueRefused: MALFORMED or ENDLESS_DATA.
    """
    if len(data) > MAX_INDEX_BYTES:
        raise CatalogueRefused(Refusal.ENDLESS_DATA, where, f"an index of {len(data)} bytes")
    try:
        wire = msgspec.convert(msgpack.unpackb(data), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise CatalogueRefused(Refusal.MALFORMED, where, f"not an index of chunks: {error}") from None
    wanted = -(-wire.length // wire.chunk_bytes)
    if len(wire.digests) != wanted * _DIGEST_BYTES:
        why = f"{wire.length} bytes are {wanted} chunks, and it has {len(wire.digests)} bytes of digests"
        raise CatalogueRefused(Refusal.MALFORMED, where, why)
    digests = tuple(wire.digests[at : at + _DIGEST_BYTES] for at in range(0, len(wire.digests), _DIGEST_BYTES))
    return Index(wire.chunk_bytes, wire.length, digests)


@dataclass(frozen=True, slots=True)
class Split:
    """An object that was taken apart.

    Attributes:
        length: In bytes.
        sha256: Of the whole, hexadecimal.
        index: Names the index of its chunks.
    """

    length: int
    sha256: str
    index: IndexReference


def split(payload: Path, objects: Path, chunk_bytes: int = CHUNK_BYTES) -> Split:
    """Write the chunks of a file, and their index, into a folder of objects; those that are there are left alone.

    Raises:
        OSError: The file cannot be read, or a chunk not be written.
        ValueError: The file is so long that its index would be longer than an index may be.
    """
    digests: list[bytes] = []
    whole, length = hashlib.sha256(), 0
    with payload.open("rb") as file:
        while chunk := file.read(chunk_bytes):
            whole.update(chunk)
            length += len(chunk)
            digests.append(hashlib.sha256(chunk).digest())
            if len(digests) * _DIGEST_BYTES > MAX_INDEX_BYTES - 64:
                raise ValueError(f"{payload}: too long for chunks of {chunk_bytes} bytes")
            _store_new(objects, digests[-1].hex(), chunk)
    encoded = encode_index(Index(chunk_bytes, length, tuple(digests)))
    name = hashlib.sha256(encoded).hexdigest()
    _store_new(objects, name, encoded)
    return Split(length, whole.hexdigest(), IndexReference(name, len(encoded)))


def collect(fetch: Fetch, target: Target, store: Path, destination: Path) -> None:
    """Get a target: ask for what the disk does not have yet, then put it together.

    Args:
        fetch: Whom to ask.
        target: What the verified catalogue says of it.
        store: A folder for chunks, kept between attempts; made if it is not there.
        destination: The file to put in place, whole and synchronised.

    Raises:
        CatalogueRefused: Something does not come, is not what it should be, or cannot be stored. What came and was good
            stays in `store`, so that the next attempt goes on from there; `destination` is untouched.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        index = _index_of(fetch, target, store)
        for sha256, length in index.chunks():
            if _stored(store, sha256, length) is None:
                _store(store, sha256, _fetch_verified(fetch, sha256, length))
        _assemble(target, index, store, destination)
    except OSError as error:
        raise CatalogueRefused(Refusal.STORAGE, error.filename or destination, error.strerror or str(error)) from error


def _index_of(fetch: Fetch, target: Target, store: Path) -> Index:
    reference = target.index
    encoded = _stored(store, reference.sha256, reference.length)
    if encoded is None:
        encoded = _fetch_verified(fetch, reference.sha256, reference.length)
        _store(store, reference.sha256, encoded)
    index = decode_index(encoded, object_name(reference.sha256))
    if index.length != target.length:
        why = f"its index is of {index.length} bytes, the catalogue says {target.length}"
        raise CatalogueRefused(Refusal.MIX_AND_MATCH, target.path, why)
    return index


def _fetch_verified(fetch: Fetch, sha256: str, length: int) -> bytes:
    name = object_name(sha256)
    try:
        content = fetch_whole(fetch, name, length)
    except FileNotFoundError:
        raise CatalogueRefused(Refusal.NOT_REACHED, name, "is listed, and not published") from None
    if len(content) != length or hashlib.sha256(content).hexdigest() != sha256:
        raise CatalogueRefused(Refusal.MIX_AND_MATCH, name, "is not what its name says")
    return content


def _stored(store: Path, sha256: str, length: int) -> bytes | None:
    """Return an object that is on the disk and is what its name says."""
    try:
        with (store / sha256).open("rb") as file:
            content = file.read(length + 1)
    except FileNotFoundError:
        return None
    return content if len(content) == length and hashlib.sha256(content).hexdigest() == sha256 else None


def _store(store: Path, sha256: str, content: bytes) -> None:
    incoming = store / f"{INCOMING}{sha256}"
    incoming.write_bytes(content)
    incoming.replace(store / sha256)


def _store_new(objects: Path, sha256: str, content: bytes) -> None:
    if _stored(objects, sha256, len(content)) is None:
        write_durably(objects / sha256, content)


def _assemble(target: Target, index: Index, store: Path, destination: Path) -> None:
    incoming = destination.with_name(INCOMING + destination.name)
    try:
        with incoming.open("wb") as file:
            _write_whole(target, index, store, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(incoming, destination)  # noqa: PTH105 - one spelling for renames, which the power-cut tests count
    except (OSError, CatalogueRefused):
        incoming.unlink(missing_ok=True)
        raise
    sync_folder(destination.parent)


def _write_whole(target: Target, index: Index, store: Path, file: BinaryIO) -> None:
    whole = hashlib.sha256()
    for sha256, length in index.chunks():
        chunk = _stored(store, sha256, length)
        if chunk is None:
            raise CatalogueRefused(Refusal.STORAGE, store / sha256, "was written, and reads otherwise")
        whole.update(chunk)
        file.write(chunk)
    if whole.hexdigest() != target.sha256:
        raise CatalogueRefused(Refusal.MIX_AND_MATCH, target.path, "its chunks are not the object that is listed")
