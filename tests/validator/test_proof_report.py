"""What a desk says of a card: believed word for word, or not at all; and no code is in it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.desk_file import load_desk
from validator.model import Assurance, DocumentType, Scheme
from validator.person_key import IdentifierError, PersonKey, serial_identifier
from validator.proof_report import Desk, Proof, ProofError, ProvedCard, ProvedPerson, believe, report
from validator.secret_files import SecretError
from validator.toml_file import ConfigError

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
DESKS = {"front-1": SIGNER.public_key()}
KEYS = tuple(PersonKey(bytearray([number]) * 16 + bytearray(range(16))) for number in (2, 1))
DESK = Desk("front-1", SIGNER, KEYS)
CODE = "38001010001"
CARD = ProvedCard("esteid", Assurance.HOLDER, bytes(range(16)))
MARI = ProvedPerson(CARD, CODE, Scheme.ESTONIA, DocumentType.CITIZEN)
NOW_MS = 1_760_000_000_000

cards = st.builds(
    ProvedCard,
    st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8})?", fullmatch=True),
    st.sampled_from(Assurance),
    st.binary(min_size=16, max_size=16),
)
people = st.one_of(
    st.builds(
        ProvedPerson,
        cards,
        st.from_regex(r"[1-8][0-9]{10}", fullmatch=True),
        st.just(Scheme.ESTONIA),
        st.sampled_from(DocumentType),
    ),
    st.builds(
        ProvedPerson,
        cards,
        st.builds(serial_identifier, st.binary(min_size=20, max_size=20), st.integers(1, 2**64)),
        st.just(Scheme.JAPAN),
        st.sampled_from(DocumentType),
    ),
    st.builds(ProvedPerson, cards, st.just("FIN-XR1234567"), st.none(), st.sampled_from(DocumentType)),
)


def number(count: int) -> bytes:
    return b"\x5a" * count


def line(shown: ProvedPerson | ProvedCard = MARI) -> bytes:
    return report(shown, DESK, NOW_MS, number).encode()


def signed(statement: str, desk: str = "front-1") -> bytes:
    """A line that the desk's key really signed, whatever it says."""
    octets = b"\0".join((b"pilet/1", b"proof", desk.encode(), statement.encode()))
    return json.dumps({"desk": desk, "statement": statement, "signature": SIGNER.sign(octets).hex()}).encode()


@given(shown=st.one_of(people, cards), now_ms=st.integers(0, 2**53 - 1))
def test_what_a_desk_says_is_what_the_back_office_gets(shown: ProvedPerson | ProvedCard, now_ms: int) -> None:
    text = report(shown, DESK, now_ms, number)
    assert "\n" not in text
    proof = believe(text.encode() + b"\n", DESKS)
    card = shown.card if isinstance(shown, ProvedPerson) else shown
    assert (proof.number, proof.desk, proof.proved_ms, proof.card) == (number(16), "front-1", now_ms, card)
    if isinstance(shown, ProvedCard):
        assert proof.person is None
        return
    assert proof.person is not None
    assert proof.person.document is shown.document
    assert list(proof.person.hashes) == [one.check_value for one in KEYS], "the key in use is the first"
    assert list(proof.person.hashes.values()) == [one.person(shown.scheme, shown.identifier) for one in KEYS]
    assert shown.identifier not in text


def test_a_line_says_this_and_nothing_else() -> None:
    told = json.loads(line())
    assert list(told) == ["desk", "statement", "signature"]
    assert json.loads(told["statement"]) == {
        "format": "pilet-proof/1",
        "number": "5a" * 16,
        "proved_ms": NOW_MS,
        "family": "esteid",
        "assurance": "HOLDER",
        "credential_id": bytes(range(16)).hex(),
        "person": {
            "scheme": "ee",
            "document": "citizen",
            "hashes": {one.check_value: one.person(Scheme.ESTONIA, CODE).hex() for one in KEYS},
        },
    }
    assert "person" not in json.loads(json.loads(line(CARD))["statement"])


def test_an_identifier_that_is_none_is_not_reported() -> None:
    with pytest.raises(IdentifierError):
        report(replace(MARI, identifier="5376866771"), DESK, NOW_MS, number)


@given(st.data())
def test_a_line_that_was_changed_anywhere_is_not_believed(data: st.DataObject) -> None:
    whole = line()
    place = data.draw(st.integers(0, len(whole) - 1))
    octet = data.draw(st.integers(0, 255).filter(lambda one: one != whole[place]))
    changed = whole[:place] + bytes([octet]) + whole[place + 1 :]
    try:
        proof = believe(changed, DESKS)
    except ProofError:
        return
    # Blanks and escapes may be written otherwise; what is said may not.
    assert proof == believe(whole, DESKS)


@hostile
@given(st.one_of(st.binary(max_size=5000), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_octets_are_refused_in_words(octets: bytes) -> None:
    with pytest.raises(ProofError):
        believe(octets, DESKS)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=8,
)


@given(
    name=st.sampled_from(["number", "proved_ms", "family", "assurance", "credential_id", "format", "person", "x"]),
    value=json_values,
)
def test_whatever_a_desk_signs_is_well_formed_or_refused(name: str, value: Any) -> None:
    statement = json.loads(json.loads(line())["statement"]) | {name: value}
    try:
        proof = believe(signed(json.dumps(statement)), DESKS)
    except ProofError:
        return
    assert isinstance(proof, Proof)
    assert (len(proof.number), len(proof.card.credential_id)) == (16, 16)


def _statement(change: Callable[[dict[str, Any]], object]) -> bytes:
    told = json.loads(json.loads(line())["statement"])
    change(told)
    return signed(json.dumps(told))


NOT_KNOWN = "says it in a way that is not known here"


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (line()[:-1], "is no proof of a desk"),
        (b"[]", "is no proof of a desk"),
        (line() * 2, "is no proof of a desk"),
        (line().replace(b"{", b'{"more":1,', 1), "is no proof of a desk"),
        (line().ljust(4097), "longer than 4096 bytes"),
        (line().replace(b"front-1", b"front-2", 1), "desk front-2 is not known here"),
        (line().replace(b"front-1", b"front 1", 1), "is no proof of a desk"),
        (line().replace(b"HOLDER", b"CHIP", 1), "did not sign this"),
        (signed("{}"), NOT_KNOWN),
        (signed("\\ud800"), NOT_KNOWN),
        (_statement(lambda told: told.update(format="pilet-proof/2")), NOT_KNOWN),
        (_statement(lambda told: told.update(assurance="SURE")), NOT_KNOWN),
        (_statement(lambda told: told.update(credential_id="00" * 15)), NOT_KNOWN),
        (_statement(lambda told: told.update(number="5A" * 16)), NOT_KNOWN),
        (_statement(lambda told: told.update(proved_ms=-1)), NOT_KNOWN),
        (_statement(lambda told: told.update(family="Esteid")), NOT_KNOWN),
        (_statement(lambda told: told.update(name="MARI")), NOT_KNOWN),
        (_statement(lambda told: told["person"].update(code=CODE)), NOT_KNOWN),
        (_statement(lambda told: told["person"].update(hashes={})), NOT_KNOWN),
        (_statement(lambda told: told["person"].update(hashes={"person": "00" * 32})), NOT_KNOWN),
        (_statement(lambda told: told["person"].update(hashes={"0A0B0C": CODE})), NOT_KNOWN),
        (_statement(lambda told: told["person"].update(scheme="fi")), NOT_KNOWN),
        (_statement(lambda told: told["person"].update(document="king")), NOT_KNOWN),
    ],
)
def test_what_is_not_believed_is_told_without_what_is_in_it(octets: bytes, says: str) -> None:
    with pytest.raises(ProofError, match=says) as caught:
        believe(octets, DESKS)
    assert CODE not in str(caught.value)


def test_what_another_desk_signed_in_this_ones_name_is_not_believed() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    text = report(MARI, replace(DESK, key=other), NOW_MS, number)
    with pytest.raises(ProofError, match="desk front-1 did not sign this"):
        believe(text.encode(), DESKS | {"front-2": other.public_key()})


class TestDeskFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        pem = SIGNER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for name, content in (("front-1.key", pem), ("1.key", b"01" * 31 + b"02"), ("2.key", b"02" * 31 + b"03")):
            (tmp_path / name).write_bytes(content)
            (tmp_path / name).chmod(0o600)
        path = tmp_path / "desk.toml"
        path.write_text('name = "front-1"\nkey = "front-1.key"\nperson_keys = ["2.key", "1.key"]\n')
        return path

    def test_a_desk_speaks_with_the_keys_of_its_file(self, path: Path) -> None:
        desk = load_desk(path)
        assert [bytes(key.octets[-1:]) for key in desk.person_keys] == [b"\x03", b"\x02"]
        assert believe(report(MARI, desk, NOW_MS, number).encode(), DESKS).desk == "front-1"
        assert "key" not in repr(desk).replace("person_keys", "")

    @pytest.mark.parametrize(
        ("was", "now", "error", "says"),
        [
            ('"1.key"', '"2.key"', ConfigError, "one key is there twice"),
            ('["2.key", "1.key"]', "[]", ConfigError, "person_keys"),
            ('"front-1"', '"front 1"', ConfigError, "key `name`"),
            ('"front-1.key"', '"1.key"', ConfigError, "not an unencrypted private key"),
            ('"1.key"', '"3.key"', SecretError, "No such file"),
            ("name", "title", ConfigError, "title"),
        ],
    )
    def test_a_file_that_is_wrong_is_told(
        self, path: Path, was: str, now: str, error: type[Exception], says: str
    ) -> None:
        path.write_text(path.read_text().replace(was, now, 1))
        with pytest.raises(error, match=says):
            load_desk(path)
