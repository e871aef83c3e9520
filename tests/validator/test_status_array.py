"""The national status array: every card keeps its status, spoilt pages are refused, deltas lead where they say."""

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.list_facts import CardStatus
from validator.lists.checked_pages import DIGEST_BYTES, HEAD_BYTES, PAGE_BYTES, write_checked
from validator.lists.errors import ListError
from validator.lists.status_array import (
    CARDS_PER_PAGE,
    MAX_CARDS,
    StatusArray,
    StatusFile,
    pack,
    write_status_file,
)
from validator.lists.status_delta import (
    MAX_CHANGES,
    StatusDelta,
    StatusOverlay,
    encode_status_delta,
    parse_status_delta,
)
from validator.lists.statuses import Statuses
from validator.model import Credential

ISSUER = bytes(range(16))
ROW_BYTES = 24
MAGIC = b"pilet-status/1\0\0"
STATUSES = st.sampled_from(CardStatus)
HASHES = st.binary(min_size=32, max_size=32)
EDGES = [0, 1, 2, 3, 4, 5, *(CARDS_PER_PAGE * pages + off for pages in (1, 2) for off in (-4, -1, 0, 1, 4))]
#: Indices that make neighbours in a byte, on a page and across pages likely.
INDICES = st.one_of(st.integers(0, 40), st.integers(CARDS_PER_PAGE - 20, CARDS_PER_PAGE + 20), st.integers(0, 50_000))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """Paths that were never used."""
    return (tmp_path / str(number) for number in count())


def row(issuer: bytes, cards: int) -> bytes:
    """A row of the table of issuers."""
    return issuer + cards.to_bytes(8)


def written(path: Path, statuses: Mapping[int, CardStatus], cards: int, issuer: bytes = ISSUER) -> StatusArray:
    """An array with some cards known."""
    write_status_file(path, [(issuer, cards, [packed(statuses, cards)])])
    return opened(path, issuer)


def packed(statuses: Mapping[int, CardStatus], cards: int) -> bytes:
    """What `pack` makes of the statuses of all cards."""
    octets = bytearray(-(-cards // 4))
    for index, status in statuses.items():
        octets[index // 4] |= status << 2 * (index % 4)
    return bytes(octets)


def opened(path: Path, issuer: bytes = ISSUER) -> StatusArray:
    """The array of one issuer."""
    return StatusFile(path).arrays[issuer]


def small(path: Path) -> StatusArray:
    """Two pages and a bit."""
    return written(
        path, {0: CardStatus.OK, 5: CardStatus.LOW, CARDS_PER_PAGE: CardStatus.BLOCKED}, 2 * CARDS_PER_PAGE + 9
    )


class TestArray:
    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(known=st.dictionaries(INDICES, STATUSES, max_size=60), beyond=st.integers(0, 30))
    def test_every_card_keeps_its_status(
        self, fresh: Iterator[Path], known: dict[int, CardStatus], beyond: int
    ) -> None:
        cards = max(known, default=-1) + 1 + beyond
        array = written(next(fresh), known, cards)
        array.check()
        near = {index + off for index in known for off in (-5, -4, -1, 0, 1, 4, CARDS_PER_PAGE)}
        for index in (*near, 0, cards - 1, cards, 2**32 - 1, 2**32, -1):
            assert array.status(index) is known.get(index, CardStatus.UNKNOWN)

    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        arrays=st.dictionaries(
            st.binary(min_size=16, max_size=16), st.dictionaries(INDICES, STATUSES, max_size=20), max_size=4
        )
    )
    def test_each_issuer_has_its_own_cards(
        self, fresh: Iterator[Path], arrays: dict[bytes, dict[int, CardStatus]]
    ) -> None:
        path, counts = next(fresh), {issuer: max(known, default=-1) + 1 for issuer, known in arrays.items()}
        spread = [(issuer, counts[issuer], [packed(known, counts[issuer])]) for issuer, known in sorted(arrays.items())]
        assert write_status_file(path, spread) == sum(counts.values())
        file = StatusFile(path)
        file.check()
        statuses = Statuses(file)
        assert list(file.arrays) == sorted(arrays)
        for issuer, known in arrays.items():
            alone = written(next(fresh), known, counts[issuer], issuer)
            assert (file.arrays[issuer].state_hash, file.arrays[issuer].digests) == (alone.state_hash, alone.digests)
            for index in (*known, counts[issuer]):
                credential = Credential(bytes(16), issuer, index=index)
                assert statuses.status(credential) is known.get(index, CardStatus.UNKNOWN)
            assert statuses.status(Credential(bytes(16), issuer)) is CardStatus.UNKNOWN

    def test_issuers_are_written_in_order(self, tmp_path: Path) -> None:
        for issuers in ([ISSUER, bytes(16)], [ISSUER, ISSUER]):
            with pytest.raises(ListError, match="is not after the one before it"):
                write_status_file(tmp_path / "array", [(issuer, 0, []) for issuer in issuers])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("cards", EDGES)
    def test_every_length_keeps_its_first_and_its_last(self, tmp_path: Path, cards: int) -> None:
        statuses = [tuple(CardStatus)[1 + index % 3] for index in range(cards)]
        write_status_file(tmp_path / "array", [(ISSUER, cards, pack(statuses))])
        array = opened(tmp_path / "array")
        array.check()
        assert array.count == cards
        assert array.issuer == ISSUER
        assert [array.status(index) for index in range(cards)[:9]] == statuses[:9]
        assert [array.status(index) for index in range(cards)[-9:]] == statuses[-9:]
        assert array.status(cards) is CardStatus.UNKNOWN
        pages = -(-cards // CARDS_PER_PAGE)
        assert (tmp_path / "array").stat().st_size == PAGE_BYTES * (1 + pages) + DIGEST_BYTES * pages + ROW_BYTES

    def test_pieces_of_any_length_make_the_same_file(self, tmp_path: Path) -> None:
        octets = b"".join(pack([CardStatus.LOW] * 40_003))
        for name, step in (("one", len(octets)), ("many", 7), ("pages", PAGE_BYTES)):
            pieces = [octets[at : at + step] for at in range(0, len(octets), step)]
            write_status_file(tmp_path / name, [(ISSUER, 40_003, [b"", *pieces, b""])])
        assert len({(tmp_path / name).read_bytes() for name in ("one", "many", "pages")}) == 1

    def test_a_hundred_million_cards_take_25_mb(self, tmp_path: Path) -> None:
        page = bytes([0b01010101]) * PAGE_BYTES
        cards = 100_000_000
        whole, rest = divmod(cards // 4, PAGE_BYTES)
        write_status_file(tmp_path / "array", [(ISSUER, cards, [*[page] * whole, page[:rest]])])
        assert (tmp_path / "array").stat().st_size < 25_150_000
        array = opened(tmp_path / "array")
        assert array.status(cards - 1) is CardStatus.OK
        assert array.status(cards) is CardStatus.UNKNOWN

    @pytest.mark.parametrize(
        ("cards", "pieces"),
        [(5, [b"\1"]), (5, [b"\1\1\0"]), (5, [b"\1", b"\4"]), (5, []), (-1, []), (MAX_CARDS + 1, []), (0, [b"\1"])],
    )
    def test_what_does_not_fit_is_not_written(self, tmp_path: Path, cards: int, pieces: list[bytes]) -> None:
        with pytest.raises(ListError):
            write_status_file(tmp_path / "array", [(ISSUER, cards, pieces)])
        assert not list(tmp_path.iterdir())

    def test_a_file_that_exists_stays(self, tmp_path: Path) -> None:
        (tmp_path / "array").write_text("mine")
        with pytest.raises(ListError, match="exists already"):
            write_status_file(tmp_path / "array", [(ISSUER, 0, [])])
        assert (tmp_path / "array").read_text() == "mine"

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3 * PAGE_BYTES, hard))
            with pytest.raises(ListError, match="cannot be written: File too large"):
                small(tmp_path / "array")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list(tmp_path.iterdir())

    def test_a_closed_array_is_no_answer(self, tmp_path: Path) -> None:
        small(tmp_path / "array")
        file = StatusFile(tmp_path / "array")
        array = file.arrays[ISSUER]
        file.close()
        file.close()
        with pytest.raises(ListError, match="cannot be read"):
            array.status(0)


class TestDamage:
    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(position=st.integers(0), flip=st.integers(1, 255))
    def test_no_byte_can_be_changed(self, fresh: Iterator[Path], position: int, flip: int) -> None:
        path = next(fresh)
        small(path)
        content = bytearray(path.read_bytes())
        content[position % len(content)] ^= flip
        path.write_bytes(content)
        with pytest.raises(ListError):
            StatusFile(path).check()
        # And where nobody checks: a look-up is right or refused.
        try:
            spoilt = opened(path)
        except ListError:
            return
        told = 0
        for index in (0, 5, 1000, CARDS_PER_PAGE, 2 * CARDS_PER_PAGE, 2 * CARDS_PER_PAGE + 8):
            right = {0: CardStatus.OK, 5: CardStatus.LOW, CARDS_PER_PAGE: CardStatus.BLOCKED}.get(
                index, CardStatus.UNKNOWN
            )
            try:
                assert spoilt.status(index) is right
                told += 1
            except ListError as error:
                assert "damaged" in error.why  # noqa: PT017 - either way is good, and this is one of them
        assert 0 < told < 6

    @settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(1), tail=st.binary(max_size=50))
    def test_a_tail_is_never_dropped(self, fresh: Iterator[Path], cut: int, tail: bytes) -> None:
        path = next(fresh)
        small(path)
        content = path.read_bytes()
        changed = content[: -(cut % len(content)) or None] + tail
        path.write_bytes(changed if changed != content else content + b"!")
        with pytest.raises(ListError):
            StatusFile(path).check()

    @pytest.mark.parametrize(
        "length", [0, 1, 15, 16, 103, 104, 4095, 4096, 8191, 8192, 12288, 16383, 16384, 16400, 16431]
    )
    def test_a_file_that_is_cut_off_under_an_open_array_is_refused(self, tmp_path: Path, length: int) -> None:
        """A mapped file would end the process here."""
        array = small(tmp_path / "array")
        os.truncate(tmp_path / "array", length)
        for page in range(3):
            if length >= PAGE_BYTES * (page + 2):
                array.status(CARDS_PER_PAGE * page)
            else:
                with pytest.raises(ListError, match="damaged"):
                    array.status(CARDS_PER_PAGE * page)
        with pytest.raises(ListError):
            StatusFile(tmp_path / "array")

    def test_a_page_in_the_place_of_another_is_refused(self, tmp_path: Path) -> None:
        array = small(tmp_path / "array")
        content = bytearray((tmp_path / "array").read_bytes())
        content[PAGE_BYTES : 2 * PAGE_BYTES] = content[2 * PAGE_BYTES : 3 * PAGE_BYTES]
        (tmp_path / "array").write_bytes(content)
        with pytest.raises(ListError, match="page 0 is damaged"):
            array.status(0)
        assert array.status(CARDS_PER_PAGE) is CardStatus.BLOCKED

    def test_a_page_that_is_spoilt_after_it_was_read_is_refused(self, tmp_path: Path) -> None:
        array = small(tmp_path / "array")
        assert array.status(5) is CardStatus.LOW
        with (tmp_path / "array").open("r+b") as file:
            file.seek(PAGE_BYTES + 1)
            file.write(b"\xff")
        with pytest.raises(ListError, match="page 0 is damaged"):
            array.status(5)

    @hostile
    @given(content=st.binary(max_size=300), proper=st.booleans())
    def test_arbitrary_bytes_are_no_array(self, content: bytes, proper: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        path = Path(f"/proc/self/fd/{(descriptor := os.memfd_create('array'))}")
        try:
            os.write(descriptor, (b"pilet-status/1\0\0" if proper else b"") + content + bytes(PAGE_BYTES))
            with pytest.raises(ListError):
                StatusFile(path)
        finally:
            os.close(descriptor)

    @pytest.mark.parametrize(
        ("head", "table", "why"),
        [
            ((1).to_bytes(4) + b"!", row(ISSUER, 5), "its head is not that of a status list"),
            ((1025).to_bytes(4), b"", "its head is not that of a status list"),
            ((1).to_bytes(4), b"", "has no table of its 1 issuers"),
            ((1).to_bytes(4), row(ISSUER, 5) + b"!", "has no table of its 1 issuers"),
            ((0).to_bytes(4), b"", "has 1 pages, and 0 of them"),
            ((1).to_bytes(4), row(ISSUER, 0), "has 1 pages, and 0 of them"),
            ((1).to_bytes(4), row(ISSUER, CARDS_PER_PAGE + 1), "are not what its 1 pages hold"),
            ((1).to_bytes(4), row(ISSUER, MAX_CARDS + 1), "are not what its 1 pages hold"),
            ((1).to_bytes(4), ISSUER + b"\xff" * 8, "are not what its 1 pages hold"),
            ((2).to_bytes(4), row(ISSUER, 5) + row(ISSUER, 0), "not in order"),
            ((2).to_bytes(4), row(ISSUER, 5) + row(bytes(16), 0), "not in order"),
        ],
    )
    def test_a_table_that_does_not_fit_is_refused(self, tmp_path: Path, head: bytes, table: bytes, why: str) -> None:
        write_checked(tmp_path / "array", MAGIC, [b"\1"], lambda: (head.ljust(HEAD_BYTES, b"\0"), table))
        with pytest.raises(ListError, match=why):
            StatusFile(tmp_path / "array")

    def test_whoever_writes_a_status_of_no_card_is_found_out(self, tmp_path: Path) -> None:
        write_checked(tmp_path / "array", MAGIC, [b"\1\4"], lambda: ((1).to_bytes(4), row(ISSUER, 5)))
        with pytest.raises(ListError, match="cards after the last, 4"):
            StatusFile(tmp_path / "array").check()

    def test_folders_and_files_that_are_not_there(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(ListError, match="cannot be read"):
                StatusFile(path)


CHANGES = st.dictionaries(INDICES, STATUSES, max_size=40)
CARDS = 50_001


class TestDelta:
    @settings(deadline=None)
    @given(
        issuer=st.binary(min_size=16, max_size=16),
        hashes=st.tuples(HASHES, HASHES),
        cards=st.integers(0, MAX_CARDS),
        data=st.data(),
    )
    def test_what_is_encoded_is_what_is_parsed(
        self, issuer: bytes, hashes: tuple[bytes, bytes], cards: int, data: st.DataObject
    ) -> None:
        indices = st.integers(0, max(0, cards - 1))
        drawn = data.draw(st.dictionaries(indices, STATUSES, max_size=50 if cards else 0))
        changes = dict(sorted(drawn.items()))
        delta = StatusDelta(issuer, *hashes, cards, changes)
        assert parse_status_delta(encode_status_delta(delta)) == delta

    @hostile
    @given(content=st.binary(max_size=80), cards=st.integers(0, 2**33))
    def test_arbitrary_bytes_are_refused_or_the_one_encoding(self, content: bytes, cards: int) -> None:
        payload = b"pilet-status-d/1" + bytes(80) + cards.to_bytes(8) + content
        try:
            delta = parse_status_delta(payload)
        except ListError:
            return
        assert encode_status_delta(delta) == payload

    @hostile
    @given(changes=CHANGES, position=st.integers(0), flip=st.integers(1, 255), cut=st.integers(0, 3))
    def test_damaged_deltas_are_refused_or_other_deltas(
        self, changes: dict[int, CardStatus], position: int, flip: int, cut: int
    ) -> None:
        payload = bytearray(encode_status_delta(StatusDelta(ISSUER, bytes(32), bytes(32), CARDS, changes)))
        payload[position % len(payload)] ^= flip
        damaged = bytes(payload[: len(payload) - cut])
        try:
            delta = parse_status_delta(damaged)
        except ListError:
            return
        assert encode_status_delta(delta) == damaged

    @pytest.mark.parametrize("cut", range(1, 30))
    def test_truncated_and_extended_deltas_are_refused(self, cut: int) -> None:
        payload = encode_status_delta(StatusDelta(ISSUER, bytes(32), bytes(32), CARDS, {7: CardStatus.LOW}))
        for changed in (payload[:-cut], payload + bytes(cut)):
            with pytest.raises(ListError):
                parse_status_delta(changed)

    def test_a_card_gets_one_status(self) -> None:
        one = StatusDelta(ISSUER, bytes(32), bytes(32), CARDS, {7: CardStatus.LOW})
        payload = encode_status_delta(one)
        head, run = payload[:104], payload[104 + 2 * 9 : -9]
        empty = bytes(9)
        assert parse_status_delta(head + empty + empty + run + empty) == one
        with pytest.raises(ListError, match="two statuses"):
            parse_status_delta(head + empty + run + run + empty)

    def test_a_few_bytes_ask_for_little_memory(self) -> None:
        head = b"pilet-status-d/1" + bytes(80) + MAX_CARDS.to_bytes(8)
        with pytest.raises(ListError, match=f"more than {MAX_CHANGES} changes"):
            parse_status_delta(head + b"\xff" * 9 + b"\xff" * 1000)

    def test_seventy_changes_of_a_nation_take_less_than_half_a_kilobyte(self) -> None:
        changes = {index * 1_400_009 % 100_000_000: CardStatus(index % 4) for index in range(70)}
        assert len(encode_status_delta(StatusDelta(ISSUER, bytes(32), bytes(32), 100_000_000, changes))) < 400


class TestOverlay:
    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(base=CHANGES, steps=st.lists(st.tuples(CHANGES, st.integers(0, 40_000)), max_size=4))
    def test_an_overlay_is_the_array_that_would_have_been_written(
        self, fresh: Iterator[Path], base: dict[int, CardStatus], steps: list[tuple[dict[int, CardStatus], int]]
    ) -> None:
        begin = overlay = StatusOverlay(written(next(fresh), base, CARDS))
        known, cards = dict(base), CARDS
        for changes, more in steps:
            known, cards = {**known, **changes}, cards + more
            goal = StatusOverlay(written(next(fresh), known, cards))
            delta = parse_status_delta(encode_status_delta(overlay.differences(goal)))
            assert overlay.delta(delta.changes, cards) == delta
            assert all(goal.status(index) is not overlay.status(index) for index in delta.changes)
            overlay = overlay.with_delta(delta)
            assert overlay.state_hash == goal.state_hash
            assert overlay.count == goal.count
            for index in (*known, *(index + 1 for index in known), cards - 1, cards):
                assert overlay.status(index) is known.get(index, CardStatus.UNKNOWN)
        cumulative = begin.differences(overlay)
        again = begin.with_delta(cumulative)
        assert again.state_hash == overlay.state_hash
        assert len(cumulative.changes) == len(again) <= len(overlay)

    def test_an_overlay_is_never_altered(self, tmp_path: Path) -> None:
        overlay = StatusOverlay(small(tmp_path / "array"))
        goal = StatusOverlay(written(tmp_path / "goal", {5: CardStatus.BLOCKED}, 2 * CARDS_PER_PAGE + 9))
        before = overlay.state_hash
        after = overlay.with_delta(overlay.differences(goal))
        assert (overlay.status(0), overlay.status(5), overlay.state_hash) == (CardStatus.OK, CardStatus.LOW, before)
        assert (after.status(0), after.status(5)) == (CardStatus.UNKNOWN, CardStatus.BLOCKED)

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"issuer": bytes(16)}, "is for issuer 0000"),
            ({"before": bytes(32)}, "fits state 0000"),
            ({"after": bytes(32)}, "leads to state"),
            ({"count": 2 * CARDS_PER_PAGE + 8}, "leaves 32776 cards of 32777"),
            ({"count": MAX_CARDS + 1}, "leaves 4294967297 cards"),
            ({"count": 2 * CARDS_PER_PAGE + 10}, "leads to state"),
            ({"changes": {2 * CARDS_PER_PAGE + 9: CardStatus.OK}}, "changes a card that is not one of"),
            ({"changes": {-1: CardStatus.OK}}, "changes a card that is not one of"),
            ({"changes": {6: CardStatus.OK}}, "leads to state"),
        ],
        ids=str,
    )
    def test_a_delta_that_does_not_fit_is_refused(self, tmp_path: Path, change: dict[str, object], why: str) -> None:
        overlay = StatusOverlay(small(tmp_path / "array"))
        goal = StatusOverlay(written(tmp_path / "goal", {5: CardStatus.BLOCKED}, 2 * CARDS_PER_PAGE + 9))
        delta = overlay.differences(goal)
        assert overlay.with_delta(delta).state_hash == goal.state_hash
        with pytest.raises(ListError, match=why):
            overlay.with_delta(replace(delta, **change))  # type: ignore[arg-type]  # one test for fields of several types
        with pytest.raises(ListError, match="fits state"):
            overlay.with_delta(delta).with_delta(delta)
        for changes, cards in (({}, 5), ({overlay.count: CardStatus.OK}, None), ({}, MAX_CARDS + 1)):
            with pytest.raises(ListError):
                overlay.delta(changes, cards)

    def test_no_delta_leads_to_another_issuers_cards_or_to_fewer(self, tmp_path: Path) -> None:
        overlay = StatusOverlay(small(tmp_path / "array"))
        for name, cards, issuer in (("other", 2 * CARDS_PER_PAGE + 9, bytes(16)), ("fewer", 5, ISSUER)):
            with pytest.raises(ListError, match="no delta leads there"):
                overlay.differences(StatusOverlay(written(tmp_path / name, {}, cards, issuer)))

    def test_a_spoilt_page_stops_a_delta_that_touches_it(self, tmp_path: Path) -> None:
        overlay = StatusOverlay(small(tmp_path / "array"))
        cards = 2 * CARDS_PER_PAGE + 9
        known = {0: CardStatus.OK, 5: CardStatus.LOW, CARDS_PER_PAGE: CardStatus.BLOCKED}
        first = StatusOverlay(written(tmp_path / "first", {**known, 6: CardStatus.OK}, cards))
        last = StatusOverlay(written(tmp_path / "last", {**known, cards - 1: CardStatus.OK}, cards))
        to_first, to_last = overlay.differences(first), overlay.differences(last)
        with (tmp_path / "array").open("r+b") as file:
            file.seek(PAGE_BYTES)
            file.write(b"\xff")
        assert overlay.with_delta(to_last).status(cards - 1) is CardStatus.OK
        with pytest.raises(ListError, match="page 0 is damaged"):
            overlay.with_delta(to_first)
