"""Active authentication (Doc 9303-11 §6.1): whether a signature of a travel document's chip over our challenge holds.

An RSA key signs by ISO/IEC 9796-2 scheme 1, with a part of the message that the chip chose; a key on a curve by ECDSA,
with the algorithm that data group 14 names. Pure; a signature that cannot be read does not hold.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hardware.iso9796 import NAMED, SHA1_AGREED, Iso9796Error, recover
from validator.certificates import HOSTILE, CardKey, CertificateError, load_key

_TRAILERS = (SHA1_AGREED, *(trailer for trailer in NAMED if trailer.digest != "sha1"))
"""SHA-1 where it is agreed on as well: the chip mixes our challenge with its own random part, so that nobody gets to
choose two messages of one digest."""


def confirms(chip_key: bytes, challenge: bytes, signature: bytes) -> bool:
    """Whether a chip signed a challenge.

    Args:
        chip_key: SubjectPublicKeyInfo, DER, from data group 15, which the document's country signed.
        challenge: RND.IFD, 8 bytes.
        signature: RSA octets as they came; of a key on a curve a DER ``ECDSA-Sig-Value``.
    """
    try:
        return _confirms(load_key(chip_key), challenge, signature)
    except (CertificateError, Iso9796Error, InvalidSignature, *HOSTILE):
        return False


def _confirms(key: CardKey, challenge: bytes, signature: bytes) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        digest = hashes.SHA384() if key.key_size > 256 else hashes.SHA256()
        key.verify(signature, challenge, ec.ECDSA(digest))
    else:
        recover(key.public_numbers(), signature, challenge, trailers=_TRAILERS)
    return True
