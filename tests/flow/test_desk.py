"""The desk, from an identity card to a link and to its end: real processes, real protocols, one pipe between them."""

import asyncio
import datetime as dt
import json
import os
import re
import secrets
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend_sync.demo.depot import Depot
from backend_sync.demo.media import Operator, OperatorCard
from backend_sync.ledger import Ledger
from backend_sync.publisher import create_key
from hardware import lds
from hardware.lds import DG1
from hardware.medium import Technology
from hardware.virtual.air import AirCard
from hardware.virtual.emrtd_files import Holder
from tests.flow.estonian_air import E_RESIDENT, Estonia, EstonianCard, held
from tests.validator.dual_interface_cards import CAN, PIN, WRONG_CAN, WRONG_PIN
from tests.validator.estonian_cards import CODE, GIVEN, SURNAME
from tests.validator.travel_documents import CAN as TRAVEL_CAN
from tests.validator.travel_documents import country, with_agreement
from validator.key_loading import load_public_key
from validator.lists.deny_list import DenyList
from validator.model import Assurance, Credential, DocumentType
from validator.profiles import piv, pkoc2
from validator.proof_report import ProvedCard, believe

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
DESK = "front-1"


@dataclass
class Told:
    """What a process said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.out)
        return told


async def shell(command: str, stdin: str = "") -> Told:
    """Run a line as a clerk's shell does; of a pipe, the exit code is the last process's."""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), LIMIT_S)
    assert process.returncode is not None
    return Told(process.returncode, out.decode(), err.decode())


@dataclass
class Town:
    """A desk with its keys, a back office that knows it, an operator of fast cards, and Estonia."""

    folder: Path
    depot: Depot
    operator: Operator
    estonia: Estonia

    @classmethod
    def founded(cls, folder: Path) -> "Town":
        operator = Operator.create(folder / "operator", dt.datetime.now(dt.UTC))
        estonia = Estonia.today()
        estonia.trusted_in(operator.trust)
        (folder / "depot").mkdir()
        depot = Depot.create(folder / "depot", air="udp:127.0.0.1:54321", port=1883)
        Ledger.open(depot.ledger_url, create=True).close()
        town = cls(folder, depot, operator, estonia)
        town.desks.mkdir()
        pem = (
            create_key(folder / f"{DESK}.key")
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (town.desks / f"{DESK}.pem").write_bytes(pem)
        (folder / "person-1.key").touch(mode=0o600)
        (folder / "person-1.key").write_text(secrets.token_hex(32) + "\n")
        town.desk.write_text(f'name = "{DESK}"\nkey = "{DESK}.key"\nperson_keys = ["person-1.key"]\n')
        return town

    @property
    def desks(self) -> Path:
        return self.folder / "desks"

    @property
    def desk(self) -> Path:
        return self.folder / "desk.toml"

    def read(self, reader: str, *options: object) -> str:
        """The command that reads a card and writes the desk's line."""
        words = ["-m", "validator", "read", "--reader", reader, "--trust", self.operator.trust, "--wait", "20"]
        words += ["--cache", self.folder / "cache.db", "--keys", self.operator.key_directory, "--desk", self.desk]
        return shlex.join([sys.executable, *map(str, (*words, *options))])

    def enrol(self, *words: object) -> str:
        options = ["--config", self.depot.office_toml, "--json"]
        options += [] if words[0] == "links" else ["--desks", self.desks]
        return shlex.join([sys.executable, "-m", "backend_sync", "enrol", *map(str, (*words, *options))])

    async def say(self, command: str) -> list[dict[str, Any]]:
        told = await shell(command)
        assert told.code == os.EX_OK, told.err
        return [json.loads(line) for line in told.out.splitlines()]

    async def deny(self) -> DenyList:
        """Publish the deny list, and return what is on it."""
        stolen = self.folder / "stolen.txt"
        stolen.write_text(f"{bytes(16).hex()}\n")
        publish = ["publish", "deny", stolen, "--config", self.depot.office_toml, "--json"]
        (told,) = await self.say(shlex.join([sys.executable, "-m", "backend_sync", *map(str, publish)]))
        return DenyList.parse((self.depot.publisher.out / "deny" / str(told["version"]) / "payload").read_bytes())

    def kept(self) -> bytes:
        """All that the back office has on its disk."""
        return b"".join(path.read_bytes() for path in self.depot.folder.rglob("*") if path.is_file())


def repeats(text: str, secret: str) -> bool:
    """Whether a text has a secret as a word: four digits are in any long number."""
    return re.search(rf"(?<![\w.]){re.escape(secret)}(?![\w.])", text) is not None


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town.founded(tmp_path)


async def link(town: Town, person: EstonianCard, fast: OperatorCard, *options: object) -> Told:
    """A clerk's whole line: the document with its PIN, the fast card, and the back office at the end of the pipe."""
    async with held(person.on_air()) as first, held(fast.on_air()) as second:
        both = f"{{ {town.read(first, '--can', '-', '--pin', '-')}; {town.read(second)}; }}"
        return await shell(f"{both} | {town.enrol('link', '--from', '-', *options)}", f"{CAN}\n{PIN}\n")


@pytest.mark.parametrize("family", [piv.NAME, pkoc2.NAME])
async def test_a_person_is_proved_once_and_taps_something_fast_until_it_is_lost(town: Town, family: str) -> None:
    person, fast = town.estonia.issue(), town.operator.issue(family)
    told = await link(town, person, fast)
    assert told.code == os.EX_OK, told.err
    facts = told.json
    assert (facts["assurance"], facts["scheme"], facts["document"]) == ("HOLDER", "ee", "citizen")
    assert (facts["known"], facts["new"], facts["resident"], facts["desk"]) == (False, 2, True, DESK)
    assert [(one["family"], one["credential_id"]) for one in facts["links"]] == [
        ("esteid2018", person.credential_id.hex()),
        (family, fast.credential_id.hex()),
    ]

    again = (await link(town, person, fast)).json
    assert (again["account"], again["known"], again["new"]) == (facts["account"], True, 0)

    shown = await town.say(town.enrol("links", facts["account"]))
    assert [one["ended"] for one in shown] == [None, None]
    assert not (await town.deny()).denied(Credential(fast.credential_id))

    (ended,) = await town.say(town.enrol("unlink", fast.credential_id.hex(), "--why", "lost", "--desk", DESK))
    assert ended == {"ended": 1, "ended_before": 0}
    denied = await town.deny()
    assert denied.denied(Credential(fast.credential_id))
    assert not denied.denied(Credential(person.credential_id))
    shown = await town.say(town.enrol("links", "--credential", fast.credential_id.hex()))
    assert [one["ended"]["why"] for one in shown] == ["lost"]

    assert not any(repeats(told.out + told.err, secret) for secret in (CODE, SURNAME, GIVEN, PIN, CAN))
    for identifier in (CODE, SURNAME, GIVEN):
        assert identifier.encode() not in town.kept()


async def test_what_was_linked_by_mistake_is_denied_to_nobody(town: Town) -> None:
    person, fast = town.estonia.issue(), town.operator.issue(pkoc2.NAME)
    assert (await link(town, person, fast)).code == os.EX_OK
    await town.say(town.enrol("unlink", fast.credential_id.hex(), "--why", "mistake", "--desk", DESK))
    assert not (await town.deny()).denied(Credential(fast.credential_id))


async def test_an_e_resident_is_linked_and_no_resident(town: Town) -> None:
    told = await link(town, town.estonia.issue(E_RESIDENT), town.operator.issue(pkoc2.NAME))
    assert (told.json["document"], told.json["resident"]) == ("e-resident", False)


async def test_a_new_document_is_the_same_person(town: Town) -> None:
    first = (await link(town, town.estonia.issue(), town.operator.issue(pkoc2.NAME))).json
    second = (await link(town, town.estonia.issue(), town.operator.issue(pkoc2.NAME), "--replace")).json
    assert (second["account"], second["known"]) == (first["account"], True)
    assert (second["new"], second["replaced"]) == (2, 2)


async def test_a_travel_document_names_a_person_once_the_clerk_has_compared_the_photo(town: Town) -> None:
    issued, fast = with_agreement(), town.operator.issue(pkoc2.NAME)
    issued.groups[DG1] = lds.encode_dg1(Holder(expiry="491231").card())
    (town.operator.trust / "icao").mkdir()
    (town.operator.trust / "icao" / "csca.der").write_bytes(country().certificate.public_bytes(Encoding.DER))
    async with held(AirCard(issued.chip(), Technology.TYPE_B)) as first, held(fast.on_air()) as second:
        both = f"{{ {town.read(first, '--can', '-')}; {town.read(second)}; }} > {town.folder}/lines"
        told = await shell(both, f"{TRAVEL_CAN.decode()}\n")
    assert told.code == os.EX_OK, told.err
    command = ("link", "--from", town.folder / "lines")
    assert (await shell(town.enrol(*command))).code == os.EX_NOPERM
    (facts,) = await town.say(town.enrol(*command, "--photo-checked"))
    assert (facts["assurance"], facts["scheme"], facts["document"]) == ("CHIP", "icao", "unknown")
    assert (facts["new"], facts["resident"]) == (2, False)
    assert [one["photo_checked"] for one in facts["links"]] == [True, True]
    for text in (told.err.encode(), (town.folder / "lines").read_bytes(), town.kept()):
        assert not any(name.encode() in text for name in (Holder().number, Holder().surname))
    assert not repeats(told.err, TRAVEL_CAN.decode())


async def test_the_line_is_all_that_stands_on_standard_output(town: Town) -> None:
    person, fast = town.estonia.issue(), town.operator.issue(pkoc2.NAME)
    keys = {DESK: load_public_key(town.desks / f"{DESK}.pem", "desk")}
    async with held(person.on_air()) as reader:
        told = await shell(town.read(reader, "--can", CAN, "--pin", PIN))
    assert told.code == os.EX_OK, told.err
    (line,) = told.out.splitlines()
    proof = believe(line.encode(), keys)
    assert proof.card == ProvedCard("esteid2018", Assurance.HOLDER, person.credential_id)
    assert proof.person is not None
    assert (proof.person.scheme, proof.person.document) == ("ee", DocumentType.CITIZEN)
    assert "HOLDER" in told.err, "the clerk sees what was reached"
    assert not any(identifier in told.out + told.err for identifier in (CODE, SURNAME, GIVEN))
    async with held(fast.on_air()) as reader:
        told = await shell(town.read(reader))
    proof = believe(told.out.encode(), keys)
    assert (proof.card, proof.person) == (ProvedCard(pkoc2.NAME, Assurance.CHIP, fast.credential_id), None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--can", CAN), "the card proved SHARED_SECRET, and CHIP is the least: have its PIN entered (--pin -)"),
        (("--can", CAN, "--pin", WRONG_PIN), "that is not the card's PIN"),
        (("--can", WRONG_CAN, "--pin", PIN), "that is not the number on the card's front"),
        (("--pin", PIN), "the card says nothing without the number on its front"),
    ],
)
async def test_a_card_that_proved_too_little_writes_nothing(town: Town, options: tuple[str, ...], says: str) -> None:
    person = town.estonia.issue()
    async with held(person.on_air()) as reader:
        told = await shell(town.read(reader, *options))
    assert (told.code, told.out) == (os.EX_NOPERM, "")
    last = told.err.splitlines()[-1]
    assert last.startswith(f"validator: nothing is written for the back office: {says}")
    assert person.chip.tries_left == (2 if WRONG_PIN in options else 3)
    assert not any(repeats(told.err, secret) for secret in options if secret.isdigit())


async def test_nobody_is_linked_by_a_document_that_wrote_nothing(town: Town) -> None:
    person, fast = town.estonia.issue(), town.operator.issue(pkoc2.NAME)
    async with held(person.on_air()) as first, held(fast.on_air()) as second:
        both = f"{{ {town.read(first, '--can', CAN)}; {town.read(second)}; }}"
        told = await shell(f"{both} | {town.enrol('link')}")
    assert (told.code, told.out) == (os.EX_NOPERM, "")
    assert "none of the cards that were read is an identity document" in told.err
    assert await town.say(town.enrol("links", "--credential", fast.credential_id.hex())) == []


async def test_a_desk_that_cannot_speak_asks_for_no_card(town: Town) -> None:
    told = await shell(town.read("nfcpy:udp:127.0.0.1:1", "--json"))
    assert (told.code, told.out) == (os.EX_USAGE, "")
    (town.folder / "person-1.key").chmod(0o644)
    told = await shell(town.read("nfcpy:udp:127.0.0.1:1", "--pin", "-"))
    assert (told.code, told.out) == (os.EX_CONFIG, "")
    assert "person-1.key" in told.err
    (town.folder / "desk.toml").unlink()
    told = await shell(town.read("nfcpy:udp:127.0.0.1:1"))
    assert (told.code, told.out) == (os.EX_CONFIG, "")
