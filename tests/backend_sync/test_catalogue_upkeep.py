"""What nothing names any more is removed, and nothing else: whoever reads the catalogue before finds all of it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync.catalogue.chunks import collect
from backend_sync.catalogue.roles import SNAPSHOT, TARGETS, Kind
from backend_sync.catalogue.target import Custom, Target, Wave
from backend_sync.publish_errors import PublishError
from tests.backend_sync.catalogue_office import DAY, NOW, Device, Mirror, Office

PATH = "north/deny/list"


def payload(number: int) -> bytes:
    """Some of its chunks are those of its neighbours."""
    return b"".join(bytes([number + at // 2]) * 1024 for at in range(4))


def serves(office: Office, files: dict[str, bytes], home: Path) -> dict[str, Target]:
    """Return what a new device finds listed, once it has all of it."""
    home.mkdir()
    with Device(home / "device", office.root) as device:
        targets = dict(device.refresh(files).targets)
    for target in targets.values():
        collect(Mirror(files), target, home / "store", home / "payload")
    return targets


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(0, 5), min_size=2, max_size=6))
def test_this_catalogue_and_the_one_before_are_whole(
    numbers: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("upkeep")
    office, before = Office(tmp_path / "office"), dict[str, bytes]()
    for version, number in enumerate(numbers, 1):
        office.publish(version, north_deny=payload(number))
        now = office.files()
        assert serves(office, now, tmp_path / f"now-{version}")[PATH].custom.version == version
        if before:
            held = now | {"timestamp.json": before["timestamp.json"]}
            assert serves(office, held, tmp_path / f"before-{version}")[PATH].custom.version == version - 1
        before = now


def test_old_metadata_and_objects_go(tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    for version in range(1, 8):
        office.publish(version, north_deny=payload(20 * version))
    names = office.files().keys()
    assert {name for name in names if name.endswith("snapshot.json")} == {"6.snapshot.json", "7.snapshot.json"}
    assert {name for name in names if "north.deny" in name} == {"6.north.deny.json", "7.north.deny.json"}
    assert "1.south.deny.json" in names, "nobody has changed it"
    assert len([name for name in names if name.startswith("objects/")]) == 2 * (2 + 1), "two lists of two chunks"


def test_roots_and_what_is_to_come_stay(tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    for version in range(1, 4):
        office.publish(version)
        office.rotate(SNAPSHOT, f"snapshot-{version}")
    office.metadata.joinpath("99.targets.json").write_bytes(b"to come")
    with pytest.raises(PublishError):
        office.publish(9, north_deny=b"x")  # it is no targets; nothing was removed for it
    office.metadata.joinpath("99.targets.json").unlink()
    office.publish(4)
    names = office.files().keys()
    assert {"1.root.json", "2.root.json", "3.root.json", "4.root.json", f"1.{TARGETS}.json"} <= names


def test_nothing_is_removed_where_an_index_is_spoilt(tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    target = office.publish(1, north_deny=payload(1))[PATH]
    chunks = {name for name in office.files() if name.startswith("objects/")}
    (office.home / "published" / "objects" / target.index.sha256).unlink()
    with pytest.raises(PublishError, match=r"is listed and cannot be read.*published all the same"):
        office.repository.publish(NOW + 3600)
    assert {name for name in office.files() if name.startswith("objects/")} == chunks - {
        f"objects/{target.index.sha256}"
    }


def test_another_wave_is_the_same_version(tmp_path: Path) -> None:
    office = Office(tmp_path / "office")
    repository = office.repository
    (office.home / "list").write_bytes(payload(1))
    custom = Custom(Kind.DENY, "north", 1, NOW, NOW + DAY, Wave(5))
    repository.add(PATH, office.home / "list", custom)
    repository.publish(NOW)
    repository.set_wave(PATH, 40)
    repository.publish(NOW)
    found = serves(office, office.files(), tmp_path / "device")[PATH]
    assert (found.custom.wave, found.custom.version) == (Wave(40), 1)
    assert office.repository.listed("north") == {PATH: found}
    with pytest.raises(PublishError, match="is not listed"):
        repository.set_wave("north/deny/other", 5)
