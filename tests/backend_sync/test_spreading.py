"""What people type: bring the keys' documents, revoke, publish, let a list spread, stop it, go back, and look."""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import backend_sync.__main__
from backend_sync import spreading
from backend_sync.mqtt import Broker
from backend_sync.publish_errors import PublishError
from backend_sync.publisher import ROW
from backend_sync.wave_rule import count_votes
from backend_sync.wire import ListState
from tests.backend_sync.brokers import MosquittoCarrier
from tests.backend_sync.catalogue_office import key
from tests.backend_sync.list_office import REGION, ListOffice, card, listening
from validator.commandline import run_app
from validator.lists.deny_list import DenyList
from validator.lists.directory import PAYLOAD, read_verified
from validator.lists.manifest import ListKind

KEYS = {f"{REGION}.deny": key(f"{REGION}.deny").public_key()}


@dataclass
class Desk:
    """A back office on the command line."""

    office: ListOffice
    patch: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.patch.setenv("COLUMNS", "200")

    def run(self, *words: object, code: int = os.EX_OK) -> str:
        self.patch.setattr(sys, "argv", ["backend-sync", *map(str, words), "--config", str(self.office.toml)])
        with pytest.raises(SystemExit) as ended:
            run_app(backend_sync.__main__.app, "backend-sync", backend_sync.__main__.EXITS)
        told = self.captured.readouterr()
        assert (ended.value.code or 0) == code, told.err
        return told.out if code == os.EX_OK else told.err

    def json(self, *words: object) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.run(*words, "--json"))
        return told

    def deny(self, *numbers: int) -> dict[str, Any]:
        file = self.office.home / "denied.txt"
        file.write_text("".join(f"{card(number).id.hex()}\n" for number in numbers))
        return self.json("publish", "deny", file, "--empty")

    def adopt(self) -> "Desk":
        names = ("1.targets.json", "1.root.json")
        self.run("publish", "keys", "adopt", *(self.office.documents / name for name in names))
        return self

    def denied(self, version: int) -> list[int]:
        _, payload = read_verified(self.office.lists, ListKind.DENY, version, KEYS, REGION)
        listed = DenyList.parse(payload.read_bytes())
        return [number for number in range(10) if listed.denied(card(number))]


@pytest.fixture
def office(tmp_path: Path) -> ListOffice:
    return ListOffice(tmp_path / "office", made_s=int(time.time()))  # the commands read the clock


@pytest.fixture
def desk(office: ListOffice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(office, monkeypatch, capsys)


def test_what_is_revoked_is_on_the_list_that_is_published(desk: Desk, office: ListOffice) -> None:
    desk.adopt()
    assert desk.json("enrol", "revoke", card(2).id.hex(), card(3).id.hex(), "--why", "stolen") == {
        "revoked": 2,
        "known": 0,
    }
    assert desk.json("enrol", "revoke", card(2).id.hex(), "--why", "stolen") == {"revoked": 0, "known": 1}
    assert desk.json("enrol", "restore", card(3).id.hex(), "--why", "found") == {"restored": 1, "ended": 0}
    told = desk.deny(1, 2)
    assert (told["version"], told["revoked_added"], told["entries"]) == (1, 0, 2)
    assert desk.denied(1) == [1, 2]
    assert (office.lists / "deny" / "1" / ROW[ListKind.DENY]).read_text() == "3\n"
    assert (desk.deny(1)["revoked_added"], desk.denied(2)) == (1, [1, 2])
    assert office.catalogue.in_force()[ListKind.DENY].percent == 5


def test_people_are_told_what_happens_next(desk: Desk) -> None:
    told = desk.run("enrol", "revoke", card(1).id.hex(), "--why", "lost")
    assert "1 cards revoked; 0 were revoked already." in told
    assert "within seconds if `publish announce` runs" in told
    assert "given back" in desk.run("enrol", "restore", card(1).id.hex(), "--why", "mistake")
    assert "is not revoked here" in desk.run("enrol", "restore", card(1).id.hex(), "--why", "found", code=65)
    assert "32 hexadecimal digits" in desk.run("enrol", "revoke", "abc", "--why", "lost", code=os.EX_USAGE)
    assert "holds no card" in desk.run("enrol", "revoke", "--account", "nobody", "--why", "lost", code=65)


def test_cards_from_a_file(desk: Desk, tmp_path: Path) -> None:
    file, issuer = tmp_path / "stolen.csv", "ab" * 16
    file.write_text(f"credential,issuer,number\n{card(1).id.hex()},,\n{card(2).id.hex()},{issuer},7\n")
    assert desk.json("enrol", "revoke", "--csv", file, "--why", "stolen") == {"revoked": 2, "known": 0}
    file.write_text(f"credential,number\n{card(1).id.hex()},7\nxyz,\n")
    told = desk.run("enrol", "revoke", "--csv", file, "--why", "stolen", code=65)
    assert "line 2" in told
    assert "line 3" in told
    file.write_text("credential\n")
    assert "no card is named" in desk.run("enrol", "revoke", "--csv", file, "--why", "stolen", code=65)


def test_documents_come_in_their_order_and_once(desk: Desk, office: ListOffice) -> None:
    desk.adopt()
    told = desk.run("publish", "keys", "adopt", office.documents / "1.root.json", code=os.EX_DATAERR)
    assert "the next one is 2" in told


def test_without_documents_nothing_is_listed(desk: Desk, office: ListOffice) -> None:
    (office.home / "denied.txt").write_text("")
    told = desk.run("publish", "deny", office.home / "denied.txt", "--empty", code=os.EX_DATAERR)
    assert "root was not brought here yet" in told


def test_a_wave_is_set_and_stopped(desk: Desk, office: ListOffice) -> None:
    desk.adopt().deny(1)
    assert desk.json("publish", "wave", "deny", 50) == {"kind": "deny", "version": 1, "percent": 50}
    assert "It is stopped" in desk.run("publish", "wave", "deny", 0)
    held = office.catalogue.in_force()[ListKind.DENY]
    assert (held.version, held.percent) == (1, 0)
    assert "no trust list is in the catalogue" in desk.run("publish", "wave", "trust", 5, code=os.EX_DATAERR)


def test_back_is_a_new_version_for_everybody_with_what_was_before(desk: Desk, office: ListOffice) -> None:
    desk.adopt().deny(1)
    desk.deny(1, 2, 3)
    told = desk.json("publish", "back", "deny")
    assert (told["version"], told["payload_of"], desk.denied(3)) == (3, 1, [1])
    held = office.catalogue.in_force()[ListKind.DENY]
    assert (held.version, held.percent) == (3, 100)
    first, third = (office.lists / "deny" / version / PAYLOAD for version in "13")
    assert first.read_bytes() == third.read_bytes()
    assert desk.json("publish", "back", "deny", "--to", 2)["version"] == 4
    assert desk.denied(4) == [1, 2, 3]
    assert "versions that are: 1, 2, 3, 4" in desk.run("publish", "back", "deny", "--to", 9, code=os.EX_NOINPUT)
    assert "nothing to go back from" in desk.run("publish", "back", "tickets", code=os.EX_DATAERR)


def test_without_a_catalogue_everything_is_as_before(desk: Desk, office: ListOffice) -> None:
    text = office.toml.read_text()
    start, end = text.index("[catalogue]"), text.index("[devices]")
    office.toml.write_text(text[:start] + text[end:])
    assert desk.deny(1)["version"] == 1
    publisher = {"publisher": key("publisher").public_key()}
    assert read_verified(office.lists, ListKind.DENY, 1, publisher, REGION)[0].version == 1
    assert not (office.home / "catalogue").exists()
    assert "no [catalogue] table" in desk.run("publish", "wave", "deny", 5, code=os.EX_CONFIG)


def test_a_role_whose_key_is_not_here(desk: Desk, office: ListOffice) -> None:
    (office.keys / REGION / "deny.key").rename(office.keys / f"{REGION}.deny.key")
    assert desk.adopt().deny(1)["version"] == 1
    (office.keys / f"{REGION}.deny.key").unlink()
    (office.home / "denied.txt").write_text("")
    told = desk.run("publish", "deny", office.home / "denied.txt", "--empty", code=os.EX_NOINPUT)
    assert "north.deny.key: is not among the catalogue's keys" in told


async def test_status_shows_who_has_a_list_and_who_refused_it(
    tmp_path: Path, carrier: MosquittoCarrier, capsys: pytest.CaptureFixture[str]
) -> None:
    office = ListOffice(tmp_path / "office", carrier.address, ["gate-1", "gate-2", "gate-3"]).adopt()
    office.publish_deny([card(1)], percent=0)
    async with listening(carrier.address, "gates") as listener:
        await listener.report("gate-1", ListState(version=1, change=4))
        await listener.report("gate-2", ListState(version=0, change=0, refused_version=1, reason="self-check failed"))
        await listener.report("stranger", ListState(version=1, change=0))
    reports = await spreading.reported_lists(carrier.address, "status-office", frozenset(office.devices))
    assert {device: lists["deny"].version for device, lists in reports.items()} == {"gate-1": 1, "gate-2": 0}
    listed = office.catalogue.in_force()
    votes = count_votes(1, {device: lists["deny"] for device, lists in reports.items()})
    spreading._show(listed, {ListKind.DENY: votes}, 3)
    told = capsys.readouterr().out
    for words in ("STOPPED", "1 of 3", "deny list, gate-2: self-check failed"):
        assert words in told


async def test_status_without_a_broker_says_so(tmp_path: Path) -> None:
    office = ListOffice(tmp_path / "office")
    with pytest.raises(PublishError, match="the broker does not say what devices have"):
        await spreading.reported_lists(Broker("127.0.0.1", 1, timeout=1.0), "status", frozenset(office.devices))
