"""The signed configuration of a region's gates: what each list is worth once it is past its date.

    {"format":1,"stale":{"deny":{"grace_s":259200,"then":"refuse","value_limit":500},...}}

It is JSON in one spelling, so that whoever looks into the file sees what is in force. What it says is kept past its own
date, until a newer one comes. A kind that it does not name is left to the gate's own file.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

from validator.lists.errors import ListError
from validator.lists.manifest import ListKind
from validator.lists.product_rules import MAX_AMOUNT

FORMAT: Final = 1
HOUR_S: Final = 3600
MAX_GRACE_S: Final = 10 * 366 * 24 * HOUR_S
"""Ten years: longer than any list is fresh, and a bound that no clock's arithmetic reaches."""
MAX_BYTES: Final = 4096

_UNLIKE: Final = "not a configuration of gates"


class StalePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a list is worth when a gate has had no newer one for too long.

    Attributes:
        grace_s: For how many seconds past its date it still serves, each grant marked as graced.
        value_limit: The greatest fare, in minor units, that is granted meanwhile; None for any.
        then: After the grace, ``refuse``; or ``keep``, so that what holds within a grace holds without end. A grace
            that does not end has no length, and `grace_s` is 0.
    """

    grace_s: Annotated[int, msgspec.Meta(ge=0, le=MAX_GRACE_S)] = 0
    value_limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)] | None = None
    then: Literal["refuse", "keep"] = "refuse"

    def __post_init__(self) -> None:
        if self.then == "keep" and self.grace_s:
            raise ValueError(f"grace_s {self.grace_s} has no meaning for a list that is kept")


StalePolicies = Mapping[ListKind, StalePolicy]

KEEP: Final = StalePolicy(then="keep")
"""The last one serves until a newer one comes."""

ALWAYS_KEPT: Final[Mapping[ListKind, str]] = MappingProxyType(
    {ListKind.CONFIG: "itself", ListKind.TARIFF: "the tariff"}
)
"""What no configuration speaks of, and how it calls it: an old one is better than none, and stops nobody."""


def policies(trust: StalePolicy, deny: StalePolicy, tickets: StalePolicy) -> StalePolicies:
    """Say for every kind what it is worth past its date.

    Args:
        trust: For whoever vouches for cards: issuers and enrolments.
        deny: For the deny list.
        tickets: For what was sold.
    """
    return MappingProxyType(
        {
            ListKind.TRUST: trust,
            ListKind.ENROLLED: trust,
            ListKind.DENY: deny,
            ListKind.TICKETS: tickets,
            ListKind.STATUS: StalePolicy(),  # what another region says of a card today is not believed tomorrow
            ListKind.CONFIG: KEEP,
            ListKind.TARIFF: KEEP,
        }
    )


DEFAULTS: Final = policies(
    trust=KEEP,
    deny=StalePolicy(72 * HOUR_S, value_limit=500),
    tickets=StalePolicy(96 * HOUR_S),
)
"""What is published for a kind that nobody says anything of."""


class GateRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a region asks of its gates. New fields are a new format number.

    Attributes:
        stale: By kind, what a list is worth past its date.
        format: Of the document.
    """

    stale: dict[ListKind, StalePolicy]
    format: Literal[1] = FORMAT

    def __post_init__(self) -> None:
        for kind, what in ALWAYS_KEPT.items():
            if kind in self.stale:
                raise ValueError(f"a configuration says nothing of {what}: the last one is kept")


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(GateRules)


def encode_gate_rules(rules: GateRules) -> bytes:
    """Return the payload; `parse_gate_rules` takes no other spelling."""
    return _ENCODER.encode(rules)


def parse_gate_rules(data: bytes, where: object = "configuration") -> GateRules:
    """Read a payload.

    Args:
        data: Its bytes.
        where: What to call it in an error.

    Raises:
        ListError: It is not what `encode_gate_rules` writes.
    """
    if len(data) > MAX_BYTES:
        raise ListError(where, f"{_UNLIKE}: {len(data)} bytes, of {MAX_BYTES} at most")
    try:
        rules = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ListError(where, f"{_UNLIKE}: {error}") from None
    if encode_gate_rules(rules) != data:
        raise ListError(where, f"{_UNLIKE}: spelt otherwise than a publisher spells it")
    return rules
