"""A file of sales, as sellers hand it in: one JSON object a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from backend_sync.publish_errors import PublishError
from backend_sync.sales import Sale
from backend_sync.text_lines import lines_of
from validator.conditions import Conditions, TimeFrame
from validator.model import Assurance
from validator.rights import Product, ProductKind

_CLOCK = r"^([0-3]\d|4[0-8]):[0-5]\d$"
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Days = Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=7)], ...], msgspec.Meta(min_length=1)]


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours of some weekdays in which a product is valid.

    Attributes:
        from_: First minute, ``HH:MM``; beyond 24:00 for the night after a service day's date.
        until: First minute after it.
        weekdays: 1 is Monday, 7 is Sunday.
    """

    from_: Annotated[str, msgspec.Meta(pattern=_CLOCK)] = msgspec.field(name="from")
    until: Annotated[str, msgspec.Meta(pattern=_CLOCK)]
    weekdays: _Days = (1, 2, 3, 4, 5, 6, 7)

    def frame(self) -> TimeFrame:
        """Return the same in minutes and bits."""
        bits = sum(1 << (day - 1) for day in set(self.weekdays))
        return TimeFrame(_minute(self.from_), _minute(self.until), bits)


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


class SaleLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a sales file. Times are seconds since 1970 UTC, money is in minor units.

    Attributes:
        sale: Number of the sale, unique for ever; recording it twice changes nothing.
        credential_id: Whose, 32 hexadecimal digits.
        kind: What was sold.
        price: What was paid.
        sold: When.
        valid_from: First second of validity.
        valid_until: First second after it.
        active_from: When the first ride is allowed; left out, when validity begins.
        rides: Rides of a carnet.
        balance: Value loaded, or the deposit of pay as you go.
        fare: What one tap takes from stored value, or costs at most with pay as you go.
        pass_back_s: Seconds within which a second ride at the same place is refused.
        places: Where it is valid; empty is everywhere.
        residents_only: A concession: an identity card that is tapped for it has to be a resident's.
        least_assurance: Least proof that a gate takes a ride for: the chip's, or its holder's with a PIN.
        rider: The rider category that it is for.
        medium: The fare medium that it is on.
        riders: How many travel on one tap, the holder counted.
        zones: Zones where it is valid, beside its places.
        networks: Networks that it is valid in; empty is all.
        hours: When it is valid; empty is always.
        day_starts_s: When its service day begins, seconds after midnight.
        scheme: Whose right it is, where it is no ride; empty is a ride.
        floor: How far below zero pay as you go may run.
        proof_until: When the proof of a concession ends; 0 is never.
    """

    sale: _Count
    credential_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{32}$")]
    kind: Literal["period_pass", "carnet", "stored_value", "pay_as_you_go"]
    price: _Count
    sold: _Count
    valid_from: _Count
    valid_until: _Count
    active_from: _Count | None = None
    rides: _Count = 0
    balance: _Count = 0
    fare: _Count = 0
    pass_back_s: _Count = 0
    places: list[str] = []
    residents_only: bool = False
    least_assurance: Literal["chip", "holder"] = "chip"
    rider: str = ""
    medium: str = ""
    riders: _Count = 1
    zones: list[str] = []
    networks: list[str] = []
    hours: list[Hours] = []
    day_starts_s: _Count = 0
    scheme: str = ""
    floor: _Count = 0
    proof_until: _Count = 0

    def sale_of(self) -> Sale:
        """Return the sale that the line tells of.

        Raises:
            ValueError: Nobody can have sold that.
        """
        for wrong, why in self._impossible():
            if wrong:
                raise ValueError(f"sale {self.sale}: {why}")
        product = Product(
            product_id=self.sale,
            kind=ProductKind[self.kind.upper()],
            valid_from=self.valid_from,
            valid_until=self.valid_until,
            active_from=self.valid_from if self.active_from is None else self.active_from,
            rides=self.rides,
            balance=self.balance,
            fare=self.fare,
            pass_back_s=self.pass_back_s,
            places=frozenset(self.places),
            residents_only=self.residents_only,
            least_assurance=Assurance[self.least_assurance.upper()],
            conditions=Conditions(
                rider=self.rider,
                medium=self.medium,
                riders=self.riders,
                zones=frozenset(self.zones),
                networks=frozenset(self.networks),
                time_frames=frozenset(hours.frame() for hours in self.hours),
                day_starts_s=self.day_starts_s,
                scheme=self.scheme,
                floor=self.floor,
                proof_until=self.proof_until,
            ),
        )
        return Sale(bytes.fromhex(self.credential_id), product, self.price, self.sold * 1000)

    def _impossible(self) -> Iterator[tuple[bool, str]]:
        """Say what a seller cannot have meant; what no gate can decide by, the sale itself refuses."""
        carnet, stored_value, later = (self.kind == kind for kind in ("carnet", "stored_value", "pay_as_you_go"))
        yield (self.active_from or 0) >= self.valid_until, "active_from is not before valid_until"
        yield carnet and not self.rides, "a carnet without rides"
        yield not carnet and bool(self.rides), f"rides on a {self.kind}"
        yield stored_value and not self.balance, "stored value without a balance"
        yield stored_value and not self.fare, "stored value without a fare: every ride would be free"
        yield (
            later and not self.balance and not self.floor,
            "pay as you go without a deposit or a floor: it never rides",
        )
        moneyed = stored_value or later
        yield not moneyed and bool(self.balance or self.fare), f"a balance or a fare on a {self.kind}"


def sales_in(file: Path) -> Iterator[Sale]:
    """Yield the sales of a file; a line that begins with # is a comment.

    Raises:
        InputMissing: It cannot be read.
        PublishError: A line is no sale.
    """
    for number, line in lines_of(file):
        try:
            yield msgspec.json.decode(line, type=SaleLine).sale_of()
        except (msgspec.DecodeError, ValueError) as error:
            raise PublishError(f"{file}, line {number}: {error}") from None
