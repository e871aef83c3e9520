"""How far the back office has acknowledged the journal: one small file with one writer.

The file only saves work. If it is lost, damaged, or of another epoch, the device sends its journal again from the start
and the ledger discards what it has, so nothing here is worth refusing to start for.
"""

import os
import zlib
from pathlib import Path
from typing import Annotated, Literal

import msgpack
import msgspec

_FORMAT = 1
_Number = Annotated[int, msgspec.Meta(ge=0)]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    version: Literal[1]
    device: str
    epoch: _Number
    seq: _Number
    crc: _Number


class CursorFile:
    """The cursor of one device's journal.

    Args:
        path: The file; its directory exists and belongs to the uplink.
        device: Whose journal.
    """

    def __init__(self, path: Path, device: str) -> None:
        self._path = path
        self._device = device

    def load(self, epoch: int) -> int:
        """Return the last acknowledged sequence number of `epoch`, or 0 where the file does not say.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            wire = msgspec.convert(msgpack.unpackb(self._path.read_bytes()), _Wire, builtin_types=(bytes,))
        except (FileNotFoundError, ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError):
            return 0
        if wire.device != self._device or wire.epoch != epoch or wire.crc != _crc(self._device, epoch, wire.seq):
            return 0
        return wire.seq

    def store(self, epoch: int, seq: int) -> None:
        """Replace the file; afterwards a power cut leaves the old content or the new, never a mixture.

        Raises:
            OSError: The disk is full, gone or read-only.
        """
        data = msgpack.packb([_FORMAT, self._device, epoch, seq, _crc(self._device, epoch, seq)])
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _crc(device: str, epoch: int, seq: int) -> int:
    return zlib.crc32(msgpack.packb([device, epoch, seq]))
