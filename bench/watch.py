"""Watches the machine from a process of its own: when was a program that only wants to sleep woken too late?

On a shared machine a benchmark's slowest samples are the neighbours'. A sample that was taken while timers on all
processors of the same machine were on time is the program's own.
"""

import os
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

PERIOD_S = 0.001
LATE_S = 0.001
"""A timer of one millisecond that is a millisecond late, or more, was kept from running."""


class Watch:
    """Moments when a processor was late. Made by `watching`; knows of a moment shortly after it."""

    def __init__(self) -> None:
        self._processors: dict[int, tuple[list[float], list[float]]] = {}

    def add(self, processor: int, began_s: float, ended_s: float) -> None:
        """Take one stretch of lateness, later than all before it of that processor; `time.monotonic()` seconds."""
        begins, ends = self._processors.setdefault(processor, ([], []))
        begins.append(began_s)
        ends.append(ended_s)

    def disturbed(self, began_s: float, ended_s: float) -> bool:
        """Whether any processor was late at any time between two moments."""
        return any(
            bisect_left(ends, began_s) < bisect_right(begins, ended_s)
            for begins, ends in self._processors.copy().values()
        )


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch until the block ends; the result is whole then."""
    watch = Watch()
    with subprocess.Popen(
        [sys.executable, "-m", "bench.watch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as timer:
        assert timer.stdin is not None
        assert timer.stdout is not None
        listener = threading.Thread(target=_listen, args=(timer.stdout, watch))
        listener.start()
        try:
            yield watch
        finally:
            timer.stdin.close()
            listener.join()


def _listen(told: IO[bytes], watch: Watch) -> None:
    for line in told:
        processor, began_s, ended_s = line.split()
        watch.add(int(processor), float(began_s), float(ended_s))


def main() -> None:
    """Sleep and wake on every processor until standard input ends; tell each lateness at once."""
    for processor in os.sched_getaffinity(0):
        threading.Thread(target=_watch, args=(processor,), daemon=True).start()
    sys.stdin.read()


def _watch(processor: int) -> None:
    os.sched_setaffinity(0, {processor})  # of this thread (sched_setaffinity(2))
    while True:
        due_s = time.monotonic() + PERIOD_S
        time.sleep(PERIOD_S)
        woken_s = time.monotonic()
        if woken_s - due_s > LATE_S:
            sys.stdout.write(f"{processor} {due_s!r} {woken_s!r}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
