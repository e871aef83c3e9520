"""The completeness of one device's journal, as the ledger has it: what is missing, twice, broken, forged or altered.

A journal is gap-free and hash-chained, so nothing here is guessed: a number below the latest signed one is present or
it is missing, and an entry names its predecessor or it does not. Only what a device announces beyond that is hearsay.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from validator.entry import GENESIS


@dataclass(frozen=True, slots=True)
class Link:
    """One tap as the ledger has it.

    Attributes:
        seq: Its number.
        previous: Digest that it names as its predecessor's.
        digest: Its own.
        signed: Whether its envelope is the device's, for this device and epoch.
        faithful: Whether the ledger's columns say what the signed entry says.
        posted: Whether it has posted exactly what the signed entry takes.
    """

    seq: int
    previous: bytes
    digest: bytes
    signed: bool = True
    faithful: bool = True
    posted: bool = True


@dataclass(slots=True)
class Chain:
    """What was found in one epoch of one device.

    Attributes:
        taps: Distinct sequence numbers present.
        contiguous: Entries 1 to here are present.
        highest: Greatest number present.
        announced: Latest number that the device said it had when it was last heard. Nobody signed that.
        missing: Ranges of numbers, both ends included, that are absent below `highest`.
        duplicated: Numbers present more than once. The tables forbid it; looking costs nothing.
        breaks: Numbers whose predecessor is present and is not the one they name.
        unsigned: Numbers whose envelope is not the device's.
        altered: Numbers whose columns are not what was signed.
        misposted: Numbers whose postings are not what was signed.
    """

    taps: int = 0
    contiguous: int = 0
    highest: int = 0
    announced: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    unsigned: list[int] = field(default_factory=list)
    altered: list[int] = field(default_factory=list)
    misposted: list[int] = field(default_factory=list)

    @property
    def missing_count(self) -> int:
        """How many numbers are missing."""
        return sum(last - first + 1 for first, last in self.missing)

    @property
    def outstanding(self) -> int:
        """How many numbers are announced beyond the highest that is present."""
        return max(0, self.announced - self.highest)


def examine(links: Iterable[Link], announced: int) -> Chain:
    """Examine an epoch.

    Args:
        links: Its taps in the order of their numbers.
        announced: Latest number that the device said it had when it was last heard.
    """
    chain = Chain(announced=announced)
    before: Link | None = None
    for link in links:
        if before is not None and link.seq == before.seq:
            chain.duplicated.append(link.seq)
            continue
        if link.seq > chain.highest + 1:
            chain.missing.append((chain.highest + 1, link.seq - 1))
        if not _follows(before, link):
            chain.breaks.append(link.seq)
        if not link.signed:
            chain.unsigned.append(link.seq)
        if not link.faithful:
            chain.altered.append(link.seq)
        if not link.posted:
            chain.misposted.append(link.seq)
        chain.taps += 1
        chain.highest = link.seq
        if not chain.missing:
            chain.contiguous = link.seq
        before = link
    return chain


def _follows(before: Link | None, link: Link) -> bool:
    if link.seq == 1:
        return link.previous == GENESIS
    if before is None or before.seq != link.seq - 1:
        return True  # the predecessor is missing, and named as that
    return link.previous == before.digest
