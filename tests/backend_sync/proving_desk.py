"""A desk for tests: its keys, the people who come to it, and what it says of their cards."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.backend_sync.gate import DAWN_MS, key_of
from validator.model import Assurance, DocumentType, Scheme
from validator.person_key import PersonKey, serial_identifier
from validator.proof_report import Desk, Proof, ProvedCard, ProvedPerson, believe, report


def person_key(name: str) -> PersonKey:
    return PersonKey(bytearray(hashlib.sha256(name.encode()).digest()))


def desk(name: str = "front-1", *person_keys: str) -> Desk:
    return Desk(name, key_of(name), [person_key(one) for one in person_keys or ("person-1",)])


DESKS: Mapping[str, Ed25519PublicKey] = {name: key_of(name).public_key() for name in ("front-1", "front-2")}


def code(number: int) -> str:
    """An Estonian personal code's form, of nobody."""
    return f"3800101{number:04}"


def serial(number: int) -> str:
    return serial_identifier(bytes(20), 0x1000 + number)


def credential(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def a_person(
    identifier: str,
    document_card: str = "id-card",
    *,
    assurance: Assurance = Assurance.HOLDER,
    document: DocumentType = DocumentType.CITIZEN,
    scheme: Scheme | None = Scheme.ESTONIA,
) -> ProvedPerson:
    return ProvedPerson(ProvedCard("esteid", assurance, credential(document_card)), identifier, scheme, document)


def a_card(name: str, *, family: str = "pkoc2", assurance: Assurance = Assurance.CHIP) -> ProvedCard:
    return ProvedCard(family, assurance, credential(name))


def lines(*shown: ProvedPerson | ProvedCard, at_ms: int = DAWN_MS, by: Desk | None = None, turn: int = 0) -> list[str]:
    """What the desk writes; `turn` tells two readings of the same cards at the same moment apart."""

    def number(of: int) -> bytes:
        return hashlib.sha256(repr((shown, at_ms, turn, of)).encode()).digest()

    return [
        report(one, by or desk(), at_ms, lambda count, place=place: number(place)[:count])  # type: ignore[misc]
        for place, one in enumerate(shown)
    ]


def proved(
    *shown: ProvedPerson | ProvedCard, at_ms: int = DAWN_MS, by: Desk | None = None, turn: int = 0
) -> list[Proof]:
    return [believe(line.encode(), DESKS) for line in lines(*shown, at_ms=at_ms, by=by, turn=turn)]


def write_desks(folder: Path, names: Sequence[str] = ("front-1",)) -> Path:
    """Write what the back office knows of desks."""
    folder.mkdir()
    for name in names:
        pem = DESKS[name].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(pem)
    return folder
