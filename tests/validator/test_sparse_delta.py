"""Changes to a sparse deny list: a chain of deltas is a chain of sets, and no other chain is taken."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile
from validator.lists.clubcard import MAGIC, Clubcard, Status
from validator.lists.errors import ListError
from validator.lists.sparse_delta import HEADER_BYTES, Overlay, SparseDelta, SparseDeny, over

SNAPSHOT = hashlib.blake2b(b"snapshot", digest_size=32).digest()
IDS = [hashlib.sha256(b"card %d" % number).digest()[:16] for number in range(12)]
CHANGES = st.dictionaries(st.sampled_from(IDS), st.booleans(), max_size=8)
CHAINS = st.lists(CHANGES, max_size=6)


def applied(overlay: Overlay, changes: dict[bytes, bool]) -> tuple[Overlay, SparseDelta]:
    """Apply what of some changes is one: what was added or removed already cannot be so again."""
    added = {each for each, denied in changes.items() if denied} - overlay.denied
    removed = {each for each, denied in changes.items() if not denied} - overlay.cleared
    delta = overlay.delta(added, removed)
    return overlay.with_delta(delta), delta


def nobody() -> Clubcard:
    """A snapshot without cards."""
    body = bytes(16 + 20)
    return Clubcard.parse(MAGIC + hashlib.blake2b(body, digest_size=32).digest() + body)


class TestChain:
    @given(chain=CHAINS)
    def test_the_last_change_to_a_card_counts(self, chain: Sequence[dict[bytes, bool]]) -> None:
        overlay, told = Overlay(SNAPSHOT), dict[bytes, bool]()
        for changes in chain:
            overlay, _ = applied(overlay, changes)
            told |= changes
        for credential_id in IDS:
            expected = {True: Status.DENIED, False: Status.GOOD, None: None}[told.get(credential_id)]
            assert overlay.status(credential_id) is expected

    @given(chain=CHAINS)
    def test_the_cumulative_delta_leads_to_where_the_chain_leads(self, chain: Sequence[dict[bytes, bool]]) -> None:
        overlay = Overlay(SNAPSHOT)
        for changes in chain:
            overlay, _ = applied(overlay, changes)
        again = Overlay(SNAPSHOT).with_delta(overlay.cumulative())
        assert (again.state_hash, again.denied, again.cleared) == (overlay.state_hash, overlay.denied, overlay.cleared)

    @given(chain=CHAINS)
    def test_another_state_has_another_hash(self, chain: Sequence[dict[bytes, bool]]) -> None:
        overlay = Overlay(SNAPSHOT)
        seen = {overlay.state_hash: (overlay.denied, overlay.cleared)}
        for changes in chain:
            overlay, _ = applied(overlay, changes)
            assert seen.setdefault(overlay.state_hash, (overlay.denied, overlay.cleared)) == (
                overlay.denied,
                overlay.cleared,
            )
        assert len(set(seen.values())) == len(seen)
        assert Overlay(bytes(32), overlay.denied, overlay.cleared).state_hash != overlay.state_hash

    def test_a_delta_out_of_turn_is_refused(self) -> None:
        start = Overlay(SNAPSHOT)
        one, first = applied(start, {IDS[0]: True})
        two, second = applied(one, {IDS[1]: True})
        for overlay, delta in ((start, second), (one, first), (two, first), (two, second)):
            with pytest.raises(ListError, match="begins at state"):
                overlay.with_delta(delta, "here")

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"added": frozenset({IDS[0], IDS[2]})}, "added already"),
            ({"removed": frozenset({IDS[1]})}, "removed already"),
            ({"added": frozenset({IDS[3]})}, "leads to"),
            ({"new": bytes(32)}, "leads to"),
        ],
    )
    def test_a_delta_that_does_not_fit_changes_nothing(self, change: dict[str, Any], why: str) -> None:
        overlay, _ = applied(Overlay(SNAPSHOT), {IDS[0]: True, IDS[1]: False})
        before = overlay.state_hash, overlay.denied, overlay.cleared
        with pytest.raises(ListError, match=why):
            overlay.with_delta(replace(overlay.delta([IDS[2]], []), **change), "here")
        assert (overlay.state_hash, overlay.denied, overlay.cleared) == before

    @pytest.mark.parametrize(
        ("added", "removed", "why"),
        [
            ([IDS[2]], [IDS[2]], "both added and removed"),
            ([b"short"], [], "has not 16 bytes"),
            ([], [bytes(17)], "has not 16 bytes"),
            ([IDS[0]], [], "added already"),
            ([], [IDS[1]], "removed already"),
        ],
    )
    def test_no_delta_is_made_that_a_gate_would_refuse(
        self, added: list[bytes], removed: list[bytes], why: str
    ) -> None:
        overlay, _ = applied(Overlay(SNAPSHOT), {IDS[0]: True, IDS[1]: False})
        with pytest.raises(ListError, match=why):
            overlay.delta(added, removed)


class TestPayload:
    @given(chain=CHAINS.filter(bool))
    def test_what_is_written_is_what_is_read(self, chain: Sequence[dict[bytes, bool]]) -> None:
        overlay = Overlay(SNAPSHOT)
        for changes in chain:
            overlay, delta = applied(overlay, changes)
            assert SparseDelta.parse(delta.encode()) == delta
            assert len(delta.encode()) == HEADER_BYTES + 16 * (len(delta.added) + len(delta.removed))

    def test_any_cut_is_refused_and_any_changed_bit_is_refused_or_does_not_fit(self) -> None:
        overlay = Overlay(SNAPSHOT)
        payload = overlay.delta(IDS[:5], IDS[5:8]).encode()
        for length in range(len(payload)):
            with pytest.raises(ListError):
                SparseDelta.parse(payload[:length])
        for place in range(len(payload) * 8):
            flipped = bytearray(payload)
            flipped[place // 8] ^= 1 << place % 8
            with pytest.raises(ListError):
                overlay.with_delta(SparseDelta.parse(bytes(flipped)))

    @hostile
    @given(junk=st.binary(max_size=200), counts=st.tuples(st.integers(0, 4), st.integers(0, 4)))
    def test_what_is_read_is_what_would_be_written(self, junk: bytes, counts: tuple[int, int]) -> None:
        header = b"pilet-sparse-d/1" + bytes(64) + b"".join(count.to_bytes(4) for count in counts)
        for payload in (junk, header + junk, header + junk[: 16 * sum(counts)]):
            try:
                delta = SparseDelta.parse(payload)
            except ListError:
                continue
            assert delta.encode() == payload

    @pytest.mark.parametrize(
        ("added", "removed", "why"),
        [
            ([IDS[0], IDS[0]], [], "not in order"),
            ([], [max(IDS), min(IDS)], "not in order"),
            ([IDS[0]], [IDS[0]], "both added and removed"),
        ],
    )
    def test_ids_ascend_and_are_there_once(self, added: list[bytes], removed: list[bytes], why: str) -> None:
        counts = len(added).to_bytes(4) + len(removed).to_bytes(4)
        with pytest.raises(ListError, match=why):
            SparseDelta.parse(b"".join((b"pilet-sparse-d/1", SNAPSHOT, SNAPSHOT, counts, *added, *removed)))

    def test_hashes_have_their_length(self) -> None:
        with pytest.raises(ListError, match="states of 31 and 32 bytes"):
            SparseDelta(bytes(31), bytes(32), frozenset(), frozenset()).encode()


class TestOverASnapshot:
    def test_the_overlay_is_asked_first_and_for_any_card(self) -> None:
        deny: SparseDeny = over(nobody())
        assert deny.status(b"2019", IDS[0], 0) is Status.UNCOVERED
        deny = deny.with_delta(deny.overlay.delta([IDS[0]], [IDS[1]]))
        answers = [deny.status(b"2019", credential_id, 0) for credential_id in IDS[:3]]
        assert answers == [Status.DENIED, Status.GOOD, Status.UNCOVERED]

    def test_a_delta_for_another_snapshot_is_refused(self) -> None:
        with pytest.raises(ListError, match="begins at state"):
            over(nobody()).with_delta(Overlay(SNAPSHOT).delta([IDS[0]], []))
