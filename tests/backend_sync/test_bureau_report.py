"""What a bureau says of its cards sets them live, exactly once, whatever it says and how often."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from backend_sync.accounts_file import AccountsFile
from backend_sync.bureau_answers import AnswersFile
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.issuing_tables import BUREAU_ANSWER
from tests.backend_sync.card_bureau import write_accounts, write_report
from tests.backend_sync.card_office import ACCOUNTS, BATCH, Died, Office, dying, in_small_pieces


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    in_small_pieces(monkeypatch)
    return Office(tmp_path)


def report(office: Office, *rows: tuple[int, str], batch: str = BATCH.name) -> Iterator[tuple[int, int, int, int]]:
    path = write_report(office.folder / "answer.csv", rows)
    with AnswersFile.open(path) as file, office.issuer() as issuer:
        done = issuer.answer_file(batch, file)
        yield done.live, done.failed, done.known, done.ended_before


def test_a_bureaus_report_sets_cards_live_once(office: Office) -> None:
    office.run()
    rows = ((1, "ok"), (2, "failed"), (3, "ok"))
    assert list(report(office, *rows)) == [(2, 1, 0, 0)]
    assert list(report(office, *rows, (4, "ok"))) == [(1, 0, 3, 0)]
    with office.issuer() as issuer:
        (standing,) = issuer.standings()
    assert (standing.ordered, standing.live, standing.failed) == (1, 3, 1)
    write_accounts(office.accounts, [ACCOUNTS[1]])
    bound, _ = office.run(replace(BATCH, name="again"))
    assert (bound.new, bound.replaced) == (1, 0), "what failed may be ordered again"


def test_a_report_of_cards_that_were_replaced_brings_none_back(office: Office) -> None:
    office.run()
    office.run(replace(BATCH, name="again", replace=True))
    assert list(report(office, (1, "ok"), (2, "failed"))) == [(0, 0, 0, 2)]
    assert list(report(office, (6, "ok"), batch="again")) == [(1, 0, 0, 0)]


def test_a_report_with_a_serial_of_another_batch_changes_nothing(office: Office) -> None:
    office.run()
    write_accounts(office.accounts, ["another"])
    office.run(replace(BATCH, name="another"))
    path = write_report(office.folder / "answer.csv", [(1, "ok"), (77, "ok"), (2, "ok"), (6, "failed")])
    with AnswersFile.open(path) as file, office.issuer() as issuer, pytest.raises(ExceptionGroup) as caught:
        issuer.answer_file(BATCH.name, file)
    assert [str(one) for one in caught.value.exceptions] == [
        f"{path}, line 3: card 77 is not of batch letters",
        f"{path}, line 5: card 6 is not of batch letters",
    ]
    with office.issuer() as issuer:
        assert [standing.live + standing.failed for standing in issuer.standings()] == [0, 0]


def test_a_report_on_a_batch_that_nobody_can_have_made_changes_nothing(office: Office) -> None:
    with pytest.raises(EnrolmentError, match="there is no batch letters"):
        list(report(office, (1, "ok")))
    with AccountsFile.open(office.accounts) as file, office.issuer() as issuer:
        issuer.bind(file, BATCH)
    with pytest.raises(EnrolmentError, match="batch letters: its files are not complete"):
        list(report(office, (1, "ok")))
    with office.issuer() as issuer:
        assert issuer.standings()[0].ordered == len(ACCOUNTS)


def test_a_report_that_ends_in_the_middle_is_recorded_once(office: Office) -> None:
    office.run()
    rows = tuple((serial, "ok") for serial in range(1, 6))
    for chunks in range(3):
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, 2 * chunks)
            with pytest.raises(Died):
                list(report(office, *rows))
    ((live, failed, known, ended),) = report(office, *rows)
    assert (live + known, failed, ended) == (5, 0, 0)
    with office.issuer() as issuer, issuer.ledger.reading() as connection:
        assert issuer.standings()[0].live == 5
        assert len(connection.execute(select(BUREAU_ANSWER)).all()) == 5
