"""The payload of a trust list: issuer certificates, as a msgpack array ``[1, [anchors], [intermediates]]`` of DER."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgpack
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from validator.certificates import HOSTILE, CertificateError, certificate_key, load_certificate, validity
from validator.lists.errors import ListError
from validator.trust_store import extension_not_honoured

FORMAT = 1
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024
"""Some thousand certificates: far more than a network has issuers."""
MAX_PER_SUBJECT = 8
"""Certificates of one subject: some renewals and cross certificates. A search tries each of them at each link."""


@dataclass(frozen=True, slots=True)
class TrustList:
    """Issuers, parsed.

    Attributes:
        anchors: Trusted by themselves; at least one.
        intermediates: Trusted where they lead to an anchor.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...]


class _Wire(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    anchors: Annotated[list[bytes], msgspec.Meta(min_length=1)]
    intermediates: list[bytes]


def encode_trust_list(anchors: Iterable[x509.Certificate], intermediates: Iterable[x509.Certificate]) -> bytes:
    """Encode a trust list; the same certificates in any order, and twice, give the same bytes."""
    return msgpack.packb([FORMAT, _sorted_der(anchors), _sorted_der(intermediates)])


def parse_trust_list(payload: bytes, where: object = "trust list") -> TrustList:
    """Parse a trust list and see that each certificate can do what it is there for.

    An issuer that restricts what it vouches for in a way that is not honoured here is refused with the list, rather
    than found out at a gate by the holders of its cards (`extension_not_honoured`).

    Args:
        payload: The payload file's bytes.
        where: What to call the file in an error.

    Raises:
        ListError: It is no trust list, or a certificate in it is no issuer's; the message says which.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ListError(where, f"{len(payload)} bytes are more than a trust list may have")
    try:
        wire = msgspec.convert(msgpack.unpackb(payload), _Wire, builtin_types=(bytes,))
    except (ValueError, TypeError, msgpack.UnpackException, msgspec.ValidationError) as error:
        raise ListError(where, f"not a trust list: {error}") from None
    parsed = TrustList(
        anchors=tuple(_issuer(der, f"anchor {index}", where) for index, der in enumerate(wire.anchors)),
        intermediates=tuple(
            _issuer(der, f"intermediate {index}", where) for index, der in enumerate(wire.intermediates)
        ),
    )
    subjects = Counter(certificate.subject for certificate in (*parsed.anchors, *parsed.intermediates))
    for subject, count in subjects.items():
        if count > MAX_PER_SUBJECT:
            why = f"{count} certificates of {subject.rfc4514_string()}, at most {MAX_PER_SUBJECT} are allowed"
            raise ListError(where, why)
    return parsed


def _issuer(der: bytes, which: str, where: object) -> x509.Certificate:
    try:
        certificate = load_certificate(der)
        certificate_key(certificate)
        first, last = validity(certificate)
        certificate.subject.public_bytes()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        not_honoured = extension_not_honoured(certificate)
        called = f"{which} ({certificate.subject.rfc4514_string()})"
    except x509.ExtensionNotFound:
        raise ListError(where, f"{which} has no basic constraints or no key usage: not an issuer's") from None
    except CertificateError as error:
        raise ListError(where, f"{which}: {error}") from None
    except HOSTILE as error:
        raise ListError(where, f"{which} cannot be read: {type(error).__name__}") from None
    if not (constraints.critical and constraints.value.ca and usage.value.key_cert_sign):
        raise ListError(where, f"{which} may not sign certificates: not an issuer's")
    if not_honoured is not None:
        raise ListError(where, f"{called} has {not_honoured}, which is not honoured here: none of its cards would pass")
    if last < first:
        raise ListError(where, f"{which} is never valid: notAfter is before notBefore")
    return certificate


def _sorted_der(certificates: Iterable[x509.Certificate]) -> list[bytes]:
    return sorted({certificate.public_bytes(Encoding.DER) for certificate in certificates})
