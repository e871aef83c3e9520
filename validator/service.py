"""A gate as a service: opens what the configuration names, serves taps, and takes new lists between them."""

import asyncio
import gc
import os
import time
from collections.abc import Callable

import structlog

from hardware.gate import Gate
from hardware.medium import Reader
from validator.clock import SystemClock
from validator.config import GateConfig
from validator.cursor import CursorFile
from validator.journal import Journal
from validator.journal_file import JournalError
from validator.known_cards import KnownCardStore
from validator.lists import installed
from validator.lists.manifest import ListKind
from validator.model import Assurance
from validator.station import JOURNAL, READER, Place, Station, TapReport
from validator.supervision import Notifier, Progress, watch

log = structlog.get_logger()

LIST_CHECK_S = 1.0
PRUNE_S = 3600.0
DAY_MS = 24 * 3600 * 1000
READER_DEADLINE_S = 10.0
JOURNAL_DEADLINE_S = 10.0


async def serve(
    config: GateConfig,
    reader: Reader,
    gate: Gate,
    on_tap: Callable[[TapReport], None],
    on_ready: Callable[[], None],
) -> None:
    """Serve taps until cancelled.

    Args:
        config: The gate's file.
        reader: What is polled; opened and closed here.
        gate: What the passenger sees and hears; closed here.
        on_tap: Told of each recorded tap.
        on_ready: Called once, when taps can be served.

    Raises:
        ConfigError: A key is missing or wrong.
        JournalError: The journal cannot be opened, or belongs to another device.
    """
    keys = config.publisher_keys()
    lists = installed.load(config.lists, keys)
    clock = clock_of(config, lists.issued_floor_s * 1000)
    journal = await Journal.open(
        config.journal, config.file.device, config.device_private_key(), born_s=clock.now().wall_s
    )
    cards = KnownCardStore.open(config.known_cards, lists.versions.trust)
    try:
        clock.raise_floor(journal.floor_ms)
        progress = Progress({READER: READER_DEADLINE_S, JOURNAL: JOURNAL_DEADLINE_S}, time.monotonic())
        progress.rests(JOURNAL)
        station = Station(reader, gate, journal, cards, clock, place_of(config), lists, progress, on_tap)
        with Notifier.from_environment(os.environ, os.getpid()) as notifier:
            # Garbage is collected between taps (`Station`), never in the middle of one; what start-up made stays.
            gc.collect()
            gc.freeze()
            gc.disable()
            notifier.ready(f"{config.file.device} at {config.file.place}: lists {lists.versions}")
            on_ready()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(station.run())
                    tasks.create_task(_follow_lists(station, config))
                    tasks.create_task(_prune(station, config))
                    counters = {READER: lambda: reader.polls}
                    tasks.create_task(watch(notifier, progress, time.monotonic, counters=counters))
            finally:
                notifier.stopping()
    finally:
        cards.close()
        await journal.close()


def clock_of(config: GateConfig, floor_ms: int) -> SystemClock:
    """Return this machine's clock, as far as the configuration believes it."""
    return SystemClock(floor_ms, kept=config.file.clock == "synchronized")


def place_of(config: GateConfig) -> Place:
    """Return where the station stands and what it asks."""
    lists, policy = config.file.lists, config.file.policy
    return Place(
        place=config.file.place,
        lane=config.file.lane,
        least_assurance=Assurance[policy.least_assurance.upper()],
        tap_limit_s=policy.tap_limit_s,
        grace_s={
            ListKind.TRUST: int(lists.trust_grace_h * 3600),
            ListKind.DENY: int(lists.deny_grace_h * 3600),
            ListKind.TICKETS: int(lists.tickets_grace_h * 3600),
        },
    )


async def _follow_lists(station: Station, config: GateConfig) -> None:
    """Take new lists as the installer's pointers change; what does not load leaves the last good one in force."""
    keys = config.publisher_keys()
    while True:
        await asyncio.sleep(LIST_CHECK_S)
        if station.lists.changed():
            station.adopt(await asyncio.to_thread(installed.load, config.lists, keys, station.lists))
            log.info("lists.adopted", versions=str(station.lists.versions))


async def _prune(station: Station, config: GateConfig) -> None:
    """Once an hour, let the journal forget what is acknowledged, counted in the tickets, and past its retention."""
    journal = station.journal
    cursor = CursorFile(config.cursor, journal.device)
    while True:
        await asyncio.sleep(PRUNE_S)
        epoch, seq = station.lists.horizon(journal.device)
        before_ms = station.clock.now().wall_ms - config.file.policy.retention_days * DAY_MS
        try:
            acknowledged = await asyncio.to_thread(cursor.load, journal.epoch)
            await journal.prune(acknowledged, before_ms, seq if epoch == journal.epoch else 0)
        except (JournalError, OSError) as error:
            log.warning("journal.not_pruned", why=str(error))
