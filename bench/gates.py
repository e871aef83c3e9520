"""Simulated gates in one process: real uplinks, and lists looked at as often as a gate does; no card and no tap.

``python -m bench.gates PORT FOLDER FIRST COUNT CREDENTIAL ...``, the root of the catalogue on standard input. It prints
a JSON object for each gate that has a deny list, and for each that refuses one of the credentials.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync import uplink
from backend_sync.catalogue.floors import FloorsFile
from backend_sync.change_follower import followers_of
from backend_sync.list_follower import ListFollower
from backend_sync.list_installer import Home, ListInstaller
from backend_sync.mqtt import Broker
from backend_sync.uplink import UplinkOptions
from bench.list_office import REGION
from validator.lists import installed
from validator.model import Credential
from validator.publishers import Publishers
from validator.service import LIST_CHECK_S

JOIN_S = 0.02
"""Between two gates that join, so that what is measured is not the storm."""


class NoTaps:
    """The journal of a gate that nobody tapped at."""

    epoch = 1

    def head(self) -> int:
        """Return that there is no entry."""
        return 0

    def entries_after(self, _seq: int, _limit: int) -> list[tuple[int, bytes]]:
        """Return none."""
        return []

    def close(self) -> None:
        """Nothing is open."""


def say(**event: object) -> None:
    """Print an event with the time, by the clock that all processes of a machine share."""
    print(json.dumps({**event, "at": time.monotonic()}), flush=True)


async def gate(device: str, port: int, home: Path, root: bytes, credentials: list[Credential]) -> None:
    """Run one gate until cancelled."""
    (home / "uplink").mkdir(parents=True)
    publishers = Publishers({}, root, home / "lists", REGION)
    with FloorsFile(home / "floors.db") as floors:
        own = Home(device=device, region=REGION, lists=home / "lists", folder=home / "uplink" / "catalogue", root=root)
        installer = ListInstaller(own, floors, list)
        follower = ListFollower(
            installer=installer,
            changes=followers_of(own.lists, REGION, installer.keys, lambda: int(time.time())),
            now_s=lambda: int(time.time()),
        )
        options = UplinkOptions(
            broker=Broker("127.0.0.1", port),
            device=device,
            journal=home / "journal.db",
            cursor=home / "cursor",
            back_office={"office": Ed25519PrivateKey.generate().public_key()},
            poll=5.0,
            lists=follower,
            open_journal=lambda _: NoTaps(),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(uplink.run(options))
            tasks.create_task(_look(device, publishers, credentials))


async def _look(device: str, publishers: Publishers, credentials: list[Credential]) -> None:
    """Look at the lists as a validator does, and say what they refuse."""
    lists = installed.load(publishers.lists, publishers.keys(), REGION)
    said = set[str]()
    await asyncio.sleep(random.uniform(0, LIST_CHECK_S))
    while True:
        if lists.changed() or publishers.changed():
            lists = installed.load(publishers.lists, publishers.keys(), REGION, lists)
            events = {"joined": lists.versions.deny > 0} | {each.id.hex(): lists.denied(each) for each in credentials}
            for event in sorted(name for name, true in events.items() if true and name not in said):
                said.add(event)
                say(device=device, event=event)
        await asyncio.sleep(LIST_CHECK_S)


async def main(port: int, folder: Path, first: int, count: int, credentials: list[str]) -> None:
    """Run gates until stopped."""
    root, cards = sys.stdin.buffer.read(), [Credential(bytes.fromhex(each)) for each in credentials]
    async with asyncio.TaskGroup() as tasks:
        for number in range(first, first + count):
            device = f"gate-{number}"
            tasks.create_task(gate(device, port, folder / device, root, cards))
            await asyncio.sleep(JOIN_S)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]))
