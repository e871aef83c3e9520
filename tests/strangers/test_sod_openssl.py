"""OpenSSL believes the security objects that our tests make, and we believe those that OpenSSL makes."""

import hashlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hardware import lds, tlv
from hardware.lds import DG1
from hardware.virtual.emrtd_files import Holder
from tests.missing import program
from tests.validator.authority import NOW, seconds
from tests.validator.travel_authority import (
    SIGNER_EXTENSIONS,
    Country,
    DocumentSigner,
    SignerKey,
    judge_document,
    lds_security_object,
    new_key,
)
from tests.validator.travel_documents import country, rsa_key
from validator.country_signers import CountrySigners
from validator.model import Reason
from validator.passive_authentication import Genuine
from validator.proof import TravelDocument

GROUPS = {DG1: lds.encode_dg1(Holder().card())}
KEYS: dict[str, SignerKey] = {
    "P-256": new_key(ec.SECP256R1()),
    "P-384": new_key(ec.SECP384R1()),
    "P-521": new_key(ec.SECP521R1()),
    "brainpoolP256r1": new_key(),
    "brainpoolP384r1": new_key(ec.BrainpoolP384R1()),
    "brainpoolP512r1": new_key(ec.BrainpoolP512R1()),
    "RSA": rsa_key(),
    "PSS": rsa_key(3072),
}
EACH = pytest.mark.parametrize("name", KEYS)
DIGEST = pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program("openssl"), "cms", *arguments], capture_output=True, timeout=60, check=False)


def made(name: str, digest: str) -> DocumentSigner:
    return replace(country().signer(key=KEYS[name]), digest=digest, pss=name == "PSS")


def judged(security_object: bytes, *, authority: Country | None = None) -> Genuine | Reason:
    store = CountrySigners([(authority or country()).certificate])
    return judge_document(TravelDocument(security_object, GROUPS), store, seconds(NOW))


@EACH
@DIGEST
def test_openssl_believes_ours(name: str, digest: str, tmp_path: Path) -> None:
    security_object = made(name, digest).security_object(GROUPS)
    assert isinstance(judged(security_object), Genuine)
    signed, authority, content = tmp_path / "sod.cms", tmp_path / "csca.pem", tmp_path / "content"
    signed.write_bytes(tlv.parse_one(security_object, 0x77))
    authority.write_bytes(country().certificate.public_bytes(Encoding.PEM))
    verify: list[str | Path] = [
        "-verify",
        "-inform",
        "DER",
        "-no_check_time",
        "-purpose",
        "any",
        "-binary",
        "-out",
        content,
    ]
    result = openssl(*verify, "-CAfile", authority, "-in", signed)
    assert result.returncode == 0, result.stderr
    assert hashlib.new(digest, GROUPS[DG1]).digest() in content.read_bytes()

    authority.write_bytes(Country.founded().certificate.public_bytes(Encoding.PEM))
    assert openssl(*verify, "-CAfile", authority, "-in", signed).returncode != 0, "it believes anybody"


@EACH
@DIGEST
@pytest.mark.parametrize("more", [[], ["-keyid"], ["-nosmimecap"]], ids=["number", "key", "few attributes"])
def test_we_believe_openssls(name: str, digest: str, more: list[str], tmp_path: Path) -> None:
    signer = made(name, digest)
    if more == ["-keyid"]:
        signer = with_identifier(signer, name, digest)
    signed = sign(signer, digest, name, more, tmp_path)
    assert isinstance(judged(signed), Genuine)
    assert judged(signed, authority=Country.founded()) is Reason.UNTRUSTED_ISSUER
    spoilt = bytearray(signed)
    spoilt[-3] ^= 1
    assert judged(bytes(spoilt)) is Reason.DATA_TAMPERED


def with_identifier(signer: DocumentSigner, name: str, digest: str) -> DocumentSigner:
    """The same signer, with the key identifier in its certificate that names it."""
    public = x509.SubjectKeyIdentifier.from_public_key(signer.key.public_key())
    made_again = country().signer(key=KEYS[name], extensions=(*SIGNER_EXTENSIONS, (public, False)))
    return replace(made_again, digest=digest, pss=signer.pss)


def sign(signer: DocumentSigner, digest: str, name: str, more: list[str], folder: Path) -> bytes:
    """EF.SOD whose signed data are OpenSSL's."""
    content, key, certificate, out = (folder / part for part in ("content", "key.pem", "ds.pem", "sod.cms"))
    content.write_bytes(lds_security_object({DG1: hashlib.new(digest, GROUPS[DG1]).digest()}, digest))
    key.write_bytes(signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(signer.certificate.public_bytes(Encoding.PEM))
    options = ["-keyopt", "rsa_padding_mode:pss"] if name == "PSS" else []
    typed = ["-econtent_type", "2.23.136.1.1.1", "-outform", "DER"]
    arguments: list[str | Path] = ["-sign", "-binary", "-nodetach", "-md", digest, *typed, *more]
    result = openssl(*arguments, "-signer", certificate, "-inkey", key, *options, "-in", content, "-out", out)
    assert result.returncode == 0, result.stderr
    return tlv.encode(0x77, out.read_bytes())
