"""What a signed list says about itself. The payload is a file of its own, bound by its length and its SHA-256.

A manifest is a msgpack array inside an envelope signed for `Purpose.LIST` (see `validator.envelope`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.envelope import Envelope, EnvelopeError, Purpose, open_envelope, seal
from validator.lists.errors import ListError

FORMAT = 1


@unique
class ListKind(StrEnum):
    """The lists of a gate. Each is signed, numbered and dated for itself."""

    TRUST = "trust"
    DENY = "deny"
    TICKETS = "tickets"
    ENROLLED = "enrolled"
    STATUS = "status"
    CONFIG = "config"
    TARIFF = "tariff"

    @property
    def needed(self) -> bool:
        """Whether a gate without it refuses every card.

        Without enrolled keys, only those that need one are refused; without statuses, only guests; without a
        configuration, the gate's file says it; without a tariff, products say what a ride costs.
        """
        return self not in {ListKind.ENROLLED, ListKind.STATUS, ListKind.CONFIG, ListKind.TARIFF}


CHECKED_PAGES = frozenset({ListKind.TICKETS, ListKind.STATUS})
"""Lists whose payload is a file of checked pages, with a root."""


ROLE_OF: Final[Mapping[ListKind, str]] = MappingProxyType(
    {
        ListKind.TRUST: "trust",
        ListKind.ENROLLED: "trust",
        ListKind.DENY: "deny",
        ListKind.TICKETS: "tickets",
        ListKind.STATUS: "tickets",
        ListKind.CONFIG: "config",
        ListKind.TARIFF: "tariff",
    }
)
"""Which of the catalogue's kinds a list is of; each has a key of its own (`backend_sync.catalogue.roles`)."""
ROLE_KINDS: Final = tuple(dict.fromkeys(ROLE_OF.values()))


def role_name(region: str, kind: str) -> str:
    """Return the name by which the role for one of the catalogue's kinds signs a region's lists."""
    return f"{region}.{kind}"


def refuse_other_kind(signer: str, kind: ListKind, where: object) -> None:
    """See that a signer may speak for a list: one whose name ends in a kind of the catalogue's has no say in others.

    Raises:
        ListError: It does not.
    """
    _, dot, speaks_for = signer.rpartition(".")
    if dot and speaks_for in ROLE_KINDS and speaks_for != ROLE_OF[kind]:
        raise ListError(where, f"is signed by {signer!r}, who has no say in {kind} lists")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a list without its payload.

    Attributes:
        kind: Which list.
        region: The network that it is for.
        version: 1, 2, 3 ... for each kind; a gate never goes back.
        issued_s: When it was made, seconds since 1970 UTC.
        not_after_s: Until when it is fresh, seconds since 1970 UTC, inclusive.
        payload_sha256: SHA-256 of the payload file.
        payload_bytes: Length of the payload file.
        horizons: For tickets, by device id: the epoch and sequence number of the last tap of that device which the
            balances include. A device adds its own later taps to them.
        root: For a payload of checked pages, 32 bytes that stand for all of it (`validator.lists.checked_pages`): a
            gate that has them verifies each page when it reads it, and need not read the whole payload at each start.
            Empty where the payload is verified by its SHA-256 alone.
    """

    kind: ListKind
    region: str
    version: int
    issued_s: int
    not_after_s: int
    payload_sha256: bytes
    payload_bytes: int
    horizons: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    root: bytes = b""


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    """The layout on the wire. New fields are appended with a default; anything else is a new format number."""

    format: Literal[1]
    kind: ListKind
    region: _Name
    version: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    issued_s: _Count
    not_after_s: _Count
    payload_sha256: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    payload_bytes: _Count
    horizons: dict[_Name, tuple[_Count, _Count]]
    root: Annotated[bytes, msgspec.Meta(max_length=32)] = b""


def seal_manifest(manifest: Manifest, key: Ed25519PrivateKey, signer: str) -> bytes:
    """Sign a manifest and return the bytes of its file.

    Raises:
        ListError: A field is out of its range, so that no gate would believe it.
    """
    payload = msgpack.packb(
        [
            FORMAT,
            manifest.kind.value,
            manifest.region,
            manifest.version,
            manifest.issued_s,
            manifest.not_after_s,
            manifest.payload_sha256,
            manifest.payload_bytes,
            {device: list(horizon) for device, horizon in sorted(manifest.horizons.items())},
            manifest.root,
        ]
    )
    _decode(payload, "manifest")
    return seal(key, signer, Purpose.LIST, payload)


def opened(data: bytes, purpose: Purpose, keys: Mapping[str, Ed25519PublicKey], where: object) -> Envelope:
    """Verify what a publisher signed.

    Args:
        data: The envelope.
        purpose: What it must have been signed as.
        keys: Publishers that are believed, by the name they sign with.
        where: What to call it in an error.

    Raises:
        ListError: It is no envelope, or none of them signed it as that.
    """
    try:
        return open_envelope(data, purpose, keys)
    except EnvelopeError as error:
        raise ListError(where, str(error)) from error


def open_manifest(data: bytes, keys: Mapping[str, Ed25519PublicKey], where: object = "manifest") -> Manifest:
    """Verify and parse a manifest.

    Args:
        data: The bytes of its file.
        keys: Publishers that are believed, by the name they sign with.
        where: What to call the file in an error.

    Raises:
        ListError: It is not signed by one of them, or not a manifest that this version understands.
    """
    envelope = opened(data, Purpose.LIST, keys, where)
    manifest = _decode(envelope.payload, where)
    refuse_other_kind(envelope.signer, manifest.kind, where)
    return manifest


def _decode(payload: bytes, where: object) -> Manifest:
    try:
        wire = msgspec.convert(msgpack.unpackb(payload), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a manifest: {_with_names(str(error))}") from None
    if wire.not_after_s <= wire.issued_s:
        raise ListError(where, f"not_after_s {wire.not_after_s} is not after issued_s {wire.issued_s}")
    if wire.horizons and wire.kind is not ListKind.TICKETS:
        raise ListError(where, f"horizons in a list of kind {wire.kind}")
    if len(wire.root) not in (0, 32) or (wire.root and wire.kind not in CHECKED_PAGES):
        raise ListError(where, f"a root of {len(wire.root)} bytes in a list of kind {wire.kind}")
    return Manifest(
        kind=wire.kind,
        region=wire.region,
        version=wire.version,
        issued_s=wire.issued_s,
        not_after_s=wire.not_after_s,
        payload_sha256=wire.payload_sha256,
        payload_bytes=wire.payload_bytes,
        horizons=wire.horizons,
        root=wire.root,
    )


def _with_names(message: str) -> str:
    """Name the fields that msgspec counts: ``$[3]`` is the version."""
    for position, name in enumerate(_Wire.__struct_fields__):
        message = message.replace(f"$[{position}]", name)
    return message
