"""The file of accounts that get a card: columns ``account`` and, for the shipping label, ``reference``.

Both are the operator's own numbers. A column for anything else is refused, so that nobody hands names or addresses to
whoever makes the cards.
"""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.enrolment_table import TableFile, WrongLines, twice

_OWN_NUMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_HOW = "up to 64 letters and digits, with ._/- after the first"


@dataclass(frozen=True, slots=True)
class Applicant:
    """One account that gets a card.

    Attributes:
        line: Where it stands, from 1 for the heading.
        account: The operator's id of the account.
        reference: What the bureau prints on the shipping label; empty for nothing.
    """

    line: int
    account: str
    reference: str


class AccountsFile:
    """An open file of accounts. Use `AccountsFile.open`."""

    def __init__(self, table: TableFile) -> None:
        self._table = table

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> "Iterator[AccountsFile]":
        """Open a file.

        Raises:
            EnrolmentInputMissing: It cannot be read.
            EnrolmentError: It can be read only once.
        """
        with TableFile.open(path, ("account", "reference"), optional=("reference",)) as table:
            yield cls(table)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._table.path

    def check(
        self,
        size: int,
        look: Callable[[Sequence[Applicant]], Iterable[tuple[int, str]]],
        progress: Callable[[int], None] = lambda _read: None,
    ) -> "CheckedAccounts":
        """Read all of it, before anything is done. Eight octets of memory are needed for each account.

        Args:
            size: Accounts in a chunk.
            look: Says what is wrong with a well-formed chunk, by line.
            progress: Told how many were read.

        Raises:
            EnrolmentError: The heading is wrong, or there is no account.
            ExceptionGroup: Of them, one for each of the first wrong lines.
        """
        wrong, seen, digests = WrongLines(self.path), array("q"), []
        applicants = self._applicants(wrong)
        while chunk := list(islice(applicants, size)):
            seen.extend(hash(one.account) for one in chunk)
            digests.append(self._table.digest.digest())
            wrong.add(look(chunk))
            progress(len(seen))
        digest = self._table.digest.digest()
        wrong.add(self._repeated(twice(seen)))
        wrong.tell()
        if not seen:
            raise EnrolmentError(f"{self.path}: there is no account in it, and nothing to issue")
        return CheckedAccounts(self, len(seen), size, digest, digests)

    def chunks(self, size: int) -> Iterator[tuple[list[Applicant], bytes]]:
        """Yield what is well formed, with the SHA-256 of the file up to each chunk's end."""
        applicants = self._applicants(WrongLines(self.path))
        while chunk := list(islice(applicants, size)):
            yield chunk, self._table.digest.digest()

    def _applicants(self, wrong: WrongLines) -> Iterator[Applicant]:
        for line, cells in self._table.rows():
            if not cells:
                wrong.add([(line, "is no row of this table")])
            elif not _OWN_NUMBER.fullmatch(cells[0]):
                wrong.add([(line, f"an account is {_HOW}")])
            elif cells[1] and not _OWN_NUMBER.fullmatch(cells[1]):
                wrong.add([(line, f"a reference is {_HOW}")])
            else:
                yield Applicant(line, cells[0], cells[1])

    def _repeated(self, suspects: set[int]) -> Iterator[tuple[int, str]]:
        """Look again at accounts whose hashes came twice: only equal accounts are equal."""
        first: dict[str, int] = {}
        for one in self._applicants(WrongLines(self.path)) if suspects else ():
            if hash(one.account) in suspects and first.setdefault(one.account, one.line) != one.line:
                yield one.line, f"the account of line {first[one.account]} again; each gets one card"


@dataclass(frozen=True, slots=True)
class CheckedAccounts:
    """A file in which nothing is wrong.

    Attributes:
        file: The file.
        count: How many accounts.
        size: Accounts in a chunk.
        digest: SHA-256 of the file.
        digests: SHA-256 of the file up to the end of each chunk.
    """

    file: AccountsFile
    count: int
    size: int
    digest: bytes
    digests: Sequence[bytes]

    def chunks(self) -> Iterator[list[Applicant]]:
        """Yield the chunks again, each compared with what was checked.

        Raises:
            EnrolmentError: The file was changed meanwhile; nothing that was not checked is given out.
        """
        number = 0
        changed = EnrolmentError(f"{self.file.path}: it was changed while it was read; run this again with it at rest")
        for chunk, digest in self.file.chunks(self.size):
            if number == len(self.digests) or digest != self.digests[number]:
                raise changed
            number += 1
            yield chunk
        if number != len(self.digests):
            raise changed
