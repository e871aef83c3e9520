"""The answer to reset: what is built is read back, and any bytes end in historical bytes or a refusal."""

import contextlib
from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.atr import AtrError, contactless_atr, historical_bytes, is_contactless


@given(historical=st.binary(max_size=15))
def test_historical_bytes_survive_the_atr(historical: bytes) -> None:
    atr = contactless_atr(historical)
    assert historical_bytes(atr) == historical
    assert is_contactless(atr)
    assert reduce(xor, atr[1:]) == 0


@given(atr=st.binary(max_size=40))
def test_any_bytes_end_in_historical_bytes_or_a_refusal(atr: bytes) -> None:
    with contextlib.suppress(AtrError):
        assert historical_bytes(atr) in atr


@pytest.mark.parametrize(
    ("atr", "historical", "contactless"),
    [
        ("3B8B80010012233F536549440F9000A0", "0012233F536549440F9000", True),  # an Estonian card over NFC
        ("3BDB960080B1FE451F830012233F536549440F9000F1", "0012233F536549440F9000", False),  # the same in a slot
        ("3BFF9600008031FE438031B85365494464B085051012233F1D", "8031B85365494464B085051012233F", False),
        ("3B6E00FF4573744549442076657220312E30", "4573744549442076657220312E30", False),
        ("3B00", "", False),
    ],
)
def test_answers_of_real_cards(atr: str, historical: str, *, contactless: bool) -> None:
    assert historical_bytes(bytes.fromhex(atr)).hex().upper() == historical
    assert is_contactless(bytes.fromhex(atr)) is contactless


@pytest.mark.parametrize("atr", ["", "3B", "008B8001", "3B8B8001001223", "3B80", "3BF0"])
def test_what_is_cut_short_is_refused(atr: str) -> None:
    with pytest.raises(AtrError):
        historical_bytes(bytes.fromhex(atr))


def test_an_atr_has_room_for_fifteen_historical_bytes() -> None:
    with pytest.raises(AtrError, match="at most 15"):
        contactless_atr(bytes(16))
