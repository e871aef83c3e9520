"""A tap at a gate: own work by stage, and the whole tap against its floor.

The gate is the real `validator run` in its own process, with the durable commit inside; the card is held against
nfcpy's simulated air by this process, with the air and chip times of real silicon modelled. The floor of a tap is the
time that its frames spend on the air and its chip computing: no reader can be faster.
"""

import asyncio
import datetime as dt
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from rich.progress import track

from backend_sync.demo.cards import chip_of
from backend_sync.demo.day import anext_event, present
from backend_sync.demo.depot import PLACE, Depot
from backend_sync.demo.issuer import DAY, CardKey, Issuer
from backend_sync.demo.population import Card
from backend_sync.demo.processes import Process
from bench.figures import Figure, Report, p50, p99, scratch
from bench.watch import Watch, watching
from hardware.medium import Technology
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.chip import Chip
from hardware.virtual.isodep_target import Reply
from hardware.virtual.ultralight_aes import UltralightAes
from validator.rights import Product, ProductKind

T = TypeVar("T")

MODEL = "jcop4-p71"
OWN_P99_GOAL_MS = 5.0
RATIO_GOAL = 1.15
RSA_KEYS = 20
"""RSA keys take long to make; and a passenger taps at one gate now and then, not hundreds of times."""
ATTEMPTS = 3
"""How often a card is presented whose tap a late machine tore."""
SPARE = 3
"""On a machine that is late too often, taps go on up to this many times what was asked for."""
WARM_UP_TAPS = 5
"""A gate's first taps pay for what is loaded at the first use, once in weeks; they are not counted."""
STAGES = ("dialogue", "trust", "settle", "signal")
CARD_WAIT_S = 0.03
"""About as long as the gate sleeps while a card computes."""
PRESENCE_CHECK = 0xB2
"""R(NAK): what the gate asks after the signal is no part of the tap."""


class MeasuredCard(AirCard):
    """A virtual card that remembers its floor up to the last frame that belongs to the tap."""

    tap_floor_s = 0.0

    def receive(self, frame: bytes) -> Reply | None:
        """Answer a frame."""
        reply = super().receive(frame)
        if frame[0] & 0xFE != PRESENCE_CHECK:
            self.tap_floor_s = self.floor_s
        return reply


@dataclass(slots=True)
class Samples:
    """What was measured of one kind of tap, in milliseconds; and when each was, in `time.monotonic()` seconds."""

    own: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    torn: int = 0
    """Taps that a late machine tore, so that the card was presented again, as a passenger would."""

    def add(self, event: dict[str, Any], floor_ms: float, span: tuple[float, float]) -> None:
        """Take one tap that the validator reported."""
        self.spans.append(span)
        self.own.append(event["own_ms"])
        self.total.append(event["total_ms"])
        self.floor.append(floor_ms)
        self.ratio.append(event["total_ms"] / floor_ms)
        for stage in STAGES:
            self.stages[stage].append(event["stages_ms"][stage])

    def calm(self, watch: Watch) -> list[float]:
        """Return the own work of the taps during which the machine was on time, milliseconds."""
        return [spent for spent, span in zip(self.own, self.spans, strict=True) if not watch.disturbed(*span)]


@dataclass(frozen=True, slots=True)
class Lane:
    """A gate that is measured: the air before its reader, what it reports, and who watches the machine meanwhile."""

    air: Field
    events: AsyncIterator[dict[str, Any]]
    watch: Watch


def own_figures(label: str, samples: Samples, watch: Watch) -> list[Figure]:
    """Say what the gate's own work takes: of all taps, and of those in which the machine was on time."""
    own, count, calm = samples.own, len(samples.own), samples.calm(watch)
    figures = [
        Figure(f"{label}: own work p50", p50(own), "ms", count),
        Figure(f"{label}: own work p99", p99(own), "ms", count, goal=OWN_P99_GOAL_MS),
    ]
    if samples.torn:
        figures.append(Figure(f"{label}: torn, presented again", samples.torn, "taps", count))
    if calm:
        figures.append(
            Figure(f"{label}: own work p99, machine on time", p99(calm), "ms", len(calm), goal=OWN_P99_GOAL_MS)
        )
    return figures


async def run(taps: int = 300) -> Report:
    """Measure P-256 and RSA-2048, never seen and known cards, until the machine was on time in `taps` of each."""
    report = Report("tap", f"A tap at the gate ({MODEL}, type A, 106 kbit/s; times of real silicon modelled)")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(scratch())
        air = await Field.open()
        stack.push_async_callback(air.close)
        now = dt.datetime.now(dt.UTC)
        issuer = Issuer.create("Bench issuer", now)
        depot = Depot.create(folder, air=air.path, port=1)
        count = WARM_UP_TAPS + SPARE * taps
        crowds = {"P-256": _cards(issuer, now, count), "RSA-2048": _rsa_cards(issuer, now, count)}
        holders = {card.credential_id for cards in crowds.values() for card in cards}
        depot.sell([(holder, pass_of(number, now)) for number, holder in enumerate(sorted(holders), 1)], now)
        depot.publish([issuer], [], now)
        gate = Process(
            "validator", ["-m", "validator", "run", "--config", str(depot.gate_toml), "--json"], folder / "gate.log"
        )
        await gate.start()
        stack.push_async_callback(gate.stop)
        events = gate.events()
        await anext_event(events, "ready")
        kinds: dict[str, Samples] = {}
        with watching() as watch:
            lane = Lane(air, events, watch)
            for algorithm, cards in crowds.items():
                await warm_up([(chip_of(card, timed=True), None) for card in cards[:WARM_UP_TAPS]], lane)
                chips = [chip_of(card, timed=True) for card in cards[WARM_UP_TAPS:]]
                for state in ("miss", "hit"):
                    label = f"{algorithm}, {state}"
                    tapped = await _measure(chips, taps, lane, label, cached=state == "hit")
                    kinds[label] = tapped
                    chips = again(chips[: len(tapped.own)], taps)
        for label, samples in kinds.items():
            report.figures += _figures(label, samples, watch)
        report.figures += await asyncio.to_thread(machine, folder, taps)
    return report


def machine(folder: Path, count: int) -> list[Figure]:
    """What this machine adds to any program in the same run: waking up late, and making 4 KiB durable."""
    late: list[float] = []
    durable: list[float] = []
    with (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(count):
            asleep = time.perf_counter()
            time.sleep(CARD_WAIT_S)
            late.append((time.perf_counter() - asleep - CARD_WAIT_S) * 1000)
            probe.seek(0)
            probe.write(bytes(4096))
            written = time.perf_counter()
            os.fdatasync(probe.fileno())
            durable.append((time.perf_counter() - written) * 1000)
    return [
        Figure(f"this machine: {name} {share}", value, "ms", count)
        for name, samples in (("a wake-up after 30 ms is late by", late), ("fdatasync of 4 KiB takes", durable))
        for share, value in (("p50", p50(samples)), ("p99", p99(samples)))
    ]


def again(cards: Sequence[T], taps: int) -> list[T]:
    """Return cards that were tapped, in turn and as often as a row may need."""
    return list(itertools.islice(itertools.cycle(cards), SPARE * taps))


async def _measure(chips: list[Chip], taps: int, lane: Lane, label: str, *, cached: bool) -> Samples:
    samples = Samples()
    for chip in track(chips, description=label, transient=True, disable=not sys.stderr.isatty()):
        event = await measured(chip, None, lane, samples)
        if event["reason"] != "VALID" or event["cached"] is not cached:
            raise RuntimeError(f"{label}: a tap ended in {event['reason']}, cached {event['cached']}")
        if len(samples.calm(lane.watch)) >= taps:
            break
    return samples


async def warm_up(cards: Iterable[tuple[Chip | UltralightAes, bytes | None]], lane: Lane) -> None:
    """Tap some cards, each a chip and its UID, and count nothing."""
    for chip, uid in cards:
        await measured(chip, uid, lane, Samples())


async def measured(
    chip: Chip | UltralightAes,
    uid: bytes | None,
    lane: Lane,
    samples: Samples,
) -> dict[str, Any]:
    """Tap, again if the tap was torn, take the card away, and return what the gate reported of it."""
    for _ in range(ATTEMPTS):
        card = MeasuredCard(chip, Technology.TYPE_A, uid=uid, timing=AirTiming())
        began_s = time.monotonic()
        event = await present(card, lane.air, lane.events)
        ended_s = time.monotonic()
        lane.air.remove()
        await asyncio.wait_for(lane.air.polled(), 10)
        if event["reason"] != "PRESENT_AGAIN":
            samples.add(event, card.tap_floor_s * 1000, (began_s, ended_s))
            return event
        samples.torn += 1
    raise RuntimeError(f"a card was presented {ATTEMPTS} times, and the gate asked for it again each time")


def _figures(label: str, samples: Samples, watch: Watch) -> list[Figure]:
    count = len(samples.own)
    figures = own_figures(label, samples, watch)
    for stage, spent in samples.stages.items():
        figures += [
            Figure(f"{label}: {stage} p50", p50(spent), "ms", count),
            Figure(f"{label}: {stage} p99", p99(spent), "ms", count),
        ]
    return [
        *figures,
        Figure(f"{label}: whole tap p50", p50(samples.total), "ms", count),
        Figure(f"{label}: whole tap p99", p99(samples.total), "ms", count),
        Figure(
            f"{label}: whole tap / floor, median",
            p50(samples.ratio),
            "times",
            count,
            goal=RATIO_GOAL,
            baseline="floor, median, ms",
            baseline_value=p50(samples.floor),
        ),
        Figure(f"{label}: whole tap / floor, p99", p99(samples.ratio), "times", count, goal=RATIO_GOAL),
    ]


def _cards(issuer: Issuer, now: dt.datetime, count: int) -> list[Card]:
    return [_card(ec.generate_private_key(ec.SECP256R1()), issuer, now) for _ in range(count)]


def _rsa_cards(issuer: Issuer, now: dt.datetime, count: int) -> list[Card]:
    """A few keys, each under many certificates: a card that was never seen is one whose certificate was not."""
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(RSA_KEYS)]
    return [_card(key, issuer, now) for key, _ in zip(itertools.cycle(keys), range(count), strict=False)]


def _card(key: CardKey, issuer: Issuer, now: dt.datetime) -> Card:
    return Card(key, issuer.issue(key, now - DAY, now + 365 * DAY), Technology.TYPE_A, MODEL)


def pass_of(number: int, now: dt.datetime) -> Product:
    """A period pass that lets its holder tap as often as the bench likes."""
    now_s = int(now.timestamp())
    return Product(
        number, ProductKind.PERIOD_PASS, now_s - 86400, now_s + 86400, now_s - 86400, places=frozenset({PLACE})
    )
