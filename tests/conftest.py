"""What holds for every test."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.hostile import ROUNDS, SOAK

# No deadline: tests do not time things, and the first example of a law may have to make an RSA key.
settings.register_profile("pilet", deadline=None, max_examples=1000 if SOAK else 100)
settings.load_profile("pilet")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a hostile law its rounds: all laws have the first before any has the second."""
    if SOAK and metafunc.definition.get_closest_marker("hostile") is not None:
        metafunc.fixturenames.append("soak_round")
        metafunc.parametrize("soak_round", range(ROUNDS), scope="session")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep out of the cache of whoever runs the tests, and keep it out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Undo what a command line that ran in this process told the logs: its output is closed when its test is over."""
    configured, handlers = structlog.get_config(), [*logging.root.handlers]
    yield
    structlog.configure(**configured)
    logging.root.handlers[:] = handlers
