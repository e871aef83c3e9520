"""A PKOC card in software: secure element profile 1 (a bare key), profile 2 (an issuer's certificate), or both.

The certificate need not belong to the key: a card like that is a clone, and a gate must say so.
"""

from collections.abc import Callable, Collection
from enum import StrEnum, unique

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hardware import tlv
from hardware.apdu import INS_GET_RESPONSE, SHORT_LE_MAX, SW, ApduError, CommandApdu
from hardware.virtual.chip import Answer
from hardware.virtual.piv_key import CardFileError
from hardware.virtual.timing import ChipTiming, KeyType

AID = bytes.fromhex("A000000898000001")

INS_AUTHENTICATE = 0x80
INS_INTERNAL_AUTHENTICATE = 0x88
INS_SELECT = 0xA4
INS_GET_DATA = 0xCA

#: The answer to SELECT lists protocol version 1.0 whatever the profile; profile 2 is for INFO to tell.
_SELECTED = bytes.fromhex("5C020100")
_INFO = bytes.fromhex("7F63045C020200")
_VERSION_1 = b"\x01\x00"

_TRANSACTION_BYTES = range(16, 66)
_READER_BYTES = 32
_CHALLENGE_BYTES = 32
_NUMBER_BYTES = 32

#: ISO/IEC 7816-4 §8.1.1: selection by full name; neither chaining nor extended lengths; the issuer's data "Pilet".
_HISTORICAL = bytes.fromhex("80 73802100 55") + b"Pilet"


@unique
class Profile(StrEnum):
    """The two protocols of a secure element."""

    SE_V1 = "SE V1"
    SE_V2 = "SE V2"


@unique
class LeRule(StrEnum):
    """What a card makes of the Le field of AUTHENTICATE; one that minds answers 6700."""

    EITHER = "either"
    NEEDED = "needed"
    REFUSED = "refused"


class _Refused(Exception):  # noqa: N818 - a status word on its way out, never seen outside
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class PkocChip:
    """A PKOC application, a `hardware.virtual.chip.Chip`.

    Args:
        key: The card's key, P-256.
        cvc: What object 7F21 holds; it is not checked, least of all against the key. None leaves the object out.
        profiles: What it speaks.
        authenticate_le: What it makes of the Le field of AUTHENTICATE.
        app: Whether it is as particular as the association's own app: SELECT must come byte for byte, Le included, and
            whatever it does not expect gets 6F00.
        piece: Greatest number of data bytes per response.
        timing: The silicon whose compute time the answers carry; None carries none.

    Raises:
        CardFileError: The key is none on P-256.
        NoFigure: The timing's card model was never measured with P-256.
        ValueError: `piece` is out of range, or the card speaks nothing.
    """

    def __init__(
        self,
        key: PrivateKeyTypes,
        *,
        cvc: bytes | None = None,
        profiles: Collection[Profile] = frozenset(Profile),
        authenticate_le: LeRule = LeRule.EITHER,
        app: bool = False,
        piece: int = SHORT_LE_MAX,
        timing: ChipTiming | None = None,
    ) -> None:
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CardFileError(f"a PKOC card cannot hold {type(key).__name__}: make a P-256 key")
        if not 1 <= piece <= SHORT_LE_MAX:
            raise ValueError(f"a response of {piece} bytes: a short APDU carries 1 to {SHORT_LE_MAX}")
        if not profiles:
            raise ValueError("a PKOC card speaks profile 1, profile 2 or both")
        self._key = key
        self._cvc = cvc
        self._authenticate_le = authenticate_le
        self._app = app
        self._piece = piece
        self._compute_s = timing.seconds(KeyType.P_256) if timing else 0.0
        self._commands: dict[int, Callable[[CommandApdu], bytes]] = {}
        if Profile.SE_V1 in profiles:
            self._commands[INS_AUTHENTICATE] = self._authenticate
        if Profile.SE_V2 in profiles:
            self._commands |= {
                INS_GET_DATA: self._get_data,
                INS_INTERNAL_AUTHENTICATE: self._internal_authenticate,
            }
        self._selected = False
        self._outgoing = b""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The card's public key: what is enrolled."""
        return self._key.public_key()

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATS and the ATR."""
        return _HISTORICAL

    def reset(self) -> None:
        """Power was removed: nothing is selected, no response is pending."""
        self._selected = False
        self._outgoing = b""

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word."""
        pending, self._outgoing = self._outgoing, b""
        try:
            apdu = CommandApdu.from_bytes(command)
            if (apdu.cla, apdu.ins) == (0x00, INS_GET_RESPONSE) and pending:
                return self._answer(pending, apdu.le)
            if apdu.ins == INS_SELECT:
                return self._answer(self._select(apdu, command), apdu.le)
            response = self._known(apdu)(apdu)
        except ApduError:
            return self._status(SW.WRONG_LENGTH)
        except _Refused as refused:
            return self._status(refused.sw)
        return self._answer(response, apdu.le, 0.0 if apdu.ins == INS_GET_DATA else self._compute_s)

    def _known(self, apdu: CommandApdu) -> Callable[[CommandApdu], bytes]:
        handler = self._commands.get(apdu.ins) if self._selected else None
        if handler is None:
            raise _Refused(SW.INSTRUCTION_NOT_SUPPORTED)
        if apdu.cla != (0x80 if apdu.ins == INS_AUTHENTICATE else 0x00):
            raise _Refused(SW.CLASS_NOT_SUPPORTED)
        return handler

    def _answer(self, data: bytes, le: int | None, compute_s: float = 0.0) -> Answer:
        size = min(le or SHORT_LE_MAX, self._piece)
        self._outgoing = data[size:]
        waiting = min(len(self._outgoing), self._piece)
        sw = 0x6100 | (waiting & 0xFF) if waiting else SW.OK
        return Answer(data[:size] + sw.to_bytes(2), compute_s)

    def _status(self, sw: int) -> Answer:
        told = SW.UNKNOWN_ERROR if self._app and sw != SW.REFERENCED_DATA_NOT_FOUND else sw
        return Answer(told.to_bytes(2))

    def _select(self, apdu: CommandApdu, command: bytes) -> bytes:
        """A name that is not ours changes nothing."""
        if self._app and command != bytes(CommandApdu(0x00, INS_SELECT, 0x04, 0x00, AID, le=SHORT_LE_MAX)):
            raise _Refused(SW.UNKNOWN_ERROR)
        if (apdu.cla, apdu.p1, apdu.p2) != (0x00, 0x04, 0x00):
            raise _Refused(SW.INCORRECT_P1_P2)
        if apdu.data != AID:
            raise _Refused(SW.FILE_NOT_FOUND)
        self._selected = True
        return _SELECTED

    def _authenticate(self, apdu: CommandApdu) -> bytes:
        """Profile 1: 5C version, 4C transaction identifier, 4D reader identifier, in any order; only 4C is signed."""
        if (apdu.p1, apdu.p2) != (0x00, 0x01):
            raise _Refused(SW.INCORRECT_P1_P2)
        if self._authenticate_le is (LeRule.REFUSED if apdu.le else LeRule.NEEDED):
            raise _Refused(SW.WRONG_LENGTH)
        try:
            objects = {item.tag: item.value for item in tlv.parse(apdu.data)}
        except tlv.TlvError:
            raise _Refused(SW.INCORRECT_DATA) from None
        transaction = objects.get(0x4C, b"")
        well_formed = len(transaction) in _TRANSACTION_BYTES and len(objects.get(0x4D, b"")) == _READER_BYTES
        if objects.get(0x5C) != _VERSION_1 or not well_formed:
            raise _Refused(SW.INCORRECT_DATA)
        point = self.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return tlv.encode(0x5A, point) + tlv.encode(0x9E, self._sign(transaction))

    def _get_data(self, apdu: CommandApdu) -> bytes:
        """Profile 2, §6.2 and §8.1: what the card is, and its certificate."""
        match apdu.p1, apdu.p2:
            case 0x7F, 0x63:
                return _INFO
            case 0x7F, 0x21:
                if self._cvc is None:
                    raise _Refused(SW.REFERENCED_DATA_NOT_FOUND)
                return self._cvc
            case _:
                raise _Refused(SW.INCORRECT_P1_P2)

    def _internal_authenticate(self, apdu: CommandApdu) -> bytes:
        """Profile 2, §8.2."""
        if (apdu.p1, apdu.p2) != (0x00, 0x00):
            raise _Refused(SW.INCORRECT_P1_P2)
        if len(apdu.data) != _CHALLENGE_BYTES:
            raise _Refused(SW.WRONG_LENGTH)
        return tlv.encode(0x9E, self._sign(apdu.data))

    def _sign(self, message: bytes) -> bytes:
        numbers = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return b"".join(number.to_bytes(_NUMBER_BYTES) for number in numbers)
