"""Signed data of travel documents: CMS SignedData (RFC 5652 §5) with one signer, as Doc 9303-10 profiles it.

Only what is signed is looked at: the content, the signed attributes that name its type and its digest, the signature
over them. Whether the signer is anybody is `validator.country_signers`' business. The structure is read with
`hardware.tlv`; ``docs/adr/0028-reading-signed-travel-data.md`` says why.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from hardware import tlv
from hardware.tlv import Tlv, TlvError
from validator.certificates import HOSTILE, CardKey

MAX_CERTIFICATES = 4
"""A security object carries its signer's certificate, some the whole chain."""

SignatureParameters = ec.ECDSA | padding.PKCS1v15 | padding.PSS
"""How a signature is made, as ``cryptography`` names it for certificates as well."""

_INTEGER, _OCTET_STRING, _OBJECT_IDENTIFIER, _SEQUENCE, _SET = 0x02, 0x04, 0x06, 0x30, 0x31
_NULL = b"\x05\x00"
_EXPLICIT_0, _EXPLICIT_1, _EXPLICIT_2, _EXPLICIT_3 = 0xA0, 0xA1, 0xA2, 0xA3
_IMPLICIT_KEY_IDENTIFIER = 0x80

_SIGNED_DATA = bytes.fromhex("2A864886F70D010702")
_CONTENT_TYPE = bytes.fromhex("2A864886F70D010903")
_MESSAGE_DIGEST = bytes.fromhex("2A864886F70D010904")
_RSA = bytes.fromhex("2A864886F70D010101")
_RSA_PSS = bytes.fromhex("2A864886F70D01010A")
_MGF1 = bytes.fromhex("2A864886F70D010108")

#: SHA-1 is not among them: whoever makes two documents of one digest could have the harmless one signed.
DIGESTS: Mapping[bytes, hashes.HashAlgorithm] = MappingProxyType(
    {
        bytes.fromhex("608648016503040201"): hashes.SHA256(),
        bytes.fromhex("608648016503040202"): hashes.SHA384(),
        bytes.fromhex("608648016503040203"): hashes.SHA512(),
    }
)

_ECDSA: Mapping[bytes, hashes.HashAlgorithm] = MappingProxyType(
    {
        bytes.fromhex("2A8648CE3D040302"): hashes.SHA256(),
        bytes.fromhex("2A8648CE3D040303"): hashes.SHA384(),
        bytes.fromhex("2A8648CE3D040304"): hashes.SHA512(),
    }
)
_PKCS1: Mapping[bytes, hashes.HashAlgorithm] = MappingProxyType(
    {
        bytes.fromhex("2A864886F70D01010B"): hashes.SHA256(),
        bytes.fromhex("2A864886F70D01010C"): hashes.SHA384(),
        bytes.fromhex("2A864886F70D01010D"): hashes.SHA512(),
    }
)
_DEFAULT_SALT_BYTES = 20  # RFC 4055 §3.1


class SignedDataError(ValueError):
    """The octets are no signed data with one signer and signed attributes."""


class SignatureUnsupported(SignedDataError):  # noqa: N818 - says what the signature is
    """A digest or a signature algorithm that is not accepted."""


@dataclass(frozen=True, slots=True)
class SignedData:
    """Signed data, not yet verified.

    Attributes:
        content_type: What the content is, value octets of an object identifier.
        content: What was signed.
        certificates: DER, in no order that means anything.
        serial_number: Of the signer's certificate; None where the signer is named by its key.
        key_identifier: Subject key identifier of the signer's certificate; None where it is named by number.
        digest: Of the content.
        message_digest: What the signer says the digest is.
        signed_type: What the signer says the content is.
        attributes: Signed attributes, DER of the set: what the signature is over.
        parameters: How the signature is made.
        hash_algorithm: Of the signature.
        signature: The signature.
    """

    content_type: bytes
    content: bytes
    certificates: tuple[bytes, ...]
    serial_number: int | None
    key_identifier: bytes | None
    digest: hashes.HashAlgorithm
    message_digest: bytes
    signed_type: bytes
    attributes: bytes
    parameters: SignatureParameters
    hash_algorithm: hashes.HashAlgorithm
    signature: bytes

    def signed_by(self, key: CardKey) -> bool:
        """Whether the content is what the holder of a key signed (RFC 5652 §5.4 and §5.6)."""
        computed = hashlib.new(self.digest.name, self.content).digest()
        return (
            hmac.compare_digest(computed, self.message_digest)
            and self.signed_type == self.content_type
            and verifies(key, self.signature, self.attributes, self.parameters, self.hash_algorithm)
        )


def verifies(
    key: CardKey,
    signature: bytes,
    message: bytes,
    parameters: SignatureParameters,
    digest: hashes.HashAlgorithm,
) -> bool:
    """Whether a signature holds; an algorithm that does not fit the key does not."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if not isinstance(parameters, ec.ECDSA):
                return False
            key.verify(signature, message, parameters)
        else:
            if isinstance(parameters, ec.ECDSA):
                return False
            key.verify(signature, message, parameters, digest)
    except (InvalidSignature, *HOSTILE):
        return False
    return True


def parse_signed_data(octets: bytes) -> SignedData:
    """Read a ContentInfo that holds SignedData.

    Raises:
        SignatureUnsupported: A digest or a signature algorithm is not accepted.
        SignedDataError: It is none, has not one signer, or one without signed attributes.
    """
    try:
        kind, wrapped = tlv.parse(tlv.parse_one(octets, _SEQUENCE))
        if (kind.tag, kind.value, wrapped.tag) != (_OBJECT_IDENTIFIER, _SIGNED_DATA, _EXPLICIT_0):
            raise SignedDataError("no signed data")
        version, digests, encapsulated, *rest = tlv.parse(tlv.parse_one(wrapped.value, _SEQUENCE))
        tags = tuple(member.tag for member in (version, digests, encapsulated))
        if tags != (_INTEGER, _SET, _SEQUENCE) or not rest or rest[-1].tag != _SET:
            raise SignedDataError("signed data that cannot be read")
        content_type, content = _encapsulated(encapsulated)
        return _signed(content_type, content, _certificates(rest[:-1]), tlv.parse(rest[-1].value))
    except (TlvError, IndexError):
        raise SignedDataError("signed data that cannot be read") from None
    except ValueError as error:  # too few or too many members to unpack
        raise (
            error if isinstance(error, SignedDataError) else SignedDataError("signed data with other members")
        ) from None


def read_digest(algorithm: Tlv) -> hashes.HashAlgorithm:
    """Read the AlgorithmIdentifier of a digest.

    Raises:
        SignatureUnsupported: It is not accepted.
        SignedDataError: It cannot be read.
        TlvError: The same.
    """
    oid, parameters = _algorithm(algorithm)
    if parameters not in (b"", _NULL):
        raise SignedDataError("a digest with parameters")
    if oid not in DIGESTS:
        raise SignatureUnsupported("a digest that is not accepted")
    return DIGESTS[oid]


def _encapsulated(sequence: Tlv) -> tuple[bytes, bytes]:
    kind, wrapped = tlv.parse(sequence.value)
    if kind.tag != _OBJECT_IDENTIFIER or wrapped.tag != _EXPLICIT_0:
        raise SignedDataError("signed data without content")
    return kind.value, tlv.parse_one(wrapped.value, _OCTET_STRING)


def _certificates(optional: list[Tlv]) -> tuple[bytes, ...]:
    """Take the certificates out of what may stand before the signers: certificates [0], revocation lists [1]."""
    tags = [member.tag for member in optional]
    if tags not in ([], [_EXPLICIT_0], [_EXPLICIT_1], [_EXPLICIT_0, _EXPLICIT_1]):
        raise SignedDataError("signed data with other members")
    if _EXPLICIT_0 not in tags:
        return ()
    found = tuple(bytes(each) for each in tlv.parse(optional[0].value) if each.tag == _SEQUENCE)
    if len(found) > MAX_CERTIFICATES:
        raise SignedDataError(f"{len(found)} certificates, at most {MAX_CERTIFICATES} are read")
    return found


def _signed(content_type: bytes, content: bytes, certificates: tuple[bytes, ...], signers: list[Tlv]) -> SignedData:
    if len(signers) != 1 or signers[0].tag != _SEQUENCE:
        raise SignedDataError(f"{len(signers)} signers where one is expected")
    version, name, digest, attributes, algorithm, signature, *_unsigned = tlv.parse(signers[0].value)
    if (version.tag, attributes.tag, signature.tag) != (_INTEGER, _EXPLICIT_0, _OCTET_STRING):
        raise SignedDataError("a signer without signed attributes")
    content_digest = read_digest(digest)
    parameters, hash_algorithm = _signature_parameters(algorithm, content_digest)
    signed = _attributes(attributes)
    return SignedData(
        content_type=content_type,
        content=content,
        certificates=certificates,
        serial_number=int.from_bytes(tlv.parse(name.value)[1].value, signed=True) if name.tag == _SEQUENCE else None,
        key_identifier=name.value if name.tag == _IMPLICIT_KEY_IDENTIFIER else None,
        digest=content_digest,
        signed_type=tlv.parse_one(signed.get(_CONTENT_TYPE, b""), _OBJECT_IDENTIFIER),
        message_digest=tlv.parse_one(signed.get(_MESSAGE_DIGEST, b""), _OCTET_STRING),
        attributes=tlv.encode(_SET, attributes.value),  # signed as a SET OF, sent under another tag (§5.4)
        parameters=parameters,
        hash_algorithm=hash_algorithm,
        signature=signature.value,
    )


def _attributes(attributes: Tlv) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for attribute in tlv.parse(attributes.value):
        kind, values = tlv.parse(attribute.value)
        if (attribute.tag, kind.tag, values.tag) != (_SEQUENCE, _OBJECT_IDENTIFIER, _SET) or kind.value in found:
            raise SignedDataError("signed attributes that cannot be read, or one that is there twice")
        found[kind.value] = values.value
    return found


def _signature_parameters(
    algorithm: Tlv, digest: hashes.HashAlgorithm
) -> tuple[SignatureParameters, hashes.HashAlgorithm]:
    oid, parameters = _algorithm(algorithm)
    if oid == _RSA_PSS:
        return _pss(tlv.parse_one(parameters, _SEQUENCE))
    if parameters not in (b"", _NULL):
        raise SignedDataError("a signature algorithm with parameters")
    if oid in _ECDSA:
        return ec.ECDSA(_ECDSA[oid]), _ECDSA[oid]
    if oid in _PKCS1:
        return padding.PKCS1v15(), _PKCS1[oid]
    if oid == _RSA:  # the signature's digest is the content's (RFC 3370 §3.2)
        return padding.PKCS1v15(), digest
    raise SignatureUnsupported("a signature algorithm that is not accepted")


def _pss(octets: bytes) -> tuple[SignatureParameters, hashes.HashAlgorithm]:
    """Read RSASSA-PSS-params (RFC 4055 §3.1). What is left out stands for SHA-1, which is not accepted."""
    items = tlv.parse(octets)
    fields = {item.tag: item.value for item in items}
    if len(fields) != len(items) or not fields.keys() <= {_EXPLICIT_0, _EXPLICIT_1, _EXPLICIT_2, _EXPLICIT_3}:
        raise SignedDataError("PSS parameters that cannot be read")
    if not {_EXPLICIT_0, _EXPLICIT_1} <= fields.keys():
        raise SignatureUnsupported("PSS with SHA-1")
    digest = read_digest(_only(fields[_EXPLICIT_0]))
    mask, mask_digest = _algorithm(_only(fields[_EXPLICIT_1]))
    if mask != _MGF1:
        raise SignatureUnsupported("PSS with another mask")
    salt = _number(fields[_EXPLICIT_2]) if _EXPLICIT_2 in fields else _DEFAULT_SALT_BYTES
    if _EXPLICIT_3 in fields and _number(fields[_EXPLICIT_3]) != 1:
        raise SignatureUnsupported("PSS with another trailer")
    return padding.PSS(padding.MGF1(read_digest(_only(mask_digest))), salt), digest


def _algorithm(algorithm: Tlv) -> tuple[bytes, bytes]:
    """Split an AlgorithmIdentifier into its identifier and the octets of its parameters."""
    if algorithm.tag != _SEQUENCE:
        raise SignedDataError("an algorithm that cannot be read")
    oid, *parameters = tlv.parse(algorithm.value)
    if oid.tag != _OBJECT_IDENTIFIER or len(parameters) > 1:
        raise SignedDataError("an algorithm that cannot be read")
    return oid.value, b"".join(bytes(each) for each in parameters)


def _only(octets: bytes) -> Tlv:
    items = tlv.parse(octets)
    if len(items) != 1:
        raise SignedDataError("signed data with other members")
    return items[0]


def _number(octets: bytes) -> int:
    value = tlv.parse_one(octets, _INTEGER)
    if not 1 <= len(value) <= 2:
        raise SignedDataError("a number that is out of bounds")
    return int.from_bytes(value)
