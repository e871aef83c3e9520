"""``validator inspect`` in a process of its own, with cards on nfcpy's air and lists that were published for it."""

import asyncio
import datetime as dt
import json
import os
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backend_sync.demo.depot import FRESH_S, PLACE, Depot
from backend_sync.demo.media import Operator
from backend_sync.publisher import Dates
from hardware.virtual.air import AirCard, Field
from tests.flow.estonian_air import E_RESIDENT, Estonia
from tests.validator.dual_interface_cards import CAN, WRONG_CAN
from tests.validator.estonian_cards import CODE, GIVEN, SURNAME
from validator import config as gate_file
from validator.conditions import ORDINARY, Conditions
from validator.journal_file import JournalFile
from validator.list_facts import ListVersions
from validator.model import ClockConfidence, Instant, Outcome, Reason, Scheme, Tap
from validator.profiles import piv
from validator.rights import Product, ProductKind

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
HOUR = 3600


@dataclass
class Told:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.out)
        return told

    @property
    def facts(self) -> tuple[Any, ...]:
        return tuple(self.json[name] for name in ("valid", "reason", "profile", "assurance", "compare_photo"))


@dataclass
class Beat:
    """An inspector's device with the network's lists on it, and the air in front of it."""

    depot: Depot
    operator: Operator
    estonia: Estonia
    now: dt.datetime
    sold: int = 0

    @classmethod
    def begun(cls, folder: Path) -> "Beat":
        now = dt.datetime.now(dt.UTC)
        (folder / "depot").mkdir()
        operator, estonia = Operator.create(folder / "operator", now), Estonia.today()
        return cls(Depot.create(folder / "depot", air="udp:127.0.0.1:1", port=1), operator, estonia, now)

    def sell(self, credential_id: bytes, *, residents_only: bool = False, conditions: Conditions = ORDINARY) -> None:
        self.sold += 1
        now_s = int(self.now.timestamp())
        window = (now_s - HOUR, now_s + HOUR, now_s - HOUR)
        places = frozenset({PLACE})
        product = Product(
            self.sold,
            ProductKind.PERIOD_PASS,
            *window,
            places=places,
            residents_only=residents_only,
            conditions=conditions,
        )
        self.depot.sell([(credential_id, product)], self.now)

    def publish(self, *revoked: bytes) -> None:
        self.depot.publish([self.operator.issuer], revoked, self.now)
        root = self.estonia.write(self.depot.folder / "estonia.pem")
        issuer = self.depot.folder / "issuer-0.pem"
        now_s = int(self.now.timestamp())
        self.depot.publisher.trust([issuer], [], Dates(now_s, now_s + FRESH_S), national={Scheme.ESTONIA: [root]})
        self.depot.install()

    async def inspect(self, card: AirCard | None, *options: str, stdin: str = "") -> Told:
        """Run the command while a card lies on the reader."""
        air = await Field.open()
        try:
            if card is not None:
                air.place(card)
            words = ["--config", str(self.depot.gate_toml), "--reader", f"nfcpy:{air.path}", "--wait", "20", *options]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "validator", "inspect", *words, cwd=ROOT,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), LIMIT_S)
        finally:
            await air.close()
        assert process.returncode is not None
        return Told(process.returncode, out.decode(), err.decode())


@pytest.fixture
def beat(tmp_path: Path) -> Beat:
    return Beat.begun(tmp_path)


async def test_an_operators_card(beat: Beat) -> None:
    card, without = beat.operator.issue(piv.NAME), beat.operator.issue(piv.NAME)
    beat.sell(card.credential_id)
    beat.publish()
    told = await beat.inspect(card.on_air(), "--json")
    assert told.code == os.EX_OK, told.err
    assert told.facts == (True, "VALID", "piv", "CHIP", False)
    assert [(one["kind"], one["places"]) for one in told.json["tickets"]] == [("period_pass", [PLACE])]
    people = (await beat.inspect(card.on_air())).out
    assert "✔ VALID: valid" in people
    assert "the chip is genuine" in people
    assert f"period pass, {told.json['tickets'][0]['valid_from']}" in people
    assert "photo" not in people

    told = await beat.inspect(without.on_air(), "--json")
    assert (told.code, *told.facts) == (os.EX_OK, False, "NO_TICKET", "piv", "CHIP", False)
    assert "✘ NOT VALID: no ticket" in (await beat.inspect(without.on_air())).out

    beat.publish(card.credential_id)
    told = await beat.inspect(card.on_air(), "--json")
    assert (told.code, *told.facts) == (os.EX_OK, False, "REVOKED", "piv", None, False)


async def test_an_estonian_card_with_the_number_on_its_front(beat: Beat) -> None:
    card, abroad = beat.estonia.issue(), beat.estonia.issue(E_RESIDENT)
    for each in (card, abroad):
        beat.sell(each.credential_id, residents_only=True)
    beat.publish()
    told = await beat.inspect(card.on_air(), "--json", "--can", "-", stdin=f"{CAN}\n")
    assert told.code == os.EX_OK, told.err
    assert told.facts == (True, "VALID", "esteid2018", "SHARED_SECRET", True)
    people = await beat.inspect(card.on_air(), "--can", CAN)
    assert "compare the photo on the card with its holder" in people.out
    for identifier in (CODE, SURNAME, GIVEN, card.credential_id.hex()):
        assert identifier not in told.out + told.err + people.out + people.err

    told = await beat.inspect(abroad.on_air(), "--json", "--can", CAN)
    assert told.facts == (False, "RESIDENTS_ONLY", "esteid2018", "SHARED_SECRET", True)


@pytest.mark.parametrize(("options", "reason"), [((), "CAN_NEEDED"), (("--can", WRONG_CAN), "WRONG_CAN")])
async def test_an_estonian_card_that_was_not_opened(beat: Beat, options: tuple[str, ...], reason: str) -> None:
    card = beat.estonia.issue()
    beat.sell(card.credential_id)
    beat.publish()
    told = await beat.inspect(card.on_air(), "--json", *options)
    assert (told.code, *told.facts) == (os.EX_OK, False, reason, "esteid2018", None, False)
    assert WRONG_CAN not in told.out + told.err


async def test_an_issuer_that_is_not_on_the_networks_list(beat: Beat) -> None:
    stranger = Estonia.today().issue()
    beat.sell(stranger.credential_id)
    beat.publish()
    told = await beat.inspect(stranger.on_air(), "--json", "--can", CAN)
    assert told.facts == (False, "UNTRUSTED_ISSUER", "esteid2018", None, False)


async def test_a_device_without_lists_says_so_and_asks_for_no_card(beat: Beat) -> None:
    told = await beat.inspect(None)
    assert (told.code, told.out) == (os.EX_DATAERR, "")
    assert "no trust list: install the network's lists on this device first" in told.err


@pytest.mark.parametrize("option", ["--can", "--mrz"])
async def test_what_is_no_number_is_refused_and_not_repeated(beat: Beat, option: str) -> None:
    beat.publish()
    told = await beat.inspect(None, option, "12345X")
    assert (told.code, told.out) == (os.EX_USAGE, "")
    assert "12345X" not in told.err


async def test_a_pin_is_not_asked_for(beat: Beat) -> None:
    told = await beat.inspect(None, "--pin", "4711")
    assert told.code == os.EX_USAGE
    assert "No such option: --pin" in told.err


async def test_one_screen_has_tickets_other_rights_and_the_last_rides_here(beat: Beat) -> None:
    card = beat.operator.issue(piv.NAME)
    beat.sell(card.credential_id, conditions=Conditions(zones=frozenset("A"), riders=2, rider="student"))
    beat.sell(card.credential_id, conditions=Conditions(scheme="library"))
    beat.publish()
    device = gate_file.load(beat.depot.gate_toml)
    at = Instant(int(beat.now.timestamp() * 1000), 1, b"one-boot", ClockConfidence.NTP)
    ride = Tap(
        at, PLACE, "lane-1", Outcome.GRANT, Reason.VALID, False, ListVersions(), card.credential_id, product_id=1
    )
    with closing(
        JournalFile(device.journal, device.file.device, device.device_private_key(), vfs=None, synchronous="NORMAL")
    ) as journal:
        journal.settle(card.credential_id, lambda _uses: ride)
    told = await beat.inspect(card.on_air(), "--json")
    assert told.code == os.EX_OK, told.err
    assert [(each["scheme"], each["state"]) for each in told.json["rights"]] == [("library", "VALID")]
    assert [(each["zones"], each["riders"], each["state"]) for each in told.json["tickets"]] == [(["A"], 2, "VALID")]
    assert [(each["seq"], each["place"]) for each in told.json["taps"]] == [(1, PLACE)]
    people = (await beat.inspect(card.on_air())).out
    assert "zone A, for 2, student" in people
    assert "no ride: library: period pass" in people
    assert f"rode {told.json['taps'][0]['at']}, {PLACE}" in people
    assert len(people.splitlines()) <= 24
