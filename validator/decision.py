"""The decision: an ordered table of rules over what is known. The first rule that applies decides.

Denials come first; the two rules that grant ask for everything again, so that a rule taken out above them cannot open
the gate. What no rule expects is a denial that asks for the card once more, and an exception here grants nothing: the
caller records a tap only from a decision.
"""

from collections.abc import Callable
from dataclasses import dataclass

from validator.list_facts import Freshness
from validator.model import Assurance, Identity, Outcome, Reason, Refusal
from validator.rights import Decision, Entitlement


@dataclass(frozen=True, slots=True)
class ValueLimit:
    """The greatest fare that is granted while a list is past its date.

    Attributes:
        amount: In minor units.
        reason: Why a greater one is refused: the list's own reason.
    """

    amount: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a decision is made from.

    Attributes:
        who: What is believed of the card, or why it is not believed.
        right: What pays for the ride, or why nothing does; None where nobody asked.
        trust: Freshness of the trust list.
        deny: Freshness of the deny list.
        tickets: Freshness of the ticket list.
        least_assurance: The least that this place asks of an identity.
        value_limit: The least limit of the lists that are past their date; None where none of them has one.
    """

    who: Identity | Refusal
    right: Entitlement | Reason | None
    trust: Freshness
    deny: Freshness
    tickets: Freshness
    least_assurance: Assurance
    value_limit: ValueLimit | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table.

    Attributes:
        name: Names the row in tests.
        applies: Whether this row decides.
        reason: The reason, or how the facts say it themselves.
        outcome: What the gate does.
    """

    name: str
    applies: Callable[[Facts], bool]
    reason: Reason | Callable[[Facts], Reason]
    outcome: Outcome = Outcome.DENY


RIDING = frozenset({Reason.VALID, Reason.FIRST_RIDE, Reason.POSITION_UNKNOWN})
"""Reasons for a ride of its own: nothing was uncertain of the right, or what was."""

GRANTING = RIDING | {Reason.RECOVERED}
"""Reasons that only a grant may carry."""


def _unusable(freshness: Freshness) -> bool:
    return freshness >= Freshness.STALE


def _refused_reason(facts: Facts) -> Reason:
    return facts.who.reason if isinstance(facts.who, Refusal) else UNEXPECTED.reason


def _right_reason(facts: Facts) -> Reason:
    return facts.right if isinstance(facts.right, Reason) else UNEXPECTED.reason


def _above_limit(facts: Facts) -> bool:
    return (
        facts.value_limit is not None
        and isinstance(facts.right, Entitlement)
        and facts.right.amount > facts.value_limit.amount
    )


def _limit_reason(facts: Facts) -> Reason:
    if facts.value_limit is None or facts.value_limit.reason in GRANTING:
        return UNEXPECTED.reason
    return facts.value_limit.reason


def _may_ride(facts: Facts) -> bool:
    return (
        isinstance(facts.who, Identity)
        and facts.who.assurance >= facts.least_assurance
        and isinstance(facts.right, Entitlement)
        and facts.right.rides >= 0
        and facts.right.amount >= 0
        and facts.right.reason in RIDING
        and not _above_limit(facts)
        and not any(_unusable(freshness) for freshness in (facts.trust, facts.deny, facts.tickets))
    )


def _recovers(facts: Facts) -> bool:
    return isinstance(facts.right, Entitlement) and facts.right.recovers is not None


def _ride_reason(facts: Facts) -> Reason:
    return facts.right.reason if isinstance(facts.right, Entitlement) else UNEXPECTED.reason


def _takes_nothing(facts: Facts) -> bool:
    return isinstance(facts.right, Entitlement) and facts.right.rides == 0 and facts.right.amount == 0


_VOUCHED_BY_LISTS = frozenset({Reason.UNTRUSTED_ISSUER, Reason.NOT_ENROLLED})
"""Refusals that a newer list might not have made."""

RULES: tuple[Rule, ...] = (
    Rule(
        "issuer-unknown-without-trust-list",
        lambda f: isinstance(f.who, Refusal) and f.who.reason in _VOUCHED_BY_LISTS and _unusable(f.trust),
        Reason.TRUST_LIST_STALE,
    ),
    Rule("card-not-believed", lambda f: isinstance(f.who, Refusal) and f.who.reason not in GRANTING, _refused_reason),
    Rule("trust-list-unusable", lambda f: _unusable(f.trust), Reason.TRUST_LIST_STALE),
    Rule("deny-list-unusable", lambda f: _unusable(f.deny), Reason.DENY_LIST_STALE),
    Rule(
        "identity-card-that-only-claims",
        lambda f: isinstance(f.who, Identity) and f.who.document is not None and f.who.assurance < f.least_assurance,
        Reason.LINK_AT_DESK,
    ),
    Rule(
        "assurance-too-low",
        lambda f: isinstance(f.who, Identity) and f.who.assurance < f.least_assurance,
        Reason.ASSURANCE_TOO_LOW,
    ),
    Rule("ticket-list-unusable", lambda f: _unusable(f.tickets), Reason.TICKET_LIST_STALE),
    Rule("nothing-bought", lambda f: isinstance(f.who, Identity) and f.right is None, Reason.NO_TICKET),
    Rule(
        "nothing-fits",
        lambda f: isinstance(f.who, Identity) and isinstance(f.right, Reason) and f.right not in GRANTING,
        _right_reason,
    ),
    Rule("fare-above-limit", lambda f: isinstance(f.who, Identity) and _above_limit(f), _limit_reason),
    Rule(
        "torn-tap-recovered",
        lambda f: _may_ride(f) and _recovers(f) and _takes_nothing(f),
        Reason.RECOVERED,
        Outcome.GRANT,
    ),
    Rule("ride", lambda f: _may_ride(f) and not _recovers(f), _ride_reason, Outcome.GRANT),
)

UNEXPECTED = Decision(Outcome.DENY, Reason.PRESENT_AGAIN)
"""For facts that contradict each other, such as a refusal because the card is valid."""


def decide(facts: Facts) -> Decision:
    """Decide. Total: every combination of facts has a decision, and only two rows of the table grant."""
    for rule in RULES:
        if rule.applies(facts):
            reason = rule.reason if isinstance(rule.reason, Reason) else rule.reason(facts)
            return _granted(facts, reason) if rule.outcome is Outcome.GRANT else Decision(Outcome.DENY, reason)
    return UNEXPECTED


def _granted(facts: Facts, reason: Reason) -> Decision:
    if not isinstance(facts.who, Identity) or not isinstance(facts.right, Entitlement):
        return UNEXPECTED
    stale = Freshness.GRACE in (facts.trust, facts.deny, facts.tickets)
    uncertain = stale or facts.who.early or facts.right.uncertain or facts.right.reason is not Reason.VALID
    return Decision(Outcome.GRANT, reason, graced=uncertain, entitlement=facts.right)
