"""A chip with nothing to hide: it says back what it heard, or as much as it was asked for."""

from hardware.virtual.air import AirCard
from hardware.virtual.chip import Answer
from hardware.virtual.isodep_target import Reply

OK = b"\x90\x00"


def get_data(size: int) -> bytes:
    """The command that the echo answers with `size` bytes and 9000."""
    return b"\x00\xca" + size.to_bytes(2) + b"\x00"


def pattern(size: int) -> bytes:
    return bytes(index % 251 for index in range(size))


class Echo:
    """Answers GET DATA with as many bytes as P1 P2 say, anything else with itself; both with 9000."""

    def __init__(self, historical: bytes = b"echo", compute_s: float = 0.0) -> None:
        self.historical = historical
        self.compute_s = compute_s
        self.heard: list[bytes] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def process(self, command: bytes) -> Answer:
        self.heard.append(command)
        return Answer(self.answer(command) + OK, self.compute_s)

    @staticmethod
    def answer(command: bytes) -> bytes:
        return pattern(int.from_bytes(command[2:4])) if command[:2] == b"\x00\xca" else command


class WatchedCard(AirCard):
    """A card that writes down every frame that reaches it, and that can leave before the nth."""

    leaves_at: int | None = None

    def placed(self) -> None:
        super().placed()
        self.reached: list[bytes] = []

    def receive(self, frame: bytes) -> Reply | None:
        self.torn = self.torn or len(self.reached) == self.leaves_at
        self.reached.append(frame)
        return super().receive(frame)
