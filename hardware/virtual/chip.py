"""The port between a virtual card's brain and the medium that carries it: the air (type A, type B) or vpcd."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chip says, and how long real silicon would have thought about it.

    Attributes:
        response: A response APDU, or None for silence: the card was torn away.
        compute_s: Modelled compute time in seconds; 0 when no timing model is in force.
    """

    response: bytes | None
    compute_s: float = 0.0


class Chip(Protocol):
    """A card application in software. It sees whole APDUs; blocks, chaining of blocks and time belong to the medium."""

    @property
    def historical(self) -> bytes:
        """Historical bytes for the ATS and the ATR, at most 15."""
        ...

    def reset(self) -> None:
        """Power was removed: forget the selected application, chains and everything not stored."""
        ...

    def process(self, command: bytes) -> Answer:
        """Answer one command APDU; any bytes get a status word, nothing raises."""
        ...
