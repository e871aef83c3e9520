"""The cache of known cards: what is found is what was remembered, under this trust list, within the limit; and a file
that is damaged in any way is replaced, never believed and never fatal."""

from collections import OrderedDict
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from validator.certificates import credential_id
from validator.known_cards import KnownCardsError, KnownCardStore
from validator.model import KeyAlgorithm, KnownCard

LIMIT = 4


def block(number: int) -> bytes:
    return number.to_bytes(32)


def card(number: int, trust_version: int = 1) -> KnownCard:
    spki = b"key %d" % number
    return KnownCard(
        credential_id=credential_id(spki),
        algorithm=list(KeyAlgorithm)[number % 4],
        spki=spki,
        not_before=number,
        not_after=number + 2**33,
        issuer_id=(number % 2).to_bytes(16),
        trust_version=trust_version,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "known_cards.db"


class TestStore:
    def test_it_survives_a_restart(self, path: Path) -> None:
        store = KnownCardStore.open(path, 1)
        for number in range(20):
            store.remember(block(number), card(number))
        store.close()
        store.close()
        again = KnownCardStore.open(path, 1)
        assert [again.find(block(number)) for number in range(20)] == [card(number) for number in range(20)]
        assert again.find(block(20)) is None
        again.close()

    def test_a_verdict_can_be_replaced(self, path: Path) -> None:
        store = KnownCardStore.open(path, 1)
        store.remember(block(1), card(1))
        store.remember(block(1), card(2))
        store.close()
        again = KnownCardStore.open(path, 1)
        assert (again.find(block(1)), len(again)) == (card(2), 1)
        again.close()

    def test_a_new_trust_list_drops_what_was_judged_under_another(self, path: Path) -> None:
        store = KnownCardStore.open(path, 1)
        store.remember(block(1), card(1))
        store.adopt(1)
        assert store.find(block(1)) == card(1)
        store.adopt(2)
        assert store.find(block(1)) is None
        store.remember(block(1), card(1))  # a tap that began before
        assert store.find(block(1)) is None
        store.remember(block(2), card(2, trust_version=2))
        store.close()
        for version, expected in ((2, card(2, trust_version=2)), (3, None), (2, None)):
            again = KnownCardStore.open(path, version)
            assert (again.find(block(1)), again.find(block(2))) == (None, expected)
            again.close()

    def test_a_smaller_limit_keeps_the_newest(self, path: Path) -> None:
        store = KnownCardStore.open(path, 1, limit=9)
        for number in range(9):
            store.remember(block(number), card(number))
        store.close()
        again = KnownCardStore.open(path, 1, limit=3)
        assert [number for number in range(9) if again.find(block(number))] == [6, 7, 8]
        again.close()

    def test_a_failing_disk_leaves_the_memory(self, path: Path) -> None:
        store = KnownCardStore.open(path, 1)
        other = apsw.Connection(str(path))
        other.execute("DROP TABLE known_cards")
        for number in (1, 2):
            store.remember(block(number), card(number))
        assert store.find(block(2)) == card(2)
        store.close()
        other.close()

    def test_a_place_that_cannot_be_written_is_named(self) -> None:
        with pytest.raises(KnownCardsError, match="/proc/self/known"):
            KnownCardStore.open(Path("/proc/self/known"), 1)


class TestDamage:
    @pytest.mark.parametrize(
        "spoil",
        [
            "UPDATE known_cards SET record = x'00'",
            "UPDATE known_cards SET digest = x'00'",
            "UPDATE known_cards SET block_id = zeroblob(32)",
            "DROP TABLE known_cards",
            "DROP TABLE known_cards; CREATE TABLE known_cards (other)",
            "PRAGMA user_version = 99",
            "PRAGMA application_id = 99",
        ],
    )
    def test_what_does_not_add_up_is_thrown_away(self, path: Path, spoil: str) -> None:
        store = KnownCardStore.open(path, 1)
        store.remember(block(1), card(1))
        store.close()
        other = apsw.Connection(str(path))
        other.execute(spoil).fetchall()
        other.close()
        again = KnownCardStore.open(path, 1)
        assert len(again) == 0
        again.remember(block(2), card(2))
        again.close()
        last = KnownCardStore.open(path, 1)
        assert (last.find(block(1)), last.find(block(2))) == (None, card(2))
        last.close()

    def test_another_programs_file_is_not_read(self, path: Path) -> None:
        path.write_bytes(b"certainly not a database " * 400)
        store = KnownCardStore.open(path, 1)
        assert len(store) == 0
        store.close()

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(position=st.integers(0, 20_000), flip=st.integers(1, 255), length=st.integers(0, 20_000))
    def test_no_damaged_bit_is_believed(self, tmp_path: Path, position: int, flip: int, length: int) -> None:
        good = tmp_path / "good.db"
        if not good.exists():
            store = KnownCardStore.open(good, 1)
            for number in range(30):
                store.remember(block(number), card(number))
            store.close()
        flipped = bytearray(good.read_bytes())
        flipped[position % len(flipped)] ^= flip
        for damaged in (bytes(flipped), good.read_bytes()[:length]):
            bad = tmp_path / "bad.db"
            bad.write_bytes(damaged)
            store = KnownCardStore.open(bad, 1)
            for number in range(30):
                assert store.find(block(number)) in {None, card(number)}
            store.close()


class CacheMachine(RuleBasedStateMachine):
    """Any order of tap, restart and new list, against a dictionary that forgets its oldest entry."""

    folder: Path

    @initialize()
    def start(self) -> None:
        self.version = 1
        self.expected: OrderedDict[bytes, KnownCard] = OrderedDict()
        self.path = self.folder / "known_cards.db"
        for name in self.folder.iterdir():
            name.unlink()
        self.store = KnownCardStore.open(self.path, self.version, LIMIT)

    @rule(number=st.integers(0, 7))
    def remember(self, number: int) -> None:
        known = card(number, self.version)
        self.store.remember(block(number), known)
        self.expected[block(number)] = known
        self.expected.move_to_end(block(number))
        if len(self.expected) > LIMIT:
            self.expected.popitem(last=False)

    @rule(number=st.integers(0, 7))
    def find(self, number: int) -> None:
        assert self.store.find(block(number)) == self.expected.get(block(number))
        if block(number) in self.expected:
            self.expected.move_to_end(block(number))

    @rule()
    def adopt(self) -> None:
        self.version += 1
        self.store.adopt(self.version)
        self.expected.clear()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = KnownCardStore.open(self.path, self.version, LIMIT)
        assert set(self.store._records) == set(self.expected)
        # Use since the last start is not in the file: what was remembered last counts as seen last.
        self.expected = OrderedDict((key, self.expected[key]) for key in self.store._records)

    @invariant()
    def never_more_than_the_limit(self) -> None:
        if hasattr(self, "store"):
            assert len(self.store) == len(self.expected) <= LIMIT

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()


def test_any_order_of_events(tmp_path: Path) -> None:
    machine = type("Machine", (CacheMachine,), {"folder": tmp_path})
    case = machine.TestCase()  # type: ignore[attr-defined]
    case.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
    case.runTest()
