"""The answer to reset (ISO/IEC 7816-3:2006 §8.2) as PC/SC shows it, and the one it makes up for a contactless card."""

HISTORICAL_MAX = 15

_TS = frozenset({0x3B, 0x3F})
_CONTACTLESS = bytes.fromhex("80 01")  # TD1 and TD2 of PC/SC part 3 §3.1.3.2.3.1: T=0, then T=1, nothing else


class AtrError(ValueError):
    """The bytes are not an answer to reset."""


def contactless_atr(historical: bytes) -> bytes:
    """Build the ATR that PC/SC gives to a contactless card (PC/SC part 3 §3.1.3.2.3.1): ``3B 8n 80 01 .. TCK``.

    Args:
        historical: Historical bytes of the ATS, at most 15.

    Raises:
        AtrError: They are too many.
    """
    if len(historical) > HISTORICAL_MAX:
        raise AtrError(f"{len(historical)} historical bytes: an ATR carries at most {HISTORICAL_MAX}")
    body = bytes([0x80 | len(historical)]) + _CONTACTLESS + historical
    check = 0
    for byte in body:
        check ^= byte
    return bytes([0x3B]) + body + bytes([check])


def historical_bytes(atr: bytes) -> bytes:
    """Return the historical bytes of an ATR: what a card family is matched by, since the rest depends on the reader.

    Raises:
        AtrError: The bytes are cut short or do not begin as an ATR does.
    """
    if len(atr) < 2 or atr[0] not in _TS:
        raise AtrError(f"{atr.hex()} is not an answer to reset")
    position = 2
    indicator = atr[1]
    while True:
        position += (indicator & 0x70).bit_count()
        if not indicator & 0x80:
            break
        if position >= len(atr):
            raise AtrError(f"{atr.hex()} is cut short")
        indicator = atr[position]
        position += 1
    end = position + (atr[1] & 0x0F)
    if end > len(atr):
        raise AtrError(f"{atr.hex()} is cut short")
    return atr[position:end]


def is_contactless(atr: bytes) -> bool:
    """Whether a reader made this ATR up for a contactless card."""
    return len(atr) >= 4 and atr[0] == 0x3B and atr[1] & 0xF0 == 0x80 and atr[2:4] == _CONTACTLESS
