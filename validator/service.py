"""A gate as a service: opens what the configuration names, serves taps, and takes new lists between them."""

import asyncio
import fcntl
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from hardware.gate import Gate
from hardware.medium import Reader
from validator.answer import Display, Language, Passengers
from validator.clock import SystemClock
from validator.config import GateConfig
from validator.cursor import CursorFile
from validator.families import families
from validator.journal import Journal
from validator.journal_file import JournalError
from validator.known_cards import KnownCardsError, KnownCardStore
from validator.lists import installed
from validator.lists.gate_rules import HOUR_S, StalePolicy, policies
from validator.model import Assurance, Instant, Label
from validator.position import Position
from validator.profiles.attempt import CardKeys
from validator.publishers import Publishers
from validator.risk import RiskRules
from validator.rollback import open_whole
from validator.station import JOURNAL, READER, Place, Station, TapReport
from validator.supervision import Notifier, Progress, watch
from validator.toml_file import ConfigError
from validator.vehicle_feed import FixedPosition, VehiclePosition

log = structlog.get_logger()

LOCK = "lock"
"""File in the state directory that a serving validator holds."""

LIST_CHECK_S = 1.0
LIST_RETRY_S = 60.0
"""A list that did not load may load later: a disk recovers, a service restarts. Each try reads it whole."""
SWITCH_S = 0.0005
"""How long the thread that loads lists may keep the interpreter from a tap, which changes threads several times."""
PRUNE_FIRST_S, PRUNE_S = 60.0, 3600.0
DAY_MS = 24 * 3600 * 1000
READER_DEADLINE_S = 20.0
"""Longer than a hung reader takes to be called gone, and the pause before it is tried again."""
JOURNAL_DEADLINE_S = 10.0


async def serve(
    config: GateConfig,
    reader: Reader,
    gate: Gate,
    keys: CardKeys,
    *,
    on_tap: Callable[[TapReport], None],
    on_ready: Callable[[], None],
) -> None:
    """Serve taps until cancelled.

    Args:
        config: The gate's file.
        reader: What is polled; opened and closed here.
        gate: What the passenger sees and hears; closed here.
        keys: Keys of the families that have no public key.
        on_tap: Told of each recorded tap.
        on_ready: Called once, when the reader was opened, or when the lamp shows that it could not be.

    Raises:
        ConfigError: A key is missing or wrong, or there is no state directory that this user may write to.
        JournalError: The journal cannot be opened, belongs to another device, or is served by another validator.
    """
    with _only_one(config):
        await _serve(config, reader, gate, keys, on_tap=on_tap, on_ready=on_ready)


async def _serve(
    config: GateConfig,
    reader: Reader,
    gate: Gate,
    keys: CardKeys,
    *,
    on_tap: Callable[[TapReport], None],
    on_ready: Callable[[], None],
) -> None:
    publishers = Publishers.of(config)
    lists = installed.load(config.lists, publishers.keys(), config.file.region)
    clock = clock_of(config, lists.issued_floor_s * 1000)
    journal = await _journal(config, lists, clock)
    cards = _known_cards(config, lists.versions.trust)
    try:
        clock.remember(journal.floor_ms)
        progress = Progress({READER: READER_DEADLINE_S, JOURNAL: JOURNAL_DEADLINE_S}, time.monotonic())
        progress.rests(JOURNAL)
        station = Station(
            reader,
            gate,
            journal,
            cards,
            clock,
            place_of(config),
            families(config.file.cards.families),
            keys,
            lists,
            progress,
            on_tap,
            position=position_of(config),
            passengers=Passengers(Language(config.file.gate.language), Display[config.file.gate.display.upper()]),
        )
        with Notifier.from_environment(os.environ, os.getpid()) as notifier:
            # Garbage is collected between taps (`Station`), never in the middle of one; what start-up made stays.
            gc.collect()
            gc.freeze()
            gc.disable()
            sys.setswitchinterval(SWITCH_S)

            def ready() -> None:
                notifier.ready(f"{config.file.device} at {config.file.place}: lists {station.lists.versions}")
                on_ready()

            station.on_ready = ready
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(station.run())
                    tasks.create_task(_follow_lists(station, publishers))
                    tasks.create_task(_prune(station, config))
                    counters = {READER: lambda: reader.polls}
                    tasks.create_task(watch(notifier, progress, time.monotonic, counters=counters))
            finally:
                notifier.stopping()
    finally:
        cards.close()
        await journal.close()


@contextmanager
def _only_one(config: GateConfig) -> Iterator[None]:
    """Hold a gate's state for this process: two validators on one journal would spend the same ride twice.

    Raises:
        ConfigError: The directory cannot be used.
        JournalError: Another process holds it.
    """
    path = config.state / LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        what = f"{path}: {error.strerror}; make the directory, or mend the key"
        raise ConfigError(f"{config.path}: state: {what}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise JournalError(config.journal, "another validator serves this gate's state", "stop it first") from None
    try:
        yield
    finally:
        os.close(lock)


async def _journal(config: GateConfig, lists: installed.InstalledLists, clock: SystemClock) -> Journal:
    """Open the journal, unless it is an older copy of itself; then a new epoch begins."""
    device = config.file.device

    def known_seq(epoch: int) -> int:
        counted_epoch, counted = lists.horizon(device)
        try:
            acknowledged = CursorFile(config.cursor, device).load(epoch)
        except OSError as error:
            log.warning("cursor.unreadable", why=str(error))
            acknowledged = 0
        return max(acknowledged, counted if counted_epoch == epoch else 0)

    return await open_whole(config.journal, device, config.device_private_key(), clock.now().wall_s, known_seq)


def _known_cards(config: GateConfig, trust_version: int) -> KnownCardStore:
    """Open the cache of known cards; it is only speed, so that a gate without its file serves from memory."""
    try:
        return KnownCardStore.open(config.known_cards, trust_version)
    except KnownCardsError as error:
        log.warning("known_cards.in_memory", why=str(error), consequence="one longer tap for each card after a start")
        return KnownCardStore.in_memory(trust_version)


def clock_of(config: GateConfig, floor_ms: int) -> SystemClock:
    """Return this machine's clock, as far as the configuration believes it."""
    return SystemClock(floor_ms, kept=config.file.clock == "synchronized")


def place_of(config: GateConfig) -> Place:
    """Return where the station stands and what it asks."""
    lists, policy = config.file.lists, config.file.policy
    return Place(
        place=config.file.place,
        lane=config.file.lane,
        region=config.file.region,
        least_assurance=Assurance[policy.least_assurance.upper()],
        tap_limit_s=policy.tap_limit_s,
        guest_pass_back_s=policy.guest_pass_back_s if policy.guests == "admit" else None,
        label=Label[config.file.position.lane.upper()],
        risk=RiskRules(policy.velocity_rides, policy.velocity_s, policy.first_ride_floor),
        stale=policies(
            trust=StalePolicy(int(lists.trust_grace_h * HOUR_S)),
            deny=StalePolicy(int(lists.deny_grace_h * HOUR_S)),
            tickets=StalePolicy(int(lists.tickets_grace_h * HOUR_S)),
        ),
    )


def position_of(config: GateConfig) -> Callable[[Instant], Position]:
    """Return what says where the gate is: its file, or the feed of the vehicle that it is on."""
    told, zone = config.file.position, config.time_zone()
    if told.feed is not None:
        return VehiclePosition(config.resolve(told.feed), told.feed_age_s, zone)
    return FixedPosition(Position(frozenset(told.zones), told.network), zone)


async def _follow_lists(station: Station, publishers: Publishers) -> None:
    """Take new lists as the installer's pointers change; what does not load leaves the last good one in force."""
    loaded_s = time.monotonic()
    while True:
        await asyncio.sleep(LIST_CHECK_S)
        again = bool(station.lists.faults) and time.monotonic() - loaded_s >= LIST_RETRY_S
        if station.lists.changed() or publishers.changed() or again:
            loaded_s = time.monotonic()
            keys = await asyncio.to_thread(publishers.keys)
            station.adopt(
                await asyncio.to_thread(installed.load, publishers.lists, keys, publishers.region, station.lists)
            )
            log.info("lists.adopted", versions=str(station.lists.versions))


async def _prune(station: Station, config: GateConfig) -> None:
    """Soon and then hourly, let the journal forget what is acknowledged, counted, and past its retention."""
    journal = station.journal
    cursor = CursorFile(config.cursor, journal.device)
    pause_s = PRUNE_FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        pause_s = PRUNE_S
        epoch, seq = station.lists.horizon(journal.device)
        before_ms = station.clock.now().wall_ms - config.file.policy.retention_days * DAY_MS
        try:
            acknowledged = await asyncio.to_thread(cursor.load, journal.epoch)
            await journal.prune(acknowledged, before_ms, seq if epoch == journal.epoch else 0)
        except (JournalError, OSError) as error:
            log.warning("journal.not_pruned", why=str(error))
