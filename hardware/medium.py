"""The port to a reader and to what is held against it. Drivers implement it; nothing else imports a vendor library."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Generic, Protocol, TypeVar

_T = TypeVar("_T")


@unique
class Technology(StrEnum):
    """How the medium speaks."""

    TYPE_A = "A"
    TYPE_B = "B"
    CONTACT = "contact"


@dataclass(frozen=True, slots=True)
class Target:
    """What anticollision found, before any trust.

    Attributes:
        technology: Type A, type B, or contact (PC/SC cannot always tell; it says contact where it cannot).
        uid: UID (type A), PUPI (type B) or empty. Copyable and sometimes random: never an identity.
        historical: Historical bytes of the ATS or ATR, or the application data of the ATQB. A hint at the profile.
        sak: SAK (type A), or None. A hint at the profile.
        apdus: Whether it speaks APDUs (ISO-DEP, contact); otherwise `Transceive` carries the frames of a type 2 tag.
    """

    technology: Technology
    uid: bytes
    historical: bytes
    sak: int | None = None
    apdus: bool = True

    @property
    def uid_is_random(self) -> bool:
        """Whether it may change with the field, or is none: ISO/IEC 14443-3 §6.5.4 (08h), and every PUPI may."""
        if self.technology is Technology.TYPE_B or not self.uid:
            return True
        return len(self.uid) == RANDOM_UID_BYTES and self.uid[0] == RANDOM_UID_PREFIX


RANDOM_UID_PREFIX, RANDOM_UID_BYTES = 0x08, 4


class ReaderError(Exception):
    """Root of what a driver may raise. Vendor errors never cross the driver."""

    def __init__(self, reader: str, what: str) -> None:
        super().__init__(f"{reader}: {what}")
        self.reader = reader


class MediumLost(ReaderError):  # noqa: N818 - names the event that the station answers with "present again"
    """The medium left the field or garbled a frame beyond repair: present again."""


class MediumTimeout(ReaderError):  # noqa: N818 - another such event
    """The medium is there and did not answer within its waiting time: present again."""


class SeveralMedia(ReaderError):  # noqa: N818 - another such event
    """More than one medium is in the field: one card at a time."""


class ReaderGone(ReaderError):  # noqa: N818 - names the event that the station answers with FAULT
    """The reader itself does not answer: show FAULT, re-open it, call a technician."""


Transceive = Callable[[bytes], bytes]
"""Send one command APDU, return its response APDU (at least two bytes). Blocks; raises what `Medium.converse` names."""


class Medium(Protocol):
    """One activated medium. Its only verb is a dialogue of APDUs."""

    @property
    def target(self) -> Target:
        """What anticollision found."""
        ...

    @property
    def found_s(self) -> float:
        """When the look that found it began: `time.perf_counter()` seconds. Presence begins here."""
        ...

    @property
    def card_s(self) -> float:
        """Seconds spent so far, since `found_s`, waiting for the medium's answers; what is left is our own work."""
        ...

    async def converse(self, dialogue: Callable[[Transceive], _T]) -> _T:
        """Run a whole dialogue in the reader's own thread, and return or raise what it does.

        One hop to the thread and back serves all of its APDUs: a hop costs as much as the rest of our work on one. If
        the caller is cancelled, the next `Transceive` of the dialogue fails.

        Args:
            dialogue: Blocks; is handed the verb that carries one APDU.

        Raises:
            MediumLost: It left the field, or a transmission could not be repaired.
            MediumTimeout: It did not answer in time.
            SeveralMedia: It is not alone.
            ReaderGone: The reader failed.
        """
        ...

    async def present(self) -> bool:
        """Whether the same medium is still there, without changing its state.

        Raises:
            ReaderGone: The reader failed.
        """
        ...

    async def removed(self) -> None:
        """Return when the medium has left, or another has taken its place.

        Raises:
            ReaderGone: The reader failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Met(Generic[_T]):
    """A medium that was just activated, and the dialogue that has begun with it.

    Attributes:
        medium: It may be asked for anything else once `outcome` is done.
        outcome: What the dialogue returns or raises, as `Medium.converse`; where its awaiting is cancelled,
            the next `Transceive` fails.
    """

    medium: Medium
    outcome: Awaitable[_T]


Greeting = Callable[[Medium, Transceive], _T]
"""A dialogue that is ready before the medium is there; runs in the reader's own thread."""


class Reader(Protocol):
    """One reader: opened once, polled for ever, re-opened when it fails."""

    @property
    def name(self) -> str:
        """The reader's name as configured, for example ``nfcpy:usb``."""
        ...

    @property
    def polls(self) -> int:
        """How often the field was looked at, presence checks included: the watchdog's proof of progress."""
        ...

    async def open(self) -> None:
        """Open the device.

        Raises:
            ReaderGone: It is not there, busy, or not permitted; the message says which.
        """
        ...

    async def wait(self) -> Medium:
        """Return the next activated medium. Cancelling leaves the reader usable.

        Raises:
            ReaderGone: The reader failed.
        """
        ...

    async def meet(self, greeting: Greeting[_T]) -> Met[_T]:
        """Return the next activated medium, to which `greeting` is speaking already.

        The dialogue begins in the reader's thread with no hop in between; a passenger waits for each of them.
        Cancelling leaves the reader usable.

        Raises:
            ReaderGone: The reader failed.
        """
        ...

    async def close(self) -> None:
        """Release the device and its thread; harmless when closed already."""
        ...
