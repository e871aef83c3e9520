"""``backend-sync publish``: what depot staff and jobs type to bring trust, denials, tickets and keys to the gates."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backend_sync import config as office_file
from backend_sync.catalogue.keys_command import keys
from backend_sync.cataloguing import list_catalogue
from backend_sync.config import OfficeConfig
from backend_sync.delivery import deliver
from backend_sync.key_files import enrolled_keys, named_keys
from backend_sync.ledger import Ledger
from backend_sync.publisher import Dates, Published, Publisher, PublishError
from backend_sync.region_file import load_region_file
from backend_sync.sales_file import sales_in
from backend_sync.status_files import StatusFiles
from validator import config as gate_file
from validator import estonian_issuers
from validator.commandline import JsonOption, print_json
from validator.lists.manifest import ListKind, Manifest
from validator.model import Scheme
from validator.publishers import Publishers

publish = typer.Typer(help="Record sales; build, sign and deliver lists.", no_args_is_help=True)
publish.add_typer(keys, name="keys")

OfficeOption = Annotated[Path, typer.Option("--config", help="The back office's TOML file.")]
EmptyOption = Annotated[bool, typer.Option("--empty", help="Publish the list although nothing is on it.")]
DEFAULT_OFFICE = office_file.DEFAULT
DAY_S = 24 * 3600


@publish.command("trust")
def publish_trust(
    anchors: Annotated[list[Path] | None, typer.Argument(help="Root certificates, PEM or DER.")] = None,
    config: OfficeOption = DEFAULT_OFFICE,
    intermediate: Annotated[list[Path] | None, typer.Option(help="Certificates that lead to a root.")] = None,
    pkoc_issuer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REFERENCE=KEY",
            help="A PKOC issuer: its reference of 16 characters, and the file of its public key, PEM or DER.",
        ),
    ] = None,
    sm_signer: Annotated[
        list[Path] | None, typer.Option(help="Certificates for PIV content signing: they vouch for secure messaging.")
    ] = None,
    *,
    national: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEME=FILE",
            help=f"Issuers of national identity cards, PEM, DER or a folder; schemes: {', '.join(Scheme)}.",
        ),
    ] = None,
    travel: Annotated[
        list[Path] | None,
        typer.Option(help="Country signing authorities (CSCA) of travel documents: PEM, DER or a folder."),
    ] = None,
    dnie_component: Annotated[
        list[Path] | None,
        typer.Option(help="RSA public keys that vouch for the chips of the Spanish DNIe, PEM or DER."),
    ] = None,
    estonia: Annotated[
        bool, typer.Option("--estonia", help="The issuers of Estonia's cards, as this version pins them.")
    ] = False,
    empty: EmptyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the issuers whose cards are believed: all of them, each time."""
    if not (anchors or pkoc_issuer or sm_signer or national or estonia or travel or dnie_component or empty):
        raise typer.BadParameter(
            "name root certificates, --pkoc-issuer, --sm-signer, --national, --estonia, --travel or --dnie-component; "
            "--empty if no issuer's card is to be believed"
        )
    pkoc_issuers = _pkoc_issuers(pkoc_issuer or [])
    office = office_file.load(config)
    dates = dates_for(office.publisher_section().trust_days)
    published = publisher_of(office, ListKind.TRUST).trust(
        anchors or [],
        intermediate or [],
        dates,
        pkoc_issuers=pkoc_issuers,
        sm_signers=sm_signer or [],
        national=_national(national or []),
        pinned={Scheme.ESTONIA: estonian_issuers.production_issuers()} if estonia else {},
        travel_anchors=_unfolded(travel or []),
        component_roots=dnie_component or [],
        empty=empty,
    )
    bring(office, published)
    tell(published.manifest, published.entries, as_json=as_json)


@publish.command("sales")
def record_sales(
    file: Annotated[Path, typer.Argument(help="One sale a line, JSON; a line that begins with # is a comment.")],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Record sales in the ledger: all of the file, or nothing if a line is wrong. `announce` tells the gates."""
    office = office_file.load(config)
    sales = list(sales_in(file))
    with Ledger.open(office.ledger_url, create=True) as ledger:
        new, begun = ledger.record_sales(sales), ledger.begun
    if as_json:
        print_json({"sales": len(sales), "new": new, "ledger_begun": begun})
    else:
        if begun:
            Console().print(f"There was no ledger: {office.ledger_url} is a new one.", soft_wrap=True)
        Console().print(f"{new} new sales recorded, {len(sales) - new} were known")


@publish.command("tickets")
def publish_tickets(
    config: OfficeOption = DEFAULT_OFFICE, *, empty: EmptyOption = False, as_json: JsonOption = False
) -> None:
    """Publish what is left of every product, as the ledger has it."""
    office = office_file.load(config)
    publisher, dates = publisher_of(office, ListKind.TICKETS), dates_for(office.publisher_section().tickets_days)
    with (
        _counting("products") as count,
        Ledger.open(office.ledger_url) as ledger,
        ledger.snapshot() as tickets,
    ):
        products = tickets.product_states()
        first = list(islice(products, 1))
        if not first and not empty:
            raise PublishError(
                f"{office.ledger_url}: nothing was ever sold here, so that nobody would be let in; "
                "check the path, or --empty if that is meant"
            )
        published = publisher.tickets(chain(first, products), tickets.horizons(), dates, count, tickets.last_sale())
    bring(office, published)
    tell(published.manifest, published.entries, as_json=as_json)


@publish.command("statuses")
def publish_statuses(
    files: Annotated[
        list[Path],
        typer.Argument(help="CSV with columns issuer (32 hexadecimal digits), index and status; or a folder of such."),
    ],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Publish what became of a nation's numbered cards, for gates that admit guests: all of them, each time."""
    office = office_file.load(config)
    publisher, dates = publisher_of(office, ListKind.STATUS), dates_for(office.publisher_section().tickets_days)
    found = StatusFiles()
    with _counting("cards") as count:
        found.read(files, count)
        if not found.cards:
            raise PublishError(f"{files[0]}: no card is named, so that no guest would be let in")
        published = publisher.statuses(found.arrays(), dates)
    bring(office, published)
    tell(published.manifest, published.entries, as_json=as_json, named=found.cards)


@publish.command("enrolled")
def publish_enrolled(
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            help="Public keys: PEM, DER, or CSV with a column public_key in hexadecimal; or a folder of such files."
        ),
    ] = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    named: Annotated[
        Path | None,
        typer.Option(help="Keys of cards that never show them: CSV with columns name and public_key in hexadecimal."),
    ] = None,
    empty: EmptyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish the keys of cards that no issuer vouches for: all of them, each time."""
    if not (keys or named or empty):
        raise typer.BadParameter("name files of --keys, or --named; --empty if no such card is to be let in")
    office = office_file.load(config)
    publisher, dates = publisher_of(office, ListKind.ENROLLED), dates_for(office.publisher_section().trust_days)
    spkis = chain.from_iterable(enrolled_keys(path) for path in keys or [])
    under_names = iter(()) if named is None else named_keys(named)
    first, first_named = list(islice(spkis, 1)), list(islice(under_names, 1))
    if not (first or first_named or empty):
        files = ", ".join(str(path) for path in [*(keys or []), *([named] if named else [])]) or "--keys"
        raise PublishError(
            f"{files}: no key is in it, so that none of its cards would be let in; --empty if that is meant"
        )
    with _counting("keys") as count:
        published = publisher.enrolled(chain(first, spkis), dates, count, chain(first_named, under_names))
    bring(office, published)
    tell(published.manifest, published.entries, as_json=as_json)


@publish.command("config")
def publish_config(
    file: Annotated[Path, typer.Argument(help="A TOML file: for each kind of list, what it is worth past its date.")],
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Publish the configuration of the region's gates: all of it, each time."""
    office = office_file.load(config)
    dates = dates_for(office.publisher_section().trust_days)
    published = publisher_of(office, ListKind.CONFIG).config(load_region_file(file), dates)
    bring(office, published)
    tell(published.manifest, published.entries, as_json=as_json)


@publish.command("install")
def install(
    gate: Annotated[Path, typer.Argument(help="The gate's TOML file.")],
    config: OfficeOption = DEFAULT_OFFICE,
    folder: Annotated[
        Path | None, typer.Option("--from", help="The published lists, where there is no back office's file.")
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring the newest published lists into a gate's list directory, all or none, verified by the gate's own rules."""
    gate_config = gate_file.load(gate)
    if folder is None:
        office = office_file.load(config)
        folder = office.resolve(office.publisher_section().out)
    installed = deliver(
        folder,
        gate_config.lists,
        Publishers.of(gate_config).keys(),
        gate_config.file.region,
        lambda manifest: tell(manifest, as_json=as_json),
    )
    if not installed and not as_json:
        Console().print("the gate has the newest lists already")


def publisher_of(office: OfficeConfig, kind: ListKind) -> Publisher:
    """Return who publishes a kind of list: with a catalogue the role that answers for it, else the publisher's key.

    Raises:
        ConfigError: The office file has no publisher, or its key cannot be used.
        PublishError: A key of the catalogue cannot be used, or the role's is not here.
    """
    section, catalogue = office.publisher_section(), list_catalogue(office)
    signer, key = (section.name, office.publisher_key()) if catalogue is None else catalogue.signer(kind)
    return Publisher(office.resolve(section.out), signer, key, office.file.region)


def bring(office: OfficeConfig, published: Published, percent: int | None = None) -> None:
    """List a published version in the catalogue, if there is one.

    Args:
        office: The back office.
        published: What was published.
        percent: For how many of the devices; None for those that take a new list first.

    Raises:
        PublishError: It cannot be listed; nothing has changed for the gates.
    """
    catalogue = list_catalogue(office)
    if catalogue is not None:
        first = office.catalogue_section().canary_percent if percent is None else percent
        catalogue.bring(published, first, int(time.time()))


def dates_for(days: float) -> Dates:
    """Return the dates of a list that is made now and fresh for so many days."""
    now_s = int(time.time())
    return Dates(now_s, now_s + int(days * DAY_S))


@contextmanager
def _counting(what: str) -> Iterator[Callable[[int], None]]:
    """Show a count on a terminal; yields what it is to be told with."""
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda count: progress.update(task, completed=count)


def _pkoc_issuers(options: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for option in options:
        reference, equals, path = option.partition("=")
        if not (reference and equals and path):
            raise typer.BadParameter(
                f"--pkoc-issuer {option!r}: give REFERENCE=KEY, for example ACMETRANSIT00001=acme.pem"
            )
        if reference in found:
            raise typer.BadParameter(f"--pkoc-issuer {reference}: given twice, and a reference names one key")
        found[reference] = Path(path)
    return found


def _national(options: list[str]) -> dict[Scheme, list[Path]]:
    found: dict[Scheme, list[Path]] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (equals and path) or name not in set(Scheme):
            raise typer.BadParameter(f"--national {option!r}: give SCHEME=FILE, a scheme of {', '.join(Scheme)}")
        found.setdefault(Scheme(name), []).extend(_unfolded([Path(path)]))
    return found


def _unfolded(paths: list[Path]) -> list[Path]:
    """Put a folder's files in its place: of `--travel *.pem` a shell makes one authority and many root certificates."""
    return [each for path in paths for each in (sorted(path.iterdir()) if path.is_dir() else [path])]


def tell(manifest: Manifest, entries: int | None = None, *, as_json: bool, **more: int) -> None:
    """Say what a list says of itself, and how many are on it where they were counted."""
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(manifest.not_after_s))
    counted = {} if entries is None else {"entries": entries}
    if as_json:
        print_json({"kind": manifest.kind.value, "version": manifest.version, "expires": expires} | counted | more)
    else:
        number = "" if entries is None else f"{entries} entries, "
        Console().print(f"{manifest.kind.value} list, version {manifest.version}, {number}fresh until {expires}")
