"""Each reason has its words: one line, said once, of nobody."""

import pytest

from validator.decision import GRANTING
from validator.model import Reason
from validator.reason_words import REASON_WORDS


def test_every_reason_has_words_and_nothing_else_has() -> None:
    assert set(REASON_WORDS) == set(Reason)


def test_no_two_reasons_are_told_alike() -> None:
    assert len(set(REASON_WORDS.values())) == len(REASON_WORDS)


@pytest.mark.parametrize("reason", Reason)
def test_words_are_one_short_line_that_stands_behind_a_colon(reason: Reason) -> None:
    words = REASON_WORDS[reason]
    assert words == words.strip()
    assert words.isprintable()
    assert 0 < len(words) <= 100
    assert words[0].islower()
    assert not words.endswith((".", "!"))
    assert reason.name not in words, "words are for people"


@pytest.mark.parametrize("reason", Reason)
def test_only_a_grant_is_called_valid(reason: Reason) -> None:
    assert REASON_WORDS[reason].startswith("valid") is (reason in GRANTING)


def test_a_card_that_can_only_claim_is_sent_to_a_desk() -> None:
    for reason in (Reason.LINK_AT_DESK, Reason.CAN_NEEDED):
        assert "link this card at a desk" in REASON_WORDS[reason]
