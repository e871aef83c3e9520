"""Card-verifiable certificates of PIV secure messaging (SP 800-73-5 part 2, §4.1.5): C_ICC, the card's own.

One has no dates: the deny list, the ticket and its signer's dates end it. The standard's other kind, the Intermediate
CVC (role 12, signed with RSA), is no card's and is refused here; a card whose signer has nothing but such a certificate
is a stranger's, since only content signers with an X.509 certificate of their own are trusted.

A certificate has one encoding, so that nobody can make a second one of it: shortest lengths, the standard's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardware import opacity, tlv
from hardware.tlv import TlvError
from validator.certificates import HOSTILE, CertificateError, KeyUnsupportedError

ISSUER_BYTES = 8
GUID_BYTES = 16

_CERTIFICATE = 0x7F21
_PROFILE, _ISSUER, _SUBJECT, _PUBLIC_KEY, _ROLE, _SIGNATURE = 0x5F29, 0x42, 0x5F20, 0x7F49, 0x5F4C, 0x5F37
_ORDER = [_PROFILE, _ISSUER, _SUBJECT, _PUBLIC_KEY, _ROLE, _SIGNATURE]
_OID, _POINT, _SEQUENCE, _BIT_STRING = 0x06, 0x86, 0x30, 0x03

_PROFILE_ID = b"\x80"
_CARD_APPLICATION = b"\x00"
_INTERMEDIATE = b"\x12"


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a cipher suite allows a certificate to be (§4.1.4): one curve for the card and its signer, one digest."""

    suite: opacity.Suite
    curve_oid: bytes
    signature_oid: bytes


_KINDS: Mapping[bytes, _Kind] = MappingProxyType(
    {
        kind.curve_oid: kind
        for kind in (
            _Kind(opacity.CS2, bytes.fromhex("2A8648CE3D030107"), bytes.fromhex("2A8648CE3D040302")),
            _Kind(opacity.CS7, bytes.fromhex("2B81040022"), bytes.fromhex("2A8648CE3D040303")),
        )
    }
)


class PivCvcError(CertificateError):
    """The bytes are not a card-verifiable certificate of a PIV card."""


@dataclass(frozen=True, slots=True)
class PivCertificate:
    """A card's certificate, read but not yet believed.

    Attributes:
        issuer: Issuer identification number, 8 bytes: names the key that signed it.
        guid: The card's UUID, 16 bytes.
        key: The card's key, a point on P-256 or P-384.
        signed: What the signature covers: profile, issuer, subject, key and role, each with its header.
        signature: DER ``ECDSA-Sig-Value``.
        signature_hash: SHA-256 for P-256, SHA-384 for P-384.
    """

    issuer: bytes
    guid: bytes
    key: ec.EllipticCurvePublicKey
    signed: bytes
    signature: bytes
    signature_hash: hashes.HashAlgorithm

    def signed_by(self, signer: ec.EllipticCurvePublicKey) -> bool:
        """Whether this key signed it; one on another curve than the card's cannot have (§4.1.4)."""
        if signer.curve.name != self.key.curve.name:
            return False
        try:
            signer.verify(self.signature, self.signed, ec.ECDSA(self.signature_hash))
        except (InvalidSignature, *HOSTILE):
            return False
        return True


def parse(octets: bytes) -> PivCertificate:
    """Read one certificate; nothing may follow it.

    Args:
        octets: The whole ``7F21`` object.

    Raises:
        KeyUnsupportedError: Its key or its signature is of a kind that no cipher suite has.
        PivCvcError: It is malformed, out of order, not of a card, or its key is no point on its curve.
    """
    try:
        objects = tlv.parse(tlv.parse_one(octets, _CERTIFICATE))
        if [item.tag for item in objects] != _ORDER:
            raise PivCvcError("its objects are not the six of the standard, in their order")
        if tlv.encode(_CERTIFICATE, b"".join(map(bytes, objects))) != octets:
            raise PivCvcError("a length that is not in its shortest form")
        profile, issuer, guid, public_key, role, signature = (item.value for item in objects)
        _check_fields(profile, issuer, guid, role)
        kind, key = _read_key(public_key)
        return PivCertificate(
            issuer=issuer,
            guid=guid,
            key=key,
            signed=b"".join(map(bytes, objects[:-1])),
            signature=_read_signature(signature, kind),
            signature_hash=kind.suite.digest,
        )
    except TlvError as error:
        raise PivCvcError(f"not a card-verifiable certificate: {error}") from None


def issue(*, issuer: bytes, guid: bytes, key: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """Issue a card's certificate.

    Args:
        issuer: Identifies the signer, 8 bytes: the first of its certificate's subject key identifier.
        guid: The card's UUID, 16 bytes.
        key: The card's key, P-256 or P-384.
        signer: Private key of the content signer, on the same curve.

    Returns:
        The whole ``7F21`` object; at most 213 bytes (P-256) or 275 (P-384).

    Raises:
        KeyUnsupportedError: No cipher suite has these keys.
        PivCvcError: An identifier has another length.
    """
    kind = next((each for each in _KINDS.values() if each.suite.curve.name == key.curve.name), None)
    if kind is None or signer.curve.name != key.curve.name:
        raise KeyUnsupportedError(f"a key on {key.curve.name} under a signer on {signer.curve.name}")
    _check_fields(_PROFILE_ID, issuer, guid, _CARD_APPLICATION)
    public_key = tlv.encode(_OID, kind.curve_oid) + tlv.encode(_POINT, opacity.point_of(key))
    values = (_PROFILE_ID, issuer, guid, public_key, _CARD_APPLICATION)
    signed = b"".join(tlv.encode(tag, value) for tag, value in zip(_ORDER[:-1], values, strict=True))
    signature = _digital_signature(kind, signer.sign(signed, ec.ECDSA(kind.suite.digest)))
    return tlv.encode(_CERTIFICATE, signed + tlv.encode(_SIGNATURE, signature))


def _check_fields(profile: bytes, issuer: bytes, guid: bytes, role: bytes) -> None:
    if profile != _PROFILE_ID:
        raise PivCvcError("another profile than 80")
    if len(issuer) != ISSUER_BYTES:
        raise PivCvcError(f"an issuer of {len(issuer)} bytes")
    if role == _INTERMEDIATE:
        raise PivCvcError("an intermediate certificate, not a card's")
    if role != _CARD_APPLICATION:
        raise PivCvcError("another role than 00")
    if len(guid) != GUID_BYTES:
        raise PivCvcError(f"a card identifier of {len(guid)} bytes")


def _read_key(value: bytes) -> tuple[_Kind, ec.EllipticCurvePublicKey]:
    objects = tlv.parse(value)
    if [item.tag for item in objects] != [_OID, _POINT]:
        raise PivCvcError("a public key that is not an algorithm and a point")
    if b"".join(map(bytes, objects)) != value:
        raise PivCvcError("a length that is not in its shortest form")
    kind = _KINDS.get(objects[0].value)
    if kind is None:
        raise KeyUnsupportedError("a key on neither P-256 nor P-384")
    point = objects[1].value
    if len(point) != kind.suite.point_bytes:  # a compressed point is shorter
        raise PivCvcError(f"a point of {len(point)} bytes")
    try:
        return kind, ec.EllipticCurvePublicKey.from_encoded_point(kind.suite.curve, point)
    except HOSTILE:
        raise PivCvcError("a point that is not on its curve") from None


def _read_signature(value: bytes, kind: _Kind) -> bytes:
    parts = tlv.parse(tlv.parse_one(value, _SEQUENCE))
    if [item.tag for item in parts] != [_SEQUENCE, _BIT_STRING]:
        raise PivCvcError("a signature that is not an algorithm and a bit string")
    if parts[0].value != tlv.encode(_OID, kind.signature_oid):
        raise KeyUnsupportedError("signed with another algorithm than its cipher suite's")
    signature = parts[1].value[1:]
    if _digital_signature(kind, signature) != value:
        raise PivCvcError("a signature that is not in its one encoding")
    try:
        pair = decode_dss_signature(signature)
    except ValueError:
        raise PivCvcError("the signature is not an ECDSA-Sig-Value") from None
    if not all(0 < number < kind.suite.order for number in pair):
        raise PivCvcError("a number in the ECDSA-Sig-Value is out of range")
    return signature


def _digital_signature(kind: _Kind, signature: bytes) -> bytes:
    """``SEQUENCE { AlgorithmIdentifier without parameters, BIT STRING }``; no bit of the last byte is unused."""
    algorithm = tlv.encode(_SEQUENCE, tlv.encode(_OID, kind.signature_oid))
    return tlv.encode(_SEQUENCE, algorithm + tlv.encode(_BIT_STRING, b"\x00" + signature))
