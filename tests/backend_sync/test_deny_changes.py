"""Changes of a deny list: after each, a gate refuses just who should be refused, however the card is listed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from backend_sync.clubcard_builder import build
from backend_sync.deny_changes import Stamp, cumulative_change, next_change
from backend_sync.ribbon_builder import Ids
from tests.hostile import hostile
from validator.card_index import TOKENS
from validator.envelope import Purpose, seal
from validator.lists.dense_delta import WrongBaseError
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_change import MAX_CHANGE_BYTES, DenyChange, apply, open_change, seal_change
from validator.lists.deny_list import DenyList, encode_deny_list, register_block
from validator.lists.errors import ListError
from validator.model import Credential

KEY = Ed25519PrivateKey.generate()
KEYS = {"office": KEY.public_key()}
STAMP = Stamp("north", version=3, number=1, issued_s=1_790_000_000, not_after_s=1_790_086_400)
FOREIGN = b"a foreign issuer"
ISSUED_S = 1_700_000_000
COVERED_S = 1_750_000_000

NUMBERED = [Credential(b"numbered card%03d" % number, TOKENS, index=number) for number in range(40)]
REGISTERED = [Credential(b"a foreign card%02d" % number, FOREIGN, ISSUED_S) for number in range(40)]
OTHERS = [Credential(b"enrolled card%03d" % number) for number in range(40)]
LATER = [replace(each, id=b"+" + each.id[1:], issued_s=COVERED_S + 1) for each in REGISTERED[:5]]
NEWEST = [Credential(b"numbered card%03d" % number, TOKENS, index=number) for number in range(100, 105)]
CARDS = [*NUMBERED, *REGISTERED, *OTHERS, *LATER, *NEWEST]
TWICE = [*NUMBERED[7:9], *REGISTERED[5:7]]
"""Two that are refused by their form and by id, and two by id alone, though their form knows them as good."""
AT_FIRST = frozenset([*NUMBERED[::7], *REGISTERED[::5], *OTHERS[::9], *TWICE])

SOME = st.sets(st.sampled_from(CARDS), max_size=12)
STEPS = st.lists(st.tuples(SOME, SOME), max_size=6)
Steps = list[tuple[set[Credential], set[Credential]]]


@dataclass(frozen=True)
class Year:
    """The foreign issuer's cards of one year."""

    name: bytes = register_block(FOREIGN, ISSUED_S)
    covered_until_s: int = COVERED_S

    def good(self) -> Iterator[Ids]:
        yield ids_of(each for each in REGISTERED if each not in REGISTERED[::5])

    def revoked(self) -> Iterator[Ids]:
        yield ids_of(REGISTERED[::5])


def ids_of(cards: Iterable[Credential]) -> Ids:
    octets = b"".join(each.id for each in cards)
    return np.frombuffer(octets, dtype=">u8").astype(np.uint64).reshape(-1, 2)


@cache
def published() -> DenyList:
    """What lies on a gate before any change: each form holds some."""
    register = build([Year()], b"a seed").payload
    numbers = dense_deny(TOKENS, 100, [each.index for each in NUMBERED[::7] if each.index is not None])
    return DenyList.parse(encode_deny_list([each.id for each in [*OTHERS[::9], *TWICE]], [numbers], register))


def refused(listed: DenyList) -> frozenset[Credential]:
    return frozenset(card for card in CARDS if listed.denied(card))


def changed(steps: Steps) -> tuple[list[DenyChange], DenyList]:
    listed, changes = published(), list[DenyChange]()
    for number, (revoked, restored) in enumerate(steps, 1):
        change, listed = next_change(listed, revoked, restored, replace(STAMP, number=number))
        changes.append(change)
    return changes, listed


def carried(change: DenyChange) -> DenyChange:
    return open_change(seal_change(change, KEY, "office"), KEYS)


class TestLaw:
    def test_each_form_refuses_its_own(self) -> None:
        assert refused(published()) == AT_FIRST

    @given(STEPS)
    def test_a_gate_refuses_whoever_was_refused_last(self, steps: Steps) -> None:
        changes, _ = changed(steps)
        here, expected = published(), set(AT_FIRST)
        for change, (revoked, restored) in zip(changes, steps, strict=True):
            here = apply(here, carried(change))
            expected = (expected - restored) | revoked
            assert refused(here) == expected

    @given(STEPS, st.data())
    def test_a_cumulative_change_takes_the_place_of_all_before_it(self, steps: Steps, data: st.DataObject) -> None:
        changes, last = changed(steps)
        begun = data.draw(st.integers(0, len(steps)))
        middle = published()
        for change in changes[:begun]:
            middle = apply(middle, change)
        here = apply(published(), carried(cumulative_change(published(), middle, STAMP)))
        for change in changes[begun:]:
            here = apply(here, change)
        assert (here.state_hash, refused(here)) == (last.state_hash, refused(last))

    @given(STEPS)
    def test_none_is_left_out_and_none_comes_twice(self, steps: Steps) -> None:
        """Each change fits the one state that it was made for."""
        changes, here = changed(steps)[0], published()
        for change in changes:
            for other in changes:
                if other.base != here.state_hash:
                    with pytest.raises(WrongBaseError):
                        apply(here, other)
            here = apply(here, change)

    @hostile
    @given(st.binary(max_size=300))
    def test_any_octets_under_a_right_signature_are_refused(self, payload: bytes) -> None:
        with pytest.raises(ListError):
            open_change(seal(KEY, "office", Purpose.CHANGE, payload), KEYS)


ONE = [OTHERS[1]]


class TestRefused:
    @pytest.fixture
    def change(self) -> DenyChange:
        return next_change(published(), ONE, [], STAMP)[0]

    def test_a_strangers_signature(self, change: DenyChange) -> None:
        with pytest.raises(ListError, match=r"signature of .office. does not match"):
            open_change(seal_change(change, Ed25519PrivateKey.generate(), "office"), KEYS)

    def test_a_list_is_no_change(self) -> None:
        with pytest.raises(ListError):
            open_change(seal(KEY, "office", Purpose.LIST, b""), KEYS)

    def test_one_cut_short(self, change: DenyChange) -> None:
        sealed = seal_change(change, KEY, "office")
        for end in range(len(sealed)):
            with pytest.raises(ListError):
                open_change(sealed[:end], KEYS)

    def test_one_that_leads_elsewhere_than_it_says(self, change: DenyChange) -> None:
        with pytest.raises(ListError, match="leads to the state"):
            apply(published(), replace(change, state=bytes(32)))

    def test_numbers_of_an_issuer_who_is_not_on_the_list(self) -> None:
        change, _ = next_change(published(), [NUMBERED[1]], [], STAMP)
        alone = DenyList.parse(encode_deny_list([]))
        with pytest.raises(ListError, match="who has none on the list"):
            apply(alone, replace(change, base=alone.state_hash))

    def test_dates_that_cannot_be(self, change: DenyChange) -> None:
        with pytest.raises(ListError, match="not_after_s"):
            seal_change(replace(change, not_after_s=change.issued_s), KEY, "office")

    def test_one_that_nobody_would_read(self) -> None:
        with pytest.raises(ListError, match="at most"):
            open_change(bytes(MAX_CHANGE_BYTES + 1), KEYS)

    @pytest.mark.parametrize("cut", range(60))
    def test_a_list_cut_short(self, cut: int) -> None:
        payload = encode_deny_list([bytes(16)], [dense_deny(TOKENS, 9, [3])])
        with pytest.raises(ListError):
            DenyList.parse(payload[: len(payload) - 1 - cut])


def test_a_change_of_one_card_is_small() -> None:
    for card in (NUMBERED[1], REGISTERED[1], OTHERS[1]):
        change, _ = next_change(published(), [card], [], STAMP)
        assert len(seal_change(change, KEY, "office")) < 400
