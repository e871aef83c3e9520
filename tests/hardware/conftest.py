"""What the hardware tests share: a reader on an empty air, and cards whose keys are made once."""

import functools
from collections.abc import AsyncIterator, Callable

import pytest

from hardware.nfcpy import NfcpyReader
from hardware.virtual.air import Field
from hardware.virtual.timing import KeyType
from tests.issuing import IssuedCard, Issuer

IssuedOf = Callable[[KeyType], IssuedCard]


@pytest.fixture
async def field() -> AsyncIterator[Field]:
    """nfcpy's simulated air, empty."""
    field = await Field.open()
    yield field
    await field.close()


@pytest.fixture
async def reader(field: Field) -> AsyncIterator[NfcpyReader]:
    """The production driver on that air."""
    reader = NfcpyReader(f"nfcpy:{field.path}", field.path)
    await reader.open()
    yield reader
    await reader.close()


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="session")
def issued(issuer: Issuer) -> IssuedOf:
    """The card of a key type, the same one for the whole session."""
    return functools.cache(issuer.issue)
