"""``python -m hardware.virtual present`` with a card of each family: who believes it, what it tells, how it ends."""

import asyncio
import datetime as dt
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backend_sync.demo.media import Operator
from hardware.virtual import __main__ as command
from hardware.virtual.card_files import Profile
from tests.describing import Described, describe, shared_uid_key
from tests.hardware.pcd import Pcd
from validator.families import OPERATOR_FAMILIES
from validator.profiles import ntag424, pkoc1, ultralight_aes

ROOT = Path(__file__).parents[2]
GET_UID = bytes.fromhex("FFCA000000")


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator.create(tmp_path / "operator", dt.datetime.now(dt.UTC))


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program whose output is piped, errors and all; it is told to go, if it has not gone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def output(process: asyncio.subprocess.Process) -> str:
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return out.decode()


async def presented_and_read(card: Described, operator: Operator, *options: str) -> tuple[str, dict[str, Any]]:
    """Hold a card on the air, read it, and take it away: what it told, and what the desk found."""
    air = f"127.0.0.1:{free_udp_port()}"
    present = ["-m", "hardware.virtual", "present", card.family, *card.arguments, "--air", air, *options]
    desk = ["--trust", str(operator.trust), "--keys", str(operator.key_directory), "--family", card.family]
    read = ["-m", "validator", "read", "--reader", f"nfcpy:udp:{air}", *desk, "--wait", "20", "--json"]
    async with running(*present) as held:
        assert held.stdout is not None
        told = (await asyncio.wait_for(held.stdout.readline(), 30)).decode()
        assert "presented" in told
        async with running(*read) as reading:
            found: dict[str, Any] = json.loads(await output(reading))
        held.terminate()
        told += await output(held)
    return told, found


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class CommandLine:
    """Runs the command in this process, to the end that it makes by itself."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, family: str, options: dict[str, str]) -> tuple[int, str]:
        """The exit code, and what was said: on one line, since people get it in a frame."""
        given = [part for option in options.items() for part in option if part]
        self._monkeypatch.setattr(sys, "argv", ["hardware.virtual", "present", family, *given])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert isinstance(end.value.code, int)
        out, errors = self._capsys.readouterr()
        return end.value.code, " ".join((out + errors).split())


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Described]:
    """A card of each family, and its options."""
    folder = tmp_path_factory.mktemp("cards")
    operator = Operator.create(folder / "operator", dt.datetime.now(dt.UTC))
    return {family: describe(operator, family, folder / family) for family in OPERATOR_FAMILIES}


@pytest.mark.parametrize("family", list(OPERATOR_FAMILIES))
async def test_a_gate_believes_the_card_that_was_described(operator: Operator, tmp_path: Path, family: str) -> None:
    card = describe(operator, family, tmp_path / "card")
    told, found = await presented_and_read(card, operator, "--json")
    assert (found["verdict"], found["profile"], found["assurance"]) == ("authentic", family, "CHIP")
    assert found["credential_id"] == card.credential_id.hex()
    first, *heard, last = map(json.loads, told.splitlines())
    assert (first["event"], first["profile"]) == ("presented", family)
    assert last == {"event": "removed", "apdus": len(heard)}
    assert len(heard) >= found["apdus"]
    for event in heard:
        assert event.keys() == {"event", "ins", "bytes_in", "bytes_out", "sw", "compute_ms"}, "sizes, never data"
        assert len(event["ins"]) == 2
    for secret in card.secrets:
        assert secret.upper() not in told.upper()


async def test_what_people_read_holds_no_secrets_either(operator: Operator, tmp_path: Path) -> None:
    card = describe(operator, ntag424.NAME, tmp_path / "card")
    told, found = await presented_and_read(card, operator)
    assert found["verdict"] == "authentic"
    assert told.startswith("presented profile=ntag424 key=AES-128 where=air:127.0.0.1:")
    for secret in card.secrets:
        assert secret.upper() not in told.upper()


async def test_a_tag_that_hides_its_uid_is_believed(operator: Operator, tmp_path: Path) -> None:
    card = describe(operator, ultralight_aes.NAME, tmp_path / "card")
    hiding = ["--random-uid", "--uid-key-file", shared_uid_key(operator, tmp_path)]
    _, found = await presented_and_read(card, operator, *hiding)
    assert (found["verdict"], found["credential_id"]) == ("authentic", card.credential_id.hex())


async def test_a_card_whose_key_is_another_cards_is_not_believed(operator: Operator, tmp_path: Path) -> None:
    """The file of one card under the UID of another: the keys are each derived for one UID."""
    one, other = (describe(operator, ntag424.NAME, tmp_path / name) for name in ("one", "other"))
    mixed = Described(one.family, {**one.options, "--uid": other.options["--uid"]}, one.credential_id, ())
    _, found = await presented_and_read(mixed, operator)
    assert (found["verdict"], found["assurance"]) == ("KEY_NOT_HERE", None)


@pytest.mark.parametrize("family", [pkoc1.NAME, ntag424.NAME])
async def test_the_reader_is_given_the_uid_and_the_card_is_not_asked(
    operator: Operator, tmp_path: Path, family: str
) -> None:
    uid = bytes.fromhex("04A1B2C3D4E5F6")
    card = describe(operator, family, tmp_path / "card")
    options = {**card.options, "--uid": uid.hex()}
    arguments = [part for option in options.items() for part in option]
    pcd = Pcd()
    await pcd.listen()
    present = ["-m", "hardware.virtual", "present", family, *arguments, "--vpcd", f"127.0.0.1:{pcd.port}", "--json"]
    async with running(*present) as held:
        slot = await asyncio.wait_for(pcd.cards.get(), 30)
        assert await slot.ask(GET_UID) == uid + b"\x90\x00"
        assert len(await slot.ask(bytes.fromhex("00A4040000"))) == 2
        held.terminate()
        told = await output(held)
        await slot.close()
    await pcd.unplug()
    assert [json.loads(line)["event"] for line in told.splitlines()] == ["presented", "apdu", "removed"]


async def test_a_uid_without_need_is_what_anticollision_shows(operator: Operator, tmp_path: Path) -> None:
    card = describe(operator, pkoc1.NAME, tmp_path / "card")
    air = free_udp_port()
    present = ["present", card.family, *card.arguments, "--uid", "11223344", "--air", f"127.0.0.1:{air}"]
    async with running("-m", "hardware.virtual", *present) as held:
        assert held.stdout is not None
        await asyncio.wait_for(held.stdout.readline(), 30)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
            reader.settimeout(10)
            reader.sendto(b"106A 26", ("127.0.0.1", air))
            assert reader.recv(300) == b"106A 0400"
            reader.sendto(b"106A 9320", ("127.0.0.1", air))
            assert reader.recv(300) == b"106A 1122334444"


@pytest.mark.parametrize(
    ("family", "changed", "why"),
    [
        ("piv-sm", {"--cvc": None}, "secure messaging needs --sm-key and --cvc"),
        ("piv-sm", {"--sm-key": None}, "secure messaging needs --sm-key and --cvc"),
        ("piv-sm", {"--cert": None}, "needs --key and --cert, or --p12"),
        ("piv", {"--cvc": "cvc"}, "piv has no use for --cvc: leave it out"),
        ("piv", {"--uid": "04A1B2"}, "a UID has 4, 7 or 10 bytes, not 3"),
        ("piv", {"--uid": "04A1B2C3D4E5F6", "--type": "B"}, "a type B card has an identifier of (4,) bytes"),
        ("pkoc1", {"--key": None}, "a pkoc1 card needs --key"),
        ("pkoc1", {"--cvc": "cvc"}, "pkoc1 has no use for --cvc: leave it out"),
        ("pkoc1", {"--model": "cosmo64-v5.4"}, "has no figure for P-256"),
        ("pkoc2", {"--cvc": None}, "a pkoc2 card needs --key and --cvc"),
        ("ntag424", {"--uid": None}, "needs --uid, --card-key-file and --token"),
        ("ntag424", {"--card-key-file": None}, "needs --uid, --card-key-file and --token"),
        ("ntag424", {"--token": None}, "needs --uid, --card-key-file and --token"),
        ("ntag424", {"--uid": "04A1B2C3"}, "a UID of 4 bytes: it has 7"),
        ("ntag424", {"--uid": "04:A1"}, "Invalid value for --uid: not hexadecimal"),
        ("ntag424", {"--token": "C0FFEE"}, "a token of 3 bytes: it has 16"),
        ("ntag424", {"--token": "C0FFEEx"}, "Invalid value for --token: not hexadecimal"),
        ("ntag424", {"--model": "jcop4-p71"}, "ntag424 has no use for --model: leave it out"),
        ("ntag424", {"--type": "B"}, "a type B card has an identifier of (4,) bytes, not 7"),
        ("ultralight-aes", {"--token": None}, "needs --uid, --card-key-file and --token"),
        ("ultralight-aes", {"--token": "C0FFEE00"}, "a token of 4 bytes: it has 16"),
        ("ultralight-aes", {"--random-uid": ""}, "needs --uid-key-file"),
        ("ultralight-aes", {"--type": "B"}, "held against the air, and speaks type A"),
        ("ultralight-aes", {"--vpcd": "127.0.0.1:2"}, "held against the air, and speaks type A"),
        ("ultralight-aes", {"--pin-file": __file__}, "has no use for --pin-file: leave it out"),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    line: CommandLine, described: dict[str, Described], family: str, changed: dict[str, str | None], why: str
) -> None:
    card = described[family]
    options = {**({} if "--vpcd" in changed else {"--air": "127.0.0.1:1"}), **card.options, **changed}
    code, said = line.run(family, {option: value for option, value in options.items() if value is not None})
    assert code == os.EX_USAGE
    assert why in said
    for secret in card.secrets:
        assert secret.upper() not in said.upper()


@pytest.mark.parametrize("family", ["esteid2018", "esteid2025"])
@pytest.mark.parametrize("options", [{"--air": "127.0.0.1:1"}, {"--vpcd": "127.0.0.1:2", "--can": "123456"}])
def test_an_estonian_card_asks_for_its_number_on_the_air_alone(
    line: CommandLine, family: str, options: dict[str, str]
) -> None:
    code, said = line.run(family, options)
    assert code == os.EX_USAGE
    assert "takes --can on the air, and none at its contacts" in said
    assert "123456" not in said


def test_a_family_that_nobody_made_ends_with_64(line: CommandLine) -> None:
    code, said = line.run("desfire", {})
    assert code == os.EX_USAGE
    assert f"'desfire' is not one of {', '.join(repr(profile.value) for profile in Profile)}" in said


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("--sm-key", ("piv-sm", b"junk", "no private key could be read")),
        ("--cvc", ("piv-sm", b"-----BEGIN CERTIFICATE-----", "not the octets of a card-verifiable certificate")),
        ("--cvc", ("piv-sm", None, "No such file or directory")),
        ("--key", ("pkoc1", b"junk", "no private key could be read")),
        ("--cvc", ("pkoc2", b"", "not the octets of a card-verifiable certificate")),
        ("--cvc", ("pkoc2", bytes.fromhex("7F2105AABB"), "not the octets of a card-verifiable certificate")),
        ("--key", ("pkoc2", None, "No such file or directory")),
        ("--card-key-file", ("ntag424", bytes(16), "an AES key has 32 hexadecimal digits")),
        ("--card-key-file", ("ntag424", b"C0FFEE" * 5, "an AES key has 32 hexadecimal digits")),
        ("--card-key-file", ("ntag424", b"C0FFEE" * 6, "an AES key has 32 hexadecimal digits")),
        ("--card-key-file", ("ntag424", "Ä".encode(), "an AES key has 32 hexadecimal digits")),
        ("--card-key-file", ("ntag424", None, "No such file or directory")),
        ("--card-key-file", ("ultralight-aes", b"C0FFEE", "an AES key has 32 hexadecimal digits")),
        ("--uid-key-file", ("ultralight-aes", b"C0FFEE", "an AES key has 32 hexadecimal digits")),
        ("--uid-key-file", ("ultralight-aes", None, "No such file or directory")),
        ("--password-file", ("pkoc1", b"s\xffsame", "not text")),
    ],
)
def test_a_wrong_file_ends_with_65(
    line: CommandLine,
    described: dict[str, Described],
    tmp_path: Path,
    option: str,
    wrong: tuple[str, bytes | None, str],
) -> None:
    family, content, why = wrong
    card = described[family]
    file = tmp_path / "wrong"
    if content is not None:
        file.write_bytes(content)
    code, said = line.run(family, {"--air": "127.0.0.1:1", **card.options, option: str(file)})
    assert code == os.EX_DATAERR
    assert said.startswith(f"hardware.virtual: {file}: ")
    assert why in said
    for secret in (*card.secrets, "C0FFEE"):
        assert secret.upper() not in said.upper()


def test_a_password_for_a_clear_key_ends_with_65(
    line: CommandLine, described: dict[str, Described], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    card = described[pkoc1.NAME]
    options = {"--air": "127.0.0.1:1", **card.options, "--password-file": str(tmp_path / "password")}
    code, said = line.run(pkoc1.NAME, options)
    assert code == os.EX_DATAERR
    assert f"{card.options['--key']}: no private key could be read" in said
    assert "sesame" not in said
