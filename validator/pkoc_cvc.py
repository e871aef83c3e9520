"""The card-verifiable certificate of PKOC 2.0.1 (Core §5), and PKOC's plain forms of a point and a signature.

An issuer says in 214 bytes whose key a card holds, and from which day until which::

    7F21 { 7F4E { 5F29 profile | 42 issuer | 7F49 { 06 curve | 86 point } | 5F20 subject
                  | 5F25 first day | 5F24 last day [| 65 { 73 { 06 OID | 53 value } .. }] }
           5F37 r||s }

The issuer signs the whole ``7F4E`` object, tag and length included. The other certificate that goes by ``7F21``, the
one of PIV secure messaging, has other fields, another signature and no dates: neither can be read as the other.

Reading is strict, since what is signed should be readable in one way only: every object once and none unknown, shortest
lengths, nothing after the end.
"""

import datetime as dt
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hardware import tlv
from hardware.tlv import Tlv, TlvError
from validator.certificates import CertificateError, KeyUnsupportedError

REFERENCE_BYTES = 16
MAX_OID_BYTES = 64

_CERTIFICATE, _BODY, _SIGNATURE = 0x7F21, 0x7F4E, 0x5F37
_PROFILE, _ISSUER, _PUBLIC_KEY, _SUBJECT = 0x5F29, 0x42, 0x7F49, 0x5F20
_FIRST_DAY, _LAST_DAY, _EXTENSIONS = 0x5F25, 0x5F24, 0x65
_OID, _POINT, _MODULUS, _EXPONENT = 0x06, 0x86, 0x81, 0x82
_EXTENSION, _VALUE = 0x73, 0x53

_FIELDS = frozenset({_PROFILE, _ISSUER, _PUBLIC_KEY, _SUBJECT, _FIRST_DAY, _LAST_DAY})
_PROFILE_0 = b"\x00"
_P256 = bytes.fromhex("2A8648CE3D030107")  # 1.2.840.10045.3.1.7
_ISSUER_REFERENCE = re.compile(rb"[A-Z0-9]{16}")

_POINT_BYTES, _NUMBER_BYTES = 65, 32
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256's base point (FIPS 186-5, SP 800-186 §3.2.1.3)."""

_EPOCH = dt.date(1970, 1, 1)
_DAY_S = 86400
_CENTURY = 2000
_DOTTED = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,38}))+", re.ASCII)


class PkocCvcError(CertificateError):
    """The bytes, or the facts, are none of a PKOC certificate, point or signature."""


@dataclass(frozen=True, slots=True)
class PkocCertificate:
    """What a PKOC certificate says. Nothing in it is verified but its form, and that the key is a point on the curve.

    Attributes:
        issuer: Issuer identification reference, 16 characters A-Z and 0-9.
        subject: Subject identification reference, 16 bytes.
        key: The card's key, P-256.
        not_before: First second of the first day, seconds since 1970 UTC.
        not_after: Last second of the last day, seconds since 1970 UTC.
        extensions: Values by their object identifier in dots.
        signed: What the issuer signed: the whole ``7F4E`` object.
        signature: r||s, 64 bytes.
    """

    issuer: bytes
    subject: bytes
    key: ec.EllipticCurvePublicKey
    not_before: int
    not_after: int
    extensions: Mapping[str, bytes]
    signed: bytes
    signature: bytes

    def signed_by(self, issuer: ec.EllipticCurvePublicKey) -> bool:
        """Whether an issuer's P-256 key signed it, ECDSA with SHA-256."""
        if not isinstance(issuer.curve, ec.SECP256R1):
            return False
        try:
            issuer.verify(der_signature(self.signature), self.signed, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, PkocCvcError):
            return False
        return True


def parse(octets: bytes) -> PkocCertificate:
    """Read a certificate, the whole ``7F21`` object.

    Raises:
        KeyUnsupportedError: The card's key is none on P-256.
        PkocCvcError: The bytes are no certificate of profile 0.
    """
    try:
        return _certificate(octets)
    except TlvError as error:
        raise PkocCvcError(f"not a PKOC certificate: {error}") from None


def issue(
    signer: ec.EllipticCurvePrivateKey,
    *,
    issuer: bytes,
    subject: bytes,
    key: ec.EllipticCurvePublicKey,
    first_day: dt.date,
    last_day: dt.date,
    extensions: Mapping[str, bytes] | None = None,
) -> bytes:
    """Sign a certificate for a card.

    Args:
        signer: The issuer's P-256 key.
        issuer: Issuer identification reference, 16 characters A-Z and 0-9.
        subject: Subject identification reference, 16 bytes.
        key: The card's key, P-256.
        first_day: Valid from its first second UTC; from 2000 to 2099.
        last_day: Valid to its last second UTC; from 2000 to 2099.
        extensions: Values by their object identifier in dots.

    Returns:
        The whole ``7F21`` object; `parse` reads it.

    Raises:
        KeyUnsupportedError: A key is none on P-256.
        PkocCvcError: A fact does not fit a certificate.
    """
    if not all(isinstance(curve, ec.SECP256R1) for curve in (signer.curve, key.curve)):
        raise KeyUnsupportedError("a PKOC certificate is made with P-256 keys, for P-256 keys")
    more = b"".join(
        tlv.encode(_EXTENSION, tlv.encode(_OID, _oid(dotted)) + tlv.encode(_VALUE, value))
        for dotted, value in (extensions or {}).items()
    )
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    body = tlv.encode(
        _BODY,
        tlv.encode(_PROFILE, _PROFILE_0)
        + tlv.encode(_ISSUER, _issuer(issuer))
        + tlv.encode(_PUBLIC_KEY, tlv.encode(_OID, _P256) + tlv.encode(_POINT, point))
        + tlv.encode(_SUBJECT, _subject(subject))
        + tlv.encode(_FIRST_DAY, _digits(first_day))
        + tlv.encode(_LAST_DAY, _digits(last_day))
        + (tlv.encode(_EXTENSIONS, more) if more else b""),
    )
    _window(first_day, last_day)
    numbers = decode_dss_signature(signer.sign(body, ec.ECDSA(hashes.SHA256())))
    signature = b"".join(number.to_bytes(_NUMBER_BYTES) for number in numbers)
    return tlv.encode(_CERTIFICATE, body + tlv.encode(_SIGNATURE, signature))


def load_point(octets: bytes) -> ec.EllipticCurvePublicKey:
    """Load a P-256 key as PKOC writes it: ``04||X||Y``, 65 bytes.

    Raises:
        PkocCvcError: Another length or form, or a point that is not on the curve.
    """
    if len(octets) != _POINT_BYTES or octets[0] != 0x04:
        raise PkocCvcError(f"a key of {len(octets)} bytes is no uncompressed point on P-256")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), octets)
    except ValueError:
        raise PkocCvcError("the point is not on P-256") from None


def der_signature(raw: bytes) -> bytes:
    """Write a signature over P-256 as ``ECDSA-Sig-Value`` instead of as PKOC does: r||s, 64 bytes.

    Raises:
        PkocCvcError: Another length, or a number outside 1 to n - 1.
    """
    if len(raw) != 2 * _NUMBER_BYTES:
        raise PkocCvcError(f"a signature of {len(raw)} bytes is not r||s")
    r, s = int.from_bytes(raw[:_NUMBER_BYTES]), int.from_bytes(raw[_NUMBER_BYTES:])
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        raise PkocCvcError("a number of the signature is out of range")
    return encode_dss_signature(r, s)


def _certificate(octets: bytes) -> PkocCertificate:
    whole = _objects(_objects(octets, "the object", {_CERTIFICATE})[_CERTIFICATE], "7F21", {_BODY, _SIGNATURE})
    body = _objects(whole[_BODY], "7F4E", _FIELDS, {_EXTENSIONS})
    if body[_PROFILE] != _PROFILE_0:
        raise PkocCvcError("a certificate of another profile than 0")
    key = _key(body[_PUBLIC_KEY])
    der_signature(whole[_SIGNATURE])
    not_before, not_after = _window(_day(body[_FIRST_DAY]), _day(body[_LAST_DAY]))
    return PkocCertificate(
        issuer=_issuer(body[_ISSUER]),
        subject=_subject(body[_SUBJECT]),
        key=key,
        not_before=not_before,
        not_after=not_after,
        extensions=MappingProxyType(_extensions(body.get(_EXTENSIONS, b""))),
        signed=tlv.encode(_BODY, whole[_BODY]),
        signature=whole[_SIGNATURE],
    )


def _items(data: bytes) -> list[Tlv]:
    items = tlv.parse(data)
    if b"".join(bytes(item) for item in items) != data:
        raise PkocCvcError("a length that is not written in its shortest form")
    return items


def _objects(
    data: bytes, where: str, needed: AbstractSet[int], allowed: AbstractSet[int] = frozenset()
) -> dict[int, bytes]:
    items = _items(data)
    objects = {item.tag: item.value for item in items}
    if len(objects) != len(items):
        raise PkocCvcError(f"{where} holds an object twice")
    if not needed <= objects.keys() <= needed | allowed:
        raise PkocCvcError(f"{where} lacks an object, or holds one that does not belong there")
    return objects


def _key(data: bytes) -> ec.EllipticCurvePublicKey:
    objects = _objects(data, "7F49", {_OID}, {_POINT, _MODULUS, _EXPONENT})
    if objects[_OID] != _P256:
        raise KeyUnsupportedError("a PKOC certificate for a key that is not on P-256")
    if objects.keys() != {_OID, _POINT}:
        raise PkocCvcError("7F49 is none of a key on a curve")
    return load_point(objects[_POINT])


def _issuer(reference: bytes) -> bytes:
    if not _ISSUER_REFERENCE.fullmatch(reference):
        raise PkocCvcError("an issuer reference that is not 16 characters A-Z and 0-9")
    return reference


def _subject(reference: bytes) -> bytes:
    if len(reference) != REFERENCE_BYTES:
        raise PkocCvcError(f"a subject reference of {len(reference)} bytes, not {REFERENCE_BYTES}")
    return reference


def _window(first: dt.date, last: dt.date) -> tuple[int, int]:
    if last < first:
        raise PkocCvcError("a last day before the first")
    return (first - _EPOCH).days * _DAY_S, ((last - _EPOCH).days + 1) * _DAY_S - 1


def _day(digits: bytes) -> dt.date:
    """Read YYMMDD, one digit a byte (Core §5.6)."""
    if len(digits) != 6 or max(digits) > 9:
        raise PkocCvcError("a date that is not six digits, one a byte")
    year, month, day = (10 * digits[at] + digits[at + 1] for at in (0, 2, 4))
    try:
        return dt.date(_CENTURY + year, month, day)
    except ValueError:
        raise PkocCvcError("a date that is in no calendar") from None


def _digits(day: dt.date) -> bytes:
    if not 0 <= day.year - _CENTURY <= 99:
        raise PkocCvcError(f"the year {day.year} is not within 2000 to 2099")
    pairs = (divmod(number, 10) for number in (day.year - _CENTURY, day.month, day.day))
    return bytes(digit for pair in pairs for digit in pair)


def _extensions(data: bytes) -> dict[str, bytes]:
    extensions: dict[str, bytes] = {}
    for item in _items(data):
        if item.tag != _EXTENSION:
            raise PkocCvcError(f"65 holds an object {item.tag:X}")
        extension = _objects(item.value, "73", {_OID, _VALUE})
        dotted = _dotted(extension[_OID])
        if dotted in extensions:
            raise PkocCvcError(f"two extensions {dotted}")
        extensions[dotted] = extension[_VALUE]
    return extensions


def _dotted(octets: bytes) -> str:
    """Read an object identifier (ISO/IEC 8825-1 §8.19)."""
    if not 1 <= len(octets) <= MAX_OID_BYTES or octets[-1] & 0x80:
        raise PkocCvcError("an object identifier that is empty, cut short or too long")
    arcs, arc, begins = list[int](), 0, True
    for octet in octets:
        if begins and octet == 0x80:
            raise PkocCvcError("an object identifier that is not written in its shortest form")
        arc = arc << 7 | octet & 0x7F
        begins = not octet & 0x80
        if begins:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(number) for number in (first, arcs[0] - 40 * first, *arcs[1:]))


def _oid(dotted: str) -> bytes:
    if not _DOTTED.fullmatch(dotted):
        raise PkocCvcError(f"{dotted!r} is no object identifier")
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    octets = b"".join(_base128(arc) for arc in (40 * first + second, *rest))
    if _dotted(octets) != dotted:  # 0 and 1 have but 40 arcs below them
        raise PkocCvcError(f"{dotted!r} is no object identifier")
    return octets


def _base128(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(arc & 0x7F | 0x80)
    return bytes(reversed(octets))
