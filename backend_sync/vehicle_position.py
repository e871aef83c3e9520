"""A vehicle's position on its way to the gates on board: from a topic of the broker into the file that they read.

The vehicle's own system publishes it, retained, where only it may write. It is a hint and no evidence: a position that
is wrong lets somebody ride in a wrong zone, so the broker's rules say who may publish it (`docs/operations.md`).
"""

import asyncio
from pathlib import Path

import structlog

from backend_sync import wire
from backend_sync.throttle import Complaints
from backend_sync.wire import VehiclePosition, WireError
from validator.vehicle_feed import PositionFile, write_position

_LOG = structlog.get_logger("uplink")


class PositionRelay:
    """Writes what is heard of one vehicle's position.

    Args:
        device: The gate on board.
        file: What its configuration names as `position.feed`.
    """

    def __init__(self, device: str, file: Path) -> None:
        self.topic = wire.position(device)
        self._file = file
        self._complain = Complaints(_LOG).warn

    async def take(self, payload: bytes) -> None:
        """Write a position; what is none, or cannot be written, is told. How long it is good, the gates decide."""
        try:
            told = wire.decode(VehiclePosition, payload)
        except WireError as error:
            self._complain("position", "a position that cannot be read is ignored", why=str(error))
            return
        said = PositionFile(told.at_s, told.stop, told.route, list(told.zones), told.network)
        try:
            await asyncio.to_thread(write_position, self._file, said)
        except OSError as error:
            self._complain("position-file", "the position cannot be written; gates on board lose it", why=str(error))
