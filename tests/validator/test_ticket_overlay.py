"""Ticket deltas and the overlay of them: an overlay over a snapshot is the snapshot with every change made."""

from dataclasses import replace
from typing import Any, cast

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.ticket_making import CHANGES, IDS, PASS, PRODUCTS, PURSE, distinct
from validator.conditions import Conditions, TimeFrame
from validator.lists.errors import ListError
from validator.lists.product_rows import (
    NUMBERS,
    Shape,
    encode_shapes,
    numbers_of,
    parse_shapes,
    position,
    product_of,
    shape_of,
)
from validator.lists.ticket_delta import (
    MAX_CREDENTIALS,
    MAX_PRODUCTS,
    Snapshot,
    TicketDelta,
    encode_ticket_delta,
    parse_ticket_delta,
)
from validator.lists.ticket_overlay import TicketOverlay, parse_overlay
from validator.model import Assurance
from validator.rights import Product, ProductKind

BASE = Snapshot(7, bytes(range(32)), (shape_of(PASS),))
HEAD = b"pilet-ticket-d/1" + BASE.version.to_bytes(8) + BASE.sha256 + bytes(2 * 32)


CARNET = Product(2**40, ProductKind.CARNET, 5, 2**33, 7, rides=3, places=frozenset({"京都", "b"}), residents_only=True)
ODD = Product(3, ProductKind.CARNET, 0, 1, 2**62, balance=2**31 - 1, least_assurance=Assurance.HOLDER)
OLD_TABLE = (
    "9301929092a162a6e4baace983bd949b01000000c20300000000009b02000000c204000000ce40000000ce7fffffff"
    "9b02000001c303cd0100000200009b03cc96cd025800c2030000ce400000000000"
)
RUSH = TimeFrame(6 * 60, 25 * 60 + 30, 0b1_1111)
SCHOOL = Conditions("student", "card", 2, frozenset({"A", "B"}), frozenset({"bus"}), frozenset({RUSH}), 14_400)
LIBRARY = replace(PASS, product_id=4, conditions=Conditions(scheme="library", proof_until=2**33))
CREDIT = replace(
    PURSE, product_id=5, kind=ProductKind.PAY_AS_YOU_GO, balance=-150, conditions=SCHOOL._replace(floor=1000)
)
SEVERAL = [[], [PASS], [PURSE, CARNET], [PASS, PURSE, CARNET, ODD], [PASS, LIBRARY, CREDIT]]
PAYLOADS = [
    encode_ticket_delta(TicketOverlay(BASE).delta({bytes([products and 1]) * 16: SEVERAL[products], b"\xff" * 16: []}))
    for products in range(len(SEVERAL))
]


class TestRows:
    @given(product=PRODUCTS)
    def test_every_product_comes_back(self, product: Product) -> None:
        shape = shape_of(product)
        table, order = encode_shapes([shape, shape])
        assert parse_shapes(table, "table") == order == [shape]
        assert product_of(shape, b"before" + numbers_of(product), 6) == product

    @given(products=st.lists(PRODUCTS, max_size=20))
    def test_shapes_have_one_table(self, products: list[Product]) -> None:
        shapes = [shape_of(product) for product in products]
        table, order = encode_shapes(shapes)
        assert encode_shapes(reversed(shapes))[0] == table
        assert set(order) == set(shapes)
        assert parse_shapes(table, "table") == order

    @hostile
    @given(table=st.binary(max_size=60))
    def test_arbitrary_bytes_are_refused_or_the_one_table(self, table: bytes) -> None:
        try:
            shapes = parse_shapes(table, "table")
        except ListError:
            return
        assert encode_shapes(shapes) == (table, shapes)

    @hostile
    @given(products=st.sampled_from(SEVERAL), position=st.integers(0, 300), flip=st.integers(1, 255))
    def test_damaged_tables_are_refused_or_other_tables(
        self, products: list[Product], position: int, flip: int
    ) -> None:
        table = bytearray(encode_shapes(map(shape_of, products))[0])
        table[position % len(table)] ^= flip
        try:
            shapes = parse_shapes(bytes(table), "table")
        except ListError:
            return
        assert encode_shapes(shapes) == (bytes(table), shapes)

    @pytest.mark.parametrize(
        "change",
        [
            {"least_assurance": Assurance.CLAIMED},
            {"places": frozenset({""})},
            {"places": frozenset({"x" * 65})},
            {"fare": 2**31},
            {"fare": -1},
            {"pass_back_s": 2**31},
            {"upper_id": 2**63},
            {"upper_until": 2**63},
            {"other": 2**31},
            {"kind": ProductKind.PAY_AS_YOU_GO},
            {"conditions": Conditions(floor=1)},
            {"conditions": Conditions(riders=0)},
            {"conditions": Conditions(riders=100)},
            {"conditions": Conditions(day_starts_s=86_400)},
            {"conditions": Conditions(proof_until=-1)},
            {"conditions": Conditions(rider="a\n")},
            {"conditions": Conditions(medium="x" * 65)},
            {"conditions": Conditions(scheme="\0")},
            {"conditions": Conditions(zones=frozenset({""}))},
            {"conditions": Conditions(networks=frozenset({""}))},
            {"conditions": Conditions(time_frames=frozenset({TimeFrame(5, 5)}))},
            {"conditions": Conditions(time_frames=frozenset({TimeFrame(-1, 5)}))},
            {"conditions": Conditions(time_frames=frozenset({TimeFrame(0, 2881)}))},
            {"conditions": Conditions(time_frames=frozenset({TimeFrame(0, 1, 0)}))},
            {"conditions": Conditions(time_frames=frozenset({TimeFrame(0, 1, 128)}))},
            {"conditions": Conditions(time_frames=frozenset(TimeFrame(0, end) for end in range(1, 18)))},
        ],
        ids=str,
    )
    def test_shapes_that_break_a_rule_are_refused(self, change: dict[str, object]) -> None:
        table, _ = encode_shapes([shape_of(PASS)._replace(**change)])  # type: ignore[arg-type]  # fields of several types
        with pytest.raises(ListError):
            parse_shapes(table, "table")

    def test_a_table_without_conditions_is_written_as_ever(self) -> None:
        """The octets are those of the release before there were conditions."""
        table, _ = encode_shapes(map(shape_of, [PASS, PURSE, CARNET, ODD]))
        assert table.hex() == OLD_TABLE
        assert parse_shapes(bytes.fromhex(OLD_TABLE), "table") == encode_shapes(map(shape_of, SEVERAL[3]))[1]

    def test_a_table_in_the_longer_format_says_something(self) -> None:
        told = cast("list[Any]", msgpack.unpackb(bytes.fromhex(OLD_TABLE)))
        ordinary = ["", "", 1, [], [], [], 0, "", 0, 0]
        longer = msgpack.packb([2, told[1], [[*row, 0] for row in told[2]], [ordinary]])
        with pytest.raises(ListError, match="not in the one form"):
            parse_shapes(longer, "table")

    @pytest.mark.parametrize("number", [1, 2**31 - 1, -1])
    def test_conditions_that_are_not_there_are_refused(self, number: int) -> None:
        told = cast("list[Any]", msgpack.unpackb(encode_shapes([shape_of(LIBRARY)])[0]))
        told[2][0][-1] = number
        with pytest.raises(ListError, match="not a table of shapes"):
            parse_shapes(msgpack.packb(told), "table")

    @given(product=PRODUCTS, cut=st.integers(0, 400))
    def test_a_table_that_was_cut_is_refused(self, product: Product, cut: int) -> None:
        table, _ = encode_shapes([shape_of(product)])
        with pytest.raises(ListError):
            parse_shapes(table[: cut % len(table)], "table")

    @given(product=PRODUCTS)
    def test_conditions_cost_a_product_nothing(self, product: Product) -> None:
        assert len(numbers_of(product)) == NUMBERS.size == 20

    @given(column=st.lists(IDS, max_size=20), wanted=IDS, before=st.binary(max_size=20), after=st.binary(max_size=20))
    def test_an_id_is_found_where_it_first_stands(
        self, column: list[bytes], wanted: bytes, before: bytes, after: bytes
    ) -> None:
        octets = before + b"".join(column) + after
        place = column.index(wanted) if wanted in column else None
        assert position(octets, wanted, len(before), len(octets) - len(after)) == place


class TestOverlay:
    @settings(deadline=None, max_examples=40)
    @given(snapshot=CHANGES, steps=st.lists(CHANGES, max_size=3), stranger=IDS)
    def test_an_overlay_over_a_snapshot_is_the_snapshot_changed(
        self, snapshot: dict[bytes, list[Product]], steps: list[dict[bytes, list[Product]]], stranger: bytes
    ) -> None:
        overlay, changed = TicketOverlay(BASE), dict[bytes, list[Product]]()
        for changes in steps:
            before = overlay
            state, count = before.state, len(before)
            delta = overlay.delta(changes)
            assert parse_ticket_delta(encode_ticket_delta(delta), BASE) == delta
            overlay = overlay.with_delta(delta)
            assert (before.state, len(before)) == (state, count)
            changed |= changes
            assert len(overlay) == len(changed)
        for credential_id in {*snapshot, *changed, stranger}:
            told = overlay.products(credential_id)
            assert told == changed.get(credential_id)
            over = snapshot.get(credential_id, []) if told is None else told
            assert over == {**snapshot, **changed}.get(credential_id, [])

    @settings(deadline=None, max_examples=30)
    @given(steps=st.lists(CHANGES, max_size=3))
    def test_a_state_is_what_is_held_and_not_how_it_came_about(self, steps: list[dict[bytes, list[Product]]]) -> None:
        overlay, merged = TicketOverlay(BASE), dict[bytes, list[Product]]()
        for changes in steps:
            overlay = overlay.with_delta(overlay.delta(changes))
            merged |= changes
        again = parse_overlay(overlay.encode(), BASE) if merged == distinct(merged) else overlay
        assert again.state == overlay.state
        assert {each: again.products(each) for each in merged} == merged
        backwards = TicketOverlay(BASE)
        for credential_id, products in reversed(merged.items()):
            backwards = backwards.with_delta(backwards.delta({credential_id: products}))
        assert backwards.state == overlay.state

    @settings(deadline=None, max_examples=30)
    @given(one=CHANGES, other=CHANGES)
    def test_other_contents_have_another_state(
        self, one: dict[bytes, list[Product]], other: dict[bytes, list[Product]]
    ) -> None:
        begin = TicketOverlay(BASE)
        assert (begin.delta(one).after == begin.delta(other).after) == (one == other)

    def test_an_odd_id_is_nobodys(self) -> None:
        overlay = TicketOverlay(BASE)
        overlay = overlay.with_delta(overlay.delta({bytes(16): [PASS]}))
        for odd in (b"", bytes(15), bytes(17)):
            assert overlay.products(odd) is None
        assert overlay.products(bytes(16)) == [PASS]

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"base": Snapshot(8, BASE.sha256, BASE.shapes)}, "is for snapshot 8"),
            ({"base": Snapshot(7, bytes(32), BASE.shapes)}, "is for snapshot 7, this is another"),
            ({"before": bytes(32)}, "fits state 0000"),
            ({"after": bytes(32)}, "leads to state"),
            ({"held": {}}, "leads to state"),
            ({"held": {bytes(16): b""}}, "leads to state"),
        ],
        ids=str,
    )
    def test_a_delta_that_does_not_fit_is_refused(self, change: dict[str, object], why: str) -> None:
        overlay = TicketOverlay(BASE)
        delta = overlay.delta({bytes(16): [PASS, PURSE]})
        with pytest.raises(ListError, match=why):
            overlay.with_delta(replace(delta, **change))  # type: ignore[arg-type]  # one test for fields of several types
        with pytest.raises(ListError, match="fits state"):
            overlay.with_delta(delta).with_delta(delta)

    def test_a_snapshot_of_another_version_begins_in_another_state(self) -> None:
        others = [Snapshot(8, BASE.sha256, BASE.shapes), Snapshot(7, bytes(32), BASE.shapes)]
        assert len({TicketOverlay(base).state for base in (BASE, *others)}) == 3
        for other in others:
            with pytest.raises(ListError, match="is for snapshot"):
                parse_overlay(TicketOverlay(BASE).encode(), other)

    @pytest.mark.parametrize(
        "changes",
        [
            {bytes(15): [PASS]},
            {bytes(16): [replace(PASS, valid_until=0)]},
            {bytes(16): [PASS, PASS]},
            {bytes(16): [PASS], b"\1" * 16: [PASS]},
            {bytes(16): [replace(PASS, product_id=number) for number in range(1, MAX_PRODUCTS + 2)]},
        ],
    )
    def test_what_breaks_a_rule_is_not_made_a_delta(self, changes: dict[bytes, list[Product]]) -> None:
        with pytest.raises(ListError):
            TicketOverlay(BASE).delta(changes)

    def test_a_product_moves_to_another_card_in_one_delta(self) -> None:
        overlay = TicketOverlay(BASE)
        overlay = overlay.with_delta(overlay.delta({bytes(16): [PASS]}))
        overlay = overlay.with_delta(overlay.delta({bytes(16): [], b"\1" * 16: [PASS]}))
        assert overlay.products(bytes(16)) == []
        assert overlay.products(b"\1" * 16) == [PASS]
        assert overlay.products(b"\2" * 16) is None

    def test_seventy_changes_take_less_than_three_kilobytes(self) -> None:
        sold = {number.to_bytes(16): [replace(PASS, product_id=9 * 10**9 + number)] for number in range(70)}
        assert len(encode_ticket_delta(TicketOverlay(BASE).delta(sold))) < 3000


class TestWire:
    @hostile
    @given(rest=st.binary(max_size=120), table=st.integers(0, 40), count=st.integers(0, 3))
    def test_arbitrary_bytes_are_refused_or_the_one_encoding(self, rest: bytes, table: int, count: int) -> None:
        payload = HEAD + table.to_bytes(4) + count.to_bytes(4) + rest
        self._refused_or_canonical(payload)
        self._refused_or_canonical(rest)

    @hostile
    @given(
        sound=st.sampled_from(PAYLOADS), position=st.integers(0, 600), flip=st.integers(1, 255), cut=st.integers(0, 3)
    )
    def test_damaged_deltas_are_refused_or_other_deltas(self, sound: bytes, position: int, flip: int, cut: int) -> None:
        payload = bytearray(sound)
        payload[position % len(payload)] ^= flip
        damaged = bytes(payload[: len(payload) - cut])
        delta = self._refused_or_canonical(damaged)
        # And what is no other delta by its form leads nowhere else than it says.
        if delta is not None:
            with pytest.raises(ListError):
                TicketOverlay(BASE).with_delta(delta)

    @pytest.mark.parametrize("cut", [1, 2, 19, 20, 21, 22, 23, 24, 38, 39, 40, 41, 60, 200, 5000])
    def test_truncated_and_extended_deltas_are_refused(self, cut: int) -> None:
        payload = encode_ticket_delta(TicketOverlay(BASE).delta({bytes(16): [PASS], b"\1" * 16: [PURSE]}))
        for changed in (payload[:-cut], payload + bytes(cut)):
            with pytest.raises(ListError):
                parse_ticket_delta(changed, BASE)

    def test_every_rule_of_products_is_asked(self) -> None:
        payload = encode_ticket_delta(TicketOverlay(BASE).delta({bytes(16): [PASS]}))
        product = numbers_of(PASS)
        for broken in (
            bytes(4) + product[4:],
            product[:8] + product[4:8] + product[12:],
            product[:16] + (2**31).to_bytes(4),
        ):
            with pytest.raises(ListError, match="breaks a rule of products"):
                parse_ticket_delta(payload.replace(product, broken), BASE)
        with pytest.raises(ListError, match="has shape 1, 1 are there"):
            parse_ticket_delta(payload[:-22] + b"\0\1" + product, BASE)

    def test_what_the_snapshot_says_is_not_said_again(self) -> None:
        places = frozenset(f"Stop {number}" for number in range(500))
        city = replace(PASS, places=places)
        changes = {bytes(16): [city, replace(PURSE, places=places)], b"\1" * 16: []}
        knowing = Snapshot(7, BASE.sha256, (shape_of(PURSE), shape_of(city)))
        overlay, other = TicketOverlay(knowing), TicketOverlay(BASE)
        delta = overlay.delta(changes)
        payload, longer = encode_ticket_delta(delta), encode_ticket_delta(other.delta({bytes(16): [city]}))
        assert len(encode_ticket_delta(overlay.delta({bytes(16): [city]}))) + 4000 < len(longer)
        assert parse_ticket_delta(payload, knowing) == delta
        assert overlay.with_delta(delta).state == other.with_delta(other.delta(changes)).state
        with pytest.raises(ListError, match="has a shape that the snapshot has"):
            parse_ticket_delta(longer.replace(b"\0\1" + numbers_of(city), b"\0\2" + numbers_of(city)), knowing)
        unused = encode_ticket_delta(other.delta({bytes(16): []})).replace(
            encode_shapes([])[0], encode_shapes([shape_of(PURSE)])[0]
        )
        length = len(encode_shapes([shape_of(PURSE)])[0]).to_bytes(4)
        with pytest.raises(ListError, match="or that no product has"):
            parse_ticket_delta(unused[: len(HEAD)] + length + unused[len(HEAD) + 4 :], BASE)

    def test_no_more_credentials_than_memory_is_there_for(self) -> None:
        head = HEAD + bytes(4)
        with pytest.raises(ListError, match="too many"):
            parse_ticket_delta(head + (MAX_CREDENTIALS + 1).to_bytes(4), BASE)

    @pytest.mark.slow
    def test_an_overlay_has_a_bound(self) -> None:
        shape = {b"": shape_of(PASS)}
        full = {number.to_bytes(16): b"" for number in range(MAX_CREDENTIALS + 1)}
        overlay = TicketOverlay(BASE)
        with pytest.raises(ListError, match="may be"):
            overlay.with_delta(TicketDelta(BASE, overlay.state, bytes(32), shape, full))

    def _refused_or_canonical(self, payload: bytes) -> TicketDelta | None:
        try:
            delta = parse_ticket_delta(payload, BASE)
        except ListError:
            return None
        assert encode_ticket_delta(delta) == payload
        return delta


def test_shapes_are_few() -> None:
    """A thousand sales of two kinds are two shapes."""
    sales = [replace((PASS, PURSE)[number % 2], product_id=number) for number in range(1, 1001)]
    shapes: set[Shape] = {shape_of(sale) for sale in sales}
    assert len(shapes) == 2
