"""A card bureau and an operator for tests: their keys and certificates, and what each reads with ``openssl``."""

import csv
import datetime as dt
import functools
import hashlib
import io
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from backend_sync.bureau import Bureau, OperatorKey, Signer
from backend_sync.personalisation_file import Packing
from tests.missing import program

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
SINCE, UNTIL = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2046, 1, 1, tzinfo=dt.UTC)
KEY = OperatorKey("ntag424-application", 2, bytes(range(16)))

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@functools.cache
def bureau_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def signer_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: PrivateKey | ed25519.Ed25519PrivateKey, name: str, *, until: dt.datetime = UNTIL, usage: str | None = None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(SINCE).not_valid_after(until)
    if usage is not None:
        names = "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        names += " key_cert_sign crl_sign encipher_only decipher_only"
        usages = x509.KeyUsage(**{one: one == usage for one in names.split()})
        builder = builder.add_extension(usages, critical=True)
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


@functools.cache
def operator() -> x509.Certificate:
    return certificate(signer_key(), "operator")


@functools.cache
def bureau() -> x509.Certificate:
    return certificate(bureau_key(), "bureau")


def pem(key: PrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def packing() -> Packing:
    signer = Signer(operator(), (), signer_key())
    return Packing(Bureau(bureau()), signer, [KEY])


def private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def write_keys(folder: Path) -> dict[str, Path | str]:
    """Write what ``enrol batch`` is given; return its options."""
    (folder / "bureau.pem").write_bytes(bureau().public_bytes(Encoding.PEM))
    signer = pem(signer_key()) + operator().public_bytes(Encoding.PEM)
    key = private(folder / "application.key", KEY.octets)
    return {
        "--family": "ntag424",
        "--bureau": folder / "bureau.pem",
        "--key-file": f"{KEY.name}.{KEY.version}={key}",
        "--signer": private(folder / "signer.pem", signer),
    }


def write_accounts(path: Path, accounts: Iterable[str]) -> Path:
    path.write_text("account,reference\n" + "".join(f"{one},parcel-{one}\n" for one in accounts))
    return path


def openssl(*words: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        [program("openssl"), *(str(word) for word in words)], input=stdin, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def verified_manifest(folder: Path, scratch: Path) -> dict[str, Any]:
    """What the bureau believes of a batch: the manifest, if the operator signed it, and the files that it names."""
    anchor = scratch / "operator.pem"
    anchor.write_bytes(operator().public_bytes(Encoding.PEM))
    content = openssl(
        "cms", "-verify", "-binary", "-inform", "DER", "-in", folder / "manifest.json.p7s", "-content",
        folder / "manifest.json", "-CAfile", anchor, "-purpose", "any",
    )  # fmt: skip
    manifest: dict[str, Any] = json.loads(content)
    for part in manifest["records"] + manifest["keys"]:
        assert hashlib.sha256((folder / part["file"]).read_bytes()).hexdigest() == part["sha256"]
    named = {part["file"] for part in manifest["records"] + manifest["keys"]}
    assert {path.name for path in folder.iterdir()} == named | {"manifest.json", "manifest.json.p7s"}
    return manifest


def decrypted(path: Path, scratch: Path) -> bytes:
    key = private(scratch / "bureau.key", pem(bureau_key()))
    return openssl("cms", "-decrypt", "-binary", "-inform", "DER", "-in", path, "-inkey", key)


def records(folder: Path, scratch: Path) -> list[dict[str, str]]:
    """All records of a batch, as the bureau reads them."""
    rows: list[dict[str, str]] = []
    for part in verified_manifest(folder, scratch)["records"]:
        content = decrypted(folder / part["file"], scratch)
        assert hashlib.sha256(content).hexdigest() == part["content_sha256"]
        mine = list(csv.DictReader(io.StringIO(content.decode())))
        assert (len(mine), int(mine[0]["serial"])) == (part["records"], part["first_serial"])
        rows += mine
    return rows


def write_report(path: Path, rows: Sequence[tuple[int, str]]) -> Path:
    """A bureau's answer: every serial with its result; the UID follows from the serial."""
    lines = [f"{serial},{uid_of(serial).hex()},{result}\n" for serial, result in rows]
    path.write_text("serial,uid,result\n" + "".join(lines))
    return path


def uid_of(serial: int) -> bytes:
    return b"\x04" + serial.to_bytes(6)
