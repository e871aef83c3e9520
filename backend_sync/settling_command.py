"""``backend-sync reconcile settle``, ``queue``, ``complete``, ``refund``: what journeys cost, and its mending."""

import datetime as dt
import os
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backend_sync import config as office_file
from backend_sync import settlement as settling
from backend_sync.config import OfficeConfig
from backend_sync.ledger import Ledger, LedgerError
from backend_sync.publishing import DEFAULT_OFFICE, OfficeOption
from backend_sync.recorded_editions import EditionRefused, record_editions
from backend_sync.settlement import Settlement
from backend_sync.tariff_command import published_editions
from validator.commandline import JsonOption, print_json

EXITS: Final[dict[type[Exception], int]] = {EditionRefused: os.EX_DATAERR}

_MOMENT: Final = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"]
_SHOWN: Final = 20
ClosesOption = Annotated[
    dt.datetime | None,
    typer.Option("--closes", formats=_MOMENT, metavar="MOMENT", help="When the books close; left out, now."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command("settle")(settle)
    app.command("queue")(show_queue)
    app.command("complete")(complete)
    app.command("refund")(refund)


def settle(
    config: OfficeOption = DEFAULT_OFFICE,
    closes: ClosesOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be posted, and post nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Post what journeys cost beyond what was posted before. A second time posts nothing."""
    office, now_ms = office_file.load(config), time.time_ns() // 1_000_000
    console = Console(stderr=as_json, highlight=False)
    with Ledger.open(office.ledger_url) as ledger:
        catch_up(ledger, office, now_ms)
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            task = bars.add_task("pricing")
            found = settling.settle(
                ledger,
                office.file.currency,
                _closes_s(closes, now_ms),
                made_ms=now_ms,
                post=not dry_run,
                progress=lambda taps: bars.update(task, description=f"{taps} taps priced"),
            )
    if as_json:
        print_json(found.to_dict())
    else:
        show_settlement(found, console, posted=not dry_run)


def show_queue(
    config: OfficeOption = DEFAULT_OFFICE, closes: ClosesOption = None, *, as_json: JsonOption = False
) -> None:
    """Name rides without an end, and where they may have ended."""
    office, now_ms = office_file.load(config), time.time_ns() // 1_000_000
    with Ledger.open(office.ledger_url) as ledger:
        waiting = settling.queue(ledger, office.file.currency, _closes_s(closes, now_ms))
    console = Console(highlight=False)
    for each in waiting:
        device, epoch, seq = each.ride.taps[0].key
        if as_json:
            told = {"tap": [device, epoch, seq], "place": each.place, "rule": each.rule, "reason": each.reason}
            print_json(told)
        else:
            console.print(f"{device} {epoch} {seq} --place {each.place}: {each.reason} ({each.rule})", soft_wrap=True)
    if not waiting and not as_json:
        console.print("Nothing waits: no ride without an end has a likely one.")


def complete(
    device: Annotated[str, typer.Argument(help="The gate of the ride's tap.")],
    epoch: Annotated[int, typer.Argument(help="Epoch of its journal.")],
    seq: Annotated[int, typer.Argument(help="The tap's number there.")],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    place: Annotated[
        str | None, typer.Option("--place", help="Where the ride ended, of the places in the queue.")
    ] = None,
    closes: ClosesOption = None,
) -> None:
    """Say where a ride without an end has ended; `settle` then gives back what it costs less."""
    office, now_ms = office_file.load(config), time.time_ns() // 1_000_000
    with Ledger.open(office.ledger_url) as ledger:
        waiting = settling.queue(ledger, office.file.currency, _closes_s(closes, now_ms))
        likely = [each for each in waiting if each.ride.taps[0].key == (device, epoch, seq)]
        wanted = [each for each in likely if place in {None, each.place}]
        if not wanted:
            told = (
                f"; likely are {', '.join(each.place for each in likely)}"
                if likely
                else ": `queue` names those that do"
            )
            raise LedgerError(f"tap {device} {epoch} {seq}: no such ride waits{told}")
        if len({each.place for each in wanted}) > 1:
            places = " or ".join(each.place for each in wanted)
            raise LedgerError(f"tap {device} {epoch} {seq}: which of them, --place {places}?")
        settling.complete(ledger, wanted[0], made_ms=now_ms)
    Console(highlight=False).print(
        f"It ended at {wanted[0].place}; `backend-sync reconcile settle` posts what follows."
    )


def refund(
    product: Annotated[int, typer.Argument(help="The product that it is given back to.")],
    amount: Annotated[int, typer.Argument(help="Minor units, for example cents.")],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    day: Annotated[dt.datetime, typer.Option("--day", formats=["%Y-%m-%d"], help="The service day that it is for.")],
    why: Annotated[str, typer.Option("--why", help="What the books say of it; nobody's name.")],
) -> None:
    """Give back money of a day out of goodwill; no settlement takes it back."""
    office, now_ms = office_file.load(config), time.time_ns() // 1_000_000
    number = day.toordinal() - dt.date(1970, 1, 1).toordinal()
    with Ledger.open(office.ledger_url) as ledger:
        entry = settling.refund(ledger, office.file.currency, product, number, amount, why=why, made_ms=now_ms)
    Console(highlight=False).print(f"{-entry.amount / 100:.2f} {entry.key[3]} given back to product {product}.")


def catch_up(ledger: Ledger, office: OfficeConfig, now_ms: int) -> None:
    """Record editions that were published from here and are not in the ledger: whoever published was interrupted."""
    if office.file.publisher is None:
        return
    out: Path = office.resolve(office.file.publisher.out)
    with ledger.writing() as connection:
        record_editions(connection, published_editions(out).editions, now_ms)


def show_settlement(found: Settlement, console: Console, *, posted: bool) -> None:
    """Print what a settlement found."""
    verb = "posted" if posted else "would be posted"
    console.print(
        f"{found.taps} taps of {found.cards} cards; {len(found.entries)} entries {verb}: "
        f"{found.charged / 100:.2f} {found.currency} charged, {found.refunded / 100:.2f} given back",
        soft_wrap=True,
    )
    console.print("rides: " + ", ".join(f"{count} {state}" for state, count in sorted(found.rides.items())))
    if found.maxima:
        console.print(f"{found.maxima} without an end, at {found.maximum / 100:.2f} together; `queue` says where to")
    for rule, count in sorted(found.pending.items()):
        console.print(f"{count} wait: {rule}")
    for each in found.named[:_SHOWN]:
        console.print(f"  {each}", soft_wrap=True)


def _closes_s(closes: dt.datetime | None, now_ms: int) -> int:
    return now_ms // 1000 if closes is None else int(closes.timestamp())
