"""Arbitrary bytes in every file of the catalogue, wherever it lies: a named refusal, or a catalogue that is right."""

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.exceptions import FormatError

from backend_sync.catalogue import metadata_file
from backend_sync.catalogue.client import load, refresh
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.roles import SNAPSHOT, TARGETS, TIMESTAMP
from backend_sync.catalogue.target import Catalogue
from tests.backend_sync.catalogue_office import NOW, FloorsInMemory, Mirror, Office, Thief
from tests.hostile import hostile

NAMES = ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.north.deny.json", "2.root.json"]
STOLEN = {TIMESTAMP: "timestamp-2", SNAPSHOT: SNAPSHOT, "north_deny": "north.deny-2", TARGETS: TARGETS}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([2**63, -1, "2" * 64, {}, []]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@dataclass
class Tried:
    """An office that published twice, every file a second time, and a device that took the first.

    Attributes:
        files: What is published now.
        first: What the device took.
        newest: What an honest device takes of it.
    """

    folder: Path
    root: bytes
    stored: bytes
    floors: dict[str, int]
    files: dict[str, bytes]
    first: Catalogue
    newest: Catalogue

    def offer(self, files: dict[str, bytes]) -> Catalogue | Refusal:
        """Offer a catalogue to a device that took the first one; see that a refusal changes nothing."""
        floors = FloorsInMemory(dict(self.floors))
        (self.folder / metadata_file.NAME).write_bytes(self.stored)
        try:
            return refresh(Mirror(files), self.folder, self.root, NOW, region="north", floors=floors)
        except CatalogueRefused as refused:
            assert [path.read_bytes() for path in self.folder.iterdir()] == [self.stored]
            assert floors.seen == self.floors
            return refused.reason


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Tried:
    home, floors = tmp_path_factory.mktemp("hostile"), FloorsInMemory()
    office = Office(home / "office")
    office.publish(1)
    first = refresh(Mirror(office.files()), home / "device", office.root, NOW, region="north", floors=floors)
    stored, seen = (home / "device" / metadata_file.NAME).read_bytes(), dict(floors.seen)
    office.rotate("north.deny", STOLEN["north_deny"])
    office.rotate(TIMESTAMP, STOLEN[TIMESTAMP])
    office.publish(2)
    files = office.files()
    assert set(NAMES) <= files.keys()
    newest = refresh(Mirror(files), home / "device", office.root, NOW, region="north", floors=floors)
    assert newest.targets["north/deny/list"].custom.version == 2
    return Tried(home / "device", office.root, stored, seen, files, first, newest)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes that somebody without keys can put in a file's place."""
    at, count = draw(st.integers(0, len(whole) - 1)), draw(st.integers(1, 40))
    return draw(
        st.binary(max_size=64)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.just(whole[:at])
        | st.just(whole[:at] + whole[at + count :])
        | st.just(whole[:at] + whole[at : at + count] * 2 + whole[at + count :])
        | st.binary(min_size=1, max_size=8).map(lambda put: whole[:at] + put + whole[at + len(put) :])
    )


@st.composite
def meddled(draw: st.DrawFn, content: dict[str, Any]) -> dict[str, Any]:
    """What a role says with one thing in it replaced, removed or added."""
    changed = deepcopy(content)
    place: Any = changed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return changed
        name = draw(st.sampled_from(keys))
        if isinstance(place[name], dict | list) and draw(st.integers(0, 3)):
            place = place[name]
            continue
        if draw(st.integers(0, 5)):
            place[name] = draw(JSON)
        else:
            del place[name]
        return changed


@hostile
@given(data=st.data())
def test_arbitrary_bytes_in_a_file_on_the_way(tried: Tried, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    outcome = tried.offer(tried.files | {name: data.draw(damaged(tried.files[name]))})
    if isinstance(outcome, Refusal):
        assert outcome not in {Refusal.STORAGE, Refusal.WRONG_REGION, Refusal.SLOW, Refusal.EXPIRED}
    else:  # what changed says nothing: a field that nobody signs, or one signature more than it takes
        assert outcome == tried.newest


def test_true_is_no_version(tried: Tried) -> None:
    thief = Thief(tried.files, **STOLEN)
    thief.put(TIMESTAMP, {**thief.content(TIMESTAMP), "version": True})
    assert tried.offer(thief.files) is Refusal.MALFORMED


@hostile
@given(data=st.data())
def test_arbitrary_fields_that_a_thief_signed(tried: Tried, data: st.DataObject) -> None:
    """Who holds all keys but those of root can say what they like: a refusal, or a catalogue of this region alone."""
    thief = Thief(tried.files, **STOLEN)
    role = data.draw(st.sampled_from([TIMESTAMP, SNAPSHOT, TARGETS, "north.deny"]))
    content = data.draw(meddled(thief.content(role)))
    try:
        if role == TIMESTAMP:
            thief.put(role, content)
        elif role == SNAPSHOT:
            thief.stamp(2, thief.put(role, {**content, "version": 2}), version=9)
        else:
            thief.list_in_snapshot(role, 2, thief.put(role, {**content, "version": 2}))
    except FormatError:
        return
    outcome = tried.offer(thief.files)
    if isinstance(outcome, Refusal):
        assert outcome is not Refusal.STORAGE
    else:
        assert all(path.startswith("north/") for path in outcome.targets)
        assert all(target.custom.region == "north" for target in outcome.targets.values())


@hostile
@given(data=st.data())
def test_arbitrary_bytes_in_the_file_on_the_device(tried: Tried, data: st.DataObject) -> None:
    """A spoilt disk: what is loaded is what was taken, or it is refused; and the next refresh mends it."""
    path, floors = tried.folder / metadata_file.NAME, FloorsInMemory(dict(tried.floors))
    path.write_bytes(data.draw(damaged(tried.stored)))
    try:
        loaded = load(tried.folder, tried.root, region="north", floors=floors)
    except CatalogueRefused as refused:
        reason = refused.reason
        assert reason is not Refusal.STORAGE, reason
    else:
        assert loaded == tried.first
    taken = refresh(Mirror(tried.files), tried.folder, tried.root, NOW, region="north", floors=floors)
    assert taken == tried.newest


@pytest.mark.parametrize("role", ["../outside", "a" * 300 + ".deny", "a/b.deny", "\0.deny", "", "root"])
def test_names_in_the_file_on_the_device_lead_nowhere(tried: Tried, role: str) -> None:
    stored = metadata_file.MetadataSet(NOW, {1: tried.root}, {role: b"{}"})
    metadata_file.write(tried.folder, stored)
    taken = refresh(Mirror(tried.files), tried.folder, tried.root, NOW, region="north", floors=FloorsInMemory())
    assert taken == tried.newest
