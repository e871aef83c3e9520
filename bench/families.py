"""Exchanges, bytes and own work of a tap, by card family, beside what its protocol needs at least.

One gate for each family, the real `validator run`, and cards with the times of real silicon where somebody published
them: two models for the families that sign or agree on a key. Nobody published how long NTAG 424 DNA and MIFARE
Ultralight AES compute; their taps are modelled by their air time alone, and real ones take longer.
"""

import asyncio
import datetime as dt
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from backend_sync.demo.day import anext_event
from backend_sync.demo.depot import Depot
from backend_sync.demo.media import Operator, OperatorCard
from backend_sync.demo.processes import Process
from bench.figures import Figure, Report, p50, scratch
from bench.tap import MODEL, SPARE, WARM_UP_TAPS, Lane, Samples, again, machine, measured, own_figures, pass_of, warm_up
from bench.watch import Watch, watching
from hardware.virtual.air import Field
from validator.profiles import ntag424, piv, piv_sm, pkoc1, pkoc2, ultralight_aes

SLOWER = "jcop3-p60"
"""An older chip, for comparison."""


@dataclass(frozen=True, slots=True)
class Row:
    """A family, and the least that its protocol needs.

    Attributes:
        family: Its name.
        first: Exchanges with a card that the gate never saw, SELECT included.
        known: Exchanges with a card that it knows; None where nothing is kept of a card: every tap is a first one.
        models: Card models to compare.
        random_uid: Whether the card hides its UID.
    """

    family: str
    first: int
    known: int | None
    models: tuple[str | None, ...] = (MODEL, SLOWER)
    random_uid: bool = False

    @property
    def name(self) -> str:
        """What the row is called."""
        return f"{self.family}, UID hidden" if self.random_uid else self.family


ROWS = (
    Row(piv.NAME, first=4, known=3),
    Row(piv_sm.NAME, first=2, known=2),
    Row(pkoc1.NAME, first=2, known=None),
    Row(pkoc2.NAME, first=3, known=3),
    Row(ntag424.NAME, first=4, known=None, models=(None,)),
    Row(ultralight_aes.NAME, first=4, known=None, models=(None,)),
    Row(ultralight_aes.NAME, first=7, known=None, models=(None,), random_uid=True),
)


async def run(taps: int = 150) -> Report:
    """Measure each family on a gate of its own, each model first seen and known, until `taps` were undisturbed."""
    report = Report("families", f"A tap by card family ({MODEL} and {SLOWER} modelled, type A, 106 kbit/s)")
    for row in ROWS:
        with scratch() as folder:
            report.figures += await _measure(row, folder, taps)
    with scratch() as folder:
        report.figures += await asyncio.to_thread(machine, folder, taps)
    return report


async def _measure(row: Row, folder: Path, taps: int) -> list[Figure]:
    now = dt.datetime.now(dt.UTC)
    operator = Operator.create(folder / "operator", now)
    crowds = {
        model: [
            operator.issue(row.family, model, random_uid=row.random_uid) for _ in range(WARM_UP_TAPS + SPARE * taps)
        ]
        for model in row.models
    }
    async with AsyncExitStack() as stack:
        air = await Field.open()
        stack.push_async_callback(air.close)
        cards = [card for crowd in crowds.values() for card in crowd]
        gate, events = await _gate(row, folder, operator, cards, air)
        stack.push_async_callback(gate.stop)
        await anext_event(events, "ready")
        lines: list[Line] = []
        with watching() as watch:
            lane = Lane(air, events, watch)
            for model, crowd in crowds.items():
                await warm_up([(card.chip, card.uid) for card in crowd[:WARM_UP_TAPS]], lane)
                cards = crowd[WARM_UP_TAPS:]
                for state, least in (("first seen", row.first), ("known", row.known)):
                    if least is None:
                        continue
                    label = ", ".join(filter(None, (row.name, None if row.known is None else state, model)))
                    lines.append(await _taps(label, least, cards, taps, lane))
                    for figure in own_figures(label, lines[-1].samples, watch):
                        print(f"{figure.name}: {figure.value:.2f} (n {figure.n})", file=sys.stderr, flush=True)
                    cards = again(cards[: len(lines[-1].exchanges)], taps)
    return [figure for line in lines for figure in line.figures(watch)]


async def _gate(
    row: Row, folder: Path, operator: Operator, cards: list[OperatorCard], air: Field
) -> tuple[Process, AsyncIterator[dict[str, Any]]]:
    """Provision a gate that takes this family alone, sell a pass to each card, and start it."""
    (folder / "depot").mkdir()
    depot = Depot.create(folder / "depot", air=air.path, port=1, families=[row.family], keys=operator.key_directory)
    depot.sell(
        [(card.credential_id, pass_of(number, operator.now)) for number, card in enumerate(cards, 1)], operator.now
    )
    enrolled = [operator.enrol(card) for card in cards] if row.family == pkoc1.NAME else []
    depot.publish([operator.issuer], [], operator.now, operator=operator, enrolled=enrolled)
    gate = Process(
        "validator",
        ["-m", "validator", "run", "--config", str(depot.gate_toml), "--json"],
        folder / "gate.log",
    )
    await gate.start()
    return gate, gate.events()


@dataclass(slots=True)
class Line:
    """Taps of one kind.

    Attributes:
        label: What they are.
        least: Exchanges that the protocol needs.
        samples: What they took.
        exchanges: Of each tap.
        octets: Of each tap, both ways.
    """

    label: str
    least: int
    samples: Samples = field(default_factory=Samples)
    exchanges: list[int] = field(default_factory=list)
    octets: list[int] = field(default_factory=list)

    def figures(self, watch: Watch) -> list[Figure]:
        """Say what was measured."""
        count = len(self.exchanges)
        return [
            Figure(
                f"{self.label}: exchanges, at most",
                max(self.exchanges),
                "",
                count,
                self.least,
                baseline="protocol",
                baseline_value=self.least,
            ),
            Figure(f"{self.label}: bytes both ways", p50(self.octets), "B", count),
            *own_figures(self.label, self.samples, watch),
            Figure(
                f"{self.label}: whole tap p50",
                p50(self.samples.total),
                "ms",
                count,
                baseline="floor, ms",
                baseline_value=p50(self.samples.floor),
            ),
        ]


async def _taps(label: str, least: int, cards: list[OperatorCard], taps: int, lane: Lane) -> Line:
    line = Line(label, least)
    for card in track(cards, description=label, transient=True, disable=not sys.stderr.isatty()):
        event = await measured(card.chip, card.uid, lane, line.samples)
        if event["reason"] != "VALID":
            raise RuntimeError(f"{label}: a tap ended in {event['reason']}")
        line.exchanges.append(event["apdus"])
        line.octets.append(event["bytes_out"] + event["bytes_in"])
        if len(line.samples.calm(lane.watch)) >= taps:
            break
    return line
