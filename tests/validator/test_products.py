"""Every rule of products: in the docs, in the code, and in a row here that a hand decided. Then the laws over all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fares.travel import MONDAY_S, TARIFFS
from tests.journeys.office import PLACES
from tests.validator.ticket_making import CONDITIONS
from validator.conditions import Conditions, TimeFrame
from validator.decision import Facts, decide
from validator.entitlement import assess
from validator.fares.at_gate import NO_TARIFF, RideHere
from validator.fares.editions import Edition, Place
from validator.list_facts import CardStatus, Freshness, Guest
from validator.model import Assurance, ClockConfidence, DocumentType, Identity, Instant, Reason
from validator.position import NOWHERE, Position
from validator.rights import Entitlement, Product, ProductKind, Use
from validator.risk import NO_RULES, RiskRules

ROOT = Path(__file__).parents[2]
ROOMS = ("entitlement", "fares/at_gate", "passing_back", "position", "risk", "service_hours")
RULE = re.compile(r"`([A-Z]+(?:-[A-Z]+)*-\d)`")

NOON = 1_795_435_200
"""2026-11-23 12:00:00 UTC, a Monday."""
HOUR, DAY = 3600, 86_400
HERE, THERE = "Viru", "Balti jaam"
BOOT = b"one-boot"
NOW = Instant(NOON * 1000, 10**9, BOOT, ClockConfidence.NTP)
UNSURE = replace(NOW, confidence=ClockConfidence.FLOOR)
RESTARTED = replace(UNSURE, boot=b"2nd-boot")

PASS = Product(1, ProductKind.PERIOD_PASS, NOON - DAY, NOON + DAY, NOON - DAY, pass_back_s=60)
CARNET = replace(PASS, product_id=2, kind=ProductKind.CARNET, rides=2)
VALUE = replace(PASS, product_id=3, kind=ProductKind.STORED_VALUE, balance=500, fare=200)
LATER = replace(PASS, product_id=4, kind=ProductKind.PAY_AS_YOU_GO, balance=300, fare=300, pass_back_s=0)
CREDIT = replace(LATER, conditions=Conditions(floor=600))
THREE = replace(VALUE, conditions=Conditions(riders=3))
DEAR = replace(CREDIT, fare=1000)
EDITION = Edition(7, 0, TARIFFS, {**PLACES, "ghost": Place("lost", "A1", "A1", gated=False)})
BUS_FARE = 150
BUS_IN_A = Position(frozenset({"A"}), "bus")
LOST = Position(known=False)


def of(product: Product, **said: object) -> Product:
    return replace(product, conditions=product.conditions._replace(**said))  # type: ignore[arg-type]


def hours(*frames: TimeFrame, **said: object) -> Product:
    return of(PASS, time_frames=frozenset(frames), **said)


def before(product: Product, *ago_s: int, **others: object) -> list[Use]:
    """Return uses at this place so many seconds ago, numbered from 1."""
    return [
        replace(
            Use(
                seq,
                product.product_id,
                NOW.wall_ms - ago * 1000,
                NOW.mono_ms - ago * 1000,
                BOOT,
                HERE,
                0,
                0,
                True,
                None,
            ),
            rides=int(product.kind is ProductKind.CARNET),
            amount=product.fare if product.kind is ProductKind.STORED_VALUE else 0,
            **others,  # type: ignore[arg-type]
        )
        for seq, ago in enumerate(ago_s, 1)
    ]


@dataclass(frozen=True)
class Row:
    rule: str
    what: str
    products: Sequence[Product]
    expected: Entitlement | Reason
    uses: Sequence[Use] = ()
    at: Instant = NOW
    position: Position = NOWHERE
    risk: RiskRules = NO_RULES
    leaving: bool = False
    guest: Guest | None = None
    document: DocumentType | None = None
    horizon: int = 0
    ride: RideHere = NO_TARIFF


def on_board(place: str = "v1", stop: str = "D1", edition: Edition = EDITION) -> RideHere:
    return RideHere(edition, place, MONDAY_S + 9 * 3600, stop)


MORNING, NIGHT = TimeFrame(6 * 60, 12 * 60), TimeFrame(24 * 60, 28 * 60)
MONDAY, SUNDAY = 1, 64
ROWS = [
    Row("PASS-1", "a pass gives nothing away", [PASS], Entitlement(PASS)),
    Row("CARNET-1", "the last ride", [CARNET], Entitlement(CARNET, rides=1), before(CARNET, 900)),
    Row("CARNET-1", "one ride too many", [CARNET], Reason.RIDES_USED_UP, before(CARNET, 900, 800)),
    Row("VALUE-1", "the last fare", [VALUE], Entitlement(VALUE, amount=200), before(VALUE, 900)),
    Row("VALUE-1", "one fare too many", [VALUE], Reason.BALANCE_TOO_LOW, before(VALUE, 900, 800)),
    Row("VALUE-2", "the tariff's fare", [VALUE], Entitlement(VALUE, amount=BUS_FARE), ride=on_board()),
    Row(
        "VALUE-2",
        "the tariff's fare is not left",
        [replace(VALUE, balance=BUS_FARE - 1)],
        Reason.BALANCE_TOO_LOW,
        ride=on_board(),
    ),
    Row("TARIFF-1", "each rider", [THREE], Entitlement(THREE, amount=3 * BUS_FARE), ride=on_board()),
    Row("TARIFF-2", "an entry does not know its exit", [VALUE], Entitlement(VALUE, amount=200), ride=on_board("mA1")),
    Row("TARIFF-2", "zones ask where it ends", [VALUE], Entitlement(VALUE, amount=200), ride=on_board("zoned")),
    Row("TARIFF-2", "no such place", [VALUE], Entitlement(VALUE, amount=200), ride=on_board("unheard")),
    Row("TARIFF-2", "no such stop", [VALUE], Entitlement(VALUE, amount=200), ride=on_board(stop="nowhere")),
    Row("TARIFF-2", "no tariff at that place's feed", [VALUE], Entitlement(VALUE, amount=200), ride=on_board("ghost")),
    Row("FLOOR-1", "this ride by the tariff", [DEAR], Entitlement(DEAR), ride=on_board()),
    Row("FLOOR-1", "this ride by its own fare", [DEAR], Reason.BALANCE_TOO_LOW, ride=on_board("mA1")),
    Row("LATER-1", "the gate takes nothing", [LATER], Entitlement(LATER)),
    Row("FLOOR-1", "the deposit is used up", [LATER], Reason.BALANCE_TOO_LOW, before(LATER, 900)),
    Row("FLOOR-1", "down to the floor", [CREDIT], Entitlement(CREDIT), before(CREDIT, 900, 800)),
    Row("FLOOR-1", "below the floor", [CREDIT], Reason.BALANCE_TOO_LOW, before(CREDIT, 900, 800, 700)),
    Row(
        "FLOOR-1",
        "counted in the list already",
        [CREDIT],
        Entitlement(CREDIT),
        before(CREDIT, 900, 800, 700),
        horizon=1,
    ),
    Row("FLOOR-1", "a repeated tap is no ride", [LATER], Entitlement(LATER), before(LATER, 900, recovers=9)),
    Row("FLOOR-1", "a way out is no ride", [LATER], Entitlement(LATER), before(LATER, 900, leaving=True)),
    Row(
        "FIRST-RIDE-1",
        "never seen here, and the floor is nearer",
        [replace(CREDIT, balance=0)],
        Reason.FIRST_RIDE_LIMIT,
        risk=RiskRules(first_ride_floor=299),
    ),
    Row(
        "FIRST-RIDE-1",
        "seen once",
        [replace(CREDIT, balance=0)],
        Entitlement(replace(CREDIT, balance=0)),
        before(CREDIT, 9000),
        risk=RiskRules(first_ride_floor=299),
        horizon=1,
    ),
    Row("FIRST-RIDE-1", "from the deposit", [CREDIT], Entitlement(CREDIT), risk=RiskRules(first_ride_floor=0)),
    Row(
        "FIRST-RIDE-2",
        "never seen here, and on credit",
        [replace(CREDIT, balance=0)],
        Entitlement(replace(CREDIT, balance=0), doubtful=True, reason=Reason.FIRST_RIDE),
        risk=RiskRules(first_ride_floor=300),
    ),
    Row(
        "VELOCITY-1",
        "the third ride in ten minutes",
        [CREDIT, PASS],
        Reason.TOO_MANY_RIDES,
        before(CREDIT, 599, 300),
        risk=RiskRules(2, 600),
    ),
    Row(
        "VELOCITY-1",
        "the first of them is longer ago",
        [CREDIT],
        Entitlement(CREDIT),
        before(CREDIT, 600, 300),
        risk=RiskRules(2, 600),
    ),
    Row(
        "VELOCITY-2",
        "rides of before a restart, and no clock",
        [CREDIT],
        Entitlement(CREDIT),
        before(CREDIT, 20, 10),
        at=RESTARTED,
        risk=RiskRules(2, 600),
    ),
    Row("PLACE-1", "for all places", [PASS], Entitlement(PASS), position=BUS_IN_A),
    Row(
        "PLACE-2",
        "for this one",
        [replace(PASS, places=frozenset({HERE}))],
        Entitlement(replace(PASS, places=frozenset({HERE}))),
    ),
    Row("PLACE-2", "for another", [replace(PASS, places=frozenset({THERE}))], Reason.NOT_VALID_HERE, position=LOST),
    Row(
        "ZONE-1",
        "in its zone",
        [of(PASS, zones=frozenset("A"))],
        Entitlement(of(PASS, zones=frozenset("A"))),
        position=BUS_IN_A,
    ),
    Row("ZONE-1", "outside", [of(PASS, zones=frozenset("B"))], Reason.NOT_VALID_HERE, position=BUS_IN_A),
    Row("ZONE-1", "a gate that is in no zone", [of(PASS, zones=frozenset("B"))], Reason.NOT_VALID_HERE),
    Row(
        "ZONE-1",
        "outside, and at one of its places",
        [of(replace(PASS, places=frozenset({HERE})), zones=frozenset("B"))],
        Entitlement(of(replace(PASS, places=frozenset({HERE})), zones=frozenset("B"))),
    ),
    Row(
        "NETWORK-1",
        "in its network",
        [of(PASS, networks=frozenset({"bus"}))],
        Entitlement(of(PASS, networks=frozenset({"bus"}))),
        position=BUS_IN_A,
    ),
    Row("NETWORK-1", "in another", [of(PASS, networks=frozenset({"rail"}))], Reason.NOT_VALID_HERE, position=BUS_IN_A),
    Row(
        "NETWORK-1",
        "in its zone, in another network",
        [of(PASS, networks=frozenset({"rail"}), zones=frozenset("A"))],
        Reason.NOT_VALID_HERE,
        position=BUS_IN_A,
    ),
    *[
        Row(
            "POSITION-1",
            "a vehicle that is lost",
            [product],
            Entitlement(product, doubtful=True, reason=Reason.POSITION_UNKNOWN),
            position=LOST,
        )
        for product in (of(PASS, zones=frozenset("B")), of(PASS, networks=frozenset({"rail"})))
    ],
    Row("POSITION-1", "for all places", [PASS], Entitlement(PASS), position=LOST),
    Row("TIME-FRAME-1", "the first minute after it", [hours(MORNING)], Reason.NOT_VALID_NOW),
    Row("TIME-FRAME-1", "its first minute", [hours(TimeFrame(720, 721))], Entitlement(hours(TimeFrame(720, 721)))),
    Row("TIME-FRAME-1", "its day", [hours(TimeFrame(0, 1440, MONDAY))], Entitlement(hours(TimeFrame(0, 1440, MONDAY)))),
    Row("TIME-FRAME-1", "another day", [hours(TimeFrame(0, 1440, SUNDAY))], Reason.NOT_VALID_NOW),
    Row(
        "TIME-FRAME-1", "by the wall", [hours(MORNING)], Entitlement(hours(MORNING)), position=Position(offset_s=-HOUR)
    ),
    Row(
        "TIME-FRAME-2",
        "one in the night is 25:00 of the day before",
        [hours(NIGHT._replace(weekdays=MONDAY), day_starts_s=4 * HOUR)],
        Entitlement(hours(NIGHT._replace(weekdays=MONDAY), day_starts_s=4 * HOUR)),
        position=Position(offset_s=13 * HOUR),
    ),
    Row(
        "TIME-FRAME-2",
        "without a later start it is one of its own day",
        [hours(NIGHT)],
        Reason.NOT_VALID_NOW,
        position=Position(offset_s=13 * HOUR),
    ),
    Row(
        "TIME-FRAME-3",
        "a clock that only knows a floor",
        [hours(MORNING)],
        Entitlement(hours(MORNING), doubtful=True),
        at=UNSURE,
    ),
    Row(
        "SERVICE-DAY-1",
        "not begun: its midnight was 3 h ago",
        [of(replace(PASS, valid_from=NOON - 3 * HOUR), day_starts_s=4 * HOUR)],
        Reason.TICKET_NOT_YET_VALID,
    ),
    Row(
        "SERVICE-DAY-1",
        "not over: its midnight was 3 h ago",
        [of(replace(PASS, valid_until=NOON - 3 * HOUR), day_starts_s=4 * HOUR)],
        Entitlement(of(replace(PASS, valid_until=NOON - 3 * HOUR), day_starts_s=4 * HOUR)),
    ),
    Row(
        "SERVICE-DAY-1",
        "over",
        [of(replace(PASS, valid_until=NOON - 4 * HOUR), day_starts_s=4 * HOUR)],
        Reason.TICKET_EXPIRED,
    ),
    Row("ACTIVE-1", "bought a moment ago", [replace(PASS, active_from=NOON + 120)], Reason.TICKET_NOT_YET_ACTIVE),
    Row("ACTIVE-1", "from then on", [replace(PASS, active_from=NOON)], Entitlement(replace(PASS, active_from=NOON))),
    Row("PROOF-1", "a student until noon", [of(PASS, rider="student", proof_until=NOON)], Reason.PROOF_ENDED),
    Row("PROOF-1", "a second before", [of(PASS, proof_until=NOON + 1)], Entitlement(of(PASS, proof_until=NOON + 1))),
    *[
        Row("RESIDENTS-1", document, [replace(PASS, residents_only=True)], expected, document=document)
        for document, expected in (
            (DocumentType.RESIDENT, Entitlement(replace(PASS, residents_only=True))),
            (DocumentType.E_RESIDENT, Reason.RESIDENTS_ONLY),
        )
    ],
    Row("SCHEME-1", "a library card", [of(PASS, scheme="library")], Reason.NO_TICKET),
    Row("SCHEME-1", "beside a pass", [of(replace(CARNET), scheme="spa"), PASS], Entitlement(PASS)),
    Row("PASS-BACK-1", "a minute is not over", [PASS, VALUE], Reason.PASS_BACK, before(PASS, 59)),
    Row("PASS-BACK-1", "a minute is over", [PASS], Entitlement(PASS), before(PASS, 60)),
    Row(
        "GROUP-1",
        "no window: the next of a group",
        [replace(CARNET, pass_back_s=0)],
        Entitlement(replace(CARNET, pass_back_s=0), rides=1),
        before(CARNET, 5),
    ),
    Row("GROUP-2", "one tap was for both", [of(PASS, riders=2)], Reason.PASS_BACK, before(PASS, 5)),
    Row("TEAR-1", "torn away", [CARNET], Entitlement(CARNET, recovers=1), before(CARNET, 30, ratified=False)),
    Row("TEAR-2", "repeated already", [CARNET], Reason.PASS_BACK, before(CARNET, 30, ratified=False, recovers=9)),
    Row(
        "CORRECTION-1",
        "in, out, and in again",
        [PASS],
        Entitlement(PASS),
        [*before(PASS, 40), replace(before(PASS, 20)[0], seq=2, leaving=True)],
    ),
    Row(
        "CORRECTION-1",
        "out, in, and in again",
        [PASS],
        Reason.PASS_BACK,
        [*before(PASS, 40, leaving=True), replace(before(PASS, 20)[0], seq=2)],
    ),
    Row("CLOCK-1", "a restart without a clock", [PASS], Entitlement(PASS), before(PASS, 5), at=RESTARTED),
    Row("EXIT-1", "in and out within a minute", [PASS], Entitlement(PASS), before(PASS, 5), leaving=True),
    Row("EXIT-1", "nothing is left", [replace(CARNET, rides=0)], Entitlement(replace(CARNET, rides=0)), leaving=True),
    Row("EXIT-1", "at another hour", [hours(MORNING)], Entitlement(hours(MORNING)), leaving=True),
    Row(
        "EXIT-1",
        "after many rides",
        [LATER],
        Entitlement(LATER),
        before(LATER, 9, 8, 7),
        risk=RiskRules(1, 60),
        leaving=True,
    ),
    Row(
        "EXIT-1",
        "a guest",
        [],
        Entitlement(None),
        before(replace(PASS), 5, product_id=None),
        leaving=True,
        guest=Guest(CardStatus.OK, Freshness.FRESH, 60),
    ),
    Row(
        "EXIT-2",
        "ended on the way",
        [replace(PASS, valid_until=NOON - 3 * HOUR + 1)],
        Entitlement(replace(PASS, valid_until=NOON - 3 * HOUR + 1)),
        leaving=True,
    ),
    Row("EXIT-2", "ended before", [replace(PASS, valid_until=NOON - 3 * HOUR)], Reason.TICKET_EXPIRED, leaving=True),
]


def judged(row: Row) -> Entitlement | Reason:
    return assess(
        row.products,
        row.uses,
        row.horizon,
        HERE,
        row.at,
        assurance=Assurance.CHIP,
        guest=row.guest,
        document=row.document,
        position=row.position,
        risk=row.risk,
        leaving=row.leaving,
        ride=row.ride,
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.rule}-{row.what}")
def test_a_gate_decides_what_the_hand_says(row: Row) -> None:
    assert judged(row) == row.expected


def test_rules_of_docs_code_and_rows_are_the_same() -> None:
    said = {
        rule for line in (ROOT / "docs" / "products.md").read_text().splitlines() for rule in RULE.findall(line[:40])
    }
    coded = {rule for room in ROOMS for rule in RULE.findall((ROOT / "validator" / f"{room}.py").read_text())}
    assert said == coded == {row.rule for row in ROWS}


def test_a_tap_is_for_all_riders_of_its_product() -> None:
    assert Entitlement(of(PASS, riders=3)).riders == 3
    assert Entitlement(None).riders == 1


# The laws.

AMOUNTS = st.integers(0, 1000)
KINDS = st.sampled_from(ProductKind)


@st.composite
def holdings(draw: st.DrawFn) -> list[Product]:
    def product(number: int) -> Product:
        kind, conditions = draw(KINDS), draw(CONDITIONS)
        floor = draw(AMOUNTS) if kind is ProductKind.PAY_AS_YOU_GO else 0
        begin, end, active = (draw(st.integers(NOON - DAY, NOON + DAY)) for _ in range(3))
        places = draw(st.sampled_from([frozenset[str](), frozenset({HERE}), frozenset({THERE})]))
        return Product(
            number,
            kind,
            begin,
            end,
            active,
            rides=draw(st.integers(0, 3)),
            balance=draw(AMOUNTS) - floor,
            fare=draw(st.integers(1, 400)),
            pass_back_s=draw(st.sampled_from([0, 60])),
            places=places,
            conditions=conditions._replace(floor=floor),
        )

    return [product(number) for number in range(1, draw(st.integers(0, 3)) + 1)]


USES = st.lists(
    st.builds(
        lambda seq, number, ago, flags: replace(
            before(PASS, ago)[0], seq=seq, product_id=number, ratified=flags[0], leaving=flags[1], rides=1, amount=100
        ),
        st.integers(1, 9),
        st.integers(1, 3),
        st.integers(-50, 500),
        st.tuples(st.booleans(), st.booleans()),
    ),
    max_size=5,
    unique_by=lambda use: use.seq,
)
TAPS = st.builds(
    Row,
    rule=st.just("law"),
    what=st.just(""),
    products=holdings(),
    expected=st.just(Reason.NO_TICKET),
    uses=USES,
    at=st.sampled_from([NOW, UNSURE, RESTARTED]),
    position=st.sampled_from([Position(), BUS_IN_A, LOST]),
    risk=st.builds(RiskRules, st.integers(0, 3), st.integers(0, 600), st.none() | AMOUNTS),
    leaving=st.booleans(),
    horizon=st.integers(0, 9),
)


@given(TAPS)
def test_no_more_than_the_floor_is_ever_missing(row: Row) -> None:
    found = judged(row)
    if not isinstance(found, Entitlement) or found.product is None or found.recovers is not None or row.leaving:
        return
    product = found.product
    if product.kind is ProductKind.PAY_AS_YOU_GO:
        rides = [use for use in row.uses if use.product_id == product.product_id and use.seq > row.horizon]
        owed = product.fare * (len([use for use in rides if not use.leaving]) + 1)
        assert product.balance - owed >= -product.conditions.floor
        if not row.uses and row.risk.first_ride_floor is not None:
            assert product.balance - owed >= -min(product.conditions.floor, row.risk.first_ride_floor)


@given(TAPS, st.integers(0, 2), AMOUNTS)
def test_more_balance_never_turns_a_grant_into_a_refusal(row: Row, which: int, more: int) -> None:
    if not isinstance(judged(row), Entitlement) or not row.products:
        return
    products = list(row.products)
    chosen = products[which % len(products)]
    products[which % len(products)] = replace(chosen, balance=chosen.balance + more, rides=chosen.rides + more)
    assert isinstance(judged(replace(row, products=products)), Entitlement)


@given(TAPS)
def test_a_right_of_another_scheme_never_opens_a_gate(row: Row) -> None:
    found = judged(row)
    assert not isinstance(found, Entitlement) or found.product is None or not found.product.conditions.scheme
    others = replace(row, products=[of(product, scheme="library") for product in row.products])
    assert judged(others) is Reason.NO_TICKET


@given(TAPS, *[st.sampled_from(Freshness)] * 3)
def test_a_refused_card_takes_nothing(row: Row, trust: Freshness, deny: Freshness, tickets: Freshness) -> None:
    who = Identity(bytes(16), "piv", Assurance.CHIP, None, cached=False)
    right = judged(row)
    decision = decide(Facts(who, right, trust, deny, tickets, Assurance.CHIP))
    assert (decision.entitlement is None) is (not decision.granted)
    if isinstance(right, Reason):
        assert not decision.granted
    if decision.granted and isinstance(right, Entitlement):
        assert decision.graced or not (right.uncertain or right.reason is not Reason.VALID)
        assert not row.leaving or (right.rides, right.amount) == (0, 0)
