"""OpenSC takes the virtual MyNumber card for a real one: its driver, certificates, and a signature after the PIN."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.strangers.conftest import PORT, READER, PcscService
from tests.validator.mynumber_cards import CARD, SURFACE, generation, personalised

PIN = "2580"
Tool = Callable[[str], str]


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def held(service: PcscService, tmp_path: Path) -> Iterator[PcscService]:
    """A card is held against the reader."""
    card, folder = personalised(), tmp_path / "card"
    folder.mkdir()
    contents = {
        "key": pem(CARD()),
        "certificate": card.authentication_certificate or b"",
        "authority": card.authority_certificate,
        "surface_key": pem(SURFACE()),
        "record": card.record,
        "municipal": card.certificate,
        "pin": PIN.encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    holder = service.popen([sys.executable, str(Path(__file__).with_name("hold_mynumber.py")), str(folder), str(PORT)])
    try:
        service.until_card()
        yield service
    finally:
        holder.terminate()
        holder.communicate(timeout=15)
        service.until_card(there=False)


def test_the_driver_for_jpki_is_chosen(held: PcscService, tool: Tool) -> None:
    result = held.run([tool("opensc-tool"), "--reader", READER, "--name"])
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "jpki"


def test_the_certificates_are_listed_and_read(held: PcscService, tool: Tool) -> None:
    pkcs15 = [tool("pkcs15-tool"), "--reader", READER]
    listed = held.run([*pkcs15, "--list-certificates"])
    assert listed.returncode == 0, listed.stdout
    for label in ("User Authentication Certificate", "User Authentication Certificate CA"):
        assert f"X.509 Certificate [{label}]" in listed.stdout
    for identifier, expected in (("01", personalised().authentication_certificate), ("03", None)):
        read = held.run([*pkcs15, "--read-certificate", identifier])
        assert read.returncode == 0, read.stdout
        found = x509.load_pem_x509_certificate(read.stdout[read.stdout.index("-----BEGIN") :].encode())
        der = found.public_bytes(Encoding.DER)
        assert der == (expected or generation(2).certificate.public_bytes(Encoding.DER))


def test_the_pin_and_its_tries_are_told(held: PcscService, tool: Tool) -> None:
    result = held.run([tool("pkcs15-tool"), "--reader", READER, "--list-pins"])
    assert result.returncode == 0, result.stdout
    pin = result.stdout[result.stdout.index("PIN [User Authentication PIN]") :].split("\n\n")[0]
    assert re.search(r"Tries left\s*: 3\b", pin)


@pytest.fixture
def signing(tool: Tool, tmp_path: Path) -> list[str]:
    (tmp_path / "message").write_bytes(b"one ride, please")
    files = ["--input-file", str(tmp_path / "message"), "--output-file", str(tmp_path / "signature")]
    return [tool("pkcs11-tool"), "--slot-index", "0", "--sign", "--id", "01", "--mechanism", "SHA256-RSA-PKCS", *files]


def test_a_signature_after_the_pin_verifies(held: PcscService, signing: list[str], tmp_path: Path) -> None:
    result = held.run([*signing, "--login", "--pin", PIN])
    assert result.returncode == 0, result.stdout
    signature = (tmp_path / "signature").read_bytes()
    CARD().public_key().verify(signature, b"one ride, please", padding.PKCS1v15(), hashes.SHA256())


def test_a_wrong_pin_signs_nothing(held: PcscService, signing: list[str], tool: Tool, tmp_path: Path) -> None:
    result = held.run([*signing, "--login", "--pin", "0000"])
    assert result.returncode != 0
    assert not (tmp_path / "signature").exists() or (tmp_path / "signature").read_bytes() == b""
    left = held.run([tool("pkcs15-tool"), "--reader", READER, "--list-pins"])
    assert re.search(r"Tries left\s*: 2\b", left.stdout)
