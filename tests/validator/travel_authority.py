"""Makes what countries sign: authorities, links, document signers, and the signed files of documents, good and bad.

The structures are written from literal octets and share no code with the reader that they test. `tests/strangers` has
OpenSSL write and verify the same.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from ecdsa import curves

from tests.validator.authority import DAY, NOW, Extension, usage
from tests.validator.scripted_card import tlv
from validator.country_signers import CountrySigners
from validator.model import Reason
from validator.passive_authentication import Genuine, examine
from validator.proof import TravelDocument

SINCE, UNTIL = NOW - 365 * DAY, NOW + 3650 * DAY
SIGNER_EXTENSIONS: tuple[Extension, ...] = ((usage(sign=True), True),)
AUTHORITY_EXTENSIONS: tuple[Extension, ...] = (
    (x509.BasicConstraints(ca=True, path_length=0), True),
    (usage(certify=True), True),
)

LDS_SECURITY_OBJECT = "06 06 678108010101"
SECURITY_INFOS = "06 08 04007F0007030201"
SIGNED_DATA = "06 09 2A864886F70D010702"
CONTENT_TYPE = "06 09 2A864886F70D010903"
MESSAGE_DIGEST = "06 09 2A864886F70D010904"
DIGESTS = {
    "sha1": "06 05 2B0E03021A",
    "sha224": "06 09 608648016503040204",
    "sha256": "06 09 608648016503040201",
    "sha384": "06 09 608648016503040202",
    "sha512": "06 09 608648016503040203",
}
ECDSA = {
    "sha1": "06 07 2A8648CE3D0401",
    "sha256": "06 08 2A8648CE3D040302",
    "sha384": "06 08 2A8648CE3D040303",
    "sha512": "06 08 2A8648CE3D040304",
}
PKCS1 = {
    "sha1": "06 09 2A864886F70D010105",
    "sha256": "06 09 2A864886F70D01010B",
    "sha384": "06 09 2A864886F70D01010C",
    "sha512": "06 09 2A864886F70D01010D",
}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

SignerKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def octets(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def sequence(*members: bytes) -> bytes:
    return tlv("30", b"".join(members))


def name(country: str, common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, country), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.BrainpoolP256R1())


def certify(
    subject: x509.Name,
    key: SignerKey,
    issuer: x509.Name,
    issuer_key: SignerKey,
    *,
    extensions: Sequence[Extension],
    valid: tuple[dt.datetime, dt.datetime] = (SINCE, UNTIL),
    digest: hashes.SHA256 | hashes.SHA512 | hashes.SHA224 | None = None,
    pss: bool = False,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    chosen = digest or hashes.SHA256()
    mask = padding.PSS(padding.MGF1(chosen), chosen.digest_size) if pss else None
    return builder.sign(issuer_key, chosen, rsa_padding=mask)


def written_out(certificate: x509.Certificate, key: SignerKey, issuer_key: SignerKey) -> x509.Certificate:
    """The same certificate with the parameters of its curve written out, as Doc 9303-12 wants it, signed again."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    named = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    explicit = explicit_spki(key.public_key())
    body = certificate.tbs_certificate_bytes
    assert body.count(named) == 1
    inside = body[body.index(b"\xa0\x03\x02\x01\x02") :].replace(named, explicit)
    tbs = tlv("30", inside)
    der = certificate.public_bytes(Encoding.DER)
    tail = der[der.index(body) + len(body) :]
    algorithm = tail[: 2 + tail[1]]
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    signature = issuer_key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return x509.load_der_x509_certificate(sequence(tbs, algorithm, tlv("03", b"\0" + signature)))


def explicit_spki(key: ec.EllipticCurvePublicKey, parameters: bytes | None = None) -> bytes:
    """A SubjectPublicKeyInfo with its domain parameters written out by python-ecdsa."""
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return sequence(
        sequence(octets("06 07 2A8648CE3D0201"), explicit_parameters(key.curve) if parameters is None else parameters),
        tlv("03", b"\0" + point),
    )


def explicit_parameters(curve: ec.EllipticCurve) -> bytes:
    known: Any = {
        "secp256r1": curves.NIST256p,
        "secp384r1": curves.NIST384p,
        "secp521r1": curves.NIST521p,
        "brainpoolP256r1": curves.BRAINPOOLP256r1,
        "brainpoolP384r1": curves.BRAINPOOLP384r1,
        "brainpoolP512r1": curves.BRAINPOOLP512r1,
    }[curve.name]
    return bytes(known.to_der("explicit"))


@dataclass(frozen=True)
class Country:
    """A country's signing authority: its key, and the certificate that a list holds."""

    key: SignerKey
    certificate: x509.Certificate

    @classmethod
    def founded(
        cls,
        country: str = "UT",
        common_name: str = "Utopia CSCA",
        *,
        key: SignerKey | None = None,
        valid: tuple[dt.datetime, dt.datetime] = (SINCE, UNTIL),
        extensions: Sequence[Extension] = AUTHORITY_EXTENSIONS,
        **signing: Any,
    ) -> "Country":
        own = key or new_key()
        subject = name(country, common_name)
        return cls(own, certify(subject, own, subject, own, extensions=extensions, valid=valid, **signing))

    @property
    def code(self) -> str:
        (found,) = self.certificate.subject.get_attributes_for_oid(NameOID.COUNTRY_NAME)
        assert isinstance(found.value, str)
        return found.value

    def link(self, successor: "Country", **changes: Any) -> x509.Certificate:
        """Certify the successor's key with this one."""
        wanted: dict[str, Any] = {"extensions": AUTHORITY_EXTENSIONS} | changes
        return certify(successor.certificate.subject, successor.key, self.certificate.subject, self.key, **wanted)

    def signer(
        self,
        *,
        key: SignerKey | None = None,
        valid: tuple[dt.datetime, dt.datetime] = (SINCE, UNTIL),
        extensions: Sequence[Extension] = SIGNER_EXTENSIONS,
        explicit: bool = False,
        country: str | None = None,
        **signing: Any,
    ) -> "DocumentSigner":
        own = key or new_key()
        subject = name(self.code if country is None else country, "Document Signer 1")
        certificate = certify(
            subject, own, self.certificate.subject, self.key, extensions=extensions, valid=valid, **signing
        )
        return DocumentSigner(own, written_out(certificate, own, self.key) if explicit else certificate)


@dataclass(frozen=True)
class DocumentSigner:
    """Signs files of documents. What it does wrong is said in `faults`."""

    key: SignerKey
    certificate: x509.Certificate
    digest: str = "sha256"
    pss: bool = False
    by_key_identifier: bytes | None = None
    faults: Mapping[str, Any] = field(default_factory=dict)

    def wrong(self, **faults: Any) -> "DocumentSigner":
        return replace(self, faults={**self.faults, **faults})

    def security_object(self, groups: Mapping[int, bytes], *, digest: str | None = None) -> bytes:
        """EF.SOD over data groups."""
        chosen = digest or self.digest
        listed = {
            number: hashlib.new(chosen, content).digest()
            for number, content in groups.items()
            if number not in self.faults.get("left_out", ())
        }
        content = lds_security_object(listed, chosen)
        return tlv("77", self.signed(LDS_SECURITY_OBJECT, self.faults.get("content", content)))

    def signed(self, content_type: str, content: bytes) -> bytes:
        """CMS SignedData over a content."""
        digest = self.faults.get("digest", self.digest)
        message_digest = hashlib.new(digest, content).digest()
        attributes = sorted(
            [
                sequence(octets(CONTENT_TYPE), tlv("31", octets(self.faults.get("signed_type", content_type)))),
                sequence(
                    octets(MESSAGE_DIGEST), tlv("31", tlv("04", self.faults.get("message_digest", message_digest)))
                ),
            ]
        )
        attributes += self.faults.get("more_attributes", [])
        signed = b"".join(attributes)
        signer = sequence(
            octets("02 01 01"),
            self._name(),
            sequence(octets(DIGESTS[digest])),
            *([] if self.faults.get("without_attributes") else [tlv("A0", signed)]),
            self._algorithm(digest),
            tlv("04", self._sign(tlv("31", signed), digest)),
        )
        certificates = self.faults.get("certificates", [self.certificate.public_bytes(Encoding.DER)])
        data = sequence(
            octets("02 01 03"),
            tlv("31", sequence(octets(DIGESTS[digest]))),
            sequence(octets(content_type), tlv("A0", tlv("04", content))),
            *([tlv("A0", b"".join(certificates))] if certificates else []),
            tlv("31", signer * self.faults.get("signers", 1)),
        )
        return sequence(octets(SIGNED_DATA), tlv("A0", data))

    def _name(self) -> bytes:
        if self.by_key_identifier is not None:
            return tlv("80", self.by_key_identifier)
        number = self.certificate.serial_number
        issuer = self.certificate.issuer.public_bytes()
        return sequence(issuer, tlv("02", number.to_bytes(number.bit_length() // 8 + 1)))

    def _algorithm(self, digest: str) -> bytes:
        if "algorithm" in self.faults:
            return octets(self.faults["algorithm"])
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return sequence(octets(ECDSA[digest]))
        if not self.pss:
            return sequence(octets(PKCS1[digest]), octets("05 00"))
        named = sequence(octets(DIGESTS[digest]))
        salt = HASHES[digest].digest_size
        return sequence(
            octets("06 09 2A864886F70D01010A"),
            sequence(
                tlv("A0", named),
                tlv("A1", sequence(octets("06 09 2A864886F70D010108"), named)),
                tlv("A2", tlv("02", bytes([salt]))),
            ),
        )

    def _sign(self, message: bytes, digest: str) -> bytes:
        key = self.faults.get("key", self.key)
        chosen = HASHES[digest]
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(message, ec.ECDSA(chosen))
        assert isinstance(key, rsa.RSAPrivateKey)
        if self.pss:
            return key.sign(message, padding.PSS(padding.MGF1(chosen), chosen.digest_size), chosen)
        return key.sign(message, padding.PKCS1v15(), chosen)


def lds_security_object(digests: Mapping[int, bytes], digest: str) -> bytes:
    """The content of EF.SOD (Doc 9303-10 §4.6.2.2)."""
    listed = [sequence(tlv("02", bytes([number])), tlv("04", value)) for number, value in sorted(digests.items())]
    return sequence(octets("02 01 00"), sequence(octets(DIGESTS[digest])), tlv("30", b"".join(listed)))


def judge_document(document: TravelDocument, signers: CountrySigners, at_s: int) -> Genuine | Reason:
    """Judge the files of a travel document, dates and all, as a gate with a synchronised clock does.

    Args:
        document: What was read.
        signers: Countries' authorities that are accepted.
        at_s: Now, seconds since 1970 UTC.

    Returns:
        What is genuine, or the one reason why it is not.
    """
    found = examine(document, signers, at_s)
    if isinstance(found, Reason):
        return found
    if at_s > found.not_after:
        return Reason.CERTIFICATE_EXPIRED
    if at_s < found.not_before:
        return Reason.CERTIFICATE_NOT_YET_VALID
    return found
