"""Signed envelopes: what was sealed opens, and nothing else does."""

from typing import cast

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.envelope import (
    Envelope,
    EnvelopeError,
    EnvelopeForged,
    EnvelopeMalformed,
    EnvelopeUntrusted,
    Purpose,
    open_envelope,
    seal,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
KEYS = {"gate-1": KEY.public_key(), "gate-2": OTHER_KEY.public_key()}
SEALED = seal(KEY, "gate-1", Purpose.TAP, b"payload")


@given(payload=st.binary(), purpose=st.sampled_from(Purpose), signer=st.sampled_from(list(KEYS)))
def test_what_was_sealed_opens_for_its_purpose_only(payload: bytes, purpose: Purpose, signer: str) -> None:
    sealed = seal(KEY if signer == "gate-1" else OTHER_KEY, signer, purpose, payload)
    assert open_envelope(sealed, purpose, KEYS) == Envelope(signer, payload)
    for other in set(Purpose) - {purpose}:
        with pytest.raises(EnvelopeUntrusted, match="signed for"):
            open_envelope(sealed, other, KEYS)


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_no_bit_can_be_changed(bit: int) -> None:
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EnvelopeError):
        open_envelope(bytes(changed), Purpose.TAP, KEYS)


@hostile
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_our_own_error(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        open_envelope(data, Purpose.TAP, KEYS)


@hostile
@given(st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(), st.lists, max_leaves=10))
def test_any_message_is_refused_by_our_own_error(message: object) -> None:
    with pytest.raises(EnvelopeMalformed):
        open_envelope(msgpack.packb(message), Purpose.TAP, KEYS)


def test_an_unknown_signer_is_refused() -> None:
    with pytest.raises(EnvelopeUntrusted, match="'gate-1' is not known"):
        open_envelope(SEALED, Purpose.TAP, {})


def repacked(changes: dict[str, object]) -> bytes:
    unpacked = cast("list[object]", msgpack.unpackb(SEALED))
    fields = dict(zip(("version", "purpose", "signer", "payload", "signature"), unpacked, strict=True))
    return msgpack.packb(list((fields | changes).values()))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"signer": "gate-2"}, EnvelopeForged),
        ({"payload": b"other"}, EnvelopeForged),
        ({"signature": bytes(64)}, EnvelopeForged),
        ({"purpose": "list"}, EnvelopeUntrusted),
        ({"version": 2}, EnvelopeMalformed),
        ({"signature": bytes(63)}, EnvelopeMalformed),
        ({"signer": ""}, EnvelopeMalformed),
        ({"signer": "x" * 65}, EnvelopeMalformed),
        ({"payload": 5}, EnvelopeMalformed),
    ],
)
def test_whose_fault_it_is(changes: dict[str, object], error: type[EnvelopeError]) -> None:
    with pytest.raises(error):
        open_envelope(repacked(changes), Purpose.TAP, KEYS)


def test_text_in_place_of_octets_is_malformed() -> None:
    sealed = msgpack.packb([1, "tap", "gate-1", "text", bytes(64)])
    with pytest.raises(EnvelopeMalformed):
        open_envelope(sealed, Purpose.TAP, {})


def test_a_signer_cannot_take_over_the_beginning_of_a_payload() -> None:
    key = Ed25519PrivateKey.generate()
    _, _, _, _, signature = cast("list[bytes]", msgpack.unpackb(seal(key, "gate", Purpose.TAP, b"1\0x")))
    moved = msgpack.packb([1, "tap", "gate\0001", b"x", signature])
    with pytest.raises(EnvelopeMalformed):
        open_envelope(moved, Purpose.TAP, {"gate\0001": key.public_key()})
    with pytest.raises(ValueError, match="zero byte"):
        seal(key, "gate\0001", Purpose.TAP, b"x")
