"""``python -m hardware.virtual present``: what it says, how it ends, and what it answers to a wrong command line."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from hardware.virtual import __main__ as command
from hardware.virtual import vpcd
from hardware.virtual.timing import KeyType
from tests.hardware.pcd import Pcd
from tests.issuing import IssuedCard

ROOT = Path(__file__).parents[2]
SELECT = bytes.fromhex("00A4040009A0000003080000100000")


@pytest.fixture
def files(issued: Callable[[KeyType], IssuedCard], tmp_path: Path) -> dict[str, str]:
    card = issued(KeyType.P_256)
    contents = {
        "key": card.key_pem,
        "cert": card.pem,
        "p12": pkcs12.serialize_key_and_certificates(
            b"card", card.key, card.certificate, None, BestAvailableEncryption(b"open sesame")
        ),
        "password": b"open sesame\nsecond line\n",
        "pin": b"123456\n",
        "junk": b"junk",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in [*contents, "absent"]}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hardware.virtual", "present", "piv", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hardware.virtual", "present", "piv", "--json", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def events(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("", "a card needs --key and --cert, or --p12"),
        ("--key {key}", "a card needs --key and --cert, or --p12"),
        ("--key {key} --cert {cert} --p12 {p12}", "a card needs --key and --cert, or --p12"),
        ("--key {key} --cert {cert} --air 127.0.0.1:1 --vpcd 127.0.0.1:2", "held against one reader"),
        ("--key {key} --cert {cert} --vpcd 127.0.0.1:2 --type B", "belong to the air"),
        ("--key {key} --cert {cert} --air nowhere", "is not HOST:PORT"),
        ("--key {key} --cert {cert} --air 127.0.0.1:65536", "is not HOST:PORT"),
        ("--key {key} --cert {cert} --model jcop9", "unknown card model"),
        ("--key {key} --cert {cert} --model cosmo64-v5.4", "has no figure for P-256"),
        ("--key {key} --cert {cert} --model jcop4-p71 --fwi 2", "FWI 2 is shorter"),
        ("--key {key} --cert {cert} --pin-file {password}", "6 to 8 decimal digits"),
        ("--key {key} --cert {cert} --type C", "Invalid value"),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
    arguments: str,
    why: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run(monkeypatch, *arguments.format(**files).split()) == os.EX_USAGE
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("--key {absent} --cert {cert}", "absent: No such file"),
        ("--key {key} --cert {junk}", "junk: no certificate could be read"),
        ("--p12 {p12}", "the password is wrong"),
        ("--p12 {p12} --password-file {absent}", "absent: "),
    ],
)
def test_a_file_that_makes_no_card_ends_with_65(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str],
    arguments: str,
    why: str,
) -> None:
    assert run(monkeypatch, *arguments.format(**files).split()) == os.EX_DATAERR
    assert why in capsys.readouterr().err


def test_where_nothing_listens_it_ends_with_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    monkeypatch.setattr(vpcd, "_RETRY_S", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused for sure
        port = taken.getsockname()[1]
        arguments = ["--p12", files["p12"], "--password-file", files["password"], "--vpcd", f"127.0.0.1:{port}"]
        assert run(monkeypatch, *arguments) == os.EX_UNAVAILABLE
    assert "no virtual reader listens" in capsys.readouterr().err


def test_where_the_air_is_taken_it_ends_with_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        arguments = ["--key", files["key"], "--cert", files["cert"], "--air", f"127.0.0.1:{port}"]
        assert run(monkeypatch, *arguments) == os.EX_UNAVAILABLE
    assert "choose another address" in capsys.readouterr().err


def test_a_card_for_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: dict[str, str]
) -> None:
    port = free_udp_port()
    arguments = ["--key", files["key"], "--cert", files["cert"], "--air", f"127.0.0.1:{port}", "--model", "jcop4-p71"]
    assert run(monkeypatch, *arguments, "--seconds", "0.01", "--json") == 0
    presented, removed = events(capsys.readouterr().out)
    assert presented == {
        "event": "presented",
        "profile": "piv",
        "where": f"air:127.0.0.1:{port}",
        "key": "P-256",
        "model": "jcop4-p71",
    }
    assert removed == {"event": "removed", "apdus": 0}


@pytest.mark.parametrize(("technology", "poll"), [("A", "26"), ("B", "050000")])
def test_a_card_on_the_air_until_it_is_told_to_go(files: dict[str, str], technology: str, poll: str) -> None:
    port = free_udp_port()
    where = ["--air", f"127.0.0.1:{port}", "--type", technology]
    with start("--key", files["key"], "--cert", files["cert"], *where) as card:
        assert card.stdout is not None
        assert json.loads(card.stdout.readline())["event"] == "presented"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
            reader.settimeout(10)
            reader.sendto(f"106{technology} {poll}".encode(), ("127.0.0.1", port))
            answer = reader.recv(300)
        card.send_signal(signal.SIGTERM)
        output, _ = card.communicate(timeout=20)
    assert answer.startswith(f"106{technology} ".encode())
    assert card.returncode == 0
    assert events(output) == [{"event": "removed", "apdus": 0}]


async def test_a_card_that_leaves_when_it_was_read(files: dict[str, str]) -> None:
    pcd = Pcd()
    await pcd.listen()
    p12 = ["--p12", files["p12"], "--password-file", files["password"], "--pin-file", files["pin"]]
    with start(*p12, "--vpcd", f"127.0.0.1:{pcd.port}", "--once") as card:
        slot = await pcd.inserted()
        assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
        assert await slot.ask(bytes.fromhex("00200080")) == b"\x63\xc3"
        output, _ = await asyncio.to_thread(card.communicate, timeout=20)
        await slot.close()
    await pcd.unplug()
    assert card.returncode == 0
    told = events(output)
    assert [event["event"] for event in told] == ["presented", "apdu", "apdu", "removed"]
    assert told[1] == {
        "event": "apdu",
        "ins": "A4",
        "bytes_in": 15,
        "bytes_out": 26,
        "sw": "9000",
        "compute_ms": 0.0,
    }


async def test_a_torn_card_ends_the_command(files: dict[str, str]) -> None:
    pcd = Pcd()
    await pcd.listen()
    where = ["--vpcd", f"127.0.0.1:{pcd.port}", "--tear-after", "1"]
    with start("--key", files["key"], "--cert", files["cert"], *where) as card:
        slot = await pcd.inserted()
        assert (await slot.ask(SELECT)).endswith(b"\x90\x00")
        with pytest.raises(asyncio.IncompleteReadError):
            await slot.ask(SELECT)
        output, _ = await asyncio.to_thread(card.communicate, timeout=20)
        await slot.close()
    await pcd.unplug()
    assert card.returncode == 0
    assert events(output)[-1] == {"event": "removed", "apdus": 1}
