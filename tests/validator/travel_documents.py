"""Travel documents of people who do not exist, one for each way to prove a chip, and a reader that reads them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hardware import lds
from hardware.apdu import CommandApdu, ResponseApdu
from hardware.domain_parameters import STANDARDIZED, DomainParameters
from hardware.ec_keys import EcKey, canonical
from hardware.lds import DG1, DG14, DG15
from hardware.pace import Mapping as PaceMapping
from hardware.pace import PaceInfo
from hardware.virtual import emrtd_files
from hardware.virtual.emrtd import AgreementKey, Keys, TravelDocumentChip
from hardware.virtual.emrtd_files import Holder
from tests.validator.attempting import GATE, REGION, WALL_MS, NoKeys, stranger
from tests.validator.travel_authority import SECURITY_INFOS, Country, DocumentSigner
from validator.profiles import emrtd
from validator.profiles.attempt import Attempt, Secrets
from validator.proof import CardProof, LookAhead, TravelDocument

CAN = b"123456"
P256, BRAINPOOL, P384 = STANDARDIZED[12], STANDARDIZED[13], STANDARDIZED[15]
CA_AES_128, CA_AES_192, CA_AES_256 = (bytes.fromhex(f"04007F000702020302{arc}") for arc in ("02", "03", "04"))
PLAIN_SHA256, PLAIN_SHA384 = (bytes.fromhex(f"04007F000701010401{arc}") for arc in ("03", "04"))


@cache
def country() -> Country:
    return Country.founded()


@cache
def signer() -> DocumentSigner:
    return country().signer()


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def private(parameters: DomainParameters, number: int = 0) -> int:
    """A private number of a curve, the same one for the whole session."""
    return parameters.private_number(bytes([number + 1]) * parameters.random_bytes)


def public(parameters: DomainParameters, number: int = 0) -> EcKey:
    return EcKey(parameters, parameters.public_point(private(parameters, number)))


def spki(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Issued:
    """A document as its issuer made it; tests change what they want to go wrong."""

    infos: list[PaceInfo] = field(default_factory=lambda: [PaceInfo.of(PaceMapping.GM, 16, 13)])
    groups: dict[int, bytes] = field(default_factory=lambda: {DG1: lds.encode_dg1(Holder().card())})
    keys: Keys = field(default_factory=Keys)
    card_security: bytes | None = None
    chip_key: bytes | None = None
    can: bytes | None = CAN
    mrz: bytes | None = field(default_factory=lambda: lds.parse_dg1(lds.encode_dg1(Holder().card())).pace_secret)
    security_object: bytes | None = None

    def with_keys(self, **keys: Any) -> "Issued":
        return replace(self, keys=replace(self.keys, **keys))

    @property
    def sod(self) -> bytes:
        return signer().security_object(self.groups) if self.security_object is None else self.security_object

    @property
    def files(self) -> dict[int, bytes]:
        return {lds.EF_SOD: self.sod} | {lds.group_file(number): content for number, content in self.groups.items()}

    def chip(self, **changes: Any) -> TravelDocumentChip:
        wanted: dict[str, Any] = {"can": self.can, "mrz": self.mrz, "card_security": self.card_security}
        return TravelDocumentChip(self.infos, self.files, self.keys, **wanted | changes)


def bare() -> Issued:
    """PACE and nothing that proves the chip."""
    return Issued()


def with_agreement(
    oid: bytes = CA_AES_128, parameters: DomainParameters = BRAINPOOL, key_id: int | None = None
) -> Issued:
    """Chip Authentication."""
    key = public(parameters)
    infos = [emrtd_files.chip_authentication_info(oid, key_id), emrtd_files.chip_key_info(key, key_id)]
    made = bare().with_keys(agreement=AgreementKey(oid, parameters, private(parameters), key_id))
    made.groups[DG14] = emrtd_files.dg14(infos)
    made.chip_key = key.spki
    return made


def with_mapping(parameters: DomainParameters = BRAINPOOL, key_bytes: int = 16) -> Issued:
    """PACE with chip authentication mapping, offered beside generic mapping."""
    key = public(parameters, 1)
    made = bare().with_keys(mapping=private(parameters, 1))
    made.infos = [
        PaceInfo.of(mapping, key_bytes, parameters.identifier) for mapping in (PaceMapping.GM, PaceMapping.CAM)
    ]
    content = emrtd_files.security_infos([*map(bytes, made.infos), emrtd_files.chip_key_info(key)])
    made.card_security = signer().signed(SECURITY_INFOS, content)
    made.groups[DG14] = emrtd_files.dg14([emrtd_files.chip_key_info(key)])
    made.chip_key = key.spki
    return made


def with_signature(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, algorithm: bytes | None = None) -> Issued:
    """Active Authentication, and no Chip Authentication."""
    made = bare().with_keys(active=key)
    made.groups[DG15] = emrtd_files.dg15(spki(key))
    if algorithm is not None:
        made.groups[DG14] = emrtd_files.dg14([emrtd_files.active_authentication_info(algorithm)])
    made.chip_key = canonical(spki(key))
    return made


@cache
def curve_key(name: str = "secp256r1") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key({"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1()}[name])


class Torn(Exception):  # noqa: N818 - what a reader says when the card has left
    """The card has left."""


@dataclass
class Reader:
    """Carries commands to a card, counts, and changes what a test wants changed."""

    process: Callable[[bytes], bytes]
    log: list[tuple[bytes, bytes]] = field(default_factory=list)
    torn_at: int | None = None

    @classmethod
    def of(cls, chip: TravelDocumentChip, torn_at: int | None = None) -> "Reader":
        def process(command: bytes) -> bytes:
            answer = chip.process(command).response
            assert answer is not None
            return answer

        return cls(process, torn_at=torn_at)

    def transceive(self, command: bytes) -> bytes:
        if len(self.log) == self.torn_at:
            raise Torn
        answer = self.process(command)
        self.log.append((command, answer))
        return answer

    @property
    def traffic(self) -> tuple[int, int, int]:
        """Exchanges, bytes out, bytes in."""
        return len(self.log), sum(len(sent) for sent, _ in self.log), sum(len(got) for _, got in self.log)


def secrets(can: bytes | None = CAN, mrz: bytes | None = None) -> Secrets:
    return Secrets(can=None if can is None else bytearray(can), mrz=None if mrz is None else bytearray(mrz), pin=None)


def surely(count: int) -> bytes:
    """Randomness that is the same each time, and different at each byte."""
    return bytes(7 * index % 251 for index in range(count))


def attempt(given: Secrets | None = None, begin: LookAhead = lambda _shown: None) -> Attempt:
    return Attempt(
        REGION, GATE, WALL_MS, b"", surely, stranger, begin, NoKeys(), contactless=True, secrets=given or secrets()
    )


def run(reader: Reader, made: Attempt | None = None) -> CardProof:
    """Run the profile to its proof."""
    dialogue = emrtd.authenticate(made or attempt(), ResponseApdu(b"", 0x9000))
    try:
        command: CommandApdu = next(dialogue)
        while True:
            command = dialogue.send(ResponseApdu.from_bytes(reader.transceive(bytes(command))))
    except StopIteration as done:
        proof: CardProof = done.value
        return proof
    finally:
        dialogue.close()


def shown(proof: CardProof) -> TravelDocument:
    assert isinstance(proof.shown, TravelDocument)
    return proof.shown


def tampered(groups: Mapping[int, bytes], number: int, position: int = -1) -> dict[int, bytes]:
    """The same groups with one octet changed."""
    octets = bytearray(groups[number])
    octets[position] ^= 1
    return {**groups, number: bytes(octets)}
