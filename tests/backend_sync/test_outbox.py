import heapq
from itertools import count, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend_sync.outbox import AckEffect, Outbox, Pace

PACE = Pace(batch=10, window=3, linger=1.0, resend=4.0, resend_max=60.0)


class Office:
    """Keeps what arrives and never accepts some numbers."""

    def __init__(self, refused: frozenset[int] = frozenset()) -> None:
        self.refused = refused
        self.held: set[int] = set()

    def take(self, seqs: range) -> int:
        self.held |= set(seqs) - self.refused
        return self.contiguous

    @property
    def contiguous(self) -> int:
        return next(n for n in count() if n + 1 not in self.held)


class World:
    """A device and its office under virtual time, with a network that loses, delays and reorders both ways."""

    def __init__(self, seed: int, loss: float, refused: frozenset[int] = frozenset()) -> None:
        self.rng = Random(seed)
        self.loss = loss
        self.office = Office(refused)
        self.outbox = Outbox(PACE, Random(seed + 1))
        self.outbox.follow(7, 0)
        self.now = 0.0
        self.head = 0
        self.sent: list[tuple[float, int]] = []
        self._events: list[tuple[float, int, str, range | int]] = []
        self._order = count()

    def _later(self, kind: str, what: range | int) -> None:
        if self.rng.random() >= self.loss:
            heapq.heappush(self._events, (self.now + self.rng.uniform(0.01, 1.0), next(self._order), kind, what))

    def step(self) -> None:
        self.now += 0.25
        self.outbox.seen(self.head, self.now)
        while self._events and self._events[0][0] <= self.now:
            _, _, kind, what = heapq.heappop(self._events)
            if isinstance(what, range):
                self._later("ack", self.office.take(what))
            else:
                before = self.outbox.cursor
                self.outbox.acknowledged(what, 60_000)
                assert self.outbox.cursor >= before, kind
                assert self.outbox.cursor <= self.office.contiguous
        while (due := self.outbox.next(self.now)) is not None:
            after, number = due
            assert 1 <= number <= PACE.batch
            assert after + number <= self.head
            self.outbox.sent(after + number, number, self.now)
            self.sent.append((self.now, number))
            self._later("batch", range(after + 1, after + number + 1))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            self.step()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    bursts=st.lists(st.integers(0, 60), max_size=6),
    cuts=st.booleans(),
)
def test_whatever_the_network_does_everything_arrives(seed: int, loss: float, bursts: list[int], cuts: bool) -> None:  # noqa: FBT001 - drawn
    world = World(seed, loss)
    for burst in bursts:
        world.head += burst
        world.run(5)
        if cuts:
            world.outbox.link_lost()
    world.loss = 0.0
    world.run(600)
    assert world.office.contiguous == world.head
    assert world.outbox.cursor == world.head
    assert world.outbox.queue == 0


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    refused=st.frozensets(st.integers(1, 200), min_size=1, max_size=5)
    | st.builds(lambda first: frozenset(range(first, first + 50)), st.integers(1, 100)),
)
def test_entries_that_are_never_accepted_hold_nothing_else_back(seed: int, refused: frozenset[int]) -> None:
    world = World(seed, 0.0, refused)
    world.head = 200
    world.run(900)
    assert world.office.held == set(range(1, 201)) - refused
    assert world.outbox.cursor == min(refused) - 1


def test_without_loss_nothing_is_sent_twice() -> None:
    world = World(1, 0.0)
    world.head = 1000
    world.run(120)
    assert sum(number for _, number in world.sent) == 1000


def test_nobody_answers_and_the_pauses_grow() -> None:
    world = World(1, 1.0)
    world.head = 10
    world.run(1000)
    times = [time for time, _ in world.sent]
    gaps = [b - a for a, b in pairwise(times)]
    assert 10 <= len(times) <= 30
    assert gaps[0] < 6 < gaps[3]
    assert max(gaps) <= PACE.resend_max * 1.25 + 1


def test_a_batch_that_is_not_full_waits_for_more() -> None:
    outbox = Outbox(PACE, Random(1))
    outbox.follow(7, 0)
    outbox.seen(3, 10.0)
    assert outbox.next(10.9) is None
    outbox.seen(4, 10.9)
    assert outbox.next(11.0) == (0, 4)
    outbox.sent(4, 4, 11.0)
    outbox.seen(14, 11.5)
    assert outbox.next(11.5) == (4, 10), "a full one does not wait"


def test_the_window_bounds_what_is_in_flight() -> None:
    outbox = Outbox(PACE, Random(1))
    outbox.follow(7, 0)
    outbox.seen(100, 0.0)
    for expected in (0, 10, 20):
        outbox.seen(100, 5.0 + expected)
        due = outbox.next(0.1)
        assert due == (expected, 10)
        outbox.sent(expected + 10, 10, 0.1)
        outbox._tokens = 10.0
    assert outbox.next(0.1) is None
    assert outbox.acknowledged(10, 60_000) is AckEffect.MOVED
    assert outbox.next(0.1) == (30, 10)


def test_the_cursor_moves_forward_on_acknowledgements_only() -> None:
    outbox = Outbox(PACE, Random(1))
    outbox.follow(7, 20)
    outbox.seen(40, 0.0)
    assert outbox.acknowledged(10, 60) is AckEffect.NOTHING
    assert outbox.acknowledged(20, 60) is AckEffect.NOTHING
    assert outbox.acknowledged(41, 60) is AckEffect.BEYOND
    assert (outbox.cursor, outbox.queue) == (20, 20)
    assert outbox.acknowledged(35, 60) is AckEffect.MOVED
    assert (outbox.cursor, outbox.queue) == (35, 5)
    outbox.sent(40, 5, 0.0)
    outbox.link_lost()
    assert outbox.cursor == 35


@pytest.mark.parametrize(("contiguous", "slowed"), [(19, False), (20, True), (41, False)])
def test_only_an_acknowledgement_of_the_present_position_or_later_sets_the_rate(
    contiguous: int,
    slowed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    outbox = Outbox(PACE, Random(1))
    outbox.follow(7, 20)
    outbox.seen(40, 0.0)
    assert outbox.next(0.0) == (20, 10)
    outbox.sent(30, 10, 0.0)
    outbox.acknowledged(contiguous, 1)
    assert outbox.next(1.0) == (None if slowed else (30, 10))


def test_what_cannot_be_sent_is_passed_over_and_comes_again_after_a_pause() -> None:
    outbox = Outbox(PACE, Random(1))
    outbox.follow(7, 0)
    outbox.seen(20, 0.0)
    assert outbox.next(0.0) == (0, 10)
    outbox.passed_over(10)
    assert outbox.next(0.0) == (10, 10)
    outbox.passed_over(20)
    assert outbox.next(0.0) is None
    assert outbox.next(PACE.resend * 0.7) is None
    assert outbox.next(PACE.resend * 1.3) == (0, 10)


def test_a_lost_cursor_catches_up_with_the_first_acknowledgement() -> None:
    outbox = Outbox(PACE, Random(1))
    outbox.follow(7, 0)
    outbox.seen(10_000, 0.0)
    assert outbox.next(0.0) == (0, 10)
    outbox.sent(10, 10, 0.0)
    outbox.acknowledged(10_000, 60_000)
    assert outbox.queue == 0
    assert outbox.next(100.0) is None


@settings(max_examples=30)
@given(rate=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_the_rate_is_obeyed(rate: int, seed: int) -> None:
    rng = Random(seed)
    outbox = Outbox(PACE, rng)
    outbox.follow(7, 0)
    outbox.seen(10**6, 0.0)
    outbox.acknowledged(0, rate)
    now, total = 0.0, 0
    while now < 120.0:
        while (due := outbox.next(now)) is not None:
            total += due[1]
            outbox.sent(sum(due), due[1], now)
            outbox.acknowledged(sum(due), rate)
        now += rng.uniform(0.0, 0.5)
    burst = PACE.batch + rate / 60
    assert total <= burst + rate * 2.0
    assert total >= rate * 2.0 - burst


@pytest.mark.parametrize("batch", [0, 51])
def test_a_batch_size_out_of_bounds_is_refused(batch: int) -> None:
    with pytest.raises(ValueError, match="1 to 50"):
        Outbox(Pace(batch=batch), Random(1))
