"""``backend-sync enrol``: what those who issue cards type, from a list of accounts to cards that are live."""

import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from backend_sync import bureau as bureau_room
from backend_sync import config as office_file
from backend_sync import links
from backend_sync.accounts_file import AccountsFile
from backend_sync.bindings import Ending, HeldCard
from backend_sync.bureau_answers import AnswersFile
from backend_sync.card_family import CardFamily
from backend_sync.enrolment import KeyCheck, Standing
from backend_sync.enrolment_errors import EnrolmentBusy, EnrolmentError, EnrolmentInputMissing
from backend_sync.issuing import CHUNK, Batch, Bound, Issuer, alone
from backend_sync.ledger import Ledger
from backend_sync.personalisation_file import Packing
from backend_sync.publishing import DEFAULT_OFFICE, OfficeOption
from validator.commandline import JsonOption, print_json

app = typer.Typer(help="Issue cards to accounts, and keep who holds which.", no_args_is_help=True)

LedgerOption = Annotated[
    str | None,
    typer.Option("--ledger", help="The ledger, sqlite:///PATH; left out, the one of the back office's file."),
]

AccountsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="Accounts.")]
CsvOption = Annotated[Path | None, typer.Option("--csv", help="More accounts: CSV with a column account.")]

EXITS: dict[type[Exception], int] = {
    EnrolmentInputMissing: os.EX_NOINPUT,
    EnrolmentBusy: os.EX_TEMPFAIL,
    EnrolmentError: os.EX_DATAERR,
}
"""For the composition root: how the failures of this room end the process."""

_SQLITE = "sqlite:///"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@app.command("batch")
def batch(
    accounts: Annotated[Path, typer.Argument(help="CSV with the columns account and, if wanted, reference.")],
    *,
    family: Annotated[CardFamily, typer.Option("--family", help="What the cards are.")],
    bureau: Annotated[Path, typer.Option("--bureau", help="The bureau's RSA certificate, PEM or DER.")],
    key_file: Annotated[
        list[str], typer.Option("--key-file", help="An operator key for the bureau, NAME.VERSION=PATH; repeatable.")
    ],
    signer: Annotated[Path, typer.Option("--signer", help="Private key and certificate that sign, one PEM file.")],
    out: Annotated[Path, typer.Option("--out", help="The batch's folder is made in here.")],
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    name: Annotated[str | None, typer.Option("--name", help="Name of the batch; left out, the file's.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="End the cards that these accounts hold.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Order a card for each account, and write what a card bureau needs. Killed on the way, run it again as it was."""
    called = accounts.stem if name is None else name
    if not _NAME.fullmatch(called):
        raise EnrolmentError("--name: give a batch a name of up to 64 letters and digits, with ._- after the first")
    if not out.absolute().parent.is_dir():
        raise EnrolmentInputMissing(f"--out: {out}: its folder is not there; check the path, or make the folder")
    now = datetime.now(UTC)
    keys = bureau_room.load_keys(key_file, family)
    packing = Packing(bureau_room.load_bureau(bureau, now), bureau_room.load_signer(signer, now), keys)
    wanted = Batch(called, family, tuple(KeyCheck(key.name, key.version, key.check_value) for key in keys), replace)
    url = ledger_url(ledger, config)
    _refuse_if_others_read(_path(url))
    with AccountsFile.open(accounts) as file, _issuer(url) as issuer, alone(_lock(url)):
        bound = issuer.bind(file, wanted)
        folder = issuer.write(bound.order, packing, out)
    _tell_batch(bound, folder, as_json=as_json)


@app.command("bureau-report")
def bureau_report(
    file: Annotated[Path, typer.Argument(help="CSV with the columns serial, uid and result (ok or failed).")],
    batch_name: Annotated[str, typer.Option("--batch", metavar="NAME", help="The batch that is answered for.")],
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Record what became of cards: all of the file, or nothing if a line is wrong. Repeating it changes nothing."""
    with AnswersFile.open(file) as answers, _issuer(ledger_url(ledger, config)) as issuer:
        done = issuer.answer_file(batch_name, answers)
    if as_json:
        print_json({"live": done.live, "failed": done.failed, "known": done.known, "ended_before": done.ended_before})
        return
    Console().print(
        f"{done.live} cards are live, {done.failed} failed and may be ordered again; {done.known} answers were known, "
        f"and {done.ended_before} cards had ended before",
        soft_wrap=True,
    )


@app.command("who")
def who(
    accounts: AccountsArgument = None,
    csv: CsvOption = None,
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show which card each account holds: its credential is what sales and the deny list name."""
    asked = _accounts(accounts, csv)
    with _issuer(ledger_url(ledger, config)) as issuer:
        held = issuer.held(asked)
    if as_json:
        for account in asked:
            print_json(_held_facts(account, held.get(account)))
        return
    table = Table()
    for heading in ("account", "serial", "credential", "family", "state"):
        table.add_column(heading, justify="right" if heading == "serial" else "left", overflow="fold")
    for account in asked:
        facts = _held_facts(account, held.get(account))
        table.add_row(*("no card" if value is None else str(value) for value in facts.values()))
    Console(highlight=False, markup=False).print(table)


@app.command("end")
def end(
    why: Annotated[Literal["lost", "closed"], typer.Option("--why", help="The card is lost, or the account closed.")],
    accounts: AccountsArgument = None,
    csv: CsvOption = None,
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """End the cards that accounts hold, and order no others. Repeating it changes nothing."""
    asked, url = _accounts(accounts, csv), ledger_url(ledger, config)
    with _issuer(url) as issuer, alone(_lock(url)):
        ended = issuer.end(asked, Ending[why.upper()])
    if as_json:
        print_json({"ended": ended, "held_none": len(asked) - ended})
        return
    told = Console(highlight=False, markup=False)
    told.print(f"{ended} cards ended; {len(asked) - ended} accounts held none", soft_wrap=True)
    if ended:
        told.print("Now publish the deny list: `publish deny` puts them on it.", soft_wrap=True)


@app.command("status")
def status(ledger: LedgerOption = None, config: OfficeOption = DEFAULT_OFFICE, *, as_json: JsonOption = False) -> None:
    """Show how each batch stands."""
    with _issuer(ledger_url(ledger, config)) as issuer:
        standings = issuer.standings()
    if as_json:
        for one in standings:
            print_json(_facts(one))
        return
    table = Table()
    for heading in ("batch", "family", "cards", "ordered", "live", "failed", "ended", "files"):
        table.add_column(heading, justify="left" if heading in {"batch", "family", "files"} else "right")
    for one in standings:
        facts = _facts(one)
        files = "complete" if facts["finished"] else "not complete: run it again"
        table.add_row(*(str(facts[name]) for name in ("batch", "family", "cards")), *_counts(one), files)
    Console(highlight=False).print(table)


@app.command("ended")
def ended(ledger: LedgerOption = None, config: OfficeOption = DEFAULT_OFFICE) -> None:
    """Print the credentials that ended, one a line, as `publish deny` reads them; it adds them by itself."""
    with _issuer(ledger_url(ledger, config)) as issuer:
        for credential_id in issuer.ended_credential_ids():
            typer.echo(credential_id.hex())
        with issuer.ledger.reading() as connection:
            for credential_id in links.ended_credential_ids(connection):
                typer.echo(credential_id.hex())


def ledger_url(ledger: str | None, config: Path) -> str:
    """Return the URL of the ledger that a command is about: the one it was given, or the back office's.

    Raises:
        EnrolmentError: It is in no file.
        ConfigError: The back office's file cannot be used.
    """
    if ledger is None:
        return office_file.load(config).ledger_url
    path = ledger.removeprefix(_SQLITE)
    if not ledger.startswith(_SQLITE) or path in {"", ":memory:"} or "?" in path:
        raise EnrolmentError(f"--ledger: cards are issued out of a SQLite file, {_SQLITE}PATH")
    return ledger


def _path(url: str) -> Path:
    return Path(url.removeprefix(_SQLITE)).resolve()


def _lock(url: str) -> Path:
    return Path(f"{_path(url)}.enrol.lock")


def _refuse_if_others_read(path: Path) -> None:
    """Tokens lie readable in the ledger until their cards are made, and in its log."""
    files = [each for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")) if each.exists()]
    if any(each.stat().st_mode & _OTHERS for each in files):
        raise EnrolmentError(
            f"{path}: others may read the ledger, and with it what cards are made from: run "
            f"chmod go= {' '.join(str(each) for each in files)}"
        )


def _accounts(told: Sequence[str] | None, csv: Path | None) -> list[str]:
    """Return the accounts that are named, each once."""
    if not told and csv is None:
        raise typer.BadParameter("name accounts, or --csv FILE")
    accounts = list(told or ())
    if csv is not None:
        with AccountsFile.open(csv) as file:
            checked = file.check(CHUNK, lambda _chunk: ())
            accounts += [one.account for chunk in checked.chunks() for one in chunk]
    return list(dict.fromkeys(accounts))


@contextmanager
def _issuer(url: str) -> Iterator[Issuer]:
    """Open a ledger that is there: in a new one, nobody holds a card yet, and everybody would get a second."""
    with Ledger.open(url) as ledger, _bars() as progress:
        yield Issuer(ledger, lambda: time.time_ns() // 1_000_000, os.urandom, progress)


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def show(what: str, done: int, of: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done)

        yield show


def _tell_batch(bound: Bound, folder: Path | None, *, as_json: bool) -> None:
    order, before = bound.order, bound.order.manifest_sha256 is not None
    if as_json:
        print_json(
            {
                "batch": order.name,
                "family": order.family.value,
                "cards": order.cards,
                "new": bound.new,
                "replaced": bound.replaced,
                "first_serial": order.first_serial,
                "last_serial": order.serials[-1],
                "folder": None if folder is None else str(folder),
                "finished_before": before,
            }
        )
        return
    told = Console(highlight=False, markup=False)
    if folder is None:
        told.print(
            f"Batch {order.name} was finished before; nothing was changed. Its files are where --out was then: they "
            "are written once, so that no card is made twice.",
            soft_wrap=True,
        )
    elif before:
        told.print(f"Batch {order.name} was finished before; nothing was changed. Its files: {folder}", soft_wrap=True)
    else:
        told.print(
            f"{order.cards} cards ordered, serial numbers {order.first_serial} to {order.serials[-1]}, "
            f"{bound.replaced} cards replaced. For the bureau: {folder}",
            soft_wrap=True,
        )
        if bound.replaced:
            told.print("Now publish the deny list: `publish deny` puts the replaced ones on it.", soft_wrap=True)


def _facts(one: Standing) -> dict[str, str | int | bool]:
    order = one.order
    return {
        "batch": order.name,
        "family": order.family.value,
        "cards": order.cards,
        "first_serial": order.first_serial,
        "last_serial": order.serials[-1],
        "key_version": order.key_version,
        "issued": one.issued,
        "ordered": one.ordered,
        "live": one.live,
        "failed": one.failed,
        "replaced": one.replaced,
        "lost": one.lost,
        "closed": one.closed,
        "finished": order.manifest_sha256 is not None,
    }


def _counts(one: Standing) -> tuple[str, ...]:
    return tuple(str(count) for count in (one.ordered, one.live, one.failed, one.replaced + one.lost + one.closed))


def _held_facts(account: str, card: HeldCard | None) -> dict[str, str | int | None]:
    if card is None:
        return {"account": account, "serial": None, "credential_id": None, "family": None, "state": None}
    return {
        "account": account,
        "serial": card.serial,
        "credential_id": None if card.credential_id is None else card.credential_id.hex(),
        "family": card.family.value,
        "state": card.state.name.lower(),
    }
