"""A device that follows its deny list: whatever is lost, doubled or late on the way, it ends where the list is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.deny_changes import Stamp, cumulative_change, next_change
from backend_sync.deny_follower import DenyFollower, Step
from tests.hostile import hostile
from tests.validator.list_making import ISSUED, KEY, KEYS, NOT_AFTER, candidate
from validator.card_index import TOKENS
from validator.lists.changes_file import MAX_CHANGES, changes_path, read_changes
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_change import seal_change
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.directory import install
from validator.lists.installed import load
from validator.lists.manifest import ListKind
from validator.model import Credential

CARDS = [Credential(bytes([number]) * 16, TOKENS, index=number) for number in range(8)] + [
    Credential(bytes([number]) * 16) for number in range(8, 16)
]
PAYLOAD = encode_deny_list([bytes([9]) * 16], [dense_deny(TOKENS, 8, [7])])
STAMP = Stamp("north", version=1, number=1, issued_s=ISSUED, not_after_s=NOT_AFTER)


class Publisher:
    """Makes changes one after the other, and keeps what those need who missed some."""

    def __init__(self) -> None:
        self.published = DenyList.parse(PAYLOAD)
        self.listed = self.published
        self.sent: list[bytes] = []
        self.folded: list[bytes] = []
        self.since: list[bytes] = []

    def revoke(self, revoked: list[Credential], restored: list[Credential]) -> bytes:
        stamp = replace(STAMP, number=len(self.sent) + 1)
        change, self.listed = next_change(self.listed, revoked, restored, stamp)
        self.sent.append(seal_change(change, KEY, "publisher"))
        self.since.append(self.sent[-1])
        return self.sent[-1]

    def fold(self) -> None:
        stamp = replace(STAMP, number=len(self.sent))
        self.folded = [seal_change(cumulative_change(self.published, self.listed, stamp), KEY, "publisher")]
        self.since = []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    (folder / "payload").write_bytes(PAYLOAD)
    offered = candidate(folder / "payload", ListKind.DENY, 1)
    install(folder / "lists", offered.sealed, offered.payload, KEYS, region="north")
    return folder / "lists"


@pytest.fixture
def lists(installed: Path, tmp_path: Path) -> Path:
    shutil.copytree(installed, tmp_path / "lists")
    return tmp_path / "lists"


@pytest.fixture
def follower(lists: Path) -> DenyFollower:
    return followed(lists)


def followed(lists: Path) -> DenyFollower:
    follower = DenyFollower(lists, "north", lambda: KEYS, lambda: ISSUED)
    follower.follow()
    return follower


def denied(lists: Path) -> list[bool]:
    gate = load(lists, KEYS, "north")
    assert gate.faults == ()
    return [gate.denied(card) for card in CARDS]


some = st.lists(st.sampled_from(CARDS), max_size=3)
fates = st.sampled_from(["taken", "lost", "twice", "late", "restart", "fold"])


@given(st.lists(st.tuples(some, some, fates), min_size=1, max_size=12))
def test_it_ends_where_the_list_is(
    tmp_path_factory: pytest.TempPathFactory,
    installed: Path,
    changes: list[tuple[list[Credential], list[Credential], str]],
) -> None:
    lists = tmp_path_factory.mktemp("law") / "lists"
    shutil.copytree(installed, lists)
    publisher, follower, late = Publisher(), followed(lists), list[bytes]()
    for revoked, restored, fate in changes:
        sent = publisher.revoke(revoked, restored)
        if fate in {"taken", "twice", "restart", "fold"}:
            if follower.take(sent) is Step.GAP:
                follower.catch_up(publisher.folded + publisher.since)
            expected = [publisher.listed.denied(card) for card in CARDS]
            assert denied(lists) == expected
        if fate == "twice":
            assert follower.take(sent) is Step.KNOWN
        if fate == "late":
            late.append(sent)
        if fate == "restart":
            follower = followed(lists)
        if fate == "fold":
            publisher.fold()
    for sent in late:
        follower.take(sent)
    follower.catch_up(publisher.folded + publisher.since)
    assert follower.number == len(publisher.sent)
    assert denied(lists) == [publisher.listed.denied(card) for card in CARDS]
    assert follower.refused == ""


def test_a_change_of_another_list_is_not_this_ones(follower: DenyFollower, lists: Path) -> None:
    change, _ = next_change(DenyList.parse(PAYLOAD), [CARDS[1]], [], replace(STAMP, version=2))
    assert follower.take(seal_change(change, KEY, "publisher")) is Step.KNOWN
    assert not changes_path(lists, 1).exists()


def test_a_change_by_nobody_is_refused_and_said(follower: DenyFollower, lists: Path) -> None:
    change, _ = next_change(DenyList.parse(PAYLOAD), [CARDS[1]], [], STAMP)
    assert follower.take(seal_change(change, KEY, "somebody")) is Step.REFUSED
    assert "not known here" in follower.refused
    assert not denied(lists)[1]


def test_what_is_older_than_what_is_here_is_not_taken_back(follower: DenyFollower, lists: Path) -> None:
    publisher = Publisher()
    publisher.revoke([CARDS[1]], [])
    old = list(publisher.since)
    assert follower.take(old[0]) is Step.APPLIED
    assert follower.take(publisher.revoke([CARDS[2]], [])) is Step.APPLIED
    assert follower.catch_up(old) is Step.KNOWN
    assert denied(lists)[1:3] == [True, True]


def test_a_full_file_of_changes_is_replaced_by_a_cumulative_one(
    follower: DenyFollower, lists: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend_sync.deny_follower.MAX_CHANGES", 2)
    assert MAX_CHANGES > 2
    publisher = Publisher()
    steps = [follower.take(publisher.revoke([CARDS[number]], [])) for number in range(3)]
    assert steps == [Step.APPLIED, Step.APPLIED, Step.GAP]
    publisher.fold()
    assert follower.catch_up(publisher.folded) is Step.APPLIED
    assert len(read_changes(lists, 1)) == 1
    assert denied(lists)[:3] == [True, True, True]


def test_damaged_changes_are_left_behind_after_a_restart(follower: DenyFollower, lists: Path) -> None:
    publisher = Publisher()
    follower.take(publisher.revoke([CARDS[1]], []))
    follower.take(publisher.revoke([CARDS[2]], []))
    changes = changes_path(lists, 1)
    changes.write_bytes(changes.read_bytes()[:-3])
    again = followed(lists)
    assert again.catch_up(publisher.since) is Step.APPLIED
    assert denied(lists)[1:3] == [True, True]


@hostile
@given(st.binary(max_size=200))
def test_any_bytes_for_a_change(installed: Path, sent: bytes) -> None:
    follower = followed(installed)
    assert follower.take(sent) is Step.REFUSED
    assert follower.catch_up([sent]) is Step.REFUSED
    assert not changes_path(installed, 1).exists()
