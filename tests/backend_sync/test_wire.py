from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync import wire
from backend_sync.wire import (
    Ack,
    ListState,
    Message,
    Presence,
    PresenceState,
    Reported,
    TapBatch,
    VehiclePosition,
    WireError,
)
from tests.backend_sync.gate import key_of
from validator.envelope import Purpose, seal

KINDS: tuple[type[Message], ...] = (TapBatch, Ack, Presence, Reported, VehiclePosition)
OFFICE = {"office": key_of("office").public_key()}

devices = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
numbers = st.integers(0, wire.MAX_INTEGER)
batches = st.builds(
    TapBatch,
    device=devices,
    epoch=numbers,
    head=numbers,
    entries=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=wire.MAX_BATCH_TAPS),
)
acks = st.builds(
    Ack, device=devices, epoch=numbers, contiguous_up_to=numbers, send_rate=st.integers(1, wire.MAX_INTEGER)
)
presences = st.builds(Presence, device=devices, state=st.sampled_from(PresenceState), session=numbers)
list_states = st.builds(
    ListState,
    version=numbers,
    change=numbers,
    refused_version=numbers,
    reason=st.text(max_size=wire.MAX_REASON),
)
reports = st.builds(
    Reported,
    device=devices,
    epoch=numbers,
    head=numbers,
    queue=numbers,
    versions=st.dictionaries(st.text(min_size=1, max_size=20), numbers, max_size=8),
    lists=st.dictionaries(st.text(min_size=1, max_size=20), list_states, max_size=4),
)
names = st.text(max_size=64)
positions = st.builds(
    VehiclePosition,
    at_s=numbers,
    stop=names,
    route=names,
    zones=st.lists(st.text(min_size=1, max_size=64), max_size=32),
    network=names,
)
messages: st.SearchStrategy[Message] = st.one_of(batches, acks, presences, reports, positions)
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(messages)
def test_a_message_comes_back_as_it_went(message: Message) -> None:
    assert wire.decode(type(message), wire.encode(message)) == message


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_wire_error(kind: type[Message], data: bytes) -> None:
    try:
        message = wire.decode(kind, data)
    except WireError:
        return
    assert wire.decode(kind, wire.encode(message)) == message


@given(st.sampled_from(KINDS), anything)
def test_any_msgpack_is_a_message_or_a_wire_error(kind: type[Message], value: object) -> None:
    try:
        wire.decode(kind, msgpack.packb(value))
    except WireError:
        return
    raise AssertionError("random msgpack is never a message: it has no v")


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_a_wire_error(message: Message, data: st.DataObject) -> None:
    octets = bytearray(wire.encode(message))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        damaged = wire.decode(type(message), bytes(octets))
    except WireError:
        return
    assert wire.decode(type(message), wire.encode(damaged)) == damaged


@given(acks)
def test_an_acknowledgement_is_believed_from_the_back_office(ack: Ack) -> None:
    assert wire.open_ack(wire.seal_ack(ack, key_of("office"), "office"), OFFICE) == ack


@given(acks, st.data())
def test_a_damaged_acknowledgement_is_never_believed(ack: Ack, data: st.DataObject) -> None:
    octets = bytearray(wire.seal_ack(ack, key_of("office"), "office"))
    where = data.draw(st.integers(0, len(octets) - 1))
    octets[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        wire.open_ack(bytes(octets), OFFICE)


@pytest.mark.parametrize(
    "forged",
    [
        lambda ack: wire.seal_ack(ack, key_of("somebody"), "office"),
        lambda ack: wire.seal_ack(ack, key_of("somebody"), "somebody"),
        lambda ack: seal(key_of("office"), "office", Purpose.TAP, wire.encode(ack)),
        wire.encode,
        lambda _: bytes(wire.MAX_MESSAGE_BYTES + 1),
    ],
)
def test_an_acknowledgement_of_anybody_else_is_not_believed(forged: Any) -> None:
    ack = Ack(device="gate-1", epoch=1, contiguous_up_to=5, send_rate=60)
    with pytest.raises(WireError):
        wire.open_ack(forged(ack), OFFICE)


def test_topics_are_those_of_the_architecture() -> None:
    assert wire.tap_up("gate-1") == "pilet/1/tap/gate-1/up"
    assert wire.ack("gate-1") == "pilet/1/device/gate-1/ack"
    assert wire.presence("gate-1") == "pilet/1/state/gate-1/presence"
    assert wire.reported("gate-1") == "pilet/1/state/gate-1/reported"
    assert wire.TAP_UP_FILTER == "pilet/1/tap/+/up"
    assert wire.REPORTED_FILTER == "pilet/1/state/+/reported"
    assert wire.list_change("ee", "deny", "since") == "pilet/1/list/ee/change/deny/since"


@given(devices)
def test_a_batch_topic_names_its_device(device: str) -> None:
    assert wire.device_of_tap_up(wire.tap_up(device)) == device


@given(devices)
def test_a_report_topic_names_its_device(device: str) -> None:
    assert wire.device_of_reported(wire.reported(device)) == device


@given(st.text() | devices.map(wire.presence))
def test_any_other_topic_is_a_wire_error(topic: str) -> None:
    for device_of in (wire.device_of_tap_up, wire.device_of_reported):
        with pytest.raises(WireError):
            device_of(topic)


@pytest.mark.parametrize("device", ["", "+", "#", "a/b", "a b", ".hidden", "x" * 65, "täpp", "gate\n", "gate\0"])
def test_an_id_that_is_no_topic_level_is_refused(device: str) -> None:
    for topic in (wire.tap_up, wire.ack, wire.presence, wire.reported):
        with pytest.raises(WireError):
            topic(device)


def test_bounds_hold_in_both_directions() -> None:
    fine = TapBatch(device="gate-1", epoch=1, head=1, entries=[b"e"])
    for wrong in (
        TapBatch(device="gate-1", epoch=1, head=1, entries=[b"e"] * 51),
        TapBatch(device="gate-1", epoch=1, head=1, entries=[]),
        TapBatch(device="gate-1", epoch=1, head=1, entries=[bytes(wire.MAX_ENVELOPE_BYTES + 1)]),
        TapBatch(device="gate/1", epoch=1, head=1, entries=[b"e"]),
        TapBatch(device="gate-1\n", epoch=1, head=1, entries=[b"e"]),
        TapBatch(device="gate-1", epoch=2**63, head=1, entries=[b"e"]),
        TapBatch(device="gate-1", epoch=1, head=-1, entries=[b"e"]),
        Reported(device="gate-1", epoch=1, head=1, queue=0, lists={"deny": ListState(version=-1, change=0)}),
        Reported(
            device="gate-1",
            epoch=1,
            head=1,
            queue=0,
            lists={"deny": ListState(version=1, change=0, reason="r" * (wire.MAX_REASON + 1))},
        ),
    ):
        with pytest.raises(WireError):
            wire.encode(wrong)
    assert len(wire.encode(fine)) < wire.MAX_MESSAGE_BYTES
    with pytest.raises(WireError, match="at most"):
        wire.decode(TapBatch, bytes(wire.MAX_MESSAGE_BYTES + 1))


def test_a_newer_sender_may_add_fields_and_a_new_format_is_refused() -> None:
    plain = msgpack.unpackb(wire.encode(Presence(device="g", state=PresenceState.READY, session=1)))
    assert isinstance(plain, dict)
    assert wire.decode(Presence, msgpack.packb(plain | {"mood": "good"})).session == 1
    with pytest.raises(WireError):
        wire.decode(Presence, msgpack.packb(plain | {"v": 2}))
