"""Which country signs for which issuing state: one for each, but where Doc 9303 gives several."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validator import issuing_states
from validator.issuing_states import issues

ISO = [tuple(pair.split("=")) for pair in issuing_states._ISO_3166.split()]
ADDED = [tuple(pair.split("=")) for pair in issuing_states._ICAO.split()]
COUNTRIES = sorted({country for _, country in ISO + ADDED})


def test_iso_3166_is_there_whole_and_goes_one_to_one() -> None:
    assert len(ISO) == 249, "officially assigned codes"
    assert all(re.fullmatch("[A-Z]{3}=[A-Z]{2}", "=".join(pair)) for pair in ISO)
    for side in zip(*ISO, strict=True):
        assert set(Counter(side).values()) == {1}
    assert [pair[0] for pair in ISO] == sorted(pair[0] for pair in ISO)


def test_what_doc_9303_adds_is_not_in_iso_3166() -> None:
    assert not {state for state, _ in ADDED} & {state for state, _ in ISO}
    assert {country for _, country in ADDED} - {country for _, country in ISO} == {"UN", "EU", "KS", "XK", "UT"}


@pytest.mark.parametrize("state", [state for state, _ in ISO])
def test_a_state_has_one_country(state: str) -> None:
    assert [(state, country) for country in COUNTRIES if issues(country, state)] == [
        pair for pair in ISO if pair[0] == state
    ]


@pytest.mark.parametrize(
    ("country", "state"),
    [
        ("AT", "AUS"), ("AU", "AUT"), ("CH", "CHN"), ("SE", "SWZ"), ("EE", "ESP"), ("SK", "SVN"), ("SI", "SVK"),
        ("DE", "XXX"), ("XX", "XXB"), ("XO", "XOM"), ("EE", "est"), ("EE", ""), ("", ""), ("", "EST"), ("EST", "EST"),
        ("EE", "E"), ("EE EST=EE", "EST"),
    ],
)  # fmt: skip
def test_what_is_alike_and_not_the_same(country: str, state: str) -> None:
    assert not issues(country, state)


@given(country=st.text(max_size=4), state=st.text(max_size=4))
def test_nothing_else_is_anybodys(country: str, state: str) -> None:
    assert issues(country, state) == ((state, country.upper()) in {*ISO, *ADDED})
