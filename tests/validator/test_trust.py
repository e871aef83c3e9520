"""Trust, what does not change from tap to tap: possession, issuer, purpose, key; each on a miss and on a hit."""

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.authority import (
    CARD_AUTHENTICATION,
    CLIENT_AUTHENTICATION,
    DAY,
    FOR_CARDS,
    NOW,
    SINCE,
    UNTIL,
    Authority,
    Extension,
    card_key,
    for_issuers,
    seconds,
    usage,
)
from tests.validator.judging import (
    MESSAGE,
    again,
    believed,
    evidenced,
    instant,
    judge,
    kept,
    nobody,
    prove,
    reason_of,
    sign,
)
from validator.certificates import credential_id, spki_of
from validator.model import (
    Assurance,
    KeyAlgorithm,
    Reason,
    Refusal,
)
from validator.trust_store import TrustStore

ALL = pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
BOTH_WAYS = pytest.mark.parametrize("hit", [False, True], ids=["miss", "hit"])


@pytest.fixture(scope="module")
def store(authority: Authority) -> TrustStore:
    return TrustStore(7, [authority.certificate])


class TestBelieved:
    @ALL
    def test_a_strangers_card_is_known_afterwards(
        self, authority: Authority, store: TrustStore, algorithm: KeyAlgorithm
    ) -> None:
        key = card_key(algorithm)
        proof = prove(authority.issue(key), algorithm)
        identity = believed(judge(proof, store, nobody, instant()))
        spki = spki_of(key.public_key())
        assert identity.credential_id == credential_id(spki) == kept(identity).credential_id
        assert (identity.profile, identity.assurance, identity.cached, identity.early) == (
            "piv",
            Assurance.CHIP,
            False,
            False,
        )
        assert (kept(identity).algorithm, kept(identity).spki, kept(identity).trust_version) == (algorithm, spki, 7)
        assert (kept(identity).not_before, kept(identity).not_after) == (seconds(SINCE), seconds(UNTIL))
        assert kept(identity).issuer_id == credential_id(spki_of(authority.certificate_key))
        at_once = believed(judge(again(proof, store), store, nobody, instant()))
        assert at_once == replace(identity, cached=True)

    def test_through_an_intermediate(self, authority: Authority) -> None:
        middle = authority.subordinate("Middle", until=NOW + DAY)
        proof = prove(middle.issue(card_key(KeyAlgorithm.P256)))
        assert reason_of(proof, TrustStore(1, [authority.certificate])) is Reason.UNTRUSTED_ISSUER
        store = TrustStore(1, [authority.certificate], [middle.certificate])
        identity = believed(judge(proof, store, nobody, instant()))
        assert kept(identity).issuer_id == credential_id(spki_of(middle.certificate_key))
        assert kept(identity).not_after == seconds(NOW + DAY)  # the chain ends with its first link

    def test_a_certificate_as_short_as_can_be(self, authority: Authority, store: TrustStore) -> None:
        certificate = authority.issue(card_key(KeyAlgorithm.P256), subject=x509.Name([]))
        assert reason_of(prove(certificate), store) is None

    def test_a_federal_set_of_extensions(self, authority: Authority, store: TrustStore) -> None:
        """Policies, locations, key identifiers, a FASC-N and a card UUID as subject alternative names."""
        key = card_key(KeyAlgorithm.RSA2048)
        fasc_n = x509.OtherName(ObjectIdentifier("2.16.840.1.101.3.6.6"), b"\x04\x02\x00\x00")
        card_uuid = x509.UniformResourceIdentifier("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
        more: list[Extension] = [
            (x509.SubjectAlternativeName([fasc_n, card_uuid]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.certificate_key), False),
            (
                x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier("2.16.840.1.101.3.2.1.3.17"), None)]),
                False,
            ),
            (
                x509.AuthorityInformationAccess(
                    [x509.AccessDescription(AuthorityInformationAccessOID.OCSP, card_uuid)]
                ),
                False,
            ),
        ]
        proof = prove(authority.issue(key, extensions=(*FOR_CARDS, *more)), KeyAlgorithm.RSA2048)
        assert reason_of(proof, store) is None


class TestPossession:
    @ALL
    @BOTH_WAYS
    def test_a_clone_has_the_certificate_but_not_the_key(
        self, authority: Authority, store: TrustStore, algorithm: KeyAlgorithm, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(algorithm)), algorithm)
        if hit:
            proof = again(proof, store)
        forged = evidenced(proof, signature=sign(card_key(algorithm, 1)))
        assert judge(forged, store, nobody, instant()) == Refusal(Reason.WRONG_SIGNATURE, "piv")
        assert reason_of(proof, store) is None

    def test_a_refusal_names_a_credential_only_when_its_key_is_there(
        self, authority: Authority, store: TrustStore
    ) -> None:
        """Nobody can have a credential written into the journal by showing a copy of its certificate."""
        key = card_key(KeyAlgorithm.P256)
        mine = credential_id(spki_of(key.public_key()))
        good = authority.issue(key)
        stranger = Authority.root("Stranger").issue(key)
        for proof, at_store, reason in (
            (prove(good), TrustStore(8, [Authority.root("Other").certificate]), Reason.UNTRUSTED_ISSUER),
            (prove(stranger), store, Reason.UNTRUSTED_ISSUER),
            (prove(authority.issue(key, extensions=())), store, Reason.WRONG_KEY_USAGE),
            (prove(authority.issue(key, until=NOW - DAY)), store, Reason.CERTIFICATE_EXPIRED),
        ):
            assert judge(proof, at_store, nobody, instant()) == Refusal(reason, "piv", mine)
            copied = evidenced(proof, signature=sign(card_key(KeyAlgorithm.P256, 1)))
            assert judge(copied, at_store, nobody, instant()) == Refusal(Reason.WRONG_SIGNATURE, "piv")
        other_list = TrustStore(8, [authority.certificate])
        assert judge(again(prove(good), store), other_list, nobody, instant()) == Refusal(Reason.PRESENT_AGAIN, "piv")

    @ALL
    @BOTH_WAYS
    def test_a_signature_over_another_challenge_is_worthless(
        self, authority: Authority, store: TrustStore, algorithm: KeyAlgorithm, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(algorithm)), algorithm)
        if hit:
            proof = again(proof, store)
        assert reason_of(evidenced(proof, challenge=MESSAGE + b"!"), store) is Reason.WRONG_SIGNATURE

    @BOTH_WAYS
    def test_the_algorithm_asked_for_is_that_of_the_key(
        self, authority: Authority, store: TrustStore, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256)))
        if hit:
            proof = again(proof, store)
        assert reason_of(evidenced(proof, algorithm=KeyAlgorithm.P384), store) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize("filler", [b"\xff" * 202, b"\xff" * 8 + b"\x00" + b"\xff" * 193])
    def test_padding_is_verified_whole(self, authority: Authority, store: TrustStore, filler: bytes) -> None:
        """The second is what a verifier that searches for the digest would take."""
        key = card_key(KeyAlgorithm.RSA2048)
        assert isinstance(key, rsa.RSAPrivateKey)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(MESSAGE)
        info = bytes.fromhex("3031300D060960864801650304020105000420") + digest.finalize()
        block = b"\x00\x01" + filler + b"\x00" + info
        numbers = key.private_numbers()
        signature = pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(256)
        proof = prove(authority.issue(key), KeyAlgorithm.RSA2048, signature=signature)
        expected = None if filler == b"\xff" * 202 else Reason.WRONG_SIGNATURE
        assert reason_of(proof, store) is expected

    @BOTH_WAYS
    @given(signature=st.binary(max_size=300))
    def test_no_arbitrary_signature(
        self, authority: Authority, store: TrustStore, signature: bytes, *, hit: bool
    ) -> None:
        for algorithm in (KeyAlgorithm.P256, KeyAlgorithm.RSA2048):
            proof = prove(authority.issue(card_key(algorithm)), algorithm)
            proof = evidenced(again(proof, store) if hit else proof, signature=signature)
            assert reason_of(proof, store) is Reason.WRONG_SIGNATURE


class TestIssuer:
    def test_a_strangers_authority_of_the_same_name(self, store: TrustStore) -> None:
        proof = prove(Authority.root().issue(card_key(KeyAlgorithm.P256)))
        assert reason_of(proof, store) is Reason.UNTRUSTED_ISSUER

    def test_a_store_without_anchors_trusts_no_chain(self, authority: Authority) -> None:
        """As on a gate whose cards have no X.509 certificates: an intermediate alone leads nowhere."""
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256)))
        assert reason_of(proof, TrustStore(1, [], [authority.certificate])) is Reason.UNTRUSTED_ISSUER
        assert reason_of(proof, TrustStore(1, [])) is Reason.UNTRUSTED_ISSUER

    def test_a_card_is_no_authority(self, authority: Authority, store: TrustStore) -> None:
        holder = card_key(KeyAlgorithm.P256, 1)
        card = Authority(holder, x509.load_der_x509_certificate(authority.issue(holder)))
        proof = prove(card.issue(card_key(KeyAlgorithm.P256)))
        assert reason_of(proof, TrustStore(1, [authority.certificate], [card.certificate])) is Reason.UNTRUSTED_ISSUER

    @pytest.mark.parametrize(
        "extensions",
        [
            (),
            for_issuers()[:1],
            for_issuers()[1:],
            ((x509.BasicConstraints(ca=True, path_length=None), False), for_issuers()[1]),
            (for_issuers()[0], (usage(sign=True), True)),
            (*for_issuers(), (x509.ExtendedKeyUsage([CLIENT_AUTHENTICATION]), False)),
        ],
        ids=["nothing", "no usage", "no constraints", "not critical", "may not certify", "for other purposes"],
    )
    def test_an_issuer_that_may_not_issue_cards(self, authority: Authority, extensions: tuple[Extension, ...]) -> None:
        middle = authority.subordinate("Middle", extensions=extensions)
        store = TrustStore(1, [authority.certificate], [middle.certificate])
        assert reason_of(prove(middle.issue(card_key(KeyAlgorithm.P256))), store) is Reason.UNTRUSTED_ISSUER

    @pytest.mark.parametrize("purpose", [CARD_AUTHENTICATION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    def test_an_issuer_limited_to_a_purpose_that_includes_ours(
        self, authority: Authority, purpose: ObjectIdentifier
    ) -> None:
        middle = authority.subordinate("Middle", extensions=(*for_issuers(), (x509.ExtendedKeyUsage([purpose]), False)))
        store = TrustStore(1, [authority.certificate], [middle.certificate])
        assert reason_of(prove(middle.issue(card_key(KeyAlgorithm.P256))), store) is None

    def test_path_length_holds(self) -> None:
        root = Authority.root(extensions=for_issuers(0))
        middle = root.subordinate("Middle")
        store = TrustStore(1, [root.certificate], [middle.certificate])
        assert reason_of(prove(middle.issue(card_key(KeyAlgorithm.P256))), store) is Reason.UNTRUSTED_ISSUER
        assert reason_of(prove(root.issue(card_key(KeyAlgorithm.P256))), store) is None

    @pytest.mark.parametrize(("between", "reason"), [(4, None), (5, Reason.UNTRUSTED_ISSUER)])
    def test_a_chain_is_not_longer_than_the_bound(self, between: int, reason: Reason | None) -> None:
        links = [Authority.root()]
        for number in range(between):
            links.append(links[-1].subordinate(f"Link {number}"))
        store = TrustStore(1, [links[0].certificate], [link.certificate for link in links[1:]])
        assert reason_of(prove(links[-1].issue(card_key(KeyAlgorithm.P256))), store) is reason

    def test_a_card_certificate_with_an_unknown_critical_extension(
        self, authority: Authority, store: TrustStore
    ) -> None:
        unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
        for critical, reason in ((False, None), (True, Reason.UNTRUSTED_ISSUER)):
            certificate = authority.issue(card_key(KeyAlgorithm.P256), extensions=(*FOR_CARDS, (unknown, critical)))
            assert reason_of(prove(certificate), store) is reason


class TestPurpose:
    @pytest.mark.parametrize(
        "extensions",
        [
            (),
            FOR_CARDS[:1],
            FOR_CARDS[1:],
            ((FOR_CARDS[0][0], False), FOR_CARDS[1]),
            ((x509.ExtendedKeyUsage([CLIENT_AUTHENTICATION]), True), FOR_CARDS[1]),
            ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), True), FOR_CARDS[1]),
            (FOR_CARDS[0], (usage(), True)),
            (*FOR_CARDS, (x509.BasicConstraints(ca=True, path_length=None), True)),
        ],
        ids=[
            "nothing",
            "no key usage",
            "no purpose",
            "purpose not critical",
            "another purpose",
            "any purpose",
            "may not sign",
            "an authority",
        ],
    )
    def test_a_certificate_for_something_else(
        self, authority: Authority, store: TrustStore, extensions: tuple[Extension, ...]
    ) -> None:
        certificate = authority.issue(card_key(KeyAlgorithm.P256), extensions=extensions)
        assert reason_of(prove(certificate), store) is Reason.WRONG_KEY_USAGE

    def test_a_stranger_is_a_stranger_whatever_the_purpose(self, store: TrustStore) -> None:
        certificate = Authority.root("Stranger").issue(card_key(KeyAlgorithm.P256), extensions=())
        assert reason_of(prove(certificate), store) is Reason.UNTRUSTED_ISSUER


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024),
            rsa.generate_private_key(65537, 4096),
            ec.generate_private_key(ec.SECP521R1()),
            ec.generate_private_key(ec.SECP256K1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["RSA-1024", "RSA-4096", "P-521", "secp256k1", "Ed25519"],
    )
    def test_a_key_that_no_card_may_have(
        self,
        authority: Authority,
        store: TrustStore,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    ) -> None:
        verdict = judge(prove(authority.issue(key)), store, nobody, instant())
        assert verdict == Refusal(Reason.UNSUPPORTED_KEY, "piv")

    def test_a_certificate_signed_over_sha1(self) -> None:
        issuer_key = card_key(KeyAlgorithm.RSA2048, 1)
        assert isinstance(issuer_key, rsa.RSAPrivateKey)
        root = Authority.root(key=issuer_key)
        good = root.issue(card_key(KeyAlgorithm.P256))
        sha256_rsa, sha1_rsa = bytes.fromhex("2A864886F70D01010B"), bytes.fromhex("2A864886F70D010105")
        altered = good.replace(sha256_rsa, sha1_rsa)
        signed = x509.load_der_x509_certificate(altered).tbs_certificate_bytes
        bad = altered[:-256] + issuer_key.sign(signed, padding.PKCS1v15(), hashes.SHA1())
        store = TrustStore(1, [root.certificate])
        assert reason_of(prove(good), store) is None
        assert reason_of(prove(bad), store) is Reason.UNSUPPORTED_KEY

    def test_an_authority_may_use_sha384(self, authority: Authority, store: TrustStore) -> None:
        certificate = authority.issue(card_key(KeyAlgorithm.P256), digest=hashes.SHA384())
        assert reason_of(prove(certificate), store) is None
