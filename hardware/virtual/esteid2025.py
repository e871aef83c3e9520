"""The Estonian identity card of 2025 (Thales, a PKCS#15 application) in software: at its contacts, or over the air.

Over the air it gives EF.CardAccess and nothing else before PACE with the CAN, and its PKCS#15 application is there only
inside the session. The authentication key signs through PSO: COMPUTE DIGITAL SIGNATURE once PIN1 was verified; a card
whose PIN1 was never changed takes it from nobody. A certificate need not belong to the key: a card like that is a
clone, and a desk must say so. There is a PIN2 and a PUK to be asked about, no signing key behind them.

What nobody has published of the real card is made up here: the octets of EF.CardAccess beyond the suite, and the status
words of what it refuses.
"""

import os
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardware import tlv
from hardware.apdu import SW, CommandApdu
from hardware.pace import EF_CARD_ACCESS, Mapping, PaceInfo, encode_card_access
from hardware.tlv import TlvError
from hardware.virtual.card_tree import MOST_TRIES, ROOT, WITHOUT_TEMPLATE, FileTree, Pin, Refused, Transport, answered
from hardware.virtual.chip import Answer
from hardware.virtual.pace_card import PaceCard
from hardware.virtual.piv_key import CardFileError, CardKey, ChallengeRefused
from hardware.virtual.timing import ChipTiming, KeyType

ATR = bytes.fromhex("3BFF9600008031FE438031B85365494464B085051012233F1D")
"""Answer to reset at the contacts."""

MASTER = bytes.fromhex("A0000000181002030000000000000001")
PKCS15 = bytes.fromhex("A000000063504B43532D3135")

FIELDS = 15
"""Files of the personal data directory."""

MOST_IN_SESSION = 223
"""Bytes that one READ BINARY gives inside a session."""

_HISTORICAL_AT_CONTACTS = bytes.fromhex("8031B85365494464B085051012233F")
_HISTORICAL_ON_AIR = bytes.fromhex("8031D85365494464B085051012233F")
_PERSONAL = bytes.fromhex("DFDD")
_CERTIFICATE, _SIGNING_CERTIFICATE = bytes.fromhex("ADF13411"), bytes.fromhex("ADF23421")
_PARAMETER_ID, _NONCE_BYTES = 16, 16  # brainpoolP384r1

_PIN1, _PIN2, _PUK = 0x81, 0x82, 0x83
_PIN2_DIGITS, _PUK_DIGITS = "12345", "12345678"
_PADDING = 0x00
_ECDSA_SHA384 = bytes.fromhex("800154840101")
_SIGNATURE_TEMPLATE = (0x41, 0xB6)
_HASH, _COMPUTE_SIGNATURE = (0x90, 0xA0), (0x9E, 0x9A)
_P384_BYTES = 48

_PIN_STATE = "8301{:02X} 8C04F0000000 DF2104{:02X}FFA503 DF2702FFFF DF28010C DF2F01{:02X}"


class EstEid2025Chip:
    """A Thales card, a `hardware.virtual.chip.Chip`.

    Args:
        key: The authentication key, P-384.
        certificate: What its file holds, DER; it is not checked against the key.
        personal_data: PD1 to PD15; an empty one is stored as a zero byte. A Digi-ID leaves PD3, PD4 and PD5 empty.
        can: What it asks for over the air, six digits; None puts it at its contacts.
        signing_certificate: What the signing key's file holds; None leaves the file out.
        pin: PIN1, 4 to 12 digits.
        tries: How many tries PIN1 has left; 0 is a blocked one.
        transport_pin: Whether PIN1 is still the one that the card was sent with.
        timing: The silicon whose compute time a signature's answer carries; None carries none. PACE's is not modelled.
        random: Returns that many random bytes.

    Raises:
        CardFileError: The key is none on P-384.
        NoFigure: The timing's card model was never measured with P-384.
        ValueError: Another value is out of range.
    """

    def __init__(
        self,
        key: PrivateKeyTypes,
        certificate: bytes,
        personal_data: Sequence[str],
        *,
        can: str | None = None,
        signing_certificate: bytes | None = None,
        pin: str = "1234",
        tries: int = MOST_TRIES,
        transport_pin: bool = False,
        timing: ChipTiming | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._key = CardKey.of(key)
        if self._key.kind is not KeyType.P_384:
            raise CardFileError(f"an Estonian card of 2025 cannot hold a key of kind {self._key.kind}: make P-384")
        if len(personal_data) != FIELDS:
            raise ValueError(f"the personal data file has {FIELDS} fields, not {len(personal_data)}")
        self._compute_s = timing.seconds(KeyType.P_384) if timing else 0.0
        info = PaceInfo.of(Mapping.GM, 32, _PARAMETER_ID)
        files = {EF_CARD_ACCESS: encode_card_access((info,)), _CERTIFICATE: certificate}
        if signing_certificate is not None:
            files[_SIGNING_CERTIFICATE] = signing_certificate
        for field, text in enumerate(personal_data, 1):
            files[_PERSONAL + bytes.fromhex(f"50{field:02d}")] = text.encode() or b"\0"
        self._files = FileTree(files, _template)
        self._pins = {
            _PIN1: Pin(pin, _PADDING, tries=tries, transport=transport_pin),
            _PIN2: Pin(_PIN2_DIGITS, _PADDING),
            _PUK: Pin(_PUK_DIGITS, _PADDING),
        }
        self._on_air = can is not None
        pace = None
        if can is not None:
            pace = PaceCard((info,), can=can.encode(), random=random, nonce_bytes=_NONCE_BYTES)
        self._transport = Transport(self._answer, pace, lambda: self._select_application(None))
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {
            0x20: self._verify,
            0x22: self._manage_security_environment,
            0x2A: self._perform_security_operation,
            0xA4: self._select,
            0xB0: self._read_binary,
            0xCB: self._get_data,
        }
        self._select_application(MASTER)

    @property
    def historical(self) -> bytes:
        """Historical bytes of the ATR or the ATS."""
        return _HISTORICAL_ON_AIR if self._on_air else _HISTORICAL_AT_CONTACTS

    @property
    def tries_left(self) -> int:
        """Tries that PIN1 has left."""
        return self._pins[_PIN1].tries

    def reset(self) -> None:
        """Power was removed: the card's own application is selected, nothing verified; tries stay spent."""
        for pin in self._pins.values():
            pin.verified = False
        self._select_application(MASTER)
        self._transport.reset()

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        signs = command[1:4] == bytes((0x2A, *_COMPUTE_SIGNATURE))
        return answered(self._transport.process(command), self._compute_s if signs else 0.0)

    def _select_application(self, name: bytes | None) -> None:
        self._application = name
        self._files.enter(None if name is None else ROOT)
        self._environment = False
        self._digest = b""

    def _answer(self, command: CommandApdu) -> bytes:
        handler = self._commands.get(command.ins)
        if handler is None:
            raise Refused(SW.INSTRUCTION_NOT_SUPPORTED)
        if not (self._transport.readable or self._is_open_to_all(command)):
            raise Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        return handler(command)

    def _is_open_to_all(self, command: CommandApdu) -> bool:
        """Whether a command may come over the air before PACE: it selects, or reads EF.CardAccess."""
        return command.ins == 0xA4 or (command.ins == 0xB0 and self._files.file == EF_CARD_ACCESS)

    def _select(self, command: CommandApdu) -> bytes:
        if command.p1 != 0x04:
            return self._files.select(command)
        there = {MASTER, PKCS15} if self._transport.readable else {MASTER}
        if command.data not in there:
            raise Refused(SW.FILE_NOT_FOUND)
        if command.p2 != WITHOUT_TEMPLATE and (command.p2 or self._on_air):  # over the air it knows only this form
            raise Refused(SW.INCORRECT_P1_P2)
        self._select_application(command.data)
        return b"" if command.p2 == WITHOUT_TEMPLATE else tlv.encode(0x6F, tlv.encode(0x84, command.data))

    def _read_binary(self, command: CommandApdu) -> bytes:
        if self._files.file != EF_CARD_ACCESS:
            self._require_pkcs15()
        return self._files.read(command, self._transport.most(MOST_IN_SESSION))

    def _get_data(self, command: CommandApdu) -> bytes:
        """Tell a PIN's state: A0 { 83 reference, DF21 tries left and more, DF2F whether it was changed }."""
        self._require_pkcs15()
        if (command.p1, command.p2) != (0x00, 0xFF):
            raise Refused(SW.INCORRECT_P1_P2)
        for reference, pin in self._pins.items():
            if command.data == bytes.fromhex(f"A0038301{reference:02X}"):
                told = _PIN_STATE.format(reference, pin.tries, not pin.transport)
                return tlv.encode(0xA0, bytes.fromhex(told))
        raise Refused(SW.REFERENCED_DATA_NOT_FOUND)

    def _verify(self, command: CommandApdu) -> bytes:
        self._require_pkcs15()
        if command.p1 or command.p2 not in self._pins:
            raise Refused(SW.REFERENCED_DATA_NOT_FOUND)
        self._pins[command.p2].verify(command.data)
        return b""

    def _manage_security_environment(self, command: CommandApdu) -> bytes:
        self._require_pkcs15()
        if (command.p1, command.p2) != _SIGNATURE_TEMPLATE:
            raise Refused(SW.INCORRECT_P1_P2)
        if command.data != _ECDSA_SHA384:
            raise Refused(SW.REFERENCED_DATA_NOT_FOUND)
        self._environment, self._digest = True, b""
        return b""

    def _perform_security_operation(self, command: CommandApdu) -> bytes:
        """HASH takes the digest, COMPUTE DIGITAL SIGNATURE signs it, once."""
        if not self._environment:
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        match command.p1, command.p2:
            case p if p == _HASH:
                self._digest = _digest_in(command.data)
                return b""
            case p if p == _COMPUTE_SIGNATURE and not command.data:
                return self._compute_signature()
            case _:
                raise Refused(SW.INCORRECT_P1_P2)

    def _compute_signature(self) -> bytes:
        if not self._pins[_PIN1].verified:
            raise Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        digest, self._digest = self._digest, b""
        try:
            pair = decode_dss_signature(self._key.sign(digest))
        except ChallengeRefused:  # none was taken
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED) from None
        return b"".join(number.to_bytes(_P384_BYTES) for number in pair)

    def _require_pkcs15(self) -> None:
        if self._application != PKCS15:
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)


def _digest_in(data: bytes) -> bytes:
    try:
        digest = tlv.parse_one(data, 0x90)
    except TlvError:
        raise Refused(SW.INCORRECT_DATA) from None
    if len(digest) != _P384_BYTES:
        raise Refused(SW.INCORRECT_DATA)
    return digest


def _template(identifier: bytes, size: int) -> bytes:
    """File control parameters: size, transparent, identifier, activated, access rules."""
    size_and_kind = tlv.encode(0x81, size.to_bytes(2)) + bytes.fromhex("820101")
    rules = bytes.fromhex("8A01058C0303FF00")
    return tlv.encode(0x62, size_and_kind + tlv.encode(0x83, identifier) + rules)
