"""`validator read` over the air: the same verdict for type A and type B, and the traffic that the standard computes."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer

ROOT = Path(__file__).parents[2]
SELECT, FIRST_BLOCK, P256_CHALLENGE = 15, 11, 44
CHAIN_LINK, LAST_LINK, GET_RESPONSE = 260, 17, 5
SW = 2

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


def read(reader: str, tmp_path: Path, issuer: Issuer) -> dict[str, object]:
    trust = tmp_path / "trust"
    trust.mkdir(exist_ok=True)
    (trust / "issuer.pem").write_bytes(pem_of(issuer))
    command = [sys.executable, "-m", "validator", "read", "--reader", reader, "--trust", str(trust), "--json"]
    command += ["--cache", str(tmp_path / "cache.db"), "--wait", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("technology", ["A", "B"])
def test_a_known_p256_card_takes_three_exchanges(present: Present, tmp_path: Path, technology: str) -> None:
    issuer = Issuer()
    card = issuer.issue(KeyType.P_256)
    reader = present(card, technology)
    first, second = read(reader, tmp_path, issuer), read(reader, tmp_path, issuer)
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
    first, second = read(reader, tmp_path, issuer), read(reader, tmp_path, issuer)
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


def test_without_a_card_it_says_so(tmp_path: Path) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    (trust / "issuer.pem").write_bytes(pem_of(Issuer()))
    reader = f"nfcpy:udp:127.0.0.1:{free_udp_port()}"
    command = [sys.executable, "-m", "validator", "read", "--reader", reader, "--trust", str(trust)]
    command += ["--cache", str(tmp_path / "cache.db"), "--wait", "0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 69
    assert done.stderr.splitlines()[-1] == f"validator: {reader}: no card within 0.5 s"
