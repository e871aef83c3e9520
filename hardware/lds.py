"""Files of a travel document: the logical data structure (Doc 9303-10), as far as a proof of the chip needs it.

A file is one BER-TLV object, so that its first bytes say how long it is. Nothing here is believed: what an issuer
signed is `validator.passive_authentication`'s business. What is read here is personal: no error repeats it, nor does
any ``repr``.
"""

import datetime as dt
from dataclasses import dataclass

from hardware import tlv
from hardware.ec_keys import EcKey, EcKeyError, EcKeyUnsupported, parse_ec_key
from hardware.tlv import Tlv, TlvError

APPLICATION = bytes.fromhex("A0000002471001")
"""The eMRTD application, LDS1 (Doc 9303-10 §3.6.1)."""

EF_CARD_ACCESS, EF_CARD_SECURITY = 0x011C, 0x011D
"""Files under the master file; the second is written in the same digits as EF.SOD, which is in the application."""
EF_SOD = 0x011D

DG1, DG14, DG15 = 1, 14, 15
"""Data groups: machine-readable zone, security information, key for Active Authentication."""

MAX_FILE_BYTES = 8 * 1024
"""Bound on a file that is read whole; security objects and key files in the field are under 4 KiB."""

_TAG_DG1, _TAG_MRZ, _TAG_DG14, _TAG_DG15 = 0x61, 0x5F1F, 0x6E, 0x6F
_INTEGER, _OBJECT_IDENTIFIER, _SEQUENCE, _SET = 0x02, 0x06, 0x30, 0x31

_PK_ECDH = bytes.fromhex("04007F000702020102")
_CA_ECDH = bytes.fromhex("04007F000702020302")
_ACTIVE_AUTHENTICATION = bytes.fromhex("678108010105")

_FILLER = "<"
_WEIGHTS = (7, 3, 1)


class LdsError(ValueError):
    """The file is not what Doc 9303-10 says it is."""


@dataclass(frozen=True, slots=True, repr=False)
class Mrz:
    """The machine-readable zone (Doc 9303-3 to -6), check digits verified, fillers taken off.

    Attributes:
        code: Document code, for example ``P`` or ``I``.
        issuer: Issuing state or organisation, three letters as printed.
        number: Document number, however long it is.
        birth: Date of birth, ``YYMMDD``; unknown parts are fillers.
        expiry: Date of expiry, ``YYMMDD``; unknown parts are fillers.
        nationality: Three letters as printed.
        surname: Primary identifier.
        given_names: Secondary identifier.
        optional: Optional data; national numbers stand here.
    """

    code: str
    issuer: str
    number: str
    birth: str
    expiry: str
    nationality: str
    surname: str
    given_names: str
    optional: str

    @property
    def pace_secret(self) -> bytes:
        """What PACE makes its key of (Doc 9303-11 §4.3.2): number, birth, expiry, each with its check digit."""
        number = self.number.ljust(9, _FILLER)
        return "".join(field + check_digit(field) for field in (number, self.birth, self.expiry)).encode()

    @property
    def expires_on(self) -> dt.date | None:
        """The last day of validity; None where the document does not end, or does not say when.

        Raises:
            LdsError: The digits are no date.
        """
        if _FILLER in self.expiry:
            return None
        try:
            return dt.date(2000 + int(self.expiry[:2]), int(self.expiry[2:4]), int(self.expiry[4:]))
        except ValueError:
            raise LdsError("a date of expiry that is no date") from None


@dataclass(frozen=True, slots=True)
class ChipAuthenticationInfo:
    """How a chip proves one of its keys (TR-03110-3 §A.1.1.2).

    Attributes:
        oid: The suite, id-CA-ECDH-…, value octets of the object identifier.
        version: 1 in travel documents.
        key_id: Which key, where there are several.
    """

    oid: bytes
    version: int
    key_id: int | None


@dataclass(frozen=True, slots=True)
class ChipAuthenticationPublicKeyInfo:
    """A key that a chip can prove (TR-03110-3 §A.1.1.2).

    Attributes:
        key: The key.
        key_id: Its number, where there are several.
    """

    key: EcKey
    key_id: int | None


@dataclass(frozen=True, slots=True)
class SecurityInfos:
    """What a SecurityInfos says that a proof of the chip can use; what it says besides is passed over.

    Attributes:
        chip_authentication: Ways of Chip Authentication over elliptic curves.
        chip_keys: Keys for it, and for the mapping of PACE with Chip Authentication.
        active_authentication: Algorithm of Active Authentication, value octets of its identifier; None where not said.
    """

    chip_authentication: tuple[ChipAuthenticationInfo, ...]
    chip_keys: tuple[ChipAuthenticationPublicKeyInfo, ...]
    active_authentication: bytes | None


def whole_length(head: bytes) -> int:
    """Return a file's length, header included, from its first bytes.

    Raises:
        LdsError: The header cannot be read, or announces more than `MAX_FILE_BYTES`.
    """
    if len(head) < 2:
        raise LdsError("a file that ends before its length")
    length, header = head[1], 2
    if length & 0x80:
        count = length & 0x7F
        header += count
        if not 1 <= count <= 3 or len(head) < header:
            raise LdsError("a file whose length cannot be read")
        length = int.from_bytes(head[2:header])
    if header + length > MAX_FILE_BYTES:
        raise LdsError(f"a file of {header + length} bytes, at most {MAX_FILE_BYTES} are read")
    return header + length


def group_file(number: int) -> int:
    """Return the file identifier of a data group (Doc 9303-10 §4.2)."""
    return 0x0100 | number


def check_digit(field: str) -> str:
    """Return the check digit of a field (Doc 9303-3 §4.9).

    Raises:
        LdsError: A character is none that a machine-readable zone may hold.
    """
    return str(sum(_value(character) * _WEIGHTS[index % 3] for index, character in enumerate(field)) % 10)


def encode_dg1(lines: str) -> bytes:
    """Make the file of a machine-readable zone, its lines one after the other."""
    return tlv.encode(_TAG_DG1, tlv.encode(_TAG_MRZ, lines.encode("ascii")))


def parse_dg1(octets: bytes) -> Mrz:
    """Read data group 1: a machine-readable zone of size TD1, TD2 or TD3.

    Raises:
        LdsError: It cannot be read, or a check digit is wrong.
    """
    try:
        text = tlv.parse_one(tlv.parse_one(octets, _TAG_DG1), _TAG_MRZ).decode("ascii")
    except (TlvError, UnicodeDecodeError):
        raise LdsError("a data group 1 that cannot be read") from None
    match len(text):
        case 90:
            return _card(text[:30], text[30:60], text[60:])
        case 72:
            return _booklet(text[:36], text[36:])
        case 88:
            return _booklet(text[:44], text[44:])
        case length:
            raise LdsError(f"a machine-readable zone of {length} characters")


def parse_dg14(octets: bytes) -> SecurityInfos:
    """Read data group 14.

    Raises:
        LdsError: It cannot be read, or one of its keys is no point on its curve.
    """
    return parse_security_infos(_content(octets, _TAG_DG14, "data group 14"))


def parse_dg15(octets: bytes) -> bytes:
    """Return the key for Active Authentication from data group 15: SubjectPublicKeyInfo as it is written there.

    Raises:
        LdsError: It cannot be read.
    """
    content = _content(octets, _TAG_DG15, "data group 15")
    try:
        tlv.parse_one(content, _SEQUENCE)
    except TlvError:
        raise LdsError("a data group 15 without a key") from None
    return content


def parse_security_infos(octets: bytes) -> SecurityInfos:
    """Read a SecurityInfos (TR-03110-3 §A.1.1), a set of objects that name themselves.

    Raises:
        LdsError: It cannot be read, or one of its keys is no point on its curve.
    """
    ways: list[ChipAuthenticationInfo] = []
    keys: list[ChipAuthenticationPublicKeyInfo] = []
    active: bytes | None = None
    try:
        for info in tlv.parse(tlv.parse_one(octets, _SET)):
            oid, *members = tlv.parse(info.value)
            if info.tag != _SEQUENCE or oid.tag != _OBJECT_IDENTIFIER:
                raise LdsError("security information that does not name itself")
            if oid.value == _PK_ECDH:
                keys.extend(_chip_key(members))
            elif oid.value[:-1] == _CA_ECDH:
                ways.append(ChipAuthenticationInfo(oid.value, _number(members[0]), _key_id(members)))
            elif oid.value == _ACTIVE_AUTHENTICATION:
                active = members[1].value
    except (TlvError, IndexError):
        raise LdsError("security information that cannot be read") from None
    except EcKeyError as error:
        raise LdsError(str(error)) from None
    except ValueError as error:  # an information without a name
        raise error if isinstance(error, LdsError) else LdsError("security information that is empty") from None
    return SecurityInfos(tuple(ways), tuple(keys), active)


def _chip_key(members: list[Tlv]) -> list[ChipAuthenticationPublicKeyInfo]:
    """Read one key; none where it is of a kind that is not worked with."""
    try:
        key = parse_ec_key(bytes(members[0]))
    except EcKeyUnsupported:
        return []
    return [ChipAuthenticationPublicKeyInfo(key, _key_id(members))]


def _key_id(members: list[Tlv]) -> int | None:
    return _number(members[1]) if len(members) > 1 else None


def _number(member: Tlv) -> int:
    if member.tag != _INTEGER or not 1 <= len(member.value) <= 8:
        raise LdsError("security information with a number that cannot be read")
    return int.from_bytes(member.value)


def _content(octets: bytes, tag: int, name: str) -> bytes:
    try:
        return tlv.parse_one(octets, tag)
    except TlvError:
        raise LdsError(f"a {name} that cannot be read") from None


def _card(upper: str, middle: str, lower: str) -> Mrz:
    """TD1, three lines of 30 (Doc 9303-5 §4.2.2)."""
    number, optional = _long_number(upper[5:14], upper[14], upper[15:])
    _check(middle[:6], middle[6], "date of birth")
    _check(middle[8:14], middle[14], "date of expiry")
    _check(upper[5:] + middle[:7] + middle[8:15] + middle[18:29], middle[29], "whole")
    surname, given_names = _names(lower)
    optional = optional + middle[18:29].strip(_FILLER)
    return Mrz(
        code=upper[:2].strip(_FILLER),
        issuer=upper[2:5].strip(_FILLER),
        number=number,
        birth=middle[:6],
        expiry=middle[8:14],
        nationality=middle[15:18].strip(_FILLER),
        surname=surname,
        given_names=given_names,
        optional=optional,
    )


def _booklet(upper: str, lower: str) -> Mrz:
    """TD2 and TD3, two lines of 36 or 44 (Doc 9303-6 §4.2.2, 9303-4 §4.2.2)."""
    if len(lower) == 36:
        number, optional = _long_number(lower[:9], lower[9], lower[28:35])
    else:
        _check(lower[:9], lower[9], "document number")
        # Nothing in the field: its check digit may be a filler as well.
        if lower[28:42].strip(_FILLER) or lower[42] != _FILLER:
            _check(lower[28:42], lower[42], "personal number")
        number, optional = lower[:9].rstrip(_FILLER), lower[28:42].strip(_FILLER)
    _check(lower[13:19], lower[19], "date of birth")
    _check(lower[21:27], lower[27], "date of expiry")
    _check(lower[:10] + lower[13:20] + lower[21:-1], lower[-1], "whole")
    surname, given_names = _names(upper[5:])
    return Mrz(
        code=upper[:2].strip(_FILLER),
        issuer=upper[2:5].strip(_FILLER),
        number=number,
        birth=lower[13:19],
        expiry=lower[21:27],
        nationality=lower[10:13].strip(_FILLER),
        surname=surname,
        given_names=given_names,
        optional=optional,
    )


def _long_number(number: str, digit: str, optional: str) -> tuple[str, str]:
    """Return document number and optional data (Doc 9303-5 §4.2.2, note j).

    A number too long for its field goes on in the optional data, with its check digit at the end.
    """
    if digit == _FILLER:
        rest, _, optional = optional.partition(_FILLER)
        number, digit = number + rest[:-1], rest[-1:]
    _check(number, digit, "document number")
    return number.rstrip(_FILLER), optional.strip(_FILLER)


def _check(field: str, digit: str, name: str) -> None:
    if check_digit(field) != digit:
        raise LdsError(f"a wrong check digit: {name}")


def _names(field: str) -> tuple[str, str]:
    surname, _, given_names = field.partition(2 * _FILLER)
    return _spaced(surname), _spaced(given_names)


def _spaced(field: str) -> str:
    return field.replace(_FILLER, " ").strip()


def _value(character: str) -> int:
    if character == _FILLER:
        return 0
    if character.isascii() and (character.isdigit() or character.isupper()):
        return int(character, 36)
    raise LdsError("a character that no machine-readable zone has")
