"""The ceremony: keys in files, root and targets from hand to hand, and the commands that people type for it."""

import json
import os
import sys
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from backend_sync.catalogue import ceremony
from backend_sync.catalogue.ceremony_folder import CeremonyFolder
from backend_sync.catalogue.key_store import (
    create_offline_key,
    create_online_key,
    load_private_key,
    read_public_key,
)
from backend_sync.catalogue.keys_command import keys
from backend_sync.catalogue.repository import Repository
from backend_sync.catalogue.roles import ROOT, RULES, SNAPSHOT, TARGETS, TIMESTAMP, Kind
from backend_sync.publish_errors import InputMissing, PublishError
from tests.backend_sync.catalogue_office import NOW, key, public, sign_by_hand
from validator.commandline import run_app

PASSPHRASE = b"correct horse battery"
HELD = {
    ROOT: [public("root-a"), public("root-b"), public("root-c")],
    TARGETS: [public(TARGETS)],
    SNAPSHOT: [public(SNAPSHOT)],
    TIMESTAMP: [public(TIMESTAMP)],
}


class TestKeys:
    def test_an_offline_key_takes_its_passphrase(self, tmp_path: Path) -> None:
        path = tmp_path / "root-a.key"
        held = read_public_key(create_offline_key(path, PASSPHRASE))
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
        private = load_private_key(path, PASSPHRASE)
        assert private.public_key().public_bytes_raw().hex() == held.keyval["public"]
        assert ceremony.key_name(held) == "root-a"
        for wrong in (b"correct horse", None):
            with pytest.raises(PublishError, match=r"another passphrase|takes a passphrase"):
                load_private_key(path, wrong)

    def test_an_online_key_is_its_owners_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "timestamp.key"
        create_online_key(path)
        assert path.stat().st_mode & 0o777 == 0o600
        load_private_key(path)
        with pytest.raises(PublishError, match="not encrypted"):
            load_private_key(path, PASSPHRASE)
        path.chmod(0o640)
        with pytest.raises(PublishError, match="lets others read it"):
            load_private_key(path)

    @pytest.mark.parametrize("there", ["root-a.key", "root-a.pub"])
    def test_a_key_is_never_written_over(self, tmp_path: Path, there: str) -> None:
        (tmp_path / there).write_bytes(b"precious")
        with pytest.raises(PublishError, match="exists already"):
            create_offline_key(tmp_path / "root-a.key", PASSPHRASE)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {there: b"precious"}

    def test_a_short_passphrase_and_a_strange_name(self, tmp_path: Path) -> None:
        with pytest.raises(PublishError, match="12 or more"):
            create_offline_key(tmp_path / "root-a.key", b"short")
        with pytest.raises(PublishError, match=r"call it root-a\.key"):
            create_online_key(tmp_path / "root-a.pem")
        assert not list(tmp_path.iterdir())

    def test_files_that_are_no_keys(self, tmp_path: Path) -> None:
        (tmp_path / "junk.pub").write_bytes(b"junk")
        with pytest.raises(PublishError, match="not a public key"):
            read_public_key(tmp_path / "junk.pub")
        with pytest.raises(InputMissing):
            read_public_key(tmp_path / "none.pub")


class TestRoot:
    @pytest.mark.parametrize("pair", [("root-a", "root-b"), ("root-b", "root-c"), ("root-c", "root-a")])
    def test_any_two_of_three(self, pair: tuple[str, str]) -> None:
        root = ceremony.first_root(HELD, NOW)
        for number, name in enumerate(pair, 1):
            root = ceremony.sign(root, key(name))
            assert ceremony.outstanding(root).complete == (number == 2)

    def test_what_is_missing_is_said(self) -> None:
        root = ceremony.first_root(HELD, NOW)
        assert words(root) == [
            "2 of the root keys are needed, 0 there (none): 2 of root-a, root-b, root-c have to sign"
        ]
        root = ceremony.sign(root, key("root-a"))
        assert words(root) == ["2 of the root keys are needed, 1 there (root-a): root-b or root-c has to sign"]
        assert ceremony.outstanding(ceremony.sign(root, key("root-a"))) == ceremony.outstanding(root)
        root = ceremony.sign(root, key("root-c"))
        assert words(root) == ["2 of the root keys are needed, 2 there (root-a, root-c)"]

    def test_a_new_holder_needs_the_old_ones(self) -> None:
        root = ceremony.sign(ceremony.sign(ceremony.first_root(HELD, NOW), key("root-a")), key("root-b"))
        second = ceremony.next_root(root, ROOT, "root-a", public("root-d"), NOW)
        assert words(second, root) == [
            "2 of the root keys of version 1 are needed, 0 there (none): 2 of root-a, root-b, root-c have to sign",
            "2 of the root keys of version 2 are needed, 0 there (none): 2 of root-b, root-c, root-d have to sign",
        ]
        second = ceremony.sign(ceremony.sign(second, key("root-a"), root), key("root-b"), root)
        assert words(second, root)[1].endswith("1 there (root-b): root-c or root-d has to sign")
        assert ceremony.outstanding(ceremony.sign(second, key("root-d"), root), root).complete

    @pytest.mark.parametrize(
        ("held", "why"),
        [
            ({ROOT: HELD[ROOT][:2]}, "2 keys were given, it has 3"),
            ({ROOT: [HELD[ROOT][0], *HELD[ROOT][:2]]}, "same key"),
            ({TIMESTAMP: HELD[SNAPSHOT]}, "same key"),
            ({TARGETS: [public("root-a")]}, "same key"),
            ({SNAPSHOT: []}, "0 keys were given"),
        ],
    )
    def test_keys_that_make_no_root(self, held: dict[str, Any], why: str) -> None:
        with pytest.raises(PublishError, match=why):
            ceremony.first_root(HELD | held, NOW)

    def test_who_may_not_sign(self) -> None:
        root = ceremony.first_root(HELD, NOW)
        with pytest.raises(PublishError, match="no say in it; those that have: root-a, root-b, root-c"):
            ceremony.sign(root, key("outsider"))
        second = ceremony.next_root(root, TIMESTAMP, TIMESTAMP, public("new"), NOW)
        with pytest.raises(PublishError, match="bring root 1"):
            ceremony.sign(second, key("root-a"))
        third = ceremony.next_root(second, TIMESTAMP, "new", public("newer"), NOW)
        with pytest.raises(PublishError, match="bring root 2"):
            ceremony.sign(third, key("root-a"), root)

    def test_a_weaker_root_is_not_signed(self) -> None:
        content = json.loads(ceremony.first_root(HELD, NOW))["signed"]
        content["roles"]["root"]["threshold"] = 1
        with pytest.raises(PublishError, match="1 of 3 keys would do for root, the rule is 2 of 3"):
            ceremony.sign(sign_by_hand(content), key("root-a"))

    def test_what_is_signed_is_shown(self) -> None:
        said = ceremony.said(ceremony.first_root(HELD, NOW))
        assert len(said) == len(RULES)
        assert said[0].startswith(f"root: 2 of root-a ({public('root-a').keyid[:16]}), root-b (")

    @pytest.mark.parametrize("junk", [b"", b"{}", b"\xff", sign_by_hand({"_type": "snapshot"})])
    def test_what_is_no_document(self, junk: bytes) -> None:
        for take in (ceremony.outstanding, ceremony.said, partial(ceremony.renewed, now_s=NOW)):
            with pytest.raises(PublishError):
                take(junk)


class TestTargets:
    def test_one_key_for_one_kind_in_one_region(self) -> None:
        document = ceremony.first_targets({"north": {Kind.DENY: public("n")}, "south": {Kind.DENY: public("s")}}, NOW)
        assert [line.split(" for ")[1] for line in ceremony.said(document)] == ["north/deny/*", "south/deny/*"]
        with pytest.raises(PublishError, match="same key"):
            ceremony.first_targets({"north": {Kind.DENY: public("n")}, "south": {Kind.DENY: public("n")}}, NOW)

    @pytest.mark.parametrize("region", ["", "a/b", "*", "north.deny", "a" * 65, "-north"])
    def test_regions_that_would_be_patterns(self, region: str) -> None:
        with pytest.raises(PublishError, match="region"):
            ceremony.first_targets({region: {Kind.DENY: public("n")}}, NOW)

    def test_nobody_at_all(self) -> None:
        with pytest.raises(PublishError, match="nobody could list anything"):
            ceremony.first_targets({}, NOW)

    def test_it_is_signed_by_whom_root_names(self) -> None:
        root = ceremony.first_root(HELD, NOW)
        document = ceremony.first_targets({"north": {Kind.DENY: public("n")}}, NOW)
        with pytest.raises(PublishError, match="bring that too"):
            ceremony.sign(document, key(TARGETS))
        with pytest.raises(PublishError, match="those that have: targets"):
            ceremony.sign(document, key("n"), root)
        assert ceremony.outstanding(ceremony.sign(document, key(TARGETS), root), root).complete


def words(document: bytes, authority: bytes | None = None) -> list[str]:
    return [quorum.words() for quorum in ceremony.outstanding(document, authority).quorums]


class Hand:
    """Types commands; what is asked for is on standard input."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self._capsys, self._monkeypatch = home, capsys, monkeypatch

    def types(self, *arguments: object, answers: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", StringIO(answers))
        with pytest.raises(SystemExit) as end:
            run_app(partial(keys, list(map(str, arguments))), "backend-sync", {PublishError: os.EX_DATAERR})
        told = self._capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    def json(self, *arguments: object, answers: str = "") -> list[dict[str, Any]]:
        code, out, err = self.types(*arguments, "--json", answers=answers)
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    def begin(self) -> Path:
        """Make all keys, and the documents."""
        for name in ("root-a", "root-b", "root-c", TARGETS):
            self.json("create", self.home / f"{name}.key", answers="correct horse battery\n")
        for name in (SNAPSHOT, TIMESTAMP):
            self.json("create", self.home / f"{name}.key", "--online")
        (self.home / "north").mkdir()
        for kind in Kind:
            self.json("create", self.home / "north" / f"{kind}.key", "--online")
        self.json("init", self.home / "ceremony", *self.named())
        return self.home / "ceremony"

    def named(self) -> list[object]:
        given: list[object] = [f"--region=north={self.home / 'north'}"]
        given += [f"--root={self.home / name}.pub" for name in ("root-a", "root-b", "root-c")]
        return given + [f"--{name}={self.home / name}.pub" for name in (TARGETS, SNAPSHOT, TIMESTAMP)]


@pytest.fixture
def hand(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Hand:
    return Hand(tmp_path, capsys, monkeypatch)


def test_a_whole_ceremony(hand: Hand, tmp_path: Path) -> None:
    folder = hand.begin()
    secret = "correct horse battery\n"
    code, out, _ = hand.types("sign", folder / "1.root.json", "--key", tmp_path / "root-a.key", answers=secret)
    assert code == 0
    assert "root-b or root-c has to sign" in out
    assert "backend-sync publish keys sign" in out
    [told] = hand.json("sign", folder / "1.root.json", "--key", tmp_path / "root-c.key", answers=secret)
    assert told["complete"]
    hand.json("sign", folder / "1.targets.json", "--key", tmp_path / "targets.key", answers=secret)
    hand.json("create", tmp_path / "timestamp-2.key", "--online")
    [told] = hand.json("rotate", folder, TIMESTAMP, "--new", tmp_path / "timestamp-2.pub")
    assert (told["document"], told["complete"]) == (str(folder / "2.root.json"), False)
    code, _, err = hand.types("renew", folder, ROOT)
    assert (code, "is not signed yet" in err) == (os.EX_DATAERR, True)
    for holder in ("root-b", "root-c"):
        hand.json("sign", folder / "2.root.json", "--key", tmp_path / f"{holder}.key", answers=secret)
    (tmp_path / "new").mkdir()
    hand.json("create", tmp_path / "new" / "deny.key", "--online")
    hand.json("rotate", folder, "north.deny", "--new", tmp_path / "new" / "deny.pub")
    hand.json("sign", folder / "2.targets.json", "--key", tmp_path / "targets.key", answers=secret)
    hand.json("renew", folder, TARGETS)
    hand.json("sign", folder / "3.targets.json", "--key", tmp_path / "targets.key", answers=secret)
    assert [(told["role"], told["version"], told["complete"]) for told in hand.json("status", folder)] == [
        (ROOT, 2, True), (TARGETS, 3, True),
    ]  # fmt: skip
    online = {TIMESTAMP: "timestamp-2", SNAPSHOT: SNAPSHOT} | {f"north.{kind}": f"north/{kind}" for kind in Kind}
    online["north.deny"] = "new/deny"
    repository = Repository(
        tmp_path / "out", {role: load_private_key(tmp_path / f"{name}.key") for role, name in online.items()}
    )
    for name in ("1.root", "2.root", "1.targets", "2.targets", "3.targets"):
        repository.adopt((folder / f"{name}.json").read_bytes())
    published = repository.publish(ceremony.outstanding((folder / "1.root.json").read_bytes()).expires_s - 3652 * 86400)
    assert (published.versions[ROOT], published.versions[TARGETS], published.versions["north.deny"]) == (2, 3, 1)


class TestCommands:
    def test_nothing_is_written_over(self, hand: Hand) -> None:
        folder = hand.begin()
        before = {path: path.read_bytes() for path in hand.home.rglob("*") if path.is_file()}
        assert hand.types("init", folder, *hand.named())[0] == os.EX_DATAERR
        assert hand.types("create", hand.home / "root-a.key", answers="another passphrase\n")[0] == os.EX_DATAERR
        assert {path: path.read_bytes() for path in hand.home.rglob("*") if path.is_file()} == before

    def test_a_wrong_passphrase_changes_nothing(self, hand: Hand) -> None:
        folder = hand.begin()
        before = (folder / "1.root.json").read_bytes()
        code, _, err = hand.types("sign", folder / "1.root.json", "--key", hand.home / "root-a.key", answers="wrong\n")
        assert (code, "another passphrase" in err) == (os.EX_DATAERR, True)
        assert (folder / "1.root.json").read_bytes() == before

    def test_status_says_who_has_to(self, hand: Hand) -> None:
        folder = hand.begin()
        _, out, _ = hand.types("status", folder)
        assert "2 of root-a, root-b, root-c have to sign" in out
        assert "1 of the targets keys is needed, 0 there (none): targets has to sign" in out

    def test_what_a_key_says_to_do_next(self, hand: Hand) -> None:
        _, out, _ = hand.types("create", hand.home / "root-a.key", answers="correct horse battery\n")
        assert "in a safe" in out
        assert "root-a.pub to the ceremony" in out

    def test_a_key_of_root_that_is_not_named(self, hand: Hand) -> None:
        folder = hand.begin()
        for name in ("root-a", "root-b"):
            hand.json(
                "sign", folder / "1.root.json", "--key", hand.home / f"{name}.key", answers="correct horse battery\n"
            )
        hand.json("create", hand.home / "root-d.key", answers="correct horse battery\n")
        code, _, err = hand.types("rotate", folder, ROOT, "--new", hand.home / "root-d.pub")
        assert (code, "say which key goes: root-a, root-b, root-c" in err) == (os.EX_DATAERR, True)
        code, _, err = hand.types("rotate", folder, ROOT, "--new", hand.home / "root-d.pub", "--old", "root-x")
        assert (code, "has no key root-x" in err) == (os.EX_DATAERR, True)
        [told] = hand.json("rotate", folder, ROOT, "--new", hand.home / "root-d.pub", "--old", "root-c")
        assert len(told["quorums"]) == 2

    @pytest.mark.parametrize("given", [["status"], ["renew", "root"], ["rotate", TIMESTAMP]])
    def test_a_folder_with_nothing_in_it(self, hand: Hand, given: list[str]) -> None:
        create_online_key(hand.home / "new.key")
        more = ["--new", hand.home / "new.pub"] if given[0] == "rotate" else []
        (hand.home / "empty").mkdir()
        code, _, err = hand.types(given[0], hand.home / "empty", *given[1:], *more)
        assert (code, "begin with init" in err) == (os.EX_DATAERR, True)

    def test_one_key_for_two_roles(self, hand: Hand) -> None:
        hand.begin()
        (hand.home / "north" / "deny.pub").write_bytes((hand.home / "root-a.pub").read_bytes())
        code, _, err = hand.types("init", hand.home / "again", *hand.named())
        assert (code, "north.deny is the same key as root-a" in err) == (os.EX_DATAERR, True)
        assert not (hand.home / "again").exists()


def test_the_root_before_is_found_in_the_folder(tmp_path: Path) -> None:
    folder = CeremonyFolder(tmp_path)
    root = ceremony.sign(ceremony.sign(ceremony.first_root(HELD, NOW), key("root-a")), key("root-b"))
    folder.begin({ROOT: root})
    second = folder.rotate(SNAPSHOT, None, public("snapshot-2"), NOW)
    (tmp_path / "1.root.json").unlink()
    with pytest.raises(PublishError, match="bring root 1"):
        folder.sign(second, key("root-a"))
