"""Lists that come by the catalogue: what is good takes force, what is not is refused by name, nothing in between."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.catalogue import ceremony
from backend_sync.catalogue.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from backend_sync.list_installer import CATALOGUE
from tests.backend_sync.catalogue_office import DAY, NOW, key, public
from tests.backend_sync.list_device import PASSENGERS, TRUST, ListDevice, MirroredOffice, denying
from tests.hostile import hostile
from tests.validator.forgetful_disk import ForgetfulDisk, PowerCut
from validator.lists.authority import authorised_keys, encode_authority
from validator.lists.directory import version_in_force
from validator.lists.errors import ListError
from validator.lists.gate_rules import GateRules, encode_gate_rules
from validator.lists.manifest import ListKind
from validator.lists.ticket_store import write_ticket_store
from validator.model import Credential
from validator.rights import Product, ProductKind

ROOT_OF_SOMEBODY = ceremony.sign(
    ceremony.sign(
        ceremony.first_root(
            {ROOT: [public(name) for name in "abc"]}
            | {role: [public(role)] for role in (TARGETS, SNAPSHOT, TIMESTAMP)},
            NOW,
        ),
        key("a"),
        None,
    ),
    key("b"),
    None,
)
STRANGER = Credential(b"\xee" * 16)
OTHER = Credential(b"\xdd" * 16)


@pytest.fixture
def office(tmp_path: Path) -> MirroredOffice:
    office = MirroredOffice(tmp_path / "office")
    office.publish(ListKind.TRUST, TRUST, 1)
    office.publish(ListKind.DENY, denying(STRANGER.id), 1)
    return office


@pytest.fixture
def device(tmp_path: Path, office: MirroredOffice) -> Iterator[ListDevice]:
    device = ListDevice(tmp_path / "device", office.root)
    assert device.refresh(office.files()) == [ListKind.TRUST, ListKind.DENY]
    yield device
    device.close()


def in_force(device: ListDevice) -> int | None:
    return version_in_force(device.lists, ListKind.DENY)


def unbroken(device: ListDevice) -> None:
    """The first deny list is in force, whole, and believed."""
    lists = device.gate()
    assert (lists.versions.deny, lists.denied(STRANGER), lists.denied(OTHER), lists.faults) == (1, True, False, ())


def test_a_gate_believes_what_the_catalogue_authorises(device: ListDevice) -> None:
    unbroken(device)
    assert device.gate().versions.trust == 1


def test_the_next_version_takes_its_place(office: MirroredOffice, device: ListDevice) -> None:
    before = device.gate()
    office.publish(ListKind.DENY, denying(STRANGER.id, OTHER.id), 2)
    assert device.refresh(office.files()) == [ListKind.DENY]
    assert before.changed()
    assert device.gate(before).denied(OTHER)
    assert device.refresh(office.files()) == []


def test_what_was_brought_is_not_asked_for_again(office: MirroredOffice, device: ListDevice) -> None:
    files = office.files()
    device.refresh(files)
    assert not [name for name in device.asked if name.startswith("objects/")]


def test_a_transfer_that_was_cut_off_goes_on(office: MirroredOffice, device: ListDevice) -> None:
    large = denying(*(number.to_bytes(16) for number in range(1000)))
    office.publish(ListKind.DENY, large, 2)
    files = office.files()
    chunks = [large[at : at + 1024] for at in range(0, len(large), 1024)]
    missing = f"objects/{hashlib.sha256(chunks[9]).hexdigest()}"
    assert device.refresh({name: content for name, content in files.items() if name != missing}) == []
    assert "not_reached" in device.reason(ListKind.DENY)
    assert device.installer.unfinished
    unbroken(device)
    device.restart()
    assert device.refresh(files) == [ListKind.DENY]
    assert len([name for name in device.asked if name.startswith("objects/")]) == len(chunks) - 9


class TestWaves:
    def test_a_device_outside_waits_until_its_turn(self, office: MirroredOffice, device: ListDevice) -> None:
        office.publish(ListKind.DENY, denying(OTHER.id), 2, percent=0)
        assert device.refresh(office.files()) == []
        assert device.installer.refused == {}
        unbroken(device)

    @pytest.mark.parametrize(("percent", "taken"), [(1, True), (0, False)])
    def test_without_any_list_its_turn_has_come_but_for_what_was_stopped(
        self, tmp_path: Path, office: MirroredOffice, *, percent: int, taken: bool
    ) -> None:
        office.publish(ListKind.DENY, denying(OTHER.id), 2, percent=percent)
        fresh = ListDevice(tmp_path / "fresh", office.root)
        assert (ListKind.DENY in fresh.refresh(office.files())) is taken
        fresh.close()

    def test_a_damaged_pointer_is_no_turn(self, office: MirroredOffice, device: ListDevice) -> None:
        office.publish(ListKind.DENY, denying(OTHER.id), 2, percent=0)
        (device.lists / "deny" / "current").write_bytes(b"")
        assert device.refresh(office.files()) == []

    def test_an_order_to_go_back_sends_nothing_twice(self, office: MirroredOffice, device: ListDevice) -> None:
        office.publish(ListKind.DENY, denying(OTHER.id), 2)
        device.refresh(office.files())
        office.publish(ListKind.DENY, denying(STRANGER.id), 3)
        assert device.refresh(office.files()) == [ListKind.DENY]
        payload = hashlib.sha256(denying(STRANGER.id)).hexdigest()
        assert f"objects/{payload}" not in device.asked
        lists = device.gate()
        assert (lists.versions.deny, lists.denied(STRANGER), lists.denied(OTHER)) == (3, True, False)


def foreign(office: MirroredOffice, payload: bytes) -> bytes:
    """Signed by a key of the catalogue's, which speaks for something else."""
    return office.sealed(ListKind.DENY, payload, 2, signer="north.trust")


def another_network(office: MirroredOffice, payload: bytes) -> bytes:
    return office.sealed(ListKind.DENY, payload, 2, region="south")


def another_version(office: MirroredOffice, payload: bytes) -> bytes:
    return office.sealed(ListKind.DENY, payload, 3)


def another_payload(office: MirroredOffice, payload: bytes) -> bytes:
    return office.sealed(ListKind.DENY, payload + b" ", 2)


def nonsense(office: MirroredOffice, payload: bytes) -> bytes:
    return b"\xc1" + payload


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (foreign, "no say in deny lists"),
        (another_network, "is for region 'south'"),
        (another_version, "mix_and_match"),
        (another_payload, "mix_and_match"),
        (nonsense, "not a signed envelope"),
    ],
)
def test_a_wrong_manifest_takes_no_force(
    office: MirroredOffice, device: ListDevice, manifest: Callable[[MirroredOffice, bytes], bytes], why: str
) -> None:
    payload = denying(OTHER.id)
    office.publish(ListKind.DENY, payload, 2, sealed=manifest(office, payload))
    assert device.refresh(office.files()) == []
    assert why in device.reason(ListKind.DENY)
    assert not device.installer.unfinished
    unbroken(device)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(denying(OTHER.id)[:-1], id="cut short"),
        pytest.param(denying(OTHER.id) + b"\0", id="too long"),
        pytest.param(TRUST, id="another kind of list"),
        pytest.param(denying(OTHER.id).replace(b"deny/2", b"deny/9"), id="a format from the future"),
    ],
)
def test_a_signed_payload_that_does_not_load_takes_no_force(
    office: MirroredOffice, device: ListDevice, payload: bytes
) -> None:
    office.publish(ListKind.DENY, payload, 2)
    assert device.refresh(office.files()) == []
    assert device.installer.refused[ListKind.DENY].version == 2
    unbroken(device)
    office.publish(ListKind.DENY, denying(STRANGER.id, OTHER.id), 3)
    assert device.refresh(office.files()) == [ListKind.DENY]
    assert device.installer.refused == {}


def test_a_chunk_that_is_not_what_its_name_says(office: MirroredOffice, device: ListDevice) -> None:
    payload = denying(OTHER.id)
    office.publish(ListKind.DENY, payload, 2)
    name = f"objects/{hashlib.sha256(payload).hexdigest()}"
    assert device.refresh({**office.files(), name: bytes(len(payload))}) == []
    assert "mix_and_match" in device.reason(ListKind.DENY)
    unbroken(device)


def test_an_oversized_object_is_not_even_begun(
    office: MirroredOffice, device: ListDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend_sync.list_installer._LARGEST", {"deny": 50})
    office.publish(ListKind.DENY, denying(OTHER.id), 2)
    assert device.refresh(office.files()) == []
    assert "endless_data" in device.reason(ListKind.DENY)
    assert f"objects/{hashlib.sha256(denying(OTHER.id)).hexdigest()}" not in device.asked
    unbroken(device)


def test_no_list_takes_the_journals_place(
    office: MirroredOffice, device: ListDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend_sync.list_installer.FREE_BYTES", 1 << 60)
    office.publish(ListKind.DENY, denying(OTHER.id), 2)
    assert device.refresh(office.files()) == []
    assert "are needed beside the journal" in device.reason(ListKind.DENY)
    assert device.installer.unfinished
    unbroken(device)


class TestSelfCheck:
    """A list that is signed, whole, and wrong."""

    def test_a_list_that_turns_away_everybody(self, tmp_path: Path, office: MirroredOffice) -> None:
        device = ListDevice(tmp_path / "busy", office.root, passengers=PASSENGERS)
        device.refresh(office.files())
        office.publish(ListKind.DENY, denying(*PASSENGERS[:21]), 2)
        assert device.refresh(office.files()) == []
        assert "would turn away 21 of the last 40 passengers" in device.reason(ListKind.DENY)
        unbroken(device)
        office.publish(ListKind.DENY, denying(*PASSENGERS[:20]), 3)
        assert device.refresh(office.files()) == [ListKind.DENY]
        device.close()

    def test_tickets_that_all_ended_long_ago(self, tmp_path: Path, office: MirroredOffice) -> None:
        def tickets(name: str, until_s: int) -> bytes:
            passes = [
                (each, Product(number, ProductKind.PERIOD_PASS, 1000, until_s, 1000))
                for number, each in enumerate(PASSENGERS, 1)
            ]
            write_ticket_store(tmp_path / name, passes)
            return (tmp_path / name).read_bytes()

        device = ListDevice(tmp_path / "busy", office.root, passengers=PASSENGERS)
        office.publish(ListKind.TICKETS, tickets("good", NOW + DAY), 1)
        device.refresh(office.files())
        office.publish(ListKind.TICKETS, tickets("wrong", 2000), 2)
        assert device.refresh(office.files()) == []
        assert "would turn away 40 of the last 40 passengers" in device.reason(ListKind.TICKETS)
        assert len(device.gate().products(PASSENGERS[0])) == 1
        device.close()

    def test_a_few_passengers_say_nothing(self, tmp_path: Path, office: MirroredOffice) -> None:
        device = ListDevice(tmp_path / "quiet", office.root, passengers=PASSENGERS[:19])
        device.refresh(office.files())
        office.publish(ListKind.DENY, denying(*PASSENGERS), 2)
        assert device.refresh(office.files()) == [ListKind.DENY]
        device.close()


class TestTime:
    def test_a_list_from_the_future_does_not_move_the_clock(self, office: MirroredOffice, device: ListDevice) -> None:
        payload = denying(OTHER.id)
        sealed = office.sealed(ListKind.DENY, payload, 2, issued_s=NOW + 4 * 365 * DAY)
        office.publish(ListKind.DENY, payload, 2, sealed=sealed)
        assert device.refresh(office.files()) == []
        assert "was made at" in device.reason(ListKind.DENY)
        unbroken(device)

    def test_an_expired_list_takes_no_force_over_a_good_one(self, office: MirroredOffice, device: ListDevice) -> None:
        payload = denying(OTHER.id)
        sealed = office.sealed(ListKind.DENY, payload, 2, issued_s=NOW - 30 * DAY)
        office.publish(ListKind.DENY, payload, 2, sealed=sealed)
        assert device.refresh(office.files()) == []
        assert "expired: ended at" in device.reason(ListKind.DENY)
        unbroken(device)


class TestWhoMaySign:
    def test_fast_forward_by_the_thief_of_a_lists_key_ends_with_the_key(
        self, office: MirroredOffice, device: ListDevice
    ) -> None:
        office.publish(ListKind.DENY, denying(), 2**53 - 1)
        assert device.refresh(office.files()) == [ListKind.DENY]
        assert not device.gate().denied(STRANGER)
        office.office.rotate("north.deny", "another deny key")
        office.publish(ListKind.DENY, denying(STRANGER.id, OTHER.id), 2, percent=1)
        assert device.refresh(office.files()) == [ListKind.DENY]
        lists = device.gate()
        assert (lists.versions.deny, lists.denied(STRANGER), lists.denied(OTHER), lists.faults) == (2, True, True, ())

    def test_a_role_whose_lists_wait_holds_no_other_back(self, office: MirroredOffice, device: ListDevice) -> None:
        office.office.rotate("north.deny", "another deny key")
        office.office.rotate("north.trust", "another trust key")
        office.publish(ListKind.DENY, denying(OTHER.id), 2)
        assert device.refresh(office.files()) == [ListKind.DENY]
        assert "publish it anew" in device.reason(ListKind.TRUST)
        office.publish(ListKind.DENY, denying(STRANGER.id, OTHER.id), 3)
        assert device.refresh(office.files()) == [ListKind.DENY]
        device.restart()
        lists = device.gate()
        assert (lists.versions.deny, lists.versions.trust, lists.denied(OTHER), lists.faults) == (3, 1, True, ())
        office.publish(ListKind.TRUST, TRUST, 2)
        assert device.refresh(office.files()) == [ListKind.TRUST]
        device.restart()
        assert (device.gate().versions.trust, device.gate().faults, device.installer.refused) == (2, (), {})

    def test_a_new_key_is_believed_when_it_has_signed_what_is_here(
        self, office: MirroredOffice, device: ListDevice
    ) -> None:
        office.office.rotate("north.deny", "another deny key")
        office.office.repository.publish(NOW)
        assert device.refresh(office.files()) == []
        unbroken(device)  # and so it would be after a restart
        office.publish(ListKind.DENY, denying(OTHER.id), 2)
        assert device.refresh(office.files()) == [ListKind.DENY]
        lists = device.gate()
        assert (lists.versions.deny, lists.denied(OTHER), lists.faults) == (2, True, ())

    def test_a_replaced_root_is_followed(self, office: MirroredOffice, device: ListDevice) -> None:
        office.office.rotate("timestamp", "another timestamp key")
        office.publish(ListKind.DENY, denying(OTHER.id), 2)
        device.refresh(office.files())
        assert device.gate().versions.deny == 2

    def test_only_what_the_devices_own_root_leads_to(self, office: MirroredOffice) -> None:
        office.office.rotate("timestamp", "another timestamp key")
        files = office.files()
        roots, targets = {2: files["2.root.json"]}, files["1.targets.json"]
        assert set(authorised_keys(encode_authority(roots, targets), office.root, "north")) >= {"north.deny"}
        with pytest.raises(ListError, match="nobody speaks for region"):
            authorised_keys(encode_authority(roots, targets), office.root, "elsewhere")
        strangers = {role: [public(f"a stranger's {role} key")] for role in (TARGETS, SNAPSHOT, TIMESTAMP)}
        unsigned = ceremony.first_root({ROOT: [public(name) for name in "xyz"], **strangers}, NOW)
        strange = office.office.signed(unsigned, "x", "y")
        for wrong in (
            (strange, {}, targets),
            (office.root, {2: strange}, targets),
            (office.root, {3: files["2.root.json"]}, targets),
            (office.root, roots, targets.replace(b"north.deny", b"north.dent")),
            (office.root, roots, b"{}"),
        ):
            with pytest.raises(ListError):
                authorised_keys(encode_authority(wrong[1], wrong[2]), wrong[0], "north")


@hostile
@given(st.binary(max_size=400))
def test_any_bytes_beside_the_lists(content: bytes) -> None:
    with pytest.raises(ListError):
        authorised_keys(content, ROOT_OF_SOMEBODY, "north")


def test_a_catalogue_that_is_refused_is_reported(office: MirroredOffice, device: ListDevice) -> None:
    assert device.refresh(office.files(), NOW + 2 * 24 * 3600) == []
    assert "freeze" in device.installer.refused[CATALOGUE].reason
    unbroken(device)


@pytest.mark.parametrize("failing", range(24))
def test_a_full_disk_at_any_write_leaves_the_last_good_one(
    office: MirroredOffice, device: ListDevice, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    office.publish(ListKind.DENY, denying(STRANGER.id, OTHER.id), 2)
    files, synced, real = office.files(), [0], os.fsync

    def full(descriptor: int) -> None:
        synced[0] += 1
        if synced[0] > failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        device.refresh(files)
    lists = device.gate()
    assert lists.versions.deny in {1, 2}
    assert (lists.denied(STRANGER), lists.denied(OTHER)) == (True, lists.versions.deny == 2)
    device.restart()
    device.refresh(files)
    assert device.gate().versions.deny == 2
    assert device.installer.refused == {}


def steps_of(office: MirroredOffice, device: ListDevice) -> Iterable[int]:
    disk = ForgetfulDisk(device.home)
    with pytest.MonkeyPatch.context() as patch:
        disk.attach(patch)
        device.refresh(office.files())
    return range(disk.steps)


@pytest.mark.slow
def test_a_power_cut_at_any_step_leaves_the_old_one_or_the_new(tmp_path: Path) -> None:
    def made(name: str) -> tuple[MirroredOffice, ListDevice]:
        office = MirroredOffice(tmp_path / f"{name}-office")
        office.publish(ListKind.TRUST, TRUST, 1)
        office.publish(ListKind.CONFIG, encode_gate_rules(GateRules({})), 1)
        office.publish(ListKind.DENY, denying(STRANGER.id), 1)
        device = ListDevice(tmp_path / name, office.root)
        device.refresh(office.files())
        office.publish(ListKind.DENY, denying(STRANGER.id, OTHER.id), 2)
        return office, device

    first = made("count")
    seen = set()
    for step in steps_of(*first):
        office, device = made(f"cut-{step}")
        disk = ForgetfulDisk(device.home, cut_at=step)
        with pytest.MonkeyPatch.context() as patch:
            disk.attach(patch)
            with pytest.raises(PowerCut):
                device.refresh(office.files())
        device.close()
        disk.recover()
        again = device.gate()
        seen.add(again.versions.deny)
        assert again.versions.deny in {1, 2}
        assert (again.denied(STRANGER), again.denied(OTHER)) == (True, again.versions.deny == 2)
        assert (again.versions.trust, again.trust is not None) == (1, True)
    assert seen == {1, 2}
