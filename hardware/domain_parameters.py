"""Standardized elliptic curve domain parameters (TR-03110-3 v2.2, table 4; Doc 9303-11 §9.5.1), and sums on them.

A point travels as ``04 || X || Y``, each coordinate as long as the field (TR-03111 §3.2.1), and is checked whenever it
comes in. The cofactor of each of these curves is 1, so that a point on the curve is in the right group.

``cryptography`` gives the multiples of the standard base point and the x-coordinate of a shared point, in constant time
and fast. It has no whole product of any other point, which PACE is built on: that is ``ecdsa``, in plain Python, whose
time depends on the number. The numbers that are multiplied here live for one tap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ecdsa import curves
from ecdsa.ellipticcurve import INFINITY, PointJacobi

_UNCOMPRESSED = 0x04
_SURPLUS_BYTES = 8


class PointError(ValueError):
    """The octets are no point that can be used: wrong length, off the curve, or a sum at infinity."""


@dataclass(frozen=True, slots=True, eq=False)
class DomainParameters:
    """One set of domain parameters. They are compared by identity.

    Attributes:
        identifier: Its number in the table, 8 to 18.
        name: The curve's usual name.
        curve: The curve for whole points.
        native: The same curve where ``cryptography`` has it.
    """

    identifier: int
    name: str
    curve: curves.Curve
    native: ec.EllipticCurve | None = None

    @property
    def order(self) -> int:
        """The order of the base point, a prime."""
        return int(self.curve.order)

    @property
    def order_bytes(self) -> int:
        """Length of a private number."""
        return (self.order.bit_length() + 7) // 8

    @property
    def field_bytes(self) -> int:
        """Length of a coordinate, and of a shared secret."""
        return (int(self.curve.curve.p()).bit_length() + 7) // 8

    @property
    def point_bytes(self) -> int:
        """Length of a point as ``04 || X || Y``."""
        return 1 + 2 * self.field_bytes

    @property
    def random_bytes(self) -> int:
        """How many random bytes `private_number` takes."""
        return self.order_bytes + _SURPLUS_BYTES

    def private_number(self, random: bytes) -> int:
        """Reduce random bytes to a private number; 64 surplus bits leave no bias to speak of (FIPS 186-5 §A.2.1)."""
        return int.from_bytes(random) % (self.order - 1) + 1

    def check(self, point: bytes) -> None:
        """Accept a point of the curve other than infinity.

        Raises:
            PointError: It is none.
        """
        self._decode(point)

    def public_point(self, private: int) -> bytes:
        """Multiply the base point by a private number, 1 to `order` - 1."""
        if self.native is None:
            return self._encode(self.curve.generator * private)
        key = ec.derive_private_key(private, self.native).public_key()
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def multiply(self, point: bytes, number: int) -> bytes:
        """Multiply any point by a number that is no multiple of the order, and return the whole point.

        Raises:
            PointError: The point is none, or the product is at infinity.
        """
        return self._encode(self._decode(point) * (number % self.order))

    def add(self, one: bytes, other: bytes) -> bytes:
        """Add two points.

        Raises:
            PointError: One is none, or they cancel out.
        """
        return self._encode(self._decode(one) + self._decode(other))

    def agree(self, private: int, point: bytes) -> bytes:
        """Return the x-coordinate of a shared point, as long as the field (TR-03111 §4.3.1).

        Args:
            private: Our number, 1 to `order` - 1.
            point: The other side's key; it may come from another base point of the same curve.

        Raises:
            PointError: The point is none.
        """
        if self.native is None:
            return self.multiply(point, private)[1 : 1 + self.field_bytes]
        self._decode(point)
        peer = ec.EllipticCurvePublicKey.from_encoded_point(self.native, point)
        return ec.derive_private_key(private, self.native).exchange(ec.ECDH(), peer)

    def _decode(self, octets: bytes) -> PointJacobi:
        if len(octets) != self.point_bytes or octets[0] != _UNCOMPRESSED:
            raise PointError(f"{len(octets)} bytes are no uncompressed point of {self.name}")
        middle = 1 + self.field_bytes
        x, y = int.from_bytes(octets[1:middle]), int.from_bytes(octets[middle:])
        field = self.curve.curve
        if x >= field.p() or y >= field.p() or not field.contains_point(x, y):
            raise PointError(f"a point that is not on {self.name}")
        return PointJacobi(field, x, y, 1, self.order)

    def _encode(self, point: PointJacobi) -> bytes:
        if point == INFINITY:
            raise PointError("the point at infinity")
        affine = point.scale()
        size = self.field_bytes
        return bytes([_UNCOMPRESSED]) + int(affine.x()).to_bytes(size) + int(affine.y()).to_bytes(size)


#: By their numbers. The groups 0 to 2 are modulo a prime; no identity card was found to use them.
STANDARDIZED: Mapping[int, DomainParameters] = MappingProxyType(
    {
        parameters.identifier: parameters
        for parameters in (
            DomainParameters(8, "P-192", curves.NIST192p),
            DomainParameters(9, "brainpoolP192r1", curves.BRAINPOOLP192r1),
            DomainParameters(10, "P-224", curves.NIST224p, ec.SECP224R1()),
            DomainParameters(11, "brainpoolP224r1", curves.BRAINPOOLP224r1),
            DomainParameters(12, "P-256", curves.NIST256p, ec.SECP256R1()),
            DomainParameters(13, "brainpoolP256r1", curves.BRAINPOOLP256r1, ec.BrainpoolP256R1()),
            DomainParameters(14, "brainpoolP320r1", curves.BRAINPOOLP320r1),
            DomainParameters(15, "P-384", curves.NIST384p, ec.SECP384R1()),
            DomainParameters(16, "brainpoolP384r1", curves.BRAINPOOLP384r1, ec.BrainpoolP384R1()),
            DomainParameters(17, "brainpoolP512r1", curves.BRAINPOOLP512r1, ec.BrainpoolP512R1()),
            DomainParameters(18, "P-521", curves.NIST521p, ec.SECP521R1()),
        )
    }
)
