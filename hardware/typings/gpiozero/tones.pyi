from typing import Self

class Tone(float):
    @classmethod
    def from_frequency(cls, freq: float) -> Self: ...
    @classmethod
    def from_note(cls, note: str) -> Self: ...
