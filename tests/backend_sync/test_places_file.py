"""What people write of places: tables in a feed's own ids, and every mistake told by its key."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync.places_file import LimitsTable, places_in, read_places_file
from backend_sync.publish_errors import InputMissing
from tests.fares.travel import FEEDS, TARIFFS, tariffs
from validator.fares.editions import MAX_LIMIT_S, Edition, Limits, Place, encode_editions, parse_editions, station_of

GOOD = """
[limits]
journey_s = 7200
group_s = 30

[places.central]
feed = "city"
stop = "A1"
network = "metro"
gated = true

[places."bus 7"]
feed = "city"
route = "B7"
gated = false
"""
LIMITED = re.compile(r"\[limits\][^[]*")
names = st.text(min_size=1, max_size=64).filter(lambda name: name.isprintable())
tables = st.builds(
    lambda stop, route, gated: (
        {"feed": "city", "gated": gated}
        | ({} if stop is None else {"stop": stop})
        | ({} if route is None else {"route": route})
    ),
    st.none() | st.sampled_from([each.stop_id for each in FEEDS[0].stops]),
    st.none() | st.sampled_from([route for route, _ in FEEDS[0].routes]),
    st.booleans(),
)


def said(folder: Path, text: str) -> list[tuple[str, str]]:
    """All that is wrong with a file, by itself and by the tariff of the tests."""
    path = folder / "places.toml"
    path.write_text(text)
    file, faults = read_places_file(path)
    return faults or places_in(file, TARIFFS)[1]


def test_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "places.toml"
    path.write_text(GOOD)
    file, faults = read_places_file(path)
    assert (file.limits, faults) == (Limits(journey_s=7200, group_s=30), [])
    assert places_in(file, TARIFFS) == (
        {
            "central": Place("city", "A1", station_of(TARIFFS, "city", "A1"), "metro"),
            "bus 7": Place("city", "", "", "", "B7", gated=False),
        },
        [],
    )


def test_a_limit_that_is_left_out_has_its_default() -> None:
    assert Limits(**msgspec.structs.asdict(LimitsTable())) == Limits()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(places=st.dictionaries(names, tables, min_size=1, max_size=5), journey_s=st.integers(0, MAX_LIMIT_S))
def test_whatever_is_taken_is_taken_by_a_gate(
    tmp_path: Path, places: dict[str, dict[str, Any]], journey_s: int
) -> None:
    path = tmp_path / "places.toml"
    lines = ["[limits]", f"journey_s = {journey_s}"]
    for name, table in places.items():
        lines.append(f"[places.{msgspec.json.encode(name).decode()}]")
        lines += [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in table.items()]
    path.write_text("\n".join(lines), "utf-8")
    file, faults = read_places_file(path)
    assert faults == []
    found, faults = places_in(file, TARIFFS)
    assert faults == []
    (edition,) = parse_editions(encode_editions([Edition(1, 0, TARIFFS, found, file.limits)])).editions
    assert (edition.places, edition.limits.journey_s) == (found, journey_s)
    assert {name: (each.stop, each.route, each.gated) for name, each in found.items()} == {
        name: (each.get("stop", ""), each.get("route", ""), each["gated"]) for name, each in places.items()
    }


def test_with_one_feed_its_name_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "places.toml"
    path.write_text("[places.quay]\nstop = 'S1'\ngated = true\n")
    file, _ = read_places_file(path)
    assert places_in(file, tariffs([FEEDS[1]])) == ({"quay": Place("coast", "S1", "S1")}, [])
    assert places_in(file, TARIFFS) == (
        {},
        [("places.quay.feed", "is missing, and there are several feeds: city, coast")],
    )


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("[places", "", "not TOML"),
        ("", "places", "1 to 65536 tables"),
        ("places = 1", "places", "1 to 65536 tables"),
        ("[places]", "places", "1 to 65536 tables"),
        (
            "limits = 1\n" + GOOD.replace("[limits]\njourney_s = 7200\ngroup_s = 30\n", ""),
            "limits",
            "a table is wanted",
        ),
        ("colour = 'red'\n" + GOOD, "colour", "no such key"),
        (GOOD.replace("group_s", "groups"), "limits.groups", "no such key"),
        (GOOD.replace("7200", "-1"), "limits.journey_s", ">= 0"),
        (GOOD.replace("7200", "604801"), "limits.journey_s", "<= 604800"),
        (GOOD.replace("7200", "1.5"), "limits.journey_s", "`int`"),
        (GOOD.replace("gated = true", ""), "places.central.gated", "is missing"),
        (GOOD.replace("true", "1"), "places.central.gated", "`bool`"),
        (GOOD.replace('"A1"', '""'), "places.central.stop", "length >= 1"),
        (GOOD.replace("gated = false", "gate = false"), 'places."bus 7".gate', "no such key"),
        (GOOD.replace("central", "x" * 65), "places." + "x" * 65, "length <= 64"),
        (GOOD.replace("[places.central]", '[places.""]'), 'places.""', "length >= 1"),
        (GOOD + "[places.central]\ngated = true", "", "not TOML"),
        (GOOD.replace("[places.central]", "[places]\nlost = 1\n[places.central]"), "places.lost", "a table is wanted"),
        (GOOD.replace('"A1"', '"S1"'), "places.central.stop", "feed city has no stop 'S1'"),
        (GOOD.replace('"metro"', '"sea"'), "places.central.network", "feed city has no network 'sea'"),
        (GOOD.replace('"B7"', '"B8"'), 'places."bus 7".route', "feed city has no route 'B8'"),
        (GOOD.replace('feed = "city"\nstop', 'feed = "town"\nstop'), "places.central.feed", "no feed 'town'"),
        (GOOD.replace("gated = false", 'gated = false\nnetwork = "bus"'), 'places."bus 7".network', "says it already"),
    ],
)
def test_a_mistake_is_told_by_its_key(tmp_path: Path, text: str, key: str, why: str) -> None:
    assert text != GOOD
    found = said(tmp_path, text)
    assert any(where == key and why in what for where, what in found), found


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    wrong = GOOD.replace("7200", "-1").replace("group_s", "groups").replace("true", "1").replace('"B7"', "7")
    assert [key for key, _ in said(tmp_path, "colour = 'red'\n" + wrong)] == [
        "colour",
        "limits.groups",
        "limits.journey_s",
        "places.central.gated",
        'places."bus 7".route',
    ]
    assert [key for key, _ in said(tmp_path, GOOD.replace('"A1"', '"S1"').replace('"metro"', '"sea"'))] == [
        "places.central.stop",
        "places.central.network",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match=r"absent\.toml: No such file or directory; give the path"):
        read_places_file(tmp_path / "absent.toml")
