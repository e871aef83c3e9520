"""Changes between publications: a gate that hears some of them, or joins late, refuses just who should be refused."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync import wire
from backend_sync.announcement import Chain, Rhythm, Signer, advance, may_speak, resume, standing
from backend_sync.revocation_word import Word
from backend_sync.telling import DENIALS, Refusals, refusals
from tests.backend_sync.catalogue_office import DAY, NOW, key
from tests.backend_sync.list_office import sealed_in
from validator.card_index import TOKENS
from validator.lists.changes_file import MAX_CHANGES, with_changes
from validator.lists.dense_deny import dense_deny
from validator.lists.deny_change import DenyChange, open_change
from validator.lists.deny_list import DenyList, encode_deny_list
from validator.lists.errors import ListError
from validator.lists.manifest import ListKind, Manifest
from validator.model import Credential

SIGNER = Signer("north.deny", key("north.deny"))
KEYS = {SIGNER.name: SIGNER.key.public_key()}
CARDS = [
    *(Credential(b"enrolled card%03d" % number) for number in range(12)),
    *(Credential(b"numbered card%03d" % number, TOKENS, index=number) for number in range(12)),
]
LISTED = frozenset([*CARDS[:3], *CARDS[12:15]])
PUBLISHED = DenyList.parse(encode_deny_list([each.id for each in CARDS[:3]], [dense_deny(TOKENS, 12, [0, 1, 2])]))
MANIFEST = Manifest(ListKind.DENY, "north", 3, NOW, NOW + DAY, bytes(32), 0)
DenyChain = Chain[DenyList, DenyChange, Refusals]

cards = st.sampled_from(CARDS)
steps = st.lists(
    st.tuples(st.dictionaries(cards, st.booleans(), max_size=4), st.integers(0, 2000), st.booleans()), max_size=12
)
rhythms = st.builds(
    Rhythm,
    change_every_s=st.integers(1, 900),
    fold_every_s=st.integers(1, 4000),
    most=st.integers(1, 6),
    fresh_s=st.just(DAY),
)


def begun() -> DenyChain:
    return resume(DENIALS, PUBLISHED, MANIFEST, [], SIGNER)


def as_a_gate(sealed: Sequence[bytes]) -> DenyList:
    found = with_changes(PUBLISHED, MANIFEST, sealed, KEYS)
    assert found.fault is None, found.fault
    return found.listed


@settings(max_examples=60)
@given(steps, rhythms)
def test_whoever_hears_or_joins_refuses_the_same(
    steps: list[tuple[dict[Credential, bool], int, bool]], rhythm: Rhythm
) -> None:
    chain, now_s, heard, refused = begun(), NOW, list[bytes](), set(LISTED)
    for wanted, later_s, killed in steps:
        now_s += later_s
        words = [Word(each, revoked, before=True) for each, revoked in wanted.items()]
        refused = {each for each in CARDS if wanted.get(each, each in refused)}
        made = advance(chain, refusals(PUBLISHED, words), now_s, rhythm=rhythm, signer=SIGNER)
        if made is None:
            assert now_s - chain.changed_s < rhythm.change_every_s
        else:
            assert made[0].number == chain.number + 1
            chain = made[0]
            heard.append(made[1])
            change = open_change(made[1], KEYS)
            assert (change.number, change.not_after_s) == (chain.number, now_s + DAY)
        if killed:
            assert (
                resume(DENIALS, PUBLISHED, MANIFEST, chain.sealed, SIGNER).listed.state_hash == chain.listed.state_hash
            )
            chain = resume(DENIALS, PUBLISHED, MANIFEST, chain.sealed, SIGNER)
        assert {each for each in CARDS if chain.listed.denied(each)} == refused
        assert len(chain.sealed) <= max(rhythm.most, 1)
    left = standing([chain])
    joined = [*([left["cumulative"]] if left["cumulative"] else []), *sealed_in(left["since"])]
    assert as_a_gate(joined).state_hash == chain.listed.state_hash
    if heard:
        assert as_a_gate(heard).state_hash == chain.listed.state_hash
        assert open_change(joined[-1], KEYS).number == open_change(heard[-1], KEYS).number


@given(steps, st.integers(0, 11))
def test_said_again_nothing_is_told_twice(steps: list[tuple[dict[Credential, bool], int, bool]], cut: int) -> None:
    """After a restart the whole of the ledger since publication is looked at again."""
    rhythm, chain, said = Rhythm(change_every_s=10**9), begun(), dict[Credential, bool]()
    for wanted, _, _ in steps[: cut + 1]:
        said |= wanted
        words = [Word(each, revoked, before=each in LISTED) for each, revoked in wanted.items()]
        made = advance(chain, refusals(PUBLISHED, words), NOW, rhythm=rhythm, signer=SIGNER)
        chain = chain if made is None else made[0]
    words = [Word(each, revoked, before=each in LISTED) for each, revoked in said.items()]
    assert advance(chain, refusals(PUBLISHED, words), NOW, rhythm=rhythm, signer=SIGNER) is None


@settings(max_examples=30)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=150), st.integers(1, 10), st.integers(1, 300))
def test_a_stream_of_revocations_is_gathered(pauses: list[int], burst: int, refill_s: int) -> None:
    """At no time are more changes made than the burst and what is refilled meanwhile; and nobody waits for ever."""
    rhythm = Rhythm(change_every_s=10**9, fold_every_s=10**9, burst=burst, refill_s=refill_s)
    chain, now_s, made = begun(), NOW, list[int]()
    for number, pause in enumerate(pauses):
        now_s += pause
        if not may_speak(chain, now_s, rhythm):
            assert may_speak(chain, now_s + refill_s, rhythm)
            continue
        word = Word(Credential(number.to_bytes(16)), revoked=True, before=False)
        step = advance(chain, refusals(PUBLISHED, [word]), now_s, rhythm=rhythm, signer=SIGNER)
        assert step is not None
        chain = step[0]
        made.append(now_s)
    for first in range(len(made)):
        for last in range(first, len(made)):
            assert last - first + 1 <= burst + (made[last] - made[first]) / refill_s + 1e-6


@pytest.mark.slow
def test_a_day_of_twenty_thousand_revocations_is_half_a_megabyte() -> None:
    """One each 4.32 s, found at the next look; what is heard on ``next``, with its topic and MQTT's own octets."""
    rhythm, chain, waiting, heard = Rhythm(), begun(), list[Word](), 0
    around = len(wire.list_change("north", "deny", "next")) + 8
    for number in range(20_000):
        now_s = NOW + number * 86_400 // 20_000
        waiting.append(Word(Credential(sha256(number.to_bytes(4)).digest()[:16]), revoked=True, before=False))
        if may_speak(chain, now_s, rhythm):
            step = advance(chain, refusals(PUBLISHED, waiting), now_s, rhythm=rhythm, signer=SIGNER)
            assert step is not None
            chain, waiting = step[0], []
            heard += len(step[1]) + around
    assert heard < 500_000


def test_what_was_refused_for_another_reason_stays_refused() -> None:
    listed, ended = Word(CARDS[0], revoked=False, before=False), Word(CARDS[5], revoked=False, before=True)
    chain = begun()
    revoked = [Word(CARDS[5], revoked=True, before=False)]
    made = advance(chain, refusals(PUBLISHED, revoked), NOW, rhythm=Rhythm(), signer=SIGNER)
    assert made is not None
    assert (
        advance(made[0], refusals(PUBLISHED, [listed, ended], {CARDS[5].id}), NOW, rhythm=Rhythm(), signer=SIGNER)
        is None
    )
    undone = advance(made[0], refusals(PUBLISHED, [listed, ended]), NOW, rhythm=Rhythm(), signer=SIGNER)
    assert undone is not None
    assert [undone[0].listed.denied(each) for each in (CARDS[0], CARDS[5])] == [True, False]


def test_an_empty_change_comes_in_time_and_carries_a_date() -> None:
    rhythm, chain = Rhythm(change_every_s=300), begun()
    assert advance(chain, Refusals(), NOW + 299, rhythm=rhythm, signer=SIGNER) is None
    made = advance(chain, Refusals(), NOW + 300, rhythm=rhythm, signer=SIGNER)
    assert made is not None
    change = open_change(made[1], KEYS)
    assert change.base == change.state == PUBLISHED.state_hash
    assert (change.numbered, change.ids, change.not_after_s) == ((), None, NOW + 300 + 24 * 3600)
    assert len(made[1]) < 300


def test_a_clock_that_was_set_back_makes_no_older_change() -> None:
    made = advance(
        begun(),
        refusals(PUBLISHED, [Word(CARDS[5], revoked=True, before=False)]),
        NOW - DAY,
        rhythm=Rhythm(),
        signer=SIGNER,
    )
    assert made is not None
    assert open_change(made[1], KEYS).issued_s == NOW


def test_a_chain_never_grows_beyond_what_a_gate_keeps() -> None:
    chain, rhythm = begun(), Rhythm(change_every_s=1, fold_every_s=10**9)
    for second in range(1, MAX_CHANGES + 50):
        made = advance(chain, Refusals(), NOW + second, rhythm=rhythm, signer=SIGNER)
        assert made is not None
        chain = made[0]
        assert len(chain.sealed) < MAX_CHANGES
    assert chain.number == MAX_CHANGES + 49


def test_a_chain_that_does_not_hold_is_not_gone_on_with() -> None:
    made = advance(
        begun(), refusals(PUBLISHED, [Word(CARDS[5], revoked=True, before=False)]), NOW, rhythm=Rhythm(), signer=SIGNER
    )
    assert made is not None
    with pytest.raises(ListError):
        resume(DENIALS, PUBLISHED, replace(MANIFEST, version=4), made[0].sealed, SIGNER)
    with pytest.raises(ListError):
        resume(DENIALS, PUBLISHED, MANIFEST, [made[1][:-1]], SIGNER)


def test_earlier_lists_stand_beside_the_newest() -> None:
    old = advance(
        begun(), refusals(PUBLISHED, [Word(CARDS[5], revoked=True, before=False)]), NOW, rhythm=Rhythm(), signer=SIGNER
    )
    assert old is not None
    newest = resume(DENIALS, PUBLISHED, replace(MANIFEST, version=4), [], SIGNER)
    assert standing([newest, old[0]]) == {
        "cumulative": b"",
        "since": msgpack.packb([]),
        "before": msgpack.packb([old[1]]),
    }
    assert standing([newest])["before"] == b""
