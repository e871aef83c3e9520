"""Delivery: all that is newer, or nothing; and what is refused is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from backend_sync.delivery import deliver
from backend_sync.publisher import Dates, Publisher, create_key
from validator.lists.directory import version_in_force
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind, Manifest

DATES = Dates(issued_s=1_790_000_000, not_after_s=1_790_086_400)


class Shelf:
    """What a publisher has published for a gate that has nothing yet."""

    def __init__(self, folder: Path) -> None:
        self.publisher = Publisher(folder / "published", "office", create_key(folder / "key.pem"), "north")
        self.lists = folder / "lists"
        self.told: list[ListKind] = []
        self.publisher.deny([bytes(16)], DATES)
        self.publisher.tickets([], {}, DATES)

    def deliver(self, region: str = "north") -> list[Manifest]:
        keys = {"office": self.publisher.key.public_key()}
        return deliver(self.publisher.out, self.lists, keys, region, lambda one: self.told.append(one.kind))

    def in_force(self) -> dict[ListKind, int | None]:
        return {kind: version_in_force(self.lists, kind) for kind in (ListKind.DENY, ListKind.TICKETS)}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_what_is_newer_is_installed_and_told_once(shelf: Shelf) -> None:
    assert [one.kind for one in shelf.deliver()] == shelf.told == [ListKind.DENY, ListKind.TICKETS]
    assert shelf.deliver() == []
    shelf.publisher.deny([], DATES)
    assert [(one.kind, one.version) for one in shelf.deliver()] == [(ListKind.DENY, 2)]
    assert shelf.in_force() == {ListKind.DENY: 2, ListKind.TICKETS: 1}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda home: (home / "payload").write_bytes(b"x" + (home / "payload").read_bytes()[1:]),
        lambda home: (home / "payload").unlink(),
        lambda home: (home / "manifest").unlink(),
        lambda home: (home / "manifest").write_bytes(b"nonsense"),
    ],
    ids=["payload-damaged", "payload-missing", "manifest-missing", "manifest-damaged"],
)
def test_one_bad_candidate_holds_all_back(shelf: Shelf, spoil: Callable[[Path], object]) -> None:
    spoil(shelf.publisher.out / "tickets" / "1")
    with pytest.raises(ListError, match="tickets/1"):
        shelf.deliver()
    assert shelf.told == []
    assert shelf.in_force() == {ListKind.DENY: None, ListKind.TICKETS: None}


def test_lists_of_another_region_are_refused(shelf: Shelf) -> None:
    with pytest.raises(ListError, match="north"):
        shelf.deliver("south")
    assert shelf.told == []


def test_a_folder_without_lists_is_named(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ListError, match="no list is published here"):
        deliver(tmp_path / "absent", shelf.lists, {}, "north")
