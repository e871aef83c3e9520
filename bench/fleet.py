"""From a stolen card to its refusal: the commands that people type, a real Mosquitto, and two hundred simulated gates.

What is measured begins when `backend-sync enrol revoke` is started, and ends at each gate when its lists refuse the
card; a gate looks at them once a second, as `validator run` does. The gates are real uplinks in two processes, without
cards. All of it shares this machine's processors. Bytes are those that the broker says it sent, to everybody: what
gates report of themselves to the office is among them.

The week is one gate's, in virtual time and with a broker of a few lines, which counts what it delivers: a new deny list
at its beginning, a signed timestamp each hour, a change every five minutes.
"""

import asyncio
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from backend_sync.demo.processes import Process
from backend_sync.mqtt import Broker, LinkLost, connect
from bench.figures import Figure, Report, p50, p99, percentile, scratch
from bench.list_office import Office
from bench.week import week

GATES: Final = 200
PROCESSES: Final = 2
REVOCATIONS: Final = 10
LISTED: Final = 20_000
GOAL_S: Final = 10
_JOIN_S: Final = 240.0
_REFUSED_S: Final = 120.0


async def run(gates: int = GATES) -> Report:
    """Measure how long gates take to refuse a stolen card, and what it costs; then a week's bytes."""
    report = Report("fleet", f"A stolen card, refused at {gates} gates behind one Mosquitto")
    with scratch() as folder:
        report.figures += await _refusals(folder, gates)
    with scratch() as folder:
        report.figures += await asyncio.to_thread(week, folder)
    return report


async def _refusals(folder: Path, gates: int) -> list[Figure]:
    rng = random.Random(1)
    listed, stolen = ([rng.randbytes(16).hex() for _ in range(count)] for count in (LISTED, REVOCATIONS))
    devices = [f"gate-{number}" for number in range(gates)]
    async with _mosquitto(folder) as port:
        office = await asyncio.to_thread(Office.create, folder / "office", port, devices, int(time.time()))
        (folder / "listed").write_text("\n".join(listed))
        await _backend_sync(office, "publish", "deny", str(folder / "listed"))
        announcer = Process("publish announce", _command(office, "publish", "announce"), folder / "announce.log")
        share = gates // PROCESSES
        fleets = [
            await asyncio.to_thread(_fleet, office, port, range(first, first + share), stolen)
            for first in range(0, gates, share)
        ]
        try:
            await announcer.start()
            events = Events(fleets, folder)
            began = time.monotonic()
            joined = [at - began for at in await events.all("joined", gates, _JOIN_S)]
            await asyncio.sleep(3)
            before, waits = await _sent(port), list[float]()
            for card in stolen:
                began = time.monotonic()
                await _backend_sync(office, "enrol", "revoke", card, "--why", "stolen")
                waits += [at - began for at in await events.all(card, gates, _REFUSED_S)]
            sent = await _sent(port) - before
        finally:
            await announcer.stop()
            for fleet in fleets:
                fleet.terminate()
                fleet.wait()
    return [
        Figure("all gates have their first list after", max(joined), "s", gates),
        Figure("from `enrol revoke` to refusal, p50", p50(waits), "s", len(waits)),
        Figure("from `enrol revoke` to refusal, p99", p99(waits), "s", len(waits), goal=GOAL_S),
        Figure("from `enrol revoke` to refusal, slowest", percentile(waits, 100), "s", len(waits)),
        Figure("sent for a revocation and a gate", sent / gates / REVOCATIONS, "B", gates * REVOCATIONS),
    ]


class Events:
    """What the gates print."""

    def __init__(self, fleets: list["subprocess.Popen[bytes]"], folder: Path) -> None:
        self._seen: dict[str, dict[str, float]] = {}
        self._folder = folder
        for fleet in fleets:
            asyncio.get_running_loop().run_in_executor(None, self._read, fleet)

    def _read(self, fleet: "subprocess.Popen[bytes]") -> None:
        assert fleet.stdout is not None
        for line in fleet.stdout:
            event = json.loads(line)
            self._seen.setdefault(event["event"], {})[event["device"]] = event["at"]

    async def all(self, event: str, gates: int, limit_s: float) -> list[float]:
        """Wait until every gate has said something, and return when each did.

        Raises:
            RuntimeError: Not all have in time.
        """
        until = time.monotonic() + limit_s
        while len(self._seen.get(event, {})) < gates:
            if time.monotonic() > until:
                words = (self._folder / "gates-0.log").read_text()[-400:]
                raise RuntimeError(f"{len(self._seen.get(event, {}))} of {gates} gates said {event!r}: {words}")
            await asyncio.sleep(0.1)
        return list(self._seen[event].values())


def _fleet(office: Office, port: int, share: range, stolen: list[str]) -> "subprocess.Popen[bytes]":
    folder = office.home.parent
    numbers = (str(port), str(folder), str(share.start), str(len(share)))
    command = [sys.executable, "-m", "bench.gates", *numbers, *stolen]
    with (folder / f"gates-{share.start}.log").open("wb") as log:
        fleet = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    assert fleet.stdin is not None
    fleet.stdin.write(office.root)
    fleet.stdin.close()
    return fleet


def _command(office: Office, *arguments: str) -> list[str]:
    return ["-m", "backend_sync", *arguments, "--config", str(office.toml)]


async def _backend_sync(office: Office, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *_command(office, *arguments), "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments[:2])} failed: {errors.decode()}")


@asynccontextmanager
async def _mosquitto(folder: Path) -> AsyncIterator[int]:
    """Run a broker on a free loopback port; the ports of others are left alone."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        raise RuntimeError("no mosquitto here: install Debian's package of that name")
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nsys_interval 1\n"
        "log_dest none\n"
    )
    broker = await asyncio.create_subprocess_exec(program, "-c", str(config))
    try:
        yield port
    finally:
        broker.terminate()
        await broker.wait()


async def _sent(port: int) -> int:
    """Ask the broker how many bytes it has sent, once it counted the last second."""
    await asyncio.sleep(2.5)
    while True:
        try:
            async with connect(Broker("127.0.0.1", port), "bench", clean_session=True) as link:
                await link.subscribe("$SYS/broker/bytes/sent")
                return int((await link.receive()).payload)
        except LinkLost:
            await asyncio.sleep(0.5)
