"""What an inspector is told of a card: the state of its ticket here, how far the card was proved, and nothing more."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from validator import decision, entitlement
from validator.decision import Facts
from validator.families import NATIONAL_FAMILIES
from validator.lists.gate_rules import StalePolicies
from validator.lists.installed import InstalledLists, guest_at
from validator.model import Assurance, DocumentType, Identity, Instant, Reason, Refusal
from validator.position import NOWHERE, Position
from validator.reading import Reading
from validator.rendering import moment
from validator.rights import Decision, Entitlement, Product, Use
from validator.standing import standing

RUNGS = {
    Assurance.CLAIMED: "the card says so: anybody could have copied it",
    Assurance.SHARED_SECRET: "whoever holds it knows the number that is printed on the card",
    Assurance.CHIP: "the chip is genuine",
    Assurance.HOLDER: "the chip is genuine, and its holder gave the PIN",
}
"""The ladder in words."""

LAST_TAPS: Final = 5
"""So many of the card's last rides fit on a screen beside the rest."""


@dataclass(frozen=True, slots=True)
class Held:
    """One product that the credential holds.

    Attributes:
        product: What was bought; of another scheme where it is no ride.
        state: `VALID`, what is uncertain of it, or why it is not good here and now by itself.
    """

    product: Product
    state: Reason

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        product, told = self.product, self.product.conditions
        frames = [(frame.from_minute, frame.until_minute, frame.weekdays) for frame in sorted(told.time_frames)]
        return {
            "kind": product.kind.name.lower(),
            "scheme": told.scheme,
            "state": self.state.name,
            "valid_from": moment((product.valid_from + told.day_starts_s) * 1000),
            "valid_until": moment((product.valid_until + told.day_starts_s) * 1000),
            "places": sorted(product.places),
            "zones": sorted(told.zones),
            "networks": sorted(told.networks),
            "time_frames": frames,
            "rider": told.rider,
            "riders": told.riders,
            "proof_until": moment(told.proof_until * 1000) if told.proof_until else None,
            "rides": product.rides,
            "balance": product.balance,
            "floor": told.floor,
        }


@dataclass(frozen=True, slots=True)
class Inspection:
    """What came of an inspection.

    Attributes:
        who: What is believed of the card, or why nothing is.
        verdict: What a gate at this place would do that takes any rung of the ladder. Rides that gates granted since
            the lists were made are not counted: only their journals know.
        held: What the credential holds.
        taps: Its last rides that this device granted, the newest first.
    """

    who: Identity | Refusal
    verdict: Decision
    held: tuple[Held, ...]
    taps: tuple[Use, ...] = ()

    @property
    def tickets(self) -> list[Held]:
        """What is held for rides."""
        return [each for each in self.held if not each.product.conditions.scheme]

    @property
    def rights(self) -> list[Held]:
        """What is held of other schemes."""
        return [each for each in self.held if each.product.conditions.scheme]

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
            "tickets": [each.to_dict() for each in self.tickets],
            "rights": [each.to_dict() for each in self.rights],
            "taps": [_tap(use) for use in self.taps],
        }


def inspect(
    found: Reading,
    lists: InstalledLists,
    stale: StalePolicies,
    place: str,
    at: Instant,
    *,
    guest_pass_back_s: int | None = None,
    position: Position = NOWHERE,
    uses: Sequence[Use] = (),
) -> Inspection:
    """Say what a card's ticket is worth here and now.

    Args:
        found: What the card showed.
        lists: In force on this device.
        stale: What each list is worth past its date, where no signed configuration says it.
        place: Where the inspector stands.
        at: Now.
        guest_pass_back_s: As at the gates there; None where no guests are admitted.
        position: Zones, network and wall clock there.
        uses: What this device granted the card.

    Raises:
        ListError: The ticket list or the status list cannot be read any more.
    """
    who, products = found.who, tuple[Product, ...]()
    right: Entitlement | Reason | None = None
    if isinstance(who, Identity):
        products = tuple(lists.products(who.credential_id))
        guest = None if products else guest_at(guest_pass_back_s, who, lists, stale, at)
        right = entitlement.assess(products, (), 0, place, at, document=who.document, guest=guest, position=position)
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
    document = who.document if isinstance(who, Identity) else None
    held = tuple(Held(product, _state(product, place, at, document, position)) for product in products)
    taps = sorted(uses, key=lambda use: use.seq, reverse=True)[:LAST_TAPS]
    return Inspection(who, verdict, held, tuple(taps))


def _state(product: Product, place: str, at: Instant, document: DocumentType | None, position: Position) -> Reason:
    """Say what a product is worth here and now by itself; of another scheme as if it were a ride."""
    ride = replace(product, conditions=product.conditions._replace(scheme=""))
    found = entitlement.assess([ride], (), 0, place, at, document=document, position=position)
    return found if isinstance(found, Reason) else found.reason


def _tap(use: Use) -> dict[str, Any]:
    return {
        "seq": use.seq,
        "at": moment(use.wall_ms),
        "place": use.place,
        "rides": use.rides,
        "amount": use.amount,
        "seen": use.ratified,
        "recovers": use.recovers,
    }
