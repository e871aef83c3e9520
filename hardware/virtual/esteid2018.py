"""The Estonian identity card of 2018 (IDEMIA, an IAS-ECC application) in software: at its contacts, or over the air.

Through contacts its files are for everybody to read. Over the air it gives EF.CardAccess and nothing else before PACE
with the CAN; after that its application has to be selected again, inside the session. The authentication key signs once
PIN1 was verified, on either way. A certificate need not belong to the key: a card like that is a clone, and a desk must
say so. There is a PIN2 and a PUK to be asked about; no signing key is behind them, and nothing can be unblocked.
"""

import os
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardware import tlv
from hardware.apdu import SW, CommandApdu
from hardware.pace import EF_CARD_ACCESS, Mapping, PaceInfo, encode_card_access
from hardware.virtual.card_tree import MOST_TRIES, ROOT, WITHOUT_TEMPLATE, FileTree, Pin, Refused, Transport, answered
from hardware.virtual.chip import Answer
from hardware.virtual.pace_card import PaceCard
from hardware.virtual.piv_key import CardFileError, CardKey, ChallengeRefused
from hardware.virtual.timing import ChipTiming, KeyType

ATR = bytes.fromhex("3BDB960080B1FE451F830012233F536549440F9000F1")
"""Answer to reset at the contacts, Cosmo 8."""

MAIN = bytes.fromhex("A000000077010800070000FE00000100")
AUTHENTICATION = bytes.fromhex("E828BD080FF2504F5420415750")
SIGNING = bytes.fromhex("51534344204170706C69636174696F6E")

FIELDS = 15
"""Files of the personal data directory."""

MOST_IN_SESSION = 231
"""Bytes that one READ BINARY gives inside a session."""

_HISTORICAL = bytes.fromhex("0012233F536549440F9000")
_ADF1, _ADF2, _PERSONAL = bytes.fromhex("ADF1"), bytes.fromhex("ADF2"), bytes.fromhex("5000")
_DIRECTORIES = {MAIN: ROOT, AUTHENTICATION: _ADF1, SIGNING: _ADF2}
_DOCUMENT_NUMBER_FIELD = 7
_CARD_ACCESS_BYTES = 64
_PARAMETER_ID, _NONCE_BYTES = 12, 32  # secp256r1

_PIN1, _PUK, _PIN2 = 0x01, 0x02, 0x85
_PIN2_DIGITS, _PUK_DIGITS = "12345", "12345678"
_PADDING = 0xFF
_ECDSA = frozenset({bytes.fromhex("800104840181"), bytes.fromhex("8004FF200800840181")})
_P384_BYTES = 48


class EstEid2018Chip:
    """An IDEMIA card, a `hardware.virtual.chip.Chip`.

    Args:
        key: The authentication key, P-384.
        certificate: What its file holds, DER; it is not checked against the key.
        personal_data: PD1 to PD15; an empty one is stored as a zero byte. PD7 is the document number, nine characters
            that stand in a file of their own as well. A Digi-ID leaves PD3, PD4 and PD5 empty.
        can: What it asks for over the air, six digits; None puts it at its contacts.
        signing_certificate: What the signing key's file holds; None leaves the file out.
        pin: PIN1, 4 to 12 digits.
        tries: How many tries PIN1 has left; 0 is a blocked one.
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
        timing: ChipTiming | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._key = CardKey.of(key)
        if self._key.kind is not KeyType.P_384:
            raise CardFileError(f"an Estonian card of 2018 cannot hold a key of kind {self._key.kind}: make P-384")
        if len(personal_data) != FIELDS:
            raise ValueError(f"the personal data file has {FIELDS} fields, not {len(personal_data)}")
        self._compute_s = timing.seconds(KeyType.P_384) if timing else 0.0
        info = PaceInfo.of(Mapping.GM, 32, _PARAMETER_ID)
        card_access = encode_card_access((info,)).ljust(_CARD_ACCESS_BYTES, b"\0")
        number = personal_data[_DOCUMENT_NUMBER_FIELD - 1].encode()
        files = {
            EF_CARD_ACCESS: card_access,
            bytes.fromhex("D003"): tlv.encode(0x04, number),
            _ADF1 + bytes.fromhex("3401"): certificate,
        }
        if signing_certificate is not None:
            files[_ADF2 + bytes.fromhex("341F")] = signing_certificate
        for field, text in enumerate(personal_data, 1):
            files[_PERSONAL + (0x5000 | field).to_bytes(2)] = text.encode() or b"\0"
        self._files = FileTree(files, _template, (_ADF2,))
        self._pins = {
            _PIN1: Pin(pin, _PADDING, tries=tries),
            _PUK: Pin(_PUK_DIGITS, _PADDING),
            _PIN2: Pin(_PIN2_DIGITS, _PADDING),
        }
        pace = None
        if can is not None:
            pace = PaceCard((info,), can=can.encode(), random=random, nonce_bytes=_NONCE_BYTES, card_access=card_access)
        self._transport = Transport(self._answer, pace, lambda: self._files.enter(None))
        self._environment = False
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {
            0x20: self._verify,
            0x22: self._manage_security_environment,
            0x88: self._internal_authenticate,
            0xA4: self._select,
            0xB0: self._read_binary,
            0xCB: self._get_data,
        }

    @property
    def historical(self) -> bytes:
        """Historical bytes of the ATR and the ATS."""
        return _HISTORICAL

    @property
    def tries_left(self) -> int:
        """Tries that PIN1 has left."""
        return self._pins[_PIN1].tries

    def reset(self) -> None:
        """Power was removed: nothing is selected or verified, no session is open; tries stay spent."""
        self._files.enter(None)
        self._environment = False
        for pin in self._pins.values():
            pin.verified = False
        self._transport.reset()

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        signs = command[1:2] == b"\x88"
        return answered(self._transport.process(command), self._compute_s if signs else 0.0)

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
        if command.p2 not in (0x00, WITHOUT_TEMPLATE):
            raise Refused(SW.INCORRECT_P1_P2)
        if command.data not in _DIRECTORIES:
            raise Refused(SW.FILE_NOT_FOUND)
        self._files.enter(_DIRECTORIES[command.data])
        self._environment = False
        return b"" if command.p2 == WITHOUT_TEMPLATE else tlv.encode(0x6F, tlv.encode(0x84, command.data))

    def _read_binary(self, command: CommandApdu) -> bytes:
        return self._files.read(command, self._transport.most(MOST_IN_SESSION))

    def _get_data(self, command: CommandApdu) -> bytes:
        """Tell a PIN's tries; PIN2 is known in its own directory, the others in the master file."""
        if (command.p1, command.p2) != (0x3F, 0xFF):
            raise Refused(SW.INCORRECT_P1_P2)
        home = {_PIN1: ROOT, _PUK: ROOT, _PIN2: _ADF2}
        for reference, pin in self._pins.items():
            number = reference & 0x0F
            if command.data == bytes.fromhex(f"4D087006BF81{number:02X}02A080"):
                if self._files.directory != home[reference]:
                    break
                told = f"9A0103 9B01{pin.tries:02X} A110 8C06F30000734300 9C06F30000734300"
                inner = tlv.encode(0xBF8100 | number, tlv.encode(0xA0, bytes.fromhex(told)))
                return tlv.encode(0x70, inner)
        raise Refused(SW.REFERENCED_DATA_NOT_FOUND)

    def _verify(self, command: CommandApdu) -> bytes:
        if command.p1 or command.p2 not in self._pins:
            raise Refused(SW.REFERENCED_DATA_NOT_FOUND)
        if command.p2 == _PIN2 and self._files.directory != _ADF2:
            raise Refused(SW.REFERENCED_DATA_NOT_FOUND)
        self._pins[command.p2].verify(command.data)
        return b""

    def _manage_security_environment(self, command: CommandApdu) -> bytes:
        if (command.p1, command.p2) != (0x41, 0xA4):
            raise Refused(SW.INCORRECT_P1_P2)
        if self._files.directory != _ADF1 or command.data not in _ECDSA:
            raise Refused(SW.REFERENCED_DATA_NOT_FOUND)
        self._environment = True
        return b""

    def _internal_authenticate(self, command: CommandApdu) -> bytes:
        if command.p1 or command.p2:
            raise Refused(SW.INCORRECT_P1_P2)
        if not self._environment:
            raise Refused(SW.CONDITIONS_OF_USE_NOT_SATISFIED)
        if not self._pins[_PIN1].verified:
            raise Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        try:
            pair = decode_dss_signature(self._key.sign(command.data))
        except ChallengeRefused:
            raise Refused(SW.WRONG_LENGTH) from None
        return b"".join(number.to_bytes(_P384_BYTES) for number in pair)


def _template(_identifier: bytes, size: int) -> bytes:
    return tlv.encode(0x62, tlv.encode(0x80, size.to_bytes(2)))
