"""What a desk types: a person and their cards become an account, are shown, and end."""

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import backend_sync.__main__
from backend_sync import linking
from backend_sync.ledger import Ledger
from tests.backend_sync.gate import DAWN_MS
from tests.backend_sync.proving_desk import (
    DESKS,
    a_card,
    a_person,
    code,
    credential,
    desk,
    lines,
    proved,
    write_desks,
)
from validator.commandline import run_app
from validator.model import Assurance, DocumentType
from validator.proof_report import Proof

MARI, BUS = a_person(code(1), "mari's id-card"), a_card("bus")
DAWN = "2025-10-09T08:53:20Z"


@dataclass
class Told:
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.out)
        return told

    @property
    def flat(self) -> str:
        """What people are told, whatever the width of their terminal."""
        return " ".join(self.out.split())


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@dataclass
class Office:
    """A back office with a ledger and one desk, on the command line."""

    folder: Path
    patch: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        Ledger.open(self.url, create=True).close()
        write_desks(self.folder / "desks")
        self.patch.setattr(linking, "_now_ms", lambda: DAWN_MS)
        self.patch.setenv("COLUMNS", "240")

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/ledger.db"

    def run(
        self,
        *words: object,
        stdin: Sequence[str] = (),
        terminal: bool = False,
        code: int = os.EX_OK,
        app: Callable[[], object] | None = None,
    ) -> Told:
        asked = [*(str(word) for word in words), "--ledger", self.url]
        if words[0] != "links":
            asked += ["--desks", str(self.folder / "desks")]
        self.patch.setattr(sys, "argv", ["backend-sync", *(["enrol"] if app is None else []), *asked])
        kind = Terminal if terminal else io.TextIOWrapper
        self.patch.setattr(sys, "stdin", kind(io.BytesIO("".join(f"{one}\n" for one in stdin).encode())))
        with pytest.raises(SystemExit) as ended:
            run_app(app or backend_sync.__main__.app, "backend-sync", backend_sync.__main__.EXITS)
        told = Told(*self.captured.readouterr())
        assert (ended.value.code or 0) == code, told.err
        return told

    def link(self, *words: object, stdin: Sequence[str]) -> dict[str, Any]:
        return self.run("link", "--json", *words, stdin=stdin).json


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, monkeypatch, capsys)


def fact(name: str, family: str, assurance: str = "HOLDER") -> dict[str, Any]:
    return {
        "credential_id": credential(name).hex(),
        "family": family,
        "assurance": assurance,
        "photo_checked": False,
        "scheme": "ee",
        "document": "citizen",
        "desk": "front-1",
        "since": DAWN,
        "ended": None,
    }


def test_a_person_and_a_card_become_an_account(office: Office) -> None:
    told = office.link("--from", "-", stdin=lines(MARI, BUS))
    account = told["account"]
    assert account.startswith("desk-")
    assert told == {
        "account": account,
        "known": False,
        "new": 2,
        "renewed": 0,
        "replaced": 0,
        "assurance": "HOLDER",
        "scheme": "ee",
        "document": "citizen",
        "resident": True,
        "desk": "front-1",
        "links": [
            {"account": account, **fact("mari's id-card", "esteid")},
            {"account": account, **fact("bus", "pkoc2")},
        ],
    }
    again = office.link(stdin=lines(MARI, BUS))
    assert (again["account"], again["known"], again["new"], again["links"]) == (account, True, 0, told["links"])


def test_people_are_told_what_was_proved_and_what_is_left(office: Office) -> None:
    told = office.run("link", "--account", "acct-7", stdin=lines(MARI, BUS)).flat
    assert "Proved at desk front-1: HOLDER, a PIN was entered. The document is of scheme ee and says: citizen." in told
    assert "Account acct-7, new to this person: 2 credentials linked, 0 links renewed, 0 replaced." in told
    assert credential("bus").hex() in told
    assert "concession" not in told
    assert "from before" not in told
    e_resident = a_person(code(1), "e-residency card", assurance=Assurance.CHIP, document=DocumentType.E_RESIDENT)
    told = office.run("link", "--photo-checked", stdin=lines(e_resident)).flat
    assert "CHIP, the photo was compared with the face" in told
    assert "Account acct-7, which this person had: 1 credentials linked" in told
    assert "No concession for residents may be sold to this account." in told
    assert "2 links from before are live: `enrol unlink` ends one, --replace all of them." in told
    assert "CHIP, photo" in told
    told = office.run("link", "--replace", stdin=lines(MARI, at_ms=DAWN_MS + 1)).flat
    assert "0 credentials linked, 0 links renewed, 2 replaced." in told
    assert f"replaced {DAWN}" in told
    assert "Now publish the deny list" in told
    told = office.run("link", stdin=lines(replace(MARI, document=DocumentType.RESIDENT), at_ms=DAWN_MS + 2)).flat
    assert "0 credentials linked, 1 links renewed, 0 replaced." in told
    assert "deny" not in told


@pytest.mark.parametrize(
    ("shown", "words", "ends", "says"),
    [
        (lines(a_person(code(1), assurance=Assurance.CHIP)), (), os.EX_NOPERM, "say --photo-checked"),
        (lines(a_person(code(1), assurance=Assurance.CLAIMED)), (), os.EX_NOPERM, "could have copied"),
        (lines(BUS), (), os.EX_NOPERM, "none of the cards that were read is an identity document"),
        (lines(MARI, at_ms=DAWN_MS - 3_600_000), (), os.EX_NOPERM, "more than 10 minutes ago"),
        ([], (), os.EX_DATAERR, "standard input: nothing came"),
        (["{}"], (), os.EX_DATAERR, "standard input, line 1: is no proof of a desk"),
        ([*lines(MARI), "x" * 5000], (), os.EX_DATAERR, "standard input, line 2: is longer than 4096 bytes"),
        ([*lines(MARI), ""], (), os.EX_DATAERR, "standard input, line 2: is no proof of a desk"),
        (lines(MARI, *(a_card(str(one)) for one in range(8))), (), os.EX_DATAERR, "more than 8 cards"),
        (lines(MARI, by=desk("front-2")), (), os.EX_DATAERR, "desk front-2 is not known here"),
        (lines(MARI), ("--account", "-a b"), os.EX_DATAERR, "--account: an account is up to 64"),
        (lines(MARI), ("--from", "nowhere.jsonl"), os.EX_NOINPUT, "nowhere.jsonl: No such file"),
    ],
)
def test_what_cannot_be_linked_ends_in_one_line_and_changes_nothing(
    office: Office, shown: Sequence[str], words: Sequence[str], ends: int, says: str
) -> None:
    told = office.run("link", *words, stdin=shown, code=ends)
    assert told.err.startswith("backend-sync: ")
    assert told.err.count("\n") == 1
    assert says in told.err
    assert (told.out, code(1) in told.err, credential("bus").hex() in told.err) == ("", False, False)
    with Ledger.open(office.url) as ledger, ledger.reading() as connection:
        for table in ("link", "person", "proof_used"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


def test_a_file_carries_what_a_pipe_does(office: Office) -> None:
    path = office.folder / "proof.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines(MARI, BUS)))
    assert office.link("--from", path, stdin=[])["new"] == 2


def test_a_person_at_a_terminal_is_told_what_is_missing(office: Office) -> None:
    told = office.run("link", stdin=lines(MARI), terminal=True, code=os.EX_USAGE)
    assert "pipe what `validator read` writes into this" in " ".join(told.err.split())


@pytest.mark.parametrize("name", ["README", "front-1.pub", ".hidden"])
def test_a_folder_of_desks_holds_nothing_else(office: Office, name: str) -> None:
    (office.folder / "desks" / name).touch()
    told = office.run("link", stdin=lines(MARI), code=os.EX_DATAERR)
    assert "have the desks' public keys in this folder, NAME.pem, and nothing else" in told.err


def test_a_desk_whose_key_is_none_is_told(office: Office) -> None:
    (office.folder / "desks" / "front-2.pem").write_text("no key")
    assert "is not a public key in PEM form" in office.run("link", stdin=lines(MARI), code=os.EX_CONFIG).err
    for path in (office.folder / "desks").iterdir():
        path.unlink()
    (office.folder / "desks").rmdir()
    assert "--desks: " in office.run("link", stdin=lines(MARI), code=os.EX_NOINPUT).err


def test_a_ledger_that_is_not_there_is_not_begun(office: Office) -> None:
    for path in office.folder.glob("ledger.db*"):
        path.unlink()
    assert "there is no ledger" in office.run("link", stdin=lines(MARI), code=os.EX_NOINPUT).err
    assert not list(office.folder.glob("ledger.db*"))


def test_links_are_shown_by_account_and_by_credential(office: Office) -> None:
    office.run("link", "--account", "acct-7", stdin=lines(MARI, BUS))
    office.run("link", "--account", "acct-8", stdin=lines(a_person(code(2), "jaan's id-card")))
    said = [json.loads(line) for line in office.run("links", "acct-7", "acct-8", "--json").out.splitlines()]
    assert [(one["account"], one["family"]) for one in said] == [
        ("acct-7", "esteid"),
        ("acct-7", "pkoc2"),
        ("acct-8", "esteid"),
    ]
    bus = credential("bus").hex()
    assert office.run("links", "--credential", bus, "--json").json == said[1]
    assert len(office.run("links", "acct-7", "--credential", bus, "--json").out.splitlines()) == 2, "each once"
    table = office.run("links", "acct-7").flat
    assert bus in table
    assert "live" in table
    assert "nothing was ever linked there" in office.run("links", "nobody").out
    assert "name accounts" in office.run("links", code=os.EX_USAGE).err
    assert "32 hexadecimal digits" in office.run("links", "--credential", "00", code=os.EX_USAGE).err
    assert "32 hexadecimal digits" in office.run("links", "--credential", "zz", code=os.EX_USAGE).err


def test_links_end_and_stay_visible(office: Office) -> None:
    office.run("link", "--account", "acct-7", stdin=lines(MARI, BUS))
    bus = credential("bus").hex()
    end = ("unlink", bus, "--why", "lost", "--desk", "front-1")
    told = office.run(*end).flat
    assert "1 links ended; 0 had ended before" in told
    assert "Now publish the deny list" in told
    assert office.run(*end, "--json").json == {"ended": 0, "ended_before": 1}
    assert "deny" not in office.run(*end).out
    shown = office.run("links", "--credential", bus, "--json").json
    assert shown["ended"] == {"why": "lost", "desk": "front-1", "at": DAWN}
    assert f"lost {DAWN}" in office.run("links", "acct-7").flat
    closed = office.run("unlink", "--account", "acct-7", "--why", "closed", "--desk", "front-1", "--json")
    assert closed.json == {"ended": 1, "ended_before": 1}
    assert office.link(stdin=lines(MARI, turn=1))["account"] != "acct-7"


def test_a_mistake_is_undone_and_denied_to_nobody(office: Office) -> None:
    office.run("link", stdin=lines(MARI, BUS))
    ids = [credential("bus").hex(), MARI.card.credential_id.hex()]
    told = office.run("unlink", *ids, "--why", "mistake", "--desk", "front-1").flat
    assert "2 links ended" in told
    assert "deny" not in told


@pytest.mark.parametrize(
    ("words", "ends", "says"),
    [
        (("--why", "lost"), os.EX_USAGE, "Missing option '--desk'"),
        (("--desk", "front-1"), os.EX_USAGE, "Missing option '--why'"),
        (("--why", "lost", "--desk", "front-1"), os.EX_USAGE, "name credentials, or --account"),
        (("00" * 16, "--account", "a", "--why", "lost", "--desk", "front-1"), os.EX_USAGE, "name credentials, or"),
        (("00" * 16, "--why", "closed", "--desk", "front-1"), os.EX_USAGE, "name it with --account"),
        (("00" * 16, "--why", "renewed", "--desk", "front-1"), os.EX_USAGE, "'renewed' is not one of"),
        (("00" * 16, "--why", "lost", "--desk", "front-1"), os.EX_DATAERR, "was never linked"),
        (("--account", "a", "--why", "lost", "--desk", "front-1"), os.EX_DATAERR, "nothing was ever linked"),
        (("00" * 16, "--why", "lost", "--desk", "mari"), os.EX_DATAERR, "--desk: mari is not known here"),
    ],
)
def test_what_cannot_end_is_told(office: Office, words: Sequence[str], ends: int, says: str) -> None:
    assert says in " ".join(office.run("unlink", *words, code=ends).err.split())


def test_what_ended_goes_where_the_deny_list_is_made_from(office: Office) -> None:
    office.run("link", stdin=lines(MARI, BUS))
    office.run("unlink", credential("bus").hex(), "--why", "lost", "--desk", "front-1")
    office.patch.setattr(sys, "argv", ["backend-sync", "enrol", "ended", "--ledger", office.url])
    with pytest.raises(SystemExit):
        backend_sync.__main__.main()
    assert office.captured.readouterr().out == f"{credential('bus').hex()}\n"


def test_proofs_may_come_from_elsewhere(office: Office) -> None:
    asked: list[tuple[str, Mapping[str, Ed25519PublicKey]]] = []

    def prove(source: str, desks: Mapping[str, Ed25519PublicKey]) -> list[Proof]:
        asked.append((source, desks))
        return proved(MARI)

    app = typer.Typer()
    linking.add_to(app, prove)
    assert office.run("link", "--from", "reader-3", "--json", app=app).json["new"] == 1
    ((source, desks),) = asked
    assert (source, list(desks)) == ("reader-3", ["front-1"])
    assert desks["front-1"].public_bytes_raw() == DESKS["front-1"].public_bytes_raw()
