"""MyNumber cards of invented people: authorities of three generations with one name, keys of J-LIS and of a town."""

import datetime as dt
import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.virtual.mynumber import MynumberChip, Personalised, age_record, card_verifiable_certificate
from tests.validator.attempting import attempt
from tests.validator.authority import DAY, SINCE, UNTIL, Extension, card_key, usage
from validator.dialogue import Traffic, drive
from validator.model import KeyAlgorithm
from validator.profiles.attempt import Attempt, Secrets

T = TypeVar("T")

PIN = b"1234"
BIRTH_DATE, BIRTH_DIGITS = "19890108", "010108"
NUMBER = "918273645546"
IDENTIFICATION = b"4AB00000000017"
ROOT_ID = b"7000023\x08\x05001" + bytes(4)
TOWN_ID = b"7132211\x08\x05000" + bytes(4)
AUTHENTICATION_POLICY = "1.2.392.200149.8.5.1.3.30"

AUTHORITY_NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "JP"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "JPKI of nobody"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "JPKI for user authentication"),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Invented Agency for Local Authority Information Systems"),
    ]
)
HOLDER_NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "JP"),
        x509.NameAttribute(NameOID.COMMON_NAME, "0000000INVENTED13221003A"),
    ]
)


def rsa_key(number: int) -> rsa.RSAPrivateKey:
    key = card_key(KeyAlgorithm.RSA2048, number)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


CARD, SURFACE, TOWN, ROOT, STRANGER = (functools.partial(rsa_key, number) for number in range(40, 45))


def policies(*oids: str) -> x509.CertificatePolicies:
    return x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(oid), None) for oid in oids])


#: What the user authentication certificate carries.
FOR_AUTHENTICATION: tuple[Extension, ...] = (
    (usage(sign=True), True),
    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    (policies(AUTHENTICATION_POLICY), True),
)


@dataclass(frozen=True)
class Generation:
    """One generation of the authority: all have one name."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(
        cls,
        key: rsa.RSAPrivateKey,
        *,
        since: dt.datetime = SINCE,
        until: dt.datetime = UNTIL,
        extensions: tuple[Extension, ...] = (
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (usage(certify=True), True),
        ),
    ) -> "Generation":
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = _builder(AUTHORITY_NAME, key.public_key(), since, until).add_extension(identifier, critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(
        self,
        key: Any,
        *,
        extensions: tuple[Extension, ...] = FOR_AUTHENTICATION,
        authority: rsa.RSAPublicKey | None = None,
        identified: bool = True,
        signer: rsa.RSAPrivateKey | None = None,
    ) -> x509.Certificate:
        """Issue a card's certificate; `authority` is whose key it says that signed it."""
        builder = _builder(HOLDER_NAME, key.public_key(), SINCE + DAY, UNTIL - DAY)
        if identified:
            said = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority or self.key.public_key())
            builder = builder.add_extension(said, critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signer or self.key, hashes.SHA256())


def _builder(subject: x509.Name, key: Any, since: dt.datetime, until: dt.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(AUTHORITY_NAME)
        .public_key(key)
        .serial_number(0x06D18006)
        .not_valid_before(since)
        .not_valid_after(until)
    )


@functools.cache
def generation(number: int) -> Generation:
    return Generation.make(rsa_key(50 + number))


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@functools.cache
def personalised() -> Personalised:
    """A good card."""
    return Personalised(
        authentication_key=CARD(),
        authentication_certificate=der_of(generation(2).issue(CARD())),
        authority_certificate=der_of(generation(2).certificate),
        surface_key=SURFACE(),
        record=age_record(BIRTH_DATE, SURFACE().public_key(), TOWN()),
        certificate=card_verifiable_certificate(ROOT_ID, TOWN_ID, TOWN().public_key(), ROOT()),
        identification=IDENTIFICATION,
        birth_digits=BIRTH_DIGITS,
        individual_number=NUMBER,
        pin=PIN.decode(),
    )


def chip(*, piece: int = 256, **changes: Any) -> MynumberChip:
    return MynumberChip(replace(personalised(), **changes), piece=piece)


def with_pin(pin: bytes = PIN) -> Attempt:
    return replace(attempt(), secrets=Secrets(pin=bytearray(pin)))


class Torn(Exception):  # noqa: N818 - what a reader says when the card has left
    """The card has left."""


class Exchanges:
    """A reader's verb over a card, and what went over it."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self.log: list[tuple[bytes, bytes]] = []

    def __call__(self, command: bytes) -> bytes:
        answer = self._answer(command)
        self.log.append((command, answer))
        return answer

    @property
    def commands(self) -> list[str]:
        return [command.hex().upper() for command, _ in self.log]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Exchanges, bytes out, bytes in."""
        return len(self.log), sum(len(out) for out, _ in self.log), sum(len(back) for _, back in self.log)


def over(card: MynumberChip) -> Exchanges:
    """A reader that holds a card."""
    return Exchanges(card_verb(card))


def card_verb(card: MynumberChip) -> Callable[[bytes], bytes]:
    def answer(command: bytes) -> bytes:
        response = card.process(command).response
        assert response is not None
        return response

    return answer


def spoilt(card: MynumberChip, position: int, change: Callable[[bytes], bytes]) -> Exchanges:
    """A reader whose answer at a position is another one."""
    verb, count = card_verb(card), 0

    def answer(command: bytes) -> bytes:
        nonlocal count
        count += 1
        true = verb(command)
        return change(true) if count == position + 1 else true

    return Exchanges(answer)


def torn(card: MynumberChip, after: int) -> Exchanges:
    """A reader that the card leaves after so many answers."""
    verb, count = card_verb(card), 0

    def answer(command: bytes) -> bytes:
        nonlocal count
        count += 1
        if count > after:
            raise Torn
        return verb(command)

    return Exchanges(answer)


def tap(dialogue: Generator[CommandApdu, ResponseApdu, T], carry: Callable[[bytes], bytes]) -> T:
    """Run a dialogue within the bounds of every dialogue."""
    found: Any = drive(cast("Any", dialogue), carry, Traffic())
    value: T = found
    return value
