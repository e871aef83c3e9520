"""Named processes that are killed without warning and started again: the harness of the crash tests."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

from backend_sync.demo.processes import end_with_parent

STOP_S = 10.0


@dataclass
class Supervised:
    """One process under a name.

    Attributes:
        name: For messages and logs.
        argv: The command.
        log: Where its output goes, all lives in one file.
        kills: How often it was killed.
    """

    name: str
    argv: list[str]
    log: Path
    kills: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it only calls, and a test that is killed leaves nobody behind
            )

    def kill(self) -> None:
        """``kill -9``, and start again is the caller's business. A process that died by itself is a failure."""
        assert self.process is not None
        status = self.process.poll()
        assert status is None, f"{self.name} ended by itself with {status}: {self.last_words()}"
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self, timeout: float) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self) -> None:
        if self.process is None or not self.running:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} did not stop when asked: {self.last_words()}") from None

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "no log"


class Supervisor:
    """Several processes, of which a seed chooses the next to die.

    Args:
        folder: Where logs go.
        seed: Decides who is killed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._rng = Random(seed)
        self.processes: dict[str, Supervised] = {}

    def add(self, name: str, argv: list[str]) -> Supervised:
        """Name a process and start it."""
        process = Supervised(name, argv, self._folder / f"{name}.log")
        self.processes[name] = process
        process.start()
        return process

    def kill_one(self, *names: str) -> str:
        """Kill one of these and start it again at once; return which."""
        name = self._rng.choice(names)
        process = self.processes[name]
        process.kill()
        process.start()
        return name

    def pause(self, longest: float) -> float:
        """Return a random time to let them work before the next kill."""
        return self._rng.uniform(0.0, longest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # The order of starting is the order of need: the last one started goes first.
        for process in reversed(self.processes.values()):
            process.stop()


def python(script: Path, *arguments: str | int | Path) -> list[str]:
    """The command that runs one of the tests' own programs from the checkout."""
    root = Path(__file__).parents[2]
    start = f"import runpy, sys; sys.path.insert(0, {str(root)!r}); sys.argv.pop(0)"
    code = f"{start}; runpy.run_path(sys.argv[0], run_name='__main__')"
    return [sys.executable, "-W", "error", "-c", code, os.fspath(script), *(str(one) for one in arguments)]
