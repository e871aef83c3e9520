"""Figures: collected, written to ``bench/out/NAME.json``, and printed as a table."""

import json
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parent.absolute() / "out"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: How much.
        unit: Of what.
        n: From how many samples.
        goal: What was hoped for, or None.
        better: Which way is good.
        baseline: What it was compared with in the same run, or None.
        baseline_value: The baseline's number, or None.
    """

    name: str
    value: float
    unit: str
    n: int
    goal: float | None = None
    better: Literal["lower", "higher"] = "lower"
    baseline: str | None = None
    baseline_value: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


@dataclass(slots=True)
class Report:
    """The figures of one benchmark.

    Attributes:
        name: Names the file in ``bench/out``.
        title: Headline of the table.
        figures: In order.
    """

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)

    def close(self, console: Console) -> None:
        """Write the file and print the table."""
        OUT.mkdir(exist_ok=True)
        path = OUT / f"{self.name}.json"
        path.write_text(json.dumps([asdict(figure) for figure in self.figures], indent=1) + "\n")
        table = Table(title=self.title, title_justify="left")
        table.add_column("figure")
        for heading in ("value", "goal", "n"):
            table.add_column(heading, justify="right")
        table.add_column("compared with")
        for figure in self.figures:
            mark = {True: " ✔", False: " ✘", None: ""}[figure.reached]
            goal = "" if figure.goal is None else f"{'≤' if figure.better == 'lower' else '≥'} {figure.goal:g}{mark}"
            against = "" if figure.baseline is None else f"{figure.baseline}: {figure.baseline_value:.3g}"
            table.add_row(figure.name, f"{figure.value:.3g} {figure.unit}", goal, str(figure.n), against)
        console.print(table)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a benchmark, beside its results: on the disk of the checkout, so that what is durable costs.

    Raises:
        RuntimeError: The checkout lies in memory, where a commit costs nothing.
    """
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=OUT) as name:
        folder = Path(name)
        if _file_system(folder) in {"tmpfs", "ramfs"}:
            raise RuntimeError(f"{OUT} lies in memory: run the benchmarks from a checkout on a disk")
        yield folder


def _file_system(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[1]))[2]


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return the least sample that `percent` of a hundred do not exceed (nearest rank)."""
    return sorted(samples)[math.ceil(percent * len(samples) / 100) - 1]


def p50(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def p99(samples: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return percentile(samples, 99)
