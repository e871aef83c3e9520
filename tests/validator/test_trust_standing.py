"""Trust, what may change from one tap to the next: dates, deny list, trust list; each on a miss and on a hit."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.authority import (
    DAY,
    NOW,
    UNTIL,
    Authority,
    card_key,
)
from tests.validator.judging import again, believed, evidenced, instant, judge, nobody, prove, reason_of, sign
from validator.certificates import credential_id, spki_of
from validator.model import (
    ClockConfidence,
    KeyAlgorithm,
    KnownCard,
    Reason,
    Refusal,
)
from validator.trust_store import TrustStore

ALL = pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
BOTH_WAYS = pytest.mark.parametrize("hit", [False, True], ids=["miss", "hit"])


@pytest.fixture(scope="module")
def store(authority: Authority) -> TrustStore:
    return TrustStore(7, [authority.certificate])


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
        if early and confidence is ClockConfidence.NTP:
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
        elif day < first and confidence is ClockConfidence.NTP:
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
        verdict = judge(proof, store, lambda credential: credential.id == mine, instant())
        assert verdict == Refusal(Reason.REVOKED, "piv", mine)

    @BOTH_WAYS
    def test_only_the_holder_of_a_key_can_be_found_on_it(
        self, authority: Authority, store: TrustStore, *, hit: bool
    ) -> None:
        proof = prove(authority.issue(card_key(KeyAlgorithm.P256)))
        if hit:
            proof = again(proof, store)
        clone = evidenced(proof, signature=sign(card_key(KeyAlgorithm.P256, 1)))
        assert reason_of(clone, store, denied=lambda _id: True) is Reason.WRONG_SIGNATURE


class TestKnownCard:
    def test_a_verdict_under_another_trust_list_is_not_believed(self, authority: Authority, store: TrustStore) -> None:
        proof = again(prove(authority.issue(card_key(KeyAlgorithm.P256))), store)
        assert reason_of(proof, TrustStore(8, [authority.certificate])) is Reason.PRESENT_AGAIN

    def test_a_verdict_with_a_rotten_key_is_refused(self, authority: Authority, store: TrustStore) -> None:
        proof = again(prove(authority.issue(card_key(KeyAlgorithm.P256))), store)
        assert isinstance(proof.shown, KnownCard)
        rotten = replace(proof, shown=replace(proof.shown, spki=proof.shown.spki[:-1]))
        assert reason_of(rotten, store) is Reason.UNSUPPORTED_KEY

    def test_a_proof_of_nothing(self, store: TrustStore) -> None:
        assert reason_of(prove(b""), store) is Reason.MALFORMED_ANSWER
