"""Where a gate is: as its file says, or, on a vehicle, as a small file says that somebody else keeps up to date.

The file is one JSON object. Whoever knows where the vehicle is writes it whole and renames it into its place
(`write_position`), so that a tap reads the old one or the new one:

    {"at_s":1795435200,"format":1,"network":"bus","route":"5","stop":"7820","zones":["A"]}

A position is good for `age_s` seconds, by the wall clock. What is older, unreadable, or no such object is an unknown
position, never a wrong one.
"""

import os
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
import structlog

from validator.model import Instant
from validator.position import Position

log = structlog.get_logger()

MAX_BYTES: Final = 16_384
"""More than the longest position takes, however its names are escaped."""

_Name = Annotated[str, msgspec.Meta(max_length=64)]


class PositionFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a vehicle is.

    Attributes:
        at_s: When that was so, seconds since 1970 UTC.
        stop: The stop that it is at, or was at last.
        route: What it runs as.
        zones: Zones that the stop is in.
        network: The network that it runs in.
        format: Of the file.
    """

    at_s: int
    stop: _Name = ""
    route: _Name = ""
    zones: Annotated[list[_Name], msgspec.Meta(max_length=32)] = []
    network: _Name = ""
    format: Literal[1] = 1


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(PositionFile)


def write_position(path: Path, told: PositionFile) -> None:
    """Say where the vehicle is; a gate that reads meanwhile sees the file before or after, never a part.

    Raises:
        OSError: It cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(_ENCODER.encode(told))
    beside.replace(path)


@dataclass(frozen=True, slots=True)
class FixedPosition:
    """A gate that stays where its file says.

    Attributes:
        position: What the file says.
        zone: Of the clocks on the walls.
    """

    position: Position
    zone: ZoneInfo

    def __call__(self, at: Instant) -> Position:
        """Return the position at a moment."""
        return replace(self.position, offset_s=offset_s(self.zone, at.wall_s))


@dataclass(slots=True)
class VehiclePosition:
    """A gate on a vehicle.

    Attributes:
        path: The file.
        age_s: For how long a position is good, seconds.
        zone: Of the clocks on the walls.
    """

    path: Path
    age_s: int
    zone: ZoneInfo
    _seen: tuple[int, int, int] | None = None
    _told: PositionFile | None = field(default=None)

    def __call__(self, at: Instant) -> Position:
        """Return the position at a moment; the file is read again only after it was replaced."""
        told, offset = self._read(), offset_s(self.zone, at.wall_s)
        if told is None or not -self.age_s <= at.wall_s - told.at_s <= self.age_s:
            return Position(known=False, offset_s=offset)
        return Position(frozenset(told.zones), told.network, told.stop, told.route, offset_s=offset)

    def _read(self) -> PositionFile | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - on the way of a tap
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                self._seen, self._told = seen, None
                self._told = _parse(self.path.read_bytes())
        except (OSError, ValueError) as error:
            if self._told is not None or isinstance(error, ValueError):
                log.warning("position.unknown", file=str(self.path), why=str(error))
            self._told = None
            if isinstance(error, OSError):
                self._seen = None
        return self._told


def _parse(data: bytes) -> PositionFile:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, of {MAX_BYTES} at most")
    return _DECODER.decode(data)


def offset_s(zone: ZoneInfo, at_s: int) -> int:
    """Return what the clocks of a zone are ahead of UTC, in seconds.

    Args:
        zone: The zone.
        at_s: Seconds since 1970 UTC.
    """
    ahead = datetime.fromtimestamp(at_s, zone).utcoffset()
    assert ahead is not None
    return int(ahead.total_seconds())
