"""Credential ids by name: 16 bytes each, in ascending order, after a header that counts them.

    "pilet-ids/1" and five zero bytes | count, 16 bytes big-endian | id | id | ...

Exact, no false alarms; a million ids are 16 MB in one object. The header has the size of two ids, so that the file's
length says the count a second time; a tail that is too short or too long is an error and never dropped.
"""

from bisect import bisect_left
from collections.abc import Iterable

from validator.lists.errors import ListError
from validator.model import CREDENTIAL_ID_BYTES

_MAGIC = b"pilet-ids/1".ljust(16, b"\0")
_COUNT_BYTES = 16
HEADER_BYTES = len(_MAGIC) + _COUNT_BYTES


class ListedIds:
    """Credentials that are named one by one."""

    __slots__ = ("_count", "_payload")

    def __init__(self, payload: bytes, where: object = "list of ids") -> None:
        """Take a payload as it is; its order is checked by `check_order`, once, when it is installed.

        Args:
            payload: The payload file's bytes.
            where: What to call the file in an error.

        Raises:
            ListError: The header or the length is wrong.
        """
        if len(payload) < HEADER_BYTES or payload[: len(_MAGIC)] != _MAGIC:
            raise ListError(where, "not a list of ids")
        count = int.from_bytes(payload[len(_MAGIC) : HEADER_BYTES])
        rest = len(payload) - HEADER_BYTES
        if rest != count * CREDENTIAL_ID_BYTES:
            raise ListError(where, f"the header counts {count} ids, {rest} bytes of ids are there")
        self._payload = payload
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, credential_id: bytes) -> bool:
        position = bisect_left(range(self._count), credential_id, key=self._at)
        return position < self._count and self._at(position) == credential_id

    def check_order(self, where: object = "list of ids") -> None:
        """See that the ids ascend strictly, without which a lookup would miss some.

        Raises:
            ListError: Two neighbours do not ascend.
        """
        before = b""
        for position in range(self._count):
            here = self._at(position)
            if here <= before:
                raise ListError(where, f"id {position} is not greater than the one before it")
            before = here

    def _at(self, position: int) -> bytes:
        start = HEADER_BYTES + position * CREDENTIAL_ID_BYTES
        return self._payload[start : start + CREDENTIAL_ID_BYTES]


def encode_listed_ids(credential_ids: Iterable[bytes]) -> bytes:
    """Encode a list; the same ids in any order, and twice, give the same bytes.

    Raises:
        ListError: An id has not 16 bytes.
    """
    ids = sorted(set(credential_ids))
    for credential_id in ids:
        if len(credential_id) != CREDENTIAL_ID_BYTES:
            raise ListError("list of ids", f"an id of {len(credential_id)} bytes, {CREDENTIAL_ID_BYTES} are wanted")
    return _MAGIC + len(ids).to_bytes(_COUNT_BYTES) + b"".join(ids)
