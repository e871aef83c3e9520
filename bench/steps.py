"""Steps of a benchmark in processes of their own, so that the greatest memory of each is its own.

A step is a function of a module that ends in `serve`. It is told its arguments as JSON, may tell how far it is, and
answers with numbers. The memory comes from VmHWM, which begins anew with the program; ru_maxrss would also tell of the
process that started it, if that was larger.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much; 0 where that is not known."""
Result = TypeVar("Result")
Step = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step came to.

    Attributes:
        answer: What it returned.
        peak_mb: The greatest resident memory of its process, in million octets.
    """

    answer: dict[str, Any]
    peak_mb: float


@dataclass(slots=True)
class Stopwatch:
    """Adds up what stretches of a step took.

    Attributes:
        seconds: By the clock on the wall.
        cpu_s: Of the processor: what others on the machine do has less to say in it.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the block."""
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began_s
            self.cpu_s += time.process_time() - cpu_began_s


def run_step(module: str, step: str, told: Mapping[str, object], progress: Progress) -> Outcome:
    """Run a step and wait for it.

    Args:
        module: The module that holds it, `__main__` of the new process.
        step: Name of the step.
        told: Its arguments; JSON has to know them.
        progress: Called while it runs.

    Raises:
        RuntimeError: It failed; what it said of it is on the terminal.
    """
    command = [sys.executable, "-m", module, step, json.dumps(told)]
    last: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = json.loads(line)
            if "done" in last:
                progress(last["phase"], last["done"], last["total"])
    if process.returncode != 0 or "answer" not in last:
        raise RuntimeError(f"step {step} of {module} ended with {process.returncode}")
    return Outcome(last["answer"], last["peak_mb"])


def serve(steps: Mapping[str, Step]) -> None:
    """Be a step: the command line names it and tells its arguments."""
    _, step, told = sys.argv
    answer = steps[step](**json.loads(told))
    print(json.dumps({"answer": answer, "peak_mb": peak_mb()}))


def tell(phase: str, done: int, total: int) -> None:
    """Tell how far a step is, from within it: a `Progress`."""
    print(json.dumps({"phase": phase, "done": done, "total": total}), flush=True)


def repeated(work: Callable[[], Result], times: int) -> tuple[Result, dict[str, float]]:
    """Do something several times.

    Returns:
        The last result; and the least that it took, `seconds`, and the least of its processor time, `cpu_s`: what it
        costs undisturbed. A neighbour who takes the caches makes a work slower, never faster.
    """
    watches, results = [Stopwatch() for _ in range(times)], list[Result]()
    for watch in watches:
        results.clear()  # never two at once: the greatest memory is to be that of one
        with watch.running():
            results.append(work())
    least_s, least_cpu_s = min(watch.seconds for watch in watches), min(watch.cpu_s for watch in watches)
    return results[0], {"seconds": least_s, "cpu_s": least_cpu_s}


def peak_mb() -> float:
    """Return the greatest resident memory of this process up to now, in million octets."""
    return _status("VmHWM")


def resident_mb() -> float:
    """Return the resident memory of this process, in million octets."""
    return _status("VmRSS")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"the kernel does not tell {name}")
