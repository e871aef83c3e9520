"""Rice codes: ascending numbers as gaps, close to the information bound (S. W. Golomb 1966, R. F. Rice 1979).

A run is what ascends between two bounds:

    count, 4 bytes | parameter k, 1 byte | length of the quotients, 4 bytes | quotients | remainders

Its first number counts from the lower bound, each other one from the successor of the number before it. Of such a gap g
the quotient g >> k is written as so many 0 and a 1, and the remainder as k bits, in a stream of their own; each stream
ends with 0 bits up to a whole octet. All numbers are big-endian, all bits begin with the highest.

k is the smallest of those that make the run shortest. The length as a function of k is convex, so that whoever reads
sees from k and its neighbours alone that the writer chose as it should. A set has one encoding and no other is read.

Two streams, because plain Python is slow by the element and fast by the string: a million numbers are read without a
loop over them (`_remainders`), with memory for one run at a time.
"""

import struct
import sys
from array import array
from bisect import bisect_left
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

from validator.lists.errors import ListError

Numbers: TypeAlias = "array[int]"
"""An array of unsigned numbers of 32 bits; its type takes no subscript at run time before Python 3.12."""

WORD: Final = next(code for code in "IL" if array(code).itemsize == 4)
"""The type code of such an array."""

BLOCK: Final = 1 << 20
"""Numbers to a block, which has a run and so a parameter of its own (`encode_blocks`).

Revocation rates differ by the year of issue and by the product, which are millions of cards each. A hundred million
cards are 96 blocks, whose heads are a thousandth of a list with one card in a hundred; and a block of which every
card is listed is read within about 30 MB. No run has more numbers than a block, so that none takes more than that.
"""

_HEAD = struct.Struct(">IBI")
_MAX_PARAMETER = 31
_WORD_BYTES = 4
_LOWEST_BYTE = 0 if sys.byteorder == "little" else _WORD_BYTES - 1
_BITS = bytes.maketrans(b"01", b"\0\1")


def encode_blocks(numbers: Numbers, universe: int) -> bytes:
    """Encode a set of numbers, one run to each block of the universe; the last block may be shorter.

    Args:
        numbers: Ascending, all different, below the universe.
        universe: How many numbers there are, at most 2 ** 32.
    """
    parts, position = [], 0
    for start in range(0, universe, BLOCK):
        end = bisect_left(numbers, start + BLOCK, position)
        parts.append(encode_run(numbers[position:end], start))
        position = end
    return b"".join(parts)


def decode_blocks(data: bytes, at: int, universe: int, where: object) -> tuple[Numbers, int]:
    """Decode what `encode_blocks` wrote.

    Args:
        data: Octets, of which the runs are a part. Of n octets never more than 32 n of numbers are made.
        at: Where the runs begin in them.
        universe: As it was encoded.
        where: What to call the octets in an error.

    Returns:
        The numbers, and where the runs end.

    Raises:
        ListError: They are not what `encode_blocks` writes of any set.
    """
    numbers = array(WORD)
    for start in range(0, universe, BLOCK):
        run, at = decode_run(data, at, start, min(start + BLOCK, universe), where)
        numbers.extend(run)
    return numbers, at


def encode_run(numbers: Numbers, start: int) -> bytes:
    """Encode numbers as a single run.

    Args:
        numbers: Ascending, all different, none below `start`, all below 2 ** 32; at most `BLOCK` of them.
        start: The lower bound.
    """
    if not numbers:
        return _HEAD.pack(0, 0, 0)
    gaps = [numbers[0] - start, *(later - earlier - 1 for earlier, later in pairwise(numbers))]
    parameter = _best_parameter(gaps)
    quotients = _octets("".join(["0" * (gap >> parameter) + "1" for gap in gaps]))
    remainders = b""
    if parameter:
        width, mask = f"0{parameter}b", (1 << parameter) - 1
        remainders = _octets("".join([format(gap & mask, width) for gap in gaps]))
    return _HEAD.pack(len(gaps), parameter, len(quotients)) + quotients + remainders


def decode_run(data: bytes, at: int, start: int, end: int, where: object) -> tuple[Numbers, int]:
    """Decode what `encode_run` wrote.

    Args:
        data: Octets, of which the run is a part.
        at: Where it begins in them.
        start: The lower bound, as it was encoded.
        end: The upper bound, at most 2 ** 32; no number reaches it.
        where: What to call the octets in an error.

    Returns:
        The numbers, and where the run ends.

    Raises:
        ListError: It is not what `encode_run` writes of any numbers between the bounds.
    """
    count, parameter, begin, middle, until = _layout(data, at, where)
    quotients = int.from_bytes(data[begin:middle])
    if quotients.bit_count() != count:
        raise ListError(where, f"the run at octet {at} counts {count} numbers and has {quotients.bit_count()}")
    if not count and (parameter or begin < middle):
        raise ListError(where, f"the run at octet {at} is empty, and its head is not")
    if not count:
        return array(WORD), until
    spare = 8 * (until - middle) - count * parameter
    remainders = int.from_bytes(data[middle:until])
    unary = format(quotients, f"0{8 * (middle - begin)}b")
    if unary.endswith("0" * 8) or remainders & ((1 << spare) - 1):
        raise ListError(where, f"the run at octet {at} is not filled up as it should be")
    unary = unary.rstrip("0")
    lanes, total, upper_halves = _remainders(format(remainders >> spare, f"0{count * parameter}b"), parameter, count)
    whole = len(unary) - count
    last = start + (whole << parameter) + total + count - 1
    if last >= end:
        raise ListError(where, f"the run at octet {at} goes to {last}, and {end - 1} is the last number")
    # One more would save q - q // 2 bits of each quotient q, and cost each remainder a bit; the pairs of 0 count the
    # q // 2. One less would add q and the remainder's highest bit to each quotient, and save each remainder a bit.
    if whole - unary.count("00") > count or (parameter and whole + upper_halves <= count):
        raise ListError(where, f"the run at octet {at} has the parameter {parameter}, another makes it shorter")
    return _summed(array(WORD, map(len, unary.split("1")[:count])), parameter, lanes, start), until


def _layout(data: bytes, at: int, where: object) -> tuple[int, int, int, int, int]:
    """Return count, parameter, and where the quotients begin, the remainders begin and the run ends."""
    if len(data) - at < _HEAD.size:
        raise ListError(where, f"ends in the head of the run at octet {at}")
    count, parameter, quotient_bytes = _HEAD.unpack_from(data, at)
    begin = at + _HEAD.size
    middle = begin + quotient_bytes
    until = middle + (count * parameter + 7) // 8
    if parameter > _MAX_PARAMETER:
        raise ListError(where, f"the run at octet {at} has the parameter {parameter}, {_MAX_PARAMETER} is the greatest")
    if count > BLOCK:
        raise ListError(where, f"the run at octet {at} counts {count} numbers, {BLOCK} is the most")
    if until > len(data):
        raise ListError(where, f"the run at octet {at} needs {until - len(data)} octets more than there are")
    return count, parameter, begin, middle, until


def _best_parameter(gaps: list[int]) -> int:
    parameter = (sum(gaps) // len(gaps)).bit_length()
    while parameter and not _better_above(gaps, parameter - 1):
        parameter -= 1
    while _better_above(gaps, parameter):
        parameter += 1
    return parameter


def _better_above(gaps: list[int], parameter: int) -> bool:
    """Whether the next parameter saves more of the quotients' bits than it costs in remainders."""
    return sum([((gap >> parameter) + 1) >> 1 for gap in gaps]) > len(gaps)


def _octets(bits: str) -> bytes:
    length = (len(bits) + 7) // 8
    return int(bits.ljust(8 * length, "0"), 2).to_bytes(length)


def _remainders(bits: str, width: int, count: int) -> tuple[int, int, int]:
    """Read remainders, all at once: a long integer serves as a row of 32-bit lanes, one for each.

    Returns:
        The lanes, the sum of all remainders, and how many have their highest bit set.
    """
    lanes, total, upper_halves = 0, 0, 0
    for place in range(width):
        plane = bits[place::width]
        ones = plane.count("1")
        spread = bytearray(_WORD_BYTES * count)
        spread[_LOWEST_BYTE::_WORD_BYTES] = plane.encode().translate(_BITS)
        lanes = (lanes << 1) | int.from_bytes(spread, sys.byteorder)
        total = 2 * total + ones
        upper_halves = upper_halves if place else ones
    return lanes, total, upper_halves


def _summed(quotients: Numbers, parameter: int, remainders: int, start: int) -> Numbers:
    """Put gaps together and sum them up; the last number is known to have 32 bits, and so have all gaps before it."""
    steps = array(WORD, [1]) * len(quotients)
    steps[0] = start
    lanes = (int.from_bytes(quotients, sys.byteorder) << parameter) + remainders + int.from_bytes(steps, sys.byteorder)
    gaps = array(WORD, lanes.to_bytes(_WORD_BYTES * len(quotients), sys.byteorder))
    return array(WORD, accumulate(gaps))
