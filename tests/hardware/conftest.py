"""Cards that the hardware tests share; keys are made once, since RSA keys take their time."""

import functools
import os
from collections.abc import Callable

import pytest
from hypothesis import settings

from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer

IssuedOf = Callable[[KeyType], IssuedCard]

# No deadline: tests do not time things, and the first example of a law may have to make an RSA key.
settings.register_profile("hardware", deadline=None, max_examples=1000 if os.environ.get("PILET_SOAK") == "1" else 100)
settings.load_profile("hardware")


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="session")
def issued(issuer: Issuer) -> IssuedOf:
    """The card of a key type, the same one for the whole session."""
    return functools.cache(issuer.issue)
