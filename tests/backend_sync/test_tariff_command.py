"""``backend-sync publish tariff`` as it is typed, and what gates have of it."""

import datetime as dt
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.one_writer import one_writer
from backend_sync.publish_errors import PublishError
from backend_sync.tariff_command import published_editions, succeed
from tests.backend_sync.list_device import ListDevice, MirroredOffice
from tests.backend_sync.list_office import ListOffice
from tests.backend_sync.test_places_file import GOOD
from tests.backend_sync.test_spreading import Desk
from tests.fares.travel import FEEDS, MONDAY_S, tariffs
from validator.fares.editions import MAX_BYTES, MAX_EDITIONS, Edition, Editions, encode_editions
from validator.fares.journey import Leg
from validator.fares.pricing import price
from validator.lists.directory import installed_versions
from validator.lists.manifest import ListKind

FARES = Path(__file__).parents[1] / "fares"
CITY, COAST = FARES / "city", FARES / "coast"
COAST_TARIFF = tariffs([FEEDS[1]])


@pytest.fixture
def office(tmp_path: Path) -> ListOffice:
    return ListOffice(tmp_path / "office", made_s=int(time.time()))  # the command reads the clock


@pytest.fixture
def desk(office: ListOffice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(office, monkeypatch, capsys).adopt()


@pytest.fixture
def places(tmp_path: Path) -> Path:
    path = tmp_path / "places.toml"
    path.write_text(GOOD)
    return path


def later(seconds: int) -> str:
    return (dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=seconds)).isoformat()


def numbers(office: ListOffice) -> list[int]:
    return [each.version for each in published_editions(office.lists).editions]


def device_of(tmp_path: Path, office: ListOffice) -> ListDevice:
    return ListDevice(tmp_path / "gate", (office.documents / "1.root.json").read_bytes())


class TestFlow:
    def test_a_published_tariff_is_installed_on_a_gate_and_in_force(
        self, tmp_path: Path, desk: Desk, office: ListOffice, places: Path
    ) -> None:
        told = desk.json("publish", "tariff", CITY, COAST, "--places", places)
        assert (told["kind"], told["version"], told["entries"], told["edition"], told["places"]) == (
            "tariff",
            1,
            1,
            1,
            2,
        )
        device, now_s = device_of(tmp_path, office), int(time.time())
        assert device.refresh(files(office), now_s) == [ListKind.TARIFF]
        gate = device.gate()
        assert (gate.faults, gate.versions.tariff) == ((), 1)
        edition = gate.editions.at(now_s)
        assert edition is not None
        here = edition.places["central"]
        leg = Leg(MONDAY_S + 30_000, MONDAY_S + 30_600, here.feed, here.stop, "A2", here.route, here.network)
        both = tariffs(FEEDS)
        assert price(edition.tariffs, [leg]) == price(both, [leg])
        assert price(both, [leg]).known

        desk.json("publish", "tariff", COAST, "--places", coast_places(tmp_path), "--from", later(3600))
        desk.run("publish", "wave", "tariff", "100")
        assert device.refresh(files(office), now_s) == [ListKind.TARIFF]
        gate = device.gate(gate)
        before, after = gate.editions.at(now_s), gate.editions.at(now_s + 7200)
        assert (gate.versions.tariff, before and before.version, after and after.version) == (2, 1, 2)
        assert before is not None
        assert after is not None
        assert (set(before.places), set(after.places)) == ({"central", "bus 7"}, {"quay"})

    def test_what_no_gate_could_load_is_refused_and_the_one_before_stays(self, tmp_path: Path) -> None:
        office = MirroredOffice(tmp_path / "office")
        device = ListDevice(tmp_path / "gate", office.root)
        office.publish(ListKind.TARIFF, encode_editions([Edition(1, 0, COAST_TARIFF, {})]), 1)
        device.refresh(office.files())
        for version, payload, why in (
            (2, b"rubbish", "not a file of editions of this format"),
            (3, bytes(MAX_BYTES + 1), f"none of its kind has more than {MAX_BYTES}"),
        ):
            office.publish(ListKind.TARIFF, payload, version)
            assert device.refresh(office.files()) == []
            assert why in device.reason(ListKind.TARIFF)
            gate = device.gate()
            assert (gate.faults, gate.editions.versions) == ((), frozenset({1}))


def files(office: ListOffice) -> dict[str, bytes]:
    """What is in the catalogue's folder, by name."""
    folder = office.home / "catalogue"
    found = {path.name: path.read_bytes() for path in (folder / "metadata").iterdir()}
    return found | {f"objects/{path.name}": path.read_bytes() for path in (folder / "objects").iterdir()}


def coast_places(folder: Path) -> Path:
    path = folder / "coast.toml"
    path.write_text("[places.quay]\nstop = 'S1'\ngated = true\n")
    return path


class TestNumbers:
    def test_they_go_up_and_the_edition_in_force_goes_along(
        self, tmp_path: Path, desk: Desk, office: ListOffice, places: Path
    ) -> None:
        quay = coast_places(tmp_path)
        desk.run("publish", "tariff", CITY, COAST, "--places", places)
        desk.run("publish", "tariff", COAST, "--places", quay, "--from", later(1000))
        assert numbers(office) == [1, 2]
        desk.run("publish", "tariff", COAST, "--places", quay, "--from", later(2000))
        assert numbers(office) == [1, 2, 3]
        told = desk.run("publish", "tariff", COAST, "--places", quay, "--from", later(1500))
        assert numbers(office) == [1, 2, 4], "the one that was to begin later is not published any more"
        assert [line.partition(",")[0] for line in told.splitlines()[1:]] == ["edition 1", "edition 2", "edition 4"]

    def test_after_going_back_no_number_comes_twice(
        self, tmp_path: Path, desk: Desk, office: ListOffice, places: Path
    ) -> None:
        quay = coast_places(tmp_path)
        desk.run("publish", "tariff", CITY, COAST, "--places", places)
        desk.run("publish", "tariff", COAST, "--places", quay, "--from", later(1000))
        desk.run("publish", "back", "tariff")
        assert (installed_versions(office.lists, ListKind.TARIFF), numbers(office)) == ([3, 2, 1], [1])
        assert desk.json("publish", "tariff", COAST, "--places", quay, "--from", later(1000))["edition"] == 4
        assert numbers(office) == [1, 4]

    def test_nobody_else_numbers_meanwhile(
        self, desk: Desk, office: ListOffice, places: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("backend_sync.tariff_command._LONGEST_S", 0.0)
        (office.lists / "tariff").mkdir(parents=True)
        with one_writer(office.lists / "tariff" / ".publishing", 1):
            told = desk.run("publish", "tariff", CITY, COAST, "--places", places, code=os.EX_DATAERR)
        assert "somebody else is publishing a tariff; try again" in told
        assert numbers(office) == []


class TestWrong:
    def test_problems_of_feeds_and_places_are_told_together_and_nothing_is_published(
        self, tmp_path: Path, desk: Desk, office: ListOffice, places: Path
    ) -> None:
        wrong = shutil.copytree(CITY, tmp_path / "wrong")
        (wrong / "fare_products.txt").write_text("fare_product_id,amount,currency\nmetro,?,EUR\n")
        places.write_text(GOOD.replace("gated = true", "").replace("group_s", "groups"))
        told = out_of(desk, wrong, COAST, "--places", places)
        assert "fare_products.txt:2: amount: " in told
        assert f"{places}: places.toml: limits.groups: no such key; mend the file of places" in told
        assert f"{places}: places.toml: places.central.gated: is missing" in told
        assert told.splitlines()[-1].endswith("problems; nothing is published")
        assert installed_versions(office.lists, ListKind.TARIFF) == []

    def test_a_place_that_is_not_in_the_feeds(self, desk: Desk, office: ListOffice, places: Path) -> None:
        places.write_text(GOOD.replace('"A1"', '"Z9"'))
        (problem,) = [json.loads(line) for line in out_of(desk, CITY, COAST, "--places", places, "--json").splitlines()]
        assert (problem["problem"], problem["file"], problem["field"]) == (True, "places.toml", "places.central.stop")
        assert problem["meaning"] == "feed city has no stop 'Z9'"
        assert installed_versions(office.lists, ListKind.TARIFF) == []

    @pytest.mark.parametrize(
        ("words", "code", "why"),
        [
            (("--from", "2020-01-01T00:00Z"), os.EX_DATAERR, "is over; a tariff begins now or later"),
            (("--from", "2020-01-01"), os.EX_USAGE, "--from"),
        ],
    )
    def test_when_it_cannot_begin(
        self, desk: Desk, office: ListOffice, places: Path, *, words: tuple[str, ...], code: int, why: str
    ) -> None:
        assert why in desk.run("publish", "tariff", CITY, COAST, "--places", places, *words, code=code)
        assert installed_versions(office.lists, ListKind.TARIFF) == []

    def test_files_that_are_not_there(self, tmp_path: Path, desk: Desk, places: Path) -> None:
        absent = tmp_path / "absent"
        for words in ((absent, "--places", places), (CITY, "--places", absent)):
            assert str(absent) in desk.run("publish", "tariff", *words, code=os.EX_NOINPUT)

    def test_editions_that_cannot_be_read_any_more(self, desk: Desk, office: ListOffice, places: Path) -> None:
        desk.run("publish", "tariff", CITY, COAST, "--places", places)
        (office.lists / "tariff" / "1" / "payload").write_bytes(b"rotten")
        told = desk.run("publish", "tariff", CITY, COAST, "--places", places, code=os.EX_DATAERR)
        assert "tariff/1/payload: not a file of editions of this format; bring back that file" in told
        assert installed_versions(office.lists, ListKind.TARIFF) == [1]


def out_of(desk: Desk, *words: object) -> str:
    """What is told on the way out with problems."""
    told: list[str] = []
    read = desk.captured.readouterr

    def keep() -> object:
        said = read()
        told.append(said.out)
        return said

    desk.patch.setattr(desk.captured, "readouterr", keep)
    desk.run("publish", "tariff", *words, code=os.EX_DATAERR)
    desk.patch.setattr(desk.captured, "readouterr", read)
    return told[0]


def editions_at(froms: Sequence[int]) -> Editions:
    return Editions(Edition(number, from_s, COAST_TARIFF, {}) for number, from_s in enumerate(sorted(froms), 1))


class TestSuccession:
    @given(
        froms=st.sets(st.integers(0, 60), max_size=MAX_EDITIONS - 1),
        now_s=st.integers(0, 60),
        ahead=st.integers(0, 30),
        at_s=st.integers(0, 120),
    )
    def test_until_the_new_one_begins_nothing_changes_for_a_gate(
        self, froms: set[int], now_s: int, ahead: int, at_s: int
    ) -> None:
        before, new = editions_at(list(froms)), Edition(99, now_s + ahead, COAST_TARIFF, {})
        after = Editions(succeed(before, new, now_s))
        at_s = now_s + at_s
        assert after.at(at_s) is (before.at(at_s) if at_s < new.from_s else new)
        gone = [each for each in after.editions if each.from_s <= now_s and each is not new]
        assert len(gone) <= 1, "of those that are over none goes along, but what held until now"

    def test_too_many_that_wait(self) -> None:
        before = editions_at(range(1, MAX_EDITIONS + 1))
        with pytest.raises(PublishError, match="8 editions are published and not over"):
            succeed(before, Edition(99, 100, COAST_TARIFF, {}), 1)
        assert len(succeed(before, Edition(99, 100, COAST_TARIFF, {}), 2)) == MAX_EDITIONS
