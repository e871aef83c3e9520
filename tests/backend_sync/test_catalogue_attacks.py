"""Attacks on the catalogue by the names that TUF gives them: real metadata, and stolen keys where it takes some.

After each, what was in force still is.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from backend_sync.catalogue import ceremony
from backend_sync.catalogue.chunks import collect
from backend_sync.catalogue.client import refresh
from backend_sync.catalogue.errors import CatalogueRefused, Refusal
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Kind
from backend_sync.publish_errors import PublishError
from tests.backend_sync.catalogue_office import (
    DAY,
    GREATEST,
    NOW,
    Device,
    Mirror,
    Office,
    Thief,
    at,
    public,
    sign_by_hand,
)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Office, Device]:
    """An office that published once and a device that took it, made once: each test gets copies."""
    home = tmp_path_factory.mktemp("first")
    office = Office(home / "office")
    office.publish(1)
    with Device(home / "device", office.root) as device:
        device.refresh(office.files())
    return office, device


@pytest.fixture
def office(tmp_path: Path, first: tuple[Office, Device]) -> Office:
    return first[0].copied(tmp_path / "office")


@pytest.fixture
def device(tmp_path: Path, office: Office, first: tuple[Office, Device]) -> Iterator[Device]:
    shutil.copytree(first[1].home, tmp_path / "device")
    with Device(tmp_path / "device", office.root) as device:
        yield device


Refused = Callable[..., Refusal]


@pytest.fixture
def refused(device: Device) -> Refused:
    """Offers a catalogue that must be refused, sees that nothing changed by it, and returns the reason."""

    def offer(files: Mapping[str, bytes], now_s: int = NOW) -> Refusal:
        before, floors = device.load(), device.floors.read()
        stored = {path.name: path.read_bytes() for path in device.folder.iterdir()}
        with pytest.raises(CatalogueRefused) as refusal:
            device.refresh(files, now_s)
        assert device.load() == before
        assert device.floors.read() == floors
        assert {path.name: path.read_bytes() for path in device.folder.iterdir()} == stored
        return refusal.value.reason

    return offer


def test_an_honest_update_is_taken(office: Office, device: Device) -> None:
    target = office.publish(2)["north/deny/list"]
    catalogue = device.refresh(office.files())
    assert catalogue.targets == {"north/deny/list": target}
    assert catalogue == device.load()
    assert catalogue.versions == {
        "root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "north.deny": 2, "north.tariff": 1,
    }  # fmt: skip
    assert catalogue.fresh_until_s == NOW + DAY


class TestRollback:
    def test_rollback(self, office: Office, device: Device, refused: Refused) -> None:
        old = office.files()
        office.publish(2)
        device.refresh(office.files())
        assert refused(old) is Refusal.ROLLBACK

    @pytest.mark.parametrize("loss", ["deleted", "restored"])
    def test_rollback_after_the_folder_was_lost(self, office: Office, device: Device, loss: str) -> None:
        old = office.files()
        backup = device.home / "backup"
        shutil.copytree(device.folder, backup)
        office.publish(2)
        device.refresh(office.files())
        shutil.rmtree(device.folder)
        if loss == "restored":
            shutil.copytree(backup, device.folder)
            with pytest.raises(CatalogueRefused) as refusal:
                device.load()
            assert refusal.value.reason is Refusal.ROLLBACK
        with pytest.raises(CatalogueRefused) as refusal:
            device.refresh(old)
        assert refusal.value.reason is Refusal.ROLLBACK
        assert device.refresh(office.files()).targets["north/deny/list"].custom.version == 2

    def test_rollback_of_one_role_by_a_thief_of_snapshot_and_timestamp(
        self, office: Office, device: Device, refused: Refused
    ) -> None:
        old = office.files()["1.north.deny.json"]
        office.publish(2)
        device.refresh(office.files())
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP)
        thief.list_in_snapshot("north.deny", 1, old)
        assert refused(thief.files) is Refusal.ROLLBACK
        shutil.rmtree(device.folder)
        with pytest.raises(CatalogueRefused) as refusal:
            device.refresh(thief.files)
        assert refusal.value.reason is Refusal.ROLLBACK
        assert refusal.value.where == "north.deny"

    def test_rollback_of_the_root_by_withholding_the_newer_one(self, office: Office, device: Device) -> None:
        old = office.files()
        office.rotate(TIMESTAMP, "timestamp-2")
        office.publish(2)
        device.refresh(office.files())
        shutil.rmtree(device.folder)
        thief = Thief({name: data for name, data in old.items() if name != "2.root.json"}, timestamp=TIMESTAMP)
        timestamp = thief.content(TIMESTAMP)
        timestamp["version"] = 9
        thief.put(TIMESTAMP, timestamp)
        with pytest.raises(CatalogueRefused) as refusal:
            device.refresh(thief.files)
        assert (refusal.value.reason, refusal.value.where) == (Refusal.ROLLBACK, ROOT)

    def test_rollback_of_the_root_under_a_newer_number(self, office: Office, refused: Refused) -> None:
        assert refused(office.files() | {"2.root.json": office.root}) is Refusal.ROLLBACK


class TestFreeze:
    def test_freeze(self, office: Office, device: Device, refused: Refused) -> None:
        held_back = office.files()
        assert device.refresh(held_back, NOW + DAY - 1).versions[TIMESTAMP] == 1
        assert refused(held_back, NOW + DAY) is Refusal.FREEZE

    def test_freeze_of_a_new_device(self, office: Office, tmp_path: Path) -> None:
        device = Device(tmp_path / "new", office.root)
        with pytest.raises(CatalogueRefused) as refusal, device.floors:
            device.refresh(office.files(), NOW + DAY)
        assert refusal.value.reason is Refusal.FREEZE
        assert not device.folder.exists()

    def test_what_was_in_force_outlives_its_timestamp(self, device: Device) -> None:
        catalogue = device.load()
        assert catalogue.fresh_until_s == NOW + DAY
        assert catalogue.targets["north/deny/list"].custom.version == 1


class TestMixAndMatch:
    def test_mix_and_match(self, office: Office, refused: Refused) -> None:
        old = office.files()
        office.publish(2)
        mixed = office.files() | {"2.north.deny.json": old["1.north.deny.json"]}
        assert refused(mixed) is Refusal.MIX_AND_MATCH

    def test_mix_and_match_of_a_snapshot(self, office: Office, refused: Refused) -> None:
        old = office.files()
        office.publish(2)
        assert refused(office.files() | {"2.snapshot.json": old["1.snapshot.json"]}) is Refusal.MIX_AND_MATCH

    def test_mix_and_match_where_the_snapshot_has_no_hashes(self, office: Office, refused: Refused) -> None:
        """A thief of snapshot and timestamp leaves lengths and hashes out; the versions inside still have to match."""
        old = office.files()["1.north.deny.json"]
        office.publish(2)
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP)
        snapshot = thief.content(SNAPSHOT)
        snapshot["version"] += 1
        snapshot["meta"]["north.deny.json"] = {"version": 2}
        thief.stamp(snapshot["version"], thief.put(SNAPSHOT, snapshot))
        assert refused(thief.files | {"2.north.deny.json": old}) is Refusal.MIX_AND_MATCH

    def test_an_object_in_place_of_another(self, office: Office, device: Device, tmp_path: Path) -> None:
        target = office.publish(2)["north/deny/list"]
        files = device_files = office.files()
        others = [name for name in files if name.startswith("objects/") and target.index.sha256 not in name]
        device_files[f"objects/{target.index.sha256}"] = files[others[0]]
        with pytest.raises(CatalogueRefused) as refusal:
            collect(Mirror(device_files), target, tmp_path / "store", tmp_path / "list")
        assert refusal.value.reason is Refusal.MIX_AND_MATCH


class TestFastForward:
    """A thief of the timestamp and snapshot keys pushes both to the greatest version there is."""

    @pytest.fixture
    def forwarded(self, office: Office, device: Device) -> dict[str, bytes]:
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP)
        snapshot = thief.content(SNAPSHOT)
        snapshot["version"] = GREATEST
        thief.stamp(GREATEST, thief.put(SNAPSHOT, snapshot), version=GREATEST)
        catalogue = device.refresh(thief.files)
        assert (catalogue.versions[TIMESTAMP], catalogue.versions[SNAPSHOT]) == (GREATEST, GREATEST)
        return thief.files

    def test_fast_forward(self, office: Office, forwarded: Mapping[str, bytes], refused: Refused) -> None:
        office.publish(2)
        assert refused(office.files()) is Refusal.ROLLBACK

    @pytest.mark.parametrize("folder", ["kept", "deleted"])
    def test_fast_forward_recovery(
        self, office: Office, device: Device, forwarded: Mapping[str, bytes], folder: str
    ) -> None:
        before = device.floors.read()
        office.rotate(TIMESTAMP, "timestamp-2")
        office.rotate(SNAPSHOT, "snapshot-2")
        office.publish(2)
        if folder == "deleted":
            shutil.rmtree(device.folder)
        catalogue = device.refresh(office.files())
        assert catalogue.versions[ROOT] == 3
        assert catalogue.versions[TIMESTAMP] < 10
        assert catalogue.versions[SNAPSHOT] < 10
        after = device.floors.read()
        assert {name: floor for name, floor in after.items() if name in before and name != ROOT} == {
            name: floor for name, floor in before.items() if not name.startswith("north.deny/") and name != ROOT
        } | {name: 2 for name in before if name.startswith("north.deny/")}

    def test_fast_forward_recovery_keeps_the_floors_of_the_others(
        self, office: Office, device: Device, forwarded: Mapping[str, bytes]
    ) -> None:
        old = office.files()["1.north.deny.json"]
        office.rotate(TIMESTAMP, "timestamp-2")
        office.rotate(SNAPSHOT, "snapshot-2")
        office.publish(2)
        device.refresh(office.files())
        thief = Thief(office.files(), snapshot="snapshot-2", timestamp="timestamp-2")
        thief.list_in_snapshot("north.deny", 1, old)
        shutil.rmtree(device.folder)
        with pytest.raises(CatalogueRefused) as refusal:
            device.refresh(thief.files)
        assert (refusal.value.reason, refusal.value.where) == (Refusal.ROLLBACK, "north.deny")

    def test_fast_forward_beyond_what_a_floor_can_hold(self, office: Office, refused: Refused) -> None:
        thief = Thief(office.files(), timestamp=TIMESTAMP)
        timestamp = thief.content(TIMESTAMP)
        timestamp["version"] = GREATEST + 1
        thief.put(TIMESTAMP, timestamp)
        assert refused(thief.files) is Refusal.MALFORMED


class TestEndlessData:
    @pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.north.deny.json", "2.root.json"])
    def test_endless_data(self, office: Office, device: Device, name: str) -> None:
        """Whatever stands there, the one who sends for ever is asked for little more than what it may be."""
        office.publish(2)
        before, sent = device.load(), 0

        def endless(asked: str, max_bytes: int) -> Iterator[bytes]:
            nonlocal sent
            if asked != name:
                yield from Mirror(office.files())(asked, max_bytes)
                return
            while True:
                sent += 4096
                assert sent <= 128 * 1024 + 4096
                yield bytes(4096)

        with pytest.raises(CatalogueRefused) as refusal:
            refresh(endless, device.folder, device.root, NOW, region="north", floors=device.floors)
        assert refusal.value.reason is Refusal.ENDLESS_DATA
        assert sent > 0
        assert device.load() == before

    def test_endless_data_that_a_thief_signed_the_length_of(self, office: Office, device: Device) -> None:
        thief = Thief(office.files(), timestamp=TIMESTAMP)
        timestamp = thief.content(TIMESTAMP)
        timestamp["version"] = 2
        timestamp["meta"]["snapshot.json"] = {"version": 2, "length": 10**15}
        thief.put(TIMESTAMP, timestamp)
        sent = 0

        def endless(asked: str, max_bytes: int) -> Iterator[bytes]:
            nonlocal sent
            if asked != "2.snapshot.json":
                yield from Mirror(thief.files)(asked, max_bytes)
                return
            while True:
                sent += 65536
                assert sent <= 4 * 1024 * 1024 + 65536
                yield bytes(65536)

        with pytest.raises(CatalogueRefused) as refusal:
            refresh(endless, device.folder, device.root, NOW, region="north", floors=device.floors)
        assert refusal.value.reason is Refusal.ENDLESS_DATA
        assert sent > 0

    @pytest.mark.parametrize("piece", [b"", b" "])
    def test_slow_retrieval(self, office: Office, device: Device, piece: bytes) -> None:
        pieces = 0

        def trickle(_name: str, _max_bytes: int) -> Iterator[bytes]:
            nonlocal pieces
            while True:
                pieces += 1
                assert pieces < 100
                yield piece

        with pytest.raises(CatalogueRefused) as refusal:
            refresh(trickle, device.folder, device.root, NOW, region="north", floors=device.floors)
        assert refusal.value.reason is Refusal.SLOW
        assert pieces == 17

    def test_nobody_answers(self, office: Office, device: Device) -> None:
        def silent(name: str, _max_bytes: int) -> Iterator[bytes]:
            raise TimeoutError(f"{name}: no answer")

        with pytest.raises(CatalogueRefused) as refusal:
            refresh(silent, device.folder, device.root, NOW, region="north", floors=device.floors)
        assert refusal.value.reason is Refusal.NOT_REACHED
        assert device.load().versions[TIMESTAMP] == 1

    @pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.north.deny.json"])
    def test_a_file_that_is_held_back(self, office: Office, refused: Refused, name: str) -> None:
        office.publish(2)
        files = office.files()
        del files[name]
        assert refused(files) is Refusal.NOT_REACHED


class TestWrongKey:
    @pytest.mark.parametrize("role", [TIMESTAMP, SNAPSHOT, "north.deny"])
    def test_wrong_key(self, office: Office, refused: Refused, role: str) -> None:
        """An outsider signs with a key of their own, and has the thieves of all the other keys help."""
        office.publish(2)
        keys = {each: each for each in (TIMESTAMP, SNAPSHOT, "north.deny")} | {role: "outsider"}
        thief = Thief(office.files(), **keys)
        content = thief.content(role)
        content["version"] += 1
        if role == TIMESTAMP:
            thief.put(role, content)
        elif role == SNAPSHOT:
            thief.stamp(content["version"], thief.put(role, content))
        else:
            thief.list_in_snapshot(role, content["version"], thief.put(role, content))
        assert refused(thief.files) is Refusal.WRONG_KEY

    def test_wrong_key_for_targets(self, office: Office, refused: Refused) -> None:
        """Who holds every online key still cannot say who speaks for a region."""
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP, targets="north.deny")
        targets = thief.content(TARGETS)
        targets["version"] += 1
        thief.list_in_snapshot(TARGETS, 2, thief.put(TARGETS, targets))
        assert refused(thief.files) is Refusal.WRONG_KEY

    def test_wrong_key_under_the_name_of_the_right_one(self, office: Office, refused: Refused) -> None:
        timestamp = Thief(office.files()).content(TIMESTAMP)
        timestamp["version"] += 1
        forged = json.loads(sign_by_hand(timestamp, "outsider"))
        forged["signatures"][0]["keyid"] = public(TIMESTAMP).keyid
        assert refused(office.files() | {"timestamp.json": json.dumps(forged).encode()}) is Refusal.WRONG_KEY

    def test_a_key_that_was_replaced(self, office: Office, device: Device, refused: Refused) -> None:
        office.rotate("north.deny", "north.deny-2")
        office.publish(2)
        device.refresh(office.files())
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP, north_deny="north.deny")
        content = thief.content("north.deny")
        content["version"] += 1
        thief.list_in_snapshot("north.deny", content["version"], thief.put("north.deny", content))
        assert refused(thief.files) is Refusal.WRONG_KEY


class TestKeyRotation:
    def test_key_rotation_of_root(self, office: Office, device: Device) -> None:
        following = ceremony.next_root(office.root, ROOT, "root-c", public("root-d"), NOW)
        second = office.signed(following, "root-b", "root-d", authority=office.root)
        assert not ceremony.outstanding(second, office.root).complete
        second = office.signed(second, "root-a", authority=office.root)
        office.repository.adopt(second)
        third = ceremony.next_root(second, ROOT, "root-a", public("root-e"), NOW)
        office.repository.adopt(office.signed(third, "root-b", "root-d", authority=second))
        office.publish(2)
        assert device.refresh(office.files()).versions[ROOT] == 3
        assert device.load().versions[ROOT] == 3

    def test_a_device_with_the_first_root_follows_all_of_them(self, office: Office, tmp_path: Path) -> None:
        for number in range(2, 6):
            office.rotate(TIMESTAMP, f"timestamp-{number}")
        office.publish(2)
        with Device(tmp_path / "late", office.root) as device:
            assert device.refresh(office.files()).versions[ROOT] == 5

    @pytest.mark.parametrize("role", [TIMESTAMP, SNAPSHOT, "north.deny"])
    def test_key_rotation_of_an_online_role(self, office: Office, device: Device, role: str) -> None:
        """What the old key signed is signed anew, although nothing in it changed."""
        office.rotate(role, f"{role}-2")
        office.publish(2, south_deny=b"of another region")
        catalogue = device.refresh(office.files())
        assert catalogue.targets["north/deny/list"].custom.version == 1
        assert catalogue.versions[role] == 2
        assert device.load() == catalogue

    def test_an_online_role_is_not_published_under_its_old_key(self, office: Office) -> None:
        office.rotate("north.deny", "north.deny-2")
        office.online["north.deny"] = "north.deny"
        with pytest.raises(PublishError, match="was it replaced"):
            office.publish(2)


class TestThreshold:
    def test_threshold_not_met(self, office: Office, refused: Refused) -> None:
        following = ceremony.next_root(office.root, TIMESTAMP, TIMESTAMP, public("stolen"), NOW)
        one = office.signed(following, "root-a", authority=office.root)
        assert refused(office.files() | {"2.root.json": one}) is Refusal.THRESHOLD

    def test_threshold_not_met_by_one_key_twice(self, office: Office, refused: Refused) -> None:
        following = ceremony.next_root(office.root, TIMESTAMP, TIMESTAMP, public("stolen"), NOW)
        twice = json.loads(office.signed(following, "root-a", authority=office.root))
        twice["signatures"] *= 2
        assert refused(office.files() | {"2.root.json": json.dumps(twice).encode()}) is Refusal.MALFORMED

    def test_threshold_lowered_by_one_holder(self, office: Office, refused: Refused) -> None:
        """The new root is content with one signature, its own; the old one is not."""
        content = Thief(office.files()).content(ROOT)
        content["version"] = 2
        content["roles"]["root"]["threshold"] = 1
        assert refused(office.files() | {"2.root.json": sign_by_hand(content, "root-a")}) is Refusal.THRESHOLD

    def test_the_publisher_does_not_take_it_either(self, office: Office) -> None:
        following = ceremony.next_root(office.root, TIMESTAMP, TIMESTAMP, public("timestamp-2"), NOW)
        with pytest.raises(PublishError, match="root-b or root-c has to sign"):
            office.repository.adopt(office.signed(following, "root-a", authority=office.root))


class TestRegions:
    def test_extraneous_target_of_another_region(self, office: Office, refused: Refused) -> None:
        """Who stole the north's key, and those of snapshot and timestamp, lists an object of the south."""
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP, north_deny="north.deny")
        content = thief.content("north.deny")
        content["version"] += 1
        content["targets"]["south/deny/list"] = content["targets"]["north/deny/list"]
        thief.list_in_snapshot("north.deny", content["version"], thief.put("north.deny", content))
        assert refused(thief.files) is Refusal.WRONG_REGION

    def test_the_other_region_never_sees_it(self, office: Office, tmp_path: Path) -> None:
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP, north_deny="north.deny")
        content = thief.content("north.deny")
        content["version"] += 1
        content["targets"]["south/deny/list"] = content["targets"]["north/deny/list"]
        thief.list_in_snapshot("north.deny", content["version"], thief.put("north.deny", content))
        with Device(tmp_path / "south", office.root, region="south") as device:
            assert device.refresh(thief.files).targets == {}

    def test_a_target_that_says_it_is_for_another_region(self, office: Office, refused: Refused) -> None:
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP, north_deny="north.deny")
        content = thief.content("north.deny")
        content["version"] += 1
        content["targets"]["north/deny/list"]["custom"]["region"] = "south"
        thief.list_in_snapshot("north.deny", content["version"], thief.put("north.deny", content))
        assert refused(thief.files) is Refusal.WRONG_REGION

    @pytest.mark.parametrize("region", ["west", "north/deny", "*", ""])
    def test_a_region_that_nobody_speaks_for(self, office: Office, tmp_path: Path, region: str) -> None:
        with Device(tmp_path / "west", office.root, region=region) as device:
            with pytest.raises(CatalogueRefused) as refusal:
                device.refresh(office.files())
            assert refusal.value.reason is Refusal.WRONG_REGION

    def test_a_region_sees_its_own(self, office: Office, tmp_path: Path) -> None:
        added = office.publish(2, north_deny=b"n", south_deny=b"s", south_tariff=b"t")
        with Device(tmp_path / "south", office.root, region="south") as device:
            taken = device.refresh(office.files()).targets
        assert taken == {path: target for path, target in added.items() if path.startswith("south/")}

    @pytest.mark.parametrize(
        "meddle",
        [
            lambda targets: targets["delegations"]["roles"][0].update(paths=["north/deny/*", "*/*/*"]),
            lambda targets: targets["delegations"]["roles"].append(
                targets["delegations"]["roles"][0] | {"name": "somebody"}
            ),
            lambda targets: targets["delegations"]["roles"][0].update(terminating=False),
            lambda targets: targets["targets"].update({"north/deny/-": {"length": 0, "hashes": {"sha256": "00"}}}),
        ],
        ids=["all paths", "two for one path", "not terminating", "listed by targets itself"],
    )
    def test_delegations_that_are_not_ours(
        self, office: Office, refused: Refused, meddle: Callable[[dict[str, object]], None]
    ) -> None:
        thief = Thief(office.files(), snapshot=SNAPSHOT, timestamp=TIMESTAMP, targets=TARGETS)
        targets = thief.content(TARGETS)
        targets["version"] += 1
        meddle(targets)
        thief.list_in_snapshot(TARGETS, 2, thief.put(TARGETS, targets))
        assert refused(thief.files) is Refusal.MALFORMED


class TestExpired:
    @pytest.mark.parametrize(("role", "days"), [(SNAPSHOT, 7), ("north.deny", 30), (TARGETS, 90), (ROOT, 3652)])
    def test_expired(self, office: Office, refused: Refused, role: str, days: int) -> None:
        """The timestamp is kept alive, and nothing else is."""
        end = NOW + days * DAY
        roles = [SNAPSHOT, TIMESTAMP, "north.deny", "north.tariff", TARGETS]
        thief = Thief(office.files(), **{each: each for each in roles})
        for each in roles[2:]:
            if each != role:
                content = thief.content(each)
                content |= {"version": 2, "expires": at(end + DAY)}
                thief.list_in_snapshot(each, 2, thief.put(each, content))
        snapshot = thief.content(SNAPSHOT)
        if role != SNAPSHOT:
            snapshot |= {"version": snapshot["version"] + 1, "expires": at(end + DAY)}
        timestamp = thief.content(TIMESTAMP) | {"expires": at(end + DAY)}
        thief.put(TIMESTAMP, timestamp)
        thief.stamp(snapshot["version"], thief.put(SNAPSHOT, snapshot))
        assert refused(thief.files, end) is Refusal.EXPIRED

    def test_the_publisher_renews_what_it_can(self, office: Office, device: Device) -> None:
        for day in range(2, 33, 2):
            office.repository.publish(NOW + day * DAY)
        catalogue = device.refresh(office.files(), NOW + 32 * DAY)
        assert catalogue.versions[TIMESTAMP] == 17
        assert catalogue.versions[SNAPSHOT] == 1 + 32 // 4
        assert catalogue.versions["north.deny"] == 3


def test_a_target_keeps_its_kind(office: Office, tmp_path: Path) -> None:
    targets = office.publish(2, north_tariff=b"fares")
    assert targets["north/tariff/list"].custom.kind is Kind.TARIFF
