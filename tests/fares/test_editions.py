"""The file of editions that gates get: what comes back, what holds when, and what is refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fares.travel import FEEDS, MONDAY_S, TARIFFS
from tests.hostile import hostile
from validator.fares import editions as editions_room
from validator.fares.editions import (
    MAX_EDITIONS,
    MAX_LIMIT_S,
    Edition,
    Editions,
    Limits,
    Place,
    encode_editions,
    parse_editions,
    station_of,
)
from validator.fares.errors import EditionsError
from validator.fares.tariff import Tariffs, encode_tariff

CITY, COAST = FEEDS
COAST_ALONE = Tariffs.parse(encode_tariff([COAST]))


def place(feed: str, stop: str, network: str = "", route: str = "", *, gated: bool = True) -> Place:
    return Place(feed, stop, station_of(TARIFFS, feed, stop), network, route, gated)


PLACES = {
    **{f"gate {each.stop_id}": place("city", each.stop_id, "metro") for each in CITY.stops},
    "bus 7": place("city", "", "", "B7", gated=False),
    "tram": place("city", "", gated=False),
    "quay": place("coast", COAST.stops[0].stop_id),
}
GOOD = [Edition(7, MONDAY_S, TARIFFS, PLACES), Edition(9, MONDAY_S + 99, TARIFFS, {"quay": PLACES["quay"]})]
DATA = encode_editions(GOOD)

numbers = st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=MAX_EDITIONS, unique=True).map(sorted)
starts = st.lists(st.integers(0, 2**40), min_size=MAX_EDITIONS, max_size=MAX_EDITIONS, unique=True).map(sorted)
limits = st.builds(Limits, *[st.integers(0, MAX_LIMIT_S)] * 4)
some_places = st.lists(st.sampled_from(sorted(PLACES)), unique=True).map(
    lambda names: {name: PLACES[name] for name in names}
)
some_editions = st.builds(
    lambda versions, froms, those: [
        Edition(version, from_s, TARIFFS, *each)
        for version, from_s, each in zip(versions, froms, those, strict=False)  # as many as there are numbers
    ],
    numbers,
    starts,
    st.lists(st.tuples(some_places, limits), min_size=MAX_EDITIONS, max_size=MAX_EDITIONS),
)


def facts(editions: Editions) -> list[tuple[object, ...]]:
    """All that is in editions."""
    return [
        (each.version, each.from_s, [one.feed for one in each.tariffs.feeds.values()], dict(each.places), each.limits)
        for each in editions.editions
    ]


class TestFile:
    @given(editions=some_editions, order=st.randoms())
    def test_what_is_written_is_read_and_the_order_of_saying_is_not_in_it(
        self, editions: list[Edition], order: Any
    ) -> None:
        data = encode_editions(editions)
        assert facts(parse_editions(data)) == facts(Editions(editions))
        order.shuffle(editions)
        turned = [
            Edition(each.version, each.from_s, each.tariffs, dict(reversed(list(each.places.items()))), each.limits)
            for each in editions
        ]
        assert encode_editions(turned) == data

    def test_editions_of_one_tariff_share_it(self) -> None:
        one, other = parse_editions(DATA).editions
        assert one.tariffs is other.tariffs

    @given(at=st.integers(0, len(DATA) - 1))
    def test_a_file_that_was_cut_is_refused(self, at: int) -> None:
        with pytest.raises(EditionsError):
            parse_editions(DATA[:at])

    @hostile
    @given(data=st.binary() | st.binary().map(lambda tail: DATA[:16] + tail) | st.just(DATA + b"\0"))
    def test_arbitrary_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(EditionsError):
            parse_editions(data)

    @hostile
    @given(at=st.integers(0, len(DATA) - 1), change=st.integers(1, 255))
    def test_a_changed_octet_is_refused_or_gives_other_sound_editions(self, at: int, change: int) -> None:
        data = DATA[:at] + bytes([DATA[at] ^ change]) + DATA[at + 1 :]
        try:
            found = parse_editions(data)
        except EditionsError:
            return
        assert encode_editions(found.editions) == data

    def test_a_number_in_more_octets_than_it_needs_is_refused(self) -> None:
        assert DATA[16:20] == b"\x92\x01\x92\x95"
        with pytest.raises(EditionsError, match="editions: not written as editions are; publish the tariff again"):
            parse_editions(DATA[:17] + b"\xcc\x01" + DATA[18:])

    def test_too_many_bytes_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(editions_room, "MAX_BYTES", len(DATA) - 1)
        with pytest.raises(EditionsError, match=r"lists/tariff/3/payload: has \d+ bytes, more than"):
            parse_editions(DATA, "lists/tariff/3/payload")

    @pytest.mark.parametrize("count", [0, MAX_EDITIONS + 1])
    def test_no_edition_and_too_many_are_refused(self, count: int) -> None:
        with pytest.raises(EditionsError, match="not a file of editions"):
            encode_editions(Edition(number, number, COAST_ALONE, {}) for number in range(1, count + 1))


class TestAt:
    @given(editions=some_editions, at_s=st.integers(0, 2**41))
    def test_the_last_that_has_begun_holds(self, editions: list[Edition], at_s: int) -> None:
        begun = [each for each in editions if each.from_s <= at_s]
        assert Editions(editions).at(at_s) is (max(begun, key=lambda each: each.from_s) if begun else None)

    @given(at_s=st.integers())
    def test_without_editions_none_holds(self, at_s: int) -> None:
        assert Editions().at(at_s) is None
        assert Editions().versions == frozenset()


WRONG: list[tuple[str, Place]] = [
    ("feed: the tariff has no feed 'lost'", Place("lost", "A1", "")),
    ("stop: feed city has no stop 'S1'", Place("city", "S1", "")),
    ("network: feed city has no network 'sea'", place("city", "A1", "sea")),
    ("route: feed city has no route 'R9'", place("city", "A1", "", "R9")),
    ("network: route 'B7' says it already", place("city", "A1", "metro", "B7")),
    ("its station is 'A1' by the tariff, not 'B1'", Place("city", "A1", "B1")),
]


class TestWrong:
    def test_a_place_that_is_not_in_its_tariff_is_refused_and_every_one_is_named(self) -> None:
        misplaced = {f"gate {number}": each for number, (_, each) in enumerate(WRONG[:-1])}
        editions = [Edition(3, 0, TARIFFS, PLACES), Edition(4, 9, TARIFFS, PLACES | misplaced)]
        with pytest.raises(EditionsError) as caught:
            encode_editions(editions, "places.toml")
        told = [f"edition 4, place 'gate {number}': {why}" for number, (why, _) in enumerate(WRONG[:-1])]
        assert len(caught.value.problems) == len(told)
        assert all(problem.startswith(why) for problem, why in zip(caught.value.problems, told, strict=True))
        assert str(caught.value).startswith("places.toml: edition 4, place 'gate 0': feed")

    @pytest.mark.parametrize(("why", "wrong"), WRONG, ids=[why for why, _ in WRONG])
    def test_one_at_a_time(self, why: str, wrong: Place) -> None:
        with pytest.raises(EditionsError) as caught:
            encode_editions([Edition(1, 0, TARIFFS, {"gate": wrong})])
        assert caught.value.problems[0].startswith("edition 1, place 'gate': ")
        assert why in caught.value.problems[0]

    def test_a_place_of_another_editions_tariff_is_refused(self) -> None:
        with pytest.raises(EditionsError, match=r"edition 2, place 'gate A1': feed"):
            encode_editions(
                [
                    Edition(1, 0, TARIFFS, {"gate A1": PLACES["gate A1"]}),
                    Edition(2, 1, COAST_ALONE, {"gate A1": PLACES["gate A1"]}),
                ]
            )

    @pytest.mark.parametrize(
        ("why", "one", "other"),
        [
            ("edition 2 comes after edition 2", (2, 5), (2, 6)),
            ("edition 1 comes after edition 2", (2, 5), (1, 6)),
            ("edition 2 begins at 5, the one before it at 5", (1, 5), (2, 5)),
        ],
    )
    def test_editions_that_do_not_follow_each_other(
        self, why: str, one: tuple[int, int], other: tuple[int, int]
    ) -> None:
        with pytest.raises(EditionsError, match=why):
            encode_editions(Edition(*each, COAST_ALONE, {}) for each in (one, other))

    @pytest.mark.parametrize(
        ("why", "edition"),
        [
            ("number|\\$\\[1\\]\\[0\\]\\[0\\]", Edition(0, 0, COAST_ALONE, {})),
            (">= 0", Edition(1, -1, COAST_ALONE, {})),
            ("length <= 64", Edition(1, 0, COAST_ALONE, {"x" * 65: PLACES["quay"]})),
            ("length >= 1", Edition(1, 0, COAST_ALONE, {"": PLACES["quay"]})),
            ("<= 604800", Edition(1, 0, COAST_ALONE, {}, Limits(journey_s=MAX_LIMIT_S + 1))),
        ],
    )
    def test_what_is_out_of_its_range(self, why: str, edition: Edition) -> None:
        with pytest.raises(EditionsError, match=why):
            encode_editions([edition])

    def test_places_that_are_not_in_order_or_twice(self) -> None:
        rows = msgspec.msgpack.decode(DATA[16:])
        rows[1][0][3].reverse()
        rows[1][1][3] *= 2
        with pytest.raises(EditionsError) as caught:
            parse_editions(DATA[:16] + msgspec.msgpack.encode(rows))
        told = caught.value.problems
        assert len(told) == len(PLACES)
        assert told[-1] == "edition 9: place 'quay' comes after 'quay'"

    def test_a_tariff_that_is_none(self) -> None:
        rows = msgspec.msgpack.decode(DATA[16:])
        rows[1][0][2] = rows[1][1][2] = b"pilet-tariff/1\0\0\x92\x01"
        with pytest.raises(EditionsError) as caught:
            parse_editions(DATA[:16] + msgspec.msgpack.encode(rows))
        assert [each.partition(": tariff: not a tariff: ")[0] for each in caught.value.problems] == [
            "edition 7",
            "edition 9",
        ]
