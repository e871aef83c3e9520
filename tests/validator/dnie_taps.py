"""DNIe cards held against a reader: a dialogue as a desk has it, what went over, and what became of the proof."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from hardware.cwa14890 import TerminalKeys
from hardware.medium import Target, Technology
from hardware.virtual.chip import Chip
from tests.dnie_cards import CAN, Issuers, fresh
from tests.validator.attempting import attempt
from validator import choice, dnie_component
from validator.choice import Family
from validator.dialogue import Profile, Traffic, drive
from validator.dnie_component import Component
from validator.model import Assurance, Reason
from validator.profiles import dnie
from validator.profiles.attempt import Attempt, Secrets
from validator.proof import CardProof, DnieComponent, Recovered, Shown

ROOTS = (Issuers().root.public_key(),)


def wanting(**changes: Any) -> Attempt:
    """An attempt with randomness of its own, and any number that the holder told."""
    secrets = Secrets(*(changes.pop(name, None) for name in ("can", "mrz", "pin")))
    wanted: dict[str, Any] = {"random": fresh, "secrets": secrets} | changes
    return replace(attempt(), **wanted)


AIR: dict[str, Any] = {"contactless": True, "can": bytearray(CAN)}
SLOT: dict[str, Any] = {"contactless": False}
TARGET = Target(Technology.TYPE_A, b"", b"")


def dialogue(using: Attempt, terminals: Sequence[TerminalKeys] | None = None) -> Profile:
    """The family as a desk chooses it."""
    authenticate = functools.partial(dnie.authenticate, terminals=terminals)
    return choice.authenticate((Family(dnie.NAME, dnie.AID, authenticate),), TARGET, using)


@dataclass
class Tapped:
    """One dialogue, and what went over the air."""

    chip: Chip
    log: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    seen: list[Shown] = field(default_factory=list)

    def tap(self, change: Callable[[bytes, bytes], bytes] | None = None, **wanted: Any) -> CardProof:
        def carry(command: bytes) -> bytes:
            self.log.append(command)
            answer = self.chip.process(command).response
            assert answer is not None
            answer = answer if change is None else change(command, answer)
            self.answers.append(answer)
            return answer

        using = wanting(begin=self.seen.append, **wanted)
        return drive(dialogue(using), carry, self.traffic)


def chip_of(proof: CardProof) -> tuple[DnieComponent, Recovered]:
    assert proof.assurance is Assurance.CHIP
    shown: object = proof.shown
    evidence: object = proof.evidence
    assert isinstance(shown, DnieComponent)
    assert isinstance(evidence, Recovered)
    return shown, evidence


def judged(proof: CardProof, roots: tuple[rsa.RSAPublicKey, ...] = ROOTS) -> Component | Reason:
    """What trust makes of a proof of the chip: the answer first, then who vouches."""
    shown, evidence = chip_of(proof)
    found = dnie_component.judge(shown, roots)
    answered = dnie_component.answered(dnie_component.chip_key(shown.certificate), evidence)
    return found if answered else Reason.WRONG_SIGNATURE
