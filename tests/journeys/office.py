"""A back office for the tests of journeys: the two feeds of the fares' tests, their places, and taps in short."""

import re
from collections.abc import Iterable

import msgspec
from hypothesis import strategies as st

from backend_sync.journeys.editions import Rulebook, Terms
from backend_sync.journeys.taps import JourneyTap
from tests.fares.travel import FEEDS, MONDAY_S, TARIFFS, tariffs
from validator.fares.editions import Edition, Place
from validator.fares.tariff_rows import DAY_S
from validator.model import Label

CARD = b"card".ljust(16, b"\0")
CLOSES_S = MONDAY_S + 9 * DAY_S
STATIONS = {each.stop_id: FEEDS[0].stops[each.station].stop_id for each in FEEDS[0].stops if each.station is not None}
GATED = ("A1", "A2", "A9", "B1", "B2", "C1", "D1")
PLACES = {
    **{f"m{stop}": Place("city", stop, STATIONS.get(stop, stop), "metro") for stop in GATED},
    "n-gate": Place("city", "X1", "X1", "abroad"),
    "flat-gate": Place("city", "D1", "D1", "bus"),
    "lost-gate": Place("lost", "A1", "A1"),
    "ferry-gate": Place("city", "H1", "H1", "ferry"),
    **{f"v{number}": Place("city", "", "", "", "B7", gated=False) for number in (1, 2)},
    "night": Place("city", "D1", "D1", "", "N1", gated=False),
    "zoned": Place("city", "A1", "A1", "metro", gated=False),
}
TERMS = {1: Terms(medium="card"), 2: Terms(rider="student"), 3: Terms(prepaid=True)}
AHEAD = Edition(8, MONDAY_S + 7 * DAY_S, tariffs([FEEDS[0]]), PLACES)
RULEBOOK = Rulebook([AHEAD, Edition(7, MONDAY_S - DAY_S, TARIFFS, PLACES)], TERMS)
SHORT = re.compile(
    r"(?:(?P<day>\d)/)?(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d))?"
    r" (?P<place>[\w-]+)(?P<more>(?: [a-z]+=?\S*)*)"
)


def taps(short: str, first: int = 1) -> list[JourneyTap]:
    """Read taps: ``[DAY/]HH:MM[:SS] PLACE [stop=S] [product=N] [riders=N] [in|out] [deny] [tariff=N] [recovers=N]``."""
    found = []
    for seq, part in enumerate(filter(None, (each.strip() for each in short.split(";"))), first):
        match = SHORT.fullmatch(part)
        assert match is not None, part
        words = match["more"].split()
        said = dict(word.split("=") for word in words if "=" in word)
        clock = (int(match["day"] or 0) * 24 + int(match["hour"])) * 3600 + int(match["minute"]) * 60
        found.append(
            JourneyTap(
                card=CARD,
                at_s=MONDAY_S + clock + int(match["second"] or 0),
                device="gate",
                epoch=1,
                seq=seq,
                place=match["place"],
                product_id=None if "guest" in words else int(said.get("product", 1)),
                granted="deny" not in words,
                stop=said.get("stop", "D1" if match["place"].startswith("v") else ""),
                riders=int(said.get("riders", 1)),
                label=Label.ENTRY if "in" in words else Label.EXIT if "out" in words else Label.NONE,
                tariff=int(said.get("tariff", 0)),
                recovers=int(said["recovers"]) if "recovers" in said else None,
            )
        )
    return found


def numbered(those: Iterable[JourneyTap]) -> list[JourneyTap]:
    """Give taps a number each."""
    return [msgspec.structs.replace(tap, seq=seq) for seq, tap in enumerate(those, 1)]


some_taps = st.lists(
    st.builds(
        JourneyTap,
        card=st.just(CARD),
        at_s=st.integers(MONDAY_S, MONDAY_S + 8 * DAY_S)
        | st.integers(0, 300).map(lambda minutes: MONDAY_S + 7 * 3600 + 60 * minutes),
        device=st.sampled_from(["gate", "other"]),
        epoch=st.just(1),
        seq=st.just(0),
        place=st.sampled_from([*PLACES, "mA1", "mB1", "mC1", "mA1", "mB1", "mC1", "unheard"]),
        product_id=st.sampled_from([1, 1, 1, 1, 2, 3, 9, None]),
        granted=st.sampled_from([True, True, True, True, False]),
        stop=st.sampled_from(["", "", "D1", "B1"]),
        riders=st.sampled_from([1, 1, 1, 1, 2, 3]),
        label=st.sampled_from(Label),
        tariff=st.sampled_from([0, 0, 0, 7, 99]),
        recovers=st.sampled_from([None, None, None, 1]),
    ),
    max_size=10,
).map(numbered)
