"""OpenSC takes the virtual card for an Estonian card of 2018: the driver's name, PKCS#15, and a signature with PIN1."""

import contextlib
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.strangers.conftest import PORT, READER, PcscService
from tests.validator.authority import Authority
from tests.validator.estonian_cards import CODE, GIVEN, SURNAME, Form, certificate

PIN, WRONG_PIN = "4711", "1147"
POLICY = "1.3.6.1.4.1.51361.1.1.1"
MESSAGE = hashlib.sha384(b"one ride, please").digest()

Tool = Callable[[str], str]


class Held:
    """A card that a test may hold against the reader again and again; each time is a new power-up, tries and all."""

    def __init__(self, service: PcscService, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        self.certificate = x509.load_der_x509_certificate(
            certificate(Authority.root(), key, Form.OF_2018, documents=(POLICY,))
        )
        self._service, self._key, self._certificate = service, folder / "key.pem", folder / "certificate.pem"
        self._key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self._certificate.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    @contextlib.contextmanager
    def presented(self) -> Iterator[None]:
        script = str(Path(__file__).with_name("present_esteid2018.py"))
        holder = self._service.popen([sys.executable, script, str(self._key), str(self._certificate), PIN, str(PORT)])
        try:
            self._service.until_card()
            yield
        finally:
            holder.terminate()
            holder.communicate(timeout=15)
            self._service.until_card(there=False)


@pytest.fixture
def card(service: PcscService, tmp_path: Path) -> Held:
    return Held(service, tmp_path)


def test_its_driver_is_chosen(service: PcscService, card: Held, tool: Tool) -> None:
    with card.presented():
        result = service.run([tool("opensc-tool"), "--reader", READER, "--name"])
    assert result.returncode == 0, result.stdout
    assert "EstEID 2018" in result.stdout


def test_what_it_holds_is_listed(service: PcscService, card: Held, tool: Tool) -> None:
    with card.presented():
        result = service.run([tool("pkcs15-tool"), "--reader", READER, "--dump"])
    assert result.returncode == 0, result.stdout
    assert f"PKCS#15 Card [{SURNAME},{GIVEN},{CODE}]" in result.stdout
    assert re.search(r"Serial number\s*: AA0000007", result.stdout)
    assert re.search(r"Manufacturer ID\s*: IDEMIA", result.stdout)
    for name in ("PIN [PIN1]", "PIN [PIN2]", "PIN [PUK]", "Private EC Key [Isikutuvastus]"):
        assert name in result.stdout
    assert "X.509 Certificate [Isikutuvastus]" in result.stdout
    assert len(re.findall(r"Tries left\s*: 3", result.stdout)) == 3


def test_its_certificate_is_read(service: PcscService, card: Held, tool: Tool) -> None:
    with card.presented():
        result = service.run([tool("pkcs15-tool"), "--reader", READER, "--read-certificate", "01"])
    assert result.returncode == 0, result.stdout
    pem = result.stdout[result.stdout.index("-----BEGIN") :]
    assert x509.load_pem_x509_certificate(pem.encode()) == card.certificate


def sign(service: PcscService, tool: Tool, folder: Path, pin: str) -> tuple[int, str, Path]:
    digest, signature = folder / "digest", folder / "signature"
    digest.write_bytes(MESSAGE)
    command = [tool("pkcs11-tool"), "--slot-index", "0", "--login", "--pin", pin, "--sign", "--mechanism", "ECDSA"]
    files = ["--id", "01", "--input-file", str(digest), "--output-file", str(signature)]
    result = service.run([*command, *files])
    return result.returncode, result.stdout, signature


def test_it_signs_with_pin1(service: PcscService, card: Held, tool: Tool, tmp_path: Path) -> None:
    with card.presented():
        code, told, signature = sign(service, tool, tmp_path, PIN)
    assert code == 0, told
    raw = signature.read_bytes()
    assert len(raw) == 96
    der = encode_dss_signature(int.from_bytes(raw[:48]), int.from_bytes(raw[48:]))
    key = card.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(der, MESSAGE, ec.ECDSA(Prehashed(hashes.SHA384())))


def test_it_signs_nothing_with_another_pin(service: PcscService, card: Held, tool: Tool, tmp_path: Path) -> None:
    with card.presented():
        code, told, signature = sign(service, tool, tmp_path, WRONG_PIN)
        left = service.run([tool("pkcs15-tool"), "--reader", READER, "--dump"])
    assert code != 0
    assert "CKR_PIN_INCORRECT" in told
    assert not signature.exists() or not signature.read_bytes()
    assert re.findall(r"Tries left\s*: (\d)", left.stdout) == ["2", "3", "3"]
