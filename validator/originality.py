"""NXP's originality signatures: where a chip comes from, never whose card it is.

NXP signs the UID of each chip and writes the signature into it. Both are plain data: anybody reads them, and a chip of
another maker repeats them. A signature that holds says that NXP made *a* chip with this UID, and nothing about the one
in the field. It sorts out blank counterfeits at a bureau or a depot. No gate opens by it, no identity follows from it,
and no assurance is raised by it.

ECDSA over the raw UID, taken as the number that is signed: there is no hash (AN11350, AN12196 §7.2).
"""

import functools
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA224
from ecdsa import BadSignatureError, NIST192p, SECP128r1, VerifyingKey

UID_BYTES = 7


@unique
class ChipProduct(StrEnum):
    """Products whose signatures can be verified."""

    NTAG_21X = "NTAG21x"
    NTAG_424_DNA = "NTAG 424 DNA"
    ULTRALIGHT_EV1 = "MIFARE Ultralight EV1"
    ULTRALIGHT_AES = "MIFARE Ultralight AES"
    DESFIRE_EV3 = "MIFARE DESFire EV3"


@unique
class Curve(StrEnum):
    """Curves that NXP signs with (SEC 2)."""

    SECP128R1 = "secp128r1"
    SECP192R1 = "secp192r1"  # P-192
    SECP224R1 = "secp224r1"  # P-224


@dataclass(frozen=True, slots=True)
class OriginalityKey:
    """A public key of NXP's.

    Attributes:
        curve: Its curve.
        point: The uncompressed point, ``04 || x || y``.
        origin: Where it is published.
    """

    curve: Curve
    point: bytes
    origin: str

    @property
    def signature_bytes(self) -> int:
        """Length of a signature: r and s, each as long as a coordinate."""
        return len(self.point) - 1


def _key(curve: Curve, point: str, origin: str) -> OriginalityKey:
    return OriginalityKey(curve, bytes.fromhex(point), origin)


KEYS = MappingProxyType(
    {
        ChipProduct.NTAG_21X: _key(
            Curve.SECP128R1,
            "04 494E1A386D3D3CFE3DC10E5DE68A499B 1C202DB5B132393E89ED19FE5BE8BC61",
            "NXP AN11350",
        ),
        ChipProduct.ULTRALIGHT_EV1: _key(
            Curve.SECP128R1,
            "04 90933BDCD6E99B4E255E3DA55389A827 564E11718E017292FAF23226A96614B8",
            "NXP AN11341",
        ),
        ChipProduct.ULTRALIGHT_AES: _key(
            Curve.SECP192R1,
            "04 53BF8C49B7BD9FE3207A91513B9C1D238ECAB07186B77210 4AB535F7D3AE63CF7C7F3DD0D169DA3E99E43C6399621A86",
            "NXP AN13452",
        ),
        ChipProduct.NTAG_424_DNA: _key(
            Curve.SECP224R1,
            "04 8A9B380AF2EE1B98DC417FECC263F8449C7625CECE82D9B916C992DA"
            " 209D68422B81EC20B65A66B5102A61596AF3379200599316A00A1410",
            "NXP AN12196, table 30",
        ),
        ChipProduct.DESFIRE_EV3: _key(
            Curve.SECP224R1,
            "04 1DB46C145D0A36539C6544BD6D9B0AA62FF91EC48CBC6ABAE36E0089"
            " A46F0D08C8A715EA40A63313B92E90DDC1730230E0458A33276FB743",
            "NXP TagInfo, as collected by RfidResearchGroup/proxmark3",
        ),
    }
)


def verify(product: ChipProduct, uid: bytes, signature: bytes) -> bool:
    """Tell whether NXP signed this UID for this product: provenance, never authenticity (see the module).

    Args:
        product: What the chip says it is.
        uid: Its true UID, 7 bytes, as anticollision gives it.
        signature: What it answered to READ_SIG: r and s, each as long as the curve's coordinates.

    Returns:
        Whether the signature holds; False for any other length of UID or signature.
    """
    key = KEYS[product]
    if len(uid) != UID_BYTES or len(signature) != key.signature_bytes:
        return False
    if key.curve is Curve.SECP224R1:
        return _verified_on_p224(key.point, uid, signature)
    curve = SECP128r1 if key.curve is Curve.SECP128R1 else NIST192p
    try:
        return VerifyingKey.from_string(key.point, curve).verify_digest(signature, uid)
    except BadSignatureError:
        return False


def _verified_on_p224(point: bytes, uid: bytes, signature: bytes) -> bool:
    half = len(signature) // 2
    numbers = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    digest = SHA224()  # names a length alone: 28 bytes, so that the number is the UID and nothing is cut off
    try:
        _p224_key(point).verify(
            encode_dss_signature(*numbers), uid.rjust(digest.digest_size, b"\0"), ec.ECDSA(Prehashed(digest))
        )
    except InvalidSignature:
        return False
    return True


@functools.cache
def _p224_key(point: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP224R1(), point)
