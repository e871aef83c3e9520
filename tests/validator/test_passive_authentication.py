"""Files of travel documents: what a country signed is genuine, and each thing that is wrong has its reason."""

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hardware import lds
from hardware.lds import DG1, DG14, DG15
from hardware.virtual import emrtd_files
from hardware.virtual.emrtd_files import Holder
from tests.hostile import hostile
from tests.validator.authority import DAY, NOW, seconds, usage
from tests.validator.scripted_card import tlv
from tests.validator.travel_authority import (
    AUTHORITY_EXTENSIONS,
    SECURITY_INFOS,
    SIGNER_EXTENSIONS,
    SINCE,
    UNTIL,
    Country,
    DocumentSigner,
    certify,
    explicit_spki,
    judge_document,
    lds_security_object,
    name,
    new_key,
    octets,
    sequence,
    written_out,
)
from tests.validator.travel_documents import (
    BRAINPOOL,
    country,
    curve_key,
    public,
    rsa_key,
    signer,
    spki,
    tampered,
    with_agreement,
    with_mapping,
    with_signature,
)
from validator.certificates import HOSTILE, CertificateError, KeyUnsupportedError, credential_id, spki_of
from validator.country_signers import MAX_LINKS, CountrySigners, public_key
from validator.model import NEVER, Reason
from validator.passive_authentication import Genuine, examine
from validator.proof import TravelDocument
from validator.signed_data import SignedDataError, parse_signed_data

GROUPS = {DG1: lds.encode_dg1(Holder().card())}
AT = seconds(NOW)


def document(
    made: DocumentSigner | None = None, groups: dict[int, bytes] | None = None, **changes: Any
) -> TravelDocument:
    given_groups = GROUPS if groups is None else groups
    return replace(TravelDocument((made or signer()).security_object(given_groups), given_groups), **changes)


def judged(shown: TravelDocument, *certificates: x509.Certificate, at: int = AT) -> Genuine | Reason:
    return judge_document(shown, CountrySigners(certificates or (country().certificate,)), at)


def genuine(verdict: Genuine | Reason) -> Genuine:
    assert isinstance(verdict, Genuine), verdict
    return verdict


class TestGenuine:
    @pytest.mark.parametrize(
        "curve",
        [
            ec.SECP256R1(),
            ec.SECP384R1(),
            ec.SECP521R1(),
            ec.BrainpoolP256R1(),
            ec.BrainpoolP384R1(),
            ec.BrainpoolP512R1(),
        ],
        ids=lambda curve: curve.name,
    )
    @pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
    @pytest.mark.parametrize("explicit", [False, True], ids=["named", "written out"])
    def test_a_signer_on_a_curve(self, curve: ec.EllipticCurve, digest: str, *, explicit: bool) -> None:
        made = replace(country().signer(key=new_key(curve), explicit=explicit), digest=digest)
        found = genuine(judged(document(made)))
        assert (found.chip_key, found.country) == (None, "UT")
        assert found.mrz.surname == "ERIKSSON"

    @pytest.mark.parametrize("pss", [False, True])
    @pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
    def test_a_signer_with_rsa(self, digest: str, *, pss: bool) -> None:
        made = replace(country().signer(key=rsa_key()), digest=digest, pss=pss)
        genuine(judged(document(made)))

    def test_a_signer_with_rsa_that_names_the_digest_apart(self) -> None:
        """rsaEncryption as the signature's algorithm: the content's digest is the signature's."""
        made = country().signer(key=rsa_key()).wrong(algorithm="30 0D 06 09 2A864886F70D010101 05 00")
        genuine(judged(document(made)))

    @pytest.mark.parametrize("pss", [False, True])
    def test_an_authority_with_rsa(self, *, pss: bool) -> None:
        founded = Country.founded(key=rsa_key(3072), pss=pss)
        genuine(judged(document(founded.signer(pss=pss)), founded.certificate))

    def test_an_authority_whose_curve_is_written_out(self) -> None:
        certificate = written_out(country().certificate, country().key, country().key)
        assert spki_of(public_key(certificate)) == spki_of(public_key(country().certificate))
        genuine(judged(document(country().signer(explicit=True)), certificate))

    def test_a_signer_that_is_named_by_its_key(self) -> None:
        key = new_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        made = country().signer(key=key, extensions=(*SIGNER_EXTENSIONS, (identifier, False)))
        genuine(judged(document(replace(made, by_key_identifier=identifier.digest))))

    def test_more_signed_attributes_and_more_certificates_are_fine(self) -> None:
        time = sequence(octets("06 09 2A864886F70D010905"), tlv("31", tlv("17", b"261123080000Z")))
        both = [country().certificate.public_bytes(Encoding.DER), signer().certificate.public_bytes(Encoding.DER)]
        genuine(judged(document(signer().wrong(more_attributes=[time], certificates=both))))

    def test_the_digests_of_groups_that_were_not_read_do_not_matter(self) -> None:
        shown = document(groups={**GROUPS, 2: b"a face", 3: b"fingers"})
        genuine(judged(replace(shown, groups=GROUPS)))

    @pytest.mark.parametrize(
        "issued",
        [with_agreement(), with_mapping(), with_signature(curve_key()), with_signature(rsa_key())],
        ids=["agreement", "mapping", "signature on a curve", "RSA"],
    )
    def test_the_chips_key_is_in_its_files(self, issued: Any) -> None:
        shown = TravelDocument(issued.sod, issued.groups, issued.card_security, issued.chip_key)
        assert genuine(judged(shown)).chip_key == issued.chip_key

    def test_a_key_whose_curve_is_written_out_is_the_same_key(self) -> None:
        groups = {**GROUPS, DG15: emrtd_files.dg15(explicit_spki(curve_key().public_key()))}
        assert genuine(judged(document(groups=groups, chip_key=spki(curve_key())))).chip_key == spki(curve_key())

    def test_its_window_is_that_of_all_that_vouches(self) -> None:
        made = country().signer(valid=(SINCE + 3 * DAY, UNTIL - 500 * DAY))
        found = genuine(judged(document(made)))
        assert (found.not_before, found.not_after) == (
            seconds(SINCE + 3 * DAY),
            seconds(dt.datetime(2032, 4, 16, tzinfo=dt.UTC)) - 1,
        )
        assert found.issuer_id == credential_id(spki_of(public_key(country().certificate)))
        endless = document(made, {DG1: lds.encode_dg1(Holder(expiry="<<<<<<").card())})
        assert genuine(judged(endless)).not_after == seconds(UNTIL - 500 * DAY) < NEVER


class TestLinks:
    def test_a_link_leads_from_the_new_key_to_the_old(self) -> None:
        old, new = country(), Country.founded(common_name="Utopia CSCA 2")
        made = document(new.signer())
        assert judged(made, old.certificate) is Reason.UNTRUSTED_ISSUER
        assert judged(made, old.link(new)) is Reason.UNTRUSTED_ISSUER
        genuine(judged(made, old.certificate, old.link(new)))
        genuine(judged(made, new.certificate))

    def test_a_renewed_key_under_the_same_name(self) -> None:
        old, new = country(), Country.founded()
        genuine(judged(document(new.signer()), old.certificate, old.link(new)))
        genuine(judged(document(old.signer()), old.certificate, old.link(new), new.certificate))

    def test_links_may_follow_on_each_other_so_many_times(self) -> None:
        line = [country(), *(Country.founded(common_name=f"CSCA {number}") for number in range(MAX_LINKS + 1))]
        links = [old.link(new) for old, new in itertools.pairwise(line)]
        root = country().certificate
        genuine(judged(document(line[MAX_LINKS].signer()), root, *links))
        assert judged(document(line[MAX_LINKS + 1].signer()), root, *links) is Reason.UNTRUSTED_ISSUER

    def test_links_in_a_circle_lead_nowhere(self) -> None:
        one, other = Country.founded(common_name="One"), Country.founded(common_name="Other")
        assert judged(document(one.signer()), one.link(other), other.link(one)) is Reason.UNTRUSTED_ISSUER

    def test_the_chain_that_holds_now_is_preferred(self) -> None:
        """The old authority is out of date, the link as well; the new one stands for itself."""
        over = (SINCE - 3650 * DAY, NOW - DAY)
        old, new = Country.founded(common_name="Old", valid=over), Country.founded()
        link = old.link(new, valid=over)
        genuine(judged(document(new.signer()), old.certificate, link, new.certificate))
        assert judged(document(new.signer()), old.certificate, link) is Reason.CERTIFICATE_EXPIRED

    def test_a_signer_found_by_key_identifier_alone(self) -> None:
        """The name is spelt otherwise in the signer's certificate; the authority's key identifier is the same."""
        key = new_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        founded = Country.founded(key=key, extensions=(*AUTHORITY_EXTENSIONS, (identifier, False)))
        authority = x509.AuthorityKeyIdentifier(identifier.digest, None, None)
        own = new_key()
        certificate = certify(
            name("UT", "DS"), own, name("ut", "utopia csca"), key, extensions=(*SIGNER_EXTENSIONS, (authority, False))
        )
        genuine(judged(document(DocumentSigner(own, certificate)), founded.certificate))

    def test_a_document_signer_on_the_list_is_no_authority(self) -> None:
        middle = country().signer()
        below = Country(middle.key, middle.certificate).signer()
        assert judged(document(below), country().certificate, middle.certificate) is Reason.UNTRUSTED_ISSUER

    def test_an_authority_that_a_document_brings_is_not_asked(self) -> None:
        stranger = Country.founded()
        made = stranger.signer()
        both = [each.public_bytes(Encoding.DER) for each in (stranger.certificate, made.certificate)]
        assert judged(document(made.wrong(certificates=both))) is Reason.UNTRUSTED_ISSUER

    def test_certificates_of_other_kinds_on_the_list_do_no_harm(self) -> None:
        key = ed25519.Ed25519PrivateKey.generate()
        subject = name("XX", "Edwards")
        other = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(SINCE)
            .not_valid_after(UNTIL)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, None)
        )
        unmarked = Country.founded("YY", extensions=())
        genuine(judged(document(), other, unmarked.certificate, country().certificate))
        assert judged(document(unmarked.signer()), unmarked.certificate) is Reason.UNTRUSTED_ISSUER


def of_state(state: str) -> dict[int, bytes]:
    return {DG1: lds.encode_dg1(Holder(state=state).card())}


def nameless(*countries: str) -> Country:
    """An authority whose name says no country, or several."""
    key = new_key()
    named = [x509.NameAttribute(NameOID.COUNTRY_NAME, each) for each in countries]
    subject = x509.Name([*named, x509.NameAttribute(NameOID.COMMON_NAME, "CSCA")])
    return Country(key, certify(subject, key, subject, key, extensions=AUTHORITY_EXTENSIONS))


class TestWhoseDocument:
    """A country vouches for its own documents, and for no others', whatever its authority signs."""

    @pytest.mark.parametrize(
        ("code", "state"),
        [
            ("UT", "UTO"),
            ("ut", "UTO"),
            ("EE", "EST"),
            ("ee", "EST"),
            ("DE", "D<<"),
            ("GB", "GBR"),
            ("GB", "GBD"),
            ("UN", "UNO"),
            ("UN", "UNA"),
            ("EU", "EUE"),
            ("KS", "RKS"),
            ("XK", "RKS"),
            ("XK", "XKX"),
        ],
    )
    def test_its_own(self, code: str, state: str) -> None:
        founded = Country.founded(code)
        found = genuine(judged(document(founded.signer(), of_state(state)), founded.certificate))
        assert (found.country, found.mrz.issuer) == (code.upper(), state.strip("<"))

    @pytest.mark.parametrize(
        ("code", "state"),
        [
            ("XX", "EST"),
            ("EE", "UTO"),
            ("EE", "ES<"),
            ("EE", "EE<"),
            ("ES", "EST"),
            ("DE", "DDR"),
            ("EE", "D<<"),
            ("EU", "EST"),
            ("UN", "XOM"),
            ("XX", "XXA"),
            ("EE", "<<<"),
        ],
    )
    def test_another_states(self, code: str, state: str) -> None:
        founded = Country.founded(code)
        assert judged(document(founded.signer(), of_state(state)), founded.certificate) is Reason.UNTRUSTED_ISSUER

    def test_a_document_that_does_not_say_whose_it_is(self) -> None:
        assert judged(document(groups={})) is Reason.UNTRUSTED_ISSUER
        issued = with_agreement()
        shown = TravelDocument(issued.sod, {DG14: issued.groups[DG14]}, chip_key=issued.chip_key)
        assert judged(shown) is Reason.UNTRUSTED_ISSUER

    def test_a_signer_that_names_another_country_than_its_authority(self) -> None:
        rogue = Country.founded("XX")
        made = document(rogue.signer(country="EE"), of_state("EST"))
        assert judged(made, rogue.certificate) is Reason.UNTRUSTED_ISSUER
        assert judged(made, rogue.certificate, Country.founded("EE").certificate) is Reason.UNTRUSTED_ISSUER
        genuine(judged(document(country().signer(country="ut"))))

    def test_a_link_to_another_countrys_key(self) -> None:
        """Each of them is on the list, and still a country certifies its own keys alone."""
        rogue, honest = Country.founded("XX"), Country.founded("EE")
        made = document(honest.signer(), of_state("EST"))
        assert judged(made, rogue.certificate, rogue.link(honest)) is Reason.UNTRUSTED_ISSUER
        genuine(judged(made, rogue.certificate, rogue.link(honest), honest.certificate))

    @pytest.mark.parametrize("countries", [(), ("UT", "EE")], ids=["none", "two"])
    def test_an_authority_of_no_one_country(self, countries: tuple[str, ...]) -> None:
        founded = nameless(*countries)
        for code in ("UT", "EE"):
            made = document(founded.signer(country=code), of_state({"UT": "UTO", "EE": "EST"}[code]))
            assert judged(made, founded.certificate) is Reason.UNTRUSTED_ISSUER


class TestCardSecurity:
    """Signed apart from the document's files: which document it is of, no signature says."""

    def test_a_key_that_stands_there_alone_vouches_for_nothing(self) -> None:
        key = public(BRAINPOOL, 7)
        content = emrtd_files.security_infos([emrtd_files.chip_key_info(key)])
        shown = document(card_security=signer().signed(SECURITY_INFOS, content), chip_key=key.spki)
        assert judged(shown) is Reason.DATA_TAMPERED
        genuine(judged(replace(shown, chip_key=None)))

    def test_another_countrys(self) -> None:
        issued, other = with_mapping(), Country.founded("EE")
        security = other.signer().signed(SECURITY_INFOS, emrtd_files.security_infos([]))
        shown = TravelDocument(issued.sod, issued.groups, security, issued.chip_key)
        assert judged(shown, country().certificate, other.certificate) is Reason.UNTRUSTED_ISSUER
        genuine(judged(replace(shown, card_security=issued.card_security)))

    def test_its_content_is_read(self) -> None:
        assert judged(document(card_security=signer().signed(SECURITY_INFOS, b"\x30\x00"))) is Reason.MALFORMED_ANSWER


def off_by_a_bit(certificate: x509.Certificate) -> bytes:
    der = bytearray(certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return bytes(der)


def with_extensions(*extensions: Any) -> Callable[[], TravelDocument]:
    return lambda: document(country().signer(extensions=extensions))


LISTED = lds_security_object({1: bytes(32)}, "sha256")

#: What is wrong, and what it is called.
WRONG: dict[str, tuple[Callable[[], TravelDocument], Reason]] = {
    # what does not follow the standard
    "no file": (lambda: document(security_object=b""), Reason.MALFORMED_ANSWER),
    "another file": (lambda: document(security_object=GROUPS[1]), Reason.MALFORMED_ANSWER),
    "cut short": (lambda: document(security_object=document().security_object[:-1]), Reason.MALFORMED_ANSWER),
    "no attributes": (lambda: document(signer().wrong(without_attributes=True)), Reason.MALFORMED_ANSWER),
    "no signer": (lambda: document(signer().wrong(signers=0)), Reason.MALFORMED_ANSWER),
    "two signers": (lambda: document(signer().wrong(signers=2)), Reason.MALFORMED_ANSWER),
    "another content type": (
        lambda: document(security_object=tlv("77", signer().signed(SECURITY_INFOS, LISTED))),
        Reason.MALFORMED_ANSWER,
    ),
    "content that is none": (lambda: document(signer().wrong(content=b"\x30\x00")), Reason.MALFORMED_ANSWER),
    "a group that is no number": (
        lambda: document(
            signer().wrong(
                content=sequence(
                    octets("020100"),
                    sequence(octets("06 09 608648016503040201")),
                    tlv("30", sequence(octets("0400"), octets("0400"))),
                )
            )
        ),
        Reason.MALFORMED_ANSWER,
    ),
    "a group twice": (
        lambda: document(
            signer().wrong(
                content=sequence(
                    octets("020100"),
                    sequence(octets("06 09 608648016503040201")),
                    tlv("30", sequence(octets("020101"), octets("0400")) * 2),
                )
            )
        ),
        Reason.MALFORMED_ANSWER,
    ),
    "a certificate that is none": (
        lambda: document(signer().wrong(certificates=[sequence(octets("020100"))])),
        Reason.MALFORMED_ANSWER,
    ),
    "too many certificates": (
        lambda: document(signer().wrong(certificates=[sequence(octets("020100"))] * 5)),
        Reason.MALFORMED_ANSWER,
    ),
    "an attribute twice": (
        lambda: document(
            signer().wrong(more_attributes=[sequence(octets("06 09 2A864886F70D010904"), tlv("31", octets("0400")))])
        ),
        Reason.MALFORMED_ANSWER,
    ),
    "a machine-readable zone with a wrong digit": (
        lambda: document(groups={1: lds.encode_dg1(Holder().card()[:-31] + "0" + Holder().card()[-30:])}),
        Reason.MALFORMED_ANSWER,
    ),
    # algorithms that are not accepted
    "groups with SHA-1": (
        lambda: document(security_object=signer().security_object(GROUPS, digest="sha1")),
        Reason.UNSUPPORTED_KEY,
    ),
    "groups with SHA-224": (
        lambda: document(security_object=signer().security_object(GROUPS, digest="sha224")),
        Reason.UNSUPPORTED_KEY,
    ),
    "signed with SHA-1": (lambda: document(replace(signer(), digest="sha1")), Reason.UNSUPPORTED_KEY),
    "signed with SHA-1 and RSA": (
        lambda: document(replace(country().signer(key=rsa_key()), digest="sha1")),
        Reason.UNSUPPORTED_KEY,
    ),
    "an ECDSA digest of SHA-1 beside a good one": (
        lambda: document(signer().wrong(algorithm="30 09 06 07 2A8648CE3D0401")),
        Reason.UNSUPPORTED_KEY,
    ),
    "PSS with nothing said": (
        lambda: document(country().signer(key=rsa_key()).wrong(algorithm="30 0D 06 09 2A864886F70D01010A 30 00")),
        Reason.UNSUPPORTED_KEY,
    ),
    "a signer of 1024 bits": (lambda: document(country().signer(key=rsa_key(1024))), Reason.UNSUPPORTED_KEY),
    "a signer on another curve": (
        lambda: document(country().signer(key=new_key(ec.SECP256K1()))),
        Reason.UNSUPPORTED_KEY,
    ),
    # nobody who is on the list
    "another country": (lambda: document(Country.founded("YY", "Elsewhere").signer()), Reason.UNTRUSTED_ISSUER),
    "another authority of the same name": (lambda: document(Country.founded().signer()), Reason.UNTRUSTED_ISSUER),
    "no certificate": (lambda: document(signer().wrong(certificates=[])), Reason.UNTRUSTED_ISSUER),
    "another signer's certificate": (
        lambda: document(signer().wrong(certificates=[country().signer().certificate.public_bytes(Encoding.DER)])),
        Reason.UNTRUSTED_ISSUER,
    ),
    "a certificate that was changed": (
        lambda: document(signer().wrong(certificates=[off_by_a_bit(signer().certificate)])),
        Reason.UNTRUSTED_ISSUER,
    ),
    "a certificate signed with SHA-224": (
        lambda: document(country().signer(digest=hashes.SHA224())),
        Reason.UNTRUSTED_ISSUER,
    ),
    # a certificate of the country's for something else
    "no usage": (with_extensions(), Reason.WRONG_KEY_USAGE),
    "certificates only": (with_extensions((usage(certify=True), True)), Reason.WRONG_KEY_USAGE),
    "documents and certificates": (with_extensions((usage(sign=True, certify=True), True)), Reason.WRONG_KEY_USAGE),
    "an authority": (
        with_extensions((usage(sign=True), True), (x509.BasicConstraints(ca=True, path_length=None), True)),
        Reason.WRONG_KEY_USAGE,
    ),
    "master lists": (
        with_extensions(
            (usage(sign=True), True), (x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.23.136.1.1.3")]), True)
        ),
        Reason.WRONG_KEY_USAGE,
    ),
    "a critical extension that is not known": (
        with_extensions(
            (usage(sign=True), True), (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.999.1"), b"\x05\x00"), True)
        ),
        Reason.WRONG_KEY_USAGE,
    ),
    # not what the country signed
    "a name changed": (lambda: replace(document(), groups=tampered(GROUPS, 1)), Reason.DATA_TAMPERED),
    "no digest for a group": (lambda: document(signer().wrong(left_out=(1,))), Reason.DATA_TAMPERED),
    "a group that was put in": (
        lambda: replace(document(), groups={**GROUPS, 15: emrtd_files.dg15(spki(curve_key()))}),
        Reason.DATA_TAMPERED,
    ),
    "signed by another key": (lambda: document(signer().wrong(key=new_key())), Reason.DATA_TAMPERED),
    "another message digest": (lambda: document(signer().wrong(message_digest=bytes(32))), Reason.DATA_TAMPERED),
    "another type signed": (lambda: document(signer().wrong(signed_type=SECURITY_INFOS)), Reason.DATA_TAMPERED),
    "RSA's algorithm with a key on a curve": (
        lambda: document(signer().wrong(algorithm="30 0D 06 09 2A864886F70D01010B 05 00")),
        Reason.DATA_TAMPERED,
    ),
    "a curve's algorithm with RSA": (
        lambda: document(country().signer(key=rsa_key()).wrong(algorithm="30 0A 06 08 2A8648CE3D040302")),
        Reason.DATA_TAMPERED,
    ),
    "a chip's key that is in no file": (lambda: document(chip_key=public(BRAINPOOL).spki), Reason.DATA_TAMPERED),
    "a chip's key of another document": (
        lambda: document(groups=with_agreement().groups, chip_key=public(BRAINPOOL, 9).spki),
        Reason.DATA_TAMPERED,
    ),
    # EF.CardSecurity is judged as well
    "card security that is none": (lambda: document(card_security=b"\x30\x00"), Reason.MALFORMED_ANSWER),
    "card security of another type": (
        lambda: document(card_security=document().security_object[4:]),
        Reason.MALFORMED_ANSWER,
    ),
    "card security by a stranger": (
        lambda: document(card_security=Country.founded().signer().signed(SECURITY_INFOS, b"\x31\x00")),
        Reason.UNTRUSTED_ISSUER,
    ),
    "card security by another key": (
        lambda: document(card_security=signer().wrong(key=new_key()).signed(SECURITY_INFOS, b"\x31\x00")),
        Reason.DATA_TAMPERED,
    ),
    # dates
    "a signer out of date": (
        lambda: document(country().signer(valid=(SINCE, NOW - DAY))),
        Reason.CERTIFICATE_EXPIRED,
    ),
    "a signer to come": (
        lambda: document(country().signer(valid=(NOW + DAY, UNTIL))),
        Reason.CERTIFICATE_NOT_YET_VALID,
    ),
    "a document out of date": (
        lambda: document(groups={1: lds.encode_dg1(Holder(expiry="261122").card())}),
        Reason.CERTIFICATE_EXPIRED,
    ),
    "card security out of date": (
        lambda: document(card_security=country().signer(valid=(SINCE, NOW - DAY)).signed(SECURITY_INFOS, b"\x31\x00")),
        Reason.CERTIFICATE_EXPIRED,
    ),
}


class TestWrong:
    @pytest.mark.parametrize("what", WRONG)
    def test_it_has_its_reason(self, what: str) -> None:
        make, reason = WRONG[what]
        assert judged(make()) is reason

    def test_an_authority_out_of_date(self) -> None:
        founded = Country.founded(valid=(SINCE, NOW - DAY))
        assert judged(document(founded.signer()), founded.certificate) is Reason.CERTIFICATE_EXPIRED

    def test_an_empty_list_trusts_nobody(self) -> None:
        assert judge_document(document(), CountrySigners([]), AT) is Reason.UNTRUSTED_ISSUER

    def test_a_document_is_good_through_its_last_second(self) -> None:
        shown = document(groups={1: lds.encode_dg1(Holder(expiry="261123").card())})
        last = seconds(dt.datetime(2026, 11, 24, tzinfo=dt.UTC)) - 1
        genuine(judged(shown, at=last))
        assert judged(shown, at=last + 1) is Reason.CERTIFICATE_EXPIRED

    def test_dates_can_be_left_to_the_caller(self) -> None:
        shown = document(country().signer(valid=(SINCE, NOW - DAY)))
        found = genuine(examine(shown, CountrySigners([country().certificate]), AT))
        assert found.not_after == seconds(NOW - DAY)

    def test_nothing_personal_is_in_a_repr(self) -> None:
        assert "ERIKSSON" not in repr(judged(document()))


class TestHostile:
    @hostile
    @given(st.binary(max_size=300))
    def test_any_octets_have_a_reason(self, content: bytes) -> None:
        for object_ in (content, tlv("77", content)):
            assert isinstance(examine(replace(SIGNED, security_object=object_), KNOWN, AT), Reason)

    @hostile
    @given(st.binary(max_size=300))
    def test_any_octets_under_a_right_signature_have_a_reason(self, content: bytes) -> None:
        signed = signer().wrong(content=content).security_object(GROUPS)
        assert isinstance(examine(replace(SIGNED, security_object=signed), KNOWN, AT), Reason)

    @given(st.binary(max_size=300))
    def test_any_octets_as_signed_keys_have_a_reason(self, content: bytes) -> None:
        assert isinstance(examine(replace(SIGNED, card_security=content), KNOWN, AT), Reason)

    @given(position=st.integers(0, 4000), flip=st.integers(1, 255))
    def test_one_spoilt_octet_changes_nothing_that_was_signed(self, position: int, flip: int) -> None:
        """Every octet counts, but those that nobody signs and nothing is read from: versions, a name, an order."""
        spoilt = bytearray(SIGNED.security_object)
        spoilt[position % len(spoilt)] ^= flip
        verdict = judged(replace(SIGNED, security_object=bytes(spoilt)))
        if isinstance(verdict, Genuine):
            assert verdict == judged(SIGNED)

    @given(position=st.integers(0, 4000), flip=st.integers(1, 255))
    def test_one_spoilt_octet_of_a_certificate_is_refused_in_words(self, position: int, flip: int) -> None:
        der = bytearray(signer().certificate.public_bytes(Encoding.DER))
        der[position % len(der)] ^= flip
        verdict = judged(document(signer().wrong(certificates=[bytes(der)])))
        assert isinstance(verdict, Reason)

    @hostile
    @given(st.binary(max_size=200))
    def test_any_octets_are_signed_data_or_refused(self, content: bytes) -> None:
        for octets_ in (content, sequence(octets("06 09 2A864886F70D010702"), tlv("A0", sequence(content)))):
            with pytest.raises(SignedDataError):
                parse_signed_data(octets_)

    @given(position=st.integers(0, 4000), flip=st.integers(1, 255))
    def test_a_spoilt_authority_on_the_list_raises_what_a_list_may(self, position: int, flip: int) -> None:
        der = bytearray(country().certificate.public_bytes(Encoding.DER))
        der[position % len(der)] ^= flip
        try:
            certificate = x509.load_der_x509_certificate(bytes(der))
        except HOSTILE:
            return
        try:
            store = CountrySigners([certificate])
            public_key(certificate)
        except (CertificateError, KeyUnsupportedError):
            return
        assert isinstance(judge_document(document(), store, AT), Genuine | Reason)


SIGNED = document()
KNOWN = CountrySigners([country().certificate])
