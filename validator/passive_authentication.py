"""Passive authentication (Doc 9303-11 §5.1): are the files of a travel document what its country signed?

The order is fixed, so that each reason says something true about the document:

1. its security object can be read (`MALFORMED_ANSWER`), made with algorithms that we accept (`UNSUPPORTED_KEY`);
2. whoever signed it is a document signer (`WRONG_KEY_USAGE`) of a country on our list (`UNTRUSTED_ISSUER`);
3. the signature holds, and each data group that was read has the digest that is in it (`DATA_TAMPERED`);
4. the machine-readable zone is one of them, and its issuing state is that country (`UNTRUSTED_ISSUER`);
5. the key that the chip proved is in data group 14 or 15, as one of them (`DATA_TAMPERED`);

The dates of signers and document come back with the verdict; `validator.trust` holds them against the clock.

EF.CardSecurity is a signed file of its own, and is judged in the same way, by the same country. Its keys vouch for
nothing: no signature says of which document it is, so that it could be from another one. Nothing of all this says that
the chip is here: a copy has the same files. `TravelDocument.chip_key` is the key that has to prove it.

Pure; whatever goes wrong is a reason, and no exception ever means trust.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from hardware import lds, tlv
from hardware.ec_keys import EcKeyUnsupported, canonical
from hardware.lds import DG1, DG14, DG15, Mrz
from validator.certificates import HOSTILE, KeyUnsupportedError, load_certificate
from validator.chains import UntrustedIssuerError, WrongKeyUsageError
from validator.country_signers import CountrySigners, SignerChain
from validator.issuing_states import issues
from validator.model import NEVER, Reason
from validator.proof import TravelDocument
from validator.signed_data import (
    SignatureUnsupported,
    SignedData,
    SignedDataError,
    parse_signed_data,
    read_digest,
)

MAX_GROUPS = 16

_SECURITY_OBJECT_FILE = 0x77
_INTEGER, _OCTET_STRING, _SEQUENCE = 0x02, 0x04, 0x30

_LDS_SECURITY_OBJECT = bytes.fromhex("678108010101")  # 2.23.136.1.1.1
_SECURITY_INFOS = bytes.fromhex("04007F0007030201")  # id-SecurityObject, 0.4.0.127.0.7.3.2.1


class _Refused(Exception):  # noqa: N818 - a reason on its way out, never seen outside
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Genuine:
    """What a country says of a document.

    Attributes:
        chip_key: SubjectPublicKeyInfo, DER, of the key that has to answer, which the country signed; None for none.
        issuer_id: Id of the authority's key: SHA-256 of its SubjectPublicKeyInfo, 16 bytes.
        not_before: Seconds since 1970 UTC from which signers hold, inclusive.
        not_after: Seconds since 1970 UTC until which signers and document hold, inclusive.
        country: Two letters of the signing authority's country, which issued the document.
        mrz: The machine-readable zone. In no ``repr``.
    """

    chip_key: bytes | None
    issuer_id: bytes
    not_before: int
    not_after: int
    country: str
    mrz: Mrz


def examine(document: TravelDocument, signers: CountrySigners, at_s: int) -> Genuine | Reason:
    """Judge the files of a travel document, steps 1 to 5: all but the dates, which are for `validator.trust` to hold.

    Args:
        document: What was read.
        signers: Countries' authorities that are accepted.
        at_s: The moment for which a chain is preferred, seconds since 1970 UTC.

    Returns:
        What is genuine, with the dates between which it is, or the one reason why it is not.
    """
    try:
        return _examine(document, signers, at_s)
    except _Refused as refused:
        return refused.reason
    except (KeyUnsupportedError, SignatureUnsupported, EcKeyUnsupported):
        return Reason.UNSUPPORTED_KEY
    except UntrustedIssuerError:
        return Reason.UNTRUSTED_ISSUER
    except WrongKeyUsageError:
        return Reason.WRONG_KEY_USAGE
    except HOSTILE:  # each of our own readers raises a ValueError as well
        return Reason.MALFORMED_ANSWER


def _examine(document: TravelDocument, signers: CountrySigners, at_s: int) -> Genuine:
    security_object = parse_signed_data(tlv.parse_one(document.security_object, _SECURITY_OBJECT_FILE))
    if security_object.content_type != _LDS_SECURITY_OBJECT:
        raise SignedDataError("signed data that are no LDS security object")
    chain = _authenticated(security_object, signers, at_s)
    _compare(document.groups, security_object.content)
    mrz = _issued_by(chain.country, document.groups)
    window = chain.not_before, min(chain.not_after, _last_second(mrz))
    if document.card_security is not None:
        other = _card_security(document.card_security, signers, at_s)
        if other.country != chain.country:
            raise UntrustedIssuerError
        window = max(window[0], other.not_before), min(window[1], other.not_after)
    if document.chip_key is not None and document.chip_key not in _keys_of(document.groups):
        raise _Refused(Reason.DATA_TAMPERED)
    return Genuine(document.chip_key, chain.issuer_id, *window, chain.country, mrz)


def _issued_by(country: str, groups: Mapping[int, bytes]) -> Mrz:
    """Read whose document it is. A country signs its own: any authority could name any state.

    Raises:
        UntrustedIssuerError: It is another state's, or does not say.
    """
    if DG1 not in groups:
        raise UntrustedIssuerError
    mrz = lds.parse_dg1(groups[DG1])
    if not issues(country, mrz.issuer):
        raise UntrustedIssuerError
    return mrz


def _card_security(octets: bytes, signers: CountrySigners, at_s: int) -> SignerChain:
    signed = parse_signed_data(octets)
    if signed.content_type != _SECURITY_INFOS:
        raise SignedDataError("signed data that are no security information")
    lds.parse_security_infos(signed.content)
    return _authenticated(signed, signers, at_s)


def _authenticated(signed: SignedData, signers: CountrySigners, at_s: int) -> SignerChain:
    """Find who signed, then whether they did."""
    chain = signers.chain(_signer(signed), at_s)
    if not signed.signed_by(chain.key):
        raise _Refused(Reason.DATA_TAMPERED)
    return chain


def _signer(signed: SignedData) -> x509.Certificate:
    """Pick the signer's certificate of those that came along.

    Its number or its key identifier picks it. The issuer's name is not compared: documents in the field spell it in
    another string type than the certificate does, and the signature tells which certificate it was.

    Raises:
        UntrustedIssuerError: It is not among them.
        CertificateError: One of them cannot be read.
    """
    for certificate in map(load_certificate, signed.certificates):
        if signed.serial_number is not None and certificate.serial_number == signed.serial_number:
            return certificate
        if signed.key_identifier is not None and signed.key_identifier == _own_identifier(certificate):
            return certificate
    raise UntrustedIssuerError


def _own_identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, *HOSTILE):
        return None


def _compare(groups: Mapping[int, bytes], content: bytes) -> None:
    """Hold each data group against its digest in an LDSSecurityObject (Doc 9303-10 §4.6.2.2)."""
    version, algorithm, listed, *_information = _at_least(tlv.parse(tlv.parse_one(content, _SEQUENCE)), 3)
    if (version.tag, listed.tag) != (_INTEGER, _SEQUENCE):
        raise SignedDataError("an LDS security object that cannot be read")
    digest = read_digest(algorithm)
    signed: dict[int, bytes] = {}
    for entry in tlv.parse(listed.value):
        number, value = _at_least(tlv.parse(entry.value), 2)[:2]
        if (entry.tag, number.tag, value.tag) != (_SEQUENCE, _INTEGER, _OCTET_STRING):
            raise SignedDataError("the digest of a data group that cannot be read")
        name = int.from_bytes(number.value)
        if name in signed or not 1 <= name <= MAX_GROUPS:
            raise SignedDataError("the digest of a data group that is there twice, or is none")
        signed[name] = value.value
    for group, octets in groups.items():
        computed = hashlib.new(digest.name, octets).digest()
        if not hmac.compare_digest(computed, signed.get(group, b"")):
            raise _Refused(Reason.DATA_TAMPERED)


def _at_least(members: list[tlv.Tlv], count: int) -> list[tlv.Tlv]:
    if len(members) < count:
        raise SignedDataError("an LDS security object with members missing")
    return members


def _keys_of(groups: Mapping[int, bytes]) -> set[bytes]:
    keys = {each.key.spki for each in lds.parse_dg14(groups[DG14]).chip_keys} if DG14 in groups else set()
    if DG15 in groups:
        keys.add(canonical(lds.parse_dg15(groups[DG15])))
    return keys


def _last_second(mrz: Mrz) -> int:
    """The end of a document's last day, UTC."""
    last = mrz.expires_on
    if last is None:
        return NEVER
    midnight = dt.datetime.combine(last, dt.time(), dt.UTC) + dt.timedelta(days=1)
    return int(midnight.timestamp()) - 1
