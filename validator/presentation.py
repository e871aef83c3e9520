"""One presentation of a medium: what it proves, asked in the reader's thread; asked again if a transmission broke."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from hardware.medium import Medium, MediumLost, MediumTimeout, Reader, SeveralMedia, Target, Transceive
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
    """Splits own work by stage: wall time since the medium was found, minus the time that it spent answering.

    Args:
        medium: As it was first activated.
    """

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._before_s = 0.0
        self._mark_s = medium.found_s
        self._card_mark_s = 0.0
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
        """Book what was worked since the last lap on a stage."""
        now_s, card_s = time.perf_counter(), self._card_s()
        own_s = now_s - self._mark_s - (card_s - self._card_mark_s)
        self.stages_ms[stage] = self.stages_ms.get(stage, 0.0) + own_s * 1000
        self._mark_s, self._card_mark_s = now_s, card_s

    def _card_s(self) -> float:
        return self._before_s + self._medium.card_s


@dataclass(frozen=True, slots=True)
class Examiner:
    """Asks media what they prove.

    Attributes:
        reader: Where they are held.
        ask: Makes the dialogue with a medium, with fresh randomness.
        judge: Judges a proof; runs in the reader's thread, since a hostile certificate can take its time.
        limit_s: Longest time from the first frame to the verdict, both tries together.
    """

    reader: Reader
    ask: Callable[[Target], Profile]
    judge: Callable[[CardProof], Identity | Refusal]
    limit_s: float

    async def examine(self, medium: Medium, watch: Stopwatch) -> Presented:
        """Examine a medium; one that breaks off and is still there is tried once more, with a fresh challenge.

        Raises:
            ReaderGone: The reader failed.
        """
        traffic, deadline = Traffic(), asyncio.get_running_loop().time() + self.limit_s
        try:
            who, proof = await self._attempt(medium, traffic, deadline, watch)
        except MediumLost:
            again = await self._activate_again(medium)
            if again is None:
                return Presented(Refusal(Reason.PRESENT_AGAIN), None, medium, traffic)
            medium = again
            watch.follow(medium)
            try:
                who, proof = await self._attempt(medium, traffic, deadline, watch)
            except MediumLost:
                who, proof = Refusal(Reason.PRESENT_AGAIN), None
        return Presented(who, proof, medium, traffic)

    async def _attempt(
        self, medium: Medium, traffic: Traffic, deadline: float, watch: Stopwatch
    ) -> tuple[Identity | Refusal, CardProof | None]:
        profile = self.ask(medium.target)

        def converse(transceive: Transceive) -> tuple[Identity | Refusal, CardProof]:
            proof = drive(profile, transceive, traffic)
            watch.lap("dialogue")
            return self.judge(proof), proof

        try:
            async with asyncio.timeout_at(deadline):
                who, proof = await medium.converse(converse)
        except ProfileError as error:
            watch.lap("dialogue")
            log.info("card.refused", reason=error.reason.name, why=str(error))
            return Refusal(error.reason, error.family), None
        except SeveralMedia:
            watch.lap("dialogue")
            return Refusal(Reason.ONE_CARD_AT_A_TIME), None
        except (MediumTimeout, TimeoutError):
            watch.lap("dialogue")
            return Refusal(Reason.PRESENT_AGAIN), None
        watch.lap("trust")
        return who, proof

    async def _activate_again(self, medium: Medium) -> Medium | None:
        if not await medium.present():
            return None
        try:
            async with asyncio.timeout(AGAIN_S):
                return await self.reader.wait()
        except TimeoutError:
            return None
