"""One value of a feed is something else: then it has problems, or it is a tariff that can be read and priced by."""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.gtfs.compiling import Days, compile_feed
from backend_sync.gtfs.journey_file import read_journeys
from backend_sync.gtfs.problems import FeedRefused, Problem
from tests.hostile import hostile
from validator.fares.pricing import price
from validator.fares.tariff import Tariffs, encode_tariff

HERE = Path(__file__).parent
FILES = sorted(path.name for path in (HERE / "city").iterdir())
VALUES = [
    "",
    "0",
    "1",
    "2",
    "-1",
    "99999999999",
    "24:00:00",
    "00:00:00",
    "20260101",
    "metro",
    "a",
    "A1",
    "BS",
    "g_bus",
    "EUR",
]


@pytest.fixture(scope="module")
def feeds() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(HERE, Path(folder) / "fares"))


@hostile
@given(
    st.sampled_from(FILES),
    st.integers(0, 30),
    st.integers(0, 10),
    st.sampled_from(VALUES) | st.text(max_size=12) | st.just("long" * 65),
)
def test_another_value_is_a_problem_or_a_sound_tariff(
    feeds: Path, file: str, line: int, column: int, value: str
) -> None:
    path = feeds / "city" / file
    kept = path.read_bytes()
    table = list(csv.reader(io.StringIO(kept.decode("utf-8-sig"), newline="")))
    row = table[line % len(table)]
    if row:
        row[column % len(row)] = value
    written = io.StringIO(newline="")
    csv.writer(written).writerows(table)
    path.write_bytes(written.getvalue().encode("utf-8", "surrogatepass"))
    problems: tuple[Problem, ...] = ()
    data = b""
    try:
        data = encode_tariff(compile_feed(feeds / name, name, Days()) for name in ("city", "coast"))
    except FeedRefused as refused:
        problems = refused.problems
    finally:
        path.write_bytes(kept)
    if problems:
        assert all(each.meaning and each.remedy for each in problems)
        return
    tariffs = Tariffs.parse(data)
    for legs in read_journeys(feeds / "journeys.csv", tariffs).values():
        found = price(tariffs, legs)
        assert all(amount >= 0 for amount in found.totals.values())
