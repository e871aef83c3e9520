"""The payload of a deny list: credentials that are refused although authentic, in three forms behind one question.

    "pilet-deny/2" and four zero bytes | lengths of the three parts, 8 bytes each, big-endian | part | part | part

1. Ids, one by one (`validator.lists.listed_ids`): whoever has no number and belongs to no nation's register.
2. Numbers, by issuer (`validator.lists.dense_deny`): cards that an issuer numbered. The smallest form there is.
3. A nation's cards without numbers (`validator.lists.clubcard`), by issuer and year of issue.

The second and third are empty where nobody needs them. Changes that came since are laid over the whole
(`validator.lists.deny_change`), and what they say of a card comes first.
"""

import datetime as dt
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from validator.lists.clubcard import Clubcard, Status
from validator.lists.dense_deny import DenseDeny, decode_dense_deny, encode_dense_deny
from validator.lists.errors import ListError
from validator.lists.listed_ids import ListedIds, encode_listed_ids
from validator.lists.sparse_delta import Overlay
from validator.model import Credential

STATE_HASH_BYTES: Final = 32

_WHERE: Final = "deny list"
_MAGIC: Final = b"pilet-deny/2".ljust(16, b"\0")
_LENGTHS: Final = struct.Struct(">3Q")
_STATE: Final = b"pilet-deny-state"
_YEAR_BYTES: Final = 2


class DenyList:
    """A deny list and what was laid over it; never changed once it is made.

    Attributes:
        ids: Those that are named one by one.
        numbered: Numbers that are refused, by the id of the issuer's key.
        register: A nation's cards without numbers; None for none.
        overlay: What has changed of ids since.
        state_hash: BLAKE2b-256 of it all. Two lists that answer alike after the same changes have the same.
    """

    __slots__ = ("ids", "numbered", "overlay", "register", "state_hash")

    def __init__(
        self, ids: ListedIds, numbered: Mapping[bytes, DenseDeny], register: Clubcard | None, overlay: Overlay
    ) -> None:
        self.ids = ids
        self.numbered = MappingProxyType(dict(sorted(numbered.items())))
        self.register = register
        self.overlay = overlay
        states = b"".join(each.state_hash for each in self.numbered.values())
        self.state_hash = _hash(_STATE, overlay.state_hash + states)

    @classmethod
    def parse(cls, payload: bytes, where: object = _WHERE) -> "DenyList":
        """Read a payload; the order of its ids is checked by `check`, once, when it is installed.

        Args:
            payload: The payload file's bytes.
            where: What to call the file in an error.

        Raises:
            ListError: It is not what `encode_deny_list` writes.
        """
        head = len(_MAGIC) + _LENGTHS.size
        if len(payload) < head or not payload.startswith(_MAGIC):
            raise ListError(where, "not a deny list of this format")
        lengths = _LENGTHS.unpack_from(payload, len(_MAGIC))
        if head + sum(lengths) != len(payload):
            raise ListError(where, f"says that it has {head + sum(lengths)} bytes, and has {len(payload)}")
        parts, at = list[bytes](), head
        for length in lengths:
            parts.append(payload[at : at + length])
            at += length
        ids = ListedIds(parts[0], where)
        numbered = decode_dense_deny(parts[1], where) if parts[1] else {}
        register = Clubcard.parse(parts[2], where) if parts[2] else None
        return cls(ids, numbered, register, Overlay(_hash(parts[0], b"" if register is None else register.state_hash)))

    def check(self, where: object = _WHERE) -> None:
        """See that every id would be found.

        Raises:
            ListError: Ids do not ascend.
        """
        self.ids.check_order(where)

    def denied(self, credential: Credential) -> bool:
        """Whether a credential is refused.

        A numbered card is asked about by its number where its issuer's numbers are here, whatever a register says. A
        card that was issued after the list was made is on nothing but the changes.
        """
        changed = self.overlay.status(credential.id)
        if changed is not None:
            return changed is Status.DENIED
        if credential.id in self.ids:
            return True
        numbers = self.numbered.get(credential.issuer_id)
        if numbers is not None and credential.index is not None:
            return numbers.denied(credential.index)
        if self.register is None or not credential.issuer_id:
            return False
        block = register_block(credential.issuer_id, credential.issued_s)
        return self.register.status(block, credential.id, credential.issued_s) is Status.DENIED

    def __len__(self) -> int:
        """How many credentials are named by id or number; those of the register cannot be counted."""
        return len(self.ids) + sum(len(each) for each in self.numbered.values())


def encode_deny_list(
    credential_ids: Iterable[bytes], numbered: Iterable[DenseDeny] = (), register: bytes = b""
) -> bytes:
    """Encode a deny list; the same things in any order give the same bytes.

    Args:
        credential_ids: Ids, 16 bytes each.
        numbered: Numbers that are refused, one list for an issuer.
        register: The payload of a `Clubcard`; empty for none.

    Raises:
        ListError: An id has not 16 bytes, an issuer is there twice, or the register cannot be read.
    """
    sections = list(numbered)
    if register:
        Clubcard.parse(register)
    parts = (encode_listed_ids(credential_ids), encode_dense_deny(sections) if sections else b"", register)
    return b"".join((_MAGIC, _LENGTHS.pack(*map(len, parts)), *parts))


def register_block(issuer_id: bytes, issued_s: int) -> bytes:
    """Name the block of a register that a card belongs to: its issuer's key, 16 bytes, and its year of issue (UTC)."""
    year = dt.datetime.fromtimestamp(issued_s, dt.UTC).year
    return issuer_id + year.to_bytes(_YEAR_BYTES)


def _hash(kind: bytes, content: bytes) -> bytes:
    return blake2b(len(kind).to_bytes(8) + kind + content, digest_size=STATE_HASH_BYTES).digest()
