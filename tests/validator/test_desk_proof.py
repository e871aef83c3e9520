"""What a desk says of a card: whose document it is, where that proved itself, and never more than it proved."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hardware import lds
from hardware.lds import DG1
from hardware.virtual.emrtd_files import Holder
from tests.backend_sync.proving_desk import DESKS, desk, person_key
from tests.dnie_cards import NUMBER, component, entry
from tests.hostile import hostile
from tests.validator.attempting import counting
from tests.validator.authority import NOW, Authority, card_key, seconds
from tests.validator.dual_interface_cards import IDEMIA, THALES
from tests.validator.estonian_cards import CODE, Form, certificate, subject
from tests.validator.mynumber_cards import CARD, IDENTIFICATION, der_of, generation
from validator.desk_proof import NotProvedError, proved, signed_line
from validator.dialogue import Traffic
from validator.model import (
    NEVER,
    Assurance,
    DocumentType,
    Identity,
    KeyAlgorithm,
    KnownCard,
    Reason,
    Refusal,
    Scheme,
)
from validator.person_key import IdentifierError, serial_identifier
from validator.proof import (
    BareKey,
    CardToken,
    Certificate,
    DnieComponent,
    EnrolledUnder,
    IdCertificate,
    Shown,
    TravelDocument,
)
from validator.proof_report import ProvedCard, ProvedPerson, believe
from validator.reading import AUTHENTIC, CLAIMED, Reading
from validator.reason_words import REASON_WORDS

CREDENTIAL = bytes(range(16))
AT_MS = seconds(NOW) * 1000


def reading(
    who: Identity | Refusal, shown: Shown | None = None, verdict: str = AUTHENTIC, assurance: str | None = None
) -> Reading:
    return Reading(
        profile=who.profile,
        assurance=who.assurance.name if isinstance(who, Identity) else assurance,
        credential_id=None if who.credential_id is None else who.credential_id.hex(),
        verdict=verdict,
        key=None,
        cached=False,
        traffic=Traffic(),
        total_ms=1.0,
        card_ms=1.0,
        document=who.document.value if isinstance(who, Identity) and who.document is not None else None,
        who=who,
        shown=shown,
    )


def identity(
    profile: str = "piv", assurance: Assurance = Assurance.CHIP, document: DocumentType | None = None
) -> Identity:
    return Identity(CREDENTIAL, profile, assurance, None, cached=False, document=document)


def holder(scheme: Scheme, der: bytes, document: DocumentType = DocumentType.CITIZEN) -> Reading:
    return reading(identity("eid", Assurance.HOLDER, document), IdCertificate(scheme, der))


def travelling(person: Holder, lines: str | None = None) -> Reading:
    groups = {DG1: lds.encode_dg1(person.card() if lines is None else lines)}
    shown = TravelDocument(b"", groups, chip_key=b"key")
    return reading(identity("emrtd", Assurance.CHIP, DocumentType.UNKNOWN), shown)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.root()


def estonian(authority: Authority, form: Form, **how: Any) -> bytes:
    return certificate(authority, card_key(KeyAlgorithm.P384), form, **how)


class TestPeople:
    @pytest.mark.parametrize("form", Form)
    def test_an_estonian_is_known_by_the_personal_code_of_each_generation(
        self, authority: Authority, form: Form
    ) -> None:
        person = proved(holder(Scheme.ESTONIA, estonian(authority, form), DocumentType.E_RESIDENT))
        assert isinstance(person, ProvedPerson)
        assert (person.identifier, person.scheme, person.document) == (CODE, Scheme.ESTONIA, DocumentType.E_RESIDENT)
        assert person.card == ProvedCard("eid", Assurance.HOLDER, CREDENTIAL)

    def test_a_spaniard_by_the_number_of_the_dni(self) -> None:
        person = proved(holder(Scheme.SPAIN, entry().certificate))
        assert isinstance(person, ProvedPerson)
        assert (person.identifier, person.scheme) == (NUMBER, Scheme.SPAIN)

    def test_whoever_lives_in_japan_by_the_number_of_the_certificate(self) -> None:
        issued = generation(2).issue(CARD())
        person = proved(holder(Scheme.JAPAN, der_of(issued), DocumentType.RESIDENT))
        assert isinstance(person, ProvedPerson)
        key = x509.SubjectKeyIdentifier.from_public_key(generation(2).key.public_key()).digest
        assert person.identifier == serial_identifier(key, issued.serial_number)
        assert (person.scheme, person.document) == (Scheme.JAPAN, DocumentType.RESIDENT)

    @pytest.mark.parametrize("number", ["L898902C3", "D23145890734"])
    def test_whoever_has_a_travel_document_by_its_state_kind_and_number(self, number: str) -> None:
        person = proved(travelling(Holder(number=number)))
        assert isinstance(person, ProvedPerson)
        assert (person.identifier, person.scheme, person.document) == (f"UTO-I0{number}", None, DocumentType.UNKNOWN)
        assert person.card.assurance is Assurance.CHIP

    def test_a_passport_and_an_identity_card_of_one_number_are_two_documents(self) -> None:
        both = [Holder().card(), "ID" + Holder().card()[2:], Holder().booklet(), "PM" + Holder().booklet()[2:]]
        people = [proved(travelling(Holder(), lines)) for lines in both]
        assert [one.identifier for one in people if isinstance(one, ProvedPerson)] == [
            "UTO-I0L898902C3",
            "UTO-IDL898902C3",
            "UTO-P0L898902C3",
            "UTO-PML898902C3",
        ]
        found = [travelling(Holder(), lines) for lines in both]
        proofs = [believe(signed_line(one, desk(), AT_MS, counting).encode(), DESKS).person for one in found]
        assert len({tuple(one.hashes.items()) for one in proofs if one is not None}) == len(both)

    def test_the_same_person_is_the_same_hash_on_the_next_card(self, authority: Authority) -> None:
        ders = [IDEMIA.certificate(authority), THALES.certificate(authority), estonian(authority, Form.OF_2011)]
        lines = [signed_line(holder(Scheme.ESTONIA, der), desk(), AT_MS, counting) for der in ders]
        people = [believe(line.encode(), DESKS).person for line in lines]
        assert None not in people
        assert len({tuple(one.hashes.items()) for one in people if one is not None}) == 1


KNOWN = KnownCard(CREDENTIAL, KeyAlgorithm.P256, b"", 0, NEVER, b"", 1)
CARDS: Mapping[str, tuple[Identity, Callable[[], Shown]]] = {
    "an operator's certificate": (identity(), lambda: Certificate(b"")),
    "one that was judged before": (identity(), lambda: KNOWN),
    "a key that was enrolled": (identity("pkoc1"), lambda: BareKey(b"")),
    "a token": (identity("ntag424"), lambda: CardToken("ntag424", b"", b"")),
    "a MyNumber card's surface": (
        identity("mynumber-surface"),
        lambda: EnrolledUnder("mynumber-surface", IDENTIFICATION),
    ),
    "the chip of a DNIe": (
        identity("dnie", document=DocumentType.CITIZEN),
        lambda: DnieComponent(component().certificate, component().issuer),
    ),
}


@pytest.mark.parametrize("kind", CARDS)
def test_every_other_card_is_a_card_and_nobody(kind: str) -> None:
    who, shown = CARDS[kind]
    assert proved(reading(who, shown())) == ProvedCard(who.profile, Assurance.CHIP, CREDENTIAL)


class TestTooLittle:
    @pytest.mark.parametrize("assurance", [Assurance.CLAIMED, Assurance.SHARED_SECRET])
    def test_a_document_that_can_only_claim(self, authority: Authority, assurance: Assurance) -> None:
        who = identity("esteid2018", assurance, DocumentType.CITIZEN)
        found = reading(who, IdCertificate(Scheme.ESTONIA, IDEMIA.certificate(authority)), CLAIMED)
        with pytest.raises(NotProvedError, match=rf"proved {assurance.name}, and CHIP is the least: have its PIN"):
            proved(found)

    @pytest.mark.parametrize("reason", Reason)
    def test_a_card_that_was_refused(self, authority: Authority, reason: Reason) -> None:
        shown = IdCertificate(Scheme.ESTONIA, IDEMIA.certificate(authority))
        refusal = Refusal(reason, "esteid2018", CREDENTIAL)
        with pytest.raises(NotProvedError) as refused:
            proved(reading(refusal, shown, reason.name))
        assert str(refused.value) == f"nothing is written for the back office: {REASON_WORDS[reason]}"

    def test_a_card_that_is_not_valid_yet_by_a_clock_that_may_lag(self) -> None:
        early = Identity(CREDENTIAL, "piv", Assurance.CHIP, KNOWN, cached=False, early=True)
        found = reading(early, KNOWN, Reason.CERTIFICATE_NOT_YET_VALID.name)
        with pytest.raises(NotProvedError):
            proved(found)


def unnamed(*numbers: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, number) for number in numbers])


class TestNobody:
    """A document that is genuine, and tells nothing by which somebody can be known."""

    @pytest.mark.parametrize(
        ("scheme", "name"),
        [
            (Scheme.ESTONIA, unnamed()),
            (Scheme.ESTONIA, unnamed(CODE, CODE)),
            (Scheme.ESTONIA, unnamed("89912240009")),
            (Scheme.ESTONIA, unnamed("PNOLV-010190-12345")),
            (Scheme.ESTONIA, unnamed(NUMBER)),
            (Scheme.SPAIN, unnamed()),
            (Scheme.SPAIN, unnamed(NUMBER, NUMBER)),
            (Scheme.SPAIN, unnamed("99999999A")),
            (Scheme.SPAIN, unnamed(CODE)),
        ],
    )
    def test_a_certificate(self, authority: Authority, scheme: Scheme, name: x509.Name) -> None:
        der = estonian(authority, Form.OF_2018, name=name)
        with pytest.raises(IdentifierError) as refused:
            proved(holder(scheme, der))
        assert not any(str(one.value) in str(refused.value) for one in name)
        assert refused.value.__cause__ is None

    def test_a_japanese_certificate_that_does_not_say_who_signed_it(self) -> None:
        with pytest.raises(IdentifierError):
            proved(holder(Scheme.JAPAN, der_of(generation(2).issue(CARD(), identified=False))))

    @hostile
    @given(octets=st.binary(max_size=200), scheme=st.sampled_from(Scheme))
    def test_any_octets(self, octets: bytes, scheme: Scheme) -> None:
        travel = TravelDocument(b"", {DG1: octets}, chip_key=b"key")
        for found in (
            holder(scheme, octets),
            reading(identity("emrtd", document=DocumentType.UNKNOWN), travel),
            reading(identity("emrtd", document=DocumentType.UNKNOWN), TravelDocument(b"", {}, chip_key=b"key")),
        ):
            with pytest.raises(IdentifierError):
                proved(found)

    @pytest.mark.parametrize("code", ["<<", "1<", "I0"])
    def test_a_code_that_is_none(self, code: str) -> None:
        """A zero stands for a filler: it may not stand for itself as well."""
        with pytest.raises(IdentifierError):
            proved(travelling(Holder(), code + Holder().card()[2:]))

    def test_a_number_with_a_gap_in_it(self) -> None:
        with pytest.raises(IdentifierError):
            signed_line(travelling(Holder(number="L89<902C3")), desk(), AT_MS, counting)


class TestTheLine:
    def test_the_back_office_believes_what_was_proved(self, authority: Authority) -> None:
        der = IDEMIA.certificate(authority)
        proof = believe(signed_line(holder(Scheme.ESTONIA, der), desk(), AT_MS, counting).encode(), DESKS)
        assert proof.card == ProvedCard("eid", Assurance.HOLDER, CREDENTIAL)
        assert (proof.desk, proof.proved_ms, proof.number) == ("front-1", AT_MS, counting(16))
        assert proof.person is not None
        key = person_key("person-1")
        assert proof.person.hashes == {key.check_value: key.person(Scheme.ESTONIA, CODE)}

    def test_who_it_is_stands_nowhere(self, authority: Authority) -> None:
        people = {
            CODE: holder(Scheme.ESTONIA, IDEMIA.certificate(authority)),
            NUMBER: holder(Scheme.SPAIN, entry().certificate),
            "L898902C3": travelling(Holder()),
            "6D18006": holder(Scheme.JAPAN, der_of(generation(2).issue(CARD()))),
        }
        for identifier, found in people.items():
            person = proved(found)
            assert isinstance(person, ProvedPerson)
            assert identifier in person.identifier
            line = signed_line(found, desk(), AT_MS, counting)
            told = msgspec.json.encode(found.to_dict()).decode()
            for text in (repr(person), repr(found), str(found), told, line):
                assert identifier not in text


def test_the_name_of_an_estonian_is_in_the_certificate_and_not_in_the_reading(authority: Authority) -> None:
    found = holder(Scheme.ESTONIA, IDEMIA.certificate(authority))
    assert "ÕUNAPUU".encode() in IDEMIA.certificate(authority)
    assert "UNAPUU" not in repr(found)
    assert subject(Form.OF_2018).rfc4514_string() not in repr(found)
