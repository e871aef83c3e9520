"""The list directory: what is believed, what is never older, and what is left after a power cut at every step."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.validator.authority import Authority
from tests.validator.forgetful_disk import ForgetfulDisk, PowerCut
from tests.validator.list_making import (
    ISSUED,
    KEYS,
    NOT_AFTER,
    PASS,
    SOMEBODY,
    TARIFF_PLACES,
    Candidate,
    candidate,
    enrolled_one,
    gate_rules,
    good,
)
from validator.card_index import TOKENS
from validator.fares.editions import MAX_BYTES
from validator.list_facts import CardStatus, Freshness, ListVersions
from validator.lists import installed
from validator.lists.directory import install, installed_versions, read_verified, version_in_force
from validator.lists.errors import ListError
from validator.lists.gate_rules import KEEP, StalePolicy
from validator.lists.installed import InstalledLists, load
from validator.lists.manifest import ListKind, Manifest
from validator.model import ClockConfidence, Credential, Instant

KINDS = pytest.mark.parametrize("kind", list(ListKind))
Offer = Callable[[ListKind, int], Manifest]


def put(directory: Path, offered: Candidate) -> Manifest:
    return install(directory, offered.sealed, offered.payload, KEYS, region="north")


def works(lists: InstalledLists, kind: ListKind) -> bool:
    """Whether the list of a kind answers what `good` put into it."""
    version, found = lists.manifests[kind].version, False
    match kind:
        case ListKind.TRUST:
            return lists.trust is not None and lists.trust.version == version
        case ListKind.DENY:
            return all(lists.denied(Credential(credential)) for credential in (SOMEBODY, version.to_bytes(16)))
        case ListKind.TICKETS:
            return lists.products(SOMEBODY) == [PASS] and lists.horizon("gate-1") == (1, version)
        case ListKind.ENROLLED:
            credential, spki = enrolled_one()
            return lists.enrolled(credential) == spki and lists.enrolled(SOMEBODY) is None
        case ListKind.CONFIG:
            return lists.rules == gate_rules(version)
        case ListKind.STATUS:
            cards = [lists.card_status(Credential(SOMEBODY, TOKENS, index=version + off)) for off in (-1, 0, 1)]
            found = cards == [CardStatus.LOW, CardStatus.OK, CardStatus.UNKNOWN]
        case ListKind.TARIFF:
            edition = lists.editions.at(ISSUED)
            found = edition is not None and (edition.version, edition.places) == (version, TARIFF_PLACES)
    return found


def version_of(lists: InstalledLists, kind: ListKind) -> int:
    return lists.manifests[kind].version if kind in lists.manifests else 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "lists"


@pytest.fixture
def offer(tmp_path: Path, directory: Path, authority: Authority) -> Offer:
    """Makes a good list and installs it."""
    return lambda kind, version: put(directory, good(tmp_path / "offered", kind, version, authority))


class TestInstall:
    def test_all_in_force(self, directory: Path, offer: Offer) -> None:
        for version, kind in enumerate(ListKind, start=3):
            assert offer(kind, version).version == version
        lists = load(directory, KEYS, "north")
        assert lists.versions == ListVersions(trust=3, deny=4, tickets=5, enrolled=6, status=7, tariff=9)
        assert (lists.faults, lists.issued_floor_s) == ((), ISSUED)
        assert all(works(lists, kind) for kind in ListKind)

    def test_a_gate_without_a_tariff_has_no_edition(self, directory: Path, offer: Offer) -> None:
        offer(ListKind.TRUST, 1)
        lists = load(directory, KEYS, "north")
        assert (lists.editions.at(ISSUED), lists.versions.tariff, lists.faults) == (None, 0, ())

    def test_a_file_that_is_longer_than_editions_may_be_is_not_read_to_its_end(
        self, tmp_path: Path, directory: Path
    ) -> None:
        payload = tmp_path / "payload"
        with payload.open("wb") as file:
            file.truncate(MAX_BYTES + 2)
        offered = candidate(payload, ListKind.TARIFF, 1)
        with pytest.raises(ListError, match=f"has {MAX_BYTES + 1} bytes, more than {MAX_BYTES}"):
            put(directory, offered)
        assert version_in_force(directory, ListKind.TARIFF) is None

    @KINDS
    def test_the_one_before_is_kept_and_no_other(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        for version in (1, 2, 5):
            offer(kind, version)
        assert installed_versions(directory, kind) == [5, 2]
        assert sorted(path.name for path in (directory / kind).iterdir()) == ["2", "5", "current"]

    @KINDS
    @pytest.mark.parametrize("version", [1, 3, 4])
    def test_never_older_and_never_twice(self, directory: Path, offer: Offer, kind: ListKind, version: int) -> None:
        offer(kind, 4)
        with pytest.raises(ListError, match="not newer than 4"):
            offer(kind, version)
        assert works(load(directory, KEYS, "north"), kind)

    @pytest.mark.parametrize("spoil", ["payload", "length", "hash", "signer", "signature", "region", "absent"])
    @KINDS
    def test_a_bad_candidate_leaves_the_last_good_one(
        self, tmp_path: Path, directory: Path, offer: Offer, authority: Authority, *, kind: ListKind, spoil: str
    ) -> None:
        offer(kind, 1)
        before = sorted(directory.rglob("*"))
        bad = good(tmp_path / "bad", kind, 2, authority)
        region = "north"
        match spoil:
            case "payload":
                bad.payload.write_bytes(bad.payload.read_bytes()[:-9] + bytes(8))
                bad = candidate(bad.payload, kind, 2)
            case "length":
                bad.payload.write_bytes(bad.payload.read_bytes() + b"!")
            case "hash":
                bad.payload.write_bytes(b"!" + bad.payload.read_bytes()[1:])
            case "signer":
                bad = candidate(bad.payload, kind, 2, signer="somebody")
            case "signature":
                bad = candidate(bad.payload, kind, 2, key=Ed25519PrivateKey.generate())
            case "region":
                region = "south"
            case "absent":
                bad.payload.unlink()
        with pytest.raises(ListError) as caught:
            install(directory, bad.sealed, bad.payload, KEYS, region=region)
        assert caught.value.where
        assert caught.value.why
        assert sorted(directory.rglob("*")) == before
        lists = load(directory, KEYS, "north")
        assert (version_of(lists, kind), lists.faults) == (1, ())

    def test_a_list_cannot_pass_for_another_kind(self, tmp_path: Path, directory: Path, authority: Authority) -> None:
        for kind in ListKind:
            payload = good(tmp_path / "offered", kind, 1, authority).payload
            for other in set(ListKind) - {kind}:
                with pytest.raises(ListError, match="not a"):
                    put(directory, candidate(payload, other, 1))

    def test_a_full_disk_is_a_list_error(self, directory: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
        offer(ListKind.DENY, 1)

        def full(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(ListError, match="No space left"):
                offer(ListKind.DENY, 2)
        assert sorted(path.name for path in (directory / "deny").iterdir()) == ["1", "current"]
        assert offer(ListKind.DENY, 2).version == 2


class TestPowerCut:
    @KINDS
    @pytest.mark.parametrize("forgets", [False, True], ids=["keeps", "forgets"])
    @pytest.mark.parametrize("before", [0, 1], ids=["first", "next"])
    def test_old_or_new_never_neither(
        self, tmp_path: Path, authority: Authority, kind: ListKind, before: int, *, forgets: bool
    ) -> None:
        old = [good(tmp_path / "offered", kind, version, authority) for version in range(1, before + 1)]
        new = good(tmp_path / "offered", kind, before + 1, authority)
        seen: set[int] = set()
        step, done = 0, False
        while not done:
            directory = tmp_path / f"lists-{step}"
            directory.mkdir()
            for offered in old:
                put(directory, offered)
            disk = ForgetfulDisk(directory, cut_at=step)
            with pytest.MonkeyPatch.context() as patch:
                disk.attach(patch)
                try:
                    put(directory, new)
                    done = True
                except PowerCut:
                    pass
            if forgets:
                disk.recover()
            lists = load(directory, KEYS, "north")
            version = version_of(lists, kind)
            seen.add(version)
            assert version in ({before + 1} if done else {before, before + 1}), f"cut at step {step}"
            assert version == 0 or works(lists, kind)
            if version_in_force(directory, kind) != before + 1:
                put(directory, new)
            assert version_of(load(directory, KEYS, "north"), kind) == before + 1
            assert not list(directory.rglob(".incoming*"))
            step += 1
        assert step > 8
        assert seen == {before, before + 1}

    def test_the_disk_does_forget(self, tmp_path: Path, authority: Authority) -> None:
        """Without fsync the same disk loses a list that was reported as installed: the test above can fail."""
        directory = tmp_path / "lists"
        directory.mkdir()
        disk = ForgetfulDisk(directory, syncs=False)
        with pytest.MonkeyPatch.context() as patch:
            disk.attach(patch)
            put(directory, good(tmp_path / "offered", ListKind.DENY, 1, authority))
        assert works(load(directory, KEYS, "north"), ListKind.DENY)
        disk.recover()
        assert load(directory, KEYS, "north").deny is None


class TestLoad:
    def test_nothing_there(self, directory: Path) -> None:
        lists = load(directory, KEYS, "north")
        assert lists.versions == ListVersions()
        assert (lists.issued_floor_s, lists.faults, lists.horizon("gate-1")) == (0, (), (0, 0))
        assert not lists.denied(Credential(SOMEBODY))
        assert lists.products(SOMEBODY) == []
        assert lists.enrolled(SOMEBODY) is None
        assert lists.card_status(Credential(SOMEBODY, TOKENS, index=0)) is CardStatus.UNKNOWN

    def test_a_gate_can_do_without_enrolled_keys_and_without_statuses(self, directory: Path, offer: Offer) -> None:
        needed = [kind for kind in ListKind if kind.needed]
        for kind in needed:
            offer(kind, 1)
        lists = load(directory, KEYS, "north")
        assert (lists.faults, lists.versions) == ((), ListVersions(1, 1, 1, 0))
        assert all(works(lists, kind) for kind in needed)
        assert lists.enrolled(enrolled_one()[0]) is None
        offer(ListKind.ENROLLED, 1)
        assert lists.changed()
        assert works(load(directory, KEYS, "north", lists), ListKind.ENROLLED)

    @KINDS
    @pytest.mark.parametrize("spoil", ["payload", "manifest", "gone", "cut", "swapped"])
    def test_a_spoilt_version_gives_way_to_the_one_before(
        self, directory: Path, offer: Offer, kind: ListKind, spoil: str
    ) -> None:
        for version in (1, 2):
            offer(kind, version)
        home = directory / kind / "2"
        match spoil:
            case "payload":
                content = (home / "payload").read_bytes()
                (home / "payload").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            case "manifest":
                (home / "manifest").write_bytes(b"")
            case "gone":
                shutil.rmtree(home)
            case "cut":
                os.truncate(home / "payload", 7)
            case "swapped":
                shutil.copy(directory / kind / "1" / "manifest", home / "manifest")
        lists = load(directory, KEYS, "north")
        assert version_of(lists, kind) == 1
        assert works(lists, kind)
        [fault] = lists.faults
        assert str(home) in str(fault)

    @KINDS
    @pytest.mark.parametrize("pointer", [None, b"", b"x", b"-1", b"\xff", b"9" * 5000])
    def test_a_spoilt_pointer_is_reported_and_the_newest_serves(
        self, directory: Path, offer: Offer, kind: ListKind, pointer: bytes | None
    ) -> None:
        for version in (1, 2):
            offer(kind, version)
        (directory / kind / "current").unlink()
        if pointer is not None:
            (directory / kind / "current").write_bytes(pointer)
        lists = load(directory, KEYS, "north")
        assert version_of(lists, kind) == 2
        assert [Path(fault.where).name for fault in lists.faults] == ["current"]
        with pytest.raises(ListError, match="not newer"):
            offer(kind, 1)
        offer(kind, 2)
        assert load(directory, KEYS, "north").faults == ()

    def test_a_publisher_that_is_no_longer_believed(self, directory: Path, offer: Offer) -> None:
        offer(ListKind.DENY, 1)
        lists = load(directory, {}, "north")
        assert lists.deny is None
        assert "is not known here" in str(lists.faults[0])

    @KINDS
    def test_a_list_of_another_region_is_a_fault(self, directory: Path, offer: Offer, kind: ListKind) -> None:
        offer(kind, 1)
        lists = load(directory, KEYS, "south")
        assert version_of(lists, kind) == 0
        (fault,) = lists.faults
        assert fault.why == "is for region 'north', this device is in 'south'"

    def test_pointers_tell_of_change_and_the_rest_is_taken_over(self, directory: Path, offer: Offer) -> None:
        for kind in ListKind:
            offer(kind, 1)
        first = load(directory, KEYS, "north")
        assert not first.changed()
        offer(ListKind.DENY, 2)
        assert first.changed()
        second = load(directory, KEYS, "north", first)
        assert not second.changed()
        assert second.versions == ListVersions(trust=1, deny=2, tickets=1, enrolled=1, status=1, tariff=1)
        assert (second.trust is first.trust, second.tickets is first.tickets) == (True, True)
        assert (second.keys is first.keys, second.rules is first.rules) == (True, True)
        assert (second.statuses is first.statuses, second.tariff is first.tariff) == (True, True)
        assert first.denied(Credential((1).to_bytes(16)))  # what a tap began with stays as it was
        assert second.denied(Credential((2).to_bytes(16)))

    def test_versions_that_change_hands_while_they_are_read(
        self, directory: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        offer(ListKind.DENY, 1)

        def overtaken(*args: Any) -> tuple[Manifest, Path]:
            monkeypatch.undo()
            offer(ListKind.DENY, 2)
            offer(ListKind.DENY, 3)  # and 1 is gone
            return read_verified(*args)

        monkeypatch.setattr(installed, "read_verified", overtaken)
        lists = load(directory, KEYS, "north")
        assert (version_of(lists, ListKind.DENY), lists.faults) == (3, ())
        assert lists.changed()

    def test_a_newer_version_that_was_never_in_force_is_not_taken(
        self, tmp_path: Path, directory: Path, offer: Offer, authority: Authority
    ) -> None:
        offer(ListKind.DENY, 1)
        newer = good(tmp_path / "offered", ListKind.DENY, 2, authority)
        home = directory / "deny" / "2"
        home.mkdir()
        (home / "manifest").write_bytes(newer.sealed)
        shutil.copy(newer.payload, home / "payload")
        assert version_of(load(directory, KEYS, "north"), ListKind.DENY) == 1

    @pytest.mark.parametrize(
        ("at_s", "policy", "expected"),
        [
            (NOT_AFTER, StalePolicy(60), Freshness.FRESH),
            (NOT_AFTER + 1, StalePolicy(60), Freshness.GRACE),
            (NOT_AFTER + 60, StalePolicy(60), Freshness.GRACE),
            (NOT_AFTER + 61, StalePolicy(60), Freshness.STALE),
            (NOT_AFTER, StalePolicy(0), Freshness.FRESH),
            (NOT_AFTER + 1, StalePolicy(0), Freshness.STALE),
            (NOT_AFTER, KEEP, Freshness.FRESH),
            (NOT_AFTER + 1, KEEP, Freshness.GRACE),
            (2**53, KEEP, Freshness.GRACE),
        ],
    )
    def test_freshness(
        self, directory: Path, offer: Offer, at_s: int, policy: StalePolicy, expected: Freshness
    ) -> None:
        offer(ListKind.DENY, 1)
        lists = load(directory, KEYS, "north")
        at = Instant(at_s * 1000 + 999, 0, bytes(8), ClockConfidence.NTP)
        assert lists.freshness(ListKind.DENY, at, policy) is expected
        assert lists.freshness(ListKind.TRUST, at, policy) is Freshness.MISSING


@pytest.mark.slow
def test_a_ticket_list_costs_no_memory(tmp_path: Path) -> None:
    """Installed, loaded and asked in a fresh process, whose greatest resident size is bounded whatever the count."""
    count = 1_000_000 if os.environ.get("PILET_SOAK") == "1" else 150_000
    done = subprocess.run(
        [sys.executable, "-m", "tests.validator.many_tickets", str(tmp_path), str(count)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 90 * 1024
