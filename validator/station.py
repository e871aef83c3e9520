"""The loop that binds one reader to one gate: wait, authenticate, decide and record, signal, wait for removal."""

import asyncio
import gc
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from hardware.gate import Gate, Signal
from hardware.medium import Medium, Met, Reader, ReaderError, Target, Technology
from validator import answer as answers
from validator import choice, decision, entitlement
from validator.answer import ANYBODY, Passengers
from validator.choice import Family, TagFamily
from validator.clock import SystemClock
from validator.decision import Facts
from validator.dialogue import Profile, Traffic
from validator.fares.at_gate import RideHere
from validator.journal import Journal, Recorded
from validator.journal_file import JournalError
from validator.known_cards import KnownCardStore
from validator.lists.errors import ListError
from validator.lists.gate_rules import StalePolicies
from validator.lists.installed import InstalledLists, guest_at
from validator.lookahead import TapLookAhead
from validator.model import Assurance, Identity, Instant, Label, Outcome, Reason, Refusal, Tap
from validator.position import NOWHERE, Position
from validator.presentation import Examiner, Presented, Stopwatch, Verdict
from validator.profiles.attempt import Attempt, CardKeys, CardKeysFailed
from validator.proof import CardProof
from validator.rights import Use
from validator.risk import NO_RULES, RiskRules
from validator.standing import standing
from validator.supervision import Progress

log = structlog.get_logger()

READER, JOURNAL = "reader", "journal"
"""The activities whose progress feeds the watchdog."""

REOPEN_FIRST_S = 0.2
REOPEN_LONGEST_S = 5.0
SHOW_S = 0.7
"""How long a signal stays at least, for a passenger who pulls the card away quickly."""
HOLD_OFF_S = 0.2
"""After "present again" the reader rests this long, so that a card half in the field does not fill the journal."""


_AGAIN = {Reason.PRESENT_AGAIN: Signal.PRESENT_AGAIN, Reason.ONE_CARD_AT_A_TIME: Signal.ONE_CARD}
"""Taps that the passenger is asked to repeat, and how."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this station stands and what it asks.

    Attributes:
        place: Stop or gate line.
        lane: The lane; part of what a card signs.
        region: The network.
        least_assurance: Least rung of the ladder that opens the gate.
        tap_limit_s: Longest time for the card's dialogue.
        stale: What each list is worth past its date, where no signed configuration says it.
        guest_pass_back_s: Seconds within which a second ride of a guest is refused; None where no guests are admitted.
        label: What the lane calls its taps; an exit is a way out.
        risk: What the place risks on a card.
    """

    place: str
    lane: str
    region: str
    least_assurance: Assurance
    tap_limit_s: float
    stale: StalePolicies
    guest_pass_back_s: int | None = None
    label: Label = Label.NONE
    risk: RiskRules = NO_RULES


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
        answer: What the passenger read.
    """

    seq: int
    tap: Tap
    signal: Signal
    ratified: bool
    technology: Technology
    traffic: Traffic
    card_ms: float
    stages_ms: dict[str, float]
    answer: str = ""

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
        families: Card families, in the order of their expected share.
        keys: Keys of the families that have no public key.
        lists: Lists in force; replaced between taps by `adopt`.
        progress: Told when the reader is tried and when the journal has work, for the watchdog.
        on_tap: Told of each recorded tap after its signal.
        on_ready: Called once, when the reader was opened or the lamp shows that it could not be.
        position: Says where the gate is at a moment.
        passengers: Who reads the display.
    """

    reader: Reader
    gate: Gate
    journal: Journal
    cards: KnownCardStore
    clock: SystemClock
    where: Place
    families: Sequence[Family | TagFamily]
    keys: CardKeys
    lists: InstalledLists
    progress: Progress
    on_tap: Callable[[TapReport], None] = field(default=lambda _report: None)
    on_ready: Callable[[], None] = field(default=lambda: None)
    position: Callable[[Instant], Position] = field(default=lambda _at: NOWHERE)
    passengers: Passengers = ANYBODY
    _shown_s: float = float("-inf")
    _ready: bool = False
    look_ahead: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "look-ahead"))

    async def run(self) -> None:
        """Serve taps until cancelled; a failing reader shows FAULT and is opened again and again."""
        pause = REOPEN_FIRST_S
        try:
            while True:
                self.progress.moved(READER, time.monotonic())
                try:
                    await self.reader.open()
                    self._say_ready()
                    pause = REOPEN_FIRST_S
                    await self._serve()
                except ReaderError as gone:
                    await self.gate.show(Signal.FAULT)
                    self._say_ready()
                    log.warning("reader.gone", why=str(gone), again_in_s=pause)
                    await self.reader.close()
                    self.progress.moved(READER, time.monotonic())
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, REOPEN_LONGEST_S)
        finally:
            self.look_ahead.shutdown(wait=False, cancel_futures=True)
            await self.reader.close()
            await self.gate.close()

    def adopt(self, lists: InstalledLists) -> None:
        """Put newly installed lists in force for the next tap."""
        self.lists = lists
        self.cards.adopt(lists.versions.trust)
        self.clock.raise_floor(lists.issued_floor_s * 1000)

    async def _serve(self) -> None:
        while True:
            tapping = _Tapping(self)
            met = await self._next_medium(tapping.examiner)
            medium = met.medium
            try:
                medium = await self._tap(tapping, met)
            except (JournalError, ListError, CardKeysFailed, ValueError) as error:
                # What is not recorded does not open: the passenger sees a fault, and the next tap tries again.
                # A value error is a list or a state that cannot make an entry; it must not take the gate with it.
                await self.gate.show(Signal.FAULT)
                log.exception("tap.not_recorded", why=str(error))
            self._shown_s = time.monotonic()
            await medium.removed()
            await self._rest()

    async def _next_medium(self, examiner: Examiner) -> Met[Verdict]:
        """Wait for the next passenger; the last signal stays long enough to be seen, unless the next one is faster."""
        lamp = asyncio.create_task(self._ready_after(self._shown_s + SHOW_S - time.monotonic()))
        try:
            return await examiner.meet()
        finally:
            if not lamp.done():
                lamp.cancel()
                # Not awaited with its own cancellation suppressed: that would swallow ours, too.
                await asyncio.wait([lamp])

    def _say_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self.on_ready()

    async def _ready_after(self, left_s: float) -> None:
        await asyncio.sleep(max(0.0, left_s))
        await self.gate.show(Signal.READY)

    async def _tap(self, tapping: "_Tapping", met: Met[Verdict]) -> Medium:
        """Serve one tap, and return the medium as it was last activated."""
        seen, watch = await tapping.examiner.examine(met), tapping.examiner.watch
        self.progress.moved(JOURNAL, time.monotonic())
        try:
            recorded = await self.journal.settle(_named(seen.who), lambda uses: self._decide(seen, tapping, uses))
        finally:
            # A journal that fails is a fault for the lamp; only one that hangs starves the watchdog.
            self.progress.rests(JOURNAL)
        watch.lap("settle")
        await self.gate.show(_signal(recorded.tap), tapping.answer)
        watch.lap("signal")
        await self._afterwards(seen, recorded, watch, tapping.answer)
        return seen.medium

    async def _afterwards(self, seen: Presented, recorded: Recorded, watch: Stopwatch, answer: str) -> None:
        """What need not happen before the passenger sees the signal; nothing here takes the signal back."""
        tap, card_ms, ratified = recorded.tap, watch.card_ms, False
        try:
            if tap.outcome is Outcome.GRANT and await seen.medium.present():
                await self.journal.ratify(recorded.seq)
                ratified = True
        except JournalError as error:
            log.warning("tap.not_ratified", seq=recorded.seq, why=str(error))
        finally:
            if seen.proof is not None:
                self.cards.learn(seen.proof, seen.who)
            technology = seen.medium.target.technology
            report = TapReport(
                recorded.seq, tap, _signal(tap), ratified, technology, seen.traffic, card_ms, watch.stages_ms, answer
            )
            self.on_tap(report)
        if tap.reason in _AGAIN:
            await asyncio.sleep(HOLD_OFF_S)

    def _decide(self, seen: Presented, tapping: "_Tapping", uses: Sequence[Use]) -> Tap:
        """Decide inside the journal's transaction: own uses cannot change between this look and the commit."""
        moment = tapping.moment()
        at, lists = moment.at, moment.lists
        who, right, horizon, position = seen.who, None, 0, self.position(at)
        edition = lists.editions.at(at.wall_s)
        if isinstance(who, Identity):
            epoch, seq = lists.horizon(self.journal.device)
            # A horizon beyond the journal's head speaks of a journal that was lost: then every use that is kept counts.
            horizon = seq if epoch == self.journal.epoch and seq <= self.journal.head else 0
            products = moment.ahead.products(who.credential_id)
            guest = None if products else guest_at(self.where.guest_pass_back_s, who, lists, self.where.stale, at)
            right = entitlement.assess(
                products,
                uses,
                horizon,
                self.where.place,
                at,
                document=who.document,
                assurance=who.assurance,
                guest=guest,
                position=position,
                risk=self.where.risk,
                leaving=self.where.label is Label.EXIT,
                ride=RideHere(edition, self.where.place, at.wall_s, position.stop, position.route),
            )
        shown = None if seen.proof is None else seen.proof.shown
        worth = standing(lists, self.where.stale, at, shown)
        verdict = decision.decide(
            Facts(
                who=who,
                right=right,
                trust=worth.trust,
                deny=worth.deny,
                tickets=worth.tickets,
                least_assurance=self.where.least_assurance,
                value_limit=worth.value_limit,
            )
        )
        taken = verdict.entitlement
        unsynced = [use for use in uses if use.seq > horizon]
        tapping.answer = answers.answer(verdict, unsynced, position.offset_s, self.passengers)
        return Tap(
            at=at,
            place=self.where.place,
            gate=self.where.lane,
            outcome=verdict.outcome,
            reason=verdict.reason,
            graced=verdict.graced,
            versions=lists.versions,
            credential_id=_named(who),
            profile=who.profile,
            assurance=who.assurance if isinstance(who, Identity) else None,
            cached=isinstance(who, Identity) and who.cached,
            product_id=None if taken is None else taken.product_id,
            rides=0 if taken is None else taken.rides,
            amount=0 if taken is None else taken.amount,
            recovers=None if taken is None else taken.recovers,
            edition=0 if edition is None else edition.version,
            stop=position.stop,
            route=position.route,
            riders=1 if taken is None else taken.riders,
            label=self.where.label,
        )

    async def _rest(self) -> None:
        """Housekeeping while no card is there: the journal's log, and garbage that a tap must not stop for."""
        gc.collect()
        try:
            await self.journal.idle()
        except JournalError as error:
            log.warning("journal.housekeeping_failed", why=str(error))


@dataclass(frozen=True, slots=True)
class _Moment:
    """What a tap is judged by: the moment at which its medium was found, and the lists in force then."""

    at: Instant
    lists: InstalledLists
    ahead: TapLookAhead


class _Tapping:
    """One presentation, from before there is a medium.

    Its moment is taken by whoever needs it first: the dialogue, in the reader's thread, or the decision, where the
    medium was never spoken to.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._moment: _Moment | None = None
        self.answer = ""
        self.examiner = Examiner(station.reader, self._ask, self._judge, station.where.tap_limit_s)

    def moment(self) -> _Moment:
        """When, and under which lists."""
        if self._moment is None:
            at, lists = self._station.clock.now(), self._station.lists
            self._moment = _Moment(at, lists, TapLookAhead(lists, at, self._station.look_ahead))
        return self._moment

    def _ask(self, target: Target) -> Profile:
        station, where, moment = self._station, self._station.where, self.moment()
        return choice.authenticate(
            station.families,
            target,
            Attempt(
                region=where.region,
                # A challenge names device, place and lane: what is signed here is worthless at any other gate.
                gate=f"{station.journal.device}/{where.place}/{where.lane}",
                wall_ms=moment.at.wall_ms,
                uid=b"" if target.uid_is_random else target.uid,
                random=secrets.token_bytes,
                known=station.cards.find,
                begin=moment.ahead.begin,
                keys=station.keys,
                contactless=target.technology is not Technology.CONTACT,
            ),
        )

    def _judge(self, proof: CardProof) -> Identity | Refusal:
        return self.moment().ahead.judge(proof)


def _named(who: Identity | Refusal) -> bytes | None:
    """The credential that a tap is recorded under: what only claims one gets nothing recorded against it."""
    if isinstance(who, Identity) and who.assurance < Assurance.CHIP:
        return None
    return who.credential_id


def _signal(tap: Tap) -> Signal:
    if tap.outcome is Outcome.GRANT:
        return Signal.GRANT
    return _AGAIN.get(tap.reason, Signal.DENY)
