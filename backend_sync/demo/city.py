"""A small city: a rail line with zones and two stations, two buses of one line, two operators, and who travels there.

What each traveller owes stands beside what they do, reckoned by hand from the feeds in ``feeds/``: one zone 1.50, two
zones 2.50 (students half), at most 6.00 a day by rail; a bus 1.20 (students 0.60), the next one within an hour is free.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from backend_sync.demo.cards import air_cards
from backend_sync.demo.day import TAP_LIMIT_S, anext_event, present
from backend_sync.demo.depot import PLACE
from backend_sync.demo.errors import Surprise
from backend_sync.demo.issuer import DAY, ID_PIV_CARD_AUTH, Issuer
from backend_sync.demo.population import DAY_S, Card, Visit, new_key
from backend_sync.gtfs.compiling import Days, compile_feed
from hardware.medium import Technology
from hardware.virtual.air import Field
from validator.conditions import Conditions
from validator.fares.editions import Edition, Place
from validator.fares.tariff import Tariffs, encode_tariff
from validator.model import Reason
from validator.rights import Product, ProductKind

FEEDS: Final = Path(__file__).parent / "feeds"
RIDE_S: Final = 1.1
"""How long a ride takes here: long enough for two seconds on a clock."""

MARKET, HILL, BUS, NEXT_BUS = "rail-market", "rail-hill", "bus-7", "bus-9"
GATES: Final = {
    MARKET: 'lane = "entry"\nzones = ["inner"]\nnetwork = "rail"',
    HILL: 'lane = "exit"\nzones = ["outer"]\nnetwork = "rail"',
    BUS: 'network = "bus"',
    NEXT_BUS: 'network = "bus"',
}
"""Lines of ``[position]`` by place; a device is called as its place."""

_PLACES: Final = {
    MARKET: Place("rail", "market-1", "market", "rail"),
    HILL: Place("rail", "hill-1", "hill", "rail"),
    BUS: Place("bus", "b-harbour", "b-harbour", "", "B7", gated=False),
    NEXT_BUS: Place("bus", "b-school", "b-school", "", "B7", gated=False),
    PLACE: Place("bus", "b-harbour", "b-harbour", "bus", gated=False),
}


def edition(now: dt.datetime) -> Edition:
    """Compile the operators' feeds to the edition that holds on a day."""
    days = Days(now.date() - dt.timedelta(2), now.date() + dt.timedelta(30))
    feeds = [compile_feed(FEEDS / name, name, days) for name in ("rail", "bus")]
    return Edition(1, int(now.timestamp()) - DAY_S, Tariffs.parse(encode_tariff(feeds)), _PLACES)


@dataclass(frozen=True, slots=True)
class Traveller:
    """Somebody with a product and a day in the city.

    Attributes:
        persona: Who.
        product: What they hold; times are relative to the day.
        taps: Where they tap, and how each tap should end.
        due: What the day costs them, in cents, when the books close.
        mended: The same after the desk has said where rides without an end have ended.
    """

    persona: str
    product: Product
    taps: tuple[tuple[str, Reason], ...]
    due: int
    mended: int | None = None


_PASS = Product(0, ProductKind.PERIOD_PASS, -DAY_S, 30 * DAY_S, -DAY_S)
_CARNET = replace(_PASS, kind=ProductKind.CARNET, rides=10)
_PURSE = replace(_PASS, kind=ProductKind.STORED_VALUE, balance=1_000, fare=150)
_LATER = replace(_PASS, kind=ProductKind.PAY_AS_YOU_GO, balance=2_000, fare=250)
_OK = Reason.VALID
_RIDE = ((MARKET, _OK), (HILL, _OK))


def _with(product: Product, conditions: Conditions) -> Product:
    return replace(product, conditions=conditions)


TRAVELLERS: Final = (
    Traveller("pays as they go", _LATER, _RIDE, 250),
    Traveller("student, pays as they go", _with(_LATER, Conditions(rider="student")), _RIDE, 125),
    # 2.50 + 2.50 + the most that the third can have cost; once its end is known, the day is at its cap.
    Traveller("forgets to tap out", _LATER, (*_RIDE, *_RIDE, (MARKET, _OK)), 750, 600),
    Traveller("changes their mind", _LATER, ((MARKET, _OK), (MARKET, _OK)), 0),
    Traveller("three on one card", _with(_LATER, Conditions(riders=3)), _RIDE, 750),
    Traveller("carnet by rail", _CARNET, _RIDE, 0),
    Traveller(
        "pass for the rail line",
        _with(_PASS, Conditions(networks=frozenset({"rail"}))),
        ((MARKET, _OK), (BUS, Reason.NOT_VALID_HERE)),
        0,
    ),
    Traveller(
        "pass for the inner zone",
        _with(_PASS, Conditions(zones=frozenset({"inner"}))),
        ((MARKET, _OK), (HILL, Reason.NOT_VALID_HERE)),
        0,
    ),
    Traveller("resident rides free", replace(_PASS, residents_only=True), ((BUS, _OK),), 0),
    Traveller("changes buses", _PURSE, ((BUS, _OK), (NEXT_BUS, _OK)), 120),
    Traveller("student on the bus", _with(_PURSE, Conditions(rider="student")), ((BUS, _OK),), 60),
    Traveller(
        "proof has ended",
        _with(_PASS, Conditions(rider="student", proof_until=-DAY_S)),
        ((MARKET, Reason.PROOF_ENDED),),
        0,
    ),
    Traveller("library card", _with(_PASS, Conditions(scheme="library")), ((MARKET, Reason.NO_TICKET),), 0),
)
TAPS: Final = sum(len(traveller.taps) for traveller in TRAVELLERS)
"""So many taps the city makes."""


@dataclass(frozen=True, slots=True)
class Passenger:
    """A traveller with a card, and the product that was sold for it."""

    traveller: Traveller
    card: Card
    product: Product


def passengers(issuer: Issuer, now: dt.datetime, first_product: int) -> list[Passenger]:
    """Give each traveller a card and a product; these are numbered from `first_product`."""
    found, now_s = [], int(now.timestamp())
    for number, traveller in enumerate(TRAVELLERS, first_product):
        key = new_key()
        certificate = issuer.issue(key, now - 9 * DAY, now + 1825 * DAY, usage=ID_PIV_CARD_AUTH)
        held = traveller.product
        told = held.conditions
        product = replace(
            held,
            product_id=number,
            valid_from=now_s + held.valid_from,
            valid_until=now_s + held.valid_until,
            active_from=now_s + held.active_from,
            conditions=told._replace(proof_until=told.proof_until and now_s + told.proof_until),
        )
        found.append(Passenger(traveller, Card(key, certificate, Technology.TYPE_A, "jcop4-p71"), product))
    return found


@dataclass(frozen=True, slots=True)
class Lane:
    """A gate of the city while it is open: its air, and what its validator says."""

    air: Field
    events: AsyncIterator[dict[str, Any]]


async def travel(
    people: Sequence[Passenger],
    lanes: dict[str, Lane],
    seen: Callable[[str, dict[str, Any]], None],
    *,
    timed: bool,
) -> None:
    """Let everybody travel, one tap after the other.

    Args:
        people: Who.
        lanes: Gates that are ready, by place.
        seen: Told of each tap: who, and what the validator said.
        timed: Model the time that real cards take.

    Raises:
        Surprise: A tap ended otherwise than it should.
        ProcessDied: A validator ended.
    """
    for person in people:
        reasons = tuple(reason for _, reason in person.traveller.taps)
        visit = Visit(person.traveller.persona, person.card, reasons, None)
        for number, (card, (place, expected)) in enumerate(
            zip(air_cards(visit, timed=timed), person.traveller.taps, strict=True)
        ):
            if number:
                await asyncio.sleep(RIDE_S)
            lane = lanes[place]
            event = await present(card, lane.air, lane.events)
            seen(person.traveller.persona, event)
            if event["reason"] != expected.name:
                raise Surprise(f"{person.traveller.persona}: at {place} {event['reason']}, not {expected.name}")
            lane.air.remove()
            await asyncio.wait_for(lane.air.polled(), TAP_LIMIT_S)


async def ready(lane: Lane) -> None:
    """Wait until a gate is open."""
    await anext_event(lane.events, "ready")
