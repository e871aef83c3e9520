"""Who takes a new list first: a device's place among a hundred, other for each list and version."""

from hashlib import sha256
from typing import Final

WHOLE: Final = 100
"""Percent of all devices."""

_BUCKET_BYTES: Final = 4


def wave_bucket(device: str, kind: str, version: int) -> int:
    """Return a device's place, 0 to 99: the first four bytes of ``SHA-256("<device>/<kind>/<version>")`` modulo 100.

    Args:
        device: Its id.
        kind: The list.
        version: Its version; that the places change with it, nobody is the first each time.
    """
    digest = sha256(f"{device}/{kind}/{version}".encode()).digest()
    return int.from_bytes(digest[:_BUCKET_BYTES]) % WHOLE


def in_wave(device: str, kind: str, version: int, percent: int) -> bool:
    """Whether a device may install a version while its wave stands at so many percent.

    Args:
        device: Its id.
        kind: The list.
        version: The version.
        percent: 0 for nobody, 100 for everybody.
    """
    return wave_bucket(device, kind, version) < percent
