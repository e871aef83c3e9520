"""DNIe cards of invented people: their certificates, and a chip that holds them."""

import datetime as dt
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hardware import tlv
from hardware.cwa14890 import TerminalKeys, published_terminals
from hardware.virtual.dnie import Component, Contents, DnieChip, Entry

SINCE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2036, 1, 1, tzinfo=dt.UTC)
CAN = b"123456"
MRZ = b"BAA000589299999999R8001014310615"
NUMBER = "99999999R"
AUTHENTICATION_PATH = (bytes.fromhex("6081"), bytes.fromhex("7004"))
SIGNATURE_PATH = (bytes.fromhex("6081"), bytes.fromhex("7005"))
OLD, NEW = published_terminals()


@functools.cache
def key(name: str, bits: int = 1024) -> rsa.RSAPrivateKey:
    """A key by its name, the same for the whole session."""
    return rsa.generate_private_key(65537, bits)


def name(unit: str, common_name: str, **others: str) -> x509.Name:
    kinds = {"surname": NameOID.SURNAME, "given": NameOID.GIVEN_NAME, "number": NameOID.SERIAL_NUMBER}
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "ES"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "DIRECCION GENERAL DE LA POLICIA"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "DNIE"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            *(x509.NameAttribute(kinds[kind], value) for kind, value in others.items()),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def certificate(
    subject: x509.Name,
    public: rsa.RSAPublicKey,
    issuer: x509.Name,
    signer: rsa.RSAPrivateKey,
    *,
    authority: bool | None = None,
    valid: tuple[dt.datetime, dt.datetime] = (SINCE, UNTIL),
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> bytes:
    """A certificate, DER; `authority` as in basicConstraints, None without that extension."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


def with_sha1(der: bytes, signer: rsa.RSAPrivateKey) -> bytes:
    """The same certificate, signed with SHA-1: cryptography verifies such signatures and makes none."""
    sha256, sha1 = bytes.fromhex("2A864886F70D01010B"), bytes.fromhex("2A864886F70D010105")
    tbs = tlv.parse(tlv.parse_one(der, 0x30))[0]
    content = bytes(tbs).replace(sha256, sha1)
    algorithm = tlv.encode(0x30, tlv.encode(0x06, sha1) + tlv.encode(0x05, b""))
    signature = signer.sign(content, padding.PKCS1v15(), hashes.SHA1())
    return tlv.encode(0x30, content + algorithm + tlv.encode(0x03, b"\0" + signature))


@dataclass(frozen=True)
class Issuers:
    """A component root by a published unit's name, and the issuer of components below it."""

    terminal: TerminalKeys = NEW
    label: str = "component"

    @property
    def root(self) -> rsa.RSAPrivateKey:
        return key(f"{self.label} root")

    @property
    def root_name(self) -> x509.Name:
        return name(self.terminal.unit, self.terminal.authority_reference.hex())

    @property
    def issuer_key(self) -> rsa.RSAPrivateKey:
        return key(f"{self.label} issuer")

    @property
    def issuer_name(self) -> x509.Name:
        return name("AC COMPONENTES", "AC DNIE COMPONENTES 001")

    def issuer(self, **changes: Any) -> bytes:
        wanted: dict[str, Any] = {"authority": True} | changes
        signer = wanted.pop("signer", self.root)
        return certificate(self.issuer_name, self.issuer_key.public_key(), self.root_name, signer, **wanted)

    def chip(self, **changes: Any) -> bytes:
        wanted: dict[str, Any] = {"authority": None} | changes
        signer = wanted.pop("signer", self.issuer_key)
        public = wanted.pop("public", key("chip").public_key())
        issuer = wanted.pop("issuer", self.issuer_name)
        return certificate(name("COMPONENTES", "0000001122334455"), public, issuer, signer, **wanted)


@functools.cache
def component(terminal: TerminalKeys = NEW, label: str = "component") -> Component:
    issuers = Issuers(terminal, label)
    return Component(key("chip"), issuers.chip(), issuers.issuer(), terminal.root)


HOLDER = name("DNIE", "ESPECIMEN ESPECIMEN, CARMEN (AUTENTICACIÓN)", surname="ESPECIMEN", given="CARMEN", number=NUMBER)


@functools.cache
def entry(label: str = "CertAutenticacion") -> Entry:
    """A certificate of the holder's, under an issuer of persons."""
    issued = certificate(
        HOLDER,
        key(label, 2048).public_key(),
        name("DNIE", "AC DNIE 006"),
        key("AC DNIE 006", 2048),
        authority=False,
    )
    path = AUTHENTICATION_PATH if label == "CertAutenticacion" else SIGNATURE_PATH
    return Entry(label, path, issued, HOLDER.public_bytes())


def contents(**changes: Any) -> Contents:
    """A card of the newer root, unless told otherwise."""
    both = (entry("CertFirmaDigital"), entry())
    card = Contents(component(), both, serial=bytes.fromhex("0011223344556A"))
    return replace(card, **changes)


def in_slot(card: Contents | None = None) -> DnieChip:
    return DnieChip(contents() if card is None else card, can=CAN, mrz=MRZ)


def on_air(card: Contents | None = None, **settings: Any) -> DnieChip:
    wanted: dict[str, Any] = {"can": CAN, "mrz": MRZ, "contactless": True} | settings
    return DnieChip(contents() if card is None else card, **wanted)


def recording(chip: DnieChip, log: list[bytes]) -> Callable[[bytes], bytes]:
    """A reader that carries one command, and notes it."""

    def carry(command: bytes) -> bytes:
        log.append(command)
        response = chip.process(command).response
        assert response is not None
        return response

    return carry


def fresh(count: int) -> bytes:
    return os.urandom(count)
