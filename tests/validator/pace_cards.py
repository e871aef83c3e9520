"""A card with files behind PACE, for tests of the dialogue: a small application around the virtual card's PACE."""

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hardware import pace as protocol
from hardware.apdu import INS_GET_RESPONSE, CommandApdu, ResponseApdu
from hardware.domain_parameters import STANDARDIZED
from hardware.pace import EF_CARD_ACCESS, Mapping, PaceInfo, PasswordKind
from hardware.virtual.pace_card import PaceCard
from validator.profiles import pace
from validator.profiles.pace import Established

Result = TypeVar("Result")
CAN = b"123456"
MRZ = b"T22000129364081251010318"
SECRET_FILE = bytes.fromhex("0102")
SECRET = bytes(range(256)) * 2
SUITE = PaceInfo.of(Mapping.GM, 16, 12)
CAM_SUITE = PaceInfo.of(Mapping.CAM, 16, 12)
SUITES = [
    PaceInfo.of(mapping, key_bytes, number)
    for mapping in Mapping
    for key_bytes in (16, 24, 32)
    for number in STANDARDIZED
]
CHIP_KEY = 0x1234567890ABCDEF


@dataclass
class FileCard:
    """SELECT of two files, READ BINARY, and an echo (INS 10) of any length; all but EF.CardAccess wants a session."""

    pace: PaceCard
    piece: int = 256
    log: list[bytes] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    _file: bytes = b""
    _rest: bytes = b""

    def process(self, command: bytes) -> bytes:
        self.log.append(command)
        apdu = CommandApdu.from_bytes(command)
        rest, self._rest = self._rest, b""
        response = (
            ResponseApdu(rest, 0x9000) if apdu.ins == INS_GET_RESPONSE else self.pace.process(apdu, self._application)
        )
        self._rest = response.data[self.piece :]
        sw = 0x6100 | min(len(self._rest), 0xFF) if self._rest else response.sw
        self.answers.append(response.data[: self.piece] + sw.to_bytes(2))
        return self.answers[-1]

    def _application(self, command: CommandApdu) -> ResponseApdu:
        if command.ins == 0xA4:
            self._file = {EF_CARD_ACCESS: self.pace.card_access, SECRET_FILE: SECRET}.get(command.data, b"")
            return ResponseApdu(b"", 0x9000 if self._file else 0x6A82)
        if self._file != self.pace.card_access and not self.pace.established:
            return ResponseApdu(b"", 0x6982)
        if command.ins == 0xB0:
            offset = command.p1 << 8 | command.p2
            if offset >= len(self._file):
                return ResponseApdu(b"", 0x6B00)
            return ResponseApdu(self._file[offset : offset + (command.le or 0)], 0x9000)
        if command.ins == 0x10:
            return ResponseApdu(command.data, 0x9000)
        return ResponseApdu(b"", 0x6D00)


def drive(dialogue: Generator[CommandApdu, ResponseApdu, Result], carry: Callable[[bytes], bytes]) -> Result:
    """Lead a dialogue to its end."""
    try:
        command = next(dialogue)
        while True:
            command = dialogue.send(ResponseApdu.from_bytes(carry(bytes(command))))
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        dialogue.close()


def read_secret() -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Select the secret file and read it."""
    selected = yield CommandApdu(0x00, 0xA4, 0x02, 0x0C, SECRET_FILE)
    assert selected == ResponseApdu(b"", 0x9000)
    content = b""
    while True:
        part = yield CommandApdu(0x00, 0xB0, len(content) >> 8, len(content) & 0xFF, le=231)
        if not part.ok:
            assert part == ResponseApdu(b"", 0x6B00)
            return content
        content += part.data


def card(*infos: PaceInfo, **options: Any) -> FileCard:
    options = {"can": CAN, "mrz": MRZ, "chip_key": CHIP_KEY, **options}
    piece: int = options.pop("piece", 256)
    return FileCard(PaceCard(infos or (SUITE,), **options), piece)


def established(
    carry: Callable[[bytes], bytes],
    info: PaceInfo = SUITE,
    kind: PasswordKind = PasswordKind.CAN,
    secret: bytes = CAN,
    *,
    name_parameters: bool = True,
) -> Established:
    return drive(pace.establish(info, kind, secret, os.urandom, name_parameters=name_parameters), carry)


def whole_tap(secret: bytes = CAN) -> Generator[CommandApdu, ResponseApdu, bytes]:
    """Everything a profile does with PACE."""
    infos = yield from pace.read_card_access()
    session = yield from pace.establish(protocol.preferred(infos), PasswordKind.CAN, secret, os.urandom)
    try:
        return (yield from pace.through(session.channel, read_secret()))
    finally:
        session.channel.wipe()


def one(command: CommandApdu) -> Generator[CommandApdu, ResponseApdu, ResponseApdu]:
    return (yield command)


def script(*responses: str) -> Callable[[bytes], bytes]:
    left = list(responses)
    return lambda _command: bytes.fromhex(left.pop(0))


def changed(step: int, change: Callable[[bytes], bytes], held: FileCard) -> Callable[[bytes], bytes]:
    """Change a card's answer to its step-th command, counted from 0."""

    def carry(command: bytes) -> bytes:
        answer = held.process(command)
        return change(answer) if len(held.log) - 1 == step else answer

    return carry
