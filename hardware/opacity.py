"""Key establishment of PIV secure messaging (SP 800-73-5 part 2, §4.1): OPACITY with zero key management, simplified.

Reader and card both work this out: the reader from its ephemeral private number and the card's certified key, the card
the other way round. SM-AUTH ends with the confirmation; the session keys are made, since one derivation makes all four,
and nothing is sent under them. Python cannot wipe the numbers that pass through here; they are dropped with the tap.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY_REFERENCE = 0x04
"""The PIV secure messaging key, P2 of GENERAL AUTHENTICATE (§4.1.8)."""

CONTROL = 0x00
"""CB_H and CB_ICC: no persistent binding (steps H1 and C3)."""

HOST_ID_BYTES = 8
CARD_ID_BYTES = 8
CRYPTOGRAM_BYTES = 16

_CONFIRMED_BY_CARD = b"KC_1_V"  # SP 800-56A rev. 2 §5.9.1.1: unilateral confirmation, provided by party V
_POINT_BYTES_IN_INFO = 16
_SURPLUS_BYTES = 8


class OpacityError(ValueError):
    """A message of the protocol is shorter or longer than its cipher suite says."""


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """A cipher suite (§4.1.4). There are two, compared by identity.

    Attributes:
        name: As in the standard.
        identifier: Algorithm identifier: P1 of GENERAL AUTHENTICATE, and what the application property template says.
        curve: Of both keys.
        order: Order of the curve's base point.
        coordinate_bytes: Length of a field element, and of a private number.
        digest: Of the key derivation.
        key_bytes: Length of each of the four AES keys.
        nonce_bytes: Length of N_ICC.
        key_algorithm: What stands for each of the four keys at the head of OtherInfo (§4.1.6).
    """

    name: str
    identifier: int
    curve: ec.EllipticCurve
    order: int
    coordinate_bytes: int
    digest: hashes.HashAlgorithm
    key_bytes: int
    nonce_bytes: int
    key_algorithm: int

    @property
    def point_bytes(self) -> int:
        """Length of a point as ``04 || X || Y``."""
        return 1 + 2 * self.coordinate_bytes

    @property
    def random_bytes(self) -> int:
        """How many random bytes `private_number` takes."""
        return self.coordinate_bytes + _SURPLUS_BYTES

    def private_number(self, random: bytes) -> int:
        """Reduce random bytes to a private number; 64 surplus bits leave no bias to speak of (FIPS 186-5 §A.2.1)."""
        return int.from_bytes(random) % (self.order - 1) + 1


CS2 = Suite(
    name="CS2",
    identifier=0x27,
    curve=ec.SECP256R1(),
    order=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    coordinate_bytes=32,
    digest=hashes.SHA256(),
    key_bytes=16,
    nonce_bytes=16,
    key_algorithm=0x09,
)
CS7 = Suite(
    name="CS7",
    identifier=0x2E,
    curve=ec.SECP384R1(),
    order=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    coordinate_bytes=48,
    digest=hashes.SHA384(),
    key_bytes=32,
    nonce_bytes=24,
    key_algorithm=0x0D,
)

SUITES: Mapping[int, Suite] = MappingProxyType({suite.identifier: suite for suite in (CS2, CS7)})


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What the derivation yields, in its order (step C7)."""

    confirmation: bytes
    command_mac: bytes
    encryption: bytes
    response_mac: bytes


@dataclass(frozen=True, slots=True)
class HostMessage:
    """What the reader sends in object 81 (step H3).

    Attributes:
        host_id: ID_sH, 8 bytes.
        point: Q_eH as ``04 || X || Y``.
        control: CB_H.
    """

    host_id: bytes
    point: bytes
    control: int = CONTROL

    def __bytes__(self) -> bytes:
        return bytes([self.control]) + self.host_id + self.point

    @classmethod
    def parse(cls, suite: Suite, octets: bytes) -> Self:
        """Split a message, as a card receives it.

        Raises:
            OpacityError: It has another length.
        """
        if len(octets) != 1 + HOST_ID_BYTES + suite.point_bytes:
            raise OpacityError(f"{len(octets)} bytes are no message of a reader for {suite.name}")
        return cls(octets[1 : 1 + HOST_ID_BYTES], octets[1 + HOST_ID_BYTES :], octets[0])


@dataclass(frozen=True, slots=True)
class CardMessage:
    """What the card returns in object 82 (step C11).

    Attributes:
        control: CB_ICC.
        nonce: N_ICC, 16 bytes (CS2) or 24 (CS7).
        cryptogram: AuthCryptogram_ICC, 16 bytes.
        certificate: C_ICC, a whole ``7F21`` object; it is not looked into here.
    """

    control: int
    nonce: bytes
    cryptogram: bytes
    certificate: bytes

    def __bytes__(self) -> bytes:
        return bytes([self.control]) + self.nonce + self.cryptogram + self.certificate

    @classmethod
    def parse(cls, suite: Suite, octets: bytes) -> Self:
        """Split a message, as a reader receives it.

        Raises:
            OpacityError: It ends before a certificate begins.
        """
        confirmed = 1 + suite.nonce_bytes
        certified = confirmed + CRYPTOGRAM_BYTES
        if len(octets) <= certified:
            raise OpacityError(f"{len(octets)} bytes are no message of a card for {suite.name}")
        return cls(octets[0], octets[1:confirmed], octets[confirmed:certified], octets[certified:])


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the protocol: all that both sides know of it but the shared secret.

    Attributes:
        suite: The cipher suite.
        host_id: ID_sH, 8 bytes.
        host_point: Q_eH as ``04 || X || Y``; neither derivation nor confirmation takes the ``04``.
        card_id: ID_sICC, 8 bytes.
        nonce: N_ICC, 16 bytes (CS2) or 24 (CS7).
    """

    suite: Suite
    host_id: bytes
    host_point: bytes
    card_id: bytes
    nonce: bytes

    @property
    def other_info(self) -> bytes:
        """OtherInfo of the derivation (§4.1.6, table "OtherInfo construction"); 61 bytes (CS2) or 69 (CS7)."""
        return _counted(bytes([self.suite.key_algorithm] * 4)) + b"".join(
            _counted(field)
            for field in (
                self.host_id,
                bytes([CONTROL]),
                self.host_point[1 : 1 + _POINT_BYTES_IN_INFO],
                self.card_id,
                self.nonce,
                bytes([CONTROL]),
            )
        )

    def session_keys(self, secret: bytes) -> SessionKeys:
        """Derive the four keys.

        Args:
            secret: Z, the x-coordinate of the shared point, as long as a field element.
        """
        return session_keys(self.suite, secret, self.other_info)

    def cryptogram(self, secret: bytes) -> bytes:
        """Compute AuthCryptogram_ICC (§4.1.7), 16 bytes.

        Args:
            secret: Z, the x-coordinate of the shared point, as long as a field element.
        """
        mac = CMAC(algorithms.AES(self.session_keys(secret).confirmation))
        mac.update(_CONFIRMED_BY_CARD + self.card_id + self.host_id + self.host_point[1:])
        return mac.finalize()


def session_keys(suite: Suite, secret: bytes, other_info: bytes) -> SessionKeys:
    """Derive the four keys with the single-step function of SP 800-56A (§4.1.6)."""
    size = suite.key_bytes
    material = ConcatKDFHash(suite.digest, 4 * size, other_info).derive(secret)
    return SessionKeys(*(material[start : start + size] for start in range(0, 4 * size, size)))


def card_id(certificate: bytes) -> bytes:
    """Return ID_sICC: the first 8 bytes of the certificate's SHA-256, whatever the suite's digest is (step C1)."""
    return hashlib.sha256(certificate).digest()[:CARD_ID_BYTES]


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as ``04 || X || Y``."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _counted(field: bytes) -> bytes:
    return bytes([len(field)]) + field
