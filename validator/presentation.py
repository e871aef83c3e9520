"""One presentation of a medium: what it proves, asked in the reader's thread; asked again if a transmission broke."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from hardware.medium import Medium, MediumLost, MediumTimeout, Met, Reader, SeveralMedia, Target, Transceive
from validator.dialogue import Profile, Traffic, drive
from validator.model import Identity, Reason, Refusal
from validator.profiles.errors import ProfileError
from validator.proof import CardProof

log = structlog.get_logger()

AGAIN_S = 0.3
"""How long a card that is still there may take to be activated for a second try."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What came of a presentation.

    Attributes:
        who: The identity, or the one reason why there is none.
        proof: What the card showed, where it got so far.
        medium: The medium as it was last activated.
        traffic: APDUs and octets, of both tries where there were two.
    """

    who: Identity | Refusal
    proof: CardProof | None
    medium: Medium
    traffic: Traffic


class Stopwatch:
    """Splits own work by stage: wall time since the medium was found, minus the time that it spent answering."""

    def __init__(self) -> None:
        self._medium: Medium | None = None
        self._before_s = 0.0
        self._mark_s = 0.0
        self._card_mark_s = 0.0
        self.stages_ms: dict[str, float] = {}

    @property
    def card_ms(self) -> float:
        """Milliseconds spent waiting for the card so far, activations included."""
        return self._card_s() * 1000

    def follow(self, medium: Medium) -> None:
        """Begin with a medium, or go on with the same card, activated anew; repeated it changes nothing."""
        if medium is self._medium:
            return
        if self._medium is None:
            self._mark_s = medium.found_s
        else:
            self._before_s += self._medium.card_s
        self._medium = medium

    def lap(self, stage: str) -> None:
        """Book what was worked since the last lap on a stage."""
        now_s, card_s = time.perf_counter(), self._card_s()
        own_s = now_s - self._mark_s - (card_s - self._card_mark_s)
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + own_s * 1000
        self._mark_s, self._card_mark_s = now_s, card_s

    def _card_s(self) -> float:
        return self._before_s + (0.0 if self._medium is None else self._medium.card_s)


Verdict = tuple[Identity | Refusal, CardProof | None]
"""What is believed of a medium or why nothing is, and what it showed, where it got so far."""


@dataclass(frozen=True, slots=True)
class Examiner:
    """Asks one presentation what it proves.

    Attributes:
        reader: Where it is awaited.
        ask: Makes the dialogue with a medium, with fresh randomness; runs in the reader's thread, as `judge` does.
        judge: Judges a proof; a hostile certificate can take its time.
        limit_s: Longest time from the first frame to the verdict, both tries together.
        watch: Splits the time.
    """

    reader: Reader
    ask: Callable[[Target], Profile]
    judge: Callable[[CardProof], Identity | Refusal]
    limit_s: float
    watch: Stopwatch = field(default_factory=Stopwatch)
    _traffic: Traffic = field(default_factory=Traffic)

    async def meet(self) -> Met[Verdict]:
        """Wait for a medium; its examination has begun when this returns.

        Raises:
            ReaderGone: The reader failed.
        """
        return await self.reader.meet(self._converse)

    async def examine(self, met: Met[Verdict]) -> Presented:
        """Await the verdict; a medium that breaks off and is still there is tried once more, with a fresh challenge.

        Raises:
            ReaderGone: The reader failed.
        """
        medium, deadline = met.medium, asyncio.get_running_loop().time() + self.limit_s
        try:
            who, proof = await self._verdict(medium, met.outcome, deadline)
        except MediumLost:
            again = await self._activate_again(medium)
            if again is None:
                return Presented(Refusal(Reason.PRESENT_AGAIN), None, medium, self._traffic)
            medium = again
            try:
                who, proof = await self._verdict(medium, medium.converse(partial(self._converse, medium)), deadline)
            except MediumLost:
                who, proof = Refusal(Reason.PRESENT_AGAIN), None
        return Presented(who, proof, medium, self._traffic)

    def _converse(self, medium: Medium, transceive: Transceive) -> Verdict:
        self.watch.follow(medium)
        proof = drive(self.ask(medium.target), transceive, self._traffic)
        self.watch.lap("dialogue")
        return self.judge(proof), proof

    async def _verdict(self, medium: Medium, outcome: Awaitable[Verdict], deadline: float) -> Verdict:
        try:
            async with asyncio.timeout_at(deadline):
                verdict = await outcome
        except ProfileError as error:
            self.watch.lap("dialogue")
            log.info("card.refused", reason=error.reason.name, why=str(error))
            return Refusal(error.reason, error.family), None
        except SeveralMedia:
            self.watch.follow(medium)  # a crowd is not spoken to
            self.watch.lap("dialogue")
            return Refusal(Reason.ONE_CARD_AT_A_TIME), None
        except (MediumTimeout, TimeoutError):
            self.watch.lap("dialogue")
            return Refusal(Reason.PRESENT_AGAIN), None
        self.watch.lap("trust")
        return verdict

    async def _activate_again(self, medium: Medium) -> Medium | None:
        if not await medium.present():
            return None
        try:
            async with asyncio.timeout(AGAIN_S):
                return await self.reader.wait()
        except TimeoutError:
            return None
