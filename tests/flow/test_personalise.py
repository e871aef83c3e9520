"""A batch is ordered, its cards are made at a desk, and the back office takes the desk's report like a bureau's."""

import asyncio
import datetime as dt
import json
import os
import secrets
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backend_sync.demo.depot import Depot
from backend_sync.demo.media import KEY_VERSION, Operator
from backend_sync.ledger import Ledger
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.ntag424 import Ntag424Chip
from hardware.virtual.ultralight_aes import OPEN, Settings, UltralightAes
from tests.backend_sync.card_bureau import decrypted, private, write_accounts, write_keys
from validator.certificates import card_credential_id, token_id
from validator.personalisation import LAYOUTS
from validator.personalising.ntag424 import ISSUER_KEY
from validator.profiles import ntag424

ROOT = Path(__file__).parents[2]
CARDS = 5
ENOUGH_S = 60


@dataclass
class Blanks:
    """Cards as they are delivered, in the order in which they come off the pile."""

    family: str
    chips: list[Ntag424Chip | UltralightAes] = field(default_factory=list)

    def take(self, *, tear_after: int | None = None) -> AirCard:
        uid = b"\x04" + secrets.token_bytes(6)
        if self.family == ntag424.NAME:
            self.chips.append(Ntag424Chip(uid, [bytes(16)] * 5, None))
        else:
            settings = Settings(cmac=False, auth0=OPEN, reads_too=False)
            self.chips.append(UltralightAes(uid=uid, data_key=bytes(16), settings=settings))
        return self.again(-1, tear_after=tear_after)

    def again(self, number: int, *, tear_after: int | None = None) -> AirCard:
        chip = self.chips[number]
        uid = chip._uid if isinstance(chip, Ntag424Chip) else None
        return AirCard(chip, Technology.TYPE_A, uid=uid, tear_after=tear_after)


@dataclass
class Desk:
    """The folder of a desk, its reader, and what it types."""

    folder: Path
    family: str
    operator: Operator
    air: Field

    @property
    def keys(self) -> Path:
        return self.folder / "desk-keys"

    @property
    def report(self) -> Path:
        return self.folder / "report.csv"

    def command(self, *words: object) -> list[str]:
        options = ["--family", self.family, "--reader", f"nfcpy:{self.air.path}", "--keys", str(self.keys)]
        options += ["--report", str(self.report), "--wait", "20"]
        return ["validator", "personalise", str(self.folder / "records.csv"), *options, *(str(word) for word in words)]

    async def say(self, *words: str, code: int = os.EX_OK) -> str:
        process = await start(*words)
        out, errors = await asyncio.wait_for(process.communicate(), ENOUGH_S)
        assert process.returncode == code, errors.decode()
        return out.decode()

    async def read(self, card: AirCard) -> dict[str, Any]:
        self.air.place(card)
        options = ["--reader", f"nfcpy:{self.air.path}", "--trust", str(self.operator.trust), "--wait", "20", "--json"]
        options += ["--cache", str(self.folder / "cache.db"), "--keys", str(self.operator.key_directory)]
        found: dict[str, Any] = json.loads(await self.say("validator", "read", *options))
        self.air.remove()
        return found


async def start(*words: str) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", *words, cwd=ROOT, stdout=PIPE, stderr=PIPE)


async def heard(process: Process) -> dict[str, Any]:
    """The next thing that a desk tells."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), ENOUGH_S)
    assert line, (await process.communicate())[1].decode()
    told: dict[str, Any] = json.loads(line)
    return told


def key_options(desk: Desk) -> list[str]:
    """The operator's keys, as ``enrol batch`` is given them."""
    names = LAYOUTS[desk.family].KEY_NAMES
    return [f"--key-file={name}.{KEY_VERSION}={desk.keys / f'{name}.{KEY_VERSION}'}" for name in names]


async def ordered(desk: Desk) -> tuple[str, dict[int, bytes]]:
    """Order cards for five accounts, and decrypt what they are made from; the back office's file, and the tokens."""
    depot = Depot.create(desk.folder, air=desk.air.path, port=1883)
    Ledger.open(depot.ledger_url, create=True).close()
    accounts = write_accounts(desk.folder / "letters.csv", [f"acct-{number}" for number in range(CARDS)])
    given = write_keys(desk.folder)
    words = ["--family", desk.family, "--bureau", str(given["--bureau"]), "--signer", str(given["--signer"])]
    office = str(depot.office_toml)
    words += [*key_options(desk), "--out", str(desk.folder / "out"), "--config", office]
    await desk.say("backend_sync", "enrol", "batch", str(accounts), *words)
    records = decrypted(desk.folder / "out" / "letters" / "records-0001.csv.p7m", desk.folder)
    private(desk.folder / "records.csv", records)
    rows = [line.split(",") for line in records.decode().splitlines()[1:]]
    return office, {int(row[0]): bytes.fromhex(row[1]) for row in rows}


@pytest.fixture
async def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    operator = Operator.create(tmp_path / "operator", dt.datetime.now(dt.UTC))
    desk = Desk(tmp_path, request.param, operator, await Field.open())
    shutil.copytree(operator.key_directory, desk.keys)
    private(desk.keys / f"{ISSUER_KEY}.{KEY_VERSION}", secrets.token_bytes(16))  # no gate has it
    yield desk
    await desk.air.close()


async def answered(desk: Desk, process: Process, card: AirCard) -> dict[str, Any]:
    """Hold a card against the reader until the desk has said what of it."""
    await asyncio.wait_for(desk.air.polled(), ENOUGH_S)  # it saw the one before leave
    desk.air.place(card)
    told = await heard(process)
    desk.air.remove()
    return told


@pytest.mark.parametrize("desk", list(LAYOUTS), indirect=True)
async def test_from_accounts_to_cards_that_are_live_without_a_bureau(desk: Desk) -> None:
    office, tokens = await ordered(desk)
    blanks = Blanks(desk.family)
    process = await start(*desk.command("--json"))
    assert (await heard(process))["event"] == "waiting"
    assert (await answered(desk, process, blanks.take()))["event"] == "done"
    assert (await heard(process))["event"] == "waiting"
    again = await answered(desk, process, blanks.again(0))
    assert (again["event"], again["why"]) == ("refused", "this card is serial number 1 already")
    torn = await answered(desk, process, blanks.take(tear_after=20))
    assert (torn["event"], torn["uid"]) == ("torn", blanks.chips[-1]._uid.hex())
    process.terminate()
    left = await heard(process)
    assert (left["event"], left["made"], left["left"]) == ("end", 1, CARDS - 1)
    assert await process.wait() == os.EX_TEMPFAIL

    process = await start(*desk.command("--json"))
    waiting = await heard(process)
    assert (waiting["serial"], waiting["uid"]) == (torn["serial"], torn["uid"]), "the card that was begun is finished"
    assert (await answered(desk, process, blanks.again(-1)))["event"] == "done"
    for number in range(3, CARDS + 1):
        assert (await heard(process))["card"] == number
        done = await answered(desk, process, blanks.take())
        assert (done["event"], done["uid"]) == ("done", blanks.chips[-1]._uid.hex())
    assert await heard(process) == {"event": "end", "made": CARDS, "failed": 0, "left": 0}
    assert await process.wait() == os.EX_OK
    assert "5 cards made, 0 failed, 0 left" in await desk.say(*desk.command()), "run again, nothing is done"

    told = await desk.say(
        "backend_sync", "enrol", "bureau-report", "--batch", "letters", str(desk.report), "--config", office, "--json"
    )
    assert json.loads(told) == {"live": CARDS, "failed": 0, "known": 0, "ended_before": 0}
    for number, token in enumerate(tokens.values()):
        found = await desk.read(blanks.again(number))
        assert (found["verdict"], found["profile"]) == ("authentic", desk.family)
        assert (
            found["credential_id"] == card_credential_id(token_id(desk.family, token), blanks.chips[number]._uid).hex()
        )


@pytest.mark.parametrize("desk", [ntag424.NAME], indirect=True)
async def test_a_desk_without_the_issuers_key_says_so_before_the_first_card(desk: Desk) -> None:
    private(desk.folder / "records.csv", b"serial,token,key_version,reference\n1," + b"ab" * 15 + b"cd,1,\n")
    (desk.keys / f"{ISSUER_KEY}.{KEY_VERSION}").unlink()
    process = await start(*desk.command())
    out, errors = await asyncio.wait_for(process.communicate(), ENOUGH_S)
    assert (process.returncode, out) == (os.EX_DATAERR, b"")
    assert errors.decode().splitlines() == [
        "validator: operator keys ntag424-issuer.1 are not here: put them into the keys' folder"
    ]
