"""Who was revoked and who was given back: the last word counts, and nothing that was said is ever changed."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from backend_sync import revocations, schema
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.ledger import Ledger
from backend_sync.revocation_word import Word
from backend_sync.revocations import Why
from backend_sync.revocations_table import REVOCATION, create_revocations
from validator.model import Credential

CARDS = [
    *(Credential(b"enrolled card%03d" % number) for number in range(4)),
    *(Credential(b"numbered card%03d" % number, b"a foreign issuer", 1_700_000_000, number) for number in range(4)),
]
NOW_MS = 1_800_000_000_000

some = st.lists(st.sampled_from(CARDS), min_size=1, max_size=5)
REVOKING = st.sampled_from([why for why in Why if why.revokes])
RESTORING = st.sampled_from([why for why in Why if not why.revokes])


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as ledger:
        yield ledger


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), some, REVOKING, RESTORING), max_size=12), st.data())
def test_the_last_word_counts(steps: list[tuple[bool, list[Credential], Why, Why]], data: st.DataObject) -> None:
    with Ledger.open("sqlite://") as ledger:
        refused, history, rows = dict[bytes, Credential](), [dict[bytes, Credential]()], [0]
        for out, cards, why, back in steps:
            before, ids = dict(refused), [each.id for each in cards]
            with contextlib.suppress(EnrolmentError), ledger.writing() as connection:
                if out:
                    done, known = revocations.revoke(connection, cards, why, NOW_MS)
                    assert (done + known, known) == (len(set(ids)), len({*ids} & before.keys()))
                    refused |= {each.id: each for each in cards}
                else:
                    assert revocations.restore(connection, ids, back, NOW_MS) == len(set(ids))
                    assert set(ids) <= before.keys()
                    refused = {key: each for key, each in before.items() if key not in ids}
            with ledger.reading() as connection:
                last = revocations.last_row(connection)
                assert {each.id: each for each in revocations.revoked(connection)} == refused
            assert (last > rows[-1]) == (refused != before)
            if last > rows[-1]:
                rows.append(last)
                history.append(dict(refused))
        then = data.draw(st.integers(0, len(rows) - 1))
        listed = data.draw(st.integers(0, then))
        with ledger.reading() as connection:
            words = revocations.words_after(connection, rows[then], rows[listed])
        after = dict(history[then])
        for word in words:
            assert word.before == (word.credential.id in history[listed])
            if word.revoked:
                after[word.credential.id] = word.credential
            else:
                after.pop(word.credential.id, None)
        assert after == refused
        assert len({word.credential.id for word in words}) == len(words)


def test_a_card_is_given_back_as_it_was_known(ledger: Ledger) -> None:
    plain = Credential(CARDS[5].id)
    with ledger.writing() as connection:
        assert revocations.revoke(connection, [plain], Why.LOST, NOW_MS) == (1, 0)
        assert revocations.revoke(connection, [CARDS[5]], Why.LOST, NOW_MS) == (1, 0), "now its number is known"
        assert revocations.revoke(connection, [plain], Why.LOST, NOW_MS) == (0, 1)
        revocations.restore(connection, [plain.id], Why.FOUND, NOW_MS)
        assert revocations.words_after(connection, 0, 0) == [Word(CARDS[5], revoked=False, before=False)]


def test_who_was_not_revoked_cannot_be_given_back(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        revocations.revoke(connection, CARDS[:1], Why.LOST, NOW_MS)
    wanted = [CARDS[0].id, CARDS[1].id]
    with pytest.raises(EnrolmentError, match="is not revoked here"), ledger.writing() as connection:
        revocations.restore(connection, wanted, Why.FOUND, NOW_MS)
    with ledger.reading() as connection:
        assert list(revocations.revoked(connection)) == CARDS[:1]


def test_many_at_once(ledger: Ledger) -> None:
    cards = [Credential(number.to_bytes(16)) for number in range(3000)]
    with ledger.writing() as connection:
        assert revocations.revoke(connection, [*cards, *cards], Why.STOLEN, NOW_MS) == (3000, 0)
        assert revocations.restore(connection, [each.id for each in cards[::2]], Why.FOUND, NOW_MS) == 1500
        assert list(revocations.revoked(connection)) == cards[1::2]
        assert len(revocations.words_after(connection, 3000, 3000)) == 1500


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE revocation SET revoked = 0",
        "DELETE FROM revocation",
        "INSERT OR REPLACE INTO revocation SELECT id, credential_id, x'', 0, NULL, 0, 5, 0 FROM revocation",
        "INSERT INTO revocation VALUES (9, zeroblob(16), x'', 0, NULL, 1, 5, 0)",
        "INSERT INTO revocation VALUES (9, zeroblob(16), x'', 0, NULL, 0, 1, 0)",
        "INSERT INTO revocation VALUES (9, zeroblob(15), x'', 0, NULL, 1, 1, 0)",
        "INSERT INTO revocation VALUES (9, zeroblob(16), x'00', 0, NULL, 1, 1, 0)",
    ],
)
def test_the_database_keeps_it_as_it_was_written(ledger: Ledger, statement: str) -> None:
    with ledger.writing() as connection:
        revocations.revoke(connection, CARDS[:1], Why.LOST, NOW_MS)
    with pytest.raises(IntegrityError), ledger.writing() as connection:
        connection.exec_driver_sql(statement)
    with ledger.reading() as connection:
        assert list(revocations.revoked(connection)) == CARDS[:1]


def test_a_ledger_from_before_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_STEPS", schema._STEPS[:5])
        Ledger.open(f"sqlite:///{path}", create=True).close()
    with contextlib.closing(sqlite3.connect(path)) as old:
        names = {name for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert REVOCATION.name not in names
    with Ledger.open(f"sqlite:///{path}") as new, new.writing() as connection:
        assert revocations.revoke(connection, CARDS, Why.LOST, NOW_MS) == (len(CARDS), 0)
    assert schema._STEPS[5] is create_revocations
