"""The payload of a sparse deny list: exact over a closed universe of credential ids, in some nine bits a revocation.

After Clubcard (Schanck, eprint 2025/610): the universe is parted into blocks, in each of which one sort of card,
revoked or good, is rare. A card is of the rare sort if its equation vanishes in all k columns of a first ribbon, which
lets 2**-k of the others through, and in the one column of a second ribbon, which tells these apart. Equations that
could not be met are in a list of exceptions.

    "pilet-sparse/1" and two zero bytes | BLAKE2b-256 of the rest | salt, 16 bytes
    | counts, 4 bytes each: blocks, first ribbons, rows of the second ribbon, exceptions denied, exceptions good
    | block, by ascending name: length of its name, 1 byte | name | issue time, 8 bytes | rare sort, 1 byte | k, 1 byte
    | first ribbon, by ascending k: k, 1 byte | rows, 4 bytes
    | exceptions, 16 bytes each, ascending
    | the columns of the first ribbons | the column of the second

Numbers are big-endian, columns as in `validator.lists.ribbon`. For a card outside of the universe the answer would be
noise, one "revoked" in some 2**(k+1). Therefore each block says up to which issue time all its cards were counted, and
about any other card this list says nothing.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from itertools import pairwise

from validator.lists.errors import ListError
from validator.lists.ribbon import MAX_ROWS, SALT_BYTES, WIDTH, Equations, Ribbon, column_bytes
from validator.model import CREDENTIAL_ID_BYTES

MAGIC = b"pilet-sparse/1".ljust(16, b"\0")
DIGEST_BYTES = 32
NO_RARE = 0xFF
"""In place of k: all cards of the block are of the other sort."""
MAX_COLUMNS = 64
MAX_NAME_BYTES = 0xFF

COUNTS = struct.Struct(">5I")
BLOCK = struct.Struct(">QBB")
RIBBON = struct.Struct(">BI")


@unique
class Status(Enum):
    """What a sparse deny list says of a card."""

    GOOD = 0
    DENIED = 1
    UNCOVERED = 2
    """It was issued too late for this list, or is of a block that the list does not know: only deltas can tell."""


_STATUS = (Status.GOOD, Status.DENIED)


@dataclass(frozen=True, slots=True)
class Block:
    """Cards that are counted together, such as those of one issuer key and year.

    Attributes:
        covered_until_s: All its cards that were issued up to then are counted; seconds since 1970 UTC, inclusive.
        rare: The sort that its first ribbon holds.
        common: The other one.
        columns: How many columns its first ribbon has (k); 0 for none, so that the second tells all its cards apart;
            `NO_RARE` if there is nothing to tell apart.
    """

    covered_until_s: int
    rare: Status
    common: Status
    columns: int


@dataclass(frozen=True, slots=True, eq=False)
class Clubcard:
    """A sparse deny list, whole and undamaged.

    Attributes:
        equations: Those of its build.
        blocks: By name.
        filters: The first ribbons by their number of columns; blocks with the same number share one.
        exact: The second ribbon; None where no block has cards of both sorts.
        exceptions: What is said of the ids whose equations could not be met.
        state_hash: BLAKE2b-256 of the payload.
    """

    equations: Equations
    blocks: Mapping[bytes, Block]
    filters: Mapping[int, Ribbon]
    exact: Ribbon | None
    exceptions: Mapping[bytes, Status]
    state_hash: bytes

    @classmethod
    def parse(cls, payload: bytes, where: object = "sparse deny list") -> "Clubcard":
        """Read a payload; nothing damaged is ever loaded.

        Args:
            payload: The payload file's bytes.
            where: What to call the file in an error.

        Raises:
            ListError: It is cut short, changed, longer than it says, or not written as this format is.
        """
        return _Reading(payload, where).whole()

    def status(self, block: bytes, credential_id: bytes, issued_s: int) -> Status:
        """Say what is known of a card.

        Args:
            block: Name of the block that it belongs to.
            credential_id: Its id, 16 bytes.
            issued_s: When it was issued (its certificate's notBefore), seconds since 1970 UTC.

        Raises:
            ValueError: The id has another length.
        """
        if len(credential_id) != CREDENTIAL_ID_BYTES:
            raise ValueError(f"an id of {len(credential_id)} bytes, {CREDENTIAL_ID_BYTES} are wanted")
        found = self.blocks.get(block)
        if found is None or issued_s > found.covered_until_s:
            return Status.UNCOVERED
        if found.columns == NO_RARE or self.exact is None:
            return found.common
        exception = self.exceptions.get(credential_id)
        if exception is not None:
            return exception
        first, second, coefficients = self.equations.of(credential_id)
        if found.columns and not self.filters[found.columns].vanishes(first, coefficients):
            return found.common
        return found.rare if self.exact.vanishes(second, coefficients) else found.common


class _Reading:
    """Takes a payload apart from its front; nothing is taken that is not there."""

    def __init__(self, payload: bytes, where: object) -> None:
        self._payload = payload
        self._where = where
        self._at = 0

    def whole(self) -> Clubcard:
        if self._take(len(MAGIC), "magic") != MAGIC:
            raise ListError(self._where, "not a sparse deny list")
        digest = self._take(DIGEST_BYTES, "digest")
        if hashlib.blake2b(memoryview(self._payload)[self._at :], digest_size=DIGEST_BYTES).digest() != digest:
            raise ListError(self._where, "damaged: it has not the digest that it says")
        equations = Equations(self._take(SALT_BYTES, "salt"))
        block_count, filter_count, exact_rows, denied, good = COUNTS.unpack(self._take(COUNTS.size, "counts"))
        blocks = self._blocks(block_count)
        rows = self._filter_rows(filter_count)
        self._agree(blocks, rows, exact_rows)
        exceptions = self._exceptions(denied, Status.DENIED) | self._exceptions(good, Status.GOOD)
        if len(exceptions) != denied + good:
            raise ListError(self._where, "an exception is both denied and good")
        filters = {columns: self._ribbon(count, columns) for columns, count in rows.items()}
        exact = self._ribbon(exact_rows, 1) if exact_rows else None
        if self._at != len(self._payload):
            raise ListError(self._where, f"{len(self._payload) - self._at} bytes too many")
        state_hash = hashlib.blake2b(self._payload, digest_size=DIGEST_BYTES).digest()
        return Clubcard(equations, blocks, filters, exact, exceptions, state_hash)

    def _take(self, length: int, what: str) -> bytes:
        end = self._at + length
        if end > len(self._payload):
            raise ListError(self._where, f"cut short in its {what}: {length} bytes wanted at {self._at}")
        taken = self._payload[self._at : end]
        self._at = end
        return taken

    def _blocks(self, count: int) -> dict[bytes, Block]:
        blocks: dict[bytes, Block] = {}
        before: bytes | None = None
        for _ in range(count):
            name = self._take(self._take(1, "blocks")[0], "blocks")
            covered_until_s, rare, columns = BLOCK.unpack(self._take(BLOCK.size, "blocks"))
            if not name or (before is not None and name <= before):
                raise ListError(self._where, f"block {name.hex()} has no name, or is not in order")
            if rare >= len(_STATUS) or (columns > MAX_COLUMNS and columns != NO_RARE):
                raise ListError(self._where, f"block {name.hex()} has sort {rare} and {columns} columns")
            blocks[name] = Block(covered_until_s, _STATUS[rare], _STATUS[1 - rare], columns)
            before = name
        return blocks

    def _filter_rows(self, count: int) -> dict[int, int]:
        if count > MAX_COLUMNS:
            raise ListError(self._where, f"{count} first ribbons, {MAX_COLUMNS} are the most")
        rows = dict(RIBBON.unpack(self._take(RIBBON.size, "ribbons")) for _ in range(count))
        if len(rows) != count or any(after <= before for before, after in pairwise(rows)):
            raise ListError(self._where, "first ribbons are not in order")
        return rows

    def _agree(self, blocks: Mapping[bytes, Block], filter_rows: Mapping[int, int], exact_rows: int) -> None:
        """Every ribbon is some block's and has room for a window, and every block has its ribbons."""
        wanted = {block.columns for block in blocks.values()} - {NO_RARE}
        if wanted - {0} != set(filter_rows):
            raise ListError(self._where, "its first ribbons are not those of its blocks")
        if bool(wanted) != bool(exact_rows):
            raise ListError(self._where, "its second ribbon is not wanted, or missing")
        for rows in (*filter_rows.values(), *((exact_rows,) if exact_rows else ())):
            if not WIDTH <= rows < MAX_ROWS:
                raise ListError(self._where, f"a ribbon of {rows} rows")

    def _exceptions(self, count: int, status: Status) -> dict[bytes, Status]:
        raw = self._take(count * CREDENTIAL_ID_BYTES, "exceptions")
        ids = [raw[at : at + CREDENTIAL_ID_BYTES] for at in range(0, len(raw), CREDENTIAL_ID_BYTES)]
        if any(after <= before for before, after in pairwise(ids)):
            raise ListError(self._where, "exceptions are not in order")
        return dict.fromkeys(ids, status)

    def _ribbon(self, rows: int, columns: int) -> Ribbon:
        """The bits past the last row are zero, so that a ribbon has one form only."""
        taken = [self._take(column_bytes(rows), "columns") for _ in range(columns)]
        if rows % 8 and any(column[-1] >> rows % 8 for column in taken):
            raise ListError(self._where, "bits are set past a ribbon's last row")
        return Ribbon(rows, taken)
