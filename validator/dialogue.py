"""Drives a profile against a medium: the only place where a card's protocol meets I/O.

It runs in the reader's thread (`Medium.converse`), so that a tap crosses threads once and not at each APDU.
"""

from collections.abc import Generator
from dataclasses import dataclass

from hardware.apdu import ApduError, CommandApdu, ResponseApdu
from hardware.medium import Transceive
from hardware.type2 import TagAnswer, TagCommand
from validator.profiles.errors import CardMalformed
from validator.proof import CardProof

MAX_APDUS = 80
MAX_BYTES = 16 * 1024

Profile = Generator[CommandApdu | TagCommand, ResponseApdu | TagAnswer, CardProof]
"""A card family's protocol: each command is answered in its own kind."""


@dataclass(slots=True)
class Traffic:
    """What went over the air, at the level of APDUs (or a tag's frames): counts and octets, status words included."""

    apdus: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


def drive(profile: Profile, transceive: Transceive, traffic: Traffic) -> CardProof:
    """Run a profile to its proof.

    Args:
        profile: A generator that was not started.
        transceive: Carries one command to the medium.
        traffic: Counts, added to as the dialogue goes on, so that a torn one is counted too.

    Returns:
        What the card showed, not yet judged.

    Raises:
        ProfileError: The card's answers are not this profile's, or leave its bounds.
        ReaderError: The medium was lost, fell silent, or the reader failed.
    """
    apdus_before, bytes_before = traffic.apdus, traffic.bytes_in
    try:
        command = next(profile)
        while True:
            sent = bytes(command)
            traffic.apdus += 1
            traffic.bytes_out += len(sent)
            received = transceive(sent)
            traffic.bytes_in += len(received)
            apdus, octets = traffic.apdus - apdus_before, traffic.bytes_in - bytes_before
            if apdus >= MAX_APDUS or octets > MAX_BYTES:
                raise CardMalformed(f"the card talked for {apdus} APDUs and {octets} bytes")
            command = profile.send(_decode(command, received))
    except StopIteration as done:
        proof: CardProof = done.value
        return proof
    finally:
        profile.close()


def _decode(command: CommandApdu | TagCommand, received: bytes) -> ResponseApdu | TagAnswer:
    if isinstance(command, TagCommand):
        return TagAnswer.from_bytes(received)
    try:
        return ResponseApdu.from_bytes(received)
    except ApduError as error:
        raise CardMalformed(str(error)) from None
