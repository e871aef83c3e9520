"""Laws over whatever a card may send: some hundred examples in `make test`, two hundred thousand in `make soak`."""

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings

Law = TypeVar("Law", bound=Callable[..., Any])

EXAMPLES: Final = 200_000 if os.environ.get("PILET_SOAK") == "1" else 200


def hostile(law: Law) -> Law:
    """Mark a law over bytes that a parser or a profile is the first to look at, and give it its examples."""
    marked: Law = pytest.mark.hostile(settings(max_examples=EXAMPLES, deadline=None)(law))
    return marked
