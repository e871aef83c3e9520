"""Estonian cards of 2018 and 2025 for tests: an invented holder, a reader that remembers, tears and tampers."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from hardware.apdu import SW, CommandApdu, ResponseApdu
from hardware.medium import MediumLost, Target, Technology
from hardware.virtual.chip import Chip
from hardware.virtual.esteid2018 import EstEid2018Chip
from hardware.virtual.esteid2025 import EstEid2025Chip
from tests.validator.attempting import attempt, counting
from tests.validator.authority import Authority, CardPrivateKey, card_key
from tests.validator.estonian_cards import CODE, GIVEN, NCP_PLUS, SURNAME, Form, extensions, subject
from validator import choice, dialogue
from validator.choice import Family
from validator.dialogue import Traffic
from validator.model import KeyAlgorithm
from validator.profiles import esteid2018, esteid2025
from validator.profiles.attempt import Attempt, Secrets
from validator.proof import CardProof, LookAhead

T = TypeVar("T")

CAN, WRONG_CAN = "123456", "654321"
PIN, WRONG_PIN = "4711", "1147"
DOCUMENT = "AA0000007"

RESIDENT = (SURNAME, GIVEN, "N", "EST", "24 12 2199 EST", CODE, DOCUMENT, "31 12 2026", "01 01 2022 EST", *[""] * 6)
E_RESIDENT = (SURNAME, GIVEN, "", "", "", CODE, "NS0000009", "31 12 2026", "01 01 2022 EST", *[""] * 6)

CERTIFICATE_BYTES = range(893, 1116)
"""Five pieces of 223 bytes; real ones have 1031 to 1034."""

HOLDER_ON_AIR: dict[str, Any] = {"can": CAN, "pin": PIN, "contactless": True}

Tamper = Callable[[int, bytes, bytes], bytes]
"""Is given the number of an exchange, its command and its answer; returns what the reader gets."""


@dataclass(frozen=True)
class Kind:
    """One generation: its profile, its card in software, its certificates."""

    profile: ModuleType
    make: Callable[..., EstEid2018Chip | EstEid2025Chip]
    form: Form
    policy: str

    @property
    def name(self) -> str:
        name: str = self.profile.NAME
        return name

    @property
    def family(self) -> Family:
        return Family(self.name, self.profile.AID, self.profile.authenticate)

    def certificate(self, authority: Authority, key: CardPrivateKey | None = None, policy: str | None = None) -> bytes:
        """A certificate as long as real ones are."""
        locations = [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(f"http://{'long-' * 38}name.invalid/{tail}"))
            for method, tail in (
                (AuthorityInformationAccessOID.OCSP, "ocsp"),
                (AuthorityInformationAccessOID.CA_ISSUERS, "issuer"),
            )
        ]
        chosen = (
            *extensions(policy or self.policy, NCP_PLUS),
            (x509.AuthorityInformationAccess(locations), False),
        )
        own = card_key(KeyAlgorithm.P384) if key is None else key
        der = authority.issue(own, subject=subject(self.form), extensions=chosen)
        assert len(der) in CERTIFICATE_BYTES, len(der)
        return der

    def chip(self, authority: Authority, **options: Any) -> EstEid2018Chip | EstEid2025Chip:
        """A card with PIN1 `PIN`, at its contacts unless it is given a CAN."""
        wanted: dict[str, Any] = {
            "key": card_key(KeyAlgorithm.P384),
            "certificate": None,
            "personal_data": RESIDENT,
            "pin": PIN,
        }
        wanted |= options
        if wanted["certificate"] is None:
            wanted["certificate"] = self.certificate(authority)
        return self.make(**wanted)


IDEMIA = Kind(esteid2018, EstEid2018Chip, Form.OF_2018, "1.3.6.1.4.1.51361.1.1.1")
THALES = Kind(esteid2025, EstEid2025Chip, Form.OF_2025, "1.3.6.1.4.1.51361.2.1.1")
KINDS = pytest.mark.parametrize("kind", [IDEMIA, THALES], ids=lambda kind: kind.name)


def unchanged(_number: int, _command: bytes, answer: bytes) -> bytes:
    return answer


@dataclass
class Reader:
    """Carries commands to a card that was just put in, and remembers both sides."""

    chip: Chip
    tamper: Tamper = unchanged
    tear_at: int | None = None
    log: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        self.chip.reset()

    def __call__(self, command: bytes) -> bytes:
        number = len(self.log)
        self.log.append(command)
        if number == self.tear_at:
            raise MediumLost("reader", "the card left")
        response = self.chip.process(command).response
        assert response is not None
        answer = self.tamper(number, command, response)
        self.answers.append(answer)
        return answer

    @property
    def hexes(self) -> list[str]:
        return [command.hex().upper() for command in self.log]


def attempting(
    *,
    can: str | None = None,
    pin: str | None = None,
    contactless: bool = False,
    random: Callable[[int], bytes] = counting,
    begin: LookAhead = lambda _shown: None,
) -> Attempt:
    secrets = Secrets(
        can=None if can is None else bytearray(can.encode()), pin=None if pin is None else bytearray(pin.encode())
    )
    return replace(attempt(begin=begin), secrets=secrets, random=random, contactless=contactless)


def tap(kind: Kind, reader: Reader, chosen: Attempt) -> CardProof:
    """Hold a card against a reader, as a desk does: the family is found, the dialogue driven within its bounds."""
    technology = Technology.TYPE_A if chosen.contactless else Technology.CONTACT
    target = Target(technology, b"", reader.chip.historical)
    return dialogue.drive(choice.authenticate((kind.family,), target, chosen), reader, reader.traffic)


def converse(steps: Generator[CommandApdu, ResponseApdu, T], carry: Callable[[bytes], bytes]) -> T:
    """Run a part of a dialogue to its end."""
    try:
        command = next(steps)
        while True:
            command = steps.send(ResponseApdu.from_bytes(carry(bytes(command))))
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        steps.close()


def replay(kind: Kind, vector: dict[str, Any]) -> None:
    """Give a profile the private numbers that a phone had, and a real card's answers to the phone.

    Every command has to be the phone's. After the card's token comes the first sealed one: the token fitted.
    """
    numbers = iter(vector["terminal_private_numbers"])

    def random(count: int) -> bytes:
        return (int(next(numbers), 16) - 1).to_bytes(count)  # a number is taken modulo n - 1, and one added

    steps = kind.profile.authenticate(
        attempting(can=vector["can"], contactless=True, random=random), ResponseApdu(b"", SW.OK)
    )
    command = next(steps)
    for expected, answer in vector["exchanges"]:
        assert bytes(command).hex() == expected
        command = steps.send(ResponseApdu(bytes.fromhex(answer), SW.OK))
    steps.close()
    assert command.cla == 0x0C


def answering(ins: int, answer: str) -> Tamper:
    """Put another answer in the place of every one to an instruction."""
    return lambda _number, command, real: bytes.fromhex(answer) if command[1] == ins else real


def sealed(reader: Reader) -> int:
    """Return the number of the first exchange inside the session."""
    return next(number for number, command in enumerate(reader.log) if command[0] == 0x0C)
