"""`validator read`, and a lane, with a card of each family on the simulated air: what it proves, in how many steps."""

import asyncio
import datetime as dt
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from backend_sync.demo.media import Operator, OperatorCard
from hardware.gate import Signal
from hardware.virtual.air import Field
from tests.flow.lane import open_lane
from validator.families import OPERATOR_FAMILIES
from validator.model import Assurance, Reason
from validator.profiles import ntag424, piv, piv_sm, pkoc1, pkoc2, ultralight_aes
from validator.station import HOLD_OFF_S

ROOT = Path(__file__).parents[2]
FIRST = {
    piv.NAME: 4,
    piv_sm.NAME: 2,
    pkoc1.NAME: 2,
    pkoc2.NAME: 3,
    ntag424.NAME: 4,
    ultralight_aes.NAME: 4,
}
"""Exchanges with a card that was never seen, on a reader that asks for its family alone."""
KNOWN = FIRST | {piv.NAME: 3}
KEPT = {piv.NAME, piv_sm.NAME, pkoc2.NAME}
"""Families of which a verdict is kept."""


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator.create(tmp_path / "operator", dt.datetime.now(dt.UTC))


@asynccontextmanager
async def held(card: OperatorCard) -> AsyncIterator[str]:
    """Hold a card against a simulated reader."""
    air = await Field.open()
    try:
        air.place(card.on_air())
        yield f"nfcpy:{air.path}"
    finally:
        await air.close()


async def read(reader: str, operator: Operator, cache: Path, *options: str) -> dict[str, object]:
    command = ["-m", "validator", "read", "--reader", reader, "--trust", str(operator.trust), "--json", "--wait", "20"]
    command += ["--cache", str(cache), "--keys", str(operator.key_directory), *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    found: dict[str, object] = json.loads(out)
    return found


@pytest.mark.parametrize("family", list(OPERATOR_FAMILIES))
async def test_a_desk_reads_each_family(operator: Operator, tmp_path: Path, family: str) -> None:
    card = operator.issue(family)
    if family == pkoc1.NAME:
        operator.enrol(card)
    async with held(card) as reader:
        first = await read(reader, operator, tmp_path / "cache.db", "--family", family)
        known = await read(reader, operator, tmp_path / "cache.db", "--family", family)
        any_family = await read(reader, operator, tmp_path / "cache.db")
    assert (first["verdict"], first["profile"], first["assurance"]) == ("authentic", family, "CHIP")
    assert first["credential_id"] == card.credential_id.hex()
    assert (first["cached"], first["apdus"]) == (False, FIRST[family])
    assert (known["verdict"], known["cached"], known["apdus"]) == ("authentic", family in KEPT, KNOWN[family])
    assert (any_family["verdict"], any_family["profile"]) == ("authentic", family), "where all families are asked"


async def test_a_tag_that_hides_its_uid_is_known_by_its_token(operator: Operator, tmp_path: Path) -> None:
    """Three exchanges more: its true UID is asked for under a key that all cards share."""
    card = operator.issue(ultralight_aes.NAME, random_uid=True)
    for _ in range(2):
        async with held(card) as reader:
            found = await read(reader, operator, tmp_path / "cache.db")
        assert (found["verdict"], found["apdus"]) == ("authentic", FIRST[ultralight_aes.NAME] + 3)
        assert found["credential_id"] == card.credential_id.hex()


@pytest.mark.parametrize("family", list(OPERATOR_FAMILIES))
async def test_a_desk_of_another_operator_believes_none(operator: Operator, tmp_path: Path, family: str) -> None:
    stranger = Operator.create(tmp_path / "stranger", operator.now).issue(family)
    async with held(stranger) as reader:
        found = await read(reader, operator, tmp_path / "cache.db")
    wrong_key = {ntag424.NAME, ultralight_aes.NAME}
    expected = {pkoc1.NAME: "NOT_ENROLLED", **dict.fromkeys(wrong_key, "KEY_NOT_HERE")}
    assert (found["verdict"], found["assurance"]) == (expected.get(family, "UNTRUSTED_ISSUER"), None)


async def test_a_lane_takes_all_families_and_asks_no_more_than_it_must(tmp_path: Path, operator: Operator) -> None:
    async with open_lane(tmp_path / "lane", families=list(OPERATOR_FAMILIES), operator=operator) as lane:
        cards = {family: operator.issue(family) for family in OPERATOR_FAMILIES}
        enrolled = operator.enrol(cards[pkoc1.NAME])
        for card in cards.values():
            lane.sell(card)
        lane.publish(enrolled=[enrolled])
        for family, card in cards.items():
            report = await lane.tap_card(card)
            assert (report.tap.profile, report.tap.reason) == (family, Reason.VALID), report
            assert report.tap.assurance is Assurance.CHIP
            assert report.tap.credential_id == card.credential_id
            assert lane.gate.shown[-1] is Signal.GRANT
        lane.publish(enrolled=[enrolled], revoked=[card.credential_id for card in cards.values()])
        for family, card in cards.items():
            report = await lane.tap_card(card)
            assert (report.tap.profile, report.tap.reason) == (family, Reason.REVOKED), report


@pytest.mark.parametrize("family", list(OPERATOR_FAMILIES))
async def test_a_card_torn_away_at_any_exchange_is_asked_again(tmp_path: Path, operator: Operator, family: str) -> None:
    async with open_lane(tmp_path / "lane", families=[family], operator=operator) as lane:
        card = operator.issue(family)
        enrolled = [operator.enrol(card)] if family == pkoc1.NAME else []
        lane.sell(card)
        lane.publish(enrolled=enrolled)
        for answered in range(FIRST[family]):
            report = await lane.tap_card(card, tear_after=answered)
            assert report.tap.reason is Reason.PRESENT_AGAIN, answered
            assert Signal.GRANT not in lane.gate.shown
            await asyncio.sleep(2 * HOLD_OFF_S)  # back sooner, it would count as never having left
        assert (await lane.tap_card(card)).tap.reason is Reason.VALID


async def test_a_gate_without_the_operators_key_says_so(tmp_path: Path, operator: Operator) -> None:
    keyless = replace(operator, folder=tmp_path / "keyless")
    (tmp_path / "keyless" / "operator-keys").mkdir(parents=True)
    async with open_lane(tmp_path / "lane", families=[ntag424.NAME, ultralight_aes.NAME], operator=keyless) as lane:
        for family in (ntag424.NAME, ultralight_aes.NAME):
            assert (await lane.tap_card(operator.issue(family))).tap.reason is Reason.KEY_NOT_HERE
