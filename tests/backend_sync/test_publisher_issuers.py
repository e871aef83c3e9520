"""Issuers beside X.509 and keys without an issuer: from the files of the depot's staff to what a gate believes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from backend_sync.publisher import Dates, InputMissing, Publisher, PublishError, create_key, write_public_key
from backend_sync.publishing import publish
from tests.validator.authority import NOW, Authority, card_key, seconds
from tests.validator.list_making import content_signer, enrolled_spkis, for_signing
from validator.certificates import credential_id, load_certificate
from validator.chains import UntrustedIssuerError
from validator.lists.directory import install, installed_versions
from validator.lists.installed import InstalledLists, load
from validator.lists.manifest import ListKind
from validator.model import KeyAlgorithm, Scheme

DATES = Dates(issued_s=seconds(NOW), not_after_s=seconds(NOW) + 86_400)
ACME = "ACMETRANSIT00001"
IDENTIFIER = bytes(range(20))


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "published", "office", create_key(tmp_path / "publisher.key"), "north")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """One file of each kind, by what it is."""
    found = {name: tmp_path / name for name in ("root.pem", "signer.pem", "acme.pem", "rsa.pem", "cards")}
    found["root.pem"].write_bytes(Authority.root().certificate.public_bytes(Encoding.PEM))
    found["signer.pem"].write_bytes(content_signer("Signer", IDENTIFIER).public_bytes(Encoding.PEM))
    for name, kind in (("acme.pem", KeyAlgorithm.P256), ("rsa.pem", KeyAlgorithm.RSA2048)):
        found[name].write_bytes(
            card_key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
    found["cards"].mkdir()
    for number, spki in enumerate(enrolled_spkis()[:5]):
        (found["cards"] / f"{number}.der").write_bytes(spki)
    return found


def installed(publisher: Publisher, folder: Path, *kinds: ListKind) -> InstalledLists:
    keys = {"office": publisher.key.public_key()}
    for kind in kinds:
        home = publisher.out / kind / str(installed_versions(publisher.out, kind)[0])
        install(folder, (home / "manifest").read_bytes(), home / "payload", keys, region="north")
    return load(folder, keys, "north")


def test_a_gate_believes_whom_the_files_name(tmp_path: Path, publisher: Publisher, files: dict[str, Path]) -> None:
    published = publisher.trust(
        [files["root.pem"]], [], DATES, pkoc_issuers={ACME: files["acme.pem"]}, sm_signers=[files["signer.pem"]]
    )
    assert published.entries == 3
    lists = installed(publisher, tmp_path / "gate", ListKind.TRUST)
    assert (lists.faults, lists.trust is not None) == ((), True)
    assert lists.trust is not None
    assert lists.trust.pkoc_issuer(ACME.encode()) == card_key(KeyAlgorithm.P256).public_key()
    assert lists.trust.sm_signer(IDENTIFIER[:8]) is not None


def test_a_list_may_have_no_x509_issuer(tmp_path: Path, publisher: Publisher, files: dict[str, Path]) -> None:
    stranger = x509.load_der_x509_certificate(Authority.root("Stranger").issue(card_key(KeyAlgorithm.P256)))
    for number, (pkoc, signers) in enumerate([({ACME: files["acme.pem"]}, []), ({}, [files["signer.pem"]])], 1):
        assert publisher.trust([], [], DATES, pkoc_issuers=pkoc, sm_signers=signers).entries == 1
        lists = installed(publisher, tmp_path / "gate", ListKind.TRUST)
        assert (lists.faults, lists.versions.trust) == ((), number)
        assert lists.trust is not None
        assert (lists.trust.pkoc_issuer(ACME.encode()) is None) == (not pkoc)
        assert (lists.trust.sm_signer(IDENTIFIER[:8]) is None) == (not signers)
        with pytest.raises(UntrustedIssuerError):
            lists.trust.cards.chain(stranger, DATES.issued_s)


def test_enrolled_keys_are_published_each_once(tmp_path: Path, publisher: Publisher) -> None:
    told: list[int] = []
    spkis = enrolled_spkis()[:4]
    assert publisher.enrolled([*spkis, *spkis], DATES, told.append).entries == 4
    assert told == [8]
    lists = installed(publisher, tmp_path / "gate", ListKind.ENROLLED)
    assert lists.versions.enrolled == 1
    for spki in enrolled_spkis():
        assert lists.enrolled(credential_id(spki)) == (spki if spki in spkis else None)
    publisher.enrolled(spkis[1:], DATES)
    lists = installed(publisher, tmp_path / "gate", ListKind.ENROLLED)
    assert lists.enrolled(credential_id(spkis[0])) is None


class TestNothingBadIsPublished:
    @pytest.mark.parametrize(
        ("pkoc", "signer", "error", "told"),
        [
            ({ACME: "rsa.pem"}, [], PublishError, "rsa.pem: PKOC issuer ACMETRANSIT00001 has no P-256 key"),
            ({"acme": "acme.pem"}, [], PublishError, "acme.pem: PKOC issuer acme: a reference has 16 characters"),
            ({ACME: "root.pem"}, [], PublishError, "root.pem, line 1: -----BEGIN CERTIFICATE-----"),
            ({ACME: "absent"}, [], InputMissing, "absent: No such file"),
            ({}, ["root.pem"], PublishError, "root.pem, certificate 1: content signer 0: CN=Test Root is not for PIV"),
            ({}, ["acme.pem"], PublishError, "acme.pem: holds no certificate"),
            ({}, ["absent"], InputMissing, "absent: No such file"),
            ({}, ["old.pem"], PublishError, r"old.pem, certificate 1: CN=Old ended on 2026-11-23"),
            ({}, ["signer.pem", "twin.pem"], PublishError, "have the same identifier 0001020304050607"),
        ],
    )
    def test_an_issuer_that_is_none_is_told_by_its_file(
        self,
        publisher: Publisher,
        files: dict[str, Path],
        tmp_path: Path,
        *,
        pkoc: dict[str, str],
        signer: list[str],
        error: type[Exception],
        told: str,
    ) -> None:
        old = Authority.root("Old", extensions=for_signing(IDENTIFIER), until=NOW).certificate
        (tmp_path / "old.pem").write_bytes(old.public_bytes(Encoding.PEM))
        (tmp_path / "twin.pem").write_bytes(content_signer("Twin", IDENTIFIER).public_bytes(Encoding.PEM))
        later = Dates(DATES.issued_s + 1, DATES.not_after_s)
        with pytest.raises(error, match=told):
            publisher.trust(
                [files["root.pem"]],
                [],
                later,
                pkoc_issuers={reference: tmp_path / name for reference, name in pkoc.items()},
                sm_signers=[tmp_path / name for name in signer],
            )
        assert installed_versions(publisher.out, ListKind.TRUST) == []

    def test_a_key_that_cannot_be_enrolled(self, publisher: Publisher) -> None:
        with pytest.raises(PublishError, match=r"^enrolled list: key 2: not a public key"):
            publisher.enrolled([enrolled_spkis()[0], b"junk"], DATES)
        assert list((publisher.out / "enrolled").iterdir()) == []


Command = Callable[..., tuple[int, str]]

OFFICE = """\
name = "office"
key = "office.key"
region = "north"
ledger = "sqlite:///ledger.db"
[broker]
host = "127.0.0.1"
port = 1883
[publisher]
name = "office"
key = "publisher.key"
out = "published"
"""

GATE = """\
device = "gate-1"
place = "market"
lane = "1"
region = "north"
state = "state"
device_key = "device.key"
[reader]
name = "pcsc:none"
[lists.publishers]
office = "publisher.pub"
"""


class TestCommands:
    @pytest.fixture
    def command(self, tmp_path: Path, publisher: Publisher, files: dict[str, Path]) -> Command:
        """Runs ``backend-sync publish``; gives the code and what was printed or why it failed."""
        (tmp_path / "office.toml").write_text(OFFICE)
        (tmp_path / "gate.toml").write_text(GATE)
        write_public_key(publisher.key, tmp_path / "publisher.pub")

        def run(*arguments: str | Path) -> tuple[int, str]:
            told = [*map(str, arguments), "--config", str(tmp_path / "office.toml")]
            done = CliRunner().invoke(publish, told)
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                return os.EX_SOFTWARE, f"{type(done.exception).__name__}: {done.exception}"
            return done.exit_code, done.output

        return run

    def test_from_files_to_a_gate(
        self, tmp_path: Path, publisher: Publisher, files: dict[str, Path], command: Command
    ) -> None:
        def said(*arguments: str | Path) -> list[dict[str, Any]]:
            code, output = command(*arguments, "--json")
            assert code == 0, output
            return [json.loads(line) for line in output.splitlines() if line.startswith("{")]

        acme, signer = f"{ACME}={files['acme.pem']}", files["signer.pem"]
        (trust,) = said("trust", files["root.pem"], "--pkoc-issuer", acme, "--sm-signer", signer)
        assert (trust["kind"], trust["version"], trust["entries"]) == ("trust", 1, 3)
        more = tmp_path / "more.csv"
        more.write_text("\n".join(spki.hex() for spki in enrolled_spkis()[3:7]))
        (enrolled,) = said("enrolled", "--keys", files["cards"], "--keys", more)
        assert (enrolled["kind"], enrolled["version"], enrolled["entries"]) == ("enrolled", 1, 7)
        assert [each["kind"] for each in said("install", tmp_path / "gate.toml")] == ["trust", "enrolled"]
        lists = load(tmp_path / "state" / "lists", {"office": publisher.key.public_key()}, "north")
        for number, spki in enumerate(enrolled_spkis()):
            assert lists.enrolled(credential_id(spki)) == (spki if number < 7 else None)

    def test_each_nations_issuers_stand_by_themselves(
        self, tmp_path: Path, publisher: Publisher, files: dict[str, Path], command: Command
    ) -> None:
        japan = tmp_path / "japan.pem"
        japan.write_bytes(Authority.root("Japan").certificate.public_bytes(Encoding.PEM))
        masters = tmp_path / "masters"
        masters.mkdir()
        countries = [Authority.root(name).certificate for name in ("Estonia", "Finland", "Latvia")]
        for number, certificate in enumerate(countries):
            (masters / f"{number}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        national = ("--estonia", "--national", f"jp={japan}", "--dnie-component", files["rsa.pem"])
        code, output = command("trust", *national, "--travel", masters, "--json")
        assert code == 0, output
        lists = installed(publisher, tmp_path / "gate", ListKind.TRUST)
        assert lists.trust is not None
        held = [lists.trust.national(scheme) is not None for scheme in (Scheme.ESTONIA, Scheme.JAPAN, Scheme.SPAIN)]
        assert held == [True, True, False]
        assert {each.subject for each in lists.trust.travel_anchors} == {each.subject for each in countries}
        assert lists.trust.component_roots == (card_key(KeyAlgorithm.RSA2048).public_key(),)
        estonia = lists.trust.national(Scheme.ESTONIA)
        assert estonia is not None
        stranger = load_certificate(Authority.root("Japan").issue(card_key(KeyAlgorithm.P256)))
        with pytest.raises(UntrustedIssuerError):
            estonia.chain(stranger, DATES.issued_s)

    @pytest.mark.parametrize(
        ("option", "why"),
        [
            (("--national", "fr=japan.pem"), "a scheme of"),
            (("--national", "jp"), "SCHEME=FILE"),
            (("--dnie-component", "acme.pem"), "no RSA public key"),
            (("--dnie-component", "root.pem"), "no public key"),
            (("--travel", "acme.pem"), "acme.pem"),
            (("--national", "jp=signer.pem"), "not an issuer's"),
        ],
    )
    def test_what_is_no_nations_issuer_is_refused(
        self, files: dict[str, Path], command: Command, option: tuple[str, str], why: str
    ) -> None:
        name, value = option
        for file, path in files.items():
            value = value.replace(file, str(path))
        code, output = command("trust", name, value)
        assert code != 0
        assert why in " ".join(output.split())

    def test_keys_under_names_reach_a_gate(self, tmp_path: Path, publisher: Publisher, command: Command) -> None:
        name, spki, file = bytes(range(16)), enrolled_spkis()[0], tmp_path / "named.csv"
        file.write_text(f"name,public_key\n{name.hex()},{spki.hex()}\n")
        code, output = command("enrolled", "--named", file, "--json")
        assert (code, json.loads(output)["entries"]) == (0, 1)
        lists = installed(publisher, tmp_path / "gate", ListKind.ENROLLED)
        assert (lists.enrolled_under(name), lists.enrolled(name)) == (spki, None)
        assert (lists.enrolled_under(credential_id(spki)), lists.enrolled(credential_id(spki))) == (None, None)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("public_key\n00\n", "no columns name and public_key"),
            (f"name,public_key\nabc,{'00' * 91}\n", "line 2"),
            (f"name,public_key\n{'00' * 16},00\n", "line 2"),
            (f"name,public_key\n{'00' * 15},KEY\n", "32 hexadecimal digits"),
        ],
    )
    def test_a_wrong_file_of_names(self, tmp_path: Path, command: Command, text: str, why: str) -> None:
        file = tmp_path / "named.csv"
        file.write_text(text.replace("KEY", enrolled_spkis()[0].hex()))
        code, output = command("enrolled", "--named", file)
        assert code != 0
        assert why in output

    def test_a_wrong_line_is_told_and_nothing_published(self, tmp_path: Path, command: Command) -> None:
        keys = tmp_path / "keys.csv"
        keys.write_text(f"{enrolled_spkis()[0].hex()}\n04{'00' * 64}\n")
        assert command("enrolled", "--keys", keys) == (
            os.EX_SOFTWARE,
            f"PublishError: {keys}, line 2: not a public key: ValueError",
        )
        assert installed_versions(tmp_path / "published", ListKind.ENROLLED) == []

    def test_nobody_is_enrolled_only_if_that_is_meant(self, tmp_path: Path, command: Command) -> None:
        (tmp_path / "nobody").mkdir()
        code, output = command("enrolled", "--keys", tmp_path / "nobody")
        assert (code, "--empty if that is meant" in output) == (os.EX_SOFTWARE, True)
        code, output = command("enrolled", "--keys", tmp_path / "nobody", "--empty", "--json")
        assert (code, json.loads(output)["entries"]) == (0, 0)

    def test_a_network_whose_cards_need_no_issuer(self, tmp_path: Path, publisher: Publisher, command: Command) -> None:
        code, output = command("trust", "--empty", "--json")
        assert (code, json.loads(output)["entries"]) == (0, 0)
        lists = installed(publisher, tmp_path / "gate", ListKind.TRUST)
        assert (lists.faults, lists.versions.trust, lists.trust is not None) == ((), 1, True)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("trust",),
            ("trust", "--pkoc-issuer", "acme.pem"),
            ("trust", "--pkoc-issuer", f"{ACME}=a.pem", "--pkoc-issuer", f"{ACME}=b.pem"),
            ("enrolled",),
        ],
        ids=["nobody", "no reference", "twice", "no keys"],
    )
    def test_a_wrong_command_line_is_usage(self, command: Command, arguments: tuple[str, ...]) -> None:
        code, output = command(*arguments)
        assert (code, "Usage" in output) == (2, True)
