"""Deny lists of a whole nation: octets against the information bound, time, memory, and how each grows.

One card in a hundred of 1, 10 and 100 million is revoked (`bench.population`). Each step runs in a process of its own,
so that its greatest memory is its own, interpreter included. The bound is the binary logarithm of the number of ways to
choose the revoked cards. Look-ups are timed one by one in a process that holds the list and no numpy, half of them of
revoked cards, in random order, and the quietest of three rounds counts. Growth is that of the processor's time: others
on the machine have less to say in it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress, TaskID

from bench.figures import Figure, Report, scratch
from bench.population import choices_bits
from bench.steps import Outcome, run_step

MILLION: Final = 1_000_000
SIZES: Final = (MILLION, 10 * MILLION, 100 * MILLION)
ONE_IN: Final = 100
"""So many cards for each that is revoked."""
SEED: Final = 5
REPEATS: Final = 5
"""Of what takes seconds at most, in the largest nation; of what takes less in smaller ones, more."""
MOST_REPEATS: Final = 100
CHANGES: Final = (70, 1_000, 20_000)
DENSE_GOAL: Final = 1.0
SPARSE_GOAL: Final = 15.0
"""Octets beyond the information bound, in a hundred of it."""
LOOK_UP_GOAL_US: Final = 5.0
LINEAR: Final = 1.2
"""From the smallest nation to the largest, growth by so much more than the cards is still linear: a small list fits
into a cache, and neighbours have their say. What grows as n log n is beyond it: 1.33 from a million to a hundred."""
REALISTIC_SPARSE_CARDS: Final = 10 * MILLION
PLAIN: Final = "bench.lists_plain"
NUMPY: Final = "bench.lists_numpy"


@dataclass(slots=True)
class Growing:
    """A figure at several sizes.

    Attributes:
        name: What it is.
        unit: Of what.
        values: By number of cards.
    """

    name: str
    unit: str
    values: dict[int, float] = field(default_factory=dict)

    def figures(self) -> list[Figure]:
        """Return by how much it grew from each size to the next, and over all of them; `LINEAR` says what is linear."""
        sizes = sorted(self.values)
        steps = [self._grown(smaller, larger, None) for smaller, larger in pairwise(sizes)]
        return [*steps, self._grown(sizes[0], sizes[-1], LINEAR * sizes[-1] / sizes[0])]

    def _grown(self, smaller: int, larger: int, goal: float | None) -> Figure:
        return Figure(
            f"{self.name}, growth from {_millions(smaller)} to {_millions(larger)}",
            self.values[larger] / self.values[smaller],
            "times",
            larger,
            goal=goal,
            baseline=f"{self.unit} a million: {self.values[smaller] * MILLION / smaller:.3g}, then",
            baseline_value=self.values[larger] * MILLION / larger,
        )


@dataclass(frozen=True, slots=True)
class Nation:
    """A population in files, and the steps over it.

    Attributes:
        folder: Where its files are.
        mode: `uniform` or `realistic`.
        cards: How many.
        progress: Of the terminal.
        task: The line in it.
        of_interest: Whether the goal for octets is set for it: in small lists the heads weigh more.
        plan: What the step `sift` said.
    """

    folder: Path
    mode: str
    cards: int
    progress: Progress
    task: TaskID
    of_interest: bool = False
    plan: dict[str, Any] = field(default_factory=dict)

    @property
    def revoked(self) -> int:
        """How many cards are revoked."""
        return self.cards // ONE_IN

    @property
    def repeats(self) -> int:
        """How often something is done that takes seconds at most: as long in all for each nation."""
        return min(REPEATS * SIZES[-1] // self.cards, MOST_REPEATS)

    @property
    def called(self) -> str:
        """How figures call it."""
        return _millions(self.cards) + ("" if self.mode == "uniform" else ", rates by block")

    def make(self) -> None:
        """Write the files."""
        self.plan.update(self.over_population("sift").answer)

    def over_population(self, step: str) -> Outcome:
        """Run a step that makes the population anew."""
        told = {"mode": self.mode, "seed": SEED, "cards": self.cards, "revoked": self.revoked}
        return self.step(NUMPY, step, told)

    def step(self, module: str, step: str, told: dict[str, Any]) -> Outcome:
        """Run a step over the files, and show how far it is."""

        def show(phase: str, done: int, total: int) -> None:
            what = f"{self.called}: {step}, {phase}".replace("_", " ")
            self.progress.update(self.task, description=what, completed=done, total=total or None)

        show("started", 0, 0)
        return run_step(module, step, {"folder": str(self.folder)} | told, show)


async def dense(most: int = SIZES[-1]) -> Report:
    """Measure the dense list, at up to so many cards."""
    report = Report("lists-dense", f"Dense deny list, 1 in {ONE_IN} revoked")
    await asyncio.to_thread(_measure_dense, report, _sizes(most))
    return report


async def sparse(most: int = SIZES[-1]) -> Report:
    """Measure the sparse list, at up to so many cards."""
    report = Report("lists-sparse", f"Sparse deny list, 1 in {ONE_IN} revoked")
    await asyncio.to_thread(_measure_sparse, report, _sizes(most))
    return report


def _measure_dense(report: Report, sizes: Sequence[int]) -> None:
    growing = [
        Growing("encode, processor time", "s"),
        Growing("load, processor time", "s"),
        Growing("peak memory of encoding", "MB"),
        Growing("peak memory of loading", "MB"),
    ]
    with Progress(transient=True) as progress:
        task = progress.add_task("")
        for cards in sizes:
            with scratch() as folder:
                nation = Nation(folder, "uniform", cards, progress, task, of_interest=cards == sizes[-1])
                nation.make()
                figures, grown = _dense_figures(nation)
                report.figures += figures
                for changes in CHANGES:
                    report.figures += _delta_figures(nation, changes)
                for each, value in zip(growing, grown, strict=True):
                    each.values[cards] = value
        with scratch() as folder:
            nation = Nation(folder, "realistic", sizes[-1], progress, task)
            nation.make()
            report.figures += _dense_figures(nation)[0]
    for each in growing:
        report.figures += each.figures()


def _measure_sparse(report: Report, sizes: Sequence[int]) -> None:
    growing = [
        Growing("build, processor time", "s"),
        Growing("load, processor time", "s"),
        Growing("peak memory of building", "MB"),
        Growing("peak memory of loading", "MB"),
    ]
    with Progress(transient=True) as progress:
        task = progress.add_task("")
        for cards in sizes:
            with scratch() as folder:
                nation = Nation(folder, "uniform", cards, progress, task, of_interest=cards == sizes[-1])
                nation.make()
                figures, grown = _sparse_figures(nation)
                report.figures += figures
                for each, value in zip(growing, grown, strict=True):
                    each.values[cards] = value
        with scratch() as folder:
            nation = Nation(folder, "realistic", min(sizes[-1], REALISTIC_SPARSE_CARDS), progress, task)
            nation.make()
            report.figures += _sparse_figures(nation)[0]
    for each in growing:
        report.figures += each.figures()


def _dense_figures(nation: Nation) -> tuple[list[Figure], tuple[float, ...]]:
    """Return figures of the dense list, and those of them whose growth is of interest."""
    told = {"issuers": nation.plan["issuers"], "repeats": nation.repeats}
    encoded = nation.step(PLAIN, "encode_dense", told)
    loaded = nation.step(PLAIN, "load_dense", told)
    weighed = nation.step(PLAIN, "weigh_dense", {})
    called, revoked = nation.called, nation.revoked
    figures = [
        *_size_figures(nation, encoded.answer["bytes"], "bound_bits_by_block", DENSE_GOAL),
        Figure(f"{called}: encode", encoded.answer["seconds"], "s", revoked),
        Figure(f"{called}: peak memory of encoding", encoded.peak_mb, "MB", revoked),
        Figure(f"{called}: load", loaded.answer["seconds"], "s", revoked),
        Figure(f"{called}: peak memory of loading", loaded.answer["peak_mb"], "MB", revoked),
        Figure(f"{called}: memory of the loaded list", weighed.answer["held_mb"], "MB", revoked),
        Figure(f"{called}: wrong among all cards", loaded.answer["wrong_in_all"], "cards", nation.cards, goal=0),
        *_look_up_figures(nation, loaded.answer),
    ]
    grown = (encoded.answer["cpu_s"], loaded.answer["cpu_s"], encoded.peak_mb, loaded.answer["peak_mb"])
    return figures, grown


def _delta_figures(nation: Nation, changes: int) -> list[Figure]:
    changed = nation.step(PLAIN, "change_dense", {"changes": changes, "seed": SEED, "repeats": nation.repeats}).answer
    listed = nation.revoked
    bound = choices_bits(nation.cards - listed, changed["added"]) + choices_bits(listed, changed["removed"])
    called = f"{nation.called}: delta of {changes:,} changes"
    return [
        Figure(called, changed["bytes"], "octets", changes, baseline="information bound", baseline_value=bound / 8),
        Figure(f"{called}, apply", changed["seconds"] * 1000, "ms", nation.repeats),
    ]


def _sparse_figures(nation: Nation) -> tuple[list[Figure], tuple[float, ...]]:
    """Return figures of the sparse list, and those of them whose growth is of interest."""
    built = nation.over_population("build_sparse")
    checked = nation.over_population("verify_sparse")
    loaded = nation.step(PLAIN, "load_sparse", {"vintages": nation.plan["vintages"], "repeats": nation.repeats}).answer
    weighed = nation.step(PLAIN, "weigh_sparse", {}).answer
    called, cards, revoked = nation.called, nation.cards, nation.revoked
    figures = [
        *_size_figures(nation, built.answer["bytes"], "bound_bits_by_vintage", SPARSE_GOAL),
        Figure(f"{called}: wrong among all cards", checked.answer["wrong_in_all"], "cards", cards, goal=0),
        Figure(f"{called}: exceptions", built.answer["exceptions"], "cards", cards),
        Figure(
            f"{called}: build and check",
            built.answer["seconds"],
            "s",
            cards,
            baseline="of it making the population",
            baseline_value=built.answer["population_s"],
        ),
        Figure(f"{called}: peak memory of building", built.peak_mb, "MB", cards),
        Figure(
            f"{called}: check of every card alone",
            checked.answer["seconds"],
            "s",
            cards,
            baseline="of it making the population",
            baseline_value=checked.answer["population_s"],
        ),
        Figure(f"{called}: load", loaded["seconds"], "s", revoked),
        Figure(f"{called}: peak memory of loading", loaded["peak_mb"], "MB", revoked),
        Figure(f"{called}: memory of the loaded list", weighed["held_mb"], "MB", revoked),
        *_look_up_figures(nation, loaded),
    ]
    return figures, (built.answer["cpu_s"], loaded["cpu_s"], built.peak_mb, loaded["peak_mb"])


def _size_figures(nation: Nation, octets: int, by_block: str, goal: float) -> list[Figure]:
    """Say what a snapshot costs against the bound; where rates differ by block, against that of one who knows them."""
    bound = nation.plan["bound_bits"] / 8
    parted = nation.plan[by_block] / 8
    figures = [
        Figure(
            f"{nation.called}: snapshot",
            octets / 1e6,
            "MB",
            nation.revoked,
            baseline="information bound",
            baseline_value=bound / 1e6,
        ),
        Figure(
            f"{nation.called}: snapshot beyond the bound",
            100 * (octets / bound - 1),
            "%",
            nation.revoked,
            goal=goal if nation.of_interest else None,
        ),
        Figure(f"{nation.called}: bits a revoked card", octets * 8 / nation.revoked, "bits", nation.revoked),
    ]
    if nation.mode == "realistic":
        figures.append(
            Figure(
                f"{nation.called}: snapshot beyond the bound of who knows each block's rate",
                100 * (octets / parted - 1),
                "%",
                nation.revoked,
                baseline="that bound, MB",
                baseline_value=parted / 1e6,
            )
        )
    return figures


def _look_up_figures(nation: Nation, looked: dict[str, Any]) -> list[Figure]:
    figures = []
    for sort in ("good", "revoked"):
        called, found = f"{nation.called}: look-up of a {sort} card", looked[sort]
        figures += [
            Figure(f"{called}, median", found["p50_us"], "µs", found["n"]),
            Figure(
                f"{called}, 99th percentile",
                found["p99_us"],
                "µs",
                found["n"],
                goal=LOOK_UP_GOAL_US,
                baseline="the timer, taken off",
                baseline_value=looked["timer_us"],
            ),
        ]
    n = sum(looked[sort]["n"] for sort in ("good", "revoked"))
    return [
        *figures,
        Figure(f"{nation.called}: wrong among those looked up", looked["wrong_in_sample"], "cards", n, goal=0),
    ]


def _sizes(most: int) -> list[int]:
    return [size for size in SIZES if size < most] + [most] if most < SIZES[-1] else list(SIZES)


def _millions(cards: int) -> str:
    return f"{cards / MILLION:g} M"
