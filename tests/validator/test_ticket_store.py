"""The ticket snapshot is a dictionary on a disk that may spoil: right answers or refusals, and no third thing."""

import os
import resource
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import validator.lists.ticket_store as room
from tests.hostile import hostile
from tests.validator.ticket_making import CHANGES, IDS, LONG, PASS, PURSE
from validator.lists.checked_pages import HEAD_BYTES, write_checked
from validator.lists.checked_pages import PAGE_BYTES as HEADER_BYTES
from validator.lists.errors import ListError
from validator.lists.product_rows import encode_shapes, numbers_of, shape_of
from validator.lists.product_rules import breach
from validator.lists.ticket_store import PAGE_BYTES, PER_PAGE, TicketStore, write_ticket_store
from validator.rights import Product, ProductKind

BEYOND = st.one_of(st.integers(-1, 3), st.just(2**63))
ODD_AMOUNTS = st.sampled_from([-1, 0, 2**31 - 1, 2**31])
#: Products about the bounds of the rules, on both sides of them.
ODD = st.builds(
    Product,
    product_id=st.one_of(BEYOND, LONG),
    kind=st.sampled_from(ProductKind),
    valid_from=BEYOND,
    valid_until=BEYOND,
    active_from=BEYOND,
    rides=ODD_AMOUNTS,
    balance=ODD_AMOUNTS,
    fare=st.just(150),
)
MAGIC = b"pilet-tickets/1\0"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """Paths that were never used."""
    return (tmp_path / str(number) for number in count())


def written(path: Path, holdings: Mapping[bytes, list[Product]]) -> TicketStore:
    write_ticket_store(path, ((each, product) for each, products in holdings.items() for product in products))
    return TicketStore(path)


def many(credentials: int, products: int = 1) -> dict[bytes, list[Product]]:
    """Holdings of some pages."""
    numbers = count(1)
    return {
        (number * 2 + 1).to_bytes(16): [
            replace((PASS, PURSE)[number % 2], product_id=next(numbers)) for _ in range(products)
        ]
        for number in range(credentials)
    }


class TestDictionary:
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(holdings=CHANGES, strangers=st.lists(IDS, max_size=5))
    def test_a_store_is_a_dictionary(
        self, fresh: Iterator[Path], holdings: dict[bytes, list[Product]], strangers: list[bytes]
    ) -> None:
        store = written(next(fresh), holdings)
        store.check()
        assert store.count == sum(map(len, holdings.values()))
        for credential_id in (*holdings, *strangers):
            assert store.products(credential_id) == holdings.get(credential_id, [])

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), ids=st.lists(IDS, min_size=1, max_size=6, unique=True))
    def test_a_store_of_some_pages_is_a_dictionary(
        self, fresh: Iterator[Path], data: st.DataObject, ids: list[bytes]
    ) -> None:
        """Credentials with more products than a page holds, and pages that begin anywhere in them."""
        size = st.sampled_from([1, 2, PER_PAGE - 1, PER_PAGE, PER_PAGE + 1, 2 * PER_PAGE])
        numbers = count(1)
        holdings = {
            each: [replace(PASS, product_id=next(numbers)) for _ in range(data.draw(size))] for each in sorted(ids)
        }
        store = written(next(fresh), holdings)
        store.check()
        for credential_id in ids:
            assert store.products(credential_id) == holdings[credential_id]
            for near in (int.from_bytes(credential_id) + 1, int.from_bytes(credential_id) - 1):
                if 0 <= near < 2**128:
                    assert store.products(near.to_bytes(16)) == holdings.get(near.to_bytes(16), [])

    @pytest.mark.parametrize("size", [0, 1, 2, *(PER_PAGE * pages + off for pages in (1, 2, 3) for off in (-1, 0, 1))])
    def test_every_length_keeps_its_first_and_its_last(self, tmp_path: Path, size: int) -> None:
        holdings = many(size)
        store = written(tmp_path / "store", holdings)
        store.check()
        assert store.count == size
        for credential_id, products in holdings.items():
            assert store.products(credential_id) == products
            assert store.products((int.from_bytes(credential_id) + 1).to_bytes(16)) == []
        assert store.products(bytes(16)) == []
        assert store.products(b"\xff" * 16) == []
        for odd in (b"", bytes(15), bytes(17)):
            assert store.products(odd) == []

    def test_the_order_of_entries_does_not_matter_nor_do_the_runs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entries = [(each, product) for each, products in many(700, 2).items() for product in products]
        for name, run, block in (("one", 10**6, 10**6), ("many", 100, 7), ("some", 333, 50)):
            monkeypatch.setattr(room, "RUN", run)
            monkeypatch.setattr(room, "_BLOCK_ROWS", block)
            mixed = sorted(entries, key=lambda entry: entry[1].product_id * 7919 % 1409)
            write_ticket_store(tmp_path / name, entries if name == "one" else mixed)
        contents = [(tmp_path / name).read_bytes() for name in ("one", "many", "some")]
        assert contents[0] == contents[1] == contents[2]
        TicketStore(tmp_path / "many").check()

    def test_forty_bytes_a_record(self, tmp_path: Path) -> None:
        written(tmp_path / "store", many(20_000))
        assert (tmp_path / "store").stat().st_size / 20_000 < 40

    def test_progress_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "PROGRESS_EVERY", 10)
        monkeypatch.setattr(room, "RUN", 20)
        told: list[int] = []
        entries = [(each, products[0]) for each, products in many(35).items()]
        assert write_ticket_store(tmp_path / "store", entries, told.append) == 35
        assert told == [10, 20, 30, 35]


class TestRefusals:
    @given(product=ODD)
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_the_rules_of_products_are_those_of_the_file(self, fresh: Iterator[Path], product: Product) -> None:
        path = next(fresh)
        if breach(product) is None:
            written(path, {bytes(16): [product]}).check()
            return
        sound = replace(product, product_id=7, valid_from=0, valid_until=1, active_from=0, rides=0, balance=0)
        for others in ([], [sound]):  # where a product of the same shape came before it
            with pytest.raises(ListError, match=f"product {product.product_id}: "):
                written(path, {b"\1" * 16: others, bytes(16): [product]})
        assert not path.exists()

    @pytest.mark.parametrize(
        ("entries", "why"),
        [
            ([(bytes(15), PASS)], "a credential id of 15 bytes"),
            ([(bytes(16), PASS), (b"\1" * 16, PASS)], "two entries share product id 1"),
            ([(bytes(16), PASS), (bytes(16), PASS)], "two entries share product id 1"),
        ],
    )
    def test_what_breaks_a_rule_is_not_written(
        self, tmp_path: Path, entries: list[tuple[bytes, Product]], why: str
    ) -> None:
        with pytest.raises(ListError, match=why):
            write_ticket_store(tmp_path / "store", entries)
        assert not list(tmp_path.iterdir())

    def test_product_ids_are_compared_over_all_runs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "RUN", 10)
        monkeypatch.setattr(room, "_BLOCK_ROWS", 3)
        entries = [(each, products[0]) for each, products in many(95).items()]
        for twice in (1, 10, 11, 50, 95):
            with pytest.raises(ListError, match=f"two entries share product id {twice}$"):
                write_ticket_store(tmp_path / "store", [*entries, (bytes(16), replace(PURSE, product_id=twice))])

    def test_more_shapes_than_a_row_can_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "MAX_SHAPES", 3)
        entries = [(number.to_bytes(16), replace(PURSE, product_id=number, fare=number)) for number in range(1, 5)]
        write_ticket_store(tmp_path / "three", entries[:3])
        with pytest.raises(ListError, match="product 4 has a new shape, and 3 are there already"):
            write_ticket_store(tmp_path / "four", entries)

    def test_a_full_disk_and_a_missing_folder_leave_nothing_behind(self, tmp_path: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            for room_bytes in (10, 3000, 5000, 9000):
                resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
                with pytest.raises(ListError, match="cannot be written: File too large"):
                    written(tmp_path / "store", many(150))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with pytest.raises(ListError, match="cannot be written: No such file"):
            written(tmp_path / "nowhere" / "store", many(1))
        assert not list(tmp_path.iterdir())

    def test_a_file_that_exists_stays(self, tmp_path: Path) -> None:
        (tmp_path / "store").write_text("mine")
        with pytest.raises(ListError, match="exists already"):
            written(tmp_path / "store", many(1))
        assert (tmp_path / "store").read_text() == "mine"


class TestDamage:
    @settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(position=st.integers(0), flip=st.integers(1, 255))
    def test_no_byte_can_be_changed(self, fresh: Iterator[Path], position: int, flip: int) -> None:
        holdings, path = many(250), next(fresh)
        written(path, holdings)
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= flip
        path.write_bytes(content)
        with pytest.raises(ListError):
            TicketStore(path).check()
        try:
            spoilt = TicketStore(path)
        except ListError:
            return
        refused = 0
        for credential_id in (*list(holdings)[::10], bytes(16), b"\xff" * 16):
            try:
                assert spoilt.products(credential_id) == holdings.get(credential_id, [])
            except ListError as error:
                refused += "is damaged" in error.why
        assert refused < len(holdings) / 10

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(1), tail=st.binary(max_size=50))
    def test_a_tail_is_never_dropped(self, fresh: Iterator[Path], cut: int, tail: bytes) -> None:
        path = next(fresh)
        written(path, many(250))
        content = path.read_bytes()
        changed = content[: -(cut % len(content)) or None] + tail
        path.write_bytes(changed if changed != content else content + b"!")
        with pytest.raises(ListError):
            TicketStore(path).check()

    def test_a_page_that_is_spoilt_or_gone_after_it_was_read_is_refused(self, tmp_path: Path) -> None:
        holdings = many(250)
        store = written(tmp_path / "store", holdings)
        first, last = min(holdings), max(holdings)
        assert store.products(first) == holdings[first]
        with (tmp_path / "store").open("r+b") as file:
            file.seek(HEADER_BYTES + 30)
            file.write(b"\xff")
        with pytest.raises(ListError, match="page 0 is damaged"):
            store.products(first)
        assert store.products(last) == holdings[last]
        os.truncate(tmp_path / "store", HEADER_BYTES + 4 * PAGE_BYTES)
        with pytest.raises(ListError, match="page 4 is damaged"):
            store.products(last)
        store.close()
        store.close()
        with pytest.raises(ListError, match="cannot be read"):
            store.products(last)

    @hostile
    @given(content=st.binary(max_size=200), proper=st.booleans())
    def test_arbitrary_bytes_are_no_store(self, *, content: bytes, proper: bool) -> None:
        descriptor = os.memfd_create("store")
        try:
            os.write(descriptor, (MAGIC if proper else b"") + content + bytes(HEADER_BYTES))
            with pytest.raises(ListError):
                TicketStore(Path(f"/proc/self/fd/{descriptor}"))
        finally:
            os.close(descriptor)

    @hostile
    @given(
        page=st.one_of(
            st.binary(max_size=100),
            st.tuples(st.integers(0, 300), st.binary(max_size=200)).map(lambda pair: pair[0].to_bytes(2) + pair[1]),
        ),
        first=IDS,
        wanted=IDS,
        total=st.integers(0, 3),
    )
    def test_arbitrary_pages_under_good_digests_are_found_out(
        self, page: bytes, first: bytes, wanted: bytes, total: int
    ) -> None:
        """Whoever makes such a file holds the publisher's key, or is the publisher and mistaken."""
        table, _ = encode_shapes([shape_of(PASS)])
        head = struct.pack(">QI", total, len(table))
        with TemporaryDirectory() as folder:
            write_checked(Path(folder, "store"), MAGIC, [page], lambda: (head, first + table), PAGE_BYTES)
            store = TicketStore(Path(folder, "store"))
            found: list[Product] = []
            for asked in (first, wanted, page[2:18].ljust(16, b"\0")):
                try:
                    found += store.products(asked)
                except ListError as error:
                    assert "holds a page that is none" in error.why  # noqa: PT017 - it may also be an answer
            try:
                store.check()
            except ListError:
                return
            assert len({product.product_id for product in found}) == total
            assert all(breach(product) is None for product in found)


class TestMistakenPublisher:
    """Files with good digests that nothing but a mistake could have made."""

    @pytest.mark.parametrize(
        ("rows", "first", "counted", "why"),
        [
            ([(b"\2", 2), (b"\1", 1)], b"\2", 2, "is not greater than the one before it"),
            ([(b"\1", 2), (b"\1", 1)], b"\1", 2, "is not greater than the one before it"),
            ([(b"\1", 1), (b"\1", 1)], b"\1", 2, "is not greater than the one before it"),
            ([(b"\1", 1)], b"\2", 1, "begins with another credential than the index says"),
            ([(b"\1", 1)], b"\1", 2, "counts 2 products and has 1"),
            ([(b"\1", 0)], b"\1", 1, "product 0 breaks a rule"),
            ([], b"\1", 0, "is not filled as it should be"),
        ],
    )
    def test_is_found_out_at_installation(
        self, tmp_path: Path, rows: list[tuple[bytes, int]], first: bytes, counted: int, why: str
    ) -> None:
        page = len(rows).to_bytes(2) + b"".join(each * 16 for each, _ in rows)
        page += b"".join(bytes(2) + numbers_of(replace(PASS, product_id=number)) for _, number in rows)
        with pytest.raises(ListError, match=why):
            self._made(tmp_path / "store", page, first * 16, counted).check()

    def test_a_credential_that_a_look_up_would_miss_half_of_is_found_out(self, tmp_path: Path) -> None:
        table, _ = encode_shapes([shape_of(PASS)])
        rows = [bytes(2) + numbers_of(replace(PASS, product_id=number)) for number in (1, 2, 3)]
        pages = [b"\0\2" + b"\1" * 16 + b"\2" * 16 + rows[0] + rows[1], b"\0\1" + b"\2" * 16 + rows[2]]
        rest = b"\1" * 16 + b"\2" * 16 + table
        write_checked(tmp_path / "store", MAGIC, pages, lambda: (struct.pack(">QI", 3, len(table)), rest), PAGE_BYTES)
        with pytest.raises(ListError, match="page 1 goes on with a credential that began inside another"):
            TicketStore(tmp_path / "store").check()

    @pytest.mark.parametrize(
        ("octets", "why"),
        [
            (bytes(1) + b"\1" + numbers_of(PASS), "has shape 1, 1 are there"),
            (bytes(2) + numbers_of(PASS)[:8] + bytes(12), "product 1 breaks a rule"),
            (bytes(2) + numbers_of(PASS)[:16] + b"\xff" * 4, "product 1 breaks a rule"),
            (bytes(2) + numbers_of(PASS) + b"\1", "is not filled as it should be"),
        ],
    )
    def test_rows_are_looked_at(self, tmp_path: Path, octets: bytes, why: str) -> None:
        page = b"\0\1" + b"\1" * 16 + octets
        with pytest.raises(ListError, match=why):
            self._made(tmp_path / "store", page, b"\1" * 16, 1).check()

    @pytest.mark.parametrize(
        ("head", "rest"),
        [
            (struct.pack(">QI", 1, 5), b"\1" * 16),
            (struct.pack(">QI", 1, 0) + b"!", b"\1" * 16),
            (struct.pack(">QI", 1, 0), b"\1" * 16),
            (struct.pack(">QI", 1, 2**32 - 1), b"\1" * 16),
            (struct.pack(">QI", 1, 4), b"\1" * 15),
        ],
    )
    def test_heads_that_do_not_fit_are_refused(self, tmp_path: Path, head: bytes, rest: bytes) -> None:
        write_checked(tmp_path / "store", MAGIC, [b""], lambda: (head.ljust(HEAD_BYTES, b"\0"), rest), PAGE_BYTES)
        with pytest.raises(ListError):
            TicketStore(tmp_path / "store")

    def test_a_shape_that_breaks_a_rule_is_refused(self, tmp_path: Path) -> None:
        table, _ = encode_shapes([shape_of(replace(PASS, places=frozenset({"x" * 65})))])
        write_checked(tmp_path / "store", MAGIC, [], lambda: (struct.pack(">QI", 0, len(table)), table), PAGE_BYTES)
        with pytest.raises(ListError, match="the name of a place"):
            TicketStore(tmp_path / "store")

    def _made(self, path: Path, page: bytes, first: bytes, counted: int) -> TicketStore:
        table, _ = encode_shapes([shape_of(PASS)])
        write_checked(path, MAGIC, [page], lambda: (struct.pack(">QI", counted, len(table)), first + table), PAGE_BYTES)
        return TicketStore(path)
