"""Settlements: laws over what gates may send in any order, then the cases that people ask about."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from backend_sync import settlement
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import settle
from backend_sync.journeys.taps import JourneyTap
from backend_sync.ledger import Ledger, LedgerError
from backend_sync.reconcile import reconcile
from backend_sync.recorded_editions import EditionRefused, record_editions, recorded_editions
from backend_sync.sales import Sale
from backend_sync.schema import POSTING
from backend_sync.settlement_tables import SETTLEMENT
from tests.backend_sync.gate import DAWN_MS, GateJournal, a_tap
from tests.backend_sync.older_ledger import forget_settlements
from tests.fares.travel import FEEDS, MONDAY_S, tariffs
from tests.journeys.office import AHEAD, CARD, CLOSES_S, PLACES, some_taps, taps
from validator.conditions import ORDINARY
from validator.fares.editions import Edition
from validator.fares.tariff_rows import DAY_S, Cap, Feed, Price
from validator.model import Outcome, Reason, Tap
from validator.rights import Product, ProductKind

NOW_MS = CLOSES_S * 1000
HERE = {name: place for name, place in PLACES.items() if place.feed != "lost"}


def in_euros(feed: Feed) -> Feed:
    """Return a feed of which all prices are in the one currency that a ledger is kept in."""
    prices = {(each.product, each.rider, each.medium): each for each in feed.prices}
    kept: tuple[Price, ...] = tuple(msgspec.structs.replace(each, currency="EUR") for each in prices.values())
    caps: tuple[Cap, ...] = tuple(msgspec.structs.replace(each, currency="EUR") for each in feed.caps)
    return msgspec.structs.replace(feed, prices=kept, caps=caps)


TARIFF = tariffs([in_euros(feed) for feed in FEEDS])
CITY_ALONE = tariffs([in_euros(FEEDS[0])])
EDITIONS = [Edition(7, MONDAY_S - DAY_S, TARIFF, HERE), Edition(8, AHEAD.from_s, CITY_ALONE, HERE)]
FIRST = Product(
    product_id=1,
    kind=ProductKind.PAY_AS_YOU_GO,
    valid_from=0,
    valid_until=2 * CLOSES_S,
    active_from=0,
    balance=100_000,
    fare=300,
    conditions=ORDINARY._replace(medium="card"),
)
SOLD = (
    FIRST,
    replace(FIRST, product_id=2, kind=ProductKind.STORED_VALUE, conditions=ORDINARY._replace(rider="student")),
    replace(FIRST, product_id=3, kind=ProductKind.PERIOD_PASS, balance=0, fare=0, conditions=ORDINARY),
)


@contextmanager
def an_office(*journals: GateJournal) -> Iterator[Ledger]:
    with Ledger.open("sqlite://") as ledger:
        for journal in journals:
            ledger.register_device(journal.device, journal.public_key)
        ledger.record_sales(Sale(CARD, product, 0, 0) for product in SOLD)
        with ledger.writing() as connection:
            record_editions(connection, EDITIONS, 0)
        yield ledger


def tap_of(each: JourneyTap) -> Tap:
    """Return what a gate would have signed."""
    return replace(
        a_tap(),
        at=replace(a_tap().at, wall_ms=each.at_s * 1000),
        place=each.place,
        outcome=Outcome.GRANT if each.granted else Outcome.DENY,
        reason=Reason.VALID if each.granted else Reason.NO_TICKET,
        credential_id=each.card,
        product_id=each.product_id if each.granted else None,
        amount=each.amount if each.granted else 0,
        recovers=each.recovers,
        edition=each.tariff,
        stop=each.stop,
        route=each.route,
        riders=each.riders,
        label=each.label,
    )


def journals_of(those: Sequence[JourneyTap]) -> list[GateJournal]:
    found = []
    for device, of_it in groupby(sorted(those, key=lambda tap: tap.device), lambda tap: tap.device):
        journal = GateJournal(f"gate-{device}", 1)
        for each in of_it:
            journal.append(tap_of(each))
        found.append(journal)
    return found


def ran(ledger: Ledger) -> settlement.Settlement:
    return settlement.settle(ledger, "EUR", CLOSES_S, made_ms=NOW_MS)


def posted(ledger: Ledger) -> dict[tuple[int, int], int]:
    """Return what the ledger holds of settlements, by product and day."""
    sums: dict[tuple[int, int], int] = {}
    with ledger.reading() as connection:
        for row in connection.execute(select(SETTLEMENT)):
            key = row.product_id, row.day
            sums[key] = sums.get(key, 0) + row.amount
    return {key: amount for key, amount in sums.items() if amount}


def taking(those: Iterable[JourneyTap], amounts: Iterable[int]) -> list[JourneyTap]:
    """Have gates take something at once from stored value."""
    return [
        msgspec.structs.replace(tap, amount=amount if tap.product_id == 2 and tap.recovers is None else 0)
        for tap, amount in zip(those, amounts, strict=False)
    ]


some_travel = st.builds(taking, some_taps, st.lists(st.integers(0, 500), min_size=10, max_size=10))


@given(some_travel, st.randoms())
@settings(max_examples=40)
def test_a_ledger_comes_to_the_same_whatever_arrives_first_and_however_often_it_is_settled(
    those: list[JourneyTap], random: object
) -> None:
    journals = journals_of(those)
    with an_office(*journals) as at_once, an_office(*journals) as bit_by_bit:
        for journal in journals:
            at_once.record_batch(journal.arrival(*range(1, journal.head() + 1)), received_ms=DAWN_MS)
        ran(at_once)
        pieces = [(journal, seq) for journal in journals for seq in range(1, journal.head() + 1)]
        random.shuffle(pieces)  # type: ignore[attr-defined]
        for journal, seq in pieces:
            bit_by_bit.record_batch(journal.arrival(seq), received_ms=DAWN_MS)
            ran(bit_by_bit)
        assert posted(bit_by_bit) == posted(at_once)
        for ledger in (at_once, bit_by_bit):
            assert ran(ledger).entries == []
            money = reconcile(ledger).money
            assert (money.unbalanced, money.misposted) == ((), ())
            assert money.spent == money.fares_on_taps + money.settled


@given(some_travel)
@settings(max_examples=40)
def test_what_a_ledger_holds_is_what_the_taps_cost(those: list[JourneyTap]) -> None:
    journals = journals_of(those)
    with an_office(*journals) as ledger:
        for journal in journals:
            ledger.record_batch(journal.arrival(*range(1, journal.head() + 1)), received_ms=DAWN_MS)
        found = ran(ledger)
        with ledger.reading() as connection:
            rulebook = settlement.Books(connection, "EUR", CLOSES_S).rulebook
            told = list(settlement.taps_of(connection))
        due = settle(rulebook, told, CLOSES_S)
        pay_as_you_go = {key[1:3]: amount for key, amount in due.charges.items() if key[1] == 1 and amount}
        assert {key: amount for key, amount in posted(ledger).items() if key[0] == 1} == pay_as_you_go
        assert sum(found.pending.values()) == len(due.pending)
        assert all(amount > 0 for key, amount in pay_as_you_go.items() if key[0] == 1)


@given(some_taps)
@settings(max_examples=20)
def test_a_refused_card_is_never_charged(those: list[JourneyTap]) -> None:
    refused = [msgspec.structs.replace(tap, granted=False) for tap in those]
    journals = journals_of(refused)
    with an_office(*journals) as ledger:
        for journal in journals:
            ledger.record_batch(journal.arrival(*range(1, journal.head() + 1)), received_ms=DAWN_MS)
        found = ran(ledger)
        assert (found.taps, found.entries, posted(ledger)) == (0, [], {})


def travelled(ledger: Ledger, short: str, journal: GateJournal, amount: int = 0) -> None:
    first = journal.head() + 1
    for each in taps(short):
        journal.append(tap_of(msgspec.structs.replace(each, amount=amount, tariff=7)))
    ledger.record_batch(journal.arrival(*range(first, journal.head() + 1)), received_ms=DAWN_MS)


def test_a_ride_is_posted_once_and_an_exit_that_arrives_late_gives_back_the_maximum_fare() -> None:
    journal, late = GateJournal("gate-a"), GateJournal("gate-b")
    with an_office(journal, late) as ledger:
        travelled(ledger, "08:00 mA1", journal)
        first = ran(ledger)
        (entry,) = first.entries
        assert (first.maxima, first.maximum, entry.amount, entry.rule) == (
            1,
            entry.amount,
            first.charged,
            JourneyRule.ENTRY_CHARGE,
        )
        travelled(ledger, "08:20 mA9", late)
        second = ran(ledger)
        fare = entry.amount - second.refunded
        assert (second.maxima, 0 < fare < entry.amount) == (0, True)
        assert [each.rule for each in second.entries] == [JourneyRule.ENTRY_REFUND]
        assert ran(ledger).entries == []
        books = reconcile(ledger)
        assert books.closed
        assert books.money.settled == fare
        (state,) = [product for _, product in ledger.product_states() if product.product_id == 1]
        assert state.balance == FIRST.balance - fare, "gates hear of what was settled"


def test_what_a_gate_took_is_counted_and_what_it_took_too_much_is_given_back() -> None:
    journal = GateJournal("gate-a")
    with an_office(journal) as ledger:
        travelled(ledger, "08:00 v1 product=2", journal, amount=500)
        found = ran(ledger)
        (entry,) = found.entries
        assert entry.rule is JourneyRule.ENTRY_REFUND
        assert 0 < -entry.amount < 500
        money = reconcile(ledger).money
        assert (money.fares_on_taps, money.settled, money.spent) == (500, entry.amount, 500 + entry.amount)
        assert money.closed


def test_what_a_gate_took_for_a_ride_without_a_price_stays_as_it_is() -> None:
    journal = GateJournal("gate-a")
    with an_office(journal) as ledger:
        travelled(ledger, "08:00 unheard product=2", journal, amount=300)
        found = ran(ledger)
        assert found.entries == []
        assert dict(found.pending) == {JourneyRule.PENDING_PLACE: 1}
        assert "tap gate-a 7 1" in found.named[0]


def test_the_desk_completes_a_ride_and_a_late_exit_makes_its_word_void() -> None:
    journal, late = GateJournal("gate-a"), GateJournal("gate-b")
    with an_office(journal, late) as ledger:
        travelled(ledger, "08:00 mA1; 17:00 mB1; 17:20 mA1", journal)
        most = ran(ledger)
        (suggestion,) = settlement.queue(ledger, "EUR", CLOSES_S)
        assert (suggestion.place, suggestion.rule, most.maxima) == ("mB1", JourneyRule.COMPLETE_RETURN, 1)
        settlement.complete(ledger, suggestion, made_ms=NOW_MS)
        with pytest.raises(LedgerError, match="tap gate-a 7 1: the desk has said already"):
            settlement.complete(ledger, suggestion, made_ms=NOW_MS)
        mended = ran(ledger)
        assert mended.maxima == 0
        assert mended.refunded > 0
        assert ran(ledger).entries == []
        assert settlement.queue(ledger, "EUR", CLOSES_S) == []
        travelled(ledger, "08:15 mA9", late)
        known = ran(ledger)
        assert (known.rides, known.maxima) == ({"complete": 2}, 0)
        assert reconcile(ledger).closed


def test_goodwill_is_not_taken_back_and_gives_no_more_than_was_paid() -> None:
    journal, day = GateJournal("gate-a"), (MONDAY_S + DAY_S // 2) // DAY_S
    with an_office(journal) as ledger:
        travelled(ledger, "08:00 mA1; 08:20 mC1", journal)
        paid = ran(ledger).charged
        assert paid > 50
        entry = settlement.refund(ledger, "EUR", 1, day, 50, why="a door that stayed shut", made_ms=NOW_MS)
        assert (entry.amount, entry.rule) == (-50, JourneyRule.ENTRY_GOODWILL)
        assert ran(ledger).entries == []
        assert posted(ledger) == {(1, day): paid - 50}
        for product, amount, why in (
            (1, paid, "is not between 1 and"),
            (1, 0, "is not between 1 and"),
            (3, 1, "it holds no money"),
            (99, 1, "nobody sold it"),
        ):
            with pytest.raises(LedgerError, match=why):
                settlement.refund(ledger, "EUR", product, day, amount, why="x", made_ms=NOW_MS)
        assert reconcile(ledger).closed


def test_two_runs_that_know_nothing_of_each_other_do_not_both_post(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = GateJournal("gate-a")
    with an_office(journal) as ledger:
        travelled(ledger, "08:00 mA1; 08:20 mC1", journal)
        slow = settlement.settle(ledger, "EUR", CLOSES_S, made_ms=NOW_MS, post=False)
        with ledger.reading() as connection:
            numbers = settlement.Books(connection, "EUR", CLOSES_S).ordinals
        ran(ledger)
        once = posted(ledger)
        with pytest.raises(LedgerError, match="nothing was posted twice; settle again"):
            settlement.post_entries(ledger, slow.entries, numbers, NOW_MS)
        assert posted(ledger) == once


def test_a_ledger_without_a_tariff_says_what_to_do() -> None:
    with Ledger.open("sqlite://") as ledger, pytest.raises(LedgerError, match="`publish tariff` records one"):
        ran(ledger)


class TestEditions:
    def test_they_come_back_as_they_were_recorded_and_once(self) -> None:
        with an_office() as ledger, ledger.writing() as connection:
            assert record_editions(connection, EDITIONS, 5) == 0
            found = recorded_editions(connection)
            assert [(each.version, each.from_s) for each in found.editions] == [
                (each.version, each.from_s) for each in EDITIONS
            ]
            assert found.editions[0].places == HERE

    def test_one_that_begins_earlier_takes_the_place_of_what_was_to_come(self) -> None:
        with an_office() as ledger, ledger.writing() as connection:
            record_editions(connection, [Edition(9, EDITIONS[1].from_s - 60, TARIFF, HERE)], 0)
            assert [each.version for each in recorded_editions(connection).editions] == [7, 9]

    def test_another_by_the_same_number_is_refused(self) -> None:
        with (
            an_office() as ledger,
            ledger.writing() as connection,
            pytest.raises(EditionRefused, match="edition 8: the ledger knows another one"),
        ):
            record_editions(connection, [Edition(8, AHEAD.from_s + 1, TARIFF, HERE)], 0)


def test_what_is_due_in_another_currency_is_named_and_not_posted() -> None:
    journal = GateJournal("gate-a")
    with an_office(journal) as ledger:
        travelled(ledger, "08:00 mA1; 08:20 mC1", journal)
        found = settlement.settle(ledger, "SEK", CLOSES_S, made_ms=NOW_MS)
        assert (found.entries, dict(found.pending)) == ([], {JourneyRule.PENDING_CURRENCY: 1})
        assert found.named[0].endswith("minor units of EUR; this ledger is kept in SEK")
        ran(ledger)
        with pytest.raises(LedgerError, match="was settled in EUR, not in SEK"):
            settlement.settle(ledger, "SEK", CLOSES_S, made_ms=NOW_MS)


def test_postings_of_an_older_ledger_stay_and_are_kept_as_before(tmp_path: Path) -> None:
    url, journal = f"sqlite:///{tmp_path}/ledger.db", GateJournal("gate-a")
    with Ledger.open(url, create=True) as ledger:
        ledger.register_device(journal.device, journal.public_key)
        ledger.record_sales(Sale(CARD, product, 0, 0) for product in SOLD)
        journal.append(replace(a_tap(1, product=2, amount=300), credential_id=CARD))
        ledger.record_batch(journal.arrival(1), received_ms=DAWN_MS)
        with ledger.reading() as connection:
            before = [tuple(row) for row in connection.execute(select(POSTING).order_by(POSTING.c.id))]
        with ledger.writing() as connection:
            forget_settlements(connection)
            connection.exec_driver_sql("PRAGMA user_version=9")
    with Ledger.open(url) as ledger:
        with ledger.reading() as connection:
            after = [tuple(row) for row in connection.execute(select(POSTING).order_by(POSTING.c.id))]
            kept = set(
                connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE tbl_name = 'posting'").scalars()
            )
        assert before
        assert after == before
        assert {f"posting_no_{verb}" for verb in ("delete", "replace", "update")} <= kept
        assert {f"posting_by_{cause}" for cause in ("tap", "sale", "settlement")} <= kept
        with ledger.writing() as connection:
            record_editions(connection, EDITIONS, 0)
        assert reconcile(ledger).closed
