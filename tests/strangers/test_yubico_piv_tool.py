"""Yubico's own tool takes the virtual card for a PIV card."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer
from tests.strangers.conftest import READER, PcscService

NAMES = {KeyType.P_256: "ECCP256", KeyType.RSA_2048: "RSA2048"}
IssuedOf = Callable[[KeyType], IssuedCard]


@pytest.mark.parametrize("kind", NAMES)
def test_status_shows_the_certificate(
    service: PcscService, issued: IssuedOf, tool: Callable[[str], str], kind: KeyType
) -> None:
    card = issued(kind)
    with service.card(card):
        status = service.run([tool("yubico-piv-tool"), "-r", READER, "-a", "status"])
    assert status.returncode == 0, status.stdout
    lines = {line.strip() for line in status.stdout.splitlines()}
    assert "Slot 9e:" in lines
    assert f"Algorithm:\t{NAMES[kind]}" in lines
    assert f"Fingerprint:\t{card.certificate.fingerprint(hashes.SHA256()).hex()}" in lines
    assert "PIN tries left:	3" in lines


@pytest.mark.parametrize("kind", NAMES)
def test_the_card_signs_under_its_certificate(
    service: PcscService, issued: IssuedOf, tool: Callable[[str], str], kind: KeyType
) -> None:
    card = issued(kind)
    test_signature = [tool("yubico-piv-tool"), "-r", READER, "-a", "test-signature", "-s", "9e"]
    with service.card(card):
        mine = service.run(test_signature, stdin=card.pem.decode())
        other = service.run(test_signature, stdin=Issuer().issue(kind).pem.decode())
    assert mine.returncode == 0, mine.stdout
    assert f"Successful {'ECDSA' if kind is KeyType.P_256 else 'RSA'} verification" in mine.stdout
    assert "Successful" not in other.stdout
