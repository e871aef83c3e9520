"""`validator read` over the air: the same verdict for type A and type B, and the traffic that the standard computes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hardware.medium import ReaderError, Technology
from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import AirCard, AirTiming, Field
from hardware.virtual.chip import Answer
from hardware.virtual.piv import PivChip
from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer
from validator import reading
from validator.clock import SystemClock
from validator.families import families
from validator.issuers import load_issuers
from validator.known_cards import KnownCardStore
from validator.operator_keys import OperatorKeys

ROOT = Path(__file__).parents[2]
SELECT, FIRST_BLOCK, P256_CHALLENGE = 15, 11, 44
CHAIN_LINK, LAST_LINK, GET_RESPONSE = 260, 17, 5
SW = 2
WAIT_S = 1.0
ASKED = ("--family", "piv-sm", "--family", "piv")
"""Where all are asked, a type B card is first asked whether it is a MyNumber card."""

Present = Callable[[IssuedCard, str], str]


def free_udp_port() -> int:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def present(tmp_path: Path) -> Iterator[Present]:
    """Hold a card against a simulated reader in a process of its own, and return the reader's name."""
    running: list[subprocess.Popen[str]] = []

    def start(card: IssuedCard, technology: str) -> str:
        key, certificate = tmp_path / "card.key", tmp_path / "card.pem"
        key.write_bytes(card.key_pem)
        certificate.write_bytes(card.pem)
        command = [sys.executable, "-m", "hardware.virtual", "present", "piv", "--json", "--type", technology]
        address = f"127.0.0.1:{free_udp_port()}"
        command += ["--key", str(key), "--cert", str(certificate), "--air", address]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "presented"
        return f"nfcpy:udp:{address}"

    yield start
    for process in running:
        process.terminate()
        process.communicate()


def pem_of(issuer: Issuer) -> bytes:
    return issuer.certificate.public_bytes(Encoding.PEM)


def read(reader: str, tmp_path: Path, issuer: Issuer, *options: str) -> dict[str, object]:
    trust = tmp_path / "trust"
    trust.mkdir(exist_ok=True)
    (trust / "issuer.pem").write_bytes(pem_of(issuer))
    command = [sys.executable, "-m", "validator", "read", "--reader", reader, "--trust", str(trust), "--json"]
    command += ["--cache", str(tmp_path / "cache.db"), "--wait", "20", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("technology", ["A", "B"])
def test_a_known_p256_card_takes_three_exchanges(present: Present, tmp_path: Path, technology: str) -> None:
    issuer = Issuer()
    card = issuer.issue(KeyType.P_256)
    reader = present(card, technology)
    first, second = (read(reader, tmp_path, issuer, *ASKED) for _ in range(2))
    assert (first["verdict"], first["cached"], first["apdus"]) == ("authentic", False, 4)
    assert (second["verdict"], second["cached"], second["apdus"]) == ("authentic", True, 3)
    assert second["bytes_out"] == SELECT + FIRST_BLOCK + P256_CHALLENGE
    select_response = 26
    signatures = range(8 + 4 + SW, 8 + 72 + SW + 1)
    assert isinstance(second["bytes_in"], int)
    assert second["bytes_in"] - select_response - (256 + SW) in signatures
    assert first["credential_id"] == second["credential_id"]
    assert (second["profile"], second["assurance"], second["key"]) == ("piv", "CHIP", "P-256")


@pytest.mark.parametrize("technology", ["A", "B"])
def test_a_known_rsa_card_takes_five_exchanges(present: Present, tmp_path: Path, technology: str) -> None:
    issuer = Issuer()
    card = issuer.issue(KeyType.RSA_2048)
    reader = present(card, technology)
    first, second = (read(reader, tmp_path, issuer, *ASKED) for _ in range(2))
    assert (first["verdict"], first["cached"]) == ("authentic", False)
    assert (second["verdict"], second["cached"], second["apdus"]) == ("authentic", True, 5)
    assert second["bytes_out"] == SELECT + FIRST_BLOCK + CHAIN_LINK + LAST_LINK + GET_RESPONSE
    select_response = 26
    assert second["bytes_in"] == select_response + (256 + SW) + SW + (256 + SW) + (8 + SW)


def test_a_clone_is_not_believed(present: Present, tmp_path: Path) -> None:
    issuer = Issuer()
    honest = issuer.issue(KeyType.P_256)
    reader = present(IssuedCard(ec.generate_private_key(ec.SECP256R1()), honest.certificate), "A")
    for _ in range(2):
        found = read(reader, tmp_path, issuer)
        assert (found["verdict"], found["assurance"], found["cached"]) == ("WRONG_SIGNATURE", None, False)


def test_a_card_of_another_issuer_is_not_believed(present: Present, tmp_path: Path) -> None:
    reader = present(Issuer("Somebody").issue(KeyType.P_256), "A")
    assert read(reader, tmp_path, Issuer("Us"))["verdict"] == "UNTRUSTED_ISSUER"


def failed_read(reader: str, trust: Path, cache: Path, wait: str = "0.5") -> tuple[int, str]:
    command = [sys.executable, "-m", "validator", "read", "--reader", reader, "--trust", str(trust)]
    command += ["--cache", str(cache), "--wait", wait]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "issuer.pem").write_bytes(pem_of(Issuer()))
    return folder


def test_without_a_card_it_says_so(tmp_path: Path, trust: Path) -> None:
    reader = f"nfcpy:udp:127.0.0.1:{free_udp_port()}"
    said = failed_read(reader, trust, tmp_path / "cache.db")
    assert said == (os.EX_UNAVAILABLE, f"validator: {reader}: no card within 0.5 s")


def test_a_file_that_is_no_cache_survives(tmp_path: Path, trust: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("the only copy")
    code, told = failed_read("nfcpy:usb", trust, precious)
    assert (code, precious.read_text()) == (os.EX_IOERR, "the only copy")
    assert told.startswith(f"validator: {precious}: cannot be opened as a cache of known cards")
    assert failed_read("nfcpy:usb", trust, precious / "x.db")[0] == os.EX_IOERR


def test_a_root_that_no_gate_would_believe_is_refused(tmp_path: Path, trust: Path) -> None:
    leaf = trust / "leaf.pem"
    leaf.write_bytes(Issuer().issue(KeyType.P_256).pem)
    code, told = failed_read("nfcpy:usb", trust, tmp_path / "cache.db")
    assert code == os.EX_DATAERR
    assert told.startswith(f"validator: {leaf}: anchor 0 ")
    leaf.write_text("no certificate")
    code, told = failed_read("nfcpy:usb", trust, tmp_path / "cache.db")
    assert code == os.EX_DATAERR
    assert told.startswith(f"validator: {leaf}: holds no certificate in PEM or DER form")


class SlowChip(PivChip):
    """Thinks for so long that four answers take longer than anybody waits for a card to come."""

    def process(self, command: bytes) -> Answer:
        return Answer(super().process(command).response, WAIT_S / 3)


async def test_a_slow_card_is_not_told_as_no_card(tmp_path: Path, trust: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Issuer().issue(KeyType.P_256)
    monkeypatch.setattr(reading, "DIALOGUE_LIMIT_S", 0.2)
    authorities, at = load_issuers(trust), SystemClock(0).now()
    cards = KnownCardStore.open(tmp_path / "cache.db", authorities.store.version)
    desk = reading.Desk(authorities, families(["piv"]), OperatorKeys({}), cards)
    field = await Field.open()
    try:
        field.place(AirCard(SlowChip(card.key, card.der), Technology.TYPE_A, timing=AirTiming()))
        reader = NfcpyReader(f"nfcpy:{field.path}", field.path)
        with pytest.raises(ReaderError, match=r"the card took more than 0\.2 s"):
            await reading.read_one(reader, desk, at, WAIT_S)
        monkeypatch.undo()
        found = await reading.read_one(reader, desk, at, WAIT_S)
        assert found.verdict == "UNTRUSTED_ISSUER"  # a verdict, though the dialogue took longer than the wait may
        assert found.total_ms > WAIT_S * 1000
    finally:
        await field.close()
        cards.close()
