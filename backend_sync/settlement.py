"""What journeys cost, posted: from the ledger's taps and recorded editions, by difference to what was posted before.

A settlement computes every card from its first tap, so that it depends on nothing but taps, sales, editions and what
the desk said. A second one posts nothing; a tap that arrives late changes just the days that it changes.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select
from sqlalchemy.exc import IntegrityError

from backend_sync.journeys.completed import Completion, pair_completed
from backend_sync.journeys.completing import Suggestion, suggestions
from backend_sync.journeys.editions import Rulebook, Terms
from backend_sync.journeys.entries import Entry, entries, taken
from backend_sync.journeys.pairing import Ride, State
from backend_sync.journeys.rules import JourneyRule
from backend_sync.journeys.settling import DayKey, settle_rides
from backend_sync.journeys.taps import JourneyTap
from backend_sync.ledger import Ledger, LedgerError
from backend_sync.one_writer import give_way
from backend_sync.recorded_editions import recorded_editions
from backend_sync.schema import POSTING, SALE, TAP
from backend_sync.settlement_tables import COMPLETION, SETTLEMENT
from validator.model import Label, Outcome
from validator.rights import ProductKind

NAMED = 1000
"""At most so many pending rides and suggestions are named; all are counted."""
_CHUNK = 1000
_PREPAID = frozenset({ProductKind.PERIOD_PASS, ProductKind.CARNET})


@dataclass(slots=True)
class Settlement:
    """What a settlement found and posted.

    Attributes:
        currency: Of all amounts.
        cards: Cards with granted taps.
        taps: Granted taps of these.
        entries: What was posted, in the order of cards, products and days.
        rides: Rides by what they are.
        pending: Rides without a price, by the rule that says why.
        named: The first of them, each with what somebody has to do or find out.
        maxima: Incomplete rides at the maximum fare.
        maximum: What these cost, minor units.
        suggestions: Where incomplete rides may have ended.
    """

    currency: str
    cards: int = 0
    taps: int = 0
    entries: list[Entry] = field(default_factory=list)
    rides: Counter[State] = field(default_factory=Counter)
    pending: Counter[JourneyRule] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    maxima: int = 0
    maximum: int = 0
    suggestions: list[Suggestion] = field(default_factory=list)

    @property
    def charged(self) -> int:
        """Minor units that were posted as due."""
        return sum(entry.amount for entry in self.entries if entry.amount > 0)

    @property
    def refunded(self) -> int:
        """Minor units that were given back."""
        return -sum(entry.amount for entry in self.entries if entry.amount < 0)

    def to_dict(self) -> dict[str, Any]:
        """Say it for scripts."""
        return {
            "currency": self.currency,
            "cards": self.cards,
            "taps": self.taps,
            "entries": len(self.entries),
            "charged": self.charged,
            "refunded": self.refunded,
            "rides": {state.value: count for state, count in sorted(self.rides.items())},
            "pending": {rule.value: count for rule, count in sorted(self.pending.items())},
            "pending_named": self.named,
            "maximum_fares": {"rides": self.maxima, "amount": self.maximum},
            "suggestions": [
                {"tap": list(each.ride.taps[0].key), "place": each.place, "rule": each.rule, "reason": each.reason}
                for each in self.suggestions
            ],
        }


def settle(
    ledger: Ledger,
    currency: str,
    closes_s: int,
    *,
    made_ms: int,
    post: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Settlement:
    """Price all taps of a ledger, and post what is due and was not posted.

    Args:
        ledger: With the editions that taps are priced by.
        currency: Of its money; what is due in another one waits, and is named.
        closes_s: When the books close, seconds since 1970 UTC: who is under way then may still arrive.
        made_ms: Now, milliseconds since 1970 UTC.
        post: Whether to post; else it only says what it would.
        progress: Told how many taps were priced.

    Raises:
        LedgerError: The ledger has no edition or was settled in another currency, or somebody else settled meanwhile:
            then settle again.
        LedgerUnavailable: Try again later; what was posted until then stays, and the next run posts the rest.
    """
    with ledger.reading() as connection:
        books = Books(connection, currency, closes_s)
        found = Settlement(books.currency)
        for card, taps in groupby(taps_of(connection), lambda tap: tap.card):
            _settle_card(found, books, card, list(taps))
            if progress is not None:
                progress(found.taps)
        numbers = books.ordinals
    if post:
        post_entries(ledger, found.entries, numbers, made_ms)
    return found


def queue(ledger: Ledger, currency: str, closes_s: int) -> list[Suggestion]:
    """Return where incomplete rides may have ended (`backend_sync.journeys.completing`), at most `NAMED`."""
    return settle(ledger, currency, closes_s, made_ms=0, post=False).suggestions


def complete(ledger: Ledger, suggestion: Suggestion, *, made_ms: int) -> None:
    """Record where a person said that a ride ended. The next settlement gives back what it then costs less.

    Raises:
        LedgerError: Somebody said so before.
    """
    first = suggestion.ride.taps[0]
    row = {
        "credential_id": first.card,
        "device": first.device,
        "epoch": first.epoch,
        "seq": first.seq,
        "place": suggestion.place,
        "arrived_s": suggestion.arrived_s,
        "rule": suggestion.rule.value,
        "made_ms": made_ms,
    }
    try:
        with ledger.writing() as connection:
            connection.execute(insert(COMPLETION), row)
    except IntegrityError:
        raise LedgerError(f"{first.name}: the desk has said already where this ride ended") from None


def refund(ledger: Ledger, currency: str, product_id: int, day: int, amount: int, *, why: str, made_ms: int) -> Entry:
    """Give back out of goodwill (`ENTRY-GOODWILL-1`): an entry that no settlement takes back.

    Args:
        ledger: The ledger.
        currency: Of its money.
        product_id: What it is given back to.
        day: The service day that it is for, since 1970-01-01.
        amount: Minor units, above 0.
        why: What the books say of it; no name and no number of a person.
        made_ms: Now, milliseconds since 1970 UTC.

    Raises:
        LedgerError: There is no such product, it pays before the ride, or that day cost it less than that.
    """
    with ledger.writing() as connection:
        sale = connection.execute(select(SALE).where(SALE.c.id == product_id)).one_or_none()
        if sale is None:
            raise LedgerError(f"product {product_id}: nobody sold it; `reconcile` and the sale say its number")
        if ProductKind(sale.kind) in _PREPAID:
            raise LedgerError(f"product {product_id}: it holds no money; sell a new one, or pay back at the till")
        books = Books(connection, currency, made_ms // 1000)
        posted = books.paid(connection, sale.credential_id, product_id, day)
        if not 0 < amount <= posted:
            raise LedgerError(
                f"product {product_id}: {amount} is not between 1 and the {posted} that it paid for day {day}"
            )
        key = sale.credential_id, product_id, day, books.currency
        entry = Entry(key, -amount, JourneyRule.ENTRY_GOODWILL)
        _write(connection, [entry], books.ordinals, made_ms, why)
    return entry


class Books:
    """What a settlement reads once.

    Attributes:
        currency: Of the ledger.
        rulebook: Editions, and how products pay.
        posted: Sums of settlements by card, refunds out of goodwill not counted.
        ordinals: How many entries there are by card, product and day.
        completions: What the desk said, by card.
        closes_s: When the books close.
    """

    def __init__(self, connection: Connection, currency: str, closes_s: int) -> None:
        before = set(connection.execute(select(SETTLEMENT.c.currency).distinct()).scalars())
        if not before <= {currency}:
            settled = ", ".join(sorted(before))
            raise LedgerError(f"the ledger was settled in {settled}, not in {currency}: mend `currency` in its file")
        editions = recorded_editions(connection).editions
        if not editions:
            raise LedgerError("the ledger has no edition of the tariff: `publish tariff` records one")
        self.currency, self.closes_s = currency, closes_s
        sold = connection.execute(select(SALE.c.id, SALE.c.kind, SALE.c.rider, SALE.c.medium))
        terms = {row.id: Terms(row.rider, row.medium, ProductKind(row.kind) in _PREPAID) for row in sold}
        self.rulebook = Rulebook(editions, terms)
        self.posted = defaultdict[bytes, Counter[DayKey]](Counter)
        self.ordinals = Counter[tuple[bytes, int, int]]()
        for row in connection.execute(_sums()):
            key = row.credential_id, row.product_id, row.day
            self.ordinals[key] = max(self.ordinals[key], row.last)
            if row.rule != JourneyRule.ENTRY_GOODWILL:
                self.posted[row.credential_id][(*key, currency)] += row.amount
        self.completions = defaultdict[bytes, list[Completion]](list)
        for row in connection.execute(select(COMPLETION).order_by(COMPLETION.c.id)):
            said = Completion(row.id, (row.device, row.epoch, row.seq), row.place, row.arrived_s)
            self.completions[row.credential_id].append(said)

    def rides(self, card: bytes, taps: Sequence[JourneyTap]) -> list[Ride]:
        """Return one card's rides."""
        return pair_completed(self.rulebook, taps, self.completions.get(card, ()), self.closes_s)

    def paid(self, connection: Connection, card: bytes, product_id: int, day: int) -> int:
        """Return what a product paid for a day, at gates and by settlements, goodwill taken off."""
        of_day = (
            SETTLEMENT.c.credential_id == card,
            SETTLEMENT.c.product_id == product_id,
            SETTLEMENT.c.day == day,
        )
        total = func.coalesce(func.sum(SETTLEMENT.c.amount), 0)
        settled = connection.execute(select(total).where(*of_day)).scalar_one()
        rides = self.rides(card, list(taps_of(connection, card)))
        at_gates = taken(rides, settle_rides(rides).pending, self.currency)
        return int(settled) + at_gates[card, product_id, day, self.currency]


def _settle_card(found: Settlement, books: Books, card: bytes, taps: list[JourneyTap]) -> None:
    rides = books.rides(card, taps)
    settled = settle_rides(rides)
    found.cards += 1
    found.taps += len(taps)
    found.rides.update(ride.state for ride in rides)
    found.pending.update(each.rule for each in settled.pending)
    found.named += [f"{each.rule}: {each.what}" for each in settled.pending[: NAMED - len(found.named)]]
    found.maxima += len(settled.maxima)
    found.maximum += sum(each.amount for each in settled.maxima if each.currency == books.currency)
    posted = Counter(books.posted.get(card, {}))
    for key, amount in taken(rides, settled.pending, books.currency).items():
        posted[key] += amount
    for key, amount in settled.charges.items():
        if key[3] != books.currency and amount:
            _name_foreign(found, key, amount)
    ours = {key: amount for key, amount in settled.charges.items() if key[3] == books.currency}
    found.entries += entries(posted, ours)
    if len(found.suggestions) < NAMED and any(ride.state is State.INCOMPLETE for ride in rides):
        found.suggestions += suggestions(rides)


def _name_foreign(found: Settlement, key: DayKey, amount: int) -> None:
    """Name what a ledger in one currency cannot post (`PENDING-CURRENCY-1`)."""
    _, product_id, day, currency = key
    found.pending[JourneyRule.PENDING_CURRENCY] += 1
    if len(found.named) < NAMED:
        date = dt.date(1970, 1, 1) + dt.timedelta(day)
        what = f"product {product_id}, {date}: {amount} minor units of {currency}; this ledger is kept in"
        found.named.append(f"{JourneyRule.PENDING_CURRENCY}: {what} {found.currency}")


def taps_of(connection: Connection, card: bytes | None = None) -> Iterator[JourneyTap]:
    """Yield granted taps, card by card."""
    wanted = select(TAP).with_only_columns(
        TAP.c.credential_id,
        TAP.c.wall_ms,
        TAP.c.device,
        TAP.c.epoch,
        TAP.c.seq,
        TAP.c.place,
        TAP.c.product_id,
        TAP.c.stop,
        TAP.c.route,
        TAP.c.riders,
        TAP.c.label,
        TAP.c.edition,
        TAP.c.recovers,
        TAP.c.amount,
    )
    wanted = wanted.where(TAP.c.outcome == int(Outcome.GRANT), TAP.c.credential_id.is_not(None))
    if card is not None:
        wanted = wanted.where(TAP.c.credential_id == card)
    rows = connection.execute(wanted.order_by(TAP.c.credential_id).execution_options(yield_per=_CHUNK))
    return (_tap(row) for row in rows)


def _tap(row: Any) -> JourneyTap:  # noqa: ANN401 - a row of so many columns has no type that a call can take
    return JourneyTap(
        card=row.credential_id,
        at_s=row.wall_ms // 1000,
        device=row.device,
        epoch=row.epoch,
        seq=row.seq,
        place=row.place,
        product_id=row.product_id,
        granted=True,
        stop=row.stop,
        route=row.route,
        riders=row.riders,
        label=Label(row.label),
        tariff=row.edition,
        recovers=row.recovers,
        amount=row.amount,
    )


def _sums() -> Select[Any]:
    of = SETTLEMENT.c.credential_id, SETTLEMENT.c.product_id, SETTLEMENT.c.day, SETTLEMENT.c.rule
    amount, last = func.sum(SETTLEMENT.c.amount).label("amount"), func.max(SETTLEMENT.c.ordinal).label("last")
    return select(*of, amount, last).group_by(*of)


def post_entries(ledger: Ledger, due: Sequence[Entry], ordinals: Counter[tuple[bytes, int, int]], made_ms: int) -> None:
    """Post entries, a thousand at a time.

    Args:
        ledger: Where.
        due: What.
        ordinals: How many there were of each card, product and day when these were computed; counted on.
        made_ms: Now, milliseconds since 1970 UTC.

    Raises:
        LedgerError: There are more of one of them now.
    """
    for start in range(0, len(due), _CHUNK):
        if start:
            give_way()
        try:
            with ledger.writing() as connection:
                _write(connection, due[start : start + _CHUNK], ordinals, made_ms)
        except IntegrityError:
            raise LedgerError("somebody else settled meanwhile: nothing was posted twice; settle again") from None


def _write(
    connection: Connection,
    due: Sequence[Entry],
    ordinals: Counter[tuple[bytes, int, int]],
    made_ms: int,
    why: str = "",
) -> None:
    for entry in due:
        card, product_id, day, currency = entry.key
        ordinals[card, product_id, day] += 1
        row = {
            "credential_id": card,
            "product_id": product_id,
            "day": day,
            "ordinal": ordinals[card, product_id, day],
            "amount": entry.amount,
            "currency": currency,
            "rule": entry.rule.value,
            "why": why,
            "made_ms": made_ms,
        }
        key = connection.execute(insert(SETTLEMENT), row).inserted_primary_key
        assert key is not None
        sides = [
            {
                "settlement": key[0],
                "account": side.account.value,
                "product_id": side.product_id,
                "unit": side.unit.value,
                "amount": side.amount,
            }
            for side in entry.postings
        ]
        connection.execute(insert(POSTING), sides)
