"""BER-TLV as cards use it (ISO/IEC 7816-4:2020 §5.2.2, after ISO/IEC 8825-1): definite lengths, multi-byte tags."""

from collections.abc import Iterator
from dataclasses import dataclass

MAX_TAG_BYTES = 3
MAX_LENGTH_BYTES = 3


class TlvError(ValueError):
    """The bytes are not a well-formed sequence of data objects."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """One data object.

    Attributes:
        tag: The tag as the big-endian number of its bytes, for example ``0x5FC101``.
        value: The value field, any length up to 16 MiB.
    """

    tag: int
    value: bytes

    def __bytes__(self) -> bytes:
        return encode(self.tag, self.value)


def encode(tag: int, value: bytes) -> bytes:
    """Encode one data object with the shortest definite length.

    Raises:
        TlvError: The value is longer than three length bytes can say.
    """
    return _tag_bytes(tag) + _length_bytes(len(value)) + value


def parse(data: bytes) -> list[Tlv]:
    """Parse a whole sequence of data objects.

    Raises:
        TlvError: A tag or length is malformed, or a value is cut short.
    """
    return list(_walk(data))


def parse_one(data: bytes, tag: int) -> bytes:
    """Return the value of the single data object that `data` is.

    Raises:
        TlvError: There is another tag, more than one object, or malformed bytes.
    """
    objects = parse(data)
    if len(objects) != 1 or objects[0].tag != tag:
        found = ", ".join(f"{item.tag:X}" for item in objects) or "nothing"
        raise TlvError(f"expected one object {tag:X}, found {found}")
    return objects[0].value


def find(data: bytes, tag: int) -> bytes | None:
    """Return the value of the first object `tag` in a sequence, or None.

    Raises:
        TlvError: The sequence is malformed before the object is found.
    """
    for item in _walk(data):
        if item.tag == tag:
            return item.value
    return None


def _walk(data: bytes) -> Iterator[Tlv]:
    position = 0
    while position < len(data):
        tag, position = _read_tag(data, position)
        length, position = _read_length(data, position)
        end = position + length
        if end > len(data):
            raise TlvError(f"object {tag:X} says {length} bytes, {len(data) - position} are there")
        yield Tlv(tag, data[position:end])
        position = end


def _read_tag(data: bytes, position: int) -> tuple[int, int]:
    start = position
    first = data[position]
    position += 1
    if first & 0x1F == 0x1F:
        while True:
            if position >= len(data):
                raise TlvError("tag cut short")
            if position - start >= MAX_TAG_BYTES:
                raise TlvError(f"tag longer than {MAX_TAG_BYTES} bytes")
            byte = data[position]
            position += 1
            if not byte & 0x80:
                break
    return int.from_bytes(data[start:position]), position


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    if position >= len(data):
        raise TlvError("length missing")
    first = data[position]
    position += 1
    if first < 0x80:
        return first, position
    count = first & 0x7F
    if not 1 <= count <= MAX_LENGTH_BYTES:
        raise TlvError(f"length of {count} bytes is not supported")
    end = position + count
    if end > len(data):
        raise TlvError("length cut short")
    return int.from_bytes(data[position:end]), end


def _tag_bytes(tag: int) -> bytes:
    return tag.to_bytes(max(1, (tag.bit_length() + 7) // 8))


def _length_bytes(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    if len(octets) > MAX_LENGTH_BYTES:
        raise TlvError(f"a value of {length} bytes is too long")
    return bytes([0x80 | len(octets)]) + octets
