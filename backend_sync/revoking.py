"""``backend-sync enrol revoke`` and ``restore``: what a desk types when a card was stolen, and when it was found."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console

from backend_sync import revocations
from backend_sync.enrolling import LedgerOption, ledger_url
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.enrolment_table import TableFile, WrongLines
from backend_sync.ledger import Ledger
from backend_sync.publishing import DEFAULT_OFFICE, OfficeOption
from backend_sync.revocations import Why
from validator.card_index import MAX_INDEX
from validator.commandline import JsonOption, print_json
from validator.model import CREDENTIAL_ID_BYTES, Credential

CredentialsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[CREDENTIAL]...", help="Credential ids, 32 hexadecimal digits.")
]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        help="More cards: CSV with a column credential and, where known, issuer (32 hexadecimal digits), issued "
        "(seconds since 1970 UTC) and number.",
    ),
]

_COLUMNS: Final = ("credential", "issuer", "issued", "number")
_ID: Final = re.compile(rf"[0-9A-Fa-f]{{{2 * CREDENTIAL_ID_BYTES}}}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_NEXT: Final = "Gates hear of it within seconds if `publish announce` runs; else when the deny list is published."


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command("revoke")(revoke)
    app.command("restore")(restore)


def revoke(
    why: Annotated[Literal["lost", "stolen", "misused", "closed"], typer.Option("--why", help="Why.")],
    credentials: CredentialsArgument = None,
    account: Annotated[list[str] | None, typer.Option("--account", help="All that an account holds now.")] = None,
    *,
    csv: CsvOption = None,
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    as_json: JsonOption = False,
) -> None:
    """Have cards refused, whatever they hold. Repeating it changes nothing."""
    named = _named(credentials, csv, others=bool(account))
    with Ledger.open(ledger_url(ledger, config)) as opened, opened.writing() as connection:
        for each in account or ():
            held = revocations.of_account(connection, each)
            if not held:
                raise EnrolmentError(f"--account {each}: holds no card that a gate knows; nothing was changed")
            named += held
        done, known = revocations.revoke(connection, named, Why[why.upper()], _now_ms())
    if as_json:
        print_json({"revoked": done, "known": known})
        return
    _say(f"{done} cards revoked; {known} were revoked already.", *([_NEXT] if done else []))


def restore(
    why: Annotated[Literal["found", "mistake"], typer.Option("--why", help="Why.")],
    credentials: CredentialsArgument = None,
    csv: CsvOption = None,
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take revocations back: all that are named, or none if one was not revoked."""
    named = _named(credentials, csv)
    with Ledger.open(ledger_url(ledger, config)) as opened, opened.writing() as connection:
        ids = [each.id for each in named]
        done = revocations.restore(connection, ids, Why[why.upper()], _now_ms())
        ended = len(revocations.ended_credential_ids(connection).intersection(ids))
    if as_json:
        print_json({"restored": done, "ended": ended})
        return
    _say(f"{done} cards given back.", _NEXT)
    if ended:
        _say(f"{ended} of them ended as their accounts' cards: they stay refused for that.")


def _named(credentials: Sequence[str] | None, csv: Path | None, *, others: bool = False) -> list[Credential]:
    if not (credentials or csv or others):
        raise typer.BadParameter("name credentials, or --csv FILE")
    for each in credentials or ():
        if not _ID.fullmatch(each):
            raise typer.BadParameter(f"{each[:64]!r}: a credential has {2 * CREDENTIAL_ID_BYTES} hexadecimal digits")
    named = [Credential(bytes.fromhex(each)) for each in credentials or ()]
    return named if csv is None else [*named, *_read(csv)]


def _read(path: Path) -> list[Credential]:
    found, wrong = list[Credential](), WrongLines(path)
    with TableFile.open(path, _COLUMNS, optional=_COLUMNS[1:]) as table:
        for line, cells in table.rows():
            if not cells or not _is_card(*cells):
                wrong.add(
                    [(line, "is not a credential and, where known, its issuer, its time of issue and its number")]
                )
                continue
            credential, issuer, issued, number = cells
            found.append(
                Credential(
                    bytes.fromhex(credential), bytes.fromhex(issuer), int(issued or 0), int(number) if number else None
                )
            )
    wrong.tell()
    if not found:
        raise EnrolmentError(f"{path}: no card is named in it")
    return found


def _is_card(credential: str, issuer: str, issued: str, number: str) -> bool:
    """Whether the cells of a row name a card; when it was issued, or its number, says nothing without its issuer."""
    return bool(
        _ID.fullmatch(credential)
        and (not issuer or _ID.fullmatch(issuer))
        and all(not each or (issuer and _NUMBER.fullmatch(each)) for each in (issued, number))
        and int(number or 0) <= MAX_INDEX
    )


def _say(*lines: str) -> None:
    for line in lines:
        Console(highlight=False, markup=False).print(line, soft_wrap=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
