"""Changes on a gate's disk: what is refused is what was sent last, through restarts, damage and power cuts."""

from dataclasses import replace
from pathlib import Path

import pytest

from backend_sync.deny_changes import Stamp, cumulative_change, next_change
from tests.validator.forgetful_disk import ForgetfulDisk, PowerCut
from tests.validator.list_making import ISSUED, KEY, KEYS, NOT_AFTER, candidate
from validator.card_index import TOKENS
from validator.list_facts import Freshness
from validator.lists.changes_file import changes_path, write_changes
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_change import DenyChange, seal_change
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.directory import install
from validator.lists.errors import ListError
from validator.lists.gate_rules import StalePolicy
from validator.lists.installed import InstalledLists, load
from validator.lists.manifest import ListKind
from validator.model import ClockConfidence, Credential, Instant

FIRST = Credential(b"one card of many", TOKENS, index=5)
SECOND = Credential(b"an enrolled card")
THIRD = Credential(b"another of those", TOKENS, index=7)
STAMP = Stamp("north", version=1, number=1, issued_s=ISSUED + 60, not_after_s=NOT_AFTER + 3600)


@pytest.fixture
def payload() -> bytes:
    return encode_deny_list([bytes(16)], [dense_deny(TOKENS, 100, [7, 50])])


@pytest.fixture
def directory(tmp_path: Path, payload: bytes) -> Path:
    return published(tmp_path, payload, 1)


def published(folder: Path, payload: bytes, version: int) -> Path:
    (folder / "payload").write_bytes(payload)
    offered = candidate(folder / "payload", ListKind.DENY, version)
    install(folder / "lists", offered.sealed, offered.payload, KEYS, region="north")
    return folder / "lists"


def here(directory: Path, previous: InstalledLists | None = None) -> InstalledLists:
    return load(directory, KEYS, "north", previous)


def sealed(*changes: DenyChange) -> list[bytes]:
    return [seal_change(each, KEY, "publisher") for each in changes]


def two(payload: bytes) -> tuple[DenyChange, DenyChange]:
    """FIRST is refused, then SECOND, and THIRD no longer."""
    one, listed = next_change(DenyList.parse(payload), [FIRST], [], STAMP)
    return one, next_change(listed, [SECOND], [THIRD], replace(STAMP, number=2, issued_s=ISSUED + 90))[0]


def refused(lists: InstalledLists) -> list[bool]:
    return [lists.denied(each) for each in (FIRST, SECOND, THIRD)]


def test_changes_are_in_force_after_a_restart(directory: Path, payload: bytes) -> None:
    assert refused(here(directory)) == [False, False, True]
    write_changes(directory, 1, sealed(*two(payload)))
    lists = here(directory)
    assert (refused(lists), lists.faults) == ([True, True, False], ())


def test_a_running_gate_takes_them_over(directory: Path, payload: bytes) -> None:
    lists, (one, other) = here(directory), two(payload)
    for changes, expected in (((one,), [True, False, True]), ((one, other), [True, True, False])):
        write_changes(directory, 1, sealed(*changes))
        assert lists.changed()
        before, lists = lists, here(directory, lists)
        assert (refused(lists), lists.changed()) == (expected, False)
        assert lists.published is before.published
    assert here(directory, lists).deny is lists.deny


def test_a_cumulative_change_replaces_them(directory: Path, payload: bytes) -> None:
    write_changes(directory, 1, sealed(*two(payload)))
    lists = here(directory)
    assert lists.deny is not None
    assert lists.published is not None
    whole = cumulative_change(lists.published, lists.deny, replace(STAMP, number=2))
    write_changes(directory, 1, sealed(whole))
    after = here(directory, lists)
    assert (refused(after), after.faults) == ([True, True, False], ())
    assert refused(here(directory)) == [True, True, False]


def test_the_newest_change_says_how_fresh_the_list_is_and_how_late_it_is_at_least(
    directory: Path, payload: bytes
) -> None:
    write_changes(directory, 1, sealed(*two(payload)))
    lists = here(directory)
    assert lists.issued_floor_s == ISSUED + 90
    for late_s, freshness in ((0, Freshness.FRESH), (3600, Freshness.FRESH), (3601, Freshness.GRACE)):
        at = Instant((NOT_AFTER + late_s) * 1000, 0, b"one-boot", ClockConfidence.NTP)
        assert lists.freshness(ListKind.DENY, at, StalePolicy(60)) is freshness


def test_a_new_list_begins_without(directory: Path, tmp_path: Path, payload: bytes) -> None:
    write_changes(directory, 1, sealed(*two(payload)))
    lists = here(directory)
    published(tmp_path, payload, 2)
    after = here(directory, lists)
    assert (refused(after), after.changes, after.faults) == ([False, False, True], {}, ())


class TestBad:
    """The changes before the bad one hold, and the list is not called fresh."""

    @staticmethod
    def check(directory: Path, why: str, expected: list[bool]) -> None:
        lists = here(directory)
        (fault,) = lists.faults
        assert why in str(fault)
        assert refused(lists) == expected
        at = Instant(ISSUED * 1000, 0, b"one-boot", ClockConfidence.NTP)
        assert lists.freshness(ListKind.DENY, at, StalePolicy(60)) is Freshness.GRACE

    def test_left_out(self, directory: Path, payload: bytes) -> None:
        write_changes(directory, 1, sealed(two(payload)[1]))
        self.check(directory, "is for the state", [False, False, True])

    def test_of_another_version(self, directory: Path, payload: bytes) -> None:
        one, other = two(payload)
        write_changes(directory, 1, sealed(one, replace(other, version=2)))
        self.check(directory, "belongs to version 2", [False, False, True])

    def test_of_another_region(self, directory: Path, payload: bytes) -> None:
        one, other = two(payload)
        write_changes(directory, 1, sealed(one, replace(other, region="south")))
        self.check(directory, "region 'south'", [False, False, True])

    def test_by_a_stranger(self, directory: Path, payload: bytes) -> None:
        one = two(payload)[0]
        write_changes(directory, 1, [seal_change(one, KEY, "somebody else")])
        self.check(directory, "somebody else", [False, False, True])

    def test_that_does_something_else_than_it_says(self, directory: Path, payload: bytes) -> None:
        one, other = two(payload)
        write_changes(directory, 1, sealed(one, replace(other, state=bytes(32))))
        self.check(directory, "leads to the state", [True, False, True])

    @pytest.mark.parametrize("content", [b"", b"\x90", b"\xc0", b"\x91\x01", bytes(100)])
    def test_a_file_that_is_none(self, directory: Path, content: bytes) -> None:
        changes_path(directory, 1).write_bytes(content)
        if content != b"\x90":
            self.check(directory, "changes", [False, False, True])

    def test_a_disk_that_does_not_take_them(
        self, directory: Path, payload: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_source: object, _target: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(ListError, match="No space left"):
            write_changes(directory, 1, sealed(two(payload)[0]))
        monkeypatch.undo()
        assert refused(here(directory)) == [False, False, True]


def test_a_power_cut_leaves_the_old_changes_or_the_new(
    directory: Path, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two(payload)
    write_changes(directory, 1, sealed(one))
    cut_at, done = 0, False
    while not done:
        disk = ForgetfulDisk(directory, cut_at)
        with monkeypatch.context() as patch:
            disk.attach(patch)
            try:
                write_changes(directory, 1, sealed(one, other))
                done = True
            except PowerCut:
                pass
        disk.recover()
        lists = here(directory)
        assert lists.faults == ()
        assert refused(lists) == ([True, True, False] if done else [True, False, True])
        cut_at += 1
    assert cut_at > 3
