"""What a desk says of the cards it made, in the form of a bureau's answer, and which card it was at when it stopped.

Before the first octet of a token goes into a card, the file ``REPORT.begun`` says which serial number that card is.
Until that card is finished or given up, no other becomes it: otherwise a card that was torn away as it was finished
would be one of two with one token.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from validator.card_records import PersonalisationError

HEADING: Final = b"serial,uid,result\n"
OK, FAILED = "ok", "failed"

_LINE = re.compile(r"([0-9]{1,18}),([0-9A-Fa-f]{14})?,(ok|failed)")
_BEGUN = re.compile(r"([0-9]{1,18}),([0-9a-f]{14})\n")


@dataclass(frozen=True, slots=True)
class Begun:
    """A card that was begun and is not answered for.

    Attributes:
        serial: What it is to be.
        uid: Its true UID, 7 bytes.
    """

    serial: int
    uid: bytes


class Report:
    """An open report, which one process writes. Use `Report.open`.

    Attributes:
        results: What the report says, by serial number: ``ok`` or ``failed``.
        serial_of: Serial numbers of the cards that were made, by UID.
        begun: The card that was begun; None for none.
    """

    def __init__(self, path: Path, file: FileIO) -> None:
        self.results: dict[int, str] = {}
        self.serial_of: dict[bytes, int] = {}
        self._path, self._file = path, file
        self._note = path.with_name(path.name + ".begun")
        self._take(_whole_lines(path, file))
        self.begun = self._noted()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> "Iterator[Report]":
        """Open a report, or begin one. A line that was cut off by a crash is taken away.

        Raises:
            PersonalisationError: It is something else, or another process writes it.
            OSError: It cannot be written.
        """
        with FileIO(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PersonalisationError(f"{path}: another desk writes this report: give each its own") from None
            yield cls(path, file)

    def begin(self, serial: int, uid: bytes) -> None:
        """Bind a card to a serial number; when this returns, that is durable.

        Raises:
            OSError: It cannot be written.
        """
        building = self._note.with_name(self._note.name + ".new")
        with building.open("w") as file:
            file.write(f"{serial},{uid.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        building.replace(self._note)
        _sync_folder(self._path)
        self.begun = Begun(serial, uid)

    def finish(self, result: str) -> None:
        """Answer for the card that was begun; when this returns, that is durable.

        Raises:
            OSError: It cannot be written.
        """
        assert self.begun is not None
        serial, uid = self.begun.serial, self.begun.uid
        _append(self._file, f"{serial},{uid.hex()},{result}\n".encode())
        self._know(serial, uid, result)
        self.begun = None
        self._note.unlink(missing_ok=True)

    def _take(self, lines: list[str]) -> None:
        for number, line in enumerate(lines, 2):
            found = _LINE.fullmatch(line)
            if found is None:
                raise PersonalisationError(f"{self._path}, line {number}: is no serial number, UID, and ok or failed")
            self._know(int(found[1]), bytes.fromhex(found[2] or ""), found[3])

    def _know(self, serial: int, uid: bytes, result: str) -> None:
        self.results[serial] = result
        if result == OK:
            self.serial_of[uid] = serial

    def _noted(self) -> Begun | None:
        try:
            text = self._note.read_text()
        except FileNotFoundError:
            return None
        found = _BEGUN.fullmatch(text)
        if found is None:
            raise PersonalisationError(f"{self._note}: does not say which card was begun: restore it from a copy")
        begun = Begun(int(found[1]), bytes.fromhex(found[2]))
        return None if begun.serial in self.results else begun


def _whole_lines(path: Path, file: FileIO) -> list[str]:
    file.seek(0)
    content = file.readall() or b""
    whole = content[: content.rfind(b"\n") + 1]
    if not (whole or HEADING).startswith(HEADING) or (not whole and not HEADING.startswith(content)):
        heading = HEADING.decode().strip()
        raise PersonalisationError(f"{path}: does not begin with {heading}: give the desk's own report, or a new file")
    if whole != content:
        file.truncate(len(whole))
    if not whole:
        _append(file, HEADING)
        _sync_folder(path)
    return whole.decode("ascii", "replace").splitlines()[1:]


def _append(file: FileIO, octets: bytes) -> None:
    left = memoryview(octets)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
