"""A device that follows a list: whatever is lost, doubled or late on the way, it ends where the list is."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.change_follower import AnyFollower, Step, followers_of
from backend_sync.deny_changes import Stamp, cumulative_change, next_change
from backend_sync.list_changes import (
    cumulative_status_change,
    cumulative_ticket_change,
    next_status_change,
    next_ticket_change,
)
from tests.hostile import hostile
from tests.validator.list_making import ISSUED, KEY, KEYS, NOT_AFTER, candidate
from validator.card_index import TOKENS
from validator.list_facts import CardStatus
from validator.lists.changes_file import MAX_CHANGES, changes_path, read_changes
from validator.lists.changing import DENIALS, STATUSES, TICKETS, Changing
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_change import DenyChange, seal_change
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.directory import install, payload_root
from validator.lists.installed import load
from validator.lists.list_change import ListChange, seal_list_change
from validator.lists.manifest import ListKind
from validator.lists.status_array import pack, write_status_file
from validator.lists.statuses import Statuses
from validator.lists.ticket_store import write_ticket_store
from validator.lists.tickets import Tickets
from validator.model import NEVER, Credential
from validator.rights import Product, ProductKind

NUMBERED = [Credential(bytes([number]) * 16, TOKENS, index=number) for number in range(8)]
CARDS = [*NUMBERED, *(Credential(bytes([number]) * 16) for number in range(8, 16))]
STAMP = Stamp("north", version=1, number=1, issued_s=ISSUED, not_after_s=NOT_AFTER)
KINDS = (ListKind.DENY, ListKind.TICKETS, ListKind.STATUS)
_Listed = TypeVar("_Listed", DenyList, Tickets, Statuses)
_Change = TypeVar("_Change", DenyChange, ListChange)


def payload_of(kind: ListKind, path: Path) -> None:
    """A list on which some cards are other than the rest."""
    if kind is ListKind.DENY:
        path.write_bytes(encode_deny_list([bytes([9]) * 16], [dense_deny(TOKENS, 8, [7])]))
    elif kind is ListKind.TICKETS:
        write_ticket_store(path, [(CARDS[number].id, sold(number)) for number in (7, 9)])
    else:
        write_status_file(path, [(TOKENS, 8, pack([CardStatus.OK] * 7 + [CardStatus.BLOCKED]))])


def sold(number: int) -> Product:
    return Product(number + 1, ProductKind.STORED_VALUE, 0, NEVER, 0, balance=100 + number, fare=10)


class Publisher(Generic[_Listed, _Change]):
    """Makes changes one after the other, and keeps what those need who missed some.

    On a deny list a marked card is refused, on a ticket list it holds something, on a status list it is blocked.
    """

    def __init__(self, changing: Changing[_Listed, _Change], lists: Path) -> None:
        payload = lists / changing.kind / "1" / "payload"
        self.published: _Listed = changing.load(candidate(payload, changing.kind, 1).manifest, payload)
        self.listed: _Listed = self.published
        self.sent: list[bytes] = []
        self.folded: list[bytes] = []
        self.since: list[bytes] = []

    def mark(self, marked: Sequence[Credential], unmarked: Sequence[Credential] = (), version: int = 1) -> bytes:
        return self.keep(self.sealed(marked, unmarked, replace(STAMP, number=len(self.sent) + 1, version=version)))

    def keep(self, sealed: bytes) -> bytes:
        self.sent.append(sealed)
        self.since.append(sealed)
        return sealed

    def sealed(
        self, marked: Sequence[Credential], unmarked: Sequence[Credential], stamp: Stamp, by: str = "publisher"
    ) -> bytes:
        if isinstance(self.listed, DenyList):
            denial, self.listed = next_change(self.listed, marked, unmarked, stamp)
            return seal_change(denial, KEY, by)
        wanted = dict.fromkeys(unmarked, False) | dict.fromkeys(marked, True)
        if isinstance(self.listed, Tickets):
            held = {each.id: [sold(CARDS.index(each))] if good else [] for each, good in wanted.items()}
            change, self.listed = next_ticket_change(self.listed, held, stamp)
        else:
            blocked = {each: CardStatus.BLOCKED if bad else CardStatus.OK for each, bad in wanted.items()}
            known = [(each, status) for each, status in blocked.items() if each in NUMBERED]
            change, self.listed = next_status_change(self.listed, known, stamp)
        return seal_list_change(change, KEY, by)

    def fold(self) -> list[bytes]:
        stamp = replace(STAMP, number=len(self.sent))
        if isinstance(self.listed, DenyList):
            assert isinstance(self.published, DenyList)
            whole = seal_change(cumulative_change(self.published, self.listed, stamp), KEY, "publisher")
        elif isinstance(self.listed, Tickets):
            whole = seal_list_change(cumulative_ticket_change(self.listed, stamp), KEY, "publisher")
        else:
            whole = seal_list_change(cumulative_status_change(self.listed, stamp), KEY, "publisher")
        self.folded, self.since = [whole], []
        return self.folded

    def marked(self) -> list[bool]:
        return [_is_marked(self.listed, card) for card in CARDS]


AnyPublisher = Publisher[DenyList, DenyChange] | Publisher[Tickets, ListChange] | Publisher[Statuses, ListChange]


def publisher_of(kind: ListKind, lists: Path) -> AnyPublisher:
    made: dict[ListKind, AnyPublisher] = {
        ListKind.DENY: Publisher(DENIALS, lists),
        ListKind.TICKETS: Publisher(TICKETS, lists),
        ListKind.STATUS: Publisher(STATUSES, lists),
    }
    return made[kind]


def _is_marked(listed: DenyList | Tickets | Statuses, card: Credential) -> bool:
    if isinstance(listed, DenyList):
        return listed.denied(card)
    if isinstance(listed, Tickets):
        return bool(listed.products(card.id))
    return listed.status(card) is CardStatus.BLOCKED


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's lists, one of each kind."""
    folder = tmp_path_factory.mktemp("device")
    for kind in KINDS:
        payload_of(kind, folder / kind)
        offered = candidate(folder / kind, kind, 1, root=payload_root(kind, folder / kind))
        install(folder / "lists", offered.sealed, offered.payload, KEYS, region="north")
    return folder / "lists"


@pytest.fixture
def lists(installed: Path, tmp_path: Path) -> Path:
    shutil.copytree(installed, tmp_path / "lists")
    return tmp_path / "lists"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> ListKind:
    return ListKind(request.param)


@pytest.fixture
def follower(lists: Path, kind: ListKind) -> AnyFollower:
    return followed(lists, kind)


@pytest.fixture
def publisher(lists: Path, kind: ListKind) -> AnyPublisher:
    return publisher_of(kind, lists)


def followed(lists: Path, kind: ListKind) -> AnyFollower:
    follower = followers_of(lists, "north", lambda: KEYS, lambda: ISSUED)[kind]
    follower.follow()
    return follower


def marked(lists: Path, kind: ListKind) -> list[bool]:
    """What a gate says that starts now."""
    gate = load(lists, KEYS, "north")
    assert gate.faults == ()
    listed = {ListKind.DENY: gate.deny, ListKind.TICKETS: gate.tickets, ListKind.STATUS: gate.statuses}[kind]
    assert listed is not None
    return [_is_marked(listed, card) for card in CARDS]


some = st.lists(st.sampled_from(CARDS), max_size=3)
fates = st.sampled_from(["taken", "lost", "twice", "late", "restart", "fold"])


@given(st.sampled_from(KINDS), st.lists(st.tuples(some, some, fates), min_size=1, max_size=12))
def test_it_ends_where_the_list_is(
    tmp_path_factory: pytest.TempPathFactory,
    installed: Path,
    kind: ListKind,
    changes: list[tuple[list[Credential], list[Credential], str]],
) -> None:
    lists = tmp_path_factory.mktemp("law") / "lists"
    shutil.copytree(installed, lists)
    publisher, follower, late = publisher_of(kind, lists), followed(lists, kind), list[bytes]()
    for these, others, fate in changes:
        sent = publisher.mark(these, others)
        if fate in {"taken", "twice", "restart", "fold"}:
            if follower.take(sent) is Step.GAP:
                follower.catch_up(publisher.folded + publisher.since)
            assert marked(lists, kind) == publisher.marked()
        if fate == "twice":
            assert follower.take(sent) is Step.KNOWN
        if fate == "late":
            late.append(sent)
        if fate == "restart":
            follower = followed(lists, kind)
        if fate == "fold":
            publisher.fold()
    for sent in late:
        follower.take(sent)
    follower.catch_up(publisher.folded + publisher.since)
    assert follower.number == len(publisher.sent)
    assert marked(lists, kind) == publisher.marked()
    assert follower.refused == ""


def test_a_change_of_another_list_is_not_this_ones(
    follower: AnyFollower, publisher: AnyPublisher, lists: Path, kind: ListKind
) -> None:
    assert follower.take(publisher.mark([CARDS[1]], version=2)) is Step.KNOWN
    assert not changes_path(lists, 1, kind).exists()


def test_a_change_by_nobody_is_refused_and_said(
    follower: AnyFollower, publisher: AnyPublisher, lists: Path, kind: ListKind
) -> None:
    assert follower.take(publisher.sealed([CARDS[1]], [], STAMP, "somebody")) is Step.REFUSED
    assert "not known here" in follower.refused
    assert not marked(lists, kind)[1]


def test_a_change_of_another_kind_of_list_is_refused(lists: Path, kind: ListKind) -> None:
    for other in set(KINDS) - {kind}:
        follower = followed(lists, kind)
        assert follower.take(publisher_of(other, lists).mark([CARDS[1]])) is Step.REFUSED
        assert follower.refused
        assert not changes_path(lists, 1, kind).exists()


def test_what_is_older_than_what_is_here_is_not_taken_back(
    follower: AnyFollower, publisher: AnyPublisher, lists: Path, kind: ListKind
) -> None:
    publisher.mark([CARDS[1]])
    old = list(publisher.since)
    assert follower.take(old[0]) is Step.APPLIED
    assert follower.take(publisher.mark([CARDS[2]])) is Step.APPLIED
    assert follower.catch_up(old) is Step.KNOWN
    assert marked(lists, kind)[1:3] == [True, True]


@pytest.mark.parametrize("limit", [("MAX_CHANGES", 2), ("MAX_BYTES", 1000)])
def test_a_full_file_of_changes_is_replaced_by_a_cumulative_one(
    lists: Path, kind: ListKind, limit: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, publisher, (bound, most) = followed(lists, kind), publisher_of(kind, lists), limit
    monkeypatch.setattr(f"validator.lists.changes_file.{bound}", most)
    assert MAX_CHANGES > 2
    steps = list[Step]()
    while Step.GAP not in steps:
        steps.append(follower.take(publisher.mark([CARDS[len(steps)]])))
    assert 2 <= len(steps) <= 4
    assert set(steps[:-1]) == {Step.APPLIED}
    assert follower.catch_up(publisher.fold()) is Step.APPLIED
    assert len(read_changes(lists, 1, kind)) == 1
    assert marked(lists, kind)[: len(steps)] == [True] * len(steps)


def test_damaged_changes_are_left_behind_after_a_restart(
    follower: AnyFollower, publisher: AnyPublisher, lists: Path, kind: ListKind
) -> None:
    follower.take(publisher.mark([CARDS[1]]))
    follower.take(publisher.mark([CARDS[2]]))
    changes = changes_path(lists, 1, kind)
    changes.write_bytes(changes.read_bytes()[:-3])
    again = followed(lists, kind)
    assert again.catch_up(publisher.since) is Step.APPLIED
    assert marked(lists, kind)[1:3] == [True, True]


@hostile
@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_bytes_for_a_change(installed: Path, kind: ListKind, sent: bytes) -> None:
    follower = followed(installed, kind)
    assert follower.take(sent) is Step.REFUSED
    assert follower.catch_up([sent]) is Step.REFUSED
    assert not changes_path(installed, 1, kind).exists()
