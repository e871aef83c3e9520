"""Laws over whatever a card may send: some hundred examples in `make test`, two hundred thousand in `make soak`.

The two hundred thousand come in rounds, each with a seed of its own: Hypothesis remembers what it has tried, and one
run of them all takes three times as long, and half a gigabyte.
"""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings

Law = TypeVar("Law", bound=Callable[..., Any])

SOAK: Final = os.environ.get("PILET_SOAK") == "1"
ROUNDS: Final = 20
EXAMPLES: Final = 200_000 // ROUNDS if SOAK else 200


def hostile(law: Law) -> Law:
    """Mark a law over bytes that a parser or a profile is the first to look at, and give it its examples."""
    # A law that is a method has an instance for each of its rounds, in which Hypothesis suspects inherited tests. The
    # classes hold no state, so the instances differ in nothing.
    given = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    marked: Law = pytest.mark.hostile(given(law))
    return marked
