"""OpenSC takes the virtual card for a PIV card: through PKCS#15 and through PKCS#11."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard
from tests.strangers.conftest import PIN, READER, PcscService

KINDS = (KeyType.P_256, KeyType.RSA_2048)
MECHANISMS = {KeyType.P_256: "ECDSA-SHA256", KeyType.RSA_2048: "SHA256-RSA-PKCS"}
IssuedOf = Callable[[KeyType], IssuedCard]


def test_the_driver_for_piv_cards_is_chosen(service: PcscService, issued: IssuedOf, tool: Callable[[str], str]) -> None:
    with service.card(issued(KeyType.P_256)):
        result = service.run([tool("opensc-tool"), "--reader", READER, "--name"])
    assert result.returncode == 0, result.stdout
    assert "Personal Identity Verification Card" in result.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_is_listed_and_read(
    service: PcscService, issued: IssuedOf, tool: Callable[[str], str], kind: KeyType
) -> None:
    card = issued(kind)
    pkcs15 = [tool("pkcs15-tool"), "--reader", READER]
    with service.card(card):
        listed = service.run([*pkcs15, "--list-certificates"])
        read = service.run([*pkcs15, "--read-certificate", "04"])
    assert listed.returncode == 0, listed.stdout
    assert "X.509 Certificate [Certificate for Card Authentication]" in listed.stdout
    assert re.search(r"ID\s*: 04\b", listed.stdout)
    assert read.returncode == 0, read.stdout
    pem = read.stdout[read.stdout.index("-----BEGIN") :]
    assert x509.load_pem_x509_certificate(pem.encode()) == card.certificate


@pytest.mark.parametrize("kind", KINDS)
def test_pkcs11_signs_with_the_card_authentication_key(
    service: PcscService, issued: IssuedOf, tool: Callable[[str], str], kind: KeyType, tmp_path: Path
) -> None:
    card = issued(kind)
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"one ride, please")
    # The card asks no PIN of this key; OpenSC logs in before it uses any.
    sign = [tool("pkcs11-tool"), "--login", "--pin", PIN, "--sign", "--id", "04", "--mechanism", MECHANISMS[kind]]
    files = ["--input-file", str(message), "--output-file", str(signature), "--signature-format", "openssl"]
    with service.card(card):
        result = service.run([*sign, *files])
    assert result.returncode == 0, result.stdout
    public = card.certificate.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        public.verify(signature.read_bytes(), message.read_bytes(), padding.PKCS1v15(), hashes.SHA256())
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        public.verify(signature.read_bytes(), message.read_bytes(), ec.ECDSA(hashes.SHA256()))
