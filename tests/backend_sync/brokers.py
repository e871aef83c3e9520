"""Brokers for tests, on free loopback ports: Debian's Mosquitto as a process of its own, and the embedded one."""

import asyncio
import signal
import socket
from pathlib import Path
from typing import Protocol

from backend_sync.broker import EmbeddedBroker
from backend_sync.mqtt import Broker
from tests.missing import program

STARTED_S = 10.0


def mosquitto_program() -> str:
    return program("mosquitto")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def mosquitto_command(folder: Path, port: int) -> list[str]:
    """A Mosquitto that keeps nothing on disk: what it holds dies with it."""
    config = folder / f"mosquitto-{port}.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nmax_queued_messages 0\n"
    )
    return [mosquitto_program(), "-c", str(config)]


class Carrier(Protocol):
    """A broker that dies and comes back on the same port."""

    address: Broker

    async def start(self) -> None: ...

    async def kill(self) -> None: ...


class MosquittoCarrier:
    def __init__(self, folder: Path) -> None:
        self.address = Broker("127.0.0.1", free_port(), timeout=5.0)
        self._command = mosquitto_command(folder, self.address.port)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(*self._command)
        await listening(self.address.port)

    def freeze(self) -> None:
        """Say nothing more, and keep every connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


class EmbeddedCarrier:
    def __init__(self, _folder: Path) -> None:
        self._broker = EmbeddedBroker(free_port())
        self.address = Broker("127.0.0.1", self._broker.port, timeout=5.0)

    async def start(self) -> None:
        await self._broker.start()

    async def kill(self) -> None:
        await self._broker.stop()


async def listening(port: int) -> None:
    async with asyncio.timeout(STARTED_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return
