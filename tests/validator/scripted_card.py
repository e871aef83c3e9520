"""A PIV card of forty lines that answers by the book, and a log of what went over the air. It shares no code with the
profile that it tests: templates are built from literal bytes, and RSA is a bare exponentiation, as on a chip."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from hardware.apdu import CommandApdu, ResponseApdu
from hardware.medium import Target, Technology
from tests.validator.attempting import attempt
from tests.validator.authority import CardPrivateKey
from validator import choice
from validator.choice import Family
from validator.model import KnownCards
from validator.profiles import piv
from validator.proof import CardProof, Shown

APT = bytes.fromhex("61114F0BA0000003080000100001007907") + bytes.fromhex("4F05A000000308")
GENERAL_AUTHENTICATE = 0x87
TARGET = Target(Technology.TYPE_A, bytes.fromhex("04112233445566"), b"")
SELECT = bytes.fromhex("00A4040009A0000003080000100000")
GET_CERTIFICATE = bytes.fromhex("00CB3FFF055C035FC10100")
P1 = {"secp256r1": 0x11, "secp384r1": 0x14, 2048: 0x07, 3072: 0x05}


def tlv(tag: str, value: bytes) -> bytes:
    length = len(value)
    head = (
        bytes([length]) if length < 128 else b"\x81" + bytes([length]) if length < 256 else b"\x82" + length.to_bytes(2)
    )
    return bytes.fromhex(tag) + head + value


def container(certificate: bytes, *, compress: bool = False) -> bytes:
    content = gzip.compress(certificate) if compress else certificate
    return tlv("53", tlv("70", content) + tlv("71", b"\x01" if compress else b"\x00") + tlv("FE", b""))


def spoken_for(key: CardPrivateKey) -> int:
    return P1[key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else key.key_size]


@dataclass
class ScriptedCard:
    """Answers SELECT, GET DATA of one object, GENERAL AUTHENTICATE with slot 9E, chains and GET RESPONSE."""

    key: CardPrivateKey
    object: bytes
    block: int = 256
    log: list[bytes] = field(default_factory=list)
    _rest: bytes = b""
    _chain: bytes = b""

    def process(self, command: bytes) -> bytes:
        self.log.append(command)
        if command == SELECT:
            return APT + b"\x90\x00"
        if command == GET_CERTIFICATE:
            return self._send(self.object)
        if command[:4] == bytes.fromhex("00C00000"):
            return self._send(self._rest)
        if command[0] == 0x10:
            self._chain += command[5:]
            return b"\x90\x00"
        if command[1:4] == bytes([0x87, spoken_for(self.key), 0x9E]):
            template, self._chain = self._chain + command[5:-1], b""
            return self._send(tlv("7C", tlv("82", self._sign(template))))
        return b"\x6a\x86"

    def _send(self, data: bytes) -> bytes:
        now, self._rest = data[: self.block], data[self.block :]
        return now + (bytes([0x61, min(len(self._rest), 256) & 0xFF]) if self._rest else b"\x90\x00")

    def _sign(self, template: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            size = self.key.key_size // 8
            numbers = self.key.private_numbers()
            message = int.from_bytes(template[-size:])
            return pow(message, numbers.d, numbers.public_numbers.n).to_bytes(size)
        digest = hashes.SHA256() if self.key.key_size == 256 else hashes.SHA384()
        return self.key.sign(template[-digest.digest_size :], ec.ECDSA(Prehashed(digest)))


def run(process: Callable[[bytes], bytes], known: KnownCards) -> CardProof:
    """Replay a card through the profile's `send`; what it is judged by is announced before it is asked to sign."""
    seen: list[Shown] = []
    family = Family(piv.NAME, piv.AID, piv.authenticate)
    dialogue = choice.authenticate((family,), TARGET, attempt(known, seen.append))
    command = next(dialogue)
    while True:
        assert isinstance(command, CommandApdu)
        asked_to_sign = command.ins == GENERAL_AUTHENTICATE
        assert bool(seen) >= asked_to_sign
        answer = ResponseApdu.from_bytes(process(bytes(command)))
        try:
            command = dialogue.send(answer)
        except StopIteration as done:
            proof: CardProof = done.value
            assert proof.shown == seen[-1]
            return proof
