"""Feeds that are wrong, and feeds that only look it."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.gtfs import feed_files
from backend_sync.gtfs.compiling import Days, compile_feed
from backend_sync.gtfs.currencies import in_major, minor_units
from backend_sync.gtfs.feed_files import FeedFiles
from backend_sync.gtfs.problems import FeedMissing, FeedRefused, Problems
from tests.hostile import hostile
from validator.fares.tariff import encode_tariff

HERE = Path(__file__).parent
CITY = HERE / "city"
# File, what stands there, what is written instead ("" for the end of the file), line, field, and a part of the meaning.
Wrong = tuple[str, str, str, int, str, str]
WRONG: list[Wrong] = [
    ("agency.txt", "Europe/Tallinn", "Europe/Atlantis", 2, "agency_timezone", "is no time zone"),
    ("agency.txt", "", "2,B,u,Europe/Riga,\n", 3, "agency_timezone", "not that of the first agency"),
    ("stops.txt", "Europe/Stockholm", "Nowhere", 4, "stop_timezone", "is no time zone"),
    ("stops.txt", "B1,Birch 1,0,BS", "B1,Birch 1,0,QQ", 5, "parent_station", "'QQ' is not in stops.txt"),
    ("stops.txt", "BS,Birch,1,,", "BS,Birch,1,A1,", 7, "parent_station", "a station is in no other"),
    ("stops.txt", "", "A1,Again\n", 15, "", "has the stop_id of line 2 again"),
    ("stops.txt", "", ",Nameless\n", 15, "stop_id", "is empty"),
    ("areas.txt", "", "a,Again\n", 7, "", "has the area_id of line 2 again"),
    ("stop_areas.txt", "", "z,A1\n", 12, "area_id", "'z' is not in areas.txt"),
    ("stop_areas.txt", "", "a,Q1\n", 12, "stop_id", "'Q1' is not in stops.txt"),
    ("stop_areas.txt", "", "a,A1\n", 12, "", "has the area_id and stop_id of line 2 again"),
    (
        "routes.txt",
        "route_id,agency_id,route_type",
        "route_id,network_id,route_type",
        1,
        "network_id",
        "named here and",
    ),
    ("routes.txt", "", "M1,1,1\n", 9, "route_id", "'M1' is there twice"),
    ("networks.txt", "", "metro,Again\n", 8, "", "has the network_id of line 2 again"),
    ("route_networks.txt", "", "boat,Z9\n", 8, "network_id", "'boat' is not in networks.txt"),
    ("route_networks.txt", "", "bus,Q9\n", 8, "route_id", "'Q9' is not in routes.txt"),
    ("route_networks.txt", "", "bus,M1\n", 8, "", "has the route_id of line 2 again"),
    ("calendar.txt", "weekday,1", "weekday,2", 2, "monday", "'2' is not a whole number from 0 to 1"),
    ("calendar.txt", "20260101", "20260230", 2, "start_date", "'20260230' is no date"),
    ("calendar.txt", "20260101", "20270101", 2, "end_date", "the days are not"),
    ("calendar_dates.txt", "20260224,2", "20260224,3", 2, "exception_type", "not a whole number from 1 to 2"),
    ("timeframes.txt", "09:00:00,weekday", "24:00:01,weekday", 2, "end_time", "is no time of a day"),
    ("timeframes.txt", "09:00:00,weekday", "9,weekday", 2, "end_time", "is no time of a day"),
    ("timeframes.txt", "07:00:00,09:00:00", "09:00:00,07:00:00", 2, "end_time", "ends before it begins"),
    ("timeframes.txt", "07:00:00,09:00:00", ",09:00:00", 2, "end_time", "one of start_time and end_time is empty"),
    ("timeframes.txt", "off,09:00:00", "off,06:59:59", 4, "start_time", "overlaps"),
    ("timeframes.txt", ",daily", ",yearly", 6, "service_id", "is in no calendar"),
    ("rider_categories.txt", "adult,Adult,1", "adult,,1", 2, "rider_category_name", "is empty"),
    ("rider_categories.txt", "", "adult,Again,0,\n", 5, "", "has the rider_category_id of line 2 again"),
    ("fare_media.txt", "paper,,1", "paper,,5", 3, "fare_media_type", "'5' is not a whole number"),
    ("fare_media.txt", "paper,,1", "paper,,", 3, "fare_media_type", "is empty"),
    ("fare_products.txt", "2.00,EUR", "2.005,EUR", 2, "amount", "is no amount of EUR"),
    ("fare_products.txt", "2.00,EUR", "two,EUR", 2, "amount", "is no amount of EUR"),
    ("fare_products.txt", "2.00,EUR", "2.00,euro", 2, "currency", "is no ISO 4217 code"),
    ("fare_products.txt", "2.00,EUR", "2.00,", 2, "currency", "is empty"),
    ("fare_products.txt", "student,,1", "king,,1", 3, "rider_category_id", "'king' is not in rider_categories.txt"),
    ("fare_products.txt", ",card,1.80", ",shell,1.80", 4, "fare_media_id", "'shell' is not in fare_media.txt"),
    ("fare_products.txt", "", "metro,,,,9,EUR\n", 22, "", "has the product, rider and medium of line 2 again"),
    (
        "fare_leg_rules.txt",
        "a,a,,,metro",
        "a,a,,,discount",
        2,
        "fare_product_id",
        "costs less than nothing (line 17 of",
    ),
    (
        "fare_leg_rules.txt",
        "g_metro,metro,a,a",
        "g_metro,subway,a,a",
        2,
        "network_id",
        "'subway' is not in networks.txt",
    ),
    ("fare_leg_rules.txt", "g_metro,metro,a,a", "g_metro,metro,z,a", 2, "from_area_id", "'z' is not in areas.txt"),
    ("fare_leg_rules.txt", "peak,,ac_peak", "rush,,ac_peak", 6, "from_timeframe_group_id", "not in timeframes.txt"),
    ("fare_leg_rules.txt", "peak,,ac_peak", "peak,,", 6, "fare_product_id", "is empty"),
    ("fare_leg_rules.txt", "", "g_bus,metro,a,a,,,metro\n", 15, "", "areas, timeframes and product of line 2 again"),
    ("fare_leg_join_rules.txt", "metro,metro,,", "metro,bus,,", 2, "to_network_id", "is not from_network_id"),
    ("fare_leg_join_rules.txt", "BS,C1", "BS,", 3, "to_stop_id", "one of from_stop_id and to_stop_id is empty"),
    ("fare_transfer_rules.txt", "g_metro,g_metro,1", "g_metro,g_metro,", 2, "transfer_count", "is empty, and both"),
    ("fare_transfer_rules.txt", "g_metro,g_metro,1", "g_metro,g_metro,0", 2, "transfer_count", "0 transfers"),
    ("fare_transfer_rules.txt", "g_metro,g_bus,,", "g_metro,g_bus,1,", 4, "transfer_count", "the groups differ"),
    ("fare_transfer_rules.txt", "g_metro,g_bus,,1800,2", "g_metro,g_bus,,1800,", 4, "duration_limit_type", "is empty"),
    (
        "fare_transfer_rules.txt",
        "g_metro,g_bus,,1800,2,1",
        "g_metro,g_bus,,1800,2,3",
        4,
        "fare_transfer_type",
        "from 0 to 2",
    ),
    ("fare_transfer_rules.txt", "g_metro,g_bus", "g_tram,g_bus", 4, "from_leg_group_id", "not in fare_leg_rules.txt"),
    ("fare_transfer_rules.txt", "2,1,discount", "2,1,gift", 4, "fare_product_id", "'gift' is not in fare_products.txt"),
    ("pilet_caps.txt", "all_day,day", "all_day,month", 2, "period", "'month' is no period"),
    ("pilet_caps.txt", "7.00", "-7.00", 2, "amount", "is less than nothing"),
    ("pilet_caps.txt", "", "".join(f"d{n},day,9,EUR,,,\n" for n in range(5)), 9, "period", "more than 6 caps of a day"),
    ("pilet_service.txt", "04:00:00", "24:00:00", 2, "service_day_start", "is no time of a day"),
    ("pilet_service.txt", "", "05:00:00,1\n", 3, "", "a second line"),
    ("feed_info.txt", "20260101", "20280101", 0, "feed_start_date", "are not the days of a tariff"),
    ("areas.txt", "area_id,area_name", "area_id,area_id", 1, "area_id", "is there twice in the heading"),
    ("areas.txt", "area_id,area_name", "zone,area_name", 1, "area_id", "is not in the heading"),
    ("areas.txt", "a,Inner", "a,Inner,Most", 2, "", "has 3 values for 2 columns"),
    ("areas.txt", "a,Inner", 'a,"Inner', 6, "", "is not CSV"),
]


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CITY, tmp_path / "city"))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong[0]}-{wrong[4]}-{wrong[5]}"[:60])
def test_a_problem_is_named_by_file_line_and_field(feed: Path, wrong: Wrong) -> None:
    file, old, new, line, field, meaning = wrong
    text = (feed / file).read_bytes().decode()
    assert old in text
    if field == "network_id" and file == "routes.txt":
        text = text.replace("M1,1,", "M1,metro,")
    (feed / file).write_bytes((text.replace(old, new, 1) if old else text + new).encode())
    with pytest.raises(FeedRefused) as refused:
        compile_feed(feed, "city", Days())
    found = [each for each in refused.value.problems if (each.file, each.line, each.field) == (file, line, field)]
    assert any(meaning in each.meaning for each in found), [str(each) for each in refused.value.problems]
    assert all(each.remedy for each in refused.value.problems)
    assert str(found[0]).startswith(f"{file}:{line}: " if line else f"{file}: ")


def test_all_problems_are_said_at_once(feed: Path) -> None:
    for file, old, new in (
        ("fare_products.txt", "2.00", "?"),
        ("areas.txt", "a,Inner", ",Inner"),
        ("agency.txt", "Eu", "?"),
    ):
        (feed / file).write_text((feed / file).read_text().replace(old, new, 1))
    with pytest.raises(FeedRefused) as refused:
        compile_feed(feed, "city", Days())
    assert {"fare_products.txt", "areas.txt", "agency.txt", "stop_areas.txt"} <= {
        e.file for e in refused.value.problems
    }


@pytest.mark.parametrize("file", sorted(path.name for path in CITY.iterdir()))
def test_a_file_that_is_not_there_is_no_crash(feed: Path, file: str) -> None:
    (feed / file).unlink()
    optional = {"calendar_dates.txt", "fare_leg_join_rules.txt", "fare_transfer_rules.txt", "feed_info.txt"}
    optional |= {"route_networks.txt", "stop_areas.txt"}
    if file in optional or file.startswith("pilet_"):
        compile_feed(feed, "city", Days())
    else:
        with pytest.raises(FeedRefused):
            compile_feed(feed, "city", Days())


def test_marks_spaces_blank_lines_and_unknown_columns_change_nothing(feed: Path) -> None:
    for path in feed.iterdir():
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").splitlines()
        wild = [
            f" {line.replace(',', ' , ')} ,{'mood' if number == 0 else 'x'}" if line else ""
            for number, line in enumerate(lines)
        ]
        wild = [line for line in wild if '"' not in line] if path.name != "stops.txt" else lines
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(wild).encode() + b"\r\n\r\n")
    assert compile_feed(feed, "city", Days()) == compile_feed(CITY, "city", Days())


@pytest.mark.parametrize("inside", ["", "city/"])
def test_a_zip_is_a_folder(tmp_path: Path, inside: str) -> None:
    with zipfile.ZipFile(tmp_path / "city.zip", "w") as archive:
        for path in CITY.iterdir():
            archive.write(path, f"{inside}{path.name}")
    assert compile_feed(tmp_path / "city.zip", "city", Days()) == compile_feed(CITY, "city", Days())


def test_what_is_no_feed_is_missing(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("no")
    for path in (tmp_path / "no.zip", tmp_path / "nothing"):
        with pytest.raises(FeedMissing, match="name the folder or the zip"):
            compile_feed(path, "no", Days())


def test_a_file_too_large_or_not_utf8_is_refused(feed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (feed / "areas.txt").write_bytes(b"area_id,area_name\na,\xff\n")
    with pytest.raises(FeedRefused, match=r"areas\.txt:2: is not UTF-8"):
        compile_feed(feed, "city", Days())
    monkeypatch.setattr(feed_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(FeedRefused, match="has more than 10 bytes"):
        compile_feed(feed, "city", Days())


@hostile
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_a_problem(data: bytes) -> None:
    problems = Problems()
    holder = io.BytesIO()
    with zipfile.ZipFile(holder, "w") as archive:
        archive.writestr("x.txt", data)
    with zipfile.ZipFile(holder) as archive:
        files = FeedFiles({"x.txt": zipfile.Path(archive, "x.txt")}, problems)
        table = files.table("x.txt", ("id",))
    assert problems.found or "id" in table.columns
    assert all(row.line > 1 and set(row.cells) <= table.columns for row in table.rows)


@given(st.integers(1 - 10**9, 10**9 - 1), st.sampled_from(["EUR", "JPY", "BHD", "CLF"]))
def test_amounts_are_read_as_they_are_written(amount: int, currency: str) -> None:
    text, _ = in_major(amount, currency).split(" ")
    assert minor_units(text, currency) == amount


def test_a_tariff_has_no_name_of_the_machine_that_made_it(feed: Path) -> None:
    assert str(feed.parent).encode() not in encode_tariff([compile_feed(feed, "city", Days())])
