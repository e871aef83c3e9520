"""What the catalogue says of one object, and what a device has of the whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from backend_sync.catalogue.roles import Kind

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]

MAX_INDEX_BYTES = 1024 * 1024
"""Longest index of chunks."""


class Wave(msgspec.Struct, frozen=True):
    """Who is to install it already.

    Attributes:
        percent: Of the region's devices; 100 is everybody.
    """

    percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 100


class Custom(msgspec.Struct, frozen=True):
    """The part of a target's metadata that is ours. Fields that this version does not know are passed over.

    Attributes:
        kind: What it is.
        region: Whose it is.
        version: 1, 2, 3 ... for each path.
        issued_s: When it was made, seconds since 1970 UTC.
        not_after_s: Until when it is fresh, seconds since 1970 UTC, inclusive.
        wave: Who installs it already.
    """

    kind: Kind
    region: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    issued_s: _Count
    not_after_s: _Count
    wave: Wave = Wave()

    def __post_init__(self) -> None:
        if self.not_after_s <= self.issued_s:
            raise ValueError(f"not_after_s {self.not_after_s} is not after issued_s {self.issued_s}")


class IndexReference(msgspec.Struct, frozen=True):
    """Names the index of an object's chunks.

    Attributes:
        sha256: SHA-256 of the index, hexadecimal: its name as an object.
        length: Its length in bytes.
    """

    sha256: _Sha256
    length: Annotated[int, msgspec.Meta(ge=1, le=MAX_INDEX_BYTES)]


class _Hashes(msgspec.Struct, frozen=True):
    sha256: _Sha256


class _Listed(Custom, frozen=True, kw_only=True):
    index: IndexReference


@dataclass(frozen=True, slots=True)
class Target:
    """An object that the catalogue lists.

    Attributes:
        path: ``<region>/<kind>/<name>``.
        length: In bytes.
        sha256: Of the whole, hexadecimal.
        custom: What it is, for whom, and until when.
        index: Which chunks it is made of.
    """

    path: str
    length: int
    sha256: str
    custom: Custom
    index: IndexReference


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is in force for one region, verified.

    Attributes:
        region: Whose it is.
        targets: By path.
        versions: Of root, timestamp, snapshot, targets and the region's roles.
        fresh_until_s: When the timestamp ends, seconds since 1970 UTC: past it, somebody may be holding news back.
    """

    region: str
    targets: Mapping[str, Target]
    versions: Mapping[str, int]
    fresh_until_s: int


def custom_fields(custom: Custom, index: IndexReference) -> dict[str, Any]:
    """Return what goes into the ``custom`` field of a target's metadata."""
    fields = msgspec.to_builtins(custom)
    assert isinstance(fields, dict)
    return {**fields, "index": msgspec.to_builtins(index)}


def read_target(path: str, length: object, hashes: object, custom: object) -> Target:
    """Take what a target's metadata holds, once it is verified.

    Raises:
        ValueError: It is not what a target of ours says of itself.
    """
    listed = msgspec.convert(custom, _Listed)
    return Target(
        path=path,
        length=msgspec.convert(length, _Count),
        sha256=msgspec.convert(hashes, _Hashes).sha256,
        custom=Custom(
            listed.kind,
            listed.region,
            listed.version,
            listed.issued_s,
            listed.not_after_s,
            listed.wave,
        ),
        index=listed.index,
    )
