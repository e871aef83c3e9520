"""Double entry: what a tap or a sale moves, in integers. The two sides of every movement sum to zero.

Accounts, each kept per unit (minor units of money, rides):

- ``stored-value`` and ``carnet`` of a product hold what its passenger may still spend;
- ``fare-revenue`` and ``rides-used`` hold what taps have taken;
- ``sales-revenue`` holds what was paid for passes, carnets and fees, less bonuses loaded;
- ``tender`` is what passengers paid in, and ``rides-issued`` the rides that sales created; both run below zero.
"""

from dataclasses import dataclass
from enum import StrEnum, unique

from validator.model import Outcome, Tap


@unique
class Account(StrEnum):
    """Where value stands."""

    STORED_VALUE = "stored-value"
    CARNET = "carnet"
    FARE_REVENUE = "fare-revenue"
    RIDES_USED = "rides-used"
    SALES_REVENUE = "sales-revenue"
    TENDER = "tender"
    RIDES_ISSUED = "rides-issued"


@unique
class Unit(StrEnum):
    """What is counted."""

    MINOR = "minor"
    RIDE = "ride"


@dataclass(frozen=True, slots=True)
class Posting:
    """One side of a movement.

    Attributes:
        account: Where.
        product_id: Whose product, for accounts that are kept per product; None where a tap names none.
        unit: Of what.
        amount: How much comes in; negative where it goes out; never 0.
    """

    account: Account
    product_id: int | None
    unit: Unit
    amount: int


def of_tap(tap: Tap) -> tuple[Posting, ...]:
    """Return what a granted tap posts. A denied one posts nothing, whatever it says."""
    if tap.outcome is not Outcome.GRANT:
        return ()
    product = tap.product_id
    return _nonzero(
        Posting(Account.STORED_VALUE, product, Unit.MINOR, -tap.amount),
        Posting(Account.FARE_REVENUE, None, Unit.MINOR, tap.amount),
        Posting(Account.CARNET, product, Unit.RIDE, -tap.rides),
        Posting(Account.RIDES_USED, None, Unit.RIDE, tap.rides),
    )


def of_sale(product_id: int, *, rides: int, balance: int, price: int) -> tuple[Posting, ...]:
    """Return what a sale posts: value loaded and rides issued, against what was paid.

    Args:
        product_id: The product, which is the sale.
        rides: Rides sold.
        balance: Minor units loaded.
        price: Minor units paid.
    """
    return _nonzero(
        Posting(Account.TENDER, None, Unit.MINOR, -price),
        Posting(Account.STORED_VALUE, product_id, Unit.MINOR, balance),
        Posting(Account.SALES_REVENUE, None, Unit.MINOR, price - balance),
        Posting(Account.CARNET, product_id, Unit.RIDE, rides),
        Posting(Account.RIDES_ISSUED, None, Unit.RIDE, -rides),
    )


def of_fare(product_id: int, amount: int) -> tuple[Posting, ...]:
    """Return what a day's best price posts beyond what its taps took; a refund is the same with a negative amount.

    Args:
        product_id: The product that pays.
        amount: Minor units.
    """
    return _nonzero(
        Posting(Account.STORED_VALUE, product_id, Unit.MINOR, -amount),
        Posting(Account.FARE_REVENUE, None, Unit.MINOR, amount),
    )


def _nonzero(*postings: Posting) -> tuple[Posting, ...]:
    return tuple(posting for posting in postings if posting.amount)
