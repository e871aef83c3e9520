"""Products and who holds them, for the tests of ticket snapshots and of changes to them."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from validator.conditions import DAY_MINUTES, EVERY_DAY, ORDINARY, Conditions, TimeFrame
from validator.lists.product_rules import LEAST_ASSURANCES, MAX_AMOUNT
from validator.model import NEVER
from validator.rights import Product, ProductKind

PASS = Product(1, ProductKind.PERIOD_PASS, 1_780_000_000, 1_800_000_000, 1_780_000_000)
PURSE = Product(2, ProductKind.STORED_VALUE, 0, NEVER, 0, balance=2000, fare=150, pass_back_s=600)
LONG = st.integers(0, 2**63 - 1)
TIMES = st.one_of(st.integers(0, 3), st.integers(1_700_000_000, 1_900_000_000), st.integers(2**32 - 2, 2**32 + 2), LONG)
AMOUNTS = st.one_of(st.just(0), st.integers(0, 2**31 - 1))
PLACES = st.frozensets(st.sampled_from(["Kesklinn", "Balti jaam", "京都", "a", "b"]), max_size=3)
#: Ids of which many have the first octets in common, or repeat in themselves.
IDS = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.integers(0, 300).map(lambda number: number.to_bytes(16)),
    st.sampled_from([b"ab" * 8, b"ba" * 8, bytes(16), b"\xff" * 16, bytes(15) + b"\1"]),
)


FRAMES = st.builds(
    lambda ends, weekdays: TimeFrame(min(ends), max(ends) + 1, weekdays),
    st.tuples(*[st.integers(0, 2 * DAY_MINUTES - 1)] * 2),
    st.integers(1, EVERY_DAY),
)
NAMES = st.sampled_from(["", "student", "pensionär", "学生", "library"])
CONDITIONS = st.just(ORDINARY) | st.builds(
    Conditions,
    rider=NAMES,
    medium=NAMES,
    riders=st.integers(1, 99),
    zones=PLACES,
    networks=PLACES,
    time_frames=st.frozensets(FRAMES, max_size=3),
    day_starts_s=st.integers(0, 86_399),
    scheme=NAMES,
    floor=st.just(0),
    proof_until=TIMES,
)


def _product(times: tuple[int, int, int], floor: int, **others: Any) -> Product:
    start, end = sorted(times[:2])
    begin = min(start, end - 1) if end else 0
    if others["kind"] is ProductKind.PAY_AS_YOU_GO:
        others["conditions"] = others["conditions"]._replace(floor=floor)
        others["fare"] = max(1, others["fare"])
        others["balance"] = min(others["balance"], MAX_AMOUNT - floor) - floor
    return Product(valid_from=begin, valid_until=end or 1, active_from=times[2], **others)


PRODUCTS = st.builds(
    _product,
    times=st.tuples(TIMES, st.one_of(st.just(NEVER), TIMES), TIMES),
    floor=AMOUNTS,
    product_id=st.one_of(st.integers(1, 300), st.integers(1, 2**63 - 1)),
    kind=st.sampled_from(ProductKind),
    rides=AMOUNTS,
    balance=AMOUNTS,
    fare=AMOUNTS,
    pass_back_s=AMOUNTS,
    places=PLACES,
    residents_only=st.booleans(),
    least_assurance=st.sampled_from(LEAST_ASSURANCES),
    conditions=CONDITIONS,
)
HOLDINGS = st.dictionaries(
    IDS, st.lists(PRODUCTS, max_size=3, unique_by=lambda product: product.product_id), max_size=12
)


def distinct(holdings: Mapping[bytes, list[Product]]) -> dict[bytes, list[Product]]:
    """No two credentials hold one product."""
    seen: set[int] = set()
    found: dict[bytes, list[Product]] = {}
    for credential_id, products in holdings.items():
        kept = [product for product in products if product.product_id not in seen]
        seen |= {product.product_id for product in kept}
        found[credential_id] = sorted(kept, key=lambda product: product.product_id)
    return found


CHANGES = HOLDINGS.map(distinct)
