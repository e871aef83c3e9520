"""Whose card it is: the rules under proofs, repetitions, endings and closings, and the database that keeps them."""

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from backend_sync import bindings, links, links_table, proving, schema
from backend_sync.card_family import CardFamily
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.ledger import Ledger
from backend_sync.links import LinkEnding
from backend_sync.links_table import LINK, LINK_ENDED, LINKING, PERSON
from backend_sync.proving import Asked, Linked, LinkRefused
from backend_sync.sales import ConcessionRefused, Sale
from tests.backend_sync.gate import DAWN_MS, month
from tests.backend_sync.older_ledger import forget_settlements
from tests.backend_sync.proving_desk import a_card, a_person, code, credential, desk, proved, serial
from validator.certificates import card_credential_id
from validator.model import Assurance, DocumentType, Scheme
from validator.proof_report import Proof, ProvedCard, ProvedPerson

SOAK = os.environ.get("PILET_SOAK") == "1"
PEOPLE = [(Scheme.ESTONIA, code(1)), (Scheme.ESTONIA, code(2)), (Scheme.JAPAN, serial(1)), (Scheme.JAPAN, serial(2))]
CARDS = ["bus", "phone", "fob"]
ACCOUNTS = ["first", "second"]
MINUTE_MS = 60_000

Dump = tuple[tuple[Any, ...], ...]


def dump(ledger: Ledger) -> Dump:
    """All that is recorded of links and people."""
    with ledger.reading() as connection:
        return tuple(
            tuple(tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key)))
            for table in LINKING.sorted_tables
        )


NOTHING = Asked()


def link(ledger: Ledger, proofs: list[Proof], asked: Asked = NOTHING, now_ms: int = DAWN_MS) -> Linked:
    with ledger.writing() as connection:
        return proving.link(connection, proofs, asked, now_ms, os.urandom)


@dataclass
class Row:
    """A link, as it should be in the ledger."""

    account: str
    credential_id: bytes
    assurance: Assurance
    document: str
    proved_ms: int
    why: LinkEnding | None = None


class Linking(RuleBasedStateMachine):
    """A model of whose card is whose, beside the ledger."""

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger.open("sqlite://")
        self.now_ms = DAWN_MS
        self.turn = 0
        self.accounts: dict[tuple[Scheme, str], str] = {}
        self.since: dict[tuple[Scheme, str], int] = {}
        self.used: set[str] = set()
        self.rows: list[Row] = []
        self.done: list[tuple[list[Proof], Asked]] = []
        self.before: list[tuple[Any, ...]] = []

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()

    def live(self, credential_id: bytes) -> Row | None:
        return next((row for row in self.rows if row.credential_id == credential_id and row.why is None), None)

    def expected_account(self, who: tuple[Scheme, str], proofs: list[Proof], asked: str | None) -> str | None:
        """The account that a person has or may have; empty for a new one, None where they may not have it."""
        mine = self.accounts.get(who)
        if mine is not None:
            return mine if asked in {None, mine} else None
        if asked is None or asked not in self.used:
            return asked or ""
        shown = [self.live(one.card.credential_id) for one in proofs]
        if not any(row is not None and row.account == asked for row in shown):
            return None
        others = [one for one, account in self.accounts.items() if account == asked]
        return None if others and Scheme.ESTONIA in {who[0], *(one[0] for one in others)} else asked

    def owners(self, account: str) -> set[tuple[Scheme, str]]:
        """Those who have a code for life, or else those who came first."""
        people = {one for one, mine in self.accounts.items() if mine == account}
        first = min((self.since[one] for one in people), default=0)
        lasting = {one for one in people if one[0] is Scheme.ESTONIA}
        return lasting or {one for one in people if self.since[one] == first}

    def is_resident(self, account: str, rows: list[Row]) -> bool:
        lasting = any(one[0] is Scheme.ESTONIA for one, mine in self.accounts.items() if mine == account)
        live = [row.document for row in rows if row.account == account and row.why is None]
        return [one.endswith("citizen") for one in live if not lasting or one.startswith("ee")][-1:] == [True]

    def denying(self, credential_id: bytes) -> Row | None:
        """The newest link of a credential that ended so that it was denied."""
        ended = [row for row in self.rows if row.credential_id == credential_id and row.why in links.DENIED]
        return ended[-1] if ended else None

    def is_denied_to(self, account: str, credential_id: bytes, *, is_document: bool) -> bool:
        row = self.denying(credential_id)
        if row is None or row.account == account or self.live(credential_id) is not None:
            return False
        return not is_document or row.why is LinkEnding.LOST

    def would_be(self, account: str, proofs: list[Proof], assurance: Assurance, said: str) -> list[Row]:
        """The live links of an account after these were linked to it."""
        ids = [one.card.credential_id for one in proofs]
        rows = [replace(row) for row in self.rows if row.account == account and row.why is None]
        kept = {row.credential_id for row in rows if row.document == said and row.assurance >= assurance} & {*ids}
        rows = [row for row in rows if row.credential_id in kept or row.credential_id not in ids]
        return rows + [Row(account, one, assurance, said, self.now_ms) for one in ids if one not in kept]

    @rule(
        who=st.sampled_from(PEOPLE),
        renewed=st.booleans(),
        cards=st.lists(st.sampled_from(CARDS), max_size=2, unique=True),
        asked=st.builds(Asked, st.sampled_from([None, *ACCOUNTS]), st.booleans(), st.booleans()),
        assurance=st.sampled_from([*Assurance, Assurance.HOLDER, Assurance.HOLDER]),
        document=st.sampled_from([DocumentType.CITIZEN, DocumentType.E_RESIDENT]),
    )
    def prove(  # noqa: PLR0917 - hypothesis passes by name
        self,
        who: tuple[Scheme, str],
        renewed: bool,  # noqa: FBT001 - hypothesis passes by name
        cards: list[str],
        asked: Asked,
        assurance: Assurance,
        document: DocumentType,
    ) -> None:
        self.turn += 1
        scheme, identifier = who
        papers = a_person(identifier, f"{identifier} {renewed}", assurance=assurance, document=document, scheme=scheme)
        proofs = proved(papers, *(a_card(one) for one in cards), at_ms=self.now_ms, turn=self.turn)
        enough = assurance is Assurance.HOLDER or (assurance is Assurance.CHIP and asked.photo_checked)
        target = self.expected_account(who, proofs, asked.account) if enough else None
        live = [self.live(one.card.credential_id) for one in proofs]
        said = f"{scheme.value} {document.value}"
        refused = target is None or any(row is not None and row.account != target for row in live)
        if target is not None:
            refused = refused or any(
                self.is_denied_to(target, one.card.credential_id, is_document=one.person is not None) for one in proofs
            )
            owners = self.owners(target)
            if owners and who not in owners:
                after = self.would_be(target, proofs, assurance, said)
                changes = self.is_resident(target, after) is not self.is_resident(target, self.rows)
                refused = refused or asked.replace or changes
        if refused:
            before = dump(self.ledger)
            with pytest.raises(LinkRefused):
                link(self.ledger, proofs, asked, self.now_ms)
            assert dump(self.ledger) == before
            return
        done = link(self.ledger, proofs, asked, self.now_ms)
        assert done.known is (who in self.accounts)
        assert target in {"", done.account}, "the same person gets the same account"
        assert target or done.account not in self.used
        if who not in self.accounts:
            self.since[who] = self.now_ms
        self.accounts[who] = done.account
        self.used.add(done.account)
        new, better, others = 0, 0, 0
        for one, row in zip(proofs, live, strict=True):
            if row is not None and row.document == said and row.assurance >= assurance:
                continue
            if row is None:
                new += 1
            else:
                row.why, better = LinkEnding.RENEWED, better + 1
            self.rows.append(Row(done.account, one.card.credential_id, assurance, said, self.now_ms))
        shown = {one.card.credential_id for one in proofs}
        for row in self.rows:
            old = row.account == done.account and row.why is None and row.proved_ms < self.now_ms
            if asked.replace and old and row.credential_id not in shown:
                row.why, others = LinkEnding.REPLACED, others + 1
        assert (done.new, done.renewed, done.replaced) == (new, better, others)
        self.done.append((proofs, asked))

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def say_it_again(self, data: st.DataObject) -> None:
        proofs, asked = data.draw(st.sampled_from(self.done))
        before = dump(self.ledger)
        with contextlib.suppress(LinkRefused):
            done = link(self.ledger, proofs, asked, self.now_ms)
            assert (done.known, done.new, done.renewed, done.replaced) == (True, 0, 0, 0)
        assert dump(self.ledger) == before, "a repetition changes nothing"

    @rule(minutes=st.integers(0, 6))
    def time_passes(self, minutes: int) -> None:
        self.now_ms += 1 + minutes * MINUTE_MS

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), why=st.sampled_from([LinkEnding.LOST, LinkEnding.MISTAKE, LinkEnding.REPLACED]))
    def unlink(self, data: st.DataObject, why: LinkEnding) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted({row.credential_id for row in self.rows})), min_size=1))
        live = [row for one in set(ids) if (row := self.live(one)) is not None]
        with self.ledger.writing() as connection:
            done = links.unlink(connection, ids, why, "front-1", self.now_ms)
        assert done == (len(live), len(set(ids)) - len(live))
        for row in live:
            row.why = why

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        account = data.draw(st.sampled_from(sorted(self.used)))
        live = [row for row in self.rows if row.account == account and row.why is None]
        with self.ledger.writing() as connection:
            ended, _ = links.unlink_account(connection, account, LinkEnding.CLOSED, "front-1", self.now_ms)
        assert ended == len(live)
        for row in live:
            row.why = LinkEnding.CLOSED
        self.accounts = {who: mine for who, mine in self.accounts.items() if mine != account}

    @invariant()
    def a_credential_is_live_for_one_account_at_most(self) -> None:
        if not hasattr(self, "ledger"):
            return
        live = select(LINK.c.credential_id).outerjoin(LINK_ENDED, LINK_ENDED.c.link == LINK.c.id)
        with self.ledger.reading() as connection:
            ids = connection.execute(live.where(LINK_ENDED.c.link.is_(None))).scalars().all()
            found = {one: links.account_of(connection, one) for one in ids}
        assert all(count == 1 for count in Counter(ids).values())
        assert found == {row.credential_id: row.account for row in self.rows if row.why is None}

    @invariant()
    def all_that_ever_was_is_still_shown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.reading() as connection:
            found = links.of_accounts(connection, sorted(self.used))
        told = [
            (
                one.account,
                one.credential_id,
                one.assurance,
                f"{one.scheme} {one.document.value}",
                None if one.ended is None else one.ended.why,
            )
            for one in found
        ]
        assert told == [(row.account, row.credential_id, row.assurance, row.document, row.why) for row in self.rows]
        for was, one in zip(self.before, found, strict=False):
            assert replace(one, ended=was[0].ended) == was[0]
            assert was[0].ended in {None, one.ended}, "an end is never changed"
        self.before = [(one,) for one in found]

    @invariant()
    def nobody_is_remembered_for_nothing_and_no_code_is_kept(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.reading() as connection:
            people = connection.execute(select(PERSON)).all()
        assert Counter(row.account for row in people) == Counter(self.accounts.values())
        assert all(identifier not in repr(dump(self.ledger)) for _, identifier in PEOPLE)

    @invariant()
    def what_ended_is_denied_until_it_is_live_again(self) -> None:
        if not hasattr(self, "ledger"):
            return
        ids = {row.credential_id for row in self.rows}
        with self.ledger.reading() as connection:
            denied = list(links.ended_credential_ids(connection))
        assert len(denied) == len(set(denied))
        assert set(denied) == {one for one in ids if self.live(one) is None and self.denying(one) is not None}


TestLinking = Linking.TestCase
TestLinking.settings = settings(max_examples=400 if SOAK else 30, stateful_step_count=25)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as made:
        yield made


MARI, JAAN = a_person(code(1), "mari's id-card"), a_person(code(2), "jaan's id-card")


@pytest.mark.parametrize(
    ("shown", "photo", "says"),
    [
        ([a_person(code(1), assurance=Assurance.CLAIMED)], True, r"could have copied .* \(CLAIMED\): have its PIN"),
        ([a_person(code(1), assurance=Assurance.SHARED_SECRET)], True, r"\(SHARED_SECRET\): have its PIN entered"),
        ([a_person(code(1), assurance=Assurance.CHIP)], False, r"anybody's \(CHIP\): .* say --photo-checked"),
        ([MARI, a_card("bus", assurance=Assurance.SHARED_SECRET)], False, r"can be copied \(below CHIP\)"),
        ([a_card("bus")], False, "none of the cards that were read is an identity document"),
        ([MARI, JAAN], False, "two documents were read"),
        ([MARI, a_card("bus"), a_card("bus")], False, "one card was read twice"),
    ],
)
def test_what_does_not_suffice_is_refused_in_words(
    ledger: Ledger,
    shown: list[ProvedPerson | ProvedCard],
    photo: bool,  # noqa: FBT001 - a column of the table
    says: str,
) -> None:
    before = dump(ledger)
    with pytest.raises(LinkRefused, match=says):
        link(ledger, proved(*shown), Asked(photo_checked=photo))
    assert dump(ledger) == before


def test_a_genuine_document_and_a_face_that_agrees_suffice(ledger: Ledger) -> None:
    done = link(ledger, proved(a_person(code(1), assurance=Assurance.CHIP)), Asked(photo_checked=True))
    with ledger.reading() as connection:
        (one,) = links.of_accounts(connection, [done.account])
    assert (one.assurance, one.photo_checked, one.desk) == (Assurance.CHIP, True, "front-1")


def test_a_better_proof_renews_a_link_and_a_lesser_one_changes_nothing(ledger: Ledger) -> None:
    compared, asked = a_person(code(1), assurance=Assurance.CHIP), Asked(photo_checked=True)
    said = [
        link(ledger, proved(shown, turn=turn), asked)
        for turn, shown in enumerate([compared, a_person(code(1)), compared, a_person(code(1))])
    ]
    assert [(one.new, one.renewed) for one in said] == [(1, 0), (0, 1), (0, 0), (0, 0)]
    with ledger.reading() as connection:
        chip, holder = links.of_accounts(connection, [said[0].account])
    assert (chip.assurance, holder.assurance, holder.ended) == (Assurance.CHIP, Assurance.HOLDER, None)
    assert chip.ended is not None
    assert chip.ended.why is LinkEnding.RENEWED


@pytest.mark.parametrize(
    ("after_ms", "says"),
    [
        (10 * MINUTE_MS, None),
        (10 * MINUTE_MS + 1, "more than 10 minutes ago: read them again"),
        (-2 * MINUTE_MS, None),
        (-2 * MINUTE_MS - 1, "clock is ahead of the back office's"),
    ],
)
def test_a_proof_is_of_this_moment(ledger: Ledger, after_ms: int, says: str | None) -> None:
    if says is None:
        assert link(ledger, proved(MARI), now_ms=DAWN_MS + after_ms).new == 1
        return
    with pytest.raises(LinkRefused, match=says):
        link(ledger, proved(MARI), now_ms=DAWN_MS + after_ms)


def test_cards_are_read_where_the_person_is(ledger: Ledger) -> None:
    with pytest.raises(LinkRefused, match="at different desks"):
        link(ledger, [*proved(MARI), *proved(a_card("bus"), by=desk("front-2"))])


def test_a_person_with_a_new_card_of_another_generation_has_the_same_account(ledger: Ledger) -> None:
    first = link(ledger, proved(a_person("PNOEE-" + code(1), "card of 2020"), a_card("bus")))
    then = link(ledger, proved(a_person(code(1), "card of 2025"), turn=1))
    assert (then.account, then.known, then.new) == (first.account, True, 1)
    with ledger.reading() as connection:
        assert len(links.of_accounts(connection, [first.account])) == 3


def test_a_person_whose_desk_has_a_new_key_is_known_by_the_old_one_beside_it(ledger: Ledger) -> None:
    first = link(ledger, proved(MARI))
    both = link(ledger, proved(MARI, turn=1, by=desk("front-1", "person-2", "person-1")))
    assert (both.account, both.known) == (first.account, True)
    newer = link(ledger, proved(MARI, turn=2, by=desk("front-1", "person-2")))
    assert (newer.account, newer.known) == (first.account, True)


def test_two_accounts_of_one_person_are_not_chosen_between(ledger: Ledger) -> None:
    link(ledger, proved(a_person(code(1), "old card")))
    link(ledger, proved(a_person(code(1), "new card"), by=desk("front-1", "person-2")))
    with pytest.raises(LinkRefused, match="an account under each of two person keys"):
        link(ledger, proved(a_person(code(1), "newest"), by=desk("front-1", "person-2", "person-1")))


def test_an_account_that_was_used_is_given_to_whoever_brings_a_card_of_it(ledger: Ledger) -> None:
    old, new = (a_person(serial(one), f"certificate {one}", scheme=Scheme.JAPAN) for one in (1, 2))
    first = link(ledger, proved(old, a_card("bus")))
    asked = Asked(first.account)
    with pytest.raises(LinkRefused, match="used before: have a card of it read along"):
        link(ledger, proved(new), asked)
    with pytest.raises(LinkRefused, match="used before"):
        link(ledger, proved(new, a_card("fob")), asked)
    assert link(ledger, proved(new, a_card("bus")), asked) == Linked(
        first.account, known=False, new=1, renewed=0, replaced=0
    )
    with pytest.raises(LinkRefused, match="this person has another account: leave out --account"):
        link(ledger, proved(new, turn=1), Asked("other"))


def test_a_borrowed_card_makes_nobody_another_person(ledger: Ledger) -> None:
    mine = link(ledger, proved(MARI, a_card("bus")))
    with pytest.raises(LinkRefused, match="this account is another person's"):
        link(ledger, proved(JAAN, a_card("bus")), Asked(mine.account))
    with pytest.raises(LinkRefused, match="linked to another account"):
        link(ledger, proved(JAAN, a_card("bus")))


def test_a_closed_account_is_nobodys_and_stays_visible(ledger: Ledger) -> None:
    mine = link(ledger, proved(MARI))
    with ledger.writing() as connection:
        assert links.unlink_account(connection, mine.account, LinkEnding.CLOSED, "front-1", DAWN_MS) == (1, 0)
        assert links.unlink_account(connection, mine.account, LinkEnding.CLOSED, "front-1", DAWN_MS) == (0, 1)
        assert connection.execute(select(PERSON)).all() == []
        assert [one.ended is None for one in links.of_accounts(connection, [mine.account])] == [False]
        with pytest.raises(EnrolmentError, match="nothing was ever linked"):
            links.unlink_account(connection, "nobody's", LinkEnding.CLOSED, "front-1", DAWN_MS)
    with pytest.raises(LinkRefused, match="used before"):
        link(ledger, proved(JAAN), Asked(mine.account))
    with pytest.raises(LinkRefused, match="this proof was used"):
        link(ledger, proved(MARI))
    assert link(ledger, proved(MARI, turn=1)).account != mine.account


def test_an_account_ends_for_another_reason_without_forgetting_whose_it_is(ledger: Ledger) -> None:
    mine = link(ledger, proved(MARI, a_card("bus")))
    with ledger.writing() as connection:
        assert links.unlink_account(connection, mine.account, LinkEnding.LOST, "front-1", DAWN_MS) == (2, 0)
    again = link(ledger, proved(MARI, turn=1))
    assert (again.account, again.known) == (mine.account, True)


def test_a_card_that_was_found_again_is_denied_no_more(ledger: Ledger) -> None:
    link(ledger, proved(MARI, a_card("bus")))
    denied = []
    for turn in (1, 2):
        with ledger.writing() as connection:
            links.unlink(connection, [credential("bus")], LinkEnding.LOST, "front-1", DAWN_MS)
            denied.append(list(links.ended_credential_ids(connection)))
        link(ledger, proved(MARI, a_card("bus"), turn=turn))
        with ledger.reading() as connection:
            denied.append(list(links.ended_credential_ids(connection)))
    assert denied == [[credential("bus")], [], [credential("bus")], []]


def ended(ledger: Ledger, name: str, why: LinkEnding) -> list[bytes]:
    """End a card's link, and return what is denied then."""
    with ledger.writing() as connection:
        links.unlink(connection, [credential(name)], why, "front-1", DAWN_MS)
        return list(links.ended_credential_ids(connection))


def refused(ledger: Ledger, proofs: list[Proof], says: str, asked: Asked = NOTHING, now_ms: int = DAWN_MS) -> None:
    before = dump(ledger)
    with pytest.raises(LinkRefused, match=says):
        link(ledger, proofs, asked, now_ms)
    assert dump(ledger) == before


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("family", ["pkoc2", CardFamily.NTAG424.value])
def test_a_proof_that_was_used_goes_with_no_other_card(
    ledger: Ledger,
    family: str,
    replaces: bool,  # noqa: FBT001 - a column of the table
) -> None:
    first, later = proved(MARI, a_card("bus")), DAWN_MS + 9 * MINUTE_MS
    account = link(ledger, first).account
    clerks = proved(a_card("clerk's", family=family), at_ms=later)
    asked = Asked(replace=replaces)
    refused(ledger, [first[0], *clerks], "used, and with other cards: read the identity document again", asked, later)
    refused(ledger, [*first, *clerks], "read the identity document again", asked, later)
    refused(ledger, [*proved(JAAN, turn=1), first[1]], "read the identity document again", asked, later)
    for again in (first, first[:1]):
        assert link(ledger, again, asked, later) == Linked(account, known=True, new=0, renewed=0, replaced=0)


def test_a_proof_that_was_used_ends_nothing_when_it_is_said_again(ledger: Ledger) -> None:
    link(ledger, proved(MARI, a_card("bus")))
    now = proved(MARI, at_ms=DAWN_MS + 1)
    assert link(ledger, now).new == 0
    refused(ledger, now, "was used, and ends nothing more: read the identity document again", Asked(replace=True))


@pytest.mark.parametrize("why", [LinkEnding.LOST, LinkEnding.REPLACED])
def test_what_was_denied_on_one_account_is_given_to_no_other(ledger: Ledger, why: LinkEnding) -> None:
    link(ledger, proved(MARI, a_card("bus")))
    assert ended(ledger, "bus", why) == [credential("bus")]
    refused(ledger, proved(JAAN, a_card("bus")), "reported lost, or given up, on another account")
    assert ended(ledger, "bus", LinkEnding.MISTAKE) == [credential("bus")]
    link(ledger, proved(MARI, a_card("bus"), turn=1))
    assert ended(ledger, "bus", LinkEnding.MISTAKE) == [credential("bus")], "undone, and denied as before"
    refused(ledger, proved(JAAN, a_card("bus")), "reported lost")


def test_after_a_closing_the_document_finds_its_person_and_other_cards_nobody(ledger: Ledger) -> None:
    first = link(ledger, proved(MARI, a_card("bus")))
    with ledger.writing() as connection:
        links.unlink_account(connection, first.account, LinkEnding.CLOSED, "front-1", DAWN_MS)
    refused(ledger, proved(MARI, a_card("bus"), turn=1), "reported lost, or given up")
    assert link(ledger, proved(MARI, turn=1)).new == 1
    assert ended(ledger, "mari's id-card", LinkEnding.LOST) == [credential("bus"), credential("mari's id-card")]


def test_a_card_of_a_batch_that_ended_stays_denied(ledger: Ledger) -> None:
    card = bound(ledger, "acct-1")
    with ledger.writing() as connection:
        bindings.end_held(connection, ["acct-1"], bindings.Ending.LOST, DAWN_MS)
    for asked in (NOTHING, Asked("acct-1")):
        refused(ledger, proved(MARI, own_card(card)), "is not the one|used before", asked)
    with ledger.reading() as connection:
        assert list(bindings.ended_credential_ids(connection)) == [card]


PASSPORT = ProvedPerson(
    ProvedCard("emrtd", Assurance.CHIP, credential("passport")), "UTO-L898902C3", None, DocumentType.UNKNOWN
)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_passport_and_a_found_card_take_no_account_of_a_code_for_life(
    ledger: Ledger,
    replaces: bool,  # noqa: FBT001 - a column of the table
) -> None:
    account = link(ledger, proved(MARI, a_card("bus"))).account
    asked = Asked(account, photo_checked=True, replace=replaces)
    refused(ledger, proved(PASSPORT, a_card("bus")), "somebody's, and a card of it does not make it another's", asked)
    with ledger.writing() as connection:
        links.unlink(connection, [MARI.card.credential_id], LinkEnding.LOST, "front-1", DAWN_MS)
    refused(ledger, proved(PASSPORT, MARI, a_card("bus"), turn=1), "read along a document", asked)


def test_a_second_document_joins_where_the_known_person_is_read_along(ledger: Ledger) -> None:
    account, later = link(ledger, proved(MARI, a_card("bus"))).account, DAWN_MS + 1
    both = proved(MARI, PASSPORT, at_ms=later)
    refused(ledger, both, "two documents were read", Asked(photo_checked=True), later)
    refused(ledger, proved(JAAN, MARI, at_ms=later), "another person's", Asked(account), later)
    asked = Asked(account, photo_checked=True)
    refused(ledger, both, r"\(CHIP\)", Asked(account), later)
    assert link(ledger, both, asked, later) == Linked(account, known=False, new=1, renewed=0, replaced=0)
    assert link(ledger, both, asked, later).new == 0
    with ledger.reading() as connection:
        assert links.is_resident(connection, account), "a passport beside it takes nothing"
    alone = proved(PASSPORT, at_ms=later + 1)
    refused(ledger, alone, "--replace is for the person whose account", replace(asked, replace=True), later + 1)
    renewing = proved(PASSPORT, a_card("bus"), at_ms=later + 1)
    assert link(ledger, renewing, asked, later + 1).renewed == 1
    with ledger.writing() as connection:
        assert links.is_resident(connection, account)
        links.unlink(connection, [MARI.card.credential_id], LinkEnding.MISTAKE, "front-1", later)
        assert not links.is_resident(connection, account), "and gives nothing"


def test_nobody_who_joined_by_a_card_changes_a_concession(ledger: Ledger) -> None:
    certificates = [
        a_person(serial(one), f"certificate {one}", scheme=Scheme.JAPAN, document=document)
        for one, document in enumerate((DocumentType.E_RESIDENT, DocumentType.E_RESIDENT, DocumentType.RESIDENT))
    ]
    account = link(ledger, proved(certificates[0], a_card("bus"))).account
    asked, later = Asked(account), DAWN_MS + 1
    refused(ledger, proved(certificates[2], a_card("bus")), "change the concession", asked, later)
    assert link(ledger, proved(certificates[1], a_card("bus")), asked, later).new == 1
    refused(ledger, proved(replace(certificates[1], document=DocumentType.RESIDENT)), "concession", NOTHING, later)
    refused(ledger, proved(certificates[1], turn=1), "--replace is for", Asked(replace=True), later)
    refused(ledger, proved(MARI, a_card("bus")), "read along a document", asked, later)
    assert link(ledger, proved(MARI, certificates[0], a_card("bus")), asked, later).known is False
    with ledger.reading() as connection:
        assert links.is_resident(connection, account)


def test_a_credential_that_was_never_linked_ends_nothing(ledger: Ledger) -> None:
    link(ledger, proved(MARI))
    before = dump(ledger)
    ids = [MARI.card.credential_id, credential("nobody's")]
    with pytest.raises(EnrolmentError, match="never linked"), ledger.writing() as connection:
        links.unlink(connection, ids, LinkEnding.LOST, "front-1", DAWN_MS)
    assert dump(ledger) == before


@pytest.mark.parametrize("name", ["", "-x", "a b", "a" * 65, "õ"])
def test_an_account_has_a_form(ledger: Ledger, name: str) -> None:
    with pytest.raises(EnrolmentError, match="--account: an account is up to 64"):
        link(ledger, proved(MARI), Asked(name))


@pytest.mark.parametrize("document", DocumentType)
def test_who_is_a_resident_as_far_as_a_document_tells(ledger: Ledger, document: DocumentType) -> None:
    done = link(ledger, proved(a_person(code(1), document=document)))
    with ledger.reading() as connection:
        assert links.is_resident(connection, done.account) is (
            document in {DocumentType.CITIZEN, DocumentType.EU_CITIZEN, DocumentType.RESIDENT}
        )
        assert not links.is_resident(connection, "nobody's")


def test_a_person_who_becomes_a_resident_and_ceases_to_be_one(ledger: Ledger) -> None:
    said = []
    for turn, document in enumerate((DocumentType.E_RESIDENT, DocumentType.RESIDENT, DocumentType.E_RESIDENT)):
        done = link(ledger, proved(a_person(code(1), document=document), turn=turn))
        with ledger.reading() as connection:
            said.append(links.is_resident(connection, done.account))
    assert said == [False, True, False]


def test_nothing_that_is_live_makes_nobody_a_resident(ledger: Ledger) -> None:
    done = link(ledger, proved(MARI))
    with ledger.writing() as connection:
        links.unlink(connection, [MARI.card.credential_id], LinkEnding.LOST, "front-1", DAWN_MS)
        assert not links.is_resident(connection, done.account)
        assert links.account_of(connection, MARI.card.credential_id) is None


def bound(ledger: Ledger, account: str, *, state: int = 2) -> bytes:
    """Give an account a card of a batch, and return its credential."""
    token, uid = credential(account), bytes(7)
    with ledger.writing() as connection:
        for statement in (
            "INSERT INTO card_order VALUES (1, 'letters', 'ntag424', x'00', 1, 1, 2, 0)",
            f"INSERT INTO credential VALUES (1, x'{token.hex()}', 1)",
            f"INSERT INTO binding VALUES (1, '{account}', 'ntag424', {state}, NULL, 0)",
            f"INSERT INTO bureau_answer VALUES (1, x'{uid.hex()}', 1, 0)",
        ):
            connection.exec_driver_sql(statement)
    return card_credential_id(token, uid)


def own_card(credential_id: bytes) -> ProvedCard:
    return ProvedCard(CardFamily.NTAG424.value, Assurance.CHIP, credential_id)


def test_a_card_of_a_batch_says_whose_account_is_meant_and_gets_no_second_record(ledger: Ledger) -> None:
    card = own_card(bound(ledger, "acct-1"))
    with pytest.raises(LinkRefused, match="this ntag424 card is not the one that the person's account holds"):
        link(ledger, proved(MARI, card))
    with pytest.raises(LinkRefused, match="used before"):
        link(ledger, proved(MARI), Asked("acct-1"))
    done = link(ledger, proved(MARI, card), Asked("acct-1"))
    assert done == Linked("acct-1", known=False, new=1, renewed=0, replaced=0)
    with ledger.reading() as connection:
        assert [one.credential_id for one in links.of_accounts(connection, ["acct-1"])] == [MARI.card.credential_id]


@pytest.mark.parametrize("brought", ["another's", "not live"])
def test_a_card_of_a_batch_that_is_not_the_accounts_opens_none(ledger: Ledger, brought: str) -> None:
    credential_id = bound(ledger, "acct-1", state=1 if brought == "not live" else 2)
    card = own_card(credential_id if brought == "not live" else credential("acct-2"))
    with pytest.raises(LinkRefused, match="used before"):
        link(ledger, proved(MARI, card), Asked("acct-1"))


def concession(number: int, credential_id: bytes) -> Sale:
    return Sale(credential_id, replace(month(number), residents_only=True), 100, DAWN_MS)


@pytest.mark.parametrize("document", DocumentType)
def test_a_concession_is_sold_to_nobody_who_is_known_to_live_abroad(ledger: Ledger, document: DocumentType) -> None:
    done = link(ledger, proved(a_person(code(1), document=document), a_card("bus")))
    both = [concession(1, credential("nobody's")), concession(2, credential("bus"))]
    with ledger.reading() as connection:
        resident = links.is_resident(connection, done.account)
    if resident:
        assert ledger.record_sales(both) == 2
        return
    with pytest.raises(ConcessionRefused, match=r"^sale 2: it is for residents, .* no resident's") as caught:
        ledger.record_sales(both)
    assert credential("bus").hex() not in str(caught.value)
    assert list(ledger.product_states()) == [], "all of them or none"
    assert ledger.record_sales([both[0], Sale(credential("bus"), month(2), 100, DAWN_MS)]) == 2


def test_a_concession_that_was_sold_stays_sold(ledger: Ledger) -> None:
    link(ledger, proved(MARI))
    sold = concession(1, MARI.card.credential_id)
    assert ledger.record_sales([sold]) == 1
    link(ledger, proved(replace(MARI, document=DocumentType.E_RESIDENT), turn=1))
    assert ledger.record_sales([sold]) == 0
    with pytest.raises(ConcessionRefused):
        ledger.record_sales([sold, concession(2, MARI.card.credential_id)])


def test_a_card_of_a_batch_is_its_accounts_for_a_concession_too(ledger: Ledger) -> None:
    card = bound(ledger, "acct-1")
    assert ledger.record_sales([concession(1, card)]) == 1, "nobody was asked"
    e_resident = a_person(code(1), document=DocumentType.E_RESIDENT)
    link(ledger, proved(e_resident, own_card(card)), Asked("acct-1"))
    with pytest.raises(ConcessionRefused, match=r"^sale 2"):
        ledger.record_sales([concession(2, card)])
    link(ledger, proved(MARI, turn=1))
    assert ledger.record_sales([concession(2, card)]) == 1


def test_a_ledger_from_before_had_no_concessions(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    sold = Sale(credential("bus"), month(1), 100, DAWN_MS)
    with Ledger.open(f"sqlite:///{path}", create=True) as made:
        assert made.record_sale(sold)
        with made.writing() as connection:
            forget_settlements(connection)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("ALTER TABLE sale DROP COLUMN residents_only")
        old.execute("ALTER TABLE sale DROP COLUMN least_assurance")
        for later in ("revocation", "sale_recorded"):
            old.execute(f"DROP TABLE {later}")
        old.execute("PRAGMA user_version=3")
    with Ledger.open(f"sqlite:///{path}") as new:
        assert not new.record_sale(sold)
        assert [product for _, product in new.product_states()] == [month(1)]
        assert new.record_sale(concession(2, credential("bus")))


LIVE = (
    "INSERT {how} INTO link SELECT {number}, 'other', credential_id, {turn}, family, 4, 0, 'ee', 'citizen', 'x', 0, 0 "
    "FROM link"
)


@pytest.mark.parametrize(
    "statement",
    [
        LIVE.format(how="", number="NULL", turn=1),
        LIVE.format(how="", number="NULL", turn=0),
        LIVE.format(how="OR REPLACE", number="NULL", turn=0),
        LIVE.format(how="OR REPLACE", number="id", turn=1),
        LIVE.format(how="OR IGNORE", number="NULL", turn=1),
        "UPDATE link SET account = 'other'",
        "UPDATE OR REPLACE link SET turn = 7",
        "DELETE FROM link",
        "DELETE FROM link_ended",
        "DELETE FROM proof_used",
        "UPDATE link_ended SET why = 4",
        "INSERT OR REPLACE INTO link_ended SELECT link, 4, desk, ended_ms FROM link_ended",
        "INSERT OR REPLACE INTO proof_used SELECT proof, credential_id, 9 FROM proof_used",
        "UPDATE person SET account = 'other'",
        "INSERT OR REPLACE INTO person SELECT person, person_key, scheme, 'other', 0 FROM person",
        "DELETE FROM person",
        "INSERT INTO link_ended VALUES (1, 9, 'x', 0)",
        "INSERT INTO link_ended VALUES (99, 1, 'x', 0)",
        "INSERT INTO link VALUES (9, 'a', x'00', 0, 'esteid', 3, 0, 'ee', 'citizen', 'x', 0, 0)",
        "INSERT INTO link VALUES (9, 'a', x'00', 0, 'esteid', 2, 1, 'ee', 'citizen', 'x', 0, 0)",
        "INSERT INTO link VALUES (9, 'a', x'00', -1, 'esteid', 4, 0, 'ee', 'citizen', 'x', 0, 0)",
    ],
)
def test_the_database_lets_nobody_change_whose_a_card_is(ledger: Ledger, statement: str) -> None:
    link(ledger, proved(MARI))
    link(ledger, proved(JAAN))
    with ledger.writing() as connection:
        links.unlink(connection, [JAAN.card.credential_id], LinkEnding.LOST, "front-1", DAWN_MS)
    before = dump(ledger)
    with pytest.raises(IntegrityError), ledger.writing() as connection:
        connection.exec_driver_sql(statement)
    assert dump(ledger) == before


def test_a_second_live_link_is_refused_with_its_reason(ledger: Ledger) -> None:
    link(ledger, proved(MARI))
    with pytest.raises(IntegrityError, match="link is live: end it first"), ledger.writing() as connection:
        connection.exec_driver_sql(LIVE.format(how="", number="NULL", turn=1))


def test_who_was_forgotten_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(f"sqlite:///{path}", create=True) as made:
        kept, gone = link(made, proved(JAAN)), link(made, proved(MARI))
        with made.writing() as connection:
            connection.exec_driver_sql("PRAGMA secure_delete=OFF")
            people = {row.account: row.person for row in connection.execute(select(PERSON))}
        with made.writing() as connection:
            links.unlink_account(connection, gone.account, LinkEnding.CLOSED, "front-1", DAWN_MS)
    content = path.read_bytes()
    assert people[kept.account] in content, "else this would find nothing anywhere"
    assert people[gone.account] not in content


def test_a_ledger_from_before_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_STEPS", schema._STEPS[:2])
        Ledger.open(f"sqlite:///{path}", create=True).close()
    with contextlib.closing(sqlite3.connect(path)) as old:
        names = {name for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names.isdisjoint(table.name for table in LINKING.sorted_tables)
    with Ledger.open(f"sqlite:///{path}") as new:
        assert link(new, proved(MARI)).new == 1
    assert schema._STEPS[2] is links_table.create_links


def test_no_message_and_no_repr_holds_a_code(ledger: Ledger) -> None:
    (proof,) = proved(MARI)
    assert proof.person is not None
    assert code(1) not in repr(proof)
    assert code(1) not in repr(MARI)
    assert next(iter(proof.person.hashes.values())).hex() not in repr(proof)
    assert repr(next(iter(proof.person.hashes.values()))) not in repr(proof)
    assert link(ledger, [proof]).known is False
