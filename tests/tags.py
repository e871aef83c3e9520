"""Multi-ride cards of one operator, the keys that open them, and a reader without air that carries frames to a tag."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import ECB

from hardware.type2 import TagAnswer, TagCommand
from hardware.virtual.ultralight_aes import Settings, UltralightAes
from validator.diversification import context_of, diversify
from validator.profiles.attempt import Attempt, CardKeyMissing
from validator.profiles.ultralight_aes import DATA_KEY_NAME, TOKEN_PAGE, UID_KEY_NAME
from validator.proof import LookAhead

T = TypeVar("T")
Carry = Callable[[bytes], bytes]

UID = bytes.fromhex("04A1B2C3D4E5F6")
TOKEN = bytes(range(0xA0, 0xB0))
OPERATOR = bytes(range(16))
SHARED = bytes(range(16, 32))


class OperatorKeys:
    """An operator's keys by name and version; remembers every key that it lent, and what became of its memory."""

    def __init__(self, **keys: Sequence[bytes]) -> None:
        by_name = {DATA_KEY_NAME: keys.get("data", [OPERATOR]), UID_KEY_NAME: keys.get("uid", [SHARED])}
        self._keys = {name: dict(enumerate(versions, 1)) for name, versions in by_name.items()}
        self.lent: list[bytearray] = []
        self.asked: list[tuple[str, int, bytes]] = []

    def versions(self, name: str) -> tuple[int, ...]:
        return tuple(sorted(self._keys[name], reverse=True))

    @contextmanager
    def card_key(self, name: str, version: int, uid: bytes) -> Iterator[bytearray]:
        if version not in self._keys[name]:
            raise CardKeyMissing(f"{name}.{version} is not on this gate")
        self.asked.append((name, version, uid))
        operator = self._keys[name][version]
        key = diversify(_encryption(operator), uid, context_of(name)) if uid else bytearray(operator)
        self.lent.append(key)
        try:
            yield key
        finally:
            key[:] = bytes(len(key))


def _encryption(key: bytes) -> Callable[[bytes], bytes]:
    def encrypt(block: bytes) -> bytes:
        return Cipher(AES128(key), ECB()).encryptor().update(block)

    return encrypt


def data_key(uid: bytes = UID, operator: bytes = OPERATOR) -> bytes:
    return bytes(diversify(_encryption(operator), uid, context_of(DATA_KEY_NAME)))


def issue(**changes: Any) -> UltralightAes:
    """A card with the account token and nothing else, unless told otherwise."""
    wanted: dict[str, Any] = {
        "uid": UID,
        "data_key": data_key(),
        "uid_key": SHARED,
        "pages": {TOKEN_PAGE: TOKEN},
        "settings": Settings(),
    }
    return UltralightAes(**wanted | changes)


def attempt(
    keys: OperatorKeys | None = None,
    *,
    uid: bytes = UID,
    random: Callable[[int], bytes] = lambda count: bytes(range(count)),
    begin: LookAhead = lambda _shown: None,
) -> Attempt:
    return Attempt("tartu", "gate-7", 1_795_420_800_123, uid, random, lambda _key: None, begin, keys or OperatorKeys())


class Torn(Exception):  # noqa: N818 - what a reader says when the card has left
    """The card has left."""


def carrier(tag: UltralightAes) -> Carry:
    """A reader's verb that carries one frame: a silent tag that was just selected is there, a later one has left."""
    fresh = True

    def carry(frame: bytes) -> bytes:
        nonlocal fresh
        answer = tag.process(frame).response
        if answer is None and not fresh:
            raise Torn
        fresh = answer is None or TagAnswer.from_bytes(answer).refused
        return b"" if answer is None else answer

    return carry


def run(dialogue: Generator[TagCommand, TagAnswer, T], carry: Carry) -> T:
    """Run a dialogue to its end."""
    try:
        command = next(dialogue)
        while True:
            command = dialogue.send(TagAnswer.from_bytes(carry(bytes(command))))
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        dialogue.close()
