"""The journal read by another process: beside a living writer, after it, after its death, and after it began anew."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator import journal_reader
from validator.envelope import Envelope, Purpose, open_envelope
from validator.journal_file import JournalError, JournalFile
from validator.journal_reader import JournalReader
from validator.list_facts import ListVersions
from validator.model import ClockConfidence, Instant, Outcome, Reason, Tap
from validator.rights import Use

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
REPOSITORY = Path(__file__).parents[2]

# Each line on standard input is a command; each gets a line on standard output when it is done.
WRITER = """
import sys
from pathlib import Path
from tests.validator.test_journal_reader import open_file, tap
file = open_file(Path(sys.argv[1]))
print("open", flush=True)
for line in sys.stdin:
    if line.strip() == "close":
        file.close()
    elif line.strip() == "checkpoint":
        file.checkpoint()
    else:
        file.settle(None, lambda _uses: tap())
    print("done", flush=True)
"""


def open_file(path: Path) -> JournalFile:
    return JournalFile(path, "gate-1", KEY, vfs=None, synchronous="NORMAL")


def tap() -> Tap:
    at = Instant(1_795_400_000_000, 1, b"one-boot", ClockConfidence.NTP)
    return Tap(at, "Viru", "north-2", Outcome.DENY, Reason.UNKNOWN_MEDIUM, False, ListVersions())


class Writer:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._answer("open")

    def do(self, *commands: str) -> None:
        assert self._process.stdin is not None
        for command in commands:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            self._answer("done")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _answer(self, expected: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == expected


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            yield Writer(process)
        finally:
            process.kill()


def test_a_reader_follows_a_writer_through_its_life_and_death(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(JournalError, match="not there yet"):
        JournalReader(path)
    with writer(path) as first:
        with closing(JournalReader(path)) as reader:
            assert (reader.device, reader.head(), reader.entries_after(0, 5)) == ("gate-1", 0, [])
            first.do("tap", "tap", "tap")
            assert reader.head() == 3
            assert [seq for seq, _ in reader.entries_after(1, 1)] == [2]
            first.do("checkpoint", "tap", "tap")
            assert [seq for seq, _ in reader.entries_after(3, 9)] == [4, 5]
            first.kill()
            assert reader.head() == 5
            with closing(JournalReader(path)) as late:
                assert late.verify(KEY.public_key()) == 5
            with writer(path) as second:
                second.do("tap", "checkpoint", "tap")
                assert reader.verify(KEY.public_key()) == 7
                second.do("close")
                assert reader.head() == 7
        with closing(JournalReader(path)) as late:
            assert late.verify(KEY.public_key()) == 7


def test_a_closed_journal_leaves_its_log_for_readers_that_may_not_make_one(tmp_path: Path) -> None:
    file = open_file(tmp_path / "journal.db")
    file.settle(None, lambda _uses: tap())
    file.close()
    assert {one.name for one in tmp_path.iterdir()} == {"journal.db", "journal.db-wal", "journal.db-shm"}


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with writer(path) as process:
        process.do("tap", "tap")
        process.kill()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with closing(JournalReader(path)) as reader:
        assert reader.head() == 2
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_reader_follows_a_journal_that_was_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    old = open_file(path)
    old.settle(None, lambda _uses: tap())
    with closing(JournalReader(path)) as reader:
        assert (reader.epoch, reader.head()) == (old.life.epoch, 1)
        old.close()
        away = tmp_path / "away"
        away.mkdir()
        for file in list(tmp_path.glob("journal.db*")):
            file.rename(away / file.name)
        assert (reader.epoch, reader.head()) == (old.life.epoch, 1)
        new = open_file(path)
        assert (reader.epoch, reader.head()) == (new.life.epoch, 0)
        new.close()
    assert new.life.epoch != old.life.epoch


def test_a_journal_that_was_put_away_without_its_log_can_be_read(tmp_path: Path) -> None:
    path, copy = tmp_path / "journal.db", tmp_path / "copy.db"
    file = open_file(path)
    file.settle(None, lambda _uses: tap())
    file.close()
    copy.write_bytes(path.read_bytes())
    with closing(JournalReader(copy)) as reader:
        assert reader.verify(KEY.public_key()) == 1
        assert sorted(one.name for one in tmp_path.glob("copy*")) == ["copy.db"]
        again = open_file(copy)
        again.settle(None, lambda _uses: tap())
        assert reader.head() == 2
        again.close()


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalError, match="no SQLite database"):
        JournalReader(path)


def test_each_signature_is_verified_once_and_by_the_key_that_the_journal_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def counted(data: bytes, purpose: Purpose, keys: Mapping[str, Ed25519PublicKey]) -> Envelope:
        seen.append(data)
        return open_envelope(data, purpose, keys)

    with closing(open_file(tmp_path / "journal.db")) as file:
        for _ in range(3):
            file.settle(None, lambda _uses: tap())
    monkeypatch.setattr(journal_reader, "open_envelope", counted)
    with closing(JournalReader(tmp_path / "journal.db")) as reader:
        assert reader.public_key == KEY.public_key()
        assert [link.seq for link in reader.verified(reader.public_key)] == [1, 2, 3]
        assert seen == [sealed for _, sealed in reader.entries_after(0, 9)]


def _as_it_is(tap: Tap, _uses: Sequence[Use]) -> Tap:
    return tap


def test_a_cards_rides_are_read_beside_the_writer(tmp_path: Path) -> None:
    path, card = tmp_path / "journal.db", bytes(range(16))
    ride = replace(tap(), outcome=Outcome.GRANT, reason=Reason.VALID, credential_id=card, product_id=7, rides=1)
    with closing(open_file(path)) as file:
        others = (tap(), replace(ride, credential_id=bytes(16)))
        for each in (ride, *others, ride):
            file.settle(each.credential_id, partial(_as_it_is, each))
        with closing(JournalReader(path)) as journal:
            assert [(use.seq, use.product_id, use.rides) for use in journal.uses_of(card)] == [(1, 7, 1), (4, 7, 1)]
            assert journal.uses_of(bytes(15) + b"\1") == []
