"""National identity cards of invented people on the air, the folder of issuers that vouches for them, and a desk."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from hardware import lds
from hardware.apdu import CommandApdu
from hardware.lds import DG1
from hardware.medium import Technology
from hardware.virtual.air import AirCard, Field
from hardware.virtual.chip import Chip
from hardware.virtual.dnie import Component, DnieChip, Entry
from hardware.virtual.emrtd_files import Holder
from hardware.virtual.esteid2018 import EstEid2018Chip
from hardware.virtual.esteid2025 import EstEid2025Chip
from hardware.virtual.mynumber import JPKI, MynumberChip
from tests import dnie_cards
from tests.validator import mynumber_cards, travel_documents
from tests.validator.authority import DAY, SINCE, Authority, card_key, usage
from tests.validator.dual_interface_cards import CAN, PIN, Kind
from tests.validator.estonian_cards import NCP_PLUS, extensions, subject
from tests.validator.travel_authority import Country
from tests.validator.travel_documents import Issued
from validator.__main__ import app
from validator.certificates import token_id
from validator.model import KeyAlgorithm
from validator.profiles import jpki, mynumber_surface

WITH_CAN = ("--can", CAN)
WITH_PIN = (*WITH_CAN, "--pin", PIN)
JAPANESE_PIN = ("--pin", mynumber_cards.PIN.decode())
WITH_MRZ = ("--mrz", f"{Holder().number},{Holder().birth},{Holder().expiry}")
WAIT_S = "20"
VERIFY, WRONG_PIN_SW = 0x20, 0x63C0

Judged = tuple[str, str | None, str | None, str | None]
"""Verdict, profile, assurance, document."""

EstonianChip = EstEid2018Chip | EstEid2025Chip


@dataclass(frozen=True)
class Row:
    """One card held against a reader, what its holder told, and what has to come of it.

    Attributes:
        name: Names the row in a report.
        card: Makes the card.
        told: Options of ``validator read``.
        judged: What it has to say.
    """

    name: str
    card: Callable[[], Chip]
    told: Sequence[str]
    judged: Judged

    @property
    def technology(self) -> Technology:
        """MyNumber cards speak type B, all others type A."""
        return Technology.TYPE_B if self.judged[1] in (jpki.NAME, mynumber_surface.NAME) else Technology.TYPE_A


@cache
def estonia() -> Authority:
    """The root of invented Estonians."""
    return Authority.root("Identity cards of nobody")


@cache
def stranger() -> Authority:
    """Another root, of the same name."""
    return Authority.root("Identity cards of nobody")


def estonian(kind: Kind, authority: Authority | None = None, **options: Any) -> EstonianChip:
    """A card of 2018 or 2025 on the air."""
    return kind.chip(authority or estonia(), **{"can": CAN, **options})


def expired_estonian(kind: Kind) -> EstonianChip:
    """A card whose certificate ended long ago."""
    certificate = estonia().issue(
        card_key(KeyAlgorithm.P384),
        until=SINCE + DAY,
        subject=subject(kind.form),
        extensions=extensions(kind.policy, NCP_PLUS),
    )
    return estonian(kind, certificate=certificate)


def cloned_estonian(kind: Kind) -> EstonianChip:
    """Somebody's certificate beside a key of one's own."""
    return estonian(kind, key=card_key(KeyAlgorithm.P384, 1), certificate=kind.certificate(estonia()))


def japanese(**changes: Any) -> MynumberChip:
    """A MyNumber card, its surface key enrolled."""
    return mynumber_cards.chip(**changes)


@cache
def former_generation() -> mynumber_cards.Generation:
    """An authority of the same name that is over, and still on the list."""
    return mynumber_cards.Generation.make(mynumber_cards.rsa_key(60), until=SINCE + 2 * DAY)


def japanese_of(authority: mynumber_cards.Generation) -> MynumberChip:
    """A MyNumber card whose certificate another authority issued."""
    return japanese(authentication_certificate=mynumber_cards.der_of(authority.issue(mynumber_cards.CARD())))


def with_tries(chip: MynumberChip, tries: int) -> MynumberChip:
    """The card after somebody mistyped its PIN until so many tries were left."""
    _at_the_pin(chip)
    while tries_left(chip) > tries:
        _at_the_pin(chip)
        chip.process(bytes(CommandApdu(0x00, VERIFY, 0x00, 0x80, b"0000")))
    return chip


def tries_left(chip: Chip) -> int:
    """Ask a card how many tries the PIN for authentication has."""
    if isinstance(chip, EstonianChip):
        return chip.tries_left
    _at_the_pin(chip)
    answer = chip.process(bytes(CommandApdu(0x00, VERIFY, 0x00, 0x80))).response
    assert answer is not None
    sw = int.from_bytes(answer)
    assert sw & ~0x0F == WRONG_PIN_SW
    chip.reset()
    return sw & 0x0F


def _at_the_pin(chip: Chip) -> None:
    for command in (
        CommandApdu(0x00, 0xA4, 0x04, 0x0C, JPKI),
        CommandApdu(0x00, 0xA4, 0x02, 0x0C, jpki.PIN.to_bytes(2)),
    ):
        assert chip.process(bytes(command)).response == b"\x90\x00"


def spanish(**changes: Any) -> DnieChip:
    """A DNIe on the air."""
    return dnie_cards.on_air(dnie_cards.contents(**changes))


def spanish_component(**changes: Any) -> DnieChip:
    """A DNIe whose chip's key or certificate is another one."""
    good = dnie_cards.component()
    return spanish(component=replace(good, **changes))


def foreign_spanish() -> DnieChip:
    """A DNIe under a component root that nobody takes."""
    return spanish(component=dnie_cards.component(label="stranger"))


def expired_spanish() -> DnieChip:
    """A DNIe whose chip's certificate ended long ago."""
    return spanish_component(certificate=dnie_cards.Issuers().chip(valid=(SINCE, SINCE + DAY)))


def spanish_without_component() -> DnieChip:
    """A DNIe that can only show the holder's certificate."""
    issued = dnie_cards.certificate(
        dnie_cards.HOLDER,
        dnie_cards.key("holder", 2048).public_key(),
        _persons().subject,
        dnie_cards.key("AC DNIE", 2048),
        authority=False,
        extensions=((usage(sign=True), True),),
    )
    label = "CertAutenticacion"
    entry = Entry(label, dnie_cards.AUTHENTICATION_PATH, issued, dnie_cards.HOLDER.public_bytes())
    return spanish(component=None, entries=(entry,))


def cloned_spanish() -> Component:
    """A chip's certificate beside a key of one's own."""
    return replace(dnie_cards.component(), key=dnie_cards.key("clone"))


@cache
def _persons() -> x509.Certificate:
    """Who issues certificates to the holders of DNIe."""
    own, called = dnie_cards.key("AC DNIE", 2048), dnie_cards.name("DNIE", "AC DNIE")
    der = dnie_cards.certificate(
        called, own.public_key(), called, own, authority=True, extensions=((usage(certify=True), True),)
    )
    return x509.load_der_x509_certificate(der)


def expiring(made: Issued, expiry: str) -> Issued:
    """The same document, good until another day, YYMMDD."""
    made.groups[DG1] = lds.encode_dg1(Holder(expiry=expiry).card())
    return made


def renamed(made: Issued) -> Issued:
    """The same document with another's name in its machine-readable zone, under the old signature."""
    signed = made.sod
    made.groups[DG1] = lds.encode_dg1(Holder(surname="SOMEBODYELSE").card())
    return replace(made, security_object=signed)


def signed_by(made: Issued, country: Country) -> Issued:
    """The same document, signed by another country's document signer."""
    return replace(made, security_object=country.signer().security_object(made.groups))


def trust_folder(folder: Path) -> Path:
    """Write the folder of issuers that ``validator read`` takes, as `validator.issuers` documents it."""
    for scheme, certificates in (
        ("ee", [estonia().certificate]),
        ("jp", [mynumber_cards.generation(2).certificate, former_generation().certificate]),
        ("es", [_persons()]),
        ("icao", [travel_documents.country().certificate]),
    ):
        (folder / scheme).mkdir(parents=True)
        for number, certificate in enumerate(certificates):
            (folder / scheme / f"issuer-{number}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    enrolled = token_id(mynumber_surface.NAME, mynumber_cards.IDENTIFICATION).hex()
    (folder / f"named-{enrolled}.pem").write_bytes(_pem(mynumber_cards.SURFACE().public_key()))
    (folder / "dnie-component-1.pem").write_bytes(_pem(dnie_cards.Issuers().root.public_key()))
    return folder


def _pem(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def logging_as_before() -> Iterator[None]:
    """A command line sets where logs go; here it shares its process with others."""
    before = structlog.get_config()
    try:
        yield
    finally:
        structlog.configure(**before)


async def command(*arguments: str, air: str) -> dict[str, Any]:
    """Run a command of ``validator`` beside a simulated reader, in a thread; ``air`` is HOST:PORT."""
    given = [*arguments, "--reader", f"nfcpy:udp:{air}", "--json", "--wait", WAIT_S]
    with logging_as_before():
        done = await asyncio.to_thread(CliRunner().invoke, app, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def held(chip: Chip, technology: Technology, *arguments: str) -> dict[str, Any]:
    """Hold a card against a simulated reader and run a command beside it."""
    air = await Field.open()
    try:
        air.place(AirCard(chip, technology))
        return await command(*arguments, air="{}:{}".format(*air.address))
    finally:
        await air.close()


async def read(
    chip: Chip, technology: Technology, trust: Path, cache_file: Path, told: Sequence[str] = ()
) -> dict[str, Any]:
    """Run ``validator read``."""
    return await held(chip, technology, "read", "--trust", str(trust), "--cache", str(cache_file), *told)


def judged(found: dict[str, Any]) -> Judged:
    """The four words that a row is about."""
    return found["verdict"], found["profile"], found["assurance"], found["document"]
