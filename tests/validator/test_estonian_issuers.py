"""Estonian issuers: nothing but what is pinned, test issuers only where asked for, and chains that really hold."""

import base64
import datetime as dt
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.missing import missing
from tests.validator.authority import Authority
from validator import estonian_issuers
from validator.certificates import certificate_key, load_certificate
from validator.estonian_certificate import holder_of
from validator.estonian_issuers import EstonianIssuersError, issuers_of_test_cards, production_issuers
from validator.trust_store import NationalIssuers

if importlib.util.find_spec(estonian_issuers.PACKAGE) is None:
    missing("esteid-certificates is not installed")

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "estonian_certificates.json").read_text()
)["vectors"]

#: Serial numbers and validity as their issuers publish them, independent of the pinned fingerprints.
PUBLISHED = {
    "ESTEID2018": ("7547FAAC14744B8B5BA366D4FE6655ED", "2018-09-20", "2033-09-05", "secp521r1"),
    "EEGovCA2025": ("29B917268F055A3B6136CEC781DBAAD51897AB0B", "2025-05-06", "2040-05-05", "secp384r1"),
    "ESTEID2025": ("50542B706B4AEFF8C23FE1B200E4CFBDB8251A57", "2025-05-07", "2040-05-03", "secp384r1"),
    "TEST of EE-GovCA2018": ("226BEA295C2D1B265B87E79C74A3DCEF", "2018-08-30", "2033-08-30", "secp521r1"),
    "TEST of ESTEID2018": ("3618F349F776504A5B90ED78118E0E45", "2018-09-06", "2033-08-30", "secp521r1"),
    "Test EEGovCA2025": ("50766EC3F6638733A1B18D676510AB01674D21A6", "2024-11-04", "2039-11-04", "secp384r1"),
    "Test ESTEID2025": ("36D5F182C258172F6BE4EA66DA3D8B72C9D962D9", "2024-11-04", "2039-11-03", "secp384r1"),
}
#: Beginnings and ends of SHA-256 fingerprints, published beside them.
FINGERPRINTS = {
    "EEGovCA2025": ("d482be01", "48198e"),
    "ESTEID2025": ("30eba818", "498ac7"),
    "TEST of EE-GovCA2018": ("e4c92e11", "6f09e2"),
    "Test ESTEID2025": ("a5cac6ea", "821dea"),
}


def named(issuers: NationalIssuers) -> dict[str, x509.Certificate]:
    return {
        str(each.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value): each
        for each in (*issuers.anchors, *issuers.intermediates)
    }


class TestPinned:
    def test_the_issuers_of_real_cards(self) -> None:
        issuers = production_issuers()
        assert list(named(issuers)) == ["ESTEID2018", "EEGovCA2025", "ESTEID2025"]
        assert (len(issuers.anchors), len(issuers.intermediates)) == (2, 1)

    def test_test_issuers_come_only_where_they_are_asked_for(self) -> None:
        real, test = named(production_issuers()), named(issuers_of_test_cards())
        assert list(test) == ["TEST of EE-GovCA2018", "Test EEGovCA2025", "TEST of ESTEID2018", "Test ESTEID2025"]
        assert not real.keys() & test.keys()
        assert not any("test" in name.casefold() for name in real)

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_each_is_the_one_that_its_issuer_publishes(self, name: str) -> None:
        certificate = {**named(production_issuers()), **named(issuers_of_test_cards())}[name]
        serial, since, until, curve = PUBLISHED[name]
        assert f"{certificate.serial_number:X}" == serial
        assert certificate.not_valid_before_utc.date() == dt.date.fromisoformat(since)
        assert certificate.not_valid_after_utc.date() == dt.date.fromisoformat(until)
        key = certificate_key(certificate)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == curve
        begin, end = FINGERPRINTS.get(name, ("", ""))
        fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
        assert fingerprint.startswith(begin)
        assert fingerprint.endswith(end)

    def test_each_intermediate_leads_to_an_anchor(self) -> None:
        for issuers in (production_issuers(), issuers_of_test_cards()):
            anchors = {anchor.subject: anchor for anchor in issuers.anchors}
            for certificate in issuers.intermediates:
                certificate.verify_directly_issued_by(anchors[certificate.issuer])


class TestPublishedCards:
    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
    def test_the_holder_is_read(self, vector: dict[str, Any]) -> None:
        holder = holder_of(load_certificate(base64.b64decode(vector["certificate"])))
        assert holder.personal_code.digits == vector["personal_code"]
        assert (holder.document_type, holder.test) == (vector["document_type"], vector["test"])

    @pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
    def test_the_signature_is_the_test_issuers_and_no_real_ones(self, vector: dict[str, Any]) -> None:
        certificate = load_certificate(base64.b64decode(vector["certificate"]))
        test = named(issuers_of_test_cards())
        if vector["issuer"] is not None:
            certificate.verify_directly_issued_by(test.pop(vector["issuer"]))
        for stranger in (*test.values(), *named(production_issuers()).values()):
            with pytest.raises((InvalidSignature, ValueError, TypeError)):
                certificate.verify_directly_issued_by(stranger)


class FakePackage:
    """A release of the package with other contents."""

    def __init__(self, folder: Path, **contents: bytes) -> None:
        self.files = {name: folder / f"{name}.pem" for name in contents}
        for name, octets in contents.items():
            self.files[name].write_bytes(octets)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package = SimpleNamespace(ISSUER_CERTS=self.files, get_root_ca_files=lambda **_options: [])
        monkeypatch.setattr(importlib, "import_module", lambda _name: package)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


class TestAnotherPackage:
    def test_one_that_is_not_there_is_said_with_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr(importlib, "import_module", absent)
        with pytest.raises(EstonianIssuersError, match="extra `estonia`"):
            production_issuers()

    def test_another_certificate_under_the_right_name_is_no_issuer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = named(production_issuers())
        forged = Authority.root("ESTEID2018").certificate
        package = FakePackage(
            tmp_path, ESTEID2018=pem(forged), ESTEID2025=pem(real["ESTEID2025"]), EEGovCA2025=pem(real["EEGovCA2025"])
        )
        package.install(monkeypatch)
        with pytest.raises(EstonianIssuersError, match="of ESTEID2018: install"):
            production_issuers()

    def test_what_else_a_release_holds_is_not_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = named(production_issuers())
        contents = {f"renamed{number}": pem(each) for number, each in enumerate(real.values())}
        contents |= {"more": pem(Authority.root("ESTEID2026").certificate), "torn": pem(real["ESTEID2018"])[:-40]}
        contents |= {"empty": b"", "bundle": b"".join(contents.values())}
        FakePackage(tmp_path, **contents).install(monkeypatch)
        assert named(production_issuers()) == real

    def test_a_file_that_is_listed_and_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = FakePackage(tmp_path, ESTEID2018=b"")
        package.files["ESTEID2018"].unlink()
        package.install(monkeypatch)
        with pytest.raises(EstonianIssuersError, match="ESTEID2018, EEGovCA2025"):
            production_issuers()
