"""How objects are asked for, whatever carries them, and what bounds the one who sends.

Nothing here reads a clock, so the bound on slowness is a bound on pieces: an object of n bytes comes in at most
``FREE_PIECES + n / AVERAGE_PIECE_BYTES`` of them. If whoever carries them waits at most t seconds for a piece, an
object has come or is given up after t times as many.
"""

from collections.abc import Callable, Iterable
from typing import Final

from backend_sync.catalogue.errors import CatalogueRefused, Refusal

Fetch = Callable[[str, int], Iterable[bytes]]
"""``fetch(name, max_bytes)`` yields an object in pieces, at most as many bytes as are asked for.

It raises `FileNotFoundError` where nothing of that name is published, and another `OSError` where it cannot tell or the
line breaks.
"""

FREE_PIECES: Final = 16
AVERAGE_PIECE_BYTES: Final = 512
OBJECTS: Final = "objects"


def object_name(sha256: str) -> str:
    """Return what to ask for, to get the object with this SHA-256 (hexadecimal)."""
    return f"{OBJECTS}/{sha256}"


def fetch_whole(fetch: Fetch, name: str, max_bytes: int) -> bytes:
    """Fetch one object into memory.

    Args:
        fetch: Whom to ask.
        name: What for.
        max_bytes: How long it may be.

    Raises:
        FileNotFoundError: There is none of that name.
        CatalogueRefused: ENDLESS_DATA, SLOW or NOT_REACHED.
    """
    content = bytearray()
    try:
        for number, piece in enumerate(fetch(name, max_bytes), 1):
            content += piece
            if len(content) > max_bytes:
                raise CatalogueRefused(Refusal.ENDLESS_DATA, name, f"longer than the {max_bytes} bytes it may have")
            if number > FREE_PIECES + len(content) // AVERAGE_PIECE_BYTES:
                raise CatalogueRefused(Refusal.SLOW, name, f"{len(content)} bytes came in {number} pieces")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CatalogueRefused(Refusal.NOT_REACHED, name, str(error) or type(error).__name__) from error
    return bytes(content)
