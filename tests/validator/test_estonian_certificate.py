"""What Estonian certificates say of their holder: three generations of subjects, their policies, and hostile bytes."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator import estonian_cards
from tests.validator.authority import Authority, card_key
from tests.validator.estonian_cards import CODE, GIVEN, NCP_PLUS, SURNAME, Form
from validator.certificates import CertificateError, load_certificate
from validator.estonian_certificate import EstonianHolder, holder_of
from validator.model import DocumentType, KeyAlgorithm
from validator.personal_code import Sex, parse

POLICE, FOREIGN = "1.3.6.1.4.1.51361", "1.3.6.1.4.1.51455"
TYPES = {
    f"{POLICE}.1.1.1": DocumentType.CITIZEN,
    f"{POLICE}.1.1.2": DocumentType.EU_CITIZEN,
    f"{POLICE}.1.1.3": DocumentType.RESIDENT,
    f"{POLICE}.1.1.4": DocumentType.E_RESIDENT,
    f"{POLICE}.1.1.5": DocumentType.RESIDENT,
    f"{POLICE}.1.1.6": DocumentType.RESIDENT,
    f"{POLICE}.1.1.7": DocumentType.RESIDENT,
    f"{FOREIGN}.1.1.1": DocumentType.DIPLOMAT,
    f"{POLICE}.2.1.1": DocumentType.CITIZEN,
    f"{POLICE}.2.1.2": DocumentType.EU_CITIZEN,
    f"{POLICE}.2.1.3": DocumentType.RESIDENT,
    f"{POLICE}.2.1.4": DocumentType.RESIDENT,
    f"{POLICE}.2.1.5": DocumentType.RESIDENT,
    f"{POLICE}.2.1.6": DocumentType.E_RESIDENT,
    f"{FOREIGN}.2.1.1": DocumentType.DIPLOMAT,
    "1.3.6.1.4.1.10015.1.1": DocumentType.UNKNOWN,
    "1.3.6.1.4.1.10015.1.2": DocumentType.RESIDENT,
}
KEY = card_key(KeyAlgorithm.P384)
E_RESIDENT = "ESTEID (DIGI-ID E-RESIDENT)"


def read(
    authority: Authority, form: Form, *documents: str, name: x509.Name | None = None, more: tuple[str, ...] = ()
) -> EstonianHolder:
    der = estonian_cards.certificate(authority, KEY, form, documents=(*documents, *more), name=name)
    return holder_of(load_certificate(der))


def of_a_test_issuer(policy: str) -> str:
    """The same policy as the test issuers write it."""
    if ".10015." in policy:
        return policy.replace(".10015.1.", ".10015.3.")
    if policy.startswith((f"{POLICE}.1.1.", f"{FOREIGN}.1.1.")):
        return policy[:-3] + "2." + policy[-1]
    return f"2.999.{policy}"


class TestGood:
    @pytest.mark.parametrize("form", Form)
    def test_the_code_is_read_from_each_order_of_attributes(self, authority: Authority, form: Form) -> None:
        holder = read(authority, form, f"{POLICE}.1.1.1", NCP_PLUS)
        assert holder.personal_code == parse(CODE)
        assert (holder.personal_code.sex, holder.personal_code.born) == (Sex.FEMALE, dt.date(2199, 12, 24))

    @pytest.mark.parametrize(("policy", "kind"), TYPES.items())
    @pytest.mark.parametrize("first", [True, False])
    def test_each_policy_names_its_document(
        self, authority: Authority, policy: str, kind: DocumentType, *, first: bool
    ) -> None:
        both = (policy, NCP_PLUS) if first else (NCP_PLUS, policy)
        holder = read(authority, Form.OF_2018, *both)
        assert (holder.document_type, holder.test) == (kind, False)

    @pytest.mark.parametrize(("policy", "kind"), TYPES.items())
    def test_a_test_issuers_policy_is_told_from_it(self, authority: Authority, policy: str, kind: DocumentType) -> None:
        holder = read(authority, Form.OF_2025, NCP_PLUS, of_a_test_issuer(policy))
        assert (holder.document_type, holder.test) == (kind, True)

    @pytest.mark.parametrize("version", ["", ".3"])
    def test_an_e_resident_before_2018_is_named_by_the_organisation(self, authority: Authority, version: str) -> None:
        policy = f"1.3.6.1.4.1.10015.1.2{version}"
        name = estonian_cards.subject(Form.OF_2011, organisation=E_RESIDENT)
        assert read(authority, Form.OF_2011, policy, name=name).document_type is DocumentType.E_RESIDENT
        assert read(authority, Form.OF_2011, policy).document_type is DocumentType.RESIDENT

    @pytest.mark.parametrize(
        "documents",
        [
            (),
            (NCP_PLUS,),
            ("1.3.6.1.4.1.51361.1.1",),
            ("1.3.6.1.4.1.51361.1.1.8",),
            ("1.3.6.1.4.1.51361.1.1.11",),
            ("1.3.6.1.4.1.51361.2.1.0",),
            ("1.3.6.1.4.1.51361.2.1.7",),
            ("1.3.6.1.4.1.51361.1.1.1.1",),
            ("1.3.6.1.4.1.10015.1.3",),
            ("1.3.6.1.4.1.10015.1.20",),
            ("2.5.29.32.0",),
            (f"{POLICE}.1.1.1", f"{POLICE}.1.1.4"),
            (f"{POLICE}.1.1.1", f"{POLICE}.2.1.6"),
            (f"{POLICE}.1.1.1", f"2.999.{POLICE}.2.1.6"),
            ("1.3.6.1.4.1.10015.1.1", "1.3.6.1.4.1.10015.1.2"),
        ],
    )
    def test_no_policy_another_or_two_that_differ_are_an_unknown_document(
        self, authority: Authority, documents: tuple[str, ...]
    ) -> None:
        assert read(authority, Form.OF_2018, *documents).document_type is DocumentType.UNKNOWN

    def test_two_policies_that_agree_name_one_document(self, authority: Authority) -> None:
        holder = read(authority, Form.OF_2018, f"{POLICE}.1.1.4", f"{POLICE}.2.1.6")
        assert holder.document_type is DocumentType.E_RESIDENT


class TestWrong:
    @pytest.mark.parametrize(
        ("number", "why"),
        [
            ("", "11 digits"),
            ("PNOEE-", "11 digits"),
            (f"PNOLV-{CODE}", "11 digits"),
            (f"PASEE-{CODE}", "11 digits"),
            (f"pnoee-{CODE}", "11 digits"),
            (f"PNOEE-PNOEE-{CODE}", "11 digits"),
            (f"PNOEE-{CODE} ", "11 digits"),
            ("PNOEE-89912240009", "check digit"),
            ("PNOEE-09912240009", "1 to 8"),
        ],
    )
    def test_another_serial_number_is_no_code(self, authority: Authority, number: str, why: str) -> None:
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, f"{SURNAME},{GIVEN},{CODE}")]
        if number:
            attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, number))
            expected = why
        else:
            expected = "0 serial numbers"
        with pytest.raises(CertificateError, match=expected) as caught:
            read(authority, Form.OF_2018, name=x509.Name(attributes))
        assert not any(text in str(caught.value) for text in (CODE, SURNAME, "PNO", "9912240"))

    def test_two_serial_numbers_are_refused(self, authority: Authority) -> None:
        one = list(estonian_cards.subject(Form.OF_2018))
        name = x509.Name([*one, x509.NameAttribute(NameOID.SERIAL_NUMBER, f"PNOEE-{CODE}")])
        with pytest.raises(CertificateError, match="2 serial numbers"):
            read(authority, Form.OF_2018, name=name)

    def test_the_common_name_is_never_split(self, authority: Authority) -> None:
        """A comma and a serialNumber in a name are letters of the name."""
        sly = "A,serialNumber=PNOEE-38001085718,CN=B"
        attributes = [
            x509.NameAttribute(NameOID.SURNAME, sly),
            x509.NameAttribute(NameOID.COMMON_NAME, sly),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"PNOEE-{CODE}"),
        ]
        assert read(authority, Form.OF_2018, name=x509.Name(attributes)).personal_code.digits == CODE

    def test_a_holder_does_not_print_the_code(self, authority: Authority) -> None:
        holder = read(authority, Form.OF_2018, f"{POLICE}.1.1.1")
        assert CODE not in repr(holder)
        assert "document_type" in repr(holder)


class TestHostile:
    @pytest.fixture(scope="class")
    @staticmethod
    def good(authority: Authority) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        return estonian_cards.certificate(authority, key, Form.OF_2025, documents=(NCP_PLUS, f"{POLICE}.2.1.1"))

    @hostile
    @given(spoilt=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 255)), min_size=1, max_size=6))
    def test_spoilt_octets_end_in_a_holder_or_a_certificate_error(
        self, good: bytes, spoilt: list[tuple[int, int]]
    ) -> None:
        octets = bytearray(good)
        for position, flip in spoilt:
            octets[position % len(octets)] ^= flip
        said = ""
        try:
            holder_of(load_certificate(bytes(octets)))
        except CertificateError as error:
            said = str(error)
        assert CODE not in said

    @hostile
    @given(st.binary(max_size=64))
    def test_policies_that_are_no_policies(self, value: bytes) -> None:
        own = Authority.root()
        odd = x509.UnrecognizedExtension(x509.CertificatePolicies.oid, value)
        der = own.issue(own.key, subject=estonian_cards.subject(Form.OF_2018), extensions=[(odd, False)])
        try:
            assert holder_of(load_certificate(der)).document_type is DocumentType.UNKNOWN
        except CertificateError:
            return

    def test_a_country_of_thirteen_letters(self, good: bytes) -> None:
        """One octet makes another attribute a country's name, of which X.520 allows two letters (found by fuzzing)."""
        surname, country = bytes.fromhex("0603550404"), bytes.fromhex("0603550406")
        assert good.count(surname) == 1
        with pytest.raises(CertificateError, match="UserWarning"):
            holder_of(load_certificate(good.replace(surname, country)))

    @pytest.mark.parametrize("octets", [b"\xff\xfe", b"89912240008\xff"])
    def test_a_serial_number_that_is_not_of_its_type(self, good: bytes, octets: bytes) -> None:
        """The attribute's octets are replaced in place by others of the same length."""
        number = f"PNOEE-{CODE}".encode()
        assert good.count(number) == 1
        spoilt = good.replace(number, octets.ljust(len(number), b"\xff"))
        with pytest.raises(CertificateError):
            holder_of(load_certificate(spoilt))
