"""Issues a batch of cards: every account gets a credential, and a bureau gets its files. It may be killed at any point.

1. The file of accounts is read through. Nothing was done yet, if something is wrong with it.
2. The ledger binds a chunk of accounts a transaction. Run again, this goes on behind the last chunk.
3. The files are written into a folder of another name, from the ledger alone, and reach the disk with every folder on
   the way to them. Run again, this begins anew.
4. The ledger says that they are complete, by the hash of their manifest: the one moment that makes a batch finished.
5. The folder gets its name. Run again, this is made up for, and nothing else is done.

So there is one set of files and never two of which each could be made into cards. `answer` takes what became of them,
and `end` takes cards from their accounts without giving others.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from backend_sync import bindings, enrolment, personalisation_file
from backend_sync.accounts_file import AccountsFile, Applicant, CheckedAccounts
from backend_sync.bindings import Answered, Ending, HeldCard
from backend_sync.bureau_answers import Answer, AnswersFile
from backend_sync.card_family import CardFamily
from backend_sync.enrolment import CardOrder, CardRecord, KeyCheck, Standing, Wanted
from backend_sync.enrolment_errors import EnrolmentBusy, EnrolmentError
from backend_sync.ledger import Ledger
from backend_sync.one_writer import StillWriting, give_way, one_writer
from backend_sync.personalisation_file import Packing

CHUNK = 5000
"""So many accounts or answers are looked up or written at once."""
LOCK_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be issued.

    Attributes:
        name: Its name, unique for ever.
        family: Of all its cards.
        keys: The operator keys that they hold; the first one's version is the batch's.
        replace: Whether cards that its accounts hold end with this.
    """

    name: str
    family: CardFamily
    keys: tuple[KeyCheck, ...]
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """What binding did.

    Attributes:
        order: The batch, as the ledger has it.
        new: Accounts that got a credential now; the others had it from an earlier run.
        replaced: Cards that ended now.
    """

    order: CardOrder
    new: int
    replaced: int


@dataclass(frozen=True, slots=True)
class Issuer:
    """Issues cards out of one ledger.

    Attributes:
        ledger: The ledger.
        now_ms: Reads the clock, milliseconds since 1970 UTC.
        random: Returns that many octets of the operating system's randomness.
        progress: Told what is being done, how much of it is done, and how much there is; None where that is not known.
    """

    ledger: Ledger
    now_ms: Callable[[], int]
    random: Callable[[int], bytes]
    progress: Callable[[str, int, int | None], None] = lambda _what, _done, _of: None

    def bind(self, accounts: AccountsFile, batch: Batch) -> Bound:
        """Give every account of a file a credential, or go on with that.

        Raises:
            EnrolmentError: Something is wrong with the file, an account holds a card, or the batch is another one.
            ExceptionGroup: Of them, one for each of the first wrong lines.
            LedgerUnavailable: Run it again later.
        """
        checked = self._checked(accounts, batch)
        wanted = Wanted(batch.name, batch.family, checked.digest, checked.count, batch.keys)
        with self.ledger.writing() as connection:
            order = enrolment.begin_order(connection, wanted, self.now_ms())
            done = enrolment.issued(connection, order)
        if done == order.cards:
            return Bound(order, 0, 0)
        before, replaced = done, 0
        for start, chunk in self._rest(checked, done):
            with self.ledger.writing() as connection:
                replaced += enrolment.issue(
                    connection, order, start, chunk, replace=batch.replace, random=self.random, now_ms=self.now_ms()
                )
            done = start + len(chunk)
            self.progress("accounts bound", done, order.cards)
            give_way()
        return Bound(order, done - before, replaced)

    def write(self, order: CardOrder, packing: Packing, out: Path) -> Path | None:
        """Write the files for a bureau, once.

        Args:
            order: A batch whose accounts are all bound.
            packing: Who it is for.
            out: Its folder is made in here.

        Returns:
            The folder; None if the batch was finished before, and its files are not in `out`.

        Raises:
            EnrolmentError: Something else has the folder's name.
            LedgerUnavailable: Run it again later.
            OSError: A file cannot be written.
        """
        home, building = out / order.name, out / f".{order.name}.building"
        if order.manifest_sha256 is not None:
            return _finished(home, building, order.manifest_sha256)
        if home.exists():
            raise EnrolmentError(f"{home}: is there, and is not of this batch; give another --out")
        out.mkdir(exist_ok=True)
        if building.exists():
            shutil.rmtree(building)
        building.mkdir(mode=0o700)
        digest = personalisation_file.write_batch(
            building,
            order,
            lambda first, count: self._part(order, first, count),
            packing,
            lambda done: self.progress("records written", done, order.cards),
        )
        # The ledger must not say that there are files whose names a power cut can still take away.
        personalisation_file.sync(out)
        personalisation_file.sync(out.absolute().parent)
        with self.ledger.writing() as connection:
            enrolment.finish(connection, order, digest, self.now_ms())
        personalisation_file.put_in_place(building, home)
        return home

    def unmade(self, order: CardOrder) -> Iterator[CardRecord]:
        """Yield what the cards of a batch are made from, those that nobody has answered for and that have not ended.

        Raises:
            LedgerUnavailable: Try again later.
        """
        for first in range(order.first_serial, order.serials.stop, CHUNK):
            with self.ledger.reading() as connection:
                part = enrolment.records(connection, order, first, CHUNK)
            yield from part

    def answer(self, batch: str, answers: Sequence[Answer]) -> Answered:
        """Record what became of cards of a batch: live, or ended. Repeating an answer changes nothing.

        Raises:
            EnrolmentError: There is no such batch, its files are not complete, or an answer contradicts what is
                recorded; none was recorded.
            LedgerUnavailable: Try again later.
        """
        with self.ledger.writing() as connection:
            order = _answerable(connection, batch)
            return bindings.record_answers(connection, batch, order.serials, answers, self.now_ms())

    def answer_file(self, batch: str, answers: AnswersFile) -> Answered:
        """Record a bureau's file about a batch, after all of it was looked at. Killed on the way, it is run again.

        Raises:
            EnrolmentError: There is no such batch, its files are not complete, or something is wrong with this file.
            ExceptionGroup: Of them, one for each of the first wrong lines; nothing was recorded.
            LedgerUnavailable: Run it again later.
        """
        with self.ledger.reading() as connection:
            order = _answerable(connection, batch)

        def look(chunk: Sequence[Answer]) -> list[tuple[int, str]]:
            with self.ledger.reading() as connection:
                found = bindings.contradictions(connection, batch, order.serials, chunk)
                return [(one.line, what) for one, what in found]

        count = answers.check(CHUNK, look)
        total, done = Answered(), 0
        for chunk in answers.chunks(CHUNK):
            total += self.answer(batch, chunk)
            done += len(chunk)
            self.progress("answers recorded", done, count)
            give_way()
        return total

    def standings(self) -> list[Standing]:
        """Return how each batch stands."""
        with self.ledger.reading() as connection:
            return enrolment.standings(connection)

    def held(self, accounts: Sequence[str]) -> dict[str, HeldCard]:
        """Return the cards that accounts hold, by account; those that hold none are not in it."""
        found: dict[str, HeldCard] = {}
        for start in range(0, len(accounts), CHUNK):
            with self.ledger.reading() as connection:
                found |= bindings.held(connection, accounts[start : start + CHUNK])
        return found

    def end(self, accounts: Sequence[str], why: Ending) -> int:
        """End the cards that accounts hold; return how many. Killed on the way, it is run again.

        Raises:
            LedgerUnavailable: Run it again later.
        """
        ended = 0
        for start in range(0, len(accounts), CHUNK):
            with self.ledger.writing() as connection:
                ended += bindings.end_held(connection, accounts[start : start + CHUNK], why, self.now_ms())
            give_way()
        return ended

    def ended_credential_ids(self) -> Iterator[bytes]:
        """Yield the credentials that belong on the deny list, 16 bytes each."""
        with self.ledger.reading() as connection:
            yield from bindings.ended_credential_ids(connection)

    def _checked(self, accounts: AccountsFile, batch: Batch) -> CheckedAccounts:
        with self.ledger.reading() as connection:
            order = enrolment.find_order(connection, batch.name)
            done = 0 if order is None else enrolment.issued(connection, order)
        seen = 0

        def look(chunk: Sequence[Applicant]) -> list[tuple[int, str]]:
            nonlocal seen
            # Whoever has got a card of this batch may have been given another since.
            rest = chunk[max(0, done - seen) :]
            seen += len(chunk)
            if batch.replace or not rest:
                return []
            with self.ledger.reading() as connection:
                return list(bindings.holders(connection, rest))

        return accounts.check(CHUNK, look, lambda read: self.progress("accounts read", read, None))

    @staticmethod
    def _rest(checked: CheckedAccounts, done: int) -> Iterator[tuple[int, list[Applicant]]]:
        """Yield what comes after the accounts that are done, with the count of those before it."""
        start = 0
        for chunk in checked.chunks():
            end = start + len(chunk)
            if end > done:
                yield max(start, done), chunk[max(0, done - start) :]
            start = end

    def _part(self, order: CardOrder, first: int, count: int) -> tuple[list[CardRecord], list[int]]:
        with self.ledger.reading() as connection:
            made_from = enrolment.records(connection, order, first, count)
            return made_from, enrolment.not_to_be_made(connection, order, first, count)


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Be the only process that enrols: two that write the files of one batch would leave two sets of them.

    Raises:
        EnrolmentBusy: Another one does.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(one_writer(lock, LOCK_WAIT_S))
        except StillWriting:
            raise EnrolmentBusy(
                "another process enrols cards in this ledger: wait for it, then run this again"
            ) from None
        yield


def _answerable(connection: Connection, batch: str) -> CardOrder:
    order = enrolment.find_order(connection, batch)
    if order is None:
        raise EnrolmentError(f"--batch: there is no batch {batch}; `enrol status` shows those that there are")
    if order.manifest_sha256 is None:
        raise EnrolmentError(
            f"batch {batch}: its files are not complete, and nobody can have made its cards; run `enrol batch` again"
        )
    return order


def _finished(home: Path, building: Path, manifest_sha256: bytes) -> Path | None:
    if personalisation_file.manifest_digest(home) == manifest_sha256:
        return home
    if home.exists():
        raise EnrolmentError(f"{home}: is there, and is not what was written for this batch; it was finished before")
    if personalisation_file.manifest_digest(building) == manifest_sha256:
        personalisation_file.put_in_place(building, home)
        return home
    return None
