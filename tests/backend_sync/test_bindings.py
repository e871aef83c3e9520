"""Who holds which card: the rules under orders, replacements, answers and crashes, and the database that keeps them."""

import contextlib
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import StaticPool

from backend_sync import issuing, issuing_tables, schema
from backend_sync.accounts_file import AccountsFile, Applicant
from backend_sync.bindings import BindingState, Ending, HeldCard, end_held, record_answers
from backend_sync.bureau_answers import Answer
from backend_sync.card_family import CardFamily
from backend_sync.enrolment import KeyCheck, Wanted, begin_order, find_order, finish, issue, issued, records
from backend_sync.enrolment_errors import EnrolmentBusy, EnrolmentError
from backend_sync.issuing import Batch, Issuer
from backend_sync.issuing_tables import BINDING, BUREAU_ANSWER, CREDENTIAL, PERSONALISATION
from backend_sync.ledger import Ledger
from backend_sync.sales_table import condition_values
from backend_sync.schema import SchemaTooNew
from tests.backend_sync.card_bureau import uid_of, write_accounts
from tests.backend_sync.gate import DAWN_MS
from tests.backend_sync.older_ledger import forget_settlements
from validator.certificates import card_credential_id, token_id
from validator.conditions import ORDINARY
from validator.lists.listed_ids import ListedIds, encode_listed_ids

ACCOUNTS = [f"account-{number}" for number in range(8)]
SOAK = os.environ.get("PILET_SOAK") == "1"
SMALL_CHUNK = 2
KEYS = (KeyCheck("ntag424-application", 2, "0A0B0C"),)
FIRST = ("first", range(1, 3))


class Died(BaseException):
    """The process ended here."""


@dataclass
class Card:
    account: str
    family: CardFamily
    state: BindingState = BindingState.ORDERED
    ended: Ending | None = None
    uid: bytes | None = None
    answered: bool = False

    def end(self, why: Ending) -> None:
        self.state, self.ended = BindingState.ENDED, why


@dataclass
class Begun:
    name: str
    family: CardFamily
    accounts: list[str]
    first: int
    done: int = 0
    finished: bool = False

    @property
    def serials(self) -> range:
        return range(self.first, self.first + len(self.accounts))


@dataclass
class Death:
    """Dies in the chunk of that number, before or after it is committed."""

    chunk: int
    committed: bool
    seen: int = field(default=0)

    def random(self, count: int) -> bytes:
        if not self.committed and self.seen == self.chunk:
            raise Died
        return os.urandom(count)

    def progress(self, what: str, _done: int, _of: int | None) -> None:
        if what == "accounts bound":
            if self.committed and self.seen == self.chunk:
                raise Died
            self.seen += 1


def credentials(connection: Connection) -> dict[int, bytes]:
    """The credentials of cards whose chip the bureau named, by serial number."""
    rows = connection.execute(
        select(CREDENTIAL.c.serial, CREDENTIAL.c.id, BUREAU_ANSWER.c.uid).join(
            BUREAU_ANSWER, BUREAU_ANSWER.c.serial == CREDENTIAL.c.serial
        )
    )
    return {row.serial: card_credential_id(row.id, row.uid) for row in rows if row.uid is not None}


class Enrolment(RuleBasedStateMachine):
    """A model of who holds what, beside the ledger."""

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(issuing, "CHUNK", SMALL_CHUNK)
        self.patch.setattr(issuing, "give_way", lambda: None)
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.open("sqlite://")
        self.cards: dict[int, Card] = {}
        self.orders: list[Begun] = []

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()
            self.patch.undo()

    def held(self, account: str) -> Card | None:
        found = [
            card for card in self.cards.values() if card.account == account and card.state is not BindingState.ENDED
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def run_batch(self, begun: Begun, death: Death, *, replace: bool) -> None:
        """Run a batch, expect what the rules say of it, and do the same to the model."""
        left = begun.accounts[begun.done :]
        chunks = -(-len(left) // SMALL_CHUNK)
        path = write_accounts(Path(self.folder.name) / f"{begun.name}.csv", begun.accounts)
        issuer = Issuer(self.ledger, lambda: DAWN_MS, death.random, death.progress)
        batch = Batch(begun.name, begun.family, KEYS, replace)
        with AccountsFile.open(path) as file:
            if not replace and any(self.held(one) for one in left):
                with pytest.raises(ExceptionGroup) as caught:
                    issuer.bind(file, batch)
                assert caught.group_contains(EnrolmentError, match="--replace ends that")
                return
            if begun not in self.orders:
                begun.first = 1 + sum(len(one.accounts) for one in self.orders)
                self.orders.append(begun)
            if death.chunk < chunks:
                with pytest.raises(Died):
                    issuer.bind(file, batch)
                finished = SMALL_CHUNK * (death.chunk + death.committed)
            else:
                bound = issuer.bind(file, batch)
                finished = len(left)
                assert bound.new == len(left)
        for account in left[:finished]:
            card = self.held(account)
            if card is not None:
                card.end(Ending.REPLACED)
            self.cards[begun.first + begun.done] = Card(account, begun.family)
            begun.done += 1

    @rule(
        accounts=st.lists(st.sampled_from(ACCOUNTS), min_size=1, unique=True),
        family=st.sampled_from(CardFamily),
        replace=st.booleans(),
        death=st.builds(Death, st.integers(0, 5), st.booleans()),
    )
    def order(self, accounts: list[str], family: CardFamily, replace: bool, death: Death) -> None:  # noqa: FBT001 - hypothesis passes by name
        self.run_batch(Begun(f"batch-{len(self.orders)}", family, accounts, 0), death, replace=replace)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), replace=st.booleans(), death=st.builds(Death, st.integers(0, 5), st.booleans()))
    def go_on(self, data: st.DataObject, replace: bool, death: Death) -> None:  # noqa: FBT001 - hypothesis passes by name
        self.run_batch(data.draw(st.sampled_from(self.orders)), death, replace=replace)

    @precondition(lambda self: self.cards)
    @rule(data=st.data(), made=st.booleans())
    def answer(self, data: st.DataObject, made: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        begun = data.draw(st.sampled_from([one for one in self.orders if one.done]))
        serials = data.draw(
            st.lists(st.sampled_from(begun.serials[: begun.done]), min_size=1, max_size=len(ACCOUNTS), unique=True)
        )
        answers = [Answer(serial, uid_of(serial) if made else None) for serial in serials]
        issuer = Issuer(self.ledger, lambda: DAWN_MS, os.urandom)
        if not begun.finished:
            with pytest.raises(EnrolmentError, match="its files are not complete"):
                issuer.answer(begun.name, answers)
            return
        differs = [one for one in answers if self.cards[one.serial].answered and self.cards[one.serial].uid != one.uid]
        if differs:
            with pytest.raises(EnrolmentError, match="differently"):
                issuer.answer(begun.name, answers)
            return
        live, failed, known, ended_before = 0, 0, 0, 0
        for one in answers:
            card = self.cards[one.serial]
            if card.answered:
                known += 1
                continue
            card.answered, card.uid = True, one.uid
            if card.state is BindingState.ENDED:
                ended_before += 1
            elif made:
                card.state, live = BindingState.LIVE, live + 1
            else:
                card.end(Ending.FAILED)
                failed += 1
        done = issuer.answer(begun.name, answers)
        assert (done.live, done.failed, done.known, done.ended_before) == (live, failed, known, ended_before)

    @precondition(lambda self: any(one.done == len(one.accounts) for one in self.orders))
    @rule(data=st.data())
    def files_are_complete(self, data: st.DataObject) -> None:
        begun = data.draw(st.sampled_from([one for one in self.orders if one.done == len(one.accounts)]))
        with self.ledger.writing() as connection:
            order = find_order(connection, begun.name)
            assert order is not None
            assert (order.manifest_sha256 is not None) is begun.finished
            if not begun.finished:
                finish(connection, order, bytes(32), DAWN_MS)
        begun.finished = True

    @rule(
        accounts=st.lists(st.sampled_from(ACCOUNTS), min_size=1, unique=True),
        why=st.sampled_from([Ending.LOST, Ending.CLOSED]),
    )
    def end(self, accounts: list[str], why: Ending) -> None:
        held = [card for account in accounts if (card := self.held(account)) is not None]
        assert Issuer(self.ledger, lambda: DAWN_MS, os.urandom).end(accounts, why) == len(held)
        for card in held:
            card.end(why)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def another_file_under_the_name(self, data: st.DataObject) -> None:
        begun = data.draw(st.sampled_from(self.orders))
        path = write_accounts(Path(self.folder.name) / f"{begun.name}.csv", [*begun.accounts, "one-more"])
        issuer = Issuer(self.ledger, lambda: DAWN_MS, os.urandom)
        with AccountsFile.open(path) as file, pytest.raises(EnrolmentError, match="with another file"):
            issuer.bind(file, Batch(begun.name, begun.family, KEYS, replace=True))

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.reading() as connection:
            rows = connection.execute(select(BINDING).order_by(BINDING.c.serial)).all()
            kept = connection.execute(select(PERSONALISATION)).all()
            ids = {row.serial: row.id for row in connection.execute(select(CREDENTIAL))}
        found = {
            row.serial: (row.account, row.family, row.state, None if row.ended is None else row.ended) for row in rows
        }
        assert found == {
            serial: (card.account, card.family, card.state, card.ended) for serial, card in self.cards.items()
        }
        held = Counter(row.account for row in rows if row.state != BindingState.ENDED)
        assert all(count == 1 for count in held.values())
        waiting = {serial for serial, card in self.cards.items() if card.state is BindingState.ORDERED}
        assert {row.serial for row in kept} == waiting, "a token is there exactly as long as its card may be made"
        for row in kept:
            assert ids[row.serial] == token_id(self.cards[row.serial].family, row.token)
            assert row.reference == f"parcel-{self.cards[row.serial].account}"
        assert len({row.token for row in kept}) == len(kept)

    @invariant()
    def an_account_is_found_with_the_card_it_holds(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.reading() as connection:
            ids = credentials(connection)
        found = Issuer(self.ledger, lambda: DAWN_MS, os.urandom).held(ACCOUNTS)
        assert found == {
            card.account: HeldCard(card.account, serial, ids.get(serial), card.family, card.state)
            for serial, card in self.cards.items()
            if card.state is not BindingState.ENDED
        }

    @invariant()
    def what_ended_is_what_the_deny_list_gets(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.reading() as connection:
            ids = credentials(connection)
        denied = list(Issuer(self.ledger, lambda: DAWN_MS, os.urandom).ended_credential_ids())
        listed = ListedIds(encode_listed_ids(denied))
        for serial, card in self.cards.items():
            assert serial not in ids or (ids[serial] in listed) is (card.state is BindingState.ENDED)
        assert len(listed) <= len(ids)

    @invariant()
    def the_standing_of_each_batch_counts_its_cards(self) -> None:
        if not hasattr(self, "ledger"):
            return
        standings = Issuer(self.ledger, lambda: DAWN_MS, os.urandom).standings()
        for begun, standing in zip(self.orders, standings, strict=True):
            mine = [self.cards[serial] for serial in standing.order.serials if serial in self.cards]
            assert (standing.order.name, standing.issued, len(mine)) == (begun.name, begun.done, begun.done)
            assert standing.live == sum(card.state is BindingState.LIVE for card in mine)
            assert standing.failed == sum(card.ended is Ending.FAILED for card in mine)
            assert standing.replaced == sum(card.ended is Ending.REPLACED for card in mine)
            assert standing.lost == sum(card.ended is Ending.LOST for card in mine)
            assert standing.closed == sum(card.ended is Ending.CLOSED for card in mine)


TestEnrolment = Enrolment.TestCase
TestEnrolment.settings = settings(max_examples=300 if SOAK else 25, stateful_step_count=20)


def applicants(*accounts: str) -> list[Applicant]:
    return [Applicant(line, account, "") for line, account in enumerate(accounts, 2)]


def order_of(name: str, cards: int) -> Wanted:
    return Wanted(name, CardFamily.NTAG424, bytes(32), cards, KEYS)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    """One card for each of two accounts, serial numbers 1 and 2."""
    with Ledger.open("sqlite://") as made:
        with made.writing() as connection:
            order = begin_order(connection, order_of("first", 2), DAWN_MS)
            issue(connection, order, 0, applicants("a", "b"), replace=False, random=os.urandom, now_ms=DAWN_MS)
        yield made


SECOND = (
    "INSERT {how} INTO binding (serial, account, family, state, since_ms) VALUES (3, '{account}', '{family}', 1, 0)"
)


@pytest.mark.parametrize("family", CardFamily)
@pytest.mark.parametrize("how", ["", "OR REPLACE"])
def test_the_database_lets_nobody_give_an_account_a_second_card(ledger: Ledger, how: str, family: CardFamily) -> None:
    with ledger.writing() as connection:
        connection.exec_driver_sql("INSERT INTO credential VALUES (3, x'00112233445566778899aabbccddeeff', 1)")
    for undone in ([], ["DROP TRIGGER binding_no_replace"]):
        with ledger.writing() as connection:
            for statement in undone:
                connection.exec_driver_sql(statement)
        if how and undone:
            continue  # without its trigger SQLite would replace; that is what the trigger is for
        with pytest.raises(IntegrityError), ledger.writing() as connection:
            connection.exec_driver_sql(SECOND.format(how=how, account="a", family=family))
    with ledger.writing() as connection:
        connection.exec_driver_sql(SECOND.format(how="", account="c", family=family))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM binding",
        "DELETE FROM credential",
        "DELETE FROM card_order",
        "UPDATE binding SET state = 1 WHERE serial = 1",
        "UPDATE binding SET account = 'c', state = 2",
        "UPDATE binding SET serial = 9, state = 2 WHERE serial = 1",
        "UPDATE binding SET state = 3",
        "UPDATE binding SET state = 4, ended = 1",
        "UPDATE OR REPLACE binding SET account = 'b', state = 2 WHERE serial = 1",
        "UPDATE credential SET id = x'00'",
        "UPDATE card_order SET cards = 3",
        "UPDATE card_order_key SET check_value = '000000'",
        "DELETE FROM card_order_key",
        "INSERT OR REPLACE INTO card_order_key SELECT card_order, name, version, '000000' FROM card_order_key",
        "INSERT OR REPLACE INTO credential SELECT 9, id, card_order FROM credential WHERE serial = 1",
        "INSERT OR REPLACE INTO card_order SELECT 9, name, family, accounts_sha256, 9, 1, 2, 0 FROM card_order",
        "INSERT INTO binding VALUES (7, 'z', 'ntag424', 1, NULL, 0)",
    ],
)
def test_the_database_lets_nobody_change_who_held_what(ledger: Ledger, statement: str) -> None:
    with ledger.reading() as connection:
        before = connection.execute(select(BINDING)).all()
    with pytest.raises(IntegrityError), ledger.writing() as connection:
        connection.exec_driver_sql(statement)
    with ledger.reading() as connection:
        assert connection.execute(select(BINDING)).all() == before


def test_a_card_that_ended_never_lives_again(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        record_answers(connection, *FIRST, [Answer(1, None)], DAWN_MS)
    for state in (1, 2):
        with pytest.raises(IntegrityError), ledger.writing() as connection:
            connection.execute(text(f"UPDATE binding SET state = {state}, ended = NULL WHERE serial = 1"))


def test_two_that_issue_one_batch_do_not_double_it(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        order = begin_order(connection, order_of("second", 2), DAWN_MS)
        issue(connection, order, 0, applicants("c"), replace=False, random=os.urandom, now_ms=DAWN_MS)
        for before in (0, 2):
            with pytest.raises(EnrolmentBusy, match="batch second: another process"):
                issue(connection, order, before, applicants("d"), replace=False, random=os.urandom, now_ms=DAWN_MS)
        with pytest.raises(EnrolmentBusy):
            issue(connection, order, 1, applicants("d", "e"), replace=False, random=os.urandom, now_ms=DAWN_MS)
        assert issued(connection, order) == 1


def test_an_account_that_got_a_card_since_it_was_looked_at_is_told_by_its_line(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        order = begin_order(connection, order_of("second", 2), DAWN_MS)
        with pytest.raises(EnrolmentError, match=r"^line 3: this account holds card 1; --replace ends that$"):
            issue(connection, order, 0, applicants("c", "a"), replace=False, random=os.urandom, now_ms=DAWN_MS)
        assert issued(connection, order) == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer(3, uid_of(3)), "card 3 is not of batch first"),
        (Answer(2, uid_of(1)), "card 2 has the UID of card 1: a chip is one card"),
        (Answer(1, uid_of(9)), "card 1 was answered for, and differently"),
        (Answer(1, None), "card 1 was answered for, and differently"),
    ],
)
def test_an_answer_that_cannot_be_true_changes_nothing(ledger: Ledger, answer: Answer, says: str) -> None:
    with ledger.writing() as connection:
        record_answers(connection, *FIRST, [Answer(1, uid_of(1))], DAWN_MS)
        order = begin_order(connection, order_of("second", 3), DAWN_MS)
    with ledger.reading() as connection:
        before = connection.execute(select(BINDING)).all()
    with pytest.raises(EnrolmentError, match=f"^{says}$"), ledger.writing() as connection:
        record_answers(connection, *FIRST, [Answer(2, uid_of(2)), answer][answer.serial == 2 :], DAWN_MS)
    with ledger.reading() as connection:
        assert connection.execute(select(BINDING)).all() == before
        assert issued(connection, order) == 0


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([Answer(1, uid_of(9)), Answer(2, uid_of(9))], "card 2 has the UID of card 1: a chip is one card"),
        ([Answer(1, uid_of(1)), Answer(1, None)], "card 1 again"),
    ],
)
def test_answers_that_contradict_each_other_change_nothing(ledger: Ledger, answers: list[Answer], says: str) -> None:
    with pytest.raises(EnrolmentError, match=f"^{says}$"), ledger.writing() as connection:
        record_answers(connection, *FIRST, answers, DAWN_MS)
    with ledger.reading() as connection:
        assert {row.state for row in connection.execute(select(BINDING))} == {BindingState.ORDERED}


def test_a_version_names_one_key(ledger: Ledger) -> None:
    other = KeyCheck("ntag424-application", 2, "0A0B0D")
    third = KeyCheck("ntag424-application", 3, "0A0B0D")
    with ledger.writing() as connection:
        with pytest.raises(EnrolmentError, match=r"ntag424-application\.2 is not the key that earlier batches had"):
            begin_order(connection, replace(order_of("second", 1), keys=(third, other)), DAWN_MS)
        assert find_order(connection, "second") is None
        assert begin_order(connection, replace(order_of("second", 1), keys=(third,)), DAWN_MS).key_version == 3
        with pytest.raises(EnrolmentError, match="batch first was begun with other operator keys"):
            begin_order(connection, replace(order_of("first", 2), keys=(*KEYS, third)), DAWN_MS)


@pytest.mark.parametrize("how", ["answered", "ended"])
def test_a_token_that_was_forgotten_is_not_in_the_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(f"sqlite:///{path}", create=True) as ledger:
        with ledger.writing() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete=OFF")
            order = begin_order(connection, order_of("first", 2), DAWN_MS)
            issue(connection, order, 0, applicants("a", "b"), replace=False, random=os.urandom, now_ms=DAWN_MS)
            made, waits = records(connection, order, 1, 2)
        with ledger.writing() as connection:
            if how == "answered":
                record_answers(connection, *FIRST, [Answer(1, uid_of(1))], DAWN_MS)
            else:
                assert end_held(connection, ["a"], Ending.LOST, DAWN_MS) == 1
    content = path.read_bytes()
    assert waits.token in content, "else this would find nothing anywhere"
    assert made.token not in content


OF_VERSION_1 = {
    "device": (("gate-1", bytes(32)),),
    "batch": ((1, "gate-1", 1, 9, 1, DAWN_MS),),
    "duplicate": (("gate-1", 1, 3, 2, 5, 6),),
    "position": (("gate-1", 1, 9),),
    "rejected_count": (("signature", 4),),
    "sale": ((7, bytes(16), 1, 0, 100, 0, 0, 0, 0, 0, "[]", 250, DAWN_MS),),
    "posting": (
        (1, None, None, None, 7, "cash", None, "minor", 250),
        (2, None, None, None, 7, "sold", 7, "minor", -250),
    ),
}
"""Rows of a ledger from before cards were issued, by table, in the order of its columns."""


def test_a_ledger_from_before_gets_the_tables_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"

    def rows(connection: sqlite3.Connection) -> dict[str, tuple[object, ...]]:
        return {table: tuple(connection.execute(f"SELECT * FROM {table}")) for table in OF_VERSION_1}

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        engine = create_engine("sqlite://", creator=lambda: old, poolclass=StaticPool)
        with engine.begin() as connection:
            schema.METADATA.create_all(connection)
            forget_settlements(connection)
            for column in ("residents_only", "least_assurance", *condition_values(ORDINARY)):
                connection.exec_driver_sql(f"ALTER TABLE sale DROP COLUMN {column}")
            for table, wanted in OF_VERSION_1.items():
                for row in wanted:
                    marks = ", ".join("?" * len(row))
                    connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", row)
            connection.exec_driver_sql("PRAGMA user_version=1")
            assert "binding" not in schema._tables(connection)
        assert rows(old) == OF_VERSION_1
    with Ledger.open(f"sqlite:///{path}") as new, new.reading() as connection:
        assert {table.name for table in issuing_tables.ISSUING.sorted_tables} <= schema._tables(connection)
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == len(schema._STEPS)
    with contextlib.closing(sqlite3.connect(path)) as kept:
        assert rows(kept) == OF_VERSION_1 | {
            "sale": ((*OF_VERSION_1["sale"][0], 0, 3, *condition_values(ORDINARY).values()),),
            "posting": tuple((*row, None) for row in OF_VERSION_1["posting"]),
        }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_STEPS", schema._STEPS[:1])
        with pytest.raises(SchemaTooNew):
            Ledger.open(f"sqlite:///{path}")


def test_no_message_holds_a_token(ledger: Ledger) -> None:
    with ledger.reading() as connection:
        (row, _) = connection.execute(select(PERSONALISATION)).all()
    with ledger.writing() as connection:
        order = begin_order(connection, order_of("first", 2), DAWN_MS)
        (record, _) = records(connection, order, 1, 2)
    assert record.token == row.token
    assert row.token.hex() not in repr(record)
    assert repr(row.token) not in repr(record)
