"""The formats of the lists: what is written is what is read, at every length, and nothing else is read at all."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.validator.list_making import KEY, KEYS, PASS, SOMEBODY
from validator.entry import GENESIS, Entry, decode, encode
from validator.envelope import Purpose, seal
from validator.lists.errors import ListError
from validator.lists.listed_ids import HEADER_BYTES, ListedIds, encode_listed_ids
from validator.lists.manifest import ListKind, Manifest, open_manifest, seal_manifest
from validator.lists.product_rules import breach
from validator.lists.ticket_list import TicketList, write_ticket_file
from validator.model import (
    Assurance,
    ClockConfidence,
    Instant,
    ListVersions,
    Outcome,
    Product,
    ProductKind,
    Reason,
    Tap,
)

IDS = st.binary(min_size=16, max_size=16)
COUNTS = st.integers(0, 2**63 - 1)
AMOUNTS = st.integers(0, 2**31 - 1)

MANIFEST = Manifest(ListKind.TICKETS, "north", 3, 100, 200, bytes(32), 5, {"gate-1": (1, 7)})


class TestManifest:
    @given(
        kind=st.sampled_from(ListKind),
        region=st.text(min_size=1, max_size=64).filter(str.isprintable),
        version=st.integers(1, 2**63 - 1),
        dates=st.tuples(COUNTS, COUNTS).filter(lambda pair: pair[0] != pair[1]).map(sorted),
        digest=st.binary(min_size=32, max_size=32),
        length=COUNTS,
        horizons=st.dictionaries(st.text("abc-9", min_size=1, max_size=9), st.tuples(COUNTS, COUNTS), max_size=5),
    )
    def test_what_is_signed_is_what_is_read(
        self,
        *,
        kind: ListKind,
        region: str,
        version: int,
        dates: list[int],
        digest: bytes,
        length: int,
        horizons: dict[str, tuple[int, int]],
    ) -> None:
        counted = horizons if kind is ListKind.TICKETS else {}
        manifest = Manifest(kind, region, version, dates[0], dates[1], digest, length, counted)
        assert open_manifest(seal_manifest(manifest, KEY, "publisher"), KEYS) == manifest

    @given(position=st.integers(0, 500), flip=st.integers(1, 255))
    def test_no_byte_can_be_changed(self, position: int, flip: int) -> None:
        sealed = bytearray(seal_manifest(MANIFEST, KEY, "publisher"))
        sealed[position % len(sealed)] ^= flip
        with pytest.raises(ListError):
            open_manifest(bytes(sealed), KEYS)

    @given(junk=st.binary(max_size=100))
    def test_junk_is_refused_signed_or_not(self, junk: bytes) -> None:
        for data in (junk, seal(KEY, "publisher", Purpose.LIST, junk)):
            with pytest.raises(ListError):
                open_manifest(data, KEYS)

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 0},
            {"region": ""},
            {"not_after_s": 100},
            {"payload_sha256": bytes(31)},
            {"payload_bytes": -1},
            {"kind": ListKind.DENY},
            {"horizons": {"gate-1": (1, -1)}},
        ],
        ids=str,
    )
    def test_a_manifest_that_no_gate_would_take_is_not_signed(self, change: dict[str, object]) -> None:
        with pytest.raises(ListError):
            seal_manifest(dataclasses.replace(MANIFEST, **change), KEY, "publisher")  # type: ignore[arg-type]  # one test for fields of several types

    def test_whoever_signs_must_be_known_and_sign_for_this_purpose(self) -> None:
        for sealed in (
            seal_manifest(MANIFEST, KEY, "somebody else"),
            seal_manifest(MANIFEST, Ed25519PrivateKey.generate(), "publisher"),
            seal(KEY, "publisher", Purpose.ACK, b""),
        ):
            with pytest.raises(ListError):
                open_manifest(sealed, KEYS)

    def test_the_error_names_the_file(self) -> None:
        with pytest.raises(ListError, match="lists/deny/4/manifest: not a signed envelope") as caught:
            open_manifest(b"", KEYS, Path("lists/deny/4/manifest"))
        assert caught.value.where == "lists/deny/4/manifest"


class TestListedIds:
    @given(members=st.sets(IDS, max_size=60), strangers=st.lists(IDS, max_size=20))
    def test_lookup_is_membership(self, members: set[bytes], strangers: list[bytes]) -> None:
        listed = ListedIds(encode_listed_ids(members))
        listed.check_order()
        assert len(listed) == len(members)
        for credential in (*members, *strangers):
            assert (credential in listed) == (credential in members)

    @pytest.mark.parametrize(
        "count", [*range(40), 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097, 5450, 5451, 5452, 65535, 65536, 65537]
    )
    def test_every_length_keeps_its_first_and_its_last(self, count: int) -> None:
        """A list whose tail fell off at some lengths once closed a city's gates for a morning."""
        ids = [(number * 2 + 1).to_bytes(16) for number in range(count)]
        listed = ListedIds(encode_listed_ids(ids))
        listed.check_order()
        assert len(listed) == count
        for credential in (*ids[:3], *ids[-3:]):
            assert credential in listed
        for number in (0, count, count * 2):
            assert (number * 2).to_bytes(16) not in listed

    @given(members=st.sets(IDS, min_size=1, max_size=9), cut=st.integers(1, 200), tail=st.binary(max_size=40))
    def test_a_tail_is_never_dropped(self, members: set[bytes], cut: int, tail: bytes) -> None:
        payload = encode_listed_ids(members)
        changed = payload[: max(0, len(payload) - cut)] + tail
        if len(changed) == len(payload):
            changed += b"!"
        with pytest.raises(ListError):
            ListedIds(changed)

    def test_order_is_checked(self) -> None:
        payload = encode_listed_ids([bytes(16), b"\1" * 16])
        swapped = payload[:HEADER_BYTES] + payload[-16:] + payload[HEADER_BYTES:-16]
        twice = payload[:HEADER_BYTES] + payload[-16:] * 2
        for bad in (swapped, twice):
            with pytest.raises(ListError, match="id 1 is not greater"):
                ListedIds(bad).check_order()

    def test_ids_have_sixteen_bytes(self) -> None:
        with pytest.raises(ListError, match="15 bytes"):
            encode_listed_ids([bytes(15)])


PRODUCTS = st.builds(
    Product,
    product_id=st.integers(1, 2**63 - 1),
    kind=st.sampled_from(ProductKind),
    valid_from=st.integers(0, 2**62),
    valid_until=st.integers(2**62 + 1, 2**63 - 1),
    active_from=COUNTS,
    rides=AMOUNTS,
    balance=AMOUNTS,
    fare=AMOUNTS,
    pass_back_s=AMOUNTS,
    places=st.frozensets(st.text(min_size=1, max_size=64).filter(str.isprintable), max_size=3),
    residents_only=st.booleans(),
    least_assurance=st.sampled_from([Assurance.CHIP, Assurance.HOLDER]),
)

BROKEN = pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("product_id", -1, "product_id -1 is not between 1"),
        ("product_id", 0, "product_id 0 is not between 1"),
        ("valid_from", -1, "valid_from"),
        ("valid_until", PASS.valid_from, "is not after valid_from"),
        ("active_from", -1, "active_from"),
        ("rides", -1, "rides"),
        ("rides", 2**31, "rides"),
        ("balance", -1, "balance"),
        ("balance", 2**31, "balance"),
        ("fare", -1, "fare"),
        ("fare", 2**31, "fare"),
        ("pass_back_s", -1, "pass_back_s"),
        ("places", frozenset({""}), "name of a place, ''"),
        ("places", frozenset({"a\nb"}), "name of a place"),
        ("places", frozenset({"good", "a\x7f"}), "name of a place"),
        ("places", frozenset({"x" * 65}), "name of a place"),
        ("least_assurance", Assurance.CLAIMED, "least_assurance CLAIMED is not one of a gate's"),
    ],
)


class TestProductRules:
    @given(product=PRODUCTS)
    def test_a_product_within_the_rules_can_be_recorded(self, product: Product) -> None:
        """Whatever the rules let through, an entry can carry: the number, what a ride takes, and each place."""
        assert breach(product) is None
        for place in product.places or {"north"}:
            tap = Tap(
                at=Instant(0, 0, bytes(8), ClockConfidence.NTP),
                place=place,
                gate="1",
                outcome=Outcome.GRANT,
                reason=Reason.VALID,
                graced=False,
                versions=ListVersions(),
                credential_id=SOMEBODY,
                product_id=product.product_id,
                rides=product.rides,
                amount=product.fare,
            )
            entry = Entry("gate-1", 1, 1, GENESIS, tap)
            assert decode(encode(entry)) == entry

    @BROKEN
    def test_each_rule_has_its_words(self, field: str, value: object, why: str) -> None:
        assert why in (breach(dataclasses.replace(PASS, **{field: value})) or "")  # type: ignore[arg-type]  # one test for fields of several types


class TestTicketList:
    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(entries=st.lists(st.tuples(IDS, PRODUCTS), max_size=12, unique_by=lambda entry: entry[1].product_id))
    def test_what_is_written_is_what_is_read(self, tmp_path: Path, entries: list[tuple[bytes, Product]]) -> None:
        path = tmp_path / "tickets"
        path.unlink(missing_ok=True)
        assert write_ticket_file(path, entries) == len(entries)
        tickets = TicketList(path)
        tickets.check()
        expected: dict[bytes, list[Product]] = {}
        for credential, product in entries:
            expected.setdefault(credential, []).append(product)
        for credential, products in expected.items():
            assert tickets.products(credential) == sorted(products, key=lambda product: product.product_id)
        assert tickets.products(bytes(15)) == []
        tickets.close()

    def test_progress_is_told(self, tmp_path: Path) -> None:
        told: list[int] = []
        entries = ((number.to_bytes(16), dataclasses.replace(PASS, product_id=number)) for number in range(1, 25_002))
        write_ticket_file(tmp_path / "tickets", entries, told.append)
        assert told == [10_000, 20_000, 25_001]

    @pytest.mark.parametrize(
        ("entries", "why"),
        [
            ([(SOMEBODY, PASS), (bytes(16), PASS)], "share a product id"),
            ([(bytes(15), PASS)], "a credential id of 15 bytes"),
        ],
    )
    def test_a_bad_entry_leaves_nothing(self, tmp_path: Path, entries: list[tuple[bytes, Product]], why: str) -> None:
        with pytest.raises(ListError, match=why):
            write_ticket_file(tmp_path / "tickets", entries)
        assert not list(tmp_path.iterdir())

    @BROKEN
    def test_a_broken_rule_is_not_written(self, tmp_path: Path, field: str, value: object, why: str) -> None:
        bad = dataclasses.replace(PASS, **{field: value})  # type: ignore[arg-type]  # one test for fields of several types
        with pytest.raises(ListError, match=re.escape(why)):
            write_ticket_file(tmp_path / "tickets", [(SOMEBODY, bad)])
        assert not list(tmp_path.iterdir())

    @BROKEN
    def test_a_broken_rule_does_not_pass_the_check(
        self, tmp_path: Path, field: str, value: int | frozenset[str], why: str
    ) -> None:
        path = tmp_path / "tickets"
        write_ticket_file(path, [(SOMEBODY, PASS)])
        connection = apsw.Connection(str(path))
        column = value if isinstance(value, int) else "\n".join(sorted(value)) or "\n"
        connection.execute(f"UPDATE products SET {field} = ?", (column,))
        connection.close()
        tickets = TicketList(path)
        if value == frozenset({"a\nb"}):  # on disk, these are two good names
            tickets.check()
        else:
            with pytest.raises(ListError, match=r"breaks a rule of products|the name of a place"):
                tickets.check()
        tickets.close()

    def test_an_existing_file_is_not_touched(self, tmp_path: Path) -> None:
        (tmp_path / "tickets").write_bytes(b"precious")
        with pytest.raises(ListError, match="exists"):
            write_ticket_file(tmp_path / "tickets", [])
        assert (tmp_path / "tickets").read_bytes() == b"precious"

    def test_reading_leaves_no_trace(self, tmp_path: Path) -> None:
        folder = tmp_path / "read only, #1 ?"
        folder.mkdir()
        write_ticket_file(folder / "tickets", [(SOMEBODY, PASS)])
        before = (folder / "tickets").read_bytes()
        tickets = TicketList(folder / "tickets")
        assert tickets.products(SOMEBODY) == [PASS]
        assert [path.name for path in folder.iterdir()] == ["tickets"]
        assert (folder / "tickets").read_bytes() == before

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda db: db.execute("DROP TABLE products"),
            lambda db: db.execute("CREATE INDEX more ON products (kind)"),
            lambda db: db.execute("CREATE TRIGGER t AFTER INSERT ON products BEGIN SELECT 1; END"),
            lambda db: db.execute("UPDATE products SET kind = 9"),
        ],
        ids=["no table", "another index", "a trigger", "an unknown kind"],
    )
    def test_another_schema_does_not_pass_the_check(
        self, tmp_path: Path, spoil: Callable[[apsw.Connection], object]
    ) -> None:
        path = tmp_path / "tickets"
        write_ticket_file(path, [(SOMEBODY, PASS)])
        connection = apsw.Connection(str(path))
        spoil(connection)
        connection.close()
        with pytest.raises(ListError):
            TicketList(path).check()

    @pytest.mark.parametrize("content", [b"", b"no database", bytes(4096)])
    def test_no_ticket_list(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "tickets").write_bytes(content)
        with pytest.raises(ListError):
            TicketList(tmp_path / "tickets")
        with pytest.raises(ListError):
            TicketList(tmp_path / "absent")

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(position=st.integers(0, 12_287), flip=st.integers(1, 255), cut=st.integers(0, 12_288))
    def test_a_damaged_file_gives_products_or_a_list_error(
        self, tmp_path: Path, position: int, flip: int, cut: int
    ) -> None:
        path = tmp_path / "good"
        if not path.exists():
            write_ticket_file(path, [(SOMEBODY, PASS)])
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= flip
        bad = tmp_path / "bad"
        for damaged in (bytes(content), path.read_bytes()[:cut]):
            bad.write_bytes(damaged)
            try:
                tickets = TicketList(bad)
                tickets.products(SOMEBODY)
                tickets.check()
            except ListError:
                continue
