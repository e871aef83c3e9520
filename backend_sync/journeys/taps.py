"""A tap, as far as journeys need it: what the ledger keeps of it, and how many travel by it."""

from typing import Annotated

import msgspec

from validator.model import Label

TapOrder = tuple[int, str, int, int]


class JourneyTap(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """One tap, once; `device`, `epoch` and `seq` name it, as in the ledger.

    Attributes:
        card: Who travels: a credential, or the account that the back office knows it by.
        at_s: Seconds since 1970 UTC.
        device: The gate's, or the desk's that says where a journey ended.
        epoch: Of its journal.
        seq: Its number there.
        place: Stop, gate line or vehicle, as the gate is configured.
        product_id: What paid; None for a guest.
        granted: Whether the gate opened.
        stop: Where the vehicle was; empty where the place does not move.
        route: What the vehicle ran as; empty where the place says it.
        riders: How many travel by this tap.
        label: What the lane calls it.
        tariff: Version of the tariff in force at the gate; 0 where it has none.
        recovers: Sequence number of the torn tap that this one repeats, or None.
        amount: Minor units that the gate took at once.
    """

    card: bytes
    at_s: int
    device: str
    epoch: int
    seq: int
    place: str
    product_id: int | None
    granted: bool
    stop: str = ""
    route: str = ""
    riders: Annotated[int, msgspec.Meta(ge=1, le=99)] = 1
    label: Label = Label.NONE
    tariff: int = 0
    recovers: int | None = None
    amount: int = 0

    @property
    def order(self) -> TapOrder:
        """What taps are sorted by: time, then their name, so that a set of them has one order."""
        return self.at_s, self.device, self.epoch, self.seq

    @property
    def key(self) -> tuple[str, int, int]:
        """What names it in the ledger."""
        return self.device, self.epoch, self.seq

    @property
    def name(self) -> str:
        """What people call it."""
        return f"tap {self.device} {self.epoch} {self.seq}"
