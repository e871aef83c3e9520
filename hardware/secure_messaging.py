"""Secure messaging with AES, as PACE opens it, in both roles (ISO/IEC 7816-4 §10; Doc 9303-11 §9.8; TR-03110-3 §F).

Each message is encrypted (AES-CBC) and then carries eight bytes of a CMAC over a counter, the header and the encrypted
objects. The counter has 128 bits and is raised before each command and before each answer. A lost answer sets both
sides apart for good, and so does the first error: the channel is dead from then on, and its keys are wiped.

What a sealed message consists of, and in no other order:

- a command: ``[87 or 85] [97] 8E``, ``85`` with an odd instruction (its value has no padding indicator);
- an answer: ``[87 or 85] 99 8E``.
"""

import hmac
from typing import NoReturn

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

from hardware import tlv
from hardware.apdu import SHORT_LE_MAX, SW, ApduError, CommandApdu, ResponseApdu
from hardware.tlv import Tlv, TlvError

MAX_COMMAND_DATA = 223
"""Data bytes of a command that still fit a short APDU once they are sealed: `exchange` wants it as its chunk."""

SESSION_LOST = frozenset({0x6987, 0x6988})
"""Objects of secure messaging missing, or wrong: the card has dropped the session (ISO/IEC 7816-4 §10.6)."""

Secret = bytes | bytearray

_BLOCK = 16
_MAC_BYTES = 8
_CLASS_SECURED = 0x0C  # secure messaging, and the header is authenticated
_CLASS_REFUSED = 0x4C  # secured already, or of the further interindustry classes, which say it with another bit
_CRYPTOGRAM_EVEN, _CRYPTOGRAM_ODD, _LE, _STATUS = 0x87, 0x85, 0x97, 0x99
_PADDED = b"\x01"
_MAC_HEADER = bytes([0x8E, _MAC_BYTES])
_TRAILER_BYTES = len(_MAC_HEADER) + _MAC_BYTES


class SecureMessagingError(Exception):
    """A message that the other side did not seal, or sealed wrongly; the channel is dead.

    Attributes:
        sw: The status word of an answer that came without secure messaging, or None.
    """

    def __init__(self, message: str, sw: int | None = None) -> None:
        super().__init__(message)
        self.sw = sw


class SecureChannel:
    """One session. A terminal seals commands and opens answers; a card opens commands and seals answers.

    Args:
        enc_key: KS_enc: 16, 24 or 32 bytes. It is copied.
        mac_key: KS_mac, as long. It is copied.
        ssc: The send sequence counter before the first command; PACE begins with 0.
    """

    def __init__(self, enc_key: Secret, mac_key: Secret, ssc: int = 0) -> None:
        self._enc_key, self._mac_key = bytearray(enc_key), bytearray(mac_key)
        self._ssc = ssc
        self._dead = False
        self._odd = False  # the instruction of the command under way

    @property
    def alive(self) -> bool:
        """Whether nothing went wrong yet."""
        return not self._dead

    def wipe(self) -> None:
        """End the session and overwrite its keys; copies inside the cipher are out of reach."""
        self._dead = True
        for key in (self._enc_key, self._mac_key):
            key[:] = bytes(len(key))

    def seal_command(self, command: CommandApdu) -> CommandApdu:
        """Seal a command, as a terminal.

        Returns:
            The command to send, its Le at its greatest.

        Raises:
            ApduError: Its class cannot be secured, or its data is longer than `MAX_COMMAND_DATA`. Nothing was counted.
            SecureMessagingError: The channel is dead.
        """
        self._require_alive()
        if command.cla & _CLASS_REFUSED:
            raise ApduError(f"a command of class {command.cla:02X} cannot be secured")
        if len(command.data) > MAX_COMMAND_DATA:
            raise ApduError(f"{len(command.data)} bytes of data do not fit a sealed command: chain them")
        ssc = self._count()
        self._odd = bool(command.ins & 1)
        cla = command.cla | _CLASS_SECURED
        objects = self._cryptogram(ssc, command.data) if command.data else b""
        if command.le is not None:
            objects += tlv.encode(_LE, _le_octets(command.le))
        code = self._mac(ssc, _padded(bytes([cla, command.ins, command.p1, command.p2])), objects)
        outer_le = SHORT_LE_MAX if command.le is None or command.le <= SHORT_LE_MAX else 65536
        return CommandApdu(cla, command.ins, command.p1, command.p2, objects + _MAC_HEADER + code, outer_le)

    def open_response(self, response: ResponseApdu) -> ResponseApdu:
        """Open the answer to the last command, as a terminal.

        The status word that counts is the sealed one; what travels beside it has to be the same, or 9000.

        Raises:
            SecureMessagingError: It is not sealed, not for this command, or malformed.
        """
        self._require_alive()
        ssc = self._count()
        if not response.data:
            gone = "the card dropped the session" if response.sw in SESSION_LOST else "an answer that is not sealed"
            self._refuse(f"{gone}: {response.sw:04X}", response.sw)
        objects = self._verified(ssc, b"", response.data)
        if not objects or objects[-1].tag != _STATUS or len(objects[-1].value) != 2:
            self._refuse("no sealed status word")
        sw = int.from_bytes(objects[-1].value)
        if response.sw not in (sw, SW.OK):
            self._refuse("a status word that differs from the sealed one")
        return ResponseApdu(self._content(ssc, objects[:-1]), sw)

    def open_command(self, command: CommandApdu) -> CommandApdu:
        """Open a command, as a card.

        Raises:
            SecureMessagingError: It is not sealed, not the next one, or malformed.
        """
        self._require_alive()
        ssc = self._count()
        if command.cla & _CLASS_REFUSED != _CLASS_SECURED:
            self._refuse("a command that is not sealed")
        self._odd = bool(command.ins & 1)
        header = _padded(bytes([command.cla, command.ins, command.p1, command.p2]))
        objects = self._verified(ssc, header, command.data)
        le = None
        if objects and objects[-1].tag == _LE:
            le = self._le(objects.pop().value)
        data = self._content(ssc, objects)
        return CommandApdu(command.cla & ~_CLASS_SECURED, command.ins, command.p1, command.p2, data, le)

    def seal_response(self, response: ResponseApdu) -> ResponseApdu:
        """Seal the answer to the last command, as a card.

        Raises:
            SecureMessagingError: The channel is dead.
        """
        self._require_alive()
        ssc = self._count()
        objects = self._cryptogram(ssc, response.data) if response.data else b""
        objects += tlv.encode(_STATUS, response.sw.to_bytes(2))
        return ResponseApdu(objects + _MAC_HEADER + self._mac(ssc, b"", objects), response.sw)

    def _require_alive(self) -> None:
        if self._dead:
            raise SecureMessagingError("the session is over")

    def _refuse(self, message: str, sw: int | None = None) -> NoReturn:
        self.wipe()
        raise SecureMessagingError(message, sw)

    def _count(self) -> bytes:
        self._ssc = (self._ssc + 1) % (1 << 8 * _BLOCK)
        return self._ssc.to_bytes(_BLOCK)

    def _verified(self, ssc: bytes, header: bytes, octets: bytes) -> list[Tlv]:
        """Check the code over the objects just as they came, and only then look into them."""
        objects, trailer = octets[:-_TRAILER_BYTES], octets[-_TRAILER_BYTES:]
        if trailer[: len(_MAC_HEADER)] != _MAC_HEADER:
            self._refuse("a message that does not end in a checksum")
        if not hmac.compare_digest(self._mac(ssc, header, objects), trailer[len(_MAC_HEADER) :]):
            self._refuse("a wrong checksum")
        try:
            return tlv.parse(objects)
        except TlvError:
            self._refuse("sealed objects that cannot be read")

    def _mac(self, ssc: bytes, header: bytes, objects: bytes) -> bytes:
        """Authenticate counter, padded header and objects; where there are no objects, no padding follows the header.

        That is how ISO/IEC 7816-4 §10.2.3.1 and the cards have it; some programs pad once more.
        """
        mac = CMAC(AES(self._mac_key))
        mac.update(ssc + header + (_padded(objects) if objects else b""))
        return mac.finalize()[:_MAC_BYTES]

    def _cipher(self, ssc: bytes) -> Cipher[CBC]:
        block = Cipher(AES(self._enc_key), ECB()).encryptor()  # noqa: S305 - one block, the IV of Doc 9303-11 §9.8.6.1
        return Cipher(AES(self._enc_key), CBC(block.update(ssc) + block.finalize()))

    def _cryptogram(self, ssc: bytes, data: bytes) -> bytes:
        encryptor = self._cipher(ssc).encryptor()
        octets = encryptor.update(_padded(data)) + encryptor.finalize()
        return tlv.encode(_CRYPTOGRAM_ODD, octets) if self._odd else tlv.encode(_CRYPTOGRAM_EVEN, _PADDED + octets)

    def _content(self, ssc: bytes, objects: list[Tlv]) -> bytes:
        """Decrypt the one cryptogram that may be there."""
        if not objects:
            return b""
        tag, octets = objects[0].tag, objects[0].value
        if len(objects) > 1 or tag not in ({_CRYPTOGRAM_EVEN, _CRYPTOGRAM_ODD} if self._odd else {_CRYPTOGRAM_EVEN}):
            self._refuse("sealed objects that do not belong there")
        if tag == _CRYPTOGRAM_EVEN:
            if octets[:1] != _PADDED:
                self._refuse("a cryptogram with an unknown padding")
            octets = octets[1:]
        if not octets or len(octets) % _BLOCK:
            self._refuse("a cryptogram that is not whole blocks")
        decryptor = self._cipher(ssc).decryptor()
        plain = (decryptor.update(octets) + decryptor.finalize()).rstrip(b"\0")
        if plain[-1:] != b"\x80":
            self._refuse("a cryptogram without its padding")
        return plain[:-1]

    def _le(self, octets: bytes) -> int:
        if len(octets) not in (1, 2):
            self._refuse(f"an Le of {len(octets)} bytes")
        return int.from_bytes(octets) or 1 << 8 * len(octets)


def _padded(octets: bytes) -> bytes:
    """ISO/IEC 9797-1, padding method 2."""
    return octets + b"\x80" + bytes(-(len(octets) + 1) % _BLOCK)


def _le_octets(le: int) -> bytes:
    return bytes([le & 0xFF]) if le <= SHORT_LE_MAX else (le & 0xFFFF).to_bytes(2)
