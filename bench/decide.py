"""``decide``: what a gate computes between the card's proof and the journal, with a product of each kind."""

import gc
import time
from dataclasses import replace

from bench.figures import Figure, Report, p50, p99
from bench.journeys import DAY, tariff
from validator import answer, decision, entitlement
from validator.answer import ANYBODY
from validator.conditions import Conditions, TimeFrame
from validator.decision import Facts
from validator.fares.at_gate import NO_TARIFF, RideHere
from validator.fares.editions import Edition, Place
from validator.fares.tariff_rows import DAY_S
from validator.list_facts import Freshness
from validator.lists.product_rows import NUMBERS, SHAPE_NUMBER
from validator.model import Assurance, ClockConfidence, Identity, Instant
from validator.position import Position
from validator.rights import Product, ProductKind, Use
from validator.risk import RiskRules

TAPS = 20_000
GOAL_US = 100.0
FRESH = 100

_PLACES = {
    "bus": Place("city", "bus", "bus", "", "bus", gated=False),
    "station": Place("city", "m000", "m000", "metro"),
}

_NOON = 1_795_435_200
_AT = Instant(_NOON * 1000, 10**9, b"one-boot", ClockConfidence.NTP)
_DAY_S = 86_400
_PASS = Product(1, ProductKind.PERIOD_PASS, _NOON - _DAY_S, _NOON + _DAY_S, _NOON - _DAY_S, pass_back_s=60)
_RUSH = frozenset({TimeFrame(6 * 60, 9 * 60, 31), TimeFrame(11 * 60, 25 * 60, 31)})
_CITY = Conditions("student", "card", 1, frozenset({"A", "B"}), frozenset({"bus"}), _RUSH, 4 * 3600)
_PRODUCTS = {
    "period pass": _PASS,
    "carnet": replace(_PASS, kind=ProductKind.CARNET, rides=50),
    "stored value": replace(_PASS, kind=ProductKind.STORED_VALUE, balance=100_000, fare=150),
    "pay as you go": replace(
        _PASS, kind=ProductKind.PAY_AS_YOU_GO, balance=1000, fare=300, conditions=Conditions(floor=20_000)
    ),
    "group": replace(_PASS, conditions=Conditions(riders=5)),
    "student's, zones, hours": replace(_PASS, conditions=_CITY._replace(proof_until=_NOON + _DAY_S)),
    "another scheme's": replace(_PASS, conditions=Conditions(scheme="library")),
}
_POSITION = Position(frozenset({"A"}), "bus", "7820", "5", offset_s=7200)
_RISK = RiskRules(rides=20, within_s=600, first_ride_floor=1000)
_WHO = Identity(bytes(16), "piv", Assurance.CHIP, None, cached=True)


async def run() -> Report:
    """Decide and answer taps of each kind, and of one card that holds a product of every kind."""
    report = Report("decide", "From what is believed of a card to what the passenger reads")
    every = [replace(product, product_id=number) for number, product in enumerate(_PRODUCTS.values(), 1)]
    for name, products in [*((name, [product]) for name, product in _PRODUCTS.items()), ("all of these", every)]:
        spent = _spent_us(products)
        report.figures.append(Figure(f"{name}: p50", p50(spent), "µs", len(spent)))
        report.figures.append(Figure(f"{name}: p99", p99(spent), "µs", len(spent), goal=GOAL_US))
    edition = Edition(1, 0, tariff(), _PLACES)
    for name in ("stored value", "pay as you go"):
        for place, what in (("bus", "on board, by the tariff"), ("station", "at a gate, under the tariff")):
            spent = _spent_us([_PRODUCTS[name]], edition, place)
            report.figures.append(Figure(f"{name}, {what}: p50", p50(spent), "µs", len(spent)))
            report.figures.append(Figure(f"{name}, {what}: p99", p99(spent), "µs", len(spent), goal=GOAL_US))
    fresh = [_first_us(name) for name in ("stored value", "pay as you go") for _ in range(FRESH)]
    report.figures.append(
        Figure("the first tap of a tariff that was just installed: p99", p99(fresh), "µs", len(fresh))
    )
    size = SHAPE_NUMBER.size + NUMBERS.size
    report.figures.append(Figure("octets of a product in a ticket list, beside its card's id", size, "B", 1, goal=22))
    return report


def _first_us(name: str) -> float:
    """Return how long the first tap by a tariff takes, which no gate has an answer kept for."""
    (spent,) = _spent_us([_PRODUCTS[name]], Edition(1, 0, tariff(), _PLACES), "bus", taps=1)
    return spent


def _spent_us(
    products: list[Product], edition: Edition | None = None, place: str = "Viru", taps: int = TAPS
) -> list[float]:
    """Return how long each of many taps took, in microseconds; a card has ten uses here of before.

    Under a tariff each tap is at another second of the day, so that its hours and service day are looked up anew.
    """
    numbers = [product.product_id for product in products]
    uses = [
        Use(
            seq, numbers[seq % len(numbers)], _AT.wall_ms - ago, _AT.mono_ms - ago, _AT.boot, "Viru", 1, 150, True, None
        )
        for seq, ago in enumerate(range(3_600_000, 60_000, -360_000), 1)
    ]
    spent = list[float]()
    gc.collect()
    gc.disable()
    try:
        for number in range(taps):
            at_s = DAY * DAY_S + number * 7919 % DAY_S
            began = time.perf_counter_ns()
            ride = NO_TARIFF if edition is None else RideHere(edition, place, at_s)
            right = entitlement.assess(
                products, uses, 0, "Viru", _AT, assurance=Assurance.CHIP, position=_POSITION, risk=_RISK, ride=ride
            )
            fresh = Freshness.FRESH
            verdict = decision.decide(Facts(_WHO, right, fresh, fresh, fresh, Assurance.CHIP))
            said = answer.answer(verdict, uses, _POSITION.offset_s, ANYBODY)
            spent.append((time.perf_counter_ns() - began) / 1000)
            assert said
    finally:
        gc.enable()
    return spent
