"""Makes the certificates that the tests of trust, profile and lists judge: good ones, and each kind of bad one."""

import datetime as dt
import functools
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from validator.model import KeyAlgorithm

CARD_AUTHENTICATION = ObjectIdentifier("2.16.840.1.101.3.6.8")
CLIENT_AUTHENTICATION = ExtendedKeyUsageOID.CLIENT_AUTH

SINCE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
NOW = dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)

CardPrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CardPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
AnyPrivateKey = CardPrivateKey | ed25519.Ed25519PrivateKey
Extension = tuple[x509.ExtensionType, bool]


def seconds(moment: dt.datetime) -> int:
    return int(moment.timestamp())


@functools.cache
def card_key(algorithm: KeyAlgorithm, number: int = 0) -> CardPrivateKey:
    """A key of a kind, the same one for the whole session: RSA keys take their time."""
    match algorithm:
        case KeyAlgorithm.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyAlgorithm.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyAlgorithm.RSA2048:
            return rsa.generate_private_key(65537, 2048)
        case KeyAlgorithm.RSA3072:
            return rsa.generate_private_key(65537, 3072)


def usage(*, sign: bool = False, certify: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=certify,
        encipher_only=False,
        decipher_only=False,
    )


#: What a card authentication certificate carries.
FOR_CARDS: tuple[Extension, ...] = (
    (x509.ExtendedKeyUsage([CARD_AUTHENTICATION]), True),
    (usage(sign=True), True),
)


def for_issuers(path_length: int | None = None) -> tuple[Extension, ...]:
    """What an issuer's certificate carries."""
    return ((x509.BasicConstraints(ca=True, path_length=path_length), True), (usage(certify=True), True))


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True)
class Authority:
    """A certification authority: its key and its certificate."""

    key: CardPrivateKey
    certificate: x509.Certificate

    @property
    def certificate_key(self) -> CardPublicKey:
        key = self.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return key

    @classmethod
    def root(
        cls,
        common_name: str = "Test Root",
        *,
        since: dt.datetime = SINCE,
        until: dt.datetime = UNTIL,
        extensions: Sequence[Extension] | None = None,
        key: CardPrivateKey | None = None,
    ) -> "Authority":
        chosen = for_issuers() if extensions is None else extensions
        own = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        subject = name(common_name)
        return cls(
            own,
            _certificate(subject, own, subject, own, valid=(since, until), extensions=chosen, digest=hashes.SHA256()),
        )

    def subordinate(
        self,
        common_name: str,
        *,
        since: dt.datetime = SINCE,
        until: dt.datetime = UNTIL,
        extensions: Sequence[Extension] | None = None,
        key: CardPrivateKey | None = None,
    ) -> "Authority":
        """Certify an issuer below; with its key, again: a renewal, or a cross certificate."""
        chosen = for_issuers() if extensions is None else extensions
        own = ec.generate_private_key(ec.SECP256R1()) if key is None else key
        issuer = self.certificate.subject
        return Authority(
            own,
            _certificate(
                name(common_name),
                own,
                issuer,
                self.key,
                valid=(since, until),
                extensions=chosen,
                digest=hashes.SHA256(),
            ),
        )

    def issue(
        self,
        key: AnyPrivateKey,
        *,
        since: dt.datetime = SINCE,
        until: dt.datetime = UNTIL,
        extensions: Sequence[Extension] = FOR_CARDS,
        digest: hashes.SHA256 | hashes.SHA384 | None = None,
        subject: x509.Name | None = None,
    ) -> bytes:
        """Issue a card's certificate, DER."""
        return _certificate(
            name("card") if subject is None else subject,
            key,
            self.certificate.subject,
            self.key,
            valid=(since, until),
            extensions=extensions,
            digest=digest or hashes.SHA256(),
        ).public_bytes(Encoding.DER)


def _certificate(
    subject: x509.Name,
    key: AnyPrivateKey,
    issuer: x509.Name,
    issuer_key: CardPrivateKey,
    *,
    valid: tuple[dt.datetime, dt.datetime],
    extensions: Sequence[Extension],
    digest: hashes.SHA256 | hashes.SHA384,
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
    return builder.sign(issuer_key, digest)
