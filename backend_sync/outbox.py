"""What a device sends next, and when: the journal past a cursor, as a state machine without a clock or a network.

The journal is the only queue. The cursor moves on acknowledgements alone; everything else here (what is in flight, what
was answered) may be forgotten at any moment and costs at most a resend, which the ledger discards.

A batch that times out is sent again from the cursor. If the back office answers and still does not pass an entry (its
signature is damaged on disk, say), resending mends nothing: after two tries the outbox goes on with what follows, so
that one bad entry never holds back the good ones, and comes back to it with growing pauses.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto, unique
from random import Random

from backend_sync.wire import MAX_BATCH_TAPS

_TRIES_BEFORE_GOING_ON = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """How eagerly a device sends. Times are seconds.

    Attributes:
        batch: Taps per message, at most 50.
        window: Messages on their way at once.
        linger: How long a batch that is not full waits for more taps.
        resend: How long to wait for the back office's acknowledgement before sending again.
        resend_max: To where that time doubles while nobody answers.
        rate: Taps per minute until the back office says otherwise.
    """

    batch: int = MAX_BATCH_TAPS
    window: int = 4
    linger: float = 1.0
    resend: float = 5.0
    resend_max: float = 300.0
    rate: int = 60_000


@unique
class AckEffect(Enum):
    """What an acknowledgement did."""

    MOVED = auto()
    NOTHING = auto()  # repeated, late or reordered
    BEYOND = auto()  # for entries that this journal does not have: ignored


@dataclass(slots=True)
class _Flight:
    last: int
    deadline: float
    answered: bool = False


class Outbox:
    """One journal's way out.

    Args:
        pace: How eagerly to send.
        rng: Source of jitter.
    """

    def __init__(self, pace: Pace, rng: Random) -> None:
        if not 1 <= pace.batch <= MAX_BATCH_TAPS:
            raise ValueError(f"a batch of {pace.batch} taps: use 1 to {MAX_BATCH_TAPS}")
        self._pace = pace
        self._rng = rng
        self._rate = pace.rate
        self._tokens = float(pace.batch)
        self._refilled: float | None = None
        self.follow(0, 0)

    def follow(self, epoch: int, cursor: int) -> None:
        """Take up a journal's epoch from its cursor, with nothing in flight."""
        self.epoch = epoch
        self.cursor = cursor
        self.head = cursor
        self._sent_up_to = cursor
        self._flights: deque[_Flight] = deque()
        self._waiting_since = 0.0
        self._not_before = 0.0
        self._unanswered = 0
        self._unpassed = 0
        self._rounds = 0

    @property
    def queue(self) -> int:
        """Entries that are not acknowledged."""
        return max(0, self.head - self.cursor)

    def seen(self, head: int, now: float) -> None:
        """Take note of the journal's latest sequence number.

        Args:
            head: Latest sequence number, 0 in an empty journal.
            now: Seconds of a monotonic clock.
        """
        if self._sent_up_to >= self.head and head > self.head:
            self._waiting_since = now
        self.head = head
        self._sent_up_to = min(self._sent_up_to, max(head, self.cursor))

    def next(self, now: float) -> tuple[int, int] | None:
        """Return what to send now as ``(after_seq, count)``, or None if this is not the moment."""
        self._expire(now)
        available = self.head - self._sent_up_to
        if available <= 0:
            self._go_round(now)
            return None
        if now < self._not_before or len(self._flights) >= self._pace.window:
            return None
        if available < self._pace.batch and now < self._waiting_since + self._pace.linger:
            return None
        count = min(available, self._pace.batch)
        self._refill(now)
        return (self._sent_up_to, count) if self._tokens >= count else None

    def sent(self, last: int, count: int, now: float) -> None:
        """Take note that `count` entries up to `last` were handed to the network."""
        self._tokens -= count
        self._sent_up_to = last
        self._flights.append(_Flight(last, now + self._pause(self._unanswered)))

    def passed_over(self, last: int) -> None:
        """Take note that the entries up to `last` cannot be sent: what follows them can."""
        self._sent_up_to = last

    def acknowledged(self, contiguous_up_to: int, send_rate: int) -> AckEffect:
        """Take note of an acknowledgement for this epoch, verified by the caller.

        Args:
            contiguous_up_to: Entries 1 to here are committed.
            send_rate: Taps per minute from now on; of an acknowledgement that is behind the cursor it counts no more.
        """
        if contiguous_up_to > self.head:
            return AckEffect.BEYOND
        if contiguous_up_to >= self.cursor:
            self._rate = max(1, send_rate)
        self._unanswered = 0
        for flight in self._flights:
            flight.answered = True
        if contiguous_up_to <= self.cursor:
            return AckEffect.NOTHING
        self.cursor = contiguous_up_to
        self._unpassed = self._rounds = 0
        self._not_before = 0.0
        self._sent_up_to = max(self._sent_up_to, self.cursor)
        while self._flights and self._flights[0].last <= self.cursor:
            self._flights.popleft()
        return AckEffect.MOVED

    def link_lost(self) -> None:
        """Forget what was in flight: the next connection starts from the cursor."""
        self._flights.clear()
        self._sent_up_to = self.cursor

    def _expire(self, now: float) -> None:
        while self._flights and self._flights[0].deadline <= now:
            flight = self._flights.popleft()
            if flight.answered:
                self._unpassed += 1
                if self._unpassed > _TRIES_BEFORE_GOING_ON:
                    continue
            else:
                self._unanswered += 1
            self.link_lost()

    def _go_round(self, now: float) -> None:
        """Everything was sent and answered, and a hole is left: begin again from the cursor after a pause."""
        if self.queue and not self._flights:
            self._not_before = now + self._pause(self._rounds)
            self._rounds += 1
            self._sent_up_to = self.cursor

    def _refill(self, now: float) -> None:
        per_second = self._rate / 60
        if self._refilled is not None:
            self._tokens += (now - self._refilled) * per_second
        self._refilled = now
        self._tokens = min(self._tokens, self._pace.batch + per_second)

    def _pause(self, doublings: int) -> float:
        longest = min(self._pace.resend_max, self._pace.resend * 2.0 ** min(doublings, 16))
        return longest * self._rng.uniform(0.75, 1.25)
