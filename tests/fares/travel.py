"""What anybody travels in the two feeds of the tests, for laws."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from backend_sync.gtfs.compiling import Days, compile_feed
from validator.fares.journey import Leg
from validator.fares.tariff import Tariffs, encode_tariff
from validator.fares.tariff_rows import DAY_S, Cap, Feed

HERE = Path(__file__).parent
FEEDS = [compile_feed(HERE / name, name, Days()) for name in ("city", "coast")]
MONDAY_S = 1_772_402_400  # 2026-03-02 00:00 in Tallinn


def tariffs(feeds: Sequence[Feed], caps: Sequence[Cap] | None = None) -> Tariffs:
    """Parse the tariff of feeds, the first with other caps."""
    first = feeds[0] if caps is None else msgspec.structs.replace(feeds[0], caps=tuple(caps))
    return Tariffs.parse(encode_tariff([first, *feeds[1:]]))


TARIFFS, UNCAPPED = tariffs(FEEDS), tariffs(FEEDS, ())

stops = st.sampled_from([each.stop_id for each in FEEDS[0].stops])
city = st.builds(
    lambda at, takes, start, end, route, rider, medium: Leg(
        at, None if end is None else at + takes, "city", start, end, route, "", rider, medium
    ),
    st.integers(MONDAY_S, MONDAY_S + 10 * DAY_S) | st.integers(MONDAY_S + 7 * 3600, MONDAY_S + 11 * 3600),
    st.integers(0, 3600),
    stops,
    st.none() | stops | stops | stops,
    st.sampled_from([route for route, _ in FEEDS[0].routes]),
    st.sampled_from(["", "", "adult", "student"]),
    st.sampled_from(["card", "card", "card", "paper", ""]),
)
coast = st.builds(
    lambda at, start, end, route: Leg(at, at + 600, "coast", start, end, route),
    st.integers(MONDAY_S, MONDAY_S + DAY_S),
    st.sampled_from(["S1", "S2", "S3"]),
    st.sampled_from(["S1", "S2", "S3"]),
    st.sampled_from(["R1", "R2"]),
)
