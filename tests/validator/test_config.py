"""The gate's file: what it must say, and what a wrong one is told."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from hardware.virtual.timing import KeyType
from tests.issuing import Issuer, PrivateKey
from validator import config as gate_file
from validator.key_loading import TlsSection, load_private_key, load_tls
from validator.toml_file import ConfigError

ROOT = Path(__file__).parents[2]
GOOD = """\
device = "gate-0001"
place = "market-square"
lane = "lane-1"
region = "demo"
state = "state"
device_key = "device.pem"

[reader]
name = "nfcpy:usb"

[lists.publishers]
publisher-1 = "publisher.pub"
"""


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "gate.toml"
    path.write_text(text)
    return path


def write_key(path: Path, key: Ed25519PrivateKey | PrivateKey, lock: KeySerializationEncryption | None = None) -> None:
    path.touch(0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock or NoEncryption()))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = gate_file.load(write(tmp_path))
    assert config.journal == tmp_path / "state" / "journal.db"
    assert config.lists == tmp_path / "state" / "lists"
    assert config.cursor == tmp_path / "state" / "uplink" / "cursor"
    assert config.file.policy.least_assurance == "chip"
    assert config.file.uplink is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (GOOD.replace('device = "gate-0001"', ""), "missing required field `device`"),
        (GOOD.replace("gate-0001", "gate 1"), "key `device`"),
        (GOOD.replace("gate-0001", "../gate"), "key `device`"),
        (GOOD + "\n[policy]\nleast_assurance = 'high'\n", "key `policy.least_assurance`"),
        (GOOD + "\n[policy]\ntap_limit_s = 0\n", "key `policy.tap_limit_s`"),
        (GOOD + "\n[policy]\ntap_limit_s = inf\n", "key `policy.tap_limit_s`"),
        (GOOD + "\ndeny_grace_h = inf\n", "key `"),
        (GOOD + "\n[gate]\ndriver = 'lamp'\n", "key `gate.driver`"),
        (GOOD + "\n[cards]\nfamilies = []\n", "key `cards.families`"),
        (GOOD + "\n[cards]\nfamilies = ['piv', 'oyster']\n", "key `cards.families"),
        (GOOD + "\n[cards]\nfamilies = ['piv', 'piv']\n", "a family is there twice"),
        (GOOD + "\n[cards]\nfamilies = ['pkoc1', 'pkoc2']\n", "put pkoc2 first"),
        (GOOD + "\n[cards]\nfamilies = ['piv', 'piv-sm']\n", "put piv-sm first"),
        (GOOD + "\n[cards.sam]\nreader = 'nfcpy:usb'\nkeys = {}\n", "key `cards.sam"),
        (GOOD + "\n[uplnk]\nhost = 'x'\n", "unknown field `uplnk`"),
        (GOOD + "\n[uplink]\nhost = 'x'\nport = 70000\noffices = {o = 'o.pub'}\n", "key `uplink.port`"),
        (GOOD + "\n[uplink]\nhost = 'x'\nport = 1883\noffices = {}\n", "key `uplink.offices`"),
        ("device = [", "not TOML"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong_and_where(tmp_path: Path, wrong: str, told: str) -> None:
    path = write(tmp_path, wrong)
    with pytest.raises(ConfigError) as error:
        gate_file.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        gate_file.load(tmp_path / "gate.toml")


def test_keys_must_be_there_and_of_the_right_kind(tmp_path: Path) -> None:
    config = gate_file.load(write(tmp_path))
    with pytest.raises(ConfigError, match=r"device_key: .*device\.pem: No such file"):
        config.device_private_key()
    key = Ed25519PrivateKey.generate()
    write_key(tmp_path / "device.pem", key)
    assert config.device_private_key().private_bytes_raw() == key.private_bytes_raw()
    write_key(tmp_path / "device.pem", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        config.device_private_key()
    write_key(tmp_path / "device.pem", key, BestAvailableEncryption(b"secret"))
    with pytest.raises(ConfigError, match="not an unencrypted private key"):
        config.device_private_key()
    (tmp_path / "publisher.pub").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"lists\.publishers\.publisher-1: .* not a public key"):
        config.publisher_keys()
    (tmp_path / "publisher.pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    assert list(config.publisher_keys()) == ["publisher-1"]


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440])
def test_a_key_is_for_its_owner_and_perhaps_a_group(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    write_key(path, Ed25519PrivateKey.generate())
    path.chmod(mode)
    load_private_key(path, "key")
    path.chmod(mode | 0o004)
    with pytest.raises(
        ConfigError, match=rf"^gate\.toml: key: {path}: mode -r.*r-- lets everybody at the key; run chmod"
    ):
        load_private_key(path, "gate.toml: key")


@pytest.fixture
def tls(tmp_path: Path) -> TlsSection:
    """A device's certificate and key, and the authority of its broker."""
    authority = Issuer()
    device = authority.issue(KeyType.P_256)
    (tmp_path / "ca.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "device.crt").write_bytes(device.pem)
    write_key(tmp_path / "device.key", device.key)
    write_key(tmp_path / "locked.key", device.key, BestAvailableEncryption(b"secret"))
    write_key(tmp_path / "other.key", authority.key)
    (tmp_path / "junk").write_text("nonsense")
    return TlsSection("ca.pem", "device.crt", "device.key")


def test_mutual_tls_believes_its_own_authority_alone(tmp_path: Path, tls: TlsSection) -> None:
    context = load_tls(tls, tmp_path.joinpath, "gate.toml: uplink.tls")
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
@pytest.mark.parametrize("file", ["absent", "junk", "."])
def test_a_wrong_file_for_tls_is_told_with_its_key(tmp_path: Path, tls: TlsSection, name: str, file: str) -> None:
    wrong = msgspec.structs.replace(tls, **{name: file})
    with pytest.raises(ConfigError, match=rf"^gate\.toml: .*uplink\.tls\.{name}\b.*{file}"):
        load_tls(wrong, tmp_path.joinpath, "gate.toml: uplink.tls")


@pytest.mark.parametrize("file", ["other.key", "locked.key"])
def test_the_key_of_a_certificate_is_its_own_and_unencrypted(tmp_path: Path, tls: TlsSection, file: str) -> None:
    with pytest.raises(ConfigError, match=rf"uplink\.tls\.key: .*{file} are not a certificate and its unencrypted key"):
        load_tls(msgspec.structs.replace(tls, key=file), tmp_path.joinpath, "gate.toml: uplink.tls")


def validator(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "validator", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_line_ends_in_one_line_and_a_code(tmp_path: Path) -> None:
    missing = validator("check", "--config", str(tmp_path / "gate.toml"))
    assert missing.returncode == os.EX_CONFIG
    assert missing.stderr == f"validator: {tmp_path}/gate.toml: no such file; give the path of a configuration file\n"
    wrong = validator("run", "--config", str(write(tmp_path, GOOD.replace("nfcpy:usb", "magic"))))
    assert wrong.returncode == os.EX_CONFIG
    assert "reader 'magic': use nfcpy:usb" in wrong.stderr


def test_check_names_lists_that_are_missing(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    write_key(tmp_path / "device.pem", key)
    (tmp_path / "publisher.pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "state").mkdir()
    done = validator("check", "--config", str(write(tmp_path)))
    assert done.returncode == os.EX_DATAERR
    assert "no trust or deny or tickets list is installed" in done.stderr


@pytest.mark.parametrize(
    ("position", "told"),
    [
        ('time_zone = "Mars/Olympus"', "position.time_zone: no time zone 'Mars/Olympus'"),
        ('time_zone = "../etc"', "position.time_zone: no time zone"),
        ('feed = "position.json"\nzones = ["A"]', "leave out zones and network, or the feed"),
        ('lane = "out"', "'out'"),
    ],
)
def test_a_position_that_makes_no_sense_is_told(tmp_path: Path, position: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        gate_file.load(write(tmp_path, f"{GOOD}\n[position]\n{position}\n"))
    assert told in str(refused.value)
