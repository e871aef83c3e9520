"""From a vehicle's message to what its gate believes: every position that the wire takes, and nothing else."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from backend_sync import wire
from backend_sync.vehicle_position import PositionRelay
from backend_sync.wire import VehiclePosition
from validator.model import ClockConfidence, Instant
from validator.position import Position
from validator.vehicle_feed import VehiclePosition as VehicleFeed

AT_S = 1_795_435_200
AT = Instant(AT_S * 1000, 0, b"one-boot", ClockConfidence.NTP)
NAMES = st.text(max_size=64)
POSITIONS = st.builds(
    VehiclePosition,
    at_s=st.integers(AT_S - 60, AT_S + 60),
    stop=NAMES,
    route=NAMES,
    zones=st.lists(st.text(min_size=1, max_size=64), max_size=32),
    network=NAMES,
)
LONGEST = VehiclePosition(at_s=AT_S, stop="\0" * 64, route="\0" * 64, zones=["\0" * 64] * 32, network="\0" * 64)


def believed(*payloads: bytes) -> Position:
    """What a gate makes of messages, one after the other."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "position.json"
        relay = PositionRelay("bus-0007", file)
        for payload in payloads:
            asyncio.run(relay.take(payload))
        return VehicleFeed(file, 60, ZoneInfo("UTC"))(AT)


@given(POSITIONS)
def test_a_gate_believes_what_a_vehicle_says(told: VehiclePosition) -> None:
    assert believed(wire.encode(told)) == Position(frozenset(told.zones), told.network, told.stop, told.route)


def test_the_longest_position_there_is() -> None:
    assert believed(wire.encode(LONGEST)).stop == "\0" * 64


@given(st.binary(max_size=100))
def test_what_is_no_position_leaves_the_last_one(data: bytes) -> None:
    assert believed(wire.encode(VehiclePosition(at_s=AT_S, stop="7820")), data).stop == "7820"
    assert not believed(data).known
