"""What an inspector is told of a card: the state of its ticket here, how far the card was proved, and nothing more."""

from dataclasses import dataclass
from typing import Any

from validator import decision, entitlement
from validator.decision import Facts
from validator.families import NATIONAL_FAMILIES
from validator.lists.gate_rules import StalePolicies
from validator.lists.installed import InstalledLists, guest_at
from validator.model import Assurance, Decision, Entitlement, Identity, Instant, Product, Reason, Refusal
from validator.reading import Reading
from validator.rendering import moment
from validator.standing import standing

RUNGS = {
    Assurance.CLAIMED: "the card says so: anybody could have copied it",
    Assurance.SHARED_SECRET: "whoever holds it knows the number that is printed on the card",
    Assurance.CHIP: "the chip is genuine",
    Assurance.HOLDER: "the chip is genuine, and its holder gave the PIN",
}
"""The ladder in words."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What came of an inspection.

    Attributes:
        who: What is believed of the card, or why nothing is.
        verdict: What a gate at this place would do that takes any rung of the ladder. Rides that gates granted since
            the lists were made are not counted: only their journals know.
        products: What the credential holds.
    """

    who: Identity | Refusal
    verdict: Decision
    products: tuple[Product, ...]

    @property
    def compare_photo(self) -> bool:
        """Whether the inspector has to look at the photo: a national card that its holder has not given a PIN for."""
        if not isinstance(self.who, Identity):
            return False
        return self.who.profile in NATIONAL_FAMILIES and self.who.assurance < Assurance.HOLDER

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        rung = self.who.assurance if isinstance(self.who, Identity) else None
        return {
            "event": "inspected",
            "valid": self.verdict.granted,
            "reason": self.verdict.reason.name,
            "graced": self.verdict.graced,
            "profile": self.who.profile,
            "assurance": None if rung is None else rung.name,
            "compare_photo": self.compare_photo,
            "tickets": [_ticket(product) for product in self.products],
        }


def inspect(
    found: Reading,
    lists: InstalledLists,
    stale: StalePolicies,
    place: str,
    at: Instant,
    *,
    guest_pass_back_s: int | None = None,
) -> Inspection:
    """Say what a card's ticket is worth here and now.

    Args:
        found: What the card showed.
        lists: In force on this device.
        stale: What each list is worth past its date, where no signed configuration says it.
        place: Where the inspector stands.
        at: Now.
        guest_pass_back_s: As at the gates there; None where no guests are admitted.

    Raises:
        ListError: The ticket list or the status list cannot be read any more.
    """
    who, products = found.who, tuple[Product, ...]()
    right: Entitlement | Reason | None = None
    if isinstance(who, Identity):
        products = tuple(lists.products(who.credential_id))
        guest = None if products else guest_at(guest_pass_back_s, who, lists, stale, at)
        right = entitlement.assess(products, (), 0, place, at, document=who.document, guest=guest)
    worth = standing(lists, stale, at, found.shown)
    verdict = decision.decide(
        Facts(
            who=who,
            right=right,
            trust=worth.trust,
            deny=worth.deny,
            tickets=worth.tickets,
            least_assurance=Assurance.CLAIMED,
            value_limit=worth.value_limit,
        )
    )
    return Inspection(who, verdict, products)


def _ticket(product: Product) -> dict[str, Any]:
    return {
        "kind": product.kind.name.lower(),
        "valid_from": moment(product.valid_from * 1000),
        "valid_until": moment(product.valid_until * 1000),
        "places": sorted(product.places),
        "rides": product.rides,
        "balance": product.balance,
    }
