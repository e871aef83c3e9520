"""What the ledger sold: published or announced, a gate has the same left on a product as the ledger's books say."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.exc import DatabaseError

from backend_sync.announced_lists import Rows
from backend_sync.announcement import Chain, Rhythm, Signer, advance, resume, standing
from backend_sync.ledger import Ledger, Sale
from backend_sync.ledger_news import Sold
from backend_sync.sales_table import SALE_RECORDED
from backend_sync.telling import TICKETS
from tests.backend_sync.gate import DAWN_MS, GateJournal, a_tap, carnet, purse
from tests.backend_sync.list_office import sealed_in
from tests.backend_sync.older_ledger import forget_settlements
from tests.validator.list_making import ISSUED, KEY, KEYS, NOT_AFTER
from validator.lists.changes_file import with_list_changes
from validator.lists.list_change import open_list_change
from validator.lists.manifest import ListKind, Manifest
from validator.lists.ticket_delta import MAX_PRODUCTS
from validator.lists.ticket_store import TicketStore, write_ticket_store
from validator.lists.tickets import Tickets, published_tickets
from validator.rights import Product

GATES = ("gate-1", "gate-2")
BUYERS = [bytes([number]) * 16 for number in range(1, 5)]
RIDES, BALANCE, FARE = 1000, 100_000, 150
SIGNER = Signer("publisher", KEY)
SALES = Rhythm(change_every_s=10**9, fresh_s=None, burst=10**6, most=4)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("sell"), st.sampled_from(BUYERS), st.booleans()),
        st.tuples(st.just("ride"), st.sampled_from(GATES), st.integers(1, 6)),
        st.tuples(st.just("deliver"), st.sampled_from(GATES), st.integers(0, 3)),
        st.tuples(st.just("new_journal"), st.sampled_from(GATES), st.none()),
        st.tuples(st.just("publish"), st.none(), st.none()),
        st.tuples(st.just("look"), st.none(), st.booleans()),
    ),
    max_size=25,
)


class Story:
    """Two gates that grant rides, a ledger that hears of them late, a list, and what was announced since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journals = {gate: GateJournal(gate, epoch=1) for gate in GATES}
        self.ledger = Ledger.open("sqlite://")
        for journal in self.journals.values():
            self.ledger.register_device(journal.device, journal.public_key)
        self.sold: dict[int, tuple[bytes, Product]] = {}
        self.known: set[int] = set()
        #: device, epoch, number of the entry, product
        self.rides: list[tuple[str, int, int, int]] = []
        self.version = 0
        self.publish(None, None)

    def sell(self, buyer: bytes, value: bool) -> None:  # noqa: FBT001 - a step is a name and two words
        number = len(self.sold) + 1
        # Sellers' numbers say nothing about the order in which sales are recorded.
        product = purse(1000 - number, BALANCE, FARE) if value else carnet(1000 - number, RIDES)
        self.sold[number] = (buyer, product)
        self.ledger.record_sale(Sale(buyer, product, 0, DAWN_MS))

    def ride(self, gate: str, number: int) -> None:
        if number not in self.sold:
            return
        product, journal = self.sold[number][1], self.journals[gate]
        seq = journal.append(a_tap(product=product.product_id, rides=min(product.rides, 1), amount=product.fare))
        self.rides.append((gate, journal.epoch, seq, number))

    def deliver(self, gate: str, leave: int) -> None:
        """Bring all but one of the last entries, which leaves a gap."""
        journal = self.journals[gate]
        seqs = [seq for seq in range(1, journal.head() + 1) if not leave or seq != journal.head() - leave]
        if seqs:
            self.ledger.record_batch(journal.arrival(*seqs), received_ms=DAWN_MS)

    def new_journal(self, gate: str, _: None) -> None:
        self.deliver(gate, 0)
        self.journals[gate] = GateJournal(gate, self.journals[gate].epoch + 1)

    def publish(self, _: None, __: None) -> None:
        self.version += 1
        payload = self.folder / f"tickets-{self.version}"
        with self.ledger.snapshot() as snapshot:
            self.horizons, self.row = snapshot.horizons(), snapshot.last_sale()
            write_ticket_store(payload, snapshot.product_states())
        store = TicketStore(payload)
        self.manifest = Manifest(
            ListKind.TICKETS, "north", self.version, ISSUED, NOT_AFTER, bytes(32), payload.stat().st_size, self.horizons
        )
        self.published = published_tickets(store, self.version, bytes(32))
        self.chain: Chain[Any, Any, Any] = resume(TICKETS, self.published, self.manifest, [], SIGNER)
        self.seen, self.known = self.row, set(self.sold)

    def look(self, _: None, killed: bool) -> None:  # noqa: FBT001 - as above
        if killed:
            self.chain = resume(TICKETS, self.published, self.manifest, self.chain.sealed, SIGNER)
            self.seen = self.row
        with self.ledger.reading() as connection:
            said, self.seen = Sold.said(connection, self.chain, Rows(self.row, self.seen))
            assert self.seen == max(Sold.last_row(connection), self.row)
        made = advance(self.chain, said, ISSUED, rhythm=SALES, signer=SIGNER)
        assert (made is None) == (self.known == set(self.sold)), "what was said is not said again"
        self.chain, self.known = self.chain if made is None else made[0], set(self.sold)

    def at_a_gate(self) -> Tickets:
        """The list of a gate that joins."""
        left = standing([self.chain])
        sealed = [*([left["cumulative"]] if left["cumulative"] else []), *sealed_in(left["since"])]
        found = with_list_changes(self.published, self.manifest, sealed, KEYS)
        assert found.fault is None
        return found.listed

    def assert_right(self) -> None:
        """What is left at a gate is what was sold, without its own rides and those up to the horizons."""
        tickets = self.at_a_gate()
        listed = {product.product_id: product for buyer in BUYERS for product in tickets.products(buyer)}
        assert set(listed) == {self.sold[number][1].product_id for number in self.known}
        for gate, journal in self.journals.items():
            epoch, seq = self.horizons.get(gate, (0, 0))
            beyond = seq if epoch == journal.epoch else 0
            own, all_of_them = Counter[int](), Counter[int]()
            for device, life, entry, number in self.rides:
                mine = (device, life) == (gate, journal.epoch)
                own[number] += mine and entry > beyond
                all_of_them[number] += mine or (life, entry) <= self.horizons.get(device, (0, 0))
            for number in self.known:
                product = listed[self.sold[number][1].product_id]
                left = product.rides - own[number] if product.rides else product.balance - own[number] * FARE
                sold = RIDES - all_of_them[number] if product.rides else BALANCE - all_of_them[number] * FARE
                assert left == sold


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_gate_has_left_what_the_books_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]]
) -> None:
    story = Story(tmp_path_factory.mktemp("law"))
    for name, what, how in steps:
        getattr(story, name)(what, how)
        story.assert_right()
    story.ledger.close()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(tmp_path)
    yield story
    story.ledger.close()


def test_what_was_ridden_since_is_not_taken_off(story: Story) -> None:
    """The other gate heard of the sale at once; its rides came before this one's change was made anew."""
    story.sell(BUYERS[0], value=False)
    story.look(None, killed=False)
    for _ in range(3):
        story.ride("gate-1", 1)
    story.deliver("gate-1", 0)
    story.sell(BUYERS[0], value=True)
    story.look(None, killed=True)
    assert [(each.rides, each.balance) for each in story.at_a_gate().products(BUYERS[0])] == [(0, BALANCE), (RIDES, 0)]
    story.publish(None, None)
    assert story.at_a_gate().products(BUYERS[0])[1].rides == RIDES - 3


def test_a_sale_that_was_recorded_after_its_rides_has_them_taken_off(story: Story) -> None:
    late = carnet(7, RIDES)
    story.journals["gate-1"].append(a_tap(product=7, rides=1))
    story.deliver("gate-1", 0)
    story.publish(None, None)
    story.journals["gate-1"].append(a_tap(product=7, rides=1))
    story.deliver("gate-1", 0)
    story.sold[1] = (BUYERS[0], late)
    story.ledger.record_sale(Sale(BUYERS[0], late, 0, DAWN_MS))
    story.look(None, killed=False)
    assert story.at_a_gate().products(BUYERS[0]) == [replace(late, rides=RIDES - 1)]


def test_after_a_restart_only_what_is_new_is_in_the_change(story: Story) -> None:
    for buyer in BUYERS[:3]:
        story.sell(buyer, value=False)
    story.look(None, killed=False)
    story.sell(BUYERS[3], value=False)
    with story.ledger.reading() as connection:
        said, seen = Sold.said(connection, story.chain, Rows(0, 0))
    assert (list(said), seen) == ([BUYERS[3]], 4)


def test_many_sales_are_looked_at_in_several_goes(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend_sync.ledger_news.MOST_SALES", 2)
    for buyer in (*BUYERS, BUYERS[0]):
        story.sell(buyer, value=False)
    seen, told = 0, list[bytes]()
    with story.ledger.reading() as connection:
        while seen < Sold.last_row(connection):
            said, seen = Sold.said(connection, story.chain, Rows(0, seen))
            told += said
    assert told == [*BUYERS, BUYERS[0]]


def test_changes_make_no_ticket_list_fresher(story: Story) -> None:
    """Rides at other gates are known up to the horizons; no sale that is told makes them newer."""
    story.sell(BUYERS[0], value=False)
    story.look(None, killed=False)
    assert open_list_change(story.chain.sealed[-1], KEYS).not_after_s == NOT_AFTER
    late = advance(story.chain, {}, NOT_AFTER + 10**9, rhythm=SALES, signer=SIGNER)
    assert late is not None
    assert open_list_change(late[1], KEYS).not_after_s == NOT_AFTER + 10**9 + 1
    assert open_list_change(late[1], KEYS).deltas == ()


def test_who_holds_too_much_holds_up_nobody(story: Story) -> None:
    for _ in range(MAX_PRODUCTS + 1):
        story.sell(BUYERS[0], value=False)
    story.sell(BUYERS[1], value=False)
    with story.ledger.reading() as connection:
        said, _ = Sold.said(connection, story.chain, Rows(0, 0))
    assert list(said) == [BUYERS[1]]


def test_many_sales_are_folded_before_a_gate_has_no_room(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend_sync.announcement.MOST_BYTES", 1000)
    for _ in range(8):
        story.sell(BUYERS[0], value=False)
        story.look(None, killed=False)
        assert sum(map(len, story.chain.since)) <= 1000
    assert story.chain.cumulative is not None
    story.assert_right()


def test_a_ledger_of_before_says_the_order_of_its_sales(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger.open(url, create=True) as ledger:
        for number in (9, 3, 5):
            ledger.record_sale(Sale(BUYERS[0], carnet(number, 1), 0, DAWN_MS))
        with ledger.writing() as connection:
            forget_settlements(connection)
            connection.exec_driver_sql("DROP TABLE sale_recorded")
            connection.exec_driver_sql("PRAGMA user_version=6")
    with Ledger.open(url) as ledger, ledger.snapshot() as snapshot:
        assert [product.product_id for _, _, product in snapshot.sold_after(0, {})] == [9, 3, 5]
        assert [product.product_id for _, _, product in snapshot.sold_after(2, {})] == [5]
        assert snapshot.last_sale() == 3


def test_the_order_of_sales_is_evidence(story: Story) -> None:
    story.sell(BUYERS[0], value=False)
    for sale in (999, 5):
        with (
            pytest.raises(DatabaseError, match=r"append-only|of this ledger alone"),
            story.ledger.writing() as connection,
        ):
            connection.execute(insert(SALE_RECORDED), {"sale": sale})
