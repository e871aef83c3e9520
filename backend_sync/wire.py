"""What travels between devices and the back office: topics, and versioned msgpack messages checked on receipt.

A message is a msgpack map whose ``v`` names its format. Unknown fields are ignored, so that a newer sender may add
some; a change of meaning is a new ``v``. Journal entries stay inside the envelopes that their device signed; the
message around them is only a parcel. Acknowledgements move a cursor, so they travel in an envelope of the back office.

Presence and reported state are unsigned hints: they inform people and are never evidence.
"""

import re
from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Annotated, Literal, TypeVar

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.envelope import EnvelopeError, Purpose, open_envelope, seal

ROOT = "pilet/1"

MAX_BATCH_TAPS = 50
MAX_ENVELOPE_BYTES = 2048
MAX_MESSAGE_BYTES = 128 * 1024
MAX_REASON = 200
MAX_INTEGER = 2**63 - 1
"""The largest number that both SQLite and PostgreSQL can keep."""

TAP_UP_FILTER = f"{ROOT}/tap/+/up"
REPORTED_FILTER = f"{ROOT}/state/+/reported"

ChangeTopic = Literal["next", "cumulative", "since", "before"]

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAP_UP = re.compile(rf"{ROOT}/tap/([^/]+)/up")
_REPORTED = re.compile(rf"{ROOT}/state/([^/]+)/reported")


class WireError(ValueError):
    """A topic or message that this version does not understand, or that is out of its bounds."""


def check_device(device: str) -> str:
    """Return a device id that is fit to be a topic level and a certificate's CN: 1 to 64 of ``A-Za-z0-9._-``.

    Raises:
        WireError: It is not.
    """
    if not _DEVICE.fullmatch(device):
        raise WireError(f"device id {device[:64]!r}: use 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first")
    return device


def tap_up(device: str) -> str:
    """Topic of batches of journal entries, device to back office."""
    return f"{ROOT}/tap/{check_device(device)}/up"


def device_of_tap_up(topic: str) -> str:
    """Return the device that a batch's topic names.

    Raises:
        WireError: Not the topic of a batch.
    """
    return _device_of(topic, _TAP_UP, TAP_UP_FILTER)


def ack(device: str) -> str:
    """Topic of signed acknowledgements, back office to device."""
    return f"{ROOT}/device/{check_device(device)}/ack"


def position(device: str) -> str:
    """Topic of a vehicle's position, retained, its own system to the gate on board."""
    return f"{ROOT}/device/{check_device(device)}/position"


def presence(device: str) -> str:
    """Topic of presence, retained; the last will is published here."""
    return f"{ROOT}/state/{check_device(device)}/presence"


def reported(device: str) -> str:
    """Topic of reported state, retained."""
    return f"{ROOT}/state/{check_device(device)}/reported"


def device_of_reported(topic: str) -> str:
    """Return the device that a reported state's topic names.

    Raises:
        WireError: Not the topic of a reported state.
    """
    return _device_of(topic, _REPORTED, REPORTED_FILTER)


def list_metadata(region: str, name: str) -> str:
    """Topic of one file of the catalogue's metadata, retained: ``timestamp.json``, ``7.snapshot.json``.

    Raises:
        WireError: Region or name are not fit to be a topic level.
    """
    return f"{ROOT}/list/{check_device(region)}/metadata/{check_device(name)}"


def list_object(region: str, digest: bytes) -> str:
    """Topic of an object that is called by its SHA-256, retained: a piece of a list, or the index of its pieces."""
    return f"{ROOT}/list/{check_device(region)}/object/{digest.hex()}"


def list_change(region: str, kind: str, which: ChangeTopic) -> str:
    """Topic of signed changes of a list between its publications.

    Args:
        region: Whose list.
        kind: Which list.
        which: ``next``, not retained: one change, the moment it is made. ``cumulative``, retained: one change that
            begins at the published list. ``since``, retained: a msgpack array of the changes after that, in order.
            ``before``, retained while a new list is on its way through the waves: the same of the lists before it, each
            from its published list on.

    Raises:
        WireError: Region or kind are not fit to be a topic level.
    """
    return f"{ROOT}/list/{check_device(region)}/change/{check_device(kind)}/{which}"


_Device = Annotated[str, msgspec.Meta(pattern=rf"^{_DEVICE.pattern}\Z")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
_Envelope = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_ENVELOPE_BYTES)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_NameOrNone = Annotated[str, msgspec.Meta(max_length=64)]
_Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class TapBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Journal entries on their way up.

    Attributes:
        v: Format.
        device: Who sends.
        epoch: Life of the journal that all entries belong to.
        head: Sequence number of the latest entry in the journal, so that the back office knows what is still to come.
        entries: Envelopes as the device signed them, octets untouched, 1 to 50.
    """

    v: Literal[1] = 1
    device: _Device
    epoch: _Number
    head: _Number
    entries: Annotated[list[_Envelope], msgspec.Meta(min_length=1, max_length=MAX_BATCH_TAPS)]


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """The back office's own acknowledgement: committed, not merely received.

    Attributes:
        v: Format.
        device: Whose journal.
        epoch: Which life of it.
        contiguous_up_to: Every entry from 1 to here is committed in the ledger; 0 for none.
        send_rate: Taps per minute that the device may send from now on, at least 1.
    """

    v: Literal[1] = 1
    device: _Device
    epoch: _Number
    contiguous_up_to: _Number
    send_rate: Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)]


@unique
class PresenceState(StrEnum):
    """Whether a device is there."""

    READY = "ready"
    SLEEPING = "sleeping"  # said goodbye
    LOST = "lost"  # its broker said so for it


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """A device's presence.

    Attributes:
        v: Format.
        device: Whose.
        state: Ready, sleeping or lost.
        session: Names the connection, so that the late will of an old one is not taken for the present one's.
    """

    v: Literal[1] = 1
    device: _Device
    state: PresenceState
    session: _Number


class ListState(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of one list.

    Attributes:
        version: The version in force; 0 for none.
        change: Number of the last change that is in force with it; 0 for none.
        refused_version: The version that it refused last; 0 for none.
        reason: Why it refused it, at most 200 characters.
    """

    version: _Number
    change: _Number
    refused_version: _Number = 0
    reason: _Reason = ""


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """A device's state as it reports it.

    Attributes:
        v: Format.
        device: Whose.
        epoch: Life of the journal.
        head: Latest entry in the journal.
        queue: Entries that the back office has not acknowledged.
        versions: Versions of lists and software by name.
        lists: Its lists, by kind.
    """

    v: Literal[1] = 1
    device: _Device
    epoch: _Number
    head: _Number
    queue: _Number
    versions: Annotated[dict[_Name, _Number], msgspec.Meta(max_length=32)] = {}
    lists: Annotated[dict[_Name, ListState], msgspec.Meta(max_length=32)] = {}


class VehiclePosition(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vehicle is.

    Attributes:
        v: Format.
        at_s: When that was so, seconds since 1970 UTC.
        stop: The stop that it is at, or was at last.
        route: What it runs as.
        zones: Zones that the stop is in, at most 32.
        network: The network that it runs in.
    """

    v: Literal[1] = 1
    at_s: _Number
    stop: _NameOrNone = ""
    route: _NameOrNone = ""
    zones: Annotated[list[_Name], msgspec.Meta(max_length=32)] = []
    network: _NameOrNone = ""


Message = TapBatch | Ack | Presence | Reported | VehiclePosition
_Message = TypeVar("_Message", bound=Message)


def encode(message: Message) -> bytes:
    """Encode a message.

    Raises:
        WireError: It breaks its own bounds, so that nobody would accept it.
    """
    data = msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))
    decode(type(message), data)
    return data


def decode(kind: type[_Message], data: bytes) -> _Message:
    """Decode and validate a message.

    Args:
        kind: What the topic says it is.
        data: At most 128 KiB.

    Raises:
        WireError: Not that kind of message in a format that this version knows.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"{len(data)} bytes, at most {MAX_MESSAGE_BYTES} are read")
    try:
        return msgspec.convert(msgpack.unpackb(data), kind, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise WireError(f"not a {kind.__name__}: {error}") from None


def seal_ack(message: Ack, key: Ed25519PrivateKey, signer: str) -> bytes:
    """Encode an acknowledgement in the back office's envelope."""
    return seal(key, signer, Purpose.ACK, encode(message))


def open_ack(data: bytes, keys: Mapping[str, Ed25519PublicKey]) -> Ack:
    """Verify and decode an acknowledgement.

    Args:
        data: The envelope.
        keys: Keys that may acknowledge, by signer name.

    Raises:
        WireError: Not an acknowledgement, or not one that can be believed.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise WireError(f"{len(data)} bytes, at most {MAX_MESSAGE_BYTES} are read")
    try:
        return decode(Ack, open_envelope(data, Purpose.ACK, keys).payload)
    except EnvelopeError as error:
        raise WireError(f"not an acknowledgement: {error}") from None


def _device_of(topic: str, pattern: re.Pattern[str], expected: str) -> str:
    match = pattern.fullmatch(topic)
    if match is None:
        raise WireError(f"topic {topic[:96]!r} is not {expected}")
    return check_device(match[1])
