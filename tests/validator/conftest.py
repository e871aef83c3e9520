"""Shared by the tests of the validator: one authority for the whole session, and a card of each kind."""

import pytest

from tests.validator.authority import Authority, card_key
from validator.model import KeyAlgorithm


@pytest.fixture(scope="session")
def authority() -> Authority:
    """An authority that issues cards directly."""
    return Authority.root()


@pytest.fixture(scope="session")
def issued(authority: Authority) -> dict[KeyAlgorithm, bytes]:
    """A good certificate, DER, for `card_key` of each kind."""
    return {algorithm: authority.issue(card_key(algorithm)) for algorithm in KeyAlgorithm}
