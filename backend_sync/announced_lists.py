"""The lists of one kind that gates may have, each with its chain of changes, kept durably beside the list.

    <lists>/<kind>/announced            the versions, newest first, that gates may have
    <lists>/<kind>/<version>/changes    the chain (`validator.lists.changes_file`)
    <lists>/<kind>/<version>/<row>      the last row of the ledger that is in the list (`publisher.ROW`)

Blocks; used in one thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol

import structlog
from sqlalchemy import Connection

from backend_sync.announcement import MAX_CHAINS, Chain, Rhythm, Signer, advance, may_speak, resume
from backend_sync.cataloguing import InForce, ListCatalogue
from backend_sync.ledger import Ledger
from backend_sync.publisher import ROW
from backend_sync.telling import Change, Listed, Said, Telling
from backend_sync.waves import WHOLE
from validator.lists.changes_file import read_changes, write_changes
from validator.lists.directory import read_verified, write_in_place
from validator.lists.errors import ListError

ANNOUNCED: Final = "announced"
_LOG = structlog.get_logger("announce")


@dataclass(frozen=True, slots=True)
class Rows:
    """How far a table of the ledger is in a chain.

    Attributes:
        listed: The last row that is in the published list.
        seen: The last row that is in the chain, as far as this process knows; the chain may hold more.
    """

    listed: int
    seen: int


class Source(Protocol[Listed, Change, Said]):
    """Where it stands in the ledger what there is to say."""

    @property
    def telling(self) -> Telling[Listed, Change, Said]:
        """How it is told."""
        ...

    def last_row(self, connection: Connection) -> int:
        """Return the number of the last row; as long as it stays, there is nothing to say."""
        ...

    def said(self, connection: Connection, chain: Chain[Listed, Change, Said], rows: Rows) -> tuple[Said, int]:
        """Return what rows after those that were seen say, without what the chain says already.

        Not all of them have to be looked at in one go, where there are many.

        Returns:
            What to say, and the last row that was looked at.
        """
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """What a look at the ledger and the catalogue brought.

    Attributes:
        changes: The changes that were made, signed, in order.
        moved: How many cards they speak of.
        other_lists: Whether the lists themselves are others than before.
    """

    changes: list[bytes]
    moved: int
    other_lists: bool


class AnnouncedLists(Generic[Listed, Change, Said]):
    """The lists of one kind that gates may have; `look` brings them up to date.

    Args:
        source: What there is to say.
        lists: Directory of the published lists; this process is the only writer of changes in it.
        ledger: Opens the ledger, which need not be there yet.
        catalogue: The catalogue that says which list is in force.
        rhythm: When changes are made.

    Attributes:
        kind: Which lists.
        chains: One for each list, the newest first; empty before the first is in force. Replaced whole, for readers in
            other threads.

    Raises:
        InputMissing: The key that signs changes is not here.
    """

    def __init__(
        self,
        source: Source[Listed, Change, Said],
        lists: Path,
        ledger: Callable[[], Ledger],
        catalogue: ListCatalogue,
        rhythm: Rhythm,
    ) -> None:
        self.kind = source.telling.changing.kind
        self.chains: tuple[Chain[Listed, Change, Said], ...] = ()
        self._source, self._lists, self._ledger, self._rhythm = source, lists, ledger, rhythm
        self._in_force = InForce(catalogue)
        self._region = catalogue.region
        self._signer = Signer(*catalogue.signer(self.kind))
        self._rows: dict[int, Rows] = {}
        self._unreadable: set[int] = set()

    def look(self, now_s: int) -> Made:
        """Make the changes that are due, and keep them.

        Args:
            now_s: The time, seconds since 1970 UTC.

        Raises:
            ListError: A list or its changes cannot be read or kept, or a new list has to be published.
            PublishError: The catalogue cannot be read.
            LedgerMissing: There is no ledger: nobody could say whether anything happened, so nothing is said.
            LedgerUnavailable: The same, for now.
        """
        other_lists = self._follow()
        speaking = [chain for chain in self.chains if may_speak(chain, now_s, self._rhythm)]
        if not speaking:
            return Made([], 0, other_lists)
        source, telling = self._source, self._source.telling
        said = dict[int, tuple[Said, int]]()
        with self._ledger().reading() as connection:
            last = source.last_row(connection)
            for chain in speaking:
                rows = self._rows_of(chain, last)
                nothing = telling.nothing, last
                told = source.said(connection, chain, rows) if rows.seen < last else nothing
                said[chain.manifest.version] = told
        made, wrong = list[bytes](), list[ListError]()
        for chain in speaking:
            version = chain.manifest.version
            news, seen = said[version]
            try:
                step = advance(chain, news, now_s, rhythm=self._rhythm, signer=self._signer)
                if step is not None:
                    changed, sealed = step
                    write_changes(self._lists, version, changed.sealed, self.kind)
                    self.chains = tuple(changed if each is chain else each for each in self.chains)
                    made.append(sealed)
            except ListError as error:
                wrong.append(error)  # of this list alone: gates that have another one hear what they have to
                continue
            self._rows[version] = Rows(self._rows[version].listed, seen)
        if wrong and not made:
            raise wrong[0]
        for each in wrong:
            _LOG.error("a list is told nothing", list=self.kind.value, why=str(each))
        return Made(made, max(len(news) for news, _ in said.values()), other_lists)

    def last_changes(self) -> list[bytes]:
        """Return the last change of each list: whoever missed only that takes it, whoever missed more finds a gap."""
        return [chain.sealed[-1] for chain in self.chains if chain.sealed]

    def _follow(self) -> bool:
        """Load the lists that gates may have; whether they are others than before."""
        listed = self._in_force.look().get(self.kind)
        if listed is None:
            return False
        held = {chain.manifest.version: chain for chain in self.chains}
        before = [each for each in (list(held) or self._announced()) if each < listed.version]
        wanted = [listed.version, *(before if listed.percent < WHOLE else [])][:MAX_CHAINS]
        if wanted == list(held):
            return False
        chains, wrong = list[Chain[Listed, Change, Said]](), list[ListError]()
        for version in wanted:
            try:
                chains.append(held[version] if version in held else self._load(version))
            except ListError as error:
                wrong.append(error)
                if version not in self._unreadable:
                    self._unreadable.add(version)
                    _LOG.error(
                        "a list cannot be read here; gates that have it hear nothing",
                        list=self.kind.value,
                        version=version,
                        why=error.why,
                    )
        if not chains:
            raise wrong[0]
        self._keep_announced(wanted)
        others, self.chains = tuple(chains) != self.chains, tuple(chains)
        return others

    def _load(self, version: int) -> Chain[Listed, Change, Said]:
        telling, keys = self._source.telling, {self._signer.name: self._signer.key.public_key()}
        manifest, payload = read_verified(self._lists, self.kind, version, keys, self._region)
        try:
            published = telling.changing.load(manifest, payload)
            beside = payload.with_name(ROW[self.kind])
            row = int(beside.read_text("ascii")) if beside.exists() else 0
        except (OSError, ValueError) as error:
            raise ListError(payload.parent, f"cannot be read: {error}") from error
        self._rows[version] = Rows(row, row)
        sealed = read_changes(self._lists, version, self.kind)
        return resume(telling, published, manifest, sealed, self._signer)

    def _rows_of(self, chain: Chain[Listed, Change, Said], last: int) -> Rows:
        """Return how far the ledger is in a chain; of one that was put back, everything is said again."""
        rows = self._rows[chain.manifest.version]
        if last < rows.seen:
            _LOG.error("the ledger has lost rows; all is said again", list=self.kind.value, last=last, seen=rows.seen)
            rows = self._rows[chain.manifest.version] = Rows(0, 0)
        return rows

    def _announced(self) -> list[int]:
        try:
            return [int(each) for each in (self._lists / self.kind / ANNOUNCED).read_text("ascii").split()]
        except (OSError, ValueError):
            return []

    def _keep_announced(self, versions: Sequence[int]) -> None:
        path = self._lists / self.kind / ANNOUNCED
        try:
            write_in_place(path, f"{' '.join(map(str, versions))}\n".encode())
        except OSError as error:
            raise ListError(path, f"cannot be stored: {error.strerror or error}") from error


AnyLists = AnnouncedLists[Any, Any, Any]
