"""The formats of the lists: what is written is what is read, at every length, and nothing else is read at all."""

import dataclasses
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.list_making import KEY, KEYS, PASS, SOMEBODY
from validator.entry import GENESIS, Entry, decode, encode
from validator.envelope import Purpose, seal
from validator.list_facts import ListVersions
from validator.lists.errors import ListError
from validator.lists.listed_ids import HEADER_BYTES, ListedIds, encode_listed_ids
from validator.lists.manifest import CHECKED_PAGES, ListKind, Manifest, open_manifest, seal_manifest
from validator.lists.product_rules import breach
from validator.lists.ticket_store import write_ticket_store
from validator.model import Assurance, ClockConfidence, Instant, Outcome, Reason, Tap
from validator.rights import Product, ProductKind

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
        root=st.sampled_from([b"", bytes(range(32))]),
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
        root: bytes,
    ) -> None:
        counted = horizons if kind is ListKind.TICKETS else {}
        checked = root if kind in CHECKED_PAGES else b""
        manifest = Manifest(kind, region, version, dates[0], dates[1], digest, length, counted, checked)
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
            {"root": bytes(31)},
            {"root": bytes(33)},
            {"root": bytes(32), "kind": ListKind.TRUST, "horizons": {}},
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
).filter(lambda product: product.fare or product.kind is not ProductKind.PAY_AS_YOU_GO)

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

    @BROKEN
    def test_a_broken_rule_is_not_written(self, tmp_path: Path, field: str, value: object, why: str) -> None:
        bad = dataclasses.replace(PASS, **{field: value})  # type: ignore[arg-type]  # one test for fields of several types
        with pytest.raises(ListError, match=re.escape(why)):
            write_ticket_store(tmp_path / "tickets", [(SOMEBODY, bad)])
        assert not list(tmp_path.iterdir())
