"""A power cut at any moment: what the journal said was safe is there, the file is whole, and the chain holds."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.flow.crash_vfs import Acknowledged, CrashVfs, Disk, FolderSynced, Made, Synced, Written, crash_vfs
from validator import entry
from validator.envelope import Purpose, open_envelope
from validator.journal import Journal
from validator.journal_file import Synchronous
from validator.journal_reader import JournalReader
from validator.list_facts import ListVersions
from validator.model import Assurance, ClockConfidence, Instant, Outcome, Reason, Tap
from validator.rights import Use

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DEVICE = "gate-1"
LATER_MS = 2**52
CUTS_PER_LIFE = 50
LIVES_PER_BATCH = 2
BATCHES = 10 * (20 if os.environ.get("PILET_SOAK") == "1" else 1)


@dataclass(slots=True)
class Story:
    """What one life of a journal did to its disk.

    Attributes:
        disk: The disk.
        taps: Every tap that was recorded.
        pruned: For each pruning, how many events the disk had seen before it, and the first entry that must stay.
    """

    disk: Disk
    taps: dict[int, Tap]
    pruned: list[tuple[int, int]]

    def may_be_gone(self, at: int) -> set[int]:
        """Entries that prunings before the first `at` events of the disk were over may have dropped."""
        stays = max((seq for events, seq in self.pruned if events < at), default=0)
        return {seq for seq in self.taps if seq < stays}


def refusal(number: int) -> Tap:
    at = Instant(1_795_400_000_000 + number * 900, 50_000 + number * 900, b"one-boot", ClockConfidence.RTC)
    return Tap(at, "Viru", "north-2", Outcome.DENY, Reason.NO_TICKET, False, ListVersions(1, 2, 3))


def ride(number: int, credential_id: bytes, product_id: int) -> Tap:
    return replace(
        refusal(number),
        outcome=Outcome.GRANT,
        reason=Reason.VALID,
        credential_id=credential_id,
        profile="piv",
        assurance=Assurance.CHIP,
        product_id=product_id,
        rides=1,
    )


def some_tap(rng: Random, number: int) -> Tap:
    granted = rng.random() < 0.7
    return ride(number, rng.randrange(5).to_bytes(16), rng.randrange(3)) if granted else refusal(number)


async def live(folder: Path, rng: Random, synchronous: Synchronous) -> Story:
    """Open a journal on a disk that forgets, and let some passengers, quiet moments and restarts happen to it."""
    taps: dict[int, Tap] = {}
    pruned: list[tuple[int, int]] = []
    with crash_vfs(folder) as vfs:
        journal = await open_journal(folder, vfs, synchronous)
        for number in range(rng.randint(4, 14)):
            tap = some_tap(rng, journal.head + number)
            recorded = await journal.settle(tap.credential_id, partial(_say, tap))
            vfs.disk.events.append(Acknowledged(recorded.seq))
            taps[recorded.seq] = tap
            match rng.randrange(8):
                case 0 | 1 | 2:
                    await journal.ratify(recorded.seq)
                case 3 | 4:
                    await journal.idle()
                case 5:
                    await journal.close()
                    journal = await open_journal(folder, vfs, synchronous)
            if rng.random() < 0.1 or number == 3:
                stays = journal.head if number == 3 else rng.randint(1, journal.head)
                pruned.append((len(vfs.disk.events), stays))
                await journal.prune(stays, LATER_MS, stays - 1)
        await journal.close()
    return Story(vfs.disk, taps, pruned)


def _say(tap: Tap, _uses: Sequence[Use]) -> Tap:
    return tap


async def open_journal(folder: Path, vfs: CrashVfs, synchronous: Synchronous) -> Journal:
    return await Journal.open(
        folder / "journal.db", DEVICE, KEY, vfs=vfs.vfs_name, synchronous=synchronous, checkpoint_pages=6
    )


def lay_out(image: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir()
    for name, content in image.items():
        (folder / name).write_bytes(content)
    return folder


def recorded_taps(path: Path) -> dict[int, Tap]:
    """Check that a journal is whole by every means there is, and return its taps."""
    reader = JournalReader(path)
    head = reader.head()
    sealed = reader.entries_after(0, head + 1)
    first = sealed[0][0] if sealed else 1
    assert [seq for seq, _ in sealed] == list(range(first, head + 1))
    assert reader.verify(KEY.public_key()) == len(sealed)
    reader.close()
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert db.pragma("integrity_check") == "ok"
    taps = {seq: payload_of(envelope).tap for seq, envelope in sealed}
    uses = db.execute("SELECT seq, credential_id, product_id, rides, amount FROM use ORDER BY seq").fetchall()
    db.close()
    assert uses == [
        (seq, tap.credential_id, tap.product_id, tap.rides, tap.amount)
        for seq, tap in taps.items()
        if tap.outcome is Outcome.GRANT
    ]
    return taps


def payload_of(envelope: bytes) -> entry.Entry:
    return entry.decode(open_envelope(envelope, Purpose.TAP, {DEVICE: KEY.public_key()}).payload)


async def reopened_taps(folder: Path) -> dict[int, Tap]:
    """Open what a power cut left, serve one more passenger, and return all taps but that one."""
    with crash_vfs(folder) as vfs:
        journal = await open_journal(folder, vfs, "FULL")
        last = await journal.settle(None, lambda _uses: refusal(0))
        await journal.close()
    taps = recorded_taps(folder / "journal.db")
    assert taps.popitem() == (last.seq, last.tap)
    return taps


async def lost_taps(folder: Path, seed: int, synchronous: Synchronous) -> int:
    """Cut the power of two lives, the second on what a cut left of the first; count safe taps that were lost."""
    rng, lost, dropped = Random(seed), 0, 0
    image: dict[str, bytes] = {}
    found: dict[int, Tap] = {}
    for life in range(LIVES_PER_BATCH):
        story = await live(lay_out(image, folder / f"life-{life}"), rng, synchronous)
        known = found
        story.taps.update(known)
        for number in range(CUTS_PER_LIFE):
            at = rng.randint(0, len(story.disk.events))
            image = story.disk.cut(at, rng)
            place = lay_out(image, folder / f"cut-{life}-{number}")
            found = await reopened_taps(place)
            assert found.items() <= story.taps.items()
            lost += len((story.disk.acknowledged(at) | known.keys()) - found.keys() - story.may_be_gone(at))
            dropped += len(story.may_be_gone(at) - found.keys())
            shutil.rmtree(place)
    assert dropped or synchronous != "FULL", "no pruning reached the disk"
    return lost


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(BATCHES))
async def test_no_safe_tap_is_lost_and_no_file_is_corrupt(tmp_path: Path, seed: int) -> None:
    assert await lost_taps(tmp_path, seed, "FULL") == 0


@pytest.mark.slow
async def test_the_same_cuts_lose_taps_where_commits_are_not_synced(tmp_path: Path) -> None:
    assert await lost_taps(tmp_path, 0, "NORMAL") > 0


async def test_nothing_is_on_its_way_to_the_disk_when_a_tap_is_said_to_be_safe(tmp_path: Path) -> None:
    tap = ride(0, bytes(16), 7)
    with crash_vfs(tmp_path) as vfs:
        journal = await open_journal(tmp_path, vfs, "FULL")
        for _ in range(20):
            events_before = len(vfs.disk.events)
            recorded = await journal.settle(tap.credential_id, lambda _uses: tap)
            assert vfs.disk.unsynced() == []
            assert any(isinstance(event, Written) for event in vfs.disk.events[events_before:])
            assert isinstance(vfs.disk.events[-1], Synced)
            await journal.ratify(recorded.seq)
        await journal.close()


async def test_a_ratification_costs_no_sync_of_its_own(tmp_path: Path) -> None:
    tap = ride(0, bytes(16), 7)
    with crash_vfs(tmp_path) as vfs:
        journal = await open_journal(tmp_path, vfs, "FULL")
        recorded = await journal.settle(tap.credential_id, lambda _uses: tap)
        await journal.ratify(recorded.seq)
        assert vfs.disk.unsynced() != []
        await journal.settle(tap.credential_id, lambda _uses: tap)
        assert vfs.disk.unsynced() == []
        await journal.close()


def test_a_cut_forgets_tears_and_reorders_what_was_not_synced() -> None:
    whole = bytes([1]) * 1024
    disk = Disk({"safe": bytes(1024)}, [Written(-1, 0, whole), Made("new", 1), Written(1, 0, whole)])
    images = [disk.cut(3, Random(seed)) for seed in range(200)]
    assert {bytes(1024), whole, bytes(512) + whole[:512], whole[:512] + bytes(512)} <= {one["safe"] for one in images}
    assert {"new" in image for image in images} == {True, False}
    synced = Disk(disk.before, [*disk.events, Synced(-1), Synced(1), FolderSynced()])
    assert all(synced.cut(6, Random(seed)) == {"safe": whole, "new": whole} for seed in range(200))
