"""``backend-sync publish keys``: what the holders of the catalogue's keys type, each on a machine of their own."""

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from backend_sync import config as office_file
from backend_sync.catalogue import ceremony
from backend_sync.catalogue.ceremony import Outstanding
from backend_sync.catalogue.ceremony_folder import CeremonyFolder, read_document
from backend_sync.catalogue.key_store import (
    PRIVATE,
    PUBLIC,
    create_offline_key,
    create_online_key,
    is_encrypted,
    load_private_key,
    read_public_key,
)
from backend_sync.catalogue.repository import Repository
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Kind
from backend_sync.catalogue.tuf_api import SSlibKey
from backend_sync.one_writer import StillWriting, one_writer
from backend_sync.publish_errors import PublishError
from validator.commandline import JsonOption, print_json

keys = typer.Typer(help="The keys of the signed catalogue: make, sign, replace, see who has to.", no_args_is_help=True)

_DOCUMENTS = (ROOT, TARGETS)
_WAIT_S = 60.0


@keys.command("create")
def create(
    file: Annotated[Path, typer.Argument(help="The private key's new file, NAME.key.")],
    *,
    online: Annotated[
        bool, typer.Option("--online", help="For a role that signs with nobody there: without a passphrase.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make one key. A root or targets key is made by its holder alone, and its private file never leaves them."""
    public = create_online_key(file) if online else create_offline_key(file, _new_passphrase(file))
    if as_json:
        print_json({"private": str(file), "public": str(public), "encrypted": not online})
        return
    where = "on the machine that signs" if online else "on a stick of its own, in a safe, and a copy in another"
    _say(f"{file} is private: keep it {where}.", f"Bring {public} to the ceremony.")


@keys.command("init")
def init(
    folder: Annotated[Path, typer.Argument(help="Where the documents of the ceremony are to lie.")],
    *,
    root: Annotated[list[Path], typer.Option(help="NAME.pub of a holder of root; three of them.")],
    targets: Annotated[Path, typer.Option(help="NAME.pub of targets, offline.")],
    snapshot: Annotated[Path, typer.Option(help="NAME.pub of snapshot, online.")],
    timestamp: Annotated[Path, typer.Option(help="NAME.pub of timestamp, online.")],
    region: Annotated[
        list[str],
        typer.Option(metavar="REGION=FOLDER", help=f"A region, and where its public keys are: {', '.join(Kind)}."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Write the first root and the first targets, for the holders to sign."""
    held = {
        ROOT: [read_public_key(path) for path in root],
        TARGETS: [read_public_key(targets)],
        SNAPSHOT: [read_public_key(snapshot)],
        TIMESTAMP: [read_public_key(timestamp)],
    }
    regions = _regions(region)
    ceremony.refuse_shared(
        [
            *(key for role in held.values() for key in role),
            *(key for kinds in regions.values() for key in kinds.values()),
        ]
    )
    now_s = int(time.time())
    ceremonial = CeremonyFolder(folder)
    documents = {ROOT: ceremony.first_root(held, now_s), TARGETS: ceremony.first_targets(regions, now_s)}
    for path in ceremonial.begin(documents):
        _tell(path, ceremonial.outstanding(path), as_json=as_json)


@keys.command("sign")
def sign(
    document: Annotated[Path, typer.Argument(help="N.root.json or N.targets.json, with the root before it beside it.")],
    key: Annotated[Path, typer.Option(help="Your NAME.key.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Add your signature to a document; then hand its folder on to the next holder."""
    ceremonial = CeremonyFolder(document.parent)
    asked = ceremonial.outstanding(document)
    if not as_json:
        _say(f"{document}: {asked.role}, version {asked.version}, until {_day(asked.expires_s)}. It says:")
        _say(*(f"  {line}" for line in ceremony.said(document.read_bytes())))
    passphrase = _ask(f"Passphrase of {key}: ") if is_encrypted(key) else None
    _tell(document, ceremonial.sign(document, load_private_key(key, passphrase)), as_json=as_json)


@keys.command("rotate")
def rotate(
    folder: Annotated[Path, typer.Argument(help="The folder of the ceremony, with the documents in force.")],
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp, or REGION.KIND.")],
    new: Annotated[Path, typer.Option(help="NAME.pub of the key that comes.")],
    old: Annotated[str | None, typer.Option(help="Name of the key that goes, where the role has several.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the next version of root, or of targets for a region's role, with another key; then it is to be signed."""
    ceremonial = CeremonyFolder(folder)
    path = ceremonial.rotate(role, old, read_public_key(new), int(time.time()))
    _tell(path, ceremonial.outstanding(path), as_json=as_json)


@keys.command("renew")
def renew(
    folder: Annotated[Path, typer.Argument(help="The folder of the ceremony, with the documents in force.")],
    role: Annotated[str, typer.Argument(help="root or targets.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the next version of root or targets with the same keys and a new date; then it is to be signed."""
    if role not in _DOCUMENTS:
        raise typer.BadParameter(f"{role}: root or targets; the others are renewed by whoever publishes")
    ceremonial = CeremonyFolder(folder)
    path = ceremonial.renew(role, int(time.time()))
    _tell(path, ceremonial.outstanding(path), as_json=as_json)


@keys.command("adopt")
def adopt(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="N.root.json and N.targets.json, signed.")],
    config: Annotated[Path, typer.Option("--config", help="The back office's TOML file.")] = office_file.DEFAULT,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring signed documents into the catalogue; gates hear of them with what is published or announced next."""
    office = office_file.load(config)
    folder = office.resolve(office.catalogue_section().folder)
    documents = {path: read_document(path) for path in files}
    said = {path: ceremony.identify(document) for path, document in documents.items()}
    # A root says who signs what follows it, targets as well.
    order = sorted(documents, key=lambda path: (said[path][0] != ROOT, said[path][1]))
    try:
        with one_writer(Path(f"{folder}.lock"), _WAIT_S):
            repository = Repository(folder, {})
            for path in order:
                version = repository.adopt(documents[path])
                role, _ = said[path]
                if as_json:
                    print_json({"document": str(path), "role": role, "version": version})
                else:
                    _say(f"{path}: {role}, version {version}, is in the catalogue.")
    except StillWriting as error:
        raise PublishError(f"{folder}: another process has the catalogue: {error}; run this again") from None


@keys.command("status")
def status(
    folder: Annotated[Path, typer.Argument(help="The folder of the ceremony.")], *, as_json: JsonOption = False
) -> None:
    """Say of the newest root and targets who signed them, who has to, and until when they count."""
    ceremonial = CeremonyFolder(folder)
    found = [newest for newest in map(ceremonial.newest, _DOCUMENTS) if newest is not None]
    if not found:
        raise PublishError(f"{folder}: there is neither root nor targets here; begin with init")
    for path, asked in found:
        _tell(path, asked, as_json=as_json)


def _tell(path: Path, asked: Outstanding, *, as_json: bool) -> None:
    if as_json:
        quorums: list[dict[str, Any]] = [
            {"whose": q.whose, "needed": q.needed, "there": list(q.there), "others": list(q.others)}
            for q in asked.quorums
        ]
        print_json(
            {
                "document": str(path),
                "role": asked.role,
                "version": asked.version,
                "expires": _day(asked.expires_s),
                "complete": asked.complete,
                "quorums": quorums,
            }
        )
        return
    _say(f"{path}: {asked.role}, version {asked.version}, until {_day(asked.expires_s)}.")
    _say(*(f"  {quorum.words()}." for quorum in asked.quorums))
    if asked.complete:
        _say("  It is complete: bring it to the publisher.")
    else:
        _say(f"  Next: a holder runs backend-sync publish keys sign {path} --key NAME{PRIVATE}")


def _regions(options: list[str]) -> dict[str, dict[Kind, SSlibKey]]:
    found: dict[str, dict[Kind, SSlibKey]] = {}
    for option in options:
        name, equals, folder = option.partition("=")
        if not (name and equals and folder) or name in found:
            raise typer.BadParameter(f"--region {option!r}: give REGION=FOLDER, each region once")
        files = {kind: Path(folder) / f"{kind}{PUBLIC}" for kind in Kind}
        # Every region has a deny.pub; in the metadata they are told apart.
        found[name] = {
            kind: ceremony.called(read_public_key(path), f"{name}.{kind}")
            for kind, path in files.items()
            if path.exists()
        }
        if not found[name]:
            raise PublishError(f"{folder}: holds none of {', '.join(path.name for path in files.values())}")
    return found


def _new_passphrase(file: Path) -> bytes:
    passphrase = _ask(f"New passphrase for {file}: ")
    if sys.stdin.isatty() and _ask("The same again: ") != passphrase:
        raise PublishError(f"{file}: the two passphrases differ; nothing was written")
    return passphrase


def _ask(question: str) -> bytes:
    """Ask on a terminal without showing it, else take the next line of standard input."""
    said = getpass.getpass(question) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    return said.encode()


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _say(*lines: str) -> None:
    for line in lines:
        Console().print(line, soft_wrap=True, markup=False, highlight=False)
