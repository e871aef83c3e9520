"""A tariff's bytes: what comes back, and what is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.gtfs.compiling import Days, compile_feed
from tests.hostile import hostile
from validator.fares import tariff as tariff_room
from validator.fares.errors import TariffError
from validator.fares.tariff import Tariffs, encode_tariff
from validator.fares.tariff_rows import (
    MAX_CAPS,
    Cap,
    Feed,
    Frame,
    JoinRule,
    LegRule,
    Period,
    Price,
    Stop,
    TransferRule,
    TransferType,
    Zone,
)  # fmt: skip

HERE = Path(__file__).parent
CITY, COAST = (compile_feed(HERE / name, name, Days()) for name in ("city", "coast"))
GOOD = encode_tariff([CITY, COAST])
replace = msgspec.structs.replace


def test_the_same_feeds_give_the_same_bytes_in_any_order() -> None:
    assert encode_tariff([COAST, CITY]) == GOOD
    assert encode_tariff([compile_feed(HERE / "city", "city", Days()), COAST]) == GOOD


def test_what_was_written_is_read() -> None:
    found = Tariffs.parse(GOOD)
    assert [tables.feed for tables in found.feeds.values()] == [CITY, COAST]
    assert encode_tariff(tables.feed for tables in found.feeds.values()) == GOOD


@hostile
@given(st.binary() | st.binary().map(lambda tail: GOOD[:16] + tail))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(TariffError):
        Tariffs.parse(data)


@hostile
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_another_sound_tariff(at: int, change: int) -> None:
    data = GOOD[:at] + bytes([GOOD[at] ^ change]) + GOOD[at + 1 :]
    try:
        found = Tariffs.parse(data)
    except TariffError:
        return
    assert encode_tariff(tables.feed for tables in found.feeds.values()) == data


@given(st.integers(0, len(GOOD) - 1))
def test_a_tariff_that_was_cut_is_refused(at: int) -> None:
    with pytest.raises(TariffError):
        Tariffs.parse(GOOD[:at])


def test_what_is_not_written_as_we_write_is_refused() -> None:
    longer = msgspec.msgpack.encode(msgspec.msgpack.decode(GOOD[16:])).replace(b"\x92\x01\x92", b"\x92\xcc\x01\x92", 1)
    with pytest.raises(TariffError, match="not written as a tariff is"):
        Tariffs.parse(GOOD[:16] + longer)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tariff_room, "MAX_BYTES", len(GOOD) - 1)
    with pytest.raises(TariffError, match=r"city\.tariff: has \d+ bytes, more than"):
        Tariffs.parse(GOOD, "city.tariff")


def test_two_feeds_of_one_name_are_refused() -> None:
    with pytest.raises(TariffError, match="two feeds have one name"):
        encode_tariff([CITY, CITY])


CAP = Cap("cap", Period.DAY, 100, "EUR", None, None, None, 2)
TRANSFER = TransferRule(None, None, 1, None, None, TransferType.ADD, None, 2)
LEG = LegRule(None, None, None, None, None, None, 0, 0, 2)
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("stops.station 99", {"stops": (Stop("A", 99, (), None),)}),
    ("stops.areas 99", {"stops": (Stop("A", None, (99,), None),)}),
    ("stops.zone 9", {"stops": (Stop("A", None, (), 9),)}),
    ("routes.network 99", {"routes": (("R", 99),)}),
    ("default_rider 99", {"default_rider": 99}),
    ("prices.product 99", {"prices": (Price(99, None, None, 1, "EUR", 2),)}),
    ("prices.rider 99", {"prices": (Price(0, 99, None, 1, "EUR", 2),)}),
    ("prices.medium 99", {"prices": (Price(0, None, 99, 1, "EUR", 2),)}),
    ("frames.service 99", {"frames": ((Frame(0, 1, 99),),) * 9}),
    ("leg_rules.group 99", {"leg_rules": (replace(LEG, group=99),)}),
    ("leg_rules.network 99", {"leg_rules": (replace(LEG, network=99),)}),
    ("leg_rules.area 99", {"leg_rules": (replace(LEG, to_area=99),)}),
    ("leg_rules.frames 99", {"leg_rules": (replace(LEG, to_frames=99),)}),
    ("leg_rules.product 99", {"leg_rules": (replace(LEG, product=99),)}),
    ("join_rules.network 99", {"join_rules": (JoinRule(99, None, None, 2),)}),
    ("join_rules.stop 99", {"join_rules": (JoinRule(0, 0, 99, 2),)}),
    ("transfer_rules.group 99", {"transfer_rules": (replace(TRANSFER, to_group=99, count=None),)}),
    ("transfer_rules.product 99", {"transfer_rules": (replace(TRANSFER, product=99),)}),
    ("caps.product 99", {"caps": (replace(CAP, product=99),)}),
    ("caps.network 99", {"caps": (replace(CAP, network=99),)}),
    ("caps.rider 99", {"caps": (replace(CAP, rider=99),)}),
    ("areas do not ascend", {"areas": CITY.areas[::-1]}),
    ("transitions of Z do not ascend", {"zones": (Zone("Z", 0, ((5, 0), (5, 0))), *CITY.zones[1:])}),
    ("last_day 0 is before", {"last_day": 0}),
    ("octets of days", {"services": (b"",) * len(CITY.services)}),
    (
        "a leg's product has a negative amount",
        {"prices": (Price(CITY.leg_rules[0].product, None, None, -1, "EUR", 2),)},
    ),
    ("a timeframe ends before it begins", {"frames": ((Frame(5, 5, 0),),) * len(CITY.frames)}),
    ("a join rule has one stop", {"join_rules": (JoinRule(0, 0, None, 2),)}),
    ("count 0", {"transfer_rules": (replace(TRANSFER, count=0),)}),
    ("count None", {"transfer_rules": (replace(TRANSFER, count=None),)}),
    ("count 1", {"transfer_rules": (replace(TRANSFER, to_group=0),)}),
    ("a limit without a clock", {"transfer_rules": (replace(TRANSFER, limit_s=9),)}),
    (f"more than {MAX_CAPS} caps of a day", {"caps": (CAP,) * (MAX_CAPS + 1)}),
]


@pytest.mark.parametrize(("why", "change"), WRONG, ids=[why for why, _ in WRONG])
def test_rows_that_contradict_each_other_are_refused(why: str, change: dict[str, Any]) -> None:
    wrong: Feed = replace(CITY, **change)
    with pytest.raises(TariffError, match=why.replace("(", "\\(")):
        encode_tariff([wrong])
