"""EV2 authentication and secure messaging, for both ends (NXP NT4H2421Gx rev. 3.0 §9.1, in AES mode).

Card and gate show each other one AES-128 key over fresh random numbers, and derive two session keys from it. From then
on commands and answers carry a MAC over a transaction identifier and a counter that both ends keep and neither sends,
so that nothing of one session fits into another, and nothing can be left out, repeated or put in.

Secure Dynamic Messaging, the text that a tag puts into its own link, derives its keys in the same manner (§9.3.9).
"""

import hmac
from dataclasses import dataclass
from enum import IntEnum, unique

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hardware.apdu import SHORT_LE_MAX, CommandApdu

CLA = 0x90
KEY_BYTES = 16
CHALLENGE_BYTES = 16
IDENTIFIER_BYTES = 4
MAC_BYTES = 8
CAPABILITY_BYTES = 6
UID_BYTES = 7
MAX_COUNTER = 0xFFFF

_BLOCK = 16
_ZERO_IV = bytes(_BLOCK)
_OK = 0x00

Secret = bytes | bytearray


@unique
class Ins(IntEnum):
    """Instructions under `CLA` (§10.2, table 22)."""

    READ_SIG = 0x3C
    GET_CARD_UID = 0x51
    CHANGE_FILE_SETTINGS = 0x5F
    GET_VERSION = 0x60
    AUTHENTICATE_FIRST = 0x71
    AUTHENTICATE_NON_FIRST = 0x77
    WRITE_DATA = 0x8D
    READ_DATA = 0xAD
    ADDITIONAL_FRAME = 0xAF
    CHANGE_KEY = 0xC4
    GET_FILE_SETTINGS = 0xF5


@unique
class Status(IntEnum):
    """Status words under `CLA` (§10.3, table 23)."""

    OK = 0x9100
    ILLEGAL_COMMAND_CODE = 0x911C
    INTEGRITY_ERROR = 0x911E
    NO_SUCH_KEY = 0x9140
    LENGTH_ERROR = 0x917E
    SIGNATURE = 0x9190  # Read_Sig in plain (AN12196 rev. 2.0, table 30)
    PERMISSION_DENIED = 0x919D
    PARAMETER_ERROR = 0x919E
    AUTHENTICATION_DELAY = 0x91AD
    AUTHENTICATION_ERROR = 0x91AE
    ADDITIONAL_FRAME = 0x91AF
    BOUNDARY_ERROR = 0x91BE
    COMMAND_ABORTED = 0x91CA
    FILE_NOT_FOUND = 0x91F0


@unique
class CommMode(IntEnum):
    """How a command and its answer are protected (§8.2.3.5), as file settings encode it."""

    PLAIN = 0
    MAC = 1
    FULL = 3


class Ev2Error(ValueError):
    """The octets break the protocol: a length, a padding or a MAC is wrong, or the session has had its last command."""


def native(ins: int, data: bytes = b"") -> CommandApdu:
    """Wrap a native command: ``90 INS 00 00 [Lc data] 00``."""
    return CommandApdu(CLA, ins, 0, 0, data, le=SHORT_LE_MAX)


def cmac(key: Secret, message: bytes) -> bytes:
    """Return the AES-CMAC of a message, 16 bytes (SP 800-38B)."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def truncated(mac: bytes) -> bytes:
    """Shorten a MAC to the 8 bytes that go over the air: the second, fourth, … of 16 (§9.1.3)."""
    return mac[1::2]


def rotated(challenge: bytes) -> bytes:
    """Rotate left by one byte: RndA' and RndB' (§9.1.5)."""
    return challenge[1:] + challenge[:1]


def encrypt(key: Secret, blocks: bytes, iv: bytes = _ZERO_IV) -> bytes:
    """Encrypt whole blocks in CBC mode; the authentication's IV is zero for each message (§9.1.4).

    Raises:
        Ev2Error: Not whole blocks.
    """
    _check_whole(blocks)
    encryptor = Cipher(AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(blocks) + encryptor.finalize()


def decrypt(key: Secret, blocks: bytes, iv: bytes = _ZERO_IV) -> bytes:
    """Decrypt whole blocks in CBC mode.

    Raises:
        Ev2Error: Not whole blocks.
    """
    _check_whole(blocks)
    decryptor = Cipher(AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(blocks) + decryptor.finalize()


def padded(data: bytes) -> bytes:
    """Pad to whole blocks with ``80 00 …``, a block more where they were whole (ISO/IEC 9797-1 method 2)."""
    return data + b"\x80" + bytes(-(len(data) + 1) % _BLOCK)


def unpadded(blocks: bytes) -> bytes:
    """Take the padding off.

    Raises:
        Ev2Error: There is none.
    """
    data = blocks.rstrip(b"\x00")
    if not data.endswith(b"\x80") or len(blocks) - len(data) >= _BLOCK:
        raise Ev2Error("no padding")
    return data[:-1]


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Two keys that last as long as one authentication.

    Attributes:
        encryption: SesAuthENCKey, 16 bytes.
        mac: SesAuthMACKey, 16 bytes.
    """

    encryption: bytearray
    mac: bytearray

    @classmethod
    def of_challenges(cls, key: Secret, rnd_a: bytes, rnd_b: bytes) -> "SessionKeys":
        """Derive the keys of a session from the two random numbers, 16 bytes each (§9.1.7)."""
        mixed = bytes(a ^ b for a, b in zip(rnd_a[2:8], rnd_b[:6], strict=True))
        context = rnd_a[:2] + mixed + rnd_b[6:] + rnd_a[8:]
        return cls._derived(key, b"\xa5\x5a", b"\x5a\xa5", context)

    @classmethod
    def of_reading(cls, key: Secret, uid: bytes, read_counter: bytes) -> "SessionKeys":
        """Derive the keys of one read with Secure Dynamic Messaging (§9.3.9.1).

        Args:
            key: SDMFileReadKey.
            uid: As far as the tag mirrors it: 7 bytes, or empty.
            read_counter: SDMReadCtr, least significant byte first, 3 bytes; or empty.
        """
        return cls._derived(key, b"\xc3\x3c", b"\x3c\xc3", uid + read_counter)

    @classmethod
    def _derived(cls, key: Secret, encryption: bytes, mac: bytes, context: bytes) -> "SessionKeys":
        vectors = (label + b"\x00\x01\x00\x80" + context for label in (encryption, mac))
        first, second = (bytearray(cmac(key, vector + bytes(-len(vector) % _BLOCK))) for vector in vectors)
        return cls(first, second)

    def wipe(self) -> None:
        """Overwrite both keys; copies that the interpreter made of them are out of reach."""
        for key in (self.encryption, self.mac):
            key[:] = bytes(len(key))


def gate_cryptogram(key: Secret, rnd_a: bytes, rnd_b: bytes) -> bytes:
    """What the gate answers to the card's challenge: E(K, RndA || RndB'), 32 bytes (§9.1.5)."""
    return encrypt(key, rnd_a + rotated(rnd_b))


def open_gate_cryptogram(key: Secret, cryptogram: bytes) -> tuple[bytes, bytes]:
    """Return RndA and RndB' as a card finds them.

    Raises:
        Ev2Error: Not 32 bytes.
    """
    plain = decrypt(key, cryptogram)
    if len(plain) != 2 * CHALLENGE_BYTES:
        raise Ev2Error(f"a cryptogram of {len(plain)} bytes")
    return plain[:CHALLENGE_BYTES], plain[CHALLENGE_BYTES:]


@dataclass(frozen=True, slots=True)
class CardAnswer:
    """How a card ends its first authentication.

    Attributes:
        identifier: TI, 4 bytes: names the transaction that begins.
        rnd_a_rotated: RndA', 16 bytes: only who holds the key could read RndA.
        card_capabilities: PDcap2, 6 bytes.
        gate_capabilities: PCDcap2, 6 bytes, as the card understood them.
    """

    identifier: bytes
    rnd_a_rotated: bytes
    card_capabilities: bytes = bytes(CAPABILITY_BYTES)
    gate_capabilities: bytes = bytes(CAPABILITY_BYTES)

    def sealed(self, key: Secret) -> bytes:
        """Encode as E(K, TI || RndA' || PDcap2 || PCDcap2), 32 bytes."""
        return encrypt(key, self.identifier + self.rnd_a_rotated + self.card_capabilities + self.gate_capabilities)

    @classmethod
    def opened(cls, key: Secret, cryptogram: bytes) -> "CardAnswer":
        """Decode; under another key it decodes as well, into noise.

        Raises:
            Ev2Error: Not 32 bytes.
        """
        plain = decrypt(key, cryptogram)
        if len(plain) != 2 * _BLOCK:
            raise Ev2Error(f"a cryptogram of {len(plain)} bytes")
        return cls(plain[:4], plain[4:20], plain[20:26], plain[26:])


class Session:
    """One end of an authenticated session. Each end counts commands for itself.

    A command is sealed by the gate and opened by the card, which moves the counters of both; then the answer is sealed
    by the card and opened by the gate, with the counters as they are.

    Args:
        keys: Of this authentication.
        identifier: TI, 4 bytes.
        counter: CmdCtr: zero after a first authentication, carried on by others.
    """

    def __init__(self, keys: SessionKeys, identifier: bytes, counter: int = 0) -> None:
        self._keys = keys
        self._identifier = identifier
        self._counter = counter

    @property
    def identifier(self) -> bytes:
        """TI, 4 bytes."""
        return self._identifier

    @property
    def counter(self) -> int:
        """CmdCtr."""
        return self._counter

    def wipe(self) -> None:
        """Overwrite the session's keys."""
        self._keys.wipe()

    def seal_command(self, mode: CommMode, ins: int, header: bytes = b"", data: bytes = b"") -> CommandApdu:
        """Protect a command (§9.1.8 to §9.1.10).

        Args:
            mode: How.
            ins: Instruction.
            header: CmdHeader, which is never encrypted.
            data: CmdData.

        Raises:
            Ev2Error: The counter is at its end: authenticate anew.
        """
        field = header + self._protected(mode, data, b"\xa5\x5a")
        mac = b"" if mode is CommMode.PLAIN else self._mac(ins, field)
        self._count()
        return native(ins, field + mac)

    def open_command(self, mode: CommMode, ins: int, field: bytes, header_bytes: int) -> tuple[bytes, bytes]:
        """Verify a command, as a card does, and return its header and its data.

        Args:
            mode: How it has to be protected.
            ins: Instruction.
            field: The command's data field.
            header_bytes: Length of CmdHeader.

        Raises:
            Ev2Error: It is too short, its MAC or padding is wrong, or the counter is at its end.
        """
        if mode is not CommMode.PLAIN:
            field = self._without_mac(ins, field)
        if len(field) < header_bytes:
            raise Ev2Error(f"a command of {len(field)} bytes")
        header, data = field[:header_bytes], self._unprotected(mode, field[header_bytes:], b"\xa5\x5a")
        self._count()
        return header, data

    def seal_response(self, mode: CommMode, data: bytes = b"") -> bytes:
        """Protect the data field of an answer that says OK."""
        field = self._protected(mode, data, b"\x5a\xa5")
        return field if mode is CommMode.PLAIN else field + self.response_mac(field)

    def open_response(self, mode: CommMode, field: bytes) -> bytes:
        """Verify the data field of an answer that says OK, and return its data.

        Raises:
            Ev2Error: It is too short, or its MAC or padding is wrong.
        """
        if mode is not CommMode.PLAIN:
            field = self._without_mac(_OK, field)
        return self._unprotected(mode, field, b"\x5a\xa5")

    def response_mac(self, field: bytes) -> bytes:
        """Return the MAC, 8 bytes, that has to follow the data field of an answer that says OK."""
        return self._mac(_OK, field)

    def _mac(self, code: int, field: bytes) -> bytes:
        return truncated(cmac(self._keys.mac, bytes([code]) + self._position() + field))

    def _position(self) -> bytes:
        return self._counter.to_bytes(2, "little") + self._identifier

    def _count(self) -> None:
        if self._counter == MAX_COUNTER:
            raise Ev2Error("the command counter is at its end")
        self._counter += 1

    def _without_mac(self, code: int, field: bytes) -> bytes:
        body, mac = field[:-MAC_BYTES], field[-MAC_BYTES:]
        if not hmac.compare_digest(self._mac(code, body), mac):
            raise Ev2Error("the MAC is wrong")
        return body

    def _protected(self, mode: CommMode, data: bytes, label: bytes) -> bytes:
        if mode is not CommMode.FULL or not data:
            return data
        return encrypt(self._keys.encryption, padded(data), self._iv(label))

    def _unprotected(self, mode: CommMode, field: bytes, label: bytes) -> bytes:
        if mode is not CommMode.FULL or not field:
            return field
        return unpadded(decrypt(self._keys.encryption, field, self._iv(label)))

    def _iv(self, label: bytes) -> bytes:
        """§9.1.4: what names the direction, the transaction and the command, encrypted as one block."""
        position = self._identifier + self._counter.to_bytes(2, "little")
        return encrypt(self._keys.encryption, label + position + bytes(8))


def _check_whole(blocks: bytes) -> None:
    if not blocks or len(blocks) % _BLOCK:
        raise Ev2Error(f"{len(blocks)} bytes are not whole blocks")
