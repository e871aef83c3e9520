"""`publish deny` as people type it: a small nation, numbers, ids and the ledger's cards on one list."""

import builtins
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backend_sync.publish_errors import PublishError
from bench.population import Card, Population
from tests.backend_sync.list_office import ListOffice, card
from tests.backend_sync.test_spreading import Desk
from validator.card_index import TOKENS
from validator.lists.deny_list import DenyList
from validator.lists.directory import PAYLOAD
from validator.model import Credential

NATION = Population.realistic(7, 4_000, 0.03)
HEADING = "credential,issuer,issued,revoked\n"
BANK = b"a numbering bank"


@pytest.fixture
def office(tmp_path: Path) -> ListOffice:
    office = ListOffice(tmp_path / "office")
    # Carried by hand: what is published here needs no catalogue.
    office.toml.write_text(office.toml.read_text().replace('[catalogue]\nfolder = "catalogue"\nkeys = "keys"\n', ""))
    return office


@pytest.fixture
def desk(office: ListOffice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(office, monkeypatch, capsys)


def credential(one: Card) -> Credential:
    return Credential(one.credential_id, NATION.issuers[one.block.issuer].key_id, one.issued_s)


def line(one: Card) -> str:
    told = credential(one)
    return f"{told.id.hex()},{told.issuer_id.hex()},{told.issued_s},{one.revoked:d}\n"


@pytest.fixture
def register(tmp_path: Path) -> Path:
    """The nation's cards, a file for each issuer."""
    folder = tmp_path / "register"
    folder.mkdir()
    for issuer in NATION.issuers:
        cards = map(NATION.card, range(issuer.first, issuer.first + issuer.cards))
        (folder / f"{issuer.name}.csv").write_text(HEADING + "".join(map(line, cards)))
    return folder


def published(office: ListOffice, version: int = 1) -> DenyList:
    return DenyList.parse((office.lists / "deny" / str(version) / PAYLOAD).read_bytes())


def test_a_nation_numbers_and_ids_on_one_list(desk: Desk, office: ListOffice, register: Path, tmp_path: Path) -> None:
    (tmp_path / "denied.txt").write_text(f"{card(1).id.hex()}\n")
    (tmp_path / "bank.csv").write_text("# covers 50\nnumber\n49\n3\n")
    desk.run("enrol", "revoke", card(2).id.hex(), "--why", "stolen")
    numbers = f"{BANK.hex()}={tmp_path / 'bank.csv'}"
    command = ("publish", "deny", tmp_path / "denied.txt", "--numbers", numbers, "--register", register)
    told = desk.json(*command)
    assert {name: told[name] for name in told if name != "expires"} == {
        "kind": "deny",
        "version": 1,
        "entries": 4,
        "ended_added": 0,
        "revoked_added": 1,
        "numbers": 2,
        "register_cards": NATION.cards,
        "register_revoked": NATION.revoked_cards,
    }
    listed = published(office)
    cards = [NATION.card(number) for number in range(NATION.cards)]
    assert [listed.denied(credential(one)) for one in cards] == [one.revoked for one in cards]
    assert [number for number in range(60) if listed.denied(Credential(b"", BANK, index=number))] == [3, 49]
    assert [number for number in range(9) if listed.denied(card(number))] == [1, 2]
    assert f"{NATION.revoked_cards} of the {NATION.cards} cards of the register" in desk.run(*command)
    first, second = (office.lists / "deny" / version / PAYLOAD for version in "12")
    assert first.read_bytes() != second.read_bytes(), "nobody knows the salt beforehand"


def test_one_of_the_register_whom_the_office_refuses(desk: Desk, office: ListOffice, register: Path) -> None:
    good = next(one for one in map(NATION.card, range(NATION.cards)) if not one.revoked)
    desk.run("enrol", "revoke", good.credential_id.hex(), "--why", "stolen")
    assert desk.json("publish", "deny", "--register", register)["entries"] == 1
    assert published(office).denied(credential(good))


def test_the_ledger_alone(desk: Desk, office: ListOffice) -> None:
    refused = desk.run("publish", "deny", code=os.EX_DATAERR)
    assert "nobody is on it" in refused
    desk.run("enrol", "revoke", card(3).id.hex(), "--why", "lost")
    assert desk.json("publish", "deny")["entries"] == 1
    assert published(office).denied(card(3))
    desk.run("enrol", "restore", card(3).id.hex(), "--why", "found")
    assert "nobody is on it" in desk.run("publish", "deny", code=os.EX_DATAERR)
    assert desk.json("publish", "deny", "--empty")["entries"] == 0


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (["--numbers", "abc=bank.csv"], os.EX_USAGE, "give ISSUER=FILE"),
        (["--numbers", BANK.hex()], os.EX_USAGE, "give ISSUER=FILE"),
        (["--numbers", f"{BANK.hex()}=bank.csv"] * 2, os.EX_USAGE, "given twice"),
        (["--numbers", f"{BANK.hex()}=absent.csv"], os.EX_NOINPUT, "absent.csv: No such file"),
        (["--numbers", f"{BANK.hex()}=notes.txt"], os.EX_DATAERR, "notes.txt, line 1: is not the number of a card"),
        (["--register", "absent"], os.EX_NOINPUT, "absent: No such file"),
        (["--register", "."], os.EX_DATAERR, "is no .csv"),
        (["notes.txt"], os.EX_DATAERR, "notes.txt, line 1: a credential id has 32"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_published(
    desk: Desk,
    office: ListOffice,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Sequence[str],
    code: int,
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank.csv").write_text("# covers 5\n3\n")
    (tmp_path / "notes.txt").write_text("some notes\n")
    assert why in desk.run("publish", "deny", *options, code=code)
    assert not (office.lists / "deny").exists()


def test_without_numpy_a_register_says_what_to_install(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, register: Path
) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return imported(name, *rest, **more)

    for name in ("register_files", "register_rows", "clubcard_builder", "clubcard_check", "ribbon_builder"):
        monkeypatch.delitem(sys.modules, f"backend_sync.{name}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    told = desk.run("publish", "deny", "--register", register, code=os.EX_DATAERR)
    assert "pip install 'pilet[nation]'" in told


def test_the_ledgers_own_numbers_come_from_the_ledger(
    desk: Desk, office: ListOffice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("backend_sync.bindings.numbers_given", lambda _: 9)
    (tmp_path / "bank.csv").write_text("# covers 5\n3\n")
    told = desk.run("publish", "deny", "--numbers", f"{TOKENS.hex()}={tmp_path / 'bank.csv'}", code=os.EX_DATAERR)
    assert "the ledger numbers the tokens" in told
    desk.json("publish", "deny", "--empty")
    assert published(office).numbered[TOKENS].covers == 9


def test_a_list_that_answers_wrongly_is_not_published(
    desk: Desk, office: ListOffice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PublishError("deny list: a wrong answer")

    monkeypatch.setattr("backend_sync.publisher.refuse_wrong", refuse)
    (tmp_path / "denied.txt").write_text(f"{card(1).id.hex()}\n")
    assert "a wrong answer" in desk.run("publish", "deny", tmp_path / "denied.txt", code=os.EX_DATAERR)
    assert not (office.lists / "deny").exists()
