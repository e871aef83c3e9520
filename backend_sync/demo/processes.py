"""The demo's processes: the same commands that a gate and a back office run, started, watched and stopped."""

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from backend_sync.broker import EmbeddedBroker
from backend_sync.demo.errors import ProcessDied

STOP_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded before any fork, so that the child only calls


@dataclass(slots=True)
class Process:
    """One command of this project, run as an operator would run it.

    Attributes:
        name: For messages.
        arguments: What follows ``python``.
        log: Where its standard error goes.
    """

    name: str
    arguments: list[str]
    log: Path
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                preexec_fn=end_with_parent,
            )

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what it says on standard output, one JSON object a line, until it ends.

        Raises:
            ProcessDied: It ended.
        """
        process = self._running()
        assert process.stdout is not None
        async for line in process.stdout:
            yield json.loads(line)
        status = await process.wait()
        raise ProcessDied(f"{self.name} ended with status {status}: {self.last_words()}")

    async def stop(self) -> None:
        """Ask it to stop, and wait; a process that does not is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            # Reading to the end keeps a last burst of events from blocking the exit.
            await asyncio.wait_for(process.communicate(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.communicate()

    @property
    def pid(self) -> int:
        """Id of the running process."""
        return self._running().pid

    def last_words(self) -> str:
        """Return the end of its log, for a message."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return " / ".join(lines[-3:])
        return "no log"

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ProcessDied(f"{self.name} is not running")
        return self._process


class Broker(Protocol):
    """An MQTT broker that can go away and come back on the same port."""

    @property
    def port(self) -> int:
        """Its loopback port."""
        ...

    async def start(self) -> None:
        """Listen."""
        ...

    async def stop(self) -> None:
        """Vanish, with everything that was not delivered."""
        ...


@dataclass(slots=True)
class Mosquitto:
    """Debian's Mosquitto on a loopback port, keeping nothing.

    Attributes:
        program: Path of the broker.
        folder: Where its configuration goes.
        port: Loopback port.
    """

    program: str
    folder: Path
    port: int
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Listen, and return once a connection is accepted."""
        configuration = self.folder / "mosquitto.conf"
        # A broker that root starts would change its user, and the system forgets then whose end it should be told of.
        configuration.write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_queued_messages 0\n"
        )
        self._process = await asyncio.create_subprocess_exec(
            self.program,
            "-c",
            str(configuration),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )
        await _listening(self.port)

    async def stop(self) -> None:
        """Vanish without a word, as in a power cut."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()


def choose_broker(folder: Path) -> tuple[str, Broker]:
    """Return Mosquitto where it is installed, else the embedded broker, with a name for people."""
    program = shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    port = _free_port()
    if program is None:
        return "embedded broker", EmbeddedBroker(port)
    return "Mosquitto", Mosquitto(program, folder, port)


def end_with_parent() -> None:
    """Have the system ask this process to stop when the demo dies, however it dies (prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _listening(port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise ProcessDied(f"nothing listens on port {port} after five seconds")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
