"""Depot staff's day on the command line: sell, publish, install, check, look into the journal, close the books."""

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend_sync.demo.depot import DEVICE, PLACE, Depot
from backend_sync.demo.issuer import Issuer

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


def test_from_a_sale_to_a_gate_that_is_ready(depot: Depot) -> None:
    office, folder = ("--config", depot.office_toml), depot.folder
    (folder / "sales.jsonl").write_text(sale(1) + "# a comment\n" + sale(2, kind="carnet", rides=10, balance=0))
    recorded = json.loads(run("backend_sync", "publish", "sales", folder / "sales.jsonl", *office, "--json").stdout)
    assert recorded == {"sales": 2, "new": 2}
    again = json.loads(run("backend_sync", "publish", "sales", folder / "sales.jsonl", *office, "--json").stdout)
    assert again == {"sales": 2, "new": 0}

    (folder / "root.pem").write_bytes(Issuer.create("Root", dt.datetime.now(dt.UTC)).pem)
    (folder / "denied.txt").write_text(f"# stolen on Monday\n{CREDENTIAL}\n")
    run("backend_sync", "publish", "trust", folder / "root.pem", *office)
    run("backend_sync", "publish", "deny", folder / "denied.txt", *office)
    run("backend_sync", "publish", "tickets", *office)
    installed = run("backend_sync", "publish", "install", depot.gate_toml, *office, "--json")
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
    ],
)
def test_a_sales_file_with_a_wrong_line_records_nothing(depot: Depot, line: str, told: str) -> None:
    path = depot.folder / "sales.jsonl"
    path.write_text(sale(1) + line)
    office = ("--config", depot.office_toml)
    done = run("backend_sync", "publish", "sales", path, *office, code=os.EX_DATAERR)
    assert done.stderr.startswith(f"backend-sync: {path}, line 2: ")
    assert told in done.stderr
    assert json.loads(run("backend_sync", "reconcile", *office, "--json").stdout)["money"]["loaded"] == 0


def test_a_deny_list_with_a_wrong_line_is_not_published(depot: Depot) -> None:
    path = depot.folder / "denied.txt"
    path.write_text(f"{CREDENTIAL}\nnobody\n")
    done = run("backend_sync", "publish", "deny", path, "--config", depot.office_toml, code=os.EX_DATAERR)
    assert done.stderr == f"backend-sync: {path}, line 2: a credential id has 32 hexadecimal digits\n"
    assert not list((depot.folder / "published").glob("deny/*/manifest"))


def test_a_gate_without_a_journal_says_so(depot: Depot) -> None:
    done = run("validator", "journal", "--config", depot.gate_toml, code=os.EX_IOERR)
    assert "it is not there yet" in done.stderr
