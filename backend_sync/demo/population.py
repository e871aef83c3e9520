"""Who comes to the gate: a seeded crowd, not all of it happy.

Every outcome follows from the passenger, never from how fast the machine is, so that the same seed gives the same
reasons. Keys are fresh each time: no demo card is ever the same as another.
"""

import datetime as dt
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto, unique

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend_sync.demo.issuer import CLIENT_AUTH, DAY, ID_PIV_CARD_AUTH, CardKey, Issuer
from hardware.medium import Technology
from validator.model import CREDENTIAL_ID_BYTES, Reason
from validator.rights import Product, ProductKind

HOUR_S = 3600
DAY_S = 24 * HOUR_S
TORN_AT_THE_END = -1
"""The card leaves right after the last answer that the gate needs, before the signal."""


@unique
class Persona(StrEnum):
    """A kind of passenger."""

    SEASON_RIDER = "season ticket"
    CARNET_RIDER = "carnet"
    PURSE_RIDER = "purse"
    GROUP_LEADER = "group on one purse"
    RSA_RIDER = "RSA card"
    SECOND_TAPPER = "passes the card back"
    TORN_AWAY = "card torn away"
    TORN_BEFORE_LIGHT = "torn before the light"
    EXPIRED_CARD = "expired card"
    FUTURE_CARD = "card not yet valid"
    REVOKED_CARD = "revoked card"
    FOREIGN_CARD = "wrong issuer"
    OFFICE_CARD = "wrong key usage"
    CLONED_CARD = "cloned certificate"
    TICKETLESS = "no ticket"
    OLD_TICKET = "ticket expired"
    JUST_BOUGHT = "bought a moment ago"
    OTHER_CITY = "ticket for elsewhere"
    USED_UP = "carnet used up"
    EMPTY_PURSE = "purse nearly empty"
    UNKNOWN_FAMILY = "unknown card family"


@unique
class _Make(Enum):
    """How a card differs from an honest one."""

    HONEST = auto()
    RSA = auto()
    EXPIRED = auto()
    FUTURE = auto()
    REVOKED = auto()
    FOREIGN = auto()
    OFFICE = auto()
    CLONE = auto()
    UNKNOWN = auto()


#: Times are relative to the day, and no place means the gate's own, until the product is sold.
_PASS = Product(
    product_id=0,
    kind=ProductKind.PERIOD_PASS,
    valid_from=-DAY_S,
    valid_until=30 * DAY_S,
    active_from=-DAY_S,
    pass_back_s=HOUR_S,
)
_CARNET = replace(_PASS, kind=ProductKind.CARNET, rides=10)
_PURSE = replace(_PASS, kind=ProductKind.STORED_VALUE, balance=1_000, fare=200, pass_back_s=0)
_ELSEWHERE = replace(_PASS, places=frozenset({"elsewhere"}))


@dataclass(frozen=True, slots=True)
class _Recipe:
    """One row of the crowd's table: how often, with what card and ticket, and how each tap should end."""

    weight: int
    reasons: tuple[Reason, ...]
    make: _Make = _Make.HONEST
    product: Product | None = _PASS
    tears: bool = False


_RECIPES: dict[Persona, _Recipe] = {
    Persona.SEASON_RIDER: _Recipe(30, (Reason.VALID,)),
    Persona.CARNET_RIDER: _Recipe(12, (Reason.VALID,), product=_CARNET),
    Persona.PURSE_RIDER: _Recipe(12, (Reason.VALID,), product=_PURSE),
    Persona.GROUP_LEADER: _Recipe(4, (Reason.VALID,) * 3, product=_PURSE),
    Persona.RSA_RIDER: _Recipe(8, (Reason.VALID,), make=_Make.RSA),
    Persona.SECOND_TAPPER: _Recipe(4, (Reason.VALID, Reason.PASS_BACK)),
    Persona.TORN_AWAY: _Recipe(4, (Reason.PRESENT_AGAIN, Reason.VALID), product=_CARNET, tears=True),
    Persona.TORN_BEFORE_LIGHT: _Recipe(3, (Reason.VALID, Reason.RECOVERED), product=_CARNET, tears=True),
    Persona.EXPIRED_CARD: _Recipe(1, (Reason.CERTIFICATE_EXPIRED,), make=_Make.EXPIRED),
    Persona.FUTURE_CARD: _Recipe(1, (Reason.CERTIFICATE_NOT_YET_VALID,), make=_Make.FUTURE),
    Persona.REVOKED_CARD: _Recipe(1, (Reason.REVOKED,), make=_Make.REVOKED),
    Persona.FOREIGN_CARD: _Recipe(1, (Reason.UNTRUSTED_ISSUER,), make=_Make.FOREIGN),
    Persona.OFFICE_CARD: _Recipe(1, (Reason.WRONG_KEY_USAGE,), make=_Make.OFFICE),
    Persona.CLONED_CARD: _Recipe(1, (Reason.WRONG_SIGNATURE,), make=_Make.CLONE),
    Persona.TICKETLESS: _Recipe(1, (Reason.NO_TICKET,), product=None),
    Persona.OLD_TICKET: _Recipe(
        1, (Reason.TICKET_EXPIRED,), product=replace(_PASS, valid_from=-40 * DAY_S, valid_until=-10 * DAY_S)
    ),
    Persona.JUST_BOUGHT: _Recipe(1, (Reason.TICKET_NOT_YET_ACTIVE,), product=replace(_PASS, active_from=6 * HOUR_S)),
    Persona.OTHER_CITY: _Recipe(1, (Reason.NOT_VALID_HERE,), product=_ELSEWHERE),
    Persona.USED_UP: _Recipe(1, (Reason.VALID, Reason.RIDES_USED_UP), product=replace(_CARNET, rides=1, pass_back_s=0)),
    Persona.EMPTY_PURSE: _Recipe(1, (Reason.VALID, Reason.BALANCE_TOO_LOW), product=replace(_PURSE, balance=220)),
    Persona.UNKNOWN_FAMILY: _Recipe(1, (Reason.UNKNOWN_MEDIUM,), make=_Make.UNKNOWN, product=None),
}


@dataclass(frozen=True, slots=True)
class Card:
    """A card to be made: what is on it and how it speaks.

    Attributes:
        key: Its private key.
        certificate: Its certificate, DER; of another key on a clone; None on a card of an unknown family.
        technology: Type A or B.
        model: Name of the chip whose compute times are modelled.
    """

    key: CardKey
    certificate: bytes | None
    technology: Technology
    model: str

    @property
    def credential_id(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo, first 16 bytes."""
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).digest()[:CREDENTIAL_ID_BYTES]


def new_key() -> CardKey:
    """Return the key of a new card; no demo card is ever the same as another."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class Visit:
    """One passenger at the gate.

    Attributes:
        persona: Who.
        card: With what.
        reasons: What each of the taps should end in, in order.
        tear_after: APDUs that the first tap's card answers before it is torn away, `TORN_AT_THE_END`, or None.
    """

    persona: str
    card: Card
    reasons: tuple[Reason, ...]
    tear_after: int | None


@dataclass(frozen=True, slots=True)
class Crowd:
    """A crowd and what the depot must know of it before it comes.

    Attributes:
        visits: In order of arrival.
        products: What was sold, with the credential id that holds it.
        revoked: Credential ids for the deny list.
    """

    visits: list[Visit] = field(default_factory=list)
    products: list[tuple[bytes, Product]] = field(default_factory=list)
    revoked: list[bytes] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """How many taps should end in each reason, by name."""
        counted = Counter(reason.name for visit in self.visits for reason in visit.reasons)
        return dict(sorted(counted.items()))


@dataclass(slots=True)
class CrowdMaker:
    """Makes crowds.

    Attributes:
        issuer: Issues the cards that the gate trusts.
        stranger: Issues those that it does not.
        place: Where the gate stands.
        now: The day's date, UTC.
        rng: Decides who comes; seeded.
    """

    issuer: Issuer
    stranger: Issuer
    place: str
    now: dt.datetime
    rng: random.Random
    _crowd: Crowd = field(default_factory=Crowd)

    def make(self, taps: int, progress: Callable[[int], None] = lambda _taps: None) -> Crowd:
        """Make a crowd of exactly `taps` taps; `progress` is told how many each visit adds."""
        for persona in self._draw(taps):
            recipe = _RECIPES[persona]
            visit = Visit(persona, self._card(recipe.make), recipe.reasons, self._tear(persona, recipe))
            if recipe.product is not None:
                self._sell(visit.card.credential_id, recipe.product)
            self._crowd.visits.append(visit)
            progress(len(visit.reasons))
        return self._crowd

    def _draw(self, taps: int) -> Iterator[Persona]:
        """Everybody once if there is room, the rest by weight, shuffled, and just enough taps."""
        everybody = list(Persona)
        needed = sum(len(recipe.reasons) for recipe in _RECIPES.values())
        drawn = everybody if taps >= needed else []
        room = taps - needed if drawn else taps
        weights = [_RECIPES[persona].weight for persona in Persona]
        while room > 0:
            persona = self.rng.choices(list(Persona), weights)[0]
            cost = len(_RECIPES[persona].reasons)
            if cost <= room:
                drawn.append(persona)
                room -= cost
        self.rng.shuffle(drawn)
        yield from drawn

    def _tear(self, persona: Persona, recipe: _Recipe) -> int | None:
        if not recipe.tears:
            return None
        # SELECT, first block, at least one more block, challenge: four answers are never all that a new card gives.
        return TORN_AT_THE_END if persona is Persona.TORN_BEFORE_LIGHT else self.rng.randrange(4)

    def _sell(self, credential_id: bytes, template: Product) -> None:
        now_s = int(self.now.timestamp())
        product = replace(
            template,
            product_id=len(self._crowd.products) + 1,
            valid_from=now_s + template.valid_from,
            valid_until=now_s + template.valid_until,
            active_from=now_s + template.active_from,
            places=template.places or frozenset({self.place}),
        )
        self._crowd.products.append((credential_id, product))

    def _card(self, make: _Make) -> Card:
        key = rsa.generate_private_key(65537, 2048) if make is _Make.RSA else new_key()
        technology = self.rng.choices((Technology.TYPE_A, Technology.TYPE_B), (3, 1))[0]
        model = self.rng.choices(("jcop4-p71", "jcop3-p60"), (4, 1))[0]
        certificate = None if make is _Make.UNKNOWN else self._certificate(key, make)
        card = Card(key, certificate, technology, model)
        if make is _Make.REVOKED:
            self._crowd.revoked.append(card.credential_id)
        if make is _Make.CLONE:
            return replace(card, key=new_key())
        return card

    def _certificate(self, key: CardKey, make: _Make) -> bytes:
        issuer = self.stranger if make is _Make.FOREIGN else self.issuer
        start = self.now + 7 * DAY if make is _Make.FUTURE else self.now - 9 * DAY
        end = self.now - DAY if make is _Make.EXPIRED else self.now + 1825 * DAY
        return issuer.issue(key, start, end, usage=CLIENT_AUTH if make is _Make.OFFICE else ID_PIV_CARD_AUTH)
