"""`validator read` with each national card on the air, and each thing its holder may tell: which rung it reaches."""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.card_tree import MOST_TRIES
from tests.flow.national_cards import (
    JAPANESE_PIN,
    WITH_CAN,
    WITH_MRZ,
    WITH_PIN,
    Row,
    cloned_estonian,
    command,
    estonia,
    estonian,
    japanese,
    judged,
    read,
    spanish,
    spanish_without_component,
    tries_left,
    trust_folder,
)
from tests.flow.test_read import free_udp_port
from tests.validator import estonian_cards
from tests.validator.authority import card_key
from tests.validator.dual_interface_cards import CAN, E_RESIDENT, IDEMIA, PIN, THALES, Kind
from tests.validator.mynumber_cards import STRANGER
from tests.validator.travel_documents import (
    PLAIN_SHA256,
    bare,
    curve_key,
    rsa_key,
    with_agreement,
    with_mapping,
    with_signature,
)
from validator.model import KeyAlgorithm
from validator.profiles import dnie, emrtd, jpki, mynumber_surface

ROOT = Path(__file__).parents[2]
KINDS = pytest.mark.parametrize("kind", [IDEMIA, THALES], ids=lambda kind: kind.name)
SURFACE, JPKI_ALONE = mynumber_surface.NAME, ("--family", jpki.NAME)
LIMIT_S = 60
OF_2018 = ("citizen", "eu-citizen", "resident", "e-resident", "resident", "resident", "resident")
OF_2025 = ("citizen", "eu-citizen", "resident", "resident", "resident", "e-resident")
"""What the last number of the policy means."""


def on_both(name: str, told: tuple[str, ...], verdict: str, assurance: str | None, document: str | None) -> list[Row]:
    """The same for both generations of the Estonian card."""
    return [
        Row(f"{kind.name}, {name}", partial(estonian, kind), told, (verdict, kind.name, assurance, document))
        for kind in (IDEMIA, THALES)
    ]


ROWS = [
    *on_both("nothing told", (), "CAN_NEEDED", None, None),
    *on_both("CAN", WITH_CAN, "claimed", "SHARED_SECRET", "citizen"),
    *on_both("CAN and PIN", WITH_PIN, "authentic", "HOLDER", "citizen"),
    *on_both("PIN without CAN", ("--pin", PIN), "CAN_NEEDED", None, None),
    Row("MyNumber, enrolled", japanese, (), ("authentic", SURFACE, "CHIP", None)),
    Row("MyNumber, JPKI", japanese, JPKI_ALONE, ("claimed", jpki.NAME, "CLAIMED", "resident")),
    Row("MyNumber, PIN", japanese, JAPANESE_PIN, ("authentic", jpki.NAME, "HOLDER", "resident")),
    Row("DNIe, nothing told", spanish, (), ("CAN_NEEDED", dnie.NAME, None, None)),
    Row("DNIe, CAN", spanish, WITH_CAN, ("authentic", dnie.NAME, "CHIP", "citizen")),
    Row(
        "DNIe without a component, CAN",
        spanish_without_component,
        WITH_CAN,
        ("claimed", dnie.NAME, "SHARED_SECRET", "citizen"),
    ),
    Row("document, nothing told", lambda: bare().chip(), (), ("CAN_NEEDED", emrtd.NAME, None, None)),
    *(
        Row(f"document, {name}", make, told, (verdict, emrtd.NAME, assurance, "unknown"))
        for name, make, verdict, assurance in (
            ("PACE alone", lambda: bare().chip(), "claimed", "SHARED_SECRET"),
            ("Chip Authentication", lambda: with_agreement().chip(), "authentic", "CHIP"),
            ("chip authentication mapping", lambda: with_mapping().chip(), "authentic", "CHIP"),
            ("Active Authentication, RSA", lambda: with_signature(rsa_key()).chip(), "authentic", "CHIP"),
            (
                "Active Authentication, P-256",
                lambda: with_signature(curve_key(), PLAIN_SHA256).chip(),
                "authentic",
                "CHIP",
            ),
        )
        for told in (WITH_CAN, WITH_MRZ)
    ),
]


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trust_folder(tmp_path_factory.mktemp("trust"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}{' by MRZ' * ('--mrz' in row.told)}")
async def test_the_rung_that_a_card_reaches(row: Row, trust: Path, tmp_path: Path) -> None:
    """Asked among all families, as a desk does; nothing that only claims is called authentic."""
    found = await read(row.card(), row.technology, trust, tmp_path / "cache.db", row.told)
    assert judged(found) == row.judged
    assert (found["verdict"] == "authentic") == (found["assurance"] in ("CHIP", "HOLDER"))
    assert (found["credential_id"] is not None) == (found["assurance"] is not None)
    assert not found["cached"]


@KINDS
async def test_each_way_of_a_card_names_one_credential(kind: Kind, trust: Path, tmp_path: Path) -> None:
    """A ticket that was sold for it with the PIN is found without."""
    told = [
        await read(estonian(kind), Technology.TYPE_A, trust, tmp_path / "cache.db", options)
        for options in (WITH_CAN, WITH_PIN)
    ]
    assert told[0]["credential_id"] == told[1]["credential_id"]


@pytest.mark.parametrize(
    ("kind", "number", "document"),
    [
        *((IDEMIA, number, document) for number, document in enumerate(OF_2018, 1)),
        *((THALES, number, document) for number, document in enumerate(OF_2025, 1)),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else str(value),
)
async def test_the_document_that_a_certificate_names(
    kind: Kind, number: int, document: str, trust: Path, tmp_path: Path
) -> None:
    policy = f"{kind.policy.rpartition('.')[0]}.{number}"
    card = estonian(kind, certificate=kind.certificate(estonia(), policy=policy), personal_data=E_RESIDENT)
    found = await read(card, Technology.TYPE_A, trust, tmp_path / "cache.db", WITH_CAN)
    assert judged(found) == ("claimed", kind.name, "SHARED_SECRET", document)


async def test_a_card_of_the_generations_before_speaks_over_no_air(trust: Path, tmp_path: Path) -> None:
    card = estonian_cards.chip_of(estonia())
    found = await read(card, Technology.TYPE_A, trust, tmp_path / "cache.db", ("--pin", estonian_cards.PIN))
    assert judged(found) == ("UNKNOWN_MEDIUM", None, None, None)


@KINDS
async def test_a_clone_that_knows_the_number_can_claim_and_no_more(kind: Kind, trust: Path, tmp_path: Path) -> None:
    """Why a claim is not called authentic, and opens no gate."""
    found = await read(cloned_estonian(kind), Technology.TYPE_A, trust, tmp_path / "cache.db", WITH_CAN)
    assert judged(found) == ("claimed", kind.name, "SHARED_SECRET", "citizen")


async def test_a_clone_of_a_certificate_can_claim_and_no_more(trust: Path, tmp_path: Path) -> None:
    card = japanese(authentication_key=STRANGER())
    found = await read(card, Technology.TYPE_B, trust, tmp_path / "cache.db", JPKI_ALONE)
    assert judged(found) == ("claimed", jpki.NAME, "CLAIMED", "resident")


async def test_secrets_are_asked_for_in_a_process_of_its_own(trust: Path, tmp_path: Path) -> None:
    """As a desk types it: what the holder told stands in no list of processes, and in nothing that is printed."""
    card, air = estonian(IDEMIA), await Field.open()
    desk = ["-m", "validator", "read", "--reader", f"nfcpy:{air.path}", "--trust", str(trust), "--json"]
    desk += ["--cache", str(tmp_path / "cache.db"), "--wait", "20", "--can", "-", "--pin", "-"]
    try:
        air.place(AirCard(card, Technology.TYPE_A))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *desk,
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(f"{CAN}\n{PIN}\n".encode()), LIMIT_S)
    finally:
        await air.close()
    assert process.returncode == 0, errors.decode()
    assert judged(json.loads(out)) == ("authentic", IDEMIA.name, "HOLDER", "citizen")
    assert tries_left(card) == MOST_TRIES
    for secret in (CAN, PIN, estonian_cards.CODE, estonian_cards.SURNAME):
        assert secret not in (out + errors).decode()


@KINDS
async def test_a_card_is_held_and_read_from_two_command_lines(kind: Kind, trust: Path, tmp_path: Path) -> None:
    """As people demonstrate it: a key, a certificate and a PIN in files, the number on the command line of the card."""
    key = card_key(KeyAlgorithm.P384)
    files = {
        "--key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "--cert": kind.certificate(estonia()),
        "--pin-file": PIN.encode(),
    }
    options = []
    for option, content in files.items():
        (tmp_path / option).write_bytes(content)
        options += [option, str(tmp_path / option)]
    air = f"127.0.0.1:{free_udp_port()}"
    present = ["-m", "hardware.virtual", "present", kind.name, *options, "--can", CAN, "--air", air, "--json"]
    holder = await asyncio.create_subprocess_exec(sys.executable, *present, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert holder.stdout is not None
        told = await asyncio.wait_for(holder.stdout.readline(), LIMIT_S)
        found = await command("read", "--trust", str(trust), "--cache", str(tmp_path / "c.db"), *WITH_PIN, air=air)
    finally:
        holder.terminate()
        rest, _ = await holder.communicate()
    assert judged(found) == ("authentic", kind.name, "HOLDER", "citizen")
    assert json.loads(told)["key"] == "P-384"
    assert CAN.encode() not in told + rest
    assert PIN.encode().hex().encode() not in told + rest
