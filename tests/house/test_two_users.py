"""Two users on one journal, as the units have it: one writes, the other has the group's right to read and no more."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.missing import missing

ROOT = Path(__file__).parents[2]
VALIDATOR, UPLINK, GROUP = 64001, 64002, 64000

if os.geteuid() != 0:
    missing("only root may become two other users")

BECOME = f"""
import os, sys

def become(user):
    os.setgroups([])
    os.setgid({GROUP})
    os.setuid(user)
    os.umask(0o027)
"""

WRITE = (
    BECOME
    + f"""
import asyncio, signal
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from validator.journal import Journal
from validator.model import ClockConfidence, Instant, ListVersions, Outcome, Reason, Tap

async def main(path, end):
    journal = await Journal.open(path, "gate-1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    at = Instant(1_800_000_000_000, 0, bytes(8), ClockConfidence.NTP)
    tap = Tap(at, "place", "lane", Outcome.DENY, Reason.NO_TICKET, False, ListVersions())
    recorded = await journal.settle(None, lambda uses: tap)
    print(recorded.seq, flush=True)
    if end == "stay":
        sys.stdin.readline()
    if end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    await journal.close()

become({VALIDATOR})
asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""
)

DELETE = (
    BECOME
    + f"""
import apsw
become({UPLINK})
apsw.Connection(sys.argv[1]).execute("DELETE FROM entry")
"""
)

READ = (
    BECOME
    + f"""
from pathlib import Path
from validator.journal_reader import JournalReader

become({UPLINK})
reader = JournalReader(Path(sys.argv[1]))
print([seq for seq, _ in reader.entries_after(0, 100)])
reader.close()
"""
)


@pytest.fixture
def journal() -> Iterator[Path]:
    # Not below pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        state = Path(folder) / "state"
        state.mkdir()
        os.chown(state, VALIDATOR, GROUP)
        state.chmod(0o2750)
        yield state / "journal.db"


def _start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def written(journal: Path, end: str) -> str:
    with _start(WRITE, str(journal), end) as process:
        return process.communicate(timeout=30)[0].strip()


@contextmanager
def writing(journal: Path) -> Iterator[str]:
    """A validator that records one tap and stays."""
    with _start(WRITE, str(journal), "stay") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n", timeout=30)
    assert process.returncode == 0


def as_uplink(code: str, journal: Path) -> str:
    with _start(code, str(journal)) as process:
        return process.communicate(timeout=30)[0].strip()


def read(journal: Path) -> str:
    return as_uplink(READ, journal)


def test_the_uplink_reads_beside_after_and_without_the_validator(journal: Path) -> None:
    with writing(journal) as seq:
        assert seq == "1"
        assert read(journal) == "[1]"
    assert read(journal) == "[1]"
    assert written(journal, "die") == "2"
    assert read(journal) == "[1, 2]"
    # And the validator still can write after the uplink has read alone.
    assert written(journal, "close") == "3"
    assert read(journal) == "[1, 2, 3]"
    owners = {path.stat().st_uid for path in journal.parent.iterdir()}
    assert owners == {VALIDATOR}


def test_the_uplink_cannot_write_the_journal(journal: Path) -> None:
    assert written(journal, "close") == "1"
    before = journal.read_bytes()
    assert "attempt to write a readonly database" in as_uplink(DELETE, journal)
    assert journal.read_bytes() == before
