"""The data objects that a PIV card shows without a PIN (SP 800-73-5 part 1, appendix A)."""

import gzip
import uuid
from datetime import date

from hardware import tlv

AID = bytes.fromhex("A000000308000010000100")
AID_MIN = 5  # the registered application provider identifier; ISO/IEC 7816-4 §8.2.2.2 lets a reader truncate the name

CARD_AUTHENTICATION_CERTIFICATE = 0x5FC101
CHUID = 0x5FC102
DISCOVERY = 0x7E

_EXPIRY = date(2050, 1, 1)


def application_property_template() -> bytes:
    """Template 61 (part 2, table 3), without an AC object: that would promise secure messaging."""
    authority = tlv.encode(0x79, tlv.encode(0x4F, AID[:5]))
    return tlv.encode(0x61, tlv.encode(0x4F, AID) + authority)


def certificate_object(certificate: bytes, *, compress: bool) -> bytes:
    """The certificate in its container: 70 certificate, 71 CertInfo (00 plain, 01 gzip), FE empty."""
    content = gzip.compress(certificate, mtime=0) if compress else certificate
    return tlv.encode(
        0x53, tlv.encode(0x70, content) + tlv.encode(0x71, bytes([int(compress)])) + tlv.encode(0xFE, b"")
    )


def chuid_object(guid: uuid.UUID) -> bytes:
    """An unsigned CHUID: no FASC-N, the GUID, an expiry that the certificate undercuts, an empty signature."""
    return tlv.encode(
        0x53,
        tlv.encode(0x30, bytes(25))
        + tlv.encode(0x34, guid.bytes)
        + tlv.encode(0x35, _EXPIRY.strftime("%Y%m%d").encode())
        + tlv.encode(0x3E, b"")
        + tlv.encode(0xFE, b""),
    )


def discovery_object() -> bytes:
    """The discovery object: the full AID, and a usage policy of the PIV PIN alone (40 00)."""
    return tlv.encode(DISCOVERY, tlv.encode(0x4F, AID) + tlv.encode(0x5F2F, bytes.fromhex("4000")))
