"""The demo: the same seed gives the same reasons, the ledger equals the journal, and the books close."""

import asyncio
import datetime as dt
import io
import random

import pytest
from rich.console import Console

from backend_sync.demo.issuer import Issuer
from backend_sync.demo.population import Crowd, CrowdMaker, Persona
from backend_sync.demo.show import run_demo

TAPS = 48


def crowd(seed: int, taps: int) -> Crowd:
    now = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    ours, theirs = Issuer.create("ours", now), Issuer.create("theirs", now)
    return CrowdMaker(ours, theirs, "here", now, random.Random(seed)).make(taps)


@pytest.mark.parametrize("taps", [1, 5, 28, 29, 40])
def test_a_crowd_makes_exactly_the_taps_asked_for(taps: int) -> None:
    assert sum(crowd(3, taps).reasons().values()) == taps


def test_everybody_comes_once_if_there_is_room() -> None:
    assert {visit.persona for visit in crowd(5, 40).visits} == set(Persona)


def test_the_seed_decides_who_comes() -> None:
    first, second, other = crowd(7, 40), crowd(7, 40), crowd(8, 40)
    assert [visit.persona for visit in first.visits] == [visit.persona for visit in second.visits]
    assert [visit.persona for visit in first.visits] != [visit.persona for visit in other.visits]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_reasons_and_closed_books() -> None:
    runs = [asyncio.run(run_demo(TAPS, 7, Console(file=io.StringIO()), timed=False)) for _ in range(2)]
    assert runs[0]["reasons"] == runs[1]["reasons"] == crowd(7, TAPS).reasons()
    for figures in runs:
        assert figures["taps"] == figures["journal_entries"] == figures["ledger_entries"] == TAPS
        assert figures["granted"] + figures["denied"] == TAPS
        assert (figures["missing"], figures["duplicated"], figures["chain_breaks"]) == (0, 0, 0)
        assert figures["books_closed"] is True
        assert figures["stored_value"]["loaded"] == figures["stored_value"]["spent"] + figures["stored_value"]["left"]
