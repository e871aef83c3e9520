"""A running depot, on Mosquitto or on both brokers, and an office whose lists travel by the catalogue."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.backend_sync.brokers import Carrier, EmbeddedCarrier, MosquittoCarrier
from tests.backend_sync.depot import Depot
from tests.backend_sync.list_office import ListOffice


@pytest.fixture(params=[MosquittoCarrier, EmbeddedCarrier], ids=["mosquitto", "amqtt"])
async def depot(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Depot]:
    carrier: Carrier = request.param(tmp_path)
    await carrier.start()
    yield Depot(tmp_path, carrier)
    await carrier.kill()


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Depot]:
    carrier = MosquittoCarrier(tmp_path)
    await carrier.start()
    yield Depot(tmp_path, carrier)
    await carrier.kill()


@pytest.fixture
async def carrier(tmp_path: Path) -> AsyncIterator[MosquittoCarrier]:
    carrier = MosquittoCarrier(tmp_path)
    await carrier.start()
    yield carrier
    await carrier.kill()


@pytest.fixture
def announced(tmp_path: Path, carrier: MosquittoCarrier) -> ListOffice:
    return ListOffice(tmp_path / "office", carrier.address).adopt()
