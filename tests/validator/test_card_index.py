"""The number of a card: what was put into a name is what is read from it, by every family that carries one."""

import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from tests.validator.authority import FOR_CARDS, NOW, Authority, card_key, seconds
from tests.validator.judging import instant, nobody_enrolled
from validator import piv_cvc, pkoc_cvc, vouching
from validator.card_index import MAX_INDEX, NAME_BYTES, TOKENS, card_name, index_in, index_of
from validator.certificates import credential_id, load_certificate, spki_of
from validator.model import Credential, KeyAlgorithm, KnownCard
from validator.proof import CardToken, Certificate, PivCvc, PkocCvc, Shown
from validator.trust_store import Signer, TrustStore

ACME = b"ACMETRANSIT00001"
INDICES = st.integers(0, MAX_INDEX)
RANDOM = st.binary(min_size=NAME_BYTES, max_size=NAME_BYTES)


class TestLaw:
    @given(INDICES, RANDOM)
    def test_the_number_comes_back_and_the_name_is_a_uuid_of_version_8(self, index: int, random: bytes) -> None:
        name = card_name(index, random)
        assert index_of(name) == index
        assert (uuid.UUID(bytes=name).version, uuid.UUID(bytes=name).variant) == (8, uuid.RFC_4122)

    @given(INDICES, RANDOM, RANDOM)
    def test_74_bits_are_left_to_chance(self, index: int, one: bytes, other: bytes) -> None:
        mask = int.from_bytes(card_name(0, b"\xff" * 16)) ^ int.from_bytes(card_name(0, bytes(16)))
        assert mask.bit_count() == 74
        same = int.from_bytes(one) & mask == int.from_bytes(other) & mask
        assert (card_name(index, one) == card_name(index, other)) is same

    @hostile
    @given(st.binary(max_size=20))
    def test_any_octets_have_a_number_or_none(self, octets: bytes) -> None:
        found = index_of(octets)
        assert found is None or card_name(found, octets) == octets


@pytest.mark.parametrize("index", [-1, MAX_INDEX + 1])
def test_a_number_that_cannot_be(index: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        card_name(index, bytes(16))


def test_too_little_chance() -> None:
    with pytest.raises(ValueError, match="15 random octets"):
        card_name(1, bytes(15))


def alternative(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])


NUMBERED = uuid.UUID(bytes=card_name(77, bytes(range(16))))


@pytest.mark.parametrize(
    ("names", "index"),
    [
        ((NUMBERED.urn,), 77),
        (("https://example.org", NUMBERED.urn), 77),
        ((uuid.UUID(int=5).urn,), None),
        ((NUMBERED.urn, NUMBERED.urn), None),  # which of them would it be?
        (("urn:uuid:nothing",), None),
        (("urn:oid:1.2.3",), None),
    ],
)
def test_in_a_certificate(names: tuple[str, ...], index: int | None) -> None:
    key = card_key(KeyAlgorithm.P256)
    der = Authority.root().issue(key, extensions=[(alternative(*names), False)])
    assert index_in(load_certificate(der)) == index


def test_in_a_certificate_without_names() -> None:
    assert index_in(load_certificate(Authority.root().issue(card_key(KeyAlgorithm.P256)))) is None


class TestWhatADenyListIsAskedBy:
    """Each family's card, as an issuer of its own numbered it."""

    @staticmethod
    def asked(shown: Shown, store: TrustStore) -> Credential:
        found = vouching.vouch(shown, vouching.Authorities(store, nobody_enrolled), instant())
        assert isinstance(found, vouching.Vouched)
        return found.credential

    def test_a_piv_card(self) -> None:
        root, key = Authority.root(), card_key(KeyAlgorithm.P256)
        der = root.issue(key, extensions=[*FOR_CARDS, (alternative(NUMBERED.urn), False)])
        issued_s = int(load_certificate(der).not_valid_before_utc.timestamp())
        asked = self.asked(Certificate(der), TrustStore(1, [root.certificate]))
        issuer = credential_id(spki_of(root.key.public_key()))
        assert asked == Credential(credential_id(spki_of(key.public_key())), issuer, issued_s, 77)

    def test_a_pkoc_card(self) -> None:
        signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        octets = pkoc_cvc.issue(
            signer,
            issuer=ACME,
            subject=NUMBERED.bytes,
            key=key.public_key(),
            first_day=NOW.date(),
            last_day=NOW.date(),
        )
        asked = self.asked(PkocCvc(octets), TrustStore(1, [], pkoc_issuers={ACME: signer.public_key()}))
        midnight_s = seconds(NOW.replace(hour=0, minute=0, second=0, microsecond=0))
        issuer = credential_id(spki_of(signer.public_key()))
        assert asked == Credential(credential_id(spki_of(key.public_key())), issuer, midnight_s, 77)

    def test_a_card_of_piv_secure_messaging(self) -> None:
        signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        octets = piv_cvc.issue(issuer=bytes(8), guid=NUMBERED.bytes, key=key.public_key(), signer=signer)
        known = Signer(signer.public_key(), seconds(NOW) - 5, seconds(NOW) + 5)
        asked = self.asked(PivCvc(octets), TrustStore(1, [], sm_signers={bytes(8): known}))
        issuer = credential_id(spki_of(signer.public_key()))
        assert asked == Credential(credential_id(spki_of(key.public_key())), issuer, 0, 77)

    def test_a_token(self) -> None:
        asked = self.asked(CardToken("ntag424", bytes(7), NUMBERED.bytes), TrustStore(1, []))
        assert (asked.issuer_id, asked.index) == (TOKENS, 77)

    def test_a_token_without_a_number(self) -> None:
        asked = self.asked(CardToken("ntag424", bytes(7), bytes(16)), TrustStore(1, []))
        assert (asked.issuer_id, asked.index) == (b"", None)

    @given(st.one_of(st.none(), INDICES))
    def test_a_known_card_is_asked_about_as_it_was(self, index: int | None) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        spki = spki_of(key)
        known = KnownCard(credential_id(spki), KeyAlgorithm.P256, spki, 5, 9, bytes(16), 1, issued_s=6, index=index)
        assert self.asked(known, TrustStore(1, [])) == Credential(credential_id(spki), bytes(16), 6, index)
