"""Elliptic curve keys as travel documents write them (RFC 5480; Doc 9303-12 §4.1.6.3; TR-03110-3 §D.2).

Doc 9303-12 wants the domain parameters of a certificate's key written out; TR-03110 names them by a number;
``cryptography`` loads named curves, and written-out parameters of three of them. So a key is read here, taken for a key
on one of the standardized curves, and handed on under that curve's name. Parameters that are not those of such a curve
are refused: no document brings a curve of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec

from hardware import tlv
from hardware.domain_parameters import STANDARDIZED, DomainParameters, PointError
from hardware.tlv import Tlv, TlvError

_INTEGER, _BIT_STRING, _OCTET_STRING, _OBJECT_IDENTIFIER, _SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30

_EC_PUBLIC_KEY = bytes.fromhex("2A8648CE3D0201")
_EC_DH = bytes.fromhex("2B8104010C")  # id-ecDH: some chips say at once what their key is for
_STANDARDIZED_PARAMETERS = bytes.fromhex("04007F00070102")
_PRIME_FIELD = bytes.fromhex("2A8648CE3D0101")

_NAMES: Mapping[int, bytes] = MappingProxyType(
    {
        8: bytes.fromhex("2A8648CE3D030101"),
        9: bytes.fromhex("2B2403030208010103"),
        10: bytes.fromhex("2B81040021"),
        11: bytes.fromhex("2B2403030208010105"),
        12: bytes.fromhex("2A8648CE3D030107"),
        13: bytes.fromhex("2B2403030208010107"),
        14: bytes.fromhex("2B2403030208010109"),
        15: bytes.fromhex("2B81040022"),
        16: bytes.fromhex("2B240303020801010B"),
        17: bytes.fromhex("2B240303020801010D"),
        18: bytes.fromhex("2B81040023"),
    }
)
"""Object identifiers of the curves (RFC 5480 §2.1.1.1, RFC 5639 §4.1), by their numbers in `STANDARDIZED`."""


class EcKeyError(ValueError):
    """The octets are no public key, or no point on their curve."""


class EcKeyUnsupported(EcKeyError):  # noqa: N818 - says what the key is
    """A key of another kind, or on a curve that is not one of the standardized."""


@dataclass(frozen=True, slots=True)
class EcKey:
    """A public key on a standardized curve.

    Attributes:
        parameters: The curve.
        point: ``04 || X || Y``, on the curve.
    """

    parameters: DomainParameters
    point: bytes

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo in DER with the curve's name, whatever the document had: one key, one form."""
        name = tlv.encode(_OBJECT_IDENTIFIER, _NAMES[self.parameters.identifier])
        algorithm = tlv.encode(_SEQUENCE, tlv.encode(_OBJECT_IDENTIFIER, _EC_PUBLIC_KEY) + name)
        return tlv.encode(_SEQUENCE, algorithm + tlv.encode(_BIT_STRING, b"\0" + self.point))

    @property
    def native(self) -> ec.EllipticCurvePublicKey:
        """The key for verification.

        Raises:
            EcKeyUnsupported: ``cryptography`` does not have the curve.
        """
        if self.parameters.native is None:
            raise EcKeyUnsupported(f"no signatures on {self.parameters.name}")
        return ec.EllipticCurvePublicKey.from_encoded_point(self.parameters.native, self.point)


def parse_ec_key(spki: bytes) -> EcKey:
    """Read a SubjectPublicKeyInfo.

    Raises:
        EcKeyUnsupported: The key is of another kind, or on a curve that is not standardized.
        EcKeyError: It cannot be read, or its point is not on its curve.
    """
    try:
        algorithm, key = _members(spki, _SEQUENCE, _BIT_STRING)
        kind, *parameters = tlv.parse(algorithm.value)
        chosen = _parameters(kind, parameters)
        if key.value[:1] != b"\0":
            raise EcKeyError("a point that is not whole octets")
        point = key.value[1:]
        chosen.check(point)
    except TlvError:
        raise EcKeyError("a public key that cannot be read") from None
    except PointError as error:
        raise EcKeyError(str(error)) from None
    except ValueError as error:  # too few members to unpack
        raise error if isinstance(error, EcKeyError) else EcKeyError("a public key with members missing") from None
    return EcKey(chosen, point)


def canonical(spki: bytes) -> bytes:
    """Return a key in the form that it is known by: one on a curve by the name of that curve, another as it is.

    Raises:
        EcKeyError: It is on a curve, and cannot be read.
    """
    try:
        return parse_ec_key(spki).spki
    except EcKeyUnsupported:
        return spki


def _parameters(kind: Tlv, parameters: list[Tlv]) -> DomainParameters:
    if kind.tag != _OBJECT_IDENTIFIER or len(parameters) > 1:
        raise EcKeyError("a public key whose algorithm cannot be read")
    if kind.value not in {_EC_PUBLIC_KEY, _EC_DH, _STANDARDIZED_PARAMETERS}:
        raise EcKeyUnsupported("a key that is on no elliptic curve")
    if not parameters:
        raise EcKeyError("a key whose curve is not said")
    said = parameters[0]
    match said.tag:
        case 0x06 if kind.value != _STANDARDIZED_PARAMETERS:
            found = next((number for number, name in _NAMES.items() if name == said.value), None)
        case 0x30 if kind.value != _STANDARDIZED_PARAMETERS:
            found = _written_out(said.value)
        case 0x02 if kind.value == _STANDARDIZED_PARAMETERS:
            found = int.from_bytes(said.value)
        case _:
            raise EcKeyError("a key whose curve cannot be read")
    if found is None or found not in STANDARDIZED:
        raise EcKeyUnsupported("a key on a curve that is not standardized")
    return STANDARDIZED[found]


def _written_out(octets: bytes) -> int | None:
    """Find the curve whose parameters these are (SpecifiedECDomain, SEC 1 §C.2); None for any other.

    Field, base point and order are compared. The two coefficients are compared by two points that have to lie on the
    curve that they make: there is but one such curve.
    """
    _version, field, curve, base, order, *_cofactor = tlv.parse(octets)
    kind, prime = _members_of(field, _OBJECT_IDENTIFIER, _INTEGER)
    a, b, *_seed = tlv.parse(curve.value)
    tags = (curve.tag, base.tag, order.tag, a.tag, b.tag)
    if tags != (_SEQUENCE, _OCTET_STRING, _INTEGER, _OCTET_STRING, _OCTET_STRING) or kind.value != _PRIME_FIELD:
        raise EcKeyError("curve parameters that cannot be read")
    p, n = int.from_bytes(prime.value), int.from_bytes(order.value)
    for number, parameters in STANDARDIZED.items():
        if parameters.curve.curve.p() == p and parameters.order == n and parameters.public_point(1) == base.value:
            points = (base.value, parameters.public_point(2))
            coefficients = int.from_bytes(a.value), int.from_bytes(b.value)
            return number if all(_lies_on(coefficients, p, point) for point in points) else None
    return None


def _lies_on(coefficients: tuple[int, int], p: int, point: bytes) -> bool:
    middle = 1 + len(point) // 2
    x, y = int.from_bytes(point[1:middle]), int.from_bytes(point[middle:])
    a, b = coefficients
    return max(a, b) < p and (x**3 + a * x + b - y**2) % p == 0


def _members(octets: bytes, *tags: int) -> list[Tlv]:
    return _members_of(Tlv(_SEQUENCE, tlv.parse_one(octets, _SEQUENCE)), *tags)


def _members_of(sequence: Tlv, *tags: int) -> list[Tlv]:
    members = tlv.parse(sequence.value)
    if sequence.tag != _SEQUENCE or tuple(member.tag for member in members) != tags:
        raise EcKeyError("a public key that cannot be read")
    return members
