"""Changes of tickets and statuses on a gate's disk: what holds is what was sent last, and nothing else takes force."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend_sync.deny_changes import Stamp
from backend_sync.list_changes import (
    cumulative_status_change,
    cumulative_ticket_change,
    next_status_change,
    next_ticket_change,
)
from tests.validator.forgetful_disk import ForgetfulDisk, PowerCut
from tests.validator.list_making import ISSUED, KEY, KEYS, NOT_AFTER, PASS, SOMEBODY, candidate
from validator.card_index import TOKENS
from validator.list_facts import CardStatus, Freshness
from validator.lists.changes_file import changes_path, write_changes
from validator.lists.deny_change import DenyChange, open_change, seal_change
from validator.lists.directory import install, payload_root
from validator.lists.errors import ListError
from validator.lists.gate_rules import StalePolicy
from validator.lists.installed import InstalledLists, load
from validator.lists.list_change import ListChange, open_list_change, seal_list_change
from validator.lists.manifest import ListKind
from validator.lists.status_array import pack, write_status_file
from validator.lists.ticket_store import write_ticket_store
from validator.model import ClockConfidence, Credential, Instant

STAMP = Stamp("north", version=1, number=1, issued_s=ISSUED + 60, not_after_s=NOT_AFTER + 3600)
BUYER = bytes(16)
BOUGHT = replace(PASS, product_id=2)
ISSUER = bytes(range(1, 17))
KINDS = pytest.mark.parametrize("kind", [ListKind.TICKETS, ListKind.STATUS])
Offer = Callable[[ListKind, int], None]


def card(index: int | None, issuer: bytes = TOKENS) -> Credential:
    return Credential(SOMEBODY, issuer, index=index)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "lists"


@pytest.fixture
def offer(tmp_path: Path, directory: Path) -> Offer:
    """Installs SOMEBODY's pass, or three good cards of one issuer and one of another."""

    def put(kind: ListKind, version: int) -> None:
        payload = tmp_path / f"{kind}-{version}"
        if kind is ListKind.TICKETS:
            write_ticket_store(payload, [(SOMEBODY, PASS)])
        else:
            good = sorted([(TOKENS, 3, pack([CardStatus.OK] * 3)), (ISSUER, 1, pack([CardStatus.OK]))])
            write_status_file(payload, good)
        offered = candidate(payload, kind, version, root=payload_root(kind, payload))
        install(directory, offered.sealed, payload, KEYS, region="north")

    return put


def look(directory: Path, previous: InstalledLists | None = None) -> InstalledLists:
    return load(directory, KEYS, "north", previous)


def told(lists: InstalledLists, kind: ListKind) -> object:
    """What the changes are about."""
    if kind is ListKind.TICKETS:
        return lists.products(SOMEBODY), lists.products(BUYER)
    return [lists.card_status(each) for each in (card(0), card(1), card(4), card(0, ISSUER))]


OK, LOW, BLOCKED, UNKNOWN = CardStatus.OK, CardStatus.LOW, CardStatus.BLOCKED, CardStatus.UNKNOWN
SAID: dict[ListKind, list[object]] = {
    ListKind.TICKETS: [([PASS], []), ([PASS], [BOUGHT]), ([], [BOUGHT])],
    ListKind.STATUS: [[OK, OK, UNKNOWN, OK], [LOW, OK, OK, OK], [LOW, BLOCKED, OK, BLOCKED]],
}
"""Before, after the first change, and after the second."""


def two(lists: InstalledLists, kind: ListKind) -> tuple[ListChange, ListChange, ListChange]:
    """BUYER buys and SOMEBODY gives back; or cards are used up, new, and blocked. Then the same in one change."""
    other = replace(STAMP, number=2, issued_s=ISSUED + 90)
    if kind is ListKind.TICKETS:
        assert lists.tickets is not None
        one, bought = next_ticket_change(lists.tickets.published, {BUYER: [BOUGHT]}, STAMP)
        two, both = next_ticket_change(bought, {SOMEBODY: []}, other)
        return one, two, cumulative_ticket_change(both, other)
    assert lists.statuses is not None
    one, low = next_status_change(lists.statuses.published, [(card(0), LOW), (card(1), OK), (card(4), OK)], STAMP)
    two, blocked = next_status_change(low, [(card(1), BLOCKED), (card(0, ISSUER), BLOCKED)], other)
    return one, two, cumulative_status_change(blocked, other)


def sealed(*changes: ListChange) -> list[bytes]:
    return [seal_list_change(each, KEY, "publisher") for each in changes]


@KINDS
def test_changes_are_in_force_while_a_gate_runs_and_after_a_restart(
    directory: Path, offer: Offer, kind: ListKind
) -> None:
    offer(kind, 1)
    lists = first = look(directory)
    one, other, whole = two(lists, kind)
    assert told(lists, kind) == SAID[kind][0]
    for number, changes in ((1, (one,)), (2, (one, other)), (2, (whole,))):
        write_changes(directory, 1, sealed(*changes), kind)
        assert lists.changed()
        lists = look(directory, lists)
        for here in (lists, look(directory)):
            assert (told(here, kind), here.faults, here.changed()) == (SAID[kind][number], (), False)
    assert told(first, kind) == SAID[kind][0], "what a tap began with stays as it was"
    assert lists.issued_floor_s == ISSUED + 90


@KINDS
def test_nothing_is_opened_or_applied_again_that_is_in_force(
    directory: Path, offer: Offer, kind: ListKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (ListKind.TICKETS, ListKind.STATUS):
        offer(each, 1)
    lists = look(directory)
    write_changes(directory, 1, sealed(two(lists, kind)[0]), kind)
    lists = look(directory, lists)

    def never(*_: object) -> None:
        raise AssertionError

    for name in ("changing.TicketStore", "changing.StatusFile", "installed.read_changes"):
        monkeypatch.setattr(f"validator.lists.{name}", never)
    again = look(directory, lists)
    assert (again.tickets is lists.tickets, again.statuses is lists.statuses) == (True, True)
    assert again.changes == lists.changes


@KINDS
def test_increments_and_the_cumulative_change_lead_to_one_state(directory: Path, offer: Offer, kind: ListKind) -> None:
    offer(kind, 1)
    one, other, whole = two(look(directory), kind)
    assert (one.state, whole.base, whole.state) == (other.base, one.base, other.state)
    assert len({one.base, one.state, other.state}) == 3


@KINDS
def test_a_new_list_begins_without(directory: Path, offer: Offer, kind: ListKind) -> None:
    offer(kind, 1)
    write_changes(directory, 1, sealed(*two(look(directory), kind)[:2]), kind)
    lists = look(directory)
    offer(kind, 2)
    after = look(directory, lists)
    assert (told(after, kind), after.changes, after.faults) == (SAID[kind][0], {}, ())


@KINDS
def test_the_newest_change_says_how_fresh_the_list_is(directory: Path, offer: Offer, kind: ListKind) -> None:
    offer(kind, 1)
    write_changes(directory, 1, sealed(two(look(directory), kind)[0]), kind)
    lists = look(directory)
    for late_s, freshness in ((3600, Freshness.FRESH), (3601, Freshness.GRACE), (3661, Freshness.STALE)):
        at = Instant((NOT_AFTER + late_s) * 1000, 0, b"one-boot", ClockConfidence.NTP)
        assert lists.freshness(kind, at, StalePolicy(60)) is freshness


class TestBad:
    """The changes before the bad one hold, the fault has a name, and the list is not called fresh."""

    @staticmethod
    def check(directory: Path, kind: ListKind, why: str, number: int) -> None:
        for lists in (look(directory), look(directory, look(directory))):
            (fault,) = lists.faults_by_kind[kind]
            assert why in str(fault)
            assert told(lists, kind) == SAID[kind][number]
            at = Instant(ISSUED * 1000, 0, b"one-boot", ClockConfidence.NTP)
            assert lists.freshness(kind, at, StalePolicy(60)) is Freshness.GRACE

    @KINDS
    @pytest.mark.parametrize(
        ("facts", "why"),
        [
            ({"base": bytes(32)}, "is for the state"),
            ({"state": bytes(32)}, "leads to the state"),
            ({"version": 2}, "belongs to version 2"),
            ({"region": "south"}, "region 'south'"),
            ({"deltas": (b"",)}, "not a"),
        ],
        ids=str,
    )
    def test_one_that_does_not_fit(
        self, directory: Path, offer: Offer, kind: ListKind, facts: dict[str, object], why: str
    ) -> None:
        offer(kind, 1)
        one, other, _ = two(look(directory), kind)
        wrong = replace(other, **facts)  # type: ignore[arg-type]  # one test for fields of several types
        write_changes(directory, 1, sealed(one, wrong), kind)
        # What is wrong on its face is found before the first change is applied.
        self.check(directory, kind, why, 0 if "version" in facts or "region" in facts else 1)

    @KINDS
    def test_one_that_was_left_out_or_comes_twice(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        offer(kind, 1)
        one, other, _ = two(look(directory), kind)
        write_changes(directory, 1, sealed(other), kind)
        self.check(directory, kind, "is for the state", 0)
        write_changes(directory, 1, sealed(one, other, other), kind)
        self.check(directory, kind, "is for the state", 2)

    @KINDS
    def test_by_a_stranger_or_of_another_kind_of_list(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        for each in (ListKind.TICKETS, ListKind.STATUS):
            offer(each, 1)
        other = ListKind.STATUS if kind is ListKind.TICKETS else ListKind.TICKETS
        change, foreign = two(look(directory), kind)[0], two(look(directory), other)[0]
        write_changes(directory, 1, [seal_list_change(change, KEY, "somebody else")], kind)
        self.check(directory, kind, "somebody else", 0)
        write_changes(directory, 1, sealed(foreign), kind)
        self.check(directory, kind, f"changes a list of kind {other}", 0)

    @KINDS
    @pytest.mark.parametrize("content", [b"", b"\xc0", b"\x91\x01", b"\x91\xc4\x00", bytes(100)])
    def test_a_file_that_is_none(self, directory: Path, offer: Offer, kind: ListKind, content: bytes) -> None:
        offer(kind, 1)
        changes_path(directory, 1, kind).write_bytes(content)
        self.check(directory, kind, "", 0)

    def test_a_change_of_a_deny_list_is_none_of_these_and_the_other_way_round(
        self, directory: Path, offer: Offer
    ) -> None:
        offer(ListKind.TICKETS, 1)
        change = two(look(directory), ListKind.TICKETS)[0]
        denial = seal_change(DenyChange("north", 1, 1, 1, 2, bytes(32), bytes(32)), KEY, "publisher")
        with pytest.raises(ListError, match="not a change of a list"):
            open_list_change(denial, KEYS)
        with pytest.raises(ListError, match="not a change of a deny list"):
            open_change(sealed(change)[0], KEYS)

    @pytest.mark.parametrize(
        "facts",
        [{"kind": ListKind.DENY}, {"version": 0}, {"number": 0}, {"not_after_s": ISSUED}, {"base": b""}],
        ids=str,
    )
    def test_one_that_no_gate_would_take_is_not_signed(
        self, directory: Path, offer: Offer, facts: dict[str, object]
    ) -> None:
        offer(ListKind.TICKETS, 1)
        wrong = replace(two(look(directory), ListKind.TICKETS)[0], **facts)  # type: ignore[arg-type]  # as above
        with pytest.raises(ListError):
            seal_list_change(wrong, KEY, "publisher")

    def test_a_card_that_the_list_cannot_speak_of(self, directory: Path, offer: Offer) -> None:
        offer(ListKind.STATUS, 1)
        statuses = look(directory).statuses
        assert statuses is not None
        for wrong in (card(None), card(0, bytes(16))):
            with pytest.raises(ListError, match="not one that the list can speak of"):
                next_status_change(statuses, [(wrong, LOW)], STAMP)


@KINDS
def test_a_power_cut_leaves_the_old_changes_or_the_new(
    directory: Path, offer: Offer, kind: ListKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(kind, 1)
    one, other, _ = two(look(directory), kind)
    write_changes(directory, 1, sealed(one), kind)
    cut_at, done = 0, False
    while not done:
        disk = ForgetfulDisk(directory, cut_at)
        with monkeypatch.context() as patch:
            disk.attach(patch)
            try:
                write_changes(directory, 1, sealed(one, other), kind)
                done = True
            except PowerCut:
                pass
        disk.recover()
        lists = look(directory)
        assert (told(lists, kind), lists.faults) == (SAID[kind][2 if done else 1], ())
        cut_at += 1
    assert cut_at > 3


class TestRoot:
    """A payload whose manifest names its root is verified by its pages, when they are read."""

    @KINDS
    def test_a_spoilt_page_is_found_when_it_is_asked_and_not_before(
        self, directory: Path, offer: Offer, kind: ListKind
    ) -> None:
        offer(kind, 1)
        with (directory / kind / "1" / "payload").open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff\xff")
        lists = look(directory)
        assert lists.faults == ()
        with pytest.raises(ListError, match="page 0 is damaged"):
            told(lists, kind)

    @KINDS
    def test_another_list_of_the_same_length_is_refused(
        self, tmp_path: Path, directory: Path, offer: Offer, kind: ListKind
    ) -> None:
        offer(kind, 1)
        payload = directory / kind / "1" / "payload"
        (tmp_path / "other").unlink(missing_ok=True)
        if kind is ListKind.TICKETS:
            write_ticket_store(tmp_path / "other", [(SOMEBODY, BOUGHT)])
        else:
            good = sorted([(TOKENS, 3, pack([BLOCKED] * 3)), (ISSUER, 1, pack([OK]))])
            write_status_file(tmp_path / "other", good)
        assert (tmp_path / "other").stat().st_size == payload.stat().st_size
        payload.write_bytes((tmp_path / "other").read_bytes())
        lists = look(directory)
        assert [fault.why for fault in lists.faults] == ["has not the root of its manifest"]
        assert kind not in lists.manifests

    @KINDS
    def test_a_manifest_with_another_root_is_not_installed(
        self, tmp_path: Path, directory: Path, offer: Offer, kind: ListKind
    ) -> None:
        offer(kind, 1)
        wrong = candidate(tmp_path / f"{kind}-1", kind, 2, root=bytes(32))
        with pytest.raises(ListError, match="has not the root that its manifest says"):
            install(directory, wrong.sealed, wrong.payload, KEYS, region="north")
        assert look(directory).manifests[kind].version == 1

    @KINDS
    def test_without_a_root_the_whole_payload_is_hashed(
        self, tmp_path: Path, directory: Path, offer: Offer, kind: ListKind
    ) -> None:
        offer(kind, 1)
        plain = candidate(tmp_path / f"{kind}-1", kind, 2)
        install(directory, plain.sealed, plain.payload, KEYS, region="north")
        with (directory / kind / "2" / "payload").open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff\xff")
        lists = look(directory)
        assert lists.manifests[kind].version == 1
        assert "has not the SHA-256 of its manifest" in str(lists.faults[0])
