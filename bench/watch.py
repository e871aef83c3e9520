"""Watches the machine from a process of its own: when was a program that only wants to sleep woken too late?

On a shared machine a benchmark's slowest samples are the neighbours'. A sample that was taken while a timer on the same
machine was on time is the program's own.
"""

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
    """Moments when the machine was late. Made by `watching`; knows of a moment shortly after it."""

    def __init__(self) -> None:
        self._from: list[float] = []
        self._until: list[float] = []

    def add(self, began_s: float, ended_s: float) -> None:
        """Take one stretch of lateness, later than all before it; `time.monotonic()` seconds."""
        self._from.append(began_s)
        self._until.append(ended_s)

    def disturbed(self, began_s: float, ended_s: float) -> bool:
        """Whether the machine was late at any time between two moments."""
        return bisect_left(self._until, began_s) < bisect_right(self._from, ended_s)


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
        began_s, ended_s = map(float, line.split())
        watch.add(began_s, ended_s)


def main() -> None:
    """Sleep and wake until standard input ends; tell each lateness at once."""
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not stop.is_set():
        due_s = time.monotonic() + PERIOD_S
        time.sleep(PERIOD_S)
        woken_s = time.monotonic()
        if woken_s - due_s > LATE_S:
            sys.stdout.write(f"{due_s!r} {woken_s!r}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
