"""Keys of single cards out of one operator key: AES-128 key diversification after NXP AN10922 §2.2.

Everything here asks for one thing of the operator key: that somebody encrypts single blocks with it. So the key may lie
in a security module that never gives it out, and nothing above can tell.
"""

from collections.abc import Callable
from typing import Final

BLOCK: Final = 16
UID_BYTES: Final = 7
CONTEXT_MAX: Final = 2 * BLOCK - 1 - UID_BYTES

EncryptBlock = Callable[[bytes], bytes]
"""AES-128 of one block of 16 bytes under a key that the caller need not have."""

_CONSTANT_AES_128 = b"\x01"  # tells AN10922's key types apart, so that no two of them ever share an input
_PADDING = b"\x80"
_R_128 = 0x87  # the polynomial of the field of 2^128 elements, less its leading term (RFC 4493 §2.3)


def context_of(name: str) -> bytes:
    """Return the system identifier that an operator key's name stands for: its ASCII letters.

    Two names give unrelated card keys even where somebody put the same operator key under both. Whoever personalises
    cards uses the same bytes.

    Raises:
        ValueError: The name is empty, not ASCII, or longer than 24 characters.
    """
    if not name.isascii() or not 1 <= len(name) <= CONTEXT_MAX:
        raise ValueError(f"an operator key's name has 1 to {CONTEXT_MAX} ASCII characters, this one has {len(name)}")
    return name.encode("ascii")


def diversify(encrypt_block: EncryptBlock, uid: bytes, context: bytes) -> bytearray:
    """Derive the AES-128 key of one card: the CMAC of ``01 || UID || context``, padded to 32 bytes (AN10922 §2.2.1).

    Args:
        encrypt_block: AES-128 under the operator key; asked three times.
        uid: The card's true UID, 7 bytes.
        context: Application and system identifier, up to 24 bytes; `context_of` makes it of a key's name.

    Returns:
        16 bytes in memory that the caller owns and wipes.

    Raises:
        ValueError: UID or context have another length.
    """
    if len(uid) != UID_BYTES:
        raise ValueError(f"a UID of {len(uid)} bytes: keys are derived from {UID_BYTES}")
    if len(context) > CONTEXT_MAX:
        raise ValueError(f"{len(context)} bytes of application and system identifier: {CONTEXT_MAX} fit")
    # Two blocks always, also where CMAC itself would be content with one: AN10922 pads to 32 bytes.
    return bytearray(_cmac(encrypt_block, _CONSTANT_AES_128 + uid + context, at_least=2 * BLOCK))


def cmac(encrypt_block: EncryptBlock, message: bytes) -> bytes:
    """AES-CMAC (RFC 4493 §2.4), 16 bytes, by an encryption of single blocks.

    Libraries, `cryptography` among them, take the key itself; a security module keeps it and encrypts blocks. That is
    why the mode is written out here.
    """
    return _cmac(encrypt_block, message, at_least=BLOCK)


def _cmac(encrypt_block: EncryptBlock, message: bytes, *, at_least: int) -> bytes:
    """CMAC over a message that is padded to whole blocks, `at_least` so many bytes.

    A message that was not padded takes the first subkey, a padded one the second: so neither passes for the other.
    """
    whole = max(at_least, -(-len(message) // BLOCK) * BLOCK)
    subkey = _doubled(int.from_bytes(encrypt_block(bytes(BLOCK))))
    if len(message) < whole:
        message = (message + _PADDING).ljust(whole, b"\0")
        subkey = _doubled(subkey)
    chained = 0
    for start in range(0, whole - BLOCK, BLOCK):
        chained = int.from_bytes(encrypt_block(_block(chained ^ int.from_bytes(message[start : start + BLOCK]))))
    return encrypt_block(_block(chained ^ int.from_bytes(message[-BLOCK:]) ^ subkey))


def _doubled(element: int) -> int:
    """Multiply by x in the field of 2^128 elements (RFC 4493 §2.3)."""
    shifted = element << 1
    return (shifted ^ _R_128) & ((1 << 8 * BLOCK) - 1) if shifted >> 8 * BLOCK else shifted


def _block(number: int) -> bytes:
    return number.to_bytes(BLOCK)
