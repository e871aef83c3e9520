"""What a desk's reader says of one card to the back office: a line of JSON that the desk signed.

The process that sees cards is not the one that has the ledger, and often not on its machine. What goes between them is
a stream of such lines, one for each card that was read: over a pipe, over a remote shell, or through a file.

    {"desk": "front-1", "statement": "...", "signature": "..."}

The statement is JSON as text inside the line, so that what was signed is compared octet by octet. The signature is
Ed25519 over ``pilet/1``, ``proof``, the desk's name and the statement, joined by zero bytes, as in
`validator.envelope`. A person is in it as keyed hashes (`validator.person_key`), one for each key that the desk holds;
no code, name or number ever is.

A statement has a number of its own and says when the card was there. Whoever has a copy of it can say the same again,
and nothing else: the back office takes it for some minutes, and knows what it has taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from validator.model import CREDENTIAL_ID_BYTES, Assurance, DocumentType, Scheme
from validator.person_key import ICAO, PersonKey, scheme_name

FORMAT: Final = "pilet-proof/1"
NUMBER_BYTES: Final = 16
MAX_LINE_BYTES: Final = 4096
MAX_KEYS: Final = 4
"""So many person keys a desk may hold at once: the present one, and those that are being left."""

_SIGNATURE_BYTES = 64


def _hex(octets: int) -> msgspec.Meta:
    return msgspec.Meta(pattern=rf"^[0-9a-f]{{{2 * octets}}}\Z")


_DeskName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
_FamilyName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z", max_length=32)]
_CheckValue = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-F]{6}\Z")]
_AssuranceName = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(one.name for one in Assurance)})\Z")]
_SchemeName = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join((*Scheme, ICAO))})\Z")]


class ProofError(Exception):
    """A line is no proof that can be believed; the message says what to do, and nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class ProvedCard:
    """A card that was read at a desk, and proved to be there.

    Attributes:
        family: Its family.
        assurance: The rung of the ladder that was reached.
        credential_id: Its credential, 16 bytes.
    """

    family: str
    assurance: Assurance
    credential_id: bytes


@dataclass(frozen=True, slots=True)
class ProvedPerson:
    """An identity document that was read at a desk: a card, and whose it is.

    Attributes:
        card: The document as a card.
        identifier: What its holder is known by (`validator.person_key.canonical`); in no message and no ``repr``.
        scheme: Whose identifier that is; None for a travel document of a state that has no scheme here.
        document: What the document says of its holder's standing.
    """

    card: ProvedCard
    identifier: str = field(repr=False)
    scheme: Scheme | None
    document: DocumentType


@dataclass(frozen=True, slots=True)
class Desk:
    """A desk that reads cards.

    Attributes:
        name: Names the desk, and no person.
        key: Signs what it says.
        person_keys: The key of persons in use, then those that it replaces; at least one, at most four.
    """

    name: str
    key: Ed25519PrivateKey = field(repr=False)
    person_keys: Sequence[PersonKey] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Person:
    """A person, as the back office gets to know one.

    Attributes:
        scheme: ``ee``, ``jp``, ``es`` or ``icao``.
        document: What the document says of its holder's standing.
        hashes: What stands for the person, 32 bytes, by the check value of the key; the first is the key in use.
    """

    scheme: str
    document: DocumentType
    hashes: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a desk said, and signed.

    Attributes:
        number: Tells it from every other, 16 bytes.
        desk: The desk.
        proved_ms: When, milliseconds since 1970 UTC, by the desk's clock.
        card: The card that was there.
        person: Whose identity document it is; None for a card that is none.
    """

    number: bytes
    desk: str
    proved_ms: int
    card: ProvedCard
    person: Person | None


class _Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scheme: _SchemeName
    document: DocumentType
    hashes: Annotated[dict[_CheckValue, Annotated[str, _hex(32)]], msgspec.Meta(min_length=1, max_length=MAX_KEYS)]


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    format: Literal["pilet-proof/1"]
    number: Annotated[str, _hex(NUMBER_BYTES)]
    proved_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    family: _FamilyName
    assurance: _AssuranceName
    credential_id: Annotated[str, _hex(CREDENTIAL_ID_BYTES)]
    person: _Person | None = None


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    desk: _DeskName
    statement: str
    signature: Annotated[str, _hex(_SIGNATURE_BYTES)]


def report(shown: ProvedPerson | ProvedCard, desk: Desk, proved_ms: int, random: Callable[[int], bytes]) -> str:
    """Write what a desk says of one card: one line, without its end.

    Args:
        shown: What was proved.
        desk: Who says so.
        proved_ms: When, milliseconds since 1970 UTC.
        random: Returns that many octets of the operating system's randomness.

    Raises:
        IdentifierError: What the document tells is no identifier of its scheme.
    """
    card, person = (shown.card, _person(shown, desk)) if isinstance(shown, ProvedPerson) else (shown, None)
    statement = _Statement(
        format=FORMAT,
        number=random(NUMBER_BYTES).hex(),
        proved_ms=proved_ms,
        family=card.family,
        assurance=card.assurance.name,
        credential_id=card.credential_id.hex(),
        person=person,
    )
    text = msgspec.json.encode(statement).decode()
    return msgspec.json.encode(_Line(desk.name, text, desk.key.sign(_signed(desk.name, text)).hex())).decode()


def believe(line: bytes, desks: Mapping[str, Ed25519PublicKey]) -> Proof:
    """Read a line, if a desk that is known here signed it.

    Args:
        line: With or without its end.
        desks: Public keys by the desks' names.

    Raises:
        ProofError: It is something else, of a desk that is not known, or changed.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ProofError(f"is longer than {MAX_LINE_BYTES} bytes: bring what `validator read` wrote, and nothing else")
    try:
        outer = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProofError("is no proof of a desk: bring what `validator read` wrote") from None
    key = desks.get(outer.desk)
    if key is None:
        raise ProofError(f"desk {outer.desk} is not known here: put its public key among the desks'")
    try:
        key.verify(bytes.fromhex(outer.signature), _signed(outer.desk, outer.statement))
    except InvalidSignature:
        raise ProofError(f"desk {outer.desk} did not sign this: it was changed, or is of another desk") from None
    try:
        said = msgspec.json.decode(outer.statement, type=_Statement)
    except msgspec.DecodeError:
        raise ProofError(f"desk {outer.desk} says it in a way that is not known here: use the same version") from None
    return Proof(
        number=bytes.fromhex(said.number),
        desk=outer.desk,
        proved_ms=said.proved_ms,
        card=ProvedCard(said.family, Assurance[said.assurance], bytes.fromhex(said.credential_id)),
        person=None if said.person is None else _shown(said.person),
    )


def _person(shown: ProvedPerson, desk: Desk) -> _Person:
    hashes = {key.check_value: key.person(shown.scheme, shown.identifier).hex() for key in desk.person_keys}
    return _Person(scheme_name(shown.scheme), shown.document, hashes)


def _shown(said: _Person) -> Person:
    return Person(said.scheme, said.document, {check: bytes.fromhex(text) for check, text in said.hashes.items()})


def _signed(desk: str, statement: str) -> bytes:
    return b"\0".join((b"pilet/1", b"proof", desk.encode(), statement.encode()))
