"""Depot staff's day on the command line: sell, publish, install, check, look into the journal, close the books."""

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from backend_sync.demo.depot import DEVICE, PLACE, Depot
from backend_sync.demo.issuer import DAY, Issuer
from backend_sync.ledger import Ledger
from validator.lists.ticket_store import TicketStore
from validator.model import Assurance

ROOT = Path(__file__).parents[2]
CREDENTIAL = "00112233445566778899aabbccddeeff"


def run(package: str, *arguments: str | Path, code: int = os.EX_OK) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", package, *(str(argument) for argument in arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot.create(tmp_path, air="udp:127.0.0.1:54321", port=1883)


def sale(number: int, **facts: object) -> str:
    usual = {
        "sale": number,
        "credential_id": CREDENTIAL,
        "kind": "stored_value",
        "price": 1000,
        "sold": 1_790_000_000,
        "valid_from": 1_790_000_000,
        "valid_until": 1_990_000_000,
        "balance": 1000,
        "fare": 200,
        "places": [PLACE],
    }
    return json.dumps(usual | facts) + "\n"


CARNET = sale(2, kind="carnet", rides=10, balance=0, fare=0)


def office_of(depot: Depot) -> tuple[str, Path]:
    return "--config", depot.office_toml


def office_says(depot: Depot, what: str, instead: str) -> None:
    depot.office_toml.write_text(depot.office_toml.read_text().replace(what, instead))


def test_from_a_sale_to_a_gate_that_is_ready(depot: Depot) -> None:
    office, folder = ("--config", depot.office_toml), depot.folder
    (folder / "sales.jsonl").write_text(sale(1, least_assurance="holder") + "# a comment\n" + CARNET)
    recorded = json.loads(run("backend_sync", "publish", "sales", folder / "sales.jsonl", *office, "--json").stdout)
    assert recorded == {"sales": 2, "new": 2, "ledger_begun": True}
    again = json.loads(run("backend_sync", "publish", "sales", folder / "sales.jsonl", *office, "--json").stdout)
    assert again == {"sales": 2, "new": 0, "ledger_begun": False}

    (folder / "root.pem").write_bytes(Issuer.create("Root", dt.datetime.now(dt.UTC)).pem)
    (folder / "denied.txt").write_text(f"# stolen on Monday\n{CREDENTIAL}\n")
    for command in (("trust", folder / "root.pem"), ("deny", folder / "denied.txt")):
        published = json.loads(run("backend_sync", "publish", *command, *office, "--json").stdout)
        assert (published["kind"], published["version"], published["entries"]) == (command[0], 1, 1)
    assert "tickets list, version 1, 2 entries" in run("backend_sync", "publish", "tickets", *office).stdout
    tickets = TicketStore(folder / "published" / "tickets" / "1" / "payload")
    asked = [product.least_assurance for product in tickets.products(bytes.fromhex(CREDENTIAL))]
    tickets.close()
    assert asked == [Assurance.HOLDER, Assurance.CHIP]
    (folder / "office.toml").rename(folder / "at-the-office.toml")
    by_hand = ("--from", folder / "published")
    installed = run("backend_sync", "publish", "install", depot.gate_toml, *by_hand, "--json")
    (folder / "at-the-office.toml").rename(folder / "office.toml")
    kinds = [json.loads(line)["kind"] for line in installed.stdout.splitlines()]
    assert sorted(kinds) == ["deny", "tickets", "trust"]
    assert "newest lists already" in run("backend_sync", "publish", "install", depot.gate_toml, *office).stdout

    checked = json.loads(run("validator", "check", "--config", depot.gate_toml, "--json").stdout)
    assert checked["device"] == DEVICE
    assert {name: facts["freshness"] for name, facts in checked["lists"].items()} == dict.fromkeys(kinds, "FRESH")

    books = json.loads(run("backend_sync", "reconcile", *office, "--json").stdout)
    assert (books["closed"], books["money"]["loaded"], books["money"]["left"]) == (True, 1000, 1000)
    assert "The books are closed." in run("backend_sync", "reconcile", *office).stdout


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (sale(2, credential_id="12"), "credential_id"),
        (sale(2, kind="magic"), "kind"),
        (sale(2, price=-1), "price"),
        (sale(2, surprise=1), "surprise"),
        ("{\n", "line 2"),
        (sale(2, valid_until=1_790_000_000), "is not after valid_from"),
        (sale(2, active_from=1_990_000_000), "active_from is not before valid_until"),
        (sale(2, fare=0), "stored value without a fare"),
        (sale(2, balance=0), "stored value without a balance"),
        (sale(2, rides=1), "rides on a stored_value"),
        (sale(2, kind="carnet", balance=0, fare=0), "a carnet without rides"),
        (sale(2, kind="carnet", rides=10, balance=0), "a balance or a fare on a carnet"),
        (sale(2, kind="period_pass", fare=0), "a balance or a fare on a period_pass"),
        (sale(2, places=[""]), "the name of a place"),
    ],
)
def test_a_sales_file_with_a_wrong_line_records_nothing(depot: Depot, line: str, told: str) -> None:
    path = depot.folder / "sales.jsonl"
    path.write_text(sale(1) + line)
    done = run("backend_sync", "publish", "sales", path, *office_of(depot), code=os.EX_DATAERR)
    assert done.stderr.startswith(f"backend-sync: {path}, line 2: ")
    assert told in done.stderr
    assert not (depot.folder / "ledger.db").exists()


def test_in_a_sales_file_a_comment_is_a_line_of_its_own(depot: Depot) -> None:
    path = depot.folder / "sales.jsonl"
    path.write_text("  # Monday's\n" + sale(1, places=["Gate #4"]) + "\n")
    done = run("backend_sync", "publish", "sales", path, *office_of(depot))
    assert "There was no ledger: " in done.stdout
    with Ledger.open(depot.ledger_url) as ledger:
        ((_, product),) = ledger.product_states()
    assert product.places == {"Gate #4"}


def test_lists_with_nothing_on_them_are_published_only_if_that_is_meant(depot: Depot) -> None:
    (depot.folder / "denied.txt").write_text("# nobody\n")
    Ledger.open(depot.ledger_url, create=True).close()
    for kind, *files in (("deny", depot.folder / "denied.txt"), ("tickets",)):
        refused = run("backend_sync", "publish", kind, *files, *office_of(depot), code=os.EX_DATAERR)
        assert "--empty" in refused.stderr
        assert not (depot.folder / "published" / kind / "1").exists()
        done = run("backend_sync", "publish", kind, *files, *office_of(depot), "--empty", "--json")
        assert json.loads(done.stdout)["entries"] == 0


def test_a_ledger_that_is_not_there_closes_no_books(depot: Depot) -> None:
    before = sorted(depot.folder.rglob("*"))
    for command in (("reconcile", "--json"), ("publish", "tickets")):
        done = run("backend_sync", *command, *office_of(depot), code=os.EX_NOINPUT)
        assert f"{depot.folder}/ledger.db: there is no ledger" in done.stderr
        assert done.stdout == ""
    assert sorted(depot.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("nonsense", os.EX_CONFIG, "key `ledger`: 'nonsense'"),
        ("sqlite://", os.EX_CONFIG, "key `ledger`"),
        ("sqlite:///:memory:", os.EX_CONFIG, "key `ledger`"),
        ("postgresql://host/ledger", os.EX_CONFIG, "key `ledger`"),
        ("sqlite:///absent/ledger.db", os.EX_NOINPUT, "absent/ledger.db: there is no ledger"),
        ("sqlite:///device.pem", os.EX_DATAERR, "device.pem: this is no ledger"),
    ],
)
def test_what_can_be_no_ledger_is_told_in_one_line(depot: Depot, url: str, code: int, told: str) -> None:
    office_says(depot, "sqlite:///ledger.db", url)
    done = run("backend_sync", "reconcile", *office_of(depot), code=code)
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (depot.folder / "device.pem.lock").exists()


def test_ingest_tells_a_folder_that_is_not_there(depot: Depot) -> None:
    office_says(depot, "sqlite:///ledger.db", "sqlite:///absent/ledger.db")
    done = run("backend_sync", "ingest", *office_of(depot), code=os.EX_NOINPUT)
    assert "absent/ledger.db: its folder is not there" in done.stderr


def test_what_lists_are_worth_past_their_date_is_signed_installed_and_shown(depot: Depot) -> None:
    def check(*more: str) -> str:
        # The gate lacks its other lists, which is told as well.
        return run("validator", "check", "--config", depot.gate_toml, *more, code=os.EX_DATAERR).stdout

    before = json.loads(check("--json"))["stale"]["deny"]
    assert before == {"grace_h": 72, "value_limit": None, "then": "refuse", "by": str(depot.gate_toml)}
    file = depot.folder / "gates.toml"
    file.write_text("[stale.deny]\nthen = 'keep'\ngrace_h = 1\n")
    refused = run("backend_sync", "publish", "config", file, *office_of(depot), code=os.EX_DATAERR)
    assert f"{file}: leave grace_h out" in refused.stderr
    file.write_text("[stale.deny]\ngrace_h = 6\nvalue_limit = 250\n")
    published = json.loads(run("backend_sync", "publish", "config", file, *office_of(depot), "--json").stdout)
    assert (published["kind"], published["version"]) == ("config", 1)
    run("backend_sync", "publish", "install", depot.gate_toml, *office_of(depot))
    after = json.loads(check("--json"))
    assert after["lists"]["config"]["freshness"] == "FRESH"
    assert after["stale"]["deny"] == {"grace_h": 6, "value_limit": 250, "then": "refuse", "by": "config 1"}
    assert after["stale"]["trust"] == {"grace_h": None, "value_limit": None, "then": "keep", "by": "config 1"}
    told = check()
    assert "deny, past its date: 6 h of grace, then refused; fares up to 250 meanwhile; says config 1\n" in told
    assert "trust, past its date: kept; any fare meanwhile; says config 1\n" in told


def test_files_that_are_named_and_not_there(depot: Depot) -> None:
    absent = depot.folder / "absent"
    for command in ("trust", "deny", "sales"):
        done = run("backend_sync", "publish", command, absent, *office_of(depot), code=os.EX_NOINPUT)
        assert done.stderr == f"backend-sync: {absent}: No such file or directory\n"
    done = run("backend_sync", "publish", "config", absent, *office_of(depot), code=os.EX_NOINPUT)
    assert done.stderr == f"backend-sync: {absent}: no such file; give the path of a configuration of gates\n"
    done = run("backend_sync", "publish", "install", absent, *office_of(depot), code=os.EX_CONFIG)
    assert done.stderr == f"backend-sync: {absent}: no such file; give the path of a configuration file\n"


def test_a_certificate_that_is_no_issuers_is_named_by_its_file(depot: Depot) -> None:
    now = dt.datetime.now(dt.UTC)
    issuer, path = Issuer.create("Root", now), depot.folder / "card.der"
    path.write_bytes(issuer.issue(ec.generate_private_key(ec.SECP256R1()), now - DAY, now + DAY))
    done = run("backend_sync", "publish", "trust", path, *office_of(depot), code=os.EX_DATAERR)
    assert done.stderr.startswith(f"backend-sync: {path}, certificate 1: ")


def test_a_publishers_key_that_others_may_read_is_refused_by_name(depot: Depot) -> None:
    (depot.folder / "denied.txt").write_text(CREDENTIAL)
    (depot.folder / "publisher.pem").chmod(0o644)
    done = run("backend_sync", "publish", "deny", depot.folder / "denied.txt", *office_of(depot), code=os.EX_CONFIG)
    assert done.stderr.startswith(
        f"backend-sync: {depot.office_toml}: publisher.key: {depot.folder}/publisher.pem: mode"
    )


@pytest.mark.parametrize(
    ("command", "path", "key"), [("uplink", "gate.toml", "uplink"), ("ingest", "office.toml", "broker")]
)
def test_a_wrong_tls_file_is_told_at_the_start(depot: Depot, command: str, path: str, key: str) -> None:
    config = depot.folder / path
    names = 'ca = "office.pub"\ncertificate = "office.pub"\nkey = "office.pem"\n'
    config.write_text(f"{config.read_text()}\n[{key}.tls]\n{names}")
    done = run("backend_sync", command, "--config", config, code=os.EX_CONFIG)
    assert done.stderr.startswith(
        f"backend-sync: {config}: {key}.tls.ca: {depot.folder}/office.pub holds no certificate"
    )


def test_an_uplink_makes_no_state_where_there_is_none(depot: Depot) -> None:
    depot.gate_toml.write_text(depot.gate_toml.read_text().replace('state = "state"', 'state = "stat/e"'))
    done = run("backend_sync", "uplink", "--config", depot.gate_toml, code=os.EX_CONFIG)
    assert f"state: {depot.folder}/stat/e is not there" in done.stderr
    assert not (depot.folder / "stat").exists()


def test_a_deny_list_with_a_wrong_line_is_not_published(depot: Depot) -> None:
    path = depot.folder / "denied.txt"
    path.write_text(f"{CREDENTIAL}\nnobody\n")
    done = run("backend_sync", "publish", "deny", path, "--config", depot.office_toml, code=os.EX_DATAERR)
    assert done.stderr == f"backend-sync: {path}, line 2: a credential id has 32 hexadecimal digits\n"
    assert not list((depot.folder / "published").glob("deny/*/manifest"))


def test_a_gate_without_a_journal_says_so(depot: Depot) -> None:
    done = run("validator", "journal", "--config", depot.gate_toml, code=os.EX_IOERR)
    assert "it is not there yet" in done.stderr
