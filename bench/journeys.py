"""What pricing a day costs a back office: taps of a city in shards by card, from a seed, in two processes.

Shards are made before they are priced, a round at a time, so that neither memory nor disk grows with the day. What is
timed is all from a shard's file in the order of arrival to its entries: reading, decoding, sorting by card, pairing,
pricing under transfers and caps, and the difference to what was posted, which is nothing yet.
"""

import functools
import gc
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from backend_sync.journeys.editions import Rulebook, Terms
from backend_sync.journeys.entries import entries
from backend_sync.journeys.shards import settle_shard
from backend_sync.journeys.taps import JourneyTap
from bench.figures import Figure, Report, p50, p99, scratch
from validator.fares.editions import Edition, Place
from validator.fares.journey import Leg
from validator.fares.pricing import price
from validator.fares.quick import QuickPrices
from validator.fares.tariff import Tariffs, encode_tariff
from validator.fares.tariff_rows import (
    DAY_S,
    Cap,
    Clock,
    Feed,
    Frame,
    LegRule,
    Period,
    Price,
    Stop,
    TransferRule,
    TransferType,
    Zone,
)

TAPS: Final = (1_000_000, 10_000_000, 50_000_000)
GOAL: Final = 150_000
WORKERS: Final = 2
STATIONS: Final = 100
ZONES: Final = 5
BUSES: Final = 800
CARDS: Final = 20_500
"""Of a shard; each makes four taps and a bit."""
ROUND: Final = 12
"""So many shards are made at once: a million taps."""
DAY: Final = 20_520  # a Monday
TAP_GOAL_US: Final = 100
SAMPLES: Final = 50_000

_METRO, _BUS = 0, 1
_PEAK, _OFF = 0, 1
_MISSING = 0.03


def tariff() -> Tariffs:
    """Return the tariff of a city: a metro by zones and hours, buses at one price, transfers, caps of day and week."""
    bus = ZONES * 2
    metro = [
        LegRule(_METRO, _METRO, start, end, frames, None, abs(start - end) * 2 + frames, 0, 2 + number)
        for number, (start, end, frames) in enumerate(
            (start, end, frames) for start in range(ZONES) for end in range(ZONES) for frames in (_PEAK, _OFF)
        )
    ]
    # A stop of a bus is in no area, so that an empty field is meant (GTFS, fare_leg_rules.txt, 3).
    rules = (*metro, LegRule(_BUS, _BUS, None, None, None, None, bus, 0, 99))
    stations = tuple(Stop(f"m{number:03}", None, (number * ZONES // STATIONS,), None) for number in range(STATIONS))
    feed = Feed(
        name="city",
        first_day=DAY - 30,
        last_day=DAY + 30,
        day_starts_s=4 * 3600,
        join_limit_s=None,
        zones=(Zone("Europe/Tallinn", 7200, ()),),
        stops=(Stop("bus", None, (), None), *stations),
        areas=tuple(f"zone{number}" for number in range(ZONES)),
        networks=("metro", "street"),
        routes=(("bus", _BUS), ("line", _METRO)),
        riders=("adult",),
        default_rider=0,
        media=("card",),
        products=tuple(f"p{number:02}" for number in range(bus + 1)),
        prices=(
            *(
                Price(number, None, None, 150 + 60 * (number // 2) - 30 * (number % 2), "EUR", 2)
                for number in range(bus)
            ),
            Price(bus, None, None, 120, "EUR", 2),
        ),
        services=(bytes([0xFF] * 8),),
        frames=(
            (Frame(7 * 3600, 9 * 3600, 0), Frame(16 * 3600, 18 * 3600, 0)),
            (Frame(0, 7 * 3600, 0), Frame(9 * 3600, 16 * 3600, 0), Frame(18 * 3600, DAY_S, 0)),
        ),
        groups=("metro", "street"),
        prioritised=False,
        leg_rules=rules,
        join_rules=(),
        transfer_rules=(
            TransferRule(_METRO, _BUS, None, 1800, Clock.ARRIVAL_DEPARTURE, TransferType.ADD, None, 2),
            TransferRule(_BUS, _METRO, None, 3600, Clock.DEPARTURE_DEPARTURE, TransferType.INSTEAD, 4, 3),
            TransferRule(_BUS, _BUS, 2, 3600, Clock.DEPARTURE_DEPARTURE, TransferType.ADD, None, 4),
        ),
        caps=(
            Cap("day", Period.DAY, 600, "EUR", None, None, None, 2),
            Cap("week", Period.WEEK, 2500, "EUR", None, None, None, 3),
        ),
    )
    return Tariffs.parse(encode_tariff([feed]))


@functools.cache
def rulebook() -> Rulebook:
    """Return what a day of that city is judged by."""
    places = {f"m{number:03}": Place("city", f"m{number:03}", f"m{number:03}", "metro") for number in range(STATIONS)}
    places |= {f"b{number:03}": Place("city", "bus", "bus", "", "bus", gated=False) for number in range(BUSES)}
    return Rulebook([Edition(1, 0, tariff(), places)], {1: Terms(medium="card")})


def make(path: Path, shard: int) -> int:
    """Write a shard of taps in the order in which they were made, and return how many there are."""
    chance = random.Random(shard)
    midnight = DAY * DAY_S - 7200
    taps: list[JourneyTap] = []
    for number in range(CARDS):
        card = (shard * CARDS + number).to_bytes(16, "big")
        home, work = (f"m{chance.randrange(STATIONS):03}" for _ in "ab")
        rides: list[tuple[str, str | None]] = [(home, work), (work, home)]
        if chance.random() < 0.3:
            rides = [(f"b{chance.randrange(BUSES):03}", None), (home, work), (work, home)]
        elif chance.random() < 0.1:
            rides = [(f"b{chance.randrange(BUSES):03}", None)] * 2
        at = midnight + chance.randrange(5 * 3600, 12 * 3600)
        for start, end in rides:
            for place in (start, end):
                if place is None or (place is end and chance.random() < _MISSING):
                    continue
                taps.append(JourneyTap(card, at, place, 1, number * 8 + len(taps) % 8, place, 1, True, tariff=1))
                at += chance.randrange(300, 3000)
            at += chance.randrange(600, 4 * 3600)
    taps.sort(key=lambda tap: tap.at_s)
    path.write_bytes(msgspec.msgpack.encode(taps))
    return len(taps)


@dataclass(frozen=True, slots=True)
class Priced:
    """What came of a shard, and the processor's seconds that it took."""

    cpu_s: float
    cards: int
    entries: int
    amount: int
    pending: int
    maxima: int


_TAPS: Final = msgspec.msgpack.Decoder(list[JourneyTap])


def settle_file(path: Path) -> Priced:
    """Price a shard, from its file to its entries."""
    begun_s = time.process_time()
    cards = count = amount = pending = maxima = 0
    for _, settled in settle_shard(rulebook(), _TAPS.decode(path.read_bytes()), (DAY + 2) * DAY_S):
        cards += 1
        pending += len(settled.pending)
        maxima += len(settled.maxima)
        for entry in entries({}, settled.charges):
            count += 1
            amount += entry.amount
    return Priced(time.process_time() - begun_s, cards, count, amount, pending, maxima)


def _ready() -> None:
    """Have a worker read the tariff, as it does once in its life, and look for no cycles: rides make none."""
    rulebook()
    gc.freeze()
    gc.disable()


def measure(pool: ProcessPoolExecutor, folder: Path, wanted: int) -> tuple[int, float, list[Priced]]:
    """Price so many taps, or a shard more; return how many, the seconds it took, and what came of them."""
    done, took, shard = 0, 0.0, 0
    priced: list[Priced] = []
    while done < wanted:
        numbers = range(shard, shard + ROUND)
        shard += ROUND
        paths = [folder / f"{number}.taps" for number in numbers]
        done += sum(pool.map(make, paths, numbers))
        begun = time.perf_counter()
        priced += pool.map(settle_file, paths)
        took += time.perf_counter() - begun
        for path in paths:
            path.unlink()
    return done, took, priced


async def run(sizes: Sequence[int] = TAPS) -> Report:
    """Price days of these sizes, and single taps as a gate would."""
    report = Report("journeys", "Journeys: a day of taps priced in the back office")
    with scratch() as folder, ProcessPoolExecutor(WORKERS, initializer=_ready) as pool:
        for size in sizes:
            done, took, priced = measure(pool, folder, size)
            cards = sum(each.cards for each in priced)
            report.figures.append(
                Figure(f"{size / 1e6:g} million taps, two processes", done / took, "taps/s", done, GOAL, "higher")
            )
            cpu_s = sum(each.cpu_s for each in priced)
            report.figures.append(Figure("  a second of one processor", done / cpu_s, "taps/s", done, better="higher"))
            report.figures.append(Figure("  of cards", cards, "cards", cards))
            maxima = sum(each.maxima for each in priced)
            report.figures.append(Figure("  at a maximum fare", maxima, "rides", done))
            assert not sum(each.pending for each in priced)
    report.figures += _taps()
    return report


def _taps() -> list[Figure]:
    """Time single prices: of a ride that has just ended, explained and not, each tariff read anew."""
    tariffs, chance = tariff(), random.Random(1)
    prices = QuickPrices(tariffs)
    quickly, explained = [], []
    for _ in range(SAMPLES):
        start, end = (f"m{chance.randrange(STATIONS):03}" for _ in "ab")
        at = DAY * DAY_S + chance.randrange(0, DAY_S // 2)
        leg = Leg(at, at + chance.randrange(300, 3000), "city", start, end, "", "metro", "", "card")
        begun = time.perf_counter_ns()
        quick = prices.totals([leg])
        between = time.perf_counter_ns()
        told = price(tariffs, [leg])
        ended = time.perf_counter_ns()
        assert quick == (told.totals, told.known)
        quickly.append((between - begun) / 1000)
        explained.append((ended - between) / 1000)
    return [
        Figure(f"one ride, {what}, {name}", of(samples), "µs", SAMPLES, goal)
        for what, samples in (("kept", quickly), ("explained", explained))
        for name, of, goal in (("p50", p50, None), ("p99", p99, TAP_GOAL_US))
    ]
