"""OpenSC takes the virtual EstEID card for one: `eidenv` reads every record of an invented person, PKCS#11 signs."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.strangers.conftest import PORT, READER, PcscService
from tests.validator import estonian_cards
from tests.validator.authority import Authority, CardPrivateKey, card_key
from tests.validator.estonian_cards import PERSON, PIN
from validator.model import KeyAlgorithm

LABELS = (
    "Surname",
    "Given names 1",
    "Given names 2",
    "Sex",
    "Citizenship",
    "Date of birth",
    "Personal ID code",
    "Document number",
    "Expiry date",
    "Place of birth",
    "Issuing date",
    "Permit type",
    "Remark 1",
    "Remark 2",
    "Remark 3",
    "Remark 4",
)
VARIABLES = {"ESTEID_PERSONAL_ID": PERSON[6], "ESTEID_DOCUMENT_NR": PERSON[7], "ESTEID_CITIZENSHIP": PERSON[4]}

Held = Callable[[KeyAlgorithm], "contextlib.AbstractContextManager[x509.Certificate]"]


@pytest.fixture
def held(service: PcscService, tmp_path: Path) -> Held:
    """Hold a card with a key of some kind against the reader; gives its certificate."""

    @contextlib.contextmanager
    def hold(algorithm: KeyAlgorithm) -> Iterator[x509.Certificate]:
        key: CardPrivateKey = card_key(algorithm)
        der = estonian_cards.certificate(Authority.root(), key)
        pem, certificate, records = (tmp_path / name for name in ("key.pem", "certificate.der", "records.json"))
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(der)
        records.write_text(json.dumps(PERSON))
        script = str(Path(__file__).with_name("hold_esteid3.py"))
        holder = service.popen([sys.executable, script, str(pem), str(certificate), str(records), PIN, str(PORT)])
        try:
            service.until_card()
            yield x509.load_der_x509_certificate(der)
        finally:
            holder.terminate()
            holder.communicate()
            service.until_card(there=False)

    return hold


def into_file(service: PcscService, argv: list[str], path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that does not write UTF-8 with its output in a file."""
    return service.run(["sh", "-c", f"exec {shlex.join(argv)} > {shlex.quote(str(path))}"])


def test_the_driver_is_the_estonian_one(service: PcscService, held: Held, tool: Callable[[str], str]) -> None:
    with held(KeyAlgorithm.RSA2048):
        result = service.run([tool("opensc-tool"), "--reader", READER, "--name"])
    assert result.returncode == 0, result.stdout
    assert "EstEID 3.5" in result.stdout


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.RSA2048, KeyAlgorithm.P384])
def test_eidenv_prints_every_record(
    service: PcscService, held: Held, tool: Callable[[str], str], tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    output = tmp_path / "output"
    with held(algorithm):
        result = into_file(service, [tool("eidenv"), "--reader", READER], output)
    assert result.returncode == 0, result.stdout
    printed = dict(line.split(": ", 1) for line in output.read_bytes().decode("cp1252").splitlines())
    assert list(printed) == list(LABELS)
    assert [text.strip() for text in printed.values()] == list(PERSON)


def test_eidenv_hands_the_records_to_another_program(
    service: PcscService, held: Held, tool: Callable[[str], str], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with held(KeyAlgorithm.RSA2048):
        result = into_file(service, [tool("eidenv"), "--reader", READER, "--exec", tool("env")], output)
    assert result.returncode == 0, result.stdout
    lines = output.read_bytes().decode("cp1252").splitlines()
    assert VARIABLES.items() <= dict(line.split("=", 1) for line in lines if "=" in line).items()


def test_pkcs15_lists_the_card_with_its_pins(service: PcscService, held: Held, tool: Callable[[str], str]) -> None:
    with held(KeyAlgorithm.RSA2048) as certificate:
        listed = service.run([tool("pkcs15-tool"), "--reader", READER, "--dump"])
        read = service.run([tool("pkcs15-tool"), "--reader", READER, "--read-certificate", "01"])
    assert listed.returncode == 0, listed.stdout
    name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(name, str)
    assert f"PKCS#15 Card [{name}]" in listed.stdout
    assert re.search(r"Serial number\s*: AA0000007\b", listed.stdout)
    assert re.findall(r"PIN \[(\w+)\]", listed.stdout) == ["PIN1", "PIN2", "PUK"]
    assert re.findall(r"Tries left\s*: (\d)", listed.stdout) == ["3", "3", "3"]
    assert read.returncode == 0, read.stdout
    pem = read.stdout[read.stdout.index("-----BEGIN") :]
    assert x509.load_pem_x509_certificate(pem.encode()) == certificate


def test_pkcs11_signs_with_pin1(service: PcscService, held: Held, tool: Callable[[str], str], tmp_path: Path) -> None:
    """With P-384: OpenSC 0.23 offers no RSA mechanism for this card."""
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"one ride, please")
    sign = [tool("pkcs11-tool"), "--login", "--pin", PIN, "--sign", "--id", "01", "--mechanism", "ECDSA-SHA384"]
    files = ["--input-file", str(message), "--output-file", str(signature), "--signature-format", "openssl"]
    with held(KeyAlgorithm.P384) as certificate:
        result = service.run([*sign, *files])
    assert result.returncode == 0, result.stdout
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(signature.read_bytes(), message.read_bytes(), ec.ECDSA(hashes.SHA384()))


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.RSA2048, KeyAlgorithm.P384])
def test_a_desk_reads_the_same_card(service: PcscService, held: Held, algorithm: KeyAlgorithm) -> None:
    script = str(Path(__file__).with_name("esteid3_session.py"))
    with held(algorithm):
        result = service.run([sys.executable, script, READER, PIN])
    assert result.returncode == 0, result.stdout
    facts = json.loads(result.stdout)
    assert (facts["technology"], facts["assurance"], facts["holds"]) == ("contact", "HOLDER", True)
    assert (facts["personal_code"], facts["apdus"] < 25) == (PERSON[6], True)
