"""Cards that the hardware tests share; keys are made once, since RSA keys take their time."""

import functools
from collections.abc import Callable

import pytest

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer

IssuedOf = Callable[[KeyType], IssuedCard]


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="session")
def issued(issuer: Issuer) -> IssuedOf:
    """The card of a key type, the same one for the whole session."""
    return functools.cache(issuer.issue)
