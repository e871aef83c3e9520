"""What the lists in force are worth at one moment: how current each is, and what a ride may cost under them."""

from dataclasses import dataclass

from validator.decision import ValueLimit
from validator.list_facts import Freshness
from validator.lists.gate_rules import StalePolicies
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind
from validator.model import Instant, Reason
from validator.proof import BareKey, EnrolledUnder, Shown

_REASONS = {
    ListKind.TRUST: Reason.TRUST_LIST_STALE,
    ListKind.ENROLLED: Reason.TRUST_LIST_STALE,
    ListKind.DENY: Reason.DENY_LIST_STALE,
    ListKind.TICKETS: Reason.TICKET_LIST_STALE,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What the lists are worth for one card.

    Attributes:
        trust: Freshness of what vouches for the card.
        deny: Freshness of the deny list.
        tickets: Freshness of the ticket list.
        value_limit: The least limit of those that are past their date; None where none of them has one.
    """

    trust: Freshness
    deny: Freshness
    tickets: Freshness
    value_limit: ValueLimit | None


def standing(lists: InstalledLists, own: StalePolicies, at: Instant, shown: Shown | None) -> Standing:
    """Say what the lists in force are worth for a card.

    Args:
        lists: In force.
        own: What each list is worth past its date by the gate's own file.
        at: Now.
        shown: What the card showed; for a bare key or a name, enrolments vouch, as issuers do for others.
    """
    vouching = [ListKind.TRUST, *([ListKind.ENROLLED] if isinstance(shown, BareKey | EnrolledUnder) else [])]
    policies = {kind: lists.policy(kind, own) for kind in (*vouching, ListKind.DENY, ListKind.TICKETS)}
    current = {kind: lists.freshness(kind, at, policy) for kind, policy in policies.items()}
    limits = [
        ValueLimit(policy.value_limit, _REASONS[kind])
        for kind, policy in policies.items()
        if current[kind] is Freshness.GRACE and policy.value_limit is not None
    ]
    return Standing(
        trust=max(current[kind] for kind in vouching),
        deny=current[ListKind.DENY],
        tickets=current[ListKind.TICKETS],
        value_limit=min(limits, key=lambda limit: limit.amount, default=None),
    )
