"""``backend-sync export gtfs-check``: what is wrong with a feed, and why a journey costs what it does."""

import datetime as dt
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from backend_sync.gtfs.compiling import Days, compile_feed
from backend_sync.gtfs.currencies import in_major
from backend_sync.gtfs.journey_file import read_journeys
from backend_sync.gtfs.problems import FeedMissing, FeedRefused, Problem
from validator.commandline import JsonOption, print_json
from validator.fares.errors import TariffError
from validator.fares.journey import JourneyPrice, Leg, Step
from validator.fares.pricing import price
from validator.fares.tariff import Tariffs, encode_tariff
from validator.fares.tariff_rows import Feed

EXITS: Final[dict[type[Exception], int]] = {
    FeedMissing: os.EX_NOINPUT,
    TariffError: os.EX_DATAERR,
}
"""For the composition root: how the failures of these rooms end the process."""

_DAY: Final = ["%Y-%m-%d"]


def add_to(app: typer.Typer) -> None:
    """Add the command to a command line."""
    app.command("gtfs-check")(gtfs_check)


def gtfs_check(
    feeds: Annotated[list[Path], typer.Argument(metavar="FEED...", help="Folders or zips of GTFS feeds.")],
    *,
    journey: Annotated[
        Path | None, typer.Option("--journey", metavar="FILE", help="Journeys to explain, a CSV table of legs.")
    ] = None,
    first: Annotated[
        dt.datetime | None, typer.Option("--from", formats=_DAY, help="First day of the tariff, if not the feed's.")
    ] = None,
    until: Annotated[
        dt.datetime | None, typer.Option("--until", formats=_DAY, help="Last day of the tariff, if not the feed's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List every problem of feeds; without any, compile them, and explain the price of journeys rule by rule."""
    console = Console(highlight=False)
    compiled, problems = compile_feeds(feeds, Days(_date(first), _date(until)))
    stop_for(problems, console, "nothing is compiled or priced", as_json=as_json)
    tariff = encode_tariff(compiled)
    for feed in compiled:
        _tell_feed(feed, len(tariff), console, as_json=as_json)
    if journey is not None:
        tariffs, journeys = Tariffs.parse(tariff), dict[str, list[Leg]]()
        try:
            journeys = read_journeys(journey, tariffs)
        except FeedRefused as refused:
            those = [(journey, each) for each in refused.problems]
            stop_for(those, console, "nothing is compiled or priced", as_json=as_json)
        for name, legs in journeys.items():
            _tell_journey(name, legs, price(tariffs, legs), console, as_json=as_json)


def compile_feeds(paths: Sequence[Path], days: Days) -> tuple[list[Feed], list[tuple[Path, Problem]]]:
    """Compile feeds, each called by the name of its file; return those that can be used, and all that is wrong.

    Raises:
        FeedMissing: One cannot be read.
    """
    compiled, problems = list[Feed](), list[tuple[Path, Problem]]()
    for path in paths:
        try:
            compiled.append(compile_feed(path, path.stem, days))
        except FeedRefused as refused:
            problems += [(path, each) for each in refused.problems]
    return compiled, problems


def stop_for(problems: Sequence[tuple[Path, Problem]], console: Console, so: str, *, as_json: bool) -> None:
    """Tell all problems, and end the process if there is one.

    Args:
        problems: Each with the feed or file that it is in.
        console: Where people are told.
        so: What does not happen because of them.
        as_json: Whether to tell a machine.

    Raises:
        typer.Exit: There are problems.
    """
    if not problems:
        return
    for path, each in problems:
        if as_json:
            facts = {"file": each.file, "line": each.line, "field": each.field}
            print_json({"problem": True, "feed": str(path), **facts, "meaning": each.meaning, "remedy": each.remedy})
        else:
            console.print(f"{path}: {each}", soft_wrap=True, markup=False)
    if not as_json:
        console.print(f"{len(problems)} problems; {so}", soft_wrap=True)
    raise typer.Exit(os.EX_DATAERR)


def journey_facts(name: str, legs: Sequence[Leg], found: JourneyPrice) -> dict[str, Any]:
    """Return what is known of a journey's price: amounts in minor units, and every step."""
    parts = [
        {
            "amount": part.amount,
            "apart": part.single,
            "currency": part.currency,
            "legs": [{"legs": len(leg.legs), "amount": leg.amount, "steps": _steps(leg.steps)} for leg in part.legs],
            "steps": _steps(part.steps),
        }
        for part in found.parts
    ]
    facts = {"journey": name, "legs": len(legs), "known": found.known, "totals": dict(found.totals)}
    return {**facts, "parts": parts, "steps": _steps(found.steps)}


def _date(day: dt.datetime | None) -> dt.date | None:
    return None if day is None else day.date()


def _steps(steps: Sequence[Step]) -> list[dict[str, str]]:
    return [{"rule": step.rule.value, "what": step.what, "source": step.source} for step in steps]


def _tell_feed(feed: Feed, size: int, console: Console, *, as_json: bool) -> None:
    counts = {
        "stops": len(feed.stops),
        "prices": len(feed.prices),
        "leg_rules": len(feed.leg_rules),
        "join_rules": len(feed.join_rules),
        "transfer_rules": len(feed.transfer_rules),
        "caps": len(feed.caps),
    }
    if as_json:
        print_json({"feed": feed.name, "bytes_of_all": size, **counts})
        return
    told = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
    console.print(f"feed {feed.name}: {told}; no problems", soft_wrap=True, markup=False)


def _tell_journey(name: str, legs: Sequence[Leg], found: JourneyPrice, console: Console, *, as_json: bool) -> None:
    if as_json:
        print_json(journey_facts(name, legs, found))
        return
    lines = [f"\njourney {name}: {_sum(found.totals)}{'' if found.known else ', and legs without a fare'}"]
    for number, part in enumerate(found.parts, 1):
        lines.append(f"  sub-journey {number}: {_amount(part.amount, part.currency)}")
        for leg in part.legs:
            first, last = leg.legs[0], leg.legs[-1]
            lines.append(f"    {first.from_stop} to {last.to_stop or '?'}: {_amount(leg.amount, leg.currency)}")
            lines += _told(leg.steps, 6)
        lines += _told(part.steps, 4)
    lines += _told(found.steps, 2)
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def _told(steps: Sequence[Step], indent: int) -> list[str]:
    return [f"{' ' * indent}{step.rule}: {step.what}{f' ({step.source})' if step.source else ''}" for step in steps]


def _sum(totals: Mapping[str, int]) -> str:
    return " + ".join(in_major(amount, currency) for currency, amount in totals.items()) or "nothing is known"


def _amount(amount: int | None, currency: str) -> str:
    return "unknown" if amount is None else in_major(amount, currency)
