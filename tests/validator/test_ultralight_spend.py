"""Rides on a card torn away at any moment, at several gates: none is lost, none is taken twice, none is free."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hardware import ultralight_aes as aes
from hardware import ultralight_rides as card
from hardware.virtual.ultralight_aes import Settings, UltralightAes
from tests.hostile import hostile
from tests.tags import TOKEN, Carry, Torn, attempt, carrier, issue, run
from validator.profiles.errors import CardMalformed, CardRefused
from validator.profiles.ultralight_aes import TOKEN_PAGE, open_session
from validator.profiles.ultralight_spend import Order, Spent, look, spend

SOAK = os.environ.get("PILET_SOAK") == "1"
AUTHENTICATION_FRAMES = 3
LOOK_FRAMES, SPEND_FRAMES = 2, 8
PRESENTATION_FRAMES = AUTHENTICATION_FRAMES + LOOK_FRAMES + SPEND_FRAMES


class When(Enum):
    """When power is lost, seen from the frame that it is lost at."""

    BEFORE = auto()
    WHILE_WRITING = auto()
    AFTER = auto()


@dataclass(frozen=True)
class Tear:
    """Power is lost at a frame; bits of a page that is being written are the new ones where `bits` is set."""

    frame: int
    when: When
    bits: int = 0


@dataclass
class Gate:
    """A gate and the one order whose outcome it has not heard yet."""

    name: int
    pending: Order | None = None
    drawn: int = 0
    opened: list[Order] = field(default_factory=list)


def multi_ride(rides: int, counter: int = 0) -> UltralightAes:
    return issue(
        pages={TOKEN_PAGE: TOKEN, card.FIRST_PAGE: card.issued_pages(rides, counter)},
        counters=(0, 0, counter),
        settings=Settings(locked_pages=frozenset({card.LIMIT_PAGE})),
    )


def stored(tag: UltralightAes) -> card.Rides:
    """What the card holds, read from its silicon."""
    first, last = card.FIRST_PAGE * aes.PAGE_BYTES, (card.LAST_PAGE + 1) * aes.PAGE_BYTES
    rides = card.Rides.read(bytes(tag.memory[first:last]), tag.counters[card.COUNTER])
    assert rides is not None
    return rides


def tearing(tag: UltralightAes, tear: Tear | None) -> Carry:
    carry, count = carrier(tag), 0

    def carried(frame: bytes) -> bytes:
        nonlocal count
        count += 1
        if tear is None or count != tear.frame:
            return carry(frame)
        if tear.when is When.AFTER:
            carry(frame)
        elif tear.when is When.WHILE_WRITING:
            tag.tear(frame, halfway(tag, frame, tear.bits))
        raise Torn

    return carried


def halfway(tag: UltralightAes, frame: bytes, bits: int) -> bytes:
    """Some bits of a page are new and the others still old; a counter counts or does not."""
    if frame[0] != aes.WRITE:
        return b"?" if bits else b""
    start = frame[1] * aes.PAGE_BYTES
    old, new = int.from_bytes(tag.memory[start : start + 4]), int.from_bytes(frame[2:6])
    return (old & ~bits | new & bits).to_bytes(4)


def present(tag: UltralightAes, gate: Gate, rides: int, tear: Tear | None = None) -> Spent | None:
    """Hold the card against a gate once; None if it was torn away, or nothing was asked."""
    tag.reset()
    carry = tearing(tag, tear)
    try:
        session = run(open_session(attempt()), carry)
        if gate.pending is None:
            holds = run(look(session), carry)
            gate.drawn += 1
            gate.pending = Order(bytes([gate.name]) + gate.drawn.to_bytes(3), holds.given, rides)
        spent = run(spend(session, gate.pending), carry)
    except Torn:
        return None
    if spent is Spent.TAKEN:
        gate.opened.append(gate.pending)
    if spent is not Spent.ASK_AGAIN:
        gate.pending = None
    return spent


def test_a_ride_counts_first_reads_back_and_then_says_what_it_was_for() -> None:
    tag = multi_ride(10)
    frames: list[bytes] = []
    carry = carrier(tag)

    def note(frame: bytes) -> bytes:
        frames.append(frame)
        return carry(frame)

    session = run(open_session(attempt()), carry)
    assert run(spend(session, Order(b"abcd", 0, 1)), note) is Spent.TAKEN
    assert [frame[0] for frame in frames] == [
        aes.READ_CNT, aes.FAST_READ, aes.INCR_CNT, aes.READ_CNT, aes.WRITE, aes.WRITE, aes.READ_CNT, aes.FAST_READ,
    ]  # fmt: skip
    assert len(frames) == SPEND_FRAMES
    assert tag.counters == [0, 0, 1]
    assert stored(tag) == card.Rides(1, 10, (card.Mark(bytes(4), 0), card.Mark(b"abcd", 1)))


@pytest.mark.parametrize("rides", [1, 2, 15])
@pytest.mark.parametrize("start", [0, 65534, 0xFFFFFF - 30])
def test_as_many_rides_as_were_bought(rides: int, start: int) -> None:
    tag, gate = multi_ride(30, start), Gate(1)
    for ridden in range(0, 30 - rides + 1, rides):
        assert stored(tag).left == 30 - ridden
        assert present(tag, gate, rides) is Spent.TAKEN
    left = 30 % rides
    assert stored(tag).left == left
    assert present(tag, gate, rides) is Spent.NOT_TAKEN
    assert tag.counters[card.COUNTER] == start + 30 - left
    assert sum(order.rides for order in gate.opened) == 30 - left


EVERY_TEAR = [
    Tear(frame, when, bits)
    for frame in range(1, PRESENTATION_FRAMES + 1)
    for when in When
    for bits in ((0, 1, 0xFFFF0000, 0x0000FFFF, 0xAAAAAAAA, 0xFFFFFFFF) if when is When.WHILE_WRITING else (0,))
]


@pytest.mark.parametrize("ridden", [0, 1, 2])
@pytest.mark.parametrize("rides", [1, 3])
def test_torn_at_every_point_and_presented_again_at_the_same_gate(ridden: int, rides: int) -> None:
    for tear in EVERY_TEAR:
        tag, gate = multi_ride(20), Gate(1)
        for _ in range(ridden):
            present(tag, gate, 1)
        gate.opened.clear()
        assert present(tag, gate, rides, tear) is None
        assert gate.opened == []
        assert present(tag, gate, rides) is Spent.TAKEN
        assert len(gate.opened) == 1
        assert stored(tag).left == 20 - ridden - rides
        assert tag.counters[card.COUNTER] == ridden + rides


def test_torn_at_every_two_points_in_a_row() -> None:
    for first in EVERY_TEAR:
        for second in EVERY_TEAR[:: 1 if SOAK else 7]:
            tag, gate = multi_ride(5), Gate(1)
            assert present(tag, gate, 1, first) is None
            if present(tag, gate, 1, second) is None:
                assert present(tag, gate, 1) is Spent.TAKEN
            assert len(gate.opened) == 1
            assert tag.counters[card.COUNTER] == 1
            assert stored(tag).left == 4


def test_torn_at_every_point_and_presented_at_another_gate() -> None:
    unheard = 0
    for tear in EVERY_TEAR:
        tag, first, second = multi_ride(5), Gate(1), Gate(2)
        assert present(tag, first, 1, tear) is None
        given_first = stored(tag).given == 1
        assert present(tag, second, 1) is Spent.TAKEN
        # What was taken and not given is given here: the counter counts once more only if it was given there.
        assert tag.counters[card.COUNTER] == 1 + given_first
        unheard += given_first
        # The first gate is the only one that can tell whose the ride was.
        if first.pending is not None:
            assert present(tag, first, 1) is (Spent.TAKEN if given_first else Spent.NOT_TAKEN)
        assert stored(tag).left == 5 - len(first.opened) - len(second.opened)
    assert 0 < unheard < len(EVERY_TEAR)


TEARS = st.one_of(
    st.none(),
    st.builds(Tear, st.integers(1, PRESENTATION_FRAMES), st.sampled_from(list(When)), st.integers(0, 0xFFFFFFFF)),
)


class Day(RuleBasedStateMachine):
    """One card, three gates, hands that shake."""

    @initialize(rides=st.integers(0, 40), start=st.sampled_from([0, 1, 65530, 0xFFFFFF - 60]))
    def issue(self, rides: int, start: int) -> None:
        self.total, self.start = rides, start
        self.tag = multi_ride(rides, start)
        self.gates = [Gate(number) for number in range(1, 4)]
        self.given: list[Order] = []
        self.written: list[Order] = []

    @rule(number=st.integers(0, 2), rides=st.integers(1, 15), tear=TEARS)
    def present(self, number: int, rides: int, tear: Tear | None) -> None:
        gate, before, memory = self.gates[number], stored(self.tag), bytes(self.tag.memory)
        pending = gate.pending
        spent = present(self.tag, gate, rides, tear)
        after = stored(self.tag)
        order = pending or gate.pending or (gate.opened[-1] if spent is Spent.TAKEN else None)
        if after.given != before.given:
            assert order is not None
            assert (order.before, order.mark.given) == (before.given, after.given)
            assert order not in self.given
            self.given.append(order)
        if order is not None and bytes(self.tag.memory) != memory and order not in self.written[-1:]:
            self.written.append(order)
        match spent:
            case Spent.TAKEN:
                assert gate.opened[-1] in self.given
                assert gate.opened.count(gate.opened[-1]) == 1
            case Spent.NOT_TAKEN:
                assert after.counter == before.counter
                if pending in self.given:
                    later = self.written[len(self.written) - self.written[::-1].index(pending) :]
                    assert len(set(later)) >= 2, "its mark was still there"
                elif pending is None:
                    assert before.left < rides
            case Spent.ASK_AGAIN:
                pytest.fail("nothing was wrong with the answers")
            case None:
                assert tear is not None

    @invariant()
    def the_counter_is_ahead_by_no_more_than_one_order(self) -> None:
        if hasattr(self, "tag"):
            rides = stored(self.tag)
            assert 0 <= rides.counter - rides.given <= card.MAX_RIDES
            assert self.start <= rides.given <= rides.counter <= self.start + self.total

    @invariant()
    def no_ride_is_lost_or_free(self) -> None:
        if hasattr(self, "tag"):
            assert stored(self.tag).left == self.total - sum(order.rides for order in self.given)
            opened = [order for gate in self.gates for order in gate.opened]
            assert len(set(opened)) == len(opened)
            assert set(opened) <= set(self.given)

    def teardown(self) -> None:
        """Steady hands: every gate hears what became of its order, and what is left can be ridden to the end."""
        if not hasattr(self, "tag"):
            return
        for gate in self.gates:
            if gate.pending is not None:
                self.present(self.gates.index(gate), gate.pending.rides, None)
                assert gate.pending is None
        while stored(self.tag).left:
            self.present(0, 1, None)
            assert self.gates[0].opened[-1] == self.given[-1]
        assert self.tag.counters[card.COUNTER] == self.start + self.total


Day.TestCase.settings = settings(max_examples=400 if SOAK else 40, stateful_step_count=30, deadline=None)
TestDay = Day.TestCase


Spoil = Callable[[bytes], bytes]


def answered(tag: UltralightAes, at: int, spoil: Spoil) -> Carry:
    carry, count = carrier(tag), 0

    def carried(frame: bytes) -> bytes:
        nonlocal count
        count += 1
        return spoil(carry(frame)) if count == at else carry(frame)

    return carried


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: bytes([answer[0] ^ 1]) + answer[1:],
        lambda answer: answer[:-1] + bytes([answer[-1] ^ 0x80]),
        lambda answer: answer[:-1],
        lambda answer: answer + b"\0",
        lambda _answer: b"\x0a",
        lambda _answer: b"\x00",
        lambda _answer: b"",
        lambda _answer: bytes(28),
    ],
)
@pytest.mark.parametrize("at", range(1, SPEND_FRAMES + 1))
def test_an_answer_without_its_code_asks_again_and_is_never_an_outcome(at: int, spoil: Spoil) -> None:
    tag, order = multi_ride(5), Order(b"abcd", 0, 1)
    session = run(open_session(attempt()), carrier(tag))
    try:
        spent = run(spend(session, order), answered(tag, at, spoil))
    except Torn:  # what follows a refusal is silence: the session is over on the card
        spent = Spent.ASK_AGAIN
    assert spent is Spent.ASK_AGAIN
    tag.reset()
    assert run(spend(run(open_session(attempt()), carrier(tag)), order), carrier(tag)) is Spent.TAKEN
    assert tag.counters == [0, 0, 1]


def replayed(answers: list[bytes]) -> Carry:
    left = iter(answers)
    return lambda _frame: next(left)


@hostile
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\x0a", b"\x00", bytes(11), bytes(28)])), min_size=20)
)
def test_any_answers_ask_again(answers: list[bytes]) -> None:
    session = aes.Session(bytearray(16))
    assert run(spend(session, Order(b"abcd", 0, 1)), replayed(answers)) is Spent.ASK_AGAIN


def test_the_answers_of_an_earlier_ride_are_no_ride() -> None:
    tag = multi_ride(5)
    carry, recorded = carrier(tag), []

    def record(frame: bytes) -> bytes:
        recorded.append(carry(frame))
        return recorded[-1]

    session = run(open_session(attempt()), carry)
    assert run(spend(session, Order(b"abcd", 0, 1)), record) is Spent.TAKEN
    tag.reset()
    fresh = run(open_session(attempt()), carrier(tag))
    assert run(spend(fresh, Order(b"abcd", 0, 1)), replayed(recorded)) is Spent.ASK_AGAIN


def forgetful(tag: UltralightAes) -> Carry:
    """A card that says yes to writing and does not write."""
    carry = carrier(tag)

    def carried(frame: bytes) -> bytes:
        kept = bytes(tag.memory)
        said = carry(frame)
        if frame[0] == aes.WRITE:
            tag.memory[:] = kept
        return said

    return carried


def test_a_card_that_did_not_write_has_given_nothing() -> None:
    tag = multi_ride(5)
    session = run(open_session(attempt()), carrier(tag))
    assert run(spend(session, Order(b"abcd", 0, 1)), forgetful(tag)) is Spent.ASK_AGAIN
    assert stored(tag).given == 0


def test_an_order_is_recognised_by_its_mark_until_the_second_after_it_is_written() -> None:
    """However many rides were taken since; and the mark that is being written is the one to lose."""
    last_write = PRESENTATION_FRAMES - LOOK_FRAMES
    for tear, heard in ((Tear(9, When.BEFORE), Spent.TAKEN), (Tear(last_write - 1, When.AFTER), Spent.NOT_TAKEN)):
        tag, gates = multi_ride(40), [Gate(number) for number in range(3)]
        assert present(tag, gates[0], 1, Tear(last_write, When.AFTER)) is None
        assert present(tag, gates[1], 15) is Spent.TAKEN
        assert present(tag, gates[2], 15, tear) is None
        assert present(tag, gates[0], 1) is heard
        assert present(tag, gates[2], 15) is Spent.TAKEN
        assert stored(tag).left == 40 - 31


def test_an_old_mark_gives_no_rides_back() -> None:
    """Whoever could write old pages again gains nothing, once one order does not reach from there to here."""
    tag, gate = multi_ride(40), Gate(1)
    old = bytes(tag.memory)
    for _ in range(20):
        assert present(tag, gate, 1) is Spent.TAKEN
    tag.memory[:] = old
    assert stored(tag).left == 20
    assert present(tag, gate, 1) is Spent.TAKEN
    assert (tag.counters[card.COUNTER], stored(tag).left) == (21, 19)


def test_unreadable_marks_leave_the_counter_as_the_truth() -> None:
    tag, gate = multi_ride(5), Gate(1)
    present(tag, gate, 2)
    for page in card.MARK_PAGES:
        tag.memory[page * 4 : page * 4 + 8] = bytes(8)
    assert (stored(tag).given, stored(tag).left) == (2, 3)
    assert present(tag, gate, 3) is Spent.TAKEN
    assert stored(tag).left == 0


def test_a_card_without_rides_is_no_multi_ride_card() -> None:
    tag = issue(pages={TOKEN_PAGE: TOKEN})
    session = run(open_session(attempt()), carrier(tag))
    with pytest.raises(CardMalformed, match="no multi-ride card"):
        run(look(session), carrier(tag))
    tag.reset()
    session = run(open_session(attempt()), carrier(tag))
    assert run(spend(session, Order(b"abcd", 0, 1)), carrier(tag)) is Spent.ASK_AGAIN


def test_a_card_that_refuses_to_be_read_says_so() -> None:
    tag = multi_ride(5)
    session = aes.Session(run(open_session(attempt()), carrier(tag)).key, 2)
    with pytest.raises(CardRefused, match="READ_CNT"):
        run(look(session), carrier(tag))


@pytest.mark.parametrize(("number", "rides"), [(b"abc", 1), (b"abcde", 1), (b"abcd", 0), (b"abcd", 16), (b"abcd", -1)])
def test_an_order_has_a_name_and_a_few_rides(number: bytes, rides: int) -> None:
    with pytest.raises(ValueError, match="1 to 15 rides"):
        Order(number, 0, rides)


@pytest.mark.parametrize(("rides", "counter"), [(-1, 0), (1, 0xFFFFFF), (0, -1), (0, 1 << 24)])
def test_a_card_is_issued_with_rides_that_fit(rides: int, counter: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        card.issued_pages(rides, counter)


MARKS = st.builds(card.Mark, st.binary(min_size=4, max_size=4), st.integers(0, 0xFFFFFF))


@given(MARKS, st.integers(0, 65535))
def test_a_mark_is_read_as_it_was_written(mark: card.Mark, ahead: int) -> None:
    assume(mark.given + ahead <= 0xFFFFFF)
    assert card.Mark.read(bytes(mark), mark.given + ahead) == mark


@given(MARKS, st.integers(0, 63))
def test_a_mark_with_a_wrong_bit_is_none(mark: card.Mark, bit: int) -> None:
    spoiled = (int.from_bytes(bytes(mark)) ^ 1 << bit).to_bytes(8)
    assert card.Mark.read(spoiled, min(0xFFFFFF, mark.given + 10)) is None


@hostile
@given(st.binary(min_size=8, max_size=8), st.integers(0, 0xFFFFFF))
def test_any_bytes_are_a_mark_of_what_was_taken_or_none(octets: bytes, counter: int) -> None:
    mark = card.Mark.read(octets, counter)
    assert mark is None or (bytes(mark) == octets and 0 <= mark.given <= counter)


@hostile
@given(st.binary(min_size=20, max_size=20), st.integers(0, 0xFFFFFF))
def test_any_pages_hold_rides_within_bounds_or_none(pages: bytes, counter: int) -> None:
    rides = card.Rides.read(pages, counter)
    assert rides is None or 0 <= counter - rides.given <= card.MAX_RIDES
