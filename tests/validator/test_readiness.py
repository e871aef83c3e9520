"""`validator check`, `validator journal` and `validator run` where something is wrong: all of it told, in words."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.demo.depot import DEVICE, Depot
from backend_sync.demo.issuer import Issuer
from tests.validator.test_journal_reader import tap
from validator import config as gate_file
from validator import readiness
from validator.__main__ import key_problems
from validator.config import GateConfig
from validator.journal_file import JournalFile

ROOT = Path(__file__).parents[2]


def validator(*arguments: str | Path, code: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "validator", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    now = dt.datetime.now(dt.UTC)
    depot = Depot.create(tmp_path, air="udp:127.0.0.1:54321", port=1883)
    depot.publish([Issuer.create("Issuer", now)], [], now)
    return depot


def spoil(depot: Depot, old: str, new: str) -> None:
    text = depot.gate_toml.read_text()
    assert old in text
    depot.gate_toml.write_text(text.replace(old, new))


def problems(depot: Depot) -> list[str]:
    return [str(problem) for problem in readiness.inspect(gate_file.load(depot.gate_toml)).problems]


def own_journal(config: GateConfig, device: str, key: Ed25519PrivateKey | None = None) -> None:
    file = JournalFile(config.journal, device, key or config.device_private_key(), vfs=None, synchronous="NORMAL")
    for _ in range(3):
        file.settle(None, lambda _uses: tap())
    file.close()


def test_a_gate_in_order_has_no_problems(depot: Depot) -> None:
    own_journal(gate_file.load(depot.gate_toml), DEVICE)
    assert problems(depot) == []
    done = validator("check", "--config", depot.gate_toml, code=os.EX_OK)
    assert done.stdout.splitlines()[0] == f"{DEVICE} at market-square: in order, device key in order"
    shown = json.loads(validator("check", "--config", depot.gate_toml, "--json", code=os.EX_OK).stdout)
    assert (shown["problems"], shown["device_key"]) == ([], "in order")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"device.pem"', '"gone.pem"', "device_key: .*gone.pem: No such file"),
        ('"publisher.pub"', '"gone.pub"', r"lists.publishers.publisher-1: .*gone\.pub: No such file"),
        ('region = "demo"', 'region = "south"', r"trust/1/manifest: is for region 'demo', this device is in 'south'"),
        ('state = "state"', 'state = "stat"', "state: .*stat is no directory"),
        ('"office.pub"', '"gone.pub"', r"uplink\.offices\.office-1: .*gone\.pub: No such file"),
        (
            "[uplink]",
            '[uplink.tls]\nca = "ca.pem"\ncertificate = "c.pem"\nkey = "k.pem"\n[uplink]',
            r"uplink\.tls\.ca: ",
        ),
        (
            'families = ["piv"]',
            'families = ["piv", "pkoc1"]',
            "no enrolled list .*every card of the family pkoc1 will be refused",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_told(depot: Depot, old: str, new: str, told: str) -> None:
    spoil(depot, old, new)
    assert any(re.search(told, problem) for problem in problems(depot))


def test_operator_keys_that_are_missing_or_open_to_all_are_told(depot: Depot, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    spoil(depot, 'families = ["piv"]', f'families = ["piv", "ntag424"]\nkeys = "{keys}"')
    config = gate_file.load(depot.gate_toml)
    told = [str(problem) for problem in key_problems(config)]
    assert told == [
        f"{config.path}: cards.families: ntag424 needs the operator key ntag424-application, and none is here"
    ]
    (keys / "ntag424-application.1").touch(0o600)
    (keys / "ntag424-application.1").write_bytes(bytes(range(16)))
    assert key_problems(config) == []
    (keys / "ntag424-application.1").chmod(0o644)
    assert len(key_problems(config)) == 1
    assert "ntag424-application.1" in validator("check", "--config", depot.gate_toml, code=os.EX_CONFIG).stderr


def test_all_faults_are_told_and_the_first_one_decides(depot: Depot) -> None:
    spoil(depot, '"nfcpy:udp:127.0.0.1:54321"', '"foo"')
    spoil(depot, 'driver = "none"', 'driver = "gpio"')
    spoil(depot, '"office.pub"', '"gone.pub"')
    (depot.state / "lists" / "deny" / "1" / "payload").write_bytes(b"rotten")
    done = validator("check", "--config", depot.gate_toml, "--json", code=os.EX_CONFIG)
    shown = json.loads(done.stdout)
    assert [problem.split(": ")[1] for problem in shown["problems"][:2]] == ["reader 'foo'", "gate"]
    assert [line for line in done.stderr.splitlines() if line.startswith("validator: ")] == [
        f"validator: {problem}" for problem in shown["problems"]
    ]
    assert len(shown["problems"]) == 5
    people = validator("check", "--config", depot.gate_toml, code=os.EX_CONFIG)
    assert "in order" not in people.stdout.replace("device key in order", "")


def test_a_state_that_this_user_may_not_write_is_told(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and path == depot.state))
    (problem,) = problems(depot)
    assert re.search(r"state: this user \(uid \d+\) may not write to .*state;", problem)


@pytest.mark.parametrize(("device", "told"), [("gate-0009", "belongs to device 'gate-0009'"), (DEVICE, "another key")])
def test_a_journal_of_another_device_is_told(depot: Depot, device: str, told: str) -> None:
    own_journal(gate_file.load(depot.gate_toml), device, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    (problem,) = problems(depot)
    assert told in problem


@pytest.mark.parametrize("name", ["device_key", "key"])
def test_a_credential_that_systemd_gives_at_start_is_no_fault(
    depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(readiness, "CREDENTIALS", tmp_path / "credentials")
    later = tmp_path / "credentials" / "validator.service" / "device-key"
    if name == "device_key":
        spoil(depot, '"device.pem"', f'"{later}"')
        assert readiness.inspect(gate_file.load(depot.gate_toml)).device_key == readiness.LATER
    else:
        spoil(
            depot, "[uplink]", f'[uplink.tls]\nca = "device.pub"\ncertificate = "device.pub"\nkey = "{later}"\n[uplink]'
        )
    assert problems(depot) == []
    later.parent.mkdir(parents=True)
    later.write_text("nonsense")
    later.chmod(0o600)
    assert problems(depot) != []


def test_the_journal_is_shown_without_the_private_key(depot: Depot) -> None:
    config = gate_file.load(depot.gate_toml)
    own_journal(config, DEVICE)
    public = config.device_private_key().public_key().public_bytes_raw().hex()
    (depot.folder / "device.pem").unlink()
    done = validator("journal", "--config", depot.gate_toml, "--after", "2", "--json", code=os.EX_OK)
    shown, last = (json.loads(line) for line in done.stdout.splitlines())
    assert (shown["seq"], last["event"], last["entries"], last["head"]) == (3, "verified", 3, 3)
    assert last["public_key"] == public
    text = validator("journal", "--config", depot.gate_toml, code=os.EX_OK).stdout.splitlines()
    assert len(text) == 4
    assert text[-1].endswith(f"3 entries, chain and signatures hold, head 3, device key {public}")


def test_a_journal_that_was_tampered_with_is_not_shown_as_whole(depot: Depot) -> None:
    config = gate_file.load(depot.gate_toml)
    own_journal(config, DEVICE)
    db = apsw.Connection(str(config.journal))
    db.execute("DELETE FROM entry WHERE seq = 2")
    db.close()
    done = validator("journal", "--config", depot.gate_toml, "--json", code=os.EX_IOERR)
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [1]
    assert "entry 3 does not follow entry 1" in done.stderr


@contextmanager
def running(depot: Depot) -> Iterator[dict[str, object]]:
    """A validator that serves; what it said when it was ready."""
    command = [sys.executable, "-m", "validator", "run", "--config", str(depot.gate_toml), "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
    assert process.returncode == os.EX_OK


def test_one_validator_serves_a_state(depot: Depot) -> None:
    with running(depot) as said:
        assert said["event"] == "ready"
        done = validator("run", "--config", depot.gate_toml, code=os.EX_IOERR)
        assert done.stderr.splitlines()[-1] == (
            f"validator: journal {depot.state}/journal.db: another validator serves this gate's state; stop it first"
        )
    with running(depot) as said:  # the lock goes with the process
        assert said["event"] == "ready"


def test_a_state_that_is_not_there_is_no_place_to_serve_from(depot: Depot) -> None:
    spoil(depot, 'state = "state"', 'state = "stat"')
    done = validator("run", "--config", depot.gate_toml, code=os.EX_CONFIG)
    assert re.search(r"validator: .*gate\.toml: state: .*stat/lock: No such file or directory", done.stderr)
    assert not (depot.folder / "stat").exists()


def test_a_gate_serves_without_a_file_of_known_cards(depot: Depot) -> None:
    (depot.state / "known_cards.db").mkdir()
    with running(depot) as said:
        assert said["event"] == "ready"
    assert (depot.state / "known_cards.db").is_dir()
