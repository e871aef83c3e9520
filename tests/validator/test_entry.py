"""Journal entries: bytes and back, and what is no entry."""

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.entry import GENESIS, MAX_INTEGER, Entry, EntryError, decode, digest, encode
from validator.list_facts import ListVersions
from validator.model import Assurance, ClockConfidence, Instant, Label, Outcome, Reason, Tap

COUNTS = st.integers(0, MAX_INTEGER)
NAMES = st.text(min_size=1, max_size=64)
ENTRIES = st.builds(
    Entry,
    device=NAMES,
    epoch=COUNTS,
    seq=st.integers(1, MAX_INTEGER),
    previous=st.binary(min_size=32, max_size=32),
    tap=st.builds(
        Tap,
        at=st.builds(Instant, COUNTS, COUNTS, st.binary(min_size=8, max_size=8), st.sampled_from(ClockConfidence)),
        place=NAMES,
        gate=NAMES,
        outcome=st.sampled_from(Outcome),
        reason=st.sampled_from(Reason),
        graced=st.booleans(),
        versions=st.builds(ListVersions, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
        credential_id=st.none() | st.binary(min_size=16, max_size=16),
        profile=st.none() | NAMES,
        assurance=st.none() | st.sampled_from(Assurance),
        cached=st.booleans(),
        product_id=st.none() | COUNTS,
        rides=COUNTS,
        amount=COUNTS,
        recovers=st.none() | st.integers(1, MAX_INTEGER),
        edition=COUNTS,
        stop=st.text(max_size=64),
        route=st.text(max_size=64),
        riders=st.integers(1, 99),
        label=st.sampled_from(Label),
    ),
)
TAP = Tap(
    Instant(1, 2, b"one-boot", ClockConfidence.RTC),
    "Viru",
    "north-2",
    Outcome.GRANT,
    Reason.VALID,
    False,
    ListVersions(1, 2, 3, 4, 5),
    bytes(16),
    "piv",
    Assurance.CHIP,
    True,
    7,
    1,
    0,
    None,
    6,
    "7820",
    "5",
    2,
    Label.ENTRY,
)
ENTRY = Entry("gate-1", 5, 1, GENESIS, TAP)
FIELDS = [1, "gate-1", 5, 1, GENESIS, 1, 2, b"one-boot", 1, "Viru", "north-2", 1, 1, False, 1, 2, 3]
FIELDS += [bytes(16), "piv", 3, True, 7, 1, 0, None, 4, 5, 6, "7820", "5", 2, 1]
APPENDED = 7
"""Fields at the end that older entries do not have."""


@given(ENTRIES)
def test_an_entry_survives_its_bytes(entry: Entry) -> None:
    payload = encode(entry)
    assert decode(payload) == entry
    assert encode(decode(payload)) == payload


def test_the_layout_on_the_wire() -> None:
    assert msgpack.unpackb(encode(ENTRY)) == FIELDS


def test_an_entry_from_before_there_were_enrolled_keys_or_statuses() -> None:
    """The fields were appended: what lies in journals and ledgers stays what it was."""
    assert decode(msgpack.packb(FIELDS[:-6])).tap.versions == ListVersions(1, 2, 3, 4)
    assert decode(msgpack.packb(FIELDS[:-7])).tap.versions == ListVersions(1, 2, 3)


def test_an_entry_from_before_taps_told_journeys() -> None:
    tap = decode(msgpack.packb(FIELDS[:-5])).tap
    assert tap == replace(TAP, edition=0, stop="", route="", riders=1, label=Label.NONE)


@hostile
@given(st.binary(max_size=100))
def test_any_bytes_are_refused_by_our_own_error(data: bytes) -> None:
    with pytest.raises(EntryError):
        decode(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, 2),
        (1, ""),
        (1, "x" * 65),
        (2, -1),
        (3, 0),
        (3, 2**63),
        (4, bytes(31)),
        (5, -1),
        (7, bytes(7)),
        (8, 3),
        (9, ""),
        (11, 2),
        (12, 0),
        (12, 99),
        (13, 1),
        (17, bytes(15)),
        (19, 5),
        (21, -1),
        (22, -1),
        (23, 2**64 - 1),
        (24, 0),
        (25, -1),
        (27, -1),
        (28, "x" * 65),
        (29, None),
        (30, 0),
        (30, 100),
        (31, 3),
    ],
)
def test_a_field_out_of_its_range_is_refused(field: int, value: object) -> None:
    changed = [*FIELDS]
    changed[field] = value
    with pytest.raises(EntryError):
        decode(msgpack.packb(changed))


def test_an_entry_that_ends_early_is_refused() -> None:
    for length in range(len(FIELDS) - APPENDED):
        with pytest.raises(EntryError):
            decode(msgpack.packb(FIELDS[:length]))


@given(ENTRIES, ENTRIES)
def test_digests_tell_entries_apart(one: Entry, other: Entry) -> None:
    assert (digest(encode(one)) == digest(encode(other))) == (one == other)
