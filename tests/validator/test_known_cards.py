"""The cache of known cards: what is found is what was remembered, under this trust list, within the limit; and a file
that is damaged in any way is replaced, never believed and never fatal."""

from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from validator import known_cards
from validator.certificates import credential_id
from validator.known_cards import KnownCardsError, KnownCardStore
from validator.model import Assurance, Identity, KeyAlgorithm, KnownCard, Reason, Refusal
from validator.proof import CardProof, Certificate, Shown, Signed

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


def proof_of(shown: Shown) -> CardProof:
    return CardProof("piv", Assurance.CHIP, shown, Signed(b"", b"", KeyAlgorithm.P256), block(1))


def identity_of(known: KnownCard) -> Identity:
    return Identity(known.credential_id, "piv", Assurance.CHIP, known, cached=False)


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

    def test_what_is_forgotten_stays_forgotten(self, path: Path) -> None:
        store = KnownCardStore.open(path, 1)
        for number in (1, 2):
            store.remember(block(number), card(number))
        store.forget(block(1))
        store.forget(block(3))
        assert (store.find(block(1)), store.find(block(2))) == (None, card(2))
        store.close()
        again = KnownCardStore.open(path, 1)
        assert (again.find(block(1)), again.find(block(2))) == (None, card(2))
        again.close()

    def test_it_learns_what_judging_taught(self) -> None:
        """A new card is kept; a kept verdict stays when it held, and goes when the card could not sign for it."""
        store = KnownCardStore.in_memory(1)
        wrong = Refusal(Reason.WRONG_SIGNATURE, "piv")
        store.learn(proof_of(Certificate(b"certificate")), wrong)
        assert store.find(block(1)) is None
        store.learn(proof_of(Certificate(b"certificate")), identity_of(card(1)))
        assert store.find(block(1)) == card(1)
        for verdict in (identity_of(card(1)), Refusal(Reason.REVOKED, "piv", card(1).credential_id)):
            store.learn(proof_of(card(1)), verdict)
            assert store.find(block(1)) == card(1)
        store.learn(proof_of(card(1)), wrong)
        assert store.find(block(1)) is None
        store.close()

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

    @pytest.mark.parametrize("below", ["", "/y.db"])
    def test_a_place_that_cannot_be_written_is_named(self, below: str) -> None:
        with pytest.raises(KnownCardsError, match=f"/proc/self/known.*{below}"):
            KnownCardStore.open(Path(f"/proc/self/known{below}"), 1)

    def test_a_file_is_no_directory(self, path: Path) -> None:
        path.write_text("a file")
        with pytest.raises(KnownCardsError, match="File exists"):
            KnownCardStore.open(path / "x.db", 1)

    def test_a_directory_is_no_file(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(KnownCardsError, match=f"^{path}: "):
            KnownCardStore.open(path, 1)
        assert path.is_dir()

    def test_a_cache_in_memory_works_like_one_on_disk(self) -> None:
        store = KnownCardStore.in_memory(1)
        store.remember(block(1), card(1))
        assert store.find(block(1)) == card(1)
        store.adopt(2)
        assert store.find(block(1)) is None
        store.close()


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

    @pytest.mark.parametrize("content", [b"certainly not a database " * 400, b"short", bytes(4096)])
    def test_another_programs_file_is_left_alone(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(KnownCardsError, match=r"known_cards\.db: .* give another path"):
            KnownCardStore.open(path, 1)
        assert path.read_bytes() == content

    @pytest.mark.parametrize("mode", ["delete", "wal"])
    @pytest.mark.parametrize("application_id", [0, 0x50494C54])
    def test_another_programs_database_is_left_alone(self, path: Path, mode: str, application_id: int) -> None:
        other = apsw.Connection(str(path))
        other.pragma("journal_mode", mode)
        other.execute(
            f"PRAGMA application_id = {application_id}; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)"
        )
        before = {name.name: name.read_bytes() for name in path.parent.iterdir() if name.suffix != ".db-shm"}
        with pytest.raises(KnownCardsError, match="not a file of known cards"):
            KnownCardStore.open(path, 1)
        assert {name.name: name.read_bytes() for name in path.parent.iterdir() if name.suffix != ".db-shm"} == before
        assert other.execute("SELECT x FROM theirs").get == 1
        other.close()

    def test_a_database_that_was_left_with_its_log_keeps_it(self, path: Path) -> None:
        left = path.with_name("left.db")
        other = apsw.Connection(str(left))
        other.pragma("journal_mode", "wal")
        other.execute("PRAGMA application_id = 7; CREATE TABLE theirs (x)")
        for tail in ("", "-wal"):
            path.with_name(path.name + tail).write_bytes(left.with_name(left.name + tail).read_bytes())
        other.close()
        log = path.with_name(path.name + "-wal").read_bytes()
        with pytest.raises(KnownCardsError, match="not a file of known cards"):
            KnownCardStore.open(path, 1)
        assert path.with_name(path.name + "-wal").read_bytes() == log

    def test_an_empty_file_is_filled(self, path: Path) -> None:
        path.touch()
        store = KnownCardStore.open(path, 1)
        store.remember(block(1), card(1))
        store.close()
        again = KnownCardStore.open(path, 1)
        assert again.find(block(1)) == card(1)
        again.close()

    def test_a_cache_in_use_elsewhere_is_not_replaced(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(known_cards, "BUSY_MS", 1)
        store = KnownCardStore.open(path, 1)
        store.remember(block(1), card(1))
        store.close()
        other = apsw.Connection(str(path))
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(KnownCardsError, match="cannot be opened"):
            KnownCardStore.open(path, 2)
        other.execute("ROLLBACK")
        other.close()
        again = KnownCardStore.open(path, 1)
        assert again.find(block(1)) == card(1)
        again.close()

    @example(position=18, flip=4, length=0)  # a format that SQLite would only read
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
            for left in tmp_path.glob("bad.db*"):
                left.unlink()
            bad.write_bytes(damaged)
            if damaged and damaged[68:72] != good.read_bytes()[68:72]:
                with suppress(KnownCardsError):  # it does not say any more whose it is
                    KnownCardStore.open(bad, 1).close()
                continue
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

    @rule(number=st.integers(0, 7))
    def forget(self, number: int) -> None:
        self.store.forget(block(number))
        self.expected.pop(block(number), None)

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
    case = machine.TestCase()  # type: ignore[attr-defined]  # Hypothesis adds it
    case.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
    case.runTest()
