"""Reads a nation's foreign cards from a folder of CSV files, and makes the register of a deny list of them.

The cards go through numpy's arrays into files of their own, two for each issuer and year: the builder streams its
universe three times, and memory stays that of one chunk. The files take 16 bytes a card, and go away with the folder.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from backend_sync.clubcard_builder import Built, Progress, build
from backend_sync.clubcard_check import batched, id_bytes
from backend_sync.publish_errors import InputMissing, PublishError
from backend_sync.register_rows import MAX_LINE_BYTES, Rows, WrongRowError, heading_of, rows_of
from backend_sync.ribbon_builder import Ids
from validator.lists.deny_list import register_block
from validator.model import Credential

MAX_BLOCKS: Final = 8192
"""Of issuer and year: more than all that issue cards have. Columns that were mixed up have one for each card."""
SAMPLE: Final = 32
"""So many cards of each sort and block are asked about in the list that comes out, in the very words of a gate."""
CHUNK_BYTES: Final = 1 << 23
"""Of text, read at once: some hundred thousand cards."""

_CHUNK_CARDS: Final = 1 << 18
_PLAIN, _PACKED = ".csv", ".csv.gz"


@dataclass(slots=True)
class SpooledBlock:
    """The cards of one issuer and year, in files: a `clubcard_check.BlockSource`.

    Attributes:
        name: As gates name it (`register_block`).
        covered_until_s: When the last of them was issued, seconds since 1970 UTC.
        paths: The file of those that are good, and of those that are revoked.
        sample: Some of them, and whether each is revoked.
    """

    name: bytes
    paths: tuple[Path, Path]
    covered_until_s: int = 0
    sample: tuple[list[Credential], list[Credential]] = field(default_factory=lambda: ([], []))

    def good(self) -> Iterable[Ids]:
        """Yield the ids of cards that are not revoked."""
        return _spooled(self.paths[0])

    def revoked(self) -> Iterable[Ids]:
        """Yield the ids of revoked cards."""
        return _spooled(self.paths[1])

    def add(self, rows: Rows, places: NDArray[np.intp]) -> None:
        """Add cards of this block."""
        self.covered_until_s = max(self.covered_until_s, int(rows.issued_s[places].max()))
        revoked = rows.revoked[places]
        for path, sample, mine in zip(self.paths, self.sample, (places[~revoked], places[revoked]), strict=True):
            if len(mine):
                with path.open("ab") as file:
                    rows.ids[mine].tofile(file)
            for place in mine[: SAMPLE - len(sample)].tolist():
                issuer = id_bytes(rows.issuers[place])
                sample.append(Credential(id_bytes(rows.ids[place]), issuer, int(rows.issued_s[place])))


class RegisterFiles:
    """A nation's register.

    Args:
        folder: The CSV files, each of which may be packed with gzip.
        spool: An empty folder for the cards as they are sorted.
        progress: Told how it goes.
    """

    def __init__(self, folder: Path, spool: Path, progress: Progress = lambda *_: None) -> None:
        self._folder, self._spool, self._progress = folder, spool, progress
        self._blocks: dict[bytes, SpooledBlock] = {}

    @property
    def sample(self) -> Iterator[tuple[Credential, bool]]:
        """Some cards of each block, and whether each is revoked."""
        for block in self._blocks.values():
            for revoked, cards in enumerate(block.sample):
                yield from ((card, bool(revoked)) for card in cards)

    def build(self, seed: bytes) -> Built:
        """Read the files, build the list and ask it about every card.

        Args:
            seed: Of the build's salt; nobody should know it beforehand.

        Raises:
            InputMissing: The folder or a file in it cannot be read.
            PublishError: A line is no card, a card is both good and revoked, or the list cannot be built.
            OSError: There is no room for the cards as they are sorted.
        """
        self._read()
        blocks = list(self._blocks.values())
        try:
            return build(blocks, seed, self._progress)
        except PublishError:
            twice = _both_good_and_revoked(blocks)
            if twice is None:
                raise
            raise PublishError(f"{self._folder}: {twice.hex()} is there as a good card and as a revoked one") from None

    def _read(self) -> None:
        paths = self._paths()
        total, before = sum(path.stat().st_size for path in paths), 0
        for path in paths:
            try:
                with path.open("rb") as raw:
                    packed = path.name.endswith(_PACKED)
                    for text, line, columns in _texts(path, gzip.GzipFile(fileobj=raw) if packed else raw):
                        self._take(path, text, line, columns)
                        self._progress("read", before + raw.tell(), total)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise PublishError(f"{path}: is no whole gzip file: {error}") from None
            before += path.stat().st_size

    def _paths(self) -> list[Path]:
        try:
            paths = sorted(self._folder.iterdir())
        except OSError as error:
            raise InputMissing(f"{self._folder}: {error.strerror or error}") from None
        for path in paths:
            if path.name.startswith(".") or not path.name.endswith((_PLAIN, _PACKED)) or not path.is_file():
                raise PublishError(
                    f"{path}: is no {_PLAIN} and no {_PACKED} file; a register's folder has nothing else"
                )
        if not paths:
            raise PublishError(f"{self._folder}: has no {_PLAIN} or {_PACKED} file in it")
        return paths

    def _take(self, path: Path, text: bytes, line: int, columns: tuple[str, ...]) -> None:
        try:
            rows = rows_of(text, columns)
        except WrongRowError as error:
            raise PublishError(f"{path}, line {line + error.line}: {error.why}") from None
        for places in _by_block(rows):
            self._block(path, rows, places).add(rows, places)

    def _block(self, path: Path, rows: Rows, places: NDArray[np.intp]) -> SpooledBlock:
        issuer, times = id_bytes(rows.issuers[places[0]]), rows.issued_s[places]
        name, last = (register_block(issuer, int(each)) for each in (times.min(), times.max()))
        if name != last:
            raise PublishError(f"{path}: block {name.hex()} reaches into another year than numpy says")
        if name not in self._blocks:
            if len(self._blocks) == MAX_BLOCKS:
                raise PublishError(
                    f"{path}: more than {MAX_BLOCKS} issuers and years; is `issuer` the id of the issuer's key?"
                )
            home = self._spool / name.hex()
            self._blocks[name] = SpooledBlock(name, (home.with_suffix(".good"), home.with_suffix(".revoked")))
        return self._blocks[name]


def _texts(path: Path, file: BinaryIO | gzip.GzipFile) -> Iterator[tuple[bytes, int, tuple[str, ...]]]:
    """Yield whole lines, the number of their first from 1, and the columns of the file."""
    try:
        heading = file.readline(MAX_LINE_BYTES)
        columns, line, rest = heading_of(heading), 2, b""
        while text := file.read(CHUNK_BYTES):
            whole, _, rest = (rest + text).rpartition(b"\n")
            if whole:
                whole += b"\n"
                yield whole, line, columns
                line += whole.count(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise PublishError(f"{path}, line {line}: is longer than any card's, {MAX_LINE_BYTES} bytes")
        if rest:
            yield rest + b"\n", line, columns
    except WrongRowError as error:
        raise PublishError(f"{path}, line 1: {error.why}") from None
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise
        raise InputMissing(f"{path}: {error.strerror or error}") from None


def _by_block(rows: Rows) -> Iterator[NDArray[np.intp]]:
    """Part cards by issuer and year."""
    year = rows.issued_s.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64)
    order = np.lexsort((year, rows.issuers[:, 1], rows.issuers[:, 0]))
    ordered = rows.issuers[order], year[order]
    other = (ordered[0][1:] != ordered[0][:-1]).any(axis=1) | (ordered[1][1:] != ordered[1][:-1])
    yield from (part for part in np.split(order, np.flatnonzero(other) + 1) if len(part))


def _spooled(path: Path) -> Iterator[Ids]:
    if path.exists():
        with path.open("rb") as file:
            while len(words := np.fromfile(file, np.uint64, 2 * _CHUNK_CARDS)):
                yield words.reshape(-1, 2)


def _both_good_and_revoked(blocks: Iterable[SpooledBlock]) -> bytes | None:
    sources = list(blocks)
    revoked = np.concatenate([np.empty((0, 2), np.uint64), *(ids for each in sources for ids in each.revoked())])
    for source in sources:
        for ids in batched(source.good()):
            for place in np.flatnonzero(np.isin(ids[:, 0], revoked[:, 0])).tolist():
                if (revoked == ids[place]).all(axis=1).any():
                    return id_bytes(ids[place])
    return None
