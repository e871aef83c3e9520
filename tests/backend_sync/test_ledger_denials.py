"""Whom the ledger refuses: by number or by id, published or announced, a gate refuses just them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from backend_sync import bindings, enrolment, revocations
from backend_sync.accounts_file import Applicant
from backend_sync.announcement import Rhythm, Signer, advance, resume
from backend_sync.bindings import Ending
from backend_sync.bureau_answers import Answer
from backend_sync.card_family import CardFamily
from backend_sync.enrolment import KeyCheck, Wanted
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.ledger import Ledger
from backend_sync.ledger_denials import LedgerDenials, denied_cards
from backend_sync.revocations import Why
from backend_sync.telling import DENIALS, refusals
from tests.backend_sync.card_bureau import uid_of
from validator.card_index import TOKENS
from validator.lists.changes_file import with_changes
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.manifest import ListKind, Manifest
from validator.model import Credential

NOW_MS, NOW, DAY = 1_800_000_000_000, 1_800_000_000, 86_400
ACCOUNTS = [f"account-{number}" for number in range(6)]
UNMADE = 6
"""Serial number of the card that the bureau never answered for."""
FOREIGN = b"a foreign issuer"
NUMBERED = Credential(b"a foreign card 5", FOREIGN, 1_700_000_000, 5)
OTHERS = [NUMBERED, *(Credential(b"a linked card %2d" % number) for number in range(3))]
NUMBERS = dense_deny(FOREIGN, 9, [3])
WANTED = Wanted(
    "letters", CardFamily.NTAG424, bytes(32), len(ACCOUNTS), (KeyCheck("ntag424-application", 2, "0A0B0C"),)
)
SIGNER = Signer("north.deny", Ed25519PrivateKey.from_private_bytes(bytes(32)))
KEYS = {SIGNER.name: SIGNER.key.public_key()}

places = st.integers(0, len(ACCOUNTS) - 2 + len(OTHERS))
some = st.lists(places, min_size=1, max_size=4)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("revoke"), some, st.booleans()),
        st.tuples(st.just("restore"), some, st.none()),
        st.tuples(st.just("end"), st.integers(0, len(ACCOUNTS) - 2), st.none()),
        st.tuples(st.just("publish"), st.sets(places, max_size=3), st.none()),
        st.tuples(st.just("look"), st.none(), st.booleans()),
    ),
    max_size=14,
)


@contextmanager
def office() -> Iterator[tuple[Ledger, list[Credential]]]:
    """A ledger with a batch whose cards were made, all but the last; and the cards as a gate asks about them."""
    with Ledger.open("sqlite://") as ledger:
        with ledger.writing() as connection:
            order = enrolment.begin_order(connection, WANTED, NOW_MS)
            enrolment.issue(
                connection,
                order,
                0,
                [Applicant(line, account, "") for line, account in enumerate(ACCOUNTS, 2)],
                replace=False,
                random=bytes,
                now_ms=NOW_MS,
            )
            made = [Answer(serial, uid_of(serial)) for serial in order.serials if serial != UNMADE]
            bindings.record_answers(connection, order.name, order.serials, made, NOW_MS)
            cards = bindings.made_cards(connection, order.serials)
        yield ledger, [*cards, *OTHERS]


def published_of(denials: LedgerDenials, named: Iterable[bytes] = ()) -> DenyList:
    section = denials.section()
    assert section is not None
    return DenyList.parse(encode_deny_list(denials.ids(named), [section, NUMBERS]))


@dataclass
class Story:
    """A ledger, what was published of it and announced since, and who should be refused by now."""

    ledger: Ledger
    cards: list[Credential]
    revoked: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    touched: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.publish(set())

    def revoke(self, places: list[int], fully: bool) -> None:  # noqa: FBT001 - a step is a name and two words
        cards = [self.cards[place] if fully else Credential(self.cards[place].id) for place in places]
        with self.ledger.writing() as connection:
            revocations.revoke(connection, cards, Why.LOST, NOW_MS)
        self.revoked.update(places)
        self.touched.update(places)

    def restore(self, places: list[int], _: None) -> None:
        back = [place for place in places if place in self.revoked]
        with self.ledger.writing() as connection:
            revocations.restore(connection, [self.cards[place].id for place in back], Why.FOUND, NOW_MS)
        self.revoked.difference_update(back)
        self.touched.update(back)

    def end(self, place: int, _: None) -> None:
        with self.ledger.writing() as connection:
            bindings.end_held(connection, [ACCOUNTS[place]], Ending.LOST, NOW_MS)
        self.ended.add(place)

    def publish(self, named: set[int], _: None = None) -> None:
        with self.ledger.reading() as connection:
            denials = denied_cards(connection)
        self.row = self.seen = denials.row
        self.published = published_of(denials, [self.cards[place].id for place in named])
        self.manifest = Manifest(ListKind.DENY, "north", 3, NOW, NOW + DAY, bytes(32), 0)
        self.chain = resume(DENIALS, self.published, self.manifest, [], SIGNER)
        self.before, self.touched = set(self.revoked), set()
        self.refused = self.revoked | self.ended | named
        self.at_first = set(self.refused)
        listed = {self.cards[place].id for place in self.refused}
        by_number = {card.id for card in self.cards if card.id in listed and card.id not in self.published.ids}
        assert by_number <= {card.id for card in self.cards if card.issuer_id == TOKENS}
        assert self.ended <= {place for place, card in enumerate(self.cards) if card.id in by_number}

    def look(self, _: None, killed: bool) -> None:  # noqa: FBT001 - as above
        if killed:
            self.chain, self.seen = resume(DENIALS, self.published, self.manifest, self.chain.sealed, SIGNER), self.row
        with self.ledger.reading() as connection:
            words = revocations.words_after(connection, self.seen, self.row)
            ended, self.seen = revocations.ended_credential_ids(connection), revocations.last_row(connection)
        made = advance(
            self.chain, refusals(self.published, words, ended), NOW, rhythm=Rhythm(change_every_s=10**9), signer=SIGNER
        )
        self.chain = self.chain if made is None else made[0]
        for place in self.touched:
            stays = place in self.ended or (place in self.at_first and place not in self.before)
            if place in self.revoked:
                self.refused.add(place)
            elif not stays:
                self.refused.discard(place)
        self.touched = set()

    def assert_right(self) -> None:
        found = with_changes(self.published, self.manifest, self.chain.sealed, KEYS)
        assert found.fault is None
        assert {place for place, card in enumerate(self.cards) if found.listed.denied(card)} == self.refused


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_gate_refuses_just_whom_the_ledger_refuses(steps: list[tuple[str, Any, Any]]) -> None:
    with office() as (ledger, cards):
        story = Story(ledger, cards)
        for name, what, how in steps:
            getattr(story, name)(what, how)
            story.assert_right()


def test_a_number_that_was_known_stays_known() -> None:
    """Found and lost again between two looks, and named by its id alone: the list still knows it by its number."""
    with office() as (ledger, cards):
        story = Story(ledger, cards)
        story.revoke([0], fully=True)
        story.publish(set())
        story.restore([0], None)
        story.revoke([0], fully=False)
        story.restore([0], None)
        story.look(None, killed=False)
        story.assert_right()
        assert story.refused == set()


def test_numbers_where_the_ledger_gave_them_and_ids_for_the_rest() -> None:
    with office() as (ledger, cards), ledger.writing() as connection:
        revocations.revoke(connection, [cards[0], Credential(cards[1].id), *OTHERS], Why.LOST, NOW_MS)
        bindings.end_held(connection, ACCOUNTS[2:3], Ending.LOST, NOW_MS)
        bindings.end_held(connection, ACCOUNTS[-1:], Ending.CLOSED, NOW_MS)
        denials = denied_cards(connection)
        section = denials.section()
        assert section is not None
        assert (section.issuer, section.covers, list(section.numbers)) == (TOKENS, len(ACCOUNTS) + 1, [1, 3])
        assert denials.ids([cards[0].id, b"named by a file."]) == {
            cards[1].id,
            *(each.id for each in OTHERS),
            b"named by a file.",
        }
        without = denied_cards(connection, without_ended=True)
        assert (without.ended, list(without.section().numbers)) == ({}, [1])  # type: ignore[union-attr] # just seen
        assert without.revoked == denials.revoked


def test_without_a_batch_nobody_has_a_number() -> None:
    with Ledger.open("sqlite://") as ledger, ledger.writing() as connection:
        revocations.revoke(connection, OTHERS, Why.LOST, NOW_MS)
        denials = denied_cards(connection)
        assert denials.section() is None
        assert denials.ids([]) == {each.id for each in OTHERS}
        assert denials.row == len(OTHERS)


class TestNumbersOfOthers:
    @pytest.fixture
    def connection(self) -> Iterator[Connection]:
        with office() as (ledger, cards), ledger.writing() as connection:
            self.cards = cards
            yield connection

    @pytest.mark.parametrize("number", [0, 2, UNMADE, 7, 2**32 - 1])
    def test_are_refused(self, connection: Connection, number: int) -> None:
        with pytest.raises(EnrolmentError, match=f"has not the number {number}"):
            revocations.revoke(connection, [self.cards[1], replace(self.cards[0], index=number)], Why.LOST, NOW_MS)
        assert list(revocations.revoked(connection)) == []

    def test_of_which_one_is_right_are_refused(self, connection: Connection) -> None:
        both = [replace(self.cards[1], index=1), self.cards[0]]
        with pytest.raises(EnrolmentError, match="has not the number 1"):
            revocations.revoke(connection, both, Why.LOST, NOW_MS)

    def test_what_an_account_holds_has_its_own(self, connection: Connection) -> None:
        assert revocations.of_account(connection, ACCOUNTS[3]) == [self.cards[3]]
        assert revocations.of_account(connection, ACCOUNTS[-1]) == []
