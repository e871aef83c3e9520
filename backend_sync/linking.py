"""``backend-sync enrol link``, ``links`` and ``unlink``: what a desk types to make a person's cards their ticket.

What was proved comes as a stream of lines that the desk signed (`validator.proof_report`): this process sees no card.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any, Final, Literal

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.table import Table

from backend_sync import links as records
from backend_sync import proving
from backend_sync.enrolling import LedgerOption, ledger_url
from backend_sync.enrolment_errors import EnrolmentError, EnrolmentInputMissing
from backend_sync.ledger import Ledger
from backend_sync.links import Link, LinkEnding
from backend_sync.proving import Asked, Linked, LinkRefused
from backend_sync.publishing import DEFAULT_OFFICE, OfficeOption
from validator.commandline import JsonOption, print_json
from validator.key_loading import load_public_key
from validator.model import CREDENTIAL_ID_BYTES, Assurance
from validator.proof_report import MAX_LINE_BYTES, Proof, ProofError, believe

STDIN: Final = "-"
MAX_CARDS: Final = 8
"""So many cards are read for one person at most, the document included."""
DEFAULT_DESKS: Final = Path("/etc/pilet/desks")

EXITS: dict[type[Exception], int] = {LinkRefused: os.EX_NOPERM, ProofError: os.EX_DATAERR}
"""For the composition root, before those of `backend_sync.enrolling`: how the failures of this room end the process."""

Prove = Callable[[str, Mapping[str, Ed25519PublicKey]], Sequence[Proof]]
"""Returns what was proved, given where from and the keys of the desks that may say so."""

DesksOption = Annotated[Path, typer.Option("--desks", help="Folder of the desks' public keys, NAME.pem each.")]
Why = Literal["replaced", "lost", "mistake", "closed"]

_SUFFIX = ".pem"


def read_proofs(source: str, desks: Mapping[str, Ed25519PublicKey]) -> list[Proof]:
    """Read what a desk wrote of one person's cards.

    Args:
        source: A file, or ``-`` for standard input.
        desks: Public keys by the desks' names.

    Raises:
        EnrolmentInputMissing: The file cannot be read.
        ProofError: Nothing came, or something else than proofs of these desks.
    """
    with _opened(source) as file:
        lines = list(islice(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), MAX_CARDS + 1))
    name = "standard input" if source == STDIN else source
    if not lines:
        raise ProofError(f"{name}: nothing came; `validator read` says on its own why no card was read")
    if len(lines) > MAX_CARDS:
        raise ProofError(f"{name}: more than {MAX_CARDS} cards; link one person at a time")
    proofs = []
    for number, line in enumerate(lines, 1):
        try:
            proofs.append(believe(line, desks))
        except ProofError as error:
            raise ProofError(f"{name}, line {number}: {error}") from None
    return proofs


def load_desks(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Load the public keys of the desks that may link, by name.

    Raises:
        EnrolmentInputMissing: The folder cannot be read.
        EnrolmentError: There is something else in it than keys.
        ConfigError: A key cannot be used.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise EnrolmentInputMissing(f"--desks: {folder}: {error.strerror or error}") from None
    for path in paths:
        if path.suffix != _SUFFIX:
            raise EnrolmentError(f"{path}: have the desks' public keys in this folder, NAME{_SUFFIX}, and nothing else")
    return {path.stem: load_public_key(path, "--desks") for path in paths}


def add_to(app: typer.Typer, prove: Prove = read_proofs) -> None:
    """Add the commands to a command line.

    Args:
        app: The command line.
        prove: Where proofs come from.
    """

    @app.command("link")
    def link(
        *,
        source: Annotated[
            str, typer.Option("--from", metavar="FILE", help="What the desk's reader wrote; - is standard input.")
        ] = STDIN,
        account: Annotated[
            str | None, typer.Option("--account", help="The account to have; left out, the person's own, or a new one.")
        ] = None,
        photo_checked: Annotated[
            bool, typer.Option("--photo-checked", help="You compared the photo with the face, and they agree.")
        ] = False,
        replace: Annotated[
            bool, typer.Option("--replace", help="End what was linked before and was not shown now.")
        ] = False,
        desks: DesksOption = DEFAULT_DESKS,
        ledger: LedgerOption = None,
        config: OfficeOption = DEFAULT_OFFICE,
        as_json: JsonOption = False,
    ) -> None:
        """Link a person to an account, and the account to the cards that were read. Repeating it changes nothing."""
        url, keys = ledger_url(ledger, config), load_desks(desks)
        if source == STDIN and sys.stdin.isatty():
            raise typer.BadParameter("--from: pipe what `validator read` writes into this, or name a file")
        proofs = prove(source, keys)
        asked = Asked(account, photo_checked, replace)
        with Ledger.open(url) as opened, opened.writing() as connection:
            done = proving.link(connection, proofs, asked, _now_ms(), os.urandom)
            found = records.of_accounts(connection, [done.account])
            resident = records.is_resident(connection, done.account)
        shown = {one.card.credential_id for one in proofs}
        proof = next(one for one in proofs if one.person is not None)
        _tell_link(proof, done, found, shown, resident=resident, as_json=as_json)

    app.command("links")(links)
    app.command("unlink")(unlink)


def links(
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="Accounts.")] = None,
    credential: Annotated[
        list[str] | None, typer.Option("--credential", metavar="ID", help="A credential; repeatable.")
    ] = None,
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what is and was linked: to accounts, or of credentials."""
    if not accounts and not credential:
        raise typer.BadParameter("name accounts, or --credential ID")
    ids = [_credential(text) for text in credential or ()]
    with Ledger.open(ledger_url(ledger, config)) as opened, opened.reading() as connection:
        both = [*records.of_accounts(connection, accounts or ()), *records.of_credentials(connection, ids)]
    found = sorted({one.number: one for one in both}.values(), key=lambda one: one.number)
    if as_json:
        for one in found:
            print_json(_facts(one))
    elif found:
        _console().print(_table(found))
    else:
        _console().print("nothing was ever linked there", soft_wrap=True)


def unlink(
    why: Annotated[
        Why, typer.Option("--why", help="Why; closed ends an account, and forgets whose it was (with --account).")
    ],
    desk: Annotated[str, typer.Option("--desk", metavar="NAME", help="The desk that ends it.")],
    credentials: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Credentials.")] = None,
    *,
    account: Annotated[str | None, typer.Option("--account", help="All that is linked to this account.")] = None,
    desks: DesksOption = DEFAULT_DESKS,
    ledger: LedgerOption = None,
    config: OfficeOption = DEFAULT_OFFICE,
    as_json: JsonOption = False,
) -> None:
    """End links. They stay visible, and repeating it changes nothing."""
    if bool(credentials) == (account is not None):
        raise typer.BadParameter("name credentials, or --account ACCOUNT")
    if why == "closed" and account is None:
        raise typer.BadParameter("--why closed ends an account: name it with --account")
    ids, ending = [_credential(text) for text in credentials or ()], LinkEnding[why.upper()]
    if desk not in load_desks(desks):
        raise EnrolmentError(f"--desk: {desk} is not known here: its public key is not among the desks'")
    with Ledger.open(ledger_url(ledger, config)) as opened, opened.writing() as connection:
        if account is None:
            ended, before = records.unlink(connection, ids, ending, desk, _now_ms())
        else:
            ended, before = records.unlink_account(connection, account, ending, desk, _now_ms())
    if as_json:
        print_json({"ended": ended, "ended_before": before})
        return
    _console().print(f"{ended} links ended; {before} had ended before", soft_wrap=True)
    _tell_denial(ended if ending in records.DENIED else 0)


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below, so that only opening is answered for here
    except OSError as error:
        raise EnrolmentInputMissing(f"{source}: {error.strerror or error}") from None
    with file:
        yield file


def _credential(text: str) -> bytes:
    try:
        credential_id = bytes.fromhex(text)
    except ValueError:
        credential_id = b""
    if len(credential_id) != CREDENTIAL_ID_BYTES:
        raise typer.BadParameter(f"a credential has {2 * CREDENTIAL_ID_BYTES} hexadecimal digits")
    return credential_id


def _tell_link(
    proof: Proof, done: Linked, found: Sequence[Link], shown: set[bytes], *, resident: bool, as_json: bool
) -> None:
    person = proof.person
    assert person is not None
    if as_json:
        facts = {
            "account": done.account,
            "known": done.known,
            "new": done.new,
            "renewed": done.renewed,
            "replaced": done.replaced,
            "assurance": proof.card.assurance.name,
            "scheme": person.scheme,
            "document": person.document.value,
            "resident": resident,
            "desk": proof.desk,
        }
        print_json({**facts, "links": [_facts(one) for one in found]})
        return
    told = _console()
    how = "a PIN was entered" if proof.card.assurance is Assurance.HOLDER else "the photo was compared with the face"
    told.print(
        f"Proved at desk {proof.desk}: {proof.card.assurance.name}, {how}. The document is of scheme {person.scheme} "
        f"and says: {person.document.value}.",
        soft_wrap=True,
    )
    told.print(
        f"Account {done.account}, {'which this person had' if done.known else 'new to this person'}: {done.new} "
        f"credentials linked, {done.renewed} links renewed, {done.replaced} replaced.",
        soft_wrap=True,
    )
    told.print(_table(found))
    if not resident:
        told.print("No concession for residents may be sold to this account.", soft_wrap=True)
    old = sum(one.ended is None and one.credential_id not in shown for one in found)
    if old:
        told.print(f"{old} links from before are live: `enrol unlink` ends one, --replace all of them.", soft_wrap=True)
    _tell_denial(done.replaced)


def _tell_denial(ended: int) -> None:
    if ended:
        _console().print("Now publish the deny list: `publish deny` puts what ended on it.", soft_wrap=True)


def _table(found: Sequence[Link]) -> Table:
    table = Table()
    for heading in ("account", "credential", "family", "proved", "document", "since", "state"):
        table.add_column(heading, overflow="fold")
    for one in found:
        state = "live" if one.ended is None else f"{one.ended.why.name.lower()} {_moment(one.ended.ended_ms)}"
        proved = f"{one.assurance.name}{', photo' if one.photo_checked else ''}"
        since = f"{_moment(one.since_ms)}, {one.desk}"
        document = f"{one.scheme} {one.document.value}"
        table.add_row(one.account, one.credential_id.hex(), one.family, proved, document, since, state)
    return table


def _facts(one: Link) -> dict[str, Any]:
    ended = one.ended
    return {
        "account": one.account,
        "credential_id": one.credential_id.hex(),
        "family": one.family,
        "assurance": one.assurance.name,
        "photo_checked": one.photo_checked,
        "scheme": one.scheme,
        "document": one.document.value,
        "desk": one.desk,
        "since": _moment(one.since_ms),
        "ended": None
        if ended is None
        else {"why": ended.why.name.lower(), "desk": ended.desk, "at": _moment(ended.ended_ms)},
    }


def _moment(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms // 1000))


def _console() -> Console:
    return Console(highlight=False, markup=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
