"""Lists that cannot be read, for a moment or for good: what was in force stays, is marked, and is looked at again."""

import asyncio
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.validator.authority import Authority
from tests.validator.list_making import KEYS, NOT_AFTER, good
from validator import service
from validator.list_facts import Freshness
from validator.lists.directory import install
from validator.lists.gate_rules import StalePolicy
from validator.lists.installed import InstalledLists, load
from validator.lists.manifest import ListKind
from validator.model import ClockConfidence, Instant
from validator.publishers import Publishers

KINDS = pytest.mark.parametrize("kind", list(ListKind))
AT = Instant(NOT_AFTER * 1000, 0, bytes(8), ClockConfidence.NTP)
Offer = Callable[[ListKind, int], None]


@contextmanager
def no_more_files() -> Iterator[None]:
    """The process has as many files open as it may: whatever is opened fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "lists"


@pytest.fixture
def offer(tmp_path: Path, directory: Path, authority: Authority) -> Offer:
    """Makes a good list and installs it."""

    def put(kind: ListKind, version: int) -> None:
        offered = good(tmp_path / "offered", kind, version, authority)
        install(directory, offered.sealed, offered.payload, KEYS, region="north")

    return put


def look(directory: Path, previous: InstalledLists | None = None) -> InstalledLists:
    return load(directory, KEYS, "north", previous)


def state(lists: InstalledLists, kind: ListKind) -> tuple[int, bool, bool, Freshness]:
    """Version in force, whether its content is there, whether something is wrong, and how current it is called."""
    content = {
        ListKind.TRUST: lists.trust,
        ListKind.DENY: lists.deny,
        ListKind.TICKETS: lists.tickets,
        ListKind.ENROLLED: lists.keys,
        ListKind.CONFIG: lists.rules,
        ListKind.STATUS: lists.statuses,
        ListKind.TARIFF: lists.tariff,
    }[kind]
    version = lists.manifests[kind].version if kind in lists.manifests else 0
    return version, content is not None, lists.faulty(kind), lists.freshness(kind, AT, StalePolicy(60))


def rot(directory: Path, kind: ListKind, version: int) -> bytes:
    payload = directory / kind / str(version) / "payload"
    whole = payload.read_bytes()
    payload.write_bytes(b"rotten")
    return whole


class TestOneMoment:
    @KINDS
    def test_a_list_is_not_forgotten_and_the_next_one_is_taken_later(
        self, directory: Path, offer: Offer, kind: ListKind
    ) -> None:
        offer(kind, 1)
        first = look(directory)
        offer(kind, 2)
        with no_more_files():
            second = look(directory, first)
        assert state(second, kind) == (1, True, True, Freshness.GRACE)
        assert not second.changed()
        assert state(look(directory, second), kind) == (2, True, False, Freshness.FRESH)

    @KINDS
    def test_at_the_start(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        offer(kind, 1)
        with no_more_files():
            first = look(directory)
        assert state(first, kind) == (0, False, True, Freshness.MISSING)
        assert state(look(directory, first), kind) == (1, True, False, Freshness.FRESH)


class TestForGood:
    @KINDS
    def test_an_older_list_serves_and_is_never_called_fresh(
        self, directory: Path, offer: Offer, kind: ListKind
    ) -> None:
        for version in (1, 2):
            offer(kind, version)
        whole = rot(directory, kind, 2)
        first = look(directory)
        second = look(directory, first)
        for lists in (first, second):
            assert state(lists, kind) == (1, True, True, Freshness.GRACE)
            others = [other for other in ListKind if other is not kind]
            assert not any(lists.faulty(other) for other in others)
        (directory / kind / "2" / "payload").write_bytes(whole)
        assert state(look(directory, second), kind) == (2, True, False, Freshness.FRESH)

    @KINDS
    def test_what_is_in_memory_goes_before_what_is_older(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        for version in (1, 2):
            offer(kind, version)
        lists = look(directory)
        (directory / kind / "current").write_bytes(b"")  # the pointer moves, and the version that it named is rotten
        rot(directory, kind, 2)
        for _ in range(2):
            lists = look(directory, lists)
            assert state(lists, kind) == (2, True, True, Freshness.GRACE)
        assert state(look(directory), kind) == (1, True, True, Freshness.GRACE)

    @KINDS
    def test_a_directory_that_is_gone(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        offer(kind, 1)
        first = look(directory)
        shutil.rmtree(directory)
        second = look(directory, first)
        assert state(second, kind) == (1, True, True, Freshness.GRACE)
        assert state(look(directory, second), kind) == (1, True, True, Freshness.GRACE)

    @KINDS
    def test_age_weighs_more_than_a_fault(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        for version in (1, 2):
            offer(kind, version)
        rot(directory, kind, 2)
        late = Instant((NOT_AFTER + 61) * 1000, 0, bytes(8), ClockConfidence.NTP)
        assert look(directory).freshness(kind, late, StalePolicy(60)) is Freshness.STALE

    @KINDS
    def test_numbers_that_begin_anew_are_no_fault(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        offer(kind, 7)
        first = look(directory)
        shutil.rmtree(directory)
        offer(kind, 1)
        assert state(look(directory, first), kind) == (1, True, False, Freshness.FRESH)


class TestFollowing:
    """The service looks again while something is wrong, and not each second."""

    @pytest.fixture
    def station(self, directory: Path, offer: Offer) -> Any:
        for version in (1, 2):
            offer(ListKind.DENY, version)
        whole = rot(directory, ListKind.DENY, 2)
        station = SimpleNamespace(lists=look(directory), adopted=0, healed=asyncio.Event())

        def adopt(lists: InstalledLists) -> None:
            station.lists = lists
            station.adopted += 1
            (directory / "deny" / "2" / "payload").write_bytes(whole)
            if not lists.faults:
                station.healed.set()

        station.adopt = adopt
        return station

    @pytest.fixture
    def publishers(self, directory: Path) -> Publishers:
        return Publishers(KEYS, None, directory, "north")

    async def test_a_fault_is_looked_at_again_though_no_pointer_moves(
        self, monkeypatch: pytest.MonkeyPatch, station: Any, publishers: Publishers
    ) -> None:
        monkeypatch.setattr(service, "LIST_CHECK_S", 0.0)
        monkeypatch.setattr(service, "LIST_RETRY_S", 0.0)
        following = asyncio.create_task(service._follow_lists(station, publishers))
        async with asyncio.timeout(30):
            await station.healed.wait()
        following.cancel()
        assert station.lists.versions.deny == 2
        assert station.adopted == 2

    async def test_not_before_its_time(
        self, monkeypatch: pytest.MonkeyPatch, station: Any, publishers: Publishers
    ) -> None:
        looked: list[object] = []

        async def look_again(*asked: object) -> InstalledLists:
            looked.append(asked)
            lists: InstalledLists = station.lists
            return lists

        monkeypatch.setattr(service, "LIST_CHECK_S", 0.0)
        monkeypatch.setattr(asyncio, "to_thread", look_again)
        following = asyncio.create_task(service._follow_lists(station, publishers))
        for _ in range(50):
            await asyncio.sleep(0)
        following.cancel()
        assert looked == []
