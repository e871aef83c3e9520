"""Signed envelopes: an opaque payload, who signed it, for what purpose, and an Ed25519 signature (RFC 8032).

The signature covers ``pilet/1``, purpose, signer and payload, joined by zero bytes (which neither purpose nor signer
may hold), so that bytes signed for one purpose are worthless for another. On the wire an envelope is a msgpack array
``[1, purpose, signer, payload, signature]``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Annotated

import msgpack
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FORMAT = 1
MAX_SIGNER_CHARS = 64


@unique
class Purpose(StrEnum):
    """What an envelope is for."""

    TAP = "tap"
    ACK = "ack"
    LIST = "list"
    CHANGE = "change"


class EnvelopeError(Exception):
    """An envelope cannot be believed; the subclasses say whose fault that is."""


class EnvelopeMalformed(EnvelopeError):  # noqa: N818 - three kinds of one error, told apart by an adjective
    """The bytes are not an envelope of a version that we know."""


class EnvelopeUntrusted(EnvelopeError):  # noqa: N818 - the second kind
    """It is signed by somebody whose key we do not hold, or for another purpose."""


class EnvelopeForged(EnvelopeError):  # noqa: N818 - the third kind
    """The signature does not match."""


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    version: int
    purpose: str
    signer: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SIGNER_CHARS, pattern=r"^[^\x00]+$")]
    payload: bytes
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A verified envelope.

    Attributes:
        signer: Name of the key that signed: a device id, or the name of a publisher or of the back office.
        payload: The signed octets.
    """

    signer: str
    payload: bytes


def seal(key: Ed25519PrivateKey, signer: str, purpose: Purpose, payload: bytes) -> bytes:
    """Sign a payload and return the envelope's bytes.

    Raises:
        ValueError: The signer's name holds a zero byte.
    """
    if "\0" in signer:
        raise ValueError(f"a signer's name may not hold a zero byte: {signer!r}")
    signature = key.sign(_signed_octets(purpose, signer, payload))
    return msgpack.packb([FORMAT, purpose.value, signer, payload, signature])


def open_envelope(data: bytes, purpose: Purpose, keys: Mapping[str, Ed25519PublicKey]) -> Envelope:
    """Verify an envelope against the keys that may sign for a purpose.

    Args:
        data: The envelope's bytes.
        purpose: What it must be for.
        keys: Public keys by signer name.

    Raises:
        EnvelopeMalformed: Not an envelope of this version.
        EnvelopeUntrusted: Another purpose, or a signer that `keys` does not hold.
        EnvelopeForged: The signature is wrong.
    """
    wire = _parse(data)
    if wire.purpose != purpose.value:
        raise EnvelopeUntrusted(f"signed for {wire.purpose!r}, wanted {purpose.value!r}")
    key = keys.get(wire.signer)
    if key is None:
        raise EnvelopeUntrusted(f"signer {wire.signer!r} is not known here")
    try:
        key.verify(wire.signature, _signed_octets(purpose, wire.signer, wire.payload))
    except InvalidSignature:
        raise EnvelopeForged(f"the signature of {wire.signer!r} does not match") from None
    return Envelope(wire.signer, wire.payload)


def _parse(data: bytes) -> _Wire:
    try:
        wire = msgspec.convert(msgpack.unpackb(data), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise EnvelopeMalformed(f"not a signed envelope: {error}") from None
    if wire.version != FORMAT:
        raise EnvelopeMalformed(f"envelope version {wire.version} is not {FORMAT}")
    return wire


def _signed_octets(purpose: Purpose, signer: str, payload: bytes) -> bytes:
    return b"\0".join((b"pilet/1", purpose.value.encode(), signer.encode(), payload))
