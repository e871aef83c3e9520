"""Whether a card confirmed a key that only its private key leads to (SP 800-73-5 part 2, steps H4 and H8 to H12)."""

import hmac

from cryptography.hazmat.primitives.asymmetric import ec

from hardware import opacity
from validator.certificates import HOSTILE
from validator.proof import Agreed


def confirms(evidence: Agreed, key: ec.EllipticCurvePublicKey) -> bool:
    """Recompute what the card must have answered, and compare.

    Args:
        evidence: What was exchanged. Values of another length, or out of their range, confirm nothing.
        key: The card's certified key, a point on its curve.

    Returns:
        Whether the holder of `key` answered to this very ephemeral key, under the suite's own curve.
    """
    suite = opacity.SUITES.get(evidence.suite)
    if suite is None or key.curve.name != suite.curve.name or not _well_formed(evidence, suite):
        return False
    try:
        host = ec.derive_private_key(int.from_bytes(evidence.host_key), suite.curve)
        secret = host.exchange(ec.ECDH(), key)
    except HOSTILE:  # a private number of zero, or not below the order
        return False
    run = opacity.Run(suite, evidence.host_id, opacity.point_of(host.public_key()), evidence.card_id, evidence.nonce)
    return hmac.compare_digest(run.cryptogram(secret), evidence.cryptogram)


def _well_formed(evidence: Agreed, suite: opacity.Suite) -> bool:
    return (
        evidence.control == opacity.CONTROL
        and len(evidence.host_key) == suite.coordinate_bytes
        and len(evidence.host_id) == opacity.HOST_ID_BYTES
        and len(evidence.card_id) == opacity.CARD_ID_BYTES
        and len(evidence.nonce) == suite.nonce_bytes
    )
