"""``backend-sync publish tariff``: from operators' feeds and the places of gates to the next edition of the tariff."""

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from backend_sync import config as office_file
from backend_sync.gtfs.check_command import compile_feeds, stop_for
from backend_sync.gtfs.compiling import Days
from backend_sync.gtfs.problems import Problem
from backend_sync.ledger import Ledger
from backend_sync.one_writer import StillWriting, one_writer
from backend_sync.places_file import Fault, places_in, read_places_file
from backend_sync.publish_errors import PublishError
from backend_sync.publishing import DEFAULT_OFFICE, OfficeOption, bring, dates_for, publisher_of, tell
from backend_sync.recorded_editions import last_edition, record_editions
from validator.commandline import JsonOption
from validator.fares.editions import MAX_EDITIONS, Edition, Editions, encode_editions
from validator.fares.errors import EditionsError
from validator.fares.tariff import Tariffs, encode_tariff
from validator.lists.directory import PAYLOAD, installed_versions
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind
from validator.lists.tariff_list import load_editions

_MOMENT: Final = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"]
_LOCK: Final = ".publishing"
_LONGEST_S: Final = 10.0


def add_to(app: typer.Typer) -> None:
    """Add the command to a command line."""
    app.command("tariff")(publish_tariff)


def publish_tariff(
    feeds: Annotated[list[Path], typer.Argument(metavar="FEED...", help="Folders or zips of GTFS feeds.")],
    places: Annotated[Path, typer.Option("--places", help="A TOML file: where gates stand, in the feeds' ids.")],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    moment: Annotated[
        dt.datetime | None,
        typer.Option(
            "--from",
            formats=_MOMENT,
            metavar="MOMENT",
            help="When it begins to hold, for example 2027-01-01T04:00+02:00; left out, now.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish the next edition of the tariff, beside the one in force; nothing while a feed or place is wrong."""
    office, now_s = office_file.load(config), int(time.time())
    from_s = now_s if moment is None else int(moment.timestamp())
    if from_s < now_s:
        raise PublishError(f"--from {moment}: is over; a tariff begins now or later, since taps were priced already")
    console = Console(highlight=False)
    compiled, problems = compile_feeds(feeds, Days())
    file, faults = read_places_file(places)
    wrong = [*problems, *_problems(places, faults)]
    stop_for(wrong, console, "nothing is published", as_json=as_json)
    tariffs = Tariffs.parse(encode_tariff(compiled))
    named, faults = places_in(file, tariffs)
    stop_for(_problems(places, faults), console, "nothing is published", as_json=as_json)

    publisher = publisher_of(office, ListKind.TARIFF)
    with (
        _alone(publisher.out / ListKind.TARIFF.value),
        Ledger.open(office.ledger_url, create=True) as ledger,
    ):
        versions = installed_versions(publisher.out, ListKind.TARIFF)
        with ledger.reading() as connection:
            number = max([*versions, last_edition(connection)]) + 1
            edition = Edition(number, from_s, tariffs, named, file.limits)
        editions = succeed(published_editions(publisher.out), edition, now_s)
        try:
            payload = encode_editions(editions, "tariff list")
        except EditionsError as error:
            raise PublishError(f"tariff list: {'; '.join(error.problems)}") from None
        published = publisher.tariff(payload, len(editions), dates_for(office.publisher_section().trust_days))
        # Where this is interrupted, `reconcile settle` records what was published.
        with ledger.writing() as connection:
            record_editions(connection, editions, now_s * 1000)
    bring(office, published)
    more = {"edition": number, "from_s": from_s, "places": len(named), "bytes": len(payload)}
    tell(published.manifest, published.entries, as_json=as_json, **more)
    if not as_json:
        for each in editions:
            begins = dt.datetime.fromtimestamp(each.from_s, dt.UTC).isoformat()
            console.print(f"edition {each.version}, {len(each.places)} places, from {begins}", soft_wrap=True)


def succeed(before: Editions, edition: Edition, now_s: int) -> list[Edition]:
    """Return what gates need once there is a new edition: the one in force, what comes before the new one, and that.

    Args:
        before: As they were published last.
        edition: The new one; what was to begin with it or after it is not published any more.
        now_s: The time, seconds since 1970 UTC.

    Raises:
        PublishError: So many wait already that no gate would take one more.
    """
    holds = before.at(now_s)
    kept = [each for each in before.editions if (each is holds or each.from_s > now_s) and each.from_s < edition.from_s]
    if len(kept) == MAX_EDITIONS:
        raise PublishError(f"tariff list: {len(kept)} editions are published and not over; give an earlier --from")
    return [*kept, edition]


def published_editions(out: Path) -> Editions:
    """Return the editions that were published last; none where none were.

    Raises:
        PublishError: They cannot be read.
    """
    versions = installed_versions(out, ListKind.TARIFF)
    if not versions:
        return Editions()
    try:
        return load_editions(out / ListKind.TARIFF.value / str(versions[0]) / PAYLOAD)
    except ListError as error:
        why = f"{error.where}: {error.why}; bring back that file, or `publish back tariff --to` one that is whole"
        raise PublishError(why) from error


def _problems(path: Path, faults: list[Fault]) -> list[tuple[Path, Problem]]:
    return [(path, Problem(path.name, 0, key, why, "mend the file of places")) for key, why in faults]


@contextmanager
def _alone(shelf: Path) -> Iterator[None]:
    """See that nobody else numbers an edition meanwhile."""
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with one_writer(shelf / _LOCK, _LONGEST_S):
            yield
    except StillWriting:
        raise PublishError(f"{shelf}: somebody else is publishing a tariff; try again") from None
    except OSError as error:
        raise PublishError(f"{error.filename or shelf}: {error.strerror or error}") from error
