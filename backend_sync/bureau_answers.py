"""What a card bureau says of the cards it made: columns ``serial``, ``uid`` and ``result`` (``ok`` or ``failed``)."""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from backend_sync.enrolment_table import TableFile, WrongLines, twice

UID_BYTES = 7

_SERIAL = re.compile(r"[0-9]{1,18}")
_UID = re.compile(r"[0-9A-Fa-f]{14}")
_MADE = {"ok": True, "failed": False}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one card that was ordered.

    Attributes:
        serial: Its serial number.
        uid: UID of the chip that is this card now, 7 bytes; None where none was made.
        line: Where a file says so, from 1 for the heading; 0 where no file does.
    """

    serial: int
    uid: bytes | None
    line: int = 0

    @property
    def made(self) -> bool:
        """Whether there is a card."""
        return self.uid is not None


class AnswersFile:
    """An open answer of a bureau. Use `AnswersFile.open`."""

    def __init__(self, table: TableFile) -> None:
        self._table = table

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> "Iterator[AnswersFile]":
        """Open a file.

        Raises:
            EnrolmentInputMissing: It cannot be read.
            EnrolmentError: It can be read only once.
        """
        with TableFile.open(path, ("serial", "uid", "result"), optional=("uid",)) as table:
            yield cls(table)

    def check(self, size: int, look: Callable[[Sequence[Answer]], Iterable[tuple[int, str]]]) -> int:
        """Read all of it, before anything is done; return how many answers it holds.

        Args:
            size: Answers in a chunk.
            look: Says what is wrong with a well-formed chunk, by line.

        Raises:
            EnrolmentError: The heading is wrong.
            ExceptionGroup: Of them, one for each of the first wrong lines.
        """
        wrong, serials, uids = WrongLines(self._table.path), array("q"), array("q")
        answers = self._answers(wrong)
        while chunk := list(islice(answers, size)):
            serials.extend(one.serial for one in chunk)
            uids.extend(int.from_bytes(one.uid) for one in chunk if one.uid is not None)
            wrong.add(look(chunk))
        wrong.add(self._repeated(twice(serials), twice(uids)))
        wrong.tell()
        return len(serials)

    def chunks(self, size: int) -> Iterator[list[Answer]]:
        """Yield what is well formed."""
        answers = self._answers(WrongLines(self._table.path))
        while chunk := list(islice(answers, size)):
            yield chunk

    def _answers(self, wrong: WrongLines) -> Iterator[Answer]:
        for line, cells in self._table.rows():
            if not cells or not _SERIAL.fullmatch(cells[0]) or cells[2] not in _MADE:
                wrong.add([(line, "is not a serial number, a UID, and ok or failed")])
            elif _MADE[cells[2]] and not _UID.fullmatch(cells[1]):
                wrong.add([(line, f"a card that was made has a UID of {2 * UID_BYTES} hexadecimal digits")])
            else:
                yield Answer(int(cells[0]), bytes.fromhex(cells[1]) if _MADE[cells[2]] else None, line)

    def _repeated(self, serials: set[int], uids: set[int]) -> Iterator[tuple[int, str]]:
        found: set[int] = set()
        for one in self._answers(WrongLines(self._table.path)) if serials or uids else ():
            if one.serial in serials:
                if one.serial in found:
                    yield one.line, f"card {one.serial} again"
                found.add(one.serial)
            elif one.uid is not None and int.from_bytes(one.uid) in uids:
                yield one.line, f"card {one.serial} and another have one UID: a chip is one card"
