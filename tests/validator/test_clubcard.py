"""The sparse deny list: what it says of each card of its universe, and what it does not load."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.lists.clubcard import MAGIC, NO_RARE, Clubcard, Status
from validator.lists.errors import ListError
from validator.lists.ribbon import MAX_ROWS, WIDTH, Equations, Ribbon, column_bytes

SALT = b"a salt of a test"
BY = Equations(SALT)
COVERED_S = 1_700_000_000
GOOD, DENIED, UNCOVERED = Status.GOOD, Status.DENIED, Status.UNCOVERED


def some_id(number: int) -> bytes:
    return hashlib.sha256(b"card %d" % number).digest()[:16]


@dataclass(frozen=True)
class Draft:
    """A payload by the book: ribbons solved as whole systems of equations, and nothing left out."""

    blocks: Sequence[tuple[bytes, int, int, int]] = ()
    filters: Sequence[tuple[int, int]] = ()
    exact_rows: int = 0
    denied: Sequence[bytes] = ()
    good: Sequence[bytes] = ()
    columns: Sequence[bytes] = ()
    counts: Mapping[int, int] = field(default_factory=dict)

    def sealed(self) -> bytes:
        counts = [len(self.blocks), len(self.filters), self.exact_rows, len(self.denied), len(self.good)]
        for place, count in self.counts.items():
            counts[place] = count
        return sealed(
            SALT
            + b"".join(count.to_bytes(4) for count in counts)
            + b"".join(
                bytes([len(name)]) + name + covered.to_bytes(8) + bytes([rare, k])
                for name, covered, rare, k in self.blocks
            )
            + b"".join(bytes([k]) + rows.to_bytes(4) for k, rows in self.filters)
            + b"".join((*self.denied, *self.good, *self.columns))
        )


def sealed(body: bytes) -> bytes:
    return MAGIC + hashlib.blake2b(body, digest_size=32).digest() + body


def solved(wanted: Sequence[tuple[bytes, int]], rows: int, level: int) -> tuple[bytes, list[bytes]]:
    """One column of a ribbon by plain elimination over all its rows; and the ids whose equations cannot be met."""
    system: dict[int, int] = {}
    failed = []
    for credential_id, odd in wanted:
        equation = BY.of(credential_id)
        left = equation[2] << (equation[level] * (rows - WIDTH + 1) >> 32) | odd << rows
        while left & ((1 << rows) - 1):
            lowest = (left & -left).bit_length() - 1
            if lowest not in system:
                system[lowest] = left
                break
            left ^= system[lowest]
        else:
            if left:
                failed.append(credential_id)
    column = int.from_bytes(hashlib.shake_256(b"%d" % rows).digest(column_bytes(rows))) & ((1 << rows) - 1)
    for lowest in sorted(system, reverse=True):
        others = (system[lowest] & column & ~(1 << lowest)).bit_count() + (system[lowest] >> rows)
        column = column & ~(1 << lowest) | (others & 1) << lowest
    return column.to_bytes(column_bytes(rows), "little"), failed


def drafted(universe: Mapping[bytes, Mapping[bytes, Status]], spare: int = 40) -> Draft:
    """Write down a universe with one column in each first ribbon."""
    blocks: list[tuple[bytes, int, int, int]] = []
    rare_ids: list[bytes] = []
    common_ids: list[bytes] = []
    sorts: dict[bytes, Status] = {}
    for name, cards in sorted(universe.items()):
        sides = {status: sorted(each for each, found in cards.items() if found is status) for status in (GOOD, DENIED)}
        rare, common = (DENIED, GOOD) if len(sides[DENIED]) <= len(sides[GOOD]) else (GOOD, DENIED)
        blocks.append((name, COVERED_S, rare.value, 1 if sides[rare] else NO_RARE))
        if sides[rare]:
            rare_ids += sides[rare]
            common_ids += sides[common]
        sorts |= cards
    if not rare_ids:
        return Draft(blocks)
    rows = max(WIDTH, len(rare_ids) + spare)
    first, _ = solved([(each, 0) for each in rare_ids], rows, 0)
    ribbon = Ribbon(rows, [first])
    through = [each for each in common_ids if ribbon.vanishes(BY.of(each)[0], BY.of(each)[2])]
    told = [(each, 0) for each in rare_ids] + [(each, 1) for each in through]
    exact_rows = max(WIDTH, len(told) + spare)
    second, failed = solved(told, exact_rows, 1)
    denied, good = (sorted(each for each in failed if sorts[each] is status) for status in (DENIED, GOOD))
    return Draft(blocks, [(1, rows)], exact_rows, denied, good, [first, second])


@st.composite
def universes(draw: st.DrawFn) -> dict[bytes, dict[bytes, Status]]:
    numbers = iter(range(10_000))
    names = draw(st.lists(st.binary(min_size=1, max_size=20), unique=True, max_size=4))
    return {
        name: {some_id(next(numbers)): status for status in (GOOD, DENIED) for _ in range(draw(st.integers(0, 60)))}
        for name in names
    }


CARDS = {b"2019": {some_id(n): DENIED if n % 9 == 0 else GOOD for n in range(300)}}
DRAFT = drafted(CARDS)
PAYLOAD = DRAFT.sealed()


class TestStatus:
    @given(universe=universes())
    @settings(max_examples=30, deadline=None)
    def test_every_card_of_the_universe_is_told_apart(self, universe: dict[bytes, dict[bytes, Status]]) -> None:
        card = Clubcard.parse(drafted(universe).sealed())
        for name, cards in universe.items():
            for credential_id, status in cards.items():
                assert card.status(name, credential_id, COVERED_S) is status
                assert card.status(name, credential_id, 0) is status

    @given(credential_id=st.binary(min_size=16, max_size=16), late=st.integers(1, 2**63))
    def test_nothing_is_said_of_a_card_that_was_not_counted(self, credential_id: bytes, late: int) -> None:
        card = Clubcard.parse(PAYLOAD)
        assert card.status(b"2019", credential_id, COVERED_S + late) is UNCOVERED
        assert card.status(b"2020", credential_id, 0) is UNCOVERED

    def test_of_strangers_the_answer_is_noise_and_therefore_not_to_be_asked_for(self) -> None:
        card = Clubcard.parse(PAYLOAD)
        answers = [card.status(b"2019", some_id(number), COVERED_S) for number in range(1000, 2000)]
        assert {GOOD, DENIED} == set(answers)

    @pytest.mark.parametrize("length", [0, 15, 17])
    def test_an_id_of_another_length_is_a_mistake_of_the_caller(self, length: int) -> None:
        with pytest.raises(ValueError, match=f"an id of {length} bytes"):
            Clubcard.parse(PAYLOAD).status(b"2019", bytes(length), COVERED_S)

    def test_equations_that_could_not_be_met_are_exceptions(self) -> None:
        crowded = {b"a": {some_id(n): DENIED if n % 2 else GOOD for n in range(900)}}
        draft = drafted(crowded, spare=-20)
        assert draft.denied or draft.good
        card = Clubcard.parse(draft.sealed())
        assert {each: card.status(b"a", each, COVERED_S) for each in crowded[b"a"]} == crowded[b"a"]

    def test_an_empty_list_covers_nothing(self) -> None:
        assert Clubcard.parse(Draft().sealed()).status(b"2019", some_id(0), 0) is UNCOVERED


class TestFormat:
    def test_the_equation_of_an_id_is_part_of_the_format(self) -> None:
        first, second, coefficients = BY.of(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))
        digest = hashlib.sha256(coefficients.to_bytes(WIDTH // 8)).hexdigest()
        assert (first, second, digest) == (FIRST_PLACE, SECOND_PLACE, COEFFICIENTS)

    @given(column=st.binary(min_size=WIDTH // 8, max_size=200))
    def test_columns_come_out_as_they_went_in(self, column: bytes) -> None:
        turned = column[::-1]
        assert Ribbon(len(column) * 8, [column, turned]).columns() == [column, turned]

    @given(column=st.binary(min_size=150, max_size=150), place=st.integers(0, 2**32 - 1), number=st.integers(0))
    def test_a_ribbon_answers_with_the_parity_of_the_window(self, column: bytes, place: int, number: int) -> None:
        coefficients = BY.of(some_id(number))[2]
        start = place * (150 * 8 - WIDTH + 1) >> 32
        window = int.from_bytes(column, "little") >> start & coefficients
        assert Ribbon(150 * 8, [column]).vanishes(place, coefficients) is (window.bit_count() % 2 == 0)

    def test_the_state_is_the_payloads_hash(self) -> None:
        assert Clubcard.parse(PAYLOAD).state_hash == hashlib.blake2b(PAYLOAD, digest_size=32).digest()


class TestDamage:
    def test_any_cut_is_refused(self) -> None:
        for length in range(len(PAYLOAD)):
            with pytest.raises(ListError):
                Clubcard.parse(PAYLOAD[:length])

    def test_any_cut_is_refused_even_if_its_digest_were_right(self) -> None:
        body = PAYLOAD[len(MAGIC) + 32 :]
        for length in range(len(body)):
            with pytest.raises(ListError):
                Clubcard.parse(sealed(body[:length]))

    def test_any_changed_bit_is_refused(self) -> None:
        for place in range(len(PAYLOAD) * 8):
            flipped = bytearray(PAYLOAD)
            flipped[place // 8] ^= 1 << place % 8
            with pytest.raises(ListError):
                Clubcard.parse(bytes(flipped))

    @given(tail=st.binary(min_size=1, max_size=40))
    def test_what_follows_is_not_ignored(self, tail: bytes) -> None:
        for payload in (PAYLOAD + tail, sealed(PAYLOAD[len(MAGIC) + 32 :] + tail)):
            with pytest.raises(ListError):
                Clubcard.parse(payload)

    @hostile
    @given(junk=st.binary(max_size=300))
    def test_junk_is_refused(self, junk: bytes) -> None:
        for payload in (junk, MAGIC + junk, sealed(junk), sealed(SALT + junk)):
            if payload != Draft().sealed():
                with pytest.raises(ListError):
                    Clubcard.parse(payload)

    @hostile
    @given(places=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
    def test_a_lying_body_is_refused_or_answers(self, places: list[tuple[int, int]]) -> None:
        body = bytearray(PAYLOAD[len(MAGIC) + 32 :])
        for place, value in places:
            body[place % len(body)] = value
        try:
            card = Clubcard.parse(sealed(bytes(body)))
        except ListError:
            return
        for name in card.blocks:
            assert card.status(name, some_id(1), 0) in {GOOD, DENIED}

    @pytest.mark.parametrize("place", range(5))
    @pytest.mark.parametrize("count", [2**32 - 1, 2**31, 2**24])
    def test_a_count_beyond_the_payload_asks_for_no_memory(self, place: int, count: int) -> None:
        with pytest.raises(ListError):
            Clubcard.parse(replace(DRAFT, counts={place: count}).sealed())

    @pytest.mark.parametrize(
        ("draft", "why"),
        [
            (replace(DRAFT, blocks=[(b"", 0, 1, 1)]), "no name"),
            (replace(DRAFT, blocks=[(b"b", 0, 1, 1), (b"a", 0, 1, 1)]), "not in order"),
            (replace(DRAFT, blocks=[(b"b", 0, 1, 1), (b"b", 0, 1, 1)]), "not in order"),
            (replace(DRAFT, blocks=[(b"b", 0, 2, 1)]), "sort 2"),
            (replace(DRAFT, blocks=[(b"b", 0, 1, 65)]), "65 columns"),
            (replace(DRAFT, blocks=[(b"b", 0, 1, 2)]), "not those of its blocks"),
            (replace(DRAFT, blocks=[(b"b", 0, 1, 0)]), "not those of its blocks"),
            (replace(DRAFT, blocks=[]), "not those of its blocks"),
            (Draft(exact_rows=WIDTH, columns=[bytes(WIDTH // 8)]), "second ribbon"),
            (Draft([(b"b", 0, 1, 0)]), "second ribbon"),
            (Draft([(b"b", 0, 1, 0)], exact_rows=WIDTH - 1, columns=[bytes(WIDTH // 8)]), "rows"),
            (Draft([(b"b", 0, 1, 0)], exact_rows=MAX_ROWS), "rows"),
            (replace(DRAFT, filters=[(1, WIDTH - 1)]), "rows"),
            (replace(DRAFT, filters=[(1, WIDTH), (1, WIDTH)]), "not in order"),
            (Draft([(b"a", 0, 1, 1), (b"b", 0, 1, 2)], [(2, WIDTH), (1, WIDTH)], WIDTH), "not in order"),
            (replace(DRAFT, filters=[(k, WIDTH) for k in range(65)]), "64 are the most"),
            (replace(DRAFT, denied=[some_id(1), some_id(1)]), "exceptions are not in order"),
            (replace(DRAFT, good=sorted(map(some_id, range(3)), reverse=True)), "exceptions are not in order"),
            (replace(DRAFT, denied=[some_id(1)], good=[some_id(1)]), "both denied and good"),
            (Draft([(b"b", 0, 1, 0)], exact_rows=WIDTH + 1, columns=[bytes(WIDTH // 8) + b"\2"]), "last row"),
        ],
    )
    def test_a_draft_that_breaks_a_rule_is_refused(self, draft: Draft, why: str) -> None:
        with pytest.raises(ListError, match=why):
            Clubcard.parse(draft.sealed(), "here")


FIRST_PLACE, SECOND_PLACE = 911447684, 2188768103
COEFFICIENTS = "d60e952ab7e72b6fbbefc5b7a7f63bc1802f50b796d00e34e56214802a288db1"
