"""What pays for a ride, and what to say when nothing does."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.entitlement import HELPFULNESS, assess
from validator.list_facts import CardStatus, Freshness, Guest
from validator.model import Assurance, ClockConfidence, Instant, Reason
from validator.rights import Entitlement, Product, ProductKind, Use

NOW_S = 1_795_400_000
DAY_S = 86_400
HERE, THERE = "Viru", "Balti jaam"
BOOT, OTHER_BOOT = b"one-boot", b"2nd-boot"
NOW = Instant(NOW_S * 1000, 500_000, BOOT, ClockConfidence.NTP)
UNSURE = replace(NOW, confidence=ClockConfidence.FLOOR)

PASS = Product(1, ProductKind.PERIOD_PASS, NOW_S - DAY_S, NOW_S + DAY_S, NOW_S - DAY_S, pass_back_s=60)
CARNET = replace(PASS, product_id=2, kind=ProductKind.CARNET, rides=3)
VALUE = replace(PASS, product_id=3, kind=ProductKind.STORED_VALUE, balance=500, fare=200)


def used(seq: int, product: Product = PASS, ago_s: float = 10, *, ratified: bool = True, **changes: object) -> Use:
    ago_ms = int(ago_s * 1000)
    use = Use(
        seq,
        product.product_id,
        NOW.wall_ms - ago_ms,
        NOW.mono_ms - ago_ms,
        BOOT,
        HERE,
        rides=int(product.kind is ProductKind.CARNET),
        amount=product.fare,
        ratified=ratified,
        recovers=None,
    )
    return replace(use, **changes)  # type: ignore[arg-type]


def judge(
    *products: Product,
    uses: Sequence[Use] = (),
    horizon: int = 0,
    at: Instant = NOW,
    assurance: Assurance = Assurance.CHIP,
) -> Entitlement | Reason:
    return assess(products, uses, horizon, HERE, at, assurance=assurance)


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([VALUE, CARNET, PASS], Entitlement(PASS)),
        ([VALUE, CARNET], Entitlement(CARNET, rides=1)),
        ([VALUE], Entitlement(VALUE, amount=200)),
        ([CARNET, replace(CARNET, product_id=9, valid_until=NOW_S + 5)], "ends first"),
        ([replace(CARNET, rides=0), VALUE], Entitlement(VALUE, amount=200)),
        ([replace(PASS, places=frozenset({THERE})), CARNET], Entitlement(CARNET, rides=1)),
        ([replace(PASS, places=frozenset({HERE, THERE}))], Entitlement(replace(PASS, places=frozenset({HERE, THERE})))),
    ],
)
def test_period_pass_then_carnet_then_value_and_what_ends_first(
    products: list[Product], expected: Entitlement | str
) -> None:
    found = judge(*products)
    if expected == "ends first":
        assert isinstance(found, Entitlement)
        assert found.product_id == 9
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (replace(PASS, valid_until=NOW_S), Reason.TICKET_EXPIRED),
        (replace(PASS, valid_from=NOW_S + 1), Reason.TICKET_NOT_YET_VALID),
        (replace(PASS, active_from=NOW_S + 1), Reason.TICKET_NOT_YET_ACTIVE),
        (replace(PASS, valid_from=NOW_S + 1, active_from=NOW_S + 1), Reason.TICKET_NOT_YET_VALID),
        (replace(PASS, places=frozenset({THERE})), Reason.NOT_VALID_HERE),
        (replace(PASS, places=frozenset({THERE}), valid_until=NOW_S), Reason.TICKET_EXPIRED),
        (replace(CARNET, rides=0), Reason.RIDES_USED_UP),
        (replace(VALUE, balance=199), Reason.BALANCE_TOO_LOW),
    ],
)
def test_why_a_product_does_not_fit(product: Product, reason: Reason) -> None:
    assert judge(product) is reason


@pytest.mark.parametrize(
    "product",
    [
        replace(PASS, valid_from=NOW_S, active_from=NOW_S),
        replace(PASS, valid_until=NOW_S + 1),
        replace(VALUE, balance=200),
        replace(CARNET, rides=1),
    ],
)
def test_bounds_are_inclusive_where_they_say_so(product: Product) -> None:
    assert isinstance(judge(product), Entitlement)


def test_nothing_bought_is_said_plainly() -> None:
    assert judge() is Reason.NO_TICKET


MISFITS = {
    Reason.TICKET_NOT_YET_ACTIVE: replace(PASS, active_from=NOW_S + 1),
    Reason.BALANCE_TOO_LOW: replace(VALUE, balance=0),
    Reason.RIDES_USED_UP: replace(CARNET, rides=0),
    Reason.NOT_VALID_HERE: replace(PASS, product_id=4, places=frozenset({THERE})),
    Reason.TICKET_NOT_YET_VALID: replace(PASS, product_id=5, valid_from=NOW_S + 1),
    Reason.TICKET_EXPIRED: replace(PASS, product_id=6, valid_until=NOW_S),
    Reason.ASSURANCE_TOO_LOW: replace(PASS, product_id=7, least_assurance=Assurance.HOLDER),
}


@given(st.sets(st.sampled_from(list(MISFITS)), min_size=1), st.randoms())
def test_the_most_helpful_reason_is_said(reasons: set[Reason], random: object) -> None:
    products = [MISFITS[reason] for reason in reasons]
    random.shuffle(products)  # type: ignore[attr-defined]
    assert judge(*products) is min(reasons, key=HELPFULNESS.index)


def test_every_reason_of_this_room_has_its_rank() -> None:
    own = {reason for reason in Reason if Reason.NO_TICKET <= reason < Reason.CAN_NEEDED}
    assert set(HELPFULNESS) == own | {Reason.ASSURANCE_TOO_LOW}


@given(st.sampled_from(Assurance), st.sampled_from([Assurance.CHIP, Assurance.HOLDER]))
def test_a_product_is_used_on_the_rung_that_it_asks_for_and_above(assurance: Assurance, least: Assurance) -> None:
    asking = replace(PASS, least_assurance=least)
    expected = Entitlement(asking) if assurance >= least else Reason.ASSURANCE_TOO_LOW
    assert judge(asking, assurance=assurance) == expected


def test_a_ride_is_taken_from_what_asks_for_less() -> None:
    assert judge(replace(PASS, least_assurance=Assurance.HOLDER), CARNET) == Entitlement(CARNET, rides=1)


# Own uses.


def test_own_uses_count_though_they_were_never_synced() -> None:
    rides = [used(seq, CARNET, 1000 - seq) for seq in (11, 12, 13)]
    assert judge(CARNET, uses=rides[:2], horizon=10) == Entitlement(CARNET, rides=1)
    assert judge(CARNET, uses=rides, horizon=10) is Reason.RIDES_USED_UP
    assert judge(CARNET, uses=rides, horizon=11) == Entitlement(CARNET, rides=1)
    fares = [used(seq, VALUE, 1000 - seq) for seq in (11, 12)]
    assert judge(VALUE, uses=fares, horizon=10) is Reason.BALANCE_TOO_LOW
    assert judge(VALUE, uses=fares, horizon=12) == Entitlement(VALUE, amount=200)


def test_uses_of_another_product_do_not_count() -> None:
    one_left = replace(CARNET, rides=1)
    assert judge(one_left, uses=[used(1, replace(CARNET, product_id=99))]) == Entitlement(one_left, rides=1)


# Pass-back and recovery.


@pytest.mark.parametrize(
    ("case", "uses", "expected"),
    [
        ("seen", [used(7)], Reason.PASS_BACK),
        ("seen at the last moment of the window", [used(7, ago_s=59.999)], Reason.PASS_BACK),
        ("window over", [used(7, ago_s=60)], Entitlement(PASS)),
        ("elsewhere", [used(7, place=THERE)], Entitlement(PASS)),
        ("torn", [used(7, ratified=False)], Entitlement(PASS, recovers=7)),
        ("torn, window over", [used(7, ago_s=60, ratified=False)], Entitlement(PASS)),
        ("recovered", [used(7, ratified=False), used(8, ago_s=5, recovers=7)], Reason.PASS_BACK),
        (
            "recovered and torn again",
            [used(7, ratified=False), used(8, ago_s=5, ratified=False, recovers=7)],
            Reason.PASS_BACK,
        ),
        (
            "recovered long ago, the repetition still runs",
            [used(7, ago_s=90, ratified=False), used(8, ago_s=50, ratified=False, recovers=7)],
            Reason.PASS_BACK,
        ),
        ("torn, then seen", [used(7, ago_s=30, ratified=False), used(8, ago_s=5)], Reason.PASS_BACK),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pass_back_and_recovery(case: str, uses: list[Use], expected: Entitlement | Reason) -> None:
    assert judge(PASS, uses=uses) == expected
    assert judge(PASS, uses=uses[::-1]) == expected
    assert judge(PASS, uses=uses, horizon=100) == expected


def test_a_second_tap_does_not_fall_through_to_the_next_product() -> None:
    last_ride = replace(CARNET, rides=1)
    assert judge(last_ride, VALUE, uses=[used(7, CARNET)]) is Reason.PASS_BACK
    assert judge(last_ride, VALUE, uses=[used(7, CARNET, ratified=False)]) == Entitlement(last_ride, recovers=7)


def test_a_card_that_fell_silent_does_not_carry_a_second_person_later() -> None:
    city = replace(PASS, pass_back_s=3600)
    assert judge(city, uses=[used(7, city, 59.9, ratified=False)]) == Entitlement(city, recovers=7)
    assert judge(city, uses=[used(7, city, 60, ratified=False)]) is Reason.PASS_BACK


def test_a_torn_ride_is_recovered_though_its_product_has_ended_meanwhile() -> None:
    ended = replace(PASS, valid_until=NOW_S - 1)
    assert judge(ended, uses=[used(7, ratified=False)]) == Entitlement(ended, recovers=7)


def test_a_product_without_a_window_lets_a_group_board() -> None:
    group = replace(CARNET, pass_back_s=0)
    assert judge(group, uses=[used(7, group, 1)]) == Entitlement(group, rides=1)
    assert judge(group, uses=[used(7, group, 1, ratified=False)]) == Entitlement(group, rides=1)


# Clocks that lie.


@pytest.mark.parametrize("wall_step_s", [-10 * DAY_S, -30, 30, 10 * DAY_S])
def test_within_one_boot_the_wall_clock_says_nothing_about_elapsed_time(wall_step_s: int) -> None:
    stepped = [used(7, wall_ms=NOW.wall_ms + wall_step_s * 1000)]
    assert judge(PASS, uses=stepped) is Reason.PASS_BACK
    assert judge(PASS, uses=[replace(stepped[0], mono_ms=NOW.mono_ms - 60_000)]) == Entitlement(PASS)


def test_after_a_restart_the_wall_clock_tells() -> None:
    before = used(7, boot=OTHER_BOOT, mono_ms=9_999_999)
    assert judge(PASS, uses=[before]) is Reason.PASS_BACK
    assert judge(PASS, uses=[replace(before, ratified=False)]) == Entitlement(PASS, recovers=7)
    assert judge(PASS, uses=[replace(before, wall_ms=NOW.wall_ms - 60_000)]) == Entitlement(PASS)


def test_a_clock_that_was_set_back_refuses_nobody() -> None:
    future = used(7, boot=OTHER_BOOT, wall_ms=NOW.wall_ms + 1)
    assert judge(PASS, uses=[future]) == Entitlement(PASS)


def test_after_a_restart_without_a_clock_nobody_is_refused_for_having_been_here() -> None:
    before = used(7, boot=OTHER_BOOT)
    assert judge(PASS, uses=[before], at=UNSURE) == Entitlement(PASS)
    assert judge(PASS, uses=[replace(before, ratified=False)], at=UNSURE) == Entitlement(PASS, recovers=7)
    assert judge(PASS, uses=[used(7)], at=UNSURE) is Reason.PASS_BACK


@pytest.mark.parametrize("late", ["valid_from", "active_from"])
def test_a_floor_holds_no_beginning_against_the_passenger(late: str) -> None:
    product = replace(PASS, valid_from=NOW_S, active_from=NOW_S)
    product = replace(product, **{late: NOW_S + DAY_S // 2})  # type: ignore[arg-type]
    assert judge(product, at=UNSURE) == Entitlement(product, early=True)
    assert isinstance(judge(product, at=NOW), Reason)
    assert judge(product, at=replace(NOW, confidence=ClockConfidence.RTC)) == Entitlement(product, early=True)
    assert judge(product, VALUE, at=UNSURE) == Entitlement(VALUE, amount=200)


def test_a_floor_is_enough_to_know_that_a_ticket_has_ended() -> None:
    assert judge(replace(PASS, valid_until=NOW_S), at=UNSURE) is Reason.TICKET_EXPIRED


# The law: whatever comes, nothing is overspent and nothing is given at the wrong place or time.

TIMES = st.integers(NOW_S - 100, NOW_S + 100)
PRODUCTS = st.builds(
    Product,
    product_id=st.integers(1, 3),
    kind=st.sampled_from(ProductKind),
    valid_from=TIMES,
    valid_until=TIMES,
    active_from=TIMES,
    rides=st.integers(0, 3),
    balance=st.integers(0, 500),
    fare=st.integers(1, 300),
    pass_back_s=st.sampled_from([0, 60]),
    places=st.sets(st.sampled_from([HERE, THERE])).map(frozenset),
)
USES = st.lists(
    st.builds(
        Use,
        seq=st.integers(1, 20),
        product_id=st.integers(1, 3),
        wall_ms=st.integers(NOW.wall_ms - 200_000, NOW.wall_ms + 200_000),
        mono_ms=st.integers(NOW.mono_ms - 200_000, NOW.mono_ms),
        boot=st.sampled_from([BOOT, OTHER_BOOT]),
        place=st.sampled_from([HERE, THERE]),
        rides=st.integers(0, 1),
        amount=st.integers(0, 300),
        ratified=st.booleans(),
        recovers=st.none() | st.integers(1, 20),
    ),
    max_size=6,
    unique_by=lambda use: use.seq,
)


@given(
    products=st.lists(PRODUCTS, max_size=3, unique_by=lambda product: product.product_id),
    uses=USES,
    horizon=st.integers(0, 20),
    at=st.sampled_from([NOW, UNSURE, replace(NOW, confidence=ClockConfidence.RTC)]),
)
def test_what_is_granted_is_held_and_not_overspent(
    products: list[Product], uses: list[Use], horizon: int, at: Instant
) -> None:
    found = judge(*products, uses=uses, horizon=horizon, at=at)
    if isinstance(found, Reason):
        assert found in HELPFULNESS
        assert found is not Reason.NO_TICKET or not products
        return
    product = found.product
    assert product in products
    own = [use for use in uses if use.product_id == product.product_id]
    if found.recovers is not None:
        (torn,) = [use for use in own if use.seq == found.recovers]
        assert not torn.ratified
        assert torn.recovers is None
        assert torn.place == HERE
        assert (found.rides, found.amount) == (0, 0)
        assert not any(use.recovers == torn.seq for use in uses)
        return
    assert product.valid_until > NOW_S
    assert not product.places or HERE in product.places
    assert found.early is (max(product.valid_from, product.active_from) > NOW_S)
    assert not found.early or at.confidence is not ClockConfidence.NTP
    unsynced = [use for use in own if use.seq > horizon]
    if product.kind is ProductKind.CARNET:
        assert found.rides == 1
        assert sum(use.rides for use in unsynced) + found.rides <= product.rides
    if product.kind is ProductKind.PAY_AS_YOU_GO:
        assert (found.rides, found.amount) == (0, 0)
        assert product.fare * (len([use for use in unsynced if use.recovers is None]) + 1) <= product.balance
    if product.kind is ProductKind.STORED_VALUE:
        assert found.amount == product.fare
        assert sum(use.amount for use in unsynced) + found.amount <= product.balance
    assert not any(
        use.place == HERE and use.boot == BOOT and NOW.mono_ms - use.mono_ms < product.pass_back_s * 1000
        for use in own
        if use.seq == max(one.seq for one in uses)
    )


GOOD = Guest(CardStatus.OK, Freshness.FRESH, pass_back_s=60)


def a_guest(seq: int, ago_s: float = 10, *, ratified: bool = True, **changes: object) -> Use:
    return used(seq, PASS, ago_s, ratified=ratified, product_id=None, **changes)


def welcome(guest: Guest | None, *products: Product, uses: Sequence[Use] = ()) -> Entitlement | Reason:
    return assess(products, uses, 0, HERE, NOW, assurance=Assurance.CHIP, guest=guest)


@pytest.mark.parametrize(
    ("guest", "expected"),
    [
        (None, Reason.NO_TICKET),
        (GOOD, Entitlement(None)),
        (replace(GOOD, status=CardStatus.UNKNOWN), Reason.NO_TICKET),
        (replace(GOOD, status=CardStatus.LOW), Reason.BALANCE_TOO_LOW),
        (replace(GOOD, status=CardStatus.BLOCKED), Reason.REVOKED),
        (replace(GOOD, freshness=Freshness.GRACE), Entitlement(None, doubtful=True)),
        *[
            (Guest(status, freshness, 60), Reason.NO_TICKET)
            for status in CardStatus
            for freshness in (Freshness.STALE, Freshness.MISSING)
        ],
    ],
    ids=str,
)
def test_a_guest_is_let_in_only_where_its_own_region_says_so_today(
    guest: Guest | None, expected: Entitlement | Reason
) -> None:
    assert welcome(guest) == expected


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([a_guest(7)], Reason.PASS_BACK),
        ([a_guest(7, 60)], Entitlement(None)),
        ([a_guest(7, place=THERE)], Entitlement(None)),
        ([a_guest(7, ratified=False)], Entitlement(None, recovers=7)),
        ([a_guest(7, ratified=False), a_guest(8, 5, recovers=7)], Reason.PASS_BACK),
        ([used(7)], Entitlement(None)),  # of a product that it held here once
    ],
    ids=str,
)
def test_a_guest_passes_nothing_back(uses: list[Use], expected: Entitlement | Reason) -> None:
    assert welcome(GOOD, uses=uses) == expected


@given(
    products=st.lists(PRODUCTS, min_size=1, max_size=3, unique_by=lambda product: product.product_id),
    uses=USES,
    guest=st.builds(Guest, st.sampled_from(CardStatus), st.sampled_from(Freshness), st.integers(0, 600)),
)
def test_who_holds_a_product_here_is_no_guest(products: list[Product], uses: list[Use], guest: Guest) -> None:
    assert welcome(guest, *products, uses=uses) == welcome(None, *products, uses=uses)


@given(uses=USES, guest=st.builds(Guest, st.sampled_from(CardStatus), st.sampled_from(Freshness), st.integers(0, 600)))
def test_nothing_is_taken_from_a_guest(uses: list[Use], guest: Guest) -> None:
    found = welcome(guest, uses=[replace(use, product_id=None) if use.seq % 2 else use for use in uses])
    if isinstance(found, Entitlement):
        assert (guest.status, found.product, found.rides, found.amount) == (CardStatus.OK, None, 0, 0)
        assert guest.freshness is (Freshness.GRACE if found.doubtful else Freshness.FRESH)
