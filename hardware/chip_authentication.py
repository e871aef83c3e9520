"""Chip Authentication version 1 over elliptic curves (TR-03110-1 §3.4, TR-03110-3 §B.2; Doc 9303-11 §6.2), both roles.

The chip holds a key that its issuer signed in EF.DG14. The terminal sends an ephemeral key, both agree on a secret, and
the session goes on under keys that come of it, its counter back at zero. The chip says nothing more: it is proved by
the first answer that it seals under the new keys, which `confirmation` holds against what it had to be.

The suites with AES, which take MSE:Set AT and GENERAL AUTHENTICATE. Triple DES and groups modulo a prime are left out.
Version 2 is another protocol, for terminals that were authenticated before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from hardware import pace, tlv
from hardware.apdu import SHORT_LE_MAX, CommandApdu, ResponseApdu
from hardware.domain_parameters import DomainParameters, PointError
from hardware.ec_keys import EcKey
from hardware.lds import SecurityInfos
from hardware.secure_messaging import SecureChannel
from hardware.tlv import TlvError

SET_TEMPLATE = (0x41, 0xA4)
"""P1 and P2 of MSE:Set AT: set an authentication template for internal authentication."""

MECHANISM, KEY_REFERENCE = 0x80, 0x84
DYNAMIC_AUTHENTICATION, EPHEMERAL_KEY = 0x7C, 0x80

_VERSION = 1
_ENCRYPTION, _AUTHENTICATION = 1, 2
_ANSWER_COUNTER = 2
"""SSC of the first answer of a session: the command before it took 1."""
_BLOCK = 16
_MAC_BYTES = 8
_TRAILER = bytes([0x8E, _MAC_BYTES])

#: id-CA-ECDH-AES-CBC-CMAC-128, -192 and -256, 0.4.0.127.0.7.2.2.3.2.2 to 4, with the length of their keys.
KEY_BYTES: Mapping[bytes, int] = MappingProxyType(
    {
        bytes.fromhex("04007F00070202030202"): 16,
        bytes.fromhex("04007F00070202030203"): 24,
        bytes.fromhex("04007F00070202030204"): 32,
    }
)


class ChipAuthenticationError(ValueError):
    """What came is not Chip Authentication: malformed, off the curve, or a suite that is not spoken here."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a chip offers to prove, and how.

    Attributes:
        oid: The suite, a key of `KEY_BYTES`.
        key: The key.
        key_id: What the chip has to be told where it has several keys.
    """

    oid: bytes
    key: EcKey
    key_id: int | None


@dataclass(frozen=True, slots=True, eq=False)
class SessionKeys:
    """Keys of the session that follows. Whoever has them wipes them."""

    encryption: bytearray
    authentication: bytearray

    def channel(self) -> SecureChannel:
        """Open the session, its counter at 0. It has copies of the keys."""
        return SecureChannel(self.encryption, self.authentication)

    def wipe(self) -> None:
        """Overwrite them."""
        for key in (self.encryption, self.authentication):
            key[:] = bytes(len(key))


def offer(infos: SecurityInfos) -> Offer | None:
    """Choose what a chip shall prove: the longest keys first; None where it offers nothing that is spoken here."""
    offers = [
        Offer(way.oid, each.key, way.key_id)
        for way in infos.chip_authentication
        for each in infos.chip_keys
        if way.oid in KEY_BYTES and way.version == _VERSION and way.key_id in (None, each.key_id)
    ]
    return max(offers, key=lambda each: KEY_BYTES[each.oid], default=None)


def set_template(chosen: Offer) -> CommandApdu:
    """Make MSE:Set AT (TR-03110-3 §B.11.1)."""
    data = tlv.encode(MECHANISM, chosen.oid)
    if chosen.key_id is not None:
        data += tlv.encode(KEY_REFERENCE, _octets(chosen.key_id))
    return CommandApdu(0x00, pace.INS_MANAGE_SECURITY_ENVIRONMENT, *SET_TEMPLATE, data)


def read_template(command: CommandApdu) -> tuple[bytes, int | None]:
    """Read MSE:Set AT, as a chip: the suite, and which key.

    Raises:
        ChipAuthenticationError: It cannot be read, or names no suite that is spoken here.
    """
    try:
        items = tlv.parse(command.data)
    except TlvError as error:
        raise ChipAuthenticationError(str(error)) from None
    fields = {item.tag: item.value for item in items}
    if len(fields) != len(items) or not fields.keys() <= {MECHANISM, KEY_REFERENCE}:
        raise ChipAuthenticationError("a template with other objects in it")
    oid = fields.get(MECHANISM, b"")
    if oid not in KEY_BYTES:
        raise ChipAuthenticationError("a suite that is not spoken here")
    reference = fields.get(KEY_REFERENCE)
    return oid, None if reference is None else int.from_bytes(reference)


def agree(point: bytes) -> CommandApdu:
    """Make GENERAL AUTHENTICATE with our ephemeral key (TR-03110-3 §B.11.2)."""
    data = tlv.encode(DYNAMIC_AUTHENTICATION, tlv.encode(EPHEMERAL_KEY, point))
    return CommandApdu(0x00, pace.INS_GENERAL_AUTHENTICATE, 0, 0, data, le=SHORT_LE_MAX)


def read_ephemeral(command: CommandApdu) -> bytes:
    """Read the terminal's ephemeral key, as a chip.

    Raises:
        ChipAuthenticationError: It is not there.
    """
    try:
        return tlv.parse_one(tlv.parse_one(command.data, DYNAMIC_AUTHENTICATION), EPHEMERAL_KEY)
    except TlvError as error:
        raise ChipAuthenticationError(str(error)) from None


def check_agreed(data: bytes) -> None:
    """Look at a chip's answer to GENERAL AUTHENTICATE: a template with nothing in it that version 1 has.

    Raises:
        ChipAuthenticationError: It is no template.
    """
    try:
        tlv.parse(tlv.parse_one(data, DYNAMIC_AUTHENTICATION))
    except TlvError as error:
        raise ChipAuthenticationError(str(error)) from None


def session_keys(oid: bytes, parameters: DomainParameters, private: int, peer: bytes) -> SessionKeys:
    """Agree with the other side's key on the keys of the session (TR-03110-3 §A.4.1).

    Args:
        oid: The suite.
        parameters: Curve of both keys.
        private: Our number: the terminal's ephemeral one, or the chip's.
        peer: The other side's key, ``04 || X || Y``.

    Raises:
        ChipAuthenticationError: It is no point of the curve.
    """
    try:
        secret = bytearray(parameters.agree(private, peer))
    except PointError as error:
        raise ChipAuthenticationError(str(error)) from None
    size = KEY_BYTES[oid]
    keys = SessionKeys(pace.derive_key(secret, _ENCRYPTION, size), pace.derive_key(secret, _AUTHENTICATION, size))
    secret[:] = bytes(len(secret))
    return keys


def confirmation(keys: SessionKeys, answer: ResponseApdu) -> tuple[bytes, bytes]:
    """Hold the first answer of the session against what a chip with the right key had to send.

    It is the checksum that counts, which nobody makes without the key, whatever the answer says.

    Args:
        keys: Of the session.
        answer: To its first command, just as it came.

    Returns:
        The checksum over this answer, 8 bytes, and the one that came; that one is empty where there is none.
    """
    objects, trailer = answer.data[: -len(_TRAILER) - _MAC_BYTES], answer.data[-len(_TRAILER) - _MAC_BYTES :]
    mac = CMAC(AES(keys.authentication))
    mac.update(_ANSWER_COUNTER.to_bytes(_BLOCK) + (_padded(objects) if objects else b""))
    sealed = len(trailer) == len(_TRAILER) + _MAC_BYTES and trailer.startswith(_TRAILER)
    return mac.finalize()[:_MAC_BYTES], trailer[len(_TRAILER) :] if sealed else b""


def mapped(chip_key: EcKey, chip_data: bytes) -> bytes:
    """Multiply a chip's key by its chip authentication data (Doc 9303-11 §4.4.3.5.3): its mapping key, if it is here.

    Args:
        chip_key: From EF.CardSecurity, on the curve of the mapping.
        chip_data: CA_IC, decrypted.

    Returns:
        The product, ``04 || X || Y``; empty where the data are no number that a chip may send.
    """
    number = int.from_bytes(chip_data)
    if not 0 < number < chip_key.parameters.order:
        return b""
    return chip_key.parameters.multiply(chip_key.point, number)


def _octets(number: int) -> bytes:
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8))


def _padded(octets: bytes) -> bytes:
    """ISO/IEC 9797-1, padding method 2."""
    return octets + b"\x80" + bytes(-(len(octets) + 1) % _BLOCK)
