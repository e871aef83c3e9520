"""The units: how far they are open, whether systemd understands them, and whether the program works inside them."""

import ctypes
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.missing import missing, program
from validator.operator_keys import FOLDER_PREFIX

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
UNITS = ["validator.service", "uplink.service", "announce.service"]
PLACES = ["pilet", "pilet-office"]
"""What is installed on a gate, and on the back office's machine."""
MOST_EXPOSED = "20"  # in tenths: 2.0
PREFIX = "/usr/lib/pilet/bin/"
PR_GET_MDWE = 66


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)


class Unit:
    """A unit file, or another of systemd's INI files, with the keys that may come more than once."""

    def __init__(self, path: Path) -> None:
        self.assignments = re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE)

    def all(self, key: str) -> list[str]:
        return [value for name, value in self.assignments if name == key]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_at_most_two(unit: str) -> None:
    analyze = program("systemd-analyze")
    done = run(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(SYSTEMD / unit))
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def test_the_exposure_check_can_fail(tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    plain = tmp_path / "plain.service"
    plain.write_text("[Service]\nExecStart=/bin/true\n")
    done = run(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(plain))
    assert done.returncode != 0


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    text = (SYSTEMD / unit).read_text()
    assert PREFIX in text
    # It insists that the program is there; the rest is checked as it stands.
    for name in ("validator", "backend-sync"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / unit).write_text(text.replace(PREFIX, f"{tmp_path}/"))
    done = run(analyze, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_announcer_has_no_device_and_nothing_of_a_gate() -> None:
    unit = Unit(SYSTEMD / "announce.service")
    assert (unit.one("PrivateDevices"), unit.one("DevicePolicy")) == ("yes", "closed")
    assert (unit.one("Type"), unit.one("NotifyAccess")) == ("notify", "main")
    assert unit.one("User") == unit.one("Group") == "pilet-office"
    assert "gate.toml" not in (SYSTEMD / "announce.service").read_text()


def test_the_validator_has_no_network_and_the_uplink_no_device() -> None:
    validator, uplink = Unit(SYSTEMD / "validator.service"), Unit(SYSTEMD / "uplink.service")
    assert validator.one("PrivateNetwork") == "yes"
    assert validator.one("IPAddressDeny") == "any"
    assert "INET" not in validator.one("RestrictAddressFamilies")
    assert uplink.one("PrivateDevices") == "yes"
    assert uplink.all("DeviceAllow") == []
    for unit in (validator, uplink):
        assert unit.one("DevicePolicy") == "closed"
        assert (unit.one("Type"), unit.one("NotifyAccess")) == ("notify", "main")
    assert validator.one("User") != uplink.one("User")
    assert validator.one("Group") == uplink.one("Group") == "pilet"


def test_units_users_and_folders_agree() -> None:
    sysusers = "".join((SYSTEMD / f"{name}.sysusers").read_text() for name in PLACES)
    made = {
        path: (mode, user, group)
        for path, mode, user, group in re.findall(r"^d (\S+)\s+(\S+)\s+(\S+)\s+(\S+)$", _tmpfiles(), re.MULTILINE)
    }
    for name in UNITS:
        unit = Unit(SYSTEMD / name)
        assert re.search(rf"^u {unit.one('User')}\s+-:{unit.one('Group')} ", sysusers, re.MULTILINE)
        for group in unit.all("SupplementaryGroups"):
            assert re.search(rf"^g {group}\s", sysusers, re.MULTILINE)
        for folder in unit.one("StateDirectory").split():
            assert made[f"/var/lib/{folder}"] == (unit.one("StateDirectoryMode"), unit.one("User"), unit.one("Group"))
    # What the uplink writes is inside what the validator could write, so it is taken out again.
    uplink_writes = {f"/var/lib/{folder}" for folder in Unit(SYSTEMD / "uplink.service").one("StateDirectory").split()}
    shut = {path.removeprefix("-") for path in Unit(SYSTEMD / "validator.service").one("ReadOnlyPaths").split()}
    assert shut == uplink_writes


def test_folders_of_credentials_are_there_and_nobody_else_s() -> None:
    """A folder that is missing keeps a unit from starting, also where no credential is in it."""
    made = dict(re.findall(r"^d (\S+)\s+(0\d+ root\s+root)$", _tmpfiles(), re.MULTILINE))
    for name in UNITS:
        for credential in Unit(SYSTEMD / name).all("LoadCredentialEncrypted"):
            _, path = credential.split(":")
            folder = path if path in made else str(Path(path).parent)
            assert made[folder].split() == ["0700", "root", "root"], credential


def test_operator_keys_are_loaded_under_the_names_that_the_validator_looks_for() -> None:
    loaded = dict(
        credential.split(":") for credential in Unit(SYSTEMD / "validator.service").all("LoadCredentialEncrypted")
    )
    assert loaded["operator"] == "/etc/pilet/operator-keys"
    assert FOLDER_PREFIX == "operator_"  # systemd.exec(5): the folder's ID, an underscore, the file's name
    readme = (SYSTEMD / "README.md").read_text()
    sealed = re.findall(r"systemd-creds (?:en|de)crypt --name=(operator_\S+) (?:- )?(\S+)", readme)
    assert len(sealed) == 2
    assert all(name == FOLDER_PREFIX + file for name, file in sealed)


def test_users_and_folders_can_be_made_and_made_again(tmp_path: Path) -> None:
    sysusers, tmpfiles = program("systemd-sysusers"), program("systemd-tmpfiles")
    if os.geteuid() != 0:
        missing("only root may give files to other users")
    (tmp_path / "etc").mkdir()
    for _ in range(2):
        for name in PLACES:
            done = run(sysusers, f"--root={tmp_path}", str(SYSTEMD / f"{name}.sysusers"))
            assert done.returncode == 0, done.stdout
            done = run(tmpfiles, "--create", f"--root={tmp_path}", str(SYSTEMD / f"{name}.tmpfiles"))
            assert (done.returncode, done.stdout) == (0, "")
    ids = dict(re.findall(r"^(\S+?):x:(\d+):", (tmp_path / "etc/passwd").read_text(), re.MULTILINE))
    state = (tmp_path / "var/lib/pilet").stat()
    assert (oct(state.st_mode & 0o7777), state.st_uid) == ("0o2750", int(ids["pilet-validator"]))


def test_every_line_of_the_units_is_explained() -> None:
    readme = (SYSTEMD / "README.md").read_text()
    plain = {"Description", "Documentation", "After", "ExecStart", "WantedBy", "TimeoutStartSec", "TimeoutStopSec"}
    plain |= {"RestartSec", "SupplementaryGroups", "StateDirectoryMode"}
    used = {key for unit in UNITS for key, _ in Unit(SYSTEMD / unit).assignments} - plain
    assert {key for key in used if f"{key}=" not in readme} == set()


def _tmpfiles() -> str:
    return "".join((SYSTEMD / f"{name}.tmpfiles").read_text() for name in PLACES)


def _python(code: str, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter; `before` runs in another one, which then becomes that one."""
    code = textwrap.dedent(code)
    if before:
        code = (
            textwrap.dedent(before) + f"\nimport os, sys\nos.execv(sys.executable, [sys.executable, '-c', {code!r}])\n"
        )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_program_needs_no_memory_that_is_writable_and_executable() -> None:
    """What `MemoryDenyWriteExecute=` forbids is forbidden here by the kernel's own switch, which exec inherits."""
    if ctypes.CDLL(None).prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0:
        missing("this kernel cannot deny writable and executable memory (PR_SET_MDWE, Linux 6.3)")
    done = _python(
        """
        import ctypes, mmap
        try:
            mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        except PermissionError:
            pass
        else:
            raise SystemExit("the switch does not work")
        import aiomqtt, apsw, gpiozero, msgpack, msgspec, nfc.clf, serial, sqlalchemy, structlog, typer, usb1
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        key = Ed25519PrivateKey.generate()
        key.public_key().verify(key.sign(b"tap"), b"tap")
        assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number + 1)(41) == 42
        assert apsw.Connection(":memory:").execute("SELECT 1").get == 1
        """,
        before="""
        import ctypes
        assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
        """,
    )
    assert (done.returncode, done.stdout) == (0, "")
