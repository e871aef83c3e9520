"""Certificates and contact cards of an invented Estonian, born in 2199 so that the code is nobody's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from hardware.medium import Target, Technology
from hardware.virtual.esteid3 import EstEid3Chip
from tests.validator.attempting import attempt, counting
from tests.validator.authority import Authority, CardPrivateKey, Extension, card_key, usage
from validator import choice, dialogue
from validator.choice import Family
from validator.dialogue import Traffic
from validator.model import KeyAlgorithm
from validator.profiles import esteid3
from validator.profiles.attempt import Attempt, Secrets
from validator.proof import CardProof, LookAhead

CODE = "89912240008"
SURNAME, GIVEN = "ÕUNAPUU-ŽILIN", "MÄRT ŠTEFAN"
PERSON = (
    SURNAME,
    "MÄRT",
    "ŠTEFAN",
    "N",
    "EST",
    "24.12.2199",
    CODE,
    "AA0000007",
    "31.12.2026",
    "EESTI / EST",
    "01.01.2022",
    "",
    "",
    "ELAB / LIVES HERE",
    "",
    "",
)
PIN = "471108"
NCP_PLUS = "0.4.0.2042.1.2"
TARGET = Target(Technology.CONTACT, b"", bytes.fromhex("FE654944202F20504B49"))

Answering = Callable[[bytes], bytes]


class Form(StrEnum):
    """How an issuer writes a subject."""

    OF_2011 = "ESTEID-SK 2011 and 2015"
    OF_2018 = "ESTEID2018"
    OF_2025 = "ESTEID2025"


def subject(form: Form, *, code: str = CODE, organisation: str = "ESTEID") -> x509.Name:
    common = (NameOID.COMMON_NAME, f"{SURNAME},{GIVEN},{code}")
    surname, given, country = (NameOID.SURNAME, SURNAME), (NameOID.GIVEN_NAME, GIVEN), (NameOID.COUNTRY_NAME, "EE")
    number = (NameOID.SERIAL_NUMBER, code if form is Form.OF_2011 else f"PNOEE-{code}")
    above = (NameOID.ORGANIZATION_NAME, organisation), (NameOID.ORGANIZATIONAL_UNIT_NAME, "authentication")
    attributes: dict[Form, tuple[tuple[ObjectIdentifier, str], ...]] = {
        Form.OF_2011: (country, *above, common, surname, given, number),
        Form.OF_2018: (country, common, surname, given, number),
        Form.OF_2025: (common, number, given, surname, country),
    }
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes[form]])


def policies(*oids: str) -> Extension:
    return x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(oid), None) for oid in oids]), False


def extensions(*oids: str) -> tuple[Extension, ...]:
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION])
    return (usage(sign=True), True), (purposes, True), *([policies(*oids)] if oids else [])


def certificate(
    authority: Authority,
    key: CardPrivateKey,
    form: Form = Form.OF_2011,
    *,
    documents: Sequence[str] = ("1.3.6.1.4.1.10015.1.1.4", NCP_PLUS),
    name: x509.Name | None = None,
) -> bytes:
    chosen = subject(form) if name is None else name
    return authority.issue(key, subject=chosen, extensions=extensions(*documents))


def chip_of(
    authority: Authority,
    algorithm: KeyAlgorithm = KeyAlgorithm.RSA2048,
    *,
    tries: int = 3,
    piece: int = 256,
    certificate_key: CardPrivateKey | None = None,
) -> EstEid3Chip:
    """A card with PIN1 `PIN`; with another key's certificate it is a clone."""
    key = card_key(algorithm)
    der = certificate(authority, certificate_key or key)
    return EstEid3Chip(key, der, PERSON, pin=PIN, tries=tries, piece=piece)


@dataclass
class Contacts:
    """A slot that carries commands to a card, and remembers both sides."""

    answer: Answering
    log: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    @classmethod
    def holding(cls, chip: EstEid3Chip) -> "Contacts":
        chip.reset()

        def answer(command: bytes) -> bytes:
            response = chip.process(command).response
            assert response is not None
            return response

        return cls(answer)

    def __call__(self, command: bytes) -> bytes:
        self.log.append(command)
        response = self.answer(command)
        self.answers.append(response)
        return response

    @property
    def verifications(self) -> int:
        return sum(command[:2] == bytes.fromhex("0020") for command in self.log)


def attempting(
    pin: str | None = None,
    *,
    random: Callable[[int], bytes] = counting,
    begin: LookAhead = lambda _shown: None,
    contactless: bool = False,
) -> Attempt:
    secrets = Secrets(pin=None if pin is None else bytearray(pin.encode()))
    return replace(attempt(begin=begin), secrets=secrets, random=random, contactless=contactless)


def tap(contacts: Answering, chosen: Attempt, traffic: Traffic | None = None) -> CardProof:
    """Insert a card, as a desk does: the family is found, the dialogue driven within its bounds."""
    family = Family(esteid3.NAME, esteid3.AID, esteid3.authenticate)
    profile = choice.authenticate((family,), TARGET, chosen)
    return dialogue.drive(profile, contacts, traffic or Traffic())
