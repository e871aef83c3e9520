"""A batch from its accounts to the bureau's files: whatever ends it on the way, running it again makes it whole."""

import contextlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync import enrolment, issuing
from backend_sync.accounts_file import AccountsFile
from backend_sync.bindings import Ending
from backend_sync.bureau import OperatorKey
from backend_sync.bureau_answers import Answer
from backend_sync.card_family import CardFamily
from backend_sync.enrolment import KeyCheck
from backend_sync.enrolment_errors import EnrolmentBusy, EnrolmentError
from backend_sync.issuing import Batch, alone
from backend_sync.one_writer import one_writer
from tests.backend_sync import card_bureau
from tests.backend_sync.card_bureau import (
    KEY,
    decrypted,
    uid_of,
    verified_manifest,
    write_accounts,
)
from tests.backend_sync.card_office import ACCOUNTS, BATCH, PACKING, Died, Office, dying, in_small_pieces
from validator.certificates import card_credential_id, token_id

THIRD = (KeyCheck(KEY.name, 3, KEY.check_value),)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_pieces(monkeypatch)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def events_of(office: Office) -> int:
    with pytest.MonkeyPatch.context() as patch:
        count = dying(patch, None)
        office.run()
        return count()


def test_a_batch_that_nothing_disturbs(office: Office) -> None:
    bound, folder = office.run()
    assert (bound.new, bound.replaced, bound.order.serials) == (5, 0, range(1, 6))
    assert folder == office.home
    office.assert_whole()


def test_a_batch_that_ends_at_any_point_is_made_whole_by_running_it_again(tmp_path: Path) -> None:
    events = events_of(Office(tmp_path / "undisturbed"))
    assert events > 30
    for last in range(events):
        office = Office(tmp_path / f"ended-{last}")
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, last)
            with pytest.raises(Died):
                office.run()
        office.run()
        office.assert_whole()
        before = tree(office.folder / "out")
        bound, folder = office.run()
        assert (bound.new, folder) == (0, office.home)
        assert bound.order.manifest_sha256 is not None
        assert tree(office.folder / "out") == before


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 60), max_size=6))
def test_a_batch_that_ends_often(tmp_path_factory: pytest.TempPathFactory, deaths: list[int]) -> None:
    office = Office(tmp_path_factory.mktemp("office"))
    for last in deaths:
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, last)
            try:
                office.run()
            except Died:
                continue
    office.run()
    office.assert_whole()


def test_tokens_are_the_same_however_often_files_are_begun(office: Office) -> None:
    with AccountsFile.open(office.accounts) as file, office.issuer() as issuer:
        order = issuer.bind(file, BATCH).order
        before = list(issuer.unmade(order))
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch, office.issuer() as issuer:
            patch.setattr(enrolment, "finish", lambda *_: (_ for _ in ()).throw(Died))
            with pytest.raises(Died):
                issuer.write(order, PACKING, office.folder / "out")
        found = office.rows(office.folder / "out" / f".{BATCH.name}.building")
        assert [bytes.fromhex(row["token"]) for row in found] == [one.token for one in before]


def test_files_are_for_their_owner_and_hold_nothing_readable(office: Office) -> None:
    office.run()
    assert stat.S_IMODE(office.home.stat().st_mode) == 0o700
    content = b"".join(tree(office.home).values())
    assert KEY.octets not in content
    assert KEY.octets.hex().encode() not in content
    for row in office.rows():
        assert row["token"].encode() not in content
        assert bytes.fromhex(row["token"]) not in content
    assert b"parcel" not in content
    assert b"account-" not in content


def test_a_stranger_verifies_and_decrypts_a_batch(office: Office, tmp_path: Path) -> None:
    office.run()
    manifest = verified_manifest(office.home, tmp_path)
    facts = {
        name: manifest[name] for name in ("batch", "family", "cards", "first_serial", "last_serial", "key_version")
    }
    assert facts == {
        "batch": "letters",
        "family": "ntag424",
        "cards": 5,
        "first_serial": 1,
        "last_serial": 5,
        "key_version": 2,
    }
    rows = card_bureau.records(office.home, tmp_path)
    assert rows == office.rows()
    assert list(manifest["layout"]["columns"]) == list(rows[0])
    (key,) = manifest["keys"]
    assert decrypted(office.home / key["file"], tmp_path) == KEY.octets
    assert (key["name"], key["version"], key["check_value"]) == ("ntag424-application", 2, KEY.check_value)


def test_another_file_under_the_name_is_refused_before_and_after_the_end(office: Office) -> None:
    for _ in range(2):
        write_accounts(office.accounts, ACCOUNTS)
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, 6)
            with contextlib.suppress(Died):
                office.run()
        before = tree(office.folder)
        write_accounts(office.accounts, [*ACCOUNTS[1:], "account-9"])
        with pytest.raises(EnrolmentError, match="batch letters was begun with another file"):
            office.run(replace(BATCH, replace=True))
        assert {path for path in tree(office.folder) if ".db" not in path} == {
            path for path in before if ".db" not in path
        }
        write_accounts(office.accounts, ACCOUNTS)
        office.run()
    office.assert_whole()


@pytest.mark.parametrize(
    "other", [replace(BATCH, family=CardFamily.ULTRALIGHT_AES), replace(BATCH, keys=THIRD)], ids=["family", "keys"]
)
def test_a_batch_goes_on_as_it_was_begun(office: Office, other: Batch) -> None:
    office.run()
    with pytest.raises(EnrolmentError, match="was begun for ntag424 with keys of version 2"):
        office.run(other)


def test_a_wrong_file_does_nothing(office: Office) -> None:
    write_accounts(office.accounts, [*ACCOUNTS, "?"])
    with pytest.raises(ExceptionGroup):
        office.run()
    with office.issuer() as issuer:
        assert issuer.standings() == []
    assert not (office.folder / "out").exists()


def test_accounts_with_cards_are_refused_by_line_until_they_are_to_be_replaced(office: Office) -> None:
    office.run()
    write_accounts(office.accounts, ["new", ACCOUNTS[3], ACCOUNTS[0]])
    again = replace(BATCH, name="again")
    with pytest.raises(ExceptionGroup) as caught:
        office.run(again)
    assert [str(one) for one in caught.value.exceptions] == [
        f"{office.accounts}, line 3: this account holds card 4; --replace ends that",
        f"{office.accounts}, line 4: this account holds card 1; --replace ends that",
    ]
    with office.issuer() as issuer:
        assert list(issuer.ended_credential_ids()) == []
    bound, _ = office.run(replace(again, replace=True))
    assert (bound.new, bound.replaced, bound.order.serials) == (3, 2, range(6, 9))
    tokens = {int(row["serial"]): bytes.fromhex(row["token"]) for row in office.rows()}
    with office.issuer() as issuer:
        assert list(issuer.ended_credential_ids()) == [], "no chip has them yet: nobody can show them or sell to them"
        answered = issuer.answer(BATCH.name, [Answer(1, uid_of(1)), Answer(4, uid_of(4))])
        assert (answered.live, answered.ended_before) == (0, 2)
        denied = list(issuer.ended_credential_ids())
    assert denied == [card_credential_id(token_id("ntag424", tokens[serial]), uid_of(serial)) for serial in (1, 4)]


def test_an_account_has_one_card_whatever_its_family(office: Office) -> None:
    office.run()
    paper = replace(BATCH, name="paper", family=CardFamily.ULTRALIGHT_AES)
    with pytest.raises(ExceptionGroup) as caught:
        office.run(paper)
    assert caught.value.exceptions[0].args == (
        f"{office.accounts}, line 2: this account holds card 1; --replace ends that",
    )
    bound, _ = office.run(replace(paper, replace=True))
    assert (bound.new, bound.replaced) == (5, 5)
    with office.issuer() as issuer:
        held = issuer.held(ACCOUNTS)
        assert list(issuer.ended_credential_ids()) == []
    assert [(card.serial, card.family) for card in held.values()] == [
        (serial, CardFamily.ULTRALIGHT_AES) for serial in range(6, 11)
    ]


def stopped_after_a_chunk(office: Office) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(issuing, "give_way", lambda: (_ for _ in ()).throw(Died))
        with pytest.raises(Died):
            office.run()


@pytest.mark.parametrize("replaced", [1, 2])
def test_cards_that_ended_while_a_batch_was_stopped_are_in_none_of_its_files(office: Office, replaced: int) -> None:
    stopped_after_a_chunk(office)
    first, rest = office.accounts.read_bytes(), replace(BATCH, name="replaced", replace=True)
    write_accounts(office.accounts, ACCOUNTS[:replaced])
    assert office.run(rest)[0].replaced == replaced
    office.accounts.write_bytes(first)
    bound, _ = office.run()
    assert (bound.new, bound.replaced) == (3, 0)
    left_out = list(range(1, replaced + 1))
    manifest = json.loads((office.home / "manifest.json").read_bytes())
    assert (manifest["left_out"], manifest["cards"]) == (left_out, 5 - replaced)
    assert [int(row["serial"]) for row in office.rows()] == list(range(replaced + 1, 6))
    assert sum(part["records"] for part in manifest["records"]) == manifest["cards"]
    again = office.rows(office.folder / "out" / "replaced")
    assert [row["reference"] for row in again + office.rows()] == [f"parcel-{account}" for account in ACCOUNTS]


def test_a_batch_whose_cards_all_ended_has_no_records(office: Office) -> None:
    with AccountsFile.open(office.accounts) as file, office.issuer() as issuer:
        order = issuer.bind(file, BATCH).order
        assert issuer.end(ACCOUNTS, Ending.CLOSED) == 5
        assert list(issuer.unmade(order)) == []
        issuer.write(order, PACKING, office.folder / "out")
    assert office.rows() == []
    assert json.loads((office.home / "manifest.json").read_bytes())["left_out"] == [1, 2, 3, 4, 5]


def test_records_that_are_lost_are_told_and_not_left_out(office: Office) -> None:
    with AccountsFile.open(office.accounts) as file, office.issuer() as issuer:
        order = issuer.bind(file, BATCH).order
        with issuer.ledger.writing() as connection:
            connection.exec_driver_sql("DELETE FROM personalisation WHERE serial = 4")
        with pytest.raises(EnrolmentError, match="batch letters: the ledger lacks"):
            issuer.write(order, PACKING, office.folder / "out")
    assert not office.home.exists()


def test_files_and_their_folders_are_on_the_disk_before_the_ledger_says_so(office: Office) -> None:
    done = list[str]()
    fsync, finish, rename = os.fsync, enrolment.finish, Path.rename

    def synced(descriptor: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def finished(*words: Any) -> None:
        done.append("finished")
        finish(*words)

    def renamed(path: Path, to: Path) -> Path:
        done.append("renamed")
        return rename(path, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        patch.setattr(enrolment, "finish", finished)
        patch.setattr(Path, "rename", renamed)
        office.run()
    out, building = office.folder / "out", office.folder / "out" / f".{BATCH.name}.building"
    files = sorted(str(building / path.name) for path in office.home.iterdir())
    assert sorted(done[: len(files)]) == files
    assert done[len(files) :] == [*map(str, (building, out, office.folder)), "finished", "renamed", str(out)]


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_a_batch_goes_on_in_chunks_of_another_size(office: Office, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    stopped_after_a_chunk(office)
    monkeypatch.setattr(issuing, "CHUNK", size)
    assert office.run()[0].new == 3
    office.assert_whole()


def test_a_folder_in_the_way_is_left_alone(office: Office) -> None:
    office.home.mkdir(parents=True)
    (office.home / "manifest.json").write_text("somebody else's")
    with pytest.raises(EnrolmentError, match="is there, and is not of this batch"):
        office.run()
    assert tree(office.home) == {"manifest.json": b"somebody else's"}
    _, folder = office.run(out="elsewhere")
    assert folder == office.folder / "elsewhere" / BATCH.name
    with pytest.raises(EnrolmentError, match="is not what was written for this batch"):
        office.run()


def test_files_are_written_once_wherever_to(office: Office) -> None:
    office.run()
    bound, folder = office.run(out="elsewhere")
    assert (bound.new, folder) == (0, None)
    assert not (office.folder / "elsewhere").exists()


def test_cards_whose_files_are_not_complete_cannot_be_answered_for(office: Office) -> None:
    with AccountsFile.open(office.accounts) as file, office.issuer() as issuer:
        order = issuer.bind(file, BATCH).order
        with pytest.raises(EnrolmentError, match="batch letters: its files are not complete"):
            issuer.answer(order.name, [Answer(2, uid_of(2))])
        assert [one.serial for one in issuer.unmade(order)] == [1, 2, 3, 4, 5]
        issuer.write(order, PACKING, office.folder / "out")
        assert issuer.answer(order.name, [Answer(2, uid_of(2))]).live == 1
        assert [one.serial for one in issuer.unmade(order)] == [1, 3, 4, 5]


def test_two_processes_do_not_enrol_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "LOCK_WAIT_S", 0.01)
    lock = tmp_path / "lock"
    with one_writer(lock, 1), pytest.raises(EnrolmentBusy, match="another process enrols"), alone(lock):
        pass
    with alone(lock):
        pass


def test_every_key_goes_along(office: Office, tmp_path: Path) -> None:
    keys = [KEY, OperatorKey("ntag424-sdm", KEY.version, bytes(16))]
    batch = replace(BATCH, keys=tuple(KeyCheck(key.name, key.version, key.check_value) for key in keys))
    with AccountsFile.open(office.accounts) as file, office.issuer() as issuer:
        issuer.write(issuer.bind(file, batch).order, replace(PACKING, keys=keys), office.folder / "out")
    found = {
        key["name"]: decrypted(office.home / key["file"], tmp_path)
        for key in verified_manifest(office.home, tmp_path)["keys"]
    }
    assert found == {key.name: key.octets for key in keys}
