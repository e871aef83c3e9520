"""Journal entries: a tap, its place in the device's chain, and their bytes.

An entry is a msgpack array; its digest is the SHA-256 of those bytes and is repeated in the next entry, so that nobody
can take one out or put one in between. The entry travels, octets untouched, inside an envelope signed by the device
(`validator.envelope`), from the gate to the ledger.
"""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

import msgpack
import msgspec

from validator.list_facts import ListVersions
from validator.model import Assurance, ClockConfidence, Instant, Label, Outcome, Reason, Tap

FORMAT = 1
GENESIS = bytes(32)
"""What the first entry of an epoch names as its predecessor."""

_Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Boot = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
MAX_INTEGER = 2**63 - 1
"""The largest number that SQLite and PostgreSQL can keep; nothing larger is an entry."""
_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
_Position = Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_NameOrNone = Annotated[str, msgspec.Meta(max_length=64)]
_Riders = Annotated[int, msgspec.Meta(ge=1, le=99)]


class EntryError(ValueError):
    """The bytes are not an entry that this version understands."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tap at its place in the chain.

    Attributes:
        device: Id of the device.
        epoch: Names one life of the journal; a recreated database starts a new one.
        seq: 1, 2, 3 ... without a gap within the epoch.
        previous: Digest of entry ``seq - 1``, or `GENESIS`.
        tap: What happened.
    """

    device: str
    epoch: int
    seq: int
    previous: bytes
    tap: Tap


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    """The layout on the wire. New fields are appended with a default; anything else is a new format number."""

    version: Literal[1]
    device: _Name
    epoch: _Count
    seq: _Position
    previous: _Digest
    wall_ms: _Count
    mono_ms: _Count
    boot: _Boot
    confidence: ClockConfidence
    place: _Name
    gate: _Name
    outcome: Outcome
    reason: Reason
    graced: bool
    trust_version: _Count
    deny_version: _Count
    tickets_version: _Count
    credential_id: _Id | None
    profile: _Name | None
    assurance: Assurance | None
    cached: bool
    product_id: _Count | None
    rides: _Count
    amount: _Count
    recovers: _Position | None
    enrolled_version: _Count = 0
    status_version: _Count = 0
    edition: _Count = 0
    stop: _NameOrNone = ""
    route: _NameOrNone = ""
    riders: _Riders = 1
    label: Label = Label.NONE


def encode(entry: Entry) -> bytes:
    """Encode an entry; the same entry always gives the same bytes."""
    tap = entry.tap
    return msgpack.packb(
        [
            FORMAT,
            entry.device,
            entry.epoch,
            entry.seq,
            entry.previous,
            tap.at.wall_ms,
            tap.at.mono_ms,
            tap.at.boot,
            int(tap.at.confidence),
            tap.place,
            tap.gate,
            int(tap.outcome),
            int(tap.reason),
            tap.graced,
            tap.versions.trust,
            tap.versions.deny,
            tap.versions.tickets,
            tap.credential_id,
            tap.profile,
            None if tap.assurance is None else int(tap.assurance),
            tap.cached,
            tap.product_id,
            tap.rides,
            tap.amount,
            tap.recovers,
            tap.versions.enrolled,
            tap.versions.status,
            tap.edition,
            tap.stop,
            tap.route,
            tap.riders,
            int(tap.label),
        ]
    )


def decode(payload: bytes) -> Entry:
    """Decode and validate an entry.

    Raises:
        EntryError: The bytes are not an entry, or a field is out of its range.
    """
    try:
        wire = msgspec.convert(msgpack.unpackb(payload), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise EntryError(f"not a journal entry: {error}") from None
    return Entry(
        device=wire.device,
        epoch=wire.epoch,
        seq=wire.seq,
        previous=wire.previous,
        tap=Tap(
            at=Instant(wire.wall_ms, wire.mono_ms, wire.boot, wire.confidence),
            place=wire.place,
            gate=wire.gate,
            outcome=wire.outcome,
            reason=wire.reason,
            graced=wire.graced,
            versions=ListVersions(
                wire.trust_version,
                wire.deny_version,
                wire.tickets_version,
                wire.enrolled_version,
                wire.status_version,
            ),
            credential_id=wire.credential_id,
            profile=wire.profile,
            assurance=wire.assurance,
            cached=wire.cached,
            product_id=wire.product_id,
            rides=wire.rides,
            amount=wire.amount,
            recovers=wire.recovers,
            edition=wire.edition,
            stop=wire.stop,
            route=wire.route,
            riders=wire.riders,
            label=wire.label,
        ),
    )


def digest(payload: bytes) -> bytes:
    """Return the 32-byte digest by which the next entry names this one."""
    return hashlib.sha256(payload).digest()
