"""The disk under the catalogue: cut off at any step, full at any write, and floors that do not sink."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync.catalogue.client import load, refresh
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.floors import MAX_VERSION, FloorsError, FloorsFile
from backend_sync.publish_errors import PublishError
from tests.backend_sync.catalogue_office import NOW, FloorsInMemory, Mirror, Office
from tests.validator.forgetful_disk import ForgetfulDisk, PowerCut

Snapshot = tuple[dict[str, bytes], dict[str, int]]


class Gate:
    """A gate that took the first catalogue, made anew for each cut."""

    def __init__(self, home: Path, office: Office) -> None:
        self.folder, self.root, self.floors = home / "catalogue", office.root, FloorsInMemory()
        self.first, self.second = office.files(), {}
        self.refresh(self.first)
        office.publish(2)
        self.second = office.files()

    def refresh(self, files: dict[str, bytes]) -> int:
        taken = refresh(Mirror(files), self.folder, self.root, NOW, region="north", floors=self.floors)
        return taken.targets["north/deny/list"].custom.version

    def load(self) -> int:
        taken = load(self.folder, self.root, region="north", floors=self.floors)
        return taken.targets["north/deny/list"].custom.version


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path / "office")
    office.publish(1)
    return office


@pytest.mark.parametrize(("forgets", "outcomes"), [(True, {1}), (False, {1, 2})], ids=["forgetful", "eager"])
def test_a_power_cut_while_metadata_is_written(
    tmp_path: Path, office: Office, *, forgets: bool, outcomes: set[int]
) -> None:
    """Old or new, never neither, and never below a floor; the next refresh goes on."""
    gate, seen = Gate(tmp_path, office), set()
    stored, floors = (gate.folder / "metadata").read_bytes(), gate.floors.read()

    def cut_off_at(step: int | None) -> ForgetfulDisk:
        (gate.folder / "metadata").write_bytes(stored)
        gate.floors.seen = dict(floors)
        disk = ForgetfulDisk(gate.folder, cut_at=step)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PowerCut):
            disk.attach(patch)
            gate.refresh(gate.second)
        return disk

    disk = cut_off_at(None)
    disk.recover()  # power is lost right afterwards
    assert gate.load() == 2
    assert disk.steps > 5
    # In the folder that lasts the last steps are taken; those before are in one that is thrown away.
    for step in sorted({*range(0, disk.steps, 6), *range(disk.steps - 6, disk.steps)}):
        cut = cut_off_at(step)
        if forgets:  # else what was begun is on the disk without being asked for, renames included
            cut.recover()
        seen.add(gate.load())
        assert gate.refresh(gate.second) == 2
    assert seen == outcomes


def test_a_power_cut_before_the_floors_rise(tmp_path: Path, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(tmp_path, office)

    def cut(_versions: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(gate.floors, "raise_to", cut)
        with pytest.raises(PowerCut):
            gate.refresh(gate.second)
    assert gate.load() == 2
    with pytest.raises(CatalogueRefused) as refusal:
        gate.refresh(gate.first)
    assert refusal.value.reason is Refusal.ROLLBACK


@pytest.mark.parametrize(("forgets", "outcomes"), [(True, {1}), (False, {1, 2})], ids=["forgetful", "eager"])
def test_a_power_cut_at_the_publisher(tmp_path: Path, office: Office, *, forgets: bool, outcomes: set[int]) -> None:
    """Whoever reads afterwards gets the catalogue before or the one after, and the next publication is taken."""
    first, seen = office, set()
    whole = first.copied(tmp_path / "whole")
    disk = cut_off(whole, None)
    steps = disk.steps
    assert steps > 20
    disk.recover()  # power is lost right afterwards
    assert taken_of(whole, tmp_path / "gate", FloorsInMemory()) == 2
    for cut in sorted({*range(0, steps, 12), steps - 2, steps - 1}):
        office = first.copied(tmp_path / f"office-{cut}")
        disk = cut_off(office, cut)
        if forgets:
            disk.recover()
        gate, floors = tmp_path / f"gate-{cut}", FloorsInMemory()
        seen.add(taken_of(office, gate, floors))
        office.publish(3)
        assert taken_of(office, gate, floors) == 3
    assert seen == outcomes


def taken_of(office: Office, folder: Path, floors: FloorsInMemory) -> int:
    """The version of the list that a device takes."""
    taken = refresh(Mirror(office.files()), folder, office.root, NOW, region="north", floors=floors)
    return taken.targets["north/deny/list"].custom.version


def cut_off(office: Office, cut_at: int | None) -> ForgetfulDisk:
    """Publish, and lose power at a step."""
    disk = ForgetfulDisk(office.home, cut_at=cut_at)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PowerCut):
        disk.attach(patch)
        office.publish(2)
    return disk


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_disk_that_is_full_at_any_write(tmp_path: Path, office: Office, call: str) -> None:
    gate, number = Gate(tmp_path, office), 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, call, failing(getattr(os, call), number, gate.folder))
            try:
                gate.refresh(gate.second)
                break
            except CatalogueRefused as refused:
                assert refused.reason is Refusal.STORAGE  # noqa: PT017 - how often it fails is counted
        number += 1
        assert gate.load() in {1, 2}
    assert gate.load() == 2
    assert number > 0


def failing(call: Callable[..., Any], number: int, folder: Path) -> Callable[..., Any]:
    """A call that finds the disk full at one of its uses."""
    uses = 0

    def full(*args: Any, **kwargs: Any) -> Any:
        nonlocal uses
        if len(args) > 1 and args[0] == "/proc":
            return call(*args, **kwargs)
        uses += 1
        if uses == number + 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        return call(*args, **kwargs)

    return full


def test_a_publisher_whose_disk_is_full(office: Office) -> None:
    before = office.files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", failing(os.replace, 0, office.home))
        with pytest.raises(PublishError, match="No space left"):
            office.publish(2)
    assert office.files() == before


def test_what_is_known_already_is_not_written(tmp_path: Path, office: Office) -> None:
    gate = Gate(tmp_path, office)
    before = (gate.folder / "metadata").stat()
    gate.refresh(gate.first)
    after = (gate.folder / "metadata").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


class TestFloors:
    def test_floors_never_sink(self, tmp_path: Path) -> None:
        with FloorsFile(tmp_path / "floors") as floors:
            floors.raise_to({"a": 5, "b": 2})
            floors.raise_to({"a": 3, "b": 9, "c": MAX_VERSION})
        with FloorsFile(tmp_path / "floors") as floors:
            assert floors.read() == {"a": 5, "b": 9, "c": MAX_VERSION}

    @settings(max_examples=20, deadline=None)
    @given(raised=st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, MAX_VERSION)), max_size=6))
    def test_a_floor_is_the_greatest_version_ever(
        self, tmp_path_factory: pytest.TempPathFactory, raised: list[dict[str, int]]
    ) -> None:
        with FloorsFile(tmp_path_factory.mktemp("floors") / "floors") as floors:
            for versions in raised:
                floors.raise_to(versions)
            names = {name for versions in raised for name in versions}
            assert floors.read() == {
                name: max(versions[name] for versions in raised if name in versions) for name in names
            }

    def test_all_or_none_are_raised(self, tmp_path: Path) -> None:
        with FloorsFile(tmp_path / "floors") as floors:
            with pytest.raises(FloorsError, match="cannot be raised"):
                floors.raise_to({"a": 5, "b": MAX_VERSION + 1})
            assert floors.read() == {}

    def test_a_commit_is_on_the_disk(self, tmp_path: Path) -> None:
        with FloorsFile(tmp_path / "floors") as floors:
            assert (floors._db.pragma("synchronous"), floors._db.pragma("journal_mode")) == (2, "wal")

    @pytest.mark.parametrize("spoil", ["junk", "another"])
    def test_another_file_is_refused_and_left_alone(self, tmp_path: Path, spoil: str) -> None:
        path = tmp_path / "floors"
        if spoil == "junk":
            path.write_bytes(b"junk" * 2000)
        else:
            apsw.Connection(str(path)).execute("CREATE TABLE other (a)").connection.close()
        before = path.read_bytes()
        with pytest.raises(FloorsError):
            FloorsFile(path)
        assert path.read_bytes() == before

    def test_floors_that_cannot_be_read_refuse_everything(self, tmp_path: Path, office: Office) -> None:
        floors = FloorsFile(tmp_path / "floors")
        floors._db.execute("DROP TABLE floor")
        with pytest.raises(CatalogueRefused) as refusal, floors:
            refresh(Mirror(office.files()), tmp_path / "gate", office.root, NOW, region="north", floors=floors)
        assert refusal.value.reason is Refusal.STORAGE
        assert not (tmp_path / "gate").exists()
