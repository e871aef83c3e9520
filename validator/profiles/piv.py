"""PIV card authentication (SP 800-73-5): the key in slot 9E signs our challenge, no PIN, contact or contactless.

A card that was judged before is recognised by the first block of its certificate object, and challenged at once:
SELECT, first block, challenge. The signature proves possession, so that a lying first block only picks a key that the
card cannot sign for. Any other card gives its whole certificate first, and so does one that refuses the challenge: the
verdict was another card's.
"""

import hashlib
import zlib
from collections.abc import Generator

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from hardware import tlv
from hardware.apdu import (
    INS_GET_RESPONSE,
    SHORT_LE_MAX,
    SW,
    ApduError,
    ApduExchange,
    CommandApdu,
    ResponseApdu,
    drain,
    exchange,
    send,
)
from hardware.tlv import TlvError
from validator.certificates import (
    CertificateError,
    KeyUnsupportedError,
    certificate_key,
    key_algorithm,
    load_certificate,
)
from validator.model import Assurance, KeyAlgorithm
from validator.profiles.attempt import NONCE_BYTES, Attempt, cache_key, challenge_message
from validator.profiles.errors import CardMalformed, CardRefused, KeyUnsupported, WrongFamily
from validator.proof import CardProof, Certificate, Signed

NAME = "piv"

AID = bytes.fromhex("A00000030800001000")
"""PIV Card Application AID, right-truncated so that every version answers (pt1 §2.2)."""

MAX_CERTIFICATE_BYTES = 8 * 1024
"""Bound on an inflated certificate; the largest in the field are under 2 KiB."""

MIN_BLOCK_BYTES = 128
"""The least that tells one card from another: it reaches past the serial number. Cards send 254 bytes or more, or the
whole object; what is cut shorter would let two cards be taken for one."""

_GET_CERTIFICATE = CommandApdu(0x00, 0xCB, 0x3F, 0xFF, bytes.fromhex("5C035FC101"), le=SHORT_LE_MAX)
_CERTIFICATE_STEP = "GET DATA 5FC101"
_SLOT = 0x9E

_P1 = {
    KeyAlgorithm.RSA3072: 0x05,
    KeyAlgorithm.RSA2048: 0x07,
    KeyAlgorithm.P256: 0x11,
    KeyAlgorithm.P384: 0x14,
}
_MODULUS_BYTES = {KeyAlgorithm.RSA2048: 256, KeyAlgorithm.RSA3072: 384}
_ECDSA_INT_BYTES = {KeyAlgorithm.P256: 32, KeyAlgorithm.P384: 48}

_DIGEST_INFO_SHA256 = bytes.fromhex("3031300D060960864801650304020105000420")  # RFC 8017 §9.2, note 1
_GZIP = 31  # zlib's name for "a gzip header, 32 KiB window"

_Collect = Generator[CommandApdu, ResponseApdu, CardProof]


def authenticate(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    """Talk to one card until it has proved possession of its card authentication key, or failed to.

    Args:
        attempt: What this attempt may use.
        selected: What the card answered when its application was selected.

    Returns:
        What the card showed. Nothing in it is verified here.

    Raises:
        ProfileError: Whatever else the card says; each subclass names the reason that is recorded.
    """
    try:
        return (yield from _collect(attempt, selected))
    except (ApduError, TlvError) as error:
        raise CardMalformed(str(error)) from None


def _collect(attempt: Attempt, selected: ResponseApdu) -> _Collect:
    if not selected.ok:
        raise WrongFamily(f"no PIV application: {selected.sw:04X}")
    challenge = challenge_message(attempt.gate, attempt.wall_ms, attempt.random(NONCE_BYTES))
    first = yield from _first_block()
    block_id = cache_key(NAME, first.data)
    found = attempt.known(block_id)
    if found is not None:
        attempt.begin(found)
        try:
            signature = yield from _challenge(challenge, found.algorithm)
        except CardRefused:
            first = yield from _first_block()
            block_id = cache_key(NAME, first.data)
        else:
            return CardProof(NAME, Assurance.CHIP, found, Signed(challenge, signature, found.algorithm), block_id)
    certificate = Certificate((yield from _read_certificate(first)))
    algorithm = _algorithm_of(certificate.der)
    attempt.begin(certificate)
    signature = yield from _challenge(challenge, algorithm)
    return CardProof(NAME, Assurance.CHIP, certificate, Signed(challenge, signature, algorithm), block_id)


def _first_block() -> ApduExchange:
    first = yield from send(_GET_CERTIFICATE)
    if first.more is not None and not first.data:  # T=0 contact cards announce the length alone (ISO/IEC 7816-3 §12.2)
        first = yield CommandApdu(_GET_CERTIFICATE.cla, INS_GET_RESPONSE, 0, 0, le=first.more)
    if first.sw == SW.FILE_NOT_FOUND:
        raise WrongFamily("a PIV application without a card authentication certificate")
    if not first.ok and first.more is None:
        raise CardRefused(_CERTIFICATE_STEP, first.sw)
    if not first.data:
        raise CardMalformed("an empty certificate object")
    if first.more is not None and len(first.data) < MIN_BLOCK_BYTES:
        raise CardMalformed(f"a first block of {len(first.data)} bytes, with more to follow")
    return first


def _read_certificate(first: ResponseApdu) -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Fetch what is left of the certificate object and unwrap it (pt1, data model, "X.509 Certificate")."""
    whole = yield from drain(_GET_CERTIFICATE.cla, first)
    if not whole.ok:
        raise CardRefused(_CERTIFICATE_STEP, whole.sw)
    objects: dict[int, bytes] = {}
    for item in tlv.parse(tlv.parse_one(whole.data, 0x53)):
        if item.tag in objects:
            raise CardMalformed(f"two objects {item.tag:X} in the certificate object")
        objects[item.tag] = item.value
    content = objects.get(0x70)
    if not content:
        raise CardMalformed("no certificate in the certificate object")
    if objects.get(0xFE):
        raise CardMalformed("an error detection code that is not empty")
    match objects.get(0x71, b"\x00"):
        case b"\x00":
            return content
        case b"\x01":
            return _inflate(content)
        case _:
            raise CardMalformed("CertInfo is neither plain nor gzip")


def _inflate(content: bytes) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        certificate = inflater.decompress(content, MAX_CERTIFICATE_BYTES)
    except zlib.error:
        raise CardMalformed("the compressed certificate is not gzip") from None
    if not inflater.eof:
        raise CardMalformed(f"the compressed certificate is cut short, or larger than {MAX_CERTIFICATE_BYTES} bytes")
    if inflater.unused_data:
        raise CardMalformed("bytes follow the compressed certificate")
    return certificate


def _algorithm_of(certificate: bytes) -> KeyAlgorithm:
    try:
        return key_algorithm(certificate_key(load_certificate(certificate)))
    except KeyUnsupportedError as error:
        raise KeyUnsupported(str(error)) from None
    except CertificateError as error:
        raise CardMalformed(str(error)) from None


def _challenge(message: bytes, algorithm: KeyAlgorithm) -> Generator[CommandApdu, ResponseApdu, bytes]:
    """GENERAL AUTHENTICATE with the card authentication key (pt2 §3.2.4); 82 comes first, as NIST prints it."""
    template = tlv.encode(0x7C, tlv.encode(0x82, b"") + tlv.encode(0x81, _to_sign(message, algorithm)))
    command = CommandApdu(0x00, 0x87, _P1[algorithm], _SLOT, template, le=SHORT_LE_MAX)
    response = yield from exchange(command)
    if not response.ok:
        raise CardRefused(f"GENERAL AUTHENTICATE {algorithm}", response.sw)
    signature = tlv.parse_one(tlv.parse_one(response.data, 0x7C), 0x82)
    _check_shape(signature, algorithm)
    return signature


def _to_sign(message: bytes, algorithm: KeyAlgorithm) -> bytes:
    """What the card puts its private key to: a digest (ECDSA), or the padded block EM of RFC 8017 §9.2 (RSA)."""
    if algorithm is KeyAlgorithm.P256:
        return hashlib.sha256(message).digest()
    if algorithm is KeyAlgorithm.P384:
        return hashlib.sha384(message).digest()
    tail = b"\x00" + _DIGEST_INFO_SHA256 + hashlib.sha256(message).digest()
    return b"\x00\x01" + b"\xff" * (_MODULUS_BYTES[algorithm] - 2 - len(tail)) + tail


def _check_shape(signature: bytes, algorithm: KeyAlgorithm) -> None:
    modulus_bytes = _MODULUS_BYTES.get(algorithm)
    if modulus_bytes is not None:
        if len(signature) != modulus_bytes:
            raise CardMalformed(f"a signature of {len(signature)} bytes by an {algorithm} key")
        return
    try:
        pair = decode_dss_signature(signature)
    except ValueError:
        raise CardMalformed("the signature is not an ECDSA-Sig-Value") from None
    if not all(0 < number < 1 << 8 * _ECDSA_INT_BYTES[algorithm] for number in pair):
        raise CardMalformed("a number in the ECDSA-Sig-Value is out of range")
