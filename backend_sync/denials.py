"""The deny lists that gates may have, each with its chain of changes, kept durably beside the list.

    <lists>/deny/announced            the versions, newest first, that gates may have
    <lists>/deny/<version>/changes    the chain (`validator.lists.changes_file`)
    <lists>/deny/<version>/revocations    the last row of the ledger's revocations that is in the list

Blocks; used in one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection

from backend_sync import revocations
from backend_sync.announcement import MAX_CHAINS, Chain, Rhythm, Signer, advance, may_speak, resume
from backend_sync.cataloguing import InForce, ListCatalogue
from backend_sync.ledger import Ledger
from backend_sync.publisher import ROW
from backend_sync.revocation_word import Word
from backend_sync.waves import WHOLE
from validator.lists.changes_file import read_changes, write_changes
from validator.lists.deny_list import DenyList
from validator.lists.directory import read_verified, write_in_place
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind

ANNOUNCED: Final = "announced"
_LOG = structlog.get_logger("announce")


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


@dataclass(frozen=True, slots=True)
class _Rows:
    """How far the ledger's revocations are in a chain.

    Attributes:
        listed: The last row that is in the published list.
        seen: The last row that is in the chain, as far as this process knows; the chain may hold more.
    """

    listed: int
    seen: int


class Denials:
    """The deny lists that gates may have; `look` brings them up to date.

    Args:
        lists: Directory of the published lists; this process is the only writer of changes in it.
        ledger: URL of the ledger, which need not be there yet.
        catalogue: The catalogue that says which list is in force.
        rhythm: When changes are made.

    Attributes:
        chains: One for each list, the newest first; empty before the first is in force. Replaced whole, for readers in
            other threads.

    Raises:
        InputMissing: The key that signs changes is not here.
    """

    def __init__(self, lists: Path, ledger: str, catalogue: ListCatalogue, rhythm: Rhythm) -> None:
        self.chains: tuple[Chain, ...] = ()
        self._lists, self._url, self._rhythm = lists, ledger, rhythm
        self._in_force = InForce(catalogue)
        self._region = catalogue.region
        self._signer = Signer(*catalogue.signer(ListKind.DENY))
        self._rows: dict[int, _Rows] = {}
        self._unreadable: set[int] = set()
        self._ledger: Ledger | None = None

    def look(self, now_s: int) -> Made:
        """Make the changes that are due, and keep them.

        Args:
            now_s: The time, seconds since 1970 UTC.

        Raises:
            ListError: A list or its changes cannot be read or kept, or a new list has to be published.
            PublishError: The catalogue cannot be read.
            LedgerMissing: There is no ledger: nobody could say whether anybody was revoked, so nothing is said.
            LedgerUnavailable: The same, for now.
        """
        other_lists = self._follow()
        if not self.chains:
            return Made([], 0, other_lists)
        speaking = [chain for chain in self.chains if may_speak(chain, now_s, self._rhythm)]
        with self._opened().reading() as connection:
            last = revocations.last_row(connection)
            words = {chain.manifest.version: self._words(connection, chain, last) for chain in speaking}
            given_back = any(not each.revoked for said in words.values() for each in said)
            ended = revocations.ended_credential_ids(connection) if given_back else set()
        made, wrong = list[bytes](), list[ListError]()
        for chain in speaking:
            version = chain.manifest.version
            try:
                step = advance(chain, words[version], ended, now_s, rhythm=self._rhythm, signer=self._signer)
                if step is not None:
                    changed, sealed = step
                    write_changes(self._lists, version, changed.sealed)
                    self.chains = tuple(changed if each is chain else each for each in self.chains)
                    made.append(sealed)
            except ListError as error:
                wrong.append(error)  # of this list alone: gates that have another one hear what they have to
                continue
            self._rows[version] = _Rows(self._rows[version].listed, last)
        if wrong and not made:
            raise wrong[0]
        for each in wrong:
            _LOG.error("a list is told nothing", why=str(each))
        return Made(made, max(map(len, words.values()), default=0), other_lists)

    def last_changes(self) -> list[bytes]:
        """Return the last change of each list: whoever missed only that takes it, whoever missed more finds a gap."""
        return [chain.sealed[-1] for chain in self.chains if chain.sealed]

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    def _follow(self) -> bool:
        """Load the lists that gates may have; whether they are others than before."""
        listed = self._in_force.look().get(ListKind.DENY)
        if listed is None:
            return False
        held = {chain.manifest.version: chain for chain in self.chains}
        before = [each for each in (list(held) or self._announced()) if each < listed.version]
        wanted = [listed.version, *(before if listed.percent < WHOLE else [])][:MAX_CHAINS]
        if wanted == list(held):
            return False
        chains, wrong = list[Chain](), list[ListError]()
        for version in wanted:
            try:
                chains.append(held[version] if version in held else self._load(version))
            except ListError as error:
                wrong.append(error)
                if version not in self._unreadable:
                    self._unreadable.add(version)
                    _LOG.error(
                        "a list cannot be read here; gates that have it hear nothing", version=version, why=error.why
                    )
        if not chains:
            raise wrong[0]
        self._keep_announced(wanted)
        others, self.chains = tuple(chains) != self.chains, tuple(chains)
        return others

    def _load(self, version: int) -> Chain:
        keys = {self._signer.name: self._signer.key.public_key()}
        manifest, payload = read_verified(self._lists, ListKind.DENY, version, keys, self._region)
        try:
            published = DenyList.parse(payload.read_bytes(), payload)
            beside = payload.with_name(ROW)
            row = int(beside.read_text("ascii")) if beside.exists() else 0
        except (OSError, ValueError) as error:
            raise ListError(payload.parent, f"cannot be read: {error}") from error
        self._rows[version] = _Rows(row, row)
        return resume(published, manifest, read_changes(self._lists, version), self._signer)

    def _words(self, connection: Connection, chain: Chain, last: int) -> Sequence[Word]:
        rows = self._rows[chain.manifest.version]
        if last < rows.seen:
            _LOG.error("the ledger has lost rows; all of its revocations are said again", last=last, seen=rows.seen)
            rows = self._rows[chain.manifest.version] = _Rows(0, 0)
        return revocations.words_after(connection, rows.seen, rows.listed) if rows.seen < last else ()

    def _announced(self) -> list[int]:
        try:
            return [int(each) for each in (self._lists / ListKind.DENY / ANNOUNCED).read_text("ascii").split()]
        except (OSError, ValueError):
            return []

    def _keep_announced(self, versions: Sequence[int]) -> None:
        path = self._lists / ListKind.DENY / ANNOUNCED
        try:
            write_in_place(path, f"{' '.join(map(str, versions))}\n".encode())
        except OSError as error:
            raise ListError(path, f"cannot be stored: {error.strerror or error}") from error

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.open(self._url)
        return self._ledger
