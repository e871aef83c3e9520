"""Shared by the tests of the validator: one authority for the whole session."""

import pytest

from tests.validator.authority import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    """An authority that issues cards directly."""
    return Authority.root()
