"""The list of the tariff's editions, as a gate loads it (`validator.fares.editions`)."""

from pathlib import Path

from validator.fares.editions import MAX_BYTES, Editions, parse_editions
from validator.fares.errors import EditionsError
from validator.lists.errors import ListError


def load_editions(payload: Path) -> Editions:
    """Read a payload into memory; one that is longer than editions may be is not read to its end.

    Raises:
        ListError: It cannot be read, or holds no editions.
    """
    try:
        with payload.open("rb") as file:
            return parse_editions(file.read(MAX_BYTES + 1), payload)
    except OSError as error:
        raise ListError(payload, f"cannot be read: {error.strerror or error}") from error
    except EditionsError as error:
        raise ListError(payload, "; ".join(error.problems)) from error
