"""Journal, entitlement and decision together, through taps, torn cards, crashes, lying clocks and new lists.

The model keeps what was sold and what was recorded; the laws are about what passengers get for it.
"""

import os
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from validator.clock import TimeFloor, read
from validator.decision import Facts, decide
from validator.entitlement import assess
from validator.journal_file import JournalFile
from validator.journal_reader import JournalReader
from validator.list_facts import Freshness, ListVersions
from validator.model import Assurance, ClockConfidence, Identity, Instant, KeyAlgorithm, KnownCard, Reason, Tap
from validator.rights import Product, ProductKind, Use

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
CARDS = [bytes([number] * 16) for number in range(3)]
PLACE = "Viru"
WINDOW_S = 60
START_MS = 1_795_400_000_000
DAY_S = 86_400
FOREVER = START_MS // 1000 + 1000 * DAY_S

PASS = Product(1, ProductKind.PERIOD_PASS, 0, FOREVER, 0, pass_back_s=WINDOW_S)
CARNET = Product(2, ProductKind.CARNET, 0, FOREVER, 0, rides=4, pass_back_s=WINDOW_S)
VALUE = Product(3, ProductKind.STORED_VALUE, 0, FOREVER, 0, balance=1000, fare=300, pass_back_s=WINDOW_S)
SOLD = {CARDS[0]: [PASS], CARDS[1]: [CARNET, VALUE], CARDS[2]: [replace(VALUE, product_id=4)]}


@dataclass(slots=True)
class Ridden:
    """A grant as the model remembers it, with the true time that nobody at the gate knows."""

    seq: int
    tap: Tap
    true_ms: int
    ratified: bool = False


class JournalStates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-states-"))
        self.lives = 0
        self.head = 0
        self.pruned = 0
        self.ridden: dict[bytes, list[Ridden]] = {card: [] for card in CARDS}
        self.horizon = 0
        self.true_ms = self.mono_ms = 0
        self.wall_error_ms = 0
        self.boots = 0
        self.source = ClockConfidence.NTP

    @initialize()
    def begin(self) -> None:
        self.file = self.opened()

    def opened(self) -> JournalFile:
        path = self.folder / f"life-{self.lives}" / "journal.db"
        path.parent.mkdir(exist_ok=True)
        file = JournalFile(path, "gate-1", KEY, vfs=None, synchronous="NORMAL")
        self.path, self.floor = path, TimeFloor(file.floor_ms, self.mono_ms)
        return file

    def now(self) -> Instant:
        wall_ms = START_MS + self.true_ms + self.wall_error_ms
        return read(wall_ms, self.mono_ms, self.boots.to_bytes(8), self.floor, self.source)

    def tickets(self, card: bytes) -> list[Product]:
        """What a list says that was made when the back office knew all taps up to the horizon."""
        known = [one.tap for one in self.ridden[card] if one.seq <= self.horizon]
        return [
            replace(
                product,
                rides=product.rides - sum(tap.rides for tap in known if tap.product_id == product.product_id),
                balance=product.balance - sum(tap.amount for tap in known if tap.product_id == product.product_id),
            )
            for product in SOLD[card]
        ]

    @rule(card=st.sampled_from(CARDS))
    def tap(self, card: bytes) -> None:
        at, before = self.now(), list(self.ridden[card])

        def make(uses: list[Use]) -> Tap:
            who = Identity(card, "piv", Assurance.CHIP, KNOWN, cached=True)
            right = assess(self.tickets(card), uses, self.horizon, PLACE, at)
            fresh = Freshness.FRESH
            verdict = decide(Facts(who, right, fresh, fresh, fresh, Assurance.CHIP))
            taken = verdict.entitlement
            return Tap(
                at,
                PLACE,
                "north-2",
                verdict.outcome,
                verdict.reason,
                verdict.graced,
                ListVersions(1, 1, 1),
                card,
                product_id=taken.product_id if taken else None,
                rides=taken.rides if taken else 0,
                amount=taken.amount if taken else 0,
                recovers=taken.recovers if taken else None,
            )

        seq, tap = self.file.settle(card, lambda uses: make(list(uses)))
        self.head += 1
        assert seq == self.head
        self.check_pass_back(tap, before)
        if tap.reason in (Reason.VALID, Reason.RECOVERED):
            self.ridden[card].append(Ridden(seq, tap, self.true_ms))

    def check_pass_back(self, tap: Tap, before: list[Ridden]) -> None:
        last = before[-1] if before else None
        recovered = {one.tap.recovers for one in before}
        if tap.reason is Reason.RECOVERED:
            assert last is not None
            assert tap.recovers == last.seq
            assert not last.ratified
            assert last.tap.recovers is None
            assert (tap.rides, tap.amount, tap.product_id) == (0, 0, last.tap.product_id)
        if last is not None and last.tap.at.boot == tap.at.boot:
            # Within one boot no lie of the wall clock moves the window by a millisecond.
            within = self.true_ms - last.true_ms < WINDOW_S * 1000
            repeatable = not last.ratified and last.tap.recovers is None and last.seq not in recovered
            assert (tap.reason is Reason.PASS_BACK) == (within and not repeatable)
            assert (tap.reason is Reason.RECOVERED) == (within and repeatable)

    @precondition(lambda self: any(self.ridden.values()))
    @rule(data=st.data())
    def ratify(self, data: st.DataObject) -> None:
        ridden = data.draw(st.sampled_from([one for rides in self.ridden.values() for one in rides[-2:]]))
        self.file.ratify(ridden.seq)
        ridden.ratified = True

    @rule(seconds=st.sampled_from([1, 20, 59, 60, 61, 3600]))
    def wait(self, seconds: int) -> None:
        self.true_ms += seconds * 1000
        self.mono_ms += seconds * 1000

    @rule(seconds=st.integers(-2 * DAY_S, 2 * DAY_S))
    def set_wall_clock(self, seconds: int) -> None:
        self.wall_error_ms = seconds * 1000

    @rule(source=st.sampled_from(ClockConfidence))
    def change_source(self, source: ClockConfidence) -> None:
        self.source = source

    @rule(share=st.floats(0, 1))
    def new_list(self, share: float) -> None:
        self.horizon += int((self.head - self.horizon) * share)

    @rule()
    def start_again(self) -> None:
        self.file.close()
        self.file = self.opened()

    @rule(off_s=st.integers(5, 600))
    def crash_and_boot(self, off_s: int) -> None:
        """Go on from what lies on the disk while the old process still has it open."""
        self.lives += 1
        target = self.folder / f"life-{self.lives}"
        target.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copyfile(self.path.with_name(name), target / name)
        self.file.close()
        self.boots += 1
        self.true_ms += off_s * 1000
        self.mono_ms = 1000
        self.file = self.opened()

    @rule(keep_s=st.sampled_from([WINDOW_S, DAY_S, 3 * DAY_S]))
    def prune(self, keep_s: int) -> None:
        # A gate keeps days. A clock that is set forward by more than that makes it forget too early, which costs the
        # operator a pass-back and nobody a ride.
        before_ms = self.now().wall_ms - max(0, self.wall_error_ms) - keep_s * 1000
        while self.file.prune(self.horizon + 1, before_ms, self.horizon):
            pass

    @rule()
    def checkpoint(self) -> None:
        self.file.checkpoint()

    @invariant()
    def nothing_is_overspent(self) -> None:
        for card, products in SOLD.items():
            for product in products:
                taps = [one.tap for one in self.ridden[card] if one.tap.product_id == product.product_id]
                assert sum(tap.rides for tap in taps) <= product.rides
                assert sum(tap.amount for tap in taps) <= product.balance

    @invariant()
    def each_torn_tap_is_recovered_once(self) -> None:
        recovered = [one.tap.recovers for rides in self.ridden.values() for one in rides if one.tap.recovers]
        assert len(recovered) == len(set(recovered))

    def teardown(self) -> None:
        self.file.close()
        with closing(JournalReader(self.path)) as reader:
            assert reader.head() == self.head
            kept = reader.verify(KEY.public_key())
            assert [seq for seq, _ in reader.entries_after(0, self.head + 1)] == list(
                range(self.head - kept + 1, self.head + 1)
            )
        shutil.rmtree(self.folder)


KNOWN = KnownCard(bytes(16), KeyAlgorithm.P256, b"", 0, 1, bytes(16), 1)

TestJournalStates = pytest.mark.slow(JournalStates.TestCase)
TestJournalStates.settings = settings(
    max_examples=2000 if os.environ.get("PILET_SOAK") == "1" else 60, stateful_step_count=40, deadline=None
)
