"""A journal restored from a copy never gives a number twice: it is put away, and a new epoch begins."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from validator.journal import Journal
from validator.journal_reader import JournalReader
from validator.list_facts import ListVersions
from validator.model import ClockConfidence, Instant, Outcome, Reason, Tap
from validator.rollback import open_whole

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DEVICE, BORN_S = "gate-1", 1_795_000_000
AT = Instant(BORN_S * 1000, 1, b"one-boot", ClockConfidence.NTP)
TAP = Tap(AT, "here", "lane", Outcome.DENY, Reason.NO_TICKET, graced=False, versions=ListVersions())


async def fill(journal: Journal, taps: int) -> None:
    for _ in range(taps):
        await journal.settle(None, lambda _uses: TAP)


async def opened(path: Path, known: int, born_s: int = BORN_S) -> Journal:
    return await open_whole(path, DEVICE, KEY, born_s, lambda _epoch: known)


@pytest.mark.parametrize("known", [0, 2, 3])
async def test_a_whole_journal_goes_on(tmp_path: Path, known: int) -> None:
    path = tmp_path / "journal.db"
    first = await opened(path, 0)
    await fill(first, 3)
    await first.close()
    again = await opened(path, known)
    assert (again.epoch, again.head) == (first.epoch, 3)
    await again.close()


async def test_an_older_copy_is_put_away_with_what_it_holds(tmp_path: Path) -> None:
    path, copy = tmp_path / "journal.db", tmp_path / "copy.db"
    first = await opened(path, 0)
    await fill(first, 3)
    await first.close()
    shutil.copy(path, copy)
    again = await opened(path, 0)
    await fill(again, 4)
    await again.close()
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    shutil.copy(copy, path)

    restored = await opened(path, known=7, born_s=BORN_S + 1)
    assert (restored.head, restored.epoch > first.epoch) == (0, True)
    await fill(restored, 1)
    await restored.close()
    kept = tmp_path / f"journal.db.{first.epoch}.lost-its-tail"
    with closing(JournalReader(kept)) as reader:
        assert reader.verify(KEY.public_key()) == reader.head() <= 3
