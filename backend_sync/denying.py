"""``backend-sync publish deny``: whom the ledger refuses, and whom files name, on one list."""

import re
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from backend_sync import config as office_file
from backend_sync.config import OfficeConfig
from backend_sync.denial_files import credential_ids_in, numbers_in
from backend_sync.ledger import Ledger, LedgerMissing
from backend_sync.ledger_denials import NOBODY, LedgerDenials, denied_cards
from backend_sync.publish_errors import PublishError
from backend_sync.publishing import DEFAULT_OFFICE, EmptyOption, OfficeOption, bring, dates_for, publisher_of, tell
from validator.card_index import TOKENS
from validator.commandline import JsonOption
from validator.lists.dense_deny import DenseDeny
from validator.lists.manifest import ListKind
from validator.model import CREDENTIAL_ID_BYTES, Credential

_ISSUER: Final = re.compile(rf"[0-9A-Fa-f]{{{2 * CREDENTIAL_ID_BYTES}}}")
_SEED_BYTES: Final = 32
_PHASES: Final = {
    "read": "reading the register",
    "count": "counting cards",
    "first": "building the first ribbons",
    "sift": "sifting cards",
    "second": "building the second ribbon",
    "check": "asking about every card",
}


class _Told(Protocol):
    """As `backend_sync.clubcard_check.Progress`, which needs numpy."""

    def __call__(self, phase: str, done: int, total: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Register:
    """A register that was built.

    Attributes:
        payload: For the list; empty for none.
        cards: How many it was asked about.
        revoked: How many of them are revoked.
        sample: Some of them, and whether each is revoked.
    """

    payload: bytes = b""
    cards: int = 0
    revoked: int = 0
    sample: Sequence[tuple[Credential, bool]] = ()


def add_to(app: typer.Typer) -> None:
    """Add the command to a command line."""
    app.command("deny")(publish_deny)


def publish_deny(
    file: Annotated[
        Path | None, typer.Argument(help="One credential id a line, 32 hexadecimal digits; # begins a comment.")
    ] = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    numbers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ISSUER=FILE",
            help="Refused cards of an issuer who numbers them: the id of its key, 32 hexadecimal digits, and a file of "
            "one number a line with a line `# covers N`, how many cards it has numbered.",
        ),
    ] = None,
    register: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a nation's foreign cards: CSV, packed or not, with columns credential, issuer, issued "
            "(seconds since 1970 UTC) and revoked (0 or 1)."
        ),
    ] = None,
    without_ended: Annotated[
        bool, typer.Option("--without-ended", help="Leave out the cards that ended, as the ledger has them.")
    ] = False,
    empty: EmptyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Publish who is refused although authentic: whom files name, and the ledger's cards that ended or were revoked."""
    office = office_file.load(config)
    dates = dates_for(office.publisher_section().deny_days)
    named = set() if file is None else set(credential_ids_in(file))
    if file is not None and not named and not empty:
        raise PublishError(
            f"{file}: no credential is named, so that everybody would be let in; --empty if that is meant"
        )
    sections = [numbers_in(path, issuer) for issuer, path in _numbered(numbers or [])]
    publisher = publisher_of(office, ListKind.DENY)
    denials = _ledger_denials(office, without_ended=without_ended)
    ids, tokens = denials.ids(named), denials.section()
    if tokens is not None:
        sections.append(_ledgers_own(tokens, sections))
    built = _Register() if register is None else _built(register)
    if not (ids or any(map(len, sections)) or built.revoked or empty):
        raise PublishError("deny list: nobody is on it, so that everybody would be let in; --empty if that is meant")
    asked = [(card, True) for card in denials.refused.values()]
    asked += [(card, revoked or card.id in ids) for card, revoked in built.sample]
    published = publisher.deny(ids, dates, denials.row, numbered=sections, register=built.payload, asked=asked)
    bring(office, published)
    added, also = len(denials.ended.keys() - named), len(denials.revoked.keys() - named - denials.ended.keys())
    counted = {"ended_added": added, "revoked_added": also, "numbers": sum(map(len, sections))}
    counted |= {"register_cards": built.cards, "register_revoked": built.revoked} if built.payload else {}
    tell(published.manifest, published.entries, as_json=as_json, **counted)
    if not as_json:
        said = "the cards that ended were left out" if without_ended else f"{added} of them: cards that ended"
        Console().print(f"{said}; {also}: cards that were revoked")
        if built.payload:
            Console().print(f"and {built.revoked} of the {built.cards} cards of the register", soft_wrap=True)


def _numbered(options: list[str]) -> Iterator[tuple[bytes, Path]]:
    seen = set[bytes]()
    for option in options:
        issuer, equals, path = option.partition("=")
        if not (equals and path and _ISSUER.fullmatch(issuer)):
            raise typer.BadParameter(
                f"--numbers {option!r}: give ISSUER=FILE, the issuer's key by its id of {2 * CREDENTIAL_ID_BYTES} "
                "hexadecimal digits"
            )
        key_id = bytes.fromhex(issuer)
        if key_id in seen:
            raise typer.BadParameter(f"--numbers {issuer}: given twice; put its numbers into one file")
        seen.add(key_id)
        yield key_id, Path(path)


def _ledgers_own(tokens: DenseDeny, sections: Sequence[DenseDeny]) -> DenseDeny:
    if any(each.issuer == tokens.issuer for each in sections):
        raise PublishError(
            f"--numbers {TOKENS.hex()}: the ledger numbers the tokens, and says which are refused: `enrol revoke`"
        )
    return tokens


def _ledger_denials(office: OfficeConfig, *, without_ended: bool) -> LedgerDenials:
    try:
        with Ledger.open(office.ledger_url) as ledger, ledger.reading() as connection:
            return denied_cards(connection, without_ended=without_ended)
    except LedgerMissing as error:
        Console(stderr=True).print(
            f"no cards that ended or were revoked are added: {error}", soft_wrap=True, markup=False
        )
        return NOBODY


def _built(folder: Path) -> _Register:
    try:
        from backend_sync.register_files import RegisterFiles  # noqa: PLC0415 - only who builds a register has numpy
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise PublishError(
            "--register: a nation's list is built with numpy, which is not here; install the extra `nation`: "
            "pip install 'pilet[nation]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="pilet-register-") as spool, _phases() as told:
        files = RegisterFiles(folder, Path(spool), told)
        built = files.build(secrets.token_bytes(_SEED_BYTES))
        return _Register(built.payload, built.good + built.revoked, built.revoked, list(files.sample))


@contextmanager
def _phases() -> Iterator[_Told]:
    """Show on a terminal how far a register is; yields what it is to be told with."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {phase: progress.add_task(what, total=None, start=False) for phase, what in _PHASES.items()}
        counted = 0

        def told(phase: str, done: int, total: int) -> None:
            nonlocal counted
            counted = done if phase == "count" else counted
            progress.start_task(tasks[phase])
            progress.update(tasks[phase], completed=done, total=total or (counted if phase == "check" else None))

        yield told
