"""A tap at a gate: own work by stage, and the whole tap against its floor; in rounds, with the machine's own lateness.

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
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from rich.progress import track

from backend_sync.demo.cards import chip_of
from backend_sync.demo.day import anext_event, present
from backend_sync.demo.depot import PLACE, Depot
from backend_sync.demo.issuer import DAY, CardKey, Issuer
from backend_sync.demo.population import Card
from backend_sync.demo.processes import Process
from bench.figures import Figure, Report, p50, p99, p99s, scratch
from hardware.medium import Technology
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.chip import Chip
from hardware.virtual.isodep_target import Reply
from hardware.virtual.ultralight_aes import UltralightAes
from validator.model import Product, ProductKind

MODEL = "jcop4-p71"
ROUNDS, TAPS = 7, 100
OWN_P99_GOAL_MS = 5.0
RATIO_GOAL = 1.15
RSA_KEYS = 20
"""RSA keys take long to make; and a passenger taps at one gate now and then, not hundreds of times."""
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
    """What was measured of one kind of tap, in milliseconds."""

    own: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def add(self, event: dict[str, Any], floor_ms: float) -> None:
        """Take one tap that the validator reported."""
        self.own.append(event["own_ms"])
        self.total.append(event["total_ms"])
        self.floor.append(floor_ms)
        self.ratio.append(event["total_ms"] / floor_ms)
        for stage in STAGES:
            self.stages[stage].append(event["stages_ms"][stage])


@dataclass(slots=True)
class Lateness:
    """What a machine adds to any program, in milliseconds: waking up late, and making 4 KiB durable."""

    wake_up: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)


async def run(rounds: int = ROUNDS, taps: int = TAPS) -> Report:
    """Measure P-256 and RSA-2048, never seen and known cards, `taps` of each in each round."""
    report = Report("tap", f"A tap at the gate ({MODEL}, type A, 106 kbit/s; times of real silicon modelled)")
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(scratch())
        air = await Field.open()
        stack.push_async_callback(air.close)
        now = dt.datetime.now(dt.UTC)
        issuer = Issuer.create("Bench issuer", now)
        depot = Depot.create(folder, air=air.path, port=1)
        crowds = {"P-256": _cards(issuer, now, rounds * taps), "RSA-2048": _rsa_cards(issuer, now, rounds * taps)}
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
        measured_by_kind: dict[str, list[Samples]] = {}
        lateness: list[Lateness] = []
        for number in range(rounds):
            for algorithm, cards in crowds.items():
                chips = [chip_of(card, timed=True) for card in cards[number * taps :][:taps]]
                for state in ("miss", "hit"):
                    label = f"{algorithm}, {state}"
                    samples = await _measure(
                        chips, air, events, f"round {number + 1} of {rounds}: {label}", cached=state == "hit"
                    )
                    measured_by_kind.setdefault(label, []).append(samples)
            lateness.append(await asyncio.to_thread(late, folder, taps))
        for label, each in measured_by_kind.items():
            report.figures += _figures(label, each)
        report.figures += machine(lateness)
    return report


def late(folder: Path, count: int) -> Lateness:
    """Measure what this machine does to a program that does nothing but sleep and write."""
    seen = Lateness()
    with (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(count):
            asleep = time.perf_counter()
            time.sleep(CARD_WAIT_S)
            seen.wake_up.append((time.perf_counter() - asleep - CARD_WAIT_S) * 1000)
            probe.seek(0)
            probe.write(bytes(4096))
            written = time.perf_counter()
            os.fdatasync(probe.fileno())
            seen.durable.append((time.perf_counter() - written) * 1000)
    return seen


def machine(rounds: Sequence[Lateness]) -> list[Figure]:
    """Say how late this machine was between the rounds of taps."""
    figures = []
    for name, samples in (
        ("a wake-up after 30 ms is late by", [each.wake_up for each in rounds]),
        ("fdatasync of 4 KiB takes", [each.durable for each in rounds]),
    ):
        figures += [
            Figure(f"this machine: {name} p50", p50(list(chain(*samples))), "ms", sum(map(len, samples))),
            *p99s(f"this machine: {name}", samples),
        ]
    return figures


async def _measure(
    chips: list[Chip], air: Field, events: AsyncIterator[dict[str, Any]], label: str, *, cached: bool
) -> Samples:
    samples = Samples()
    for chip in track(chips, description=label, transient=True, disable=not sys.stderr.isatty()):
        event = await measured(chip, None, air, events, samples)
        if event["reason"] != "VALID" or event["cached"] is not cached:
            raise RuntimeError(f"{label}: a tap ended in {event['reason']}, cached {event['cached']}")
    return samples


async def measured(
    chip: Chip | UltralightAes,
    uid: bytes | None,
    air: Field,
    events: AsyncIterator[dict[str, Any]],
    samples: Samples,
) -> dict[str, Any]:
    """Tap once, take the card away, and return what the gate reported of it."""
    card = MeasuredCard(chip, Technology.TYPE_A, uid=uid, timing=AirTiming())
    event = await present(card, air, events)
    samples.add(event, card.tap_floor_s * 1000)
    air.remove()
    await asyncio.wait_for(air.polled(), 10)
    return event


def _figures(label: str, rounds: Sequence[Samples]) -> list[Figure]:
    own, total, ratio, floor = (
        list(chain(*(getattr(each, name) for each in rounds))) for name in ("own", "total", "ratio", "floor")
    )
    count = len(own)
    figures = [
        Figure(f"{label}: own work p50", p50(own), "ms", count),
        *p99s(f"{label}: own work", [each.own for each in rounds], OWN_P99_GOAL_MS),
    ]
    for stage in STAGES:
        spent = list(chain(*(each.stages[stage] for each in rounds)))
        figures += [
            Figure(f"{label}: {stage} p50", p50(spent), "ms", count),
            Figure(f"{label}: {stage} p99", p99(spent), "ms", count),
        ]
    return [
        *figures,
        Figure(f"{label}: whole tap p50", p50(total), "ms", count),
        Figure(f"{label}: whole tap p99", p99(total), "ms", count),
        Figure(
            f"{label}: whole tap / floor, median",
            p50(ratio),
            "times",
            count,
            goal=RATIO_GOAL,
            baseline="floor, median, ms",
            baseline_value=p50(floor),
        ),
        Figure(f"{label}: whole tap / floor, p99", p99(ratio), "times", count, goal=RATIO_GOAL),
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
