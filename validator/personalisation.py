"""Makes the cards of a batch on a reader at a desk, one after another, as a card bureau would.

A serial number becomes one card and never two. What was presented is looked at first: a card that is not as delivered
is named and left as it is. Then the report is told which card the serial number is, and only then is that card written;
torn away, it is the only one that goes on. What counts in the end is what a gate sees: the family's own profile.
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from hardware.medium import Medium, MediumLost, MediumTimeout, Reader, ReaderError, SeveralMedia, Target
from validator import choice, originality
from validator.card_records import CardRecord, PersonalisationError
from validator.dialogue import Traffic, drive
from validator.families import FAMILIES
from validator.operator_keys import OperatorKeys
from validator.originality import ChipProduct
from validator.personalisation_report import FAILED, OK, Report
from validator.personalising import ntag424, ultralight_aes
from validator.personalising.making import Making, NotBlank
from validator.profiles import ntag424 as ntag424_profile
from validator.profiles import ultralight_aes as ultralight_aes_profile
from validator.profiles.attempt import Attempt
from validator.profiles.errors import CardMalformed, ProfileError, WrongFamily
from validator.proof import CardProof, CardToken, Mutual

_T = TypeVar("_T")

UID_BYTES = 7
MAX_REFUSALS = 3
"""So often a card that was begun may refuse before it is reported as failed."""
DIALOGUE_LIMIT_S = 30.0

_LANE = "validator-personalise"


class Layout(Protocol):
    """How cards of one family are made; a module of `validator.personalising`."""

    @property
    def KEY_NAMES(self) -> Sequence[str]:  # noqa: N802 - a module's constant
        """Names of the operator keys that its cards hold."""
        ...

    @property
    def PRODUCT(self) -> ChipProduct:  # noqa: N802 - a module's constant
        """What NXP's signature is verified for."""
        ...

    def signature(self) -> Generator[Any, Any, bytes]:
        """Read NXP's originality signature; empty where the card gives none."""
        ...

    def check(self, making: Making) -> Generator[Any, Any, None]:
        """Make sure that a card is as delivered."""
        ...

    def write(self, making: Making, *, resumed: bool) -> Generator[Any, Any, None]:
        """Write everything."""
        ...


LAYOUTS: MappingProxyType[str, Layout] = MappingProxyType(
    {ntag424_profile.NAME: ntag424, ultralight_aes_profile.NAME: ultralight_aes}
)
"""The families that can be made at a desk."""


@unique
class Event(StrEnum):
    """What a desk tells."""

    WAITING = "waiting"
    TORN = "torn"
    REFUSED = "refused"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Told:
    """What happened, for people and for programs; no token and no key is in it.

    Attributes:
        event: What.
        serial: Serial number that is being made.
        number: Its place among all records, from 1.
        of: How many records there are.
        uid: UID of the card, in hexadecimal; while waiting, of the only card that will do. None for any, or unknown.
        why: Why not, in words; None where nothing went wrong.
        genuine: Of a card that is done, whether NXP signed a chip with its UID: where it comes from, and nothing that a
            copy could not say. None where it was not asked, since the card was begun before.
    """

    event: Event
    serial: int
    number: int
    of: int
    uid: str | None = None
    why: str | None = None
    genuine: bool | None = None


class _Unfit(Exception):  # noqa: N818 - says what the card is
    """A card that is not to be written; it was left as it is."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a desk makes cards with.

    Attributes:
        family: Name of a family in `LAYOUTS`.
        keys: The operator's keys.
        report: Where it says what became of them.
        tell: Told what happens.
        wait_s: Longest time to wait for a card, and for one to be taken away.
        genuine_only: Whether a chip that NXP has not signed is refused.
    """

    family: str
    keys: OperatorKeys
    report: Report
    tell: Callable[[Told], None]
    wait_s: float
    genuine_only: bool = False

    def check_keys(self, records: Iterable[CardRecord]) -> None:
        """Make sure that all keys are here.

        Raises:
            PersonalisationError: The message names those that are not.
        """
        wanted = {(name, one.key_version) for one in records for name in LAYOUTS[self.family].KEY_NAMES}
        absent = sorted(f"{name}.{version}" for name, version in wanted if version not in self.keys.versions(name))
        if absent:
            raise PersonalisationError(
                f"operator keys {', '.join(absent)} are not here: put them into the keys' folder"
            )

    def left(self, records: Sequence[CardRecord]) -> list[tuple[int, CardRecord]]:
        """Return the records that the report has not answered for and their places, the one that was begun first.

        Raises:
            PersonalisationError: A card was begun that is none of these.
        """
        begun = self.report.begun
        left = [(number, one) for number, one in enumerate(records, 1) if one.serial not in self.report.results]
        if begun is not None and all(one.serial != begun.serial for _, one in left):
            what = f"card {begun.uid.hex()} was begun as serial number {begun.serial}, which is not in these records"
            raise PersonalisationError(f"{what}: go on with the records that have it, or give it up")
        return sorted(left, key=lambda each: begun is None or each[1].serial != begun.serial)


async def personalise(reader: Reader, desk: Desk, records: Sequence[CardRecord]) -> None:
    """Make all cards that are not made yet.

    Args:
        reader: Not yet open; closed again here.
        desk: What they are made with.
        records: What they are made from.

    Raises:
        PersonalisationError: A key is missing, or another card was begun.
        ReaderError: The reader failed, or no card came or left in time. Run again, it goes on.
        OSError: The report cannot be written.
    """
    desk.check_keys(records)
    left = desk.left(records)
    if not left:
        return
    await reader.open()
    try:
        medium: Medium | None = None
        for number, record in left:
            if medium is not None:
                await _within(desk, reader, medium.removed(), "the card was not taken away")
            medium = await _Bench(reader, desk, record, number, len(records)).make()
    finally:
        await reader.close()


class _Bench:
    """One record, until there is a card of it or there will be none."""

    def __init__(self, reader: Reader, desk: Desk, record: CardRecord, number: int, of: int) -> None:
        self._reader, self._desk, self._record = reader, desk, record
        self._layout = LAYOUTS[desk.family]
        self._number, self._of = number, of
        self._told: Told | None = None
        self._genuine: bool | None = None

    async def make(self) -> Medium:
        """Wait for cards until one is made or has failed for good; return it."""
        begun, refusals = self._desk.report.begun, 0
        self._tell(Event.WAITING, None if begun is None else begun.uid)
        while True:
            medium = await _within(self._desk, self._reader, self._reader.wait(), "no card")
            uid = medium.target.uid
            try:
                async with asyncio.timeout(DIALOGUE_LIMIT_S):
                    await self._present(medium)
            except (MediumLost, MediumTimeout, TimeoutError):
                self._tell(Event.TORN, uid, "the card was lost")
                continue  # at once: it may be there still
            except SeveralMedia:
                self._tell(Event.TORN, None, "there is more than one card")
            except _Unfit as unfit:
                self._tell(Event.REFUSED, uid, str(unfit))
            except ProfileError as error:
                refusals += self._desk.report.begun is not None
                if refusals == MAX_REFUSALS:
                    self._desk.report.finish(FAILED)
                    self._tell(Event.FAILED, uid, str(error))
                    return medium
                self._tell(Event.REFUSED, uid, str(error))
            else:
                self._desk.report.finish(OK)
                self._tell(Event.DONE, uid)
                return medium
            await _within(self._desk, self._reader, medium.removed(), "the card was not taken away")

    async def _present(self, medium: Medium) -> None:
        """Make this card, or finish it."""
        resumed = self._admit(medium.target)
        making = Making(self._attempt(medium.target.uid), self._record.token, self._record.key_version)
        if not resumed:
            await self._look(medium, making)
            self._desk.report.begin(self._record.serial, medium.target.uid)
        await _run(medium, self._layout.write(making, resumed=resumed))
        await self._settle(medium)
        shown = _token(await _run(medium, self._profile(medium.target, making.attempt)))
        if shown is None or not hmac.compare_digest(shown, making.token):
            raise CardMalformed("what was read back is not what was written")

    def _admit(self, target: Target) -> bool:
        """Whether this card was begun.

        Raises:
            _Unfit: It is not the one that was, or is known already.
        """
        if target.uid_is_random or len(target.uid) != UID_BYTES:
            raise _Unfit(f"a card without a fixed UID of {UID_BYTES} bytes cannot be made here")
        known, begun = self._desk.report.serial_of.get(target.uid), self._desk.report.begun
        if known is not None:
            raise _Unfit(f"this card is serial number {known} already")
        if begun is not None and begun.uid != target.uid:
            what = f"card {begun.uid.hex()} was begun as serial number {begun.serial} and has to be finished first"
            raise _Unfit(f"{what}; if it is lost or broken, run this again with --give-up")
        return begun is not None

    async def _look(self, medium: Medium, making: Making) -> None:
        """Look whether a card is blank.

        Raises:
            _Unfit: It is somebody's.
        """
        found = await _run(medium, _attempted(self._profile(medium.target, making.attempt)))
        if isinstance(found, WrongFamily):
            raise _Unfit(f"this is no {self._desk.family} card, or not on a reader that can speak to one")
        # No gate takes a card that refused; whether it is blank is asked next.
        if isinstance(found, CardProof) and _token(found) is not None:
            raise _Unfit("this card was personalised before")
        signature = await _run(medium, self._layout.signature())
        self._genuine = originality.verify(self._layout.PRODUCT, making.attempt.uid, signature)
        if self._desk.genuine_only and not self._genuine:
            raise _Unfit("NXP signed no chip with this UID: it is a copy, or of another make")
        try:
            await _run(medium, self._layout.check(making))
        except NotBlank as other:
            raise _Unfit(f"this card is not blank: {other}") from None
        await self._settle(medium)

    async def _settle(self, medium: Medium) -> None:
        """Select a tag anew, so that nothing is authenticated and its settings are in force."""
        if not await medium.present():
            raise MediumLost(self._reader.name, "the card has left")

    def _profile(self, target: Target, attempt: Attempt) -> Generator[Any, Any, CardProof]:
        return choice.authenticate((FAMILIES[self._desk.family],), target, attempt)

    def _attempt(self, uid: bytes) -> Attempt:
        return Attempt(
            region=_LANE,
            gate=_LANE,
            wall_ms=0,
            uid=uid,
            random=secrets.token_bytes,
            known=lambda _key: None,
            begin=lambda _shown: None,
            keys=self._desk.keys,
        )

    def _tell(self, event: Event, uid: bytes | None, why: str | None = None) -> None:
        """Tell what is new: a card that lies there badly is lost many times a second."""
        told = Told(event, self._record.serial, self._number, self._of, uid.hex() if uid else None, why)
        if event is Event.DONE:
            told = replace(told, genuine=self._genuine)
        if told != self._told:
            self._told = told
            self._desk.tell(told)


async def _run(medium: Medium, dialogue: Generator[Any, Any, Any]) -> Any:  # noqa: ANN401 - what the dialogue returns
    return await medium.converse(lambda transceive: drive(dialogue, transceive, Traffic()))


def _attempted(profile: Generator[Any, Any, CardProof]) -> Generator[Any, Any, CardProof | ProfileError]:
    """Run a profile that is expected to fail: a dialogue that raises would end the card's activation."""
    try:
        return (yield from profile)
    except ProfileError as error:
        return error


async def _within(desk: Desk, reader: Reader, event: Awaitable[_T], what: str) -> _T:
    try:
        async with asyncio.timeout(desk.wait_s):
            return await event
    except TimeoutError:
        raise ReaderError(reader.name, f"{what} within {desk.wait_s:g} s: run this again to go on") from None


def _token(proof: CardProof) -> bytes | None:
    """The token that a card has proved; None where it did not hold its key."""
    shown, evidence = proof.shown, proof.evidence
    if not isinstance(shown, CardToken) or not isinstance(evidence, Mutual) or not evidence.expected:
        return None
    return shown.octets if hmac.compare_digest(evidence.expected, evidence.received) else None
