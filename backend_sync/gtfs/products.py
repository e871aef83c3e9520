"""Who pays how much: rider categories, fare media, fare products."""

from dataclasses import dataclass
from typing import Final

from backend_sync.gtfs.currencies import CURRENCY, minor_units
from backend_sync.gtfs.feed_files import FeedFiles, Row, Table, numbered, once
from validator.fares.tariff_rows import MAX_AMOUNT, Price

RIDERS: Final = "rider_categories.txt"
MEDIA: Final = "fare_media.txt"
PRODUCTS: Final = "fare_products.txt"
_MOST_MEDIA: Final = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """Numbers of riders, media and products, and what products cost.

    Attributes:
        riders: Numbers of rider categories.
        default_rider: The one category that is marked as the default; None where none or several are.
        media: Numbers of fare media.
        products: Numbers of fare products.
        prices: What they cost.
    """

    riders: dict[str, int]
    default_rider: int | None
    media: dict[str, int]
    products: dict[str, int]
    prices: tuple[Price, ...]


def read_offer(files: FeedFiles) -> Offer:
    """Read what is sold."""
    riders = files.table(RIDERS, ("rider_category_id", "rider_category_name", "is_default_fare_category"))
    media = files.table(MEDIA, ("fare_media_id", "fare_media_type"))
    rider_ids, media_ids = _unique(riders, "rider_category_id"), _unique(media, "fare_media_id")
    defaults = []
    for row in riders.rows:
        row.required("rider_category_name")
        if row.integer("is_default_fare_category", 0, 1):
            defaults.append(rider_ids.get(row.text("rider_category_id")))
    for row in media.rows:
        if row.required("fare_media_type"):
            row.integer("fare_media_type", 0, _MOST_MEDIA)
    products = files.table(PRODUCTS, ("fare_product_id", "amount", "currency"))
    product_ids = numbered({row.text("fare_product_id") for row in products.rows})
    prices, seen = list[Price](), dict[tuple[object, ...], int]()
    for row in products.rows:
        rider = row.known("rider_category_id", rider_ids, RIDERS)
        medium = row.known("fare_media_id", media_ids, MEDIA)
        product, amount, currency = row.required("fare_product_id"), amount_of(row), row.text("currency")
        once(
            row, (product, row.text("rider_category_id"), row.text("fare_media_id")), seen, "product, rider and medium"
        )
        if product and amount is not None:
            prices.append(Price(product_ids[product], rider, medium, amount, currency, row.line))
    default = defaults[0] if len(defaults) == 1 else None
    return Offer(rider_ids, default, media_ids, product_ids, tuple(prices))


def amount_of(row: Row) -> int | None:
    """Read ``amount`` and ``currency`` as minor units; None where they are wrong."""
    text, currency = row.required("amount"), row.required("currency")
    if currency and not CURRENCY.fullmatch(currency):
        row.wrong("currency", f"{currency!r} is no ISO 4217 code", "three capital letters, EUR")
        return None
    if not text or not currency:
        return None
    amount = minor_units(text, currency)
    if amount is None or abs(amount) > MAX_AMOUNT:
        row.wrong("amount", f"{text!r} is no amount of {currency}", "digits, a point, and no more decimals than it has")
        return None
    return amount


def _unique(table: Table, field: str) -> dict[str, int]:
    seen: dict[tuple[object, ...], int] = {}
    for row in table.rows:
        once(row, (row.required(field),), seen, field)
    return numbered({row.text(field) for row in table.rows})
