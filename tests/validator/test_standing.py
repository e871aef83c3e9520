"""What the lists are worth at one moment: the worst of what vouches, and the least limit of what is past its date."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.authority import NOW, seconds
from tests.validator.judging import instant
from validator.decision import ValueLimit
from validator.list_facts import Freshness
from validator.lists.errors import ListError
from validator.lists.gate_rules import KEEP, GateRules, StalePolicy, policies
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind, Manifest
from validator.model import Reason
from validator.proof import BareKey, Certificate, EnrolledUnder, Shown
from validator.standing import standing

NOW_S, HOUR = seconds(NOW), 3600
OWN = policies(StalePolicy(HOUR), StalePolicy(HOUR), StalePolicy(HOUR))
KINDS = (ListKind.TRUST, ListKind.ENROLLED, ListKind.DENY, ListKind.TICKETS)
REASONS = {
    ListKind.TRUST: Reason.TRUST_LIST_STALE,
    ListKind.ENROLLED: Reason.TRUST_LIST_STALE,
    ListKind.DENY: Reason.DENY_LIST_STALE,
    ListKind.TICKETS: Reason.TICKET_LIST_STALE,
}
SHOWN: list[Shown | None] = [None, Certificate(b""), BareKey(b""), EnrolledUnder("mynumber-surface", b"4AB00000000017")]
AGES = st.none() | st.sampled_from([-HOUR, 0, 1, HOUR, HOUR + 1, 10**9])
POLICIES = st.builds(StalePolicy, st.sampled_from([0, HOUR]), st.none() | st.integers(0, 3)) | st.builds(
    StalePolicy, value_limit=st.none() | st.integers(0, 3), then=st.just("keep")
)


def lists_of(
    ages: dict[ListKind, int | None], signed: dict[ListKind, StalePolicy], *faulty: ListKind
) -> InstalledLists:
    """Lists that are so many seconds past their date; None is a list that is not there."""
    manifests = {
        kind: Manifest(kind, "north", 1, 0, NOW_S - age, bytes(32), 0) for kind, age in ages.items() if age is not None
    }
    faults = {kind: (ListError(kind, "rotten"),) for kind in faulty}
    return InstalledLists(Path(), None, None, None, manifests, faults, {}, rules=GateRules(signed))


def said(age: int | None, policy: StalePolicy, *, faulty: bool) -> Freshness:
    """Say it once more, in other words."""
    if age is None:
        return Freshness.MISSING
    if age <= 0:
        return Freshness.GRACE if faulty else Freshness.FRESH
    return Freshness.GRACE if policy.then == "keep" or age <= policy.grace_s else Freshness.STALE


@given(
    ages=st.fixed_dictionaries(dict.fromkeys(KINDS, AGES)),
    signed=st.dictionaries(st.sampled_from(KINDS), POLICIES),
    faulty=st.sets(st.sampled_from(KINDS)),
    shown=st.sampled_from(SHOWN),
)
def test_each_list_by_its_own_policy(
    ages: dict[ListKind, int | None], signed: dict[ListKind, StalePolicy], faulty: set[ListKind], shown: Shown | None
) -> None:
    found = standing(lists_of(ages, signed, *faulty), OWN, instant(), shown)
    counts = [kind for kind in KINDS if kind is not ListKind.ENROLLED or isinstance(shown, BareKey | EnrolledUnder)]
    current = {kind: said(ages[kind], signed.get(kind, OWN[kind]), faulty=kind in faulty) for kind in counts}
    assert found.trust is max(current[ListKind.TRUST], current.get(ListKind.ENROLLED, Freshness.FRESH))
    assert (found.deny, found.tickets) == (current[ListKind.DENY], current[ListKind.TICKETS])
    limits = {
        (signed[kind].value_limit, REASONS[kind])
        for kind in counts
        if kind in signed and current[kind] is Freshness.GRACE and signed[kind].value_limit is not None
    }
    if not limits:
        assert found.value_limit is None
    else:
        assert found.value_limit is not None
        assert (found.value_limit.amount, found.value_limit.reason) in limits
        assert found.value_limit.amount == min(amount for amount, _ in limits if amount is not None)


def test_the_least_limit_gives_the_reason() -> None:
    signed = {
        ListKind.TRUST: StalePolicy(value_limit=100, then="keep"),
        ListKind.DENY: StalePolicy(HOUR, value_limit=50),
        ListKind.TICKETS: StalePolicy(HOUR, value_limit=10),
    }
    ages: dict[ListKind, int | None] = {ListKind.TRUST: 10**8, ListKind.DENY: HOUR, ListKind.TICKETS: 0}
    found = standing(lists_of(ages, signed), OWN, instant(), None)
    assert found.value_limit == ValueLimit(50, Reason.DENY_LIST_STALE)


def test_a_fresh_list_that_another_serves_for_has_a_limit_as_well() -> None:
    signed = {ListKind.DENY: StalePolicy(HOUR, value_limit=50)}
    ages: dict[ListKind, int | None] = dict.fromkeys(KINDS, -HOUR)
    assert standing(lists_of(ages, signed), OWN, instant(), None).value_limit is None
    found = standing(lists_of(ages, signed, ListKind.DENY), OWN, instant(), None)
    assert found.value_limit == ValueLimit(50, Reason.DENY_LIST_STALE)


@pytest.mark.parametrize("age", [1, 10**9])
def test_what_is_kept_is_never_stale_and_what_is_missing_is_not_kept(age: int) -> None:
    kept = dict.fromkeys(KINDS, KEEP)
    found = standing(lists_of(dict.fromkeys(KINDS, age), kept), OWN, instant(), BareKey(b""))
    assert {found.trust, found.deny, found.tickets} == {Freshness.GRACE}
    nothing = standing(lists_of({}, kept), OWN, instant(), BareKey(b""))
    assert {nothing.trust, nothing.deny, nothing.tickets} == {Freshness.MISSING}


@given(
    ages=st.fixed_dictionaries(dict.fromkeys(KINDS, AGES)),
    tariff=AGES,
    shown=st.sampled_from(SHOWN),
    wrong=st.booleans(),
)
def test_a_tariff_stops_nothing_however_old_missing_or_spoilt_it_is(
    ages: dict[ListKind, int | None], tariff: int | None, shown: Shown | None, *, wrong: bool
) -> None:
    faulty = [ListKind.TARIFF] if wrong else []
    lists = lists_of({**ages, ListKind.TARIFF: tariff}, {}, *faulty)
    assert standing(lists, OWN, instant(), shown) == standing(lists_of(ages, {}), OWN, instant(), shown)
    current = lists.freshness(ListKind.TARIFF, instant(), lists.policy(ListKind.TARIFF, OWN))
    assert current is said(tariff, KEEP, faulty=wrong)
    assert current is not Freshness.STALE
