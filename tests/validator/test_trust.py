"""Trust: each reason told apart, on a miss and on a hit; and no bytes that are trusted by mistake."""

import datetime as dt
from collections.abc import Callable
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
    CardPrivateKey,
    Extension,
    card_key,
    for_issuers,
    seconds,
    usage,
)
from validator.certificates import credential_id, spki_of
from validator.model import (
    Assurance,
    CardProof,
    ClockConfidence,
    Identity,
    Instant,
    KeyAlgorithm,
    Reason,
    Refusal,
)
from validator.trust import judge
from validator.trust_store import TrustStore

MESSAGE = b"a challenge that is fresh in every test that matters"
ALL = pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
BOTH_WAYS = pytest.mark.parametrize("hit", [False, True], ids=["miss", "hit"])


def instant(when: dt.datetime = NOW, confidence: ClockConfidence = ClockConfidence.NTP) -> Instant:
    return Instant(seconds(when) * 1000, 5_000, bytes(8), confidence)


def sign(key: CardPrivateKey, message: bytes = MESSAGE) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message, ec.ECDSA(hashes.SHA256() if key.key_size == 256 else hashes.SHA384()))


def nobody(_credential_id: bytes) -> bool:
    return False


def prove(
    certificate: bytes, algorithm: KeyAlgorithm = KeyAlgorithm.P256, *, signature: bytes | None = None
) -> CardProof:
    return CardProof(
        profile="piv",
        assurance=Assurance.CHIP,
        challenge=MESSAGE,
        signature=sign(card_key(algorithm)) if signature is None else signature,
        algorithm=algorithm,
        block_id=bytes(32),
        certificate=certificate,
        known=None,
    )


def believed(verdict: Identity | Refusal) -> Identity:
    assert isinstance(verdict, Identity), verdict
    return verdict


def again(proof: CardProof, store: TrustStore, at: Instant | None = None) -> CardProof:
    """The same card at its next tap, with the verdict of the first in the cache."""
    known = believed(judge(proof, store, nobody, at or instant())).known
    return replace(proof, certificate=None, known=known)


def reason_of(
    proof: CardProof,
    store: TrustStore,
    at: Instant | None = None,
    denied: Callable[[bytes], bool] = nobody,
) -> Reason | None:
    verdict = judge(proof, store, denied, at or instant())
    return verdict.reason if isinstance(verdict, Refusal) else None


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
        assert identity.credential_id == credential_id(spki) == identity.known.credential_id
        assert (identity.profile, identity.assurance, identity.cached, identity.early) == (
            "piv",
            Assurance.CHIP,
            False,
            False,
        )
        assert (identity.known.algorithm, identity.known.spki, identity.known.trust_version) == (algorithm, spki, 7)
        assert (identity.known.not_before, identity.known.not_after) == (seconds(SINCE), seconds(UNTIL))
        assert identity.known.issuer_id == credential_id(spki_of(authority.certificate_key))
        at_once = believed(judge(again(proof, store), store, nobody, instant()))
        assert at_once == replace(identity, cached=True)

    def test_through_an_intermediate(self, authority: Authority) -> None:
        middle = authority.subordinate("Middle", until=NOW + DAY)
        proof = prove(middle.issue(card_key(KeyAlgorithm.P256)))
        assert reason_of(proof, TrustStore(1, [authority.certificate])) is Reason.UNTRUSTED_ISSUER
        store = TrustStore(1, [authority.certificate], [middle.certificate])
        identity = believed(judge(proof, store, nobody, instant()))
        assert identity.known.issuer_id == credential_id(spki_of(middle.certificate_key))
        assert identity.known.not_after == seconds(NOW + DAY)  # the chain ends with its first link

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
        forged = replace(proof, signature=sign(card_key(algorithm, 1)))
        assert reason_of(forged, store) is Reason.WRONG_SIGNATURE
        assert reason_of(proof, store) is None

    @ALL
    @BOTH_WAYS
    def test_a_signature_over_another_challenge_is_worthless(
        self, authority: Authority, store: TrustStore, algorithm: KeyAlgorithm, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(algorithm)), algorithm)
        if hit:
            proof = again(proof, store)
        assert reason_of(replace(proof, challenge=MESSAGE + b"!"), store) is Reason.WRONG_SIGNATURE

    @BOTH_WAYS
    def test_the_algorithm_asked_for_is_that_of_the_key(
        self, authority: Authority, store: TrustStore, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256)))
        if hit:
            proof = again(proof, store)
        assert reason_of(replace(proof, algorithm=KeyAlgorithm.P384), store) is Reason.WRONG_SIGNATURE

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
            proof = replace(again(proof, store) if hit else proof, signature=signature)
            assert reason_of(proof, store) is Reason.WRONG_SIGNATURE


class TestIssuer:
    def test_a_strangers_authority_of_the_same_name(self, store: TrustStore) -> None:
        proof = prove(Authority.root().issue(card_key(KeyAlgorithm.P256)))
        assert reason_of(proof, store) is Reason.UNTRUSTED_ISSUER

    def test_there_is_no_store_without_anchors(self, authority: Authority) -> None:
        with pytest.raises(ValueError, match="empty"):
            TrustStore(1, [], [authority.certificate])

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
        assert reason_of(prove(authority.issue(key)), store) is Reason.UNSUPPORTED_KEY

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


class TestDates:
    @BOTH_WAYS
    @pytest.mark.parametrize("confidence", list(ClockConfidence))
    @pytest.mark.parametrize(
        ("shift", "early", "late"), [(-1, True, False), (0, False, False), (1, False, False)], ids=["-1", "0", "1"]
    )
    def test_the_first_second(
        self,
        authority: Authority,
        store: TrustStore,
        confidence: ClockConfidence,
        shift: int,
        *,
        early: bool,
        late: bool,
        hit: bool,
    ) -> None:
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256), since=NOW))
        if hit:
            proof = again(proof, store)
        verdict = judge(proof, store, nobody, instant(NOW + dt.timedelta(seconds=shift), confidence))
        if early and confidence is not ClockConfidence.FLOOR:
            assert isinstance(verdict, Refusal)
            assert verdict.reason is Reason.CERTIFICATE_NOT_YET_VALID
            assert verdict.credential_id is not None
        else:
            assert believed(verdict).early is early
        assert not late

    @BOTH_WAYS
    @pytest.mark.parametrize("confidence", list(ClockConfidence))
    def test_the_last_second(
        self, authority: Authority, store: TrustStore, confidence: ClockConfidence, *, hit: bool
    ) -> None:
        """What is expired by a clock that lags has expired."""
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256), until=NOW))
        if hit:
            proof = again(proof, store, instant(NOW - DAY))
        second = dt.timedelta(seconds=1)
        assert reason_of(proof, store, instant(NOW, confidence)) is None
        assert reason_of(proof, store, instant(NOW + second, confidence)) is Reason.CERTIFICATE_EXPIRED

    @BOTH_WAYS
    @pytest.mark.parametrize("depth", [0, 1], ids=["intermediate", "anchor"])
    def test_an_issuer_that_has_expired(self, depth: int, *, hit: bool) -> None:
        root = Authority.root(until=NOW if depth else UNTIL)
        middle = root.subordinate("Middle", until=UNTIL if depth else NOW)
        store = TrustStore(1, [root.certificate], [middle.certificate])
        proof = prove(middle.issue(card_key(KeyAlgorithm.P256)))
        if hit:
            proof = again(proof, store, instant(NOW - DAY))
        assert reason_of(proof, store, instant(NOW)) is None
        assert reason_of(proof, store, instant(NOW + DAY)) is Reason.CERTIFICATE_EXPIRED

    def test_an_issuer_that_is_not_valid_yet(self) -> None:
        root = Authority.root(since=NOW)
        store = TrustStore(1, [root.certificate])
        proof = prove(root.issue(card_key(KeyAlgorithm.P256)))
        before = NOW - DAY
        assert reason_of(proof, store, instant(before)) is Reason.CERTIFICATE_NOT_YET_VALID
        assert believed(judge(proof, store, nobody, instant(before, ClockConfidence.FLOOR))).early

    def test_an_old_issuer_does_not_hide_its_successor(self) -> None:
        old, new = Authority.root(until=NOW - DAY), Authority.root()
        store = TrustStore(1, [old.certificate, new.certificate])
        assert reason_of(prove(new.issue(card_key(KeyAlgorithm.P256))), store) is None
        assert reason_of(prove(old.issue(card_key(KeyAlgorithm.P256))), store) is Reason.CERTIFICATE_EXPIRED

    def test_dates_that_no_chain_ever_shared(self) -> None:
        root = Authority.root(until=NOW - 10 * DAY)
        proof = prove(root.issue(card_key(KeyAlgorithm.P256), since=NOW - DAY))
        assert reason_of(proof, TrustStore(1, [root.certificate])) is Reason.UNTRUSTED_ISSUER

    def test_dates_do_not_mask_what_weighs_more(self, authority: Authority, store: TrustStore) -> None:
        key = card_key(KeyAlgorithm.P256)
        expired = authority.issue(key, until=NOW - DAY)
        assert reason_of(prove(expired), store) is Reason.CERTIFICATE_EXPIRED
        assert reason_of(prove(expired), store, denied=lambda _id: True) is Reason.REVOKED
        assert reason_of(prove(authority.issue(key, until=NOW - DAY, extensions=())), store) is Reason.WRONG_KEY_USAGE
        stranger = Authority.root("Stranger").issue(key, until=NOW - DAY)
        assert reason_of(prove(stranger), store) is Reason.UNTRUSTED_ISSUER
        clone = prove(expired, signature=sign(card_key(KeyAlgorithm.P256, 1)))
        assert reason_of(clone, store) is Reason.WRONG_SIGNATURE

    @given(
        leaf=st.tuples(st.integers(0, 20), st.integers(0, 20)),
        issuer=st.tuples(st.integers(0, 20), st.integers(0, 20)),
        day=st.integers(-1, 21),
        confidence=st.sampled_from(ClockConfidence),
    )
    def test_whoever_is_believed_is_in_date_with_all_issuers(
        self, leaf: tuple[int, int], issuer: tuple[int, int], day: int, confidence: ClockConfidence
    ) -> None:
        def window(days: tuple[int, int]) -> tuple[dt.datetime, dt.datetime]:
            return NOW + min(days) * DAY, NOW + max(days) * DAY

        since, until = window(issuer)
        root = Authority.root(since=since, until=until)
        since, until = window(leaf)
        certificate = root.issue(card_key(KeyAlgorithm.P256), since=since, until=until)
        at = instant(NOW + day * DAY, confidence)
        reason = reason_of(prove(certificate), TrustStore(1, [root.certificate]), at)
        first, last = max(min(leaf), min(issuer)), min(max(leaf), max(issuer))
        if first > last:
            expected: Reason | None = Reason.UNTRUSTED_ISSUER
        elif day > last:
            expected = Reason.CERTIFICATE_EXPIRED
        elif day < first and confidence is not ClockConfidence.FLOOR:
            expected = Reason.CERTIFICATE_NOT_YET_VALID
        else:
            expected = None
        assert reason is expected


class TestRevocation:
    @BOTH_WAYS
    def test_the_deny_list_is_asked_at_every_tap(self, authority: Authority, store: TrustStore, *, hit: bool) -> None:
        key = card_key(KeyAlgorithm.P256)
        mine = credential_id(spki_of(key.public_key()))
        proof = prove(authority.issue(key))
        if hit:
            proof = again(proof, store)
        verdict = judge(proof, store, lambda credential: credential == mine, instant())
        assert verdict == Refusal(Reason.REVOKED, "piv", mine)

    @BOTH_WAYS
    def test_only_the_holder_of_a_key_can_be_found_on_it(
        self, authority: Authority, store: TrustStore, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256)))
        if hit:
            proof = again(proof, store)
        clone = replace(proof, signature=sign(card_key(KeyAlgorithm.P256, 1)))
        assert reason_of(clone, store, denied=lambda _id: True) is Reason.WRONG_SIGNATURE


class TestKnownCard:
    def test_a_verdict_under_another_trust_list_is_not_believed(self, authority: Authority, store: TrustStore) -> None:
        proof = again(prove(authority.issue(card_key(KeyAlgorithm.P256))), store)
        assert reason_of(proof, TrustStore(8, [authority.certificate])) is Reason.PRESENT_AGAIN

    def test_a_verdict_with_a_rotten_key_is_refused(self, authority: Authority, store: TrustStore) -> None:
        proof = again(prove(authority.issue(card_key(KeyAlgorithm.P256))), store)
        assert proof.known is not None
        rotten = replace(proof, known=replace(proof.known, spki=proof.known.spki[:-1]))
        assert reason_of(rotten, store) is Reason.UNSUPPORTED_KEY

    def test_a_proof_of_nothing(self, store: TrustStore) -> None:
        assert reason_of(replace(prove(b""), certificate=None), store) is Reason.MALFORMED_ANSWER


class TestHostileCertificate:
    @given(certificate=st.binary(max_size=400))
    def test_arbitrary_bytes(self, store: TrustStore, certificate: bytes) -> None:
        assert reason_of(prove(certificate), store) is Reason.MALFORMED_ANSWER

    @given(
        algorithm=st.sampled_from([KeyAlgorithm.P256, KeyAlgorithm.RSA2048]),
        edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4),
    )
    def test_a_certificate_that_was_changed_anywhere_is_refused(
        self,
        store: TrustStore,
        issued: dict[KeyAlgorithm, bytes],
        algorithm: KeyAlgorithm,
        edits: list[tuple[int, int]],
    ) -> None:
        good = issued[algorithm]
        bad = bytearray(good)
        for position, value in edits:
            bad[position % len(bad)] = value
        reason = reason_of(prove(bytes(bad), algorithm), store)
        assert (reason is None) == (bytes(bad) == good)

    @given(data=st.data())
    def test_a_piece_cut_out_or_put_in(
        self, store: TrustStore, issued: dict[KeyAlgorithm, bytes], data: st.DataObject
    ) -> None:
        good = issued[KeyAlgorithm.P256]
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, min(len(good), start + 40)))
        bad = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
        assert (reason_of(prove(bad), store) is None) == (bad == good)

    @given(edits=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
    def test_a_hostile_issuer_signs_what_it_likes(
        self, issued: dict[KeyAlgorithm, bytes], authority: Authority, edits: list[tuple[int, int]]
    ) -> None:
        """Properly signed nonsense reaches every check behind the signature; nothing may escape from there."""
        good = x509.load_der_x509_certificate(issued[KeyAlgorithm.P256])
        body = bytearray(good.tbs_certificate_bytes)
        for position, value in edits:
            body[4 + position % (len(body) - 4)] = value
        assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
        signature = authority.key.sign(bytes(body), ec.ECDSA(hashes.SHA256()))
        algorithm = bytes.fromhex("300A06082A8648CE3D040302")
        bits = b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
        inner = bytes(body) + algorithm + bits
        der = b"\x30\x82" + len(inner).to_bytes(2) + inner
        verdict = judge(prove(der), TrustStore(1, [authority.certificate]), nobody, instant())
        assert isinstance(verdict, Identity | Refusal)


@pytest.fixture(scope="module")
def issued(authority: Authority) -> dict[KeyAlgorithm, bytes]:
    return {algorithm: authority.issue(card_key(algorithm)) for algorithm in KeyAlgorithm}
