"""Where a gate is: fixed, or as a file says that is replaced under its eyes; unknown rather than wrong."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.model import ClockConfidence, Instant
from validator.position import NOWHERE, Position
from validator.vehicle_feed import MAX_BYTES, FixedPosition, PositionFile, VehiclePosition, offset_s, write_position

AT_S = 1_795_435_200
AT = Instant(AT_S * 1000, 0, b"one-boot", ClockConfidence.NTP)
TALLINN = ZoneInfo("Europe/Tallinn")
AT_A = PositionFile(AT_S, "7820", "5", ["A"], "bus")
IN_A = Position(frozenset({"A"}), "bus", "7820", "5", offset_s=7200)
LOST = Position(known=False, offset_s=7200)


@pytest.fixture
def bus(tmp_path: Path) -> VehiclePosition:
    return VehiclePosition(tmp_path / "position.json", 120, TALLINN)


def test_a_place_that_stays_says_what_its_file_says() -> None:
    said = Position(frozenset({"A"}), "rail")
    assert FixedPosition(said, TALLINN)(AT) == replace(said, offset_s=7200)
    assert FixedPosition(NOWHERE, ZoneInfo("UTC"))(AT) == NOWHERE


@pytest.mark.parametrize(
    ("at_s", "hours"), [(1_774_745_999, 2), (1_774_746_000, 3), (1_792_889_999, 3), (1_792_890_000, 2)]
)
def test_clocks_go_forward_and_back(at_s: int, hours: int) -> None:
    assert offset_s(TALLINN, at_s) == 3600 * hours


def test_a_vehicle_is_where_the_file_says(bus: VehiclePosition) -> None:
    assert bus(AT) == LOST
    write_position(bus.path, AT_A)
    assert bus(AT) == bus(AT) == IN_A
    write_position(bus.path, msgspec.structs.replace(AT_A, stop="7821", zones=[]))
    assert bus(AT) == replace(IN_A, stop="7821", zones=frozenset())
    bus.path.unlink()
    assert bus(AT) == LOST
    write_position(bus.path, AT_A)
    assert bus(AT) == IN_A


@pytest.mark.parametrize(("ago_s", "known"), [(0, True), (120, True), (121, False), (-120, True), (-121, False)])
def test_a_position_is_good_for_a_while(bus: VehiclePosition, ago_s: int, *, known: bool) -> None:
    write_position(bus.path, msgspec.structs.replace(AT_A, at_s=AT_S - ago_s))
    assert bus(AT) == (IN_A if known else LOST)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"null",
        b"{}",
        b'{"at_s":1795435200,"format":2}',
        b'{"at_s":1795435200,"speed":50}',
        b'{"at_s":1795435200,"stop":7820}',
        b'{"at_s":1795435200}'.ljust(MAX_BYTES + 1),
        b'{"at_s":1795435200,"stop":"\xff"}',
    ],
)
def test_a_file_that_says_something_else_says_nothing(bus: VehiclePosition, octets: bytes) -> None:
    write_position(bus.path, AT_A)
    assert bus(AT) == IN_A
    bus.path.write_bytes(octets)
    assert bus(AT) == bus(AT) == LOST
    write_position(bus.path, AT_A)
    assert bus(AT) == IN_A


@given(octets=st.binary(max_size=80))
def test_whatever_is_in_the_file_a_tap_goes_on(octets: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "position.json")
        path.write_bytes(octets)
        assert VehiclePosition(path, 120, TALLINN)(AT) == LOST


NAMES = st.text(max_size=16)


@given(told=st.builds(PositionFile, st.just(AT_S), NAMES, NAMES, st.lists(NAMES, max_size=4), NAMES, format=st.just(1)))
def test_what_is_written_is_read(told: PositionFile) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "position.json")
        write_position(path, told)
        found = VehiclePosition(path, 120, TALLINN)(AT)
        assert found == Position(frozenset(told.zones), told.network, told.stop, told.route, offset_s=7200)
