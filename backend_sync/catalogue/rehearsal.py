"""Takes a catalogue as a new device of each region would, before any real one sees it."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from backend_sync.catalogue.client import refresh
from backend_sync.catalogue.fetching import Fetch


class _NoFloors:
    """A new device has seen nothing."""

    def read(self) -> dict[str, int]:
        return {}

    def raise_to(self, versions: Mapping[str, int], /) -> None:
        """Forget it: the device is gone when the rehearsal is."""


def rehearse(fetch: Fetch, root: bytes, regions: Iterable[str], now_s: int) -> None:
    """Take a catalogue for each region.

    Raises:
        CatalogueRefused: A device of one of them would not take it.
    """
    for region in regions:
        with tempfile.TemporaryDirectory(prefix="pilet-rehearsal-") as folder:
            refresh(fetch, Path(folder), root, now_s, region=region, floors=_NoFloors())
