"""What a publisher has left at the broker, and what has still to come and to go; pure.

The names of the catalogue's files never mean anything else: a version is in the name, or the content's hash is the
name. So it is enough to know which are there. That stands in one more retained message, the register: whoever
publishes reads it after each connection, and finds it as far behind as the broker's memory is. What may or may not be
there is in it before it is sent, so that nothing is ever left behind unknown.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgpack
import msgspec

from backend_sync import wire

REGISTER: Final = "register"
"""Name of the register among the metadata."""

_OBJECTS: Final = "objects/"
_FORMAT: Final = 1
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    there: list[Annotated[str, msgspec.Meta(max_length=128)]]
    unsure: list[Annotated[str, msgspec.Meta(max_length=128)]]


@dataclass(frozen=True, slots=True)
class Register:
    """What is at the broker, by the names that the catalogue's files are asked for by.

    Attributes:
        there: What is.
        unsure: What may be.
    """

    there: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Return what has to be brought, objects first: who is told of a version finds what it names."""
        return sorted(set(wanted) - self.there, key=lambda name: (not name.startswith(_OBJECTS), name))

    def surplus(self, wanted: Collection[str]) -> list[str]:
        """Return what has to go."""
        return sorted((self.there | self.unsure).difference(wanted))

    def before_moving(self, wanted: Collection[str]) -> "Register":
        """Return the register to leave before anything is brought or goes: of all that moves, nothing is sure."""
        return Register(self.there.intersection(wanted), self.unsure | self.there.symmetric_difference(wanted))

    def encode(self) -> bytes:
        """Return its bytes."""
        encoded: bytes = msgpack.packb([_FORMAT, sorted(self.there), sorted(self.unsure)])
        return encoded


def decode_register(data: bytes) -> Register:
    """Read a register; what cannot be read says that nothing is sure to be there."""
    try:
        held = msgspec.convert(msgpack.unpackb(data), _Wire)
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError):
        return Register()
    return Register(frozenset(filter(_is_name, held.there)), frozenset(filter(_is_name, held.unsure)))


def topic_of(region: str, name: str) -> str:
    """Return the topic of one of the catalogue's files.

    Args:
        region: Whose catalogue.
        name: ``7.snapshot.json``, or ``objects/`` and a SHA-256 in hexadecimal.

    Raises:
        WireError: There is no such topic.
    """
    if not name.startswith(_OBJECTS):
        return wire.list_metadata(region, name)
    if not _SHA256.fullmatch(name.removeprefix(_OBJECTS)):
        raise wire.WireError(f"{name[:96]!r} is not the name of an object")
    return wire.list_object(region, bytes.fromhex(name.removeprefix(_OBJECTS)))


def _is_name(name: str) -> bool:
    try:
        topic_of("region", name)
    except wire.WireError:
        return False
    return True
