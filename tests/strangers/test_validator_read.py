"""`validator read` through PC/SC: the same verdict and the same traffic as over the air (tests/flow/test_read.py)."""

import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hardware.virtual.timing import KeyType
from tests.issuing import Issuer
from tests.strangers.conftest import READER, PcscService


def read(service: PcscService, folder: Path) -> dict[str, object]:
    command = [
        sys.executable,
        "-m",
        "validator",
        "read",
        "--reader",
        f"pcsc:{READER}",
        "--trust",
        str(folder / "trust"),
    ]
    done = service.run([*command, "--cache", str(folder / "cache.db"), "--wait", "20", "--json"])
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("kind", "known_apdus", "known_bytes_out"),
    [(KeyType.P_256, 3, 15 + 11 + 44), (KeyType.RSA_2048, 5, 15 + 11 + 260 + 17 + 5)],
)
def test_the_verdict_is_that_of_the_air(
    service: PcscService, tmp_path: Path, kind: KeyType, known_apdus: int, known_bytes_out: int
) -> None:
    issuer = Issuer()
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "issuer.pem").write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
    with service.card(issuer.issue(kind)):
        first, second = read(service, tmp_path), read(service, tmp_path)
    assert (first["verdict"], first["cached"]) == ("authentic", False)
    assert (second["verdict"], second["cached"], second["apdus"]) == ("authentic", True, known_apdus)
    assert second["bytes_out"] == known_bytes_out
    assert (second["profile"], second["assurance"], second["key"]) == ("piv", "CHIP", kind.value)
