"""``validator personalise``: what a desk types, and what it is told."""

import asyncio
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hardware.medium import Reader
from validator import operator_keys
from validator.card_records import PersonalisationError, load_records
from validator.commandline import JsonOption, print_json, until_signalled
from validator.personalisation import LAYOUTS, Desk, Event, Told, personalise
from validator.personalisation_report import FAILED, OK, Report

EXITS: dict[type[Exception], int] = {PersonalisationError: os.EX_DATAERR}
"""For the composition root: how the failures of this command end the process."""


def add_to(app: typer.Typer, open_reader: Callable[[str], Reader]) -> None:
    """Add the command to a command line.

    Args:
        app: The command line.
        open_reader: Returns the driver for a reader's name, not yet open.
    """

    @app.command("personalise")
    def command(
        records: Annotated[Path, typer.Argument(help="Decrypted records of a batch, which nobody else may read.")],
        *,
        family: Annotated[str, typer.Option("--family", help="What the cards are.", callback=_a_family)],
        reader: Annotated[str, typer.Option("--reader", help="For example nfcpy:usb or pcsc:READER NAME.")],
        keys: Annotated[Path, typer.Option("--keys", help="Directory of operator keys, NAME.VERSION each.")],
        report: Annotated[Path, typer.Option("--report", help="What became of the cards, for `enrol bureau-report`.")],
        give_up: Annotated[bool, typer.Option("--give-up", help="Report the card that was begun as failed.")] = False,
        genuine: Annotated[
            bool, typer.Option("--genuine", help="Refuse chips that NXP's originality signature does not vouch for.")
        ] = False,
        wait_s: Annotated[
            float, typer.Option("--wait", help="Seconds to wait for each card.", callback=_some_time)
        ] = 120.0,
        as_json: JsonOption = False,
    ) -> None:
        """Make the cards of a batch, one blank card after another. Stopped on the way, run it again and it goes on."""
        wanted, secrets = load_records(records), operator_keys.load(keys)
        with Report.open(report) as answers, _screen(len(wanted), as_json=as_json) as (show, progress):
            if give_up and answers.begun is not None:
                answers.finish(FAILED)

            def tell(told: Told) -> None:
                show(told)
                progress(sum(one.serial in answers.results for one in wanted))

            progress(sum(one.serial in answers.results for one in wanted))
            desk = Desk(family, secrets, answers, tell, wait_s, genuine)
            asyncio.run(until_signalled(personalise(open_reader(reader), desk, wanted)))
        results = [answers.results.get(one.serial) for one in wanted]
        _tell_end(results.count(OK), results.count(FAILED), results.count(None), as_json=as_json)


def _some_time(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise typer.BadParameter(f"{seconds:g} s is no time to wait")
    return seconds


def _a_family(name: str) -> str:
    if name not in LAYOUTS:
        raise typer.BadParameter(f"{name!r}: choose from {', '.join(LAYOUTS)}")
    return name


@contextmanager
def _screen(of: int, *, as_json: bool) -> Iterator[tuple[Callable[[Told], None], Callable[[int], None]]]:
    """Show what happens: objects for programs, words for people, and a bar on a terminal."""
    if as_json:
        yield lambda told: print_json(_facts(told)), lambda _done: None
        return
    console = Console(highlight=False, soft_wrap=True)
    columns = (TextColumn("cards"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("cards", total=of)
        yield (
            lambda told: bar.console.print(words(told), markup=False),
            lambda done: bar.update(task, completed=done),
        )


def _facts(told: Told) -> dict[str, str | int | bool | None]:
    return {
        "event": told.event.value,
        "serial": told.serial,
        "uid": told.uid,
        "card": told.number,
        "of": told.of,
        "why": told.why,
        "genuine": told.genuine,
    }


def words(told: Told) -> str:
    """Say what a person at the desk does next."""
    match told.event:
        case Event.WAITING if told.uid is None:
            return f"card {told.number} of {told.of}, serial number {told.serial}: hold a blank card against the reader"
        case Event.WAITING:
            what = f"card {told.uid} was begun as serial number {told.serial}"
            return f"card {told.number} of {told.of}: {what}: hold it against the reader again"
        case Event.TORN:
            return f"{told.why}: hold one card against the reader, the same as before, and leave it there"
        case Event.REFUSED:
            return f"card {told.uid or 'without a UID'}: {told.why}: take it away"
        case Event.FAILED:
            return f"card {told.uid}: {told.why}: serial number {told.serial} failed; take it away and destroy it"
        case Event.DONE:
            make = "" if told.genuine is not False else " (NXP signed no chip with this UID)"
            return f"serial number {told.serial} is card {told.uid}: done, take it away{make}"


def _tell_end(made: int, failed: int, left: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"event": "end", "made": made, "failed": failed, "left": left})
    else:
        again = ": run this again to go on" if left else ""
        Console(highlight=False, soft_wrap=True).print(f"{made} cards made, {failed} failed, {left} left{again}")
    if left:
        raise typer.Exit(os.EX_TEMPFAIL)
