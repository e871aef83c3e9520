"""Files that say what became of a nation's numbered cards: issuer, number and status, one card a line.

Two bits a card are held, so that a hundred million take 25 MB.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from backend_sync.publish_errors import InputMissing, PublishError
from backend_sync.text_lines import lines_of
from validator.list_facts import CardStatus
from validator.model import CREDENTIAL_ID_BYTES

MAX_NUMBER: Final = 2**30 - 1
"""No nation has more cards, and a slip of the pen would cost memory."""
HEADING: Final = "issuer,index,status"
_LINE: Final = re.compile(rf"([0-9A-Fa-f]{{{2 * CREDENTIAL_ID_BYTES}}}),([0-9]{{1,10}}),([a-z]+)")
_STATUSES: Final = {status.name.lower(): status for status in CardStatus}
_TOLD_EACH: Final = 1 << 16


class StatusFiles:
    """The statuses of all files together.

    Attributes:
        cards: How many cards they name.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.cards = 0
        self._packed: dict[bytes, bytearray] = {}
        self._counts: dict[bytes, int] = {}

    def read(self, paths: Iterable[Path], progress: Callable[[int], None] = lambda _count: None) -> None:
        """Take files, or all that lies in a folder.

        Args:
            paths: UTF-8 text with the heading ``issuer,index,status``: the id of the issuer's key, 32 hexadecimal
                digits, the number that it gave the card, and ``ok``, ``low``, ``blocked`` or ``unknown``. A line that
                begins with # is a comment. The order does not matter.
            progress: Told the count of cards so far.

        Raises:
            InputMissing: A file cannot be read, or a folder is empty.
            PublishError: A line is something else, or a card gets two statuses.
        """
        for path in paths:
            files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
            if not files:
                raise InputMissing(f"{path}: no file is in this folder")
            for file in files:
                self._read(file, progress)
        progress(self.cards)

    def arrays(self) -> Iterator[tuple[bytes, int, Iterable[bytes]]]:
        """Yield what `Publisher.statuses` takes: issuers in order, each with its cards 0 to the last that was named."""
        for issuer, count in sorted(self._counts.items()):
            yield issuer, count, [bytes(self._packed[issuer])]

    def _read(self, file: Path, progress: Callable[[int], None]) -> None:
        lines = lines_of(file)
        if next(lines, (1, ""))[1] != HEADING:
            raise PublishError(f"{file}: the first line has to be the heading {HEADING}")
        for number, line in lines:
            found = _LINE.fullmatch(line)
            status = None if found is None else _STATUSES.get(found[3])
            if found is None or status is None or int(found[2]) > MAX_NUMBER:
                raise PublishError(
                    f"{file}, line {number}: give the issuer's key by {2 * CREDENTIAL_ID_BYTES} hexadecimal digits, a "
                    f"number up to {MAX_NUMBER}, and one of {', '.join(_STATUSES)}"
                )
            if not self._take(bytes.fromhex(found[1]), int(found[2]), status):
                raise PublishError(f"{file}, line {number}: card {found[2]} of this issuer got another status before")
            self.cards += 1
            if not self.cards % _TOLD_EACH:
                progress(self.cards)

    def _take(self, issuer: bytes, index: int, status: CardStatus) -> bool:
        """Note a status; whether the card had none, or the same."""
        packed = self._packed.setdefault(issuer, bytearray())
        at, shift = index >> 2, 2 * (index & 3)
        if at >= len(packed):
            packed.extend(bytes(at + 1 - len(packed)))
        self._counts[issuer] = max(self._counts.get(issuer, 0), index + 1)
        before = packed[at] >> shift & 3
        packed[at] |= status << shift
        return before in {CardStatus.UNKNOWN, status}
