"""JPKI certificates: the generation is picked by its key, never by its name; one for signatures is refused."""

from collections.abc import Iterable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.authority import DAY, NOW, SINCE, UNTIL, Extension, seconds, usage
from tests.validator.mynumber_cards import (
    AUTHENTICATION_POLICY,
    CARD,
    FOR_AUTHENTICATION,
    STRANGER,
    Generation,
    der_of,
    generation,
    policies,
    rsa_key,
)
from validator import jpki_certificate
from validator.certificates import CertificateError, KeyUnsupportedError, credential_id, spki_of
from validator.chains import IDENTITY_CARD, Chain, Issuers, UntrustedIssuerError, WrongKeyUsageError
from validator.jpki_certificate import JpkiCertificate, JpkiIssuers

ALL = [generation(number).certificate for number in (1, 2, 3)]
AT = seconds(NOW)


def search(certificate: x509.Certificate, authorities: Iterable[x509.Certificate], at_s: int = AT) -> Chain:
    return JpkiIssuers(authorities).chain(certificate, at_s)


def key_usage(*, commitment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=commitment,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


class TestRead:
    def test_a_card_is_named_by_its_key(self) -> None:
        found = jpki_certificate.read(der_of(generation(2).issue(CARD())))
        spki = spki_of(CARD().public_key())
        identifier = x509.SubjectKeyIdentifier.from_public_key(generation(2).key.public_key()).digest
        assert found == JpkiCertificate(spki, "6D18006", identifier, seconds(SINCE + DAY), seconds(UNTIL - DAY))
        assert found.credential_id == credential_id(spki)

    def test_the_name_of_the_card_outlives_its_certificate(self) -> None:
        """The same key under another generation is the same card; the serial number plays no part."""
        one, other = (jpki_certificate.read(der_of(generation(number).issue(CARD()))) for number in (1, 2))
        assert one.authority != other.authority
        assert one.credential_id == other.credential_id

    @pytest.mark.parametrize(
        "key",
        [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072)],
        ids=["P-256", "RSA-3072"],
    )
    def test_a_key_of_another_kind(self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        with pytest.raises(KeyUnsupportedError):
            jpki_certificate.read(der_of(generation(2).issue(key)))

    def test_a_certificate_that_does_not_say_who_signed_it(self) -> None:
        with pytest.raises(CertificateError, match="which key signed"):
            jpki_certificate.read(der_of(generation(2).issue(CARD(), identified=False)))

    @hostile
    @given(octets=st.binary(max_size=600))
    def test_any_bytes_end_in_one_error(self, octets: bytes) -> None:
        with pytest.raises(CertificateError):
            jpki_certificate.read(octets)

    @given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
    def test_one_flipped_byte_never_vouches_for_anything_else(self, position: int, flip: int) -> None:
        """What is not signed, the unused bits of the signature, may read otherwise; what is signed may not."""
        good = der_of(generation(2).issue(CARD()))
        octets = bytearray(good)
        octets[position % len(octets)] ^= flip
        try:
            found = jpki_certificate.read(bytes(octets))
            search(x509.load_der_x509_certificate(bytes(octets)), ALL)
        except (CertificateError, UntrustedIssuerError):
            return
        assert found == jpki_certificate.read(good)


class TestGenerations:
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_each_is_found_among_all(self, number: int) -> None:
        assert len({certificate.subject for certificate in ALL}) == 1
        issuer = generation(number)
        found = search(issuer.issue(CARD()), ALL)
        assert found == Chain(
            credential_id(spki_of(issuer.key.public_key())), seconds(SINCE + DAY), seconds(UNTIL - DAY)
        )

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_the_other_generations_will_not_do(self, number: int) -> None:
        others = [generation(other).certificate for other in (1, 2, 3) if other != number]
        with pytest.raises(UntrustedIssuerError):
            search(generation(number).issue(CARD()), others)

    def test_a_foreign_signature_under_the_identifier_of_a_trusted_key(self) -> None:
        forged = generation(2).issue(CARD(), signer=STRANGER())
        with pytest.raises(UntrustedIssuerError):
            search(forged, ALL)

    def test_a_true_signature_under_another_identifier(self) -> None:
        other = generation(2).issue(CARD(), authority=generation(1).key.public_key())
        with pytest.raises(UntrustedIssuerError):
            search(other, ALL)

    def test_without_an_identifier_nothing_is_picked(self) -> None:
        with pytest.raises(UntrustedIssuerError):
            search(generation(2).issue(CARD(), identified=False), ALL)

    def test_an_authority_that_is_out_of_date_ends_the_window(self) -> None:
        short = Generation.make(rsa_key(54), since=SINCE, until=UNTIL - 2 * DAY)
        found = search(short.issue(CARD()), [*ALL, short.certificate])
        assert (found.not_before, found.not_after) == (seconds(SINCE + DAY), seconds(UNTIL - 2 * DAY))

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("years", [0, 1])
    def test_of_two_certificates_of_one_authority_the_valid_one_counts(self, first: int, years: int) -> None:
        half = SINCE + (UNTIL - SINCE) / 2
        both = [Generation.make(rsa_key(54), until=half), Generation.make(rsa_key(54), since=half)]
        at_s = seconds(SINCE if years == 0 else UNTIL) + (1 - 2 * years) * 2 * 86_400
        ordered = [both[first].certificate, both[1 - first].certificate]
        found = search(both[0].issue(CARD()), ordered, at_s)
        assert found.not_before <= at_s <= found.not_after

    @pytest.mark.parametrize(
        "extensions",
        [
            ((usage(certify=True), True),),
            ((x509.BasicConstraints(ca=False, path_length=None), True), (usage(certify=True), True)),
            ((x509.BasicConstraints(ca=True, path_length=None), True), (usage(sign=True), True)),
            ((x509.BasicConstraints(ca=True, path_length=None), True),),
            (
                (x509.BasicConstraints(ca=True, path_length=None), True),
                (usage(certify=True), True),
                (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),
            ),
        ],
        ids=["no constraints", "no authority", "may not certify", "no usage", "unknown critical"],
    )
    def test_a_trusted_certificate_that_is_no_authoritys(self, extensions: tuple[Extension, ...]) -> None:
        odd = Generation.make(rsa_key(55), extensions=extensions)
        with pytest.raises(UntrustedIssuerError):
            search(odd.issue(CARD()), [odd.certificate])


class TestPurpose:
    @pytest.mark.parametrize(
        "extensions",
        [
            (),
            ((usage(certify=True), True),),
            ((key_usage(commitment=True), True),),
            ((usage(sign=True), True), (policies("1.2.392.200149.8.5.1.1.20"), True)),
            ((usage(sign=True), True), (policies(AUTHENTICATION_POLICY, "1.2.392.200149.8.5.1.1.10"), True)),
            ((usage(sign=True), True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)),
            ((usage(sign=True), True), (x509.BasicConstraints(ca=True, path_length=None), True)),
        ],
        ids=[
            "no usage",
            "authority",
            "commits its holder",
            "for signatures",
            "for both",
            "for servers",
            "an authority",
        ],
    )
    def test_another_purpose(self, extensions: tuple[Extension, ...]) -> None:
        with pytest.raises(WrongKeyUsageError):
            search(generation(2).issue(CARD(), extensions=extensions), ALL)

    @pytest.mark.parametrize(
        "extensions",
        [
            FOR_AUTHENTICATION,
            FOR_AUTHENTICATION[:1],
            ((key_usage(commitment=False), True), (x509.BasicConstraints(ca=False, path_length=None), True)),
        ],
    )
    def test_the_right_one(self, extensions: tuple[Extension, ...]) -> None:
        search(generation(2).issue(CARD(), extensions=extensions), ALL)

    def test_the_general_search_does_not_account_for_critical_policies(self) -> None:
        """Why there is a search of its own; should this ever fail, it may go."""
        general = Issuers(ALL, [], IDENTITY_CARD)
        card = generation(2)
        assert general.chain(card.issue(CARD(), extensions=FOR_AUTHENTICATION[:2]), AT).issuer_id
        with pytest.raises(UntrustedIssuerError):
            general.chain(card.issue(CARD()), AT)

    def test_a_critical_extension_that_nobody_here_knows(self) -> None:
        unknown = (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
        with pytest.raises(UntrustedIssuerError):
            search(generation(2).issue(CARD(), extensions=(*FOR_AUTHENTICATION, unknown)), ALL)
