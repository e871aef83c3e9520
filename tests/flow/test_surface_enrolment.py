"""``validator enrol-surface`` over nfcpy's air: from a card at a desk to a gate that opens for it, and what not."""

import asyncio
import errno
import fcntl
import io
import json
import os
import stat
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from backend_sync.__main__ import app as office
from backend_sync.demo.depot import PLACE, REGION
from backend_sync.key_files import named_keys
from hardware.apdu import CommandApdu
from hardware.gate import Signal
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.chip import Chip
from hardware.virtual.mynumber import SURFACE as APPLICATION
from hardware.virtual.mynumber import MynumberChip, age_record
from tests.flow.lane import HOUR_S, Lane, open_lane
from tests.flow.national_cards import estonia, estonian, logging_as_before
from tests.validator.dual_interface_cards import IDEMIA
from tests.validator.estonian_cards import chip_of
from tests.validator.mynumber_cards import (
    BIRTH_DATE,
    BIRTH_DIGITS,
    IDENTIFICATION,
    NUMBER,
    ROOT,
    ROOT_ID,
    STRANGER,
    SURFACE,
    TOWN,
    chip,
)
from validator import config as gate_file
from validator import surface_enrolment
from validator.__main__ import EXITS, app
from validator.certificates import credential_id, spki_of, token_id
from validator.commandline import run_app
from validator.lists import installed
from validator.model import Reason
from validator.profiles import mynumber_surface
from validator.rights import Product, ProductKind
from validator.surface_command import HEADING, EnrolledFile, EnrolmentFileError, NotEnrolledError

NAME = token_id(mynumber_surface.NAME, IDENTIFICATION)
KEY = spki_of(SURFACE().public_key())
LINE = f"{NAME.hex()},{KEY.hex()}\n".encode()
OTHER_NAME, OTHER_KEY = bytes(range(16)), spki_of(STRANGER().public_key())
WRONG = "19890109"
PRIVATE = (BIRTH_DATE, BIRTH_DIGITS, WRONG, NUMBER, IDENTIFICATION.decode(), IDENTIFICATION.hex(), NAME.hex())
TRIES = 10
BIRTH_DATE_FILE = 0x0011


@dataclass(frozen=True)
class Said:
    """How the command ended, and all that it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Counter:
    """A desk: the folder of keys of J-LIS, and the file that it fills."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, root: rsa.RSAPublicKey | None = None) -> "Counter":
        (folder / "roots").mkdir()
        (folder / "roots" / f"{ROOT_ID.hex()}.pem").write_bytes(pem(root or ROOT().public_key()))
        return cls(folder)

    @property
    def file(self) -> Path:
        return self.folder / "surface.csv"

    @property
    def roots(self) -> Path:
        return self.folder / "roots"

    async def enrol(
        self,
        card: Chip | None,
        *options: str,
        told: str = BIRTH_DATE,
        tear_after: int | None = None,
        technology: Technology = Technology.TYPE_B,
    ) -> Said:
        """Run the command beside a card; nothing private may be said, whatever comes of it."""
        air = await Field.open()
        try:
            if card is not None:
                # A busy machine signs slowly; a card that leaves is missed all the sooner.
                air.place(AirCard(card, technology, tear_after=tear_after, fwi=12 if tear_after is None else 8))
            given = ["enrol-surface", "--reader", "nfcpy:udp:{}:{}".format(*air.address), "--roots", str(self.roots)]
            given += ["--out", str(self.file), "--birth-date", told, "--wait", "20", *options]
            with logging_as_before():
                said = await asyncio.to_thread(ran, given)
        finally:
            await air.close()
        leaked = [each for each in PRIVATE if each in said.out + said.err]
        assert leaked == []
        return said


def ran(given: list[str]) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        run_app(partial(app, given), "validator", EXITS)
    assert isinstance(end.value.code, int)
    return Said(end.value.code, out.getvalue(), err.getvalue())


def pem(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def tries_left(card: MynumberChip) -> int:
    at_the_birth_date(card)
    answer = card.process(bytes(CommandApdu(0x00, 0x20, 0x00, 0x80))).response
    assert answer is not None
    card.reset()
    return answer[1] & 0x0F


def at_the_birth_date(card: MynumberChip) -> None:
    card.process(bytes(CommandApdu(0x00, 0xA4, 0x04, 0x0C, APPLICATION)))
    card.process(bytes(CommandApdu(0x00, 0xA4, 0x02, 0x0C, BIRTH_DATE_FILE.to_bytes(2))))


def with_tries(tries: int) -> MynumberChip:
    card = chip()
    at_the_birth_date(card)
    for _ in range(TRIES - tries):
        card.process(bytes(CommandApdu(0x00, 0x20, 0x00, 0x80, b"640107")))
    card.reset()
    return card


@pytest.fixture
def desk(tmp_path: Path) -> Counter:
    return Counter.make(tmp_path)


async def opened(lane: Lane, card: Chip) -> tuple[Reason, bool]:
    report = await lane.tap(card, Technology.TYPE_B)
    return report.tap.reason, report.signal is Signal.GRANT


async def test_a_card_that_a_desk_enrolled_opens_a_gate(desk: Counter) -> None:
    """The whole way, by the commands that people type; before it the same card opens nothing."""
    async with open_lane(desk.folder / "lane", families=[mynumber_surface.NAME]) as lane:
        start = int(lane.now.timestamp()) - HOUR_S
        ticket = Product(
            100,
            ProductKind.PERIOD_PASS,
            valid_from=start,
            valid_until=start + 24 * HOUR_S,
            active_from=start,
            places=frozenset({PLACE}),
        )
        publish(lane, empty=True)
        assert await opened(lane, chip()) == (Reason.NOT_ENROLLED, False)

        card = chip()
        said = await desk.enrol(card, "--json")
        assert (said.code, said.err, card.tripped, tries_left(card)) == (0, "", [], TRIES)
        found: dict[str, Any] = json.loads(said.out)
        assert found == {"event": "enrolled", "credential_id": credential_id(KEY).hex(), "file": str(desk.file)}

        lane.depot.sell([(bytes.fromhex(found["credential_id"]), ticket)], lane.now)
        lane.publish()
        publish(lane, "--named", str(desk.file))
        assert await opened(lane, chip()) == (Reason.VALID, True)
        assert await opened(lane, chip(surface_key=STRANGER())) == (Reason.WRONG_SIGNATURE, False)


def publish(lane: Lane, *named: str, empty: bool = False) -> None:
    """Publish the enrolled keys by the office's own command, and install them at the gate."""
    given = ["publish", "enrolled", *named, "--config", str(lane.depot.office_toml), *(["--empty"] if empty else [])]
    with logging_as_before():
        done = CliRunner().invoke(office, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lane.depot.install()
    keys = gate_file.load(lane.depot.gate_toml).publisher_keys()
    lane.station.adopt(installed.load(lane.depot.state / "lists", keys, REGION, lane.station.lists))


async def test_people_are_told_what_was_reached_and_what_comes_next(desk: Counter) -> None:
    said = await desk.enrol(chip())
    assert (said.code, said.err) == (0, "")
    next_step = f"next: backend-sync publish enrolled --named {desk.file}"
    for words in ("hold the MyNumber card", "the chip holds the key", f"added to {desk.file}", next_step):
        assert words in said.out
    assert stat.S_IMODE(desk.file.stat().st_mode) == 0o600
    assert desk.file.read_bytes() == HEADING + LINE
    assert list(named_keys(desk.file)) == [(NAME, KEY)]


@pytest.mark.parametrize("told", [BIRTH_DATE, BIRTH_DIGITS, BIRTH_DIGITS + "20352285"])
async def test_the_birth_date_is_asked_for(desk: Counter, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(told + "\n"))
    said = await desk.enrol(chip(), told="-")
    assert (said.code, desk.file.read_bytes()) == (0, HEADING + LINE)


async def test_a_terminal_does_not_show_it(desk: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", Terminal())

    def hidden(question: str) -> str:
        asked.append(question)
        return BIRTH_DATE

    monkeypatch.setattr("getpass.getpass", hidden)
    assert (await desk.enrol(chip(), told="-")).code == 0
    assert asked == ["Birth date of the card's holder (YYYYMMDD): "]


async def test_the_birth_date_is_wiped_however_it_ends(desk: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytearray] = []
    true = surface_enrolment.opening_digits

    def watched(told: str) -> bytearray:
        made.append(true(told))
        return made[-1]

    monkeypatch.setattr(surface_enrolment, "opening_digits", watched)
    for card, told, tear_after in ((chip(), BIRTH_DATE, None), (chip(), WRONG, None), (chip(), BIRTH_DATE, 5)):
        await desk.enrol(card, told=told, tear_after=tear_after)
    await desk.enrol(None, "--wait", "0.1")
    assert made == [bytearray(6)] * 4


async def test_a_card_that_is_there_changes_nothing(desk: Counter) -> None:
    assert (await desk.enrol(chip())).code == 0
    before = desk.file.read_bytes()
    said = await desk.enrol(chip(), "--json")
    assert (said.code, json.loads(said.out)["event"], desk.file.read_bytes()) == (0, "known", before)
    assert "nothing was changed" in (await desk.enrol(chip())).out


async def test_another_key_under_the_same_number_is_refused(desk: Counter) -> None:
    assert (await desk.enrol(chip())).code == 0
    record = age_record(BIRTH_DATE, STRANGER().public_key(), TOWN())
    said = await desk.enrol(chip(surface_key=STRANGER(), record=record))
    assert said.code == os.EX_NOPERM
    assert f"{desk.file}, line 2: another key is enrolled under this card's number: enrol neither" in said.err
    assert desk.file.read_bytes() == HEADING + LINE


async def test_a_key_takes_one_number(desk: Counter) -> None:
    assert (await desk.enrol(chip())).code == 0
    said = await desk.enrol(chip(identification=b"4AB00000000018"))
    assert (said.code, desk.file.read_bytes()) == (os.EX_NOPERM, HEADING + LINE)
    assert "line 2: this card's key is enrolled under another number" in said.err


REFUSED: list[tuple[str, Callable[[], MynumberChip], str, str, int]] = [
    ("a wrong birth date", chip, WRONG, "9 tries are left: ask its holder again", 9),
    ("a wrong one with two tries left", lambda: with_tries(2), WRONG, "one try is left, and it is not spent here", 1),
    ("one try left", lambda: with_tries(1), BIRTH_DATE, "the birth date was not shown to it", 1),
    ("no tries left", lambda: with_tries(0), BIRTH_DATE, "its municipality resets the tries", 0),
    (
        "a record that another signed",
        lambda: chip(record=age_record(BIRTH_DATE, SURFACE().public_key(), STRANGER())),
        BIRTH_DATE,
        "the record is not what the municipality signed: do not enrol it",
        TRIES,
    ),
    ("a copy", lambda: chip(surface_key=STRANGER()), BIRTH_DATE, "a copy: do not enrol it", TRIES),
    ("a broken record", lambda: chip(record=b"\xff\x10\x00"), BIRTH_DATE, "present it again, or have the card", TRIES),
    ("a number that names nobody", lambda: chip(identification=bytes(14)), BIRTH_DATE, "present it again", TRIES),
]


@pytest.mark.parametrize(("card", "told", "words", "left"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
async def test_what_is_not_enrolled_is_said_in_words(
    desk: Counter, card: Callable[[], MynumberChip], told: str, words: str, left: int
) -> None:
    held = card()
    said = await desk.enrol(held, "--json", told=told)
    assert (said.code, said.out, tries_left(held)) == (os.EX_NOPERM, "", left)
    assert said.err.startswith("validator: nfcpy:udp:")
    assert said.err.count("\n") == 1
    assert words in said.err
    assert (desk.file.read_bytes(), held.tripped) == (HEADING, [])


@pytest.mark.parametrize("known", ["another key under its identifier", "another identifier"])
async def test_a_root_that_is_not_known(tmp_path: Path, known: str) -> None:
    desk = Counter.make(tmp_path, STRANGER().public_key() if known.startswith("another key") else None)
    if known == "another identifier":
        (desk.roots / f"{ROOT_ID.hex()}.pem").rename(desk.roots / f"{ROOT_ID[:-1].hex()}a8.pem")
    said = await desk.enrol(chip())
    assert (said.code, desk.file.read_bytes()) == (os.EX_NOPERM, HEADING)
    assert f"no key of J-LIS that is trusted here signed the certificate in {desk.roots}: have J-LIS" in said.err


@pytest.mark.parametrize(
    "card",
    [lambda: estonian(IDEMIA), lambda: chip_of(estonia())],
    ids=["an ID-card of 2018", "one of the years before"],
)
async def test_a_card_of_another_family_is_told_nothing(desk: Counter, card: Callable[[], Chip]) -> None:
    said = await desk.enrol(card(), technology=Technology.TYPE_A)
    assert (said.code, desk.file.read_bytes()) == (os.EX_NOPERM, HEADING)
    assert "this is no MyNumber card, and it was told nothing" in said.err


async def test_a_card_that_leaves_at_any_exchange_is_not_enrolled(desk: Counter) -> None:
    """Fourteen exchanges; a right birth date costs no try, whenever the card leaves."""
    for answered in range(14):
        card = chip()
        said = await desk.enrol(card, tear_after=answered)
        assert (said.code, desk.file.read_bytes(), tries_left(card)) == (os.EX_UNAVAILABLE, HEADING, TRIES), answered
        assert "run this again" in said.err
    assert (await desk.enrol(chip(), tear_after=14)).code == 0


async def test_no_card(desk: Counter) -> None:
    said = await desk.enrol(None, "--wait", "0.1")
    assert (said.code, "no card within 0.1 s: run this again" in said.err) == (os.EX_UNAVAILABLE, True)


@pytest.mark.parametrize("told", ["", "1989-01-08", "19890231", "nobody"])
async def test_what_is_no_birth_date_is_shown_to_no_card(desk: Counter, told: str) -> None:
    card = chip()
    said = await desk.enrol(card, told=told)
    assert (said.code, tries_left(card), desk.file.read_bytes()) == (os.EX_USAGE, TRIES, HEADING)
    assert "--birth-date" in said.err
    assert not told or told not in said.err


@pytest.mark.parametrize("wait_s", ["0", "-1", "nan", "inf"])
async def test_a_time_that_is_none(desk: Counter, wait_s: str) -> None:
    assert (await desk.enrol(None, "--wait", wait_s)).code == os.EX_USAGE


class TestRoots:
    def key(self, desk: Counter) -> Path:
        return desk.roots / f"{ROOT_ID.hex()}.pem"

    async def test_der_will_do(self, desk: Counter) -> None:
        self.key(desk).unlink()
        (desk.roots / f"{ROOT_ID.hex().upper()}.der").write_bytes(spki_of(ROOT().public_key()))
        assert (await desk.enrol(chip())).code == 0

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("J-LIS.pem", pem(STRANGER().public_key()), "32 hexadecimal digits"),
            (f"{ROOT_ID.hex()}00.pem", pem(STRANGER().public_key()), "32 hexadecimal digits"),
            (f"{ROOT_ID.hex(' ')}.pem", pem(STRANGER().public_key()), "32 hexadecimal digits"),
            (f"{ROOT_ID.hex()}.key", pem(STRANGER().public_key()), "another file has this identifier"),
            (f"{'00' * 16}.pem", b"no key", "no public key in PEM or DER form"),
            (f"{'00' * 16}.pem", pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "no RSA key of 2048"),
            (f"{'00' * 16}.pem", pem(rsa.generate_private_key(65537, 1024).public_key()), "no RSA key of 2048"),
        ],
    )
    async def test_a_file_that_is_none_is_named(self, desk: Counter, name: str, content: bytes, words: str) -> None:
        (desk.roots / name).write_bytes(content)
        said = await desk.enrol(None)
        assert (said.code, words in said.err, str(desk.roots) in said.err) == (os.EX_NOINPUT, True, True), said.err

    async def test_a_folder_without_a_key(self, desk: Counter) -> None:
        self.key(desk).unlink()
        assert "holds no key of J-LIS" in (await desk.enrol(None)).err
        desk.roots.rmdir()
        assert (await desk.enrol(None)).code == os.EX_NOINPUT


def added(path: Path, name: bytes = NAME, key: bytes = KEY) -> bool:
    with EnrolledFile.open(path) as file:
        return file.add(name, key)


CONTENT = HEADING + f"{OTHER_NAME.hex()},{OTHER_KEY.hex()}\n".encode() + LINE


class TestFile:
    @given(cut=st.integers(0, len(CONTENT)))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_crash_at_any_byte_is_mended(self, tmp_path: Path, cut: int) -> None:
        """Whole lines stay, what was cut off goes, and the same cards make the same file again."""
        path = tmp_path / "cut.csv"
        path.write_bytes(CONTENT[:cut])
        added(path, OTHER_NAME, OTHER_KEY)
        assert added(path) == (cut < len(CONTENT) - 1)  # nothing but the end of the line was missing
        assert path.read_bytes() == CONTENT

    def test_it_is_durable_before_anybody_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        synced: list[bytes] = []
        path, true = tmp_path / "cards.csv", os.fsync

        def watched(descriptor: int) -> None:
            true(descriptor)
            synced.append(path.read_bytes())

        monkeypatch.setattr(os, "fsync", watched)
        added(path)
        assert synced == [HEADING, HEADING, HEADING + LINE]

    @pytest.mark.parametrize(
        ("content", "where"),
        [
            (b"public_key,name\n", "does not begin with name,public_key"),
            (b"anything", "does not begin with name,public_key"),
            (HEADING + b"no card\n" + LINE, "line 2: is no name and public key"),
            (HEADING + LINE + LINE[:40] + b"?", "line 3: is no name and public key"),
            (HEADING + LINE.replace(b"\n", b"\r\n"), "line 2: is no name and public key"),
        ],
    )
    def test_what_is_another_file_is_left_as_it_is(self, tmp_path: Path, content: bytes, where: str) -> None:
        path = tmp_path / "cards.csv"
        path.write_bytes(content)
        with pytest.raises(EnrolmentFileError, match=where):
            added(path)
        assert path.read_bytes() == content

    def test_digits_of_either_case_are_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "cards.csv"
        path.write_bytes(HEADING + LINE.upper())
        assert not added(path)
        with pytest.raises(NotEnrolledError, match="line 2: another key"):
            added(path, key=OTHER_KEY)

    def test_two_desks_do_not_write_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "cards.csv"
        with path.open("wb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(EnrolmentFileError, match="another desk"):
                added(path)

    def test_a_full_disk_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "cards.csv"
        added(path, OTHER_NAME, OTHER_KEY)

        def full(_descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with EnrolledFile.open(path) as file:
            monkeypatch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match=f"No space.*make room and run this again: '{path}'"):
                file.add(NAME, KEY)

    def test_what_is_no_file_is_not_read(self) -> None:
        with pytest.raises(EnrolmentFileError, match="/dev/full: is no file"):
            added(Path("/dev/full"))
