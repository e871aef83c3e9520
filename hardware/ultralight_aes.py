"""MIFARE Ultralight AES, what both sides need: command codes, three-pass authentication, message authentication codes.

Facts from NXP's data sheet MF0AES(H)20 and application note AN13452, as far as public programs repeat them; the numbers
that both print are in ``tests/vectors/ultralight_aes.json``.

Each authentication is three messages under AES-128 in CBC mode, each with an initial vector of zeros. In CMAC mode
every later frame ends in eight bytes of a CMAC over a counter and the frame. An acknowledgement is then such a code
alone; a refusal stays four bits without one.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.cmac import CMAC

GET_VERSION = 0x60
READ = 0x30
FAST_READ = 0x3A
READ_CNT = 0x39
READ_SIG = 0x3C
WRITE = 0xA2
INCR_CNT = 0xA5
AUTHENTICATE = 0x1A
AUTHENTICATE_PART_2 = 0xAF

AUTHENTICATE_MORE = 0xAF
"""First byte of the tag's first answer."""
AUTHENTICATE_DONE = 0x00
"""First byte of its second."""

DATA_KEY, UID_KEY = 0, 1
"""Key numbers: the key that guards the pages, and the one that lets a tag with a random UID tell its true one."""

PAGE_BYTES = 4
READ_PAGES = 4
LAST_PAGE = 0x3B
UID_PAGE = 0x00
UID_BYTES = 7
COUNTERS = 3
COUNTER_BYTES = 3
COUNTER_MAX = 0xFFFFFF

BLOCK = 16
MAC_BYTES = 8

#: SV2 of NXP's EV2 key derivation: the label of a MAC key, counter 1, 128 bits.
_MAC_KEY_LABEL = bytes.fromhex("5AA500010080")
_CASCADE_TAG = 0x88
_COUNTER_MODULUS = 1 << 16


def is_ultralight_aes(version: bytes) -> bool:
    """Whether the answer to GET_VERSION is this family's: NXP, Ultralight, fourth generation, 144 bytes.

    Capacitance and minor version are not looked at.
    """
    return len(version) == 8 and version[:3] == b"\x00\x04\x03" and version[4] == 0x04 and version[6] == 0x0F


def encrypt(key: bytes | bytearray, message: bytes) -> bytes:
    """Encrypt one message of the authentication, a whole number of blocks."""
    encryptor = Cipher(AES128(key), CBC(bytes(BLOCK))).encryptor()
    return encryptor.update(message) + encryptor.finalize()


def decrypt(key: bytes | bytearray, message: bytes) -> bytes:
    """Decrypt one message of the authentication, a whole number of blocks."""
    decryptor = Cipher(AES128(key), CBC(bytes(BLOCK))).decryptor()
    return decryptor.update(message) + decryptor.finalize()


def rotated(number: bytes) -> bytes:
    """Rotate a random number to the left by one byte: RndA' of RndA, RndB' of RndB."""
    return number[1:] + number[:1]


def session_key(key: bytes | bytearray, rnd_a: bytes, rnd_b: bytes) -> bytes:
    """Derive the key of a session's codes from both random numbers, 16 bytes each."""
    mixed = bytes(one ^ other for one, other in zip(rnd_a[2:8], rnd_b[:6], strict=True))
    return _cmac(key, _MAC_KEY_LABEL + rnd_a[:2] + mixed + rnd_b[6:] + rnd_a[8:])


def mac(key: bytes | bytearray, counter: int, message: bytes) -> bytes:
    """Authenticate one frame: every second byte of the CMAC over the counter (little-endian) and the frame.

    Args:
        key: The session's.
        counter: 0 to 65535.
        message: The frame without code and CRC; empty for an acknowledgement.
    """
    return _cmac(key, counter.to_bytes(2, "little") + message)[1::2]


@dataclass(slots=True)
class Session:
    """One authenticated session in CMAC mode, the same on both sides.

    Attributes:
        key: Session key.
        counter: Counts frames, commands and answers alike.
    """

    key: bytearray = field(repr=False)
    counter: int = 0

    @classmethod
    def of_challenges(cls, key: bytes | bytearray, rnd_a: bytes, rnd_b: bytes) -> "Session":
        """Begin the session that an authentication under `key` opened."""
        return cls(bytearray(session_key(key, rnd_a, rnd_b)))

    def wipe(self) -> None:
        """Overwrite the key; copies that the interpreter made of it are out of reach."""
        self.key[:] = bytes(len(self.key))

    def next_mac(self, message: bytes) -> bytes:
        """Return the code of the next frame, and count it."""
        code = mac(self.key, self.counter, message)
        self.counter = (self.counter + 1) % _COUNTER_MODULUS
        return code

    def sealed(self, frame: bytes) -> bytes:
        """Return the next frame with its code."""
        return frame + self.next_mac(frame)


def uid_of(first_pages: bytes) -> bytes | None:
    """Return the true UID, 7 bytes, of pages 0 to 2; None if a check byte (ISO/IEC 14443-3 BCC) is wrong."""
    head, tail, checks = first_pages[:3], first_pages[4:8], (first_pages[3], first_pages[8])
    return head + tail if checks == check_bytes(head + tail) else None


def check_bytes(uid: bytes) -> tuple[int, int]:
    """Return BCC0 and BCC1 of a UID of seven bytes."""
    return _CASCADE_TAG ^ uid[0] ^ uid[1] ^ uid[2], uid[3] ^ uid[4] ^ uid[5] ^ uid[6]


def _cmac(key: bytes | bytearray, message: bytes) -> bytes:
    context = CMAC(AES128(key))
    context.update(message)
    return context.finalize()
