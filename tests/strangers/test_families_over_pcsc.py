"""Cards of each family with APDUs, read through PC/SC: all as over the air (tests/flow/test_read_families.py)."""

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend_sync.demo.media import Operator
from tests.describing import Described, describe
from tests.flow.test_read_families import FIRST, KEPT, KNOWN
from tests.strangers.conftest import PORT, READER, PcscService
from validator.choice import Family
from validator.families import OPERATOR_FAMILIES
from validator.profiles import ntag424, pkoc1

WITH_APDUS = [name for name, family in OPERATOR_FAMILIES.items() if isinstance(family, Family)]
STRANGERS = {pkoc1.NAME: "NOT_ENROLLED", ntag424.NAME: "KEY_NOT_HERE"}


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator.create(tmp_path / "operator", dt.datetime.now(dt.UTC))


@contextlib.contextmanager
def held(service: PcscService, card: Described) -> Iterator[list[dict[str, Any]]]:
    """Hold a card against the reader; what it told is there when it is taken away."""
    present = [sys.executable, "-m", "hardware.virtual", "present", card.family, *card.arguments, "--json"]
    told: list[dict[str, Any]] = []
    holder = service.popen([*present, "--vpcd", f"127.0.0.1:{PORT}"])
    try:
        service.until_card()
        yield told
    finally:
        holder.terminate()
        output, _ = holder.communicate(timeout=15)
        service.until_card(there=False)
    told += map(json.loads, output.splitlines())


def read(service: PcscService, operator: Operator, *options: str) -> dict[str, Any]:
    files = ["--trust", str(operator.trust), "--keys", str(operator.key_directory)]
    command = [sys.executable, "-m", "validator", "read", "--reader", f"pcsc:{READER}", *files, "--wait", "20"]
    cache = ["--cache", str(operator.folder / "cache.db")]
    done = service.run([*command, *cache, *options, "--json"])
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("family", WITH_APDUS)
def test_a_desk_reads_each_family_through_pcsc(
    service: PcscService, operator: Operator, tmp_path: Path, family: str
) -> None:
    card = describe(operator, family, tmp_path / "card")
    with held(service, card) as told:
        first, known = (read(service, operator, "--family", family) for _ in range(2))
    for found in (first, known):
        assert (found["verdict"], found["profile"], found["assurance"]) == ("authentic", family, "CHIP")
        assert found["credential_id"] == card.credential_id.hex()
    assert (first["cached"], first["apdus"]) == (False, FIRST[family])
    assert (known["cached"], known["apdus"]) == (family in KEPT, KNOWN[family])
    heard = [event for event in told if event["event"] == "apdu"]
    assert len(heard) == FIRST[family] + KNOWN[family], "the reader's own commands never reach the card"


@pytest.mark.parametrize("family", WITH_APDUS)
def test_a_desk_of_another_operator_believes_none(
    service: PcscService, operator: Operator, tmp_path: Path, family: str
) -> None:
    stranger = Operator.create(tmp_path / "stranger", operator.now)
    with held(service, describe(stranger, family, tmp_path / "card")):
        found = read(service, operator)
    assert (found["verdict"], found["assurance"]) == (STRANGERS.get(family, "UNTRUSTED_ISSUER"), None)
