"""A security module in software: a PIV application with AES-128 keys that encrypts blocks and gives no key out.

Over vpcd it is a card in a PC/SC slot like any other. The keys of a virtual one lie in this process' memory: it is for
tests and training.
"""

import hmac
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from hardware import tlv
from hardware.apdu import SW, ApduError, CommandApdu
from hardware.virtual import piv_objects
from hardware.virtual.chip import Answer

INS_VERIFY = 0x20
INS_GENERAL_AUTHENTICATE = 0x87
INS_SELECT = 0xA4

#: T=1 and the card's own name: a contact card.
ATR = bytes.fromhex("3B 89 01") + b"Pilet SAM" + bytes.fromhex("B3")

_AES_128 = 0x08
_PIN_REFERENCE, _PIN_BYTES, _PIN_TRIES = 0x80, 8, 3
_SW_WRONG_PIN = 0x63C0  # and the tries that are left
_SW_PIN_BLOCKED = 0x6983


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class SamChip:
    """A security module, a `hardware.virtual.chip.Chip`.

    Args:
        keys: AES-128 keys, 16 bytes each, by PIV key reference.
        pin: The PIN that unlocks them until the next reset, 6 to 8 digits; None leaves them open.

    Raises:
        ValueError: A key is no AES-128 key, or the PIN no PIV PIN.
    """

    def __init__(self, keys: Mapping[int, bytes], pin: str | None = None) -> None:
        for reference, key in keys.items():
            if len(key) != 16 or not 0 <= reference <= 0xFF:
                raise ValueError(f"key reference {reference:#x} with {len(key)} bytes: one byte and 16 are meant")
        if pin is not None and not (6 <= len(pin) <= _PIN_BYTES and pin.isascii() and pin.isdecimal()):
            raise ValueError("a PIV PIN is 6 to 8 decimal digits")
        self._keys = dict(keys)
        self._pin = None if pin is None else pin.encode().ljust(_PIN_BYTES, b"\xff")
        self._tries = _PIN_TRIES
        self._verified = False
        self._selected = False
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {
            INS_SELECT: self._select,
            INS_VERIFY: self._verify,
            INS_GENERAL_AUTHENTICATE: self._general_authenticate,
        }

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATR."""
        return b"Pilet SAM"

    def reset(self) -> None:
        """Power was removed: nothing is selected or unlocked; PIN tries stay spent."""
        self._selected = False
        self._verified = False

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        try:
            apdu = CommandApdu.from_bytes(command)
        except ApduError:
            return _status(SW.WRONG_LENGTH)
        if apdu.cla:
            return _status(SW.CLASS_NOT_SUPPORTED)
        if apdu.ins not in self._commands or not (self._selected or apdu.ins == INS_SELECT):
            return _status(SW.INSTRUCTION_NOT_SUPPORTED)
        try:
            return Answer(self._commands[apdu.ins](apdu) + SW.OK.to_bytes(2))
        except _Refused as refused:
            return _status(refused.sw)

    def _select(self, apdu: CommandApdu) -> bytes:
        if (apdu.p1, apdu.p2) != (0x04, 0x00):
            raise _Refused(SW.INCORRECT_P1_P2)
        if len(apdu.data) < piv_objects.AID_MIN or not piv_objects.AID.startswith(apdu.data):
            raise _Refused(SW.FILE_NOT_FOUND)
        self._selected = True
        return piv_objects.application_property_template()

    def _verify(self, apdu: CommandApdu) -> bytes:
        """SP 800-73-5 part 2 §3.2.1; without data it asks for the state."""
        if (apdu.p1, apdu.p2) != (0x00, _PIN_REFERENCE) or self._pin is None:
            raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
        if not self._tries:
            raise _Refused(_SW_PIN_BLOCKED)
        if apdu.data:
            self._tries -= 1  # spent before the comparison, as a card does: tearing it away buys no free guess
            self._verified = hmac.compare_digest(apdu.data, self._pin)
            if self._verified:
                self._tries = _PIN_TRIES
        if not self._verified:
            raise _Refused(_SW_WRONG_PIN | self._tries if self._tries else _SW_PIN_BLOCKED)
        return b""

    def _general_authenticate(self, apdu: CommandApdu) -> bytes:
        """SP 800-73-5 part 2 §3.2.4, internal authentication: 7C {82 empty, 81 block}, in either order."""
        if apdu.p1 != _AES_128 or apdu.p2 not in self._keys:
            raise _Refused(SW.INCORRECT_P1_P2)
        if self._pin is not None and not self._verified:
            raise _Refused(SW.SECURITY_STATUS_NOT_SATISFIED)
        try:
            template = tlv.parse(tlv.parse_one(apdu.data, 0x7C))
        except tlv.TlvError:
            raise _Refused(SW.INCORRECT_DATA) from None
        fields = {item.tag: item.value for item in template}
        if len(template) != 2 or fields.keys() != {0x81, 0x82} or fields[0x82] or len(fields[0x81]) != 16:
            raise _Refused(SW.INCORRECT_DATA)
        cipher = Cipher(algorithms.AES128(self._keys[apdu.p2]), modes.ECB())  # noqa: S305 - single blocks are its job
        return tlv.encode(0x7C, tlv.encode(0x82, cipher.encryptor().update(fields[0x81])))


def _status(sw: int) -> Answer:
    return Answer(sw.to_bytes(2))
