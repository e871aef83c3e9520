"""The journal's promises, one by one. Power cuts are in tests/flow/test_power_cut.py."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from validator import entry
from validator.envelope import Purpose, open_envelope, seal
from validator.journal import Journal, Recorded
from validator.journal_file import PRUNE_BATCH, JournalError, JournalFile
from validator.journal_reader import JournalReader
from validator.list_facts import ListVersions
from validator.model import Assurance, ClockConfidence, Instant, Label, Outcome, Reason, Tap
from validator.rights import Use

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DEVICE = "gate-1"
CARD = b"card-of-somebody"
OTHER_CARD = b"card-of-another."
START_MS = 1_795_400_000_000
MINUTE_MS = 60_000


def denial(minute: int = 0) -> Tap:
    at = Instant(START_MS + minute * MINUTE_MS, minute * MINUTE_MS, b"one-boot", ClockConfidence.NTP)
    return Tap(at, "Viru", "north-2", Outcome.DENY, Reason.NO_TICKET, False, ListVersions(1, 2, 3))


def ride(minute: int = 0, card: bytes = CARD, product_id: int = 7) -> Tap:
    return replace(
        denial(minute),
        outcome=Outcome.GRANT,
        reason=Reason.VALID,
        credential_id=card,
        profile="piv",
        assurance=Assurance.CHIP,
        product_id=product_id,
        rides=1,
    )


async def settle(journal: Journal, tap: Tap) -> Recorded:
    return await journal.settle(tap.credential_id, lambda _uses: tap)


async def uses_of(journal: Journal, card: bytes) -> list[Use]:
    """Ask through the one door there is, and record nothing."""
    seen: list[Use] = []

    def look(uses: Sequence[Use]) -> Tap:
        seen.extend(uses)
        raise LookupError

    with pytest.raises(LookupError):
        await journal.settle(card, look)
    return seen


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path, DEVICE, KEY, checkpoint_pages=20)
    yield opened
    await opened.close()


async def test_entries_are_numbered_chained_and_signed(journal: Journal, path: Path) -> None:
    taps = [denial(0), ride(1), denial(2), ride(3)]
    for number, tap in enumerate(taps, start=1):
        assert await settle(journal, tap) == Recorded(number, tap)
    assert (journal.head, journal.floor_ms, journal.device) == (4, taps[-1].at.wall_ms, DEVICE)
    with closing(JournalReader(path)) as reader:
        assert (reader.device, reader.epoch, reader.head()) == (DEVICE, journal.epoch, 4)
        sealed = reader.entries_after(0, 10)
        assert reader.verify(KEY.public_key()) == 4
    previous = entry.GENESIS
    for (seq, envelope), tap in zip(sealed, taps, strict=True):
        payload = open_envelope(envelope, Purpose.TAP, {DEVICE: KEY.public_key()}).payload
        assert entry.decode(payload) == entry.Entry(DEVICE, journal.epoch, seq, previous, tap)
        previous = entry.digest(payload)


async def test_each_database_has_an_epoch_of_its_own(journal: Journal, tmp_path: Path) -> None:
    other = await Journal.open(tmp_path / "other.db", DEVICE, KEY)
    await other.close()
    assert other.epoch != journal.epoch
    assert 0 <= other.epoch < 2**48


async def test_everything_is_there_after_closing_and_opening_again(path: Path) -> None:
    first = await Journal.open(path, DEVICE, KEY)
    await settle(first, ride(1))
    await first.ratify(1)
    uses = await uses_of(first, CARD)
    await first.close()
    again = await Journal.open(path, DEVICE, KEY)
    assert (again.epoch, again.head, again.floor_ms) == (first.epoch, 1, ride(1).at.wall_ms)
    assert await uses_of(again, CARD) == uses
    assert (await settle(again, denial(2))).seq == 2
    await again.close()


async def test_a_decision_sees_the_uses_of_its_own_credential_only(journal: Journal) -> None:
    await settle(journal, ride(1))
    await settle(journal, ride(2, OTHER_CARD))
    await settle(journal, replace(denial(3), credential_id=CARD))
    recovered = replace(ride(4), reason=Reason.RECOVERED, rides=0, recovers=1)
    await settle(journal, recovered)
    await journal.ratify(4)
    tap = ride(1)
    first = Use(1, 7, tap.at.wall_ms, tap.at.mono_ms, tap.at.boot, "Viru", 1, 0, ratified=False, recovers=None)
    at = recovered.at
    second = Use(4, 7, at.wall_ms, at.mono_ms, at.boot, "Viru", 0, 0, ratified=True, recovers=1)
    assert await uses_of(journal, CARD) == [first, second]


async def test_a_tap_without_a_credential_has_no_uses(journal: Journal) -> None:
    await settle(journal, ride(1))
    seen: list[Use] = []

    def decide(uses: Sequence[Use]) -> Tap:
        seen.extend(uses)
        return denial()

    await journal.settle(None, decide)
    assert seen == []


async def test_the_last_ride_goes_once_however_many_ask_at_once(journal: Journal) -> None:
    def decide(uses: Sequence[Use]) -> Tap:
        return ride() if not uses else replace(denial(), credential_id=CARD, reason=Reason.RIDES_USED_UP)

    results = await asyncio.gather(*(journal.settle(CARD, decide) for _ in range(20)))
    assert sorted(result.seq for result in results) == list(range(1, 21))
    assert sum(result.tap.outcome for result in results) == 1


@pytest.mark.parametrize(("raised", "arrives"), [(KeyError("x"), KeyError), (StopIteration(), RuntimeError)])
async def test_what_a_decision_raises_is_raised_and_nothing_is_recorded(
    journal: Journal, raised: Exception, arrives: type[Exception]
) -> None:
    def decide(_uses: Sequence[Use]) -> Tap:
        raise raised

    with pytest.raises(arrives):
        await journal.settle(CARD, decide)
    assert journal.head == 0
    assert (await settle(journal, ride())).seq == 1


async def test_a_database_error_of_the_decision_is_not_taken_for_one_of_the_journal(journal: Journal) -> None:
    def decide(_uses: Sequence[Use]) -> Tap:
        raise apsw.CorruptError("the ticket file")

    with pytest.raises(apsw.CorruptError, match="the ticket file"):
        await journal.settle(CARD, decide)


async def test_spending_the_product_of_another_credential_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="credential whose uses were counted"):
        await journal.settle(OTHER_CARD, lambda _uses: ride())
    assert (await settle(journal, ride())).seq == 1


async def test_a_tap_that_the_back_office_could_not_read_does_not_get_in(journal: Journal) -> None:
    with pytest.raises(entry.EntryError):
        await settle(journal, replace(denial(), place="x" * 65))
    assert (await settle(journal, denial())).seq == 1


async def test_a_caller_that_gives_up_leaves_the_journal_in_order(journal: Journal, path: Path) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    waiting = asyncio.create_task(settle(journal, ride(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    seq = (await settle(journal, ride(2))).seq
    assert seq in {1, 2}, "the job was not begun, or it went on to its end"
    with closing(JournalReader(path)) as reader:
        assert reader.verify(KEY.public_key()) == seq
    assert complaints == []


async def test_a_closed_journal_says_so(path: Path) -> None:
    journal = await Journal.open(path, DEVICE, KEY)
    await journal.close()
    await journal.close()
    with pytest.raises(JournalError, match="it is closed"):
        await settle(journal, denial())


async def test_two_writers_share_one_chain(journal: Journal, path: Path) -> None:
    second = await Journal.open(path, DEVICE, KEY)
    for number in range(6):
        assert (await settle((journal, second)[number % 2], denial(number))).seq == number + 1
    await second.close()
    with closing(JournalReader(path)) as reader:
        assert reader.verify(KEY.public_key()) == 6


# What is refused at the door.


async def refusal(path: Path, device: str = DEVICE, key: Ed25519PrivateKey = KEY) -> str:
    with pytest.raises(JournalError) as caught:
        await Journal.open(path, device, key)
    assert str(path) in str(caught.value)
    return str(caught.value)


async def make(path: Path, taps: int) -> None:
    journal = await Journal.open(path, DEVICE, KEY)
    for number in range(taps):
        await settle(journal, ride(number))
    await journal.close()


async def test_another_device_or_key_does_not_write_here(path: Path) -> None:
    await make(path, 1)
    assert "belongs to device 'gate-1', this one is 'gate-2'" in await refusal(path, device="gate-2")
    assert "another key" in await refusal(path, key=Ed25519PrivateKey.generate())


async def test_a_file_that_is_no_journal_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE somebody_s (data)")
        db.commit()
    assert "not a journal" in await refusal(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("somebody_s",)]


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    assert "no SQLite database" in await refusal(write(tmp_path / "letter", b"no database at all" * 100))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def test_a_journal_of_another_version_is_left_alone(path: Path) -> None:
    await make(path, 1)
    change(path, "PRAGMA user_version = 99")
    assert "version 99, this program knows 2 to 3" in await refusal(path)


async def test_a_journal_of_the_layout_before_is_brought_up_to_date(path: Path) -> None:
    await make(path, 2)
    change(path, "ALTER TABLE use DROP COLUMN leaving", "PRAGMA user_version = 2")
    with closing(JournalReader(path)) as journal:
        before = [*journal.entries_after(0, 2)]
    assert "this one is 'gate-2'" in await refusal(path, device="gate-2")
    with closing(apsw.Connection(str(path))) as db:
        assert db.pragma("user_version") == 2, "another device leaves it as it is"
    journal_file = JournalFile(path, DEVICE, KEY, vfs=None, synchronous="FULL")
    try:
        seq, tap = journal_file.settle(CARD, lambda uses: replace(ride(len(uses)), label=Label.EXIT))
        assert (seq, tap.label) == (3, Label.EXIT)
        seen: list[Use] = []

        def look(uses: Sequence[Use]) -> Tap:
            seen.extend(uses)
            return ride(len(uses))

        journal_file.settle(CARD, look)
    finally:
        journal_file.close()
    assert [use.leaving for use in seen] == [False, False, True]
    with closing(JournalReader(path)) as journal:
        assert [*journal.entries_after(0, 2)] == before


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "check that its folder" in await refusal(tmp_path / "nowhere" / "journal.db")


def change(path: Path, *statements: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE entry SET envelope = substr(envelope, 1, 100) WHERE seq = 5", "entry 5 is damaged"),
        (
            "UPDATE entry SET envelope = (SELECT envelope FROM entry WHERE seq = 4) WHERE seq = 5",
            "entry 5 is not the one",
        ),
        ("UPDATE entry SET digest = zeroblob(32) WHERE seq = 5", "entry 5 is not the one"),
        ("UPDATE entry SET digest = zeroblob(32) WHERE seq = 4", "entry 5 does not follow entry 4"),
        ("DELETE FROM entry WHERE seq = 4", "entry 5 does not follow entry 3"),
        ("DELETE FROM entry WHERE seq = 3", "missing among the last 4"),
        ("DELETE FROM life", "does not say whose it is"),
    ],
)
async def test_a_damaged_tail_is_named(path: Path, damage: str, message: str) -> None:
    await make(path, 5)
    change(path, damage)
    assert message in await refusal(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DELETE FROM entry WHERE seq = 3", "entry 4 does not follow entry 2"),
        ("UPDATE entry SET envelope = (SELECT envelope FROM entry WHERE seq = 2) WHERE seq = 3", "entry 3 says it is"),
        ("UPDATE entry SET envelope = x'00' WHERE seq = 1", "entry 1 cannot be believed"),
    ],
)
async def test_a_reader_finds_damage_anywhere(path: Path, damage: str, message: str) -> None:
    await make(path, 5)
    change(path, damage)
    with closing(JournalReader(path)) as reader, pytest.raises(JournalError, match=re.escape(message)):
        reader.verify(KEY.public_key())


async def test_a_signed_entry_that_breaks_the_chain_is_found(path: Path) -> None:
    await make(path, 3)
    with closing(JournalReader(path)) as reader:
        epoch = reader.epoch
    for seq in (1, 3):
        forked = entry.encode(entry.Entry(DEVICE, epoch, seq, bytes([9] * 32), denial()))
        with closing(apsw.Connection(str(path))) as db:
            before = db.execute("SELECT envelope FROM entry WHERE seq = ?", (seq,)).get
            db.execute("UPDATE entry SET envelope = ? WHERE seq = ?", (seal(KEY, DEVICE, Purpose.TAP, forked), seq))
        with closing(JournalReader(path)) as reader, pytest.raises(JournalError, match=f"entry {seq} .*follow"):
            reader.verify(KEY.public_key())
        with closing(apsw.Connection(str(path))) as db:
            db.execute("UPDATE entry SET envelope = ? WHERE seq = ?", (before, seq))


async def test_a_device_that_skips_a_number_is_found_though_it_signs_that(path: Path) -> None:
    await make(path, 3)
    with closing(JournalReader(path)) as reader:
        epoch, first = reader.epoch, reader.entries_after(0, 1)[0][1]
    previous = entry.digest(open_envelope(first, Purpose.TAP, {DEVICE: KEY.public_key()}).payload)
    skipping = seal(KEY, DEVICE, Purpose.TAP, entry.encode(entry.Entry(DEVICE, epoch, 3, previous, denial())))
    with closing(apsw.Connection(str(path))) as db:
        db.execute("DELETE FROM entry WHERE seq = 2")
        db.execute("UPDATE entry SET envelope = ? WHERE seq = 3", (skipping,))
    with closing(JournalReader(path)) as reader, pytest.raises(JournalError, match="entry 3 does not follow entry 1"):
        reader.verify(KEY.public_key())


# A disk that fails.


class _FailingFile(apsw.VFSFile):
    def __init__(self, vfs: "_FailingVfs", name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self._vfs.may_fail("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._vfs.may_fail("sync")
        super().xSync(flags)


class _FailingVfs(apsw.VFS):
    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        super().__init__("failing", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - same
        return _FailingFile(self, name, flags)

    def may_fail(self, what: str) -> None:
        if what in self.failing:
            raise self.failing[what]


@contextmanager
def failing_vfs() -> Iterator[_FailingVfs]:
    vfs = _FailingVfs()
    try:
        yield vfs
    finally:
        vfs.unregister()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("write", apsw.FullError, "the disk is full"),
        ("write", apsw.IOError, "the disk failed"),
        ("sync", apsw.IOError, "the disk failed"),
        ("write", apsw.ReadOnlyError, "cannot be written"),
    ],
)
async def test_a_failing_disk_records_nothing_and_the_journal_goes_on_when_it_is_mended(
    path: Path, call: str, error: type[apsw.Error], message: str
) -> None:
    with failing_vfs() as vfs:
        journal = await Journal.open(path, DEVICE, KEY, vfs="failing")
        await settle(journal, ride(1))
        vfs.failing[call] = error("simulated")
        for minute in (2, 3):
            with pytest.raises(JournalError, match=message):
                await settle(journal, ride(minute))
        vfs.failing.clear()
        assert (await settle(journal, ride(4))).seq == 2
        assert [use.seq for use in await uses_of(journal, CARD)] == [1, 2]
        await journal.close()
    with closing(JournalReader(path)) as reader:
        assert reader.verify(KEY.public_key()) == 2


async def test_a_checkpoint_that_fails_hurts_no_tap(path: Path) -> None:
    with failing_vfs() as vfs:
        journal = await Journal.open(path, DEVICE, KEY, vfs="failing", checkpoint_pages=4)
        for minute in range(3):
            await settle(journal, ride(minute))
        vfs.failing["write"] = apsw.FullError("simulated")
        with pytest.raises(JournalError, match="the disk is full"):
            await journal.idle()
        vfs.failing.clear()
        await settle(journal, ride(4))
        await journal.idle()
        await journal.close()
    with closing(JournalReader(path)) as reader:
        assert reader.verify(KEY.public_key()) == 4


# Housekeeping.


async def test_a_quiet_moment_empties_the_log(journal: Journal, path: Path) -> None:
    for minute in range(20):
        await settle(journal, ride(minute))
    log = path.with_name("journal.db-wal")
    before = log.stat().st_size
    for minute in range(200):
        await settle(journal, ride(minute))
        await journal.idle()
    assert log.stat().st_size < before * 2


async def test_a_gate_that_is_never_idle_empties_the_log_after_a_tap(journal: Journal, path: Path) -> None:
    for minute in range(400):
        await settle(journal, denial(minute))
    log_bytes = path.with_name("journal.db-wal").stat().st_size
    assert log_bytes < 150 * 4096


async def test_pruning_keeps_a_chain_that_goes_on(path: Path) -> None:
    journal = await Journal.open(path, DEVICE, KEY, synchronous="NORMAL")
    total = PRUNE_BATCH * 2 + 10
    for minute in range(total):
        await settle(journal, denial(minute))
    assert await journal.prune(total - 4, START_MS + total * MINUTE_MS, 0) == total - 5
    with closing(JournalReader(path)) as reader:
        assert [seq for seq, _ in reader.entries_after(0, 100)] == list(range(total - 4, total + 1))
        assert reader.verify(KEY.public_key()) == 5
    await journal.close()
    journal = await Journal.open(path, DEVICE, KEY)
    assert await journal.prune(total + 100, START_MS + 10 * total * MINUTE_MS, 0) == 4
    assert (await settle(journal, denial(total))).seq == total + 1
    await journal.close()
    with closing(JournalReader(path)) as reader:
        assert reader.verify(KEY.public_key()) == 2


async def test_pruning_keeps_what_is_young_or_not_acknowledged(journal: Journal, path: Path) -> None:
    assert await journal.prune(100, START_MS, 100) == 0
    for minute in (0, 1, 50, 2, 60):  # the clock was wrong once
        await settle(journal, ride(minute))
    assert await journal.prune(3, START_MS + 10 * MINUTE_MS, 0) == 2
    assert await journal.prune(6, START_MS + 10 * MINUTE_MS, 0) == 0
    with closing(JournalReader(path)) as reader:
        assert [seq for seq, _ in reader.entries_after(0, 100)] == [3, 4, 5]


async def test_pruning_keeps_uses_that_the_ticket_list_does_not_know_or_that_are_young(journal: Journal) -> None:
    for minute in (0, 1, 2, 3):
        await settle(journal, ride(minute))
    assert await journal.prune(0, START_MS + 2 * MINUTE_MS, 1) == 1
    assert [use.seq for use in await uses_of(journal, CARD)] == [2, 3, 4]
    await journal.prune(0, START_MS + 2 * MINUTE_MS, 4)
    assert [use.seq for use in await uses_of(journal, CARD)] == [3, 4]


async def test_a_journal_made_anew_has_a_greater_epoch(tmp_path: Path) -> None:
    epochs = []
    for born_s in (1_790_000_000, 1_790_000_001):
        journal = await Journal.open(tmp_path / f"{born_s}.db", DEVICE, KEY, born_s=born_s)
        epochs.append(journal.epoch)
        await journal.close()
    assert epochs[0] < epochs[1] < 2**48


async def test_a_battery_clock_that_was_ahead_does_not_raise_the_floor(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    ahead = ride(1)
    ahead = replace(ahead, at=replace(ahead.at, confidence=ClockConfidence.RTC))
    journal = await Journal.open(path, DEVICE, KEY)
    await journal.settle(ahead.credential_id, lambda _uses: ahead)
    assert journal.floor_ms == 0
    await journal.close()
    again = await Journal.open(path, DEVICE, KEY)
    assert (again.head, again.floor_ms) == (1, 0)
    await again.close()
