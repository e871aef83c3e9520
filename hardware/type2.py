"""Commands and answers of a type 2 tag (NFC Forum Type 2 Tag; NXP's NTAG and MIFARE Ultralight): frames, not APDUs.

The reader adds and checks CRC_A. An acknowledgement is four bits; drivers hand it over as one byte below 0x10. A tag
that was just selected may answer a command that it does not know with silence: drivers hand that over as no bytes.
"""

from dataclasses import dataclass

ACK = 0x0A
"""Four bits of an acknowledgement; any other four bits are a refusal (NAK)."""
MAX_ACKNOWLEDGEMENT = 0x0F


@dataclass(frozen=True, slots=True)
class TagCommand:
    """One command frame, without its CRC."""

    frame: bytes

    def __bytes__(self) -> bytes:
        return self.frame


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """One answer frame, without its CRC.

    Attributes:
        data: The bytes of a data frame; empty for an acknowledgement, and for silence.
        acknowledgement: Four bits of ACK or NAK; None for a data frame.
    """

    data: bytes
    acknowledgement: int | None = None

    @classmethod
    def from_bytes(cls, frame: bytes) -> "TagAnswer":
        """Decode what a driver received."""
        if len(frame) == 1 and frame[0] <= MAX_ACKNOWLEDGEMENT:
            return cls(b"", frame[0])
        return cls(bytes(frame))

    @property
    def refused(self) -> bool:
        """Whether the tag said NAK: it is not selected any more."""
        return self.acknowledgement not in (None, ACK)

    @property
    def silent(self) -> bool:
        """Whether the tag is there and said nothing; it is not selected any more."""
        return not self.data and self.acknowledgement is None
