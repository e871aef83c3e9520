"""The deny list's container: three forms behind one question, at any length; nothing between a list and a refusal."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.card_index import TOKENS
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.errors import ListError
from validator.model import Credential

SOAK = os.environ.get("PILET_SOAK") == "1"
ANOTHER = b"another issuer's"


def credential(number: int, issuer: bytes = b"") -> Credential:
    return Credential(number.to_bytes(16), issuer, index=number if issuer else None)


@given(
    st.sets(st.integers(0, 60), max_size=30),
    st.dictionaries(st.sampled_from([TOKENS, ANOTHER]), st.sets(st.integers(0, 49), max_size=30)),
)
def test_it_refuses_those_who_are_on_it_and_nobody_else(ids: set[int], numbers: dict[bytes, set[int]]) -> None:
    sections = [dense_deny(issuer, 50, sorted(listed)) for issuer, listed in numbers.items()]
    read = DenyList.parse(encode_deny_list([each.to_bytes(16) for each in ids], sections))
    read.check()
    for issuer in (b"", TOKENS, ANOTHER):
        for number in range(60):
            wanted = number in ids or number in numbers.get(issuer, set())
            assert read.denied(credential(number, issuer)) is wanted
    assert len(read) == len(ids) + sum(map(len, numbers.values()))


@given(st.permutations(range(20)), st.permutations([TOKENS, ANOTHER]))
def test_the_same_cards_in_any_order_are_the_same_bytes(ids: list[int], issuers: list[bytes]) -> None:
    sections = [dense_deny(issuer, 9, [3, 8]) for issuer in issuers]
    ordered = [dense_deny(issuer, 9, [3, 8]) for issuer in sorted(issuers)]
    plain = encode_deny_list([each.to_bytes(16) for each in range(20)], ordered)
    assert encode_deny_list([each.to_bytes(16) for each in ids], sections) == plain


class TestTokyo:
    """In October 2007 a deny list whose length did not fit a block size kept 4,378 gates closed in the morning."""

    @pytest.mark.timeout(3600 if SOAK else 120)
    def test_every_length_of_ids_loads_or_is_refused(self) -> None:
        rng, ids = random.Random(1), [number.to_bytes(16) for number in range(20_001)]
        for length in range(20_001) if SOAK else [*range(130), *range(130, 20_001, 97), 19_999, 20_000]:
            payload = encode_deny_list(ids[:length])
            read = DenyList.parse(payload)
            assert len(read) == length
            assert not read.denied(credential(length))
            assert length == 0 or read.denied(credential(length - 1))
            with pytest.raises(ListError):
                DenyList.parse(payload[: rng.randrange(len(payload))])
            with pytest.raises(ListError):
                DenyList.parse(payload + bytes(rng.randrange(1, 40)))

    @pytest.mark.parametrize("ids", [0, 1, 2, 100])
    @pytest.mark.parametrize("numbers", [0, 1, 7, 200])
    def test_cut_short_anywhere_it_is_refused(self, ids: int, numbers: int) -> None:
        sections = [dense_deny(TOKENS, 1000, range(numbers))] if numbers else []
        payload = encode_deny_list([each.to_bytes(16) for each in range(ids)], sections)
        for cut in range(len(payload)):
            with pytest.raises(ListError):
                DenyList.parse(payload[:cut])


@hostile
@given(st.binary(max_size=300))
def test_any_bytes_after_its_name(rest: bytes) -> None:
    for payload in (rest, b"pilet-deny/2\0\0\0\0" + rest):
        try:
            DenyList.parse(payload).check()
        except ListError:
            continue


@hostile
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_byte_changed_is_refused_or_another_list(at: int, flip: int) -> None:
    payload = bytearray(encode_deny_list([each.to_bytes(16) for each in range(9)], [dense_deny(TOKENS, 99, [5, 50])]))
    at %= len(payload)
    payload[at] ^= flip
    try:
        read = DenyList.parse(bytes(payload))
        read.check()
    except ListError:
        return
    assert encode_deny_list([read.ids._at(place) for place in range(len(read.ids))], read.numbered.values()) == payload
