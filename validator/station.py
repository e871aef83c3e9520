"""The loop that binds one reader to one gate: wait, authenticate, decide and record, signal, wait for removal."""

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from hardware.gate import Gate, Signal
from hardware.medium import Medium, MediumLost, MediumTimeout, Reader, ReaderGone, Technology
from validator import decision, entitlement, trust
from validator.clock import SystemClock
from validator.decision import Facts
from validator.dialogue import Traffic, drive
from validator.journal import Journal
from validator.journal_file import JournalError
from validator.known_cards import KnownCardStore
from validator.lists.errors import ListError
from validator.lists.installed import InstalledLists
from validator.lists.manifest import ListKind
from validator.model import Assurance, CardProof, Identity, Instant, Outcome, Reason, Refusal, Tap, Use
from validator.profiles import piv
from validator.profiles.errors import ProfileError
from validator.supervision import Progress

log = structlog.get_logger()

READER, JOURNAL = "reader", "journal"
"""The activities whose progress feeds the watchdog."""

REOPEN_FIRST_S = 0.2
REOPEN_LONGEST_S = 5.0
SHOW_S = 0.7
"""How long a signal stays at least, for a passenger who pulls the card away quickly."""
AGAIN_S = 0.3
"""How long a card that is still there may take to be activated for a second try."""
HOLD_OFF_S = 0.2
"""After "present again" the reader rests this long, so that a card half in the field does not fill the journal."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this station stands and what it asks.

    Attributes:
        place: Stop or gate line.
        lane: The lane; part of what a card signs.
        least_assurance: Least rung of the ladder that opens the gate.
        tap_limit_s: Longest time for the card's dialogue.
        grace_s: Seconds past its date that each list still serves.
    """

    place: str
    lane: str
    least_assurance: Assurance
    tap_limit_s: float
    grace_s: dict[ListKind, int]


@dataclass(frozen=True, slots=True)
class TapReport:
    """A recorded tap, what the passenger saw, and how long it took.

    Attributes:
        seq: Its number in the journal.
        tap: What was recorded.
        signal: What the gate showed.
        ratified: The card was still there when the gate had signalled a grant.
        technology: How the medium spoke.
        traffic: APDUs and octets exchanged.
        card_ms: Waiting for the card until the signal, activation included.
        stages_ms: Own work by stage: dialogue, trust, settle (decide and commit), signal.
    """

    seq: int
    tap: Tap
    signal: Signal
    ratified: bool
    technology: Technology
    traffic: Traffic
    card_ms: float
    stages_ms: dict[str, float]

    @property
    def own_ms(self) -> float:
        """Own work from presence to signal: everything but waiting for the card."""
        return sum(self.stages_ms.values())

    @property
    def total_ms(self) -> float:
        """From presence to signal."""
        return self.card_ms + self.own_ms


@dataclass(slots=True)
class Station:
    """One reader, one gate, one journal.

    Attributes:
        reader: What is polled.
        gate: What the passenger sees and hears.
        journal: Where taps are committed before the gate opens.
        cards: Certificates judged before.
        clock: Wall and monotonic time above the floor.
        where: Place and policy.
        lists: Lists in force; replaced between taps by `adopt`.
        progress: Told when the reader is tried and when the journal has work, for the watchdog.
        on_tap: Told of each recorded tap after its signal.
    """

    reader: Reader
    gate: Gate
    journal: Journal
    cards: KnownCardStore
    clock: SystemClock
    where: Place
    lists: InstalledLists
    progress: Progress
    on_tap: Callable[[TapReport], None] = field(default=lambda _report: None)
    _shown_s: float = float("-inf")

    async def run(self) -> None:
        """Serve taps until cancelled; a failing reader shows FAULT and is opened again and again."""
        pause = REOPEN_FIRST_S
        try:
            while True:
                self.progress.moved(READER, time.monotonic())
                try:
                    await self.reader.open()
                    pause = REOPEN_FIRST_S
                    await self._serve()
                except ReaderGone as gone:
                    await self.gate.show(Signal.FAULT)
                    log.warning("reader.gone", why=str(gone), again_in_s=pause)
                    await self.reader.close()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, REOPEN_LONGEST_S)
        finally:
            await self.reader.close()
            await self.gate.close()

    def adopt(self, lists: InstalledLists) -> None:
        """Put newly installed lists in force for the next tap."""
        self.lists = lists
        self.cards.adopt(lists.versions.trust)
        self.clock.raise_floor(lists.issued_floor_s * 1000)

    async def _serve(self) -> None:
        while True:
            medium = await self._next_medium()
            try:
                medium = await self._tap(medium)
            except (JournalError, ListError) as error:
                # What is not recorded does not open: the passenger sees a fault, and the next tap tries again.
                await self.gate.show(Signal.FAULT)
                log.warning("tap.not_recorded", why=str(error))
            self._shown_s = time.monotonic()
            await medium.removed()
            await self._rest()

    async def _next_medium(self) -> Medium:
        """Wait for the next passenger; the last signal stays long enough to be seen, unless the next one is faster."""
        lamp = asyncio.create_task(self._ready_after(self._shown_s + SHOW_S - time.monotonic()))
        try:
            return await self.reader.wait()
        finally:
            lamp.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lamp

    async def _ready_after(self, left_s: float) -> None:
        await asyncio.sleep(max(0.0, left_s))
        await self.gate.show(Signal.READY)

    async def _tap(self, medium: Medium) -> Medium:
        """Serve one tap, and return the medium as it was last activated."""
        watch = _Stopwatch(medium)
        at, lists, traffic = self.clock.now(), self.lists, Traffic()
        who, proof = await self._authenticate(medium, lists, at, traffic, watch)
        if _torn(who) and (again := await self._activate_again(medium)) is not None:
            medium = again
            watch.follow(medium)
            who, proof = await self._authenticate(medium, lists, at, traffic, watch)
        self.progress.moved(JOURNAL, time.monotonic())
        try:
            recorded = await self.journal.settle(who.credential_id, lambda uses: self._decide(who, lists, at, uses))
        finally:
            # A journal that fails is a fault for the lamp; only one that hangs starves the watchdog.
            self.progress.rests(JOURNAL)
        tap, signal = recorded.tap, _signal(recorded.tap)
        watch.lap("settle")
        await self.gate.show(signal)
        watch.lap("signal")
        card_ms = watch.card_ms

        # The rest need not happen before the passenger sees the signal.
        ratified = tap.outcome is Outcome.GRANT and await medium.present()
        if ratified:
            await self.journal.ratify(recorded.seq)
        if proof is not None and isinstance(who, Identity) and not who.cached:
            self.cards.remember(proof.block_id, who.known)
        technology = medium.target.technology
        self.on_tap(TapReport(recorded.seq, tap, signal, ratified, technology, traffic, card_ms, watch.stages_ms))
        if signal is Signal.PRESENT_AGAIN:
            await asyncio.sleep(HOLD_OFF_S)
        return medium

    async def _activate_again(self, medium: Medium) -> Medium | None:
        """A transmission broke and the card is still there: one more try with a fresh challenge, in the same tap."""
        if not await medium.present():
            return None
        try:
            async with asyncio.timeout(AGAIN_S):
                return await self.reader.wait()
        except TimeoutError:
            return None

    async def _authenticate(
        self, medium: Medium, lists: InstalledLists, at: Instant, traffic: Traffic, watch: "_Stopwatch"
    ) -> tuple[Identity | Refusal, CardProof | None]:
        challenge = piv.challenge_message(self.where.lane, at.wall_ms, secrets.token_bytes(32))
        try:
            async with asyncio.timeout(self.where.tap_limit_s):
                profile = piv.authenticate(challenge, self.cards.find)
                proof = await medium.converse(lambda transceive: drive(profile, transceive, traffic))
        except (MediumLost, MediumTimeout, TimeoutError):
            return Refusal(Reason.PRESENT_AGAIN), None
        except ProfileError as error:
            log.info("card.refused", reason=error.reason.name, why=str(error))
            return Refusal(error.reason), None
        finally:
            watch.lap("dialogue")
        if lists.trust is None:
            return Refusal(Reason.TRUST_LIST_STALE, piv.NAME), proof
        who = trust.judge(proof, lists.trust, lists.denied, at)
        watch.lap("trust")
        return who, proof

    def _decide(self, who: Identity | Refusal, lists: InstalledLists, at: Instant, uses: Sequence[Use]) -> Tap:
        """Decide inside the journal's transaction: own uses cannot change between this look and the commit."""
        right = None
        if isinstance(who, Identity):
            epoch, seq = lists.horizon(self.journal.device)
            horizon = seq if epoch == self.journal.epoch else 0
            right = entitlement.assess(lists.products(who.credential_id), uses, horizon, self.where.place, at)
        grace_s = self.where.grace_s
        verdict = decision.decide(
            Facts(
                who=who,
                right=right,
                trust=lists.freshness(ListKind.TRUST, at, grace_s[ListKind.TRUST]),
                deny=lists.freshness(ListKind.DENY, at, grace_s[ListKind.DENY]),
                tickets=lists.freshness(ListKind.TICKETS, at, grace_s[ListKind.TICKETS]),
                least_assurance=self.where.least_assurance,
            )
        )
        taken = verdict.entitlement
        return Tap(
            at=at,
            place=self.where.place,
            gate=self.where.lane,
            outcome=verdict.outcome,
            reason=verdict.reason,
            graced=verdict.graced,
            versions=lists.versions,
            credential_id=who.credential_id,
            profile=who.profile,
            assurance=who.assurance if isinstance(who, Identity) else None,
            cached=isinstance(who, Identity) and who.cached,
            product_id=None if taken is None else taken.product.product_id,
            rides=0 if taken is None else taken.rides,
            amount=0 if taken is None else taken.amount,
            recovers=None if taken is None else taken.recovers,
        )

    async def _rest(self) -> None:
        """Housekeeping while no card is there: the journal's log, and garbage that a tap must not stop for."""
        gc.collect()
        try:
            await self.journal.idle()
        except JournalError as error:
            log.warning("journal.housekeeping_failed", why=str(error))


class _Stopwatch:
    """Splits own work by stage: wall time minus the time the medium spent answering."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._before_s = 0.0
        self._mark_s = time.perf_counter()
        self._card_mark_s = medium.card_s
        self.stages_ms: dict[str, float] = {}

    @property
    def card_ms(self) -> float:
        """Milliseconds spent waiting for the card so far, activations included."""
        return self._card_s() * 1000

    def follow(self, medium: Medium) -> None:
        """Go on with the same card, activated anew."""
        self._before_s += self._medium.card_s
        self._medium = medium

    def lap(self, stage: str) -> None:
        now_s, card_s = time.perf_counter(), self._card_s()
        own_s = now_s - self._mark_s - (card_s - self._card_mark_s)
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + own_s * 1000
        self._mark_s, self._card_mark_s = now_s, card_s

    def _card_s(self) -> float:
        return self._before_s + self._medium.card_s


def _torn(who: Identity | Refusal) -> bool:
    return isinstance(who, Refusal) and who.reason is Reason.PRESENT_AGAIN


def _signal(tap: Tap) -> Signal:
    if tap.outcome is Outcome.GRANT:
        return Signal.GRANT
    return Signal.PRESENT_AGAIN if tap.reason is Reason.PRESENT_AGAIN else Signal.DENY
