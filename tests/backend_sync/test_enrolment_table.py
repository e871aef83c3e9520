"""The files from outside: what is well formed comes out once and in order, and every wrong line is told before work."""

import csv
import hashlib
import io
import os
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend_sync import accounts_file, enrolment_table
from backend_sync.accounts_file import AccountsFile, Applicant, CheckedAccounts
from backend_sync.bureau_answers import Answer, AnswersFile
from backend_sync.enrolment_errors import EnrolmentError, EnrolmentInputMissing
from backend_sync.enrolment_table import TOLD, twice

own_numbers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", fullmatch=True)
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def nothing_wrong(_chunk: Sequence[object]) -> list[tuple[int, str]]:
    return []


def told(error: ExceptionGroup[EnrolmentError]) -> list[str]:
    return [str(one) for one in error.exceptions]


def check(path: Path, size: int = 3) -> tuple[CheckedAccounts, list[Applicant]]:
    with AccountsFile.open(path) as file:
        checked = file.check(size, nothing_wrong)
        return checked, list(chain.from_iterable(checked.chunks()))


@given(st.dictionaries(own_numbers, st.just("") | own_numbers, min_size=1, max_size=20), st.integers(1, 7), st.data())
@in_one_folder
def test_what_a_csv_writer_writes_is_read(tmp_path: Path, rows: dict[str, str], size: int, data: st.DataObject) -> None:
    text = io.StringIO()
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(text, lineterminator=end)
    if data.draw(st.booleans()):
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([("reference", "account"), *((reference, account) for account, reference in rows.items())])
    octets = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.getvalue().encode()
    path = tmp_path / "accounts.csv"
    path.write_bytes(octets)
    checked, applicants = check(path, size)
    assert [(one.account, one.reference) for one in applicants] == list(rows.items())
    assert [one.line for one in applicants] == list(range(2, len(rows) + 2))
    assert (checked.count, checked.digest) == (len(rows), hashlib.sha256(octets).digest())


@given(st.binary(max_size=300))
@in_one_folder
def test_any_octets_are_read_or_told(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "accounts.csv"
    for start in (b"", b"account\n", b"account,reference\n"):
        path.write_bytes(start + octets)
        applicants: list[Applicant] = []
        try:
            _, applicants = check(path)
        except* EnrolmentError:
            pass
        assert len({one.account for one in applicants}) == len(applicants)


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=200))
def test_twice_is_what_a_counter_says(numbers: list[int]) -> None:
    assert twice(array("q", numbers)) == {number for number, count in Counter(numbers).items() if count > 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: the heading has to name its columns"),
        ("reference\n1\n", "line 1: the heading"),
        ("account,account\n1,2\n", "line 1: the heading"),
        ("account,name\n1,Mari Maasikas\n", "line 1: a column that has no place here"),
        ("account\n", "there is no account in it"),
    ],
)
def test_a_heading_is_told(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(content)
    with pytest.raises(EnrolmentError, match=f"{re.escape(str(path))}.*{says}"):
        check(path)


SECRET = "Mari,Maasikas,39001010110"
LONG = "x" * 5000


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (SECRET, "is no row"),
        ("mari@example.org,", "an account is"),
        ("=1+2,", "an account is"),
        (",1", "an account is"),
        ("1,Mari Maasikas", "a reference is"),
        (f"{LONG},1", "is no row"),
        ("\xff,1", "an account is"),
        ('"1,1', "is no row"),
        ("a" * 65 + ",1", "an account is"),
        ("9,1", "the account of line 2 again"),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_not_by_what_is_in_it(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text(f"account,reference\n9,1\n\n{row}\n8,1\n")
    with pytest.raises(ExceptionGroup) as caught:
        check(path)
    (line,) = told(caught.value)
    assert line.startswith(f"{path}, line 4: {says}")
    assert row not in line
    assert not any(word in line for word in SECRET.split(","))


def test_octets_that_are_no_text_are_one_wrong_line(tmp_path: Path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_bytes(b"account\n1\n\xff\xfe\n2\n")
    with pytest.raises(ExceptionGroup) as caught:
        check(path)
    assert [line.split(": ")[0] for line in told(caught.value)] == [f"{path}, line 3"]


def test_many_wrong_lines_are_told_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text("account\n" + "?\n" * (TOLD + 5))
    with pytest.raises(ExceptionGroup) as caught:
        check(path)
    lines = told(caught.value)
    assert len(lines) == TOLD + 1
    assert lines[-1] == f"{path}: these are the first {TOLD} wrong lines"


def test_equal_hashes_are_no_equal_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_file, "hash", lambda _account: 1, raising=False)
    path = tmp_path / "accounts.csv"
    path.write_text("account\n1\n2\n3\n")
    assert check(path)[0].count == 3


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text("account\n1\n2")
    assert [one.account for one in check(path)[1]] == ["1", "2"]


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("change", ["account\n1\n2\n3\n5\n", "account\n1\n2\n3\n4\n5\n", "account\n1\n2\n", ""])
def test_a_file_that_changes_gives_nothing_that_was_not_checked(tmp_path: Path, size: int, change: str) -> None:
    path = tmp_path / "accounts.csv"
    path.write_text("account\n1\n2\n3\n4\n")
    with AccountsFile.open(path) as file:
        checked, given_out = file.check(size, nothing_wrong), []
        path.write_text(change)
        with pytest.raises(EnrolmentError):
            given_out += [one.account for chunk in checked.chunks() for one in chunk]
        assert given_out == ["1", "2", "3", "4"][: len(given_out)]


def test_a_pipe_is_told_by_its_name(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    for kind in (AccountsFile, AnswersFile):
        with pytest.raises(EnrolmentError, match=f"^{path}: is no file but a pipe"), kind.open(path):
            pass
    os.close(reading)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for kind in (AccountsFile, AnswersFile):
        with (
            pytest.raises(EnrolmentInputMissing, match=r"absent\.csv: No such file"),
            kind.open(tmp_path / "absent.csv"),
        ):
            pass


def answers_of(path: Path, size: int = 2) -> list[Answer]:
    with AnswersFile.open(path) as file:
        count = file.check(size, nothing_wrong)
        found = list(chain.from_iterable(file.chunks(size)))
    assert len(found) == count
    return found


def test_a_bureaus_answer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "answer.csv"
    path.write_text("serial,uid,result\r\n1,04000000000001,ok\r\n0002,,failed\r\n3,04AABBCCDDEEFF,failed\r\n")
    assert answers_of(path) == [
        Answer(1, bytes.fromhex("04000000000001"), 2),
        Answer(2, None, 3),
        Answer(3, None, 4),
    ]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("x,04000000000002,ok", "is not a serial number"),
        ("2,04000000000002,OK", "is not a serial number"),
        ("2,040000000002,ok", "has a UID of 14"),
        ("2,,ok", "has a UID of 14"),
        ("2,04000000000002", "is not a serial number"),
        ("9" * 19 + ",04000000000002,ok", "is not a serial number"),
        ("1,04000000000002,ok", "card 1 again"),
        ("1,,failed", "card 1 again"),
    ],
)
def test_a_wrong_answer_is_told(tmp_path: Path, row: str, says: str) -> None:
    path = tmp_path / "answer.csv"
    path.write_text(f"serial,uid,result\n1,04000000000001,ok\n{row}\n")
    with pytest.raises(ExceptionGroup) as caught:
        answers_of(path)
    (line,) = told(caught.value)
    assert line.startswith(f"{path}, line 3: ")
    assert says in line


def test_a_chip_that_is_two_cards_is_told(tmp_path: Path) -> None:
    path = tmp_path / "answer.csv"
    path.write_text("serial,uid,result\n1,04000000000001,ok\n2,04000000000001,ok\n")
    with pytest.raises(ExceptionGroup) as caught:
        answers_of(path)
    assert [line.split(": ")[0] for line in told(caught.value)] == [f"{path}, line 2", f"{path}, line 3"]


def test_a_row_is_one_line_of_bounded_length() -> None:
    assert len('"",""\r\n') + 2 * 64 <= enrolment_table._LINE_BYTES
