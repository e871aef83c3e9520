"""PACE with elliptic curves (TR-03110-3 v2.2 §A and §B.1; Doc 9303-11 §4.4), what terminal and card both need.

Both know a password that is printed on the card. The card sends a random nonce, encrypted under the password; both map
it to a fresh base point that nobody else knows, agree on a key over that point, and show each other that they did. Who
only listens can try no password, and who talks to the card tries one in each run.

Generic mapping, and chip authentication mapping, where the card proves its certified key on top. Integrated mapping,
groups modulo a prime and triple DES are left out. Nothing here does I/O. Suites and passwords are here, and what names
them; `hardware.pace_party` leads one side through a run.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from types import MappingProxyType

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from hardware import tlv
from hardware.domain_parameters import STANDARDIZED, DomainParameters, PointError
from hardware.secure_messaging import Secret
from hardware.tlv import TlvError

EF_CARD_ACCESS = bytes.fromhex("011C")
MAX_CARD_ACCESS_BYTES = 2048
"""Bound on EF.CardAccess; in the field it has some dozens of bytes."""

INS_MANAGE_SECURITY_ENVIRONMENT = 0x22
SET_AUTHENTICATION_TEMPLATE = (0xC1, 0xA4)
"""P1 and P2: set an authentication template for computation and verification."""
INS_GENERAL_AUTHENTICATE = 0x86

MECHANISM, PASSWORD, PARAMETERS = 0x80, 0x83, 0x84
"""Objects of MSE:Set AT: the protocol's identifier, which password, which domain parameters."""
DYNAMIC_AUTHENTICATION = 0x7C
ENCRYPTED_NONCE = 0x80
MAPPING_BY_TERMINAL, MAPPING_BY_CARD = 0x81, 0x82
KEY_BY_TERMINAL, KEY_BY_CARD = 0x83, 0x84
TOKEN_BY_TERMINAL, TOKEN_BY_CARD = 0x85, 0x86
CHIP_AUTHENTICATION_DATA = 0x8A
"""Objects of GENERAL AUTHENTICATE, inside `DYNAMIC_AUTHENTICATION`."""

_BLOCK = 16
_FROM_PASSWORD = 3  # the counter of the key derivation (§A.2.3)
_SET, _SEQUENCE, _OBJECT_IDENTIFIER, _INTEGER = 0x31, 0x30, 0x06, 0x02
_VERSION = 2

#: id-PACE, 0.4.0.127.0.7.2.2.4, as the value of an object identifier; mapping and cipher follow.
_PACE = bytes.fromhex("04007F0007020204")
_CIPHER_KEY_BYTES = {2: 16, 3: 24, 4: 32}


class PaceError(ValueError):
    """What came is not PACE: malformed, off the curve, our own key again, or a suite that is not spoken here."""


@unique
class Mapping(StrEnum):
    """How the nonce becomes a base point."""

    GM = "GM"
    CAM = "CAM"


@unique
class PasswordKind(IntEnum):
    """Which password, as MSE:Set AT names it (TR-03110-3 §B.1)."""

    MRZ = 1
    CAN = 2
    PIN = 3
    PUK = 4


_MAPPINGS = MappingProxyType({2: Mapping.GM, 6: Mapping.CAM})


@dataclass(frozen=True, slots=True)
class PaceInfo:
    """One PACEInfo (TR-03110-3 §A.1.1.1): a suite that the card speaks.

    Attributes:
        oid: The protocol's object identifier, its DER value without tag and length.
        version: Of the protocol; 2 is spoken.
        parameter_id: Number of the standardized domain parameters; None where the card has its own.
    """

    oid: bytes
    version: int
    parameter_id: int | None

    @classmethod
    def of(cls, mapping: Mapping, key_bytes: int, parameter_id: int) -> "PaceInfo":
        """Name a suite.

        Raises:
            PaceError: AES has no such key length.
        """
        ciphers = [number for number, size in _CIPHER_KEY_BYTES.items() if size == key_bytes]
        if not ciphers:
            raise PaceError(f"no suite has keys of {key_bytes} bytes")
        arc = next(number for number, name in _MAPPINGS.items() if name is mapping)
        return cls(_PACE + bytes([arc, ciphers[0]]), _VERSION, parameter_id)

    @property
    def mapping(self) -> Mapping:
        """How the nonce becomes a base point.

        Raises:
            PaceError: The suite is not spoken here.
        """
        return self._suite()[0]

    @property
    def key_bytes(self) -> int:
        """Length of an AES key: 16, 24 or 32.

        Raises:
            PaceError: The suite is not spoken here.
        """
        return self._suite()[1]

    @property
    def parameters(self) -> DomainParameters:
        """The domain parameters.

        Raises:
            PaceError: They are the card's own, or modulo a prime.
        """
        parameters = STANDARDIZED.get(self.parameter_id) if self.parameter_id is not None else None
        if parameters is None:
            raise PaceError("domain parameters that are not on the list")
        return parameters

    @property
    def spoken(self) -> bool:
        """Whether this suite can be used here."""
        try:
            self._suite()
        except PaceError:
            return False
        return self.version == _VERSION and self.parameter_id in STANDARDIZED

    def __bytes__(self) -> bytes:
        numbers = [self.version] if self.parameter_id is None else [self.version, self.parameter_id]
        integers = b"".join(tlv.encode(_INTEGER, bytes([number])) for number in numbers)
        return tlv.encode(_SEQUENCE, tlv.encode(_OBJECT_IDENTIFIER, self.oid) + integers)

    def _suite(self) -> tuple[Mapping, int]:
        mapping = _MAPPINGS.get(self.oid[-2]) if len(self.oid) == len(_PACE) + 2 else None
        size = _CIPHER_KEY_BYTES.get(self.oid[-1]) if self.oid else None
        if not self.oid.startswith(_PACE) or mapping is None or size is None:
            raise PaceError("a suite of PACE that is not spoken here")
        return mapping, size


def parse_card_access(octets: bytes) -> tuple[PaceInfo, ...]:
    """Find the suites in EF.CardAccess that are spoken here, in the card's order (Doc 9303-11 §9.2).

    What else the file announces is skipped: chip authentication, other mappings, ciphers or versions, parameters of the
    card's own. The file may be padded with zeros to its size.

    Returns:
        The suites; empty where none is spoken here.

    Raises:
        PaceError: It is no SET of SecurityInfo, or a PACEInfo of a suite that is spoken here is malformed.
    """
    length = card_access_length(octets)
    if len(octets) < length or any(octets[length:]):
        raise PaceError("EF.CardAccess is cut short, or something follows it")
    try:
        entries = tlv.parse(tlv.parse_one(octets[:length], _SET))
        infos = [_pace_info(entry) for entry in entries]
    except TlvError:
        raise PaceError("EF.CardAccess cannot be read") from None
    return tuple(info for info in infos if info is not None and info.spoken)


def card_access_length(start: bytes) -> int:
    """Return how long EF.CardAccess says that it is, tag and length included.

    Args:
        start: Its beginning; 4 bytes are enough.

    Raises:
        PaceError: It is no SET, or says more than `MAX_CARD_ACCESS_BYTES`.
    """
    if len(start) < 2 or start[0] != _SET:
        raise PaceError("EF.CardAccess is no SET")
    count = start[1] - 0x80 if start[1] >= 0x80 else 0
    if start[1] == 0x80 or count > 2 or len(start) < 2 + count:
        raise PaceError("EF.CardAccess has no length that can be read")
    total = 2 + count + (int.from_bytes(start[2 : 2 + count]) if count else start[1])
    if total > MAX_CARD_ACCESS_BYTES:
        raise PaceError(f"EF.CardAccess says that it has {total} bytes")
    return total


def encode_card_access(infos: Iterable[PaceInfo]) -> bytes:
    """Make the content of EF.CardAccess, as a card holds it."""
    return tlv.encode(_SET, b"".join(bytes(info) for info in infos))


def preferred(infos: Iterable[PaceInfo]) -> PaceInfo:
    """Choose a suite: chip authentication mapping, which proves more, before generic; then the longest keys.

    Raises:
        PaceError: There is none.
    """
    candidates = list(infos)
    if not candidates:
        raise PaceError("no suite of PACE that is spoken here")
    return max(candidates, key=lambda info: (info.mapping is Mapping.CAM, info.key_bytes))


def derive_key(secret: Secret, counter: int, key_bytes: int) -> bytearray:
    """Derive an AES key (TR-03110-3 §A.2.3): SHA-1 for 16 bytes, SHA-256 for 24 and 32."""
    digest = hashlib.sha1(usedforsecurity=False) if key_bytes == 16 else hashlib.sha256()
    digest.update(secret)
    digest.update(counter.to_bytes(4))
    return bytearray(digest.digest()[:key_bytes])


def password_key(kind: PasswordKind, secret: Secret, key_bytes: int) -> bytearray:
    """Derive K_pi.

    Args:
        kind: Which password.
        secret: Digits in ASCII; for the MRZ, document number, date of birth and date of expiry, each with its check
            digit, in ASCII (Doc 9303-11 §4.3.2), of which the SHA-1 is taken.
        key_bytes: Length of the suite's keys.
    """
    if kind is PasswordKind.MRZ:
        secret = hashlib.sha1(secret, usedforsecurity=False).digest()
    return derive_key(secret, _FROM_PASSWORD, key_bytes)


def open_nonce(key: Secret, encrypted: bytes) -> bytearray:
    """Decrypt the nonce; it may have any positive number of whole blocks (cards have one or two).

    Raises:
        PaceError: It has another length.
    """
    if not encrypted or len(encrypted) % _BLOCK:
        raise PaceError(f"an encrypted nonce of {len(encrypted)} bytes")
    decryptor = Cipher(AES(key), CBC(bytes(_BLOCK))).decryptor()
    return bytearray(decryptor.update(encrypted) + decryptor.finalize())


def seal_nonce(key: Secret, nonce: Secret) -> bytes:
    """Encrypt a nonce of whole blocks, as a card."""
    encryptor = Cipher(AES(key), CBC(bytes(_BLOCK))).encryptor()
    return encryptor.update(nonce) + encryptor.finalize()


def verify_chip_data(parameters: DomainParameters, chip_data: bytes, mapping_key: bytes, chip_key: bytes) -> bool:
    """Check chip authentication data: whether who mapped the nonce holds the chip's key (Doc 9303-11 §4.4.3.5).

    Args:
        parameters: Of the mapping, and of the chip's key.
        chip_data: CA_IC as the card sent it, decrypted.
        mapping_key: The card's public key of the mapping, ``04 || X || Y``.
        chip_key: Its certified public key, from EF.CardSecurity or EF.DG14.

    Returns:
        Whether CA_IC times the chip's key is the mapping key, both coordinates.

    Raises:
        PaceError: The chip's key is no point of the curve.
    """
    number = int.from_bytes(chip_data)
    try:
        parameters.check(chip_key)
        return 0 < number < parameters.order and parameters.multiply(chip_key, number) == mapping_key
    except PointError as error:
        raise PaceError(str(error)) from None


def _pace_info(entry: tlv.Tlv) -> PaceInfo | None:
    """Read one SecurityInfo; None where its protocol is not a suite that is spoken here."""
    fields = tlv.parse(entry.value)
    if entry.tag != _SEQUENCE or not fields or fields[0].tag != _OBJECT_IDENTIFIER:
        raise PaceError("EF.CardAccess holds something that is no SecurityInfo")
    oid = fields[0].value
    if not PaceInfo(oid, _VERSION, next(iter(STANDARDIZED))).spoken:
        return None
    numbers = [int.from_bytes(field.value) for field in fields[1:] if field.tag == _INTEGER and field.value]
    if len(numbers) != len(fields) - 1 or len(numbers) not in (1, 2):
        raise PaceError("a PACEInfo that cannot be read")
    return PaceInfo(oid, numbers[0], numbers[1] if len(numbers) == 2 else None)
