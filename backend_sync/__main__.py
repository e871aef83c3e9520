"""``backend-sync``: the composition root of everything behind the gate."""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from backend_sync import announcing, denying, enrolling, linking, revoking, settling_command, spreading, tariff_command
from backend_sync import config as office_file
from backend_sync import ingest as ingesting
from backend_sync import reconcile as reconciling
from backend_sync import uplink as uplinking
from backend_sync.announcement import Rhythm
from backend_sync.announcing import AnnounceOptions
from backend_sync.books import show_books
from backend_sync.catalogue.errors import CatalogueRefused
from backend_sync.catalogue.floors import FloorsError, FloorsFile
from backend_sync.cataloguing import needed_catalogue
from backend_sync.change_follower import followers_of
from backend_sync.demo.errors import DemoError
from backend_sync.gtfs import check_command
from backend_sync.ingest import IngestOptions
from backend_sync.ledger import Ledger, LedgerError, LedgerMissing, LedgerUnavailable, SaleConflict
from backend_sync.list_follower import ListFollower
from backend_sync.list_installer import Home, ListInstaller
from backend_sync.mqtt import Broker
from backend_sync.publisher import InputMissing, PublishError
from backend_sync.publishing import DAY_S, DEFAULT_OFFICE, OfficeOption, publish
from backend_sync.sales import ConcessionRefused
from backend_sync.schema import SchemaTooNew
from backend_sync.self_check import recent_passengers
from backend_sync.uplink import UplinkOptions
from backend_sync.vehicle_position import PositionRelay
from backend_sync.wave_rule import WaveRule
from backend_sync.wire import WireError
from validator import config as gate_file
from validator.commandline import JsonOption, VerboseOption, log_to_stderr, print_json, run_app, until_signalled
from validator.config import GateConfig
from validator.estonian_issuers import EstonianIssuersError
from validator.journal_file import JournalError
from validator.key_loading import TlsSection, load_tls
from validator.lists.directory import version_in_force
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind
from validator.supervision import Notifier, Progress, SupervisionError, watch
from validator.toml_file import ConfigError

app = typer.Typer(
    help="Behind the gate: uplink, ingest, ledger, lists, closed books.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
denying.add_to(publish)
spreading.add_to(publish)
tariff_command.add_to(publish)
app.add_typer(publish, name="publish")
linking.add_to(enrolling.app)
revoking.add_to(enrolling.app)
app.add_typer(enrolling.app, name="enrol")
export = typer.Typer(help="Read and write what other systems speak.", no_args_is_help=True)
check_command.add_to(export)
app.add_typer(export, name="export")
reconcile = typer.Typer(invoke_without_command=True)
settling_command.add_to(reconcile)
app.add_typer(reconcile, name="reconcile")

GateOption = Annotated[Path, typer.Option("--config", help="The gate's TOML file.")]
DEFAULT_GATE = Path("/etc/pilet/gate.toml")
WORK = "work"
WORK_DEADLINE_S = 30.0

EXITS: dict[type[Exception], int] = {
    **linking.EXITS,
    **enrolling.EXITS,
    **check_command.EXITS,
    **settling_command.EXITS,
    ConfigError: os.EX_CONFIG,
    EstonianIssuersError: os.EX_UNAVAILABLE,
    WireError: os.EX_CONFIG,
    CatalogueRefused: os.EX_DATAERR,
    FloorsError: os.EX_IOERR,
    InputMissing: os.EX_NOINPUT,
    PublishError: os.EX_DATAERR,
    ListError: os.EX_DATAERR,
    SaleConflict: os.EX_DATAERR,
    ConcessionRefused: os.EX_DATAERR,
    DemoError: os.EX_SOFTWARE,
    SchemaTooNew: os.EX_SOFTWARE,
    LedgerMissing: os.EX_NOINPUT,
    LedgerError: os.EX_DATAERR,
    LedgerUnavailable: os.EX_TEMPFAIL,
    JournalError: os.EX_IOERR,
    SupervisionError: os.EX_OSERR,
    PermissionError: os.EX_NOPERM,
    OSError: os.EX_IOERR,
}


def main() -> None:
    """Run the command line; every expected failure ends in one line and a code from sysexits."""
    run_app(app, "backend-sync", EXITS)


@app.command()
def uplink(config: GateOption = DEFAULT_GATE, *, verbose: VerboseOption = False) -> None:
    """Carry a gate's journal to the back office, and its lists here, until stopped."""
    log_to_stderr(verbose=verbose)
    gate = gate_file.load(config)
    progress = Progress({WORK: WORK_DEADLINE_S}, time.monotonic())
    with contextlib.ExitStack() as stack:
        options = uplink_options(gate, progress, stack)
        asyncio.run(until_signalled(_supervised(uplinking.run(options), progress, f"uplink of {options.device}")))


@app.command()
def ingest(config: OfficeOption = DEFAULT_OFFICE, *, verbose: VerboseOption = False) -> None:
    """Record what the gates send in the ledger until stopped."""
    log_to_stderr(verbose=verbose)
    office = office_file.load(config)
    progress, devices = Progress({WORK: WORK_DEADLINE_S}, time.monotonic()), office.device_keys()
    options = IngestOptions(
        broker=spreading.broker_of(office),
        ledger=office.ledger_url,
        key=office.office_key(),
        signer=office.file.name,
        now_ms=lambda: time.time_ns() // 1_000_000,
        devices=frozenset(devices),
        progress=lambda: progress.moved(WORK, time.monotonic()),
    )
    with Ledger.open(office.ledger_url, create=True) as ledger:
        if ledger.begun:
            structlog.get_logger("ingest").warning("there was no ledger: this is a new one", ledger=office.ledger_url)
        for device, key in devices.items():
            ledger.register_device(device, key)
    asyncio.run(until_signalled(_supervised(ingesting.run(options), progress, f"ingest of {office.file.name}")))


@publish.command("announce")
def announce(config: OfficeOption = DEFAULT_OFFICE, *, verbose: VerboseOption = False) -> None:
    """Keep the catalogue at the broker, tell the gates who is revoked, and let new lists spread, until stopped."""
    log_to_stderr(verbose=verbose)
    office = office_file.load(config)
    section, name = office.catalogue_section(), f"announce-{office.file.name}"
    progress = Progress(dict.fromkeys((announcing.CHANGES, announcing.CARRYING), WORK_DEADLINE_S), time.monotonic())
    with _bringing() as brought:
        options = AnnounceOptions(
            broker=spreading.broker_of(office),
            identifier=name,
            catalogue=needed_catalogue(office),
            lists=office.resolve(office.publisher_section().out),
            ledger=office.ledger_url,
            devices=frozenset(office.file.devices),
            now_s=lambda: int(time.time()),
            rhythm=Rhythm(section.change_every_s, fresh_s=int(office.publisher_section().deny_days * DAY_S)),
            sales=replace(announcing.SALES, change_every_s=section.change_every_s, refill_s=section.sales_every_s),
            rule=WaveRule(section.steps, section.pause_s, section.failures, section.failure_percent),
            progress=lambda activity: progress.moved(activity, time.monotonic()),
            brought=brought,
        )
        asyncio.run(until_signalled(_supervised(announcing.run(options), progress, name)))


@reconcile.callback()
def close_books(context: typer.Context, config: OfficeOption = DEFAULT_OFFICE, *, as_json: JsonOption = False) -> None:
    """Close the books: name what is missing, twice or broken; prove that the money sums. Open books exit with 65."""
    if context.invoked_subcommand is not None:
        return
    office = office_file.load(config)
    with Ledger.open(office.ledger_url) as ledger:
        books = reconciling.reconcile(ledger)
    if as_json:
        print_json(books.to_dict())
    else:
        show_books(books, Console(highlight=False))
    if not books.closed:
        raise typer.Exit(os.EX_DATAERR)


@app.command()
def demo(
    taps: Annotated[int, typer.Option("--taps", min=1, help="How many taps.")] = 90,
    seed: Annotated[int, typer.Option("--seed", help="Decides who comes.")] = 1,
    *,
    fast: Annotated[bool, typer.Option("--fast", help="Do not model the time that real cards take.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Live a day at one gate: virtual cards, real processes, a broker that goes away, closed books."""
    from backend_sync.demo.show import run_demo  # noqa: PLC0415 - the demo's cards are no part of a back office

    console = Console(stderr=as_json, highlight=False)
    days: list[dict[str, Any]] = []

    async def day() -> None:
        days.append(await run_demo(taps, seed, console, timed=not fast))

    asyncio.run(until_signalled(day()))
    for figures in days:  # none, if it was asked to stop
        if as_json:
            print_json(figures)
        if not (figures["books_closed"] and figures["ledger_equals_journal"]):
            raise typer.Exit(os.EX_SOFTWARE)


def uplink_options(gate: GateConfig, progress: Progress, stack: contextlib.ExitStack) -> UplinkOptions:
    """Compose an uplink from a gate's file; what has to be closed afterwards is put on the stack.

    Raises:
        FloorsError: The file of the catalogue's floors cannot be used.
        ConfigError: There is no ``[uplink]`` table, a key in it is wrong, or the state's directory is not there.
    """
    section, feed = gate.file.uplink, gate.file.position.feed
    if section is None:
        raise ConfigError(f"{gate.path}: no [uplink] table; add host, port and [uplink.offices]")
    try:
        gate.cursor.parent.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise ConfigError(f"{gate.path}: state: {gate.state} is not there; check the path, or make it") from None
    return UplinkOptions(
        broker=Broker(section.host, section.port, _tls(gate, section.tls, "uplink.tls")),
        device=gate.file.device,
        journal=gate.journal,
        cursor=gate.cursor,
        back_office=gate.public_keys(section.offices, "uplink.offices"),
        versions=lambda: {kind.value: version_in_force(gate.lists, kind) or 0 for kind in ListKind},
        lists=_list_follower(gate, progress, stack),
        position=None if feed is None else PositionRelay(gate.file.device, gate.resolve(feed)),
        progress=lambda: progress.moved(WORK, time.monotonic()),
    )


def _list_follower(gate: GateConfig, progress: Progress, stack: contextlib.ExitStack) -> ListFollower | None:
    root = gate.catalogue_root()
    if root is None:
        return None
    gate.catalogue.mkdir(exist_ok=True)
    # Used in the follower's threads, never in two at once.
    floors = stack.enter_context(FloorsFile(gate.catalogue / "floors.db"))
    home = Home(device=gate.file.device, region=gate.file.region, lists=gate.lists, folder=gate.catalogue, root=root)
    installer = ListInstaller(home, floors, lambda: recent_passengers(gate.journal))

    def now_s() -> int:
        return int(time.time())

    return ListFollower(
        installer=installer,
        changes=followers_of(gate.lists, gate.file.region, installer.keys, now_s),
        now_s=now_s,
        progress=lambda: progress.moved(WORK, time.monotonic()),
    )


async def _supervised(work: Coroutine[Any, Any, None], progress: Progress, status: str) -> None:
    """Run work under the service manager's watch."""
    with Notifier.from_environment(os.environ, os.getpid()) as notifier:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work)
                tasks.create_task(watch(notifier, progress, time.monotonic))
                notifier.ready(status)
        finally:
            notifier.stopping()


@contextmanager
def _bringing() -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how much of a catalogue is at the broker; yields what it is to be told with."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("files at the broker", total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)


def _tls(config: GateConfig, section: TlsSection | None, key: str) -> ssl.SSLContext | None:
    return None if section is None else load_tls(section, config.resolve, f"{config.path}: {key}")


if __name__ == "__main__":
    main()
