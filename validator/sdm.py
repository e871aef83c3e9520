"""Links that an NTAG 424 DNA writes into its own text when a phone reads it: SUN, by Secure Dynamic Messaging.

A link carries UID and read counter, encrypted or plain, perhaps some encrypted data, and a MAC (NXP NT4H2421Gx rev. 3.0
§9.3, AN12196 §3). It is for phones, which cannot be given a key. A gate authenticates the card itself.

A link is never worth `Assurance.CHIP`. Its MAC proves that the card made it, at some time: nobody asked for it with a
fresh number. Whoever holds the card for a second takes as many links as they like, shows them later, and shows them
elsewhere. The read counter grows with each read, so that `CounterRule` lets each link in once, and none that is older
than the last that was seen. But only whoever keeps that counter knows: two places that do not share it each accept a
link once.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from hardware import ev2
from hardware.ev2 import Secret, SessionKeys
from validator.model import Assurance

COUNTER_BYTES = 3
PICC_DATA_BYTES = 16

_UID_AND_COUNTER = 0xC7
"""PICCDataTag (§9.3.4, table 21): UID mirrored, counter mirrored, a UID of 7 bytes."""


class LinkError(ValueError):
    """The link cannot be read: a length or a field is wrong, or another key encrypted it."""


class LinkForged(LinkError):  # noqa: N818 - says what the link is
    """The MAC is not this card's, or does not cover what the link says."""


@dataclass(frozen=True, slots=True)
class PiccData:
    """Who a link says was read, and for which time. Believed once `verify` has seen the MAC.

    Raises `LinkError` where no card could say so.

    Attributes:
        uid: 7 bytes; the card's key is derived from it.
        read_counter: SDMReadCtr, 1 to 2**24 - 1.
    """

    uid: bytes
    read_counter: int

    def __post_init__(self) -> None:
        """Refuse what no card says."""
        if len(self.uid) != ev2.UID_BYTES or not 0 <= self.read_counter < 1 << 8 * COUNTER_BYTES:
            raise LinkError(f"a UID of {len(self.uid)} bytes and a counter of {self.read_counter}")

    @classmethod
    def opened(cls, meta_key: Secret, picc_data: bytes) -> "PiccData":
        """Decrypt PICCData (§9.3.4.1).

        Args:
            meta_key: SDMMetaReadKey, which the cards of an operator share: the UID is not known before.
            picc_data: 16 bytes.

        Raises:
            LinkError: It is of another length, or holds no UID and counter.
        """
        if len(picc_data) != PICC_DATA_BYTES:
            raise LinkError(f"PICCData of {len(picc_data)} bytes: it has {PICC_DATA_BYTES}")
        plain = ev2.decrypt(meta_key, picc_data)
        if plain[0] != _UID_AND_COUNTER:
            raise LinkError("no UID and counter in PICCData: another key, or a card that is set up otherwise")
        end = 1 + ev2.UID_BYTES
        return cls(plain[1:end], int.from_bytes(plain[end : end + COUNTER_BYTES], "little"))

    @classmethod
    def mirrored(cls, uid: bytes, read_counter: bytes) -> "PiccData":
        """Read UID and counter that the link shows plainly (§9.3.3).

        Args:
            uid: 7 bytes.
            read_counter: 3 bytes, most significant first, as they stand in the link.

        Raises:
            LinkError: A length is wrong.
        """
        if len(read_counter) != COUNTER_BYTES:
            raise LinkError(f"a counter of {len(read_counter)} bytes: it has {COUNTER_BYTES}")
        return cls(uid, int.from_bytes(read_counter))


@dataclass(frozen=True, slots=True)
class LinkReading:
    """A link that the card made: UID and counter are the card's, the moment is anybody's.

    Attributes:
        uid: 7 bytes.
        read_counter: For which time the card was read.
        file_data: What was encrypted, or None where the link carries nothing.
        assurance: `Assurance.CLAIMED`, always: see the module.
    """

    uid: bytes
    read_counter: int
    file_data: bytes | None = None
    assurance: Assurance = Assurance.CLAIMED


def verify(
    picc: PiccData, file_key: Secret, mac: bytes, *, mac_input: str = "", encrypted: slice | None = None
) -> LinkReading:
    """Verify a link's MAC (§9.3.8.1) and decrypt its data (§9.3.6.1).

    Args:
        picc: What the link says of the card.
        file_key: SDMFileReadKey of that card.
        mac: SDMMAC, 8 bytes.
        mac_input: What the MAC counts besides UID and counter: the link's own text from SDMMACInputOffset up to the
            MAC, as it stands there. Empty where both places are one.
        encrypted: Where SDMENCFileData stands in `mac_input`: whole blocks of 16 bytes, in hexadecimal. What the MAC
            does not count cannot be asked for.

    Raises:
        LinkForged: The MAC is wrong.
        LinkError: The encrypted data are not whole blocks, or the text is not ASCII.
    """
    if not mac_input.isascii():
        raise LinkError("the text that the MAC counts is not ASCII")
    counter = picc.read_counter.to_bytes(COUNTER_BYTES, "little")
    keys = SessionKeys.of_reading(file_key, picc.uid, counter)
    try:
        expected = ev2.truncated(ev2.cmac(keys.mac, mac_input.encode()))
        if not hmac.compare_digest(expected, mac):
            raise LinkForged("the link's MAC is not this card's")
        file_data = None if encrypted is None else _opened(keys, counter, mac_input[encrypted])
    finally:
        keys.wipe()
    return LinkReading(picc.uid, picc.read_counter, file_data)


def _opened(keys: SessionKeys, counter: bytes, encrypted: str) -> bytes:
    iv = ev2.encrypt(keys.encryption, counter.ljust(PICC_DATA_BYTES, b"\0"))
    try:
        return ev2.decrypt(keys.encryption, bytes.fromhex(encrypted), iv)
    except ValueError as error:  # not hexadecimal, not whole blocks
        raise LinkError(str(error)) from None


@dataclass(frozen=True, slots=True)
class CounterRule:
    """Accepts each link once, and none older than the last: the least that a verifier has to do (§9.3).

    It makes a copied link worthless once the card itself, or a later link, was seen here. It does not make it worthless
    before that, nor at a place that does not share `last`: hence `Assurance.CLAIMED`.

    Attributes:
        last: Returns the last counter that was accepted of a UID, or None. Whoever keeps it writes the new one in the
            same transaction that grants something for it.
    """

    last: Callable[[bytes], int | None]

    def accepts(self, reading: LinkReading) -> bool:
        """Whether a link is newer than every one that was accepted of its card."""
        last = self.last(reading.uid)
        return last is None or reading.read_counter > last
