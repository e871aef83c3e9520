"""Issues cards for tests: a certification authority, and leaves for card authentication under it."""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from hardware.virtual.timing import KeyType

CARD_AUTHENTICATION = ObjectIdentifier("2.16.840.1.101.3.6.8")
SINCE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2036, 1, 1, tzinfo=dt.UTC)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class IssuedCard:
    """A key and the certificate that an issuer gave for it."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_key(kind: KeyType) -> PrivateKey:
    match kind:
        case KeyType.P_256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P_384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.RSA_2048:
            return rsa.generate_private_key(65537, 2048)
        case KeyType.RSA_3072:
            return rsa.generate_private_key(65537, 3072)


class Issuer:
    """A P-256 certification authority."""

    def __init__(self, name: str = "Test CA") -> None:
        self.name = _name(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._serial = 0
        self.certificate = (
            _builder(self.name, self.name, self.key.public_key(), 1)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, kind: KeyType, *, minimal: bool = False) -> IssuedCard:
        """Issue a card; `minimal` leaves out every extension but the extended key usage."""
        key = make_key(kind)
        self._serial += 1
        subject = x509.Name([]) if minimal else _name(f"card {self._serial}")
        builder = _builder(subject, self.name, key.public_key(), self._serial)
        builder = builder.add_extension(x509.ExtendedKeyUsage([CARD_AUTHENTICATION]), critical=True)
        if not minimal:
            builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        return IssuedCard(key, builder.sign(self.key, hashes.SHA256()))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(SINCE)
        .not_valid_after(UNTIL)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
