"""The payload of a dense deny list: numbers of cards that carry an index which their issuer gave them, 0, 1, 2 ...

    "pilet-dense/1" and three zero bytes | count of issuers, 4 bytes | section | section | ...
    section: issuer, 16 bytes | covers, 8 bytes | state hash, 32 bytes | runs of Rice codes (`validator.lists.rice`)

Sections ascend by issuer; all numbers are big-endian. Exact, no false alarms; a million of a hundred million cards are
one megabyte. The hash in a section is of the list that comes out of it: what was damaged and still reads is refused.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from itertools import pairwise
from typing import Final

from validator.lists.errors import ListError
from validator.lists.rice import WORD, Numbers, decode_blocks, encode_blocks
from validator.model import CREDENTIAL_ID_BYTES

MAX_COVERS: Final = 1 << 32
STATE_HASH_BYTES: Final = 32

_NAME = "dense deny list"
_MAGIC = b"pilet-dense/1".ljust(16, b"\0")
_COUNT = struct.Struct(">I")
_SECTION = struct.Struct(f">{CREDENTIAL_ID_BYTES}sQ{STATE_HASH_BYTES}s")


class DenseDeny:
    """Cards of one issuer that are refused although they are authentic; never changed once it is made.

    Attributes:
        issuer: The id of the issuer's key, 16 bytes (`certificates.credential_id`).
        covers: The list knows of the indices below this one. A card with this index or a greater one was issued later,
            and is not on the list.
        numbers: The indices that are refused, ascending, 4 bytes each. Not to be written to.
        state_hash: BLAKE2b-256 over issuer, covers (8 bytes, big-endian) and the numbers (4 bytes each,
            little-endian), with the payload's magic as its person. Two lists are equal if these are.
    """

    __slots__ = ("covers", "issuer", "numbers", "state_hash")

    def __init__(self, issuer: bytes, covers: int, numbers: Numbers) -> None:
        """Take numbers as they are, without a copy; `dense_deny` is for numbers of which one cannot be sure.

        Args:
            issuer: See above.
            covers: See above, at most 2 ** 32.
            numbers: Ascending, all different, all less than `covers`.
        """
        self.issuer = issuer
        self.covers = covers
        self.numbers = numbers
        self.state_hash = _state_hash(issuer, covers, numbers)

    def denied(self, index: int) -> bool:
        """Whether the card with an index is refused."""
        position = bisect_left(self.numbers, index)
        return position < len(self.numbers) and self.numbers[position] == index

    def __len__(self) -> int:
        return len(self.numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DenseDeny) and self.state_hash == other.state_hash

    def __hash__(self) -> int:
        return hash(self.state_hash)


def dense_deny(issuer: bytes, covers: int, numbers: Iterable[int], where: object = _NAME) -> DenseDeny:
    """Make a list of ascending numbers.

    Args:
        issuer: The id of the issuer's key, 16 bytes.
        covers: How many indices the issuer has given out, at most 2 ** 32.
        numbers: The indices that are refused; they are copied.
        where: What to call the list in an error.

    Raises:
        ListError: They do not ascend, or do not fit the issuer's indices; or there is no such issuer.
    """
    why = out_of_range(issuer, covers)
    if why is not None:
        raise ListError(where, why)
    try:
        copied = array(WORD, numbers)
    except (OverflowError, TypeError) as error:
        raise ListError(where, f"holds what is no index: {error}") from None
    why = not_below(copied, covers)
    if why is not None:
        raise ListError(where, why)
    return DenseDeny(issuer, covers, copied)


def encode_dense_deny(lists: Iterable[DenseDeny]) -> bytes:
    """Encode lists of different issuers as one payload; in any order, they give the same bytes.

    Raises:
        ListError: There is none, or there are two of one issuer.
    """
    ordered = sorted(lists, key=lambda each: each.issuer)
    if not ordered:
        raise ListError(_NAME, "holds no issuer's section")
    parts = [_MAGIC, _COUNT.pack(len(ordered))]
    for before, here in pairwise(ordered):
        if before.issuer == here.issuer:
            raise ListError(_NAME, f"has two sections of the issuer {here.issuer.hex()}")
    for each in ordered:
        parts += [_SECTION.pack(each.issuer, each.covers, each.state_hash), encode_blocks(each.numbers, each.covers)]
    return b"".join(parts)


def decode_dense_deny(payload: bytes, where: object = _NAME) -> dict[bytes, DenseDeny]:
    """Read a payload whole.

    Args:
        payload: The payload file's bytes. A list takes at most 32 bytes for each of them.
        where: What to call the file in an error.

    Returns:
        The lists by issuer.

    Raises:
        ListError: It is not what `encode_dense_deny` writes of any lists.
    """
    at = len(_MAGIC) + _COUNT.size
    if len(payload) < at or not payload.startswith(_MAGIC):
        raise ListError(where, "not a dense deny list")
    (count,) = _COUNT.unpack_from(payload, len(_MAGIC))
    if not count:
        raise ListError(where, "holds no issuer's section")
    lists: dict[bytes, DenseDeny] = {}
    before = b""
    for number in range(count):
        if len(payload) - at < _SECTION.size:
            raise ListError(where, f"ends in the head of section {number} of {count}")
        issuer, covers, state_hash = _SECTION.unpack_from(payload, at)
        if issuer <= before:
            raise ListError(where, f"section {number} is not of a greater issuer than the one before it")
        why = out_of_range(issuer, covers)
        if why is not None:
            raise ListError(where, f"section {number}: {why}")
        numbers, at = decode_blocks(payload, at + _SECTION.size, covers, where)
        lists[issuer] = DenseDeny(issuer, covers, numbers)
        if lists[issuer].state_hash != state_hash:
            raise ListError(where, f"section {number} is damaged: it has not the state hash in its head")
        before = issuer
    if at != len(payload):
        raise ListError(where, f"{len(payload) - at} octets are left over after the last section")
    return lists


def out_of_range(issuer: bytes, covers: int) -> str | None:
    """Say why there is no list of such an issuer and so many indices; None where there can be."""
    if len(issuer) != CREDENTIAL_ID_BYTES:
        return f"an issuer's id of {len(issuer)} bytes, {CREDENTIAL_ID_BYTES} are wanted"
    if not 0 <= covers <= MAX_COVERS:
        return f"covers {covers} indices, {MAX_COVERS} is the most"
    return None


def not_below(numbers: Numbers, covers: int) -> str | None:
    """Say why numbers are not ascending ones below a bound; None where they are."""
    for position, (earlier, later) in enumerate(pairwise(numbers), 1):
        if later <= earlier:
            return f"number {position} is {later}, not greater than the one before it"
    if numbers and numbers[-1] >= covers:
        return f"the number {numbers[-1]} is beyond the {covers} indices that are covered"
    return None


def _state_hash(issuer: bytes, covers: int, numbers: Numbers) -> bytes:
    digest = blake2b(issuer + covers.to_bytes(8), digest_size=STATE_HASH_BYTES, person=_MAGIC)
    if sys.byteorder == "little":
        digest.update(numbers)
    else:
        swapped = numbers[:]
        swapped.byteswap()
        digest.update(swapped)
    return digest.digest()
