"""The format of the trust list: what is written is what is read, and whoever is no issuer is named."""

import datetime as dt
import hashlib
import random

import msgpack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.validator.authority import FOR_CARDS, NOW, Authority, card_key, for_issuers, usage
from tests.validator.list_making import CONTENT_SIGNING, content_signer, for_signing
from validator.certificates import spki_of, validity
from validator.lists.content_signer import is_content_signer
from validator.lists.errors import ListError
from validator.lists.trust_list import encode_trust_list, parse_trust_list
from validator.model import KeyAlgorithm

REFERENCES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=16)
ACME = "ACMETRANSIT00001"
IDENTIFIER = bytes(range(20))


def p256(number: int) -> ec.EllipticCurvePublicKey:
    key = card_key(KeyAlgorithm.P256, number).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


@pytest.fixture(scope="module")
def signers() -> list[x509.Certificate]:
    p384 = card_key(KeyAlgorithm.P384)
    assert isinstance(p384, ec.EllipticCurvePrivateKey)
    return [
        content_signer("One", hashlib.sha1(b"1").digest()),
        content_signer("Two", hashlib.sha256(b"2").digest(), p384),
        content_signer("Three", b"8 bytes."),
    ]


class TestX509Issuers:
    def test_order_and_repetition_do_not_matter(self) -> None:
        one, two = Authority.root("One").certificate, Authority.root("Two").certificate
        payload = encode_trust_list([one, two, one], [two])
        assert payload == encode_trust_list([two, one], [two, two])
        parsed = parse_trust_list(payload)
        assert (set(parsed.anchors), parsed.intermediates) == ({one, two}, (two,))

    def test_a_card_among_the_issuers_is_named(self, authority: Authority) -> None:
        no_issuer = Authority.root(extensions=FOR_CARDS).certificate
        with pytest.raises(ListError, match="intermediate 0 has no basic constraints"):
            parse_trust_list(encode_trust_list([authority.certificate], [no_issuer]))

    @pytest.mark.parametrize("extensions", [for_issuers()[:1], for_issuers()[1:]])
    def test_an_issuer_needs_constraints_and_usage(self, extensions: tuple[tuple[object, bool], ...]) -> None:
        root = Authority.root(extensions=extensions)  # type: ignore[arg-type]  # one test for fields of several types
        with pytest.raises(ListError, match="anchor 0 has no basic constraints or no key usage"):
            parse_trust_list(encode_trust_list([root.certificate], []))

    def test_an_expired_issuer_may_be_listed(self) -> None:
        assert parse_trust_list(encode_trust_list([Authority.root(until=NOW).certificate], [])).anchors

    @given(junk=st.binary(max_size=60), position=st.integers(0, 600), flip=st.integers(1, 255))
    def test_nothing_but_a_list_error(self, authority: Authority, junk: bytes, position: int, flip: int) -> None:
        good = encode_trust_list([authority.certificate], [])
        spoilt = bytearray(good)
        spoilt[position % len(good)] ^= flip
        der = authority.certificate.public_bytes(Encoding.DER)
        for payload in (junk, bytes(spoilt), msgpack.packb([1, [der[:-1]], []]), msgpack.packb([1, [junk], []])):
            try:
                parse_trust_list(payload)
            except ListError:
                continue
            assert payload == bytes(spoilt)  # a changed name or signature: for the chain to find out


class TestEverybody:
    @settings(max_examples=40)
    @given(
        references=st.dictionaries(REFERENCES, st.integers(0, 7), max_size=6),
        listed=st.lists(st.integers(0, 2), max_size=5),
        anchored=st.booleans(),
        order=st.randoms(use_true_random=False),
    )
    def test_what_is_written_is_what_is_read_in_any_order(
        self,
        authority: Authority,
        signers: list[x509.Certificate],
        *,
        references: dict[str, int],
        listed: list[int],
        anchored: bool,
        order: random.Random,
    ) -> None:
        anchors = [authority.certificate] if anchored else []
        keys = {reference: p256(number) for reference, number in references.items()}
        shown = [signers[index] for index in listed]
        payload = encode_trust_list(anchors, [], keys, shown)
        turned = list(keys.items())
        order.shuffle(turned)
        order.shuffle(shown)
        assert encode_trust_list(anchors * 2, [], dict(turned), shown) == payload
        parsed = parse_trust_list(payload)
        assert parsed.anchors == tuple(anchors)
        assert parsed.pkoc_issuers == {reference.encode(): key for reference, key in keys.items()}
        assert {signer.name for signer in parsed.sm_signers.values()} == {one.subject.rfc4514_string() for one in shown}
        for identifier, signer in parsed.sm_signers.items():
            assert identifier == signer.identifier
            assert len(identifier) == 8

    @given(junk=st.binary(max_size=60), position=st.integers(0, 4000), flip=st.integers(1, 255))
    def test_nothing_but_a_list_error(
        self, authority: Authority, signers: list[x509.Certificate], junk: bytes, position: int, flip: int
    ) -> None:
        spoilt = bytearray(encode_trust_list([authority.certificate], [], {ACME: p256(0)}, signers))
        spoilt[position % len(spoilt)] ^= flip
        hostile = [
            [1, [], [], [[ACME.encode(), junk]]],
            [1, [], [], [[junk, spki_of(p256(0))]]],
            [1, [], [], [], [junk]],
        ]
        for payload in map(msgpack.packb, hostile):
            with pytest.raises(ListError):
                parse_trust_list(payload)
        try:
            parsed = parse_trust_list(bytes(spoilt))
        except ListError:
            return
        assert parsed.anchors  # a changed name, reference or signature: what the manifest's hash is for

    def test_a_list_from_before_there_were_other_issuers(self, authority: Authority) -> None:
        der = authority.certificate.public_bytes(Encoding.DER)
        parsed = parse_trust_list(msgpack.packb([1, [der], []]))
        assert (parsed.anchors, parsed.pkoc_issuers, parsed.sm_signers) == ((authority.certificate,), {}, {})

    def test_intermediates_lead_to_an_anchor(self, authority: Authority) -> None:
        with pytest.raises(ListError, match="intermediates and no anchor"):
            parse_trust_list(encode_trust_list([], [authority.certificate], {ACME: p256(0)}))

    def test_a_gate_asks_by_reference_and_by_identifier(
        self, authority: Authority, signers: list[x509.Certificate]
    ) -> None:
        payload = encode_trust_list([authority.certificate], [], {ACME: p256(0)}, signers)
        store = parse_trust_list(payload).store(7)
        assert store.version == 7
        assert store.pkoc_issuer(ACME.encode()) == p256(0)
        assert store.pkoc_issuer(b"ACMETRANSIT00002") is None
        for identifier, certificate in ((b"8 bytes.", signers[2]), (hashlib.sha1(b"1").digest()[:8], signers[0])):
            found = store.sm_signer(identifier)
            assert found is not None
            assert found.key == certificate.public_key()
            assert (found.not_before, found.not_after) == validity(certificate)
        assert store.sm_signer(bytes(8)) is None


class TestPkocIssuers:
    @pytest.mark.parametrize(
        "reference",
        ["", "ACMETRANSIT0001", "ACMETRANSIT000001", "acmetransit00001", "ACME TRANSIT 001", "ACMETRANSIT0000É"],
    )
    def test_a_reference_is_sixteen_capitals_and_digits(self, reference: str) -> None:
        with pytest.raises(ListError, match="a reference has 16 characters"):
            parse_trust_list(encode_trust_list([], [], {reference: p256(0)}))

    @pytest.mark.parametrize("kind", [KeyAlgorithm.P384, KeyAlgorithm.RSA2048])
    def test_a_key_of_another_kind_is_named(self, kind: KeyAlgorithm) -> None:
        with pytest.raises(ListError, match=f"PKOC issuer {ACME} has no P-256 key"):
            parse_trust_list(encode_trust_list([], [], {ACME: card_key(kind).public_key()}))

    def test_a_reference_names_one_key(self) -> None:
        pairs = [[ACME.encode(), spki_of(p256(number))] for number in (0, 1)]
        with pytest.raises(ListError, match=f"PKOC issuer {ACME} is there twice"):
            parse_trust_list(msgpack.packb([1, [], [], pairs]))

    def test_a_key_has_one_encoding(self) -> None:
        compressed = p256(0).public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        spki = bytes.fromhex("3039301306072A8648CE3D020106082A8648CE3D030107032200") + compressed
        with pytest.raises(ListError, match=f"PKOC issuer {ACME}: a key in another encoding"):
            parse_trust_list(msgpack.packb([1, [], [], [[ACME.encode(), spki]]]))


class TestContentSigners:
    @staticmethod
    def refusal(*certificates: x509.Certificate) -> str:
        with pytest.raises(ListError) as caught:
            parse_trust_list(encode_trust_list([], [], sm_signers=certificates))
        return caught.value.why

    def test_two_that_no_card_can_tell_apart(self) -> None:
        one, two = (content_signer(name, IDENTIFIER[:8] + name.encode()) for name in ("First", "Second"))
        why = self.refusal(one, two)
        assert "CN=First" in why
        assert "CN=Second" in why
        assert "0001020304050607" in why

    def test_a_short_identifier(self) -> None:
        assert "CN=Short has a subject key identifier of 7 bytes" in self.refusal(content_signer("Short", bytes(7)))

    def test_another_purpose(self) -> None:
        card = Authority.root(
            "Card", extensions=[*FOR_CARDS, (x509.SubjectKeyIdentifier(IDENTIFIER), False)]
        ).certificate
        assert "CN=Card is not for PIV content signing" in self.refusal(card)
        assert not is_content_signer(card)

    def test_an_issuer_of_cards(self, authority: Authority) -> None:
        assert "is not for PIV content signing" in self.refusal(authority.certificate)
        both = Authority.root(
            "Both",
            extensions=[
                *for_issuers()[:1],
                (usage(sign=True), True),
                (x509.ExtendedKeyUsage([CONTENT_SIGNING]), False),
                (x509.SubjectKeyIdentifier(IDENTIFIER), False),
            ],
        )
        assert "CN=Both is a certificate authority" in self.refusal(both.certificate)

    @pytest.mark.parametrize("left_out", [1, 2])
    def test_usage_and_identifier_are_needed(self, left_out: int) -> None:
        extensions = [one for number, one in enumerate(for_signing(IDENTIFIER)) if number != left_out]
        lacking = Authority.root("Lacking", extensions=extensions).certificate
        assert "CN=Lacking has no key usage or no subject key identifier" in self.refusal(lacking)
        assert is_content_signer(lacking)

    def test_a_usage_without_signatures(self) -> None:
        extensions = [for_signing(IDENTIFIER)[0], (usage(), True), for_signing(IDENTIFIER)[2]]
        assert "CN=Mute may not sign" in self.refusal(Authority.root("Mute", extensions=extensions).certificate)

    def test_an_rsa_key(self) -> None:
        key = card_key(KeyAlgorithm.RSA2048)
        signer = Authority.root("RSA", extensions=for_signing(IDENTIFIER), key=key).certificate
        assert "CN=RSA has no P-256 or P-384 key" in self.refusal(signer)

    def test_a_restriction_that_nobody_here_honours(self) -> None:
        policies = x509.CertificatePolicies([x509.PolicyInformation(CONTENT_SIGNING, None)])
        signer = Authority.root("Strict", extensions=[*for_signing(IDENTIFIER), (policies, True)]).certificate
        assert "CN=Strict has critical certificatePolicies" in self.refusal(signer)

    def test_its_dates_are_kept_and_judged_by_others(self) -> None:
        signer = Authority.root(
            "Old", extensions=for_signing(IDENTIFIER), since=NOW - dt.timedelta(days=9), until=NOW
        ).certificate
        (parsed,) = parse_trust_list(encode_trust_list([], [], sm_signers=[signer])).sm_signers.values()
        assert (parsed.name, parsed.not_after - parsed.not_before) == ("CN=Old", 9 * 24 * 3600)
        assert parsed.not_after == int(NOW.timestamp())
