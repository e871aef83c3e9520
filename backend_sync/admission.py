"""What of a message the back office believes: device known, signatures right, entries whole, everything in its place.

A bad entry does not condemn its neighbours: good ones are admitted, bad ones are refused and named. A refusal keeps who
sent it (by topic), why, how long it was and its hash, and nothing of its content.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from backend_sync import wire
from validator import entry as journal_entry
from validator.entry import Entry, EntryError
from validator.envelope import (
    EnvelopeError,
    EnvelopeForged,
    EnvelopeMalformed,
    EnvelopeUntrusted,
    Purpose,
    open_envelope,
)
from validator.lists.product_rules import MAX_AMOUNT

UNKNOWN_SOURCE = "?"

KeyOf = Callable[[str], Ed25519PublicKey | None]


@unique
class Refused(StrEnum):
    """Why a message or an entry was not admitted."""

    TOPIC = "topic"
    MESSAGE = "message"  # not a batch that this version knows
    WRONG_DEVICE = "wrong-device"  # the batch names another device than its topic
    UNKNOWN_DEVICE = "unknown-device"
    ENVELOPE = "envelope"  # not a signed envelope
    SIGNER = "signer"  # signed by another than the topic's device, or for another purpose
    SIGNATURE = "signature"
    ENTRY = "entry"  # not a journal entry
    ENTRY_DEVICE = "entry-device"
    ENTRY_EPOCH = "entry-epoch"
    ENTRY_RANGE = "entry-range"  # a number or a name that no ledger can keep


@dataclass(frozen=True, slots=True)
class Rejection:
    """One thing that was not admitted.

    Attributes:
        source: Device that the topic names, or ``?``.
        reason: Why.
        size: Octets.
        digest: SHA-256 of the octets, to find the thing again.
    """

    source: str
    reason: Refused
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """An entry whose signature was verified.

    Attributes:
        entry: The entry.
        digest: SHA-256 of its octets.
        envelope: The envelope as the device signed it.
    """

    entry: Entry
    digest: bytes
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Arrival:
    """What was admitted of one batch.

    Attributes:
        device: Whose.
        epoch: Life of its journal.
        head: Latest entry that the device says it has, at least the latest one here.
        entries: In the order in which they came; none where all were refused: the head is still to be remembered.
    """

    device: str
    epoch: int
    head: int
    entries: tuple[SignedEntry, ...]


@dataclass(frozen=True, slots=True)
class Admission:
    """The verdict on one message: what is admitted, None if it is no batch of a registered device, and what is not."""

    arrival: Arrival | None
    rejections: tuple[Rejection, ...]


def admit(topic: str, payload: bytes, key_of: KeyOf) -> Admission:
    """Judge one message.

    Args:
        topic: Where it came.
        payload: Its octets, whatever they are.
        key_of: Finds the public key of a registered device.
    """
    try:
        device = wire.device_of_tap_up(topic)
    except wire.WireError:
        return _refuse_all(UNKNOWN_SOURCE, Refused.TOPIC, payload)
    try:
        batch = wire.decode(wire.TapBatch, payload)
    except wire.WireError:
        return _refuse_all(device, Refused.MESSAGE, payload)
    if batch.device != device:
        return _refuse_all(device, Refused.WRONG_DEVICE, payload)
    key = key_of(device)
    if key is None:
        return _refuse_all(device, Refused.UNKNOWN_DEVICE, payload)
    admitted: list[SignedEntry] = []
    rejections: list[Rejection] = []
    for envelope in batch.entries:
        verdict = admit_entry(envelope, device, batch.epoch, key)
        if isinstance(verdict, Refused):
            rejections.append(_rejection(device, verdict, envelope))
        else:
            admitted.append(verdict)
    head = max([batch.head, *(signed.entry.seq for signed in admitted)])
    return Admission(Arrival(device, batch.epoch, head, tuple(admitted)), tuple(rejections))


def admit_entry(envelope: bytes, device: str, epoch: int, key: Ed25519PublicKey) -> SignedEntry | Refused:
    """Verify one envelope and the entry inside it."""
    try:
        opened = open_envelope(envelope, Purpose.TAP, {device: key})
        entry = journal_entry.decode(opened.payload)
    except (EnvelopeError, EntryError) as error:
        return _BY_ERROR[type(error)]
    if (entry.device, entry.epoch) != (device, epoch):
        return Refused.ENTRY_DEVICE if entry.device != device else Refused.ENTRY_EPOCH
    if not _keepable(entry):
        return Refused.ENTRY_RANGE
    return SignedEntry(entry, journal_entry.digest(opened.payload), envelope)


_BY_ERROR: dict[type[Exception], Refused] = {
    EnvelopeMalformed: Refused.ENVELOPE,
    EnvelopeUntrusted: Refused.SIGNER,
    EnvelopeForged: Refused.SIGNATURE,
    EntryError: Refused.ENTRY,
}


def _keepable(entry: Entry) -> bool:
    """Whether a ledger can add it up (see `MAX_AMOUNT`) and hold its text (PostgreSQL has no NUL)."""
    tap = entry.tap
    texts = (tap.place, tap.gate, tap.profile or "")
    return tap.rides <= MAX_AMOUNT and tap.amount <= MAX_AMOUNT and not any("\0" in text for text in texts)


def _refuse_all(source: str, reason: Refused, payload: bytes) -> Admission:
    return Admission(None, (_rejection(source, reason, payload),))


def _rejection(source: str, reason: Refused, octets: bytes) -> Rejection:
    return Rejection(source, reason, len(octets), hashlib.sha256(octets).digest())
