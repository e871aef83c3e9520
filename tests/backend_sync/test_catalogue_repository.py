"""What the publisher refuses before any device sees it."""

from pathlib import Path

import pytest

from backend_sync.catalogue.repository import Repository
from backend_sync.catalogue.roles import SNAPSHOT, TIMESTAMP, Kind
from backend_sync.catalogue.target import Custom, Wave
from backend_sync.publish_errors import InputMissing, PublishError
from tests.backend_sync.catalogue_office import DAY, NOW, Device, Office, key


@pytest.fixture
def office(tmp_path: Path) -> Office:
    office = Office(tmp_path / "office")
    office.publish(1)
    return office


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload"
    path.write_bytes(b"entries")
    return path


def custom(version: int = 2, region: str = "north", kind: Kind = Kind.DENY) -> Custom:
    return Custom(kind, region, version, NOW, NOW + DAY, Wave(5))


def test_what_is_added_is_what_a_device_reads(office: Office, payload: Path, tmp_path: Path) -> None:
    repository = office.repository
    target = repository.add("north/deny/list", payload, custom())
    repository.publish(NOW)
    with Device(tmp_path / "device", office.root) as device:
        assert device.refresh(office.files()).targets == {"north/deny/list": target}
    assert target.custom == custom()


def test_what_is_withdrawn_is_gone(office: Office, tmp_path: Path) -> None:
    repository = office.repository
    repository.withdraw("north/deny/list")
    repository.publish(NOW)
    with Device(tmp_path / "device", office.root) as device:
        assert device.refresh(office.files()).targets == {}
    with pytest.raises(PublishError, match="is not listed"):
        repository.withdraw("north/deny/list")


@pytest.mark.parametrize(
    ("path", "said", "why"),
    [
        ("north/deny/list", custom(1), "version 1 is not newer than 1"),
        ("north/deny/list", custom(region="south"), "says of itself that it is for south/deny"),
        ("north/tariff/list", custom(), "says of itself that it is for north/deny"),
        ("north/deny/a/b", custom(), "is not <region>/<kind>/<name>"),
        ("north/nothing/list", custom(), "is not <region>/<kind>/<name>"),
        ("north/deny/..", custom(), "is not <region>/<kind>/<name>"),
        ("north/deny/-", custom(), "is not <region>/<kind>/<name>"),
    ],
)
def test_what_cannot_be_added(office: Office, payload: Path, path: str, said: Custom, why: str) -> None:
    with pytest.raises(PublishError, match=why):
        office.repository.add(path, payload, said)


def test_an_object_that_is_missing(office: Office, tmp_path: Path) -> None:
    with pytest.raises(InputMissing):
        office.repository.add("north/deny/list", tmp_path / "none", custom())


def test_a_region_without_a_role(office: Office, payload: Path) -> None:
    repository, before = office.repository, office.files()
    repository.add("west/deny/list", payload, custom(region="west"))
    with pytest.raises(PublishError, match="delegates to no such role"):
        repository.publish(NOW)
    assert office.files().keys() - before.keys() <= {name for name in office.files() if name.startswith("objects/")}


@pytest.mark.parametrize("role", [TIMESTAMP, SNAPSHOT, "north.deny"])
def test_a_key_that_is_not_here(office: Office, role: str) -> None:
    del office.online[role]
    with pytest.raises(PublishError, match=f"{role}: has to be signed anew, and its key is not here"):
        office.publish(2)


def test_a_quiet_hour_takes_the_timestamp_key_alone(office: Office) -> None:
    office.online = {TIMESTAMP: TIMESTAMP}
    before = office.files()
    office.repository.publish(NOW + 3600)
    changed = {name for name, content in office.files().items() if before.get(name) != content}
    assert changed == {"timestamp.json"}


def test_an_expired_targets_is_not_published(office: Office) -> None:
    """A device would not take it, so that the devices keep what they have, and the publisher says why."""
    before = office.files()
    with pytest.raises(PublishError, match=r"a device would not take it: .*expired"):
        office.repository.publish(NOW + 91 * DAY)
    assert office.files() == before


def test_nothing_was_brought_yet(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "out", {TIMESTAMP: key(TIMESTAMP)})
    with pytest.raises(PublishError, match="root was not brought here yet"):
        repository.publish(NOW)
    with pytest.raises(PublishError, match="root 1 was not brought here yet"):
        repository.root()


def test_documents_follow_each_other(office: Office) -> None:
    with pytest.raises(PublishError, match="the next one is 2"):
        office.repository.adopt(office.newest("targets"))
