"""The search for a chain: what a list of issuers may hold, what a search may cost, and how long its answer holds."""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.authority import (
    CARD_AUTHENTICATION,
    DAY,
    FOR_CARDS,
    NOW,
    SINCE,
    Authority,
    Extension,
    card_key,
    for_issuers,
    name,
)
from tests.validator.judging import again, believed, instant, judge, nobody, prove, reason_of
from validator import chains
from validator.chains import MAX_MOMENTS
from validator.lists.errors import ListError
from validator.lists.trust_list import MAX_PER_SUBJECT, encode_trust_list, parse_trust_list
from validator.model import ClockConfidence, KeyAlgorithm, Reason
from validator.trust_store import TrustStore

HALF = DAY / 2
WINDOWS = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: (min(pair), max(pair)))


def day(number: float) -> dt.datetime:
    return NOW + number * DAY


@pytest.fixture(scope="module")
def issuer_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class TestRenewedIssuer:
    """The old and the new certificate of an issuer, of one name and one key, on one list."""

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_kept_verdict_outlives_the_old_certificate(
        self, authority: Authority, issuer_key: ec.EllipticCurvePrivateKey, order: int
    ) -> None:
        old = authority.subordinate("Issuer", until=day(1), key=issuer_key)
        new = authority.subordinate("Issuer", key=issuer_key)
        store = TrustStore(1, [authority.certificate], [old.certificate, new.certificate][::order])
        proof = prove(old.issue(card_key(KeyAlgorithm.P256)))
        for at in (instant(), instant(day(3))):
            assert reason_of(again(proof, store), store, at) is None
            assert reason_of(proof, store, at) is None

    @given(issuers=st.lists(WINDOWS, min_size=1, max_size=3), leaf=WINDOWS, first=st.integers(0, 12), data=st.data())
    def test_a_kept_verdict_says_what_a_new_search_would_say(
        self,
        *,
        authority: Authority,
        issuer_key: ec.EllipticCurvePrivateKey,
        issuers: list[tuple[int, int]],
        leaf: tuple[int, int],
        first: int,
        data: st.DataObject,
    ) -> None:
        made = [authority.subordinate("Issuer", since=day(a), until=day(b), key=issuer_key) for a, b in issuers]
        store = TrustStore(1, [authority.certificate], [each.certificate for each in made])
        certificate = made[0].issue(card_key(KeyAlgorithm.P256), since=day(leaf[0]), until=day(leaf[1]))

        def holds(half: int) -> bool:
            return any(2 * a <= half <= 2 * b and 2 * leaf[0] <= half <= 2 * leaf[1] for a, b in issuers)

        proof = prove(certificate)
        assert (reason_of(proof, store, instant(day(first))) is None) == holds(2 * first)
        if not holds(2 * first):
            return
        kept = again(proof, store, instant(day(first)))
        half = data.draw(st.integers(-1, 25))
        at = instant(NOW + half * HALF)
        assert (reason_of(proof, store, at) is None) == holds(half)
        between = range(min(half, 2 * first), max(half, 2 * first) + 1)
        assert (reason_of(kept, store, at) is None) == all(holds(each) for each in between)


class TestCost:
    @pytest.fixture
    def searches(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        moments: list[int] = []
        verify = chains._verify

        def counted(policy: Any, certificate: Any, intermediates: Any, moment: int) -> Any:
            moments.append(moment)
            return verify(policy, certificate, intermediates, moment)

        monkeypatch.setattr(chains, "_verify", counted)
        return moments

    def test_a_copied_name_that_one_issuer_has_is_searched_for_at_two_moments(self, searches: list[int]) -> None:
        roots = [Authority.root(f"Root {number}", since=SINCE + number * DAY) for number in range(20)]
        gone = Authority.root("Gone", until=NOW - DAY)
        store = TrustStore(1, [each.certificate for each in (*roots, gone)])
        for copied in (roots[0], gone):
            liar = Authority(card_key(KeyAlgorithm.P256, 1), copied.certificate)
            proof = prove(liar.issue(card_key(KeyAlgorithm.P256), since=SINCE - 9 * DAY))
            assert reason_of(proof, store) is Reason.UNTRUSTED_ISSUER
            assert len(searches) <= 4, "two policies, now and when that issuer was valid"
            searches.clear()

    def test_a_copied_name_that_several_issuers_share_begins_no_search(self, searches: list[int]) -> None:
        roots = [Authority.root(f"Root {number}") for number in range(3)]
        key = ec.generate_private_key(ec.SECP256R1())
        crossed = [root.subordinate("Issuer", key=key) for root in roots]
        store = TrustStore(1, [each.certificate for each in roots], [each.certificate for each in crossed])
        liar = Authority(card_key(KeyAlgorithm.P256, 1), crossed[0].certificate)
        assert reason_of(prove(liar.issue(card_key(KeyAlgorithm.P256))), store) is Reason.UNTRUSTED_ISSUER
        assert searches == []

    def test_what_an_issuer_did_sign_is_searched_within_a_bound(self, searches: list[int]) -> None:
        roots = [Authority.root(f"Root {number}") for number in range(20)]
        key = ec.generate_private_key(ec.SECP256R1())
        windows = [(day(3 * number), day(3 * number + 1)) for number in range(1, 19)]
        crossed = [
            root.subordinate("Issuer", since=since, until=until, key=key)
            for root, (since, until) in zip(roots, windows, strict=False)
        ]
        store = TrustStore(1, [each.certificate for each in roots], [each.certificate for each in crossed])
        odd = (*FOR_CARDS, (x509.UnrecognizedExtension(OID, b"\x05\x00"), True))
        proof = prove(crossed[0].issue(card_key(KeyAlgorithm.P256), extensions=odd))
        assert reason_of(proof, store) is Reason.UNTRUSTED_ISSUER
        assert len(searches) == 2 * (1 + MAX_MOMENTS)

    def test_issuers_elsewhere_on_the_list_cost_nothing(self, searches: list[int], authority: Authority) -> None:
        others = [Authority.root(f"Other {number}", until=NOW - DAY) for number in range(20)]
        middle = authority.subordinate("Middle", extensions=for_issuers()[:1])
        store = TrustStore(1, [authority.certificate, *(each.certificate for each in others)], [middle.certificate])
        assert reason_of(prove(middle.issue(card_key(KeyAlgorithm.P256))), store) is Reason.UNTRUSTED_ISSUER
        assert len(searches) == 2

    def test_what_comes_next_is_tried_first(self) -> None:
        """A clock at its floor lets a card through whose issuer begins later, however many have ended."""
        key = ec.generate_private_key(ec.SECP256R1())
        root = Authority.root()
        begins = [number for number in range(-9, 9) if number != -1]
        made = [root.subordinate("Issuer", since=day(each), until=day(each + 0.5), key=key) for each in begins]
        store = TrustStore(1, [root.certificate], [each.certificate for each in made])
        proof = prove(made[0].issue(card_key(KeyAlgorithm.P256)))
        assert believed(judge(proof, store, nobody, instant(NOW - DAY, ClockConfidence.FLOOR))).early
        assert reason_of(proof, store, instant(NOW - DAY)) is Reason.CERTIFICATE_NOT_YET_VALID

    def test_a_list_holds_few_certificates_of_one_subject(self, authority: Authority) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        renewed = [authority.subordinate("Issuer", key=key).certificate for _ in range(MAX_PER_SUBJECT + 1)]
        parse_trust_list(encode_trust_list([authority.certificate], renewed[1:]))
        with pytest.raises(ListError, match=f"{MAX_PER_SUBJECT + 1} certificates of CN=Issuer"):
            parse_trust_list(encode_trust_list([authority.certificate], renewed))


URI = x509.UniformResourceIdentifier("http://issuer.invalid/")
DNS = x509.DNSName("issuer.invalid")
OID = ObjectIdentifier("1.3.6.1.4.1.55555.1")
MORE: dict[str, x509.ExtensionType] = {
    "policyConstraints": x509.PolicyConstraints(0, None),
    "inhibitAnyPolicy": x509.InhibitAnyPolicy(0),
    "policyMappings": x509.UnrecognizedExtension(
        ExtensionOID.POLICY_MAPPINGS, bytes.fromhex("300E300C06042A03040506042A030405")
    ),
    "nameConstraints": x509.NameConstraints(None, [x509.DirectoryName(name("card"))]),
    "nameConstraints of a host": x509.NameConstraints([DNS], None),
    "certificatePolicies": x509.CertificatePolicies([x509.PolicyInformation(OID, None)]),
    "issuerAltName": x509.IssuerAlternativeName([URI]),
    "extendedKeyUsage": x509.ExtendedKeyUsage([CARD_AUTHENTICATION]),
    "subjectAltName": x509.SubjectAlternativeName([DNS]),
    "subjectKeyIdentifier": x509.SubjectKeyIdentifier(bytes(20)),
    "authorityInfoAccess": x509.AuthorityInformationAccess(
        [x509.AccessDescription(ObjectIdentifier("1.3.6.1.5.5.7.48.2"), URI)]
    ),
    "crlDistributionPoints": x509.CRLDistributionPoints([x509.DistributionPoint([URI], None, None, None)]),
    "unknown": x509.UnrecognizedExtension(OID, b"\x05\x00"),
}


class TestHonoured:
    """An issuer is refused with the list that names it, or its cards pass: there is nothing in between."""

    @pytest.mark.parametrize("critical", [False, True])
    @pytest.mark.parametrize("which", MORE)
    @pytest.mark.parametrize("anchor", [False, True])
    def test_an_issuer_that_is_installed_is_one_whose_cards_pass(
        self, authority: Authority, which: str, *, critical: bool, anchor: bool
    ) -> None:
        extensions: tuple[Extension, ...] = (*for_issuers(), (MORE[which], critical))
        issuer = (
            Authority.root("Odd", extensions=extensions)
            if anchor
            else authority.subordinate("Odd", extensions=extensions)
        )
        anchors, between = ([issuer], []) if anchor else ([authority], [issuer])
        store = TrustStore(1, _certificates(anchors), _certificates(between))
        passes = reason_of(prove(issuer.issue(card_key(KeyAlgorithm.P256))), store) is None
        payload = encode_trust_list(_certificates(anchors), _certificates(between))
        if passes:
            parse_trust_list(payload)
        else:
            called = f"{'anchor' if anchor else 'intermediate'} 0 (CN=Odd) has "
            with pytest.raises(ListError, match=re.escape(called)):
                parse_trust_list(payload)

    @pytest.mark.parametrize("critical", [False, True])
    @pytest.mark.parametrize("which", ["policyConstraints", "inhibitAnyPolicy", "policyMappings", "nameConstraints"])
    def test_the_refusal_names_the_extension(self, authority: Authority, which: str, *, critical: bool) -> None:
        odd = authority.subordinate("Odd", extensions=(*for_issuers(), (MORE[which], critical)))
        payload = encode_trust_list([authority.certificate], [odd.certificate])
        if critical or which == "nameConstraints":
            with pytest.raises(ListError, match=rf"intermediate 0 \(CN=Odd\) has .*{which}, which is not honoured"):
                parse_trust_list(payload)
        else:
            parse_trust_list(payload)


def _certificates(authorities: Iterable[Authority]) -> list[x509.Certificate]:
    return [authority.certificate for authority in authorities]
