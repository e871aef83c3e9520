"""The clerk's day on the command line: order cards, hand the files to a bureau, take its answer, deny what ended."""

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import backend_sync.__main__
from backend_sync import enrolling
from backend_sync.demo.depot import Depot
from backend_sync.issuing import alone
from backend_sync.ledger import Ledger
from tests.backend_sync.card_bureau import KEY, private, records, write_accounts, write_keys, write_report
from validator.card_index import TOKENS
from validator.commandline import run_app
from validator.lists.deny_list import DenyList
from validator.model import Credential

ACCOUNTS = ["acct-1", "acct-2", "acct-3"]


@dataclass
class Told:
    """What a command said."""

    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        told: dict[str, object] = json.loads(self.out)
        return told


Run = Callable[..., Told]


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    depot = Depot.create(tmp_path, air="udp:127.0.0.1:54321", port=1883)
    Ledger.open(depot.ledger_url, create=True).close()
    write_accounts(tmp_path / "letters.csv", ACCOUNTS)
    return depot


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: object, code: int = os.EX_OK, app: Callable[[], object] = enrolling.app) -> Told:
        monkeypatch.setattr(sys, "argv", ["backend-sync", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            run_app(app, "backend-sync", {**enrolling.EXITS, **backend_sync.__main__.EXITS})
        told = Told(*capsys.readouterr())
        assert (ended.value.code or 0) == code, told.err
        return told

    return run


def batch(depot: Depot, *more: object, name: str = "letters.csv") -> list[object]:
    options = write_keys(depot.folder) | {"--config": depot.office_toml, "--out": depot.folder / "out"}
    return ["batch", depot.folder / name, *(word for option in options.items() for word in option), *more]


def test_from_a_list_of_accounts_to_cards_that_are_live(depot: Depot, run: Run) -> None:
    folder, office = depot.folder, ("--config", depot.office_toml)
    told = run(*batch(depot, "--json")).json
    home = folder / "out" / "letters"
    assert told == {
        "batch": "letters",
        "family": "ntag424",
        "cards": 3,
        "new": 3,
        "replaced": 0,
        "first_serial": 1,
        "last_serial": 3,
        "folder": str(home),
        "finished_before": False,
    }
    assert [row["reference"] for row in records(home, folder)] == [f"parcel-{account}" for account in ACCOUNTS]
    again = run(*batch(depot, "--json")).json
    assert (again["finished_before"], again["new"], again["folder"]) == (True, 0, str(home))
    assert "was finished before; nothing was changed" in run(*batch(depot)).out
    elsewhere = run(*batch(depot), "--out", folder / "elsewhere").out
    assert "Its files are where --out was then" in elsewhere

    report = write_report(folder / "report.csv", [(1, "ok"), (2, "failed")])
    command = ("bureau-report", report, "--batch", "letters", *office)
    assert run(*command, "--json").json == {"live": 1, "failed": 1, "known": 0, "ended_before": 0}
    assert "0 cards are live, 0 failed" in run(*command).out
    assert "Missing option '--batch'" in run("bureau-report", report, *office, code=os.EX_USAGE).err

    write_accounts(folder / "lost.csv", ACCOUNTS[:1])
    refused = run(*batch(depot, name="lost.csv"), code=os.EX_DATAERR)
    assert refused.err == f"backend-sync: {folder}/lost.csv, line 2: this account holds card 1; --replace ends that\n"
    replaced = run(*batch(depot, "--replace", "--name", "lost-cards", name="lost.csv"))
    assert "1 cards replaced" in replaced.out
    assert "`publish deny` puts the replaced ones on it" in replaced.out
    assert len(run("ended", *office).out.splitlines()) == 1, "nobody ever held the one that failed"

    lines = [json.loads(line) for line in run("status", *office, "--json").out.splitlines()]
    facts = ("batch", "cards", "issued", "ordered", "live", "failed", "replaced", "finished")
    assert [tuple(line[name] for name in facts) for line in lines] == [
        ("letters", 3, 3, 1, 0, 1, 1, True),
        ("lost-cards", 1, 1, 1, 0, 0, 0, True),
    ]
    assert "complete" in run("status", *office).out


def deny(depot: Depot, *more: object) -> list[object]:
    return ["publish", "deny", depot.folder / "stolen.txt", "--config", depot.office_toml, *more]


def test_a_deny_list_has_the_cards_that_ended_each_time(depot: Depot, run: Run) -> None:
    office, app = ("--config", depot.office_toml), backend_sync.__main__.app
    run(*batch(depot))
    report = write_report(depot.folder / "report.csv", [(1, "ok"), (2, "ok"), (3, "ok")])
    run("bureau-report", report, "--batch", "letters", *office)
    run("end", "acct-1", "acct-2", "--why", "lost", *office)
    ended = [bytes.fromhex(line) for line in run("ended", *office).out.splitlines()]
    assert len(ended) == 2
    (depot.folder / "stolen.txt").write_text(f"{bytes(16).hex()}\n{ended[0].hex()}\n")
    for version in (1, 2):
        told = run(*deny(depot, "--json"), app=app).json
        assert (told["entries"], told["ended_added"]) == (3, 1)
        payload = (depot.folder / "published" / "deny" / str(version) / "payload").read_bytes()
        listed = DenyList.parse(payload)
        assert listed.denied(Credential(bytes(16)))
        assert all(listed.denied(Credential(one, TOKENS, index=serial)) for serial, one in enumerate(ended, 1))
        assert (len(listed.ids), list(listed.numbered[TOKENS].numbers), listed.numbered[TOKENS].covers) == (
            1,
            [1, 2],
            4,
        )
    assert "1 of them: cards that ended" in run(*deny(depot), app=app).out
    told = run(*deny(depot, "--without-ended", "--json"), app=app).json
    assert (told["entries"], told["ended_added"]) == (2, 0)


def test_a_deny_list_where_nothing_was_recorded_says_so(depot: Depot, run: Run) -> None:
    for path in depot.folder.glob("ledger.db*"):
        path.unlink()
    (depot.folder / "stolen.txt").write_text(bytes(16).hex())
    told = run(*deny(depot, "--json"), app=backend_sync.__main__.app)
    assert (told.json["entries"], told.json["ended_added"]) == (1, 0)
    assert "no cards that ended or were revoked are added" in told.err
    assert not list(depot.folder.glob("ledger.db*"))


def test_a_clerk_finds_and_ends_the_card_of_an_account(depot: Depot, run: Run) -> None:
    office = ("--config", depot.office_toml)
    run(*batch(depot))
    csv = depot.folder / "who.csv"
    csv.write_text("account\nacct-3\nacct-1\n")
    said = [
        json.loads(line) for line in run("who", "acct-1", "nobody", "--csv", csv, *office, "--json").out.splitlines()
    ]
    assert [one["account"] for one in said] == ["acct-1", "nobody", "acct-3"]
    assert said[1] == {"account": "nobody", "serial": None, "credential_id": None, "family": None, "state": None}
    facts = [(one["serial"], one["family"], one["state"]) for one in (said[0], said[2])]
    assert facts == [(1, "ntag424", "ordered"), (3, "ntag424", "ordered")]
    assert "no card" in run("who", "nobody", *office).out

    end = ("end", "nobody", "--csv", csv, "--why", "closed", *office)
    assert run(*end, "--json").json == {"ended": 2, "held_none": 1}
    assert "0 cards ended; 3 accounts held none" in run(*end).out
    assert (said[0]["credential_id"], run("ended", *office).out) == (None, ""), "no chip was ever named"
    assert json.loads(run("who", "acct-1", *office, "--json").out)["state"] is None
    standing = json.loads(run("status", *office, "--json").out)
    assert [standing[name] for name in ("issued", "ordered", "lost", "closed")] == [3, 1, 0, 2]
    write_accounts(depot.folder / "new.csv", ["acct-1"])
    assert run(*batch(depot, "--json", name="new.csv")).json["replaced"] == 0, "an ended card is in nobody's way"
    for command in ("who", ["end", "--why", "lost"]):
        words = [command] if isinstance(command, str) else command
        assert "name accounts" in run(*words, *office, code=os.EX_USAGE).err


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal"])
def test_a_ledger_that_others_may_read_takes_no_batch(depot: Depot, run: Run, name: str) -> None:
    path = depot.folder / name
    path.touch()
    path.chmod(0o640)
    told = run(*batch(depot), code=os.EX_DATAERR)
    mend = told.err.strip().partition(": run ")[2]
    assert mend.startswith("chmod go= ")
    assert str(path) in mend.split()
    subprocess.run(shlex.split(mend), check=True)
    run(*batch(depot))


def test_a_new_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with Ledger.open(f"sqlite:///{tmp_path}/ledger.db", create=True) as ledger, ledger.writing() as connection:
            connection.exec_driver_sql("DELETE FROM rejected")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("ledger.db*")}
    finally:
        os.umask(before)
    assert {name: modes[name] for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm")} == {
        "ledger.db": 0o600,
        "ledger.db-wal": 0o600,
        "ledger.db-shm": 0o600,
    }


def test_a_ledger_that_is_not_there_is_not_begun(depot: Depot, run: Run) -> None:
    absent = f"sqlite:///{depot.folder}/absent.db"
    for command in (batch(depot), ["status"], ["ended"]):
        told = run(*command, "--ledger", absent, code=os.EX_NOINPUT)
        assert "there is no ledger" in told.err
    assert not (depot.folder / "absent.db").exists()


@pytest.mark.parametrize("ledger", ["postgresql://host/ledger", "sqlite://", "sqlite:///:memory:", "sqlite:///a?b=c"])
def test_what_can_be_no_ledger_is_told(run: Run, ledger: str) -> None:
    assert "out of a SQLite file" in run("status", "--ledger", ledger, code=os.EX_DATAERR).err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--name", "../letters"], "--name: give a batch a name"),
        (["--name", ".letters"], "--name: give a batch a name"),
        (["--key-file", "ntag424-application.2={key}"], "give each key once"),
        (["--key-file", "ultralight-data.2={key}"], "is no key of ntag424 cards"),
        (["--family", "ultralight-aes"], "is no key of ultralight-aes cards"),
    ],
)
def test_a_wrong_option_does_nothing(depot: Depot, run: Run, more: list[str], says: str) -> None:
    key = private(depot.folder / "other.key", KEY.octets)
    told = run(*batch(depot), *(word.format(key=key) for word in more), code=os.EX_DATAERR)
    assert says in told.err
    assert len(told.err.splitlines()) == 1
    assert "batch" not in run("status", "--config", depot.office_toml, "--json").out


def test_a_key_that_is_wrong_says_nothing_of_itself(depot: Depot, run: Run) -> None:
    command = batch(depot)
    (depot.folder / "application.key").write_bytes(KEY.octets + b"!")
    told = run(*command, code=os.EX_DATAERR)
    assert told.err == (
        f"backend-sync: {depot.folder}/application.key: an AES-128 key is 16 octets, or 32 hexadecimal digits\n"
    )


def test_files_that_are_named_and_not_there(depot: Depot, run: Run) -> None:
    told = run(*batch(depot, name="absent.csv"), code=os.EX_NOINPUT)
    assert told.err == f"backend-sync: {depot.folder}/absent.csv: No such file or directory\n"
    told = run(*batch(depot), "--out", depot.folder / "absent" / "out", code=os.EX_NOINPUT)
    assert "its folder is not there" in told.err
    assert run("status", "--config", depot.office_toml, "--json").out == "", "nothing was begun"
    told = run(
        "bureau-report",
        depot.folder / "absent.csv",
        "--batch",
        "letters",
        "--config",
        depot.office_toml,
        code=os.EX_NOINPUT,
    )
    assert told.err == f"backend-sync: {depot.folder}/absent.csv: No such file or directory\n"


def test_wrong_lines_are_told_together_and_nobody_is_named(depot: Depot, run: Run) -> None:
    (depot.folder / "letters.csv").write_text("account\nacct-1\nmari@example.org\nacct-1\n")
    told = run(*batch(depot), code=os.EX_DATAERR)
    assert [line.split(": ")[1] for line in told.err.splitlines()] == [
        f"{depot.folder}/letters.csv, line 3",
        f"{depot.folder}/letters.csv, line 4",
    ]
    assert "mari" not in told.err
    assert "acct" not in told.err
    assert not (depot.folder / "out").exists()


def test_a_key_that_took_the_name_of_another_is_refused(depot: Depot, run: Run) -> None:
    run(*batch(depot))
    write_accounts(depot.folder / "more.csv", ["acct-4"])
    command = batch(depot, name="more.csv")
    (depot.folder / "application.key").write_bytes(bytes(reversed(KEY.octets)))
    told = run(*command, code=os.EX_DATAERR)
    assert "ntag424-application.2 is not the key that earlier batches had" in told.err
    (depot.folder / "application.key").write_bytes(KEY.octets)
    run(*command)


def test_a_second_process_is_told_to_wait(depot: Depot, run: Run) -> None:
    lock = enrolling._lock(depot.ledger_url)
    with alone(lock):
        told = run(*batch(depot), code=os.EX_TEMPFAIL)
    assert "another process enrols cards in this ledger" in told.err


def test_a_batch_needs_all_its_options(run: Run) -> None:
    assert "Missing option" in run("batch", "letters.csv", code=os.EX_USAGE).err
