"""One process of the crash tests: ``writer``, ``uplink`` or ``ingest``, with short waits, until it is told to stop.

``ingest`` takes the name of a line at which it kills itself the first time it comes by: see `CRASHES`.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

from backend_sync import ingest, recording, uplink
from backend_sync.ingest import Ingest, IngestOptions
from backend_sync.ledger import Ledger
from backend_sync.mqtt import Broker, Link
from backend_sync.outbox import Pace
from backend_sync.uplink import UplinkOptions
from tests.backend_sync.gate import CREDENTIAL, a_tap, key_of
from validator.journal import Journal

DEVICE = "gate-1"
TAPS_PER_S = 200


def die(*_arguments: object, **_named: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type | object, name: str) -> None:
    setattr(owner, name, die)


def after(owner: type | object, name: str) -> None:
    whole = getattr(owner, name)

    def then_die(*arguments: object, **named: object) -> None:
        whole(*arguments, **named)
        die()

    setattr(owner, name, then_die)


CRASHES: dict[str, Callable[[], None]] = {
    "before-the-commit": lambda: before(Ledger, "record_batches"),
    "inside-the-transaction": lambda: after(recording, "record"),
    "after-the-commit": lambda: before(Ingest, "_release"),
    "between-two-releases": lambda: after(Link, "acknowledge"),
    "before-the-answer": lambda: before(Ingest, "_answer"),
    "after-the-answer": lambda: before(Ingest, "_note"),
}


async def write(folder: Path) -> None:
    journal = await Journal.open(folder / "journal.db", DEVICE, key_of(DEVICE))
    rng = Random()
    try:
        while True:
            number = journal.head + 1
            tap = a_tap(number, granted=rng.random() < 0.8, product=1, amount=150)
            await journal.settle(CREDENTIAL, lambda _, tap=tap: tap)  # type: ignore[misc]  # a default binds the loop's variable
            await journal.idle()
            await asyncio.sleep(1 / TAPS_PER_S)
    finally:
        await journal.close()


def uplink_options(folder: Path, port: int) -> UplinkOptions:
    return UplinkOptions(
        broker=Broker("127.0.0.1", port, timeout=5.0),
        device=DEVICE,
        journal=folder / "journal.db",
        cursor=folder / "cursor",
        back_office={"office": key_of("office").public_key()},
        pace=Pace(linger=0.1, resend=0.5, resend_max=2.0),
        poll=0.05,
        cursor_every=0.1,
        reconnect=0.05,
        reconnect_max=0.3,
    )


def ingest_options(folder: Path, port: int) -> IngestOptions:
    return IngestOptions(
        broker=Broker("127.0.0.1", port, timeout=5.0),
        ledger=f"sqlite:///{folder}/ledger.db",
        key=key_of("office"),
        signer="office",
        now_ms=lambda: time.time_ns() // 1_000_000,
        reconnect=0.05,
        reconnect_max=0.3,
    )


async def until_told(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


def main() -> None:
    role, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if role == "writer":
        work = write(folder)
    elif role == "uplink":
        work = uplink.run(uplink_options(folder, port))
    else:
        if len(sys.argv) > 4:
            CRASHES[sys.argv[4]]()
        work = ingest.run(ingest_options(folder, port))
    asyncio.run(until_told(work))


if __name__ == "__main__":
    main()
