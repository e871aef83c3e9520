"""Turns the cards of a crowd into chips, and counts what a gate needs of them."""

from backend_sync.demo.population import TORN_AT_THE_END, Card, Visit
from hardware.apdu import SW, ResponseApdu
from hardware.medium import Target, Technology
from hardware.virtual.air import AirCard, AirTiming
from hardware.virtual.chip import Answer, Chip
from hardware.virtual.piv import PivChip
from hardware.virtual.timing import ChipTiming
from validator import choice
from validator.families import FAMILIES
from validator.model import KnownCard
from validator.operator_keys import OperatorKeys
from validator.profiles import piv
from validator.profiles.attempt import Attempt


class StrangerChip:
    """A card that speaks ISO-DEP and holds no application that a gate knows."""

    historical = b""

    def reset(self) -> None:
        """Nothing is kept."""

    def process(self, command: bytes) -> Answer:  # noqa: ARG002 - it says no to everything
        """Refuse every command: there is no such application."""
        return Answer(bytes(ResponseApdu(b"", SW.FILE_NOT_FOUND)))


def chip_of(card: Card, *, timed: bool) -> Chip:
    """Make the chip that a card carries; `timed` models how long real silicon would compute."""
    if card.certificate is None:
        return StrangerChip()
    return PivChip(card.key, card.certificate, timing=ChipTiming.of(card.model) if timed else None)


def air_cards(visit: Visit, *, timed: bool) -> list[AirCard]:
    """Return what is held against the reader at each tap: the same chip, the first time perhaps torn away."""
    chip = chip_of(visit.card, timed=timed)
    tears: list[int | None] = [None] * len(visit.reasons)
    tears[0] = answers_needed(chip) if visit.tear_after == TORN_AT_THE_END else visit.tear_after
    timing = AirTiming() if timed else None
    return [AirCard(chip, visit.card.technology, timing=timing, tear_after=tear) for tear in tears]


def answers_needed(chip: Chip) -> int:
    """Count the APDUs that a gate needs of a PIV card that it has never seen."""
    chip.reset()
    attempt = Attempt(
        region="count",
        gate="count",
        wall_ms=0,
        uid=b"",
        random=bytes,
        known=_nobody,
        begin=lambda _shown: None,
        keys=OperatorKeys({}),
    )
    profile = choice.authenticate((FAMILIES[piv.NAME],), _COUNTING, attempt)
    command, answers = next(profile), 0
    while True:
        response = chip.process(bytes(command)).response
        assert response is not None
        answers += 1
        try:
            command = profile.send(ResponseApdu.from_bytes(response))
        except StopIteration:
            chip.reset()
            return answers


_COUNTING = Target(Technology.TYPE_A, b"", b"")


def _nobody(_cache_key: bytes) -> KnownCard | None:
    return None
