"""The table of rules: total, each row reachable, and no grant unless every check held."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator.decision import RULES, UNEXPECTED, Facts, ValueLimit, decide
from validator.list_facts import Freshness
from validator.model import Assurance, DocumentType, Identity, KeyAlgorithm, KnownCard, Outcome, Reason, Refusal
from validator.rights import Decision, Entitlement, Product, ProductKind

KNOWN = KnownCard(bytes(16), KeyAlgorithm.P256, b"", 0, 1, bytes(16), 1)
CARD = Identity(bytes(16), "piv", Assurance.CHIP, KNOWN, cached=True)
CARNET = Product(1, ProductKind.CARNET, 0, 1, 0, rides=1)
RIDE = Entitlement(CARNET, rides=1)
AGAIN = Entitlement(CARNET, recovers=5)
GOOD = Facts(CARD, RIDE, Freshness.FRESH, Freshness.FRESH, Freshness.FRESH, Assurance.CHIP)
NO_LISTS = replace(GOOD, trust=Freshness.MISSING, deny=Freshness.MISSING, tickets=Freshness.MISSING)
PURSE = Product(2, ProductKind.STORED_VALUE, 0, 1, 0, balance=900, fare=300)
FARE = Entitlement(PURSE, amount=300)
UNCERTAIN = {Reason.FIRST_RIDE, Reason.POSITION_UNKNOWN}
GRANTS = {Reason.VALID, Reason.RECOVERED} | UNCERTAIN
DENIALS = [reason for reason in Reason if reason not in GRANTS]


def denied(reason: Reason) -> Decision:
    return Decision(Outcome.DENY, reason)


CASES: list[tuple[str, Facts, Decision]] = [
    (
        "issuer-unknown-without-trust-list",
        replace(GOOD, who=Refusal(Reason.UNTRUSTED_ISSUER), trust=Freshness.MISSING),
        denied(Reason.TRUST_LIST_STALE),
    ),
    *[("card-not-believed", replace(GOOD, who=Refusal(reason)), denied(reason)) for reason in DENIALS],
    ("card-not-believed", replace(NO_LISTS, who=Refusal(Reason.PRESENT_AGAIN)), denied(Reason.PRESENT_AGAIN)),
    ("trust-list-unusable", replace(GOOD, trust=Freshness.STALE), denied(Reason.TRUST_LIST_STALE)),
    ("trust-list-unusable", NO_LISTS, denied(Reason.TRUST_LIST_STALE)),
    ("deny-list-unusable", replace(GOOD, deny=Freshness.STALE), denied(Reason.DENY_LIST_STALE)),
    ("deny-list-unusable", replace(GOOD, deny=Freshness.MISSING), denied(Reason.DENY_LIST_STALE)),
    (
        "identity-card-that-only-claims",
        replace(GOOD, who=replace(CARD, assurance=Assurance.CLAIMED, document=DocumentType.CITIZEN)),
        denied(Reason.LINK_AT_DESK),
    ),
    ("assurance-too-low", replace(GOOD, least_assurance=Assurance.HOLDER), denied(Reason.ASSURANCE_TOO_LOW)),
    ("ticket-list-unusable", replace(GOOD, tickets=Freshness.STALE), denied(Reason.TICKET_LIST_STALE)),
    (
        "ticket-list-unusable",
        replace(GOOD, tickets=Freshness.MISSING, right=Reason.NO_TICKET),
        denied(Reason.TICKET_LIST_STALE),
    ),
    ("nothing-bought", replace(GOOD, right=None), denied(Reason.NO_TICKET)),
    *[("nothing-fits", replace(GOOD, right=reason), denied(reason)) for reason in DENIALS],
    *[
        (
            "fare-above-limit",
            replace(GOOD, right=FARE, deny=Freshness.GRACE, value_limit=ValueLimit(299, reason)),
            denied(reason),
        )
        for reason in DENIALS
    ],
    ("torn-tap-recovered", replace(GOOD, right=AGAIN), Decision(Outcome.GRANT, Reason.RECOVERED, entitlement=AGAIN)),
    ("ride", GOOD, Decision(Outcome.GRANT, Reason.VALID, entitlement=RIDE)),
    *[
        (
            "ride",
            replace(GOOD, right=replace(RIDE, reason=reason)),
            Decision(Outcome.GRANT, reason, graced=True, entitlement=replace(RIDE, reason=reason)),
        )
        for reason in sorted(UNCERTAIN)
    ],
    ("ride", replace(GOOD, least_assurance=Assurance.CLAIMED), Decision(Outcome.GRANT, Reason.VALID, entitlement=RIDE)),
]

UP_TO_NOTHING = ValueLimit(0, Reason.DENY_LIST_STALE)
"""Under it whatever costs something is refused."""

CONTRADICTIONS = [
    *[replace(GOOD, right=FARE, value_limit=ValueLimit(299, reason)) for reason in GRANTS],
    *[replace(GOOD, who=Refusal(reason), right=FARE, value_limit=UP_TO_NOTHING) for reason in GRANTS],
    *[replace(GOOD, who=Refusal(reason)) for reason in GRANTS],
    *[replace(GOOD, right=reason) for reason in GRANTS],
    replace(GOOD, right=replace(AGAIN, rides=1)),
    replace(GOOD, right=replace(AGAIN, amount=1)),
    replace(GOOD, right=replace(RIDE, rides=-1)),
    replace(GOOD, right=replace(RIDE, amount=-1)),
    *[replace(GOOD, right=replace(RIDE, reason=reason)) for reason in [*DENIALS, Reason.RECOVERED]],
]


@pytest.mark.parametrize(
    ("name", "facts", "expected"), CASES, ids=[f"{name}-{case[2].reason.name}" for case in CASES for name in [case[0]]]
)
def test_each_row(name: str, facts: Facts, expected: Decision) -> None:
    assert decide(facts) == expected
    assert next(rule.name for rule in RULES if rule.applies(facts)) == name


def test_each_row_and_each_reason_has_a_case() -> None:
    assert {name for name, _, _ in CASES} == {rule.name for rule in RULES}
    assert {expected.reason for _, _, expected in CASES} == set(Reason)


@pytest.mark.parametrize("facts", CONTRADICTIONS)
def test_facts_that_contradict_each_other_ask_for_the_card_again(facts: Facts) -> None:
    assert decide(facts) == UNEXPECTED
    assert not UNEXPECTED.granted


@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, trust=Freshness.GRACE),
        replace(GOOD, deny=Freshness.GRACE),
        replace(GOOD, tickets=Freshness.GRACE),
        replace(GOOD, who=replace(CARD, early=True)),
        replace(GOOD, right=replace(RIDE, early=True)),
        replace(GOOD, right=replace(RIDE, doubtful=True)),
        replace(GOOD, right=AGAIN, deny=Freshness.GRACE),
        replace(GOOD, right=RIDE, deny=Freshness.GRACE, value_limit=UP_TO_NOTHING),
        replace(GOOD, right=Entitlement(CARNET), deny=Freshness.GRACE, value_limit=UP_TO_NOTHING),
        replace(GOOD, right=AGAIN, deny=Freshness.GRACE, value_limit=UP_TO_NOTHING),
        replace(GOOD, right=FARE, deny=Freshness.GRACE, value_limit=ValueLimit(300, Reason.DENY_LIST_STALE)),
    ],
)
def test_a_grant_under_uncertainty_is_marked(facts: Facts) -> None:
    decision = decide(facts)
    assert decision.granted
    assert decision.graced


IDENTITIES = [replace(CARD, assurance=rung, early=early) for rung in Assurance for early in (False, True)]
RIGHTS: list[Entitlement | Reason | None] = [
    None,
    *Reason,
    *[
        Entitlement(CARNET, rides, amount, recovers, early)
        for rides, amount, recovers, early in product((-1, 0, 1), (-1, 0, 1), (None, 3), (False, True))
    ],
    *[replace(RIDE, reason=reason) for reason in Reason],
]
FACTS = st.builds(
    Facts,
    who=st.sampled_from([*IDENTITIES, *map(Refusal, Reason)]),
    right=st.sampled_from(RIGHTS),
    trust=st.sampled_from(Freshness),
    deny=st.sampled_from(Freshness),
    tickets=st.sampled_from(Freshness),
    least_assurance=st.sampled_from(Assurance),
    value_limit=st.none() | st.builds(ValueLimit, amount=st.integers(-1, 2), reason=st.sampled_from(Reason)),
)


def every_check_holds(facts: Facts) -> bool:
    """Say it once more, in other words than the table's."""
    return (
        isinstance(facts.who, Identity)
        and facts.who.assurance >= facts.least_assurance
        and isinstance(facts.right, Entitlement)
        and {facts.trust, facts.deny, facts.tickets} <= {Freshness.FRESH, Freshness.GRACE}
        and min(facts.right.rides, facts.right.amount) >= 0
        and facts.right.reason in GRANTS - {Reason.RECOVERED}
        and (facts.value_limit is None or facts.right.amount <= facts.value_limit.amount)
        and (facts.right.recovers is None or (facts.right.rides, facts.right.amount) == (0, 0))
    )


def check(facts: Facts) -> None:
    decision = decide(facts)
    assert decision.granted == every_check_holds(facts)
    assert decision.granted == (decision.reason in GRANTS)
    assert decision.entitlement == (facts.right if decision.granted else None)
    assert decision.granted or not decision.graced


@given(FACTS)
def test_a_grant_means_that_every_check_held(facts: Facts) -> None:
    check(facts)


def test_every_combination_has_a_decision() -> None:
    """The space is small enough to walk through: freshness of each list, who, right, and what the place asks."""
    freshness = list(product(Freshness, repeat=3))
    people: list[Identity | Refusal] = [CARD, replace(CARD, assurance=Assurance.CLAIMED), *map(Refusal, Reason)]
    limits = (None, UP_TO_NOTHING)
    for who, right, (trust, deny, tickets), limit in product(people, RIGHTS, freshness, limits):
        check(Facts(who, right, trust, deny, tickets, Assurance.CHIP, limit))


@pytest.mark.parametrize("missing", [rule.name for rule in RULES if rule.outcome is Outcome.DENY])
def test_a_denying_row_that_gets_lost_opens_no_gate(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rest = tuple(rule for rule in RULES if rule.name != missing)
    monkeypatch.setattr("validator.decision.RULES", rest)
    for name, facts, _ in CASES:
        if name == missing:
            assert not decide(facts).granted
