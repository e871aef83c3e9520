"""The files of an NTAG 424 DNA: access rights, settings, and what a file says of itself when it is read freely.

Secure Dynamic Messaging puts UID, read counter, encrypted file data and a MAC into the text that a phone reads
(NT4H2421Gx rev. 3.0 §9.3), in place of what was written there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hardware import ev2
from hardware.ev2 import CommMode, SessionKeys
from hardware.virtual.ntag424_keys import KEY_COUNT

CC_FILE, NDEF_FILE, PROPRIETARY_FILE = 1, 2, 3
NDEF_BYTES, PROPRIETARY_BYTES = 256, 128
CAPABILITY_CONTAINER = bytes.fromhex("001720010000FF 0406E10401000000 0506E10500808283").ljust(32, b"\0")
"""What the capability container holds at delivery (AN12196 rev. 2.0; NFC Forum Type 4 Tag)."""

FREE, NEVER = 0xE, 0xF
"""Access conditions beside the numbers of keys (§8.2.3.3)."""

COUNTER_BYTES = 3
MAX_READ_COUNTER = 0xFFFFFF
NOT_MIRRORED = 0xFFFFFF
"""Place of a read counter that is kept and not shown (§9.3.3)."""

_STANDARD_DATA = 0x00
_SDM_ENABLED = 0x40
_UID_MIRROR, _COUNTER_MIRROR, _COUNTER_LIMIT, _ENCRYPTED_DATA, _ASCII = 0x80, 0x40, 0x20, 0x10, 0x01
_BLOCK = 16

MASTER_KEY, GATE_KEY = 0, 1
TOKEN_FILE, TOKEN_BYTES = PROPRIETARY_FILE, 16


class SettingsError(ValueError):
    """File settings that the tag refuses: a length, a reserved bit, or places that overlap or leave the file."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what with a file: numbers of keys, `FREE` or `NEVER`."""

    read: int
    write: int
    read_write: int
    change: int

    def __bytes__(self) -> bytes:
        """Encode as file settings do (§8.2.3.3): ReadWrite and Change, then Read and Write."""
        return bytes([self.read_write << 4 | self.change, self.read << 4 | self.write])

    @classmethod
    def from_bytes(cls, octets: bytes) -> "Access":
        """Decode two bytes."""
        return cls(octets[1] >> 4, octets[1] & 0xF, octets[0] >> 4, octets[0] & 0xF)


ISSUED_ACCESS = Access(read=GATE_KEY, write=MASTER_KEY, read_write=MASTER_KEY, change=MASTER_KEY)
"""Of the token file on an issued card."""


@dataclass(frozen=True, slots=True)
class DynamicMessage:
    """Where a file mirrors what, and under which keys (§9.3; settings of §10.7.1). Places are offsets into the file.

    Attributes:
        meta_key: SDMMetaRead: the key that encrypts UID and counter, `FREE` to show them plainly, `NEVER` for neither.
        file_key: SDMFileRead: the key that the MAC and the encrypted data are derived from, or `NEVER`.
        counter_key: SDMCtrRet: who may ask for the read counter.
        uid: Whether the UID is mirrored.
        counter: Whether the read counter is mirrored.
        uid_at: Place of the plain UID.
        counter_at: Place of the plain read counter.
        picc_data_at: Place of the encrypted UID and counter.
        mac_input_at: Where the MAC begins to count.
        encrypted_at: Place of the encrypted file data; None for none.
        encrypted_bytes: Length of that place: 32 per encrypted block.
        mac_at: Place of the MAC.
        limit: Greatest read counter; None for 2**24 - 1.
    """

    meta_key: int
    file_key: int
    counter_key: int = NEVER
    uid: bool = True
    counter: bool = True
    uid_at: int | None = None
    counter_at: int | None = None
    picc_data_at: int | None = None
    mac_input_at: int | None = None
    encrypted_at: int | None = None
    encrypted_bytes: int = 0
    mac_at: int | None = None
    limit: int | None = None

    def __bytes__(self) -> bytes:
        """Encode as file settings do: options, access rights, and those places that the options call for."""
        options = _ASCII
        for bit, present in (
            (_UID_MIRROR, self.uid),
            (_COUNTER_MIRROR, self.counter),
            (_COUNTER_LIMIT, self.limit is not None),
            (_ENCRYPTED_DATA, self.encrypted_at is not None),
        ):
            options |= bit if present else 0
        rights = bytes([NEVER << 4 | self.counter_key, self.meta_key << 4 | self.file_key])
        places = (
            self.uid_at,
            self.counter_at,
            self.picc_data_at,
            self.mac_input_at,
            self.encrypted_at,
            self.encrypted_bytes or None,
            self.mac_at,
            self.limit,
        )
        return bytes([options]) + rights + b"".join(_le3(place) for place in places if place is not None)

    @classmethod
    def from_bytes(cls, octets: bytes) -> "DynamicMessage":
        """Decode.

        Raises:
            SettingsError: The octets are no such settings.
        """
        if len(octets) < 3 or (len(octets) - 3) % 3 or not octets[0] & _ASCII:
            raise SettingsError("settings of the dynamic message are cut short, or not for ASCII")
        options, counter_key, meta_key, file_key = octets[0], octets[1] & 0xF, octets[2] >> 4, octets[2] & 0xF
        uid, counter = bool(options & _UID_MIRROR), bool(options & _COUNTER_MIRROR)
        if not {meta_key, file_key} <= {*range(KEY_COUNT), FREE, NEVER} or file_key == FREE:
            raise SettingsError("a key that there is not, for the dynamic message")
        plain, sealed, maced = meta_key == FREE, meta_key < FREE, file_key != NEVER
        encrypted = maced and bool(options & _ENCRYPTED_DATA)
        numbers = (int.from_bytes(octets[at : at + 3], "little") for at in range(3, len(octets), 3))

        def place(*, present: bool) -> int | None:
            if not present:
                return None
            number = next(numbers, None)
            if number is None:
                raise SettingsError("a place is missing in the settings of the dynamic message")
            return number

        settings = cls(
            meta_key=meta_key,
            file_key=file_key,
            counter_key=counter_key,
            uid=uid,
            counter=counter,
            uid_at=place(present=uid and plain),
            counter_at=place(present=counter and plain),
            picc_data_at=place(present=sealed),
            mac_input_at=place(present=maced),
            encrypted_at=place(present=encrypted),
            encrypted_bytes=place(present=encrypted) or 0,
            mac_at=place(present=maced),
            limit=place(present=bool(options & _COUNTER_LIMIT)),
        )
        if next(numbers, None) is not None:
            raise SettingsError("more places than the settings of the dynamic message call for")
        return settings

    def check(self, file_bytes: int) -> None:
        """Check that the places lie in the file and apart (§9.3.3 to §9.3.7).

        Raises:
            SettingsError: They do not, or there are others than the options call for.
        """
        if DynamicMessage.from_bytes(bytes(self)) != self:
            raise SettingsError("places that the options do not call for")
        lengths = (
            (self.uid_at, 2 * ev2.UID_BYTES),
            (self.counter_at, 2 * COUNTER_BYTES),
            (self.picc_data_at, 2 * _BLOCK),
            (self.encrypted_at, self.encrypted_bytes),
            (self.mac_at, 2 * ev2.MAC_BYTES),
        )
        spans = sorted((at, at + length) for at, length in lengths if at not in (None, NOT_MIRRORED))
        edges = [0, *(edge for span in spans for edge in span), file_bytes]
        if edges != sorted(edges):
            raise SettingsError("mirrored places overlap, or leave the file")
        if self.encrypted_at is not None:
            self._check_encrypted(self.encrypted_at)
        if self.mac_at is not None and not 0 <= (self.mac_input_at or 0) <= self.mac_at:
            raise SettingsError("the MAC's input begins behind the MAC")

    def _check_encrypted(self, at: int) -> None:
        if not self.encrypted_bytes or self.encrypted_bytes % (2 * _BLOCK) or not (self.uid and self.counter):
            raise SettingsError("encrypted data are whole blocks, and need UID and counter")
        if self.mac_at is None or self.mac_at < at or (self.mac_input_at or 0) > at:
            raise SettingsError("encrypted data that the MAC does not cover")


@dataclass(slots=True)
class StandardFile:
    """A file of plain octets.

    Attributes:
        content: Its octets; the length never changes.
        iso_id: Its identifier for ISO commands.
        access: Who may do what.
        mode: How it is read and written by who holds a key.
        message: Its dynamic message; None for none.
        read_counter: SDMReadCtr.
    """

    content: bytearray
    iso_id: int
    access: Access
    mode: CommMode = CommMode.PLAIN
    message: DynamicMessage | None = None
    read_counter: int = field(default=0)

    @property
    def settings(self) -> bytes:
        """What GetFileSettings answers (§10.7.2)."""
        option = self.mode | (_SDM_ENABLED if self.message else 0)
        head = bytes([_STANDARD_DATA, option]) + bytes(self.access) + _le3(len(self.content))
        return head + (bytes(self.message) if self.message else b"")

    def change_settings(self, octets: bytes) -> None:
        """Apply what ChangeFileSettings brings (§10.7.1); a dynamic message that is switched on counts from zero.

        Raises:
            SettingsError: The settings are refused, and nothing has changed.
        """
        if len(octets) < 3 or octets[0] & 0x3F not in list(CommMode):
            raise SettingsError("file settings that are cut short, or of no communication mode")
        message = DynamicMessage.from_bytes(octets[3:]) if octets[0] & _SDM_ENABLED else None
        if message is None and len(octets) != 3:
            raise SettingsError("file settings that go on")
        if message is not None:
            message.check(len(self.content))
            self.read_counter = 0
        self.mode, self.access, self.message = CommMode(octets[0] & 0x3F), Access.from_bytes(octets[1:3]), message

    def mirrored(self, uid: bytes, padding: bytes, key: Callable[[int], bytes]) -> bytes:
        """Return the content as it is read freely, with the dynamic message in place.

        Args:
            uid: The tag's.
            padding: Random bytes, as many as encrypted UID and counter leave of a block, or more.
            key: Returns a key by its number.
        """
        out, message = bytearray(self.content), self.message
        if message is None:
            return bytes(out)
        counter = self.read_counter.to_bytes(COUNTER_BYTES, "little")
        shown = (uid if message.uid else b"", counter if message.counter else b"")
        _put(out, message.uid_at, uid)
        if message.counter_at != NOT_MIRRORED:
            _put(out, message.counter_at, counter[::-1])  # most significant byte first where it is plain
        if message.picc_data_at is not None:
            tag = (0x80 | len(uid) if message.uid else 0) | (0x40 if message.counter else 0)
            plain = (bytes([tag]) + b"".join(shown) + padding)[:_BLOCK]
            _put(out, message.picc_data_at, ev2.encrypt(key(message.meta_key), plain))
        if message.mac_at is not None:
            keys = SessionKeys.of_reading(key(message.file_key), *shown)
            if message.encrypted_at is not None:
                half = message.encrypted_at + message.encrypted_bytes // 2
                static = bytes(self.content[message.encrypted_at : half])
                iv = ev2.encrypt(keys.encryption, counter.ljust(_BLOCK, b"\0"))
                _put(out, message.encrypted_at, ev2.encrypt(keys.encryption, static, iv))
            covered = bytes(out[message.mac_input_at : message.mac_at])
            _put(out, message.mac_at, ev2.truncated(ev2.cmac(keys.mac, covered)))
        return bytes(out)


def as_delivered() -> dict[int, StandardFile]:
    """Return the three files as NXP delivers them (§8.2.3)."""
    return {
        CC_FILE: StandardFile(bytearray(CAPABILITY_CONTAINER), 0xE103, Access(FREE, 0, 0, 0)),
        NDEF_FILE: StandardFile(bytearray(NDEF_BYTES), 0xE104, Access(FREE, FREE, FREE, 0)),
        PROPRIETARY_FILE: StandardFile(bytearray(PROPRIETARY_BYTES), 0xE105, Access(2, 3, 3, 0), CommMode.FULL),
    }


def issued(token: bytes) -> dict[int, StandardFile]:
    """Return the files of a card that an operator gave out: the token, behind the gate's key.

    Raises:
        ValueError: The token is not 16 bytes long.
    """
    if len(token) != TOKEN_BYTES:
        raise ValueError(f"a token of {len(token)} bytes: it has {TOKEN_BYTES}")
    files = as_delivered()
    file = files[TOKEN_FILE]
    file.content[:TOKEN_BYTES], file.access, file.mode = token, ISSUED_ACCESS, CommMode.MAC
    return files


def _put(out: bytearray, at: int | None, octets: bytes) -> None:
    if at is not None:
        text = octets.hex().upper().encode()
        out[at : at + len(text)] = text


def _le3(number: int) -> bytes:
    return number.to_bytes(3, "little")
