"""What is looked up while a card signs, and that it says no more, and nothing earlier, than the signature allows."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, current_thread

import pytest
from cryptography import x509

from tests.validator.authority import Authority, card_key
from tests.validator.judging import again, believed, instant, prove
from validator.chains import CARD_AUTHENTICATION, Chain, Issuers
from validator.lists.errors import ListError
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind
from validator.lists.ticket_store import TicketStore, write_ticket_store
from validator.lists.tickets import published_tickets
from validator.lookahead import TapLookAhead
from validator.model import KeyAlgorithm, Reason, Refusal
from validator.proof import CardProof
from validator.rights import Product, ProductKind
from validator.trust_store import TrustStore

P256 = KeyAlgorithm.P256
PASS = Product(1, ProductKind.PERIOD_PASS, 0, 2**32, 0)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, "look-ahead") as executor:
        yield executor


@pytest.fixture
def store(authority: Authority) -> TrustStore:
    return TrustStore(7, [authority.certificate])


@pytest.fixture
def proof(authority: Authority) -> CardProof:
    return prove(authority.issue(card_key(P256)))


def lists_of(folder: Path, trust: TrustStore | None, proof: CardProof | None = None) -> InstalledLists:
    """Lists with one pass for the card of a proof."""
    tickets = None
    if proof is not None and trust is not None:
        with ThreadPoolExecutor(1) as executor:
            ahead = TapLookAhead(lists_of(folder, trust), instant(), executor)
            holder = believed(ahead.judge(proof)).credential_id
        write_ticket_store(folder / "tickets", [(holder, PASS)])
        tickets = published_tickets(TicketStore(folder / "tickets"), 1, bytes(32))
    return InstalledLists(folder, trust, None, tickets, {}, {}, dict.fromkeys(ListKind, (None, None)))


def test_a_card_is_judged_by_what_was_found_while_it_signed(
    tmp_path: Path, store: TrustStore, proof: CardProof, executor: ThreadPoolExecutor
) -> None:
    ahead = TapLookAhead(lists_of(tmp_path, store, proof), instant(), executor)
    ahead.begin(proof.shown)
    identity = believed(ahead.judge(proof))
    assert ahead.products(identity.credential_id) == [PASS]
    assert ahead.products(bytes(16)) == []

    known = again(proof, store)
    ahead.begin(known.shown)
    assert believed(ahead.judge(known)).credential_id == identity.credential_id
    assert ahead.products(identity.credential_id) == [PASS]


def test_a_proof_is_never_judged_by_another_cards_findings(
    tmp_path: Path, store: TrustStore, proof: CardProof, executor: ThreadPoolExecutor
) -> None:
    stranger = Authority.root("A stranger")
    foreign = prove(stranger.issue(card_key(P256)))
    ahead = TapLookAhead(lists_of(tmp_path, store), instant(), executor)
    ahead.begin(proof.shown)
    verdict = ahead.judge(foreign)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is Reason.UNTRUSTED_ISSUER
    believed(ahead.judge(proof))


def test_a_copied_certificate_is_refused_for_its_signature_and_names_nobody(
    tmp_path: Path, store: TrustStore, executor: ThreadPoolExecutor
) -> None:
    """Whatever the look-ahead found against its owner: nobody present has that key."""
    for issuer in (Authority.root("A stranger"), Authority.root("Another")):
        copied = prove(issuer.issue(card_key(P256)), signature=bytes(70))
        ahead = TapLookAhead(lists_of(tmp_path, store), instant(), executor)
        ahead.begin(copied.shown)
        assert ahead.judge(copied) == Refusal(Reason.WRONG_SIGNATURE, "piv")


def test_without_a_trust_list_nobody_is_judged(tmp_path: Path, proof: CardProof, executor: ThreadPoolExecutor) -> None:
    ahead = TapLookAhead(lists_of(tmp_path, None), instant(), executor)
    ahead.begin(proof.shown)
    assert ahead.judge(proof) == Refusal(Reason.TRUST_LIST_STALE, "piv")


def test_the_search_runs_beside_the_dialogue_and_is_waited_for(
    tmp_path: Path, authority: Authority, proof: CardProof, executor: ThreadPoolExecutor
) -> None:
    busy, names = Event(), list[str]()

    class Watched(Issuers):
        def chain(self, certificate: x509.Certificate, at_s: int) -> Chain:
            names.append(current_thread().name)
            return super().chain(certificate, at_s)

    watched = TrustStore(1, [authority.certificate])
    watched.cards = Watched([authority.certificate], (), CARD_AUTHENTICATION)
    blocked: Future[bool] = executor.submit(busy.wait)
    ahead = TapLookAhead(lists_of(tmp_path, watched), instant(), executor)
    ahead.begin(proof.shown)
    assert names == [], "the reader's thread goes on"
    busy.set()
    believed(ahead.judge(proof))
    assert blocked.done()
    assert [name.startswith("look-ahead") for name in names] == [True]


def test_tickets_that_cannot_be_read_are_a_fault_of_the_tap_and_not_of_the_card(
    tmp_path: Path, store: TrustStore, proof: CardProof, executor: ThreadPoolExecutor
) -> None:
    lists = lists_of(tmp_path, store, proof)
    assert lists.tickets is not None
    lists.tickets.store.close()
    ahead = TapLookAhead(lists, instant(), executor)
    ahead.begin(proof.shown)
    identity = believed(ahead.judge(proof))
    with pytest.raises(ListError, match="cannot be read"):
        ahead.products(identity.credential_id)
