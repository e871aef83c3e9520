"""Files of statuses: a gate says of each card what its line said, and of the others nothing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from backend_sync.__main__ import app
from backend_sync.publish_errors import InputMissing, PublishError
from backend_sync.status_files import HEADING, MAX_NUMBER, StatusFiles
from tests.backend_sync.list_office import ListOffice
from tests.hostile import hostile
from validator.list_facts import CardStatus
from validator.lists.status_array import StatusFile, write_status_file
from validator.lists.statuses import Statuses
from validator.model import Credential

ISSUERS = [bytes([number]) * 16 for number in (1, 2, 200)]
cards = st.tuples(st.sampled_from(ISSUERS), st.one_of(st.integers(0, 40), st.integers(16_380, 16_390)))


def written(path: Path, said: dict[tuple[bytes, int], CardStatus]) -> Path:
    lines = [f"{issuer.hex()},{index},{status.name.lower()}" for (issuer, index), status in said.items()]
    path.write_text("\n".join([HEADING, *lines]), encoding="utf-8")
    return path


@given(st.dictionaries(cards, st.sampled_from(CardStatus), max_size=30))
def test_a_gate_says_what_the_lines_said(
    tmp_path_factory: pytest.TempPathFactory, said: dict[tuple[bytes, int], CardStatus]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    (folder / "in").mkdir()
    rows = list(said.items())
    for number, part in enumerate((rows[::2], rows[1::2], rows[:3])):
        written(folder / "in" / f"{number}.csv", dict(part))
    found = StatusFiles()
    found.read([folder / "in"])
    assert found.cards == len(rows) + len(rows[:3])
    write_status_file(folder / "list", found.arrays())
    statuses = Statuses(StatusFile(folder / "list"))
    for issuer in ISSUERS:
        for index in (*range(45), *range(16_375, 16_395)):
            expected = said.get((issuer, index), CardStatus.UNKNOWN)
            assert statuses.status(Credential(bytes(16), issuer, index=index)) is expected


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "the first line has to be the heading"),
        ("01,1,ok", "the first line has to be the heading"),
        (f"{HEADING}\n0102,1,ok", "line 2: give"),
        (f"{HEADING}\n{ISSUERS[0].hex()},1,good", "line 2: give"),
        (f"{HEADING}\n{ISSUERS[0].hex()},-1,ok", "line 2: give"),
        (f"{HEADING}\n{ISSUERS[0].hex()},{MAX_NUMBER + 1},ok", "line 2: give"),
        (f"{HEADING}\n{ISSUERS[0].hex()},1,ok\n# two\n{ISSUERS[0].hex()},1,low", "line 4: card 1 of this issuer got"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_line(tmp_path: Path, content: str, why: str) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(PublishError, match=f"wrong.csv.*{why}"):
        StatusFiles().read([file])


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(InputMissing):
            StatusFiles().read([path])


@hostile
@given(st.binary(max_size=300))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(HEADING.encode() + b"\n" + content)
    found = StatusFiles()
    try:
        found.read([file])
    except PublishError:
        return
    assert sum(count for _, count, _ in found.arrays()) >= bool(found.cards)


def test_the_command_publishes_and_lists_them(tmp_path: Path) -> None:
    office = ListOffice(tmp_path / "office").adopt()
    file = written(tmp_path / "cards.csv", {(ISSUERS[0], 5): CardStatus.BLOCKED})
    done = CliRunner().invoke(app, ["publish", "statuses", str(file), "--config", str(office.toml), "--json"])
    assert done.exit_code == 0, done.output
    assert '"entries": 6' in done.stdout
    assert office.catalogue.in_force().keys() == {"status"}
    (tmp_path / "cards.csv").write_text(f"{HEADING}\n", encoding="utf-8")
    refused = CliRunner().invoke(app, ["publish", "statuses", str(file), "--config", str(office.toml)])
    assert isinstance(refused.exception, PublishError)
